//! `relay incidents`: faults that many domains have in common, those that go on and those that ended.
//!
//! Read from the ledger, with a relay that runs or without one. [`incidents`] is what a page reads, too.
//! For programs it is a list of [`Incident`] under `incidents`, those that go on first.

use crate::clock::Timestamp;
use crate::outcome::{Cause, DeliveryOutcome};
use crate::spool::MOST_INCIDENTS;
use crate::spool::event::Event;
use crate::spool::incident::{Incident, IncidentEnd, IncidentId, OpenedBy};
use crate::spool::ledger::{Ledger, LedgerError};
use crate::text::table::{Column, TableView, TextTable};
use crate::text::{counted, paragraph};

/// The columns of the table.
pub const COLUMNS: &[Column] = &[
    Column::words("ID"),
    Column::words("CAUSE").at_least(14),
    Column::words("SIDE"),
    Column::words("CERTAINTY").rank(3),
    Column::words("SINCE"),
    Column::words("UNTIL").rank(1),
    Column::numbers("DOMAINS").rank(4),
    Column::numbers("MESSAGES").rank(2),
];

/// Domains that are named to people; the JSON form has more.
const MOST_DOMAINS_SHOWN: usize = 10;

/// Where a check of the host came before the mail.
const NO_MAIL: &str = "no mail is known to have met it";

/// Where the words begin in their line.
const COLUMN: usize = 13;

/// Every incident that the ledger has: those that go on first, then the newest.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn incidents(ledger: &dyn Ledger) -> Result<Vec<Incident>, LedgerError> {
    let mut all = ledger.incidents(MOST_INCIDENTS).await?;
    all.sort_by_key(|incident| !incident.is_open());
    Ok(all)
}

/// Those of `all` that a message met, by its history.
#[must_use]
pub fn met<'a>(all: &'a [Incident], history: impl Iterator<Item = (Timestamp, &'a Event)>) -> Vec<Incident> {
    let mut met: Vec<Incident> = Vec::new();
    for (at, event) in history {
        for incident in causes(event).into_iter().filter_map(|cause| Incident::behind(all, cause, at)) {
            if !met.iter().any(|known| known.id == incident.id) {
                met.push(incident.clone());
            }
        }
    }
    met
}

/// What stopped recipients in an event.
fn causes(event: &Event) -> Vec<&Cause> {
    match event {
        Event::Attempt(attempt) => {
            let failed = attempt.results.iter().filter_map(|group| match &group.outcome {
                DeliveryOutcome::Failed { cause } => Some(cause),
                DeliveryOutcome::Delivered { .. } => None,
            });
            failed.collect()
        }
        Event::NotTried { cause, .. } => vec![cause],
        Event::Waits { backing_off, .. } => backing_off.iter().collect(),
        Event::Ended { cause, .. } => cause.iter().collect(),
        Event::Told { .. }
        | Event::NotTold { .. }
        | Event::Operator { .. }
        | Event::Broken { .. }
        | Event::Unreadable { .. } => Vec::new(),
    }
}

/// The incidents for people: a table of all, and more about those that go on.
#[must_use]
pub fn text(all: &[Incident], view: &TableView) -> String {
    let open: Vec<&Incident> = all.iter().filter(|incident| incident.is_open()).collect();
    let mut text = match open.len() {
        0 => "No incident goes on.\n".to_owned(),
        1 => "1 incident goes on.\n".to_owned(),
        more => format!("{more} incidents go on.\n"),
    };
    if all.is_empty() {
        return text;
    }
    let (table, left_out) = table(all, view);
    text.push_str(&format!("\n{}", table.text(view.width)));
    if left_out > 0 {
        text.push_str(&format!("{}; --limit says how many are shown.\n", counted(left_out as u64, "more incident")));
    }
    for incident in open {
        text.push_str(&format!("\n{}", one(incident)));
    }
    if all.iter().any(|incident| !incident.is_open()) {
        text.push_str("\nMore about one: relay incidents ID\n");
    }
    text
}

/// Those of these names; all where none is given, in the order and number that are wanted.
#[must_use]
pub fn chosen(all: Vec<Incident>, names: &[IncidentId], view: &TableView) -> Vec<Incident> {
    if names.is_empty() {
        return table(&all, view).0.values().map(|incident| (*incident).clone()).collect();
    }
    all.into_iter().filter(|incident| names.contains(&incident.id)).collect()
}

/// All that is known of each, for people.
#[must_use]
pub fn details(chosen: &[Incident]) -> String {
    chosen.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// The rows, and how many are left out.
fn table<'a>(all: &'a [Incident], view: &TableView) -> (TextTable<&'a Incident>, usize) {
    let mut table = TextTable::new(COLUMNS);
    for incident in all {
        let until = incident.until.map_or_else(|| "goes on".to_owned(), Timestamp::to_second);
        let row = vec![
            incident.id.to_string().into(),
            incident.cause.clone().into(),
            incident.side.word().into(),
            incident.certainty.word().into(),
            incident.since.to_second().into(),
            until.into(),
            incident.domain_count.into(),
            incident.messages.into(),
        ];
        table.push(row, incident);
    }
    let left_out = table.arrange(view);
    (table, left_out)
}

fn one(incident: &Incident) -> String {
    let mut text = format!("{}\n", headline(incident));
    let mut line = |label: &str, words: &str| text.push_str(&paragraph(&format!("  {label}"), words, COLUMN));
    line("what", &incident.sentence);
    let since = incident.since.to_second();
    match incident.until {
        None => line("since", &since),
        Some(until) => {
            let how = incident.ended.map_or("", IncidentEnd::words);
            line("when", &format!("from {since} to {}: {how}", until.to_second()));
        }
    }
    if incident.reopened > 0 {
        line("", &format!("it came back {} soon after its end", counted(incident.reopened.into(), "time")));
    }
    let named: Vec<&str> = incident.domains.iter().take(MOST_DOMAINS_SHOWN).map(String::as_str).collect();
    let named = if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) };
    let (domains, messages) = (counted(incident.domain_count, "domain"), counted(incident.messages, "message"));
    let affected = if incident.has_met_mail() { format!("{messages} to {domains}{named}") } else { NO_MAIL.to_owned() };
    line("affected", &affected);
    if let OpenedBy::Check(check) = &incident.opened_by {
        line("opened by", &format!("the check \"{check}\" of this host"));
    }
    for (nth, seen) in incident.evidence.iter().enumerate() {
        line(if nth == 0 { "seen" } else { "" }, seen);
    }
    for (nth, what) in incident.what_to_do.iter().enumerate() {
        line(if nth == 0 { "to do" } else { "" }, what);
    }
    text
}

/// An incident in a line: its name, the fault, whose, and how sure that is.
#[must_use]
pub fn headline(incident: &Incident) -> String {
    let Incident { id, cause, side, certainty, .. } = incident;
    let state = if incident.is_open() { "open" } else { "ended" };
    format!("{id}  {state}  {cause}, side: {}, {}", side.word(), certainty.word())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Certainty, Side};
    use crate::spool::incident::FailureKind;
    use crate::text::table::{SortBy, Width};

    fn incident(id: u64, until: Option<i64>) -> Incident {
        Incident {
            id: IncidentId(id),
            kind: FailureKind::of_check("canary").unwrap(),
            cause: "local-dns-count-filter".to_owned(),
            side: Side::Path,
            certainty: Certainty::Proven,
            since: Timestamp(i64::try_from(id).unwrap()),
            until: until.map(Timestamp),
            ended: until.map(|_| IncidentEnd::Recovered),
            opened_by: OpenedBy::Domains,
            met_by_messages_alone: false,
            domains: vec!["partner.example".to_owned(), "a-rather-long-name.of-a-partner.example".to_owned()],
            domain_count: 12,
            messages: 340,
            sentence: "DNS answers with more than 4 TLSA records vanish on their way to this host.".to_owned(),
            evidence: vec!["4 TLSA records: answered; 5: vanished".to_owned()],
            what_to_do: vec!["Hand the packets to the firewall team.".to_owned()],
            reopened: 1,
            told: None,
        }
    }

    #[test]
    fn the_screens_at_80_and_160_columns() {
        let all = [incident(1_795_261_468_123, None), incident(1_795_161_468_123, Some(1_795_162_000_000))];
        let mut screens = String::new();
        for columns in [80, 160] {
            let view = TableView { width: Width::Columns(columns), ..TableView::WHOLE };
            let text = text(&all, &view);
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{text}");
            screens += &format!("{columns} columns\n{text}\n");
        }
        crate::command::screen_tests::check("incidents", &screens);
    }

    #[test]
    fn incidents_are_chosen_by_name_or_in_the_order_that_is_wanted() {
        let all = || vec![incident(1, None), incident(2, Some(1_795_162_000_000))];
        let chosen = |names: &[u64], view: &TableView| {
            let names: Vec<IncidentId> = names.iter().copied().map(IncidentId).collect();
            chosen(all(), &names, view).iter().map(|incident| incident.id.0).collect::<Vec<_>>()
        };
        assert_eq!(chosen(&[2, 3], &TableView::WHOLE), [2]);
        assert!(chosen(&[3], &TableView::WHOLE).is_empty());
        let sort = Some(SortBy::parse("-id", COLUMNS).unwrap());
        assert_eq!(chosen(&[], &TableView { sort, ..TableView::WHOLE }), [2, 1]);
        assert_eq!(chosen(&[], &TableView { limit: Some(1), ..TableView::WHOLE }), [1]);
    }
}
