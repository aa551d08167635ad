//! What waits, in brief, as its rows come from any store: nothing is parsed twice. Causes and domains repeat a million
//! times in a long queue.

use super::ledger::{BriefPart, BriefRecipient, WaitingBrief};
use super::{Hold, RecipientState};
use crate::clock::Timestamp;
use crate::smtp::address::Host;
use std::collections::HashMap;
use std::sync::Arc;

/// Messages handed out at once.
const TOGETHER: usize = 1000;
/// Texts whose meaning is remembered; when they are more, all are forgotten. Some domains more than a long queue has:
/// what comes round in turn would otherwise be forgotten each time just before it comes again.
const MOST_REMEMBERED: usize = 200_000;

/// Texts that were parsed before.
struct ParsedOnce<T>(HashMap<String, Option<Arc<T>>>);

impl<T> Default for ParsedOnce<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

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
pub(in crate::spool) struct BriefRow<'a> {
    pub(in crate::spool) message: i64,
    pub(in crate::spool) accepted_at: Timestamp,
    pub(in crate::spool) hold: Hold,
    /// Whether the envelope looks like one.
    pub(in crate::spool) is_whole: bool,
    pub(in crate::spool) address: &'a str,
    pub(in crate::spool) state: &'a str,
}

/// Messages as their rows come, those of one message after each other.
#[derive(Default)]
pub(in crate::spool) struct Gathering {
    hosts: ParsedOnce<Host>,
    states: ParsedStates,
    /// The message whose rows come.
    last: Option<i64>,
    part: BriefPart,
}

impl Gathering {
    /// Takes a row in. Gives what came before it, when that is enough to be handed out.
    pub(in crate::spool) fn add(&mut self, row: &BriefRow<'_>) -> Option<BriefPart> {
        let is_new = self.last.replace(row.message) != Some(row.message);
        let full = (is_new && self.part.messages.len() >= TOGETHER).then(|| std::mem::take(&mut self.part));
        if is_new {
            self.begin(row);
        }
        if row.is_whole {
            self.add_recipient(row);
        }
        full
    }

    /// What is left after the last row.
    pub(in crate::spool) fn rest(&mut self) -> Option<BriefPart> {
        let part = std::mem::take(&mut self.part);
        let is_empty = part.messages.is_empty() && part.unreadable == 0;
        (!is_empty).then_some(part)
    }

    fn begin(&mut self, row: &BriefRow<'_>) {
        if row.is_whole {
            let BriefRow { accepted_at, hold, .. } = *row;
            self.part.messages.push(WaitingBrief { accepted_at, hold, recipients: Vec::new() });
        } else {
            self.part.unreadable += 1;
        }
    }

    fn add_recipient(&mut self, row: &BriefRow<'_>) {
        let domain = row.address.rsplit_once('@').map_or("", |(_, domain)| domain);
        let host = self.hosts.parsed(domain, || domain.parse().ok());
        let state = self.states.parsed(row.state);
        if let (Some(host), Some(state)) = (host, state.filter(|state| state.is_open()))
            && let Some(message) = self.part.messages.last_mut()
        {
            message.recipients.push(BriefRecipient { host, state });
        }
    }
}

/// States that were parsed before. The moment for which each is planned is another one, and does not count.
#[derive(Default)]
struct ParsedStates {
    all: ParsedOnce<RecipientState>,
    last: Option<(String, String, Option<Arc<RecipientState>>)>,
}

impl ParsedStates {
    fn parsed(&mut self, text: &str) -> Option<Arc<RecipientState>> {
        let (before, after) = around_due(text);
        if let Some((_, _, state)) = self.last.as_ref().filter(|last| last.0 == before && last.1 == after) {
            return state.clone();
        }
        let state = self.all.parsed(&[before, after].concat(), || serde_json::from_str(text).ok());
        self.last = Some((before.to_owned(), after.to_owned(), state.clone()));
        state
    }
}

/// A recipient state up to the moment for which it is planned, and after it.
fn around_due(state: &str) -> (&str, &str) {
    const DUE: &str = "\"due\":";
    let Some(end) = memchr::memmem::find(state.as_bytes(), DUE.as_bytes()).map(|place| place + DUE.len()) else {
        return (state, "");
    };
    let (before, after) = state.split_at(end);
    (before, after.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_that_differ_in_when_they_are_due_are_one() {
        let due = |at: i64| format!(r#"{{"queued":{{"last":{{"a":7}},"due":{at},"tries":2}}}}"#);
        assert_eq!(around_due(&due(5)), around_due(&due(1_795_261_468_000)));
        assert_ne!(around_due(&due(5)), around_due(&due(5).replace('7', "8")));
        assert_eq!(around_due("{}"), ("{}", ""));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_parsed_once() {
        let mut remembered = ParsedOnce::<String>::default();
        for number in 0..=MOST_REMEMBERED {
            remembered.parsed(&number.to_string(), || None);
        }
        assert!(remembered.0.len() <= MOST_REMEMBERED);
        assert_eq!(remembered.parsed("x", || Some("once".to_owned())).as_deref().map(String::as_str), Some("once"));
        assert_eq!(remembered.parsed("x", || None).as_deref().map(String::as_str), Some("once"));
    }

    /// A row of a message that waits for `host`.
    fn row<'a>(message: i64, address: &'a str, state: &'a str) -> BriefRow<'a> {
        BriefRow { message, accepted_at: Timestamp(message), hold: Hold::Scheduled, is_whole: true, address, state }
    }

    #[test]
    fn a_message_is_handed_out_with_all_its_recipients_and_only_a_bounded_number_at_once() {
        let state = serde_json::to_string(&RecipientState::NEW).unwrap();
        let (mut gathering, mut parts) = (Gathering::default(), Vec::new());
        for message in 0..2500 {
            for address in ["a@one.example", "b@two.example"] {
                parts.extend(gathering.add(&row(message, address, &state)));
            }
        }
        parts.extend(gathering.add(&BriefRow { is_whole: false, ..row(2500, "a@one.example", &state) }));
        parts.extend(gathering.rest());
        assert!(gathering.rest().is_none());
        assert_eq!(parts.iter().map(|part| part.messages.len()).collect::<Vec<_>>(), [1000, 1000, 500]);
        assert_eq!(parts.iter().map(|part| part.unreadable).sum::<u64>(), 1);
        assert!(parts.iter().flat_map(|part| &part.messages).all(|message| message.recipients.len() == 2));
    }
}
