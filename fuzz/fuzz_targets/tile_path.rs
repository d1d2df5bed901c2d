//! Fuzzes one parser of outside bytes; `crates/candor/tests/fuzz_corpus.rs` replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| { if let Ok(text) = std::str::from_utf8(data) { let _ = proof::tile::TilePath::parse(text); } });
