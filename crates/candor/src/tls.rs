//! The authorities that servers which we ask are held against.

use std::path::Path;

use anyhow::{Context, Result, bail};
use ureq::tls::{Certificate, PemItem, parse_pem};

/// Those of a PEM file, or those that the system trusts.
pub fn roots(data: &Path, file: Option<&Path>) -> Result<Vec<Certificate<'static>>> {
    let Some(path) = file else {
        let native = rustls_native_certs::load_native_certs().certs;
        return Ok(native.into_iter().map(|der| Certificate::from_der(&der).to_owned()).collect());
    };
    let path = data.join(path);
    let pem = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        bail!("{} has no certificate", path.display());
    }
    Ok(certificates)
}
