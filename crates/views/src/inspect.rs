//! Reading a view file whole, for tests that must show what is and is not in it. Nothing else calls this.

use std::path::Path;

use seal::crypto::Key;

use crate::error::{Error, io};
use crate::file::Vault;
use crate::states::States;

/// The clear content of an encrypted view file.
///
/// # Errors
/// It is no view file, or does not open under this view key.
pub fn clear_content(view_key: &Key, path: &Path) -> Result<Vec<u8>, Error> {
    Vault::new(view_key).read(path).map_err(io("read"))
}

/// The clear content of all boxes of the states.
///
/// # Errors
/// It is no file of states, or a box does not open under this view key.
pub fn clear_states(view_key: &Key, path: &Path) -> Result<Vec<u8>, Error> {
    States::open(path, Vault::new(view_key))?.clear()
}
