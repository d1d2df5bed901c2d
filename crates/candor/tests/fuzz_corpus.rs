//! Replays every fuzz target's corpus as a plain test: no input may make a parser panic.

mod support;

fn each(target: &str, run: impl Fn(&[u8])) -> usize {
    let files = support::files(&support::root().join("fuzz/corpus").join(target));
    for file in &files {
        run(&std::fs::read(file).expect("readable"));
    }
    files.len()
}

fn text(data: &[u8]) -> &str {
    std::str::from_utf8(data).unwrap_or_default()
}

#[test]
fn no_corpus_file_panics() {
    let catalogue = record::kinds::Catalogue::shipped().expect("shipped");
    let detector = record::detect::Detector::new();
    let mut count = 0;
    count +=
        each("entry", |data| drop(proof::entry::Entry::parse(data).map(|entry| assert_eq!(entry.to_bytes(), data))));
    count += each("note", |data| {
        drop(proof::note::Note::parse(data).map(|note| drop(proof::checkpoint::Checkpoint::parse_text(note.text))))
    });
    count += each("tlog_proof", |data| drop(proof::tlog_proof::TlogProof::parse(data)));
    count +=
        each("receipt", |data| drop(proof::receipt::Receipt::parse(data).map(|receipt| drop(receipt.verify(None)))));
    count += each("vkey", |data| drop(proof::note::VerifierKey::parse(text(data))));
    count += each("tile_path", |data| {
        drop(proof::tile::TilePath::parse(text(data)).map(|path| assert_eq!(path.to_string(), text(data))))
    });
    count += each("bundle", |data| drop(proof::bundle::parse(data)));
    count += each("body", |data| drop(proof::commitment::parse_body(data)));
    count += each("time", |data| assert!(proof::time::UnixMillis::parse(data).is_ok() || !data.is_empty()));
    count += each("record_line", |data| {
        let hash = |_: &str| [0; 16];
        let now = proof::time::UnixMillis(1_763_000_000_000);
        let authority = record::schema::Authority::Source;
        let context = record::minimal::Context {
            source: "local",
            recipients: Default::default(),
            site: None,
            authority,
            now,
            hash: &hash,
        };
        drop(record::minimal::Reader::default().read(data, &catalogue, &detector, &context));
    });
    count += each("kind_schema", |data| drop(record::schema::Kind::compile(text(data))));
    count += each("detector", |data| {
        drop(record::detect::cut(text(data), &detector.scan(text(data), record::detect::Depth::Full)))
    });
    count += each("sealed", |data| drop(seal::sealed::Parts::parse(data).map(drop)));
    count += each("frame", |data| {
        if let Ok(frame) = ledger::frame::Frame::parse(data) {
            if let Ok(entries) = frame.entries() {
                (0..entries.len()).for_each(|place| assert!(entries.record(place).is_ok() || place < 4096));
            }
            frame.sections.iter().skip(2).for_each(|section| drop(frame.bodies(section)));
        }
    });
    count += each("segment", |data| drop(ledger::segment::SegmentHeader::parse(data)));
    let options = || sources::postfix::correlate::Options { messages_max: 8, ..Default::default() };
    count += each("postfix_log", |data| {
        let mut correlator = sources::postfix::correlate::Correlator::new(options());
        let now = proof::time::UnixMillis(1_772_323_200_000);
        for line in data.split(|byte| *byte == b'\n') {
            correlator.line(line, now, &mut |_| {});
        }
    });
    count += each("correlator_state", |data| {
        if let Ok(correlator) = sources::postfix::correlate::Correlator::read(options(), &mut &data[..]) {
            let mut out = Vec::new();
            correlator.write(&mut out).expect("a Vec takes all");
            assert_eq!(out.len(), data.len());
        }
    });
    count += each("mailbox", |data| {
        let mut mailbox = sources::import::mbox::Mailbox::new(data);
        while let Ok(Some(piece)) = mailbox.next_piece() {
            if let sources::import::mbox::Piece::Message(raw) = piece {
                let _ = sources::import::mail::records(&raw, &Default::default());
            }
        }
    });
    println!("{count} corpus files replayed");
    let targets = support::files(&support::root().join("fuzz/fuzz_targets")).len();
    assert_eq!(targets, 18, "a fuzz target that is not replayed here");
}
