//! Time-stamped Ed25519 cosignatures, type 0x04 (c2sp.org/tlog-cosignature v1.0.1).

use crate::error::{Error, mismatch};
use crate::note::{Note, NoteSigner, TYPE_COSIGNATURE, VerifierKey, signature_line};

/// Seconds since 1970, at most (2^63-1).
pub const TIMESTAMP_MAX: u64 = i64::MAX as u64;

fn message(text: &str, timestamp: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {timestamp}\n{text}").into_bytes()
}

/// The signature line of a witness that saw the note with this text at `timestamp` (POSIX seconds).
pub fn cosign(signer: &NoteSigner, text: &str, timestamp: u64) -> String {
    let mut blob = timestamp.to_be_bytes().to_vec();
    blob.extend_from_slice(&signer.sign_bytes(&message(text, timestamp)));
    signature_line(signer.verifier(), &blob)
}

/// Checks every cosignature by a known witness and gives name and time of each; unknown lines are passed over.
///
/// # Errors
/// A known witness's line does not verify, or its time is 0 or over [`TIMESTAMP_MAX`].
pub fn verify(note: &Note<'_>, witnesses: &[VerifierKey]) -> Result<Vec<(String, u64)>, Error> {
    const WHAT: &str = "cosignature";
    let mut seen = Vec::new();
    for line in &note.signatures {
        let known = |key: &&VerifierKey| {
            key.kind() == TYPE_COSIGNATURE && key.name() == line.name && key.key_id() == line.key_id
        };
        let Some(key) = witnesses.iter().find(known) else { continue };
        let Some((time, signature)) = line.blob.split_first_chunk::<8>() else {
            return mismatch(WHAT, "the blob has no time");
        };
        let timestamp = u64::from_be_bytes(*time);
        let Ok(signature) = <&[u8; 64]>::try_from(signature) else {
            return mismatch(WHAT, "the signature is not 64 bytes");
        };
        if timestamp == 0 || timestamp > TIMESTAMP_MAX {
            return mismatch(WHAT, "the time is 0 or over 2^63-1");
        }
        if !key.verify(&message(note.text, timestamp), signature) {
            return mismatch(WHAT, "a known witness's signature does not verify");
        }
        seen.push((key.name().to_owned(), timestamp));
    }
    Ok(seen)
}
