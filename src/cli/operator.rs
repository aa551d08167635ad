//! The operator's commands on the queue and its ledger: `relay queue`, `why`, `status`.
//!
//! Reading needs no relay that runs; orders do. Exit codes: 0 done, 1 nothing fits or something
//! is in delivery at the moment, 2 the audit does not hold, 64 usage, 69 no relay runs or it does
//! not answer, 74 the ledger or a part of it cannot be read, 77 the spool belongs to another user,
//! 78 configuration.

use crate::cli::terminal::{EXIT_CONFIG, EXIT_IO, EXIT_USAGE, complain, load, say};
use clap::{Args, Subcommand};
use dane_relay::clock::Clock;
use dane_relay::command::queue::{self, Filter, OutputForm};
use dane_relay::command::status::Running;
use dane_relay::command::why;
use dane_relay::config::Config;
use dane_relay::envelope::QueueId;
use dane_relay::service::control::{self, AskError, ControlReply, Request};
use dane_relay::spool::event::Act;
use dane_relay::spool::ledger::{Ledger, LedgerError};
use dane_relay::spool::open_ledger;
use dane_relay::text::{counted, harmless};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

/// For the help of these commands.
pub(crate) const EXIT_CODES: &str = "Exit codes: 0 done, 1 nothing fits, nothing is known, or something is in \
    delivery at the moment, 2 the audit does not hold, 64 usage, 69 no relay runs or it does not answer, 74 the ledger \
    cannot be read, 77 the spool belongs to another user, 78 configuration or no spool.";

/// No relay runs (EX_UNAVAILABLE of sysexits.h).
const EXIT_UNAVAILABLE: u8 = 69;

/// The spool belongs to another user (EX_NOPERM).
const EXIT_DENIED: u8 = 77;

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
        load(self.config.as_deref()).map_err(|message| complain(EXIT_CONFIG, &message))
    }

    pub(crate) const fn form(&self) -> OutputForm {
        if self.json { OutputForm::Json } else { OutputForm::Text }
    }
}

/// `relay queue …`
#[derive(Subcommand)]
pub(crate) enum QueueAction {
    /// What waits, by recipient domain.
    Summary(ListArguments),
    /// The messages that wait, oldest first.
    List(ListArguments),
    /// Everything known about a message: `relay why` by another name.
    Show {
        /// The message.
        id: QueueId,
        #[command(flatten)]
        place: SpoolOptions,
    },
    /// Try again now, also where the relay is backing off from the next hop.
    Retry(OrderArguments),
    /// Take messages out of their schedule, also over a restart.
    Hold(OrderArguments),
    /// Put messages that are held back into their schedule.
    Release(OrderArguments),
    /// Return messages to their senders with a report.
    Bounce(OrderArguments),
    /// Remove messages; nobody is told. Asks before.
    Delete {
        #[command(flatten)]
        ordering: OrderArguments,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// A question about what waits.
#[derive(Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: SpoolOptions,
}

/// An order about what waits.
#[derive(Args)]
pub(crate) struct OrderArguments {
    #[command(flatten)]
    filter: Filter,
    /// All that waits, where no condition is given.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    place: SpoolOptions,
}

pub(crate) async fn queue(action: QueueAction) -> ExitCode {
    match action {
        QueueAction::Summary(ListArguments { filter, place }) => {
            with_ledger(&place, async |ledger| {
                let (text, unreadable) = queue::summary(ledger, &filter, place.form(), Clock::system().now()).await?;
                say(&text);
                if place.form() == OutputForm::Text && filter.is_everything() {
                    say(&waiting_hosts(&place).await);
                }
                Ok(all_of_it(unreadable))
            })
            .await
        }
        QueueAction::List(ListArguments { filter, place }) => {
            with_ledger(&place, async |ledger| {
                queue::list(ledger, &filter, place.form(), Clock::system().now(), print).await.map(all_of_it)
            })
            .await
        }
        QueueAction::Show { id, place } => why(&id.to_string(), &place).await,
        QueueAction::Retry(ordering) => order(Act::Retry, ordering).await,
        QueueAction::Hold(ordering) => order(Act::Hold, ordering).await,
        QueueAction::Release(ordering) => order(Act::Release, ordering).await,
        QueueAction::Bounce(ordering) => order(Act::Bounce, ordering).await,
        QueueAction::Delete { ordering, yes: true } => order(Act::Delete, ordering).await,
        QueueAction::Delete { ordering, yes: false } => delete_when_confirmed(ordering).await,
    }
}

/// The exit code for an answer from which so many messages are missing.
fn all_of_it(unreadable: u64) -> ExitCode {
    if unreadable == 0 {
        return ExitCode::SUCCESS;
    }
    let missing = counted(unreadable, "message");
    complain(EXIT_IO, &format!("{missing} not shown: their rows cannot be read; `relay audit` names them"))
}

async fn delete_when_confirmed(ordering: OrderArguments) -> ExitCode {
    if ordering.names_nothing() {
        return complain(EXIT_USAGE, NAME_SOMETHING);
    }
    if !std::io::stdin().is_terminal() {
        return complain(EXIT_USAGE, "delete asks on a terminal; without one give --yes");
    }
    let mut summary = None;
    let read = with_ledger(&ordering.place, async |ledger| {
        let asked = queue::summary(ledger, &ordering.filter, OutputForm::Text, Clock::system().now());
        summary = Some(asked.await?.0);
        Ok(ExitCode::SUCCESS)
    });
    let code = read.await;
    match summary {
        None => code,
        Some(nothing) if nothing == queue::NOTHING_FITS => {
            say(&nothing);
            ExitCode::from(1)
        }
        Some(text) => match confirmed(&text) {
            Confirmation::Yes => order(Act::Delete, ordering).await,
            Confirmation::No => complain(1, "nothing was deleted"),
        },
    }
}

enum Confirmation {
    Yes,
    No,
}

/// Shows what is about to go, and asks.
fn confirmed(summary: &str) -> Confirmation {
    let question = "What is above will be gone, and nobody is told. Type \"delete\" to go on: ";
    let asked = write!(std::io::stderr(), "{summary}\n{question}").and_then(|()| std::io::stderr().flush());
    let mut line = String::new();
    match asked.and_then(|()| std::io::stdin().lock().read_line(&mut line)) {
        Ok(_) if line.trim() == "delete" => Confirmation::Yes,
        Ok(_) | Err(_) => Confirmation::No,
    }
}

/// What is said to an order that names nothing.
const NAME_SOMETHING: &str = "say which messages (--id, --domain, --cause, --older, --sender), or --all";

impl OrderArguments {
    const fn names_nothing(&self) -> bool {
        self.filter.is_everything() && !self.all
    }
}

async fn order(act: Act, ordering: OrderArguments) -> ExitCode {
    if ordering.names_nothing() {
        return complain(EXIT_USAGE, NAME_SOMETHING);
    }
    let OrderArguments { filter, place, .. } = ordering;
    let config = match place.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let mut code = ExitCode::from(EXIT_IO);
    let request = Request::Act { act, filter };
    let asked = control::ask(&config.spool.path, &request, |answer| {
        if place.json {
            say(&(serde_json::to_string(&answer).unwrap_or_default() + "\n"));
        }
        code = tell(act, &answer, place.form());
    });
    match asked.await {
        Ok(()) => code,
        Err(error) => cannot_ask(&error),
    }
}

/// Gives the exit code that stands if this is the last line.
fn tell(act: Act, answer: &ControlReply, form: OutputForm) -> ExitCode {
    let text = match answer {
        ControlReply::Acted { id, recipients } => {
            format!("{id}: {} ({})\n", act.done(), counted(*recipients as u64, "recipient"))
        }
        ControlReply::Busy { id } => format!("{id}: left alone: in delivery at the moment, or gone\n"),
        ControlReply::Held { id } => format!("{id}: held; release it first\n"),
        ControlReply::Done { acted: 0, left_alone: 0, .. } => match act {
            Act::Hold => "No message that waits fits and is not held already.\n".to_owned(),
            Act::Release => "No message that is held fits.\n".to_owned(),
            Act::Retry | Act::Bounce | Act::Delete => queue::NOTHING_FITS.to_owned(),
        },
        ControlReply::Done { acted, left_alone, more } => {
            let left = if *left_alone > 0 { format!(", {left_alone} left alone") } else { String::new() };
            let more = if *more { "; there may be more, say it again" } else { "" };
            format!("{} {}{left}{more}\n", counted(*acted as u64, "message"), act.done())
        }
        ControlReply::Failed { error } => return complain(EXIT_IO, error),
        ControlReply::Refused { why } => return complain(EXIT_CONFIG, why),
        ControlReply::Status(_)
        | ControlReply::Reloaded { .. }
        | ControlReply::Settings { .. }
        | ControlReply::Suspended { .. } => String::new(),
    };
    if form == OutputForm::Text {
        say(&text);
    }
    match answer {
        ControlReply::Done { acted: 0, .. } | ControlReply::Done { left_alone: 1.., .. } => ExitCode::from(1),
        ControlReply::Done { .. }
        | ControlReply::Status(_)
        | ControlReply::Reloaded { .. }
        | ControlReply::Settings { .. }
        | ControlReply::Suspended { .. } => ExitCode::SUCCESS,
        // An answer that ends without its last line was cut off.
        ControlReply::Acted { .. }
        | ControlReply::Busy { .. }
        | ControlReply::Held { .. }
        | ControlReply::Refused { .. }
        | ControlReply::Failed { .. } => ExitCode::from(EXIT_IO),
    }
}

pub(crate) async fn why(subject: &str, place: &SpoolOptions) -> ExitCode {
    let answer = with_ledger(place, async |ledger| {
        let why = why::look_up(ledger, subject).await?;
        match place.form() {
            OutputForm::Text => say(&why.text()),
            OutputForm::Json => say(&format!("{:#}\n", why.json())),
        };
        Ok(ExitCode::from(why.exit_code()))
    });
    answer.await
}

pub(crate) async fn status(place: &SpoolOptions) -> ExitCode {
    let config = match place.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    match ask_status(&config).await {
        Err(code) => code,
        Ok(running) => match place.form() {
            OutputForm::Json => say(&(serde_json::to_string_pretty(&running).unwrap_or_default() + "\n")),
            OutputForm::Text => say(&running.text(Clock::system().now())),
        },
    }
}

/// How the relay that runs is, or the exit code after a complaint.
pub(crate) async fn ask_status(config: &Config) -> Result<Box<Running>, ExitCode> {
    let mut running = None;
    let asked = control::ask(&config.spool.path, &Request::Status, |answer| running = Some(answer)).await;
    match (asked, running) {
        (Ok(()), Some(ControlReply::Status(running))) => Ok(running),
        (Err(error), _) => Err(cannot_ask(&error)),
        (Ok(()), _) => Err(complain(EXIT_IO, "the relay gave no answer")),
    }
}

/// Which hosts the mail waits for, as far as a running relay knows.
async fn waiting_hosts(place: &SpoolOptions) -> String {
    let Ok(config) = place.config() else { return String::new() };
    let mut text = String::new();
    let each = |answer| {
        if let ControlReply::Status(running) = answer {
            text = running.hosts_text();
        }
    };
    // Without a relay that runs nothing is known of them.
    let _nothing_known = control::ask(&config.spool.path, &Request::Status, each).await;
    text
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
        LedgerError::NoSpool(_) => complain(EXIT_CONFIG, &error.to_string()),
        LedgerError::Denied(_) => complain(EXIT_DENIED, &error.to_string()),
        LedgerError::OtherVersion(_) | LedgerError::Row(_) | LedgerError::Engine(_) => {
            complain(EXIT_IO, &error.to_string())
        }
    })
}

pub(crate) fn cannot_ask(error: &AskError) -> ExitCode {
    let code = match error {
        AskError::NotRunning(_) | AskError::Silent(_) => EXIT_UNAVAILABLE,
        AskError::Denied(_) => EXIT_DENIED,
        AskError::Io(_) | AskError::Odd(_) => EXIT_IO,
    };
    complain(code, &error.to_string())
}

/// Stops when whoever reads has read enough.
fn print(text: &str) -> ControlFlow<()> {
    match std::io::stdout().write_all(harmless(text).as_bytes()) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_closed) => ControlFlow::Break(()),
    }
}
