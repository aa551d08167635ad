//! What `relay reports` says: rows and counts as the ledger has them, for people and for programs.

use dane_relay::clock::Timestamp;
use dane_relay::command::json;
use dane_relay::command::tls_reports::{TlsReportDetails, list_text, show_text};
use dane_relay::spool::tls_session::{
    AppliedPolicy, PolicyType, SessionFailure, TlsCount, TlsReportId, TlsReportRow, TlsReportState,
};
use dane_relay::text::table::TableView;

fn row(domain: &str, report: Option<TlsReportState>) -> TlsReportRow {
    let day = "2026-11-29".parse().unwrap();
    let id = TlsReportId { day, domain: domain.to_owned() };
    TlsReportRow { id, succeeded: 12, failed: 3, report }
}

fn rows() -> Vec<TlsReportRow> {
    let at = Timestamp::from_rfc3339("2026-11-30T01:02:03Z").unwrap();
    let last = Some("the host answered with HTTP status 503".to_owned());
    let (to, because) = (vec!["mailto:tls@c.example".to_owned()], "no record".to_owned());
    [
        None,
        Some(TlsReportState::Waiting { due: at, tries: 0, last: None }),
        Some(TlsReportState::Waiting { due: at, tries: 2, last }),
        Some(TlsReportState::Sent { at, to }),
        Some(TlsReportState::NotWanted { at, because: because.clone() }),
        Some(TlsReportState::GivenUp { at, because }),
    ]
    .into_iter()
    .zip('a'..)
    .map(|(report, letter)| row(&format!("{letter}.example"), report))
    .collect()
}

fn details() -> TlsReportDetails {
    let policy = AppliedPolicy {
        kind: PolicyType::Tlsa,
        domain: "mx.a.example".into(),
        strings: vec!["3 1 1 ABCD".into()],
        mx_host: Vec::new(),
    };
    let failure = SessionFailure {
        result_type: "certificate-expired".into(),
        sending_address: Some([192, 0, 2, 7].into()),
        mx_host: Some("mx.a.example".into()),
        mx_address: Some([198, 51, 100, 25].into()),
        reason: Some("cert-expired".into()),
    };
    let counts = vec![
        TlsCount { policy: policy.clone(), failure: None, sessions: 12 },
        TlsCount { policy, failure: Some(failure), sessions: 3 },
    ];
    TlsReportDetails { row: row("a.example", None), counts }
}

#[test]
fn the_list_says_of_each_domain_and_day_how_it_went_and_how_its_report_stands() {
    let view = TableView::WHOLE;
    let text = list_text(&rows(), &view);
    for words in [
        "counting    until the day is over",
        "waiting     due 2026-11-30 01:02:03Z",
        "waiting     tried 2 times, again 2026-11-30 01:02:03Z: the host answered with HTTP status 503",
        "sent        2026-11-30 01:02:03Z to mailto:tls@c.example",
        "not-wanted  2026-11-30 01:02:03Z: no record",
        "given-up    2026-11-30 01:02:03Z: no record",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(list_text(&[], &view).contains("enabled is false"));
}

#[test]
fn a_domain_is_shown_with_what_was_applied_and_what_failed() {
    let text = show_text(&[details()]);
    let expected = "a.example  2026-11-29 (UTC)\n  tries      12 succeeded, 3 failed\n  report     none yet: the day \
                    is not over\n  policy     TLSA records of mx.a.example\n             3 1 1 ABCD\n  succeeded  \
                    12\n  failed     3 by certificate-expired at mx.a.example [198.51.100.25] from\n             \
                    [192.0.2.7]: cert-expired\n";
    assert_eq!(text, expected);
}

#[test]
fn programs_get_the_same_as_members() {
    let value: serde_json::Value = serde_json::from_str(&json::object(&details())).unwrap();
    assert_eq!((&value["day"], &value["succeeded"]), (&"2026-11-29".into(), &12.into()));
    assert_eq!(value["counts"][1]["failure"]["result_type"], "certificate-expired");
    let lines: Vec<serde_json::Value> =
        rows().iter().map(|row| serde_json::from_str(&json::line(row)).unwrap()).collect();
    assert_eq!((&lines[0]["report"], &lines[3]["report"]["state"]), (&serde_json::Value::Null, &"sent".into()));
    assert_eq!(lines[3]["report"]["at"], "2026-11-30T01:02:03Z");
}
