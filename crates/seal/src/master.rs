//! The master key: 64 hexadecimal digits in a file of mode 0600, or from the environment.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::crypto::Key;
use crate::error::Error;
use crate::random::RandomPool;

/// Wraps every other key.
#[derive(Debug, Clone)]
pub struct MasterKey(pub(crate) Key);

impl MasterKey {
    /// A new random one.
    pub fn generate(random: &mut RandomPool) -> MasterKey {
        MasterKey(Key(random.take()))
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// It is not 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<MasterKey, Error> {
        proof::encoding::from_hex(text.trim_end_matches(['\n', '\r']).as_bytes())
            .map(|bytes| MasterKey(Key(bytes)))
            .map_err(|_| Error::BadMasterKey)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// The file cannot be read or is no key.
    pub fn read(path: &Path) -> Result<MasterKey, Error> {
        let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|source| Error::Io {
            action: "read",
            what: "master key",
            source,
        })?;
        MasterKey::parse(&text)
    }

    /// Writes a new key file with mode 0600; an existing file is never replaced.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::Io { action: "write", what: "master key", source };
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let text = Zeroizing::new(proof::encoding::hex(&self.0.0) + "\n");
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }
}
