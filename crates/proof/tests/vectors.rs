//! `testdata/merkle` (transparency-dev/merkle, Apache-2.0) and `testdata/tlog-tiles` (transparency-dev/tessera,
//! Apache-2.0): every proof is accepted or refused as published, every published tree verifies.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use proof::bundle;
use proof::checkpoint::Checkpoint;
use proof::hash::{Hash, leaf};
use proof::note::VerifierKey;
use proof::tree::{CompactRange, verify_consistency, verify_inclusion};
use serde_json::Value;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for item in std::fs::read_dir(directory).expect("the test data is there") {
        let path = item.expect("a directory entry").path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// A digest that is not 32 bytes can't be said in our types: such a vector is refused before the verifier.
fn hash(value: &Value) -> Option<Hash> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default()).expect("base64");
    <[u8; 32]>::try_from(bytes).ok().map(Hash)
}

fn path(value: &Value) -> Option<Vec<Hash>> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(hash).collect()
}

fn check(folder: &str, verify: impl Fn(&Value) -> bool) -> (usize, usize) {
    let (mut good, mut bad) = (0, 0);
    for file in files_below(&testdata(folder)) {
        let case: Value = serde_json::from_slice(&std::fs::read(&file).expect("readable")).expect("JSON");
        let refused = case["wantErr"].as_bool().expect("wantErr");
        assert_eq!(!verify(&case), refused, "{}", file.display());
        if refused { bad += 1 } else { good += 1 }
    }
    (good, bad)
}

#[test]
fn inclusion_vectors() {
    let (good, bad) = check("merkle/inclusion", |case| {
        let (Some(root), Some(leaf), Some(path)) = (hash(&case["root"]), hash(&case["leafHash"]), path(&case["proof"]))
        else {
            return false;
        };
        let number = |name: &str| case[name].as_u64().expect("a number");
        verify_inclusion(number("leafIdx"), number("treeSize"), &leaf, &path, &root).is_ok()
    });
    assert!(good >= 5 && bad >= 50, "{good} {bad}");
}

#[test]
fn consistency_vectors() {
    let (good, bad) = check("merkle/consistency", |case| {
        let number = |name: &str| case[name].as_u64().expect("a number");
        // Between equal sizes the roots are only compared, so texts that are no digests stand for digests of them.
        let equal_sizes = number("size1") == number("size2");
        let root = |name: &str| {
            hash(&case[name]).or_else(|| equal_sizes.then(|| leaf(case[name].as_str().unwrap_or_default().as_bytes())))
        };
        let (Some(old), Some(new), Some(path)) = (root("root1"), root("root2"), path(&case["proof"])) else {
            return false;
        };
        verify_consistency((number("size1"), &old), (number("size2"), &new), &path).is_ok()
    });
    assert!(good >= 5 && bad >= 50, "{good} {bad}");
}

#[test]
fn published_log_verifies_at_every_size() {
    let key = VerifierKey::parse("example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx")
        .expect("a key");
    let read = |name: String| std::fs::read(testdata("tlog-tiles").join(name)).expect("readable");
    for size in 0..=15u64 {
        let checkpoint =
            Checkpoint::open(&read(format!("checkpoint.{size}")), std::slice::from_ref(&key)).expect("signed");
        assert_eq!(checkpoint.size, size);
        let mut range = CompactRange::new();
        let partial = |folder: &str| testdata("tlog-tiles").join(format!("tile/{folder}/000.p/{size}"));
        if size > 0 && partial("entries").exists() {
            let bytes = std::fs::read(partial("entries")).expect("readable");
            for entry in bundle::parse(&bytes).expect("a bundle") {
                range.push(leaf(entry), |_, _, _| {});
            }
            let tile = std::fs::read(partial("0")).expect("readable");
            let mut from_tile = CompactRange::new();
            for hash in tile.chunks_exact(32) {
                from_tile.push(Hash(hash.try_into().expect("32 bytes")), |_, _, _| {});
            }
            assert_eq!(from_tile, range);
        } else if size > 0 {
            continue;
        }
        assert_eq!((range.size(), range.root()), (checkpoint.size, checkpoint.root));
    }
}
