//! A place in memory for keys elsewhere, and stores in it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use record::identifier::IdentifierType::CustomerId;
use seal::elsewhere::{Elsewhere, Held};
use seal::master::MasterKey;
use seal::shared::SharedStore;
use seal::store::{KeyStore, Resolved};
use tempfile::TempDir;

pub(crate) const TODAY: u32 = 20_000;
pub(crate) const ORIGIN: &str = "audit.example/log1";

pub(crate) fn master() -> MasterKey {
    MasterKey::parse(&"5a".repeat(32)).expect("a key")
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

pub(crate) type Objects = BTreeMap<String, (Vec<u8>, u64)>;

/// Part of an object's name, and what happens first.
pub(crate) type Before = (&'static str, Box<dyn FnOnce() + Send>);

/// A place in memory.
#[derive(Clone, Default)]
pub(crate) struct Place {
    pub(crate) objects: Arc<Mutex<Objects>>,
    /// The writes from this one on are not answered: the process has stopped. The first of them may be done or not.
    pub(crate) stops: Arc<Mutex<Option<(u64, bool)>>>,
    pub(crate) writes: Arc<Mutex<u64>>,
    /// Is run once, before an object is made or read whose name has the text.
    pub(crate) before: Arc<Mutex<Option<Before>>>,
}

impl Place {
    /// Another machine's way to the same objects.
    pub(crate) fn anew(&self) -> Place {
        Place { objects: Arc::clone(&self.objects), ..Place::default() }
    }

    pub(crate) fn copy(&self) -> Objects {
        self.objects.lock().expect("held").clone()
    }

    /// Another place with these objects.
    pub(crate) fn of(objects: Objects) -> Place {
        Place { objects: Arc::new(Mutex::new(objects)), ..Place::default() }
    }

    /// Something happens elsewhere just before an object of such a name is made or read.
    pub(crate) fn before(&self, name: &'static str, work: impl FnOnce() + Send + 'static) {
        *self.before.lock().expect("held") = Some((name, Box::new(work)));
    }

    fn run_before(&self, name: &str) {
        let mut held = self.before.lock().expect("held");
        let work = held.take_if(|(part, _)| name.contains(*part));
        drop(held);
        if let Some((_, work)) = work {
            work();
        }
    }

    pub(crate) fn boxed(&self) -> Option<Box<dyn Elsewhere>> {
        Some(Box::new(self.clone()))
    }

    fn write<T>(&self, work: impl FnOnce(&mut Objects, u64) -> T) -> io::Result<T> {
        let mut writes = self.writes.lock().expect("held");
        *writes += 1;
        let stops = *self.stops.lock().expect("held");
        let lost = || io::Error::other("no answer");
        match stops {
            Some((at, _)) if *writes > at => return Err(lost()),
            Some((at, false)) if *writes == at => return Err(lost()),
            _ => {}
        }
        let mut objects = self.objects.lock().expect("held");
        let tag = objects.values().map(|(_, tag)| *tag).max().unwrap_or_default() + 1;
        let done = work(&mut objects, tag);
        if stops.is_some_and(|(at, _)| *writes == at) { Err(lost()) } else { Ok(done) }
    }
}

impl Elsewhere for Place {
    fn make(&self, name: &str, bytes: Vec<u8>) -> io::Result<bool> {
        self.run_before(name);
        self.write(|objects, tag| {
            // Like a store that settles a lost answer by what stands there: the same bytes are taken for its own.
            let held = objects.entry(name.to_owned()).or_insert_with(|| (bytes.clone(), tag));
            held.0 == bytes
        })
    }

    fn get(&self, name: &str) -> io::Result<Option<Held>> {
        self.run_before(name);
        let objects = self.objects.lock().expect("held");
        Ok(objects.get(name).map(|(bytes, tag)| Held { bytes: bytes.clone(), tag: tag.to_string() }))
    }

    fn swap(&self, name: &str, bytes: Vec<u8>, before: Option<&str>) -> io::Result<Option<String>> {
        self.write(|objects, tag| {
            let held = objects.get(name).map(|(_, tag)| tag.to_string());
            let fits = held.as_deref() == before;
            if fits {
                objects.insert(name.to_owned(), (bytes, tag));
            }
            fits.then(|| tag.to_string())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.write(|objects, _| objects.remove(name)).map(drop)
    }
}

pub(crate) fn number(store: &mut KeyStore, customer: &str) -> Option<u64> {
    let tag = store.identifier_tag(CustomerId, customer);
    match store.resolve(&[tag], TODAY).expect("readable") {
        Resolved::Subject { subject, .. } => Some(subject.number),
        Resolved::Erased => None,
    }
}

/// A store in a folder and a place, with so many customers that are durable, and their numbers.
pub(crate) fn begun(customers: u64) -> (Place, TempDir, KeyStore, Vec<u64>) {
    let (place, here) = (Place::default(), folder());
    let mut store = KeyStore::create_with(here.path(), master(), ORIGIN, place.boxed()).expect("a store");
    let numbers = (0..customers).map(|i| number(&mut store, &format!("c-{i}")).expect("living")).collect();
    store.commit().expect("durable");
    (place, here, store, numbers)
}

pub(crate) fn sealing(store: &mut KeyStore, number: u64) -> Option<[u8; 32]> {
    store.subject(number).expect("readable").map(|subject| *subject.sealing.expose())
}

/// Makes so many new customers, each durable before the next; gives their numbers.
pub(crate) fn one_by_one(shared: &SharedStore, customers: std::ops::Range<u64>) -> Vec<u64> {
    let one = |i| {
        let mut store = shared.lock().expect("free");
        let made = number(&mut store, &format!("c-{i}")).expect("living");
        let ticket = store.ticket();
        drop(store);
        shared.ensure(ticket).expect("durable");
        made
    };
    customers.map(one).collect()
}
