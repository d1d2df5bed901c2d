//! A strict JSON reader: one pass over borrowed bytes to a flat tape of tokens, no allocation of its own beyond it.
//!
//! It refuses what RFC 8259 refuses, and besides: nesting over [`DEPTH_MAX`], lone surrogates, NUL in any spelling,
//! and more than [`TOKENS_MAX`] tokens. Duplicate names are left to the walk, which knows the schema.

use crate::error::Refusal;

/// Nesting, at most.
pub const DEPTH_MAX: usize = 16;
/// Tokens in a record, at most.
pub const TOKENS_MAX: usize = 8192;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// `{`; `next` is the token after the closing brace.
    Object,
    /// `[`; `next` is the token after the closing bracket.
    Array,
    /// A name in an object; its value is the next token.
    Key,
    /// A string.
    String,
    /// A number without fraction and exponent.
    Integer,
    /// Any other number.
    Number,
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
    /// A closing brace or bracket.
    End,
}

/// One token: its kind and its bytes in the line, quotes not included.
#[derive(Debug, Clone, Copy)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Whether a string or key has a backslash.
    pub escaped: bool,
    /// First byte.
    pub start: u32,
    /// Byte after the last.
    pub end: u32,
    /// Index of the token after this value.
    pub next: u32,
}

/// The tokens of a line. Reused from line to line.
#[derive(Debug, Default)]
pub struct Tape {
    tokens: Vec<Token>,
}

impl Tape {
    /// The token at `at`; reading past the end gives a closing token.
    pub fn token(&self, at: u32) -> Token {
        let end = Token { kind: TokenKind::End, escaped: false, start: 0, end: 0, next: at + 1 };
        self.tokens.get(at as usize).copied().unwrap_or(end)
    }

    /// Reads a line, which MUST be one JSON value and white space.
    ///
    /// # Errors
    /// The first byte at which it is not.
    pub fn read(&mut self, line: &str) -> Result<(), Refusal> {
        self.tokens.clear();
        let mut reader = Reader { bytes: line.as_bytes(), at: 0, tokens: &mut self.tokens };
        reader.value(0)?;
        reader.space();
        if reader.at != reader.bytes.len() {
            return reader.refuse("something follows the closing brace: one record a line");
        }
        Ok(())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    tokens: &'a mut Vec<Token>,
}

impl Reader<'_> {
    fn refuse<T>(&self, why: &'static str) -> Result<T, Refusal> {
        Err(Refusal::NotJson { at: self.at, why })
    }

    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn push(&mut self, kind: TokenKind, start: usize, end: usize, escaped: bool) -> Result<usize, Refusal> {
        if self.tokens.len() == TOKENS_MAX {
            return self.refuse("more than 8192 values and names");
        }
        let next = self.tokens.len() as u32 + 1;
        self.tokens.push(Token { kind, escaped, start: start as u32, end: end as u32, next });
        Ok(self.tokens.len() - 1)
    }

    fn value(&mut self, depth: usize) -> Result<(), Refusal> {
        self.space();
        let start = self.at;
        match self.peek() {
            b'{' | b'[' if depth == DEPTH_MAX => self.refuse("nested deeper than 16"),
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string(TokenKind::String),
            b't' => self.literal(b"true", TokenKind::True),
            b'f' => self.literal(b"false", TokenKind::False),
            b'n' => self.literal(b"null", TokenKind::Null),
            b'-' | b'0'..=b'9' => {
                let kind = self.number()?;
                self.push(kind, start, self.at, false).map(drop)
            }
            _ => self.refuse("a value should stand here"),
        }
    }

    fn literal(&mut self, text: &'static [u8], kind: TokenKind) -> Result<(), Refusal> {
        if !self.bytes[self.at..].starts_with(text) {
            return self.refuse("a value should stand here");
        }
        let start = self.at;
        self.at += text.len();
        self.push(kind, start, self.at, false).map(drop)
    }

    fn object(&mut self, depth: usize) -> Result<(), Refusal> {
        let opening = self.push(TokenKind::Object, self.at, self.at + 1, false)?;
        self.at += 1;
        self.space();
        if self.peek() != b'}' {
            loop {
                self.space();
                if self.peek() != b'"' {
                    return self.refuse("a name in quotes should stand here");
                }
                self.string(TokenKind::Key)?;
                self.space();
                if self.peek() != b':' {
                    return self.refuse("a colon should stand here");
                }
                self.at += 1;
                self.value(depth + 1)?;
                self.space();
                match self.peek() {
                    b',' => self.at += 1,
                    b'}' => break,
                    _ => return self.refuse("a comma or a closing brace should stand here"),
                }
            }
        }
        self.close(opening)
    }

    fn array(&mut self, depth: usize) -> Result<(), Refusal> {
        let opening = self.push(TokenKind::Array, self.at, self.at + 1, false)?;
        self.at += 1;
        self.space();
        if self.peek() != b']' {
            loop {
                self.value(depth + 1)?;
                self.space();
                match self.peek() {
                    b',' => self.at += 1,
                    b']' => break,
                    _ => return self.refuse("a comma or a closing bracket should stand here"),
                }
            }
        }
        self.close(opening)
    }

    fn close(&mut self, opening: usize) -> Result<(), Refusal> {
        let closing = self.push(TokenKind::End, self.at, self.at + 1, false)?;
        self.at += 1;
        self.tokens[opening].next = closing as u32 + 1;
        Ok(())
    }

    fn string(&mut self, kind: TokenKind) -> Result<(), Refusal> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_bytes(&self.bytes[self.at..]);
            match self.bytes.get(self.at) {
                None => return self.refuse("a string does not end"),
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0..=0x1f) => return self.refuse("a control character in a string: write it as \\u00XX"),
                Some(_) => self.at += 1,
            }
        }
        self.push(kind, start, self.at, escaped)?;
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Refusal> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => match self.code_unit(self.at)? {
                0 => return self.refuse("NUL is not allowed in a string"),
                0xd800..=0xdbff => {
                    let follows = self.bytes.get(self.at + 6..self.at + 8) == Some(b"\\u");
                    if !follows || !(0xdc00..=0xdfff).contains(&self.code_unit(self.at + 6)?) {
                        return self.refuse("half a surrogate pair");
                    }
                    self.at += 12;
                }
                0xdc00..=0xdfff => return self.refuse("half a surrogate pair"),
                _ => self.at += 6,
            },
            _ => return self.refuse("no such escape"),
        }
        Ok(())
    }

    fn code_unit(&self, at: usize) -> Result<u32, Refusal> {
        let digits = self.bytes.get(at + 2..at + 6).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit())) {
            Some(digits) => Ok(u32::from_str_radix(digits, 16).unwrap_or_default()),
            None => self.refuse("\\u needs four hexadecimal digits"),
        }
    }

    fn number(&mut self) -> Result<TokenKind, Refusal> {
        let start = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        match self.peek() {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            _ => return self.refuse("a digit should stand here"),
        }
        let mut kind = TokenKind::Integer;
        if self.peek() == b'.' {
            kind = TokenKind::Number;
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            kind = TokenKind::Number;
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.some_digits()?;
        }
        if self.at - start > 40 {
            return self.refuse("a number of more than 40 characters");
        }
        Ok(kind)
    }

    fn some_digits(&mut self) -> Result<(), Refusal> {
        if !self.peek().is_ascii_digit() {
            return self.refuse("a digit should stand here");
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
    }
}

/// How many bytes at least, in steps of up to eight, are neither a quote, a backslash nor a control character
/// ("Bit Twiddling Hacks", S. E. Anderson: zero byte and byte less than n in a word).
fn plain_bytes(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let mut count = 0;
    while let Some(eight) = bytes[count..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        let zero = |word: u64| word.wrapping_sub(ONES) & !word;
        let special = zero(word ^ (ONES * u64::from(b'"')))
            | zero(word ^ (ONES * u64::from(b'\\')))
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let special = special & HIGH;
        if special != 0 {
            // The lowest mark is exact; a borrow can only make false ones above it.
            return count + (special.trailing_zeros() / 8) as usize;
        }
        count += 8;
    }
    count
}

/// Appends the text of a string token, its escapes resolved.
pub fn unescape(raw: &str, out: &mut String) {
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let bytes = rest.as_bytes();
        let unit = |at: usize| rest.get(at..at + 4).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0xfffd);
        let (c, used) = match bytes.get(at + 1) {
            Some(b'u') => match unit(at + 2) {
                high @ 0xd800..=0xdbff => (0x10000 + ((high - 0xd800) << 10) + unit(at + 8).wrapping_sub(0xdc00), 12),
                unit => (unit, 6),
            },
            Some(b'b') => (8, 2),
            Some(b'f') => (12, 2),
            Some(b'n') => (10, 2),
            Some(b'r') => (13, 2),
            Some(b't') => (9, 2),
            Some(other) => (u32::from(*other), 2),
            None => (0xfffd, 1),
        };
        out.push(char::from_u32(c).unwrap_or('\u{fffd}'));
        rest = rest.get(at + used..).unwrap_or_default();
    }
    out.push_str(rest);
}

/// Appends `text` as a JSON string in its one canonical spelling: `"`, `\` and control characters escaped, all else
/// as it is.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // Without an early end, so that it is done many bytes at a time.
    if !text.bytes().fold(false, |special, b| special | (b < 0x20) | (b == b'"') | (b == b'\\')) {
        out.extend_from_slice(text.as_bytes());
    } else {
        for byte in text.bytes() {
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => out.push(byte),
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_json_is_refused_at_its_byte() {
        let mut tape = Tape::default();
        for (line, at) in [
            ("", 0),
            ("{", 1),
            ("{\"a\":1,}", 7),
            ("{\"a\":01}", 6),
            ("{\"a\" 1}", 5),
            ("[1] x", 4),
            ("\"\\ud800\"", 1),
            ("\"\\udc00\"", 1),
            ("\"\\u0000\"", 1),
            ("\"a\nb\"", 2),
            ("{\"a\":.5}", 5),
            ("tru", 0),
            ("\"", 1),
        ] {
            match tape.read(line) {
                Err(Refusal::NotJson { at: found, .. }) => assert_eq!(found, at, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        assert!(tape.read(&"[".repeat(100_000)).is_err());
        assert!(tape.read(&format!("{}{}", "[".repeat(16), "]".repeat(16))).is_ok());
        assert!(tape.read(&format!("{}{}", "[".repeat(17), "]".repeat(17))).is_err());
        assert!(tape.read(&format!("[{}1]", "1,".repeat(9000))).is_err());
    }

    proptest! {
        #[test]
        fn strings_round_trip(text: String) {
            let mut out = Vec::new();
            push_string(&mut out, &text);
            let canonical = String::from_utf8(out).expect("UTF-8");
            prop_assert_eq!(&serde_json::from_str::<String>(&canonical).expect("JSON"), &text);
            let mut again = String::new();
            unescape(&canonical[1..canonical.len() - 1], &mut again);
            prop_assert_eq!(again, text);
        }

        #[test]
        fn agrees_with_another_reader(line in "[\\[\\]{}:,\" 0-9a-e.+\\-\\\\u]{0,24}") {
            let ours = Tape::default().read(&line).is_ok();
            let theirs = serde_json::from_str::<serde_json::Value>(&line).is_ok();
            // We refuse NUL, and numbers we keep as text may be beyond a float.
            prop_assert!(ours == theirs || line.contains("\\u0000") || line.contains('e'), "{line} {ours} {theirs}");
        }
    }
}
