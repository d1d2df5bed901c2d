//! Entry bundles (c2sp.org/tlog-tiles v0.1.0): u16 length and entry, 1 to 256 times.

use crate::error::{Error, malformed};

/// Bytes in an entry of a bundle, at most.
pub const ENTRY_BYTES_MAX: usize = u16::MAX as usize;
/// Entries in a bundle, at most.
pub const ENTRIES_MAX: usize = 256;

/// Appends one entry to a bundle.
///
/// # Errors
/// The entry is over [`ENTRY_BYTES_MAX`].
pub fn push(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), Error> {
    let Ok(length) = u16::try_from(entry.len()) else {
        return Err(Error::Limit { what: "bundle entry", got: entry.len() as u64, limit: ENTRY_BYTES_MAX as u64 });
    };
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// Takes a bundle apart.
///
/// # Errors
/// It is empty, ends inside an entry, or has more than [`ENTRIES_MAX`].
pub fn parse(mut bytes: &[u8]) -> Result<Vec<&[u8]>, Error> {
    const WHAT: &str = "entry bundle";
    let mut entries = Vec::new();
    if bytes.is_empty() {
        return malformed(WHAT, "no entry");
    }
    while !bytes.is_empty() {
        if entries.len() == ENTRIES_MAX {
            return Err(Error::Limit { what: WHAT, got: 257, limit: ENTRIES_MAX as u64 });
        }
        let Some((length, rest)) = bytes.split_first_chunk::<2>() else {
            return malformed(WHAT, "ends inside a length");
        };
        let Some((entry, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            return malformed(WHAT, "ends inside an entry");
        };
        entries.push(entry);
        bytes = rest;
    }
    Ok(entries)
}
