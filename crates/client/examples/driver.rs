//! Hands over numbered records until there are so many, and says of each that it was taken. The tests kill it.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use candor_client::client::{Client, Config, Record};
use candor_client::spool::{Options, Spool};
use serde_json::json;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Trusts the certificates of a file and no other.
fn trusting(path: &str) -> Result<Arc<ClientConfig>, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, url, key, total, trusted @ ..] = arguments.as_slice() else {
        return Err("FOLDER URL KEYFILE TOTAL [CAFILE]".into());
    };
    let total: u64 = total.parse()?;
    let spool = Spool::open(Path::new(folder), "driver", Options::default())?;
    let mut next = spool.next_number();
    let config = Config {
        url: url.clone(),
        key: std::fs::read_to_string(key)?.trim().to_owned(),
        source_component: "driver".into(),
        environment: "test".into(),
        tls: trusted.first().map(|path| trusting(path)).transpose()?,
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
