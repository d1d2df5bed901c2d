//! From a line to a minimal record: what of it may be kept, field by field, in canonical form.

use proof::commitment::Field;
use proof::time::UnixMillis;

use crate::class::ClassId;
use crate::detect::{Detector, RULESET};
use crate::error::{Path, Refusal};
use crate::identifier::{IdentifierType, normalise};
use crate::json::{Tape, TokenKind, push_string, unescape};
use crate::kinds::{Catalogue, KindId};
use crate::schema::{Authority, FieldClass, Form, Kind};
use crate::walk::{Place, Walk};

/// Bytes in a record, at most.
pub const RECORD_BYTES_MAX: usize = 64 << 10;
/// Sources of imported records begin with this: it is how they are told apart.
pub const IMPORTED: &str = "import.";
/// A timestamp further ahead of the clock than this is accepted and flagged.
pub const AHEAD_MS_MAX: u64 = 86_400_000;

/// Field numbers that every kind shares; kinds use 20 and up.
pub mod number {
    /// `/kind`
    pub const KIND: u16 = 0;
    /// `/kind_version`
    pub const KIND_VERSION: u16 = 1;
    /// `/timestamp`
    pub const TIMESTAMP: u16 = 2;
    /// `/correlation_id`
    pub const CORRELATION_ID: u16 = 3;
    /// `/event_id`
    pub const EVENT_ID: u16 = 7;
    /// `/site`
    pub const SITE: u16 = 8;
    /// `/source`
    pub const SOURCE: u16 = 9;
    /// `/authority`
    pub const AUTHORITY: u16 = 10;
    /// `/late`: the period of the timestamp had ended.
    pub const LATE: u16 = 11;
    /// `/ahead`: the timestamp is more than a day ahead of the clock.
    pub const AHEAD: u16 = 12;
    /// `/dropped`: the personal body was dropped, since the person was erased.
    pub const DROPPED: u16 = 13;
    /// `/detected`: which rules of which rule set cut something.
    pub const DETECTED: u16 = 14;
}

/// How a source's recipients are kept in document 2's kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecipientMode {
    /// Only how many there were.
    #[default]
    Count,
    /// A keyed hash of each.
    Hash,
    /// The address, sealed, in class `mail_address`.
    FullAddress,
}

/// Names of events as document 1 writes them, by the beginning of the kinds that they are.
const DOCUMENT_NAMES: [(&str, &[&str]); 2] = [
    ("EMAIL_", &["sent", "delivered", "opened", "clicked", "bounced", "failed"]),
    ("ORDER_", &["placed", "confirmed", "processed", "shipped", "delivered", "cancelled"]),
];

/// Where one field's canonical JSON text stands in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Field number.
    pub number: u16,
    /// Which body.
    pub class: FieldClass,
    /// What its strings mean.
    pub form: Form,
    /// First byte in the arena.
    pub start: u32,
    /// Byte after the last.
    pub end: u32,
}

/// What the intake knows of the sender.
pub struct Context<'a> {
    /// Name of the source.
    pub source: &'a str,
    /// How recipients are kept.
    pub recipients: RecipientMode,
    /// The server's place, for records that do not name one.
    pub site: Option<&'a str>,
    /// Who makes the record.
    pub authority: Authority,
    /// The clock.
    pub now: UnixMillis,
    /// Keyed hash of a normalised identifier, for [`RecipientMode::Hash`].
    pub hash: &'a dyn Fn(&str) -> [u8; 16],
}

/// A record of which nothing more may be left out: validated, minimised, canonical.
#[derive(Debug, Clone)]
pub struct Minimal {
    /// Its kind.
    pub kind: KindId,
    /// Its class.
    pub class: ClassId,
    /// Its time, which decides its period.
    pub timestamp: UnixMillis,
    /// Normalised identifiers that name the subject, the strongest first.
    pub identifiers: Vec<(IdentifierType, String)>,
    arena: Vec<u8>,
    facts: Vec<Span>,
    personal: Vec<Span>,
}

impl Minimal {
    /// The fields of one body in the order of their numbers.
    pub fn fields(&self, class: FieldClass) -> impl Iterator<Item = Field<'_>> + Clone {
        let spans = match class {
            FieldClass::Fact => &self.facts,
            FieldClass::Personal => &self.personal,
        };
        spans.iter().map(|span| Field { number: span.number, value: self.value(span) })
    }

    /// The spans of one body, for readers that need each field's form.
    pub fn spans(&self, class: FieldClass) -> &[Span] {
        match class {
            FieldClass::Fact => &self.facts,
            FieldClass::Personal => &self.personal,
        }
    }

    /// The canonical JSON text of a field.
    pub fn value(&self, span: &Span) -> &[u8] {
        self.arena.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// The canonical JSON text of a fact.
    pub fn fact(&self, number: u16) -> Option<&[u8]> {
        let at = self.facts.binary_search_by_key(&number, |span| span.number).ok()?;
        Some(self.value(&self.facts[at]))
    }

    /// Whether anything in the record is about a person.
    pub fn has_personal(&self) -> bool {
        !self.personal.is_empty()
    }

    /// The client id, without quotes, if the sender gave one.
    pub fn event_id(&self) -> Option<&[u8]> {
        self.fact(number::EVENT_ID).map(|text| &text[1..text.len() - 1])
    }

    /// Sets a flag or replaces a fact.
    pub fn set_fact(&mut self, number: u16, value: &[u8]) {
        self.write_fact(number, |arena| arena.extend_from_slice(value));
    }

    /// Sets or replaces a fact by what `write` appends.
    fn write_fact(&mut self, number: u16, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.arena.len() as u32;
        write(&mut self.arena);
        let end = self.arena.len() as u32;
        let span = Span { number, class: FieldClass::Fact, form: Form::Token, start, end };
        match self.facts.binary_search_by_key(&number, |span| span.number) {
            Ok(at) => self.facts[at] = span,
            Err(at) => self.facts.insert(at, span),
        }
    }

    /// Leaves out everything about a person who was erased, and says so.
    pub fn drop_personal(&mut self) {
        self.personal.clear();
        self.identifiers.clear();
        self.set_fact(number::DROPPED, b"true");
    }

    /// The bytes that stand for the whole record where the sender gave no client id.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.arena.len() + 64);
        // What depends on the time of arrival is no part of what was sent.
        let sent = |span: &&Span| !(number::LATE..=number::DROPPED).contains(&span.number);
        for span in self.facts.iter().filter(sent).chain(&self.personal) {
            out.extend_from_slice(&span.number.to_be_bytes());
            out.extend_from_slice(&(span.end - span.start).to_be_bytes());
            out.extend_from_slice(self.value(span));
        }
        out
    }
}

/// Reads lines; holds the buffers that are used again from line to line. One for each worker.
#[derive(Debug, Default)]
pub struct Reader {
    tape: Tape,
    fired: Vec<(&'static str, u32)>,
    kind: Option<KindId>,
}

impl Reader {
    /// Reads one line.
    ///
    /// # Errors
    /// Why the record is refused; the sentence has no content of the record in it.
    pub fn read(
        &mut self,
        line: &[u8],
        catalogue: &Catalogue,
        detector: &Detector,
        context: &Context<'_>,
    ) -> Result<Minimal, Refusal> {
        self.kind = None;
        if line.len() > RECORD_BYTES_MAX {
            return Err(Refusal::TooLarge { got: line.len(), limit: RECORD_BYTES_MAX });
        }
        let text = std::str::from_utf8(line).map_err(|error| Refusal::NotUtf8 { at: error.valid_up_to() })?;
        self.tape.read(text)?;
        self.fired.clear();
        if let Some(line) = self.by_its_own_name(text) {
            return self.read(line.as_bytes(), catalogue, detector, context);
        }
        let id = self.find_kind(text, catalogue, context.authority)?;
        self.kind = Some(id);
        let kind = catalogue.kind(id);
        let mut arena = Vec::with_capacity(text.len() + 128);
        let mut spans = Vec::with_capacity(40);
        let root = Place { above: None, name: "" };
        Walk {
            line: text,
            tape: &self.tape,
            detector,
            suspicious: detector.may_have_prefix(text),
            by_candor: context.authority == Authority::Candor,
            arena: &mut arena,
            spans: &mut spans,
            fired: &mut self.fired,
        }
        .fields(&kind.root, 0, &root)?;
        spans.retain(|span| span.number != number::KIND);
        self.finish(id, kind, arena, spans, context)
    }

    /// The kind of the line read last, refused or not, if it was known.
    pub fn last_kind(&self) -> Option<KindId> {
        self.kind
    }

    /// The line with the kind's own name where it was given as document 1 writes it: `shipped`, of an order.
    fn by_its_own_name(&self, text: &str) -> Option<String> {
        let (mut said, mut prefix) = (None, None);
        let mut at = 1;
        while self.tape.token(0).kind == TokenKind::Object && self.tape.token(at).kind == TokenKind::Key {
            let (key, value) = (self.tape.token(at), self.tape.token(at + 1));
            match &text[key.start as usize..key.end as usize] {
                "event_type" => {
                    let range = value.start as usize..value.end as usize;
                    if value.kind != TokenKind::String
                        || !text[range.clone()].starts_with(|c: char| c.is_ascii_lowercase())
                    {
                        return None;
                    }
                    said = Some(range);
                }
                "email_id" => prefix = Some("EMAIL_"),
                "order_id" => prefix = prefix.or(Some("ORDER_")),
                _ => {}
            }
            at = value.next;
        }
        let (range, prefix) = (said?, prefix?);
        let known = DOCUMENT_NAMES.iter().any(|(of, names)| *of == prefix && names.contains(&&text[range.clone()]));
        let name = format!("{prefix}{}", text[range.clone()].to_ascii_uppercase());
        known.then(|| [&text[..range.start], &name, &text[range.end..]].concat())
    }

    fn find_kind(&self, text: &str, catalogue: &Catalogue, authority: Authority) -> Result<KindId, Refusal> {
        if self.tape.token(0).kind != TokenKind::Object {
            return Err(Refusal::WrongType { path: Path::default(), expected: "an object".into() });
        }
        let mut at = 1;
        while self.tape.token(at).kind == TokenKind::Key {
            let (key, value) = (self.tape.token(at), self.tape.token(at + 1));
            if &text[key.start as usize..key.end as usize] == "event_type" {
                if value.kind != TokenKind::String {
                    return Err(Refusal::WrongType { path: Path("/event_type".into()), expected: "a string".into() });
                }
                let mut name = String::new();
                unescape(&text[value.start as usize..value.end as usize], &mut name);
                return catalogue.for_authority(&name, authority);
            }
            at = value.next;
        }
        Err(Refusal::Missing { path: Path("/event_type".into()) })
    }

    fn finish(
        &mut self,
        id: KindId,
        kind: &Kind,
        arena: Vec<u8>,
        mut spans: Vec<Span>,
        context: &Context<'_>,
    ) -> Result<Minimal, Refusal> {
        spans.sort_unstable_by_key(|span| (span.class == FieldClass::Personal, span.number));
        let personal = spans.split_off(spans.partition_point(|span| span.class == FieldClass::Fact));
        let facts = spans;
        let mut minimal = Minimal {
            kind: id,
            class: kind.class,
            timestamp: UnixMillis(0),
            identifiers: Vec::new(),
            arena,
            facts,
            personal,
        };
        if let Some((class, any)) = &kind.class_with
            && minimal.facts.iter().chain(&minimal.personal).any(|span| any.contains(&span.number))
        {
            minimal.class = *class;
        }
        let time = minimal.fact(number::TIMESTAMP).and_then(|text| UnixMillis::parse(&text[1..text.len() - 1]).ok());
        minimal.timestamp = time.ok_or(Refusal::Missing { path: Path("/timestamp".into()) })?;
        if minimal.timestamp.0 > context.now.0 + AHEAD_MS_MAX {
            minimal.set_fact(number::AHEAD, b"true");
        }
        minimal.write_fact(number::KIND, |arena| push_string(arena, &kind.name));
        minimal.set_fact(number::KIND_VERSION, kind.version.to_string().as_bytes());
        minimal.write_fact(number::SOURCE, |arena| push_string(arena, context.source));
        minimal.write_fact(number::AUTHORITY, |arena| push_string(arena, context.authority.name()));
        if let (Some(site), None) = (context.site, minimal.fact(number::SITE)) {
            minimal.write_fact(number::SITE, |arena| push_string(arena, site));
        }
        if !self.fired.is_empty() {
            self.fired.sort_unstable();
            let rules: String = self.fired.iter().map(|(rule, count)| format!(",\"{rule}\":{count}")).collect();
            minimal.set_fact(number::DETECTED, format!("{{\"ruleset\":\"{RULESET}\"{rules}}}").as_bytes());
        }
        minimise_recipients(&mut minimal, kind, context);
        name_subject(&mut minimal, kind);
        Ok(minimal)
    }
}

/// Document 2: counted by default, hashed or sealed where the source is set to it.
fn minimise_recipients(minimal: &mut Minimal, kind: &Kind, context: &Context<'_>) {
    if minimal.class != ClassId::MAIL_EVENT {
        return;
    }
    let Some([recipient, hashes, count]) = kind.recipient_fields else { return };
    let Some(at) = minimal.personal.iter().position(|span| span.number == recipient) else { return };
    if context.recipients == RecipientMode::FullAddress {
        minimal.class = ClassId::MAIL_ADDRESS;
        return;
    }
    let span = minimal.personal.remove(at);
    if context.recipients == RecipientMode::Hash && minimal.fact(hashes).is_none() {
        let address = normalise(IdentifierType::Address, &string(minimal.value(&span)));
        let text = format!("[\"{}\"]", proof::encoding::hex(&(context.hash)(&address)));
        minimal.set_fact(hashes, text.as_bytes());
    }
    if minimal.fact(count).is_none() {
        minimal.set_fact(count, b"1");
    }
}

fn name_subject(minimal: &mut Minimal, kind: &Kind) {
    if minimal.personal.is_empty() {
        return;
    }
    let mut found = Vec::new();
    let mut customer: Option<u16> = None;
    for span in minimal.facts.iter().chain(&minimal.personal) {
        if let Some((_, identifier)) = kind.subject_fields.iter().find(|(number, _)| *number == span.number) {
            let value = normalise(*identifier, &string(minimal.value(span)));
            if value.is_empty() {
                continue;
            }
            if *identifier == IdentifierType::CustomerId {
                // A record is about one customer: of two who are named, the one who wrote.
                let wrote = kind.pointer(span.number).is_some_and(|pointer| pointer.starts_with("/sender_details"));
                if customer.is_some() && !wrote {
                    continue;
                }
                found.retain(|(held, _)| *held != IdentifierType::CustomerId);
                customer = Some(span.number);
            }
            found.push((*identifier, value));
        }
    }
    found.sort();
    minimal.identifiers = found;
}

/// The text of a canonical JSON string.
pub fn string(json: &[u8]) -> std::borrow::Cow<'_, str> {
    let inner = json.get(1..json.len().saturating_sub(1)).and_then(|inner| std::str::from_utf8(inner).ok());
    let inner = inner.unwrap_or_default();
    if !inner.contains('\\') {
        return inner.into();
    }
    let mut text = String::new();
    unescape(inner, &mut text);
    text.into()
}
