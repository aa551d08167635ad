//! What the relay says of mail, in the language of the page: English as everywhere else, Dutch by `dutch_faults.rs`,
//! `dutch_check.rs` and the reports.

use super::dutch_faults::{self, by_word};
use super::words::{PageLanguage, PageWords};
use super::{dutch_check, shown, shown_all};
use crate::accept::suspended::SuspendedKind;
use crate::check::posture::store::WatchedDomain;
use crate::check::{CheckStep, posture::PostureFinding};
use crate::outcome::{Cause, Certainty, Side};
use crate::report::dutch_sentence;
use crate::resolve::AbsentBecause;
use crate::resolve::paths::standing::PathStanding;
use crate::service::api::checks::CheckProgress;
use crate::spool::incident::Incident;
use crate::spool::tls_session::TlsReportState;
use crate::text::{counted, harmless};

/// A fault of which the word and the English sentence are known.
pub(super) fn fault<'a>(word: &str, english: &'a str, w: &PageWords) -> &'a str {
    match w.language {
        PageLanguage::English => english,
        PageLanguage::Dutch => by_word(word).sentence,
    }
}

/// A fault with all that is known of it.
pub(super) fn cause(cause: &Cause, w: &PageWords) -> String {
    match w.language {
        PageLanguage::English => cause.sentence(),
        PageLanguage::Dutch => dutch_sentence(cause),
    }
}

/// What is wrong in an incident.
pub(super) fn incident<'a>(one: &'a Incident, w: &PageWords) -> &'a str {
    fault(&one.cause, &one.sentence, w)
}

/// What to do in an incident, line by line.
pub(super) fn to_do(one: &Incident, w: &PageWords) -> Vec<String> {
    match w.language {
        PageLanguage::English => shown_all(&one.what_to_do),
        PageLanguage::Dutch => vec![by_word(&one.cause).to_do.to_owned()],
    }
}

/// What was found out about an incident and is handed over to others as it is: in English.
pub(super) fn evidence(one: &Incident, w: &PageWords) -> Vec<String> {
    let evidence = shown_all(&one.evidence);
    match w.language {
        PageLanguage::English => evidence,
        PageLanguage::Dutch => {
            std::iter::once(shown(&one.sentence)).chain(evidence).chain(shown_all(&one.what_to_do)).collect()
        }
    }
}

/// Who has to act, and how sure that is.
pub(super) fn whose(side: Side, certainty: Certainty, w: &PageWords) -> String {
    match w.language {
        PageLanguage::English => format!("{}, {}", side.word(), certainty.word()),
        PageLanguage::Dutch => format!("{}, {}", dutch_faults::side(side), dutch_faults::certainty(certainty)),
    }
}

/// Why there is no DANE.
pub(super) const fn no_dane(because: AbsentBecause, w: &PageWords) -> &'static str {
    match w.language {
        PageLanguage::English => because.phrase(),
        PageLanguage::Dutch => dutch_faults::no_dane(because),
    }
}

/// A path to the DNS in trouble.
pub(super) fn path(name: &str, standing: PathStanding, w: &PageWords) -> String {
    match w.language {
        PageLanguage::English => format!("DNS by {name}: {}", standing.phrase()),
        PageLanguage::Dutch => format!("DNS via {name}: {}", dutch_faults::path(standing)),
    }
}

/// What the watch says of a domain in a word.
pub(super) fn verdict<'a>(known: &'a WatchedDomain, w: &PageWords) -> &'a str {
    match w.language {
        PageLanguage::English => &known.verdict,
        PageLanguage::Dutch => dutch_faults::verdict_word(&known.verdict),
    }
}

/// What the watch has found.
pub(super) fn finding(one: &PostureFinding, w: &PageWords) -> String {
    match w.language {
        PageLanguage::English => shown(&one.detail),
        PageLanguage::Dutch => {
            let until = one.until.map(|until| format!(" ({} {})", w.until.to_lowercase(), until.to_second()));
            dutch_faults::posture(one.kind).to_owned() + &until.unwrap_or_default()
        }
    }
}

/// The steps of a check.
pub(super) fn steps(steps: &[CheckStep], w: &PageWords) -> Vec<String> {
    let step = |step: &CheckStep| match w.language {
        PageLanguage::English => step.text.clone(),
        PageLanguage::Dutch => shown(&dutch_check::step(&step.taken)),
    };
    steps.iter().map(step).collect()
}

/// What a check came to, and the English text beside it where it is another one.
pub(super) fn check(known: &CheckProgress, w: &PageWords) -> (Option<String>, Option<String>) {
    let english = known.text.as_deref().map(|text| harmless(text).into_owned());
    match (w.language, &known.found) {
        (PageLanguage::Dutch, Some(found)) => (Some(harmless(&dutch_check::text(found)).into_owned()), english),
        (PageLanguage::Dutch | PageLanguage::English, _) => (english, None),
    }
}

/// How a report on TLS stands, in a word.
pub(super) fn report(state: Option<&TlsReportState>, w: &PageWords) -> &'static str {
    match (w.language, state) {
        (PageLanguage::English, None) => "counting",
        (PageLanguage::English, Some(state)) => state.word(),
        (PageLanguage::Dutch, None) => "wordt geteld",
        (PageLanguage::Dutch, Some(TlsReportState::Waiting { .. })) => "wacht",
        (PageLanguage::Dutch, Some(TlsReportState::Sent { .. })) => "verstuurd",
        (PageLanguage::Dutch, Some(TlsReportState::NotWanted { .. })) => "niet gevraagd",
        (PageLanguage::Dutch, Some(TlsReportState::GivenUp { .. })) => "opgegeven",
    }
}

/// So many messages.
pub(super) fn messages(number: usize, w: &PageWords) -> String {
    match (w.language, number) {
        (PageLanguage::English, _) => counted(number as u64, "message"),
        (PageLanguage::Dutch, 1) => "1 bericht".to_owned(),
        (PageLanguage::Dutch, _) => format!("{number} berichten"),
    }
}

/// What an act came to with a message.
pub(super) fn result<'a>(word: &'a str, w: &PageWords) -> &'a str {
    match (w.language, word) {
        (PageLanguage::English, _) => word,
        (PageLanguage::Dutch, "done") => "gedaan",
        (PageLanguage::Dutch, "busy") => "net in bezorging, of weg",
        (PageLanguage::Dutch, "held") => "vastgehouden: eerst vrijgeven",
        (PageLanguage::Dutch, _) => word,
    }
}

/// A kind of suspension.
pub(super) fn suspended(kind: SuspendedKind, w: &PageWords) -> String {
    match (w.language, kind) {
        (PageLanguage::English, _) => kind.to_string(),
        (PageLanguage::Dutch, SuspendedKind::Sender) => w.sender.to_lowercase(),
        (PageLanguage::Dutch, SuspendedKind::User) => w.user.to_owned(),
        (PageLanguage::Dutch, SuspendedKind::Destination) => w.destination.to_owned(),
    }
}

/// Words of the interface, in English, and what stands for them on a page in Dutch.
pub(super) fn by_language(english: &str, dutch: &str, w: &PageWords) -> String {
    match w.language {
        PageLanguage::English => shown(english),
        PageLanguage::Dutch => dutch.to_owned(),
    }
}
