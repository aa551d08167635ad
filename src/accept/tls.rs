//! The listener's certificate (RFC 3207 §4, RFC 8996, RFC 9325 §3.1).
//!
//! From the files of `certificate` and `private_key`, or self-signed: made at the first
//! start and kept in `<spool>/tls/`, so that a client may pin it. TLS 1.2 and 1.3, nothing older.

pub(crate) use super::certificate::TlsError;
use super::certificate::{CertificatesByName, Files, KeyPairInUse};
use super::logins::{UsersFileError, UsersInUse};
use super::shown::ShownCertificates;
use crate::config::{ClientTls, Config, KeyPairFiles, Listen, ListenerConfig, MinTls};
use crate::smtp::address::Domain;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ResolvesServerCert;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Private key and certificate in one file: one rename, so they always fit each other.
const SELF_SIGNED_FILE: &str = "self-signed.pem";

/// The TLS side of a listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// What handshakes are made with.
    pub server: Arc<ServerConfig>,
    /// The certificates among it, the usual one first, to be read again when their files change.
    pub certificates: Vec<Arc<KeyPairInUse>>,
    /// Which certificates of clients open the way.
    pub shown: Option<Arc<ShownCertificates>>,
}

/// What the files of a listener held.
#[derive(Clone, Debug, Default)]
pub struct ListenerFiles {
    /// Its TLS side.
    pub tls: Option<ListenerTls>,
    /// Its users.
    pub users: Option<Arc<UsersInUse>>,
}

impl ListenerFiles {
    /// Whether sessions under both are alike: certificates and users are exchanged under them.
    #[must_use]
    pub(super) fn are_alike(&self, other: &Self) -> bool {
        let tls_is_alike = match (&self.tls, &other.tls) {
            (Some(mine), Some(other)) => {
                mine.certificates.len() == other.certificates.len() && mine.shown == other.shown
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        tls_is_alike && self.users.is_some() == other.users.is_some()
    }

    /// Reads them again. Gives what cannot be used of what is there now; what was before stays in use. Blocks.
    #[must_use]
    pub(crate) fn reread(&self) -> Vec<String> {
        let certificates = self.tls.iter().flat_map(|tls| &tls.certificates);
        let faults = certificates.filter_map(|pair| pair.reload().err().map(|fault| fault.to_string()));
        let users = self.users.iter().filter_map(|users| users.reload().err().map(|fault| fault.to_string()));
        faults.chain(users).collect()
    }

    /// Changes to what was read from the same files meanwhile.
    pub(super) fn take_over(&self, other: &Self) {
        let certificates = |files: &Self| files.tls.iter().flat_map(|tls| tls.certificates.clone()).collect::<Vec<_>>();
        for (mine, other) in certificates(self).iter().zip(certificates(other)) {
            mine.take_over(&other);
        }
        if let (Some(mine), Some(other)) = (&self.users, &other.users) {
            mine.take_over(other);
        }
    }
}

/// Why the files of a listener cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {source}")]
pub struct ListenerError {
    key: String,
    source: ListenerFault,
}

/// Which of them.
#[derive(Debug, thiserror::Error)]
enum ListenerFault {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Users(#[from] UsersFileError),
}

/// What the files of all listeners hold, in the order of [`Config::listeners`].
///
/// # Errors
/// [`ListenerError`]; the relay should not start with files that the operator chose and that cannot be used.
pub(crate) fn listener_files(config: &Config) -> Result<Vec<ListenerFiles>, ListenerError> {
    let mut read = CertificatesRead { config, provider: Arc::new(aws_lc_rs::default_provider()), met: BTreeMap::new() };
    config.listeners().iter().map(|listener| read.files(listener)).collect()
}

/// What the files of `[admin]` hold.
///
/// # Errors
/// As [`listener_files`].
pub(crate) fn admin_files(config: &Config) -> Result<ListenerFiles, ListenerError> {
    let mut read = CertificatesRead { config, provider: Arc::new(aws_lc_rs::default_provider()), met: BTreeMap::new() };
    let fault = |key: &str, source: ListenerFault| ListenerError { key: format!("[admin] {key}"), source };
    let of_port = config.admin.key_pair().map(|KeyPairFiles { certificate, private_key }| {
        let listen = Listen { certificate: Some(certificate), private_key: Some(private_key), ..Listen::default() };
        read.tls(&ListenerConfig::of(&listen))
    });
    let tls = of_port.transpose().map_err(|source| fault("certificate", source.into()))?;
    let users = config.admin.users.as_deref().map(UsersInUse::load).transpose();
    let users = users.map_err(|source| fault("users", source.into()))?;
    Ok(ListenerFiles { tls, users: users.map(Arc::new) })
}

/// Whether all of that can be used, without making what is missing.
///
/// # Errors
/// As [`listener_files`].
pub(crate) fn check_files(config: &Config) -> Result<(), ListenerError> {
    let mut read = CertificatesRead { config, provider: Arc::new(aws_lc_rs::default_provider()), met: BTreeMap::new() };
    let no_certificate = |listener: &ListenerConfig| {
        let tls = if listener.certificate.is_none() { ClientTls::Off } else { listener.tls };
        ListenerConfig { tls, ..listener.clone() }
    };
    config.listeners().iter().map(no_certificate).try_for_each(|listener| read.files(&listener).map(drop))?;
    admin_files(config).map(drop)
}

/// Certificates that were read; listeners that name the same files share them.
struct CertificatesRead<'a> {
    config: &'a Config,
    provider: Arc<CryptoProvider>,
    met: BTreeMap<(PathBuf, PathBuf), Arc<KeyPairInUse>>,
}

impl CertificatesRead<'_> {
    fn files(&mut self, listener: &ListenerConfig) -> Result<ListenerFiles, ListenerError> {
        let key = |key: &str| match listener.name.as_str() {
            "" => format!("[listen] {key}"),
            name => format!("[[listener]] {name}: {key}"),
        };
        let tls = match listener.tls {
            ClientTls::Off => None,
            ClientTls::Starttls | ClientTls::Required | ClientTls::Implicit => {
                let tls = self.tls(listener);
                Some(tls.map_err(|source| ListenerError { key: key("certificate"), source: source.into() })?)
            }
        };
        let users = listener.auth.as_deref().map(UsersInUse::load).transpose();
        let users = users.map_err(|source| ListenerError { key: key("auth"), source: source.into() })?;
        Ok(ListenerFiles { tls, users: users.map(Arc::new) })
    }

    fn tls(&mut self, listener: &ListenerConfig) -> Result<ListenerTls, TlsError> {
        let usual = match (&listener.certificate, &listener.private_key) {
            (Some(certificate), Some(private_key)) => {
                Files { certificate: certificate.clone(), private_key: private_key.clone() }
            }
            (Some(_), None) | (None, Some(_)) | (None, None) => {
                let path = self_signed(&self.config.spool.path.join("tls"), &self.config.hostname)?;
                Files { certificate: path.clone(), private_key: path }
            }
        };
        let path = usual.certificate.clone();
        let mut certificates = vec![self.pair(usual)?];
        for KeyPairFiles { certificate, private_key } in listener.certificates.clone() {
            certificates.push(self.pair(Files { certificate, private_key })?);
        }
        let wanted = listener.client_certificates.as_ref();
        let shown = wanted.map(|wanted| ShownCertificates::load(wanted, Arc::clone(&self.provider))).transpose()?;
        let shown = shown.map(Arc::new);
        let versions: &[&SupportedProtocolVersion] = match listener.min_tls {
            MinTls::V1_2 => &[&TLS13, &TLS12],
            MinTls::V1_3 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions)
            .map_err(|source| TlsError::Unusable { path, source })?;
        let builder = match &shown {
            Some(shown) => builder.with_client_cert_verifier(Arc::clone(shown) as Arc<dyn ClientCertVerifier>),
            None => builder.with_no_client_auth(),
        };
        let by_name: Arc<dyn ResolvesServerCert> = Arc::new(CertificatesByName(certificates.clone()));
        Ok(ListenerTls { server: Arc::new(builder.with_cert_resolver(by_name)), certificates, shown })
    }

    fn pair(&mut self, files: Files) -> Result<Arc<KeyPairInUse>, TlsError> {
        let named = (files.certificate.clone(), files.private_key.clone());
        if let Some(pair) = self.met.get(&named) {
            return Ok(Arc::clone(pair));
        }
        let pair = Arc::new(KeyPairInUse::load(files, Arc::clone(&self.provider))?);
        self.met.insert(named, Arc::clone(&pair));
        Ok(pair)
    }
}

/// The self-signed certificate, made when there is none.
fn self_signed(directory: &Path, hostname: &Domain) -> Result<PathBuf, TlsError> {
    let path = directory.join(SELF_SIGNED_FILE);
    if !path.exists() {
        let pem = make_self_signed(hostname)?;
        keep(directory, &path, &pem).map_err(|source| TlsError::Io { path: path.clone(), source })?;
    }
    Ok(path)
}

fn make_self_signed(hostname: &Domain) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new(vec![hostname.to_string()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, hostname.as_str());
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

/// Written aside and renamed, so that a crash leaves no half of it.
fn keep(directory: &Path, path: &Path, pem: &str) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let aside = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&aside, path)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "looks at the files that were made")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn config(spool: &Path) -> Config {
        let mut config = Config { hostname: "relay.example.org".parse().unwrap(), ..Config::default() };
        config.spool.path = spool.to_owned();
        config
    }

    #[test]
    fn the_self_signed_certificate_is_made_once_and_kept_private() {
        let spool = tempfile::tempdir().unwrap();
        let config = config(spool.path());
        assert!(listener_files(&config).is_ok());
        let path = spool.path().join("tls").join(SELF_SIGNED_FILE);
        let first = std::fs::read(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(listener_files(&config).is_ok());
        assert_eq!(std::fs::read(&path).unwrap(), first);
    }

    #[test]
    fn chosen_files_that_cannot_be_used_are_named() {
        let spool = tempfile::tempdir().unwrap();
        let mut config = config(spool.path());
        let file = spool.path().join("x.pem");
        config.listen.certificate = Some(file.clone());
        config.listen.private_key = Some(file.clone());
        let error = listener_files(&config).unwrap_err().to_string();
        assert!(error.starts_with("[listen] certificate: ") && error.contains("x.pem: No such file"), "{error}");
        std::fs::write(&file, "nothing").unwrap();
        let error = listener_files(&config).unwrap_err().to_string();
        assert!(error.contains("x.pem: no certificate in PEM form"), "{error}");
    }
}
