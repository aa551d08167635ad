//! The audit finds what somebody took away, and names it; and the ledger finds messages by name.
#![expect(clippy::disallowed_methods, reason = "the tests look into the spool directory and damage it")]
#![expect(clippy::unwrap_used, reason = "what fails in a test is the test's result")]

use crate::sample::{NOW, config, delivered, envelope, failed, report};
use dane_relay::clock::Timestamp;
use dane_relay::envelope::QueueId;
use dane_relay::spool::audit::{Audit, AuditFault, Depth};
use dane_relay::spool::embedded::EmbeddedSpool;
use dane_relay::spool::embedded::audit::Auditor;
use dane_relay::spool::embedded::reader::StateReader;
use dane_relay::spool::event::Silence;
use dane_relay::spool::ledger::{LedgerError, Listed, More};
use dane_relay::spool::{Claim, Notification, RecipientState, Settlement, Spool};
use std::ops::ControlFlow;
use std::path::PathBuf;
use tempfile::TempDir;

struct World {
    folder: TempDir,
    spool: EmbeddedSpool,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let spool = EmbeddedSpool::open(&config(folder.path()), NOW).unwrap();
        Self { folder, spool }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    async fn store(&self, sender: &str, recipients: &[&str], content: &[u8]) -> QueueId {
        let mut draft = self.spool.begin(NOW);
        draft.body.write(content).await.unwrap();
        self.spool.enqueue(draft, envelope(sender, recipients)).await.unwrap()
    }

    async fn claim(&self, id: QueueId) -> Claim {
        self.spool.claim_one(id, NOW).await.unwrap().unwrap()
    }

    /// One of each kind: delivered, failed and told, failed in silence, removed, waiting.
    async fn one_of_each(&self) -> [QueueId; 3] {
        let to = ["a@x.example", "b@x.example", "c@x.example", "d@x.example"];
        let several = self.store("alice@office.example", &to, b"Message-ID: <one@office.example>\r\n\r\n").await;
        let recipients = vec![(0, delivered()), (1, failed()), (2, RecipientState::Removed)];
        let told = vec![(1, Notification::ByReport(0))];
        let settlement = Settlement { recipients, reports: vec![report(several)], told, ..Settlement::default() };
        self.spool.settle(self.claim(several).await, settlement).await.unwrap();
        let silent = self.store("", &["e@x.example"], b"").await;
        let told = vec![(0, Notification::Nobody(Silence::NullReversePath))];
        let settlement = Settlement { recipients: vec![(0, failed())], told, ..Settlement::default() };
        self.spool.settle(self.claim(silent).await, settlement).await.unwrap();
        let large = self.store("alice@office.example", &["f@x.example"], &vec![b'x'; 300_000]).await;
        // What comes in is in the database a moment later; who asks the same writer comes after it.
        self.spool.history(large).await.unwrap();
        [several, silent, large]
    }

    fn audit(&self) -> Audit {
        Auditor::open(&self.path(), Depth::Everything).unwrap().finish().unwrap()
    }

    /// As somebody with `sqlite3` would.
    fn change(&self, sql: &str) {
        rusqlite::Connection::open(self.path().join("state.sqlite")).unwrap().execute_batch(sql).unwrap();
    }

    fn expect(&self, id: QueueId, fault: AuditFault, recipients: u64) {
        let audit = self.audit();
        let found: Vec<_> = audit.findings.iter().map(|found| (found.id, found.fault, found.recipients)).collect();
        assert_eq!(found, [(id, fault, recipients)]);
        assert_eq!(audit.sum.unaccounted, recipients);
        let s = audit.sum;
        assert_eq!(s.accepted, s.delivered + s.told + s.suppressed + s.removed + s.queued + s.unaccounted, "{s:?}");
    }
}

#[tokio::test]
async fn rfc5321_6_1_every_recipient_is_somewhere() {
    let world = World::new();
    world.one_of_each().await;
    let audit = world.audit();
    assert_eq!(audit.findings, []);
    let s = audit.sum;
    // The report is a message of its own.
    assert_eq!((s.messages, s.accepted), (4, 7));
    assert_eq!((s.delivered, s.told, s.suppressed, s.removed, s.queued, s.unaccounted), (1, 1, 1, 1, 3, 0));
    world.spool.close().await;
    assert_eq!(world.audit().sum, s, "also when no relay runs");
}

#[tokio::test]
async fn a_row_deleted_by_hand_is_named() {
    let world = World::new();
    let [_, _, large] = world.one_of_each().await;
    world.change(&format!("DELETE FROM messages WHERE id = {0}; DELETE FROM recipients WHERE message = {0}", large.0));
    world.expect(large, AuditFault::RowMissing, 1);
    let world = World::new();
    let [_, silent, _] = world.one_of_each().await;
    world.change(&format!("DELETE FROM messages WHERE id = {}", silent.0));
    world.expect(silent, AuditFault::RowMissing, 1);
    let world = World::new();
    let [several, ..] = world.one_of_each().await;
    world.change("DELETE FROM recipients WHERE address = 'a@x.example'");
    let found = world.audit().findings.remove(0);
    assert_eq!(
        (found.id, found.fault, found.addresses),
        (several, AuditFault::RecipientMissing, vec!["a@x.example".to_owned()])
    );
}

#[tokio::test]
async fn a_recipient_without_its_report_is_named() {
    let world = World::new();
    let [several, ..] = world.one_of_each().await;
    world.change("DELETE FROM recipients WHERE message > 1 << 62; DELETE FROM messages WHERE id > 1 << 62");
    world.expect(several, AuditFault::ReportMissing, 1);
    world.change("UPDATE recipients SET told = NULL");
    let faults: Vec<_> = world.audit().findings.into_iter().map(|found| found.fault).collect();
    assert_eq!(faults, [AuditFault::NobodyTold, AuditFault::NobodyTold]);
    world.change("UPDATE recipients SET told = -1");
    world.expect(several, AuditFault::NoSuchRule, 1);
}

#[tokio::test]
async fn content_that_was_cut_or_changed_is_named() {
    let world = World::new();
    let [several, _, large] = world.one_of_each().await;
    std::fs::write(world.path().join("content").join(large.to_string()), b"short").unwrap();
    world.expect(large, AuditFault::ContentMissing, 1);
    std::fs::write(world.path().join("content").join(large.to_string()), vec![b'y'; 300_000]).unwrap();
    world.expect(large, AuditFault::ContentDamaged, 1);
    std::fs::write(world.path().join("content").join(large.to_string()), vec![b'x'; 300_000]).unwrap();
    assert_eq!(world.audit().findings, []);
    let segment = std::fs::read_dir(world.path().join("segments")).unwrap().next().unwrap().unwrap().path();
    let octets = std::fs::read(&segment).unwrap();
    let mut damaged = octets.clone();
    damaged[100] ^= 1;
    std::fs::write(&segment, damaged).unwrap();
    world.expect(several, AuditFault::ContentDamaged, 1);
    std::fs::write(&segment, &octets[..60]).unwrap();
    let faults: Vec<_> = world.audit().findings.into_iter().map(|found| found.fault).collect();
    assert_eq!(faults, [AuditFault::ContentMissing; 3]);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_hides_no_other_message() {
    let world = World::new();
    let [several, silent, large] = world.one_of_each().await;
    world.spool.history(silent).await.unwrap();
    world.change(&format!("UPDATE messages SET envelope = '{{' WHERE id = {}", several.0));
    let ledger = StateReader::open(&world.path()).unwrap();
    let (mut seen, mut unreadable) = (Vec::new(), 0);
    let each = |listed| {
        match listed {
            Listed::Message(message) => seen.push(message.id),
            Listed::Unreadable => unreadable += 1,
        }
        ControlFlow::Continue(())
    };
    ledger.for_each_waiting(each).unwrap();
    assert_eq!((unreadable, seen.len(), seen.contains(&large)), (1, 2, true), "large and the report");
    assert!(matches!(ledger.message(several), Err(LedgerError::Row(id)) if id == several));
    let found = ledger.find("alice@office.example", 9).unwrap();
    assert_eq!((found.messages.len(), found.unreadable), (2, vec![several]));
    world.expect(several, AuditFault::RowUnreadable, 4);
}

#[tokio::test]
async fn a_recipient_whose_row_is_gone_gets_one_attempt_more_and_then_its_end_is_recorded() {
    let world = World::new();
    let [_, _, large] = world.one_of_each().await;
    world.change(&format!("DELETE FROM recipients WHERE message = {}", large.0));
    world.expect(large, AuditFault::RecipientMissing, 1);
    let claim = world.claim(large).await;
    assert!(claim.entry.recipients[0].pending().is_some(), "rather twice than never");
    let settlement = Settlement { recipients: vec![(0, delivered())], ..Settlement::default() };
    world.spool.settle(claim, settlement).await.unwrap();
    let audit = world.audit();
    assert_eq!((audit.findings, audit.sum.delivered), (vec![], 2));
    let found = StateReader::open(&world.path()).unwrap().find("f@x.example", 9).unwrap().messages;
    assert_eq!(found[0].recipients[0].as_ref().unwrap().address, "f@x.example");
}

#[tokio::test]
async fn messages_are_found_by_every_name_they_have() {
    let world = World::new();
    let [several, silent, large] = world.one_of_each().await;
    let ledger = StateReader::open(&world.path()).unwrap();
    let find = |name: &str| {
        let found = ledger.find(name, 2).unwrap();
        (found.messages.iter().map(|message| message.id).collect::<Vec<_>>(), found.more)
    };
    for name in ["<one@office.example>", "ONE@office.example", "b@X.example"] {
        assert_eq!(find(name), (vec![several], More::No), "{name}");
    }
    assert_eq!(find("e@x.example"), (vec![silent], More::No));
    let (newest, more) = find("alice@office.example");
    assert_eq!((newest.len(), more), (2, More::Yes), "the report to her, and what she sent");
    assert_eq!(newest[1], large, "the newest first");
    assert_eq!(find("nobody@x.example"), (vec![], More::No));
}

#[tokio::test]
async fn what_was_pruned_is_not_missed() {
    let world = World::new();
    let [several, _, large] = world.one_of_each().await;
    for id in [several, large] {
        let claim = world.claim(id).await;
        let recipients = (0..4).map(|i| (i, delivered())).skip(usize::from(id == several) * 3).collect();
        world.spool.settle(claim, Settlement { recipients, ..Settlement::default() }).await.unwrap();
    }
    let later = Timestamp(NOW.0 + 31 * 86_400_000);
    world.spool.claim_due(later, 1).await.unwrap();
    for _ in 0..2 {
        world.spool.history(several).await.unwrap();
    }
    let audit = world.audit();
    assert_eq!((audit.findings.len(), audit.sum.messages), (0, 1), "{audit:?}: the report has no end yet");
    let ledger = StateReader::open(&world.path()).unwrap();
    let found = |name: &str| ledger.find(name, 9).unwrap().messages.len();
    assert_eq!((found("f@x.example"), found("alice@office.example")), (0, 1));
}
