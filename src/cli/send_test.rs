//! `relay send-test`: one message through the relay that runs, and its story.

use super::exit::Exit;
use super::place::{SpoolOptions, ask_status, with_ledger};
use super::terminal::{ProgressLine, complain, say, say_json};
use super::values::mailbox;
use clap::Args;
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::command::json;
use dane_relay::command::queue::OutputForm;
use dane_relay::command::send_test::{HandedIn, TestMail, hand_in, usual_sender};
use dane_relay::command::why::{self, Stories};
use dane_relay::envelope::QueueId;
use dane_relay::outcome::DeliveryOutcome;
use dane_relay::pipeline::outbound::Outbound;
use dane_relay::smtp::address::Mailbox;
use dane_relay::spool::RecipientState;
use dane_relay::spool::ledger::{Ledger, LedgerError};
use dane_relay::text::table::TableView;
use std::process::ExitCode;
use std::time::Duration;

/// How often the ledger is asked.
const EVERY: Duration = Duration::from_millis(250);

/// What is sent, and how long its end is waited for.
#[derive(Args)]
pub(crate) struct SendTestArguments {
    /// The recipient: an address of yours at another provider.
    #[arg(long, value_name = "ADDRESS", value_parser = mailbox)]
    to: Mailbox,
    /// The sender; without it the postmaster of the configuration.
    #[arg(long, value_name = "ADDRESS", value_parser = mailbox)]
    from: Option<Mailbox>,
    /// How long to wait for the end, such as 30s or 10m.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    wait: Duration,
    #[command(flatten)]
    place: SpoolOptions,
}

pub(crate) async fn send_test(arguments: SendTestArguments) -> ExitCode {
    let SendTestArguments { to, from, wait, place } = arguments;
    let config = match place.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let Some(from) = from.or_else(|| usual_sender(&config)) else {
        return complain(Exit::Usage, "who sends? Give --from ADDRESS");
    };
    let running = match ask_status(&config).await {
        Ok(running) => running,
        Err(code) => return code,
    };
    let Some(listener) = running.smtp.first() else { return complain(Exit::Config, "the relay has no listener") };
    let out = match Outbound::for_command(config, Clock::system()) {
        Ok(out) => out,
        Err(error) => return complain(Exit::Config, &error.to_string()),
    };
    let mail = TestMail { from, to, at: Clock::system().now() };
    let progress = ProgressLine::begin(&format!("handing in a message to {} at {listener}", mail.to));
    let handed = Box::pin(hand_in(&out, *listener, &mail)).await;
    drop(progress);
    match handed {
        HandedIn::Refused(words) => complain(Exit::Fault, &format!("the relay itself refused it: {words}")),
        HandedIn::Accepted(id) => {
            with_ledger(&place, async |ledger| follow(ledger, id, wait, place.form()).await).await
        }
    }
}

/// Waits for the end, and tells the story.
async fn follow(ledger: &dyn Ledger, id: QueueId, wait: Duration, form: OutputForm) -> Result<ExitCode, LedgerError> {
    let progress = ProgressLine::begin(&format!("accepted as {id}; waiting for its end"));
    let until = Clock::system().now().plus(wait);
    let ended = tokio::time::timeout(wait, end(ledger, id, until)).await;
    drop(progress);
    let story = why::look_up(ledger, &id.to_string(), 1).await?;
    match form {
        OutputForm::Text => say(&story.text(&TableView::WHOLE, Stories::Newest)),
        OutputForm::Json => say_json(&json::object(&story)),
    };
    let code = ended.unwrap_or(Ok(Exit::Nothing))?;
    if code == Exit::Nothing && form == OutputForm::Text {
        let hint = format!("it still waits, and is tried again; `relay why {id}` tells how it goes on");
        return Ok(complain(code, &hint));
    }
    Ok(code.into())
}

/// The exit code for the end of the one recipient, or for its next attempt when that comes too late.
async fn end(ledger: &dyn Ledger, id: QueueId, until: Timestamp) -> Result<Exit, LedgerError> {
    loop {
        let message = ledger.message(id).await?;
        let outcome = message.as_ref().and_then(|message| match &message.recipients.first()?.as_ref()?.state {
            RecipientState::Queued(pending) => {
                let is_late = pending.tries > 0 && pending.due.is_some_and(|due| due > until);
                is_late.then_some(Exit::Nothing)
            }
            RecipientState::Owed(owed) => Some(code_of(&owed.outcome)),
            RecipientState::Done { outcome } => Some(code_of(outcome)),
            RecipientState::Removed => Some(Exit::Fault),
        });
        match outcome {
            Some(code) => return Ok(code),
            None => tokio::time::sleep(EVERY).await,
        }
    }
}

const fn code_of(outcome: &DeliveryOutcome) -> Exit {
    match outcome {
        DeliveryOutcome::Delivered { .. } => Exit::Done,
        DeliveryOutcome::Failed { .. } => Exit::Fault,
    }
}
