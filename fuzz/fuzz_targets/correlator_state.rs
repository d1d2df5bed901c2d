//! A correlator's snapshot: what reads back is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sources::postfix::correlate::{Correlator, Options};

fuzz_target!(|data: &[u8]| {
    if let Ok(correlator) = Correlator::read(Options::default(), &mut &data[..]) {
        let mut out = Vec::new();
        correlator.write(&mut out).expect("a Vec takes all");
        assert_eq!(out.len(), data.len());
    }
});
