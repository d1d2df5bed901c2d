//! Classes: how long a record's keys live, and how long one period of keys lasts.

use proof::time::{UnixMillis, days_from_civil};

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
    /// Days that a period's key lives after the period's end; `None` = as long as the trail.
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

    /// Day on which the keys of the period that starts on `start` end; `None` = never.
    pub fn ends_on(self, start: u32) -> Option<u32> {
        let class = self.class();
        let length = match class.period {
            Period::Day => 1,
            Period::Month => 31,
            Period::Trail => 0,
        };
        class.keys_live_days.map(|days| start + length + days)
    }
}
