//! Where a command finds the spool and the relay that runs on it, and what it says when it finds neither.

use super::exit::Exit;
use super::terminal::{complain, load};
use clap::Args;
use dane_relay::command::queue::OutputForm;
use dane_relay::command::status::Running;
use dane_relay::config::Config;
use dane_relay::service::control::{AskError, ControlClient};
use dane_relay::spool::ledger::{Ledger, LedgerError};
use dane_relay::spool::open_ledger;
use std::path::PathBuf;
use std::process::ExitCode;

/// How a command finds the spool and prints.
#[derive(Args)]
pub(crate) struct SpoolOptions {
    /// Configuration file, which names the spool; without it $RELAY_CONFIG, or
    /// /etc/relay/relay.toml where that exists.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

impl SpoolOptions {
    pub(crate) fn config(&self) -> Result<Config, ExitCode> {
        load(self.config.as_deref()).map_err(|message| complain(Exit::Config, &message))
    }

    pub(crate) const fn form(&self) -> OutputForm {
        if self.json { OutputForm::Json } else { OutputForm::Text }
    }

    /// For text.
    pub(crate) const fn text_of(config: Option<PathBuf>) -> Self {
        Self { config, json: false }
    }
}

/// How the relay that runs is, or the exit code after a complaint.
pub(crate) async fn ask_status(config: &Config) -> Result<Running, ExitCode> {
    ControlClient::of(&config.spool.path).status().await.map_err(|error| cannot_ask(&error))
}

/// How the relay that runs is; nothing, and no word about it, where none does.
pub(crate) async fn ask_quietly(place: &SpoolOptions) -> Option<Running> {
    let config = place.config().ok()?;
    ControlClient::of(&config.spool.path).status().await.ok()
}

/// Answers a question by the ledger of the spool that the configuration names.
pub(crate) async fn with_ledger(
    place: &SpoolOptions,
    question: impl AsyncFnOnce(&dyn Ledger) -> Result<ExitCode, LedgerError>,
) -> ExitCode {
    let config = match place.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let answer = async { question(open_ledger(&config.spool).await?.as_ref()).await };
    answer.await.unwrap_or_else(|error| match error {
        LedgerError::NoSpool(_) => complain(Exit::Config, &error.to_string()),
        LedgerError::Denied(_) => complain(Exit::Denied, &error.to_string()),
        LedgerError::OtherVersion(_) | LedgerError::Row(_) | LedgerError::Engine(_) => {
            complain(Exit::Io, &error.to_string())
        }
    })
}

pub(crate) fn cannot_ask(error: &AskError) -> ExitCode {
    let code = match error {
        AskError::NotRunning(_) | AskError::Silent(_) => Exit::Unavailable,
        AskError::Denied(_) => Exit::Denied,
        AskError::Refused(_) => Exit::Config,
        AskError::NotThere(_) => Exit::Nothing,
        AskError::Io(_) | AskError::Odd(_) | AskError::Failed(_) => Exit::Io,
    };
    complain(code, &error.to_string())
}
