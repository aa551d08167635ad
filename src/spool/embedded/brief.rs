//! What waits, in brief, from the state database: one statement for all, and nothing is parsed twice. Causes and domains
//! repeat a million times in a long queue.

use super::reader::StateReader;
use crate::clock::Timestamp;
use crate::smtp::address::Host;
use crate::spool::ledger::{BriefPart, BriefRecipient, LedgerError, WaitingBrief};
use crate::spool::{Hold, RecipientState};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Messages handed out at once.
const TOGETHER: usize = 1000;
/// Texts whose meaning is remembered; when they are more, all are forgotten.
const MOST_REMEMBERED: usize = 50_000;

/// Texts that were parsed before.
struct ParsedOnce<T>(HashMap<String, Option<Arc<T>>>);

impl<T> ParsedOnce<T> {
    fn parsed(&mut self, key: &str, parse: impl FnOnce() -> Option<T>) -> Option<Arc<T>> {
        if let Some(known) = self.0.get(key) {
            return known.clone();
        }
        if self.0.len() >= MOST_REMEMBERED {
            self.0.clear();
        }
        let parsed = parse().map(Arc::new);
        self.0.insert(key.to_owned(), parsed.clone());
        parsed
    }
}

/// The row of a recipient, beside its message.
struct BriefRow<'a> {
    message: i64,
    accepted_at: i64,
    held: bool,
    /// Whether the envelope looks like one.
    is_whole: bool,
    address: &'a str,
    state: &'a str,
}

/// Messages as their rows come.
struct Gathering {
    hosts: ParsedOnce<Host>,
    states: ParsedOnce<RecipientState>,
    /// The message whose rows come.
    last: Option<i64>,
    part: BriefPart,
}

impl Gathering {
    fn add(&mut self, row: &BriefRow<'_>) {
        if self.last.replace(row.message) != Some(row.message) {
            if !row.is_whole {
                self.part.unreadable += 1;
                return;
            }
            let hold = if row.held { Hold::Held } else { Hold::Scheduled };
            let accepted_at = Timestamp(row.accepted_at);
            self.part.messages.push(WaitingBrief { accepted_at, hold, recipients: Vec::new() });
        }
        if !row.is_whole {
            return;
        }
        let domain = row.address.rsplit_once('@').map_or("", |(_, domain)| domain);
        let host = self.hosts.parsed(domain, || domain.parse().ok());
        let state = self.states.parsed(&without_due(row.state), || serde_json::from_str(row.state).ok());
        if let (Some(host), Some(state)) = (host, state.filter(|state| state.is_open()))
            && let Some(message) = self.part.messages.last_mut()
        {
            message.recipients.push(BriefRecipient { host, state });
        }
    }
}

/// A recipient state without the moment for which it is planned, which is another one for each.
fn without_due(state: &str) -> String {
    const DUE: &str = "\"due\":";
    match state.split_once(DUE) {
        Some((before, after)) => [before, after.trim_start_matches(|c: char| c.is_ascii_digit())].concat(),
        None => state.to_owned(),
    }
}

impl StateReader {
    /// See [`crate::spool::ledger::Ledger::waiting_in_brief`].
    pub(super) fn for_each_waiting_in_brief(
        &self,
        mut each: impl FnMut(BriefPart) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let mut select = self.connection.prepare_cached(
            "SELECT m.id, m.accepted_at, m.held, m.envelope GLOB '{*}', r.address, r.state \
             FROM messages m INDEXED BY waiting_messages CROSS JOIN recipients r ON r.message = m.id \
             WHERE m.finished_at IS NULL ORDER BY m.accepted_at, m.id",
        )?;
        let mut rows = select.query([])?;
        let mut gathering = Gathering {
            hosts: ParsedOnce(HashMap::new()),
            states: ParsedOnce(HashMap::new()),
            last: None,
            part: BriefPart::default(),
        };
        while let Some(row) = rows.next()? {
            let text = |column| row.get_ref(column).ok().and_then(|text| text.as_str().ok()).unwrap_or_default();
            let message = row.get(0)?;
            if gathering.part.messages.len() >= TOGETHER && gathering.last != Some(message) {
                let part = std::mem::take(&mut gathering.part);
                if each(part).is_break() {
                    return Ok(());
                }
            }
            gathering.add(&BriefRow {
                message,
                accepted_at: row.get(1)?,
                held: row.get(2)?,
                is_whole: row.get(3)?,
                address: text(4),
                state: text(5),
            });
        }
        let _whether_more = each(gathering.part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SpoolConfig;
    use crate::envelope::{Envelope, testing};
    use crate::outcome::Cause;
    use crate::spool::embedded::EmbeddedSpool;
    use crate::spool::embedded::ledger::EmbeddedLedger;
    use crate::spool::ledger::{BriefListing, Ledger as _, in_brief};
    use crate::spool::{Pending, Settlement, Spool as _};

    const NOW: Timestamp = Timestamp(1_795_261_468_000);

    /// What a list says, but for when recipients are due.
    async fn all(mut listing: Box<dyn BriefListing>) -> (Vec<String>, u64) {
        let (mut told, mut unreadable) = (Vec::new(), 0);
        while let Some(part) = listing.next().await.unwrap() {
            unreadable += part.unreadable;
            let mut messages = part.messages;
            for recipient in messages.iter_mut().flat_map(|brief| &mut brief.recipients) {
                if let RecipientState::Queued(pending) = Arc::make_mut(&mut recipient.state) {
                    pending.due = None;
                }
            }
            told.extend(messages.iter().map(|brief| format!("{brief:?}")));
        }
        (told, unreadable)
    }

    #[tokio::test]
    async fn what_waits_is_the_same_in_brief_as_at_length() {
        let folder = tempfile::TempDir::new().unwrap();
        let config = SpoolConfig { path: folder.path().join("spool"), ..SpoolConfig::default() };
        let spool = EmbeddedSpool::open(&config, NOW).unwrap();
        let domain = |number| Cause::NullMx { domain: format!("d{number}.example").parse().unwrap() };
        for number in 0_i64..40 {
            let to = [format!("a@d{number}.example"), "b@D1.example".to_owned(), "c@[192.0.2.1]".to_owned()];
            let envelope = testing::report(&to.each_ref().map(String::as_str));
            let id = spool.enqueue(spool.begin(NOW), Envelope { accepted_at: NOW, ..envelope }).await.unwrap();
            let claim = spool.claim_one(id, NOW).await.unwrap().unwrap();
            let due = Some(Timestamp(NOW.0 + 1000 * number));
            let waits = Pending { last: Some(domain(number % 3)), due, ..Pending::default() };
            let ended = if number % 5 == 0 { RecipientState::Removed } else { RecipientState::NEW };
            let recipients = vec![(0, RecipientState::Queued(waits)), (1, ended)];
            let hold = if number % 7 == 0 { Hold::Held } else { Hold::Scheduled };
            spool.settle(claim, Settlement { recipients, hold, next_due: due, ..Settlement::default() }).await.unwrap();
        }
        spool.close().await;
        let database = rusqlite::Connection::open(config.path.join("state.sqlite")).unwrap();
        database
            .execute("UPDATE messages SET envelope = 'gone' WHERE id = (SELECT min(id) FROM messages)", [])
            .unwrap();
        let ledger = EmbeddedLedger::open(&config.path).await.unwrap();
        let brief = all(ledger.waiting_in_brief().await.unwrap()).await;
        let at_length = all(in_brief(ledger.waiting().await.unwrap())).await;
        assert_eq!((brief.0.len(), brief.1), (39, 1));
        assert_eq!(brief, at_length);
    }

    #[test]
    fn states_that_differ_in_when_they_are_due_are_one() {
        let due = |at: i64| format!(r#"{{"queued":{{"last":{{"a":7}},"due":{at},"tries":2}}}}"#);
        assert_eq!(without_due(&due(5)), without_due(&due(1_795_261_468_000)));
        assert_ne!(without_due(&due(5)), without_due(&due(5).replace('7', "8")));
        assert_eq!(without_due("{}"), "{}");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_parsed_once() {
        let mut remembered = ParsedOnce::<String>(HashMap::new());
        for number in 0..=MOST_REMEMBERED {
            remembered.parsed(&number.to_string(), || None);
        }
        assert!(remembered.0.len() <= MOST_REMEMBERED);
        assert_eq!(remembered.parsed("x", || Some("once".to_owned())).as_deref().map(String::as_str), Some("once"));
        assert_eq!(remembered.parsed("x", || None).as_deref().map(String::as_str), Some("once"));
    }
}
