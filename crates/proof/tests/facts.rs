//! The worked examples of the C2SP specifications and of golang.org/x/mod, byte for byte.

use proof::checkpoint::Checkpoint;
use proof::encoding::{base64, from_hex, hex};
use proof::hash::{Hash, leaf, sha256};
use proof::note::{Note, NoteSigner, TYPE_COSIGNATURE, TYPE_ED25519, VerifierKey};
use proof::tile::{TilePath, full_tiles, partial_width};
use proof::tlog_proof::TlogProof;
use proof::tree::{
    CompactRange, Leaves, consistency_proof, inclusion_proof, range_root, verify_consistency, verify_inclusion,
};
use proof::{bundle, cosignature};

const CHECKPOINT: &str = "audit.example/log1\n5\ny4g1HNCsQNV56g854ZlHzZam4PnTcAzzSKSWQq7kS0U=\n\n\
    \u{2014} audit.example/log1 ZAolDwSwv0YK5sMTJzw2KE1v04Iy5r39mxjvdGKAX/N9rmGcmwz5NX2bfHJwcZ/hYSmoEdHg0Jc6ztYsQaRb2tKunAE=\n\
    \u{2014} witness.example/w1 IDJKvgAAAABlU/EAGb8LCy/Ly52Mq24HIbQ0/xI2leLN9BRO9IBbCfOq0RccZLRlt9omtgLxFV2GSWUc7sl5AAoxoYNTG7Cs2IpxAg==\n";
const LOG_VKEY: &str = "audit.example/log1+640a250f+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
const WITNESS_VKEY: &str = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X";

fn seed(first: u8) -> [u8; 32] {
    std::array::from_fn(|i| first + i as u8)
}

fn leaves() -> Leaves {
    Leaves(["alpha", "", "gamma", "delta", "epsilon"].iter().map(|entry| leaf(entry.as_bytes())).collect())
}

fn vkey(text: &str) -> VerifierKey {
    VerifierKey::parse(text).expect("a published key")
}

#[test]
fn specification_note_verifies() {
    let note = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    let key = vkey("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k");
    Note::parse(note.as_bytes()).expect("it parses").verify(&[key]).expect("it verifies");
}

#[test]
fn go_test_key_signs_the_same_bytes() {
    let signer = NoteSigner::new(
        "PeterNeumann",
        TYPE_ED25519,
        &from_hex(b"810a1402d5146c8d84f2443330f54080ebf98ee17d9c74f6252fc5d5c7283173").expect("hex"),
    )
    .expect("a key");
    assert_eq!(signer.verifier().to_string(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
    let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    assert_eq!(
        signer.sign_line(text),
        "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    );
}

#[test]
fn own_keys_and_checkpoint_come_out_byte_for_byte() {
    let log = NoteSigner::new("audit.example/log1", TYPE_ED25519, &seed(0)).expect("a key");
    assert_eq!(log.verifier().to_string(), LOG_VKEY);
    let as_witness = NoteSigner::new("audit.example/log1", TYPE_COSIGNATURE, &seed(0)).expect("a key");
    assert_eq!(
        as_witness.verifier().to_string(),
        "audit.example/log1+e493feb1+BAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
    );
    let witness = NoteSigner::new("witness.example/w1", TYPE_COSIGNATURE, &seed(0x20)).expect("a key");
    assert_eq!(witness.verifier().to_string(), WITNESS_VKEY);
    let Ok(root) = range_root(&leaves(), 0, 5);
    let checkpoint = Checkpoint::new("audit.example/log1", 5, root);
    let signed = checkpoint.sign(&log) + &cosignature::cosign(&witness, &checkpoint.text(), 1_700_000_000);
    assert_eq!(signed, CHECKPOINT);
    let note = Note::parse(CHECKPOINT.as_bytes()).expect("it parses");
    assert_eq!(
        cosignature::verify(&note, &[vkey(WITNESS_VKEY)]),
        Ok(vec![("witness.example/w1".to_owned(), 1_700_000_000)])
    );
    assert_eq!(Checkpoint::open(CHECKPOINT.as_bytes(), &[vkey(LOG_VKEY)]), Ok(checkpoint));
    assert!(Checkpoint::open(CHECKPOINT.as_bytes(), &[vkey(WITNESS_VKEY)]).is_err());
}

#[test]
fn size_zero_checkpoint() {
    assert_eq!(Checkpoint::new("o", 0, sha256(b"")).text(), "o\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n");
    assert!(Checkpoint::parse_text(&Checkpoint::new("o", 0, Hash([0; 32])).text()).is_err());
}

#[test]
fn roots_and_leaves() {
    let expected = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "2a158d8afd48e3f88cb4195dfdb2a9e4817d95fa57fd34440d93f9aae5c4f82b",
        "e5c500d4e9f2bd311da87658fd66f03d1aaeb85e92844381550935c5a9d99db3",
        "00663cebc5db5e86e9f1765f65b24c994ff708c6d51453463ba39961e12300c7",
        "08764e100460cb023a8df0e30041f94c7686eeb1436333b6c9784c3c5058c876",
        "cb88351cd0ac40d579ea0f39e19947cd96a6e0f9d3700cf348a49642aee44b45",
    ];
    let mut range = CompactRange::new();
    for (size, root) in expected.iter().enumerate() {
        let Ok(naive) = range_root(&leaves(), 0, size as u64);
        assert_eq!(naive.hex(), *root);
        assert_eq!(range.root().hex(), *root);
        if let Some(leaf) = leaves().0.get(size) {
            range.push(*leaf, |_, _, _| {});
        }
    }
    assert_eq!(leaves().0[1].hex(), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
}

#[test]
fn published_proof_paths() {
    let short = |path: Vec<Hash>| path.iter().map(|hash| hex(&hash.0[..4])).collect::<Vec<_>>();
    for (index, expected) in [
        (0, vec!["6e340b9c", "839a554f", "bf36e59f"]),
        (2, vec!["5c7117fb", "e5c500d4", "bf36e59f"]),
        (4, vec!["08764e10"]),
    ] {
        let Ok(path) = inclusion_proof(&leaves(), index, 5);
        assert_eq!(short(path), expected);
    }
    for (old, expected) in [
        (1, vec!["6e340b9c", "839a554f", "bf36e59f"]),
        (2, vec!["839a554f", "bf36e59f"]),
        (3, vec!["4c79d0d6", "5c7117fb", "e5c500d4", "bf36e59f"]),
        (4, vec!["bf36e59f"]),
    ] {
        let Ok(path) = consistency_proof(&leaves(), old, 5);
        assert_eq!(short(path), expected);
    }
}

#[test]
fn tlog_proof_file_byte_for_byte() {
    let Ok(path) = inclusion_proof(&leaves(), 2, 5);
    let proof = TlogProof { extra: None, index: 2, path, checkpoint: CHECKPOINT.to_owned() };
    let text = proof.to_text();
    // The facts count characters; the two em dashes have three bytes each.
    assert_eq!((text.chars().count(), text.len()), (474, 478));
    assert_eq!(TlogProof::parse(text.as_bytes()), Ok(proof.clone()));
    proof.verify(&leaves().0[2], &[vkey(LOG_VKEY)]).expect("it holds");
    assert!(proof.verify(&leaves().0[3], &[vkey(LOG_VKEY)]).is_err());
    let extra = TlogProof { extra: Some(b"opening".to_vec()), ..proof };
    assert_eq!(TlogProof::parse(extra.to_text().as_bytes()), Ok(extra));
    for bad in [
        text.replace("index 2", "index 02"),
        text.replace("@v1", "@v2"),
        text.replace("\n\n", "\n"),
        text.replace("index 2\n", ""),
    ] {
        assert!(TlogProof::parse(bad.as_bytes()).is_err());
    }
}

#[test]
fn bundle_and_tile_bytes() {
    let mut bytes = Vec::new();
    for entry in ["alpha", "", "gamma", "delta", "epsilon"] {
        bundle::push(&mut bytes, entry.as_bytes()).expect("short");
    }
    assert_eq!(hex(&bytes), "0005616c7068610000000567616d6d61000564656c74610007657073696c6f6e");
    assert_eq!(bundle::parse(&bytes).expect("whole").len(), 5);
    assert!(bundle::parse(&bytes[..bytes.len() - 1]).is_err());
    assert!(bundle::parse(&[]).is_err());
    assert!(bundle::parse(&[0; 2 * 257]).is_err());
    assert!(bundle::push(&mut bytes, &[0; 65_536]).is_err());
    let tile: Vec<u8> = leaves().0.iter().flat_map(|hash| hash.0).collect();
    assert_eq!(sha256(&tile).hex(), "23382640d4edd1ef2d4732e6f647a3b9f9a35385463a421312396f9281604236");
}

#[test]
fn tile_paths() {
    for (index, path) in [
        (0, "000"),
        (5, "005"),
        (999, "999"),
        (1000, "x001/000"),
        (1_234_067, "x001/x234/067"),
        (1_000_000, "x001/x000/000"),
        (1_000_000_000, "x001/x000/x000/000"),
    ] {
        let tile = TilePath::Hashes { level: 0, index, width: None };
        assert_eq!(tile.to_string(), format!("tile/0/{path}"));
        assert_eq!(TilePath::parse(&tile.to_string()), Ok(tile));
        let entries = TilePath::Entries { index, width: Some(5) };
        assert_eq!(TilePath::parse(&format!("tile/entries/{path}.p/5")), Ok(entries));
    }
    for bad in [
        "tile/0/x000/005",
        "tile/0/1000",
        "tile/0/001/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/64/000",
        "tile/00/000",
        "tile/0/00",
        "tile/0/x001/x000",
        "tile/-1/000",
        "tile/0/000.p/05",
        "tile/0/",
        "tile//000",
        "x",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
    ] {
        assert!(TilePath::parse(bad).is_err(), "{bad}");
    }
    for (size, level, full, partial) in [
        (255, 0, 0, 255),
        (256, 0, 1, 0),
        (256, 1, 0, 1),
        (257, 0, 1, 1),
        (65_536, 1, 1, 0),
        (65_536, 2, 0, 1),
        (70_000, 0, 273, 112),
        (70_000, 1, 1, 17),
        (1_000_000_000, 1, 15_258, 202),
        (1_000_000_000, 3, 0, 59),
        (u64::MAX, 63, 0, 0),
    ] {
        assert_eq!((full_tiles(level, size), u64::from(partial_width(level, size))), (full, partial), "{size} {level}");
    }
}

#[test]
fn malformed_notes_are_refused() {
    let key = vkey(LOG_VKEY);
    let good = CHECKPOINT;
    for bad in [
        good.replace("\n\n", "\n"),
        good.trim_end().to_owned(),
        good.replace('\u{2014}', "-"),
        good.replace("log1 ZA", "log1  ZA"),
        good.replace("audit.example/log1 Z", "audit+example Z"),
        good.replace("AE=\n", "AE\n"),
        good.replace("5\ny4", "5\r\ny4"),
        format!("{good}\u{2014} x AA==\n"),
        format!("{good}junk\n"),
        String::new(),
        "\n\n".to_owned(),
    ] {
        assert!(Note::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    // A known key's bad signature rejects the note even beside a good one.
    let twice = good.replace("y4g1", "y4g2");
    assert!(Checkpoint::open(twice.as_bytes(), std::slice::from_ref(&key)).is_err());
    let lines = "\u{2014} other AAAAAAAA\n".repeat(98);
    assert!(Checkpoint::open(format!("{good}{lines}").as_bytes(), std::slice::from_ref(&key)).is_ok());
    assert!(Note::parse(format!("{good}{lines}\u{2014} other AAAAAAAA\n").as_bytes()).is_err());
    assert!(VerifierKey::parse(&LOG_VKEY.replace("640a", "640b")).is_err());
    assert!(Note::parse(good.as_bytes()).expect("good").verify(&[key.clone(), key]).is_err());
}

#[test]
fn every_proof_up_to_size_70_holds_and_no_other_index_does() {
    let all: Vec<Hash> = (0..70u32).map(|i| leaf(&i.to_be_bytes())).collect();
    let tree = Leaves(all.clone());
    for size in 1..=70u64 {
        let Ok(root) = range_root(&tree, 0, size);
        for index in 0..size {
            let Ok(path) = inclusion_proof(&tree, index, size);
            verify_inclusion(index, size, &all[index as usize], &path, &root).expect("it is there");
            assert!(verify_inclusion((index + 1) % 70, size, &all[index as usize], &path, &root).is_err());
        }
        for old in 0..=size {
            let Ok(old_root) = range_root(&tree, 0, old);
            let Ok(path) = consistency_proof(&tree, old, size);
            verify_consistency((old, &old_root), (size, &root), &path).expect("it is a prefix");
            if old > 0 && old < size {
                assert!(verify_consistency((old, &root), (size, &root), &path).is_err());
            }
        }
    }
    assert!(verify_inclusion(0, 1, &all[0], &[Hash([0; 32]); 64], &all[0]).is_err());
    assert!(base64(&[0]).ends_with("=="));
}
