//! Verification of a whole trail: every byte below `journal/` is re-hashed, without keys, in parallel by segment.
//!
//! A segment is checked from the state that its header names; then each header must be the end state of the segment
//! before. So segments can be read in any order, and a run can go on where another was cut off.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use proof::checkpoint::Checkpoint;
use proof::hash::{Hash, sha256};
use proof::note::{Note, VerifierKey};
use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::entries::{Bodies, EntrySection, rebuild};
use crate::error::{Error, io};
use crate::frame::{Broken, Frame, SectionKind};
use crate::guard::HighWater;
use crate::segment::{HEADER_BYTES_MAX, Identity, Position, SegmentHeader, file_name};

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Segment number.
    pub segment: u32,
    /// Frame number, if it is known.
    pub frame: Option<u64>,
    /// Entry index, if it is known.
    pub entry: Option<u64>,
    /// What does not fit.
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.entry, self.frame) {
            (Some(entry), _) => write!(f, "entry {entry}: ")?,
            (None, Some(frame)) => write!(f, "frame {frame}: ")?,
            (None, None) => write!(f, "segment {}: ", self.segment)?,
        }
        f.write_str(&self.what)
    }
}

/// What a run found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the trail.
    pub origin: String,
    /// Its first verifier key.
    pub vkey: String,
    /// All that it has had, the newest last.
    pub keys: Vec<String>,
    /// Entries checked.
    pub entries: u64,
    /// Frames checked.
    pub frames: u64,
    /// Segments checked.
    pub segments: u32,
    /// Bytes re-hashed.
    pub bytes: u64,
    /// Entries whose bodies have ended, by the entry that ended them.
    pub ended: BTreeMap<u64, u64>,
    /// Size and root of the last signed checkpoint in the journal.
    pub signed_size: u64,
    /// Entries after the last checkpoint that the journal itself carries.
    pub unsigned_tail: u64,
    /// The first thing that does not fit, in the order of the trail.
    pub finding: Option<Finding>,
}

impl Report {
    /// Whether everything fits.
    pub fn holds(&self) -> bool {
        self.finding.is_none()
    }
}

/// What a caller may add.
#[derive(Default)]
pub struct Options<'a> {
    /// The key that the reader trusts.
    pub key: Option<&'a VerifierKey>,
    /// The high-water mark, if the reader has it.
    pub mark: Option<&'a HighWater>,
    /// Threads; 0 = one for each core.
    pub threads: usize,
    /// Segments checked by an earlier run.
    pub done: BTreeMap<u32, SegmentState>,
    /// How to wait for a writer that may be in the middle of its last frame; `None` if nobody writes.
    pub settle: Option<&'a (dyn Fn() + Sync)>,
}

/// How often the last segment is read again because it grew while it was read.
const SETTLE_TRIES: usize = 20;

/// How a whole segment begins and ends: enough to join segments checked at different times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentState {
    /// Length of the file.
    pub length: u64,
    /// H of the whole file.
    pub file: String,
    header: String,
    end: String,
    chain: String,
    /// The trail's keys as its header has them.
    keys: Vec<String>,
    /// Digests of the changes by which they follow.
    changes: Vec<String>,
    /// Whether the newest of these was made where the segment begins.
    changes_here: bool,
    entries: u64,
    frames: u64,
    signed_size: u64,
    ended: BTreeMap<u64, u64>,
    /// What stands beside it and should not, by frame: it holds all the same.
    #[serde(default)]
    odd: Option<(u64, String)>,
}

/// Progress, read by another thread while a run goes on.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes done.
    pub bytes: AtomicU64,
    /// Entries done.
    pub entries: AtomicU64,
}

/// A digest of everything a position says.
fn digest(position: &Position) -> String {
    let header = SegmentHeader {
        number: 0,
        position: position.clone(),
        before: Hash::default(),
        identity: Identity::new(String::new(), String::new()),
    };
    sha256(&header.to_bytes()).hex()
}

/// Checks the journal in `disk`.
///
/// `each` is told of every segment that is whole, for a later [`Options::done`].
///
/// # Errors
/// The journal could not be read at all; anything that does not fit is a [`Finding`], not an error.
pub fn verify(
    disk: &dyn Disk,
    options: &Options<'_>,
    progress: &Progress,
    each: &(dyn Fn(u32, &SegmentState) + Sync),
) -> Result<Report, Error> {
    let count = match disk.segments() {
        Ok(count) => count,
        Err(Error::Corrupt { what, why }) => return Ok(hopeless(0, format!("{what}: {why}"))),
        Err(error) => return Err(error),
    };
    if count == 0 {
        return Ok(hopeless(0, "there is no segment".into()));
    }
    let results: Mutex<BTreeMap<u32, Result<SegmentState, Finding>>> = Mutex::default();
    let failure: Mutex<Option<Error>> = Mutex::default();
    let next = AtomicU32::new(0);
    let threads = if !disk.replaces() {
        // A segment of objects may be eight times as large as one in a folder.
        2
    } else if options.threads == 0 {
        std::thread::available_parallelism().map_or(2, usize::from)
    } else {
        options.threads
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.min(count as usize) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || failure.lock().is_ok_and(|failure| failure.is_some()) {
                        return;
                    }
                    let last = number + 1 == count;
                    match settled(disk, number, options.settle.filter(|_| last), options, progress) {
                        Ok(result) => {
                            if let Ok(state) = &result {
                                each(number, state);
                            }
                            if let Ok(mut results) = results.lock() {
                                results.insert(number, result);
                            }
                        }
                        Err(error) => {
                            if let Ok(mut failure) = failure.lock() {
                                *failure = Some(error);
                            }
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = failure.into_inner().map_err(|_| Error::Stopped)? {
        return Err(error);
    }
    join(disk, results.into_inner().map_err(|_| Error::Stopped)?, options)
}

fn hopeless(segment: u32, what: String) -> Report {
    let finding = Some(Finding { segment, frame: None, entry: None, what });
    Report {
        origin: String::new(),
        vkey: String::new(),
        keys: Vec::new(),
        entries: 0,
        frames: 0,
        segments: 0,
        bytes: 0,
        ended: BTreeMap::new(),
        signed_size: 0,
        unsigned_tail: 0,
        finding,
    }
}

/// Joins the segments' results in order; the first thing that does not fit wins.
fn join(
    disk: &dyn Disk,
    results: BTreeMap<u32, Result<SegmentState, Finding>>,
    options: &Options<'_>,
) -> Result<Report, Error> {
    let mut report = Report { finding: None, ..hopeless(0, String::new()) };
    let mut expected: Option<(String, String)> = None;
    let mut odd = None;
    let mut changes: &[String] = &[];
    // Whoever trusts any of the keys is shown how the others follow from it.
    let keys = results.values().rev().find_map(|result| result.as_ref().ok()).map(|state| &*state.keys);
    let known = |key: &VerifierKey| keys.is_none_or(|keys| keys.contains(&key.to_string()));
    for (number, result) in &results {
        let finding = |what: &str| Some(Finding { segment: *number, frame: None, entry: None, what: what.to_owned() });
        let state = match result {
            Ok(state) => state,
            Err(found) => {
                report.finding = Some(found.clone());
                break;
            }
        };
        if *number == 0 {
            report.vkey = state.keys.first().cloned().unwrap_or_default();
            report.origin = VerifierKey::parse(&report.vkey).map(|key| key.name().to_owned()).unwrap_or_default();
            if options.key.is_some_and(|key| !known(key)) {
                report.finding = finding("the trail has another key than the one given");
                break;
            }
        }
        if state.keys.first() != Some(&report.vkey) {
            report.finding = finding("it is signed by another key than the trail began with");
            break;
        }
        match state.changes.strip_prefix(changes) {
            Some([]) => {}
            Some([_]) if state.changes_here => {}
            _ => {
                report.finding = finding("its key changes do not follow those of the segment before");
                break;
            }
        }
        (changes, report.keys) = (&state.changes, state.keys.clone());
        if expected.as_ref().is_some_and(|(end, chain)| *end != state.header || *chain != header_before(disk, *number))
        {
            report.finding = finding("it does not follow the segment before");
            break;
        }
        if let Some((frame, what)) = state.odd.clone().filter(|_| odd.is_none()) {
            odd = Some(Finding { segment: *number, frame: Some(frame), entry: None, what });
        }
        expected = Some((state.end.clone(), state.chain.clone()));
        report.segments += 1;
        report.entries += state.entries;
        report.frames += state.frames;
        report.bytes += state.length;
        report.signed_size = report.signed_size.max(state.signed_size);
        state.ended.iter().for_each(|(by, count)| *report.ended.entry(*by).or_default() += count);
    }
    report.unsigned_tail = report.entries.saturating_sub(report.signed_size);
    if report.finding.is_none() {
        report.finding = against_mark(disk, &report, options)?;
    }
    // What was planted hides nothing that is wrong.
    report.finding = report.finding.or(odd);
    Ok(report)
}

fn header_before(disk: &dyn Disk, number: u32) -> String {
    crate::directory::read_header(disk, number).map(|(header, _)| header.before.hex()).unwrap_or_default()
}

/// The journal must reach the high-water mark and have the frame it names.
fn against_mark(disk: &dyn Disk, report: &Report, options: &Options<'_>) -> Result<Option<Finding>, Error> {
    let Some(mark) = options.mark else { return Ok(None) };
    let finding =
        |frame, what: String| Some(Finding { segment: report.segments.saturating_sub(1), frame, entry: None, what });
    if mark.size > report.entries || mark.frame >= report.frames {
        let what = format!(
            "the trail ends here, and {} signed entries after it are missing",
            mark.size.saturating_sub(report.entries)
        );
        return Ok(finding(Some(report.frames), what));
    }
    let mut segment = report.segments;
    while segment > 0 {
        segment -= 1;
        let (header, _) = crate::directory::read_header(disk, segment)?;
        if header.position.frame <= mark.frame {
            let scan = crate::directory::scan(disk, segment, |_, _| Ok(()))?;
            let held = scan.frames.iter().find(|frame| frame.header.number == mark.frame);
            if held.is_none_or(|frame| frame.header.digest != mark.digest) {
                return Ok(finding(Some(mark.frame), "it is not the frame that the high-water mark names".into()));
            }
            return Ok(None);
        }
    }
    Ok(None)
}

/// Checks one segment; if it is being written to, what does not fit counts only once it has stopped growing.
fn settled(
    disk: &dyn Disk,
    number: u32,
    settle: Option<&(dyn Fn() + Sync)>,
    options: &Options<'_>,
    progress: &Progress,
) -> Result<Result<SegmentState, Finding>, Error> {
    let length = || disk.length(&file_name(number)).map_err(io("read", format!("segment {number}")));
    let mut before = length()?;
    let mut result = segment(disk, number, options, progress)?;
    for _ in 0..SETTLE_TRIES {
        let (Err(_), Some(wait)) = (&result, settle) else { break };
        wait();
        let now = length()?;
        if now == before {
            break;
        }
        before = now;
        result = segment(disk, number, options, progress)?;
    }
    if let Ok(state) = &mut result {
        // What counts holds; what was planted over it is told all the same.
        let odd = disk.odd(number).map_err(io("read", format!("segment {number}")))?;
        state.odd = odd.into_iter().next();
    }
    Ok(result)
}

/// Checks one segment from the state that its header names.
fn segment(
    disk: &dyn Disk,
    number: u32,
    options: &Options<'_>,
    progress: &Progress,
) -> Result<Result<SegmentState, Finding>, Error> {
    let name = file_name(number);
    let what = format!("segment {number}");
    let length = disk.length(&name).map_err(io("read", &what))?;
    let bytes = disk.read(&name, 0, length as usize).map_err(io("read", &what))?;
    if let Some(done) = options.done.get(&number).filter(|done| done.length == length)
        && sha256(&bytes).hex() == done.file
    {
        progress.bytes.fetch_add(length, Ordering::Relaxed);
        progress.entries.fetch_add(done.entries, Ordering::Relaxed);
        return Ok(Ok(done.clone()));
    }
    check(number, &bytes, progress)
}

/// Whether the bytes of two segments say the same of the trail, each of which must be right in itself.
pub(crate) fn same_trail(number: u32, old: &[u8], new: &[u8]) -> Result<bool, Error> {
    let progress = Progress::default();
    let (old, new) = (check(number, old, &progress)?, check(number, new, &progress)?);
    let said = |state: &SegmentState| {
        (state.length, state.header.clone(), state.end.clone(), state.chain.clone(), state.entries, state.frames)
    };
    Ok(old.is_ok_and(|old| new.is_ok_and(|new| said(&old) == said(&new))))
}

/// Checks the bytes of one segment.
fn check(number: u32, bytes: &[u8], progress: &Progress) -> Result<Result<SegmentState, Finding>, Error> {
    let length = bytes.len() as u64;
    let broken = |frame: Option<u64>, entry: Option<u64>, what: String| Finding { segment: number, frame, entry, what };
    let (header, mut at) = match SegmentHeader::parse(&bytes[..bytes.len().min(HEADER_BYTES_MAX + 4)]) {
        Ok(found) => found,
        Err(Broken::Newer(version)) => return Err(Error::NewerVersion { what: "segment", version }),
        Err(why) => return Ok(Err(broken(None, None, format!("its header: {why}")))),
    };
    if header.number != number {
        return Ok(Err(broken(None, None, "its header names another segment".into())));
    }
    if number == 0 && (header.position != Position::genesis(&header.identity) || header.before != Hash::default()) {
        return Ok(Err(broken(None, None, "it does not begin a trail".into())));
    }
    let keys = match header.identity.keys() {
        Ok(keys) => keys,
        Err(why) => return Ok(Err(broken(None, None, format!("its keys: {why}")))),
    };
    let mut state = SegmentState::begun(length, &header.position);
    state.keys = keys.iter().map(VerifierKey::to_string).collect();
    state.changes =
        header.identity.key_changes.iter().map(|change| sha256(change.to_text().as_bytes()).hex()).collect();
    state.changes_here = changes_here(&header, &keys);
    let mut position = header.position.clone();
    while at < bytes.len() {
        let start = position.range.size();
        match frame(&bytes[at..], &mut position, &keys, &mut state) {
            Ok(length) => at += length,
            Err(Wrong::Newer(version)) => return Err(Error::NewerVersion { what: "frame", version }),
            Err(Wrong::Here { entry, what }) => return Ok(Err(broken(Some(position.frame), entry, what))),
        }
        progress.entries.fetch_add(position.range.size() - start, Ordering::Relaxed);
    }
    progress.bytes.fetch_add(length, Ordering::Relaxed);
    state.file = sha256(bytes).hex();
    state.end = digest(&position);
    state.chain = header.chain(&position.before).hex();
    Ok(Ok(state))
}

/// Whether the newest change of the key is of the tree before this segment: what both keys signed is what the journal has.
pub(crate) fn changes_here(header: &SegmentHeader, keys: &[VerifierKey]) -> bool {
    let Some((change, before)) = header.identity.key_changes.last().zip(keys.iter().nth_back(1)) else { return false };
    let range = &header.position.range;
    change.verify(before).is_ok_and(|made| (made.checkpoint.size, made.checkpoint.root) == (range.size(), range.root()))
}

/// What stands at the beginning of some bytes.
pub(crate) enum FrameCheck {
    /// A frame that fits, of so many bytes.
    Whole(usize),
    /// No whole frame yet.
    Short,
    /// One that does not fit.
    Wrong(String),
}

/// Checks the frame at the start of bytes that are still coming, and moves the position over it.
pub(crate) fn check_frame(bytes: &[u8], position: &mut Position, keys: &[VerifierKey]) -> Result<FrameCheck, Error> {
    if matches!(Frame::parse(bytes), Err(Broken::Short)) {
        return Ok(FrameCheck::Short);
    }
    let mut state = SegmentState::begun(0, position);
    match frame(bytes, position, keys, &mut state) {
        Ok(length) => Ok(FrameCheck::Whole(length)),
        Err(Wrong::Newer(version)) => Err(Error::NewerVersion { what: "frame", version }),
        Err(Wrong::Here { entry: Some(entry), what }) => Ok(FrameCheck::Wrong(format!("entry {entry}: {what}"))),
        Err(Wrong::Here { entry: None, what }) => Ok(FrameCheck::Wrong(what)),
    }
}

impl SegmentState {
    fn begun(length: u64, position: &Position) -> SegmentState {
        SegmentState {
            length,
            file: String::new(),
            header: digest(position),
            end: String::new(),
            chain: String::new(),
            keys: Vec::new(),
            changes: Vec::new(),
            changes_here: false,
            entries: 0,
            frames: 0,
            signed_size: 0,
            ended: BTreeMap::new(),
            odd: None,
        }
    }
}

enum Wrong {
    Newer(u16),
    Here { entry: Option<u64>, what: String },
}

fn wrong(entry: Option<u64>, what: impl Into<String>) -> Wrong {
    Wrong::Here { entry, what: what.into() }
}

/// Checks the frame at the start of `bytes` against the position and moves it; gives the frame's length.
fn frame(
    bytes: &[u8],
    position: &mut Position,
    keys: &[VerifierKey],
    state: &mut SegmentState,
) -> Result<usize, Wrong> {
    let frame = Frame::parse(bytes).map_err(|why| match why {
        Broken::Newer(version) => Wrong::Newer(version),
        other => wrong(None, other.to_string()),
    })?;
    let header = &frame.header;
    if !header.checkpoint.is_empty() {
        let signed = carried(&header.checkpoint, keys)
            .map_err(|why| wrong(None, format!("the checkpoint it carries: {why}")))?;
        if (signed.size, signed.root) != (position.range.size(), position.range.root()) {
            return Err(wrong(None, "the checkpoint it carries is of another tree than the entries before it"));
        }
        state.signed_size = signed.size;
    } else if position.frame > 0 {
        return Err(wrong(None, "it does not carry the checkpoint of the frame before"));
    }
    // The entry is the better name for what is wrong; a wrong check sum alone still is wrong.
    check_entries(&frame, position, state)?;
    frame.clone().sound().map_err(|why| wrong(None, why.to_string()))?;
    crate::directory::apply(position, &frame).map_err(|why| wrong(None, why))?;
    state.frames += 1;
    state.entries += u64::from(frame.header.count);
    Ok(frame.bytes.len())
}

/// A checkpoint as a frame has it: signed by the newest key, and before it by the one before while both sign; nothing more.
pub(crate) fn carried(text: &str, keys: &[VerifierKey]) -> Result<Checkpoint, String> {
    let signed = Checkpoint::open(text.as_bytes(), keys).map_err(|why| why.to_string())?;
    let note = Note::parse(text.as_bytes()).map_err(|why| why.to_string())?;
    let lines: Vec<_> = note.signatures.iter().map(|line| (line.name, line.key_id)).collect();
    let ids: Vec<_> = keys.iter().map(|key| (key.name(), key.key_id())).collect();
    let newest = &ids[ids.len().saturating_sub(1)..];
    let both = &ids[ids.len().saturating_sub(2)..];
    if !signed.extensions.is_empty() || lines != newest && lines != both {
        return Err("it has more or less than its text and the signatures of the keys that sign".into());
    }
    Ok(signed)
}

/// Rebuilds every entry and compares leaf hashes and section digests.
fn check_entries(frame: &Frame<'_>, position: &Position, state: &mut SegmentState) -> Result<(), Wrong> {
    if frame.header.count == 0 {
        return Ok(());
    }
    let entries = frame.entries().map_err(|why| wrong(None, why.to_string()))?;
    let bodies = frame.all_bodies().map_err(|why| wrong(None, why.to_string()))?;
    check_tables(frame, &entries, &bodies)?;
    let mut digests: Vec<Vec<u8>> = bodies.iter().map(|body| Vec::with_capacity(32 * body.count())).collect();
    let used = rebuild(frame, &bodies, position.last_leaf, |made| {
        digests[made.section].extend_from_slice(&made.digest.0);
        if let Bodies::Ended { by, .. } = &bodies[made.section] {
            *state.ended.entry(*by).or_default() += 1;
        }
        true
    })
    .map_err(|(entry, why)| wrong(entry, why))?;
    for (section, (body, taken)) in bodies.iter().zip(&used).enumerate() {
        if body.count() != *taken {
            return Err(wrong(None, "a body section has records that no entry names"));
        }
        let row = &frame.sections[section + 2].row;
        if sha256(&digests[section]) != row.digest {
            return Err(wrong(None, "a body section's records are not those of its digest"));
        }
    }
    for section in frame.sections.iter().take(2) {
        if sha256(frame.payload(section)) != section.row.digest {
            let name = if section.row.kind == SectionKind::Leaves { "leaf" } else { "entry" };
            return Err(wrong(None, format!("its {name} section is not that of its digest")));
        }
    }
    Ok(())
}

/// Tables must have nothing that is not used, so that no byte is free to change.
fn check_tables(frame: &Frame<'_>, entries: &EntrySection<'_>, bodies: &[Bodies<'_>]) -> Result<(), Wrong> {
    let leaves = frame.sections.get(1).map_or(0, |section| section.payload.len());
    if leaves != 32 * entries.len() {
        return Err(wrong(None, "its leaf section has another length than its entries need"));
    }
    for section in frame.sections.iter().skip(2) {
        if let SectionKind::Bodies { class, .. } = section.row.kind
            && usize::from(class) >= entries.classes.len()
        {
            return Err(wrong(None, "a body section names no class"));
        }
    }
    if bodies.is_empty() {
        return Err(wrong(None, "it has entries and no bodies"));
    }
    Ok(())
}
