//! One fault, the same words everywhere: every cause through every output (RFC 3464, RFC 8460
//! §4.3): the log, the metrics, the report to the sender, the JSON of `relay check`.

use super::CauseRow;
use crate::clock::Timestamp;
use crate::config::NotifyConfig;
use crate::envelope::{ClientInfo, Envelope, Origin, QueueId};
use crate::observe::Observer;
use crate::outcome::{Cause, Class, DeliveryOutcome, every};
use crate::report::due::{Moment, ReportRules, due};
use crate::report::{Original, ReportContext, Texts, compose};
use crate::smtp::address::Mailbox;
use crate::spool::{Pending, RecipientState, SpoolEntry, SpoolStats};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex};

const ID: QueueId = QueueId(4711);
const LATE: Timestamp = Timestamp(100 * 3_600_000);

/// Takes the log of this thread.
#[derive(Clone, Default)]
struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl Write for CapturedLog {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the log and the metrics say of a recipient that this stops.
fn watched(cause: &Cause) -> (serde_json::Value, String) {
    let log = CapturedLog::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
    let observer = Observer::new().unwrap();
    let outcome = DeliveryOutcome::Failed { cause: cause.clone() };
    tracing::subscriber::with_default(subscriber, || observer.recipient(ID, &recipient(), &outcome));
    let line = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    (serde_json::from_str(&line).unwrap(), observer.render(&SpoolStats::default(), Timestamp(0)))
}

fn recipient() -> Mailbox {
    "bob@partner.example".parse().unwrap()
}

/// The report about a recipient that this stops, its lines filled into one.
fn reported(cause: &Cause) -> String {
    let client =
        ClientInfo { address: "192.0.2.10".parse().unwrap(), helo: "ex".into(), protocol: "ESMTP".into(), user: None };
    let sender = crate::smtp::address::parse_reverse_path("<ann@corp.example>").unwrap();
    let envelope = Envelope::new(sender, vec![recipient()], Timestamp(0), Origin::Client(client));
    let state = match cause.class() {
        Class::Transient => RecipientState::Queued(Pending { last: Some(cause.clone()), ..Pending::NEW }),
        Class::Permanent => RecipientState::Done { outcome: DeliveryOutcome::Failed { cause: cause.clone() } },
    };
    let entry = SpoolEntry::new(ID, envelope, 0);
    let rules = ReportRules { notify: &NotifyConfig::default(), postmaster: None };
    let notifications = due(&entry, &[(0, state)], &rules, &Moment::at_rest(LATE));
    assert_eq!(notifications.reports.len(), 1, "{cause:?}");
    let hostname = "relay.corp.example".parse().unwrap();
    let context = ReportContext { hostname: &hostname, texts: &Texts::english(), return_full_below: 0, html: true };
    let original = Original {
        entry: &entry,
        content: b"",
        until: LATE,
        history: &[],
        tries_now: 1,
        earlier: &BTreeSet::new(),
        incidents: &[],
    };
    let report = compose(&context, &original, &notifications.reports[0], LATE);
    filled(std::str::from_utf8(&report.content).unwrap())
}

fn filled(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_cause_has_the_same_words_in_every_output() {
    for cause in every::cause() {
        let (row, root) = (cause.row(), cause.root().row());
        let status = row.status.to_string();

        let json = serde_json::to_value(CauseRow::from(&cause)).unwrap();
        assert_eq!((&json["cause"], &json["status"]), (&row.word.into(), &status.clone().into()), "{json}");
        assert_eq!((&json["side"], &json["sentence"]), (&row.side.word().into(), &cause.sentence().into()), "{json}");
        assert_eq!(json["result_type"], serde_json::json!(row.result_type), "{json}");

        let (log, metrics) = watched(&cause);
        assert_eq!((&log["cause"], &log["status"]), (&row.word.into(), &status.clone().into()), "{log}");
        let held_by = (root != row).then_some(root.word);
        assert_eq!(log.get("held_by"), held_by.map(serde_json::Value::from).as_ref(), "{log}");
        assert_eq!(log["detail"], serde_json::json!(cause.sentence()), "{log}");
        let label = format!("{{cause=\"{}\",side=\"{}\"}} 1\n", row.word, row.side.word());
        assert!(metrics.contains(&label), "no {label} in {metrics}");

        let report = reported(&cause);
        let evidence = format!("Cause: {}, status {status}", row.word);
        let result_type = root.result_type.map(|result_type| format!("RFC 8460 result: {result_type}"));
        let machine = [format!("Status: {status} "), format!("X-Relay-Cause: {} ", root.word)];
        let sentence = filled(&cause.sentence());
        let said = [sentence, cause.who_must_act().to_owned(), evidence, filled(cause.root().advice())];
        for expected in said.into_iter().chain(machine).chain(result_type) {
            assert!(report.contains(&expected), "no {expected:?} in {report}");
        }
    }
}
