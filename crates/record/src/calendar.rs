//! Days on which a period of law ends.
//!
//! POPIA's regulations (as amended on 17 April 2025) and PAIA count calendar days; a period whose last day is a Sunday
//! or a public holiday ends on the next day that is neither (docs/law.md). Public holidays are those of the Public
//! Holidays Act 36 of 1994: a holiday on a Sunday makes the Monday after it one too. Single days that are declared for
//! one year, such as those of elections, are not known here: a period may then end a day earlier than it must.

use proof::time::{UnixMillis, civil_from_days, days_from_civil};

/// Days since 1970-01-01.
pub type Day = i64;

const DAY_MS: u64 = 86_400_000;
/// South African Standard Time is two hours ahead of UTC, all year.
const SAST_MS: u64 = 2 * 3_600_000;

/// The calendar day in South Africa.
pub fn day_in_south_africa(time: UnixMillis) -> Day {
    ((time.0 + SAST_MS) / DAY_MS) as Day
}

/// The last moment of a calendar day in South Africa.
pub fn end_of_day_in_south_africa(day: Day) -> UnixMillis {
    UnixMillis(((day + 1) as u64 * DAY_MS).saturating_sub(SAST_MS + 1))
}

/// `2026-11-22`
pub fn text(day: Day) -> String {
    let (year, month, date) = civil_from_days(day);
    format!("{year:04}-{month:02}-{date:02}")
}

/// Whether it is a Sunday; 1970-01-01 was a Thursday.
fn is_sunday(day: Day) -> bool {
    (day + 4).rem_euclid(7) == 0
}

fn is_saturday(day: Day) -> bool {
    (day + 5).rem_euclid(7) == 0
}

/// Easter Sunday of the Gregorian calendar (the anonymous algorithm, in Meeus, "Astronomical Algorithms", chapter 8).
fn easter(year: i64) -> Day {
    let (a, b, c) = (year % 19, year / 100, year % 100);
    let (d, e) = (b / 4, b % 4);
    let g = (8 * b + 13) / 25;
    let h = (19 * a + b - d - g + 15) % 30;
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k) % 7;
    let m = (a + 11 * h + 19 * l) / 433;
    let month = (h + l - 7 * m + 90) / 25;
    let date = (h + l - 7 * m + 33 * month + 19) % 32;
    days_from_civil(year, month, date)
}

/// Whether a day is a public holiday in South Africa.
pub fn is_holiday(day: Day) -> bool {
    const FIXED: [(u64, u64); 10] =
        [(1, 1), (3, 21), (4, 27), (5, 1), (6, 16), (8, 9), (9, 24), (12, 16), (12, 25), (12, 26)];
    let fixed = |day: Day| {
        let (_, month, date) = civil_from_days(day);
        FIXED.contains(&(month, date))
    };
    let sunday = easter(civil_from_days(day).0);
    fixed(day) || day == sunday - 2 || day == sunday + 1 || is_sunday(day - 1) && fixed(day - 1)
}

/// The last day of a period of so many calendar days that begins with the day after `from`.
pub fn after_days(from: Day, days: i64) -> Day {
    let mut end = from + days;
    while is_sunday(end) || is_holiday(end) {
        end += 1;
    }
    end
}

/// The last day of a period of months under the GDPR (Regulation 1182/71, article 3): the same date, or the month's
/// last; never a Saturday or Sunday. Holidays differ by state and are not known here.
pub fn after_months(from: Day, months: i64) -> Day {
    let (year, month, date) = civil_from_days(from);
    let (months, date) = (month as i64 - 1 + months, date as i64);
    let (year, month) = (year + months.div_euclid(12), months.rem_euclid(12) + 1);
    let next = if month == 12 { days_from_civil(year + 1, 1, 1) } else { days_from_civil(year, month + 1, 1) };
    let mut end = (days_from_civil(year, month, 1) + date - 1).min(next - 1);
    while is_sunday(end) || is_saturday(end) {
        end += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_there_and_back() {
        for day in (-1000..40_000).step_by(13) {
            let (year, month, date) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month as i64, date as i64), day);
        }
        assert_eq!(text(20_779), "2026-11-22");
    }

    /// Public holidays as the government's calendars print them.
    #[test]
    fn holidays_are_those_of_the_act() {
        let printed = [
            (2024, vec![(3, 29), (4, 1), (6, 17), (12, 25)]),
            (2025, vec![(4, 18), (4, 21), (4, 28), (3, 21)]),
            (2026, vec![(4, 3), (4, 6), (8, 10), (9, 24)]),
            (2027, vec![(3, 26), (3, 29), (3, 22), (12, 27)]),
            (2035, vec![(3, 23), (3, 26), (12, 17), (1, 1)]),
        ];
        for (year, days) in printed {
            for (month, date) in days {
                assert!(is_holiday(days_from_civil(year, month, date)), "{year}-{month}-{date}");
            }
        }
        for (year, month, date) in [(2026, 11, 23), (2026, 4, 7), (2025, 4, 29), (2027, 12, 28)] {
            assert!(!is_holiday(days_from_civil(year, month, date)), "{year}-{month}-{date}");
        }
        // Twelve a year, and one more for each that falls on a Sunday (unless the Monday is one already).
        for year in 2024..=2035 {
            let count =
                (days_from_civil(year, 1, 1)..days_from_civil(year + 1, 1, 1)).filter(|day| is_holiday(*day)).count();
            assert!((12..=14).contains(&count), "{year}: {count}");
        }
    }

    #[test]
    fn a_period_does_not_end_on_a_sunday_or_holiday() {
        // 30 days from 2026-11-22 (a Sunday) is 2026-12-22, a Tuesday.
        assert_eq!(text(after_days(days_from_civil(2026, 11, 22), 30)), "2026-12-22");
        // From 2026-11-25 it would be Christmas Day, then Goodwill, then a Sunday.
        assert_eq!(text(after_days(days_from_civil(2026, 11, 25), 30)), "2026-12-28");
        // From 2026-03-06 it would be Easter Sunday, then Family Day.
        assert_eq!(text(after_days(days_from_civil(2026, 3, 6), 30)), "2026-04-07");
        assert_eq!(text(after_months(days_from_civil(2027, 1, 31), 1)), "2027-03-01");
        assert_eq!(text(after_months(days_from_civil(2026, 11, 22), 1)), "2026-12-22");
    }

    #[test]
    fn a_day_ends_at_midnight_in_south_africa() {
        let end = end_of_day_in_south_africa(days_from_civil(2026, 12, 22));
        assert_eq!(end.rfc3339(), "2026-12-22T21:59:59.999Z");
        assert_eq!(day_in_south_africa(end), days_from_civil(2026, 12, 22));
        assert_eq!(day_in_south_africa(UnixMillis(end.0 + 1)), days_from_civil(2026, 12, 23));
    }
}
