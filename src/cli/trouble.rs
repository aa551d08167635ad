//! The operator's commands about trouble that goes on, that will come, and that would have come:
//! `relay incidents`, `relay watch`, `relay why --what-if`.

use super::exit::Exit;
use super::place::{SpoolOptions, with_ledger};
use super::shown::TableArguments;
use super::terminal::{ProgressLine, complain, say, say_json};
use dane_relay::check::posture::view as watch;
use dane_relay::command::incidents;
use dane_relay::command::json;
use dane_relay::command::queue::OutputForm;
use dane_relay::command::what_if::{self, Supposition};
use dane_relay::smtp::address::Domain;
use dane_relay::spool::incident::IncidentId;
use std::process::ExitCode;

pub(crate) fn watch_list(table: &TableArguments, place: &SpoolOptions) -> ExitCode {
    let (config, view) = match place.config().and_then(|config| Ok((config, table.view(watch::COLUMNS)?))) {
        Ok(both) => both,
        Err(code) => return code,
    };
    let all = watch::list(&config);
    match place.form() {
        OutputForm::Text => say(&watch::list_text(&all, &config, &view)),
        OutputForm::Json => say_json(&json::list("domains", &watch::arranged(all, &view))),
    }
}

pub(crate) fn watch_show(domain: &Domain, place: &SpoolOptions) -> ExitCode {
    let config = match place.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let Some(known) = watch::show(&config, domain) else {
        let message = format!("{domain} is not watched; `relay watch list` says which domains are");
        return complain(Exit::Nothing, &message);
    };
    match place.form() {
        OutputForm::Text => say(&watch::show_text(&known)),
        OutputForm::Json => say_json(&json::object(&known)),
    }
}

pub(crate) async fn what_if(supposition: Supposition, domain: &Domain, place: &SpoolOptions) -> ExitCode {
    let answer = with_ledger(place, async |ledger| {
        let progress = ProgressLine::begin(&format!("looking through past deliveries to {domain}"));
        let found = what_if::what_if(ledger, supposition, domain).await?;
        drop(progress);
        match place.form() {
            OutputForm::Text => say(&found.text()),
            OutputForm::Json => say_json(&json::object(&found)),
        };
        Ok(ExitCode::from(found.exit_code()))
    });
    answer.await
}

pub(crate) async fn incidents(ids: &[IncidentId], table: &TableArguments, place: &SpoolOptions) -> ExitCode {
    let view = match table.view(incidents::COLUMNS) {
        Ok(view) => view,
        Err(code) => return code,
    };
    let answer = with_ledger(place, async |ledger| {
        let all = incidents::incidents(ledger).await?;
        let chosen = incidents::chosen(all.clone(), ids, &view);
        match place.form() {
            OutputForm::Json => say_json(&json::list("incidents", &chosen)),
            OutputForm::Text if ids.is_empty() => say(&incidents::text(&all, &view)),
            OutputForm::Text => say(&incidents::details(&chosen)),
        };
        if chosen.is_empty() && !ids.is_empty() {
            return Ok(complain(Exit::Nothing, "there is no such incident; `relay incidents` names all"));
        }
        Ok(Exit::Done.into())
    });
    answer.await
}
