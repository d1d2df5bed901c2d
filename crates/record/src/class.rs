//! Classes: how long a record's keys live, and how long one period of keys lasts.

use proof::time::{UnixMillis, civil_from_days, days_from_civil};

/// Length of one period: all bodies of a class and a period share one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// A UTC day.
    Day,
    /// A UTC calendar month.
    Month,
    /// As long as the trail.
    Trail,
}

/// A class of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// Name, as it stands in entries.
    pub name: &'static str,
    /// Days that a period's key lives after the period's end unless a deployment says otherwise; `None` = as long as the
    /// trail.
    pub keys_live_days: Option<u32>,
    /// Length of a period.
    pub period: Period,
}

/// All classes; a class's number is its place here. New ones are added at the end.
pub const CLASSES: [Class; 7] = [
    Class { name: "mail_event", keys_live_days: Some(365), period: Period::Day },
    Class { name: "mail_address", keys_live_days: Some(90), period: Period::Day },
    Class { name: "communication", keys_live_days: Some(2557), period: Period::Month },
    Class { name: "access", keys_live_days: Some(2557), period: Period::Month },
    Class { name: "compliance", keys_live_days: Some(2557), period: Period::Month },
    Class { name: "quarantine", keys_live_days: Some(30), period: Period::Day },
    Class { name: "trail", keys_live_days: None, period: Period::Trail },
];

/// A class's place in [`CLASSES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(pub u8);

impl ClassId {
    /// Document 2's kinds.
    pub const MAIL_EVENT: ClassId = ClassId(0);
    /// Document 2's kinds with a sealed address.
    pub const MAIL_ADDRESS: ClassId = ClassId(1);
    /// Document 1's communication.
    pub const COMMUNICATION: ClassId = ClassId(2);
    /// Reads.
    pub const ACCESS: ClassId = ClassId(3);
    /// Erasures, requests, consent.
    pub const COMPLIANCE: ClassId = ClassId(4);
    /// Refused input.
    pub const QUARANTINE: ClassId = ClassId(5);
    /// The trail's own life.
    pub const TRAIL: ClassId = ClassId(6);

    /// The class of this name.
    pub fn by_name(name: &str) -> Option<ClassId> {
        CLASSES.iter().position(|class| class.name == name).map(|at| ClassId(at as u8))
    }

    /// The class.
    pub fn class(self) -> &'static Class {
        CLASSES.get(usize::from(self.0)).unwrap_or(&CLASSES[0])
    }

    /// First day (days since 1970) of the period that holds `at`.
    pub fn period_start(self, at: UnixMillis) -> u32 {
        match self.class().period {
            Period::Day => at.day(),
            Period::Month => {
                let (year, month, _) = at.civil();
                days_from_civil(i64::from(year), i64::from(month), 1) as u32
            }
            Period::Trail => 0,
        }
    }

    /// First day after the period that starts on `start`; of the trail's own period, that day itself.
    pub fn period_end(self, start: u32) -> u32 {
        match self.class().period {
            Period::Day => start + 1,
            Period::Month => {
                let (year, month, _) = civil_from_days(i64::from(start));
                let (year, month) = if month == 12 { (year + 1, 1) } else { (year, month as i64 + 1) };
                days_from_civil(year, month, 1) as u32
            }
            Period::Trail => start,
        }
    }
}

/// How long a deployment keeps the keys of each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention([Option<u32>; CLASSES.len()]);

impl Default for Retention {
    fn default() -> Self {
        Retention(CLASSES.map(|class| class.keys_live_days))
    }
}

impl Retention {
    /// Sets the days of a class whose keys do end.
    pub fn set(&mut self, class: ClassId, days: u32) {
        if let Some(held) = self.0.get_mut(usize::from(class.0)).filter(|held| held.is_some()) {
            *held = Some(days);
        }
    }

    /// Days that a period's keys live after its end; `None` = as long as the trail.
    pub fn days(&self, class: ClassId) -> Option<u32> {
        self.0.get(usize::from(class.0)).copied().flatten()
    }

    /// Day on which the keys of the period that starts on `start` end; `None` = never.
    pub fn ends_on(&self, class: ClassId, start: u32) -> Option<u32> {
        self.days(class).map(|days| class.period_end(start) + days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_ends_so_many_days_after_its_last_day() {
        let retention = Retention::default();
        let day = |text: &str| UnixMillis::parse(text.as_bytes()).expect("a time").day();
        let start = day("2024-02-01T00:00:00Z");
        assert_eq!(ClassId::COMMUNICATION.period_end(start), day("2024-03-01T00:00:00Z"));
        assert_eq!(ClassId::COMMUNICATION.period_end(day("2024-12-01T00:00:00Z")), day("2025-01-01T00:00:00Z"));
        assert_eq!(retention.ends_on(ClassId::MAIL_EVENT, start), Some(start + 366));
        assert_eq!(retention.ends_on(ClassId::TRAIL, 0), None);
        let mut other = retention;
        other.set(ClassId::MAIL_EVENT, 10);
        other.set(ClassId::TRAIL, 10);
        assert_eq!(other.ends_on(ClassId::MAIL_EVENT, start), Some(start + 11));
        assert_eq!(other.ends_on(ClassId::TRAIL, 0), None);
    }
}
