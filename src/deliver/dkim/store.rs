//! The keys of `[[dkim.key]]`, read from their files.

use super::{SigningKey, SigningKeys};
use crate::config::files::{NO_CREDENTIALS, credential_file, read_regular};
use crate::config::{Config, DkimKeyRule};
use crate::smtp::dkim::{DkimKey, DkimKeyError};
use std::io;
use std::path::PathBuf;

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("[[dkim.key]] {label}: {key}: {fault}")]
pub struct KeyFileError {
    label: String,
    /// The key of the configuration to look at.
    key: &'static str,
    fault: KeyFileFault,
}

#[derive(Debug, thiserror::Error)]
enum KeyFileFault {
    #[error("{path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    NoKey { path: PathBuf, source: DkimKeyError },
    #[error("{NO_CREDENTIALS}")]
    NoCredentials,
}

impl SigningKeys {
    /// Reads all keys that the configuration names.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn load(config: &Config) -> Result<Self, KeyFileError> {
        let keys = config.dkim.key.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(keys, &config.dkim))
    }

    /// No key at all: for commands, which send nothing and need not be able to read what only the relay may.
    #[must_use]
    pub(crate) fn none(config: &Config) -> Self {
        Self::new(Vec::new(), &config.dkim)
    }
}

fn read(rule: &DkimKeyRule) -> Result<SigningKey, KeyFileError> {
    let name = if rule.key_file.is_some() { "key_file" } else { "credential" };
    let failed = |fault| KeyFileError { label: rule.label(), key: name, fault };
    let path = path_of(rule).ok_or_else(|| failed(KeyFileFault::NoCredentials))?;
    let pem = read_regular(&path);
    let pem = pem.map_err(|source| failed(KeyFileFault::Unreadable { path: path.clone(), source }))?;
    let key = DkimKey::from_pem(&pem).map_err(|source| failed(KeyFileFault::NoKey { path, source }))?;
    Ok(SigningKey { domain: rule.domain.clone(), selector: rule.selector.clone(), key })
}

/// Where the key of a rule is; none where it is a credential and there are none here.
#[must_use]
pub(crate) fn path_of(rule: &DkimKeyRule) -> Option<PathBuf> {
    match (&rule.key_file, &rule.credential) {
        (Some(path), _) => Some(path.clone()),
        (None, name) => credential_file(name.as_deref().unwrap_or_default()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "writes the files that are read")]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_key_file_that_is_missing_or_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        let text = format!("[[dkim.key]]\ndomain = \"x.example\"\nselector = \"s1\"\nkey_file = {file:?}\n");
        let config = Config::parse(&text, Path::new("relay.toml")).unwrap();
        let error = || SigningKeys::load(&config).unwrap_err().to_string();
        assert!(
            error().starts_with("[[dkim.key]] x.example s1: key_file: ") && error().contains("key.pem: "),
            "{}",
            error()
        );
        std::fs::write(&file, "v=DKIM1; p=AAAA").unwrap();
        assert!(error().contains("no private key in PEM form"), "{}", error());
        let pem = DkimKey::generate(crate::smtp::dkim::DkimKeyType::Ed25519).unwrap().to_pem().unwrap();
        std::fs::write(&file, pem).unwrap();
        assert_eq!(SigningKeys::load(&config).unwrap().all().count(), 1);
    }
}
