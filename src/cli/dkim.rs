//! `relay dkim new` and `relay dkim check`: the keys that mail is signed with.

use super::exit::Exit;
use super::overrides::{Output, Overrides};
use super::terminal::{complain, load, say, say_json, usual_file};
use super::values::domain;
use clap::{Args, Subcommand, ValueEnum};
use dane_relay::check::dkim::{self, KeyPlaces};
use dane_relay::clock::Clock;
use dane_relay::command::dkim::{NewDkimKey, usual_selector};
use dane_relay::command::json;
use dane_relay::command::queue::OutputForm;
use dane_relay::config::{Config, is_selector};
use dane_relay::pipeline::outbound::Outbound;
use dane_relay::smtp::address::Domain;
use dane_relay::smtp::dkim::{DkimKey, DkimKeyType};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The folder of keys, beside the configuration or in the spool.
const FOLDER: &str = "dkim";

/// `relay dkim …`
#[derive(Subcommand)]
pub(crate) enum DkimAction {
    /// Make a key for the mail of a domain, and print the record to publish.
    ///
    /// Nothing signs with it before a [[dkim.key]] names it, so that the record can be published first.
    New(NewArguments),
    /// Compare the keys of a domain with the records that are published.
    Check(DkimCheckArguments),
}

/// What kind of key, and where it goes.
#[derive(Args)]
pub(crate) struct NewArguments {
    /// The domain of the author, as it stands in the From field.
    #[arg(value_parser = domain)]
    domain: Domain,
    /// The name to publish it under; without it one by the month, such as relay202611.
    #[arg(long, value_parser = selector)]
    selector: Option<String>,
    /// What kind of key: every receiver knows RSA; Ed25519 is faster, and a second signature beside it.
    #[arg(long = "type", value_enum, value_name = "TYPE", default_value_t = KeyTypeWord::Rsa)]
    key_type: KeyTypeWord,
    /// The file of the private key; without it DOMAIN.SELECTOR.pem in the folder dkim beside the configuration
    /// file, or in the spool where there is none.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Configuration file; without it $RELAY_CONFIG, or /etc/relay/relay.toml where that exists.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Whose keys.
#[derive(Args)]
pub(crate) struct DkimCheckArguments {
    /// The domain of the author, as it stands in the From field.
    #[arg(value_parser = domain)]
    domain: Domain,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    over: Overrides,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyTypeWord {
    Rsa,
    Ed25519,
}

fn selector(text: &str) -> Result<String, String> {
    is_selector(text).map(|()| text.to_ascii_lowercase())
}

/// Does it.
pub(crate) async fn dkim(action: DkimAction) -> ExitCode {
    match action {
        DkimAction::New(arguments) => new(&arguments),
        DkimAction::Check(arguments) => check(arguments).await,
    }
}

fn new(arguments: &NewArguments) -> ExitCode {
    let config = match load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(message) => return complain(Exit::Config, &message),
    };
    let key_type = match arguments.key_type {
        KeyTypeWord::Rsa => DkimKeyType::Rsa,
        KeyTypeWord::Ed25519 => DkimKeyType::Ed25519,
    };
    let usual = || usual_selector(key_type, Clock::system().now());
    let selector = arguments.selector.clone().unwrap_or_else(usual);
    let file = match &arguments.file {
        Some(file) => file.clone(),
        None => folder(arguments.config.clone(), &config).join(format!("{}.{selector}.pem", arguments.domain)),
    };
    // As the service has to be told, which runs in another folder.
    let file = std::path::absolute(&file).unwrap_or(file);
    let made = DkimKey::generate(key_type).and_then(|key| Ok((key.to_pem()?, key)));
    let (pem, key) = match made {
        Ok(made) => made,
        Err(error) => return complain(Exit::System, &error.to_string()),
    };
    match write(&file, &pem, &config) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let message = format!("{} is there already: give another --selector, or --file", file.display());
            return complain(Exit::Usage, &message);
        }
        Err(error) => return complain(Exit::Io, &format!("{}: {error}", file.display())),
        Ok(()) => {}
    }
    let made = NewDkimKey::of(&key, &arguments.domain, &selector, &file);
    match arguments.output.form() {
        OutputForm::Json => say_json(&json::object(&made)),
        OutputForm::Text => say(&made.text()),
    }
}

/// Where keys are when nothing else is said.
fn folder(file: Option<PathBuf>, config: &Config) -> PathBuf {
    // /dev/null is a configuration without a place of its own.
    let of_file =
        file.or_else(usual_file).filter(|file| file.is_file()).and_then(|file| Some(file.parent()?.to_owned()));
    of_file.unwrap_or_else(|| config.spool.path.clone()).join(FOLDER)
}

/// For whoever the spool belongs to, and nobody else to read. What is there already is never replaced.
fn write(file: &Path, pem: &str, config: &Config) -> io::Result<()> {
    let service = config.spool.path.metadata().ok().map(|spool| (spool.uid(), spool.gid()));
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
        give_to(folder, service)?;
    }
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    new.write_all(pem.as_bytes())?;
    new.sync_all()?;
    give_to(file, service)
}

/// Whoever is not root runs the relay as themselves.
fn give_to(path: &Path, service: Option<(u32, u32)>) -> io::Result<()> {
    match service.filter(|_| rustix::process::geteuid().is_root()) {
        Some((user, group)) => chown(path, Some(user), Some(group)),
        None => Ok(()),
    }
}

async fn check(arguments: DkimCheckArguments) -> ExitCode {
    let DkimCheckArguments { domain, output, over } = arguments;
    let file = over.config.clone();
    let config = match over.config() {
        Ok(config) => config,
        Err(message) => return complain(Exit::Config, &message),
    };
    let places = KeyPlaces { folders: vec![folder(file, &config)] };
    let out = match Outbound::for_command(config, Clock::system()) {
        Ok(out) => out,
        Err(error) => return complain(Exit::Config, &error.to_string()),
    };
    let report = Box::pin(dkim::check(&out, &domain, &places)).await;
    match output.form() {
        OutputForm::Json => say_json(&json::object(&report)),
        OutputForm::Text => say(&report.text()),
    };
    ExitCode::from(report.status.exit_code())
}
