//! Instants as milliseconds since 1970-01-01T00:00:00Z and their one RFC 3339 spelling.
//!
//! The calendar is the proleptic Gregorian one without leap seconds (RFC 3339 section 5.7 allows `:60`, which is
//! read as the last millisecond of that minute's `:59`). Days are counted by the usual era arithmetic: an era is
//! 400 years = 146,097 days, a year begins in March.

use crate::error::{Error, malformed};

/// Milliseconds since 1970-01-01T00:00:00Z, at most the end of the year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub u64);

/// 9999-12-31T23:59:59.999Z.
pub const UNIX_MILLIS_MAX: u64 = 253_402_300_799_999;

const DAY_MS: u64 = 86_400_000;

impl UnixMillis {
    /// Days since 1970-01-01.
    pub fn day(self) -> u32 {
        (self.0 / DAY_MS) as u32
    }

    /// The instant as `YYYY-MM-DDThh:mm:ss.sssZ`.
    pub fn rfc3339(self) -> String {
        String::from_utf8(self.rfc3339_bytes().to_vec()).expect("digits are ASCII")
    }

    /// The 24 bytes of [`UnixMillis::rfc3339`].
    pub fn rfc3339_bytes(self) -> [u8; 24] {
        let ms = self.0.min(UNIX_MILLIS_MAX);
        let (year, month, day) = civil_from_days((ms / DAY_MS) as i64);
        let in_day = ms % DAY_MS;
        let mut out = *b"0000-00-00T00:00:00.000Z";
        digits(&mut out[0..4], year as u64);
        digits(&mut out[5..7], month);
        digits(&mut out[8..10], day);
        digits(&mut out[11..13], in_day / 3_600_000);
        digits(&mut out[14..16], in_day / 60_000 % 60);
        digits(&mut out[17..19], in_day / 1000 % 60);
        digits(&mut out[20..23], in_day % 1000);
        out
    }

    /// Reads the canonical spelling only: milliseconds and `Z`.
    ///
    /// # Errors
    /// Any other spelling, or an instant before 1970.
    pub fn parse_canonical(text: &[u8]) -> Result<UnixMillis, Error> {
        let instant = UnixMillis::parse(text)?;
        if text != instant.rfc3339_bytes() {
            return malformed("time", "not the canonical spelling with milliseconds and Z");
        }
        Ok(instant)
    }

    /// Reads any RFC 3339 time with an offset; the fraction is cut to milliseconds.
    ///
    /// # Errors
    /// Anything else, a time without an offset, or an instant before 1970 or after 9999.
    pub fn parse(text: &[u8]) -> Result<UnixMillis, Error> {
        const WHAT: &str = "time";
        let bad =
            || Error::Malformed { what: WHAT, why: "not RFC 3339 with an offset (2026-02-10T09:00:00.000+02:00)" };
        if text.len() < 20 || text.len() > 40 {
            return Err(bad());
        }
        let number = |range: std::ops::Range<usize>| -> Result<i64, Error> {
            let digits = text.get(range).ok_or_else(bad)?;
            if !digits.iter().all(u8::is_ascii_digit) {
                return Err(bad());
            }
            Ok(digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
        };
        let mark = |at: usize, allowed: &[u8]| text.get(at).is_some_and(|byte| allowed.contains(byte));
        if !(mark(4, b"-") && mark(7, b"-") && mark(10, b"Tt ") && mark(13, b":") && mark(16, b":")) {
            return Err(bad());
        }
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return malformed(WHAT, "no such day in the calendar");
        }
        if hour > 23 || minute > 59 || second > 60 {
            return malformed(WHAT, "no such time of day");
        }
        let (mut at, mut ms) = (19, 0i64);
        if mark(19, b".") {
            let fraction = text[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if fraction == 0 {
                return Err(bad());
            }
            for place in 0..3 {
                ms = ms * 10 + if place < fraction { i64::from(text[20 + place] - b'0') } else { 0 };
            }
            at = 20 + fraction;
        }
        let offset_minutes = match text.get(at) {
            Some(b'Z' | b'z') if text.len() == at + 1 => 0,
            Some(sign @ (b'+' | b'-')) if text.len() == at + 6 && mark(at + 3, b":") => {
                let (hours, minutes) = (number(at + 1..at + 3)?, number(at + 4..at + 6)?);
                if hours > 23 || minutes > 59 {
                    return malformed(WHAT, "no such offset");
                }
                (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
            }
            _ => return Err(bad()),
        };
        let (second, ms) = if second == 60 { (59, 999) } else { (second, ms) };
        let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        let instant = (seconds - offset_minutes * 60) * 1000 + ms;
        match u64::try_from(instant) {
            Ok(instant) if instant <= UNIX_MILLIS_MAX => Ok(UnixMillis(instant)),
            _ => malformed(WHAT, "outside the years 1970 to 9999"),
        }
    }

    /// Year, month and day of the instant in UTC.
    pub fn civil(self) -> (u16, u8, u8) {
        let (year, month, day) = civil_from_days((self.0.min(UNIX_MILLIS_MAX) / DAY_MS) as i64);
        (year as u16, month as u8, day as u8)
    }
}

/// Days since 1970-01-01 of a civil date; negative before it.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`]: year, month and day.
pub fn civil_from_days(days: i64) -> (i64, u64, u64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u64;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u64;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

fn digits(out: &mut [u8], mut value: u64) {
    for place in out.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T12:00:00.000Z", 951_825_600_000),
            ("2023-11-14T22:13:20.000Z", 1_700_000_000_000),
            ("9999-12-31T23:59:59.999Z", UNIX_MILLIS_MAX),
        ] {
            assert_eq!(UnixMillis::parse(text.as_bytes()), Ok(UnixMillis(ms)));
            assert_eq!(UnixMillis(ms).rfc3339(), text);
        }
        let offset = UnixMillis::parse(b"2026-02-10T09:00:00.000+02:00").expect("an offset");
        assert_eq!(offset.rfc3339(), "2026-02-10T07:00:00.000Z");
        assert_eq!(
            UnixMillis::parse(b"2016-12-31T23:59:60Z").expect("a leap second").rfc3339(),
            "2016-12-31T23:59:59.999Z"
        );
        for bad in [
            "1969-12-31T23:59:59.999Z",
            "2026-02-30T00:00:00Z",
            "2026-02-10T09:00:00",
            "2026-02-10T24:00:00Z",
            "2026-02-10T09:00:00.Z",
            "1970-01-01T00:00:00+00:01",
        ] {
            assert!(UnixMillis::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_instant_round_trips(ms in 0..=UNIX_MILLIS_MAX) {
            let text = UnixMillis(ms).rfc3339();
            proptest::prop_assert_eq!(UnixMillis::parse_canonical(text.as_bytes()), Ok(UnixMillis(ms)));
        }
        #[test]
        fn no_input_panics(bytes: Vec<u8>) { let _ = UnixMillis::parse(&bytes); }
    }
}
