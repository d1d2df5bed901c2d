//! Keys in a second place when something goes wrong beside them: a stop while the place is begun or while a whole copy is
//! made, two starters at one time, a place that was put back, a disk that refuses.

mod place;

use std::path::Path;
use std::sync::{Arc, Mutex};

use place::{ORIGIN, Place, TODAY, begun, folder, master, number, one_by_one, sealing};
use seal::error::Error;
use seal::shared::SharedStore;
use seal::store::KeyStore;
use tempfile::TempDir;

fn open(folder: &Path, place: &Place) -> Result<KeyStore, Error> {
    KeyStore::open_with(folder, master(), place.anew().boxed())
}

fn why(opened: Result<KeyStore, Error>) -> String {
    match opened {
        Ok(_) => "it opened".into(),
        Err(error) => error.to_string(),
    }
}

fn copied(of: &Path) -> TempDir {
    let to = folder();
    for item in std::fs::read_dir(of).expect("a folder") {
        let path = item.expect("an item").path();
        std::fs::copy(&path, to.path().join(path.file_name().expect("named"))).expect("copied");
    }
    to
}

/// A place with more batches than one whole copy and the next may have between them, and its folder.
fn long() -> (Place, TempDir, Vec<u64>) {
    let (place, here, store, mut numbers) = begun(20);
    let shared = SharedStore::new(store);
    numbers.extend(one_by_one(&shared, 20..4200));
    (place, here, numbers)
}

#[test]
fn a_beginning_that_was_cut_off_begins_again() {
    let mut at = 0;
    loop {
        at += 1;
        let mut ended = false;
        for done in [false, true] {
            for with_keys in [false, true] {
                let (place, here) = (Place::default(), folder());
                if with_keys {
                    let mut store = KeyStore::create(here.path(), master(), ORIGIN).expect("a store");
                    number(&mut store, "c-1").expect("living");
                    store.commit().expect("durable");
                }
                *place.stops.lock().expect("held") = Some((at, done));
                ended = if with_keys {
                    KeyStore::open_with(here.path(), master(), place.boxed()).is_ok()
                } else {
                    KeyStore::create_with(here.path(), master(), ORIGIN, place.boxed()).is_ok()
                };
                // Without the place nothing is lost; what arrived there late is then another store's.
                let (alone, arrived) = (copied(here.path()), place.copy().contains_key("head"));
                let opened = KeyStore::open(alone.path(), master()).expect("it opens");
                if !opened.is_copy().expect("readable") {
                    drop(opened);
                    let joined = open(alone.path(), &Place::of(place.copy())).is_ok();
                    assert_eq!(joined, !arrived, "write {at}, done {done}");
                }
                let mut store = open(here.path(), &place).unwrap_or_else(|error| panic!("write {at}: {error}"));
                let numbers = (number(&mut store, "c-1"), number(&mut store, "c-2"));
                store.commit().expect("durable");
                drop(store);
                let mut store = open(folder().path(), &place).expect("another machine goes on");
                assert_eq!((number(&mut store, "c-1"), number(&mut store, "c-2")), numbers, "write {at}");
            }
        }
        if ended {
            break;
        }
    }
    assert!(at > 2, "{at} writes");
}

#[test]
fn a_beginning_that_was_cut_off_leaves_no_objects_behind() {
    for at in 1..4 {
        for done in [false, true] {
            let (place, here) = (Place::default(), folder());
            *place.stops.lock().expect("held") = Some((at, done));
            drop(KeyStore::create_with(here.path(), master(), ORIGIN, place.boxed()));
            let mut store = open(here.path(), &place).expect("it begins again");
            let held = number(&mut store, "c-1");
            store.commit().expect("durable");
            drop(store);
            let objects = place.copy();
            assert_eq!(objects.keys().filter(|name| name.contains("/base/")).count(), 1, "write {at}, done {done}");
            let mut store = open(folder().path(), &place).expect("another machine goes on");
            assert_eq!(number(&mut store, "c-1"), held);
        }
    }
}

#[test]
fn a_whole_copy_that_was_cut_off_is_made_again_and_leaves_nothing() {
    let (place, here, numbers) = long();
    // Before it is told, while a part or the head is made, and while what is needless is removed.
    for at in [1, 2, 3, 4, 5, 2000] {
        for done in [false, true] {
            let (place, here) = (Place::of(place.copy()), copied(here.path()));
            let shared = SharedStore::new(KeyStore::open_with(here.path(), master(), place.boxed()).expect("it opens"));
            let before = *place.writes.lock().expect("held");
            *place.stops.lock().expect("held") = Some((before + at, done));
            assert!(shared.copy_elsewhere().is_err(), "write {at}");
            drop(shared);
            for folder in [here, folder()] {
                let store = open(folder.path(), &place).unwrap_or_else(|error| panic!("write {at}: {error}"));
                let shared = SharedStore::new(store);
                shared.copy_elsewhere().expect("copied");
                let mut store = shared.lock().expect("free");
                for i in [0, 19, 20, 2000, 4199] {
                    assert_eq!(number(&mut store, &format!("c-{i}")), Some(numbers[i]), "write {at}");
                }
            }
            let objects = place.copy();
            assert_eq!(objects.keys().filter(|name| name.contains("/base/")).count(), 1, "write {at}, done {done}");
            assert!(objects.len() < 100, "write {at}: {} objects", objects.len());
        }
    }
}

#[test]
fn what_is_written_while_a_whole_copy_is_made_is_not_lost() {
    let (place, here, numbers) = long();
    let store = KeyStore::open_with(here.path(), master(), place.boxed()).expect("it opens");
    let shared = Arc::new(SharedStore::new(store));
    let (others, doomed) = (Arc::clone(&shared), numbers[7]);
    let late = Arc::new(Mutex::new(Vec::new()));
    let made = Arc::clone(&late);
    place.before("/base/", move || {
        made.lock().expect("held").extend(one_by_one(&others, 4200..4250));
        others.lock().expect("free").destroy_subjects(&[doomed], TODAY).expect("destroyed");
    });
    shared.copy_elsewhere().expect("copied");
    assert_eq!(late.lock().expect("held").len(), 50);
    drop(shared);
    let mut store = open(folder().path(), &place).expect("it opens");
    assert_eq!(number(&mut store, "c-4249"), late.lock().expect("held").last().copied());
    assert_eq!((number(&mut store, "c-7"), number(&mut store, "c-8")), (None, Some(numbers[8])));
    drop(store);
    // A page of the copy may be as new as the newest of those batches: without one of them it is nothing.
    let mut objects = place.copy();
    let needed = objects.keys().filter(|name| name.contains("/change/")).nth(50).cloned().expect("a batch");
    objects.retain(|name, _| !name.contains("/change/") || *name < needed);
    let why = why(open(folder().path(), &Place::of(objects)));
    assert!(why.contains("batches are missing"), "{why}");
}

#[test]
fn a_folder_that_is_behind_stays_as_it_is_where_the_whole_copy_is_damaged() {
    let (place, here, store, numbers) = begun(20);
    drop(store);
    let behind = copied(here.path());
    let shared = SharedStore::new(KeyStore::open_with(here.path(), master(), place.boxed()).expect("it opens"));
    one_by_one(&shared, 20..4200);
    shared.copy_elsewhere().expect("copied");
    drop(shared);
    let mut damaged = place.copy();
    let name = damaged.keys().find(|name| name.contains("/base/")).cloned().expect("a part");
    damaged.get_mut(&name).expect("there").0[4000] ^= 1;
    assert!(open(behind.path(), &Place::of(damaged.clone())).is_err());
    damaged.remove(&name);
    let why = why(open(behind.path(), &Place::of(damaged)));
    assert!(why.contains("missing"), "{why}");
    // It is what it was, and goes on where the place is whole.
    let alone = KeyStore::open(copied(behind.path()).path(), master()).expect("it opens");
    assert!(alone.is_copy().expect("readable"));
    let mut store = open(behind.path(), &place).expect("it opens");
    assert_eq!(number(&mut store, "c-3"), Some(numbers[3]));
    assert!(number(&mut store, "c-4199").is_some());
}

#[test]
fn of_two_who_start_at_one_time_one_goes_on_and_the_other_is_told() {
    // The second comes before the first has written the head, before it looks for batches, and before it makes its own.
    for name in ["head", "/change/"] {
        for earlier in 0..10 {
            let (place, here, mut store, numbers) = begun(20);
            number(&mut store, "c-20");
            store.commit().expect("durable");
            drop(store);
            let (second, there) = (Arc::new(Mutex::new(None)), folder());
            let slow = place.anew();
            let (kept, other) = (Arc::clone(&second), place.anew());
            let path = there.path().to_owned();
            // Counts down: each time it is asked it waits for the next.
            fn later(slow: &Place, name: &'static str, left: u32, work: Box<dyn FnOnce() + Send>) {
                let next = slow.clone();
                slow.before(name, move || if left == 0 { work() } else { later(&next, name, left - 1, work) });
            }
            later(&slow, name, earlier, Box::new(move || *kept.lock().expect("held") = Some(open(&path, &other))));
            let first = KeyStore::open_with(here.path(), master(), slow.boxed());
            let Some(second) = second.lock().expect("held").take() else { break };
            let mut going_on = 0;
            for (i, store) in [first, second].into_iter().enumerate() {
                let Ok(mut store) = store else { continue };
                number(&mut store, "late").expect("living");
                match store.commit() {
                    Err(Error::TakenOver) => continue,
                    ended => ended.unwrap_or_else(|error| panic!("{name} {earlier}, {i}: {error}")),
                }
                store.destroy_subjects(&[numbers[2]], TODAY).expect("destroyed");
                going_on += 1;
            }
            assert_eq!(going_on, 1, "{name} {earlier}");
            let mut store = open(folder().path(), &place).expect("it opens");
            assert!(number(&mut store, "late").is_some() && number(&mut store, "c-2").is_none());
        }
    }
}

#[test]
fn a_folder_that_follows_a_place_begins_no_other() {
    let (place, here, mut store, numbers) = begun(20);
    let key = sealing(&mut store, numbers[4]);
    drop(store);
    let empty = Place::default();
    let why = why(open(here.path(), &empty));
    assert!(why.contains("follows those of another place"), "{why}");
    assert!(empty.copy().is_empty());
    // Also where the head alone is gone.
    let mut objects = place.copy();
    objects.remove("head");
    assert!(open(here.path(), &Place::of(objects)).is_err());
    let mut store = open(here.path(), &place).expect("it opens");
    assert_eq!(sealing(&mut store, numbers[4]), key);
}

#[test]
fn what_a_store_of_before_left_stands_in_nobodys_way() {
    let (place, _here, store, _) = begun(20);
    drop(store);
    place.objects.lock().expect("held").remove("head");
    let here = folder();
    let mut store = KeyStore::create_with(here.path(), master(), ORIGIN, place.anew().boxed()).expect("a store");
    let held = number(&mut store, "c-1");
    store.commit().expect("durable");
    drop(store);
    let mut store = open(folder().path(), &place).expect("it opens");
    assert_eq!(number(&mut store, "c-1"), held);
}

#[test]
fn a_place_that_was_put_back_and_written_to_is_known_by_who_saw_more() {
    let (place, here, mut store, _) = begun(20);
    let before = place.copy();
    for i in 20..25 {
        number(&mut store, &format!("c-{i}"));
        store.commit().expect("durable");
    }
    drop(store);
    let put_back = Place::of(before);
    let mut other = open(folder().path(), &put_back).expect("a machine that has seen nothing takes it");
    for i in 0..9 {
        number(&mut other, &format!("d-{i}"));
        other.commit().expect("durable");
    }
    drop(other);
    let head = put_back.copy().remove("head");
    let why = why(open(here.path(), &put_back));
    assert!(why.contains("put back"), "{why}");
    assert_eq!(put_back.copy().remove("head"), head, "nothing is written there before");
    // Its batches after those of the other place, or the other way round, are no whole either.
    let mut mixed = place.copy();
    mixed.extend(put_back.copy().into_iter().filter(|(name, _)| !place.copy().contains_key(name)));
    assert!(open(folder().path(), &Place::of(mixed)).is_err());
    open(here.path(), &place).expect("it opens");
}

#[test]
fn a_disk_that_refuses_what_is_there_already_is_told_as_that() {
    let (place, here, mut store, _) = begun(3);
    let number_of = number(&mut store, "late");
    let blocking = rusqlite::Connection::open(here.path().join("store.db")).expect("opened");
    blocking.execute_batch("BEGIN IMMEDIATE").expect("begun");
    let refused = store.commit();
    assert!(matches!(refused, Err(Error::Database { .. })), "{refused:?}");
    blocking.execute_batch("ROLLBACK").expect("ended");
    let again = store.commit();
    assert!(matches!(again, Err(Error::Stopped)), "{again:?}");
    drop(store);
    // What was there is taken from there.
    let mut store = open(here.path(), &place).expect("it opens");
    assert_eq!(number(&mut store, "late"), number_of);
}

#[test]
fn a_place_that_is_left_has_nothing_more_and_the_folder_goes_on_alone() {
    let (place, here, mut store, numbers) = begun(20);
    store.destroy_subjects(&[numbers[5]], TODAY).expect("destroyed");
    let left = store.leave_elsewhere().expect("left").expect("something is there");
    left.remove().expect("removed");
    assert!(place.copy().is_empty(), "{:?}", place.copy().keys());
    number(&mut store, "later");
    store.commit().expect("durable");
    drop(store);
    let mut store = KeyStore::open(here.path(), master()).expect("it opens");
    assert!(!store.is_copy().expect("readable"));
    assert_eq!((number(&mut store, "c-4"), number(&mut store, "c-5")), (Some(numbers[4]), None));
    assert!(number(&mut store, "later").is_some());
    drop(store);
    // A place that is lost: the folder goes on from what it has.
    let (_, here, store, numbers) = begun(20);
    drop(store);
    let mut store = KeyStore::open(here.path(), master()).expect("it opens");
    assert!(store.is_copy().expect("readable"));
    assert!(store.leave_elsewhere().expect("left").is_none());
    drop(store);
    let mut store = KeyStore::open(here.path(), master()).expect("it opens");
    assert_eq!((store.is_copy().expect("readable"), number(&mut store, "c-4")), (false, Some(numbers[4])));
}

#[test]
fn a_stop_while_a_place_is_left_leaves_a_store_that_opens() {
    for at in 1..4 {
        for done in [false, true] {
            let (place, here, mut store, numbers) = begun(20);
            let before = *place.writes.lock().expect("held");
            *place.stops.lock().expect("held") = Some((before + at, done));
            let left = store.leave_elsewhere();
            assert!(
                left.is_err() || left.is_ok_and(|left| left.is_none_or(|left| left.remove().is_err())),
                "write {at}"
            );
            drop(store);
            // With the place as the configuration has it, and without.
            let alone = copied(here.path());
            for opened in [open(here.path(), &place), KeyStore::open(alone.path(), master())] {
                let mut store = opened.unwrap_or_else(|error| panic!("write {at}, done {done}: {error}"));
                assert!(!store.is_copy().expect("readable"));
                assert_eq!(number(&mut store, "c-4"), Some(numbers[4]));
                store.commit().expect("it goes on");
            }
        }
    }
}
