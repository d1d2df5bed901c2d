//! The spool alone: what is kept, what is refused, what a crash leaves.

use std::path::Path;

use candor_client::error::Error;
use candor_client::spool::{Options, Spool};

fn open(folder: &Path) -> Spool {
    Spool::open(folder, "till", Options::default()).expect("open")
}

fn held(spool: &mut Spool) -> Vec<(u64, String)> {
    let records = spool.waiting(10, 1000).expect("read");
    records.into_iter().map(|(number, record)| (number, String::from_utf8(record).expect("text"))).collect()
}

fn numbered(records: &[(u64, &str)]) -> Vec<(u64, String)> {
    records.iter().map(|(number, record)| (*number, (*record).to_owned())).collect()
}

fn bytes(records: &[&str]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.as_bytes().to_vec()).collect()
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let items = std::fs::read_dir(folder).expect("listed").map(|item| item.expect("an item").path());
    items.filter(|path| path.extension().is_some_and(|extension| extension == "spool")).collect()
}

#[test]
fn what_was_taken_is_there_again_in_its_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut spool = open(folder.path());
    assert_eq!(spool.append(&bytes(&["one", "two"])).expect("taken"), 1);
    assert_eq!(spool.append(&bytes(&["three"])).expect("taken"), 3);
    drop(spool);
    let mut spool = open(folder.path());
    assert_eq!(held(&mut spool), numbered(&[(1, "one"), (2, "two"), (3, "three")]));
    assert_eq!(spool.waiting(2, 1000).expect("read").len(), 2);
    spool.acknowledge(2).expect("noted");
    assert_eq!(held(&mut spool), numbered(&[(3, "three")]));
    assert_eq!(spool.append(&bytes(&["four"])).expect("taken"), 4);
    drop(spool);
    let mut spool = open(folder.path());
    assert_eq!(held(&mut spool), numbered(&[(3, "three"), (4, "four")]));
    spool.acknowledge(4).expect("noted");
    assert_eq!((spool.pending(), held(&mut spool)), (0, Vec::new()));
    assert_eq!(segments(folder.path()), Vec::<std::path::PathBuf>::new(), "its place is free again");
    drop(spool);
    let other = Spool::open(folder.path(), "other", Options::default());
    assert!(matches!(other, Err(Error::Damaged { .. })), "its numbers are another stream's");
    assert_eq!(open(folder.path()).append(&bytes(&["five"])).expect("taken"), 5);
}

#[test]
fn a_frame_that_was_cut_off_was_never_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    open(folder.path()).append(&bytes(&["one", "two"])).expect("taken");
    let path = segments(folder.path()).pop().expect("a segment");
    let whole = std::fs::read(&path).expect("read");
    for end in 0..whole.len() {
        std::fs::write(&path, &whole[..end]).expect("written");
        let mut spool = open(folder.path());
        let there = held(&mut spool);
        assert!(there.is_empty() || there == numbered(&[(1, "one")]), "cut at {end}: {there:?}");
        assert_eq!(spool.next_number(), there.len() as u64 + 1);
    }
}

#[test]
fn it_is_sealed_and_bounded_and_of_one_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let small = Options { bytes_max: 4000, ..Options::default() };
    let mut spool = Spool::open(folder.path(), "till", small).expect("open");
    assert!(matches!(Spool::open(folder.path(), "till", small), Err(Error::Locked(_))));
    spool.append(&bytes(&["a record about somebody"])).expect("taken");
    for path in segments(folder.path()) {
        let held = std::fs::read(path).expect("read");
        assert!(!held.windows(8).any(|window| window == b"somebody"));
    }
    assert!(matches!(spool.append(&[vec![1; 5000]]), Err(Error::Full { limit: 4000 })));
    assert!(matches!(spool.append(&[vec![1; 70_000]]), Err(Error::Invalid(_))));
    assert_eq!(spool.pending(), 1);
    drop(spool);
    let other = Options { key: Some([7; 32]), ..Options::default() };
    let mut spool = Spool::open(folder.path(), "till", other).expect("open");
    assert!(matches!(spool.waiting(1, 1000), Err(Error::Damaged { .. })));
    drop(spool);
    assert!(matches!(Spool::open(folder.path(), "other", small), Err(Error::Damaged { .. })));
}

#[test]
fn the_golden_spool_opens() {
    let folder = tempfile::tempdir().expect("a folder");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/spool");
    for name in ["00000000000000000001.spool", "acknowledged"] {
        std::fs::copy(golden.join(name), folder.path().join(name)).expect("copied");
    }
    let key = std::array::from_fn(|place| place as u8);
    let mut spool = Spool::open(folder.path(), "till", Options { key: Some(key), ..Options::default() }).expect("open");
    assert_eq!(held(&mut spool), numbered(&[(2, "two"), (3, "three")]));
}
