//! `[spool]`: where accepted mail lives, and by which engine.

use super::findings::ConfigFindings;
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
    /// The credential of the service manager with it: a file in `$CREDENTIALS_DIRECTORY`.
    pub url_credential: Option<String>,
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
            url_credential: None,
            roots: RootsSource::System,
            max_connections: 16,
            lease: Duration::from_secs(45),
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
    /// Takes over all that only a restart changes.
    pub(super) fn keep_place(&mut self, before: &Self) {
        let Self { min_free_bytes, min_free_inodes, keep_history, max_history_bytes, .. } = *self;
        *self = Self { min_free_bytes, min_free_inodes, keep_history, max_history_bytes, ..before.clone() };
    }

    /// The URL of the database, read from its file where one is named.
    ///
    /// # Errors
    /// Why there is none, for people. What the file holds is not part of it.
    pub(crate) fn database_url(&self) -> Result<String, String> {
        let credential = self.url_credential.as_deref().map(files::credential_file);
        let file = match (&self.url, &self.url_file, credential) {
            (Some(url), None, None) => return Ok(url.trim().to_owned()),
            (None, Some(file), None) => file.clone(),
            (None, None, Some(file)) => file.ok_or_else(|| files::NO_CREDENTIALS.to_owned())?,
            _ => return Err(ONE_URL.to_owned()),
        };
        let text = files::read_regular_text(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(text.trim().to_owned())
    }
}

/// What an engine on a database needs.
const ONE_URL: &str = "engine = \"postgresql\" needs one of url, url_file and url_credential";

/// Whether the engine has what it needs, and nothing that is not its.
pub(super) fn check(spool: &SpoolConfig, findings: &mut ConfigFindings<'_>) {
    let written = |key: &str| findings.document().is_some_and(|document| document.value(key).is_some());
    let of_database = ["spool.url", "spool.url_file", "spool.url_credential", "spool.node"];
    match spool.engine {
        SpoolEngine::Embedded => {
            let idle: Vec<&str> = of_database.into_iter().filter(|key| written(key)).collect();
            if !idle.is_empty() {
                let message = "is for engine = \"postgresql\": write that, too, or take this away";
                findings.refuse(&idle, message);
            }
        }
        SpoolEngine::Postgresql => match (&spool.url, &spool.url_file, &spool.url_credential) {
            (Some(url), None, None) if has_password(url) => {
                let message = "has a password, which this file and `relay config show` would tell: write the URL into a \
                               file of its own, and name that as url_file";
                findings.refuse(&["spool.url"], message);
            }
            (Some(_), None, None) | (None, Some(_), None) => {}
            (None, None, Some(name)) if !name.is_empty() && !name.contains('/') && !name.starts_with('.') => {}
            (None, None, Some(_)) => {
                findings
                    .refuse(&["spool.url_credential"], "write the name that LoadCredential= gives it, without a path");
            }
            _ => findings.refuse(&["spool.engine", "spool.url", "spool.url_file", "spool.url_credential"], ONE_URL),
        },
    }
    if spool.node.as_ref().is_some_and(|name| !is_name(name)) {
        findings.refuse(&["spool.node"], "is no name: write letters, digits, dots and hyphens, 64 at most");
    }
}

fn is_name(name: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    (1..=64).contains(&name.len()) && name.chars().all(fits)
}

/// In either form of a URL of PostgreSQL.
fn has_password(url: &str) -> bool {
    let behind = url.split_once("://").map_or(url, |(_, behind)| behind);
    let user = behind.split(['/', '?']).next().unwrap_or_default().rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || url.contains("password=") || url.contains("password =")
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use std::path::Path;

    fn refused(lines: &str) -> Option<String> {
        let text = format!("[spool]\n{lines}");
        Config::parse(&text, Path::new("relay.toml")).err().map(|error| error.to_string())
    }

    #[test]
    fn an_engine_on_a_database_needs_its_url_and_no_password_in_the_open() {
        let database = "engine = \"postgresql\"\n";
        for fine in [
            "url = \"postgresql://relay@db.example,db2.example/relay\"",
            "url_file = \"/etc/relay/spool.url\"\nnode = \"mx-1\"",
            "url_credential = \"spool-url\"",
            "url = \"host=/run/postgresql dbname=relay\"",
        ] {
            assert_eq!(refused(&format!("{database}{fine}")), None, "{fine}");
        }
        for (lines, why) in [
            (String::new() + database, "needs one of url"),
            (format!("{database}url = \"postgresql://a:b@c/d\""), "has a password"),
            (format!("{database}url = \"host=c password=b\""), "has a password"),
            (format!("{database}url = \"postgresql://c/d\"\nurl_file = \"/x\""), "needs one of url"),
            (format!("{database}url_credential = \"../x\""), "without a path"),
            (format!("{database}url = \"postgresql://c/d\"\nnode = \"a b\""), "is no name"),
            ("url = \"postgresql://c/d\"".to_owned(), "is for engine"),
            ("engine = \"mysql\"".to_owned(), "unknown variant"),
        ] {
            let said = refused(&lines).unwrap_or_default();
            assert!(said.contains(why) && !said.contains("a:b"), "{lines}: {said}");
        }
    }

    #[test]
    fn a_reload_changes_limits_and_no_place() {
        let before = SpoolConfig { node: Some("a".to_owned()), ..SpoolConfig::default() };
        let mut new = SpoolConfig { min_free_bytes: 7, max_connections: 3, ..SpoolConfig::default() };
        new.keep_place(&before);
        assert_eq!(new, SpoolConfig { min_free_bytes: 7, ..before });
    }
}
