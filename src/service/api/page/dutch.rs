//! The story of a message in Dutch: what `relay why` tells in English, with the sentences of the Dutch reports.

use crate::command::why::{Happening, Story, TimelineEntry};
use crate::outcome::{Cause, DeliveryOutcome, TlsVerdict};
use crate::report::dutch_sentence;
use crate::smtp::address::ReversePath;
use crate::spool::RecipientState;
use crate::spool::event::{Act, Actor, Attempt, Event, Silence};
use crate::spool::ledger::{LedgerMessage, MessageState, ToldBy};
use std::collections::BTreeSet;
use std::time::Duration;

/// Recipients that a line names; more are counted.
const MOST_NAMES: usize = 3;

/// How the message stands.
pub(super) fn standing(message: &LedgerMessage) -> String {
    let due = message.due_at.to_second();
    match (message.standing, message.finished_at) {
        (MessageState::Held, _) => "vastgehouden door de beheerder".to_owned(),
        (MessageState::Finished, Some(at)) => format!("klaar {}", at.to_second()),
        (MessageState::Finished, None) => "klaar".to_owned(),
        (MessageState::Queued, _) if message.waiting().next().is_none() => {
            format!("elke ontvanger is afgehandeld, volgend rapport {due}")
        }
        (MessageState::Queued, _) => format!("in de wachtrij, volgende poging {due}"),
    }
}

/// How each recipient stands, a line each: what a caller can be told.
pub(super) fn recipients(story: &Story) -> Vec<String> {
    (0..story.message.recipients.len()).map(|index| recipient(story, index)).collect()
}

/// What happened, oldest first.
pub(super) fn timeline(story: &Story) -> Vec<TimelineEntry> {
    let mut said = SaidOnce::default();
    let accepted = TimelineEntry { at: story.message.envelope.accepted_at, lines: vec!["aangenomen".to_owned()] };
    let entry =
        |happening: &Happening| TimelineEntry { at: happening.at, lines: lines(story, &happening.event, &mut said) };
    std::iter::once(accepted).chain(story.history.iter().map(entry)).collect()
}

/// Sentences stand in a timeline once: four days of waiting are a hundred attempts.
#[derive(Default)]
struct SaidOnce(BTreeSet<String>);

impl SaidOnce {
    fn failure(&mut self, cause: &Cause) -> String {
        let row = cause.row();
        let words = format!("{}, status {}", row.word, row.status);
        let text = format!("{words}: {}", dutch_sentence(cause));
        if self.0.insert(text.clone()) { text } else { format!("{words}, zoals hierboven") }
    }
}

fn recipient(story: &Story, index: usize) -> String {
    let name = names(story, &[index]);
    let Some(Some(recipient)) = story.message.recipients.get(index) else {
        return format!("{name}: niet in de administratie van de relay; voer `relay audit` uit");
    };
    let reader = match story.message.envelope.reverse_path {
        ReversePath::Null => "de postmaster",
        ReversePath::Mailbox(_) => "de afzender",
    };
    let told = match recipient.told {
        None => String::new(),
        Some(ToldBy::Report(report)) => format!("; rapport {report} vertelt het {reader}"),
        Some(ToldBy::Nobody(because)) => format!("; niemand krijgt bericht, want {}", silence(because)),
    };
    match &recipient.state {
        RecipientState::Done { outcome } => format!("{name}: {}{told}", end(outcome).trim_end_matches('.')),
        RecipientState::Owed(owed) => {
            let (end, due) = (end(&owed.outcome), owed.due.to_second());
            format!("{name}: {}; het rapport aan {reader} gaat uiterlijk {due} uit", end.trim_end_matches('.'))
        }
        RecipientState::Removed => format!("{name}: verwijderd door de beheerder"),
        RecipientState::Queued(pending) => {
            let last = pending.last.as_ref().map_or_else(String::new, |cause| format!(" ({})", dutch_sentence(cause)));
            match pending.due {
                Some(due) => format!("{name}: wacht tot {}, {} keer geprobeerd{last}", due.to_second(), pending.tries),
                None => format!("{name}: wacht{last}"),
            }
        }
    }
}

fn end(outcome: &DeliveryOutcome) -> String {
    end_of(outcome, &mut SaidOnce::default())
}

fn end_of(outcome: &DeliveryOutcome, said: &mut SaidOnce) -> String {
    match outcome {
        DeliveryOutcome::Delivered { peer, reply, .. } => format!("afgeleverd bij {}: {reply}", peer.host),
        DeliveryOutcome::Failed { cause } => said.failure(cause),
    }
}

fn lines(story: &Story, event: &Event, said: &mut SaidOnce) -> Vec<String> {
    let first = match event {
        Event::Attempt(attempt) => return attempted(story, attempt, said),
        Event::NotTried { next_hop, cause, .. } => format!("{next_hop} niet geprobeerd: {}", said.failure(cause)),
        Event::Waits { recipients, due, backing_off } => {
            let because = backing_off.as_ref().map_or_else(String::new, |cause| {
                format!(", zonder poging, want deze bestemming is even niet bereikbaar: {}", said.failure(cause))
            });
            format!("{}: wacht tot {}{because}", names(story, recipients), due.to_second())
        }
        Event::Ended { recipients, cause: None } => format!("{}: afgeleverd", names(story, recipients)),
        Event::Ended { recipients, cause: Some(cause) } => {
            format!("{}: definitief mislukt: {}", names(story, recipients), said.failure(cause))
        }
        Event::Told { recipients, report, to, notice } => {
            let what = if *notice { "bericht" } else { "rapport" };
            format!("{what} {report} over {} staat in de wachtrij, aan {}", names(story, recipients), to.join(", "))
        }
        Event::NotTold { recipients, because } => {
            format!("niemand krijgt bericht over {}, want {}", names(story, recipients), silence(*because))
        }
        Event::Operator { act, recipients, actor } => {
            format!("door de beheerder{}: {} {}", who(actor), names(story, recipients), done(*act))
        }
        Event::Broken { next_hop } => format!("een poging bij {next_hop} eindigde door een fout in de relay"),
        Event::Unreadable { text } => text.clone(),
    };
    vec![first]
}

fn attempted(story: &Story, attempt: &Attempt, said: &mut SaidOnce) -> Vec<String> {
    let Attempt { next_hop, peer, policy, tls, exception, took_ms, results, .. } = attempt;
    let tls = tls.as_ref().map_or_else(|| "geen mailsessie tot stand gekomen".to_owned(), protection);
    let exception = exception.as_ref().map_or_else(String::new, |exception| format!(", uitzondering: {exception}"));
    let took = humantime::format_duration(Duration::from_millis(*took_ms));
    let tried = format!("geprobeerd bij {peer} voor {next_hop}; beleid {policy}, {tls}{exception}; duurde {took}");
    let ends = results.iter().map(|one| format!("{}: {}", names(story, &one.recipients), end_of(&one.outcome, said)));
    std::iter::once(tried).chain(ends).collect()
}

fn protection(tls: &TlsVerdict) -> String {
    let version = tls.version().map(|version| format!(" {version}")).unwrap_or_default();
    let matched = tls.matched().map(|matched| format!(" ({matched})")).unwrap_or_default();
    format!("{}{version}{matched}", tls.word())
}

fn names(story: &Story, recipients: &[usize]) -> String {
    let all = &story.message.envelope.recipients;
    let name = |index: &usize| all.get(*index).map_or_else(|| format!("ontvanger {index}"), ToString::to_string);
    let named: Vec<String> = recipients.iter().take(MOST_NAMES).map(name).collect();
    match recipients.len().saturating_sub(MOST_NAMES) {
        0 => named.join(", "),
        more => format!("{} en nog {more}", named.join(", ")),
    }
}

fn who(actor: &Actor) -> String {
    let user = actor.user.as_ref().map(|user| format!("de gebruiker {user}"));
    let who = user.or_else(|| actor.uid.map(|uid| format!("gebruikersnummer {uid}")));
    let words = who.into_iter().chain(actor.reason.clone()).collect::<Vec<_>>().join(": ");
    if words.is_empty() { words } else { format!(" ({words})") }
}

const fn done(act: Act) -> &'static str {
    match act {
        Act::Retry => "wordt nu geprobeerd",
        Act::Hold => "vastgehouden",
        Act::Release => "vrijgegeven",
        Act::Bounce => "teruggestuurd aan de afzender",
        Act::Delete => "verwijderd",
        Act::Read => "gelezen",
    }
}

const fn silence(because: Silence) -> &'static str {
    match because {
        Silence::NullReversePath => "het bericht heeft geen afzender",
        Silence::NotAsked => "de afzender vroeg om geen rapport",
    }
}
