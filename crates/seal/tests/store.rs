//! The key store: who is who, what survives a restart, and that an erased key is in no file any more.

use record::identifier::IdentifierType::{Address, CustomerId};
use seal::error::Error;
use seal::master::MasterKey;
use seal::random::RandomPool;
use seal::shared::SharedStore;
use seal::store::{KeyStore, Resolved, Subject};
use tempfile::TempDir;

const TODAY: u32 = 20_000;

fn master() -> MasterKey {
    MasterKey::parse(&"5a".repeat(32)).expect("a key")
}

fn new_store() -> (TempDir, KeyStore) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = KeyStore::create(folder.path(), master(), "audit.example/log1").expect("a new store");
    (folder, store)
}

fn resolve(store: &mut KeyStore, customer: Option<&str>, address: Option<&str>) -> Option<(Subject, Option<u64>)> {
    let mut tags = Vec::new();
    tags.extend(customer.map(|c| store.identifier_tag(CustomerId, c)));
    tags.extend(address.map(|a| store.identifier_tag(Address, a)));
    match store.resolve(&tags, TODAY).expect("readable") {
        Resolved::Subject { subject, linked } => Some((subject, linked)),
        Resolved::Erased => None,
    }
}

fn number(store: &mut KeyStore, customer: Option<&str>, address: Option<&str>) -> u64 {
    resolve(store, customer, address).expect("a living subject").0.number
}

#[test]
fn identity_follows_the_rules() {
    let (_folder, mut store) = new_store();
    let thabo = number(&mut store, Some("c-1"), Some("t@mail.example"));
    assert_eq!(number(&mut store, Some("c-1"), None), thabo);
    assert_eq!(number(&mut store, None, Some("t@mail.example")), thabo, "a free address was attached");
    // An address-only subject found beside a customer id is joined, once.
    let visitor = number(&mut store, None, Some("v@mail.example"));
    let (customer, linked) = resolve(&mut store, Some("c-2"), Some("v@mail.example")).expect("living");
    assert_eq!(linked, Some(visitor));
    assert_eq!(resolve(&mut store, Some("c-2"), Some("v@mail.example")).expect("living").1, None);
    let tag = store.identifier_tag(Address, "v@mail.example");
    let mut closure = store.closure(&tag).expect("readable");
    closure.sort();
    let mut expected = vec![visitor, customer.number];
    expected.sort();
    assert_eq!(closure, expected);
    // Another customer's address is shared from then on, never merged.
    let third = number(&mut store, Some("c-3"), Some("t@mail.example"));
    assert_ne!(third, thabo);
    let tag = store.identifier_tag(Address, "t@mail.example");
    assert!(store.closure(&tag).expect("readable").is_empty(), "a shared inbox names nobody");
    assert_ne!(number(&mut store, None, Some("t@mail.example")), thabo);
    // No identifier: a fresh subject each time.
    assert_ne!(number(&mut store, None, None), number(&mut store, None, None));
}

#[test]
fn thousands_of_subjects_survive_a_restart_and_only_commit_is_durable() {
    let (folder, mut store) = new_store();
    let numbers: Vec<u64> =
        (0..3000).map(|i| number(&mut store, Some(&format!("c-{i}")), Some(&format!("{i}@mail.example")))).collect();
    let sealing = store.subject(numbers[7]).expect("readable").expect("living").sealing;
    store.commit().expect("durable");
    let generation = store.generation();
    number(&mut store, Some("lost"), None);
    drop(store);
    let mut store = KeyStore::open(folder.path(), master()).expect("it opens");
    assert_eq!(store.generation(), generation);
    for (i, expected) in numbers.iter().enumerate() {
        assert_eq!(number(&mut store, Some(&format!("c-{i}")), None), *expected);
        assert_eq!(number(&mut store, None, Some(&format!("{i}@mail.example"))), *expected);
    }
    assert_eq!(store.subject(numbers[7]).expect("readable").expect("living").sealing, sealing);
}

#[test]
fn a_wrong_or_old_master_key_opens_nothing() {
    let (folder, mut store) = new_store();
    let other = MasterKey::generate(&mut RandomPool::default());
    drop(KeyStore::open(folder.path(), master()).expect("the right key opens"));
    assert!(matches!(KeyStore::open(folder.path(), other.clone()), Err(Error::WrongMasterKey)));
    store.rewrap(other.clone()).expect("rewrapped");
    drop(store);
    assert!(matches!(KeyStore::open(folder.path(), master()), Err(Error::WrongMasterKey)));
    KeyStore::open(folder.path(), other).expect("the new key opens");
}

/// Copies of every file of the store taken before the erasure stand for free pages and write-ahead copies: with the
/// living master key and the root file as it is afterwards, none of them opens.
#[test]
fn after_an_erasure_no_older_copy_of_a_page_opens() {
    let (folder, mut store) = new_store();
    for i in 0..500 {
        number(&mut store, Some(&format!("c-{i}")), None);
    }
    store.commit().expect("durable");
    let before = tempfile::tempdir().expect("a folder");
    let copy = |name: &str| {
        let from = folder.path().join(name);
        if from.exists() {
            std::fs::copy(from, before.path().join(name)).expect("copied");
        }
    };
    ["root", "store.db", "store.db-wal"].iter().for_each(|name| copy(name));
    // The control: with the root file of that time the copy opens, and the person is in it.
    let mut control = KeyStore::open(before.path(), master()).expect("the control opens");
    let tag = control.identifier_tag(CustomerId, "c-77");
    let victim = control.closure(&tag).expect("readable");
    assert_eq!(victim.len(), 1);
    drop(control);
    store.destroy_subjects(&victim, TODAY).expect("destroyed");
    store.destroy_subjects(&victim, TODAY).expect("a second time does nothing");
    assert!(store.subject(victim[0]).expect("readable").is_none());
    assert!(store.closure(&tag).expect("readable").is_empty());
    assert!(resolve(&mut store, Some("c-77"), Some("new@mail.example")).is_none(), "late events come without a body");
    assert!(resolve(&mut store, Some("c-78"), None).is_some());
    drop(store);
    std::fs::copy(folder.path().join("root"), before.path().join("root")).expect("copied");
    assert!(KeyStore::open(before.path(), master()).is_err(), "old pages under the living root");
    let mut store = KeyStore::open(folder.path(), master()).expect("it opens");
    assert!(store.subject(victim[0]).expect("readable").is_none());
    assert!(resolve(&mut store, Some("c-77"), None).is_none());
    assert!(resolve(&mut store, Some("c-499"), None).is_some());
}

#[test]
fn periods_end_and_late_records_get_the_current_one() {
    use proof::time::UnixMillis;
    use record::class::ClassId;
    let (_folder, mut store) = new_store();
    let now = UnixMillis::parse(b"2026-11-22T10:00:00Z").expect("a time");
    let at = |text: &str| UnixMillis::parse(text.as_bytes()).expect("a time");
    let mut period = |class, time: &str| store.period(class, at(time), now).expect("a key");
    let today = period(ClassId::MAIL_EVENT, "2026-11-22T00:00:00Z");
    assert_eq!(period(ClassId::MAIL_EVENT, "2026-11-22T23:59:59Z").id, today.id);
    assert_ne!(period(ClassId::MAIL_EVENT, "2026-11-21T23:59:59Z").id, today.id);
    let late = period(ClassId::MAIL_EVENT, "2024-01-01T00:00:00Z");
    assert_eq!((late.id, late.late), (today.id, true));
    let ahead = period(ClassId::MAIL_EVENT, "9999-01-01T00:00:00Z");
    assert_eq!((ahead.id, ahead.late), (today.id, false));
    assert!(!period(ClassId::COMMUNICATION, "2024-01-01T00:00:00Z").late);
}

#[test]
fn a_tombstone_ends_on_its_day() {
    let (_folder, mut store) = new_store();
    let number = number(&mut store, Some("c-1"), None);
    store.destroy_subjects(&[number], TODAY).expect("destroyed");
    let tags = [store.identifier_tag(CustomerId, "c-1")];
    let last = TODAY + seal::store::TOMBSTONE_DAYS - 1;
    assert!(matches!(store.resolve(&tags, last).expect("readable"), Resolved::Erased));
    assert!(matches!(store.resolve(&tags, last + 1).expect("readable"), Resolved::Subject { .. }));
}

/// Four threads make subjects and ask for durability while a fifth erases; then the files alone are opened.
#[test]
fn what_was_ensured_is_in_the_files_whatever_else_was_written_meanwhile() {
    let (folder, mut store) = new_store();
    let victims: Vec<u64> = (0..20).map(|i| number(&mut store, Some(&format!("victim-{i}")), None)).collect();
    store.commit().expect("durable");
    let store = SharedStore::new(store);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for i in 0..100 {
                    let ticket = {
                        let mut held = store.lock().expect("whole");
                        number(&mut held, Some(&format!("c-{thread}-{i}")), Some(&format!("{i}@{thread}.example")));
                        held.ticket()
                    };
                    store.ensure(ticket).expect("durable");
                }
            });
        }
        let (store, victims) = (&store, &victims);
        scope.spawn(move || {
            for victim in victims {
                store.lock().expect("whole").destroy_subjects(&[*victim], TODAY).expect("destroyed");
            }
        });
    });
    // Taken and not asked for: not promised.
    number(&mut store.lock().expect("whole"), Some("unasked"), None);
    drop(store);
    let mut store = KeyStore::open(folder.path(), master()).expect("it opens");
    assert_eq!(store.subject_count(), 420);
    for thread in 0..4 {
        for i in 0..100 {
            let customer = number(&mut store, Some(&format!("c-{thread}-{i}")), None);
            assert_eq!(number(&mut store, None, Some(&format!("{i}@{thread}.example"))), customer);
        }
    }
    for (i, victim) in victims.iter().enumerate() {
        assert!(resolve(&mut store, Some(&format!("victim-{i}")), None).is_none());
        assert!(store.subject(*victim).expect("readable").is_none());
    }
}

/// A stop between the two last writes of the root file leaves the old root key in one slot: the next start takes it away.
#[test]
fn an_old_root_key_in_the_other_slot_is_gone_after_the_next_start() {
    let (folder, mut store) = new_store();
    let victim = number(&mut store, Some("c-1"), None);
    store.commit().expect("durable");
    let path = folder.path().join("root");
    let before = std::fs::read(&path).expect("readable");
    store.destroy_subjects(&[victim], TODAY).expect("destroyed");
    drop(store);
    let mut stopped = std::fs::read(&path).expect("readable");
    let sequence = |bytes: &[u8], slot: usize| bytes[slot * 512 + 10..slot * 512 + 18].to_vec();
    let older = usize::from(sequence(&stopped, 0) > sequence(&stopped, 1));
    let range = older * 512..(older + 1) * 512;
    stopped[range.clone()].copy_from_slice(&before[range.clone()]);
    std::fs::write(&path, &stopped).expect("written");
    let mut store = KeyStore::open(folder.path(), master()).expect("it opens");
    assert!(store.subject(victim).expect("readable").is_none());
    assert_ne!(std::fs::read(&path).expect("readable")[range.clone()], before[range], "the old slot was written over");
}

#[test]
fn two_customers_are_never_joined_by_an_address_of_a_third() {
    let (_folder, mut store) = new_store();
    // The relay's log knew the address before either customer named it.
    let inbox = number(&mut store, None, Some("family@mail.example"));
    let (one, linked) = resolve(&mut store, Some("c-1"), Some("family@mail.example")).expect("living");
    assert_eq!(linked, Some(inbox));
    let (other, linked) = resolve(&mut store, Some("c-2"), Some("family@mail.example")).expect("living");
    assert_eq!(linked, None);
    let mut of = |number: u64| {
        let mut closure = store.closure_of(number).expect("readable");
        closure.sort();
        closure
    };
    let mut first = vec![inbox, one.number];
    first.sort();
    assert_eq!((of(one.number), of(other.number)), (first, vec![other.number]));
    let tag = store.identifier_tag(Address, "family@mail.example");
    assert!(store.closure(&tag).expect("readable").is_empty(), "from now on the inbox is nobody's");
    // Nor by way of two subjects that no customer was named with.
    let (a, b) = (number(&mut store, None, Some("a@mail.example")), number(&mut store, None, Some("b@mail.example")));
    number(&mut store, Some("c-3"), Some("a@mail.example"));
    number(&mut store, Some("c-4"), Some("b@mail.example"));
    assert_ne!(a, b);
    let tags = [store.identifier_tag(Address, "a@mail.example"), store.identifier_tag(Address, "b@mail.example")];
    let Resolved::Subject { linked, .. } = store.resolve(&tags, TODAY).expect("readable") else { panic!("living") };
    assert_eq!(linked, None);
    let tag = store.identifier_tag(CustomerId, "c-3");
    assert_eq!(store.closure(&tag).expect("readable").len(), 2);
}

#[test]
fn a_second_customer_number_beside_the_first_changes_nothing_of_either() {
    let (_folder, mut store) = new_store();
    let other = number(&mut store, Some("c-2"), Some("two@mail.example"));
    for second in ["c-2", "c-9"] {
        let tags = [store.identifier_tag(CustomerId, "c-1"), store.identifier_tag(CustomerId, second)];
        assert!(matches!(store.resolve(&tags, TODAY), Ok(Resolved::Subject { linked: None, .. })));
    }
    let one = number(&mut store, Some("c-1"), None);
    assert_eq!(number(&mut store, Some("c-2"), None), other);
    assert!(![one, other].contains(&number(&mut store, Some("c-9"), None)), "it is its own");
    let tag = store.identifier_tag(CustomerId, "c-2");
    assert_eq!(store.closure(&tag).expect("readable"), [other]);
}

#[test]
fn periods_end_on_their_day_and_holds_keep_single_bodies() {
    use proof::time::UnixMillis;
    use record::class::{ClassId, Retention};
    use seal::crypto::Key;
    use seal::holds::Held;

    let (folder, mut store) = new_store();
    let day = |day: u32| UnixMillis(u64::from(day) * 86_400_000);
    let mail = ClassId::MAIL_EVENT;
    let (old, now) = (day(TODAY - 10), day(TODAY));
    let first = store.period(mail, old, now).expect("a key");
    let other = store.period(mail, day(TODAY - 9), now).expect("a key");
    let trail = store.period(ClassId::TRAIL, old, now).expect("a key");
    assert!(!first.late && store.due(TODAY).is_empty());
    let mut retention = Retention::default();
    retention.set(mail, 9);
    store.set_retention(retention);
    assert_eq!(store.due(TODAY).iter().map(|span| span.id).collect::<Vec<_>>(), [first.id]);

    store.place_hold("hold-1", "{}", 7).expect("placed");
    store.place_hold("hold-1", "other", 8).expect("placed before");
    let keys = |entry: u64| Held {
        entry,
        facts: Key::from_bytes([entry as u8; 32]),
        personal: entry.is_multiple_of(2).then(|| Key::from_bytes([entry as u8 + 1; 32])),
    };
    let held: Vec<Held> = (1..200).map(keys).collect();
    store.hold_entries("hold-1", first.id, &held[..150]).expect("held");
    store.hold_entries("hold-1", first.id, &held).expect("held, what was not");
    store.end_period(first.id, 30).expect("ended");
    store.end_period(first.id, 31).expect("ended before");
    let again = |mut store: KeyStore, live: bool| {
        assert!(matches!(store.period_by_id(first.id), Err(Error::KeyDestroyed)));
        assert_eq!((store.ended_by(first.id), store.ended_by(other.id)), (Some(30), None));
        assert_eq!(store.period_by_id(other.id).expect("lives"), other.key);
        assert_eq!(store.period_by_id(trail.id).expect("lives"), trail.key);
        // A record of a period that has ended goes with the current one.
        store.set_retention(Retention::default());
        let late = store.period(mail, old, now).expect("a key");
        assert!(late.late && late.id != first.id);
        for entry in [0, 1, 64, 65, 150, 199, 200] {
            let kept = store.held(entry, first.id).expect("readable");
            assert_eq!(kept, held.iter().find(|held| held.entry == entry && live).cloned(), "{entry}");
        }
        assert_eq!(store.held(1, other.id).expect("readable"), None);
        assert_eq!((store.holds().len(), store.holds()[0].ring_entries()), (1, if live { 199 } else { 0 }));
        assert_eq!((store.holds()[0].filter.as_str(), store.holds_of_period(first.id)), ("{}", live));
        store
    };
    drop(again(store, true));
    let open = || KeyStore::open(folder.path(), master()).expect("opened");
    let mut store = again(open(), true);
    store.set_replaced(first.id).expect("noted");
    store.release_hold("hold-1").expect("released");
    store.release_hold("hold-1").expect("released before");
    drop(again(store, false));
    let store = again(open(), false);
    assert!(store.ended()[0].replaced && !store.holds()[0].is_live());
}
