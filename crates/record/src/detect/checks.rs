//! Check sums, dates and the measure of randomness.

/// Luhn's check digit, over ASCII digits.
pub fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(digit.wrapping_sub(b'0'));
            if place % 2 == 0 { value } else { value * 2 / 10 + value * 2 % 10 }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// A South African identity number: 13 digits, YYMMDD, four digits, citizenship 0 to 2, one digit, Luhn.
pub fn south_african_id(digits: &[u8]) -> bool {
    if digits.len() != 13 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let two = |at: usize| u32::from(digits[at] - b'0') * 10 + u32::from(digits[at + 1] - b'0');
    let (month, day) = (two(2), two(4));
    let days = match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day) && digits[10] <= b'2' && luhn(digits)
}

/// Whether the digits have the length and prefix of a card scheme and Luhn's check digit.
pub fn card(digits: &[u8]) -> bool {
    let prefix =
        |count: usize| digits.iter().take(count).fold(0u32, |sum, d| sum * 10 + u32::from(d.wrapping_sub(b'0')));
    let scheme = match digits.len() {
        13 | 19 => prefix(1) == 4,
        14 => matches!(prefix(3), 300..=305) || matches!(prefix(2), 36 | 38 | 39),
        15 => matches!(prefix(2), 34 | 37),
        16 => {
            prefix(1) == 4
                || matches!(prefix(2), 51..=55 | 65)
                || matches!(prefix(4), 2221..=2720 | 6011 | 3528..=3589)
                || matches!(prefix(3), 644..=649)
                || matches!(prefix(2), 62)
        }
        _ => false,
    };
    scheme && luhn(digits) && digits.iter().any(|d| Some(d) != digits.first())
}

/// An IBAN without spaces: country, check digits, mod 97 = 1.
pub fn iban(text: &[u8]) -> bool {
    if !(15..=34).contains(&text.len())
        || !text[..2].iter().all(u8::is_ascii_uppercase)
        || !text[2..4].iter().all(u8::is_ascii_digit)
        || !text.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    {
        return false;
    }
    let rearranged = text[4..].iter().chain(&text[..4]);
    let remainder = rearranged.fold(0u32, |sum, byte| match byte {
        b'0'..=b'9' => (sum * 10 + u32::from(byte - b'0')) % 97,
        _ => (sum * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    remainder == 1
}

/// What sorts of characters a token has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mix {
    /// Lower-case letters.
    pub lower: usize,
    /// Upper-case letters.
    pub upper: usize,
    /// Digits.
    pub digits: usize,
    /// Everything else.
    pub other: usize,
    /// Places where the sort changes; words change seldom, random text all the time.
    pub changes: usize,
    /// Different bytes.
    pub distinct: usize,
}

/// Counts the sorts of characters.
pub fn mix(text: &[u8]) -> Mix {
    let mut mix = Mix::default();
    let mut seen = [false; 256];
    let mut before = None;
    for byte in text {
        let sort = match byte {
            b'a'..=b'z' => 0,
            b'A'..=b'Z' => 1,
            b'0'..=b'9' => 2,
            _ => 3,
        };
        match sort {
            0 => mix.lower += 1,
            1 => mix.upper += 1,
            2 => mix.digits += 1,
            _ => mix.other += 1,
        }
        mix.changes += usize::from(before.is_some_and(|before| before != sort));
        before = Some(sort);
        mix.distinct += usize::from(!std::mem::replace(&mut seen[usize::from(*byte)], true));
    }
    mix
}

/// Whether a token of letters and digits looks drawn at random: all three sorts, many changes between them, many
/// different characters. Over random base62 text of 24 characters the sorts change about 15 times; in product
/// names, ids and hyphenated words fewer than a third as often as there are characters.
pub fn random(text: &[u8]) -> bool {
    let mix = mix(text);
    let length = text.len();
    mix.lower > 1
        && mix.upper > 1
        && mix.digits > 0
        && mix.changes * 3 >= length
        && mix.distinct * 5 >= length.min(40) * 2
        && mix.distinct >= 10
}

/// Whether a value after a keyword such as "password:" looks like one: it is no plain word.
pub fn password_like(text: &[u8]) -> bool {
    let mix = mix(text);
    if text.len() < 6 || text.len() > 128 {
        return false;
    }
    let letters = mix.lower + mix.upper;
    let sorts = usize::from(mix.lower > 0)
        + usize::from(mix.upper > 0)
        + usize::from(mix.digits > 0)
        + usize::from(mix.other > 0);
    // "Winter2026!" and "s3cr3t" are, "required", "RESET", "2026-11-22" and "{name}" are not.
    letters > 0
        && sorts >= 2
        && (mix.digits > 0 || mix.other > 0 && mix.upper > 0 && mix.lower > 0 || strong_mark(text))
}

fn strong_mark(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b'!' | b'#' | b'$' | b'%' | b'^' | b'&' | b'*' | b'@' | b'~'))
}
