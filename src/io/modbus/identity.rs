//! The TLS we speak to devices with Modbus/TCP Security: both sides show a certificate, the device's name
//! is checked, nothing below TLS 1.2.
//!
//! What a stranger gets wrong: a certificate proves who somebody is, not what they may do. Which roles a
//! device grants to our certificate is set at the device.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::rustls;

use crate::config::BusIdentity;

/// The client's side of TLS.
///
/// # Errors
/// Which file cannot be used, and why.
pub fn client(identity: &BusIdentity) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(&identity.ca_file)? {
        roots.add(authority).map_err(|error| about(&identity.ca_file, &error.to_string()))?;
    }
    let chain = certificates(&identity.certificate_file)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key_file)
        .map_err(|error| about(&identity.key_file, &error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| about(&identity.certificate_file, &error.to_string()))?;
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>());
    match read {
        Ok(certificates) if certificates.is_empty() => Err(about(file, "no certificate in it")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(about(file, &error.to_string())),
    }
}

fn about(file: &Path, cause: &str) -> String {
    format!("[modbus_tls] {}: {cause}", file.display())
}
