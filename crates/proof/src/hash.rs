//! SHA-256 and the domain-separated hashes of RFC 6962 and of `docs/formats/`.

use sha2::{Digest, Sha256};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Hash(pub [u8; 32]);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

impl Hash {
    /// Lower-case hexadecimal, 64 characters.
    pub fn hex(&self) -> String {
        crate::encoding::hex(&self.0)
    }
}

/// H(bytes).
pub fn sha256(bytes: &[u8]) -> Hash {
    Hash(Sha256::digest(bytes).into())
}

/// H over the concatenation of the parts.
pub fn sha256_parts(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Hash(hasher.finalize().into())
}

/// RFC 6962 leaf hash: H(0x00 || entry).
pub fn leaf(entry: &[u8]) -> Hash {
    sha256_parts(&[&[0], entry])
}

/// RFC 6962 interior node: H(0x01 || left || right).
pub fn node(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [0u8; 65];
    bytes[0] = 1;
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    sha256(&bytes)
}

/// Root of the empty tree: H("").
pub fn empty_root() -> Hash {
    sha256(b"")
}

/// `prev` of entry 0: H("candor/v1/genesis\n" || origin || "\n" || vkey).
pub fn genesis(origin: &str, vkey: &str) -> Hash {
    sha256_parts(&[b"candor/v1/genesis\n", origin.as_bytes(), b"\n", vkey.as_bytes()])
}
