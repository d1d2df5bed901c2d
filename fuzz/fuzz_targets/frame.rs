//! Fuzzes one parser of outside bytes; `crates/candor/tests/fuzz_corpus.rs` replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| { if let Ok(frame) = ledger::frame::Frame::parse(data) { if let Ok(entries) = frame.entries() { for place in 0..entries.len() { let _ = entries.record(place); } } for section in frame.sections.iter().skip(2) { let _ = frame.bodies(section); } let _ = frame.layout(); } });
