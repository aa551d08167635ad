//! `[spool]`: where accepted mail lives, and by which engine.

use super::{RootsSource, duration, files};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// `[spool]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// The directory; made when it does not exist. Small states of this host are there with every engine.
    pub path: PathBuf,
    /// What keeps the mail.
    pub engine: SpoolEngine,
    /// Where the database is, without a password.
    pub url: Option<String>,
    /// The file that holds the URL, which may then have a password.
    pub url_file: Option<PathBuf>,
    /// Who signs the certificate of the database.
    pub roots: RootsSource,
    /// The most connections to the database for mail.
    pub max_connections: usize,
    /// How long a claim on a message holds when nobody renews it.
    #[serde(deserialize_with = "duration")]
    pub lease: Duration,
    /// The name of this relay among those that share the database; without one the hostname.
    pub node: Option<String>,
    /// Below this much free space no mail is accepted (452 4.3.1), in octets.
    pub min_free_bytes: u64,
    /// Below this many free inodes no mail is accepted.
    pub min_free_inodes: u64,
    /// How long the history of finished messages is kept.
    #[serde(deserialize_with = "duration")]
    pub keep_history: Duration,
    /// The largest state database, in octets; above it the oldest history goes before its time.
    pub max_history_bytes: u64,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("relay-spool"),
            engine: SpoolEngine::Embedded,
            url: None,
            url_file: None,
            roots: RootsSource::System,
            max_connections: 16,
            lease: Duration::from_secs(120),
            node: None,
            min_free_bytes: 268_435_456,
            min_free_inodes: 1000,
            keep_history: Duration::from_secs(30 * 86_400),
            max_history_bytes: 8_589_934_592,
        }
    }
}

/// What keeps the mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpoolEngine {
    /// Files in the directory of this host.
    #[default]
    Embedded,
    /// A PostgreSQL database, which several relays may share.
    Postgresql,
}

impl SpoolConfig {
    /// The URL of the database, read from its file where one is named.
    ///
    /// # Errors
    /// Why there is none, for people. What the file holds is not part of it.
    pub(crate) fn database_url(&self) -> Result<String, String> {
        match (&self.url, &self.url_file) {
            (Some(url), None) => Ok(url.trim().to_owned()),
            (None, Some(file)) => {
                let text = files::read_regular_text(file).map_err(|error| format!("{}: {error}", file.display()))?;
                Ok(text.trim().to_owned())
            }
            (None, None) | (Some(_), Some(_)) => {
                Err("engine = \"postgresql\" needs url or url_file, and not both".to_owned())
            }
        }
    }
}
