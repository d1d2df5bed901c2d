//! Sends a mail through a relay and records that it was sent.
//!
//!     cargo run -p candor-client --example send_mail -- HOST:PORT http://127.0.0.1:8420 KEYFILE
//!
//! The record is on this machine's disk before the program goes on; it reaches the trail when the server can be reached.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use candor_client::client::{Client, Config, Record};
use candor_client::spool::{Options, Spool};
use lettre::{Message, SmtpTransport, Transport};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, relay, url, key] = arguments.as_slice() else { return Err("RELAY:PORT URL KEYFILE".into()) };
    let (host, port) = relay.split_once(':').unwrap_or((relay, "25"));
    let config = Config {
        url: url.clone(),
        key: std::fs::read_to_string(key)?.trim().to_owned(),
        source_component: "shop".into(),
        environment: "production".into(),
        tls: None,
        on_refused: None,
    };
    let client = Client::start(Spool::open(Path::new("candor-spool-shop-2"), "shop-2", Options::default())?, config)?;

    let id = format!("{}.{}@shop.example", std::process::id(), client.pending()?);
    let subject = "Your order has shipped";
    let message = Message::builder()
        .from("orders@shop.example".parse()?)
        .to("thabo.4@mail.example".parse()?)
        .subject(subject)
        .message_id(Some(format!("<{id}>")))
        .body("It is on its way.".to_owned())?;
    SmtpTransport::builder_dangerous(host).port(port.parse()?).build().send(&message)?;

    let event_id = client.record(&Record::mail_sent(&id, "c-4", "thabo.4@mail.example", subject))?;
    let trouble = client.trouble().unwrap_or_default();
    let sent = client.close(Duration::from_secs(10))?;
    writeln!(
        std::io::stdout(),
        "{event_id} {}",
        if sent { "recorded".to_owned() } else { format!("waits in the spool: {trouble}") }
    )?;
    Ok(())
}
