//! Messages, recipients and settlements for all parts of this program.

use bytes::Bytes;
use dane_relay::clock::Timestamp;
use dane_relay::config::SpoolConfig;
use dane_relay::envelope::{ClientInfo, Envelope, Origin, QueueId};
use dane_relay::outcome::{Cause, DeliveryOutcome};
use dane_relay::smtp::address::ReversePath;
use dane_relay::spool::event::Event;
use dane_relay::spool::{Claim, Notification, Pending, RecipientState, Report, Settlement, Spool, SpoolError};
use std::path::Path;

pub(crate) const NOW: Timestamp = Timestamp(1_795_261_468_000);
pub(crate) const LATER: Timestamp = Timestamp(NOW.0 + 3_600_000);

/// An engine with all the room there is, in this folder.
pub(crate) fn config(folder: &Path) -> SpoolConfig {
    SpoolConfig { path: folder.join("spool"), min_free_bytes: 0, min_free_inodes: 0, ..SpoolConfig::default() }
}

/// From a client; without a sender from the null reverse-path.
pub(crate) fn envelope(sender: &str, recipients: &[&str]) -> Envelope {
    let sender = sender.parse().map_or(ReversePath::Null, ReversePath::Mailbox);
    let recipients = recipients.iter().map(|r| r.parse().unwrap()).collect();
    let client =
        ClientInfo { address: [192, 0, 2, 1].into(), helo: "ex.example".into(), protocol: "ESMTPS".into(), user: None };
    Envelope::new(sender, recipients, NOW, Origin::Client(client))
}

pub(crate) fn report(about: QueueId) -> Report {
    let envelope = Envelope { origin: Origin::Report { about }, ..envelope("", &["alice@office.example"]) };
    Report { envelope, content: Bytes::from_static(b"Subject: Undeliverable\r\n\r\nIt could not be delivered.\r\n") }
}

pub(crate) fn failed() -> RecipientState {
    let cause = Cause::DomainNotFound { domain: "gone.example".parse().unwrap() };
    RecipientState::Done { outcome: DeliveryOutcome::Failed { cause } }
}

pub(crate) fn delivered() -> RecipientState {
    let json = r#"{"state":"delivered","peer":{"host":"mx.example","address":"192.0.2.1:25"},
        "tls":{"tls":"clear-text"},"reply":{"code":250,"enhanced":null,"lines":["ok"]}}"#;
    RecipientState::Done { outcome: serde_json::from_str(json).unwrap() }
}

pub(crate) fn waits() -> RecipientState {
    let last = Some(Cause::NoMailHost { domain: "slow.example".parse().unwrap() });
    RecipientState::Queued(Pending { last, tries: 1, ..Pending::NEW })
}

pub(crate) fn ended(recipient: usize) -> Event {
    Event::Ended { recipients: vec![recipient], cause: None }
}

/// These recipients become so.
pub(crate) fn become_so(recipients: impl IntoIterator<Item = (usize, RecipientState)>) -> Settlement {
    Settlement { recipients: recipients.into_iter().collect(), at: Some(NOW), ..Settlement::default() }
}

/// The first recipient has failed, and a report tells of it.
pub(crate) fn failed_and_told(about: QueueId) -> Settlement {
    let (reports, told) = (vec![report(about)], vec![(0, Notification::ByReport(0))]);
    Settlement { reports, told, ..become_so([(0, failed())]) }
}

/// Content that differs everywhere and holds every octet, so that a mix-up shows.
pub(crate) fn content(seed: usize, size: usize) -> Vec<u8> {
    (0..size).map(|i| u8::try_from((i * 31 + i / 251 + seed) % 256).unwrap()).collect()
}

pub(crate) async fn store(spool: &dyn Spool, envelope: Envelope, content: &[u8]) -> QueueId {
    let mut draft = spool.begin(NOW);
    for piece in content.chunks(10_000) {
        draft.body.write(piece).await.unwrap();
    }
    assert_eq!(draft.body.size(), content.len() as u64);
    spool.enqueue(draft, envelope).await.unwrap()
}

/// One message to one recipient.
pub(crate) async fn store_one(spool: &dyn Spool, content: &[u8]) -> QueueId {
    store(spool, envelope("alice@office.example", &["a@one.example"]), content).await
}

pub(crate) async fn claim(spool: &dyn Spool, id: QueueId) -> Claim {
    spool.claim_one(id, NOW).await.unwrap().unwrap()
}

/// The same claim, held by somebody else.
pub(crate) fn copy_of(claim: &Claim) -> Claim {
    Claim { entry: claim.entry.clone(), generation: claim.generation }
}

pub(crate) async fn body(spool: &dyn Spool, id: QueueId) -> Result<Vec<u8>, SpoolError> {
    let mut reader = spool.open_body(id).await?;
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await? {
        assert!(!piece.is_empty() && piece.len() <= 65_536, "{}", piece.len());
        all.extend_from_slice(&piece);
    }
    Ok(all)
}
