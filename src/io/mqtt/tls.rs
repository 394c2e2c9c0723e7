//! The TLS we speak to the broker: rustls with the ring provider, the certificate authority of the
//! configuration or the system's, the broker's name checked.
//!
//! What a stranger gets wrong: there is no switch to skip the check. A self-made authority goes into
//! `ca_file`.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::rustls;

use super::MqttError;

/// The client's side of TLS.
pub(super) fn client(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, MqttError> {
    let roots = match ca_file {
        Some(file) => from_file(file)?,
        None => from_system()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| MqttError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn from_file(file: &Path) -> Result<RootCertStore, MqttError> {
    let broken = |why: String| MqttError::OwnFile(format!("ca_file {}: {why}", file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| broken(e.to_string()))? {
        let certificate = certificate.map_err(|error| broken(error.to_string()))?;
        roots.add(certificate).map_err(|error| broken(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(broken("no certificate in it".to_owned()));
    }
    Ok(roots)
}

fn from_system() -> Result<RootCertStore, MqttError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(MqttError::Tls(
            "the system has no certificate authorities; set ca_file".to_owned(),
        ));
    }
    Ok(roots)
}
