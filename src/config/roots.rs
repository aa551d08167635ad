//! The certificate authorities that `[tls] roots` names (RFC 5280 §6.1.1), read from the machine
//! or from a PEM file by whoever starts something that needs them.

use super::RootsSource;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::Arc;

/// There are no certificate authorities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("[tls] roots: {source_name}: {message}")]
pub struct RootsError {
    /// The file, or `system`.
    pub source_name: String,
    /// What is wrong.
    pub message: String,
}

/// The certificate authorities of a configuration, read once for all who need them.
#[derive(Clone, Debug)]
pub struct TrustedRoots {
    found: Result<Arc<RootCertStore>, RootsError>,
}

impl TrustedRoots {
    /// Reads them. The machine may have none: then no public certificate is trusted, which is a reason to stop what needs
    /// one and nothing else.
    ///
    /// # Errors
    /// [`RootsError`] when it is a file that the operator names, and there is none in it.
    pub fn read(source: &RootsSource) -> Result<Self, RootsError> {
        let found = source.load().map(Arc::new);
        match (source, found) {
            (RootsSource::File(_), Err(error)) => Err(error),
            (RootsSource::File(_) | RootsSource::System, found) => Ok(Self { found }),
        }
    }

    /// All of them.
    ///
    /// # Errors
    /// [`RootsError`] when the machine has none.
    pub fn found(&self) -> Result<Arc<RootCertStore>, RootsError> {
        self.found.clone()
    }

    /// All of them, or none.
    #[must_use]
    pub fn or_none(&self) -> Arc<RootCertStore> {
        self.found().unwrap_or_else(|_none_here| Arc::new(RootCertStore::empty()))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_authorities_that_is_not_there_is_refused_and_a_machine_without_any_trusts_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let refused = TrustedRoots::read(&RootsSource::File(folder.path().join("none.pem"))).unwrap_err();
        assert!(refused.to_string().starts_with("[tls] roots: "), "{refused}");
        let none = TrustedRoots { found: Err(refused.clone()) };
        assert_eq!((none.found().unwrap_err(), none.or_none().len()), (refused, 0));
    }
}
