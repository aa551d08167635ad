//! `relay queue summary`: how much waits, how old it is, for which domains and which hosts.

use super::{Filter, NOT_TRIED, NOTHING_FITS, cause_word, name_of};
use crate::clock::Timestamp;
use crate::deliver::hosts::view::HostsView;
use crate::envelope::Envelope;
use crate::smtp::address::Host;
use crate::spool::Hold;
use crate::spool::ledger::{BriefRecipient, Ledger, LedgerError, LedgerMessage, WaitingBrief};
use crate::text::counted;
use crate::text::table::{Cell, Column, TextTable, Width, span};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Domains that people see.
const MOST_DOMAINS: usize = 50;

/// The ages by which messages are counted, in seconds, each up to the next.
const AGES_S: [u64; 5] = [900, 3_600, 14_400, 86_400, 172_800];

const AGE_COLUMNS: &[Column] = &[Column::words("AGE"), Column::numbers("MESSAGES"), Column::numbers("RECIPIENTS")];

const DOMAIN_COLUMNS: &[Column] = &[
    Column::words("DOMAIN").at_least(16),
    Column::numbers("RECIPIENTS"),
    Column::numbers("MESSAGES").rank(1),
    Column::numbers("HELD").rank(2),
    Column::numbers("OLDEST"),
    Column::words("CAUSES").at_least(16),
];

const HOST_COLUMNS: &[Column] = &[
    Column::words("HOST").at_least(20),
    Column::numbers("WAITING"),
    Column::words("AT WORK").rank(1),
    Column::words("UNTIL"),
    Column::words("WHY").at_least(16),
];

/// What waits.
#[derive(Debug, Default, Serialize)]
pub struct QueueSummary {
    /// Messages that fit.
    pub messages: u64,
    /// Their recipients that fit.
    pub recipients: u64,
    /// Messages among them that the operator holds.
    pub held: u64,
    /// Messages that cannot be read.
    pub unreadable: u64,
    /// By age, the youngest first.
    pub ages: Vec<AgeBucket>,
    /// By recipient domain, the most recipients first.
    pub domains: Vec<DomainSummary>,
    /// How receiving hosts stand, where a relay runs and was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<HostsView>,
}

/// Messages of about the same age.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct AgeBucket {
    /// They are younger than so many seconds; none for the oldest.
    pub under_s: Option<u64>,
    /// Messages.
    pub messages: u64,
    /// Their recipients that fit.
    pub recipients: u64,
}

/// What waits for one recipient domain.
#[derive(Debug, Default, Serialize)]
pub struct DomainSummary {
    /// The domain.
    pub domain: String,
    /// Messages.
    pub messages: u64,
    /// Recipients.
    pub recipients: u64,
    /// Messages that the operator holds.
    pub held: u64,
    /// The age of the oldest.
    pub oldest_s: u64,
    /// What stopped them.
    pub causes: Vec<CauseCount>,
}

/// Recipients that were stopped by the same.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct CauseCount {
    /// The word of the cause, or that there is none.
    pub cause: &'static str,
    /// Recipients.
    pub recipients: u64,
}

/// What waits, by age and by domain.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn summary(ledger: &dyn Ledger, filter: &Filter, now: Timestamp) -> Result<QueueSummary, LedgerError> {
    let (mut domains, mut sum) = (Domains::default(), QueueSummary::empty());
    let mut count = |brief: &WaitingBrief| {
        sum.add(brief, now);
        domains.count(brief, now);
    };
    if filter.is_everything() {
        let (mut listing, mut unreadable) = (ledger.waiting_in_brief().await?, 0);
        while let Some(part) = listing.next().await? {
            unreadable += part.unreadable;
            part.messages.iter().filter(|brief| !brief.recipients.is_empty()).for_each(&mut count);
        }
        sum.unreadable = unreadable;
    } else {
        let each = |message: LedgerMessage, recipients: Vec<usize>| {
            count(&fitting(&message, &recipients));
            ControlFlow::Continue(())
        };
        sum.unreadable = filter.for_each(ledger, now, each).await?;
    }
    sum.domains = domains.in_order();
    Ok(sum)
}

/// A message with those recipients alone.
fn fitting(message: &LedgerMessage, recipients: &[usize]) -> WaitingBrief {
    let known = |index: &usize| message.recipients.get(*index).cloned();
    let (states, mailboxes) = (recipients.iter().filter_map(known), &message.envelope.recipients);
    let mailboxes = recipients.iter().filter_map(|index| mailboxes.get(*index).cloned()).collect();
    let envelope = Envelope { recipients: mailboxes, ..message.envelope.clone() };
    LedgerMessage { envelope, recipients: states.collect(), ..message.clone() }.in_brief()
}

/// Domains on the way to their summary, each with the counts of its causes.
#[derive(Default)]
struct Domains(HashMap<Arc<Host>, OneDomain>);

#[derive(Default)]
struct OneDomain {
    sum: DomainSummary,
    causes: BTreeMap<&'static str, u64>,
}

impl Domains {
    fn count(&mut self, brief: &WaitingBrief, now: Timestamp) {
        let mut seen: Vec<&Host> = Vec::new();
        for BriefRecipient { host, state } in &brief.recipients {
            let OneDomain { sum, causes } = self.0.entry(Arc::clone(host)).or_default();
            if !seen.contains(&host.as_ref()) {
                sum.messages += 1;
                sum.held += u64::from(brief.hold == Hold::Held);
                sum.oldest_s = sum.oldest_s.max(now.since(brief.accepted_at).as_secs());
                seen.push(host);
            }
            sum.recipients += 1;
            *causes.entry(cause_word(state)).or_default() += 1;
        }
    }

    /// The most recipients first.
    fn in_order(self) -> Vec<DomainSummary> {
        let whole = |(host, OneDomain { sum, causes }): (Arc<Host>, OneDomain)| {
            let causes = causes.into_iter().map(|(cause, recipients)| CauseCount { cause, recipients }).collect();
            DomainSummary { domain: name_of(&host), causes, ..sum }
        };
        let mut all: Vec<DomainSummary> = self.0.into_iter().map(whole).collect();
        all.sort_by(|a, b| b.recipients.cmp(&a.recipients).then_with(|| a.domain.cmp(&b.domain)));
        all
    }
}

impl QueueSummary {
    fn empty() -> Self {
        let bucket = |under_s| AgeBucket { under_s, messages: 0, recipients: 0 };
        let ages = AGES_S.into_iter().map(Some).chain([None]).map(bucket).collect();
        Self { ages, ..Self::default() }
    }

    fn add(&mut self, brief: &WaitingBrief, now: Timestamp) {
        let recipients = brief.recipients.len() as u64;
        self.messages += 1;
        self.recipients += recipients;
        self.held += u64::from(brief.hold == Hold::Held);
        let age = now.since(brief.accepted_at).as_secs();
        let bucket = self.ages.iter_mut().find(|bucket| bucket.under_s.is_none_or(|under| age < under));
        if let Some(bucket) = bucket {
            bucket.messages += 1;
            bucket.recipients += recipients;
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self, width: Width) -> String {
        let mut text = self.headline();
        if self.messages > 0 {
            let _ = write!(text, "\n{}\n{}", self.age_table(width), self.domain_table(width, MOST_DOMAINS));
        }
        if let Some(more @ 1..) = self.domains.len().checked_sub(MOST_DOMAINS) {
            let _ = writeln!(text, "and {}; --json has all", counted(more as u64, "more domain"));
        }
        let hosts = self.host_table(width);
        if !hosts.is_empty() {
            let _ = write!(text, "\n{hosts}");
        }
        let puzzling = |domain: &&DomainSummary| {
            domain.causes.iter().any(|count| count.cause != NOT_TRIED) && !domain.domain.starts_with('[')
        };
        if let Some(domain) = self.domains.iter().find(puzzling) {
            let _ = writeln!(text, "\nWho has to act: relay check {}", domain.domain);
        }
        text
    }

    /// How much waits, in a line.
    #[must_use]
    pub fn headline(&self) -> String {
        if self.messages == 0 {
            return NOTHING_FITS.to_owned();
        }
        let [wait, with, within] =
            [(self.messages, "message"), (self.recipients, "recipient"), (self.domains.len() as u64, "domain")]
                .map(|(number, noun)| counted(number, noun));
        let verb = if self.messages == 1 { "waits" } else { "wait" };
        let held = if self.held > 0 { format!("; {} held", self.held) } else { String::new() };
        format!("{wait} {verb}, with {with} in {within}{held}\n")
    }

    /// How old it is.
    #[must_use]
    pub fn age_table(&self, width: Width) -> String {
        let mut table = TextTable::new(AGE_COLUMNS);
        for AgeBucket { under_s, messages, recipients } in &self.ages {
            let age = under_s.map_or_else(|| "older".to_owned(), |under| format!("under {}", span(under)));
            table.push(vec![age.into(), (*messages).into(), (*recipients).into()], ());
        }
        table.text(width)
    }

    /// The first domains.
    #[must_use]
    pub fn domain_table(&self, width: Width, most: usize) -> String {
        let mut table = TextTable::new(DOMAIN_COLUMNS);
        for domain in self.domains.iter().take(most) {
            let causes: Vec<String> =
                domain.causes.iter().map(|CauseCount { cause, recipients }| format!("{recipients} {cause}")).collect();
            let row = vec![
                domain.domain.clone().into(),
                domain.recipients.into(),
                domain.messages.into(),
                domain.held.into(),
                Cell::number(span(domain.oldest_s), domain.oldest_s),
                causes.join(", ").into(),
            ];
            table.push(row, ());
        }
        table.text(width)
    }

    /// The hosts that mail waits for or that the relay backs off from, and until when; nothing where no relay
    /// was asked or there is none.
    #[must_use]
    pub fn host_table(&self, width: Width) -> String {
        let Some(hosts) = self.hosts.as_ref().filter(|hosts| !hosts.hosts.is_empty()) else { return String::new() };
        let mut table = TextTable::new(HOST_COLUMNS);
        for host in &hosts.hosts {
            let until = host.until.map_or_else(|| "-".to_owned(), Timestamp::to_second);
            let row = vec![
                host.host.clone().into(),
                (host.waiting as u64).into(),
                format!("{} of {}", host.connections.used, host.connections.most).into(),
                until.into(),
                host.why.clone().into(),
            ];
            table.push(row, ());
        }
        let further = match hosts.further {
            0 => String::new(),
            more => format!("and {}\n", counted(more as u64, "more host")),
        };
        table.text(width) + &further
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, message, sample};
    use super::*;
    use crate::command::screen_tests;
    use crate::deliver::hosts::view::{HostView, Share};

    #[test]
    fn a_summary_counts_messages_recipients_and_causes() {
        let mut domains = Domains::default();
        domains.count(&fitting(&message(), &[0, 1, 2]), NOW);
        domains.count(&fitting(&message(), &[0]), NOW);
        let all = domains.in_order();
        let one = all.iter().find(|domain| domain.domain == "one.example").unwrap();
        assert_eq!((one.messages, one.recipients, one.oldest_s), (2, 2, 10_000));
        assert_eq!(one.causes, [CauseCount { cause: "null-mx", recipients: 2 }]);
        let sum = QueueSummary { messages: 2, recipients: 4, domains: all, ..QueueSummary::default() };
        let text = sum.text(Width::Columns(80));
        assert!(text.starts_with("2 messages wait, with 4 recipients in 3 domains\n"), "{text}");
        assert!(text.ends_with("\nWho has to act: relay check one.example\n"), "{text}");
        assert!(text.contains("1 not-tried") && text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn every_message_has_its_age_in_one_row() {
        let under = |age_s: u64| {
            let mut sum = QueueSummary::empty();
            let mut message = message();
            message.envelope.accepted_at = Timestamp(NOW.0 - i64::try_from(age_s * 1_000).unwrap());
            sum.add(&fitting(&message, &[0, 1]), NOW);
            sum.ages.iter().find(|bucket| bucket.messages == 1 && bucket.recipients == 2).unwrap().under_s
        };
        let ages = [0, 899, 900, 86_399, 172_799, 172_800, 1_000_000];
        let expected = [900, 900, 3_600, 86_400, 172_800].map(Some).into_iter().chain([None, None]);
        assert!(ages.map(under).into_iter().eq(expected));
    }

    #[test]
    fn the_screens_at_80_and_160_columns() {
        let (mut domains, mut sum) = (Domains::default(), QueueSummary::empty());
        for message in sample() {
            let brief = fitting(&message, &Filter::default().fitting(&message, NOW));
            sum.add(&brief, NOW);
            domains.count(&brief, NOW);
        }
        sum.domains = domains.in_order();
        let host = HostView {
            host: "mx.busy.example [192.0.2.7]:25".to_owned(),
            connections: Share { used: 0, most: 1 },
            waiting: 3,
            why: "backing off (The server mx.busy.example refused the connection.)".to_owned(),
            until: Some(Timestamp(NOW.0 + 300_000)),
        };
        sum.hosts = Some(HostsView { hosts: vec![host], further: 2, ..HostsView::default() });
        let all: String = [80, 160]
            .into_iter()
            .map(|columns| {
                let text = sum.text(Width::Columns(columns));
                assert!(text.lines().all(|line| line.chars().count() <= columns), "{text}");
                format!("{columns} columns\n{text}\n")
            })
            .collect();
        screen_tests::check("queue-summary", &all);
    }
}
