//! Query parameters: each known, each once, each in its form.

use std::collections::BTreeMap;

use proof::time::UnixMillis;

use crate::problem::Problem;

/// Parameters of a request by name.
pub(crate) struct Params(BTreeMap<String, String>);

impl Params {
    /// Reads the part after `?`; any name but the known ones is refused.
    pub(crate) fn read(query: Option<&str>, known: &[&str]) -> Result<Params, Problem> {
        let mut found = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                return Err(Problem::bad(format!(
                    "a query parameter is not known: this path has {}",
                    known.join(", ")
                )));
            }
            if found.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                return Err(Problem::bad(format!("the query parameter {name} stands twice")));
            }
        }
        Ok(Params(found))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A text of at most so many characters, none of them a control character.
    pub(crate) fn bounded(&self, name: &str, chars_max: usize) -> Result<Option<&str>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let count = text.chars().count();
        if count == 0 || count > chars_max || text.chars().any(char::is_control) {
            let rule =
                format!("the query parameter {name} must have 1 to {chars_max} characters and no control characters");
            return Err(Problem::bad(rule));
        }
        Ok(Some(text))
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(Problem::bad(format!("the query parameter {name} must be true or false"))),
        }
    }

    /// A number in canonical decimal.
    pub(crate) fn number(&self, name: &str, low: u64, high: u64) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = number(text).filter(|number| (low..=high).contains(number));
        number
            .map(Some)
            .ok_or_else(|| Problem::bad(format!("the query parameter {name} must be a number from {low} to {high}")))
    }

    /// A time, or a day.
    pub(crate) fn time(&self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
        match UnixMillis::parse(full.as_bytes()) {
            Ok(time) => Ok(Some(time.0)),
            Err(_) => Err(Problem::bad(format!(
                "the query parameter {name} must be a day (2026-11-01) or a time (2026-11-01T08:00:00Z)"
            ))),
        }
    }
}

/// A number in canonical decimal, below 2^53.
pub(crate) fn number(text: &str) -> Option<u64> {
    let canonical = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = canonical && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|number| canonical && *number < 1 << 53)
}
