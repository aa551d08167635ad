//! `relay spool` and `relay cluster`: the database that is the spool.

use super::exit::Exit;
use super::place::SpoolOptions;
use super::shown::TableArguments;
use super::spool_move::{self, MoveArguments};
use super::terminal::{complain, say, say_json};
use clap::Subcommand;
use dane_relay::command::cluster::{self, SpoolReport};
use dane_relay::command::json;
use dane_relay::command::queue::OutputForm;
use dane_relay::config::{Config, SpoolConfig};
use dane_relay::spool::cluster::SchemaState;
use dane_relay::spool::{SpoolError, database_status, migrate, nodes};
use std::path::PathBuf;
use std::process::ExitCode;

/// `relay spool …`
#[derive(Subcommand)]
pub(crate) enum SpoolAction {
    /// Make an empty database a spool.
    Init {
        /// Configuration file, which names the database; without it $RELAY_CONFIG, or
        /// /etc/relay/relay.toml where that exists.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Bring the schema of the database to the version of this relay.
    Migrate {
        /// Configuration file, which names the database; without it $RELAY_CONFIG, or
        /// /etc/relay/relay.toml where that exists.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Carry all mail from one spool to another, with no relay at work on either.
    Move(MoveArguments),
    /// Say which engine keeps the mail, and how its database stands.
    Status {
        #[command(flatten)]
        place: SpoolOptions,
    },
}

/// `relay cluster …`
#[derive(Subcommand)]
pub(crate) enum ClusterAction {
    /// The relays that share the spool: which run, what each carries, and whether its clock is right.
    Status {
        #[command(flatten)]
        table: TableArguments,
        #[command(flatten)]
        place: SpoolOptions,
    },
}

pub(crate) async fn spool(action: SpoolAction) -> ExitCode {
    match action {
        SpoolAction::Init { config } => change(config, WantedSchema::New).await,
        SpoolAction::Migrate { config } => change(config, WantedSchema::Newest).await,
        SpoolAction::Move(arguments) => spool_move::carry(&arguments).await,
        SpoolAction::Status { place } => spool_status(&place).await,
    }
}

/// What the schema is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WantedSchema {
    New,
    Newest,
}

async fn change(config: Option<PathBuf>, wanted: WantedSchema) -> ExitCode {
    let config = match SpoolOptions::text_of(config).config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let before = match found(database_status(&config.spool).await) {
        Ok(status) => status.map(|status| status.schema),
        Err(code) => return code,
    };
    match (wanted, before) {
        (WantedSchema::New, Some(SchemaState::Older(_) | SchemaState::Behind(_))) => {
            return complain(Exit::Config, "there is an older spool in this database: run `relay spool migrate`");
        }
        (WantedSchema::Newest, Some(SchemaState::Empty)) => {
            return complain(Exit::Config, "the database holds no spool: run `relay spool init`");
        }
        (WantedSchema::New | WantedSchema::Newest, _) => {}
    }
    match found(migrate(&config.spool).await) {
        Ok(before @ Some(SchemaState::Newer(_))) => complain(Exit::Config, cluster::migrated(before).trim_end()),
        Ok(before) => say(&cluster::migrated(before)),
        Err(code) => code,
    }
}

async fn spool_status(place: &SpoolOptions) -> ExitCode {
    let report = match of_config(place, async |spool| database_status(spool).await).await {
        Ok(status) => SpoolReport::new(status),
        Err(code) => return code,
    };
    match place.form() {
        OutputForm::Json => say_json(&json::object(&report)),
        OutputForm::Text => say(&report.text()),
    };
    if report.is_usable() { Exit::Done.into() } else { Exit::Fault.into() }
}

pub(crate) async fn status(action: ClusterAction) -> ExitCode {
    let ClusterAction::Status { table, place } = action;
    let view = match table.view(cluster::COLUMNS) {
        Ok(view) => view,
        Err(code) => return code,
    };
    let nodes = match of_config(&place, async |spool| nodes(spool).await).await {
        Ok(nodes) => nodes,
        Err(code) => return code,
    };
    let is_shared = nodes.is_some();
    let nodes = nodes.unwrap_or_default();
    match place.form() {
        OutputForm::Json => say_json(&json::list("nodes", &cluster::chosen(&nodes, &view))),
        OutputForm::Text if is_shared => say(&cluster::text(&nodes, &view)),
        OutputForm::Text => say("The spool is files of this host: one relay has it for itself.\n"),
    };
    if cluster::is_well(&nodes) { Exit::Done.into() } else { Exit::Nothing.into() }
}

async fn of_config<T>(
    place: &SpoolOptions,
    question: impl AsyncFnOnce(&SpoolConfig) -> Result<T, SpoolError>,
) -> Result<T, ExitCode> {
    let config: Config = place.config()?;
    found(question(&config.spool).await)
}

fn found<T>(answer: Result<T, SpoolError>) -> Result<T, ExitCode> {
    answer.map_err(|error| {
        let exit = if matches!(error, SpoolError::Unusable(_)) { Exit::Config } else { Exit::Io };
        complain(exit, &error.to_string())
    })
}
