//! The decision who is told, rule by rule (RFC 3461 §4.1, §5.2; RFC 5321 §4.5.5, §6.1).

use super::*;
use crate::envelope::{QueueId, RecipientDsn, testing};
use crate::outcome::every::{self, peer, reply};
use crate::outcome::{DaneFailure, TlsVerdict};

const HOUR: i64 = 3_600_000;

fn entry(reverse_path: &str, notify: &[Option<&str>]) -> SpoolEntry {
    let recipients: Vec<String> = (0..notify.len()).map(|n| format!("r{n}@x.example")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let mut envelope = testing::envelope(reverse_path, &recipients);
    let dsn = |notify: &Option<&str>| RecipientDsn { notify: notify.map(|n| n.parse().unwrap()), original: None };
    envelope.dsn.recipients = notify.iter().map(dsn).collect();
    SpoolEntry::new(QueueId(7), envelope, 100)
}

fn failed() -> RecipientState {
    RecipientState::Done { outcome: DeliveryOutcome::Failed { cause: Cause::ContentDamaged } }
}

fn delivered() -> RecipientState {
    let outcome = DeliveryOutcome::Delivered {
        peer: peer(),
        tls: TlsVerdict::ClearText,
        reply: reply(&[b"250 ok"]),
        notify_passed_on: false,
    };
    RecipientState::Done { outcome }
}

fn busy() -> Cause {
    Cause::ConnectFailed { peer: peer(), detail: "refused".into() }
}

fn unsafe_now() -> Cause {
    every::dane(DaneFailure::NoMatch)
}

fn waits(cause: Cause) -> RecipientState {
    RecipientState::Queued(Pending { last: Some(cause), ..Pending::NEW })
}

/// What is told, in short: `kind: indexes`.
fn told(entry: &SpoolEntry, states: &[RecipientState], now: i64) -> (Vec<String>, Vec<usize>) {
    let changes: Vec<_> = states.iter().cloned().enumerate().collect();
    let (notify, postmaster) = (NotifyConfig::default(), "postmaster@corp.example".parse().unwrap());
    let notifications = due(
        entry,
        &changes,
        &ReportRules { notify: &notify, postmaster: Some(&postmaster) },
        &Moment::at_rest(Timestamp(now)),
    );
    let short = |due: &Due| {
        let indexes: Vec<_> = due.recipients.iter().map(|(index, _)| index.to_string()).collect();
        format!("{} {}: {}", due.to, due.kind.word(), indexes.join(" "))
    };
    (notifications.reports.iter().map(short).collect(), notifications.untold)
}

#[test]
fn rfc3461_4_1_notify_decides_recipient_by_recipient() {
    let notify = [
        None,
        Some("NEVER"),
        Some("SUCCESS"),
        Some("FAILURE"),
        Some("DELAY"),
        Some("SUCCESS,FAILURE"),
        Some("SUCCESS,FAILURE,DELAY"),
    ];
    let entry = entry("<ann@corp.example>", &notify);
    let all = |state: RecipientState| vec![state; notify.len()];
    assert_eq!(told(&entry, &all(failed()), 1), (vec!["ann@corp.example failed: 0 3 5 6".into()], vec![1, 2, 4]));
    assert_eq!(told(&entry, &all(delivered()), 1), (vec!["ann@corp.example relayed: 2 5 6".into()], vec![]));
    let late = told(&entry, &all(waits(busy())), 4 * HOUR);
    assert_eq!(late, (vec!["ann@corp.example delayed: 0 4 6".into()], vec![]));
    let held = told(&entry, &all(waits(unsafe_now())), HOUR);
    assert_eq!(held, (vec!["ann@corp.example held-back: 0 4 6".into()], vec![]));
}

#[test]
fn rfc3461_5_2_1_a_host_that_took_notify_over_tells_of_success_itself() {
    let entry = entry("<ann@corp.example>", &[Some("SUCCESS"), Some("SUCCESS")]);
    let mut taken_over = delivered();
    if let RecipientState::Done { outcome: DeliveryOutcome::Delivered { notify_passed_on, .. } } = &mut taken_over {
        *notify_passed_on = true;
    }
    let told = told(&entry, &[taken_over, delivered()], 1);
    assert_eq!(told, (vec!["ann@corp.example relayed: 1".into()], vec![]));
}

#[test]
fn rfc3464_2_3_one_report_for_each_kind_of_news() {
    let entry = entry("<ann@corp.example>", &[None, Some("SUCCESS"), None, None, None]);
    let states = [failed(), delivered(), waits(unsafe_now()), waits(busy()), failed()];
    let expected = ["failed: 0 4", "held-back: 2", "delayed: 3", "relayed: 1"].map(|t| format!("ann@corp.example {t}"));
    assert_eq!(told(&entry, &states, 4 * HOUR), (expected.to_vec(), vec![]));
}

#[test]
fn rfc5321_4_5_5_nobody_is_told_of_mail_from_the_null_reverse_path() {
    let entry = entry("<>", &[None, None, Some("SUCCESS,DELAY"), Some("SUCCESS")]);
    let states = [failed(), waits(unsafe_now()), waits(busy()), delivered()];
    assert_eq!(told(&entry, &states, 100 * HOUR), (vec![], vec![0]));
    let changes: Vec<_> = states.into_iter().enumerate().collect();
    assert_eq!(next_notice(&entry, &changes, &NotifyConfig::default(), Timestamp(1)), None);
}

#[test]
fn rfc5321_6_1_a_lost_report_is_told_to_the_postmaster_and_a_lost_notice_to_nobody() {
    let mut lost = entry("<>", &[None]);
    let mut envelope = (*lost.envelope).clone();
    envelope.origin = Origin::Report { about: QueueId(1) };
    lost.envelope = envelope.clone().into();
    let (notify, postmaster) = (NotifyConfig::default(), "postmaster@corp.example".parse().unwrap());
    let rules = ReportRules { notify: &notify, postmaster: Some(&postmaster) };
    let mut changes = vec![(0, failed())];
    let moment = Moment { digest: Timestamp(9), ..Moment::at_rest(Timestamp(1)) };
    let notifications = due(&lost, &changes, &rules, &moment);
    assert_eq!(
        (notifications.reports.len(), &notifications.owed[..], notifications.next),
        (0, &[(0, Timestamp(9))][..], moment.digest.into())
    );
    let _reported =
        mark(&lost, &mut changes, &notifications, &EndedTries { notify: &notify, tries: 1, now: Timestamp(1) });
    let owed = SpoolEntry { recipients: vec![changes.remove(0).1], ..lost.clone() };
    let told_later = super::lost(&owed, &rules).unwrap();
    assert_eq!((told_later.to, told_later.kind), (postmaster.clone(), Kind::ReportLost));
    assert_eq!(told(&lost, &[delivered()], 1), (vec![], vec![]));
    envelope.recipients = vec!["postmaster@corp.example".parse().unwrap()];
    lost.envelope = envelope.into();
    assert_eq!(told(&lost, &[failed()], 1), (vec![], vec![0]));
}

#[test]
fn rfc3461_5_2_5_each_notice_comes_when_it_is_due_and_once() {
    let entry = entry("<ann@corp.example>", &[None]);
    let notify = NotifyConfig::default();
    let mut state = waits(unsafe_now());
    let mut seen = Vec::new();
    for minute in (0..600).step_by(7) {
        let now = Timestamp(minute * 60_000);
        let mut changes = vec![(0, state.clone())];
        let notifications =
            due(&entry, &changes, &ReportRules { notify: &notify, postmaster: None }, &Moment::at_rest(now));
        let _reported = mark(&entry, &mut changes, &notifications, &EndedTries { notify: &notify, tries: 1, now });
        seen.extend(notifications.reports.iter().map(|due| (minute, due.kind)));
        state = changes.remove(0).1;
    }
    assert_eq!(seen, [(63, Kind::HeldBack), (245, Kind::Delayed)]);
}

#[test]
fn where_both_notices_are_due_at_once_one_says_it_all() {
    let entry = entry("<ann@corp.example>", &[None]);
    let notify = NotifyConfig::default();
    let mut changes = vec![(0, waits(unsafe_now()))];
    for (now, expected) in [(5 * HOUR, vec![Kind::HeldBack]), (6 * HOUR, vec![]), (50 * HOUR, vec![])] {
        let rules = ReportRules { notify: &notify, postmaster: None };
        let notifications = due(&entry, &changes, &rules, &Moment::at_rest(Timestamp(now)));
        assert_eq!(notifications.reports.iter().map(|due| due.kind).collect::<Vec<_>>(), expected);
        let _reported =
            mark(&entry, &mut changes, &notifications, &EndedTries { notify: &notify, tries: 1, now: Timestamp(now) });
    }
}

#[test]
fn the_next_attempt_comes_no_later_than_the_next_notice() {
    let entry = entry("<ann@corp.example>", &[None, Some("FAILURE")]);
    let next = |states: [RecipientState; 2], now: i64| {
        let changes: Vec<_> = states.into_iter().enumerate().collect();
        next_notice(&entry, &changes, &NotifyConfig::default(), Timestamp(now)).map(|moment| moment.0)
    };
    assert_eq!(next([waits(unsafe_now()), failed()], 1), Some(HOUR));
    assert_eq!(next([waits(busy()), failed()], 1), Some(4 * HOUR));
    assert_eq!(next([waits(unsafe_now()), failed()], HOUR), Some(4 * HOUR), "never in the past");
    assert_eq!(next([waits(unsafe_now()), failed()], 4 * HOUR), None);
    assert_eq!(next([failed(), waits(busy())], 1), None, "it is not wanted");
    let told = Told { delay: Some(Timestamp(1)), policy: None };
    let marked = RecipientState::Queued(Pending { last: Some(busy()), told, ..Pending::NEW });
    assert_eq!(next([marked, failed()], 1), None);
}

/// What one message brings: `minute kind recipients`, when its recipients fail at these minutes while the
/// others are under way.
fn told_over_time(kind: &RecipientState, notify: Option<&str>, minutes: &[i64]) -> Vec<String> {
    let mut entry = entry("<ann@corp.example>", &vec![notify; minutes.len()]);
    let rules_notify = NotifyConfig::default();
    let rules = ReportRules { notify: &rules_notify, postmaster: None };
    let mut under_way: BTreeSet<usize> = (0..minutes.len()).collect();
    let mut told = Vec::new();
    let mut moments: BTreeSet<i64> = minutes.iter().map(|minute| minute * 60).collect();
    while let Some(second) = moments.pop_first() {
        let now = Timestamp(second * 1000);
        let ended: Vec<usize> = (0..minutes.len()).filter(|index| minutes[*index] * 60 == second).collect();
        under_way.retain(|index| !ended.contains(index));
        let mut changes: Vec<_> = ended.into_iter().map(|index| (index, kind.clone())).collect();
        let moment = Moment { under_way: &under_way, ..Moment::at_rest(now) };
        let notifications = due(&entry, &changes, &rules, &moment);
        entry.reported =
            mark(&entry, &mut changes, &notifications, &EndedTries { notify: &rules_notify, tries: 1, now });
        for (index, state) in changes {
            entry.recipients[index] = state;
        }
        let short = |due: &Due| format!("{second} {} {}", due.kind.word(), due.recipients.len());
        told.extend(notifications.reports.iter().map(short));
        moments.extend(notifications.next.map(|next| next.0 / 1000));
    }
    let is_told = |state: &RecipientState| matches!(state, RecipientState::Done { .. });
    assert!(entry.recipients.iter().all(is_told), "everyone is told of in the end");
    told
}

#[test]
fn one_message_brings_few_reports_however_many_hosts_refuse_it_one_after_the_other() {
    let minutes: Vec<i64> = (0..300).collect();
    let failures = told_over_time(&failed(), None, &minutes);
    assert_eq!(failures, ["2 failed 1", "62 failed 1", "662 failed 10", "4262 failed 60", "17940 failed 228"]);
    let successes = told_over_time(&delivered(), Some("SUCCESS"), &minutes);
    assert_eq!(successes, ["2 relayed 1", "62 relayed 1", "662 relayed 10", "4262 relayed 60", "17940 relayed 228"]);
    assert_eq!(told_over_time(&failed(), None, &[5]), ["300 failed 1"], "a lone failure is told at once");
}

#[test]
fn what_is_under_way_is_not_told_of_as_waiting() {
    let mut entry = entry("<ann@corp.example>", &[None, None, None]);
    entry.recipients = vec![waits(busy()); 3];
    let notify = NotifyConfig::default();
    let rules = ReportRules { notify: &notify, postmaster: None };
    let under_way = [1].into();
    let told = |now: i64| {
        let moment = Moment { under_way: &under_way, ..Moment::at_rest(Timestamp(now)) };
        let notifications = due(&entry, &[(0, waits(busy()))], &rules, &moment);
        let indexes = |due: &Due| due.recipients.iter().map(|(index, _)| *index).collect::<Vec<_>>();
        (notifications.reports.iter().map(indexes).collect::<Vec<_>>(), notifications.next)
    };
    assert_eq!(told(4 * HOUR), (vec![], Some(Timestamp(4 * HOUR + 2000))), "others may come to wait, too");
    assert_eq!(told(4 * HOUR + 2000), (vec![vec![0, 2]], None));
}
