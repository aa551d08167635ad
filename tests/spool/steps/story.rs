//! The story: everything that can happen to messages, told to a spool worked by hand.

use super::model::{KEEP_HISTORY, Knowledge, Stage, config, domain_of};
use super::{Snapshot, Task, Watch};
use crate::sample;
use bytes::Bytes;
use dane_relay::clock::Timestamp;
use dane_relay::envelope::{Envelope, Origin, QueueId};
use dane_relay::outcome::Cause;
use dane_relay::spool::embedded::{EmbeddedSpool, ManualWriters};
use dane_relay::spool::event::{Event, Silence};
use dane_relay::spool::ledger::MessageState;
use dane_relay::spool::tls_session::{AppliedPolicy, PolicyType, SessionFailure, TlsSession};
use dane_relay::spool::{Claim, Hold, Notification, Pending, RecipientState, Report, Settlement, Spool};
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tempfile::TempDir;

const START: Timestamp = sample::NOW;
const HOUR: Duration = Duration::from_secs(3600);
/// More than a record holds.
const LARGE: usize = 300_000;

/// What becomes of a recipient.
#[derive(Clone, Copy, Debug)]
enum End {
    Delivered,
    /// With a report.
    Failed,
    /// Nobody asked to be told.
    FailedInSilence,
    Removed,
    Deferred,
    /// By the operator.
    Held,
}

pub(crate) struct Story {
    root: PathBuf,
    watch: Arc<Watch>,
    spool: Arc<EmbeddedSpool>,
    writers: ManualWriters,
    _folder: Arc<TempDir>,
}

impl Story {
    /// Gives the snapshots of all its moments.
    pub(crate) fn tell() -> Vec<Snapshot> {
        let folder = Arc::new(TempDir::new().unwrap());
        let root = folder.path().join("spool");
        let watch = Watch::new(String::new(), &root, Knowledge::at(START));
        let (spool, writers) = EmbeddedSpool::open_by_hand(&config(&root), START, watch.clone()).unwrap();
        let story = Self { root, watch: watch.clone(), spool: Arc::new(spool), writers, _folder: folder };
        story.first_day().second_day().third_day().last_day();
        std::mem::take(&mut watch.snapshots.lock().unwrap())
    }

    /// Mail comes in, small and large, alone and together; some has its end, some waits.
    fn first_day(mut self) -> Self {
        let few = self.store(&[(500, 1), (900, 3)]);
        let large = self.store(&[(LARGE, 1)])[0];
        let more = self.store(&[(10, 1), (0, 2), (70_000, 1)]);
        self.give_up_a_draft();
        let claim = self.settle_part(few[1], &[(0, End::Failed)]);
        self.settle(claim, &[(1, End::Deferred), (2, End::Removed)]);
        self.end(few[0], &[(0, End::Failed)]);
        self.end(large, &[(0, End::Deferred)]);
        self.end(more[1], &[(0, End::Held), (1, End::Held)]);
        let claim = self.claim(more[0]);
        let until = self.now().plus(HOUR);
        self.ask(async |spool| spool.postpone(claim, until).await.unwrap());
        let claim = self.claim(more[2]);
        let delivered = self.settling(claim, &[(0, End::Delivered)]);
        let (_, storing) = self.storing(2000, 1);
        self.run(vec![delivered, storing]);
        let report = self.reports()[0];
        self.end(report, &[(0, End::Delivered)]);
        self
    }

    /// After a restart little is left of the first day. It is copied forward while some of it is
    /// under way, and one message has its end between the copy and its transaction.
    fn second_day(self) -> Self {
        let mut story = self.reopen(Ending::Finished);
        story.pass(HOUR * 3);
        let waiting = story.waiting();
        let [first, second] = [0, 1].map(|place| story.claim(waiting[place]));
        story.store(&[(700, 1)]);
        story.pass(HOUR);
        drop(story.spool.begin(story.now()));
        assert!(story.writers.turn(), "a batch is copied");
        let ends = ends(&first, End::Delivered);
        let ending = story.settling(first, &ends);
        story.run(vec![ending]);
        story.settle(second, &[(0, End::Delivered)]);
        for id in story.waiting() {
            story.read(id);
        }
        story
    }

    /// All of it has its end, and what comes in large has it at once.
    fn third_day(mut self) -> Self {
        for id in self.waiting() {
            self.end_all(id, End::Delivered);
        }
        let large = self.store(&[(LARGE + 1, 1), (20, 1)]);
        self.end(large[0], &[(0, End::FailedInSilence)]);
        // The process is killed while a message is on its way in.
        let (_, storing) = self.storing(600, 1);
        self.watch.tasks.lock().unwrap().push(storing);
        self.watch.poll();
        self.reopen(Ending::Killed)
    }

    /// What has had its end is forgotten after its time.
    fn last_day(mut self) {
        self.pass(KEEP_HISTORY + HOUR);
        self.forget();
        let more = self.store(&[(30, 1), (40, 1)]);
        self.pass(HOUR);
        self.end(more[0], &[(0, End::Failed)]);
        self.store(&[(50, 1)]);
        assert!(!self.writers.turn(), "all is done");
        self.writers.finish();
    }

    fn knowledge(&self) -> std::sync::MutexGuard<'_, Knowledge> {
        self.watch.knowledge.lock().unwrap()
    }

    fn now(&self) -> Timestamp {
        self.knowledge().now
    }

    fn pass(&self, time: Duration) {
        let mut knowledge = self.knowledge();
        knowledge.now = knowledge.now.plus(time);
    }

    fn reopen(self, ending: Ending) -> Self {
        let Self { root, watch, spool, writers, _folder } = self;
        match ending {
            Ending::Finished => writers.finish(),
            Ending::Killed => drop(writers),
        }
        watch.tasks.lock().unwrap().clear();
        drop(spool);
        let now = watch.knowledge.lock().unwrap().now;
        let (spool, writers) = EmbeddedSpool::open_by_hand(&config(&root), now, watch.clone()).unwrap();
        Self { root, watch, spool: Arc::new(spool), writers, _folder }
    }

    /// Lets tasks run to their end, and the writers after them.
    fn run(&mut self, tasks: Vec<Task>) {
        *self.watch.tasks.lock().unwrap() = tasks;
        while !self.watch.poll() {
            assert!(self.writers.turn(), "a task waits, and there is nothing to do");
        }
        while self.writers.turn() {}
    }

    /// Waits for what changes nothing.
    fn ask<T>(&mut self, question: impl AsyncFnOnce(Arc<EmbeddedSpool>) -> T) -> T {
        let mut asking = pin!(question(Arc::clone(&self.spool)));
        loop {
            if let Poll::Ready(answer) = asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return answer;
            }
            assert!(self.writers.turn());
        }
    }

    fn store(&mut self, messages: &[(usize, usize)]) -> Vec<QueueId> {
        let (ids, tasks) = messages.iter().map(|(size, recipients)| self.storing(*size, *recipients)).unzip();
        self.run(tasks);
        ids
    }

    fn storing(&self, size: usize, recipients: usize) -> (QueueId, Task) {
        let mut draft = self.spool.begin(self.now());
        let id = draft.id;
        let content = content(id, size);
        let envelope = envelope(recipients, self.now());
        let mut knowledge = self.knowledge();
        let states = vec![RecipientState::NEW; recipients];
        let stage = Stage::There {
            recipients: states,
            standing: MessageState::Queued,
            due_at: knowledge.now,
            reports: 0,
            sessions: 0,
        };
        knowledge.meet(id, content.clone(), None);
        knowledge.ask(id, stage);
        let (spool, known) = (Arc::clone(&self.spool), Arc::clone(&self.watch.knowledge));
        let storing = async move {
            draft.body.write(&content).await.unwrap();
            spool.enqueue(draft, envelope).await.unwrap();
            answered(&known, id);
        };
        (id, Box::pin(storing))
    }

    fn give_up_a_draft(&mut self) {
        let now = self.now();
        self.ask(async |spool| {
            let mut draft = spool.begin(now);
            draft.body.write(&content(draft.id, LARGE)).await.unwrap();
        });
    }

    fn claim(&mut self, id: QueueId) -> Claim {
        let now = self.now();
        self.ask(async |spool| spool.claim_one(id, now).await.unwrap().unwrap())
    }

    /// Reports that nobody has seen yet.
    fn reports(&mut self) -> Vec<QueueId> {
        let now = self.now();
        let claims = self.ask(async |spool| spool.claim_due(now, 1000).await.unwrap());
        let mut found = Vec::new();
        for claim in claims {
            let (id, at) = (claim.entry.id, claim.entry.envelope.accepted_at);
            if let Origin::Report { about } = claim.entry.envelope.origin
                && !self.knowledge().messages.contains_key(&id)
            {
                let recipients = claim.entry.recipients.clone();
                let stage =
                    Stage::There { recipients, standing: MessageState::Queued, due_at: at, reports: 0, sessions: 0 };
                let mut knowledge = self.knowledge();
                knowledge.meet(id, report_content(about), Some(about));
                knowledge.ask(id, stage);
                knowledge.answered(id);
                found.push(id);
            }
            self.ask(async |spool| spool.release(claim).await.unwrap());
        }
        found
    }

    /// Messages that wait or are held, the oldest id first.
    fn waiting(&mut self) -> Vec<QueueId> {
        self.reports();
        let knowledge = self.knowledge();
        let waits =
            |stage: &Stage| matches!(stage, Stage::There { standing, .. } if *standing != MessageState::Finished);
        knowledge.messages.iter().filter(|(_, message)| waits(message.last())).map(|(id, _)| *id).collect()
    }

    /// The content is as it was handed in.
    fn read(&mut self, id: QueueId) {
        let octets = self.ask(async |spool| super::model::content(&spool, id).await.unwrap());
        assert!(octets == self.knowledge().messages[&id].content, "{id}: other octets");
    }

    fn end(&mut self, id: QueueId, ends: &[(usize, End)]) {
        let claim = self.claim(id);
        self.settle(claim, ends);
    }

    fn end_all(&mut self, id: QueueId, end: End) {
        let claim = self.claim(id);
        let ends = ends(&claim, end);
        self.settle(claim, &ends);
    }

    fn settle(&mut self, claim: Claim, ends: &[(usize, End)]) {
        let settling = self.settling(claim, ends);
        self.run(vec![settling]);
    }

    fn settling(&self, claim: Claim, ends: &[(usize, End)]) -> Task {
        let (spool, known, id) = (Arc::clone(&self.spool), Arc::clone(&self.watch.knowledge), claim.entry.id);
        let settlement = self.settlement(&claim, ends);
        Box::pin(async move {
            spool.settle(claim, settlement).await.unwrap();
            answered(&known, id);
        })
    }

    fn settle_part(&mut self, id: QueueId, ends: &[(usize, End)]) -> Claim {
        let mut claim = self.claim(id);
        let settlement = self.settlement(&claim, ends);
        let (spool, known) = (Arc::clone(&self.spool), Arc::clone(&self.watch.knowledge));
        let after = Arc::new(Mutex::new(None));
        let put = Arc::clone(&after);
        self.run(vec![Box::pin(async move {
            spool.settle_part(&mut claim, settlement).await.unwrap();
            answered(&known, id);
            put.lock().unwrap().replace(claim);
        })]);
        let claim = after.lock().unwrap().take();
        claim.unwrap()
    }

    /// The settlement, which is asked for from now on.
    fn settlement(&self, claim: &Claim, ends: &[(usize, End)]) -> Settlement {
        let (id, now) = (claim.entry.id, self.now());
        let sessions = vec![session(id, None), session(id, Some("mx.example"))];
        let mut settlement = Settlement { next_due: Some(now.plus(HOUR * 2)), sessions, ..Settlement::default() };
        for (index, end) in ends {
            settlement.recipients.push((*index, state(*end)));
            match end {
                End::Failed => {
                    settlement.reports.push(report(id, now));
                    settlement.told.push((*index, Notification::ByReport(settlement.reports.len() - 1)));
                }
                End::FailedInSilence => settlement.told.push((*index, Notification::Nobody(Silence::NotAsked))),
                End::Held => settlement.hold = Hold::Held,
                End::Delivered | End::Removed | End::Deferred => {}
            }
            settlement.events.push(Event::Ended { recipients: vec![*index], cause: None });
        }
        let mut knowledge = self.knowledge();
        let stage = after(claim, &settlement, knowledge.messages[&id].last());
        knowledge.ask(id, stage);
        settlement
    }

    /// All that is finished may be forgotten from now on.
    fn forget(&self) {
        let mut knowledge = self.knowledge();
        let finished = |stage: &Stage| matches!(stage, Stage::There { standing: MessageState::Finished, .. });
        let ids: Vec<QueueId> =
            knowledge.messages.iter().filter(|(_, message)| finished(message.last())).map(|(id, _)| *id).collect();
        assert!(!ids.is_empty());
        ids.into_iter().for_each(|id| knowledge.ask(id, Stage::Absent));
    }
}

/// How a session of the relay ends.
enum Ending {
    Finished,
    Killed,
}

/// The same end for all recipients that wait.
fn ends(claim: &Claim, end: End) -> Vec<(usize, End)> {
    let waiting = claim.entry.recipients.iter().enumerate().filter(|(_, state)| state.pending().is_some());
    waiting.map(|(index, _)| (index, end)).collect()
}

fn answered(knowledge: &Mutex<Knowledge>, id: QueueId) {
    knowledge.lock().unwrap().answered(id);
}

/// How a message stands once this is settled.
fn after(claim: &Claim, settlement: &Settlement, before: &Stage) -> Stage {
    let Stage::There { due_at, reports, sessions, .. } = before else { panic!("{} is not there", claim.entry.id) };
    let mut recipients = claim.entry.recipients.clone();
    for (index, state) in &settlement.recipients {
        recipients[*index] = state.clone();
    }
    let whole = recipients.iter().all(|state| *state != RecipientState::NEW);
    let standing = match (recipients.iter().any(|state| state.pending().is_some()), settlement.hold) {
        (false, _) => MessageState::Finished,
        (true, Hold::Held) => MessageState::Held,
        (true, Hold::Scheduled) => MessageState::Queued,
    };
    // A part changes nothing of when the message is due.
    let due_at = settlement.next_due.filter(|_| whole).unwrap_or(*due_at);
    let sessions = sessions + settlement.sessions.len() as u64;
    Stage::There { recipients, standing, due_at, reports: reports + settlement.reports.len(), sessions }
}

fn session(id: QueueId, failed_at: Option<&str>) -> TlsSession {
    let policy = AppliedPolicy {
        kind: PolicyType::NoPolicyFound,
        domain: domain_of(id),
        strings: Vec::new(),
        mx_host: Vec::new(),
    };
    let failure = failed_at.map(|host| SessionFailure {
        result_type: "starttls-not-supported".into(),
        sending_address: None,
        mx_host: Some(host.into()),
        mx_address: None,
        reason: None,
    });
    TlsSession { domain: domain_of(id), policy, failure }
}

fn state(end: End) -> RecipientState {
    let cause = Cause::DomainNotFound { domain: "gone.example".parse().unwrap() };
    match end {
        End::Delivered => sample::delivered(),
        End::Failed | End::FailedInSilence => sample::failed(),
        End::Removed => RecipientState::Removed,
        End::Deferred => RecipientState::Queued(Pending { last: Some(cause), tries: 1, ..Pending::NEW }),
        End::Held => RecipientState::Queued(Pending { tries: 2, ..Pending::NEW }),
    }
}

fn envelope(recipients: usize, now: Timestamp) -> Envelope {
    let recipients: Vec<String> = (0..recipients).map(|n| format!("r{n}@one.example")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    Envelope { accepted_at: now, ..sample::envelope("alice@office.example", &recipients) }
}

fn report(about: QueueId, now: Timestamp) -> Report {
    let envelope = Envelope { accepted_at: now, ..sample::report(about).envelope };
    Report { envelope, content: report_content(about) }
}

fn report_content(about: QueueId) -> Bytes {
    format!("Subject: Undeliverable\r\n\r\n{about} could not be delivered.\r\n").into()
}

/// Different everywhere and for every message.
fn content(id: QueueId, size: usize) -> Bytes {
    let octet = |at: usize| (at as u64).wrapping_mul(31).wrapping_add(at as u64 / 251).wrapping_add(id.0) % 251;
    (0..size).map(|at| u8::try_from(octet(at)).unwrap()).collect()
}
