//! The passwords and certificates that destinations name, read from their files, and read again when
//! these change.

use super::{ClientIdentity, Egress, Login};
use crate::clock::Timestamp;
use crate::config::files::{NO_CREDENTIALS, credential_file, read_regular};
use crate::config::{self, Config, Destination};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The longest password; a larger file is the wrong one.
const LONGEST_PASSWORD: usize = 1024;

/// Why a password or a certificate cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("[[destination]] {domains}: {key}: {fault}")]
pub struct EgressError {
    /// The domains of the `[[destination]]` it belongs to.
    domains: String,
    /// The key to look at.
    key: &'static str,
    fault: FileFault,
}

#[derive(Debug, thiserror::Error)]
enum FileFault {
    #[error("{path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path}: no {what} in PEM form: {source}")]
    Pem { path: PathBuf, what: &'static str, source: PemError },
    #[error("{path}: the private key does not belong to this certificate, or cannot be used: {source}")]
    Unusable { path: PathBuf, source: rustls::Error },
    #[error("{path}: holds no password: its first line has to, with 1 to {LONGEST_PASSWORD} octets of UTF-8")]
    NoPassword { path: PathBuf },
    #[error("{NO_CREDENTIALS}")]
    NoCredentials,
}

/// A certificate that we show, and when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateEndsAt {
    /// The destination.
    pub domains: String,
    /// When; unknown where it cannot be parsed.
    pub at: Option<Timestamp>,
}

/// What has become of one destination since it was read last.
#[derive(Debug)]
pub enum Reread {
    /// It is used from the next connection on.
    Replaced {
        /// The destination.
        domains: String,
    },
    /// It cannot be used, and the old one stays.
    Refused(EgressError),
}

/// The ways out of all destinations.
#[derive(Debug)]
pub struct EgressStore {
    config: Arc<Config>,
    by_rule: RwLock<Vec<Arc<Egress>>>,
}

impl EgressStore {
    /// Reads everything that the configuration names.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn load(config: Arc<Config>) -> Result<Self, EgressError> {
        let all = config.destination.iter().map(|destination| read(destination).map(Arc::new));
        let by_rule = RwLock::new(all.collect::<Result<_, _>>()?);
        Ok(Self { config, by_rule })
    }

    /// The way out under a rule.
    #[must_use]
    pub fn of(&self, rule: Option<usize>) -> Arc<Egress> {
        let all = self.by_rule.read().unwrap_or_else(PoisonError::into_inner);
        rule.and_then(|rule| all.get(rule)).map(Arc::clone).unwrap_or_default()
    }

    /// Reads everything again.
    pub fn reload(&self) -> Vec<Reread> {
        let mut told = Vec::new();
        for (rule, destination) in self.config.destination.iter().enumerate() {
            match read(destination) {
                Err(error) => told.push(Reread::Refused(error)),
                Ok(egress) if egress == *self.of(Some(rule)) => {}
                Ok(egress) => {
                    if let Some(place) = self.by_rule.write().unwrap_or_else(PoisonError::into_inner).get_mut(rule) {
                        *place = Arc::new(egress);
                    }
                    told.push(Reread::Replaced { domains: destination.label() });
                }
            }
        }
        told
    }

    /// The certificates in use.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateEndsAt> {
        let of = |(rule, destination): (usize, &Destination)| {
            let identity = self.of(Some(rule)).client_certificate.clone()?;
            let parsed = X509Certificate::from_der(identity.leaf()).ok();
            let at = parsed.map(|(_, leaf)| Timestamp(leaf.validity().not_after.timestamp().saturating_mul(1000)));
            Some(CertificateEndsAt { domains: destination.label(), at })
        };
        self.config.destination.iter().enumerate().filter_map(of).collect()
    }

    /// Addresses to send from that this host does not have, each in a line. Nothing is sent.
    #[must_use]
    pub fn doubts(config: &Config) -> Vec<String> {
        let of = |destination: &Destination| {
            let domains = destination.label();
            let missing =
                destination.source.iter().flat_map(config::SourceAddresses::addresses).filter_map(|address| {
                    let error = std::net::UdpSocket::bind((address, 0)).err()?;
                    Some((address, error))
                });
            let line = |(address, error)| {
                format!(
                    "[[destination]] {domains}: source: {address} is no address of this host ({error}); its mail waits"
                )
            };
            missing.map(line).collect::<Vec<_>>()
        };
        config.destination.iter().flat_map(of).collect()
    }
}

fn read(destination: &Destination) -> Result<Egress, EgressError> {
    let failed = |key| move |fault| EgressError { domains: destination.label(), key, fault };
    let login = destination.login.as_ref().map(login).transpose().map_err(failed("login"))?;
    let client_certificate =
        destination.client_certificate.as_ref().map(identity).transpose().map_err(failed("client_certificate"))?;
    Ok(Egress {
        tls_mode: destination.tls_mode.unwrap_or_default(),
        login,
        client_certificate,
        source: destination.source.clone().unwrap_or_default(),
        family: destination.family,
    })
}

fn login(login: &config::LoginConfig) -> Result<Login, FileFault> {
    let path = match (&login.password_file, &login.credential) {
        (Some(path), _) => path.clone(),
        (None, name) => credential_file(name.as_deref().unwrap_or_default()).ok_or(FileFault::NoCredentials)?,
    };
    let octets = octets(&path)?;
    let text = String::from_utf8(octets).unwrap_or_default();
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() || password.len() > LONGEST_PASSWORD || password.contains('\0') {
        return Err(FileFault::NoPassword { path });
    }
    Ok(Login::new(&login.user, password))
}

fn identity(files: &config::ClientCertificateFiles) -> Result<ClientIdentity, FileFault> {
    let pem = |path: &Path, what| {
        let path = path.to_owned();
        move |source| FileFault::Pem { path, what, source }
    };
    let (chain, key) = (octets(&files.chain)?, octets(&files.key)?);
    let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.and_then(|chain| if chain.is_empty() { Err(PemError::NoItemsFound) } else { Ok(chain) });
    let chain = chain.map_err(pem(&files.chain, "certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(pem(&files.key, "private key"))?;
    let pair = CertifiedKey::from_der(chain, key, &default_provider());
    let unusable = |source| FileFault::Unusable { path: files.chain.clone(), source };
    pair.map(|pair| ClientIdentity(Arc::new(pair))).map_err(unusable)
}

fn octets(path: &Path) -> Result<Vec<u8>, FileFault> {
    read_regular(path).map_err(|source| FileFault::Unreadable { path: path.to_owned(), source })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "writes the files that are read")]
mod tests {
    use super::*;

    fn config(folder: &Path, keys: &str) -> Arc<Config> {
        let folder = folder.display().to_string();
        let text = format!("[[destination]]\ndomains = [\"x.example\"]\n{}\n", keys.replace("DIR", &folder));
        Arc::new(Config::parse(&text, Path::new("relay.toml")).unwrap())
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file_and_a_change_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let keys = "next_hop = \"smart.example\"\nlogin = { user = \"relay\", password_file = \"DIR/secret\" }";
        let config = config(folder.path(), keys);
        let error = EgressStore::load(Arc::clone(&config)).unwrap_err().to_string();
        assert!(error.starts_with("[[destination]] x.example: login: ") && error.contains("/secret: "), "{error}");
        for wrong in ["", "\nsecond", &"x".repeat(1025)] {
            std::fs::write(&file, wrong).unwrap();
            assert!(EgressStore::load(Arc::clone(&config)).unwrap_err().to_string().contains("holds no password"));
        }
        std::fs::write(&file, "correct horse\r\n# a remark\n").unwrap();
        let store = EgressStore::load(config).unwrap();
        let password = || store.of(Some(0)).login.clone().unwrap().password().to_owned();
        assert_eq!(password(), "correct horse");
        assert!(store.reload().is_empty());
        std::fs::write(&file, "battery staple").unwrap();
        assert!(matches!(store.reload().as_slice(), [Reread::Replaced { domains }] if domains == "x.example"));
        assert_eq!(password(), "battery staple");
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(store.reload().as_slice(), [Reread::Refused(_)]));
        assert_eq!(password(), "battery staple", "the old one stays");
        assert!(!format!("{store:?}").contains("staple"));
        assert_eq!(*store.of(None), Egress::default());
    }

    #[test]
    fn a_client_certificate_needs_its_own_key_and_its_end_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let keys = "client_certificate = { chain = \"DIR/a.pem\", key = \"DIR/a.key\" }";
        let config = config(folder.path(), keys);
        let made = |end: i32| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["relay.example".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(end, 1, 1);
            (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
        };
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let ((chain, key), (other, other_key)) = (made(2031), made(2032));
        write("a.pem", &chain);
        write("a.key", &other_key);
        let error = EgressStore::load(Arc::clone(&config)).unwrap_err().to_string();
        assert!(error.contains("client_certificate: ") && error.contains("does not belong"), "{error}");
        write("a.key", &key);
        let store = EgressStore::load(config).unwrap();
        let ends = |store: &EgressStore| store.certificates()[0].at.unwrap().rfc3339();
        assert_eq!(ends(&store), "2031-01-01T00:00:00Z");
        let before = store.of(Some(0));
        write("a.pem", &other);
        write("a.key", &other_key);
        assert!(matches!(store.reload().as_slice(), [Reread::Replaced { .. }]));
        assert_eq!(ends(&store), "2032-01-01T00:00:00Z");
        assert_ne!(before, store.of(Some(0)), "no connection of the old one serves the new one");
    }

    #[test]
    fn an_address_that_this_host_does_not_have_is_named() {
        let text = "source = { ipv4 = \"127.0.0.7\" }";
        assert!(EgressStore::doubts(&config(Path::new("/"), text)).is_empty());
        let doubts = EgressStore::doubts(&config(Path::new("/"), "source = { ipv4 = \"192.0.2.77\" }"));
        assert!(doubts.len() == 1 && doubts[0].contains("x.example: source: 192.0.2.77 is no address"), "{doubts:?}");
    }
}
