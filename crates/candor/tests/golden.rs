//! `testdata/v1` is opened and verified by every build; altered copies are refused by both verifiers alike.

mod support;

use std::path::PathBuf;

use support::{bad, candor, copy_folder, folder, good, lines, python, python_with, root};

/// The keys of `testdata/v2`, in order.
const KEYS_2: [&str; 2] = [
    "audit.example/golden-2+b2f06679+ASGwMP5+JDrD+ip99Ph6Mj9NJtQhpL4rcyaqyLoU/5Fy",
    "audit.example/golden-2+73103553+AUtDPbgU/BiDPoAG/jHdbgF/Jxoq5WABXEDKTVlZPP2b",
];

fn golden() -> PathBuf {
    root().join("testdata/v1")
}

#[test]
fn version_1_verifies_opens_and_reads_as_it_did() {
    let trail = golden().join("trail");
    let path = trail.to_str().expect("UTF-8");
    let key = "audit.example/golden+383c52b7+AbGYXnLlfKpUbu72x23QYdh80qlNWEGkw2jx9ytRkeKC";
    good(&["verify", path, "--key", key]);
    assert_eq!(python(&trail).0, 0);
    for receipt in ["receipt-0.json", "receipt-23.json"] {
        good(&["verify", golden().join(receipt).to_str().expect("UTF-8"), "--key", key]);
        assert_eq!(python(&golden().join(receipt)).0, 0);
    }
    let folder = folder();
    let copy = folder.path().join("trail");
    copy_folder(&trail, &copy);
    let data = copy.to_str().expect("UTF-8");
    good(&["clock", "accept", "--data", data]);
    let expected: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(golden().join("entry-23.json")).expect("readable"))
            .expect("JSON");
    let shown: serde_json::Value =
        serde_json::from_str(&good(&["show", "--data", data, "23", "--json"])).expect("JSON");
    // What is said of an entry may grow; what was said of it stays.
    for (name, value) in expected.as_object().expect("an entry") {
        assert_eq!(&shown[name], value, "{name}");
    }
    assert_eq!(good(&["search", "--data", data, "refund"]).lines().count(), 1);
    assert_eq!(good(&["history", "--data", data, "--customer", "c-77"]), "", "the erased customer");
    good(&["verify", data]);
}

/// A trail whose key changed, with a receipt from before it and one from after.
#[test]
fn version_2_verifies_under_both_keys_opens_and_reads_as_it_did() {
    let golden = root().join("testdata/v2");
    let trail = golden.join("trail");
    let [before, after] = KEYS_2;
    for (path, key, holds) in [
        ("trail", before, true),
        ("trail", after, true),
        ("receipt-before.json", before, true),
        ("receipt-before.json", after, false),
        ("receipt-during.json", before, true),
        ("receipt-during.json", after, true),
    ] {
        let path = golden.join(path);
        let ours = candor(&["verify", path.to_str().expect("UTF-8"), "--key", key]).status.success();
        let theirs = python_with(&path, &["--key", key]).0 == 0;
        assert_eq!((ours, theirs), (holds, holds), "{} under {key}", path.display());
    }
    let folder = folder();
    let copy = folder.path().join("trail");
    copy_folder(&trail, &copy);
    let data = copy.to_str().expect("UTF-8");
    good(&["clock", "accept", "--data", data]);
    assert_eq!(good(&["search", "--data", data, "refund"]).lines().count(), 1);
    let keys = lines(&good(&["keys", "list", "--json", "--data", data])).remove(0);
    assert_eq!(keys["log_keys"], serde_json::json!(KEYS_2));
    good(&["verify", data, "--key", after]);
}

#[test]
fn another_key_is_not_accepted() {
    let trail = golden().join("trail");
    let other = "audit.example/log1+640a250f+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
    let output = candor(&["verify", trail.to_str().expect("UTF-8"), "--key", other]);
    assert_eq!(output.status.code(), Some(1));
    bad(2, &["verify", "/no/such/place"]);
}

/// A hundred altered copies: journal bytes flipped, inserted, cut and swapped, receipts altered; the two verifiers agree
/// on each, and on the entry where the Rust one names it.
#[test]
fn two_verifiers_agree_on_altered_copies() {
    let folder = folder();
    let sources = [
        (golden(), "trail/journal/0000000000.seg", "receipt-23.json"),
        (root().join("testdata/v2"), "trail/journal/0000000001.seg", "receipt-during.json"),
    ];
    let mut refused = 0;
    for round in 0..100usize {
        let (from, segment, receipt) = &sources[round / 50];
        let dice = proof::hash::sha256(&round.to_be_bytes()).0;
        let number = |at: usize| u32::from_be_bytes([dice[at], dice[at + 1], dice[at + 2], dice[at + 3]]) as usize;
        let is_receipt = round % 5 == 4;
        let mut bytes = std::fs::read(from.join(if is_receipt { receipt } else { segment })).expect("readable");
        let at = number(0) % bytes.len();
        match round % 4 {
            0 => bytes[at] ^= 1 << (dice[8] % 7),
            1 => bytes.insert(at, b'a'),
            2 => bytes.truncate(at),
            _ => {
                let other = number(4) % bytes.len();
                bytes.swap(at, other);
            }
        }
        let path = if is_receipt {
            folder.path().join(format!("{round}.json"))
        } else {
            let copy = folder.path().join(format!("{round}"));
            copy_folder(&from.join("trail"), &copy.join("trail"));
            copy.join("trail")
        };
        let file = if is_receipt { path.clone() } else { path.join(segment.trim_start_matches("trail/")) };
        std::fs::write(&file, &bytes).expect("written");
        let rust = candor(&["verify", path.to_str().expect("UTF-8")]);
        let said = String::from_utf8_lossy(&rust.stdout).into_owned();
        let (status, python_said) = python(&path);
        assert_eq!(rust.status.code(), Some(status), "round {round}: {said} / {python_said}");
        if let Some((_, entry)) = said.split_once("hold: entry ") {
            let entry = entry.split(':').next().unwrap_or_default();
            assert!(python_said.contains(&format!("entry {entry}:")), "round {round}: {said} / {python_said}");
        }
        refused += usize::from(status != 0);
    }
    println!("{refused} of 100 altered copies refused, by both alike");
    assert!(refused >= 96, "{refused}");
}
