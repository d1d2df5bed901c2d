//! The key store's pages in a second place: another machine goes on from it, two writers never both do, a stop at any call
//! loses nothing that was durable, and what was destroyed is gone there too.

mod place;

use place::{ORIGIN, Place, TODAY, begun, folder, master, number, one_by_one, sealing};
use seal::elsewhere::Elsewhere;
use seal::error::Error;
use seal::master::MasterKey;
use seal::random::RandomPool;
use seal::shared::SharedStore;
use seal::store::KeyStore;

/// What the first version wrote opens for ever.
#[test]
fn the_golden_bucket_opens() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/key-bucket");
    let place = Place::default();
    let mut folders = vec![golden.clone()];
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(folder).expect("a folder") {
            let path = item.expect("an item").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&golden).expect("below it").to_str().expect("UTF-8").to_owned();
            place.make(&name, std::fs::read(&path).expect("read")).expect("made");
        }
    }
    let mut store = KeyStore::open_with(folder().path(), master(), place.boxed()).expect("it opens");
    assert_eq!((store.origin(), store.generation()), (ORIGIN, 19));
    let numbers: Vec<_> = (0..12).map(|i| number(&mut store, &format!("c-{i}"))).collect();
    assert_eq!(numbers[7].zip(numbers[3]), Some((8, 4)));
    assert_eq!(numbers[5], None, "destroyed");
    assert_eq!(
        sealing(&mut store, 7).map(|key| proof::encoding::hex(&key)).as_deref(),
        Some("0c8e6ec8a360188631e2619493c67881ffe7b5744a0be33532d95d74c0d049d4")
    );
}

#[test]
fn another_machine_goes_on_and_the_first_is_told() {
    let (place, here, mut first, numbers) = begun(200);
    first.destroy_subjects(&[numbers[5]], TODAY).expect("destroyed");
    let key = sealing(&mut first, numbers[7]);

    // Of the folder nothing is left.
    let there = folder();
    let mut second = KeyStore::open_with(there.path(), master(), place.anew().boxed()).expect("it opens");
    assert_eq!(second.generation(), first.generation());
    assert_eq!(sealing(&mut second, numbers[7]), key);
    assert_eq!((number(&mut second, "c-7"), number(&mut second, "c-5")), (Some(numbers[7]), None));
    // Who wrote before is told at its next key, or at its next destruction, and is not believed any more.
    number(&mut first, "late");
    assert!(matches!(first.commit(), Err(Error::TakenOver)));
    assert!(first.commit().is_err());
    let new = number(&mut second, "new").expect("living");
    second.commit().expect("durable");
    second.rewrap(MasterKey::parse(&"6b".repeat(32)).expect("a key")).expect("rewrapped");
    drop(second);

    // The first machine takes over again: its folder catches up, by the new master key alone.
    assert!(matches!(KeyStore::open_with(here.path(), master(), place.anew().boxed()), Err(Error::WrongMasterKey)));
    let new_master = MasterKey::parse(&"6b".repeat(32)).expect("a key");
    let mut third = KeyStore::open_with(here.path(), new_master, place.anew().boxed()).expect("it opens");
    assert_eq!(number(&mut third, "new"), Some(new));
    assert_eq!(number(&mut third, "c-5"), None);
    let mut fourth =
        KeyStore::open_with(there.path(), MasterKey::parse(&"6b".repeat(32)).expect("a key"), place.anew().boxed())
            .expect("it opens");
    assert!(matches!(third.destroy_subjects(&[numbers[9]], TODAY), Err(Error::TakenOver)));
    assert!(number(&mut fourth, "c-9").is_some());
}

#[test]
fn a_stop_at_any_write_loses_nothing_that_was_durable() {
    let new_master = || MasterKey::parse(&"6b".repeat(32)).expect("a key");
    let mut at = 0;
    loop {
        at += 1;
        let mut ended = false;
        for done in [false, true] {
            let (place, here, mut store, _) = begun(0);
            let before = *place.writes.lock().expect("held");
            *place.stops.lock().expect("held") = Some((before + at, done));
            let (mut durable, mut destroyed, mut rewrapped) = (Vec::new(), Vec::new(), false);
            let mut work = || -> Result<(), Error> {
                for round in 0..3 {
                    let name = |i: u32| format!("c-{round}-{i}");
                    let made: Vec<u64> = (0..5).map(|i| number(&mut store, &name(i)).expect("living")).collect();
                    store.commit()?;
                    durable.extend((0..5).map(name).zip(&made).map(|(name, number)| (name, *number)));
                    destroyed.push((name(0), false));
                    store.destroy_subjects(&made[..1], TODAY)?;
                    destroyed.last_mut().expect("pushed").1 = true;
                }
                rewrapped = true;
                store.rewrap(new_master())?;
                Ok(())
            };
            ended = work().is_ok();
            drop(store);
            // By the folder and the place, and by the place alone.
            for folder in [here, folder()] {
                let open = |master| KeyStore::open_with(folder.path(), master, place.anew().boxed());
                let mut store = match open(master()) {
                    Err(Error::WrongMasterKey) if rewrapped => open(new_master()).expect("the new key opens"),
                    opened => opened.unwrap_or_else(|error| panic!("write {at}: {error}")),
                };
                for (name, held) in &durable {
                    let gone = destroyed.iter().find(|(gone, _)| gone == name);
                    match (number(&mut store, name), gone) {
                        (Some(found), None | Some((_, false))) => assert_eq!(found, *held, "write {at}"),
                        (None, Some(_)) => {}
                        (found, gone) => panic!("write {at}: {name} is {found:?}, and was destroyed: {gone:?}"),
                    }
                }
                number(&mut store, "afterwards");
                store.commit().expect("it goes on");
            }
        }
        if ended {
            break;
        }
    }
    assert!(at > 10, "{at} writes");
}

#[test]
fn what_was_destroyed_opens_by_no_older_object() {
    let (place, here, mut store, numbers) = begun(300);
    let before = place.copy();
    store.destroy_subjects(&[numbers[3]], TODAY).expect("destroyed");
    drop(store);
    // With the master key and the head of now, all that is older: the batches of before instead of those of now.
    let mut mixed = place.copy();
    let newer: Vec<String> = mixed.keys().filter(|name| !before.contains_key(*name)).cloned().collect();
    assert!(!newer.is_empty());
    newer.iter().for_each(|name| drop(mixed.remove(name)));
    let put_back = Place::of(mixed);
    let opened = KeyStore::open_with(folder().path(), master(), put_back.boxed());
    assert!(matches!(opened, Err(Error::Corrupt { .. })), "{opened:?}");
    // And to a folder that has seen more, a place that was put back is no place to go on from.
    let put_back = Place::of(before);
    let opened = KeyStore::open_with(here.path(), master(), put_back.boxed());
    assert!(matches!(opened, Err(Error::Corrupt { .. })), "{opened:?}");
    KeyStore::open_with(here.path(), master(), place.anew().boxed()).expect("the folder is as it was");
}

#[test]
fn whatever_is_changed_there_is_refused_and_the_folder_stays() {
    let (place, here, mut store, _) = begun(20);
    number(&mut store, "c-20");
    store.commit().expect("durable");
    drop(store);
    let whole = place.copy();
    for (name, (bytes, tag)) in &whole {
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = whole.clone();
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            changed.insert(name.clone(), (bytes, *tag));
            let changed = Place::of(changed);
            let opened = KeyStore::open_with(folder().path(), master(), changed.boxed());
            assert!(opened.is_err(), "{name}, byte {at}");
        }
    }
    // Two objects in each other's place.
    let mut swapped = whole.clone();
    let names: Vec<String> = whole.keys().filter(|name| name.contains("/change/")).cloned().collect();
    swapped.insert(names[0].clone(), whole[&names[1]].clone());
    let swapped = Place::of(swapped);
    assert!(KeyStore::open_with(folder().path(), master(), swapped.boxed()).is_err());
    // Another trail's folder, and a place that has another trail's keys.
    let other = folder();
    drop(KeyStore::create(other.path(), master(), "audit.example/log2").expect("a store"));
    assert!(matches!(KeyStore::open_with(other.path(), master(), place.anew().boxed()), Err(Error::Corrupt { .. })));
    assert!(KeyStore::create_with(folder().path(), master(), ORIGIN, place.anew().boxed()).is_err());
    let mut store = KeyStore::open_with(here.path(), master(), place.anew().boxed()).expect("it opens");
    assert!(number(&mut store, "c-4").is_some());
}

#[test]
fn a_folder_that_had_its_keys_alone_puts_them_there() {
    let (place, here) = (Place::default(), folder());
    let mut store = KeyStore::create(here.path(), master(), ORIGIN).expect("a store");
    let held = number(&mut store, "c-1").expect("living");
    store.commit().expect("durable");
    drop(store);
    let mut store = KeyStore::open_with(here.path(), master(), place.boxed()).expect("it opens");
    let later = number(&mut store, "c-2").expect("living");
    store.commit().expect("durable");
    drop(store);
    let mut store = KeyStore::open_with(folder().path(), master(), place.anew().boxed()).expect("it opens");
    assert_eq!((number(&mut store, "c-1"), number(&mut store, "c-2")), (Some(held), Some(later)));
}

#[test]
fn many_batches_become_one_copy_and_are_removed() {
    let (place, _here, store, _) = begun(0);
    let shared = SharedStore::new(store);
    let mut numbers = one_by_one(&shared, 0..4100);
    shared.copy_elsewhere().expect("copied");
    numbers.extend(one_by_one(&shared, 4100..4200));
    drop(shared);
    let objects = place.copy();
    assert!(objects.len() < 200, "{} objects", objects.len());
    let other = MasterKey::generate(&mut RandomPool::default());
    assert!(matches!(KeyStore::open_with(folder().path(), other, place.anew().boxed()), Err(Error::WrongMasterKey)));
    let mut store = KeyStore::open_with(folder().path(), master(), place.anew().boxed()).expect("it opens");
    for i in [0, 1, 2100, 4095, 4199] {
        assert_eq!(number(&mut store, &format!("c-{i}")), Some(numbers[i]));
    }
}
