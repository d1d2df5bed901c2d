//! Quarantine: what was refused is kept for 30 days, sealed, so that it can be taken in once its cause is mended.
//!
//! Kept is what was sent, with secrets cut; input that was refused for holding what may not be kept is not. One line is
//! kept once, and of each source a few in a minute: a client that is broken must not fill the trail.

use proof::hash::sha256;
use reads::guard::OwnRecord;
use record::detect::{Depth, Detector, cut};
use serde_json::{Value, json};

use crate::intake::Refused;

/// Bytes of a line that is kept, at most: with everything escaped it still fits a record.
pub const LINE_BYTES_MAX: usize = 20 << 10;
/// Lines of one source that are kept in a minute.
pub const LINES_A_MINUTE: u32 = 20;
/// Which program read it.
pub const SOFTWARE: &str = concat!("candor/", env!("CARGO_PKG_VERSION"));

/// The record that keeps a refused line; `None` where it is not to be kept.
pub fn record(source: &str, line: &[u8], refused: &Refused, detector: &Detector) -> Option<OwnRecord> {
    let code = refused.refusal.code();
    if code == "forbidden" || line.is_empty() || line.len() > LINE_BYTES_MAX {
        return None;
    }
    let (input, encoding, cuts) = match std::str::from_utf8(line) {
        Ok(text) => {
            let found = detector.scan(text, Depth::Full);
            (cut(text, &found), "text", found.len())
        }
        // Where in it a secret stands can't be told from bytes: nothing of it is kept then.
        Err(_) => {
            if !detector.scan(&String::from_utf8_lossy(line), Depth::Full).is_empty() {
                return None;
            }
            (proof::encoding::base64(line), "base64", 0)
        }
    };
    let digest = sha256(line).hex();
    let mut fields = json!({
        "event_id": id(source, &digest), "from_source": source, "code": code, "software": SOFTWARE, "input": input,
        "encoding": encoding, "input_sha256": digest, "size_bytes": line.len(), "cut": cuts,
    });
    if let Some(kind) = &refused.kind {
        fields["kind_name"] = kind.as_ref().into();
    }
    if let Some(rule) = refused.refusal.rule() {
        fields["rule"] = rule.into();
    }
    Some(OwnRecord { kind: "INPUT_QUARANTINED", fields, subject: None })
}

/// The id under which a line of a source is kept.
fn id(source: &str, digest: &str) -> String {
    format!("quarantine/{}", sha256(format!("{source}\n{digest}").as_bytes()).hex())
}

/// What was sent, as far as it was kept.
pub fn line_of(facts: &Value) -> Option<Vec<u8>> {
    let input = facts["input"].as_str()?;
    match facts["encoding"].as_str()? {
        "base64" => proof::encoding::from_base64(input).ok(),
        _ => Some(input.as_bytes().to_vec()),
    }
}
