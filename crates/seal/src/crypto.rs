//! The few constructions everything is made of: HMAC-SHA-256, HKDF (RFC 5869), AES-256-GCM, salts.

use aes::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::Error;

/// Bytes that AES-GCM adds.
pub const TAG_BYTES: usize = 16;

/// A 32-byte key. It is wiped when dropped and shows nothing of itself.
#[derive(Clone, Zeroize, ZeroizeOnDrop, PartialEq, Eq)]
pub struct Key(pub(crate) [u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// A key from bytes that the caller got from a random source or a key derivation.
    pub fn from_bytes(bytes: [u8; 32]) -> Key {
        Key(bytes)
    }

    /// The bytes, for a signer that needs its seed.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// HMAC-SHA-256 with the key's schedule done once.
#[derive(Clone)]
pub struct KeyedHash(Hmac<Sha256>);

impl std::fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedHash(..)")
    }
}

impl KeyedHash {
    /// A keyed hash under `key`.
    pub fn new(key: &[u8]) -> KeyedHash {
        KeyedHash(Hmac::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    /// HMAC over the concatenation of the parts.
    pub fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// The first 16 bytes of the HMAC.
    pub fn short(&self, parts: &[&[u8]]) -> [u8; 16] {
        let digest = self.digest(parts);
        let mut out = [0; 16];
        out.copy_from_slice(&digest[..16]);
        out
    }
}

/// HKDF-Extract with SHA-256, the salt being the key of `salted`.
pub fn extract(salted: &KeyedHash, ikm: &[&[u8]]) -> Key {
    Key(salted.digest(ikm))
}

/// HKDF-Expand with SHA-256, one block of 32 bytes; `info` is the concatenation of the parts (two at most).
pub fn expand(prk: &KeyedHash, info: [&[u8]; 2]) -> Key {
    Key(prk.digest(&[info[0], info[1], &[1]]))
}

/// The subkey of `key` for one purpose.
pub fn subkey(key: &Key, info: &str) -> Key {
    expand(&KeyedHash::new(&key.0), [info.as_bytes(), b""])
}

fn aead(key: &Key) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key.0).expect("AES-256 takes 32 bytes"))
}

/// Encrypts `buffer[from..]` in place and appends the tag. The pair of key and nonce MUST NOT be used again.
pub fn encrypt(key: &Key, nonce: [u8; 12], aad: &[u8], buffer: &mut Vec<u8>, from: usize) {
    let tag = aead(key)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut buffer[from..])
        .expect("a buffer is far below the limit of AES-GCM");
    buffer.extend_from_slice(tag.as_ref());
}

/// Decrypts `buffer` in place and gives the plaintext.
///
/// # Errors
/// The tag does not fit.
pub fn decrypt<'a>(key: &Key, nonce: [u8; 12], aad: &[u8], buffer: &'a mut [u8]) -> Result<&'a mut [u8], Error> {
    aead(key)
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), buffer)
        .map_err(|_| Error::NotAuthentic { why: "the key does not open this ciphertext" })
}

/// The salts of a body: AES-256-CTR keystream from counter 0, 16 bytes a field.
pub fn salts(content: &KeyedHash, count: usize) -> Vec<[u8; 16]> {
    let key = expand(content, [b"candor/v1/salt\n", b""]);
    let mut salts = vec![[0u8; 16]; count];
    let mut cipher = ctr::Ctr128BE::<aes::Aes256>::new((&key.0).into(), (&[0u8; 16]).into());
    cipher.apply_keystream(salts.as_flattened_mut());
    salts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proof::encoding::from_hex;

    #[test]
    fn hkdf_matches_rfc_5869_case_1() {
        let prk =
            extract(&KeyedHash::new(&from_hex::<13>(b"000102030405060708090a0b0c").expect("hex")), &[&[0x0b; 22]]);
        assert_eq!(
            prk.0,
            from_hex::<32>(b"077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5").expect("hex")
        );
        let okm = expand(&KeyedHash::new(&prk.0), [&from_hex::<10>(b"f0f1f2f3f4f5f6f7f8f9").expect("hex"), b""]);
        assert_eq!(
            okm.0,
            from_hex::<32>(b"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf").expect("hex")
        );
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Key([7; 32])), "Key(..)");
    }
}
