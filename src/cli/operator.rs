//! The operator's commands on the queue and its ledger: `relay queue`, `why`, `status`.
//!
//! Reading needs no relay that runs; orders (`orders.rs`) do.

use super::content::{self, ContentArguments};
use super::exit::{Exit, found};
use super::orders::{OrderArguments, delete, order};
use super::place::{SpoolOptions, ask_quietly, ask_status, with_ledger};
use super::shown::{TableArguments, WhyView};
use super::terminal::{ProgressLine, complain, print, print_json, say, say_json, width};
use clap::Subcommand;
use dane_relay::clock::Clock;
use dane_relay::command::content::ContentPart;
use dane_relay::command::json;
use dane_relay::command::queue::list::{self, ListSum, ListView};
use dane_relay::command::queue::summary::summary;
use dane_relay::command::queue::{Filter, OutputForm};
use dane_relay::command::why::{self, Stories};
use dane_relay::envelope::QueueId;
use dane_relay::spool::event::Act;
use dane_relay::text::counted;
use dane_relay::text::table::TableView;
use std::process::ExitCode;

/// `relay queue …`
#[derive(Subcommand)]
pub(crate) enum QueueAction {
    /// What waits: how old it is, for which domains, and which hosts are backed off until when.
    Summary {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        place: SpoolOptions,
    },
    /// The messages that wait, oldest first.
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        table: TableArguments,
        #[command(flatten)]
        place: SpoolOptions,
    },
    /// Everything known about a message: `relay why` by another name. Or its content.
    Show {
        /// The message.
        id: QueueId,
        /// Its content instead, as it came.
        #[arg(long, conflicts_with_all = ["header", "json"])]
        content: bool,
        /// The header of its content instead.
        #[arg(long, conflicts_with = "json")]
        header: bool,
        #[command(flatten)]
        place: SpoolOptions,
    },
    /// Write the content of a message, as it came, to a file or to standard output.
    Export(ContentArguments),
    /// Try again now, also where the relay is backing off from the next hop.
    Retry(OrderArguments),
    /// Take messages out of their schedule, also over a restart. They do not expire while they are held.
    Hold(OrderArguments),
    /// Put messages that are held back into their schedule, and try them at once, whatever their age.
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

pub(crate) async fn queue(action: QueueAction) -> ExitCode {
    match action {
        QueueAction::Summary { filter, place } => queue_summary(&filter, &place).await,
        QueueAction::List { filter, table, place } => queue_list(&filter, &table, &place).await,
        QueueAction::Show { id, content: false, header: false, place } => why_text(&id.to_string(), None, &place).await,
        QueueAction::Show { id, header, place, .. } => {
            let part = if header { ContentPart::Header } else { ContentPart::Whole };
            content::show(id, part, &place).await
        }
        QueueAction::Export(arguments) => content::export(arguments).await,
        QueueAction::Retry(ordering) => order(Act::Retry, ordering).await,
        QueueAction::Hold(ordering) => order(Act::Hold, ordering).await,
        QueueAction::Release(ordering) => order(Act::Release, ordering).await,
        QueueAction::Bounce(ordering) => order(Act::Bounce, ordering).await,
        QueueAction::Delete { ordering, yes: true } => order(Act::Delete, ordering).await,
        QueueAction::Delete { ordering, yes: false } => delete(ordering).await,
    }
}

async fn queue_summary(filter: &Filter, place: &SpoolOptions) -> ExitCode {
    let answer = with_ledger(place, async |ledger| {
        let progress = ProgressLine::begin("looking through what waits");
        let mut sum = summary(ledger, filter, Clock::system().now()).await?;
        if filter.is_everything() {
            sum.hosts = ask_quietly(place).await.map(|running| running.hosts);
        }
        drop(progress);
        match place.form() {
            OutputForm::Text => say(&sum.text(width())),
            OutputForm::Json => say_json(&json::object(&sum)),
        };
        let found = usize::try_from(sum.messages).unwrap_or(usize::MAX);
        Ok(all_of_it(filter, ListSum { found, unreadable: sum.unreadable }))
    });
    answer.await
}

async fn queue_list(filter: &Filter, table: &TableArguments, place: &SpoolOptions) -> ExitCode {
    let view = match table.view(list::COLUMNS) {
        Ok(table) => ListView { form: place.form(), table },
        Err(code) => return code,
    };
    let answer = with_ledger(place, async |ledger| {
        let mut progress = Some(ProgressLine::begin("looking through what waits"));
        let each = |text: &str| {
            progress.take();
            match view.form {
                OutputForm::Text => print(text),
                OutputForm::Json => print_json(text),
            }
        };
        let sum = list::list(ledger, filter, view, Clock::system().now(), each).await?;
        Ok(all_of_it(filter, sum))
    });
    answer.await
}

/// The exit code for an answer, from which messages may be missing. An empty queue is an answer; nothing that
/// fits is none.
fn all_of_it(filter: &Filter, sum: ListSum) -> ExitCode {
    match sum.unreadable {
        0 if filter.is_everything() => Exit::Done.into(),
        0 => found(sum.found),
        missing => {
            let missing = counted(missing, "message");
            complain(Exit::Io, &format!("{missing} not shown: their rows cannot be read; `relay audit` names them"))
        }
    }
}

pub(crate) async fn why(subject: &str, view: &WhyView, place: &SpoolOptions) -> ExitCode {
    why_text(subject, Some(view), place).await
}

async fn why_text(subject: &str, view: Option<&WhyView>, place: &SpoolOptions) -> ExitCode {
    let (most, stories) = view.map_or((why::USUAL_MESSAGES, Stories::Newest), |view| {
        (view.limit, if view.stories { Stories::All } else { Stories::Newest })
    });
    let table = match view.map(|view| view.table(why::COLUMNS)).transpose() {
        Ok(table) => table,
        Err(code) => return code,
    };
    let answer = with_ledger(place, async |ledger| {
        let progress = ProgressLine::begin(&format!("looking for {subject}"));
        let why = why::look_up(ledger, subject, most).await?;
        drop(progress);
        match place.form() {
            OutputForm::Text => say(&why.text(&table.unwrap_or(TableView::WHOLE), stories)),
            OutputForm::Json => say_json(&json::object(&why)),
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
            OutputForm::Json => say_json(&json::object(&running)),
            OutputForm::Text => say(&running.text(Clock::system().now())),
        },
    }
}
