//! The walk over a tape by a kind's tables: checks every value and writes each field's canonical JSON text.

use crate::detect::{Depth, Detector, Finding, cut};
use crate::error::{Path, Refusal};
use crate::json::{Tape, Token, TokenKind, push_string, unescape};
use crate::kinds::nearest;
use crate::minimal::Span;
use crate::schema::{Form, Node, Pattern, Types};
use proof::time::UnixMillis;

/// Where in a record the walk is; a linked list on the stack, so that a path is built only for a refusal.
#[derive(Clone, Copy)]
pub(crate) struct Place<'p> {
    pub(crate) above: Option<&'p Place<'p>>,
    pub(crate) name: &'p str,
}

impl Place<'_> {
    pub(crate) fn path(&self) -> Path {
        let mut names = Vec::new();
        let mut place = Some(self);
        while let Some(here) = place {
            if !here.name.is_empty() {
                names.push(here.name);
            }
            place = here.above;
        }
        Path(names.iter().rev().map(|name| format!("/{name}")).collect())
    }
}

/// What a walk writes to.
pub(crate) struct Walk<'a> {
    pub(crate) line: &'a str,
    pub(crate) tape: &'a Tape,
    pub(crate) detector: &'a Detector,
    /// Whether the line as a whole may hold a token with a known prefix.
    pub(crate) suspicious: bool,
    /// Whether fields that Candor sets are allowed.
    pub(crate) by_candor: bool,
    pub(crate) arena: &'a mut Vec<u8>,
    pub(crate) spans: &'a mut Vec<Span>,
    pub(crate) fired: &'a mut Vec<(&'static str, u32)>,
}

impl<'a> Walk<'a> {
    fn text(&self, token: Token) -> &'a str {
        self.line.get(token.start as usize..token.end as usize).unwrap_or_default()
    }

    /// Walks an object whose properties are fields or hold fields.
    pub(crate) fn fields(&mut self, node: &Node, at: u32, place: &Place<'_>) -> Result<(), Refusal> {
        let opening = self.tape.token(at);
        if opening.kind != TokenKind::Object {
            return Err(Refusal::WrongType { path: place.path(), expected: "an object".into() });
        }
        let mut seen = 0u64;
        let mut at = at + 1;
        while self.tape.token(at).kind == TokenKind::Key {
            let key = self.tape.token(at);
            let (position, value_at) = (self.property(node, key, place)?, at + 1);
            let property = &node.properties[position];
            let here = Place { above: Some(place), name: &property.name };
            if seen >> position & 1 == 1 {
                return Err(Refusal::Duplicate { path: here.path() });
            }
            seen |= 1 << position;
            match property.node.field {
                Some(mark) => {
                    if mark.set_by_candor && !self.by_candor {
                        return Err(Refusal::SetByCandor { path: here.path() });
                    }
                    let start = self.arena.len() as u32;
                    self.value(&property.node, value_at, &here)?;
                    let end = self.arena.len() as u32;
                    let form = property.node.form;
                    self.spans.push(Span { number: mark.number, class: mark.class, form, start, end });
                }
                None => self.fields(&property.node, value_at, &here)?,
            }
            at = self.tape.token(value_at).next;
        }
        self.required(node, seen, place)
    }

    fn required(&self, node: &Node, seen: u64, place: &Place<'_>) -> Result<(), Refusal> {
        for (position, property) in node.properties.iter().enumerate() {
            if property.required && seen >> position & 1 == 0 {
                let here = Place { above: Some(place), name: &property.name };
                return Err(Refusal::Missing { path: here.path() });
            }
        }
        Ok(())
    }

    fn property(&self, node: &Node, key: Token, place: &Place<'_>) -> Result<usize, Refusal> {
        let raw = self.text(key);
        let mut name = std::borrow::Cow::Borrowed(raw);
        if key.escaped {
            let mut text = String::new();
            unescape(raw, &mut text);
            name = std::borrow::Cow::Owned(text);
        }
        node.property(name.as_bytes()).ok_or_else(|| unknown(self.detector, node, &name, place))
    }

    /// Checks one value and appends its canonical JSON text to the arena.
    fn value(&mut self, node: &Node, at: u32, place: &Place<'_>) -> Result<(), Refusal> {
        let token = self.tape.token(at);
        let given = match token.kind {
            TokenKind::String => Types::STRING,
            TokenKind::Integer => Types::INTEGER,
            TokenKind::Number if node.types.has(Types::NUMBER) => Types::NUMBER,
            TokenKind::Number => Types::INTEGER,
            TokenKind::True | TokenKind::False => Types::BOOLEAN,
            TokenKind::Null => Types::NULL,
            TokenKind::Object => Types::OBJECT,
            TokenKind::Array => Types::ARRAY,
            TokenKind::Key | TokenKind::End => 0,
        };
        if !node.types.has(given) {
            return Err(Refusal::WrongType { path: place.path(), expected: node.types.words() });
        }
        let start = self.arena.len();
        match token.kind {
            TokenKind::String => self.string(node, token, place)?,
            TokenKind::Integer | TokenKind::Number => self.number(node, token, place)?,
            TokenKind::Object if node.is_map => self.map(node, at, place)?,
            TokenKind::Object => self.object(node, at, place)?,
            TokenKind::Array => self.array(node, at, place)?,
            _ => self.arena.extend_from_slice(self.text(token).as_bytes()),
        }
        if !node.values.is_empty() && node.form != Form::Severity {
            let written = &self.arena[start..];
            if !node.values.iter().any(|value| value.as_bytes() == written) {
                return Err(bounds(place, format!("must be one of {}", node.values.join(", "))));
            }
        }
        match node.bytes_max {
            Some(limit) if self.arena.len() - start > limit => {
                Err(bounds(place, format!("is {} bytes, the limit is {limit}", self.arena.len() - start)))
            }
            _ => Ok(()),
        }
    }

    fn number(&mut self, node: &Node, token: Token, place: &Place<'_>) -> Result<(), Refusal> {
        let text = self.text(token);
        let value: f64 = text.parse().unwrap_or(f64::NAN);
        if node.bounds.0.is_some_and(|low| value < low)
            || node.bounds.1.is_some_and(|high| value > high)
            || !value.is_finite()
        {
            let words = |bound: Option<f64>| bound.map_or("any".to_owned(), |bound| bound.to_string());
            return Err(bounds(
                place,
                format!("must be between {} and {}", words(node.bounds.0), words(node.bounds.1)),
            ));
        }
        if token.kind == TokenKind::Number && !node.types.has(Types::NUMBER) {
            // 3.0 and 3e0 are the integer 3; beyond 2^53 a fraction may have been lost.
            if value.fract() != 0.0 || value.abs() > 9_007_199_254_740_992.0 {
                return Err(Refusal::WrongType { path: place.path(), expected: node.types.words() });
            }
            self.arena.extend_from_slice((value as i64).to_string().as_bytes());
        } else {
            self.arena.extend_from_slice(if text == "-0" { b"0" } else { text.as_bytes() });
        }
        Ok(())
    }

    fn string(&mut self, node: &Node, token: Token, place: &Place<'_>) -> Result<(), Refusal> {
        let raw = self.text(token);
        let mut owned = String::new();
        let text = if token.escaped {
            unescape(raw, &mut owned);
            owned.as_str()
        } else {
            raw
        };
        self.check_string(node, text, place)?;
        match node.form {
            Form::Time => match UnixMillis::parse(text.as_bytes()) {
                Ok(time) => {
                    self.arena.push(b'"');
                    self.arena.extend_from_slice(&time.rfc3339_bytes());
                    self.arena.push(b'"');
                    return Ok(());
                }
                Err(error) => return Err(bounds(place, format!("is not a time: {error}"))),
            },
            Form::Severity => {
                let severity = match text {
                    "low" => "notice",
                    "medium" => "warning",
                    "high" => "error",
                    "debug" | "info" | "notice" | "warning" | "error" | "critical" => text,
                    _ => return Err(bounds(place, "must be debug, info, notice, warning, error or critical".into())),
                };
                push_string(self.arena, severity);
                return Ok(());
            }
            Form::Host => {
                let host = text.split_once("://").map_or(text, |(_, rest)| rest);
                let end = host.find(['/', '?', '#']).unwrap_or(host.len());
                let host = host[..end].rsplit('@').next().unwrap_or_default();
                push_string(self.arena, host);
                return Ok(());
            }
            Form::Digest => {
                push_string(self.arena, text);
                return Ok(());
            }
            Form::Text | Form::Id | Form::Token | Form::Contact => {}
        }
        let findings = match node.form {
            Form::Text => self.detector.scan(text, Depth::Full),
            _ if self.suspicious || token.escaped => self.detector.scan(text, Depth::Prefixes),
            _ => Vec::new(),
        };
        if findings.is_empty() {
            push_string(self.arena, text);
            return Ok(());
        }
        self.cut(node, text, &findings, place)
    }

    fn cut(&mut self, node: &Node, text: &str, findings: &[Finding], place: &Place<'_>) -> Result<(), Refusal> {
        let whole = findings.len() == 1 && findings[0].range == (0..text.len());
        if whole && node.form != Form::Text {
            return Err(Refusal::Forbidden { path: place.path(), rule: findings[0].rule });
        }
        for finding in findings {
            match self.fired.iter_mut().find(|(rule, _)| *rule == finding.rule) {
                Some((_, count)) => *count += 1,
                None => self.fired.push((finding.rule, 1)),
            }
        }
        push_string(self.arena, &cut(text, findings));
        Ok(())
    }

    fn check_string(&self, node: &Node, text: &str, place: &Place<'_>) -> Result<(), Refusal> {
        let (low, high) = node.length;
        // Counting characters only where bytes do not settle it.
        if text.len() < low || high.is_some_and(|high| text.len() > high) || low > 1 && !text.is_ascii() {
            let count = text.chars().count();
            if count < low {
                return Err(bounds(place, format!("has {count} characters, at least {low} are needed")));
            }
            if high.is_some_and(|high| count > high) {
                return Err(bounds(
                    place,
                    format!("has {count} characters, the limit is {}", high.unwrap_or_default()),
                ));
            }
        }
        let fits = match &node.pattern {
            None => true,
            Some(Pattern::Set { set }) => !text.is_empty() && text.bytes().all(|byte| set[usize::from(byte)]),
            Some(Pattern::Regex(regex)) => regex.is_match(text),
        };
        if fits { Ok(()) } else { Err(bounds(place, "has a character or form that this field does not allow".into())) }
    }

    fn array(&mut self, node: &Node, at: u32, place: &Place<'_>) -> Result<(), Refusal> {
        let (low, high) = node.length;
        self.arena.push(b'[');
        let (mut at, mut count) = (at + 1, 0);
        while self.tape.token(at).kind != TokenKind::End {
            if count > 0 {
                self.arena.push(b',');
            }
            if high == Some(count) {
                return Err(bounds(place, format!("has more than {count} items: send several records")));
            }
            match &node.items {
                Some(items) => self.value(items, at, place)?,
                None => return Err(bounds(place, "must be empty".into())),
            }
            count += 1;
            at = self.tape.token(at).next;
        }
        if count < low {
            return Err(bounds(place, format!("has {count} items, at least {low} are needed")));
        }
        self.arena.push(b']');
        Ok(())
    }

    /// An object inside a field: written in the order of the schema's properties, so that one content has one text.
    fn object(&mut self, node: &Node, at: u32, place: &Place<'_>) -> Result<(), Refusal> {
        let mut values = [u32::MAX; 64];
        let mut seen = 0u64;
        let mut at = at + 1;
        while self.tape.token(at).kind == TokenKind::Key {
            let position = self.property(node, self.tape.token(at), place)?;
            if seen >> position & 1 == 1 {
                let here = Place { above: Some(place), name: &node.properties[position].name };
                return Err(Refusal::Duplicate { path: here.path() });
            }
            seen |= 1 << position;
            values[position] = at + 1;
            at = self.tape.token(at + 1).next;
        }
        self.required(node, seen, place)?;
        self.arena.push(b'{');
        let mut first = true;
        for (position, property) in node.properties.iter().enumerate() {
            if values[position] == u32::MAX {
                continue;
            }
            if !std::mem::take(&mut first) {
                self.arena.push(b',');
            }
            push_string(self.arena, &property.name);
            self.arena.push(b':');
            let here = Place { above: Some(place), name: &property.name };
            self.value(&property.node, values[position], &here)?;
        }
        self.arena.push(b'}');
        Ok(())
    }

    /// A flat map of scalars, written in the order of its names.
    fn map(&mut self, node: &Node, at: u32, place: &Place<'_>) -> Result<(), Refusal> {
        let mut pairs: Vec<(String, u32)> = Vec::new();
        let mut at = at + 1;
        while self.tape.token(at).kind == TokenKind::Key {
            let mut name = String::new();
            unescape(self.text(self.tape.token(at)), &mut name);
            pairs.push((name, at + 1));
            at = self.tape.token(at + 1).next;
        }
        pairs.sort();
        if pairs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(Refusal::Duplicate { path: Path(format!("a name in {}", place.path())) });
        }
        let depth = if node.form == Form::Text { Depth::Full } else { Depth::Prefixes };
        let scalar = Node::scalar(node.form);
        self.arena.push(b'{');
        for (position, (name, value_at)) in pairs.iter().enumerate() {
            if position > 0 {
                self.arena.push(b',');
            }
            let findings = self.detector.scan(name, depth);
            if findings.is_empty() {
                push_string(self.arena, name);
            } else {
                self.cut(&Node::default(), name, &findings, place)?;
            }
            self.arena.push(b':');
            self.value(&scalar, *value_at, &Place { above: Some(place), name: "*" })?;
        }
        self.arena.push(b'}');
        Ok(())
    }
}

fn bounds(place: &Place<'_>, rule: String) -> Refusal {
    Refusal::OutOfBounds { path: place.path(), rule }
}

/// A name is repeated only if it has the form of one: it may be a secret that slipped to the wrong side of a colon.
fn unknown(detector: &Detector, node: &Node, name: &str, place: &Place<'_>) -> Refusal {
    let plain = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !plain || !detector.scan(name, Depth::Full).is_empty() {
        return Refusal::UnknownField {
            shown: format!("a field of {} bytes in {}", name.len(), place.path()),
            nearest: None,
        };
    }
    let here = Place { above: Some(place), name };
    Refusal::UnknownField {
        shown: here.path().to_string(),
        nearest: nearest(name, node.properties.iter().map(|property| property.name.as_str())),
    }
}
