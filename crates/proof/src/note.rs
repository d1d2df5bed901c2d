//! C2SP signed notes (c2sp.org/signed-note v1.0.0): text, an empty line, signature lines.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::encoding::{base64, from_base64, from_hex, hex};
use crate::error::{Error, malformed};
use crate::hash::sha256_parts;

/// A note's size, at most. A checkpoint with 100 ML-DSA cosignatures is a third of it.
pub const NOTE_BYTES_MAX: usize = 1 << 20;
/// Signature lines in a note, at most (Go's `x/mod` draws the same line; the specification asks for 16 at least).
pub const SIGNATURES_MAX: usize = 100;

/// Signature type: Ed25519 over the text.
pub const TYPE_ED25519: u8 = 0x01;
/// Signature type: time-stamped Ed25519 cosignature.
pub const TYPE_COSIGNATURE: u8 = 0x04;

const WHAT: &str = "signed note";
const LINE_START: &str = "\u{2014} ";

/// A public key with its name: `<name>+<8 hex of key id>+<base64(type || key)>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key_id: [u8; 4],
    kind: u8,
    key: VerifyingKey,
}

/// Whether `name` may name a key: not empty, no white space, no `+`.
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

fn key_id(name: &str, kind: u8, public: &[u8]) -> [u8; 4] {
    let digest = sha256_parts(&[name.as_bytes(), b"\n", &[kind], public]);
    [digest.0[0], digest.0[1], digest.0[2], digest.0[3]]
}

impl VerifierKey {
    /// A key of type [`TYPE_ED25519`] or [`TYPE_COSIGNATURE`].
    ///
    /// # Errors
    /// The name is no key name, the type is another, or the 32 bytes are no point of the curve.
    pub fn new(name: &str, kind: u8, public: &[u8; 32]) -> Result<VerifierKey, Error> {
        const WHAT: &str = "verifier key";
        if !is_key_name(name) {
            return malformed(WHAT, "the name is empty or has white space or a plus sign");
        }
        if kind != TYPE_ED25519 && kind != TYPE_COSIGNATURE {
            return malformed(WHAT, "the signature type is not known");
        }
        let Ok(key) = VerifyingKey::from_bytes(public) else {
            return malformed(WHAT, "the bytes are no Ed25519 public key");
        };
        Ok(VerifierKey { name: name.to_owned(), key_id: key_id(name, kind, public), kind, key })
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// Any other spelling, or a key id that does not belong to name and key.
    pub fn parse(text: &str) -> Result<VerifierKey, Error> {
        const WHAT: &str = "verifier key";
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(material)) = (parts.next(), parts.next(), parts.next()) else {
            return malformed(WHAT, "not <name>+<key id>+<base64>");
        };
        let id = from_hex::<4>(id.as_bytes())?;
        let material = from_base64(material)?;
        let Some((kind, public)) = material.split_first() else {
            return malformed(WHAT, "no key material");
        };
        let Ok(public) = <[u8; 32]>::try_from(public) else {
            return malformed(WHAT, "the key is not 32 bytes");
        };
        let key = VerifierKey::new(name, *kind, &public)?;
        if key.key_id != id {
            return malformed(WHAT, "the key id does not belong to this name and key");
        }
        Ok(key)
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The signature type.
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// The key id, a hint of 32 bits.
    pub fn key_id(&self) -> [u8; 4] {
        self.key_id
    }

    /// Checks a raw Ed25519 signature, refusing keys of small order and non-canonical encodings.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut material = vec![self.kind];
        material.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex(&self.key_id), base64(&material))
    }
}

/// A private Ed25519 key with its name. Its `Debug` shows the public half only.
pub struct NoteSigner {
    key: SigningKey,
    verifier: VerifierKey,
}

impl std::fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NoteSigner({})", self.verifier)
    }
}

impl NoteSigner {
    /// A signer from its 32-byte seed.
    ///
    /// # Errors
    /// As [`VerifierKey::new`].
    pub fn new(name: &str, kind: u8, seed: &[u8; 32]) -> Result<NoteSigner, Error> {
        let key = SigningKey::from_bytes(seed);
        let verifier = VerifierKey::new(name, kind, key.verifying_key().as_bytes())?;
        Ok(NoteSigner { key, verifier })
    }

    /// The public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// A raw Ed25519 signature.
    pub fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// The signature line of a note with this text, for a key of type [`TYPE_ED25519`].
    pub fn sign_line(&self, text: &str) -> String {
        signature_line(&self.verifier, &self.sign_bytes(text.as_bytes()))
    }
}

/// A signature line: em dash, name, base64 of key id and signature blob.
pub fn signature_line(key: &VerifierKey, blob: &[u8]) -> String {
    let mut bytes = key.key_id.to_vec();
    bytes.extend_from_slice(blob);
    format!("{LINE_START}{} {}\n", key.name, base64(&bytes))
}

/// One signature line, read but not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine<'a> {
    /// The name of the key.
    pub name: &'a str,
    /// The key id.
    pub key_id: [u8; 4],
    /// What follows the key id.
    pub blob: Vec<u8>,
}

/// A note taken apart, its signatures not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note<'a> {
    /// What is signed, its last newline included.
    pub text: &'a str,
    /// The signature lines in their order.
    pub signatures: Vec<SignatureLine<'a>>,
}

impl<'a> Note<'a> {
    /// Takes a note apart.
    ///
    /// # Errors
    /// It is not UTF-8, has control characters or over-long parts, or any line after the text is no signature line.
    pub fn parse(bytes: &'a [u8]) -> Result<Note<'a>, Error> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(Error::Limit { what: WHAT, got: bytes.len() as u64, limit: NOTE_BYTES_MAX as u64 });
        }
        let Ok(note) = std::str::from_utf8(bytes) else {
            return malformed(WHAT, "not UTF-8");
        };
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return malformed(WHAT, "a control character");
        }
        let Some(end) = note.rfind("\n\n") else {
            return malformed(WHAT, "no empty line before the signatures");
        };
        let (text, lines) = (&note[..end + 1], &note[end + 2..]);
        let Some(lines) = lines.strip_suffix('\n') else {
            return malformed(WHAT, "the last line does not end");
        };
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == SIGNATURES_MAX {
                return Err(Error::Limit {
                    what: "signatures",
                    got: SIGNATURES_MAX as u64 + 1,
                    limit: SIGNATURES_MAX as u64,
                });
            }
            signatures.push(parse_signature_line(line)?);
        }
        Ok(Note { text, signatures })
    }

    /// Checks the note against keys of type [`TYPE_ED25519`]; unknown signatures are passed over.
    ///
    /// # Errors
    /// A known key's signature does not verify, none is known, or two keys share name and key id.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<(), Error> {
        let mut verified = false;
        for line in &self.signatures {
            let mut known = keys.iter().filter(|key| key.name == line.name && key.key_id == line.key_id);
            let Some(key) = known.next() else { continue };
            if known.next().is_some() {
                return Err(Error::AmbiguousKey);
            }
            let good = match (key.kind, <&[u8; 64]>::try_from(line.blob.as_slice())) {
                (TYPE_ED25519, Ok(signature)) => key.verify(self.text.as_bytes(), signature),
                _ => false,
            };
            if !good {
                return Err(Error::Mismatch { what: WHAT, why: "a trusted key's signature does not verify" });
            }
            verified = true;
        }
        if verified { Ok(()) } else { Err(Error::NoTrustedSignature) }
    }
}

fn parse_signature_line(line: &str) -> Result<SignatureLine<'_>, Error> {
    let Some((name, blob)) = line.strip_prefix(LINE_START).and_then(|rest| rest.split_once(' ')) else {
        return malformed(WHAT, "a line after the text is no signature line");
    };
    if !is_key_name(name) {
        return malformed(WHAT, "a signature line without a key name");
    }
    let bytes = from_base64(blob)?;
    let Some((key_id, blob)) = bytes.split_first_chunk::<4>() else {
        return malformed(WHAT, "a signature shorter than its key id");
    };
    if blob.is_empty() {
        return malformed(WHAT, "an empty signature");
    }
    Ok(SignatureLine { name, key_id: *key_id, blob: blob.to_vec() })
}
