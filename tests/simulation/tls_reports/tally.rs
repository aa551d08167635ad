//! Sessions by domain, day, policy and result: as the ledger, the reports, the history and the hosts have them.

use crate::pruning_log::messages;
use crate::tls_report::document;
use crate::world::World;
use dane_relay::envelope::Origin;
use dane_relay::lab::RunningMxHost;
use dane_relay::lab::mx::behaviour::Received;
use dane_relay::outcome::{Cause, DeliveryOutcome};
use dane_relay::spool::embedded::reader::StateReader;
use dane_relay::spool::event::{Attempt, Event};
use dane_relay::spool::tls_session::{ReportDay, TlsCount, TlsReportId, TlsReportRow};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Sessions by the kind of policy, its domain, and the result.
pub(crate) type Tally = BTreeMap<(String, String, String), u64>;

/// A report and its reader.
pub(crate) type ReportCopy = (TlsReportId, String);

/// The reports of all domains, with what was counted for each.
pub(crate) fn in_ledger(world: &World) -> Vec<(TlsReportRow, Vec<TlsCount>)> {
    let ledger = StateReader::open(&world.config.spool.path).unwrap();
    let rows = ledger.tls_reports(ReportDay(0), ReportDay(i64::MAX), usize::MAX).unwrap();
    let with_counts = |row: TlsReportRow| {
        let counts = ledger.tls_counts(&row.id).unwrap();
        let sum: u64 = counts.iter().map(|count| count.sessions).sum();
        assert_eq!(sum, row.succeeded + row.failed, "{}: every row of {:?} can be read", world.name(), row.id);
        (row, counts)
    };
    rows.into_iter().map(with_counts).collect()
}

pub(crate) fn result(count: &TlsCount) -> &str {
    count.failure.as_ref().map_or("ok", |failure| &failure.result_type)
}

/// What was counted.
pub(crate) fn counted(counts: &[TlsCount]) -> Tally {
    let mut tally = Tally::new();
    for count in counts {
        let policy = (count.policy.kind.word().to_owned(), count.policy.domain.clone(), result(count).to_owned());
        *tally.entry(policy).or_default() += count.sessions;
    }
    tally
}

/// What a document says; its sums are those of its parts.
pub(crate) fn reported(document: &Value) -> Tally {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut tally = Tally::new();
    for section in document["policies"].as_array().unwrap() {
        let (policy, summary) = (&section["policy"], &section["summary"]);
        let mut add = |result: String, sessions: u64| {
            let policy = (text(&policy["policy-type"]), text(&policy["policy-domain"]), result);
            *tally.entry(policy).or_default() += sessions;
        };
        let succeeded = summary["total-successful-session-count"].as_u64().unwrap();
        if succeeded > 0 {
            add("ok".to_owned(), succeeded);
        }
        let mut failed = 0;
        for details in section["failure-details"].as_array().unwrap() {
            let sessions = details["failed-session-count"].as_u64().unwrap();
            add(text(&details["result-type"]), sessions);
            failed += sessions;
        }
        assert_eq!(summary["total-failure-session-count"], failed, "{section}");
    }
    tally
}

/// Reports that came to a host, each with all its copies.
pub(crate) fn arrived(host: &RunningMxHost) -> BTreeMap<ReportCopy, Vec<(Received, Value)>> {
    let mut arrived = BTreeMap::<ReportCopy, Vec<_>>::new();
    for mail in host.messages() {
        let document = document(&mail);
        let text = String::from_utf8_lossy(&mail.content).into_owned();
        let domain = text.split("\r\nTLS-Report-Domain: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
        let day = document["date-range"]["start-datetime"].as_str().unwrap().split('T').next().unwrap().to_owned();
        let [to] = mail.rcpt_to.as_slice() else { panic!("{:?}", mail.rcpt_to) };
        let copy = (TlsReportId { day: day.parse().unwrap(), domain }, to.clone());
        arrived.entry(copy).or_default().push((mail, document));
    }
    arrived
}

/// Connections on which a host said whether it has TLS.
pub(crate) fn connections(host: &RunningMxHost) -> u64 {
    let seen = host.seen();
    let greeted = seen.iter().filter(|seen| seen.line.to_ascii_uppercase().starts_with("EHLO"));
    greeted.map(|seen| seen.connection).collect::<BTreeSet<_>>().len() as u64
}

/// The domain of a recipient's next hop, and the day, of each event of the history that counts: an attempt that came
/// as far as TLS or failed by it, and a host that was left alone for a reason that has a result type.
pub(crate) fn in_history(world: &World) -> BTreeMap<TlsReportId, u64> {
    let path = &world.config.spool.path;
    let ledger = StateReader::open(path).unwrap();
    let mut counted = BTreeMap::new();
    for message in messages(path).values() {
        if matches!(message.envelope.origin, Origin::TlsReport { .. }) {
            continue;
        }
        for (at, event) in ledger.history(message.id).unwrap() {
            let next_hop = match event {
                Event::Attempt(attempt) if is_session(&attempt) => attempt.next_hop,
                Event::NotTried { next_hop, cause, .. } if cause.row().result_type.is_some() => next_hop,
                _ => continue,
            };
            *counted.entry(TlsReportId { day: ReportDay::of(at), domain: next_hop }).or_default() += 1;
        }
    }
    counted
}

fn is_session(attempt: &Attempt) -> bool {
    let is_of_tls = |cause: &Cause| cause.row().result_type.is_some();
    let failed_by_tls = attempt.results.iter().any(|group| match &group.outcome {
        DeliveryOutcome::Failed { cause } => is_of_tls(cause),
        DeliveryOutcome::Delivered { .. } => false,
    });
    attempt.tls.is_some() || failed_by_tls
}
