//! Canonical text encodings: one spelling for each value, every other refused.

use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine};

use crate::error::{Error, malformed};
use crate::hash::Hash;

/// RFC 4648 section 4, padded, trailing bits zero.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Whether a text is a token: 1 to 64 of [`is_token_byte`].
pub fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(is_token_byte)
}

/// Whether a byte may stand in a token: a word that names something and says nothing else.
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.:/+-".contains(&byte)
}

/// The unsigned number whose big-endian bytes these are, eight at most.
pub fn big_endian(bytes: &[u8]) -> u64 {
    debug_assert!(bytes.len() <= 8, "a number of at most 64 bits");
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len() * 2);
    push_hex(&mut out, bytes);
    String::from_utf8(out).expect("hexadecimal digits are ASCII")
}

/// Appends lower-case hexadecimal to `out`.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.push(HEX_DIGITS[usize::from(byte >> 4)]);
        out.push(HEX_DIGITS[usize::from(byte & 15)]);
    }
}

/// Reads exactly `2 * N` lower-case hexadecimal digits.
///
/// # Errors
/// Any other length or character, upper case included.
pub fn from_hex<const N: usize>(text: &[u8]) -> Result<[u8; N], Error> {
    if text.len() != 2 * N {
        return malformed("hexadecimal", "wrong length");
    }
    let mut out = [0u8; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Ok(out)
}

fn hex_digit(digit: u8) -> Result<u8, Error> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => malformed("hexadecimal", "not a lower-case digit"),
    }
}

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Reads canonical base64.
///
/// # Errors
/// Unpadded, URL-safe or non-canonical text.
pub fn from_base64(text: &str) -> Result<Vec<u8>, Error> {
    BASE64.decode(text).or_else(|_| malformed("base64", "not canonical RFC 4648 section 4 text"))
}

/// Reads the base64 of one digest.
///
/// # Errors
/// As [`from_base64`], or a length other than 32 bytes.
pub fn hash_from_base64(text: &str) -> Result<Hash, Error> {
    match <[u8; 32]>::try_from(from_base64(text)?) {
        Ok(bytes) => Ok(Hash(bytes)),
        Err(_) => malformed("digest", "not 32 bytes"),
    }
}

/// Reads an ASCII decimal number without sign or leading zeros.
///
/// # Errors
/// Any other spelling, or a value over 2^64-1.
pub fn decimal(text: &str) -> Result<u64, Error> {
    let bytes = text.as_bytes();
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return malformed("number", "not ASCII decimal digits");
    }
    if bytes.len() > 1 && bytes.first() == Some(&b'0') {
        return malformed("number", "leading zero");
    }
    text.parse().or_else(|_| malformed("number", "over 2^64-1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_only() {
        assert_eq!(decimal("0"), Ok(0));
        assert_eq!(decimal("18446744073709551615"), Ok(u64::MAX));
        for bad in ["", "00", "01", "+1", "-1", " 1", "1 ", "18446744073709551616", "١"] {
            assert!(decimal(bad).is_err(), "{bad:?}");
        }
        assert_eq!(from_base64("AA==").expect("padded"), [0]);
        for bad in ["AA", "AA=", "AB==", "A-==", "AA==\n", "AA==AA=="] {
            assert!(from_base64(bad).is_err(), "{bad:?}");
        }
        assert_eq!(from_hex::<2>(b"00ff"), Ok([0, 255]));
        for bad in ["00FF", "0ff", "00fg", "00ff0"] {
            assert!(from_hex::<2>(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
