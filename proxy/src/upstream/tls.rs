//! The TLS client configuration for connections to origins.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject as _};
use thiserror::Error;

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsSetupError {
    /// The extra CA file cannot be read or is not PEM.
    #[error("cannot read CA file {path}: {source}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// The extra CA file holds no certificate.
    #[error("CA file {0} holds no certificate")]
    NoCertificate(PathBuf),
    /// A certificate in it cannot be a trust anchor.
    #[error("CA file {path} holds a certificate that cannot be used: {source}")]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// The library refuses its own defaults.
    #[error("failed to set up TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// Mozilla's roots and those of a file, TLS 1.2 and 1.3, no client certificate, no ALPN (the caller
/// adds what it speaks).
///
/// # Errors
/// When the file cannot be used. A file with one bad certificate is refused whole.
pub fn client_config(extra_ca: Option<&Path>) -> Result<ClientConfig, TlsSetupError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = extra_ca {
        add_roots(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsSetupError> {
    let unreadable = |source| TlsSetupError::CaFile { path: path.to_owned(), source };
    let mut found = false;
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        let bad = |source| TlsSetupError::BadCertificate { path: path.to_owned(), source };
        roots.add(certificate.map_err(unreadable)?).map_err(bad)?;
        found = true;
    }
    if found { Ok(()) } else { Err(TlsSetupError::NoCertificate(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_is_read_or_refused_by_name() {
        assert!(client_config(None).is_ok());
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = client_config(Some(file.path())).unwrap_err();
        assert!(matches!(error, TlsSetupError::NoCertificate(_)), "{error}");
        let error = client_config(Some(Path::new("/does/not/exist.pem"))).unwrap_err();
        assert!(error.to_string().contains("/does/not/exist.pem"));
    }
}
