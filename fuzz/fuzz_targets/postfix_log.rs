//! Lines of a log: no bytes panic, and every record made of them is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sources::postfix::correlate::{Correlator, Options};
use sources::postfix::event::{Common, Event};

fuzz_target!(|data: &[u8]| {
    let mut correlator = Correlator::new(Options { keep_addresses: true, messages_max: 8, ..Options::default() });
    let common = Common { component: "c".into(), environment: "e".into() };
    for line in data.split(|byte| *byte == b'\n') {
        correlator.line(line, proof::time::UnixMillis(1_772_323_200_000), &mut |event| {
            if let Event::Observed(seen) = event {
                let mut out = Vec::new();
                seen.write(&common, &mut out);
                serde_json::from_slice::<serde_json::Value>(&out).expect("JSON");
            }
        });
    }
});
