//! The operator's orders about what waits: `relay queue retry|hold|release|bounce|delete`. The relay that runs
//! carries them out.

use super::exit::Exit;
use super::place::{SpoolOptions, cannot_ask, with_ledger};
use super::terminal::{complain, say, say_json, width};
use clap::Args;
use dane_relay::clock::Clock;
use dane_relay::command::json;
use dane_relay::command::queue::{self, Filter, OutputForm};
use dane_relay::envelope::QueueId;
use dane_relay::service::control::ControlClient;
use dane_relay::service::order::OrderEvent;
use dane_relay::spool::event::Act;
use dane_relay::text::{counted, harmless};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

/// An order about what waits.
#[derive(Args)]
pub(crate) struct OrderArguments {
    /// These messages.
    #[arg(value_name = "ID")]
    ids: Vec<QueueId>,
    #[command(flatten)]
    filter: Filter,
    /// All that waits, where no condition is given.
    #[arg(long)]
    all: bool,
    /// Why, for whoever reads the history of the messages.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    place: SpoolOptions,
}

/// Removes messages after it has shown what goes, and was told to go on.
pub(crate) async fn delete(ordering: OrderArguments) -> ExitCode {
    let ordering = ordering.with_ids();
    if ordering.names_nothing() {
        return complain(Exit::Usage, NAME_SOMETHING);
    }
    if !std::io::stdin().is_terminal() {
        return complain(Exit::Usage, "delete asks on a terminal; without one give --yes");
    }
    let mut summary = None;
    let read = with_ledger(&ordering.place, async |ledger| {
        summary = Some(queue::summary::summary(ledger, &ordering.filter, Clock::system().now()).await?);
        Ok(ExitCode::SUCCESS)
    });
    let code = read.await;
    match summary {
        None => code,
        Some(nothing) if nothing.messages == 0 => {
            say(&nothing.headline());
            Exit::Nothing.into()
        }
        Some(summary) => match confirmed(&summary.text(width())) {
            Confirmation::Yes => order(Act::Delete, ordering).await,
            Confirmation::No => complain(Exit::Nothing, "nothing was deleted"),
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
    let asked = write!(std::io::stderr(), "{}\n{question}", harmless(summary)).and_then(|()| std::io::stderr().flush());
    let mut line = String::new();
    match asked.and_then(|()| std::io::stdin().lock().read_line(&mut line)) {
        Ok(_) if line.trim() == "delete" => Confirmation::Yes,
        Ok(_) | Err(_) => Confirmation::No,
    }
}

/// What is said to an order that names nothing.
const NAME_SOMETHING: &str = "say which messages (ID, --domain, --cause, --older, --sender), or --all";

impl OrderArguments {
    /// The ids that were given without --id count as those with it.
    fn with_ids(mut self) -> Self {
        self.filter.id.append(&mut self.ids);
        self
    }

    const fn names_nothing(&self) -> bool {
        self.filter.is_everything() && !self.all
    }
}

/// Asks the relay that runs to do it.
pub(crate) async fn order(act: Act, ordering: OrderArguments) -> ExitCode {
    let ordering = ordering.with_ids();
    if ordering.names_nothing() {
        return complain(Exit::Usage, NAME_SOMETHING);
    }
    let OrderArguments { filter, place, reason, .. } = ordering;
    let config = match place.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let mut code = ExitCode::from(Exit::Io);
    let client = ControlClient::of(&config.spool.path);
    let asked = client.act(act, &filter, reason.as_deref(), |event| {
        if place.form() == OutputForm::Json {
            say_json(&json::line(&event));
        }
        code = tell(act, &event, place.form());
    });
    match asked.await {
        Ok(()) => code,
        Err(error) => cannot_ask(&error),
    }
}

/// Gives the exit code that stands if this is the last line.
fn tell(act: Act, event: &OrderEvent, form: OutputForm) -> ExitCode {
    let text = match event {
        OrderEvent::Acted { id, recipients } => {
            format!("{id}: {} ({})\n", act.done(), counted(*recipients as u64, "recipient"))
        }
        OrderEvent::Busy { id } => format!("{id}: left alone: in delivery at the moment, or gone\n"),
        OrderEvent::Held { id } => format!("{id}: held; release it first\n"),
        OrderEvent::Done { acted: 0, left_alone: 0, .. } => match act {
            Act::Hold => "No message that waits fits and is not held already.\n".to_owned(),
            Act::Release => "No message that is held fits.\n".to_owned(),
            Act::Retry | Act::Bounce | Act::Delete | Act::Read => queue::NOTHING_FITS.to_owned(),
        },
        OrderEvent::Done { acted, left_alone, more } => {
            let left = if *left_alone > 0 { format!(", {left_alone} left alone") } else { String::new() };
            let more = if *more { "; there may be more, say it again" } else { "" };
            format!("{} {}{left}{more}\n", counted(*acted as u64, "message"), act.done())
        }
        OrderEvent::Failed { error } => return complain(Exit::Io, error),
        OrderEvent::Draining { .. } => String::new(),
    };
    if form == OutputForm::Text {
        say(&text);
    }
    match event {
        OrderEvent::Done { acted: 0, .. } | OrderEvent::Done { left_alone: 1.., .. } => Exit::Nothing.into(),
        OrderEvent::Done { .. } => ExitCode::SUCCESS,
        // An answer that ends without its last line was cut off.
        OrderEvent::Acted { .. }
        | OrderEvent::Busy { .. }
        | OrderEvent::Held { .. }
        | OrderEvent::Draining { .. }
        | OrderEvent::Failed { .. } => ExitCode::from(Exit::Io),
    }
}
