//! Passwords: argon2id (RFC 9106), with the parameters kept beside each so that they can be raised later.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Characters, at least: length is what helps (NIST SP 800-63B-4 asks for 15 where there is no second factor).
pub const CHARS_MIN: usize = 12;
/// Bytes, at most: what is hashed is bounded.
pub const BYTES_MAX: usize = 256;
/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// KiB, passes and lanes: OWASP's first choice of 2024 (19 MiB, 2, 1), about 20 ms of a core.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);

/// A password as it is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashed {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    hash: String,
}

impl std::fmt::Debug for Hashed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashed(..)")
    }
}

/// Why a password can't be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Too short.
    #[error("a password has at least {CHARS_MIN} characters: several words in a row are easy to keep in mind")]
    Short,
    /// Too long.
    #[error("a password has at most {BYTES_MAX} bytes")]
    Long,
    /// One character again and again, or the address.
    #[error("this password is too easy to guess: take several words in a row")]
    Plain,
}

/// Whether a password may be taken.
///
/// # Errors
/// It is too short, too long, or says what its owner's address says.
pub fn fit(password: &str, address: &str) -> Result<(), Unfit> {
    if password.len() > BYTES_MAX {
        return Err(Unfit::Long);
    }
    if password.chars().count() < CHARS_MIN {
        return Err(Unfit::Short);
    }
    let low = password.to_lowercase();
    let name = address.split('@').next().unwrap_or_default().to_lowercase();
    let different = low.chars().collect::<std::collections::BTreeSet<char>>().len();
    if different < 5
        || low == address.to_lowercase()
        || name.len() > 3 && low.trim_matches(|c: char| !c.is_alphabetic()) == name
    {
        return Err(Unfit::Plain);
    }
    Ok(())
}

fn run(password: &str, salt: &[u8], cost: (u32, u32, u32)) -> Option<Zeroizing<[u8; HASH_BYTES]>> {
    let params = Params::new(cost.0, cost.1, cost.2, Some(HASH_BYTES)).ok()?;
    let mut hash = Zeroizing::new([0; HASH_BYTES]);
    let bytes = &password.as_bytes()[..password.len().min(BYTES_MAX)];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(bytes, salt, &mut *hash).ok()?;
    Some(hash)
}

/// Hashes a password; takes some 20 ms of a core and 19 MiB.
pub fn hash(password: &str, salt: &[u8; SALT_BYTES]) -> Option<Hashed> {
    let hash = run(password, salt, COST)?;
    let (memory_kib, passes, lanes) = COST;
    Some(Hashed { memory_kib, passes, lanes, salt: STANDARD_NO_PAD.encode(salt), hash: STANDARD_NO_PAD.encode(*hash) })
}

/// Whether this is the password. Where there is none to compare with, the same work is done, so that nobody learns from
/// the time whether an account is there.
pub fn check(password: &str, held: Option<&Hashed>) -> bool {
    let none = Hashed { memory_kib: COST.0, passes: COST.1, lanes: COST.2, salt: String::new(), hash: String::new() };
    let against = held.unwrap_or(&none);
    let mut salt = STANDARD_NO_PAD.decode(&against.salt).unwrap_or_default();
    salt.resize(SALT_BYTES, 0);
    let cost = (against.memory_kib, against.passes, against.lanes);
    let given = run(password, &salt, cost).map(|hash| hash.to_vec()).unwrap_or_default();
    let kept = STANDARD_NO_PAD.decode(&against.hash).unwrap_or_default();
    held.is_some() && given.len() == HASH_BYTES && crate::same(&given, &kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_opens_and_nothing_near_it() {
        let held = hash("four words in a row", &[7; SALT_BYTES]).expect("hashed");
        assert!(check("four words in a row", Some(&held)));
        for wrong in ["four words in a roW", "four words in a row ", "", "four words in a ro"] {
            assert!(!check(wrong, Some(&held)), "{wrong}");
        }
        assert!(!check("four words in a row", None));
        assert_eq!(format!("{held:?}"), "Hashed(..)");
        assert_ne!(hash("four words in a row", &[8; SALT_BYTES]), Some(held));
    }

    #[test]
    fn what_is_easy_to_guess_is_not_taken() {
        let fit = |password: &str| fit(password, "josephine.reader@mail.example");
        assert_eq!(fit("elevenchars"), Err(Unfit::Short));
        assert_eq!(fit("twelve chars"), Ok(()));
        assert_eq!(fit(&"ab".repeat(20)), Err(Unfit::Plain));
        assert_eq!(fit("josephine.reader@mail.example"), Err(Unfit::Plain));
        assert_eq!(fit("Josephine.Reader1!"), Err(Unfit::Plain));
        assert_eq!(fit(&"word ".repeat(52)), Err(Unfit::Long));
    }
}
