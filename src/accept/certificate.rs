//! The listener's certificate in use, exchanged while sessions go on (RFC 3207 §4).
//!
//! Key and certificate are read again when their files change. A pair that cannot be used, as
//! while one of two files is being replaced, leaves the old one in use; it is told once and tried
//! again when a file changes again. Sessions keep what they shook hands with.

use crate::clock::Timestamp;
use crate::config::files::read_regular;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: no {what} in PEM form: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Certificate or private key.
        what: &'static str,
        /// What is wrong.
        source: PemError,
    },
    /// Key and certificate do not go together, or cannot be used.
    #[error("{path}: {}", in_words(source))]
    Unusable {
        /// The certificate file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// No certificate could be made.
    #[error("the self-signed certificate could not be made: {0}")]
    Making(#[from] rcgen::Error),
}

fn in_words(error: &rustls::Error) -> String {
    if let rustls::Error::InconsistentKeys(_) = error {
        return "the private key does not belong to this certificate".to_owned();
    }
    error.to_string()
}

/// Key and certificate with the files they come from.
pub struct KeyPairInUse {
    files: Files,
    provider: Arc<CryptoProvider>,
    in_use: RwLock<Arc<CertifiedKey>>,
    /// The files as they were read last, good or bad.
    read: Mutex<PemTexts>,
}

/// What [`KeyPairInUse::reload`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The files are what they were.
    Unchanged,
    /// The next handshake uses the new pair.
    Replaced,
}

/// Where the PEM texts are; a file may hold both.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
}

/// What the files held.
#[derive(Clone, PartialEq, Eq)]
struct PemTexts {
    certificate: Vec<u8>,
    private_key: Vec<u8>,
}

impl KeyPairInUse {
    /// Reads the pair for the first time.
    ///
    /// # Errors
    /// [`TlsError`] when it cannot be used.
    pub fn load(files: Files, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let texts = files.read()?;
        let pair = files.pair(&texts, &provider)?;
        Ok(Self { files, provider, in_use: RwLock::new(Arc::new(pair)), read: Mutex::new(texts) })
    }

    /// Reads the files, and changes to what they hold when they have changed.
    ///
    /// # Errors
    /// [`TlsError`] when the new pair cannot be used; the old one stays. Told once for each change,
    /// except that a file which cannot be read is told every time.
    pub fn reload(&self) -> Result<Reload, TlsError> {
        let texts = self.files.read()?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if *read == texts {
            return Ok(Reload::Unchanged);
        }
        let pair = self.files.pair(&texts, &self.provider);
        *read = texts;
        *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair?);
        Ok(Reload::Replaced)
    }

    /// Changes to a pair that was read from the same files meanwhile.
    pub fn take_over(&self, other: &Self) {
        let texts = other.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = texts;
        *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = other.pair();
    }

    /// When the certificate in use expires; `None` when it cannot be parsed.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        let pair = self.pair();
        let (_rest, leaf) = X509Certificate::from_der(pair.end_entity_cert().ok()?).ok()?;
        Some(Timestamp(leaf.validity().not_after.timestamp().saturating_mul(1000)))
    }

    fn pair(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.in_use.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Several of them: the one with the name that the client asks for (RFC 6066 §3), else the first.
#[derive(Debug)]
pub(super) struct CertificatesByName(pub(super) Vec<Arc<KeyPairInUse>>);

impl ResolvesServerCert for CertificatesByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().and_then(|name| ServerName::try_from(name.to_owned()).ok());
        let has_it = |pair: &Arc<CertifiedKey>| asked.as_ref().is_some_and(|name| is_for(pair, name));
        let mut pairs = self.0.iter().map(|pair| pair.pair());
        let usual = pairs.next()?;
        Some(if has_it(&usual) { usual } else { pairs.find(has_it).unwrap_or(usual) })
    }
}

fn is_for(pair: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = pair.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

/// The key stays out of every log.
impl fmt::Debug for KeyPairInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Files {
    fn read(&self) -> Result<PemTexts, TlsError> {
        Ok(PemTexts { certificate: read(&self.certificate)?, private_key: read(&self.private_key)? })
    }

    fn pair(&self, texts: &PemTexts, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let pem = |path: &Path, what| {
            let path = path.to_owned();
            move |source| TlsError::Pem { path, what, source }
        };
        let chain = CertificateDer::pem_slice_iter(&texts.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.and_then(|chain| if chain.is_empty() { Err(PemError::NoItemsFound) } else { Ok(chain) });
        let chain = chain.map_err(pem(&self.certificate, "certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&texts.private_key).map_err(pem(&self.private_key, "private key"))?;
        CertifiedKey::from_der(chain, key, provider)
            .map_err(|source| TlsError::Unusable { path: self.certificate.clone(), source })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    read_regular(path).map_err(|source| TlsError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "writes the files that are read")]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    /// A key and a certificate that expires at the beginning of that year.
    fn pair(year: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec!["relay.example.org".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        (key.serialize_pem(), params.self_signed(&key).unwrap().pem())
    }

    struct OnDisk {
        files: Files,
        _folder: tempfile::TempDir,
    }

    impl OnDisk {
        fn new(key: &str, certificate: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let files = Files { certificate: path("relay.pem"), private_key: path("relay.key") };
            let disk = Self { files, _folder: folder };
            disk.write_key(key);
            disk.write_certificate(certificate);
            disk
        }

        fn write_key(&self, text: &str) {
            std::fs::write(&self.files.private_key, text).unwrap();
        }

        fn write_certificate(&self, text: &str) {
            std::fs::write(&self.files.certificate, text).unwrap();
        }

        fn load(&self) -> KeyPairInUse {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            KeyPairInUse::load(self.files.clone(), provider).unwrap()
        }
    }

    /// 2030-01-01 and 2040-01-01, in milliseconds.
    const FIRST: Option<Timestamp> = Some(Timestamp(1_893_456_000_000));
    const SECOND: Option<Timestamp> = Some(Timestamp(2_208_988_800_000));

    #[test]
    fn a_new_pair_is_used_once_both_files_are_there() {
        let ((key, certificate), (new_key, new_certificate)) = (pair(2030), pair(2040));
        let disk = OnDisk::new(&key, &certificate);
        let in_use = disk.load();
        assert_eq!((in_use.expires_at(), in_use.reload().unwrap()), (FIRST, Reload::Unchanged));
        disk.write_certificate(&new_certificate);
        assert!(matches!(in_use.reload(), Err(TlsError::Unusable { .. })), "the key is still the old one");
        assert_eq!(in_use.reload().unwrap(), Reload::Unchanged, "told once");
        assert_eq!(in_use.expires_at(), FIRST);
        disk.write_key(&new_key);
        assert_eq!((in_use.reload().unwrap(), in_use.expires_at()), (Reload::Replaced, SECOND));
    }

    #[test]
    fn a_broken_or_missing_file_leaves_the_old_pair_in_use() {
        let (key, certificate) = pair(2030);
        let disk = OnDisk::new(&key, &certificate);
        let in_use = disk.load();
        disk.write_certificate("nothing");
        assert!(matches!(in_use.reload(), Err(TlsError::Pem { .. })));
        disk.write_certificate(&certificate);
        disk.write_key("nothing");
        assert!(matches!(in_use.reload(), Err(TlsError::Pem { .. })));
        std::fs::remove_file(&disk.files.certificate).unwrap();
        assert!(matches!(in_use.reload(), Err(TlsError::Io { .. })));
        assert_eq!(in_use.expires_at(), FIRST);
        disk.write_key(&key);
        disk.write_certificate(&certificate);
        assert_eq!(in_use.reload().unwrap(), Reload::Replaced);
        assert!(!format!("{in_use:?}").contains("PRIVATE"));
    }
}
