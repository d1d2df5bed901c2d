//! The rollback guard: a high-water mark beside the key store (`docs/formats/highwater.md`).

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use proof::encoding::{base64, decimal, from_hex, hash_from_base64};
use proof::hash::Hash;
use seal::crypto::KeyedHash;

use crate::error::{Error, io};

/// First line of the file.
const HEADER: &str = "candor/highwater/v1";

/// The newest state known to be durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HighWater {
    /// Entries.
    pub size: u64,
    /// Root.
    pub root: Hash,
    /// Number of the last frame.
    pub frame: u64,
    /// H of the last frame.
    pub digest: Hash,
    /// Signed checkpoint of that size.
    pub checkpoint: String,
}

impl HighWater {
    fn body(&self) -> String {
        format!(
            "{HEADER}\nsize {}\nroot {}\nframe {}\ndigest {}\n",
            self.size,
            base64(&self.root.0),
            self.frame,
            self.digest.hex()
        )
    }

    /// Replaces the mark: written beside, synced, renamed.
    ///
    /// # Errors
    /// The disk refuses; the old mark stays.
    pub fn write(&self, path: &Path, mac: &KeyedHash) -> Result<(), Error> {
        let body = self.body();
        let text = format!(
            "{body}mac {}\n\n{}",
            proof::encoding::hex(&mac.digest(&[body.as_bytes(), self.checkpoint.as_bytes()])),
            self.checkpoint
        );
        let new = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_data()?;
            std::fs::rename(&new, path)?;
            match path.parent() {
                Some(folder) => std::fs::File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(io("write", "high-water mark"))
    }

    /// Reads the mark; `None` if there is none. Without the key the code is not checked.
    ///
    /// # Errors
    /// It is malformed, or its authentication code does not fit.
    pub fn read(path: &Path, mac: Option<&KeyedHash>) -> Result<Option<HighWater>, Error> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("read", "high-water mark")(error)),
        };
        let bad = |why: &str| Error::Corrupt { what: "high-water mark".into(), why: why.into() };
        let (head, checkpoint) = text.split_once("\n\n").ok_or(bad("no checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(bad("another version"));
        }
        let mut value =
            |name: &str| lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
        let mut need = |name: &'static str| value(name).ok_or(bad("a line is missing"));
        let mark = HighWater {
            size: decimal(&need("size")?)?,
            root: hash_from_base64(&need("root")?)?,
            frame: decimal(&need("frame")?)?,
            digest: Hash(from_hex(need("digest")?.as_bytes())?),
            checkpoint: checkpoint.to_owned(),
        };
        let code: [u8; 32] = from_hex(need("mac")?.as_bytes())?;
        if mac.is_some_and(|mac| mac.digest(&[mark.body().as_bytes(), checkpoint.as_bytes()]) != code) {
            return Err(bad("its authentication code does not fit: it was not written by this trail"));
        }
        Ok(Some(mark))
    }
}
