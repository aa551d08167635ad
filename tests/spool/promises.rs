//! What every engine promises whoever writes: RFC 5321 §4.2.5 and §6.1, claims, the schedule.

use crate::engine::Engine;
use crate::reading::audit;
use crate::sample::{
    LATER, NOW, become_so, body, claim, content, copy_of, delivered, ended, envelope, failed, failed_and_told, report,
    store, store_one, waits,
};
use dane_relay::clock::Timestamp;
use dane_relay::envelope::{Origin, QueueId};
use dane_relay::outcome::{Cause, Certainty, Question, Side};
use dane_relay::spool::audit::{Audit, Depth};
use dane_relay::spool::event::{Event, Silence};
use dane_relay::spool::incident::{FailureKind, Incident, IncidentEnd, IncidentId, OpenedBy};
use dane_relay::spool::ledger::MessageState;
use dane_relay::spool::owed::{Owed, Reported, Rounds};
use dane_relay::spool::{
    Claim, Hold, Lease, MOST_INCIDENTS, Notification, Opened, RecipientState, Settlement, Spool, SpoolError,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Kills the process that has the spool and opens it again; the leases of the dead run out.
async fn crash<E: Engine>(engine: &mut E, opened: Opened, now: Timestamp) -> Opened {
    engine.kill(opened).await;
    let opened = engine.open(now).await.unwrap();
    match opened.spool.lease() {
        Lease::Process => {}
        Lease::For(length) => tokio::time::sleep(length).await,
    }
    opened
}

fn ids(claims: &[Claim]) -> Vec<QueueId> {
    claims.iter().map(|claim| claim.entry.id).collect()
}

pub(crate) async fn rfc5321_4_2_5_what_was_acknowledged_is_there_after_a_crash<E: Engine>(mut engine: E) {
    let opened = engine.open(NOW).await.unwrap();
    let sent = envelope("alice@office.example", &["a@one.example", "b@two.example"]);
    let mut stored = Vec::new();
    for size in [0, 1, 5000, 262_144, 262_145, 900_000] {
        stored.push((store(opened.spool.as_ref(), sent.clone(), &content(size, size)).await, size));
    }
    let Opened { spool, recovery } = crash(&mut engine, opened, NOW).await;
    assert_eq!((recovery.waiting, recovery.damaged_records), (6, 0));
    assert_eq!((spool.stats().queued_messages, spool.stats().oldest), (6, Some(NOW)));
    let claims = spool.claim_due(NOW, 10).await.unwrap();
    assert_eq!(ids(&claims).into_iter().collect::<BTreeSet<_>>(), stored.iter().map(|(id, _)| *id).collect());
    for (id, size) in stored {
        let entry = &claims.iter().find(|claim| claim.entry.id == id).unwrap().entry;
        assert_eq!((entry.size, entry.attempts), (size as u64, 0));
        assert_eq!((&*entry.envelope, &entry.recipients), (&sent, &vec![RecipientState::NEW; 2]));
        assert!(body(spool.as_ref(), id).await.unwrap() == content(size, size), "{size}: other octets");
    }
}

pub(crate) async fn rfc5321_4_2_5_a_spool_that_is_closed_acknowledges_nothing<E: Engine>(engine: E) {
    let opened = engine.open(NOW).await.unwrap();
    let spool = opened.spool;
    let id = store_one(spool.as_ref(), b"x").await;
    let held = claim(spool.as_ref(), id).await;
    spool.close().await;
    spool.enqueue(spool.begin(NOW), envelope("", &["a@one.example"])).await.unwrap_err();
    spool.settle(held, become_so([(0, delivered())])).await.unwrap_err();
    drop(spool);
    let reopened = engine.open(NOW).await.unwrap();
    assert_eq!(reopened.recovery.waiting, 1, "what was refused is not there, what was not settled is");
}

pub(crate) async fn no_id_is_given_twice_over_a_crash_and_a_clock_set_back<E: Engine>(mut engine: E) {
    let opened = engine.open(LATER).await.unwrap();
    let mut given = BTreeSet::new();
    for _ in 0..20 {
        given.insert(opened.spool.begin(LATER).id);
        given.insert(store_one(opened.spool.as_ref(), b"x").await);
    }
    assert_eq!(given.len(), 40);
    let stored: BTreeSet<QueueId> = ids(&opened.spool.claim_due(LATER, 100).await.unwrap()).into_iter().collect();
    let Opened { spool, .. } = crash(&mut engine, opened, NOW).await;
    for _ in 0..20 {
        assert!(!stored.contains(&store_one(spool.as_ref(), b"y").await));
    }
}

pub(crate) async fn a_draft_given_up_is_never_there<E: Engine>(mut engine: E) {
    let opened = engine.open(NOW).await.unwrap();
    let mut draft = opened.spool.begin(NOW);
    draft.body.write(&content(1, 600_000)).await.unwrap();
    drop(draft);
    let mut cut_off = opened.spool.begin(NOW);
    cut_off.body.write(&content(2, 600_000)).await.unwrap();
    assert_eq!(opened.spool.stats().queued_messages, 0);
    let Opened { spool, recovery } = crash(&mut engine, opened, NOW).await;
    assert_eq!((recovery.waiting, recovery.damaged_records), (0, 0));
    assert!(spool.claim_due(LATER, 10).await.unwrap().is_empty());
}

pub(crate) async fn rfc5321_6_1_outcome_and_report_are_durable_together<E: Engine>(mut engine: E) {
    let opened = engine.open(NOW).await.unwrap();
    let id = store_one(opened.spool.as_ref(), b"x").await;
    let _never_settled = claim(opened.spool.as_ref(), id).await;
    let opened = crash(&mut engine, opened, NOW).await;
    assert_eq!(opened.recovery.waiting, 1, "before the settlement neither is there");
    let held = claim(opened.spool.as_ref(), id).await;
    opened.spool.settle(held, failed_and_told(id)).await.unwrap();
    let Opened { spool, recovery } = crash(&mut engine, opened, NOW).await;
    assert_eq!(recovery.waiting, 1, "after it both are");
    let told = spool.claim_due(NOW, 10).await.unwrap().remove(0);
    assert_eq!(*told.entry.envelope, report(id).envelope);
    assert_eq!(body(spool.as_ref(), told.entry.id).await.unwrap(), &report(id).content[..]);
    assert!(spool.claim_one(id, NOW).await.unwrap().is_none(), "the message itself is finished");
}

pub(crate) async fn rfc5321_6_1_a_part_is_durable_while_the_claim_goes_on<E: Engine>(mut engine: E) {
    let opened = engine.open(NOW).await.unwrap();
    let spool = Arc::clone(&opened.spool);
    let id =
        store(spool.as_ref(), envelope("alice@office.example", &["a@x.example", "b@x.example", "c@x.example"]), b"x");
    let id = id.await;
    let mut held = claim(spool.as_ref(), id).await;
    spool.settle_part(&mut held, failed_and_told(id)).await.unwrap();
    assert_eq!(held.entry.recipients, [failed(), RecipientState::NEW, RecipientState::NEW], "the claim knows it");
    let told = spool.claim_due(NOW, 10).await.unwrap();
    assert_eq!(told.len(), 1, "the report goes out at once, and nobody else has the message");
    assert_eq!(told[0].entry.envelope.origin, Origin::Report { about: id });
    spool.settle_part(&mut held, become_so([(1, waits())])).await.unwrap();
    spool.renew(&held).await.unwrap();
    drop(spool);
    let Opened { spool, .. } = crash(&mut engine, opened, NOW).await;
    let again = claim(spool.as_ref(), id).await;
    assert_eq!(again.entry.recipients, [failed(), waits(), RecipientState::NEW]);
    spool.settle(again, become_so([(1, delivered()), (2, delivered())])).await.unwrap();
    assert!(spool.claim_one(id, NOW).await.unwrap().is_none());
}

pub(crate) async fn rfc5321_6_1_who_is_owed_a_report_stays_in_the_queue_until_it_is_written<E: Engine>(mut engine: E) {
    let opened = engine.open(NOW).await.unwrap();
    let id = store_one(opened.spool.as_ref(), b"x").await;
    let RecipientState::Done { outcome } = failed() else { panic!() };
    let owed = RecipientState::Owed(Owed { outcome, tries: 2, tried_at: Some(NOW), due: LATER });
    let reported = Reported { failed: Rounds { made: 1, last: NOW }, ..Reported::NOTHING };
    let held = claim(opened.spool.as_ref(), id).await;
    let settlement = Settlement { reported: Some(reported), ..become_so([(0, owed.clone())]) };
    opened.spool.settle(held, settlement).await.unwrap();
    let Opened { spool, recovery } = crash(&mut engine, opened, NOW).await;
    assert_eq!((recovery.waiting, spool.next_due().await.unwrap()), (1, Some(LATER)), "without a time of the message");
    let known = engine.ledger().await.message(id).await.unwrap().unwrap();
    assert_eq!((known.standing, known.open().count(), known.waiting().count()), (MessageState::Queued, 1, 0));
    assert!(spool.claim_due(NOW, 1).await.unwrap().is_empty(), "not due yet");
    let held = spool.claim_due(LATER, 1).await.unwrap().remove(0);
    assert_eq!((&held.entry.recipients[0], held.entry.reported), (&owed, reported));
    let Audit { sum, findings } = audit(engine.ledger().await.as_ref(), Depth::Everything).await;
    assert_eq!((sum.queued, findings), (1, vec![]));
    spool.settle(held, failed_and_told(id)).await.unwrap();
    let Audit { sum, findings } = audit(engine.ledger().await.as_ref(), Depth::Everything).await;
    assert_eq!((sum.told, sum.queued, findings), (1, 1, vec![]), "the report itself waits");
}

pub(crate) async fn rfc5321_6_1_a_report_about_several_messages_is_recorded_with_all_of_them_or_none<E: Engine>(
    mut engine: E,
) {
    let opened = engine.open(NOW).await.unwrap();
    let spool = Arc::clone(&opened.spool);
    for n in 0..3 {
        store_one(spool.as_ref(), format!("{n}").as_bytes()).await;
    }
    let beside = || Settlement { reports: vec![], ..failed_and_told(QueueId(0)) };
    let mut claims = spool.claim_due(NOW, 10).await.unwrap();
    let (stale, second, first) = (claims.pop().unwrap(), claims.pop().unwrap(), claims.pop().unwrap());
    let id = first.entry.id;
    spool.release(copy_of(&stale)).await.unwrap();
    let (settlement, others) = (failed_and_told(id), vec![(stale, beside()), (second, beside())]);
    let refused = spool.settle_together(first, settlement, others).await;
    assert!(matches!(refused, Err(SpoolError::Fenced)), "{refused:?}");
    let mut claims = spool.claim_due(NOW, 10).await.unwrap();
    assert_eq!(claims.len(), 3, "all of them are due as before");
    assert!(claims.iter().all(|claim| claim.entry.recipients == [RecipientState::NEW]));
    let first = claims.remove(0);
    let id = first.entry.id;
    let others = claims.into_iter().map(|claim| (claim, beside())).collect();
    spool.settle_together(first, failed_and_told(id), others).await.unwrap();
    drop(spool);
    let Opened { spool, recovery } = crash(&mut engine, opened, NOW).await;
    assert_eq!(recovery.waiting, 1, "the one report");
    let told = spool.claim_due(NOW, 10).await.unwrap().remove(0);
    assert_eq!(told.entry.envelope.origin, Origin::Report { about: id });
    let Audit { sum, findings } = audit(engine.ledger().await.as_ref(), Depth::Everything).await;
    assert_eq!((sum.told, sum.queued, findings), (3, 1, vec![]));
}

pub(crate) async fn a_settlement_is_there_after_a_crash_and_names_no_recipient_that_is_not<E: Engine>(mut engine: E) {
    let opened = engine.open(NOW).await.unwrap();
    let sent = envelope("alice@office.example", &["a@x.example", "b@x.example"]);
    let id = store(opened.spool.as_ref(), sent, b"x").await;
    let held = claim(opened.spool.as_ref(), id).await;
    let settlement = become_so([(0, failed()), (1, waits()), (7, failed())]);
    opened.spool.settle(held, Settlement { next_due: Some(LATER), ..settlement }).await.unwrap();
    assert_eq!(opened.spool.next_due().await.unwrap(), Some(LATER));
    let Opened { spool, .. } = crash(&mut engine, opened, NOW).await;
    assert!(spool.claim_due(NOW, 10).await.unwrap().is_empty(), "not due yet");
    assert_eq!(spool.next_due().await.unwrap(), Some(LATER));
    let held = spool.claim_due(LATER, 10).await.unwrap().remove(0);
    assert_eq!((held.entry.id, held.entry.attempts), (id, 1));
    assert_eq!(held.entry.recipients, [failed(), waits()]);
}

pub(crate) async fn a_claim_holds_a_message_for_one_worker<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    let id = store_one(spool.as_ref(), b"x").await;
    let held = claim(spool.as_ref(), id).await;
    assert!(spool.claim_one(id, NOW).await.unwrap().is_none(), "somebody has it");
    assert!(spool.claim_due(LATER, 10).await.unwrap().is_empty());
    assert_eq!(spool.next_due().await.unwrap(), None);
    spool.release(held).await.unwrap();
    assert_eq!(ids(&spool.claim_due(NOW, 10).await.unwrap()), [id]);
    assert!(spool.claim_one(QueueId(7), NOW).await.unwrap().is_none(), "there is no such message");
}

pub(crate) async fn an_old_generation_records_nothing_and_gives_nothing_back<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    let id = store_one(spool.as_ref(), b"x").await;
    let first = claim(spool.as_ref(), id).await;
    let old = || copy_of(&first);
    spool.release(old()).await.unwrap();
    let held = claim(spool.as_ref(), id).await;
    assert!(matches!(spool.renew(&old()).await, Err(SpoolError::Fenced)));
    assert!(matches!(spool.settle_part(&mut old(), become_so([(0, failed())])).await, Err(SpoolError::Fenced)));
    assert!(matches!(spool.settle(old(), become_so([(0, failed())])).await, Err(SpoolError::Fenced)));
    spool.release(old()).await.unwrap();
    spool.postpone(old(), LATER).await.unwrap();
    assert!(spool.claim_one(id, NOW).await.unwrap().is_none(), "the second worker has it still");
    spool.renew(&held).await.unwrap();
    let again = copy_of(&held);
    spool.settle(held, become_so([(0, delivered())])).await.unwrap();
    assert!(matches!(spool.settle(again, become_so([(0, failed())])).await, Err(SpoolError::Fenced)));
    assert!(matches!(spool.renew(&first).await, Err(SpoolError::Fenced)), "nor is it renewed when it is finished");
}

/// The time of a lease is the engine's own; one that ends with the process has been tried by the
/// crashes.
pub(crate) async fn a_lease_that_ran_out_is_anybodys_and_a_renewed_one_is_not<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    let id = store_one(spool.as_ref(), b"x").await;
    let held = claim(spool.as_ref(), id).await;
    for _ in 0..3 {
        spool.renew(&held).await.unwrap();
        assert!(spool.claim_one(id, NOW).await.unwrap().is_none());
    }
    match spool.lease() {
        Lease::Process => {
            spool.settle(held, become_so([(0, delivered())])).await.unwrap();
        }
        Lease::For(length) => {
            tokio::time::sleep(length + Duration::from_millis(100)).await;
            let taken_over = claim(spool.as_ref(), id).await;
            assert!(matches!(spool.renew(&held).await, Err(SpoolError::Fenced)));
            spool.settle(held, become_so([(0, failed())])).await.unwrap_err();
            spool.settle(taken_over, become_so([(0, delivered())])).await.unwrap();
        }
    }
}

pub(crate) async fn a_crash_ends_every_claim<E: Engine>(mut engine: E) {
    let opened = engine.open(NOW).await.unwrap();
    let id = store_one(opened.spool.as_ref(), b"x").await;
    let held = claim(opened.spool.as_ref(), id).await;
    let Opened { spool, .. } = crash(&mut engine, opened, NOW).await;
    assert_eq!(ids(&spool.claim_due(NOW, 10).await.unwrap()), [id], "due as it was");
    match spool.lease() {
        // Nobody is left who could come back with it.
        Lease::Process => {}
        Lease::For(_) => assert!(matches!(spool.renew(&held).await, Err(SpoolError::Fenced))),
    }
}

pub(crate) async fn the_oldest_due_comes_first_and_nothing_before_its_time<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    let mut due = Vec::new();
    for minutes in [3, 1, 4, 2] {
        let id = store_one(spool.as_ref(), b"x").await;
        let at = Timestamp(NOW.0 + minutes * 60_000);
        let held = claim(spool.as_ref(), id).await;
        spool.settle(held, Settlement { next_due: Some(at), ..become_so([(0, waits())]) }).await.unwrap();
        due.push((at, id));
    }
    due.sort_unstable();
    assert!(spool.claim_due(NOW, 10).await.unwrap().is_empty());
    assert_eq!(spool.next_due().await.unwrap(), Some(due[0].0));
    assert_eq!(ids(&spool.claim_due(due[2].0, 2).await.unwrap()), [due[0].1, due[1].1], "no more than asked for");
    assert_eq!(ids(&spool.claim_due(due[2].0, 10).await.unwrap()), [due[2].1]);
    assert_eq!(spool.next_due().await.unwrap(), Some(due[3].0));
}

pub(crate) async fn a_postponed_message_comes_later_and_a_held_one_only_by_name<E: Engine>(mut engine: E) {
    let opened = engine.open(NOW).await.unwrap();
    let spool = opened.spool.as_ref();
    let id = store_one(spool, b"x").await;
    spool.postpone(claim(spool, id).await, LATER).await.unwrap();
    assert_eq!(spool.next_due().await.unwrap(), Some(LATER));
    assert!(spool.claim_due(NOW, 1).await.unwrap().is_empty());
    let held = claim(spool, id).await;
    spool.settle(held, Settlement { hold: Hold::Held, ..Settlement::default() }).await.unwrap();
    assert_eq!(spool.next_due().await.unwrap(), None);
    let opened = crash(&mut engine, opened, NOW).await;
    let spool = opened.spool.as_ref();
    assert_eq!((spool.next_due().await.unwrap(), spool.stats().queued_messages), (None, 1), "also after a crash");
    spool.release(claim(spool, id).await).await.unwrap();
    assert_eq!(spool.next_due().await.unwrap(), None, "given back, it is still held");
    let held = claim(spool, id).await;
    spool.settle(held, Settlement::default()).await.unwrap();
    assert_eq!(ids(&spool.claim_due(NOW, 1).await.unwrap()), [id]);
}

pub(crate) async fn a_clock_set_back_makes_nothing_wait_longer<E: Engine>(mut engine: E) {
    let year = Timestamp(NOW.0 + 31_536_000_000);
    let minutes = |n: i64| Timestamp(NOW.0 + n * 60_000);
    let opened = engine.open(year).await.unwrap();
    let id = store_one(opened.spool.as_ref(), b"x").await;
    let held = opened.spool.claim_due(year, 1).await.unwrap().remove(0);
    assert_eq!(held.entry.id, id);
    let next_due = Some(Timestamp(year.0 + 300_000));
    opened.spool.settle(held, Settlement { next_due, ..become_so([(0, waits())]) }).await.unwrap();
    assert!(opened.spool.claim_due(NOW, 1).await.unwrap().is_empty());
    assert_eq!(opened.spool.next_due().await.unwrap(), Some(minutes(5)), "the wait is as long as it was");
    let Opened { spool, .. } = crash(&mut engine, opened, NOW).await;
    // One that was set back while the relay was down, when somebody says what is too late.
    spool.bring_forward(NOW, minutes(5)).await.unwrap();
    assert_eq!(spool.next_due().await.unwrap(), Some(NOW));
}

pub(crate) async fn a_change_is_seen_also_when_it_came_before_the_wait<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    let id = store_one(spool.as_ref(), b"x").await;
    spool.changed().await;
    let held = claim(spool.as_ref(), id).await;
    spool.release(held).await.unwrap();
    spool.changed().await;
}

pub(crate) async fn history_tells_in_order_what_happened_and_who_was_told<E: Engine>(mut engine: E) {
    let opened = engine.open(NOW).await.unwrap();
    let spool = opened.spool.as_ref();
    let id = store(spool, envelope("alice@office.example", &["a@x.example", "b@x.example"]), b"x").await;
    let mut held = claim(spool, id).await;
    spool.settle_part(&mut held, Settlement { events: vec![ended(0)], ..failed_and_told(id) }).await.unwrap();
    let told = vec![(1, Notification::Nobody(Silence::NotAsked))];
    let events = vec![ended(1)];
    spool.settle(held, Settlement { told, events, ..become_so([(1, failed())]) }).await.unwrap();
    let report = spool.claim_due(NOW, 10).await.unwrap().remove(0).entry.id;
    let to = vec!["alice@office.example".to_owned()];
    let expected = [
        ended(0),
        Event::Told { recipients: vec![0], report, to, notice: false },
        ended(1),
        Event::NotTold { recipients: vec![1], because: Silence::NotAsked },
    ];
    assert_eq!(spool.history(id).await.unwrap(), expected.clone().map(|event| (NOW, event)));
    let Opened { spool, .. } = crash(&mut engine, opened, NOW).await;
    assert_eq!(spool.history(id).await.unwrap(), expected.map(|event| (NOW, event)), "also after a crash");
}

pub(crate) async fn many_at_once_lose_and_repeat_nothing<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    let mut producers = tokio::task::JoinSet::new();
    for worker in 0..30 {
        let spool = Arc::clone(&spool);
        producers.spawn(async move {
            for n in 0..30 {
                store_one(spool.as_ref(), format!("{worker}/{n}").as_bytes()).await;
            }
        });
    }
    let mut consumers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let spool = Arc::clone(&spool);
        consumers.spawn(async move { consume(spool.as_ref(), 150).await });
    }
    producers.join_all().await;
    let seen: Vec<Vec<u8>> = consumers.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<&Vec<u8>> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len(), spool.stats().queued_messages), (900, 900, 0));
}

/// Takes so many messages and finishes them. Gives what was in them.
async fn consume(spool: &dyn Spool, most: usize) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    while seen.len() < most {
        let claims = spool.claim_due(NOW, 10.min(most - seen.len())).await.unwrap();
        if claims.is_empty() {
            tokio::task::yield_now().await;
        }
        for held in claims {
            seen.push(body(spool, held.entry.id).await.unwrap());
            spool.settle(held, become_so([(0, delivered())])).await.unwrap();
        }
    }
    seen
}

fn incident(id: u64) -> Incident {
    let cause = Cause::DnsUnavailable {
        question: Question { name: "_25._tcp.mx.one.example".into(), record_type: "TLSA".into() },
        tried: Vec::new(),
    };
    Incident {
        id: IncidentId(id),
        kind: FailureKind::of(&cause).unwrap(),
        cause: "local-dns-count-filter".into(),
        side: Side::Path,
        certainty: Certainty::Likely,
        since: NOW,
        until: None,
        ended: None,
        opened_by: OpenedBy::Domains,
        domains: vec!["one.example".into()],
        domain_count: 1,
        messages: 1,
        sentence: "Answers vanish.".into(),
        evidence: vec!["four records pass, five do not".into()],
        what_to_do: vec!["relay check one.example".into()],
        reopened: 0,
        told: None,
        met_by_messages_alone: false,
    }
}

pub(crate) async fn an_incident_is_there_after_a_crash_as_it_was_last<E: Engine>(mut engine: E) {
    let opened = engine.open(NOW).await.unwrap();
    let (first, second) = (incident(5), incident(9));
    for one in [&first, &second] {
        opened.spool.record_incident(one).await.unwrap();
    }
    let ended = Incident { until: Some(LATER), ended: Some(IncidentEnd::Recovered), messages: 12, ..first };
    opened.spool.record_incident(&ended).await.unwrap();
    let opened = crash(&mut engine, opened, LATER).await;
    assert_eq!(engine.ledger().await.incidents(9).await.unwrap(), [second.clone(), ended], "the newest first");
    assert_eq!(engine.ledger().await.incidents(1).await.unwrap(), [second]);
    opened.spool.close().await;
    opened.spool.record_incident(&incident(10)).await.unwrap_err();
}

pub(crate) async fn the_newest_incidents_are_kept_and_the_oldest_go<E: Engine>(engine: E) {
    let spool = engine.open(NOW).await.unwrap().spool;
    let most = u64::try_from(MOST_INCIDENTS).unwrap();
    // Side by side: each waits for its own commit.
    let all: Vec<Incident> = (1..=most + 2).map(incident).collect();
    futures_util::future::try_join_all(all.iter().map(|one| spool.record_incident(one))).await.unwrap();
    let kept = engine.ledger().await.incidents(usize::MAX).await.unwrap();
    assert_eq!(kept.len(), MOST_INCIDENTS);
    assert_eq!(kept.iter().map(|one| one.id.0).min(), Some(3));
}
