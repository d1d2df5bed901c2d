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

    fn add(&mut self, word: &str) {
        let hash = hash(word);
        if word.is_empty() || self.hashes.len() >= WORDS_MAX || self.hashes.contains(&hash) {
            return;
        }
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(word);
        self.hashes.push(hash);
    }

    fn add_text(&mut self, text: &str, scratch: &mut String) {
        each_word(text, scratch, &mut |word| self.add(word));
    }
}

/// FNV-1a, folded to 32 bits. Collisions cost a look at the entry, nothing else.
pub fn hash(word: &str) -> u32 {
    let hash = word
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ hash >> 32) as u32
}

fn each_word(text: &str, scratch: &mut String, each: &mut dyn FnMut(&str)) {
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        scratch.clear();
        if word.is_ascii() {
            scratch.extend(word.bytes().take(WORD_CHARS_MAX).map(|byte| char::from(byte.to_ascii_lowercase())));
        } else {
            scratch.extend(word.chars().flat_map(char::to_lowercase).take(WORD_CHARS_MAX));
        }
        each(scratch);
    }
}

/// The words of a query: what a person typed.
pub fn query(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    each_word(text, &mut String::new(), &mut |word| {
        if !words.iter().any(|held| held == word) {
            words.push(word.to_owned());
        }
    });
    words
}

/// A filter as a word.
pub fn filter(name: &str, value: &str) -> String {
    format!("={name}:{}", value.to_lowercase().replace(' ', "_"))
}

/// Facts that can be filtered by, besides the kind.
const FILTERS: [(&str, &str); 6] = [
    ("/environment", "environment"),
    ("/severity", "severity"),
    ("/source", "source"),
    ("/status", "status"),
    ("/template_id", "template"),
    ("/message_content/template_id", "template"),
];

/// The words of a record's bodies.
pub fn of<'a>(kind: &Kind, facts: impl Iterator<Item = Field<'a>>, personal: impl Iterator<Item = Field<'a>>) -> Words {
    let mut words = Words::default();
    let mut scratch = String::new();
    words.add(&filter("kind", &kind.name));
    for field in facts {
        let Ok(value) = std::str::from_utf8(field.value) else { continue };
        if let Some((_, name)) =
            kind.pointer(field.number).and_then(|pointer| FILTERS.iter().find(|(p, _)| *p == pointer))
        {
            words.add(&filter(name, value.trim_matches('"')));
        }
        let form = kind.form(field.number);
        let skip = field.number < 20 && field.number != number::SITE;
        if !skip && matches!(form, Form::Text | Form::Token | Form::Host) {
            add_json(&mut words, value, &mut scratch);
        }
    }
    for field in personal {
        let Ok(value) = std::str::from_utf8(field.value) else { continue };
        let names_customer = kind
            .subject_fields
            .iter()
            .any(|(n, t)| *n == field.number && *t == record::identifier::IdentifierType::CustomerId);
        if !names_customer && matches!(kind.form(field.number), Form::Text | Form::Contact) {
            add_json(&mut words, value, &mut scratch);
        }
    }
    words
}

/// The words of every string in a canonical JSON text; names of objects are none.
fn add_json(words: &mut Words, json: &str, scratch: &mut String) {
    let bytes = json.as_bytes();
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
            words.add_text(&text, scratch);
        } else {
            words.add_text(raw, scratch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_queries_and_values_meet() {
        let mut words = Words::default();
        add_json(&mut words, r#"[{"name":"Rech\u006eung-Größe.PDF","size":3}]"#, &mut String::new());
        assert_eq!(words.text(), "rechnung größe pdf");
        assert_eq!(query("  Größe  RECHNUNG größe"), ["größe", "rechnung"]);
    }
}
