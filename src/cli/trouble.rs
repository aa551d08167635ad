//! The operator's commands about trouble that goes on, that will come, and that would have come:
//! `relay incidents`, `relay watch`, `relay why --what-if`. Exit codes as in `operator.rs`.

use super::operator::{SpoolOptions, with_ledger};
use super::terminal::{complain, say};
use dane_relay::check::posture::view as watch;
use dane_relay::command::incidents;
use dane_relay::command::queue::OutputForm;
use dane_relay::command::what_if::{self, Supposition};
use dane_relay::smtp::address::Domain;
use std::process::ExitCode;

pub(crate) fn watch_list(place: &SpoolOptions) -> ExitCode {
    let config = match place.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let all = watch::list(&config);
    say(&match place.form() {
        OutputForm::Text => watch::list_text(&all, &config),
        OutputForm::Json => serde_json::to_string_pretty(&all).unwrap_or_default() + "\n",
    })
}

pub(crate) fn watch_show(domain: &Domain, place: &SpoolOptions) -> ExitCode {
    let config = match place.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let Some(known) = watch::show(&config, domain) else {
        return complain(1, &format!("{domain} is not watched; `relay watch list` says which domains are"));
    };
    say(&match place.form() {
        OutputForm::Text => watch::show_text(&known),
        OutputForm::Json => serde_json::to_string_pretty(&known).unwrap_or_default() + "\n",
    })
}

pub(crate) async fn what_if(supposition: Supposition, domain: &Domain, place: &SpoolOptions) -> ExitCode {
    let answer = with_ledger(place, async |ledger| {
        let found = what_if::what_if(ledger, supposition, domain).await?;
        match place.form() {
            OutputForm::Text => say(&found.text()),
            OutputForm::Json => say(&(serde_json::to_string_pretty(&found).unwrap_or_default() + "\n")),
        };
        Ok(ExitCode::from(found.exit_code()))
    });
    answer.await
}

pub(crate) async fn incidents(place: &SpoolOptions) -> ExitCode {
    let answer = with_ledger(place, async |ledger| {
        let found = incidents::incidents(ledger).await?;
        match place.form() {
            OutputForm::Text => say(&incidents::text(&found)),
            OutputForm::Json => say(&(serde_json::to_string_pretty(&found).unwrap_or_default() + "\n")),
        };
        Ok(ExitCode::SUCCESS)
    });
    answer.await
}
