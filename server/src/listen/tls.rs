//! Certificates of a server, from PEM files.

use std::path::Path;
use std::sync::Arc;

use cairn_engine::{Error, Result};
use cairn_storage::ErrorKind;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::options::TlsOptions;

/// What makes encrypted connections; clients choose one of `protocols`.
///
/// # Errors
/// `InvalidInput` naming the file that can't be read or used.
pub(super) fn acceptor(options: &TlsOptions, protocols: &[&str]) -> Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = certificates(&options.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&options.key).map_err(|error| unusable(&options.key, error))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&options.certificate, error))?;
    let builder = match &options.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in self::certificates(path)? {
                roots.add(root).map_err(|error| unusable(path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| unusable(path, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config =
        builder.with_single_cert(certificates, key).map_err(|error| unusable(&options.certificate, error))?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(path, error))?;
    if certificates.is_empty() {
        return Err(unusable(path, "it holds no certificate"));
    }
    Ok(certificates)
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{} can't be used for TLS: {why}", path.display()))
        .map(|e| e.with_hint("certificates and keys are PEM files; the key belongs to the first certificate"))
}
