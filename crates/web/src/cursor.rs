//! Cursors: where the next page begins, opaque, bound to the query and the tree size of the first page.

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proof::hash::sha256_parts;

use crate::app::App;
use crate::problem::Problem;

/// A place in a list of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Entries below this index follow.
    pub(crate) below: u64,
    /// Size of the trail when the first page was made.
    pub(crate) size: u64,
}

fn mac(app: &App, bytes: &[u8], query: &str) -> [u8; 8] {
    // Of this run: a cursor does not outlive the server, and nobody else can make one.
    let mut mac = [0; 8];
    let hash = sha256_parts(&[b"candor/v1/cursor\n", &app.run, bytes, query.as_bytes(), &app.run]);
    mac.copy_from_slice(&hash.0[..8]);
    mac
}

impl Cursor {
    pub(crate) fn write(self, app: &App, query: &str) -> String {
        let mut bytes = [self.below.to_be_bytes(), self.size.to_be_bytes()].concat();
        bytes.extend_from_slice(&mac(app, &bytes, query));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn read(app: &App, text: &str, query: &str) -> Result<Cursor, Problem> {
        let bad = || {
            let detail =
                "there is no such cursor for this query, or the server was started anew: begin again without it";
            Problem::new(StatusCode::NOT_FOUND, "no-such-cursor", detail)
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let (place, given) = bytes.split_at_checked(16).ok_or_else(bad)?;
        if given != mac(app, place, query) {
            return Err(bad());
        }
        Ok(Cursor { below: proof::encoding::big_endian(&place[..8]), size: proof::encoding::big_endian(&place[8..]) })
    }
}
