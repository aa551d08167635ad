//! While an incident on our side goes on no report and no notice blames a recipient.

use super::*;
use crate::outcome::{Certainty, Side};
use crate::report::incident_notice;
use crate::spool::Pending;
use crate::spool::incident::{FailureKind, IncidentId, OpenedBy};

const DUTCH: &str = include_str!("../../../deploy/templates/nl/reports.toml");

/// An incident of the side and kind of a cause.
fn incident(cause: &Cause) -> Incident {
    Incident {
        id: IncidentId(7),
        kind: FailureKind::of(cause).unwrap(),
        cause: "local-dns-count-filter".into(),
        side: Side::Path,
        certainty: Certainty::Proven,
        since: Timestamp(NOW.0 - 60_000),
        until: None,
        ended: None,
        opened_by: OpenedBy::Domains,
        domains: vec!["partner.example".into(), "other.example".into()],
        domain_count: 12,
        messages: 40,
        sentence: "Answers with more than 4 TLSA records vanish on this path.".into(),
        evidence: vec!["4 records: answered".into(), "5 records: vanished".into()],
        what_to_do: vec!["meanwhile: upstreams = [\"tls://192.0.2.53#dns.example\"]".into()],
        reopened: 0,
        told: None,
        met_by_messages_alone: false,
    }
}

fn text(case: &ReportCase) -> String {
    parts(&case.report()).swap_remove(0).1.replace("\r\n", "\n")
}

fn waiting(cause: &Cause) -> RecipientState {
    RecipientState::Queued(Pending { last: Some(cause.clone()), tries: 3, ..Pending::NEW })
}

#[test]
fn no_report_and_no_notice_blames_a_recipient_while_an_incident_of_ours_goes_on() {
    let bogus = every::cause().into_iter().find(|cause| cause.row().word == "dnssec-invalid").unwrap();
    for cause in [bogus, dane_mismatch(), tlsa_unavailable()] {
        for state in [failed(&expired(cause.clone())), waiting(&cause)] {
            let alone =
                ReportCase { states: vec![state], ..ReportCase::new(&[("bob@partner.example", &cause)], HEADER) };
            let before = text(&alone);
            let blamed = dane_mismatch().who_must_act();
            let during = text(&ReportCase { incidents: vec![incident(&cause)], ..alone });
            let reader = during.split("For administrators").next().unwrap().replace('\n', " ");
            assert!(reader.contains("The fault is on our side, not with the recipient"), "{during}");
            assert!(!reader.contains(blamed) && reader.contains("yours"), "{during}");
            assert!(during.contains("I7: local-dns-count-filter, side path, proven"), "{during}");
            assert!(!before.contains("I7"), "{before}");
        }
    }
}

#[test]
fn mail_that_fails_in_another_way_has_its_own_cause_in_its_report() {
    let cause = rejected(&[b"550 5.1.1 no such user"]);
    let case = ReportCase::new(&[("bob@partner.example", &cause)], HEADER);
    let during = text(&ReportCase { incidents: vec![incident(&tlsa_unavailable())], ..case });
    assert!(during.contains("no such user") && !during.contains("our side"), "{during}");
}

#[test]
fn dutch_says_it_too() {
    let cause = tlsa_unavailable();
    let texts = Texts::parse(DUTCH, Path::new("nl")).unwrap();
    let case = ReportCase { texts, ..ReportCase::new(&[("bob@partner.example", &expired(cause.clone()))], HEADER) };
    let during = text(&ReportCase { incidents: vec![incident(&cause)], ..case });
    assert!(during.contains("De storing ligt bij ons en niet bij de ontvanger"), "{during}");
}

#[test]
fn rfc3834_5_the_postmaster_has_one_plain_mail_with_all_that_is_known() {
    let hostname = "relay.corp.example".parse().unwrap();
    let texts = Texts::english();
    let context = ReportContext { hostname: &hostname, texts: &texts, return_full_below: 1000, html: true };
    let to = "postmaster@corp.example".parse().unwrap();
    let notice = incident_notice(&context, &to, &incident(&tlsa_unavailable()), NOW);
    assert_eq!((notice.envelope.reverse_path.clone(), notice.envelope.recipients.len()), (ReversePath::Null, 1));
    assert_is_deliverable_anywhere(&notice.content);
    let message = MessageParser::default().parse(&notice.content[..]).unwrap();
    assert_eq!(message.subject(), Some("Mail to many domains stops: local-dns-count-filter"));
    let text = message.body_text(0).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    for said in
        ["12 domains", "40 messages", "I7", "path, proven", "5 records: vanished", "tls://192.0.2.53", "other.example"]
    {
        assert!(text.contains(said), "{said} is not in:\n{text}");
    }
}

#[test]
fn an_incident_that_a_check_found_counts_no_domains_before_mail_has_met_it() {
    let hostname = "relay.corp.example".parse().unwrap();
    let to = "postmaster@corp.example".parse().unwrap();
    let dutch = Texts::parse(DUTCH, Path::new("nl")).unwrap();
    let told = |texts: &Texts, incident: &Incident| {
        let context = ReportContext { hostname: &hostname, texts, return_full_below: 1000, html: true };
        let notice = incident_notice(&context, &to, incident, NOW);
        let message = MessageParser::default().parse(&notice.content[..]).unwrap();
        let text = message.body_text(0).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{}: {text}", message.subject().unwrap())
    };
    let found = Incident {
        opened_by: OpenedBy::Check("canary".into()),
        domains: Vec::new(),
        domain_count: 0,
        messages: 0,
        ..incident(&tlsa_unavailable())
    };
    let english = told(&Texts::english(), &found);
    assert!(english.starts_with("A check of the relay's own host fails: local-dns-count-filter"), "{english}");
    assert!(
        english.contains("The check \"canary\"") && english.contains("No mail is known to have met it"),
        "{english}"
    );
    assert!(!english.contains("0 domains") && !english.contains("0 messages"), "{english}");
    let said = told(&dutch, &found);
    assert!(said.contains("De controle \"canary\"") && !said.contains("0 domeinen"), "{said}");
    let met = told(&Texts::english(), &Incident { domain_count: 3, messages: 4, ..found });
    assert!(met.contains("mail to 3 domains fails in the same way (4 messages so far)"), "{met}");
}
