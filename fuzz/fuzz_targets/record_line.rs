//! Fuzzes one parser of outside bytes; `crates/candor/tests/fuzz_corpus.rs` replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| { record_line(data); });

fn record_line(data: &[u8]) {
    let catalogue = record::kinds::Catalogue::shipped().expect("shipped");
    let detector = record::detect::Detector::new();
    let hash = |_: &str| [0; 16];
    let context = record::minimal::Context { source: "local", recipients: Default::default(), site: None,
        authority: record::schema::Authority::Source, now: proof::time::UnixMillis(1_763_000_000_000), hash: &hash };
    let _ = record::minimal::Reader::default().read(data, &catalogue, &detector, &context);
}
