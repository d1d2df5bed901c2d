//! A cursor that only goes forward.

/// Bytes still to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scan<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Scan<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Scan<'a> {
        Scan { rest: bytes }
    }

    /// Goes over `literal` if it stands here.
    pub(crate) fn eat(&mut self, literal: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }

    /// What stands before the next `end`; goes over both.
    pub(crate) fn until(&mut self, end: &[u8]) -> Option<&'a [u8]> {
        let at = memchr::memmem::find(self.rest, end)?;
        let found = &self.rest[..at];
        self.rest = &self.rest[at + end.len()..];
        Some(found)
    }

    /// The longest run of bytes that `accept` takes; may be empty.
    pub(crate) fn run(&mut self, accept: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().take_while(|byte| accept(**byte)).count();
        let (found, rest) = self.rest.split_at(length);
        self.rest = rest;
        found
    }

    /// A decimal number that fits.
    pub(crate) fn number(&mut self) -> Option<u64> {
        let digits = self.run(|byte| byte.is_ascii_digit());
        if digits.is_empty() || digits.len() > 18 {
            return None;
        }
        Some(digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
    }

    /// A word of capitals, digits, dots, hyphens and the like, up to a space or other mark.
    pub(crate) fn word(&mut self) -> &'a [u8] {
        self.run(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    }
}
