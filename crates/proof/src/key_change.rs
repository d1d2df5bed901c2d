//! Planned changes of a log's key: the entry that names the new key, in a tree that both keys signed
//! (`docs/formats/key-change.md`).

use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::commitment::Opening;
use crate::entry::Entry;
use crate::error::{Error, malformed, mismatch};
use crate::hash;
use crate::note::{NoteSigner, TYPE_ED25519, VerifierKey};
use crate::tlog_proof::TlogProof;

/// Changes in a trail, at most: each stands in every segment header and receipt from then on.
pub const CHANGES_MAX: usize = 16;
/// Bytes of one change's JSON, at most.
pub const CHANGE_BYTES_MAX: usize = 8 << 10;
/// The kind of the entry.
pub const KIND: &str = "LOG_KEY_CHANGED";

/// Numbers of the fields in every version of the kind.
const NEW: u16 = 20;
const OLD: u16 = 21;
const UNTIL: u16 = 22;
const WHAT: &str = "key change";

/// One change, which anyone can check who trusts the key before it or the one after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// Position of the entry.
    pub index: u64,
    /// The exact entry.
    pub entry: String,
    /// The fields of its facts that say which key follows which.
    pub facts: Opening,
    /// The text of a `tlog-proof` whose checkpoint both keys signed.
    pub proof: String,
}

/// What a change that holds says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The key from then on.
    pub key: VerifierKey,
    /// The tree that both signed.
    pub checkpoint: Checkpoint,
}

impl KeyChange {
    /// Whether a field of the facts is shown in a change.
    pub fn shows(number: u16) -> bool {
        matches!(number, NEW | OLD | UNTIL)
    }

    /// The JSON, on one line.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }

    /// Reads the JSON.
    ///
    /// # Errors
    /// It is too large, or not what [`KeyChange::to_text`] writes.
    pub fn parse(text: &str) -> Result<KeyChange, Error> {
        if text.len() > CHANGE_BYTES_MAX {
            return Err(Error::Limit { what: WHAT, got: text.len() as u64, limit: CHANGE_BYTES_MAX as u64 });
        }
        let change: KeyChange = serde_json::from_str(text).or_else(|_| malformed(WHAT, "not the JSON of one"))?;
        if change.to_text() != text {
            return malformed(WHAT, "it is spelt otherwise than it is written");
        }
        Ok(change)
    }

    /// Checks the change that follows `before`.
    ///
    /// # Errors
    /// A part is malformed, it changes another key, or one of the two did not sign.
    pub fn verify(&self, before: &VerifierKey) -> Result<Changed, Error> {
        let entry = Entry::parse(self.entry.as_bytes())?;
        if entry.kind != KIND {
            return mismatch(WHAT, "its entry is of another kind");
        }
        let shown = self.facts.verify(&entry.facts)?;
        let text = |number: u16| {
            let value = shown.iter().find(|(shown, _)| *shown == number).map(|(_, value)| *value);
            value.and_then(|value| serde_json::from_str::<String>(value).ok())
        };
        if text(OLD).as_deref() != Some(&*before.to_string()) {
            return mismatch(WHAT, "it changes another key than the one before it");
        }
        let Some(new) = text(NEW) else {
            return malformed(WHAT, "it does not show the new key");
        };
        let key = VerifierKey::parse(&new)?;
        if key.name() != before.name() || key.kind() != TYPE_ED25519 || key == *before {
            return mismatch(WHAT, "the new key is not another key of the same trail");
        }
        let proof = TlogProof::parse(self.proof.as_bytes())?;
        if proof.index != self.index {
            return mismatch(WHAT, "the proof is for another index");
        }
        let leaf = hash::leaf(self.entry.as_bytes());
        proof.verify(&leaf, std::slice::from_ref(before))?;
        let checkpoint = proof.verify(&leaf, std::slice::from_ref(&key))?;
        Ok(Changed { key, checkpoint })
    }
}

/// The keys of a trail in their order, the first of which is `vkey`.
///
/// # Errors
/// A key is malformed or not of this trail, a change does not follow the one before, or there are too many.
pub fn keys(origin: &str, vkey: &str, changes: &[KeyChange]) -> Result<Vec<VerifierKey>, Error> {
    let key = VerifierKey::parse(vkey)?;
    if key.name() != origin {
        return mismatch("verifier key", "its name is not the origin");
    }
    if changes.len() > CHANGES_MAX {
        return Err(Error::Limit { what: "key changes", got: changes.len() as u64, limit: CHANGES_MAX as u64 });
    }
    let mut keys = vec![key];
    let mut after = None;
    for change in changes {
        let before = keys.last().expect("the first is there");
        let Changed { key, .. } = change.verify(before)?;
        if keys.contains(&key) || after.is_some_and(|after| change.index <= after) {
            return mismatch(WHAT, "a key comes back, or the changes are not in order");
        }
        after = Some(change.index);
        keys.push(key);
    }
    Ok(keys)
}

/// The keys whose word counts for who trusts `pinned`: it and those after it; all of them where nobody said which.
///
/// # Errors
/// The trail never had that key.
pub fn trusted<'a>(keys: &'a [VerifierKey], pinned: Option<&VerifierKey>) -> Result<&'a [VerifierKey], Error> {
    match pinned {
        None => Ok(keys),
        Some(pinned) => match keys.iter().position(|key| key == pinned) {
            Some(place) => Ok(&keys[place..]),
            None => mismatch(
                "verifier key",
                "the trail has another key, or this is from before it had the key that is trusted",
            ),
        },
    }
}

/// A checkpoint signed by each of these, the oldest first.
pub fn sign(checkpoint: &Checkpoint, signers: &[NoteSigner]) -> String {
    let text = checkpoint.text();
    let lines: String = signers.iter().map(|signer| signer.sign_line(&text)).collect();
    format!("{text}\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commitment::{Field, commit, field_digest};
    use crate::encoding::hex;
    use crate::tree::CompactRange;

    const ORIGIN: &str = "audit.example/trail";

    fn signer(seed: u8) -> NoteSigner {
        NoteSigner::new(ORIGIN, TYPE_ED25519, &[seed; 32]).expect("a signer")
    }

    /// A trail of one entry that changes the key.
    fn change(old: &NoteSigner, new: &NoteSigner, signers: &[NoteSigner], kind: &str) -> KeyChange {
        let values = [format!("\"{}\"", new.verifier()), format!("\"{}\"", old.verifier())];
        let fields = [
            Field { number: 4, value: b"\"candor\"" },
            Field { number: NEW, value: values[0].as_bytes() },
            Field { number: OLD, value: values[1].as_bytes() },
        ];
        let salts = [[7; 16], [8; 16], [9; 16]];
        let digests: Vec<_> = fields.iter().zip(&salts).map(|(field, salt)| field_digest(salt, *field)).collect();
        let entry = format!(
            r#"{{"v":1,"prev":"{}","at":"2026-11-20T08:00:00.000Z","id":"{}","kind":"{kind}","class":"trail","facts":"{}","sealed":"{}"}}"#,
            hash::genesis(ORIGIN, &old.verifier().to_string()).hex(),
            hex(&[1; 16]),
            commit(&digests).hex(),
            hex(&[2; 32])
        );
        let mut range = CompactRange::new();
        range.push(hash::leaf(entry.as_bytes()), |_, _, _| {});
        let checkpoint = sign(&Checkpoint::new(ORIGIN, 1, range.root()), signers);
        let proof = TlogProof { extra: None, index: 0, path: Vec::new(), checkpoint }.to_text();
        KeyChange { index: 0, entry, facts: Opening::new(&fields, &salts, KeyChange::shows), proof }
    }

    #[test]
    fn a_change_needs_both_signatures_and_the_fields_of_its_entry() {
        let first = signer(1).verifier().to_string();
        let good = change(&signer(1), &signer(2), &[signer(1), signer(2)], KIND);
        let found = keys(ORIGIN, &first, std::slice::from_ref(&good)).expect("it holds");
        assert_eq!(found, [signer(1).verifier().clone(), signer(2).verifier().clone()]);
        assert_eq!(KeyChange::parse(&good.to_text()).as_ref(), Ok(&good));
        assert!(KeyChange::parse(&good.to_text().replace("\"index\":0", "\"index\": 0")).is_err());
        assert!(!good.to_text().contains("candor\\\""), "a field that is no part of a change is kept back");

        let bad = [
            ("the old key alone", change(&signer(1), &signer(2), &[signer(1)], KIND)),
            ("the new key alone", change(&signer(1), &signer(2), &[signer(2)], KIND)),
            ("another old key", change(&signer(3), &signer(2), &[signer(1), signer(2)], KIND)),
            ("no other key", change(&signer(1), &signer(1), &[signer(1)], KIND)),
            ("another kind", change(&signer(1), &signer(2), &[signer(1), signer(2)], "TRAIL_OPENED")),
        ];
        for (what, change) in bad {
            assert!(keys(ORIGIN, &first, &[change]).is_err(), "{what}");
        }
        let mut other = good.clone();
        other.facts = change(&signer(1), &signer(3), &[signer(1)], KIND).facts;
        assert!(keys(ORIGIN, &first, &[other]).is_err(), "fields of another entry");
        assert!(keys(ORIGIN, &first, &[good.clone(), good]).is_err(), "twice");
    }

    #[test]
    fn a_key_is_trusted_with_those_after_it_and_none_before() {
        let keys: Vec<VerifierKey> = (1..4).map(|seed| signer(seed).verifier().clone()).collect();
        assert_eq!(trusted(&keys, None).expect("all"), &keys[..]);
        assert_eq!(trusted(&keys, Some(&keys[1])).expect("it is there"), &keys[1..]);
        assert!(trusted(&keys, Some(signer(9).verifier())).is_err());
    }
}
