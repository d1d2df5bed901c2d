//! The journal in a bucket of a real SeaweedFS: the suite of the directory journal, and what only a store can do to it.

#[path = "support/proxy.rs"]
mod proxy;
mod support;
#[path = "support/weed.rs"]
mod weed;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ledger::disk::Disk;
use ledger::error::Error;
use ledger::home::Home;
use ledger::ledger::Ledger;
use ledger::objects::{Bucket, BucketUrl, Locking, Objects};
use proof::time::UnixMillis;
use proxy::Proxy;
use support::{changes_its_key, check, conforms, identity, open_home, write};
use weed::Weed;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn home(objects: &Arc<Objects>) -> Home {
    Home::Objects(Arc::clone(objects))
}

#[test]
fn a_trail_in_a_bucket_does_what_one_in_a_folder_does_locked_or_not() {
    let at = folder();
    let weed = Weed::start(at.path());
    for locked in [false, true] {
        let (name, folder) = (if locked { "locked" } else { "open" }, folder());
        weed.make(name, locked);
        let objects = weed.objects(name, "shop/one");
        let locking = objects.probe(7, now()).expect("the store keeps what it must");
        assert_eq!(locking, if locked { Locking::Compliance(1) } else { Locking::None });
        let mut answered = conforms(&home(&objects), folder.path());
        let mut ledger = open_home(&home(&objects), folder.path()).expect("it opens");
        answered.extend(write(&mut ledger, 240..800, 4).map_err(|(_, e)| e).expect("written"));
        ledger.close().expect("closed");
        drop(ledger);
        assert!(objects.odd().is_empty(), "{:?}", objects.odd());
        assert!(objects.segments().expect("listed") > 2, "segments follow each other");
        // From the bucket alone, by somebody who has not seen it before.
        let other = weed.objects(name, "shop/one");
        let elsewhere = self::folder();
        let ledger = open_home(&home(&other), elsewhere.path()).expect("it opens");
        check(&ledger, &answered);
        drop(ledger);
        // The bytes of a segment's objects are those of a segment: read from a folder, they verify there.
        let files = self::folder();
        for number in 0..other.segments().expect("listed") {
            let file = ledger::segment::file_name(number);
            let length = other.length(&file).expect("there") as usize;
            std::fs::write(files.path().join(&file), other.read(&file, 0, length).expect("read")).expect("written");
        }
        let disk = ledger::disk::RealDisk::read_only(files.path());
        let report = ledger::verify::verify(&disk, &Default::default(), &Default::default(), &|_, _| {}).expect("read");
        assert!(report.holds() && report.entries == answered.len() as u64, "{report:?}");
        changes_its_key(&home(&weed.objects(name, "shop/three")), self::folder().path());
        // Another trail has a prefix of its own.
        let beside = weed.objects(name, "shop/two");
        assert!(!beside.has_trail().expect("asked"));
        Ledger::create(&home(&beside), &identity(1)).expect("made");
    }
}

#[test]
fn of_two_writers_one_goes_on_and_the_other_is_told_and_ends() {
    let at = folder();
    let weed = Weed::start(at.path());
    weed.make("two", false);
    let (one, other) = (weed.objects("two", "t"), weed.objects("two", "t"));
    let (here, there) = (folder(), folder());
    Ledger::create(&home(&one), &identity(1)).expect("made");
    let mut first = open_home(&home(&one), here.path()).expect("it opens");
    let mut answered = write(&mut first, 0..30, 5).map_err(|(_, e)| e).expect("written");
    // The first is stopped past every time-out; the second takes over and writes.
    let mut second = open_home(&home(&other), there.path()).expect("it opens");
    answered.extend(write(&mut second, 30..60, 5).map_err(|(_, e)| e).expect("written"));
    // The first comes back with what it had in hand.
    let (more, error) = write(&mut first, 60..70, 5).expect_err("it is not the writer any more");
    assert!(more.is_empty() && matches!(error, Error::Fenced { frame: 6 }), "{error}");
    assert!(matches!(write(&mut first, 70..71, 1), Err((_, Error::Stopped))), "and tries nothing more");
    answered.extend(write(&mut second, 60..90, 5).map_err(|(_, e)| e).expect("written"));
    check(&second, &answered);
}

#[test]
fn what_is_planted_counts_for_nothing_and_is_told() {
    let at = folder();
    let weed = Weed::start(at.path());
    weed.make("planted", true);
    let objects = weed.objects("planted", "t");
    let folder = folder();
    Ledger::create(&home(&objects), &identity(1)).expect("made");
    let mut ledger = open_home(&home(&objects), folder.path()).expect("it opens");
    let answered = write(&mut ledger, 0..400, 5).map_err(|(_, e)| e).expect("written");
    ledger.close().expect("closed");
    drop(ledger);
    // Somebody with the bucket's keys puts another object over frame 3 and over frame 70, and marks frame 5 and the
    // last one deleted.
    let script = "old = s3.get_object(Bucket='planted', Key='t/frames/0000000000/02')['Body'].read()\n\
        for key in ('0000000000/03', '0000000001/06'): s3.put_object(Bucket='planted', Key='t/frames/' + key, Body=old)\n\
        for key in ('0000000000/05', '0000000001/16'): s3.delete_object(Bucket='planted', Key='t/frames/' + key)";
    weed.python(script);
    let objects = weed.objects("planted", "t");
    let ledger = open_home(&home(&objects), folder.path()).expect("it opens");
    for (i, index) in &answered {
        let stored = ledger.reader().entry(*index).expect("an answered entry is there");
        assert_eq!(stored.entry().expect("an entry").id, support::item(*i).sealed.id);
    }
    let disk = ledger.disk();
    let report = ledger::verify::verify(disk.as_ref(), &Default::default(), &Default::default(), &|_, _| {});
    let finding = report.expect("read").finding.expect("it is told");
    assert!(finding.frame == Some(3) && finding.what.contains("second version"), "{finding}");
    let odd: Vec<u64> = objects.odd().keys().copied().collect();
    assert_eq!(odd, [3, 5, 70, 80]);
    drop(ledger);
    // What stands beyond a gap is no segment, and hides nothing.
    weed.python("s3.put_object(Bucket='planted', Key='t/frames/0000000128/00', Body=b'no frame')");
    let objects = weed.objects("planted", "t");
    assert_eq!(objects.segments().expect("counted"), 2);
    let report = ledger::verify::verify(objects.as_ref(), &Default::default(), &Default::default(), &|_, _| {});
    let report = report.expect("read");
    assert!(report.entries == 400 && report.finding.is_some_and(|finding| finding.frame == Some(3)));
    // A segment that begins after one that is not whole is told, and nothing goes on after an object that is no frame.
    weed.python(
        "s3.put_object(Bucket='planted', Key='t/frames/0000000002/00', Body=b'no frame')\n\
        s3.put_object(Bucket='planted', Key='t/frames/0000000001/17', Body=b'')",
    );
    let objects = weed.objects("planted", "t");
    assert_eq!(objects.segments().expect("counted"), 2);
    assert!(Disk::odd(objects.as_ref(), 1).expect("read").values().any(|what| what.contains("not whole")));
    let refused = open_home(&home(&objects), folder.path()).map(drop).expect_err("it is refused");
    assert!(refused.to_string().contains("not one frame"), "{refused}");
}

/// Writes into a bucket of this store while it is disturbed; each record is there once and in order.
fn written_through(mut weed: Weed, disturb: impl Fn(&mut Weed)) {
    weed.make("killed", false);
    let objects = weed.objects("killed", "t");
    let folder = folder();
    Ledger::create(&home(&objects), &identity(1)).expect("made");
    let done = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (done, objects, path) = (Arc::clone(&done), Arc::clone(&objects), folder.path().to_owned());
        move || {
            let mut ledger = open_home(&home(&objects), &path).expect("it opens");
            let (mut answered, mut next) = (Vec::new(), 0);
            while !done.load(Ordering::Acquire) {
                answered
                    .extend(write(&mut ledger, next..next + 50, 10).map_err(|(_, e)| e).expect("written in the end"));
                next += 50;
            }
            ledger.close().expect("closed");
            (ledger, answered)
        }
    });
    disturb(&mut weed);
    done.store(true, Ordering::Release);
    let (ledger, answered) = writer.join().expect("the writer went on");
    check(&ledger, &answered);
    let indexes: Vec<u64> = answered.iter().map(|(_, index)| *index).collect();
    assert_eq!(indexes, (0..indexes.len() as u64).collect::<Vec<_>>(), "each once, in order");
    assert!(indexes.len() > 100 && objects.odd().is_empty(), "{}", indexes.len());
}

#[test]
fn a_server_that_is_killed_and_comes_back_loses_nothing_and_repeats_nothing() {
    let at = folder();
    written_through(Weed::start(at.path()), |weed| {
        for _ in 0..3 {
            std::thread::park_timeout(Duration::from_millis(1500));
            weed.kill();
            std::thread::park_timeout(Duration::from_millis(700));
            weed.restart();
        }
    });
}

/// Master, two volume servers and filer with S3 as four processes: first what every home of a journal does, then each of
/// them goes and comes back while a writer writes.
#[test]
fn a_store_in_parts_of_which_each_goes_and_comes_back_loses_nothing() {
    let at = folder();
    let weed = Weed::start_apart(at.path());
    for (name, locked) in [("open", false), ("locked", true)] {
        weed.make(name, locked);
        let (objects, folder) = (weed.objects(name, "t"), folder());
        objects.probe(8, now()).expect("the store keeps what it must");
        conforms(&home(&objects), folder.path());
    }
    written_through(weed, |weed| {
        for part in 0..4 {
            std::thread::park_timeout(Duration::from_millis(800));
            weed.bounce(part, Duration::from_millis(500));
        }
    });
}

#[test]
fn answers_that_are_lost_or_late_make_nothing_twice_and_lose_nothing() {
    let at = folder();
    let weed = Weed::start(at.path());
    weed.make("slow", false);
    let direct = weed.objects("slow", "t");
    Ledger::create(&home(&direct), &identity(1)).expect("made");
    let to = weed.endpoint().trim_start_matches("http://").parse().expect("an address");
    // Longer than a request waits: who sent it has tried again by the time that it comes.
    let proxy = Proxy::start(to, Duration::from_millis(1500));
    let url = format!("s3://slow/t?endpoint=http://{}&timeout_s=1", proxy.address);
    let url = BucketUrl::parse(&url).expect("a URL");
    let objects = Objects::new(Bucket::open(url, &weed::credentials(), Vec::new()).expect("a bucket"), 8 << 20);
    let folder = folder();
    let mut ledger = open_home(&home(&objects), folder.path()).expect("it opens");
    let answered = write(&mut ledger, 0..900, 15).map_err(|(_, e)| e).expect("written in the end");
    drop(ledger);
    let (lost, held) = proxy.lost();
    assert!(lost > 5 && held > 3, "{lost} {held}");
    let elsewhere = self::folder();
    let ledger = open_home(&home(&direct), elsewhere.path()).expect("it opens");
    check(&ledger, &answered);
    let indexes: Vec<u64> = answered.iter().map(|(_, index)| *index).collect();
    assert_eq!(indexes, (0..900).collect::<Vec<_>>(), "each once, in order");
    assert!(direct.odd().is_empty(), "{:?}", direct.odd());
}

#[test]
fn an_object_is_made_once_and_read_in_parts() {
    let at = folder();
    let weed = Weed::start(at.path());
    weed.make("once", false);
    let bucket = weed.bucket("once", "p", weed.endpoint()).expect("a bucket");
    let bytes = Bytes::from((0..100_000u32).flat_map(u32::to_be_bytes).collect::<Vec<u8>>());
    bucket.create("a", &bytes).expect("made");
    assert!(bucket.create("a", &bytes).is_err() && bucket.create("a", &Bytes::from_static(b"x")).is_err());
    assert_eq!(bucket.get("a", None, None).expect("read"), Some(bytes.clone()));
    assert_eq!(bucket.get("a", None, Some(1000..1010)).expect("read"), Some(bytes.slice(1000..1010)));
    assert_eq!(bucket.get("b", None, None).expect("asked"), None);
    for number in 0..1005 {
        bucket.create(&format!("many/{number:04}"), &Bytes::from_static(b"1")).expect("made");
    }
    assert_eq!(bucket.versions("many/").expect("listed").len(), 1005, "more than one answer holds");
}

fn now() -> UnixMillis {
    use ledger::clock::Clock as _;
    ledger::clock::SystemClock.now()
}
