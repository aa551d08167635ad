//! `relay queue show ID --content` and `relay queue export ID`. Who may read the spool may read what is in it;
//! that it was read is recorded in the history of the message, where a relay runs that can do so.

use super::exit::Exit;
use super::place::{SpoolOptions, with_ledger};
use super::terminal::{ProgressLine, complain, print};
use clap::Args;
use dane_relay::command::content::{self, ContentPart};
use dane_relay::command::queue::Filter;
use dane_relay::config::Config;
use dane_relay::envelope::QueueId;
use dane_relay::service::control::ControlClient;
use dane_relay::service::order::OrderEvent;
use dane_relay::spool::event::Act;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A message, and where its content goes.
#[derive(Args)]
pub(crate) struct ContentArguments {
    /// The message.
    id: QueueId,
    /// The file, which must not be there yet; only its owner may read it. Without it standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Configuration file, which names the spool; without it $RELAY_CONFIG, or
    /// /etc/relay/relay.toml where that exists.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Shows it to people; programs get the octets as they are.
pub(crate) async fn show(id: QueueId, part: ContentPart, place: &SpoolOptions) -> ExitCode {
    read(id, part, place, |octets| {
        if io::stdout().is_terminal() {
            let _enough = print(&String::from_utf8_lossy(octets).replace("\r\n", "\n"));
            return Ok(());
        }
        to_stdout(octets)
    })
    .await
}

pub(crate) async fn export(arguments: ContentArguments) -> ExitCode {
    let ContentArguments { id, output, config } = arguments;
    let place = SpoolOptions::text_of(config);
    match output {
        None => read(id, ContentPart::Whole, &place, to_stdout).await,
        Some(path) => {
            let named = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
            read(id, ContentPart::Whole, &place, |octets| to_file(&path, octets).map_err(named)).await
        }
    }
}

fn to_stdout(octets: &[u8]) -> io::Result<()> {
    io::stdout().write_all(octets).and_then(|()| io::stdout().flush())
}

fn to_file(path: &Path, octets: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(octets)?;
    file.sync_all()
}

async fn read(
    id: QueueId,
    part: ContentPart,
    place: &SpoolOptions,
    put: impl FnOnce(&[u8]) -> io::Result<()>,
) -> ExitCode {
    let config = match place.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let answer = with_ledger(place, async |ledger| {
        let progress = ProgressLine::begin(&format!("reading {id}"));
        let content = content::content(ledger, id, part).await?;
        drop(progress);
        let Some(content) = content else {
            let words = "nothing is known of it, or its content is gone: it stays until the last recipient has an end";
            return Ok(complain(Exit::Nothing, &format!("{id}: {words}")));
        };
        record(id, &config).await;
        Ok(match put(&content) {
            Ok(()) => Exit::Done.into(),
            Err(error) => complain(Exit::Io, &error.to_string()),
        })
    });
    answer.await
}

/// In the history of the message. What stands in the way of that is said, and keeps nobody from reading.
async fn record(id: QueueId, config: &Config) {
    let filter = Filter { id: vec![id], ..Filter::default() };
    let (client, mut is_recorded) = (ControlClient::of(&config.spool.path), false);
    let asked = client.act(Act::Read, &filter, None, |told| is_recorded |= matches!(told, OrderEvent::Acted { .. }));
    let because = match asked.await {
        Ok(()) if is_recorded => return,
        Ok(()) => "it is in delivery at the moment, or waits for nothing but a report".to_owned(),
        Err(error) => error.to_string(),
    };
    complain(Exit::Done, &format!("{id}: that its content was read is not in its history: {because}"));
}
