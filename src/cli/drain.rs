//! `relay drain`: this relay ends, and those that share its spool have its work at once.

use super::exit::Exit;
use super::place::{SpoolOptions, cannot_ask};
use super::terminal::{complain, say, say_json};
use dane_relay::command::json;
use dane_relay::command::queue::OutputForm;
use dane_relay::service::control::ControlClient;
use dane_relay::service::order::OrderEvent;
use dane_relay::text::counted;
use serde::Serialize;
use std::process::ExitCode;

/// What became of it.
#[derive(Serialize)]
struct DrainReport {
    /// Connections on which a message was under way when it began.
    under_way_at_first: usize,
    /// Those on which one was when the relay ended: their recipients are tried again.
    under_way_at_end: usize,
}

pub(crate) async fn drain(place: &SpoolOptions) -> ExitCode {
    let config = match place.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let mut told: Option<DrainReport> = None;
    let each = |answer| {
        let OrderEvent::Draining { under_way } = answer else { return };
        match &mut told {
            Some(report) => report.under_way_at_end = under_way,
            None => {
                if place.form() == OutputForm::Text {
                    let said = counted(under_way as u64, "message");
                    say(&format!("No more mail is taken, and what had not begun is handed over; {said} under way.\n"));
                }
                told = Some(DrainReport { under_way_at_first: under_way, under_way_at_end: under_way });
            }
        }
    };
    // A process that ends closes in its own way.
    let asked = ControlClient::of(&config.spool.path).drain(each).await;
    match (asked, told) {
        (_, Some(report)) => match place.form() {
            OutputForm::Json => say_json(&json::object(&report)),
            OutputForm::Text => say("The relay has ended.\n"),
        },
        (Err(error), None) => cannot_ask(&error),
        (Ok(()), None) => complain(Exit::Io, "the relay gave no answer"),
    }
}
