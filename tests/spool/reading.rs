//! What every engine promises whoever reads: the queue, the story of a message, and the sum that
//! must hold (RFC 5321 §6.1: nothing is lost in silence).

use crate::engine::Engine;
use crate::sample::{LATER, NOW, become_so, claim, delivered, ended, envelope, failed, failed_and_told, report, store};
use dane_relay::clock::Timestamp;
use dane_relay::envelope::{Envelope, QueueId};
use dane_relay::outcome::Cause;
use dane_relay::spool::audit::{Audit, Depth};
use dane_relay::spool::event::Silence;
use dane_relay::spool::ledger::{
    BriefRecipient, DeliveriesWanted, Ledger, LedgerMessage, Listed, MessageState, More, ToldBy, WaitingBrief,
};
use dane_relay::spool::{Hold, Notification, Opened, Pending, RecipientState, Settlement, Spool};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// Messages of every kind: one with four recipients that are delivered, failed and told of, removed
/// and waiting; one that failed in silence; one large that waits.
pub(crate) async fn of_every_kind(spool: &dyn Spool) -> [QueueId; 3] {
    let to = ["a@x.example", "b@x.example", "c@x.example", "d@x.example"];
    let content = b"Message-ID: <one@office.example>\r\n\r\n";
    let several = store(spool, envelope("alice@office.example", &to), content).await;
    let settlement = become_so([(0, delivered()), (1, failed()), (2, RecipientState::Removed)]);
    let told = vec![(1, Notification::ByReport(0))];
    let (reports, events) = (vec![report(several)], vec![ended(0), ended(1)]);
    spool.settle(claim(spool, several).await, Settlement { reports, told, events, ..settlement }).await.unwrap();
    let silent = store(spool, envelope("", &["e@x.example"]), b"").await;
    let told = vec![(0, Notification::Nobody(Silence::NullReversePath))];
    spool.settle(claim(spool, silent).await, Settlement { told, ..become_so([(0, failed())]) }).await.unwrap();
    let large = store(spool, envelope("alice@office.example", &["f@x.example"]), &vec![b'x'; 300_000]).await;
    caught_up(spool, large).await;
    [several, silent, large]
}

/// What comes in may be in the ledger a moment later; whoever asks the spool itself comes after it.
async fn caught_up(spool: &dyn Spool, id: QueueId) {
    spool.history(id).await.unwrap();
}

async fn waiting(ledger: &dyn Ledger) -> Vec<LedgerMessage> {
    let (mut listing, mut found) = (ledger.waiting().await.unwrap(), Vec::new());
    while let Some(listed) = listing.next().await.unwrap() {
        let Listed::Message(message) = listed else { panic!("a message cannot be read") };
        found.push(*message);
    }
    found
}

pub(crate) async fn audit(ledger: &dyn Ledger, depth: Depth) -> Audit {
    let mut run = ledger.audit(depth).await.unwrap();
    loop {
        if let ControlFlow::Break(audit) = run.step().await.unwrap() {
            return audit;
        }
    }
}

pub(crate) async fn rfc5321_6_1_every_recipient_is_accounted_for_also_after_a_crash<E: Engine>(mut engine: E) {
    let opened = engine.open(NOW).await.unwrap();
    of_every_kind(opened.spool.as_ref()).await;
    let beside = audit(engine.ledger().await.as_ref(), Depth::Everything).await;
    assert_eq!(beside.findings, []);
    let s = beside.sum;
    // The report is a message of its own.
    assert_eq!((s.messages, s.accepted), (4, 7));
    assert_eq!((s.delivered, s.told, s.suppressed, s.removed, s.queued, s.unaccounted), (1, 1, 1, 1, 3, 0));
    engine.kill(opened).await;
    let reopened = engine.open(NOW).await.unwrap();
    for depth in [Depth::Rows, Depth::Everything] {
        let after = audit(engine.ledger().await.as_ref(), depth).await;
        assert_eq!((after.findings, after.sum), (Vec::new(), s), "{depth:?}");
    }
    reopened.spool.close().await;
    assert_eq!(audit(engine.ledger().await.as_ref(), Depth::Everything).await.sum, s, "also when no relay runs");
}

pub(crate) async fn the_story_of_a_message_is_told_as_it_was<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    let [several, silent, large] = of_every_kind(spool.as_ref()).await;
    let ledger = engine.ledger().await;
    let message = ledger.message(several).await.unwrap().unwrap();
    assert_eq!((message.id, message.standing, message.attempts), (several, MessageState::Queued, 1));
    assert_eq!(message.message_id.as_deref(), Some("one@office.example"));
    let recipients: Vec<_> = message.recipients.iter().map(|recipient| recipient.as_ref().unwrap()).collect();
    let states: Vec<_> = recipients.iter().map(|recipient| recipient.state.clone()).collect();
    assert_eq!(states, [delivered(), failed(), RecipientState::Removed, RecipientState::NEW]);
    assert_eq!(recipients[0].address, "a@x.example");
    let Some(ToldBy::Report(report)) = recipients[1].told else { panic!("{:?}", recipients[1].told) };
    assert_eq!(ledger.message(report).await.unwrap().unwrap().recipients.len(), 1);
    assert_eq!(ledger.history(several).await.unwrap(), spool.history(several).await.unwrap());
    assert_eq!(ledger.history(several).await.unwrap().len(), 3, "two ends and who was told");
    let silent = ledger.message(silent).await.unwrap().unwrap();
    assert_eq!((silent.standing, silent.finished_at), (MessageState::Finished, Some(NOW)));
    let told = silent.recipients[0].as_ref().unwrap().told;
    assert_eq!(told, Some(ToldBy::Nobody(Silence::NullReversePath)));
    assert_eq!(ledger.message(large).await.unwrap().unwrap().size, 300_000);
    assert!(ledger.message(QueueId(7)).await.unwrap().is_none());
}

pub(crate) async fn a_message_is_found_by_every_name_it_has<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    let [several, silent, large] = of_every_kind(spool.as_ref()).await;
    let ledger = engine.ledger().await;
    let find = async |name: &str| {
        let found = ledger.find(name, 2).await.unwrap();
        (found.messages.iter().map(|message| message.id).collect::<Vec<_>>(), found.more)
    };
    for name in ["<one@office.example>", "ONE@office.example", "b@X.example"] {
        assert_eq!(find(name).await, (vec![several], More::No), "{name}");
    }
    assert_eq!(find("e@x.example").await, (vec![silent], More::No));
    let (newest, more) = find("alice@office.example").await;
    assert_eq!((newest.len(), more), (2, More::Yes), "the report to her, and what she sent");
    assert_eq!(newest[1], large, "the newest first");
    assert_eq!(find("nobody@x.example").await, (vec![], More::No));
}

pub(crate) async fn what_waits_is_listed_oldest_first_and_what_is_finished_is_not<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    let mut stored = Vec::new();
    for n in 0..300 {
        stored.push(store(spool.as_ref(), envelope("", &["a@x.example"]), format!("{n}").as_bytes()).await);
    }
    let gone = claim(spool.as_ref(), stored[7]).await;
    spool.settle(gone, become_so([(0, delivered())])).await.unwrap();
    let held = claim(spool.as_ref(), stored[9]).await;
    spool.settle(held, Settlement { hold: Hold::Held, ..Settlement::default() }).await.unwrap();
    let (finished, held) = (stored.remove(7), stored[8]);
    let ledger = engine.ledger().await;
    let listed = waiting(ledger.as_ref()).await;
    assert_eq!(listed.iter().map(|message| message.id).collect::<Vec<_>>(), stored);
    let is_held = |message: &&LedgerMessage| message.standing == MessageState::Held;
    assert_eq!(listed.iter().filter(is_held).map(|message| message.id).collect::<Vec<_>>(), [held]);
    assert_eq!(ledger.message(finished).await.unwrap().unwrap().standing, MessageState::Finished);
    // Whoever has seen enough goes away.
    let mut listing = ledger.waiting().await.unwrap();
    assert!(matches!(listing.next().await.unwrap(), Some(Listed::Message(first)) if first.id == stored[0]));
    drop(listing);
    spool.close().await;
    assert_eq!(waiting(ledger.as_ref()).await.len(), 299, "also when no relay runs");
}

/// Some messages that wait, each with recipients of several kinds and of one cause of several.
async fn of_several_causes(spool: &dyn Spool) -> Vec<QueueId> {
    let mut ids = Vec::new();
    for number in 0_i64..40 {
        let to = [format!("a@d{number}.example"), "b@D1.example".to_owned(), "c@[192.0.2.1]".to_owned()];
        let envelope = envelope("", &to.each_ref().map(String::as_str));
        let accepted_at = Timestamp(NOW.0 - number * 700);
        let id = store(spool, Envelope { accepted_at, ..envelope }, b"").await;
        let due = Some(LATER.plus(Duration::from_secs(number.unsigned_abs())));
        let last = Cause::NullMx { domain: format!("d{}.example", number % 3).parse().unwrap() };
        let waits = RecipientState::Queued(Pending { last: Some(last), due, ..Pending::NEW });
        let ended = if number % 5 == 0 { RecipientState::Removed } else { RecipientState::NEW };
        let hold = if number % 7 == 0 { Hold::Held } else { Hold::Scheduled };
        let settlement = Settlement { hold, next_due: due, ..become_so([(0, waits), (1, ended)]) };
        spool.settle(claim(spool, id).await, settlement).await.unwrap();
        ids.push(id);
    }
    ids
}

/// What counts of a message, but for when its recipients are due, and for their order.
fn told(brief: &WaitingBrief) -> (Timestamp, Hold, Vec<String>) {
    let one = |recipient: &BriefRecipient| {
        let mut state = Arc::clone(&recipient.state);
        if let RecipientState::Queued(pending) = Arc::make_mut(&mut state) {
            pending.due = None;
        }
        format!("{} {state:?}", recipient.host)
    };
    let mut recipients: Vec<String> = brief.recipients.iter().map(one).collect();
    recipients.sort();
    (brief.accepted_at, brief.hold, recipients)
}

pub(crate) async fn what_waits_is_the_same_in_brief_as_at_length<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    let ids = of_several_causes(spool.as_ref()).await;
    let finished = claim(spool.as_ref(), ids[20]).await;
    let all_end = (0..3).map(|recipient| (recipient, RecipientState::Removed));
    spool.settle(finished, become_so(all_end)).await.unwrap();
    spool.close().await;
    engine.damage_envelope(ids[4]);
    let ledger = engine.ledger().await;
    let (mut at_length, mut damaged, mut listing) = (Vec::new(), 0, ledger.waiting().await.unwrap());
    while let Some(listed) = listing.next().await.unwrap() {
        match listed {
            Listed::Message(message) => at_length.push(told(&message.in_brief())),
            Listed::Unreadable => damaged += 1,
        }
    }
    let text = |one: &(Timestamp, Hold, Vec<String>)| format!("{one:?}");
    let (mut in_brief, mut unreadable, mut listing) = (Vec::new(), 0, ledger.waiting_in_brief().await.unwrap());
    while let Some(part) = listing.next().await.unwrap() {
        in_brief.extend(part.messages.iter().map(told));
        unreadable += part.unreadable;
    }
    assert!(listing.next().await.unwrap().is_none(), "it stays at its end");
    assert_eq!((at_length.len(), damaged), (38, 1));
    // It comes in no order.
    in_brief.sort_by_key(text);
    at_length.sort_by_key(text);
    assert_eq!((in_brief, unreadable), (at_length, damaged));
}

pub(crate) async fn an_open_listing_or_audit_holds_up_nobody<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    of_every_kind(spool.as_ref()).await;
    let ledger = engine.ledger().await;
    let mut listing = ledger.waiting().await.unwrap();
    let mut run = ledger.audit(Depth::Everything).await.unwrap();
    listing.next().await.unwrap();
    let _under_way = run.step().await.unwrap();
    let id = store(spool.as_ref(), envelope("bob@office.example", &["g@x.example"]), b"x").await;
    spool.settle(claim(spool.as_ref(), id).await, failed_and_told(id)).await.unwrap();
    assert!(ledger.message(id).await.unwrap().is_some(), "and it is seen at once by who asks for it");
}

pub(crate) async fn what_clients_handed_in_is_listed_by_its_time<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    let [several, silent, large] = of_every_kind(spool.as_ref()).await;
    let later = Envelope { accepted_at: LATER, ..envelope("bob@office.example", &["g@x.example"]) };
    let later = store(spool.as_ref(), later, b"x").await;
    caught_up(spool.as_ref(), later).await;
    let ledger = engine.ledger().await;
    let accepted = async |from, to| {
        let (mut listing, mut found) = (ledger.accepted(from, to).await.unwrap(), Vec::new());
        while let Some(Listed::Message(message)) = listing.next().await.unwrap() {
            found.push(message.id);
        }
        found
    };
    assert_eq!(accepted(NOW, NOW).await, [several, silent, large], "finished or not, and no report");
    assert_eq!(accepted(NOW, LATER).await, [several, silent, large, later]);
    assert_eq!(accepted(NOW.plus(Duration::from_millis(1)), LATER.plus(Duration::from_secs(1))).await, [later]);
    assert_eq!(accepted(LATER, NOW).await, []);
    assert_eq!(ledger.complete_since().await.unwrap(), None, "nothing was removed yet");
}

pub(crate) async fn past_deliveries_to_a_domain_are_found_by_it_alone<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    let ids = of_every_kind(spool.as_ref()).await;
    let ledger = engine.ledger().await;
    let among = async |domain: &str, most, among| {
        let domain = domain.parse().unwrap();
        ledger.delivered(&DeliveriesWanted { domain, most, among }).await.unwrap()
    };
    let found = async |domain: &str, most| among(domain, most, None).await;
    let all = found("x.example", 10).await;
    assert_eq!(all.iter().map(|one| (one.id, one.recipient.as_str())).collect::<Vec<_>>(), [(ids[0], "a@x.example")]);
    assert_eq!(found("X.Example", 10).await, all);
    for other in ["example", "y.example", "sub.x.example"] {
        assert_eq!(found(other, 10).await, [], "{other}");
    }
    assert_eq!(found("x.example", 0).await, []);
    assert_eq!(among("x.example", 10, Some(1_000)).await, all);
    assert_eq!(among("x.example", 10, Some(2)).await, [], "they went to others");
}

pub(crate) async fn the_domains_that_mail_goes_to_are_counted<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    of_every_kind(spool.as_ref()).await;
    let other = store(spool.as_ref(), envelope("alice@office.example", &["g@Y.example", "h@[192.0.2.1]"]), b"").await;
    caught_up(spool.as_ref(), other).await;
    let ledger = engine.ledger().await;
    let domains =
        async |most| ledger.destinations(most).await.unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    let all = domains(10).await;
    assert_eq!(all, ["x.example", "y.example"], "the reports of the relay do not count, nor do literals");
    assert_eq!(domains(1).await, ["x.example".to_owned()]);
}
