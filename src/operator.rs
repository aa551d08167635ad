//! The operator's commands on the queue and its ledger: `relay queue`, `why`, `audit`, `status`.
//!
//! Reading needs no relay that runs; orders do. Exit codes: 0 done, 1 nothing fits or something
//! is in delivery at the moment, 2 the audit does not hold, 64 usage, 69 no relay runs, 74 the
//! ledger cannot be read, 78 configuration.

use crate::terminal::{EXIT_CONFIG, EXIT_IO, EXIT_USAGE, complain, load, say};
use clap::{Args, Subcommand};
use dane_relay::audit;
use dane_relay::clock::Clock;
use dane_relay::config::Config;
use dane_relay::control::{self, Answer, AskError, Request, Running};
use dane_relay::envelope::QueueId;
use dane_relay::policy::local::Exception;
use dane_relay::queue::{self, Filter, Form};
use dane_relay::spool::embedded::audit::Depth;
use dane_relay::spool::embedded::ledger::LedgerError;
use dane_relay::spool::event::Act;
use dane_relay::text::paragraph;
use dane_relay::why;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// No relay runs (EX_UNAVAILABLE of sysexits.h).
const EXIT_UNAVAILABLE: u8 = 69;

/// Where the words of `relay status` begin.
const COLUMN: usize = 15;

/// How a command finds the spool and prints.
#[derive(Args)]
pub(crate) struct Place {
    /// Configuration file; it names the spool.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

impl Place {
    fn config(&self) -> Result<Config, ExitCode> {
        load(self.config.as_deref()).map_err(|message| complain(EXIT_CONFIG, &message))
    }

    const fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }
}

/// `relay queue …`
#[derive(Subcommand)]
pub(crate) enum QueueAction {
    /// What waits, by recipient domain.
    Summary(Listing),
    /// The messages that wait, oldest first.
    List(Listing),
    /// Everything known about a message: `relay why` by another name.
    Show {
        /// The message.
        id: QueueId,
        #[command(flatten)]
        place: Place,
    },
    /// Try again now, also where the next hop was out of reach.
    Retry(Ordering),
    /// Take messages out of their schedule, also over a restart.
    Hold(Ordering),
    /// Put messages that are held back into their schedule.
    Release(Ordering),
    /// Return messages to their senders with a report.
    Bounce(Ordering),
    /// Remove messages; nobody is told. Asks before.
    Delete {
        #[command(flatten)]
        ordering: Ordering,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// A question about what waits.
#[derive(Args)]
pub(crate) struct Listing {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: Place,
}

/// An order about what waits.
#[derive(Args)]
pub(crate) struct Ordering {
    #[command(flatten)]
    filter: Filter,
    /// All that waits, where no condition is given.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    place: Place,
}

pub(crate) async fn queue(action: QueueAction) -> ExitCode {
    match action {
        QueueAction::Summary(Listing { filter, place }) => with_config(&place, |config| {
            let asked = (place.form(), Clock::system().now());
            finish(queue::summary(config, &filter, asked).map(|text| say(&text)))
        }),
        QueueAction::List(Listing { filter, place }) => with_config(&place, |config| {
            let asked = (place.form(), Clock::system().now());
            finish(queue::list(config, &filter, asked, print).map(|()| ExitCode::SUCCESS))
        }),
        QueueAction::Show { id, place } => why(&id.to_string(), &place),
        QueueAction::Retry(ordering) => order(Act::Retry, ordering).await,
        QueueAction::Hold(ordering) => order(Act::Hold, ordering).await,
        QueueAction::Release(ordering) => order(Act::Release, ordering).await,
        QueueAction::Bounce(ordering) => order(Act::Bounce, ordering).await,
        QueueAction::Delete { ordering, yes: true } => order(Act::Delete, ordering).await,
        QueueAction::Delete { ordering, yes: false } => match ask_before_delete() {
            Answered::Yes => order(Act::Delete, ordering).await,
            Answered::No => complain(1, "nothing was deleted"),
            Answered::NobodyThere => complain(EXIT_USAGE, "delete asks on a terminal; without one give --yes"),
        },
    }
}

enum Answered {
    Yes,
    No,
    NobodyThere,
}

fn ask_before_delete() -> Answered {
    if !std::io::stdin().is_terminal() {
        return Answered::NobodyThere;
    }
    let question = "These messages will be gone, and nobody is told. Type \"delete\" to go on: ";
    let asked = write!(std::io::stderr(), "{question}").and_then(|()| std::io::stderr().flush());
    let mut line = String::new();
    match asked.and_then(|()| std::io::stdin().lock().read_line(&mut line)) {
        Ok(_) if line.trim() == "delete" => Answered::Yes,
        Ok(_) | Err(_) => Answered::No,
    }
}

async fn order(act: Act, Ordering { filter, all, place }: Ordering) -> ExitCode {
    if filter.is_everything() && !all {
        return complain(EXIT_USAGE, "say which messages (--id, --domain, --cause, --older, --sender), or --all");
    }
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
fn tell(act: Act, answer: &Answer, form: Form) -> ExitCode {
    let text = match answer {
        Answer::Acted { id, recipients } => format!("{id}: {} ({recipients} recipients)\n", act.word()),
        Answer::Busy { id } => format!("{id}: in delivery at the moment, or gone\n"),
        Answer::Held { id } => format!("{id}: held; release it first\n"),
        Answer::Done { acted, left_alone, more } => {
            let more = if *more { "; there may be more, say it again" } else { "" };
            format!("{}: {acted} messages, {left_alone} left alone{more}\n", act.word())
        }
        Answer::Failed { error } => return complain(EXIT_IO, error),
        Answer::Status(_) => String::new(),
    };
    if form == Form::Text {
        say(&text);
    }
    match answer {
        Answer::Done { acted: 0, .. } | Answer::Done { left_alone: 1.., .. } => ExitCode::from(1),
        Answer::Done { .. } | Answer::Status(_) => ExitCode::SUCCESS,
        // An answer that ends without its last line was cut off.
        Answer::Acted { .. } | Answer::Busy { .. } | Answer::Held { .. } | Answer::Failed { .. } => {
            ExitCode::from(EXIT_IO)
        }
    }
}

pub(crate) fn why(subject: &str, place: &Place) -> ExitCode {
    with_config(place, |config| {
        finish(why::look_up(&config.spool.path, subject).map(|why| {
            match place.form() {
                Form::Text => say(&why.text()),
                Form::Json => say(&(serde_json::to_string_pretty(&why).unwrap_or_default() + "\n")),
            };
            ExitCode::from(why.exit_code())
        }))
    })
}

pub(crate) fn audit(depth: Depth, place: &Place) -> ExitCode {
    with_config(place, |config| {
        finish(audit::audit(&config.spool.path, depth).map(|found| {
            match place.form() {
                Form::Text => say(&audit::text(&found)),
                Form::Json => say(&(serde_json::to_string_pretty(&found).unwrap_or_default() + "\n")),
            };
            ExitCode::from(audit::exit_code(&found))
        }))
    })
}

pub(crate) async fn status(place: &Place) -> ExitCode {
    let config = match place.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let mut running = None;
    let asked = control::ask(&config.spool.path, &Request::Status, |answer| running = Some(answer)).await;
    match (asked, running) {
        (Ok(()), Some(Answer::Status(running))) => match place.form() {
            Form::Json => say(&(serde_json::to_string_pretty(&running).unwrap_or_default() + "\n")),
            Form::Text => say(&status_text(&running)),
        },
        (Err(error), _) => cannot_ask(&error),
        (Ok(()), _) => complain(EXIT_IO, "the relay gave no answer"),
    }
}

fn status_text(running: &Running) -> String {
    let now = Clock::system().now();
    let age = |since| humantime::format_duration(Duration::from_secs(now.since(since).as_secs()));
    let smtp = running.smtp.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let oldest = running.oldest.map_or_else(String::new, |at| format!(", the oldest for {}", age(at)));
    let mut text = String::new();
    let mut line = |label: &str, words: &str| text.push_str(&paragraph(label, words, COLUMN));
    line("relay", &format!("version {}, process {}", running.version, running.pid));
    line("runs since", &format!("{} ({})", running.since.to_second(), age(running.since)));
    line("takes mail", &running.refuses.as_ref().map_or(smtp, |why| format!("no: {why}")));
    line("metrics", &format!("http://{}/metrics", running.admin));
    line("queue", &format!("{} messages{oldest}", running.queued_messages));
    line("out of reach", &format!("{} next hops are left in peace for a while", running.next_hops_out_of_reach));
    line("spool", &format!("{} octets, {} damaged records", running.spool_bytes, running.damaged_records));
    line("exceptions", if running.exceptions.in_force.is_empty() { "none in force" } else { "in force:" });
    for Exception { domains, kind, reason, until } in &running.exceptions.in_force {
        line("", &format!("{kind} for {domains} until {until}: {reason}"));
    }
    for Exception { domains, kind, until, .. } in &running.exceptions.over {
        line("", &format!("over: {kind} for {domains} until {until}; remove it from the configuration"));
    }
    text
}

fn with_config(place: &Place, command: impl FnOnce(&Config) -> ExitCode) -> ExitCode {
    match place.config() {
        Ok(config) => command(&config),
        Err(code) => code,
    }
}

fn finish(result: Result<ExitCode, LedgerError>) -> ExitCode {
    result.unwrap_or_else(|error| match error {
        LedgerError::NoSpool(_) => complain(EXIT_CONFIG, &error.to_string()),
        LedgerError::OtherVersion(_) | LedgerError::State(_) => complain(EXIT_IO, &error.to_string()),
    })
}

fn cannot_ask(error: &AskError) -> ExitCode {
    let code = match error {
        AskError::NotRunning(_) => EXIT_UNAVAILABLE,
        AskError::Io(_) | AskError::Odd(_) => EXIT_IO,
    };
    complain(code, &error.to_string())
}

/// Stops when whoever reads has read enough.
fn print(text: &str) -> ControlFlow<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_closed) => ControlFlow::Break(()),
    }
}
