//! Mappings: how the columns of an old system's table become the fields of a record (`docs/import.md`).

use std::collections::BTreeMap;

use proof::time::{UnixMillis, days_from_civil};
use serde::Deserialize;
use serde_json::{Map, Value};

/// A mapping as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The kind of every record, unless the field `event_type` is mapped.
    pub kind: Option<String>,
    /// Fields, such as `recipient_details.email`, and the columns that they are taken from.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// Fields that are the same in every record.
    #[serde(default)]
    pub constants: BTreeMap<String, Value>,
    /// For a field: what the column says and what the record says instead. A word that is not here stays as it is.
    #[serde(default)]
    pub values: BTreeMap<String, BTreeMap<String, String>>,
    /// Fields that are times, and how they are written: `2026-01-31 08:00:00`, `31/01/2026`, in the letters
    /// `YYYY MM DD hh mm ss`; or `unix`, `unix_ms`.
    #[serde(default)]
    pub times: BTreeMap<String, String>,
    /// Offset of times that have none, such as +02:00.
    pub zone: Option<String>,
    /// Fields that are whole numbers, decimals or yes and no; all others are text.
    #[serde(default)]
    pub numbers: Vec<String>,
    /// Fields that are yes or no.
    #[serde(default)]
    pub flags: Vec<String>,
}

/// Why a row could not be mapped: the field and what was expected, never what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmapped {
    /// The row has no such column.
    #[error("there is no column {0}")]
    NoColumn(String),
    /// A value is not in its form.
    #[error("/{field}: the value is no {expected}")]
    Form {
        /// The field.
        field: String,
        /// What it should be.
        expected: String,
    },
}

/// Where the columns of a table stand.
#[derive(Debug)]
pub struct Columns<'m> {
    mapping: &'m Mapping,
    /// Fields with the places of their columns.
    places: Vec<(&'m str, usize)>,
    zone_minutes: i64,
}

impl Mapping {
    /// Holds the mapping against a table's heading.
    ///
    /// # Errors
    /// A column is not there.
    pub fn columns_of<'m>(&'m self, heading: &[&str], zone_minutes: i64) -> Result<Columns<'m>, Unmapped> {
        let place = |(field, column): (&'m String, &'m String)| {
            let at = heading.iter().position(|name| name.trim() == column);
            at.map(|at| (field.as_str(), at)).ok_or_else(|| Unmapped::NoColumn(column.clone()))
        };
        let places = self.columns.iter().map(place).collect::<Result<_, _>>()?;
        Ok(Columns { mapping: self, places, zone_minutes })
    }
}

impl Columns<'_> {
    /// The record of a row.
    ///
    /// # Errors
    /// A value is not in the form that the mapping says.
    pub fn record(&self, row: &[&str]) -> Result<Map<String, Value>, Unmapped> {
        let mapping = self.mapping;
        let mut record = Map::new();
        for (field, value) in &mapping.constants {
            put(&mut record, field, value.clone());
        }
        if let Some(kind) = &mapping.kind {
            put(&mut record, "event_type", kind.as_str().into());
        }
        for (field, place) in &self.places {
            let given = row.get(*place).map_or("", |value| value.trim());
            // What the old system left empty is not known, and not said.
            if !given.is_empty() {
                put(&mut record, field, self.value(field, given)?);
            }
        }
        Ok(record)
    }

    fn value(&self, field: &str, given: &str) -> Result<Value, Unmapped> {
        let mapping = self.mapping;
        let wrong = |expected: &str| Unmapped::Form { field: field.to_owned(), expected: expected.to_owned() };
        let mapped = mapping.values.get(field).and_then(|values| values.get(given)).map_or(given, String::as_str);
        if let Some(format) = mapping.times.get(field) {
            let time = time(mapped, format, self.zone_minutes).ok_or_else(|| wrong(&format!("time as {format}")))?;
            return Ok(time.rfc3339().into());
        }
        let is = |fields: &[String]| fields.iter().any(|one| one == field);
        if is(&mapping.numbers) {
            let number: serde_json::Number = mapped.parse().map_err(|_| wrong("number"))?;
            return Ok(number.into());
        }
        if is(&mapping.flags) {
            return match mapped.to_ascii_lowercase().as_str() {
                "yes" | "true" | "1" | "y" => Ok(true.into()),
                "no" | "false" | "0" | "n" => Ok(false.into()),
                _ => Err(wrong("yes or no")),
            };
        }
        Ok(mapped.into())
    }
}

/// Puts a value at a place such as `recipient_details.email`.
pub fn put(record: &mut Map<String, Value>, field: &str, value: Value) {
    match field.split_once('.') {
        None => drop(record.insert(field.to_owned(), value)),
        Some((object, rest)) => {
            let below = record.entry(object).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(below) = below {
                put(below, rest, value);
            }
        }
    }
}

/// A time in a format of `YYYY MM DD hh mm ss` and signs between them, read at an offset.
fn time(text: &str, format: &str, zone_minutes: i64) -> Option<UnixMillis> {
    match format {
        "unix" => return Some(UnixMillis(text.parse::<u64>().ok()?.checked_mul(1000)?)),
        "unix_ms" => return Some(UnixMillis(text.parse().ok()?)),
        "rfc3339" => return UnixMillis::parse(text.as_bytes()).ok(),
        _ => {}
    }
    let (mut year, mut rest_of_day) = ([0i64; 3], [0i64; 3]);
    let (mut text, mut format) = (text, format);
    while !format.is_empty() {
        let part = [("YYYY", 4), ("MM", 2), ("DD", 2), ("hh", 2), ("mm", 2), ("ss", 2)]
            .iter()
            .position(|(letters, _)| format.starts_with(letters));
        let Some(part) = part else {
            let sign = format.chars().next()?;
            text = text.strip_prefix(sign)?;
            format = &format[sign.len_utf8()..];
            continue;
        };
        let length = if part == 0 { 4 } else { 2 };
        // A day or month may have one digit where a sign follows it.
        let digits = text.bytes().take(length).take_while(u8::is_ascii_digit).count();
        if digits == 0 || part == 0 && digits < 4 {
            return None;
        }
        let number = text[..digits].parse().ok()?;
        if part < 3 {
            year[part] = number
        } else {
            rest_of_day[part - 3] = number
        }
        (text, format) = (&text[digits..], &format[length..]);
    }
    let ([year, month, day], [hour, minute, second]) = (year, rest_of_day);
    let fits = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !text.is_empty() || !fits || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    // The 31st of a month of 30 days is none.
    (proof::time::civil_from_days(days).1 == month as u64).then_some(())?;
    let seconds = ((days * 24 + hour) * 60 + minute - zone_minutes) * 60 + second;
    u64::try_from(seconds).ok().map(|seconds| UnixMillis(seconds * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_format_that_is_given() {
        let read = |text: &str, format: &str| time(text, format, 120).map(UnixMillis::rfc3339);
        let eight = Some("2026-01-31T06:00:00.000Z".to_owned());
        assert_eq!(read("2026-01-31 08:00:00", "YYYY-MM-DD hh:mm:ss"), eight);
        assert_eq!(read("31/01/2026 08:00", "DD/MM/YYYY hh:mm"), eight);
        assert_eq!(read("31/1/2026 8:00", "DD/MM/YYYY hh:mm"), eight);
        assert_eq!(read("1769839200", "unix"), eight);
        assert_eq!(read("2026-01-31T06:00:00Z", "rfc3339"), eight);
        for (text, format) in [
            ("2026-02-30", "YYYY-MM-DD"),
            ("2026-13-01", "YYYY-MM-DD"),
            ("2026-01-01x", "YYYY-MM-DD"),
            ("26-01-01", "YYYY-MM-DD"),
            ("2026-01-01 24:00", "YYYY-MM-DD hh:mm"),
            ("", "YYYY"),
        ] {
            assert_eq!(read(text, format), None, "{text}");
        }
    }

    #[test]
    fn a_row_becomes_a_record() {
        let mapping = Mapping {
            kind: Some("TICKET_OPENED".into()),
            columns: [("ticket_id", "No"), ("timestamp", "Created"), ("recipient.email", "Mail"), ("urgent", "Urgent")]
                .map(|(field, column)| (field.to_owned(), column.to_owned()))
                .into(),
            constants: [("environment".to_owned(), "production".into())].into(),
            values: [("ticket_id".to_owned(), [("7".to_owned(), "T-7".to_owned())].into())].into(),
            times: [("timestamp".to_owned(), "DD/MM/YYYY".to_owned())].into(),
            zone: None,
            numbers: Vec::new(),
            flags: vec!["urgent".into()],
        };
        let columns = mapping.columns_of(&["Mail", "No", "Created", "Urgent", "Other"], 0).expect("columns");
        let record = columns.record(&["a@mail.example", "7", "02/03/2024", "Yes", "x"]).expect("a record");
        let expected = serde_json::json!({"environment": "production", "event_type": "TICKET_OPENED", "ticket_id": "T-7",
            "timestamp": "2024-03-02T00:00:00.000Z", "recipient": {"email": "a@mail.example"}, "urgent": true});
        assert_eq!(Value::Object(record), expected);
        let wrong = columns.record(&["", "7", "2024-03-02", "Yes", "x"]).expect_err("refused").to_string();
        assert_eq!(wrong, "/timestamp: the value is no time as DD/MM/YYYY");
        assert!(mapping.columns_of(&["Mail"], 0).is_err());
    }
}
