//! Second factors: codes by time (RFC 6238: SHA-1, six digits, 30 seconds, as every app makes them) and recovery codes.

use proof::hash::sha256;
use totp_rs::{Algorithm, Builder, Secret, Totp};

/// Bytes of a secret: 160 bits, as RFC 4226 recommends.
pub const SECRET_BYTES: usize = 20;
/// Recovery codes that are made at once.
pub const RECOVERY_CODES: usize = 10;
/// Random bytes of a recovery code: 50 of their bits.
pub const RECOVERY_BYTES: usize = 10;
/// Letters and digits that are not mistaken for one another.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

fn totp(secret: &str) -> Option<Totp> {
    let secret = Secret::try_from_base32(secret).ok()?;
    // One step earlier or later is taken: clocks differ.
    let builder = Builder::new().with_algorithm(Algorithm::SHA1).with_digits(6).with_skew(1).with_step_duration(30);
    builder.with_secret(secret).build().ok()
}

/// A secret in base32, as apps take it.
pub fn secret(random: &[u8; SECRET_BYTES]) -> String {
    Secret::from(*random).to_base32()
}

/// What an app is told: type, issuer, name and secret.
pub fn address(secret: &str, issuer: &str, name: &str) -> String {
    let part = |text: &str| -> String {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        text.bytes()
            .map(|byte| if safe(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect()
    };
    let (issuer, name) = (part(issuer), part(name));
    format!("otpauth://totp/{issuer}:{name}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits=6&period=30")
}

/// The code of a time (seconds).
pub fn code(secret: &str, now_s: u64) -> Option<String> {
    Some(totp(secret)?.generate(now_s).to_string())
}

/// The step that a code is of, if it is one of this time.
pub fn step_of(secret: &str, code: &str, now_s: u64) -> Option<u64> {
    let digits: String = code.chars().filter(|letter| !letter.is_whitespace()).collect();
    if digits.len() != 6 {
        return None;
    }
    totp(secret)?.check(&digits, now_s)
}

/// A recovery code from random bytes.
pub fn recovery_code(random: &[u8; RECOVERY_BYTES]) -> String {
    let letters: Vec<char> = random.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect();
    let (first, second) = letters.split_at(RECOVERY_BYTES / 2);
    format!("{}-{}", first.iter().collect::<String>(), second.iter().collect::<String>())
}

/// What is kept of a recovery code. Its 50 random bits are no password: a plain digest is enough, and attempts are counted.
pub fn recovery_digest(code: &str) -> String {
    let plain: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    sha256(format!("candor/v1/recovery\n{}", plain.to_ascii_lowercase()).as_bytes()).hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, SHA-1 (the last six of its eight digits).
    #[test]
    fn codes_are_those_of_the_standard() {
        let secret = secret(b"12345678901234567890");
        for (time, expected) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")]
        {
            assert_eq!(code(&secret, time).as_deref(), Some(expected));
            assert_eq!(step_of(&secret, expected, time), Some(time / 30));
            assert_eq!(step_of(&secret, expected, time + 30), Some(time / 30));
            assert_eq!(step_of(&secret, expected, time + 90), None);
        }
        assert_eq!(step_of(&secret, "28 70 82", 59), Some(1));
        assert_eq!(step_of(&secret, "", 59), None);
    }

    #[test]
    fn an_app_gets_the_address_and_a_code_is_read_with_its_dash_or_without() {
        let text = address("ABC", "Candor shop.example", "a b@shop.example");
        assert!(text.starts_with("otpauth://totp/Candor%20shop.example:a%20b%40shop.example?secret=ABC&"), "{text}");
        let code = recovery_code(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 255]);
        assert_eq!(code, "abcde-fghj9");
        assert_eq!(recovery_digest(&code), recovery_digest(" ABCDE fghj9 "));
    }
}
