//! The detector: finds secrets and identifiers in text, so that they are cut before anything is sealed.
//!
//! A rule is a prefix or keyword (found for all rules in one pass), then a pattern over the bytes that follow, then a check
//! sum or a measure of randomness. Rules without a prefix (card and identity numbers, random tokens) start from
//! runs of digits or of token characters. A finding names its rule and its place, never its value.
//!
//! What it does not find: secrets in words ("my dog's name"), and tokens that look like ordinary ids of the shop.

pub mod checks;
mod context;
mod heads;
mod rules;

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use heads::Heads;
use rules::{PREFIXES, Prefix};

/// Name of the rule set; changed with every change of a rule. Facts carry it in `/detected`.
pub const RULESET: &str = "1";

/// How much of the detector is run over a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Rules with a prefix only: for ids, which look random by nature.
    Prefixes,
    /// Everything: for free text.
    Full,
}

/// One find: where, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Bytes of the text to cut.
    pub range: Range<usize>,
    /// Name of the rule.
    pub rule: &'static str,
}

/// The compiled rule set: heads of tokens, whose case counts, and an automaton for keywords of ordinary language.
#[derive(Debug)]
pub struct Detector {
    tokens: Heads,
    keywords: (AhoCorasick, Vec<&'static Prefix>),
}

impl Default for Detector {
    fn default() -> Self {
        Detector::new()
    }
}

impl Detector {
    /// Compiles the shipped rule set.
    pub fn new() -> Detector {
        let keywords: Vec<&Prefix> = PREFIXES.iter().filter(|prefix| prefix.needs_context).collect();
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::DFA))
            .build(keywords.iter().map(|prefix| prefix.text))
            .expect("the shipped keywords make an automaton");
        let tokens = Heads::new(PREFIXES.iter().filter(|prefix| !prefix.needs_context));
        Detector { tokens, keywords: (automaton, keywords) }
    }

    /// Whether a token with a known prefix stands anywhere in the line: if not, [`Depth::Prefixes`] finds nothing in
    /// any string of it that has no escapes.
    pub fn may_have_prefix(&self, line: &str) -> bool {
        let bytes = line.as_bytes();
        let mut found = false;
        self.tokens.find(bytes, |prefix, at| {
            found = (prefix.check)(bytes, at, at + prefix.text.len()).is_some();
            !found
        });
        found
    }

    /// All findings in `text`, in order, not overlapping.
    pub fn scan(&self, text: &str, depth: Depth) -> Vec<Finding> {
        let bytes = text.as_bytes();
        let mut found = Vec::new();
        let mut check = |prefix: &Prefix, start, end| {
            found.extend((prefix.check)(bytes, start, end).map(|range| Finding { range, rule: prefix.rule }));
        };
        self.tokens.find(bytes, |prefix, at| {
            check(prefix, at, at + prefix.text.len());
            true
        });
        if depth == Depth::Full {
            let (automaton, keywords) = &self.keywords;
            for hit in automaton.find_overlapping_iter(text) {
                if let Some(keyword) = keywords.get(hit.pattern().as_usize()) {
                    check(keyword, hit.start(), hit.end());
                }
            }
        }
        if depth == Depth::Full {
            context::scan(bytes, &mut found);
        }
        if found.len() > 1 {
            merge(&mut found);
        }
        debug_assert!(found.iter().all(|f| text.is_char_boundary(f.range.start) && text.is_char_boundary(f.range.end)));
        found.retain(|f| text.is_char_boundary(f.range.start) && text.is_char_boundary(f.range.end));
        found
    }
}

/// Joins overlapping findings; the longest one's rule is kept.
fn merge(found: &mut Vec<Finding>) {
    found.sort_by_key(|finding| (finding.range.start, std::cmp::Reverse(finding.range.len())));
    let mut kept: Vec<Finding> = Vec::with_capacity(found.len());
    for finding in found.drain(..) {
        match kept.last_mut() {
            Some(last) if finding.range.start < last.range.end => {
                if finding.range.len() > last.range.len() {
                    last.rule = finding.rule;
                }
                last.range.end = last.range.end.max(finding.range.end);
            }
            _ => kept.push(finding),
        }
    }
    *found = kept;
}

/// Replaces every finding by `[cut:<rule>]`.
pub fn cut(text: &str, findings: &[Finding]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for finding in findings {
        out.push_str(&text[at..finding.range.start]);
        out.push_str("[cut:");
        out.push_str(finding.rule);
        out.push(']');
        at = finding.range.end;
    }
    out.push_str(&text[at..]);
    out
}
