//! Fuzzes one parser of outside bytes; `crates/candor/tests/fuzz_corpus.rs` replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut mailbox = sources::import::mbox::Mailbox::new(data);
    while let Ok(Some(piece)) = mailbox.next_piece() {
        if let sources::import::mbox::Piece::Message(raw) = piece {
            let _ = sources::import::mail::records(&raw, &Default::default());
        }
    }
});
