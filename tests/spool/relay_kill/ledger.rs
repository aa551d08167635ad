//! What arrived, held against what was acknowledged.
//!
//! Every arrival belongs to one life of the relay: the sinks number their connections, and the
//! numbers at the moment of each kill divide them. (A connection that a dead relay had opened and
//! no sink had greeted yet counts for the next life, and carries nothing.)

use super::load::Submitted;
use super::mail::{Fate, Mail};
use dane_relay::lab::RunningMxHost;
use dane_relay::lab::mx::behaviour::Received;
use std::collections::{BTreeMap, BTreeSet};

/// The copies of one message, by the life of the relay that delivered them.
type Copies = BTreeMap<u64, Vec<usize>>;

/// The numbers of connections at each kill.
#[derive(Default)]
struct Lives {
    ends: Vec<usize>,
}

impl Lives {
    fn of(&self, connection: usize) -> usize {
        self.ends.partition_point(|&end| end < connection)
    }
}

/// A mail host through all lives.
pub(crate) struct Watched {
    pub(crate) host: RunningMxHost,
    lives: Lives,
}

impl Watched {
    pub(crate) fn new(host: RunningMxHost) -> Self {
        Self { host, lives: Lives::default() }
    }

    /// A life has ended.
    pub(crate) fn mark(&mut self) {
        self.lives.ends.push(self.host.connections());
    }
}

/// All that arrived.
pub(crate) struct Arrived {
    /// In the sink of the recipients.
    pub(crate) mail: Copies,
    /// In the sink of the senders: NDRs, by the message they are about.
    pub(crate) reports: Copies,
}

impl Arrived {
    /// Reads both sinks. Panics at anything damaged, and at anything nobody sent.
    pub(crate) fn collect(said: &Submitted, sink: &Watched, back: &Watched) -> Self {
        let mut mail = Copies::new();
        for received in sink.host.messages() {
            let id = whole_mail(&received);
            assert!(said.sent.contains(&id), "message {id} was never sent");
            mail.entry(id).or_default().push(sink.lives.of(received.connection));
        }
        let mut reports = Copies::new();
        let mut contents: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for received in back.host.messages() {
            let id = whole_report(&received);
            assert!(said.sent.contains(&id), "a report about message {id}, which was never sent");
            reports.entry(id).or_default().push(back.lives.of(received.connection));
            // A message that failed is reported once. If its settlement is lost in a kill, so is
            // the report that was stored with it, and the next attempt makes both again. What may
            // come twice is the delivery of that one report, as with any message.
            let first = contents.entry(id).or_insert_with(|| received.content.clone());
            assert!(*first == received.content, "two different reports about message {id}");
        }
        Self { mail, reports }
    }

    /// RFC 5321 §6.1: an acknowledged message that has not arrived, and whose sender was not told.
    pub(crate) fn lost(&self, acknowledged: &BTreeSet<u64>) -> Vec<u64> {
        let is_lost = |id: &u64| {
            Fate::of(*id).is_delivered() && !self.mail.contains_key(id)
                || Fate::of(*id).is_reported() && !self.reports.contains_key(id)
        };
        acknowledged.iter().copied().filter(is_lost).collect()
    }

    /// A second copy needs a kill between it and the first, and a kill can be the reason only for
    /// messages that were in delivery at that moment: delivered, and the outcome not yet durable.
    pub(crate) fn assert_duplicates_come_from_kills(&self, most_in_delivery: usize) {
        let mut repeated_after: BTreeMap<usize, usize> = BTreeMap::new();
        for (id, lives) in self.mail.iter().chain(&self.reports) {
            let different: BTreeSet<usize> = lives.iter().copied().collect();
            assert_eq!(different.len(), lives.len(), "message {id} came twice without a kill in between: {lives:?}");
            let last = different.last().copied();
            for life in different.into_iter().filter(|life| Some(*life) != last) {
                *repeated_after.entry(life).or_default() += 1;
            }
        }
        for (life, repeated) in repeated_after {
            assert!(repeated <= most_in_delivery, "kill {life} made {repeated} duplicates");
        }
    }

    /// How many copies there are beyond the first: of messages, of NDRs.
    pub(crate) fn duplicates(&self) -> (usize, usize) {
        let beyond = |copies: &Copies| copies.values().map(|lives| lives.len() - 1).sum();
        (beyond(&self.mail), beyond(&self.reports))
    }
}

/// The number of a message that arrived as it was sent, with one Received field on top.
fn whole_mail(received: &Received) -> u64 {
    let head = String::from_utf8_lossy(&received.content[..received.content.len().min(900)]).into_owned();
    let mail = Mail::claimed_by(&received.content).unwrap_or_else(|| panic!("not a message of this test: {head}"));
    let id = mail.id;
    let trace = received.content.len().checked_sub(mail.content.len());
    let trace = trace.and_then(|length| received.content.split_at_checked(length));
    let Some((trace, content)) = trace else { panic!("message {id} is cut short: {head}") };
    assert!(content == mail.content, "message {id} is damaged: {head}");
    let trace = String::from_utf8_lossy(trace);
    let fields = trace.split("\r\n").filter(|line| !line.is_empty() && !line.starts_with('\t')).count();
    assert!(trace.starts_with("Received: from ") && trace.ends_with("\r\n") && fields == 1, "message {id}: {trace}");
    assert_eq!((received.mail_from.as_str(), Fate::of(id).is_delivered()), (mail.from.as_str(), true));
    assert_eq!(received.rcpt_to, mail.to[..1], "message {id}");
    id
}

/// The number of the message that a whole NDR is about.
fn whole_report(received: &Received) -> u64 {
    let text = String::from_utf8_lossy(&received.content);
    let mail = text.find("Content-Type: text/rfc822-headers").and_then(|at| Mail::claimed_by(text[at..].as_bytes()));
    let mail = mail.unwrap_or_else(|| panic!("a report without the header of a message of this test: {text}"));
    let id = mail.id;
    let refused = mail.to.last().unwrap();
    assert!(Fate::of(id).is_reported(), "message {id} was not refused: {text}");
    assert!(text.contains(&format!("Final-Recipient: rfc822; {refused}\r\n")), "{text}");
    let boundary = text.split_once("boundary=\"").and_then(|(_, rest)| rest.split_once('"')).unwrap().0;
    assert!(text.ends_with(&format!("\r\n--{boundary}--\r\n")), "the report about message {id} is cut short: {text}");
    assert_eq!((received.mail_from.as_str(), received.rcpt_to.as_slice()), ("", [mail.from].as_slice()));
    id
}
