//! A ledger over a simulated disk, with sealed records that need no key store.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::manual_is_multiple_of,
    reason = "each test file uses its part"
)]

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ledger::clock::Clock;
use ledger::disk::Disk;
use ledger::error::Error;
use ledger::home::Home;
use ledger::ledger::{Item, Ledger, Options, Outcome};
use ledger::segment::Identity;
use proof::commitment::{Field, Opening, commit, field_digest};
use proof::entry::EntryId;
use proof::hash::sha256;
use proof::key_change::{self, KeyChange};
use proof::note::{NoteSigner, TYPE_ED25519};
use proof::time::UnixMillis;
use seal::crypto::{Key, KeyedHash};
use seal::sealed::Sealed;
use seal::tag::Tagger;

#[derive(Default, Clone)]
struct File {
    /// What a reader of the running machine sees.
    seen: Vec<u8>,
    /// What is on the platter.
    durable: Vec<u8>,
    /// Whether the name itself is durable.
    named: bool,
    /// What a sync that failed left in memory alone: the kernel calls it clean, so a later sync does not write it either.
    gone: Vec<std::ops::Range<usize>>,
    /// What had its name before, and has it again where the new one does not become durable.
    before: Option<Box<File>>,
}

/// How the n-th call is to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens.
    NotDone,
    /// It happens, and an error is answered.
    DoneButFailed,
    /// Half of it happens.
    Half,
}

/// A disk that drops unsynced writes at a power cut, fails calls on demand, and after a failed sync still shows the
/// data to readers while it will be gone after the cut.
#[derive(Default)]
pub struct SimDisk {
    files: Mutex<HashMap<String, File>>,
    calls: AtomicU64,
    fault: Mutex<Option<(u64, Fault)>>,
    full_at: Mutex<Option<usize>>,
}

impl SimDisk {
    pub fn new() -> Arc<SimDisk> {
        Arc::default()
    }

    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.calls.store(0, Ordering::SeqCst);
        *self.fault.lock().unwrap() = Some((call, fault));
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    pub fn full_at(&self, bytes: Option<usize>) {
        *self.full_at.lock().unwrap() = bytes;
    }

    /// The machine loses power: of each file a part of what was not synced survives, as the seed has it.
    pub fn power_cut(&self, seed: u64) -> Arc<SimDisk> {
        let mut files = HashMap::new();
        for (place, (name, file)) in self.files.lock().unwrap().iter().enumerate() {
            let dice = sha256(&[seed.to_be_bytes(), (place as u64).to_be_bytes()].concat()).0;
            let mut file = file;
            if !file.named && dice[0] % 2 == 0 {
                match &file.before {
                    Some(before) => file = before.as_ref(),
                    None => continue,
                }
            }
            let common = file.durable.iter().zip(&file.seen).take_while(|(a, b)| a == b).count();
            assert_eq!(common, file.durable.len(), "this disk only appends");
            let unsynced = &file.seen[common..];
            let mut after = file.durable.clone();
            let keep = if unsynced.is_empty() {
                0
            } else {
                usize::from(u16::from_be_bytes([dice[1], dice[2]])) % (unsynced.len() + 1)
            };
            after.extend_from_slice(&unsynced[..keep]);
            // Reordered: a sector in the middle of what survived may not have been written.
            if keep > 600 && dice[3] % 3 == 0 {
                let at = common + keep / 3;
                after[at..at + 512.min(keep - keep / 3)].fill(0);
            }
            for range in file.gone.iter().filter(|_| dice[4] % 2 == 0) {
                let end = range.end.min(after.len());
                after[range.start.min(end)..end].fill(0);
            }
            files.insert(name.clone(), File { seen: after.clone(), durable: after, named: true, ..File::default() });
        }
        Arc::new(SimDisk { files: Mutex::new(files), ..SimDisk::default() })
    }

    pub fn copy(&self) -> Arc<SimDisk> {
        Arc::new(SimDisk { files: Mutex::new(self.files.lock().unwrap().clone()), ..SimDisk::default() })
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        self.files.lock().unwrap()[name].seen.clone()
    }

    pub fn set(&self, name: &str, bytes: Vec<u8>) {
        self.files
            .lock()
            .unwrap()
            .insert(name.to_owned(), File { seen: bytes.clone(), durable: bytes, named: true, ..File::default() });
    }

    pub fn delete(&self, name: &str) {
        self.files.lock().unwrap().remove(name);
    }

    fn call(&self) -> Option<Fault> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        match *self.fault.lock().unwrap() {
            Some((at, fault)) if at == call => Some(fault),
            _ => None,
        }
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<String, File>, bool) -> io::Result<()>) -> io::Result<()> {
        let fault = self.call();
        let mut files = self.files.lock().unwrap();
        if fault != Some(Fault::NotDone) {
            change(&mut files, fault == Some(Fault::Half))?;
        }
        match fault {
            Some(_) => Err(io::Error::other("the simulated disk failed")),
            None => Ok(()),
        }
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = self.files.lock().unwrap().keys().cloned().collect();
        names.sort();
        Ok(names)
    }
    fn create(&self, name: &str) -> io::Result<()> {
        self.change(|files, _| match files.contains_key(name) {
            true => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
            false => {
                files.insert(name.to_owned(), File::default());
                Ok(())
            }
        })
    }
    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let full = *self.full_at.lock().unwrap();
        self.change(|files, half| {
            let total: usize = files.values().map(|file| file.seen.len()).sum();
            let file = files.get_mut(name).ok_or_else(missing)?;
            let room = full.map_or(usize::MAX, |full| full.saturating_sub(total));
            let length = if half { bytes.len() / 2 } else { bytes.len() };
            file.seen.extend_from_slice(&bytes[..length.min(room)]);
            if length > room { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
        })
    }
    fn sync(&self, name: &str) -> io::Result<()> {
        let durable = self.files.lock().unwrap().get(name).map(|file| file.durable.len());
        let synced = self.change(|files, half| {
            let file = files.get_mut(name).ok_or_else(missing)?;
            let length =
                if half { file.durable.len() + (file.seen.len() - file.durable.len()) / 2 } else { file.seen.len() };
            file.durable = file.seen[..length].to_vec();
            Ok(())
        });
        if let (Err(_), Some(from), Some(file)) = (&synced, durable, self.files.lock().unwrap().get_mut(name)) {
            let from = from.max(file.durable.len());
            file.gone.push(from..file.seen.len());
        }
        synced
    }
    fn sync_folder(&self) -> io::Result<()> {
        self.change(|files, half| {
            for file in files.values_mut().take(if half { 1 } else { usize::MAX }) {
                (file.named, file.before) = (true, None);
            }
            Ok(())
        })
    }
    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let files = self.files.lock().unwrap();
        let bytes = &files.get(name).ok_or_else(missing)?.seen;
        let start = (offset as usize).min(bytes.len());
        Ok(bytes[start..(start + length).min(bytes.len())].to_vec())
    }
    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(self.files.lock().unwrap().get(name).ok_or_else(missing)?.seen.len() as u64)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|files, _| {
            let mut file = files.remove(from).ok_or_else(missing)?;
            file.named = false;
            // Of names that were not durable yet the last durable one comes back.
            file.before = files.remove(to).and_then(|old| if old.named { Some(Box::new(old)) } else { old.before });
            files.insert(to.to_owned(), file);
            Ok(())
        })
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|files, _| files.remove(name).map(drop).ok_or_else(missing))
    }
}

/// A clock that stands still unless told.
#[derive(Default)]
pub struct Hands(pub AtomicU64);

impl Clock for Hands {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_763_000_000_000 + self.0.load(Ordering::SeqCst))
    }
    fn since_boot_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub fn signer(seed: u8) -> NoteSigner {
    NoteSigner::new("audit.example/log1", TYPE_ED25519, &[seed; 32]).expect("a key")
}

pub fn identity(seed: u8) -> Identity {
    let key = signer(seed);
    Identity::new(key.verifier().name().to_owned(), key.verifier().to_string())
}

pub fn mac() -> KeyedHash {
    KeyedHash::new(&[9; 32])
}

pub fn options<D: Disk + 'static>(disk: &Arc<D>, folder: &Path) -> Options {
    Options {
        journal: Home::Directory(Arc::clone(disk) as Arc<dyn Disk>),
        derived: folder.to_owned(),
        high_water: vec![folder.join("highwater")],
        mac: mac(),
        identity: identity(1),
        // The second waits until the trail changes its key.
        signers: vec![signer(1), signer(2)],
        clock: Arc::new(Hands::default()),
        accept_clock: false,
        key_generation: 1_000,
        writer: 7,
        segment_bytes_max: Some(20_000),
    }
}

pub fn open_home(home: &Home, folder: &Path) -> Result<Ledger, Error> {
    let options = options(&SimDisk::new(), folder);
    Ledger::open(Options { journal: home.clone(), ..options })
}

pub fn open<D: Disk + 'static>(disk: &Arc<D>, folder: &Path) -> Result<Ledger, Error> {
    Ledger::open(options(disk, folder))
}

pub fn create<D: Disk + 'static>(disk: &Arc<D>) {
    Ledger::create(&Home::Directory(Arc::clone(disk) as Arc<dyn Disk>), &identity(1)).expect("a new trail");
}

/// The suite that every home of a journal passes; what was answered, in order.
pub fn conforms(home: &Home, folder: &Path) -> Vec<(u64, u64)> {
    let disk = home.disk();
    let open = |folder: &Path| open_home(home, folder).expect("it opens");
    assert!(disk.read("0", 0, 1).is_err() && disk.length("0").is_err(), "what is not there is not read");
    Ledger::create(home, &identity(1)).expect("a new trail");
    assert!(Ledger::create(home, &identity(1)).is_err(), "a trail is made once");
    let mut answered = Vec::new();
    for round in 0..6u64 {
        let mut ledger = open(folder);
        answered.extend(write(&mut ledger, round * 40..(round + 1) * 40, 7).map_err(|(_, e)| e).expect("written"));
        let again = write(&mut ledger, 0..(round + 1) * 40, 50).map_err(|(_, e)| e).expect("repeats are answered");
        assert_eq!(again, answered, "a repeat has the index of the first");
        ledger.close().expect("closed");
        check(&ledger, &answered);
        for index in [0, ledger.reader().size() / 2, ledger.reader().size() - 1] {
            ledger.reader().receipt(index).expect("a receipt").verify(Some(signer(1).verifier())).expect("it holds");
        }
    }
    // The derived files can be lost.
    let elsewhere = tempfile::tempdir().expect("a folder");
    std::fs::copy(folder.join("highwater"), elsewhere.path().join("highwater")).expect("copied");
    check(&open(elsewhere.path()), &answered);
    // Tags 1..n of each subject, and n+1 absent.
    let ledger = open(folder);
    for subject in 0..5u64 {
        let tagger = Tagger::new(subject, &Key::from_bytes([subject as u8; 32]));
        let expected = (0..240).filter(|i| i % 5 == subject && i % 3 != 0).count();
        assert_eq!(ledger.reader().entries_of(&tagger, 1000).expect("readable").len(), expected);
    }
    answered
}

/// The i-th record: every third without a subject.
pub fn item(i: u64) -> Item<u64> {
    let digest = sha256(&i.to_be_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&digest.0[..16]);
    let bytes: Vec<u8> = digest.0.iter().cycle().take(60 + (i as usize * 13) % 200).copied().collect();
    let link = Key::from_bytes([(i % 5) as u8; 32]);
    let personal = (i % 3 != 0).then(|| (sha256(b"p"), Tagger::new(i % 5, &link)));
    let sealed = Sealed {
        id: EntryId(id),
        digest: sha256(&bytes),
        bytes,
        facts: sha256(b"f"),
        personal,
        period: (i % 2) as u32 + 1,
    };
    let kind = if i % 4 == 0 { "EMAIL_SENT" } else { "TEMPLATE_CHANGED" };
    Item {
        sealed,
        kind: Arc::from(kind),
        class: if i % 2 == 0 { "communication" } else { "trail" },
        generation: i,
        companion: i,
    }
}

/// Commits records `range` in frames of `batch`; gives what was answered as committed.
pub fn write(
    ledger: &mut Ledger,
    range: std::ops::Range<u64>,
    batch: usize,
) -> Result<Vec<(u64, u64)>, (Vec<(u64, u64)>, Error)> {
    let mut answered = Vec::new();
    for chunk in range.collect::<Vec<_>>().chunks(batch) {
        match ledger.commit(chunk.iter().map(|i| item(*i)).collect()) {
            Ok((outcomes, _)) => {
                for (i, outcome) in chunk.iter().zip(outcomes) {
                    match outcome {
                        Outcome::Committed { index, .. } | Outcome::Repeated { index, .. } => {
                            answered.push((*i, index))
                        }
                        Outcome::KeyGone { .. } => panic!("no subject was erased"),
                    }
                }
            }
            Err(error) => return Err((answered, error)),
        }
    }
    Ok(answered)
}

/// Everything answered is there under its index, and the trail verifies.
pub fn check(ledger: &Ledger, answered: &[(u64, u64)]) {
    let reader = ledger.reader();
    for (i, index) in answered {
        let stored = reader.entry(*index).expect("an answered entry is there");
        assert_eq!(stored.entry().expect("an entry").id, item(*i).sealed.id);
        assert_eq!(stored.sealed.as_deref(), Some(item(*i).sealed.bytes.as_slice()));
    }
    let report = ledger::verify::verify(ledger.disk().as_ref(), &Default::default(), &Default::default(), &|_, _| {})
        .expect("readable");
    assert_eq!(report.finding, None);
    assert_eq!(report.entries, reader.size());
}

/// Commits the entry that names another key, and signs with it from then on.
pub fn change_key(ledger: &mut Ledger, from: u8, to: u8) -> u64 {
    let values = [to, from].map(|seed| format!("\"{}\"", signer(seed).verifier()));
    let fields = [
        Field { number: 4, value: b"\"candor\"" },
        Field { number: 20, value: values[0].as_bytes() },
        Field { number: 21, value: values[1].as_bytes() },
    ];
    let salts = [[1; 16], [2; 16], [3; 16]];
    let digests: Vec<_> = fields.iter().zip(&salts).map(|(field, salt)| field_digest(salt, *field)).collect();
    let mut item = item(1_000_000 + u64::from(to));
    (item.kind, item.class, item.generation) = (Arc::from(key_change::KIND), "trail", 0);
    (item.sealed.facts, item.sealed.personal) = (commit(&digests), None);
    let (outcomes, _) = ledger.commit(vec![item]).expect("committed");
    let Some(Outcome::Committed { index, .. }) = outcomes.first() else { panic!("it is new") };
    let facts = Opening::new(&fields, &salts, KeyChange::shows);
    ledger.change_key(*index, facts, signer(to)).expect("changed");
    *index
}

/// What every home of a journal does when its key changes.
pub fn changes_its_key(home: &Home, folder: &Path) {
    let key = |seed: u8| signer(seed).verifier().clone();
    let with = |seeds: &[u8]| {
        let signers = seeds.iter().map(|seed| signer(*seed)).collect();
        Ledger::open(Options { journal: home.clone(), signers, ..options(&SimDisk::new(), folder) })
    };
    let lines = |ledger: &Ledger| ledger.reader().published().checkpoint.matches("\u{2014} ").count();
    Ledger::create(home, &identity(1)).expect("made");
    let mut ledger = with(&[1]).expect("it opens");
    let mut answered = write(&mut ledger, 0..60, 5).map_err(|(_, e)| e).expect("written");
    let before = ledger.reader().receipt(3).expect("a receipt");
    assert_eq!((before.v, lines(&ledger)), (1, 1));
    let named = change_key(&mut ledger, 1, 2);
    assert_eq!(lines(&ledger), 2, "both sign");
    answered.extend(write(&mut ledger, 60..90, 5).map_err(|(_, e)| e).expect("written"));
    ledger.close().expect("closed");
    drop(ledger);
    let refused = with(&[1]).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("does not have"), "the new key is needed: {refused}");
    let mut ledger = with(&[1, 2]).expect("it opens");
    assert_eq!(lines(&ledger), 2);
    let during = ledger.reader().receipt(named).expect("a receipt");
    ledger.sign_alone().expect("the old one signs no more");
    assert_eq!(lines(&ledger), 1);
    answered.extend(write(&mut ledger, 90..120, 5).map_err(|(_, e)| e).expect("written"));
    ledger.close().expect("closed");
    drop(ledger);
    let mut ledger = with(&[2]).expect("it opens");
    check(&ledger, &answered);
    let after = ledger.reader().receipt(100).expect("a receipt");
    assert_eq!((after.v, after.key_changes.len()), (2, 1));
    for receipt in [&during, &after] {
        [None, Some(key(1)), Some(key(2))].iter().for_each(|pinned| {
            receipt.verify(pinned.as_ref()).expect("it holds");
        });
        assert!(receipt.verify(Some(&key(3))).is_err(), "a key that the trail never had");
    }
    before.verify(Some(&key(1))).expect("it holds as it did");
    assert!(before.verify(Some(&key(2))).is_err(), "the new key has not signed it");
    // Who trusts the new key takes nothing that the old one alone has signed.
    let mut forged = after.clone();
    forged.proof = before.proof.clone();
    (forged.index, forged.entry) = (before.index, before.entry.clone());
    forged.verify(Some(&key(1))).expect("the old key's word counts for who trusts it");
    assert!(forged.verify(Some(&key(2))).is_err());
    let mut bare = after.clone();
    bare.key_changes.clear();
    assert!(bare.verify(None).is_err(), "a key of which nothing says how it follows");
    change_key(&mut ledger, 2, 3);
    answered.extend(write(&mut ledger, 120..130, 5).map_err(|(_, e)| e).expect("written"));
    ledger.close().expect("closed");
    drop(ledger);
    check(&with(&[2, 3]).expect("it opens"), &answered);
    for seed in 1..=4 {
        let options = ledger::verify::Options { key: Some(&key(seed)), ..Default::default() };
        let report = ledger::verify::verify(home.disk().as_ref(), &options, &Default::default(), &|_, _| {});
        let report = report.expect("readable");
        assert_eq!(report.holds(), seed < 4, "{:?}", report.finding);
        assert!(seed == 4 || report.keys == [key(1), key(2), key(3)].map(|key| key.to_string()));
    }
}
