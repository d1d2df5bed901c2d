//! A list of breached passwords, kept offline: what is in it is not taken as a new password.
//!
//! The file is as Have I Been Pwned gives it, ordered by hash: a line for each password, its SHA-1 in hexadecimal, a colon
//! and a count. It may be larger than memory: a look halves it some forty times and reads a line each time. SHA-1 is what
//! the list is made with; nothing rests on its strength.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Hexadecimal digits of a SHA-1.
const DIGITS: usize = 40;
/// Bytes of a line, at most: digits, a colon, a count, an end.
const LINE_MAX: usize = 80;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It can't be read.
    #[error("read the list of breached passwords: {0}")]
    Io(#[from] std::io::Error),
    /// It is another file.
    #[error(
        "the list of breached passwords must have lines of a SHA-1 in hexadecimal, a colon and a count, ordered by hash: it has not near byte {0}"
    )]
    Format(u64),
}

/// See the module.
#[derive(Debug)]
pub struct List {
    file: File,
    bytes: u64,
}

impl List {
    /// Opens a list, and looks at some of its lines.
    ///
    /// # Errors
    /// It can't be read, or is another file.
    pub fn open(path: &Path) -> Result<List, ListError> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let list = List { file, bytes };
        let mut before = None;
        for part in 0..16 {
            let Some((at, digits)) = list.line_from(bytes / 16 * part)? else { break };
            if before.as_ref().is_some_and(|before| *before > digits) {
                return Err(ListError::Format(at));
            }
            before = Some(digits);
        }
        if before.is_none() { Err(ListError::Format(0)) } else { Ok(list) }
    }

    /// Whether a password is in it.
    ///
    /// # Errors
    /// It can't be read, or is another file.
    pub fn has(&self, password: &str) -> Result<bool, ListError> {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        let wanted = proof::encoding::hex(hash.as_ref()).to_ascii_uppercase().into_bytes();
        // What is wanted begins at or after `low` and before `high`, if it is there.
        let (mut low, mut high) = (0, self.bytes);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.line_from(middle)? {
                Some((_, digits)) if digits == wanted => return Ok(true),
                Some((at, digits)) if digits < wanted && at < high => low = at + DIGITS as u64,
                _ => high = middle,
            }
        }
        Ok(false)
    }

    /// The digits of the first line that begins at or after a place, and where it begins; none behind the last line.
    fn line_from(&self, place: u64) -> Result<Option<(u64, Vec<u8>)>, ListError> {
        let from = place.saturating_sub(1);
        let mut bytes = [0; 2 * LINE_MAX];
        let mut held = 0;
        while held < bytes.len() {
            match self.file.read_at(&mut bytes[held..], from + held as u64)? {
                0 => break,
                more => held += more,
            }
        }
        let bytes = &bytes[..held];
        let skip = match (place, bytes.iter().position(|byte| *byte == b'\n')) {
            (0, _) => 0,
            (_, Some(end)) => end + 1,
            (_, None) => bytes.len(),
        };
        let line = &bytes[skip..];
        if line.is_empty() {
            return Ok(None);
        }
        let at = from + skip as u64;
        let digits = line.get(..DIGITS).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let ends = line.get(DIGITS).is_none_or(|byte| matches!(byte, b':' | b'\r' | b'\n'));
        match digits.filter(|_| ends) {
            Some(digits) => Ok(Some((at, digits.to_ascii_uppercase()))),
            None => Err(ListError::Format(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha1(password: &str) -> String {
        proof::encoding::hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes()).as_ref()).to_ascii_uppercase()
    }

    #[test]
    fn each_password_of_the_list_is_found_and_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("list.txt");
        for (count, end) in [(1, "\n"), (2, "\r\n"), (37, "\r\n"), (1000, "\n")] {
            let mut lines: Vec<String> = (0..count).map(|n| format!("{}:{n}", sha1(&format!("word {n}")))).collect();
            lines.sort();
            std::fs::write(&path, lines.join(end)).expect("written");
            let list = List::open(&path).expect("a list");
            for n in 0..count {
                assert!(list.has(&format!("word {n}")).expect("read"), "{n} of {count}");
                assert!(!list.has(&format!("other {n}")).expect("read"), "{n} of {count}");
            }
        }
    }

    #[test]
    fn another_file_is_no_list() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("list.txt");
        let mut lines: Vec<String> = (0..100).map(|n| sha1(&format!("word {n}"))).collect();
        lines.sort();
        lines.reverse();
        for text in [String::new(), "password\nletmein\n".into(), lines.join("\n"), "0".repeat(500)] {
            std::fs::write(&path, text).expect("written");
            assert!(List::open(&path).is_err());
        }
        assert!(List::open(&folder.path().join("none")).is_err());
    }
}
