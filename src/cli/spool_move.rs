//! `relay spool move`: its arguments, and what it says.

use super::exit::Exit;
use super::terminal::{complain, load, say, say_json};
use clap::Args;
use dane_relay::command::json;
use dane_relay::command::spool_move::{self, MoveError};
use dane_relay::config::SpoolConfig;
use dane_relay::spool::SpoolError;
use dane_relay::spool::ledger::LedgerError;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Which spools.
#[derive(Args)]
pub(crate) struct MoveArguments {
    /// Configuration file that names the old spool.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Configuration file that names the new spool.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Carry nothing, and let relays work on the old spool again.
    #[arg(long)]
    give_up: bool,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Does it.
pub(crate) async fn carry(arguments: &MoveArguments) -> ExitCode {
    let (from, to) = match (spool_of(&arguments.from), spool_of(&arguments.to)) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    if arguments.give_up {
        return match spool_move::give_up(&from, &to).await {
            Ok(()) => say(spool_move::given_up()),
            Err(error) => failed(&error),
        };
    }
    let carried = spool_move::carry_all(&from, &to, progress()).await;
    let report = match carried {
        Ok(report) => report,
        Err(error) => return failed(&error),
    };
    if arguments.json {
        say_json(&json::object(&report));
    } else {
        say(&spool_move::text(&report));
    }
    if report.is_whole() { Exit::Done.into() } else { Exit::Fault.into() }
}

/// Tells whoever waits before a screen how far it is.
fn progress() -> impl FnMut(u64) {
    let is_watched = stderr().is_terminal();
    move |messages| {
        if is_watched {
            // Whoever has closed the screen is told nothing.
            let _closed = write!(stderr(), "\r{messages} messages");
        }
    }
}

fn spool_of(file: &Path) -> Result<SpoolConfig, ExitCode> {
    load(Some(file)).map(|config| config.spool).map_err(|message| complain(Exit::Config, &message))
}

fn failed(error: &MoveError) -> ExitCode {
    let exit = match error {
        MoveError::Same => Exit::Usage,
        MoveError::AtWork(_) | MoveError::Open(SpoolError::InUse { .. }) => Exit::System,
        MoveError::From(LedgerError::NoSpool(_) | LedgerError::OtherVersion(_))
        | MoveError::Open(SpoolError::Unusable(_)) => Exit::Config,
        MoveError::From(LedgerError::Denied(_)) | MoveError::To(LedgerError::Denied(_)) => Exit::Denied,
        MoveError::From(_) | MoveError::To(_) | MoveError::Open(_) | MoveError::Carry(_) => Exit::Io,
    };
    complain(exit, &error.to_string())
}
