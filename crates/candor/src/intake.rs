//! From lines to committed entries: validate, minimise, resolve, seal, submit. Longer than most files: a record that
//! comes back (repeat, conflict, erased subject) goes through the same steps again.
//!
//! A batch is prepared by a worker, handed to the writer, and answered when it is durable; the three steps are apart so
//! that workers need not wait. The order that keeps a key from being lost: keys are taken while sealing, with a ticket;
//! the writer makes that ticket durable before it appends.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, anyhow};
use ledger::clock::Clock;
use ledger::ledger::{Item, Outcome};
use ledger::reader::Reader;
use ledger::sequencer::{Answer, Batch, Submitter};
use proof::commitment::Field;
use proof::entry::EntryId;
use proof::hash::Hash;
use proof::time::UnixMillis;
use reads::guard::OwnRecord;
use record::detect::Detector;
use record::error::Refusal;
use record::kinds::{Catalogue, KindId};
use record::minimal::{Context, Minimal, Reader as LineReader, RecipientMode, number};
use record::schema::{Authority, FieldClass};
use seal::crypto::{Key, KeyedHash};
use seal::random::RandomPool;
use seal::sealed::{Role, SealingKeys, seal};
use seal::shared::{SharedStore, Ticket};
use seal::store::{Named, Resolved};
use seal::tag::Tagger;
use serde_json::{Value, json};
use views::views::{Document, Documents, Views};

use crate::config::Config;
use crate::quarantine::LINES_A_MINUTE;
use crate::space::Space;

/// A repeat of something older than this is marked as late: 30 days.
const REPEAT_WINDOW_MS: u64 = 30 * 86_400_000;

/// Conflicts of one source that get a record each within a minute.
const CONFLICTS_DETAILED_MAX: u32 = 10;

/// What travels beside a sealed record.
#[derive(Debug)]
pub struct Companion {
    pub minimal: Minimal,
    pub document: Document,
    /// Whether its id is made of what it says.
    pub derived_id: bool,
}

/// What became of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    Committed {
        index: u64,
        leaf: Hash,
    },
    /// `late`: the first one is older than the window in which sources repeat themselves.
    Repeated {
        index: u64,
        compared: bool,
        late: bool,
    },
    Conflict {
        index: u64,
    },
}

/// A line's answer.
pub type LineAnswer = (u64, std::result::Result<Accepted, Refused>);

/// A refused line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub refusal: Refusal,
    /// Its kind, where it was known.
    pub kind: Option<Arc<str>>,
}

/// What is counted of refusals.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Why {
    pub code: &'static str,
    pub kind: Option<Arc<str>>,
    pub rule: Option<&'static str>,
}

struct Shared {
    catalogue: Arc<Catalogue>,
    detector: Arc<Detector>,
    store: Arc<SharedStore>,
    submitter: Submitter<Companion>,
    keys: SyncSender<()>,
    space: Space,
    reader: Arc<Reader>,
    documents: Option<Documents>,
    views: Option<Arc<Views>>,
    clock: Arc<dyn Clock>,
    origin: String,
    id_key: KeyedHash,
    hash_key: KeyedHash,
    identifier: KeyedHash,
    environment: String,
    site: Option<String>,
    sources: BTreeMap<String, RecipientMode>,
    /// Sources in whose records people say themselves who they are.
    claimed: BTreeSet<String>,
    kind_names: Vec<Arc<str>>,
    defined: Mutex<HashSet<KindId>>,
    defining: Mutex<()>,
    /// Conflicts by source, of the minute since 1970 that stands before them.
    conflicts: Mutex<(u64, HashMap<String, u32>)>,
    /// Refused lines that were kept, by source, of the minute since 1970 that stands before them.
    quarantined: Mutex<(u64, HashMap<String, u32>)>,
    /// Sources of which refused lines are not kept.
    not_kept: HashSet<String>,
    /// Repeats that are not recorded yet, by source: how many, the first and the newest.
    sightings: Mutex<BTreeMap<String, (u64, UnixMillis, UnixMillis)>>,
}

/// See the module. Cheap to clone: one for each worker.
#[derive(Clone)]
pub struct Intake {
    shared: Arc<Shared>,
}

/// A worker's buffers.
#[derive(Default)]
pub struct Worker {
    lines: LineReader,
    random: RandomPool,
    /// Whether the ids of its records are made of what they say.
    pub derived_ids: bool,
    /// Whether what it takes in is kept in the quarantine already.
    pub kept_already: bool,
}

/// A batch of lines, sealed and ready for the writer.
pub struct Prepared {
    answers: Vec<LineAnswer>,
    sealed: Sealing,
}

/// A batch that the writer has.
pub struct Sent {
    answers: Vec<LineAnswer>,
    links: Links,
    receiver: Receiver<Answer<Companion>>,
}

/// A record before it is sealed: its line, itself, its subject where that is known.
type Waiting = (u64, Minimal, Option<u64>);

struct Sealing {
    items: Vec<Item<Companion>>,
    links: Links,
    needs: Ticket,
}

struct Resolving {
    minimal: Minimal,
    document: Document,
    line: u64,
    subject: Option<(Key, Tagger)>,
    known_subject: Option<u64>,
    period: (u32, Key),
}

impl Intake {
    #[expect(clippy::too_many_arguments, reason = "the parts of a trail, handed over once")]
    pub fn new(
        config: &Config,
        catalogue: Arc<Catalogue>,
        detector: Arc<Detector>,
        store: Arc<SharedStore>,
        submitter: Submitter<Companion>,
        keys: SyncSender<()>,
        space: Space,
        reader: Arc<Reader>,
        views: Option<Arc<Views>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Intake> {
        let not_kept = config.sources.iter().filter(|(_, source)| !source.quarantine);
        let held = store.lock()?;
        let key = |name| KeyedHash::new(held.named(name).expose());
        let shared = Shared {
            origin: held.origin().to_owned(),
            id_key: key(Named::Id),
            hash_key: KeyedHash::new(
                seal::crypto::subkey(&held.named(Named::Identifier), "candor/v1/recipient\n").expose(),
            ),
            identifier: held.identifier_hash(),
            environment: config.environment.clone(),
            site: config.site.clone(),
            sources: config.sources.iter().map(|(name, source)| (name.clone(), source.recipients.into())).collect(),
            claimed: config.sources.iter().filter(|(_, source)| source.claimed).map(|(name, _)| name.clone()).collect(),
            kind_names: catalogue.all().map(|kind| Arc::from(kind.name.as_str())).collect(),
            defined: Mutex::default(),
            defining: Mutex::default(),
            conflicts: Mutex::default(),
            quarantined: Mutex::default(),
            not_kept: not_kept.map(|(name, _)| name.clone()).collect(),
            sightings: Mutex::default(),
            store: Arc::clone(&store),
            detector,
            submitter,
            keys,
            space,
            reader,
            documents: views.as_ref().map(|views| views.documents(&catalogue)),
            catalogue,
            views,
            clock,
        };
        drop(held);
        Ok(Intake { shared: Arc::new(shared) })
    }

    pub fn reader(&self) -> &Arc<Reader> {
        &self.shared.reader
    }

    pub fn submitter(&self) -> &Submitter<Companion> {
        &self.shared.submitter
    }

    /// Whether there is a source of this name.
    pub fn recipients(&self, source: &str) -> Result<RecipientMode> {
        // Archives are no sources that go on: they need no section.
        if source.starts_with(record::minimal::IMPORTED) {
            return Ok(RecipientMode::default());
        }
        self.shared
            .sources
            .get(source)
            .copied()
            .with_context(|| format!("ingest: there is no source of this name: add [sources.{source}] to candor.toml"))
    }

    fn context<'a>(&'a self, source: &'a str, authority: Authority, hash: &'a dyn Fn(&str) -> [u8; 16]) -> Context<'a> {
        let recipients = self.shared.sources.get(source).copied().unwrap_or_default();
        Context { source, recipients, site: self.shared.site.as_deref(), authority, now: self.shared.clock.now(), hash }
    }

    /// Takes a batch of lines from a source; answers when all that is good in it is durable and findable.
    pub fn lines(&self, worker: &mut Worker, source: &str, lines: &[(u64, &[u8])]) -> Result<Vec<LineAnswer>> {
        let sent = self.send(self.prepare(worker, source, lines)?)?;
        self.land(worker, source, sent)
    }

    /// Reads, minimises and seals a batch of lines.
    pub fn prepare(&self, worker: &mut Worker, source: &str, lines: &[(u64, &[u8])]) -> Result<Prepared> {
        self.shared.space.for_sources()?;
        let hash = |text: &str| self.shared.hash_key.short(&[text.as_bytes()]);
        let mut answers = Vec::with_capacity(lines.len());
        let mut minimals = Vec::with_capacity(lines.len());
        let mut kept = Vec::new();
        {
            let context = self.context(source, Authority::Source, &hash);
            for (line, bytes) in lines {
                match worker.lines.read(bytes, &self.shared.catalogue, &self.shared.detector, &context) {
                    Ok(minimal) => minimals.push((*line, minimal, None)),
                    Err(refusal) => {
                        let name = |kind: KindId| Arc::clone(&self.shared.kind_names[usize::from(kind.0)]);
                        let refused = Refused { refusal, kind: worker.lines.last_kind().map(name) };
                        if !worker.kept_already {
                            kept.extend(crate::quarantine::record(source, bytes, &refused, &self.shared.detector));
                        }
                        answers.push((*line, Err(refused)));
                    }
                }
            }
        }
        // That it can't be kept is no reason to refuse what is good beside it.
        if !kept.is_empty()
            && let Err(error) = self.quarantine(source, kept)
        {
            eprintln!("candor: refused lines could not be kept: {error:#}");
        }
        self.define(worker, minimals.iter().map(|(_, minimal, _)| minimal.kind))?;
        let sealed = self.seal_all(worker, source, minimals)?;
        Ok(Prepared { answers, sealed })
    }

    /// Keeps refused lines: each once, and of a source so many in a minute.
    fn quarantine(&self, source: &str, mut records: Vec<OwnRecord>) -> Result<()> {
        if self.shared.not_kept.contains(source) {
            return Ok(());
        }
        let mut new = Vec::new();
        for record in records.drain(..) {
            let id = record.fields["event_id"].as_str().unwrap_or_default();
            if self.shared.reader.find_id(&self.entry_id("candor", id.as_bytes()).0)?.is_none() {
                new.push(record);
            }
        }
        let room = self.room_in_minute(&self.shared.quarantined, source, new.len() as u32, LINES_A_MINUTE)?;
        new.truncate(room as usize);
        if new.is_empty() { Ok(()) } else { self.try_own(new).map(drop) }
    }

    /// How many of these still fit into a source's minute; they are counted.
    fn room_in_minute(
        &self,
        counted: &Mutex<(u64, HashMap<String, u32>)>,
        source: &str,
        wanted: u32,
        most: u32,
    ) -> Result<u32> {
        let minute = self.shared.clock.now().0 / 60_000;
        let mut held = counted.lock().map_err(|_| anyhow!("another thread failed"))?;
        if held.0 != minute {
            *held = (minute, HashMap::new());
        }
        let count = held.1.entry(source.to_owned()).or_default();
        let room = wanted.min(most.saturating_sub(*count));
        *count += wanted;
        Ok(room)
    }

    /// Begins to make durable what prepared batches need, while they wait for their turn.
    pub fn nudge_keys(&self) {
        let _ = self.shared.keys.try_send(());
    }

    /// Hands a prepared batch to the writer. Batches are committed in the order in which they are sent.
    pub fn send(&self, prepared: Prepared) -> Result<Sent> {
        let Sealing { items, links, needs } = prepared.sealed;
        let receiver = self.shared.submitter.submit(Batch { items, needs: needs.0 })?;
        Ok(Sent { answers: prepared.answers, links, receiver })
    }

    /// Waits for the writer's answer to a batch.
    pub fn land(&self, worker: &mut Worker, source: &str, sent: Sent) -> Result<Vec<LineAnswer>> {
        let Sent { mut answers, links, receiver } = sent;
        let mut accepted = Vec::with_capacity(links.lines.len());
        let again = self.outcomes(source, links, &receiver, &mut accepted)?;
        accepted.extend(self.submit(worker, source, again)?);
        answers.extend(accepted.into_iter().map(|(line, accepted)| (line, Ok(accepted))));
        Ok(answers)
    }

    /// Records Candor's own.
    pub fn own(&self, records: Vec<OwnRecord>) -> std::result::Result<Vec<u64>, String> {
        self.try_own(records).map_err(|error| format!("{error:#}"))
    }

    /// Records one thing of Candor's own; its index.
    pub fn own_one(&self, kind: &'static str, fields: Value) -> Result<u64> {
        let indexes = self.try_own(vec![OwnRecord { kind, fields, subject: None }])?;
        indexes.first().copied().context("the record has no index")
    }

    fn try_own(&self, records: Vec<OwnRecord>) -> Result<Vec<u64>> {
        self.shared.space.for_own()?;
        let mut worker = Worker::default();
        let mut minimals = Vec::with_capacity(records.len());
        for (line, record) in records.into_iter().enumerate() {
            let minimal = self.own_minimal(&mut worker, &record)?;
            minimals.push((line as u64, minimal, record.subject));
        }
        // TRAIL_OPENED is entry 0; its own definition follows it.
        let opening = self.shared.reader.size() == 0;
        let kinds: Vec<KindId> = minimals.iter().map(|(_, minimal, _)| minimal.kind).collect();
        if !opening {
            self.define(&mut worker, kinds.iter().copied())?;
        }
        let mut answers = self.submit(&mut worker, "candor", minimals)?;
        if opening {
            self.define(&mut worker, kinds.iter().copied())?;
        }
        answers.sort_by_key(|(line, _)| *line);
        Ok(answers
            .into_iter()
            .map(|(_, accepted)| match accepted {
                Accepted::Committed { index, .. } | Accepted::Repeated { index, .. } | Accepted::Conflict { index } => {
                    index
                }
            })
            .collect())
    }

    fn own_minimal(&self, worker: &mut Worker, record: &OwnRecord) -> Result<Minimal> {
        let now = self.shared.clock.now().rfc3339();
        let event_id = match record.fields.get("event_id") {
            Some(Value::String(id)) => id.clone(),
            _ => proof::encoding::hex(&worker.random.take::<16>()),
        };
        let mut line = json!({
            "timestamp": now, "event_type": record.kind, "correlation_id": event_id, "source_component": "candor",
            "environment": self.shared.environment, "severity": "info", "event_id": event_id,
        });
        if let (Value::Object(line), Value::Object(fields)) = (&mut line, &record.fields) {
            fields.iter().for_each(|(name, value)| {
                line.insert(name.clone(), value.clone());
            });
        }
        let hash = |text: &str| self.shared.hash_key.short(&[text.as_bytes()]);
        let context = self.context("candor", Authority::Candor, &hash);
        worker
            .lines
            .read(line.to_string().as_bytes(), &self.shared.catalogue, &self.shared.detector, &context)
            .map_err(|refusal| anyhow!("record {}: {refusal}", record.kind))
    }

    /// Writes KIND_DEFINED before a kind's first use in the trail. Whether it was is asked of the ledger by entry id,
    /// so nothing else has to remember it.
    fn define(&self, worker: &mut Worker, kinds: impl Iterator<Item = KindId>) -> Result<()> {
        let mut new: Vec<KindId> = Vec::new();
        {
            let defined = self.shared.defined.lock().map_err(|_| anyhow!("another thread failed"))?;
            for kind in kinds {
                if !defined.contains(&kind) && !new.contains(&kind) {
                    new.push(kind);
                }
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        // One worker at a time: what the other has just defined is then found.
        let _one = self.shared.defining.lock().map_err(|_| anyhow!("another thread failed"))?;
        let definition = self.shared.catalogue.newest("KIND_DEFINED").context("the catalogue has no KIND_DEFINED")?;
        if !new.contains(&definition) {
            new.insert(0, definition);
        }
        let mut minimals = Vec::new();
        for id in &new {
            let kind = self.shared.catalogue.kind(*id);
            let digest = proof::hash::sha256(kind.schema.as_bytes()).hex();
            let event_id = format!("kind/{}/{}/{digest}", kind.name, kind.version);
            let entry_id = self.entry_id("candor", event_id.as_bytes());
            if self.shared.reader.find_id(&entry_id.0)?.is_none() {
                let fields = json!({"kind_name": kind.name, "kind_number": kind.version, "schema_sha256": digest, "schema": kind.schema, "event_id": event_id});
                let minimal = self.own_minimal(worker, &OwnRecord { kind: "KIND_DEFINED", fields, subject: None })?;
                minimals.push((0, minimal, None));
            }
        }
        if !minimals.is_empty() {
            self.submit(worker, "candor", minimals)?;
        }
        self.shared.defined.lock().map_err(|_| anyhow!("another thread failed"))?.extend(new);
        Ok(())
    }

    fn entry_id(&self, source: &str, client: &[u8]) -> EntryId {
        let (source_length, client_length) = ((source.len() as u32).to_be_bytes(), (client.len() as u32).to_be_bytes());
        EntryId(self.shared.id_key.short(&[&source_length, source.as_bytes(), &client_length, client]))
    }

    fn submit(&self, worker: &mut Worker, source: &str, minimals: Vec<Waiting>) -> Result<Vec<(u64, Accepted)>> {
        let mut accepted = Vec::with_capacity(minimals.len());
        let mut waiting = minimals;
        while !waiting.is_empty() {
            let Sealing { items, links, needs } = self.seal_all(worker, source, waiting)?;
            let receiver = self.shared.submitter.submit(Batch { items, needs: needs.0 })?;
            waiting = self.outcomes(source, links, &receiver, &mut accepted)?;
        }
        Ok(accepted)
    }

    /// Waits for the writer; gives back the records to be sealed again, since their subject was erased meanwhile.
    fn outcomes(
        &self,
        source: &str,
        links: Links,
        receiver: &Receiver<Answer<Companion>>,
        accepted: &mut Vec<(u64, Accepted)>,
    ) -> Result<Vec<Waiting>> {
        let outcomes =
            receiver.recv().map_err(|_| anyhow!("the writer stopped"))?.map_err(|error| anyhow!("{error}"))?;
        let (mut waiting, before) = (Vec::new(), accepted.len());
        for (line, outcome) in links.lines.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Committed { index, leaf } => accepted.push((line, Accepted::Committed { index, leaf })),
                Outcome::Repeated { index, companion } => {
                    accepted.push((line, self.compare(index, &companion, source)?))
                }
                Outcome::KeyGone { companion, subject, erased } => {
                    let mut minimal = companion.minimal;
                    if erased {
                        minimal.drop_personal();
                    }
                    waiting.push((line, minimal, subject));
                }
            }
        }
        let repeated =
            accepted[before..].iter().filter(|(_, accepted)| matches!(accepted, Accepted::Repeated { .. })).count();
        self.note_sightings(source, repeated as u64)?;
        if !links.joined.is_empty() {
            let records = links.joined.into_iter().map(|(a, b)| OwnRecord {
                kind: "SUBJECT_LINKED",
                fields: json!({"subjects": [a, b], "reason_category": "address_beside_customer_id"}),
                subject: None,
            });
            self.try_own(records.collect())?;
        }
        Ok(waiting)
    }

    fn seal_all(&self, worker: &mut Worker, source: &str, minimals: Vec<Waiting>) -> Result<Sealing> {
        let mut prepared: Vec<Resolving> = Vec::with_capacity(minimals.len());
        let mut links = Links::default();
        for (line, minimal, subject) in minimals {
            let document = match &self.shared.documents {
                Some(documents) => documents.of(&minimal),
                None => Document::empty(),
            };
            let period = (0, Key::from_bytes([0; 32]));
            prepared.push(Resolving { minimal, document, line, subject: None, known_subject: subject, period });
        }
        let (generation, needs) = self.resolve(source, &mut prepared, &mut links)?;
        let mut items = Vec::with_capacity(prepared.len());
        for record in prepared {
            items.push(self.seal_one(worker, source, record, generation)?);
        }
        Ok(Sealing { items, links, needs })
    }

    /// Everything that needs the key store, under one lock for the batch.
    fn resolve(&self, source: &str, prepared: &mut [Resolving], links: &mut Links) -> Result<(u64, Ticket)> {
        use record::identifier::IdentifierType;
        let tags: Vec<Vec<seal::store::IdentifierTag>> = prepared
            .iter()
            .map(|record| {
                let tag = |(kind, normal): &(IdentifierType, String)| {
                    seal::store::identifier_tag(&self.shared.identifier, *kind, normal)
                };
                // What somebody says of themselves joins nothing: the strongest alone says whose the record is.
                let most = if self.shared.claimed.contains(source) { 1 } else { usize::MAX };
                record.minimal.identifiers.iter().take(most).map(tag).collect()
            })
            .collect();
        let now = self.shared.clock.now();
        let mut store = self.shared.store.lock()?;
        for (record, tags) in prepared.iter_mut().zip(&tags) {
            links.lines.push(record.line);
            if record.minimal.has_personal() || record.known_subject.is_some() {
                let resolved = match record.known_subject {
                    Some(number) => store
                        .subject(number)?
                        .map_or(Resolved::Erased, |subject| Resolved::Subject { subject, linked: None }),
                    None => store.resolve(tags, now.day())?,
                };
                match resolved {
                    Resolved::Subject { subject, linked } => {
                        links.joined.extend(linked.map(|other| (subject.number, other)));
                        record.subject = Some((subject.sealing, subject.tagger));
                    }
                    Resolved::Erased => {
                        record.minimal.drop_personal();
                        if let Some(documents) = &self.shared.documents {
                            record.document = documents.of(&record.minimal);
                        }
                    }
                }
            }
            let period = store.period(record.minimal.class, record.minimal.timestamp, now)?;
            if period.late {
                record.minimal.set_fact(number::LATE, b"true");
            }
            record.period = (period.id, period.key);
        }
        Ok((store.generation(), store.ticket()))
    }

    fn seal_one(
        &self,
        worker: &mut Worker,
        source: &str,
        record: Resolving,
        generation: u64,
    ) -> Result<Item<Companion>> {
        let Resolving { minimal, document, subject, period, .. } = record;
        let id = match minimal.event_id() {
            Some(client) => self.entry_id(source, client),
            None => self.entry_id(source, format!("sha256:{}", proof::hash::sha256(&minimal.canonical())).as_bytes()),
        };
        let keys = SealingKeys {
            origin: &self.shared.origin,
            period: (period.0, &period.1),
            subject: subject.as_ref().map(|(key, tagger)| (key, tagger.clone())),
            nonce: worker.random.take(),
        };
        let facts: Vec<Field<'_>> = minimal.fields(FieldClass::Fact).collect();
        let personal: Vec<Field<'_>> = minimal.fields(FieldClass::Personal).collect();
        let sealed = seal(&keys, id, &facts, &personal)?;
        let kind = Arc::clone(&self.shared.kind_names[usize::from(minimal.kind.0)]);
        let class = minimal.class.class().name;
        Ok(Item {
            sealed,
            kind,
            class,
            generation,
            companion: Companion { minimal, document, derived_id: worker.derived_ids },
        })
    }

    fn note_sightings(&self, source: &str, count: u64) -> Result<()> {
        if count > 0 && source != "candor" {
            let now = self.shared.clock.now();
            let mut held = self.shared.sightings.lock().map_err(|_| anyhow!("another thread failed"))?;
            let sighting = held.entry(source.to_owned()).or_insert((0, now, now));
            (sighting.0, sighting.2) = (sighting.0 + count, now);
        }
        Ok(())
    }

    /// Records how often what is there already came again since the last call, one record a source: once a minute, and
    /// at the end.
    pub fn record_sightings(&self) -> Result<()> {
        let taken = std::mem::take(&mut *self.shared.sightings.lock().map_err(|_| anyhow!("another thread failed"))?);
        let record = |(source, (count, from, to)): (String, (u64, UnixMillis, UnixMillis))| {
            let fields = json!({"from_source": source, "count": count, "window_from": from.rfc3339(), "window_to": to.rfc3339()});
            OwnRecord { kind: "SIGHTINGS", fields, subject: None }
        };
        let records: Vec<OwnRecord> = taken.into_iter().map(record).collect();
        if records.is_empty() { Ok(()) } else { self.try_own(records).map(drop) }
    }

    /// A repeat must say the same: the stored bodies are opened and compared.
    fn compare(&self, index: u64, companion: &Companion, source: &str) -> Result<Accepted> {
        let stored = self.shared.reader.entry(index)?;
        let age_ms = self.shared.clock.now().0.saturating_sub(stored.entry()?.at.0);
        let late = age_ms > REPEAT_WINDOW_MS;
        // Without a client id the id is the hash of the content: equal by construction.
        if companion.derived_id || companion.minimal.event_id().is_none() {
            return Ok(Accepted::Repeated { index, compared: true, late });
        }
        let Some(same) = self.same(&stored, &companion.minimal)? else {
            return Ok(Accepted::Repeated { index, compared: false, late });
        };
        if same {
            return Ok(Accepted::Repeated { index, compared: true, late });
        }
        if self.conflict_is_detailed(source)? {
            let fields = json!({"from_source": source, "entry": index, "compared": true});
            self.try_own(vec![OwnRecord { kind: "INPUT_CONFLICT", fields, subject: None }])?;
        }
        Ok(Accepted::Conflict { index })
    }

    /// Whether one more conflict of this source gets a record of its own in this minute. Further ones are counted with
    /// what was refused, so that one bad client can't fill the trail.
    fn conflict_is_detailed(&self, source: &str) -> Result<bool> {
        Ok(self.room_in_minute(&self.shared.conflicts, source, 1, CONFLICTS_DETAILED_MAX)? == 1)
    }

    /// Whether the stored facts are those of `minimal`, and its personal body too; `None` if the facts are gone.
    fn same(&self, stored: &ledger::reader::StoredEntry, minimal: &Minimal) -> Result<Option<bool>> {
        let entry = stored.entry()?;
        let Some(bytes) = &stored.sealed else { return Ok(None) };
        let parts = seal::sealed::Parts::parse(bytes)?;
        let (period, subject) = {
            let mut store = self.shared.store.lock()?;
            let Ok(period) = store.period_by_id(parts.period) else { return Ok(None) };
            let subject = match &self.shared.views {
                Some(views) => views.owner(stored.index)?,
                None => None,
            };
            let subject = match subject {
                Some(number) => store.subject(number)?.map(|subject| subject.sealing),
                None => None,
            };
            (period, subject)
        };
        let keys = seal::sealed::OpeningKeys {
            origin: &self.shared.origin,
            id: entry.id,
            period: &period,
            subject: subject.as_ref(),
        };
        let sent = |fields: Vec<Field<'_>>| -> Vec<(u16, Vec<u8>)> {
            fields
                .iter()
                .filter(|f| !(number::LATE..=number::DROPPED).contains(&f.number))
                .map(|f| (f.number, f.value.to_vec()))
                .collect()
        };
        let facts = parts.open(&keys, Role::Facts, &entry.facts)?;
        let new_facts: Vec<Field<'_>> = minimal.fields(FieldClass::Fact).collect();
        if sent(facts.fields()) != sent(new_facts) {
            return Ok(Some(false));
        }
        let Some(personal) = &entry.personal else {
            return Ok(Some(true));
        };
        Ok(match parts.open(&keys, Role::Personal, &personal.commitment) {
            Ok(body) => Some(sent(body.fields()) == sent(minimal.fields(FieldClass::Personal).collect())),
            // Another person, or one who was erased: what can be compared is the same.
            Err(_) => Some(true),
        })
    }
}

#[derive(Default)]
struct Links {
    lines: Vec<u64>,
    joined: Vec<(u64, u64)>,
}

/// What is kept of refusals: how many of a source broke which rule, and no content.
pub fn refusal_record(source: &str, why: &Why, count: u64) -> OwnRecord {
    let mut fields = json!({"from_source": source, "code": why.code, "count": count});
    if let Some(kind) = &why.kind {
        fields["kind_name"] = json!(kind.as_ref());
    }
    if let Some(rule) = why.rule {
        fields["rule"] = json!(rule);
    }
    OwnRecord { kind: "INPUT_REFUSED", fields, subject: None }
}
