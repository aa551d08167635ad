//! The listener's certificate (RFC 3207 §4, RFC 8996, RFC 9325 §3.1).
//!
//! From the files of `[listen] certificate` and `private_key`, or self-signed: made at the first
//! start and kept in `<spool>/tls/`, so that a client may pin it. TLS 1.2 and 1.3, nothing older.

pub(crate) use super::certificate::TlsError;
use super::certificate::{Files, KeyPairInUse};
use crate::config::Config;
use crate::smtp::address::Domain;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::ResolvesServerCert;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Private key and certificate in one file: one rename, so they always fit each other.
const SELF_SIGNED_FILE: &str = "self-signed.pem";

/// The TLS side of the listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// What handshakes are made with.
    pub server: Arc<ServerConfig>,
    /// The certificate among it, to be read again when its files change.
    pub certificate: Arc<KeyPairInUse>,
}

/// The TLS side of the listener, from files or self-signed.
///
/// # Errors
/// [`TlsError`]; the relay should not start with a certificate that the operator chose and that
/// cannot be used.
pub(crate) fn server_config(config: &Config) -> Result<ListenerTls, TlsError> {
    let files = match (&config.listen.certificate, &config.listen.private_key) {
        (Some(certificate), Some(private_key)) => {
            Files { certificate: certificate.clone(), private_key: private_key.clone() }
        }
        (Some(_), None) | (None, Some(_)) | (None, None) => {
            let path = self_signed(&config.spool.path.join("tls"), &config.hostname)?;
            Files { certificate: path.clone(), private_key: path }
        }
    };
    let path = files.certificate.clone();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificate = Arc::new(KeyPairInUse::load(files, Arc::clone(&provider))?);
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|source| TlsError::Unusable { path, source })?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&certificate) as Arc<dyn ResolvesServerCert>);
    Ok(ListenerTls { server: Arc::new(server), certificate })
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
        assert!(server_config(&config).is_ok());
        let path = spool.path().join("tls").join(SELF_SIGNED_FILE);
        let first = std::fs::read(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(server_config(&config).is_ok());
        assert_eq!(std::fs::read(&path).unwrap(), first);
    }

    #[test]
    fn chosen_files_that_cannot_be_used_are_named() {
        let spool = tempfile::tempdir().unwrap();
        let mut config = config(spool.path());
        let file = spool.path().join("x.pem");
        config.listen.certificate = Some(file.clone());
        config.listen.private_key = Some(file.clone());
        assert!(matches!(server_config(&config), Err(TlsError::Io { .. })));
        std::fs::write(&file, "nothing").unwrap();
        let error = server_config(&config).unwrap_err().to_string();
        assert!(error.contains("x.pem: no certificate in PEM form"), "{error}");
    }
}
