//! Rules without a prefix: numbers with a check sum, and tokens that look drawn at random.

use super::Finding;
use super::checks::{card, iban, mix, random, south_african_id};

/// Token characters of which a random secret is made.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-')
}

/// Adds what it finds to `found`.
pub(super) fn scan(text: &[u8], found: &mut Vec<Finding>) {
    let mut at = 0;
    while at < text.len() {
        if text[at].is_ascii_digit() && (at == 0 || !text[at - 1].is_ascii_alphanumeric()) {
            number(text, at, found);
        }
        if is_token(text[at]) {
            let end = at + text[at..].iter().take_while(|byte| is_token(**byte)).count();
            if end - at >= 15 {
                token(text, at, end, found);
            }
            numbers_inside(text, at, end, found);
            at = end;
        } else {
            at += 1;
        }
    }
    spaced_iban(text, found);
}

/// Numbers that begin inside a run of token characters: after `-`, `=` or `/`.
fn numbers_inside(text: &[u8], start: usize, end: usize, found: &mut Vec<Finding>) {
    for at in start + 1..end {
        if text[at].is_ascii_digit() && !text[at - 1].is_ascii_alphanumeric() && !matches!(text[at - 1], b'-' | b'+') {
            number(text, at, found);
        }
    }
}

/// A card or identity number that begins at `at`: digits with single spaces or hyphens between groups.
fn number(text: &[u8], at: usize, found: &mut Vec<Finding>) {
    let mut digits = [0u8; 20];
    let (mut count, mut end, mut groups) = (0, at, 0);
    let mut ends = [0usize; 21];
    while end < text.len() {
        let byte = text[end];
        if byte.is_ascii_digit() {
            if count == 20 {
                return;
            }
            digits[count] = byte;
            count += 1;
            ends[count] = end + 1;
            end += 1;
        } else if matches!(byte, b' ' | b'-') && text.get(end + 1).is_some_and(u8::is_ascii_digit) {
            groups += 1;
            end += 1;
        } else {
            break;
        }
    }
    if text.get(end).is_some_and(u8::is_ascii_alphabetic) || text.get(at.wrapping_sub(1)).is_some_and(|b| *b == b'.') {
        return;
    }
    let value = &digits[..count];
    if south_african_id(value) {
        found.push(Finding { range: at..end, rule: "south-african-id" });
    } else if card(value) && (groups == 0 || grouped(text, at, end)) {
        found.push(Finding { range: at..end, rule: "card-number" });
    } else if groups > 0 && count > 13 {
        // "8001015009087 2026": the number may be followed by another one.
        if south_african_id(&digits[..13]) && text.get(ends[13]) == Some(&b' ') {
            found.push(Finding { range: at..ends[13], rule: "south-african-id" });
        } else if count > 16 && card(&digits[..16]) && text.get(ends[16]) == Some(&b' ') {
            found.push(Finding { range: at..ends[16], rule: "card-number" });
        }
    }
}

/// Card numbers are grouped by four, or 4-6-5 and 4-6-4.
fn grouped(text: &[u8], at: usize, end: usize) -> bool {
    let groups: Vec<usize> = text[at..end].split(|byte| !byte.is_ascii_digit()).map(<[u8]>::len).collect();
    groups.iter().all(|group| *group == 4) || groups == [4, 6, 5] || groups == [4, 6, 4] || groups == [4, 4, 4, 4, 3]
}

fn token(text: &[u8], at: usize, end: usize, found: &mut Vec<Finding>) {
    let value = &text[at..end];
    if iban(value) {
        found.push(Finding { range: at..end, rule: "iban" });
        return;
    }
    // A path, an address's local part or a domain: its parts are looked at, not the whole.
    let neighbour = |at: Option<&u8>| at.is_some_and(|byte| matches!(byte, b'@' | b'.'));
    let in_address = text.get(end) == Some(&b'@') || neighbour(at.checked_sub(1).and_then(|before| text.get(before)));
    let mut start = at;
    for part in value.split(|byte| matches!(byte, b'/' | b'_' | b'-')) {
        let range = start..start + part.len();
        start = range.end + 1;
        if part.len() >= 20 && !in_address && random(part) {
            found.push(Finding { range, rule: "random-token" });
        }
    }
    let m = mix(value);
    let separators = value.iter().filter(|byte| matches!(byte, b'/' | b'_' | b'-')).count();
    if value.len() >= 28 && !in_address && separators * 6 <= value.len() && m.other * 5 <= value.len() && random(value)
    {
        found.push(Finding { range: at..end, rule: "random-token" });
    }
}

/// An IBAN in groups of four.
fn spaced_iban(text: &[u8], found: &mut Vec<Finding>) {
    for at in 0..text.len().saturating_sub(18) {
        let head = &text[at..at + 5];
        let starts = head[0].is_ascii_uppercase()
            && head[1].is_ascii_uppercase()
            && head[2].is_ascii_digit()
            && head[3].is_ascii_digit()
            && head[4] == b' ';
        if !starts || at > 0 && text[at - 1].is_ascii_alphanumeric() {
            continue;
        }
        let mut value = Vec::with_capacity(34);
        let mut end = at;
        while end < text.len() && value.len() <= 34 {
            let group = text[end..].iter().take(5).take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit()).count();
            if group == 0 || group > 4 {
                break;
            }
            value.extend_from_slice(&text[end..end + group]);
            end += group;
            if iban(&value) && value.len() >= 15 {
                found.push(Finding { range: at..end, rule: "iban" });
                break;
            }
            if group < 4 || text.get(end) != Some(&b' ') {
                break;
            }
            end += 1;
        }
    }
}
