//! Which words a record is found by.
//!
//! Words are runs of letters and digits in lower case. Filters are words too, with a mark that no text can have:
//! `=kind:email_sent`. Ids are no words: they are looked up in registers.

use proof::commitment::Field;
use record::minimal::number;
use record::schema::{Form, Kind};

/// Characters of a word, at most; longer ones are cut.
const WORD_CHARS_MAX: usize = 64;
/// Words of a record, at most: 64 KiB of text has fewer different ones in practice.
pub const WORDS_MAX: usize = 2048;

/// The words of one record, each once, separated by spaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    text: String,
    hashes: Vec<u32>,
}

impl Words {
    /// The words as one text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A hash of each word, for the tail.
    pub fn hashes(&self) -> &[u32] {
        &self.hashes
    }

    /// Begins a word; [`Words::end`] ends it.
    fn begin(&mut self) -> usize {
        let start = self.text.len();
        if start > 0 {
            self.text.push(' ');
        }
        start
    }

    /// Ends the word begun at `start`: it stays if it is new.
    fn end(&mut self, start: usize) {
        let word = &self.text[start..];
        let hash = hash(word.strip_prefix(' ').unwrap_or(word));
        if self.hashes.len() >= WORDS_MAX || self.hashes.contains(&hash) {
            self.text.truncate(start);
        } else {
            self.hashes.push(hash);
        }
    }

    fn add_text(&mut self, text: &str) {
        let bytes = text.as_bytes();
        if !text.is_ascii() {
            return self.add_unicode(text);
        }
        let mut at = 0;
        while let Some(skipped) = bytes[at..].iter().position(|byte| LOWER[usize::from(*byte)] != 0) {
            at += skipped;
            let length = bytes[at..].iter().take_while(|byte| LOWER[usize::from(**byte)] != 0).count();
            let start = self.begin();
            let word = &bytes[at..at + length.min(WORD_CHARS_MAX)];
            self.text.extend(word.iter().map(|byte| char::from(LOWER[usize::from(*byte)])));
            self.end(start);
            at += length;
        }
    }

    fn add_unicode(&mut self, text: &str) {
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            let start = self.begin();
            self.text.extend(word.chars().flat_map(char::to_lowercase).take(WORD_CHARS_MAX));
            self.end(start);
        }
    }

    /// A filter: its name, then the value in lower case without spaces.
    fn add_filter(&mut self, name: &str, value: &str) {
        let start = self.begin();
        push_filter(&mut self.text, name, value);
        self.end(start);
    }
}

/// Each ASCII letter and digit in lower case; 0 for what is in no word.
const LOWER: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = (byte as u8).to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// FNV-1a, folded to 32 bits. Collisions cost a look at the entry, nothing else.
pub fn hash(word: &str) -> u32 {
    let hash = word
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ hash >> 32) as u32
}

/// The words of a query: what a person typed.
pub fn query(text: &str) -> Vec<String> {
    let mut words = Words::default();
    words.add_text(text);
    words.text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// A filter as a word.
pub fn filter(name: &str, value: &str) -> String {
    let mut word = String::new();
    push_filter(&mut word, name, value);
    word
}

fn push_filter(out: &mut String, name: &str, value: &str) {
    out.push('=');
    out.push_str(name);
    out.push(':');
    if value.is_ascii() {
        out.extend(value.bytes().map(|b| char::from(if b == b' ' { b'_' } else { b.to_ascii_lowercase() })));
    } else {
        out.extend(value.chars().flat_map(char::to_lowercase).map(|c| if c == ' ' { '_' } else { c }));
    }
}

/// Facts that can be filtered by, besides the kind.
const FILTERS: [(&str, &str); 10] = [
    ("/environment", "environment"),
    ("/severity", "severity"),
    ("/source", "source"),
    ("/status", "status"),
    ("/template_id", "template"),
    ("/template_version", "version"),
    ("/from_source", "from"),
    ("/about_id", "about"),
    ("/opened_by", "by"),
    ("/message_content/template_id", "template"),
];

/// What one field of a kind gives.
#[derive(Debug, Clone, Copy, Default)]
struct FieldWords {
    filter: Option<&'static str>,
    text: bool,
}

/// What the fields of one kind give, by number.
#[derive(Debug)]
pub(crate) struct KindWords {
    kind: String,
    facts: Vec<FieldWords>,
    personal: Vec<FieldWords>,
}

impl KindWords {
    pub(crate) fn new(kind: &Kind) -> KindWords {
        let count = kind.pointers.iter().map(|(number, _)| usize::from(*number) + 1).max().unwrap_or(0);
        let each = |field: &dyn Fn(u16) -> FieldWords| (0..count).map(|number| field(number as u16)).collect();
        let fact = |number: u16| {
            let pointer = kind.pointer(number);
            let filter = pointer.and_then(|pointer| FILTERS.iter().find(|(p, _)| *p == pointer)).map(|(_, name)| *name);
            let common = number < 20 && number != number::SITE;
            FieldWords { filter, text: !common && matches!(kind.form(number), Form::Text | Form::Token | Form::Host) }
        };
        let personal = |number: u16| {
            let customer = (number, record::identifier::IdentifierType::CustomerId);
            let text =
                !kind.subject_fields.contains(&customer) && matches!(kind.form(number), Form::Text | Form::Contact);
            FieldWords { filter: None, text }
        };
        KindWords { kind: kind.name.clone(), facts: each(&fact), personal: each(&personal) }
    }

    /// The words of a record's bodies.
    pub(crate) fn of<'a>(
        &self,
        facts: impl Iterator<Item = Field<'a>>,
        personal: impl Iterator<Item = Field<'a>>,
    ) -> Words {
        let mut words = Words { text: String::with_capacity(512), hashes: Vec::with_capacity(48) };
        words.add_filter("kind", &self.kind);
        let both = facts.map(|field| (field, &self.facts)).chain(personal.map(|field| (field, &self.personal)));
        for (field, plan) in both {
            let plan = plan.get(usize::from(field.number)).copied().unwrap_or_default();
            if plan.filter.is_none() && !plan.text {
                continue;
            }
            let Ok(value) = std::str::from_utf8(field.value) else { continue };
            if let Some(name) = plan.filter {
                words.add_filter(name, value.trim_matches('"'));
            }
            if plan.text {
                add_json(&mut words, value);
            }
        }
        words
    }
}

/// The words of one record. Who makes many documents of a kind keeps its [`KindWords`].
pub fn of<'a>(kind: &Kind, facts: impl Iterator<Item = Field<'a>>, personal: impl Iterator<Item = Field<'a>>) -> Words {
    KindWords::new(kind).of(facts, personal)
}

/// The words of every string in a canonical JSON text; names of objects are none.
fn add_json(words: &mut Words, json: &str) {
    let bytes = json.as_bytes();
    // A plain string, as most values are.
    if let [b'"', inner @ .., b'"'] = bytes
        && !inner.iter().fold(false, |found, byte| found | (*byte == b'"') | (*byte == b'\\'))
    {
        return words.add_text(&json[1..json.len() - 1]);
    }
    let mut at = 0;
    while let Some(open) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'"')) {
        let start = at + open + 1;
        let mut end = start;
        let mut escaped = false;
        while end < bytes.len() && bytes[end] != b'"' {
            escaped |= bytes[end] == b'\\';
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let Some(raw) = json.get(start..end.min(json.len())) else { return };
        at = end + 1;
        if bytes.get(at) == Some(&b':') {
            continue;
        }
        if escaped {
            let mut text = String::new();
            record::json::unescape(raw, &mut text);
            words.add_text(&text);
        } else {
            words.add_text(raw);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_queries_and_values_meet() {
        let mut words = Words::default();
        add_json(&mut words, r#"[{"name":"Rech\u006eung-Größe.PDF","size":3}]"#);
        assert_eq!(words.text(), "rechnung größe pdf");
        assert_eq!(query("  Größe  RECHNUNG größe"), ["größe", "rechnung"]);
    }
}
