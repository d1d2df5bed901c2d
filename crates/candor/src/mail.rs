//! Mail that Candor sends itself: links for customers, through the relay that is configured. Nothing is sent where none is.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{Address, Message, SmtpTransport, Transport as _};
use web::people::{Post, Reach};

use crate::config::{Config, Mail, Transport};

/// How long the relay is waited for.
const TIMEOUT: Duration = Duration::from_secs(20);

struct Relay {
    transport: SmtpTransport,
    from: Mailbox,
}

impl Post for Relay {
    fn send(&self, to: &str, subject: &str, text: &str) -> Result<(), String> {
        // The reasons would name the address.
        let to: Address = to.parse().map_err(|_| "the address is none".to_owned())?;
        let mail = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(subject)
            .header(ContentType::TEXT_PLAIN)
            .body(text.to_owned())
            .map_err(|_| "the mail could not be made".to_owned())?;
        self.transport.send(&mail).map(drop).map_err(|_| "the relay did not take the mail".to_owned())
    }
}

/// How customers are reached, where it is configured.
pub fn reach(data: &Path, config: &Config) -> Result<Option<Reach>> {
    let (mail, url) = match (&config.mail, &config.public_url) {
        (None, None) => return Ok(None),
        (None, _) => return Ok(None),
        (Some(mail), Some(url)) => (mail, url),
        (Some(_), None) => bail!("serve: mail: set public_url too: the links that are sent lead there"),
    };
    let relay = relay(data, mail).context("serve: mail")?;
    Ok(Some(Reach { url: url.trim_end_matches('/').to_owned(), post: std::sync::Arc::new(relay) }))
}

fn relay(data: &Path, mail: &Mail) -> Result<Relay> {
    let from: Mailbox = mail.from.parse().context("from must be an e-mail address")?;
    let (host, port) = mail.relay.rsplit_once(':').context("relay must be HOST:PORT")?;
    let port: u16 = port.parse().context("relay must be HOST:PORT")?;
    let is_local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let transport = match mail.tls {
        Some(transport) => transport,
        None if is_local => Transport::None,
        None => bail!("relay is beyond this machine: set tls to \"starttls\" or \"tls\", or to \"none\" knowing it"),
    };
    let parameters = || -> Result<TlsParameters> {
        let mut builder = TlsParameters::builder(host.to_owned());
        if let Some(path) = &mail.ca_file {
            let path = data.join(path);
            let read = || format!("read {}", path.display());
            let pem = std::fs::read(&path).with_context(read)?;
            builder = builder
                .certificate_store(CertificateStore::None)
                .add_root_certificate(Certificate::from_pem(&pem).with_context(read)?);
        }
        builder.build_rustls().context("TLS")
    };
    let tls = match transport {
        Transport::None => Tls::None,
        Transport::Starttls => Tls::Required(parameters()?),
        Transport::Tls => Tls::Wrapper(parameters()?),
    };
    let mut builder = SmtpTransport::builder_dangerous(host).port(port).tls(tls).timeout(Some(TIMEOUT));
    match (&mail.user, &mail.password_file) {
        (None, None) => {}
        (Some(_), Some(_)) if transport == Transport::None && !is_local => {
            bail!("a password would cross the network in clear: set tls")
        }
        (Some(user), Some(path)) => {
            let path = data.join(path);
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            builder = builder.credentials(Credentials::new(user.clone(), text.trim_end().to_owned()));
        }
        _ => bail!("user and password_file belong together: set both, or neither"),
    }
    Ok(Relay { transport: builder.build(), from })
}
