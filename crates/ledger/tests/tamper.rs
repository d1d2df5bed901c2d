//! Every field of every structure in a journal, as the format's own layout names them, is altered at least twenty
//! times; each is found, and what was altered is named.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::disk::Disk;
use ledger::frame::Frame;
use ledger::guard::HighWater;
use ledger::home::Home;
use ledger::segment::SegmentHeader;
use ledger::verify::{self, Report};
use proof::hash::sha256;
use support::{SimDisk, change_key, create, identity, mac, open, signer, write};

/// Every field that a journal has. A field of the layout that is not here fails the test, and so does one here that no
/// layout has.
const STRATA: [&str; 65] = [
    "segment magic",
    "segment version",
    "segment header length",
    "segment number",
    "segment first frame",
    "segment size",
    "segment range count",
    "segment range",
    "segment last leaf",
    "segment at",
    "segment epoch",
    "segment generation",
    "segment frame before",
    "segment before",
    "segment origin length",
    "segment origin",
    "segment vkey length",
    "segment vkey",
    "segment change count",
    "segment change length",
    "segment change",
    "segment check sum",
    "magic",
    "version",
    "header length",
    "number",
    "first index",
    "count",
    "at",
    "writer",
    "epoch",
    "generation",
    "frame before",
    "size",
    "root",
    "checkpoint length",
    "checkpoint",
    "section count",
    "section kind",
    "section class",
    "section period",
    "section digest",
    "header check sum",
    "section form",
    "section length",
    "entry table",
    "entry at",
    "entry kind",
    "entry class",
    "entry flags",
    "entry section",
    "entry id",
    "entry who",
    "entry facts",
    "entry personal",
    "leaf hashes",
    "body count",
    "body ends",
    "sealed records",
    "section check sum",
    "ended by",
    "ended digests",
    "frame removed",
    "segment removed",
    "tail cut",
];
/// Only journals with ended periods have these; the object is written by a later part, its format is fixed now.
const NOT_IN_THIS_TRAIL: [&str; 2] = ["ended by", "ended digests"];
const TIMES: usize = 20;

struct Trail {
    disk: Arc<SimDisk>,
    mark: HighWater,
    names: Vec<String>,
}

fn trail() -> Trail {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SimDisk::new();
    create(&disk);
    let mut ledger = open(&disk, folder.path()).expect("it opens");
    write(&mut ledger, 0..220, 9).map_err(|(_, e)| e).expect("written");
    // The last segments are signed by another key.
    change_key(&mut ledger, 1, 2);
    write(&mut ledger, 220..300, 9).map_err(|(_, e)| e).expect("written");
    ledger.close().expect("closed");
    let mark = HighWater::read(&folder.path().join("highwater"), Some(&mac())).expect("readable").expect("a mark");
    let names = disk.list().expect("names");
    assert!(names.len() >= 3, "several segments");
    Trail { disk, mark, names }
}

fn run(disk: &SimDisk, mark: Option<&HighWater>) -> Report {
    let options = verify::Options { mark, threads: 1, ..Default::default() };
    // A mark that points into something unreadable is an error of reading, which is as good as a finding here.
    match verify::verify(disk, &options, &Default::default(), &|_, _| {}) {
        Ok(report) => report,
        Err(error) => panic!("could not be checked: {error}"),
    }
}

/// Places of each field: (file, range, entries of the frame around it).
fn fields(trail: &Trail) -> BTreeMap<&'static str, Vec<(String, std::ops::Range<usize>)>> {
    let mut all: BTreeMap<&'static str, Vec<(String, std::ops::Range<usize>)>> = BTreeMap::new();
    for name in &trail.names {
        let bytes = trail.disk.get(name);
        let (header, mut at) = SegmentHeader::parse(&bytes).expect("whole");
        let mut covered = 0;
        for (field, range) in header.layout() {
            covered += range.len();
            all.entry(field).or_default().push((name.clone(), range));
        }
        while at < bytes.len() {
            let frame = Frame::parse(&bytes[at..]).expect("whole");
            for (field, range) in frame.layout() {
                covered += range.len();
                all.entry(field).or_default().push((name.clone(), at + range.start..at + range.end));
            }
            at += frame.bytes.len();
        }
        assert_eq!(covered, bytes.len(), "every byte belongs to a field");
    }
    all.retain(|_, places| {
        places.retain(|(_, range)| !range.is_empty());
        !places.is_empty()
    });
    all
}

#[test]
fn every_altered_field_is_found_and_named() {
    let trail = trail();
    assert!(run(&trail.disk, Some(&trail.mark)).holds());
    let fields = fields(&trail);
    for field in fields.keys() {
        assert!(STRATA.contains(field), "a field without a stratum: {field}");
    }
    let mut hits: BTreeMap<&str, usize> = BTreeMap::new();
    for (field, places) in &fields {
        for round in 0..TIMES {
            let dice = sha256(format!("{field} {round}").as_bytes()).0;
            let number = |at: usize| usize::from(u16::from_be_bytes([dice[at], dice[at + 1]]));
            let (name, range) = &places[number(0) % places.len()];
            let disk = trail.disk.copy();
            let mut bytes = disk.get(name);
            let at = range.start + number(2) % range.len();
            match round % 4 {
                0 => bytes[at] ^= 1 << (dice[4] % 8),
                1 => bytes.insert(at, dice[4]),
                2 => {
                    bytes.remove(at);
                }
                _ => {
                    let other = (at + 1 + number(4)) % bytes.len();
                    if bytes[at] == bytes[other] { bytes[at] ^= 0x80 } else { bytes.swap(at, other) }
                }
            }
            if bytes == disk.get(name) {
                bytes[at] ^= 0x40;
            }
            disk.set(name, bytes);
            let options = verify::Options { mark: Some(&trail.mark), threads: 1, ..Default::default() };
            match verify::verify(disk.as_ref(), &options, &Default::default(), &|_, _| {}) {
                Ok(report) => {
                    let finding =
                        report.finding.unwrap_or_else(|| panic!("{field} in {name} at {at}, round {round}: not found"));
                    assert!(finding.segment as usize <= trail.names.len());
                }
                // A version byte that says "newer" cannot be judged: exit 2, never 0.
                Err(error) => assert!(matches!(error, ledger::error::Error::NewerVersion { .. }), "{field}: {error}"),
            }
            *hits.entry(field).or_default() += 1;
        }
    }
    for stratum in STRATA.iter().take(62).filter(|stratum| !NOT_IN_THIS_TRAIL.contains(stratum)) {
        assert!(hits.get(stratum).is_some_and(|count| *count >= TIMES), "{stratum}");
    }
    println!("{} fields altered {TIMES} times each, all found", hits.len());
}

/// A flip inside one entry's sealed record, facts or leaf names that entry.
#[test]
fn the_first_bad_entry_is_named() {
    let trail = trail();
    let mut index = 0;
    for name in &trail.names {
        let bytes = trail.disk.get(name);
        let (_, mut at) = SegmentHeader::parse(&bytes).expect("whole");
        while at < bytes.len() {
            let frame = Frame::parse(&bytes[at..]).expect("whole");
            for (field, range) in frame.layout() {
                if field != "entry facts" {
                    continue;
                }
                if index % 11 == 0 {
                    let disk = trail.disk.copy();
                    let mut other = bytes.clone();
                    other[at + range.start + 3] ^= 4;
                    disk.set(name, other);
                    assert_eq!(run(&disk, None).finding.and_then(|finding| finding.entry), Some(index));
                }
                index += 1;
            }
            at += frame.bytes.len();
        }
    }
    assert_eq!(index, 301);
}

/// Frames with their check sums made good again: the chain, the tree and the signature find what CRC cannot.
#[test]
fn removed_swapped_and_cut_parts_are_found() {
    let trail = trail();
    let name = &trail.names[1];
    let bytes = trail.disk.get(name);
    let (_, header) = SegmentHeader::parse(&bytes).expect("whole");
    let mut frames = Vec::new();
    let mut at = header;
    while at < bytes.len() {
        let length = Frame::parse(&bytes[at..]).expect("whole").bytes.len();
        frames.push(at..at + length);
        at += length;
    }
    let mut found = 0;
    for (place, frame) in frames.iter().enumerate() {
        let disk = trail.disk.copy();
        let mut other = bytes.clone();
        other.drain(frame.clone());
        disk.set(name, other);
        assert!(!run(&disk, Some(&trail.mark)).holds(), "frame {place} removed");
        found += 1;
    }
    for segment in 0..trail.names.len() {
        let disk = trail.disk.copy();
        disk.delete(&trail.names[segment]);
        assert!(!run(&disk, Some(&trail.mark)).holds(), "segment {segment} removed");
        let disk = trail.disk.copy();
        disk.set(&trail.names[segment], trail.disk.get(&trail.names[(segment + 1) % trail.names.len()]));
        assert!(!run(&disk, Some(&trail.mark)).holds(), "segment {segment} replaced by another");
        found += 2;
    }
    // A tail cut at a frame's end leaves a good trail that is shorter: only the mark knows.
    let last = trail.names.last().expect("segments");
    let bytes = trail.disk.get(last);
    let (_, mut at) = SegmentHeader::parse(&bytes).expect("whole");
    while at < bytes.len() {
        let disk = trail.disk.copy();
        disk.set(last, bytes[..at].to_vec());
        let report = run(&disk, Some(&trail.mark));
        let finding = report.finding.expect("a cut tail");
        assert!(finding.what.contains("missing") || finding.what.contains("mark"), "{finding}");
        at += Frame::parse(&bytes[at..]).expect("whole").bytes.len();
        found += 1;
    }
    println!("{found} removals, replacements and cuts, all found");
}

#[test]
fn a_trail_signed_again_by_another_key_is_found() {
    let trail = trail();
    let folder = tempfile::tempdir().expect("a folder");
    let forged = SimDisk::new();
    ledger::ledger::Ledger::create(&Home::Directory(Arc::clone(&forged) as Arc<dyn Disk>), &identity(2)).expect("made");
    let mut options = support::options(&forged, folder.path());
    (options.identity, options.signers) = (identity(2), vec![signer(2)]);
    let mut ledger = ledger::ledger::Ledger::open(options).expect("it opens");
    write(&mut ledger, 0..220, 9).map_err(|(_, e)| e).expect("written");
    ledger.close().expect("closed");
    assert!(!run(&forged, Some(&trail.mark)).holds(), "the mark names other frames");
    let key = signer(1);
    let options = verify::Options { key: Some(key.verifier()), ..Default::default() };
    let report = verify::verify(forged.as_ref(), &options, &Default::default(), &|_, _| {}).expect("readable");
    assert!(report.finding.is_some_and(|finding| finding.what.contains("another key")));
    drop(ledger);
    // The same keys over other entries: what both signed there is no change here, though it follows from the first key.
    let (mine, others) = (SimDisk::new(), SimDisk::new());
    for (disk, from) in [(&mine, 0), (&others, 1000)] {
        create(disk);
        let folder = tempfile::tempdir().expect("a folder");
        let mut ledger = open(disk, folder.path()).expect("it opens");
        write(&mut ledger, from..from + 40, 9).map_err(|(_, e)| e).expect("written");
        change_key(&mut ledger, 1, 2);
        write(&mut ledger, from + 40..from + 50, 9).map_err(|(_, e)| e).expect("written");
        ledger.close().expect("closed");
    }
    let changed = |disk: &SimDisk| {
        let names = disk.list().expect("names");
        let with = |name: &String| {
            let bytes = disk.get(name);
            let (header, length) = SegmentHeader::parse(&bytes).expect("whole");
            (!header.identity.key_changes.is_empty()).then(|| (name.clone(), header, bytes[length..].to_vec()))
        };
        names.iter().find_map(with).expect("a segment after the change")
    };
    let (name, header, frames) = changed(&mine);
    let (_, other, _) = changed(&others);
    let put = |header: &SegmentHeader| {
        let disk = mine.copy();
        disk.set(&name, [header.to_bytes(), frames.clone()].concat());
        run(&disk, None).finding.map(|finding| finding.what).unwrap_or_default()
    };
    assert_eq!(put(&header), "");
    let swapped = SegmentHeader { identity: other.identity.clone(), ..header.clone() };
    assert!(put(&swapped).contains("key changes do not follow"), "{}", put(&swapped));
    let mut dropped = header.clone();
    dropped.identity.key_changes = Arc::default();
    assert!(put(&dropped).contains("signatures of the keys"), "{}", put(&dropped));
    let mut twice = header.clone();
    twice.identity.key_changes = [&header.identity.key_changes[..], &header.identity.key_changes[..]].concat().into();
    assert!(put(&twice).contains("its keys"), "{}", put(&twice));
    // A forged tail behind the true beginning.
    let mixed = trail.disk.copy();
    mixed.set(&trail.names[2], forged.get(&trail.names[2]));
    assert!(!run(&mixed, None).holds());
}
