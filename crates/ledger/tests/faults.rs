//! What a failing or cut-off disk may do to the directory journal: nothing answered is missing, nothing unanswered is
//! half there, and what is no crash is refused.

mod support;

use std::sync::Arc;

use ledger::clock::Clock;
use ledger::disk::{Disk, RealDisk};
use ledger::error::{Error, Kind};
use ledger::home::Home;
use ledger::ledger::{Ledger, Options};
use support::{
    Fault, Hands, SimDisk, changes_its_key, check, conforms, create, identity, item, open, options, signer, write,
};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// One suite for both: the simulated disk must behave as the real one does, or its faults show nothing.
#[test]
fn on_the_real_disk_a_trail_survives_restarts_rotations_repeats_and_a_torn_frame() {
    let folder = folder();
    let journal = folder.path().join("journal");
    std::fs::create_dir(&journal).expect("made");
    conforms_on(&Arc::new(RealDisk::new(&journal)));
}

#[test]
fn a_trail_changes_its_key_and_what_either_key_signed_holds() {
    let (folder, journal) = (folder(), folder());
    changes_its_key(&Home::Directory(Arc::new(RealDisk::new(journal.path()))), folder.path());
}

#[test]
fn on_the_simulated_disk_a_trail_survives_restarts_rotations_repeats_and_a_torn_frame() {
    conforms_on(&SimDisk::new());
}

fn conforms_on<D: Disk + 'static>(disk: &Arc<D>) {
    let folder = folder();
    let answered = conforms(&Home::Directory(Arc::clone(disk) as Arc<dyn Disk>), folder.path());
    // A frame of which a stop left the first half: nobody was answered for it, and it is left out.
    let last = disk.list().expect("listed").pop().expect("a segment");
    let (whole, length) = (disk.read(&last, 0, 1 << 20).expect("read"), disk.length(&last).expect("there"));
    assert_eq!(whole.len() as u64, length);
    let start = whole.windows(8).rposition(|window| window == ledger::frame::MAGIC).expect("a frame");
    disk.append(&last, &whole[start..start + 70]).expect("written");
    let ledger = open(disk, folder.path()).expect("it opens");
    assert_eq!(ledger.recovered().torn_bytes, 70);
    check(&ledger, &answered);
    drop(ledger);
    assert_eq!(disk.length(&last).expect("there"), length);
}

/// Fails each system call of appends (rotation included) in turn, in each way; then recovers twice: with what readers
/// saw, and after a power cut that drops or reorders what was not synced.
#[test]
fn every_call_fails_in_every_way_and_nothing_answered_is_lost() {
    let (disk, base) = (SimDisk::new(), folder());
    create(&disk);
    let mut ledger = open(&disk, base.path()).expect("it opens");
    let before = write(&mut ledger, 0..100, 10).map_err(|(_, e)| e).expect("written");
    ledger.close().expect("closed");
    drop(ledger);
    let (mut tried, mut broke) = (0, 0);
    for fault in [Fault::NotDone, Fault::DoneButFailed, Fault::Half] {
        for call in 0..40 {
            let disk = disk.copy();
            let folder = folder();
            std::fs::copy(base.path().join("highwater"), folder.path().join("highwater")).expect("copied");
            let mut ledger = open(&disk, folder.path()).expect("it opens");
            disk.fail_at(call, fault);
            let mut answered = before.clone();
            match write(&mut ledger, 100..200, 10) {
                Ok(more) => answered.extend(more),
                Err((more, error)) => {
                    answered.extend(more);
                    assert_eq!(error.kind(), Kind::Retry);
                    assert!(
                        matches!(write(&mut ledger, 200..201, 1), Err((_, Error::Stopped))),
                        "a failed journal takes nothing more"
                    );
                    broke += 1;
                }
            }
            drop(ledger);
            tried += 1;
            for (round, after) in [disk.copy(), disk.power_cut(call), disk.power_cut(call + 1000)].iter().enumerate() {
                let mut ledger =
                    open(after, folder.path()).unwrap_or_else(|error| panic!("{fault:?} {call} {round}: {error}"));
                check(&ledger, &answered);
                let again = write(&mut ledger, 0..210, 30).map_err(|(_, e)| e).expect("it goes on");
                check(&ledger, &again);
                // The next round starts from an older journal: its mark goes with it.
                std::fs::copy(base.path().join("highwater"), folder.path().join("highwater")).expect("copied");
            }
        }
    }
    println!("{tried} runs with a failing call, {broke} of them broke a commit");
    assert!(broke > 60, "{broke}");
}

/// A sync fails, and the process starts again on the same machine: what memory still shows is not on the disk, whatever
/// later syncs say, until it is written anew.
#[test]
fn what_memory_shows_after_a_sync_that_failed_is_written_anew() {
    for (cut, call) in (0..12).flat_map(|cut| (1..6).map(move |call| (cut, call))) {
        let (disk, folder) = (SimDisk::new(), folder());
        create(&disk);
        let mut ledger = open(&disk, folder.path()).expect("it opens");
        let mut answered = write(&mut ledger, 0..50, 10).map_err(|(_, e)| e).expect("written");
        ledger.close().expect("closed");
        // The next frame begins a segment: its file, header, two syncs, then the frame and its sync.
        disk.fail_at(call, Fault::NotDone);
        let (more, error) = write(&mut ledger, 50..60, 10).expect_err("the sync failed");
        assert!(more.is_empty() && error.kind() == Kind::Retry, "{error}");
        drop(ledger);
        disk.fail_at(u64::MAX, Fault::NotDone);
        let mut ledger = open(&disk, folder.path()).expect("it opens");
        answered.extend(write(&mut ledger, 50..50 + 10 * cut, 10).map_err(|(_, e)| e).expect("written"));
        drop(ledger);
        let mut ledger = open(&disk.power_cut(cut), folder.path()).expect("it opens");
        check(&ledger, &answered);
        let again = write(&mut ledger, 0..200, 30).map_err(|(_, e)| e).expect("it goes on");
        check(&ledger, &again);
    }
}

#[test]
fn a_full_disk_loses_nothing_answered() {
    for room in (0..4000).step_by(173) {
        let (disk, folder) = (SimDisk::new(), folder());
        create(&disk);
        let mut ledger = open(&disk, folder.path()).expect("it opens");
        let mut answered = write(&mut ledger, 0..20, 5).map_err(|(_, e)| e).expect("written");
        let used: usize = disk.list().expect("names").iter().map(|name| disk.get(name).len()).sum();
        disk.full_at(Some(used + room));
        if let Err((more, error)) = write(&mut ledger, 20..60, 3) {
            answered.extend(more);
            assert!(error.to_string().starts_with("write segment"), "{error}");
        }
        drop(ledger);
        disk.full_at(None);
        let ledger = open(&disk, folder.path()).expect("it opens once there is room");
        check(&ledger, &answered);
    }
}

#[test]
fn a_torn_last_frame_is_left_out_and_a_torn_signed_one_is_refused() {
    let (disk, base) = (SimDisk::new(), folder());
    create(&disk);
    let mut ledger = open(&disk, base.path()).expect("it opens");
    write(&mut ledger, 0..10, 10).map_err(|(_, e)| e).expect("written");
    ledger.close().expect("closed");
    let mark_before = std::fs::read(base.path().join("highwater")).expect("a mark");
    let whole = disk.get("0000000000.seg").len();
    write(&mut ledger, 10..20, 10).map_err(|(_, e)| e).expect("written");
    ledger.close().expect("closed");
    drop(ledger);
    let bytes = disk.get("0000000000.seg");
    for cut in [whole + 1, whole + 200, bytes.len() - 1] {
        let torn = disk.copy();
        torn.set("0000000000.seg", bytes[..cut].to_vec());
        let error = open(&torn, base.path()).err().expect("the mark knows these entries");
        assert!(matches!(error, Error::Corrupt { .. } | Error::RolledBack { .. }), "{error}");
        let folder = folder();
        std::fs::write(folder.path().join("highwater"), &mark_before).expect("written");
        let ledger = open(&torn, folder.path()).expect("a crash leaves this");
        assert!(ledger.recovered().torn_bytes > 0);
        // In the last case only the closing frame is torn.
        assert_eq!(ledger.reader().size(), if cut == bytes.len() - 1 { 20 } else { 10 });
    }
    // A broken frame with a whole one after it is no crash.
    let altered = disk.copy();
    let mut other = bytes.clone();
    other[whole + 60] ^= 1;
    altered.set("0000000000.seg", other);
    let folder = folder();
    assert_eq!(open(&altered, folder.path()).err().expect("refused").kind(), Kind::Corrupt);
}

#[test]
fn a_journal_that_is_older_or_another_is_refused_before_anything_is_signed() {
    let (disk, base) = (SimDisk::new(), folder());
    create(&disk);
    let mut ledger = open(&disk, base.path()).expect("it opens");
    write(&mut ledger, 0..50, 10).map_err(|(_, e)| e).expect("written");
    ledger.close().expect("closed");
    let old = disk.copy();
    write(&mut ledger, 50..90, 10).map_err(|(_, e)| e).expect("written");
    ledger.close().expect("closed");
    drop(ledger);
    let error = open(&old, base.path()).err().expect("refused");
    assert!(error.to_string().contains("40 signed entries are missing"), "{error}");
    // A fork of the same length.
    let folder = folder();
    let mut fork = open(&old, folder.path()).expect("without the mark nothing is known");
    write(&mut fork, 500..540, 10).map_err(|(_, e)| e).expect("written");
    fork.close().expect("closed");
    drop(fork);
    assert!(matches!(open(&old, base.path()).err(), Some(Error::Forked { .. })));
    // Another trail's keys, an older key store, a mark that another wrote.
    let with = |change: fn(&mut Options)| {
        let mut options = options(&disk, base.path());
        change(&mut options);
        Ledger::open(options).err().expect("refused").to_string()
    };
    assert!(
        with(|options| (options.identity, options.signers) = (identity(2), vec![signer(2)])).contains("another trail")
    );
    assert!(with(|options| options.key_generation = 80).contains("9 keys that this trail needs are missing"));
    assert!(with(|options| options.mac = seal::crypto::KeyedHash::new(b"other")).contains("authentication code"));
    assert!(with(|options| options.clock = Arc::new(Ahead)).contains("ahead of the last entry"));
}

struct Ahead;

impl Clock for Ahead {
    fn now(&self) -> proof::time::UnixMillis {
        proof::time::UnixMillis(Hands::default().now().0 + 40 * 86_400_000)
    }
    fn since_boot_ms(&self) -> u64 {
        0
    }
}

#[test]
fn what_was_sealed_under_an_erased_subject_comes_back() {
    use ledger::ledger::Outcome;
    let (disk, folder) = (SimDisk::new(), folder());
    create(&disk);
    let mut ledger = open(&disk, folder.path()).expect("it opens");
    ledger.bury(&[1]);
    let (outcomes, committed) = ledger.commit(vec![item(1), item(2), item(3)]).expect("committed");
    assert!(matches!(outcomes[0], Outcome::KeyGone { companion: 1, subject: None, erased: true }));
    assert_eq!(committed.iter().map(|entry| entry.companion).collect::<Vec<_>>(), [2, 3]);
}

/// Journal, key store and mark rolled back together fit each other; the copy of the mark elsewhere does not.
#[test]
fn a_copy_of_the_mark_elsewhere_notices_a_rollback_of_everything_else() {
    let (disk, here, elsewhere) = (SimDisk::new(), folder(), folder());
    create(&disk);
    let both = |disk: &Arc<SimDisk>| Options {
        high_water: vec![here.path().join("highwater"), elsewhere.path().join("highwater")],
        ..options(disk, here.path())
    };
    let mut ledger = Ledger::open(both(&disk)).expect("it opens");
    write(&mut ledger, 0..50, 10).map_err(|(_, error)| error).expect("written");
    ledger.close().expect("closed");
    drop(ledger);
    let old = disk.copy();
    let old_mark = std::fs::read(here.path().join("highwater")).expect("a mark");
    let mut ledger = Ledger::open(both(&disk)).expect("it opens");
    write(&mut ledger, 50..90, 10).map_err(|(_, error)| error).expect("written");
    ledger.close().expect("closed");
    drop(ledger);
    std::fs::write(here.path().join("highwater"), old_mark).expect("put back");
    assert!(open(&old, here.path()).is_ok(), "what was rolled back together fits");
    assert!(matches!(Ledger::open(both(&old)), Err(Error::RolledBack { missing: 40 })));
    Ledger::open(both(&disk)).expect("the newest journal extends every mark");
}

/// A reader that verifies sees a frame whose second half is not written yet.
#[test]
fn verification_beside_a_writer_waits_for_the_last_frame() {
    let (disk, folder) = (SimDisk::new(), folder());
    create(&disk);
    let mut ledger = open(&disk, folder.path()).expect("it opens");
    write(&mut ledger, 0..30, 10).map_err(|(_, error)| error).expect("written");
    let name = disk.list().expect("listed").pop().expect("a segment");
    let before = disk.length(&name).expect("there");
    write(&mut ledger, 30..40, 10).map_err(|(_, error)| error).expect("written");
    let whole = disk.read(&name, 0, 1 << 20).expect("read");
    let half = SimDisk::new();
    for other in disk.list().expect("listed") {
        half.create(&other).expect("made");
        let bytes =
            if other == name { &whole[..before as usize + 50] } else { &disk.read(&other, 0, 1 << 20).expect("read") };
        half.append(&other, bytes).expect("written");
    }
    let run = |settle: Option<&(dyn Fn() + Sync)>| {
        let options = ledger::verify::Options { settle, ..Default::default() };
        ledger::verify::verify(half.as_ref(), &options, &Default::default(), &|_, _| {}).expect("readable")
    };
    assert!(run(None).finding.is_some(), "nobody writes: the frame is torn");
    assert!(run(Some(&|| {})).finding.is_some(), "it does not grow: the frame is torn");
    let calls = std::sync::atomic::AtomicU64::new(0);
    let grow = || {
        if calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            half.append(&name, &whole[before as usize + 50..]).expect("written");
        }
    };
    assert_eq!(run(Some(&grow)).finding, None);
}
