//! The domains to which mail fails in one way, and since when (pure).
//!
//! A domain counts as news for a while after its first failure: one that is broken for days, as some
//! always are, says nothing about this side.

use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::outcome::Cause;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Domains remembered of one kind; more are not looked at.
const MOST_DOMAINS: usize = 10_000;

/// Messages remembered of one kind; more are counted and not brought forward.
const MOST_MESSAGES: usize = 20_000;

/// A domain that has not failed for so long is forgotten: longer than the longest pause between
/// attempts.
const FORGET: Duration = Duration::from_secs(6 * 3600);

/// How often room is made where there is none.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// One kind of failure.
#[derive(Debug)]
pub(super) struct Failing {
    /// The last cause.
    pub(super) sample: Cause,
    /// When it was last met.
    pub(super) last: Timestamp,
    domains: BTreeMap<String, FailingDomain>,
    messages: BTreeSet<QueueId>,
    /// Messages beyond those.
    further: u64,
    /// Whether it was met behind MAIL FROM.
    pub(super) met_by_messages_alone: bool,
    swept: Timestamp,
}

#[derive(Debug)]
struct FailingDomain {
    first: Timestamp,
    last: Timestamp,
    /// The server that failed, or the name that could not be looked up.
    server: Option<String>,
}

impl Failing {
    pub(super) fn new(sample: &Cause, now: Timestamp) -> Self {
        let (domains, messages) = (BTreeMap::new(), BTreeSet::new());
        Self {
            sample: sample.clone(),
            last: now,
            domains,
            messages,
            further: 0,
            met_by_messages_alone: false,
            swept: now,
        }
    }

    /// Mail to a domain has failed.
    pub(super) fn failed(&mut self, domain: &str, cause: &Cause, now: Timestamp) {
        (self.sample, self.last) = (cause.clone(), now);
        self.met_by_messages_alone |= cause.is_met_by_messages_alone();
        let server = server_of(cause);
        if let Some(known) = self.domains.get_mut(domain) {
            if now.since(known.last) > FORGET {
                known.first = now;
            }
            (known.last, known.server) = (now, server);
            return;
        }
        // Not for each of a million: that would cost more than the mail.
        if self.domains.len() >= MOST_DOMAINS && now.since(self.swept) > SWEEP_EVERY {
            self.swept = now;
            self.domains.retain(|_, known| now.since(known.last) <= FORGET);
        }
        if self.domains.len() < MOST_DOMAINS {
            self.domains.insert(domain.to_owned(), FailingDomain { first: now, last: now, server });
        }
    }

    pub(super) fn message(&mut self, id: QueueId) {
        if self.messages.contains(&id) {
            return;
        }
        if self.messages.len() < MOST_MESSAGES {
            self.messages.insert(id);
        } else {
            self.further += 1;
        }
    }

    /// Mail to a domain went out. Whether it had failed before.
    pub(super) fn recovered(&mut self, domain: &str) -> bool {
        self.domains.remove(domain).is_some()
    }

    pub(super) fn is_over(&self) -> bool {
        self.domains.is_empty()
    }

    /// Domains whose first failure is not older than `window`, the newest first.
    pub(super) fn news(&self, window: Duration, now: Timestamp) -> Vec<&str> {
        let is_news = |known: &FailingDomain| now.since(known.first) <= window;
        let mut news: Vec<_> = self.domains.iter().filter(|(_, known)| is_news(known)).collect();
        news.sort_by_key(|(_, known)| std::cmp::Reverse(known.last));
        news.into_iter().map(|(domain, _)| domain.as_str()).collect()
    }

    /// When the first of them failed.
    pub(super) fn since(&self, window: Duration, now: Timestamp) -> Timestamp {
        let firsts = self.domains.values().map(|known| known.first).filter(|first| now.since(*first) <= window);
        firsts.min().unwrap_or(now)
    }

    /// How many servers, or names, have to do with it.
    pub(super) fn servers(&self) -> usize {
        self.domains.values().filter_map(|known| known.server.as_ref()).collect::<BTreeSet<_>>().len()
    }

    /// Every domain that fails.
    pub(super) fn domains(&self) -> impl Iterator<Item = &str> {
        self.domains.keys().map(String::as_str)
    }

    /// Messages that met it, at least.
    pub(super) fn message_count(&self) -> u64 {
        u64::try_from(self.messages.len()).unwrap_or(u64::MAX).saturating_add(self.further)
    }

    /// Hands over the messages that are known by name.
    pub(super) fn take_messages(&mut self) -> Vec<QueueId> {
        std::mem::take(&mut self.messages).into_iter().collect()
    }

    /// Whether nothing of it is of use any more.
    pub(super) fn is_stale(&self, now: Timestamp) -> bool {
        now.since(self.last) > FORGET
    }
}

fn server_of(cause: &Cause) -> Option<String> {
    let cause = cause.root();
    if let Cause::NoRoute { peer, .. }
    | Cause::ConnectFailed { peer, .. }
    | Cause::TimedOut { peer, .. }
    | Cause::ConnectionLost { peer, .. }
    | Cause::ProtocolError { peer, .. }
    | Cause::Rejected { peer, .. }
    | Cause::StarttlsNotOffered { peer, .. }
    | Cause::StarttlsRefused { peer, .. }
    | Cause::TlsHandshake { peer, .. }
    | Cause::DaneMismatch { peer, .. }
    | Cause::CertificateRejected { peer, .. } = cause
    {
        return Some(peer.address.to_string());
    }
    if let Cause::DnsUnavailable { question, .. } | Cause::DnsBogus { question, .. } = cause {
        return Some(question.name.clone());
    }
    None
}
