//! Hands over numbered records until there are so many, and says of each that it was taken. The tests kill it.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use candor_client::client::{Client, Config, Record};
use candor_client::spool::{Options, Spool};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, url, key, total] = arguments.as_slice() else { return Err("FOLDER URL KEYFILE TOTAL".into()) };
    let total: u64 = total.parse()?;
    let spool = Spool::open(Path::new(folder), "driver", Options::default())?;
    let mut next = spool.next_number();
    let config = Config {
        url: url.clone(),
        key: std::fs::read_to_string(key)?.trim().to_owned(),
        source_component: "driver".into(),
        environment: "test".into(),
        tls: None,
        on_refused: None,
    };
    let client = Client::start(spool, config)?;
    let fields = json!({"system_event": "step"}).as_object().cloned().unwrap_or_default();
    let record =
        Record { event_type: "SYSTEM_EVENT".into(), correlation_id: "driver".into(), fields, ..Record::default() };
    let mut out = std::io::stdout();
    while next <= total {
        writeln!(out, "{}", client.record(&record)?)?;
        out.flush()?;
        next += 1;
        std::thread::park_timeout(Duration::from_millis(1));
    }
    writeln!(out, "{}", if client.close(Duration::from_secs(60))? { "sent" } else { "waiting" })?;
    Ok(())
}
