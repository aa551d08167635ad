//! Where a configuration comes from, so that it can be read again.

use super::settings::{LoadedConfig, Settings};
use super::{Config, ConfigError, KeyLines, SpoolConfig, read, show};
use std::path::{Path, PathBuf};

/// Where a relay has its configuration from.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// From a file.
    File(PathBuf),
    /// There is no file.
    Default,
    /// From whoever started it, who alone can change it.
    Given(Box<Config>),
}

/// The spool that a file names, also where the file cannot be used for more; without a file the default one.
#[must_use]
pub fn spool_of(path: Option<&Path>) -> PathBuf {
    let text = path.and_then(|path| read(path).ok()).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_else(|_broken| spool_lines(&text).parse().unwrap_or_default());
    let named = table.get("spool").and_then(|spool| spool.get("path")?.as_str());
    named.map_or_else(|| SpoolConfig::default().path, PathBuf::from)
}

/// What a file that is no TOML says of the spool's place: it is to be told to the relay there, too.
fn spool_lines(text: &str) -> String {
    let lines = text.lines().map(str::trim).skip_while(|line| *line != "[spool]").skip(1);
    let inside = lines.take_while(|line| !line.starts_with('['));
    let path = inside.filter(|line| line.split('=').next().is_some_and(|key| key.trim() == "path")).last();
    format!("[spool]\n{}", path.unwrap_or_default())
}

impl ConfigSource {
    /// Reads it. The files that it names are not looked at.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self) -> Result<LoadedConfig, ConfigError> {
        match self {
            Self::File(path) => show::loaded(Some(path)),
            Self::Default => show::loaded(None),
            Self::Given(config) => Ok(LoadedConfig {
                config: Config::clone(config),
                settings: Settings::default(),
                lines: KeyLines::default(),
            }),
        }
    }

    /// Reads it again, for a relay that runs.
    ///
    /// # Errors
    /// As [`Config::load`], and when the file is empty.
    pub(crate) fn load_again(&self) -> Result<LoadedConfig, ConfigError> {
        match self {
            Self::File(path) => show::loaded_again(path),
            Self::Default | Self::Given(_) => self.load(),
        }
    }
}
