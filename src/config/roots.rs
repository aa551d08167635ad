//! The certificate authorities that `[tls] roots` names (RFC 5280 §6.1.1), read from the machine
//! or from a PEM file by whoever starts something that needs them.

use super::RootsSource;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// There are no certificate authorities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("[tls] roots: {source_name}: {message}")]
pub struct RootsError {
    /// The file, or `system`.
    pub source_name: String,
    /// What is wrong.
    pub message: String,
}

impl RootsSource {
    /// Reads the certificates; those among them that cannot be read are left out.
    ///
    /// # Errors
    /// [`RootsError`] when none is left.
    pub fn load(&self) -> Result<RootCertStore, RootsError> {
        let mut store = RootCertStore::empty();
        let (source_name, found) = match self {
            Self::System => {
                let loaded = rustls_native_certs::load_native_certs();
                let errors = loaded.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                let found = if loaded.certs.is_empty() { Err(errors) } else { Ok(loaded.certs) };
                ("system".to_owned(), found)
            }
            Self::File(path) => {
                let text = super::files::read_regular(path).map_err(|e| e.to_string());
                let parsed = text.and_then(|text| {
                    CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())
                });
                (path.display().to_string(), parsed)
            }
        };
        let error = |message| RootsError { source_name: source_name.clone(), message };
        let (added, _unreadable) = store.add_parsable_certificates(found.map_err(error)?);
        if added == 0 {
            return Err(error("holds no certificate of an authority".into()));
        }
        Ok(store)
    }
}
