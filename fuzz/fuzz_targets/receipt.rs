//! Fuzzes one parser of outside bytes; `crates/candor/tests/fuzz_corpus.rs` replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| { if let Ok(receipt) = proof::receipt::Receipt::parse(data) { let _ = receipt.verify(None); } });
