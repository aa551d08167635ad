//! What the sessions of one MX host of the lab share: how it behaves now, what it took, what it heard
//! (RFC 5321 §4.2.5).

use super::behaviour::{Behaviour, Received, SeenCommand};
use crate::lab::locked;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// Commands remembered of all sessions together; later ones are obeyed and not remembered.
const SEEN_LIMIT: usize = 100_000;
/// Messages kept; above it the host says 452, as a full disk would.
pub(in crate::lab) const INBOX_LIMIT: usize = 100_000;

/// What the sessions of a host share.
#[derive(Debug)]
pub(in crate::lab) struct MxHostState {
    pub(in crate::lab) name: String,
    pub(in crate::lab) behaviour: Mutex<Behaviour>,
    pub(in crate::lab) greylisted: Mutex<BTreeSet<(String, String)>>,
    connections: AtomicUsize,
    handshakes_failed: AtomicUsize,
    inbox: Mutex<Vec<Received>>,
    arrivals: watch::Sender<usize>,
    seen: Mutex<Vec<SeenCommand>>,
}

impl MxHostState {
    pub(in crate::lab) fn new(name: &str, behaviour: Behaviour) -> Self {
        Self {
            name: name.to_owned(),
            behaviour: Mutex::new(behaviour),
            greylisted: Mutex::default(),
            connections: AtomicUsize::new(0),
            handshakes_failed: AtomicUsize::new(0),
            inbox: Mutex::default(),
            arrivals: watch::Sender::new(0),
            seen: Mutex::default(),
        }
    }

    /// The number of a new connection.
    pub(in crate::lab) fn next_number(&self) -> usize {
        self.connections.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(in crate::lab) fn saw(&self, seen: SeenCommand) {
        let mut all = locked(&self.seen);
        if all.len() < SEEN_LIMIT {
            all.push(seen);
        }
    }

    pub(in crate::lab) fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Ordering::SeqCst);
    }

    pub(in crate::lab) fn is_full(&self) -> bool {
        locked(&self.inbox).len() >= INBOX_LIMIT
    }

    pub(in crate::lab) fn keep(&self, message: Received) {
        let count = {
            let mut inbox = locked(&self.inbox);
            inbox.push(message);
            inbox.len()
        };
        self.arrivals.send_replace(count);
    }
    /// The messages accepted so far.
    pub(in crate::lab) fn messages(&self) -> Vec<Received> {
        locked(&self.inbox).clone()
    }

    /// Tells how many messages there are, each time one has come.
    pub(in crate::lab) fn arrivals(&self) -> watch::Receiver<usize> {
        self.arrivals.subscribe()
    }

    pub(in crate::lab) fn seen(&self) -> Vec<SeenCommand> {
        locked(&self.seen).clone()
    }

    pub(in crate::lab) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(in crate::lab) fn handshakes_failed(&self) -> usize {
        self.handshakes_failed.load(Ordering::SeqCst)
    }
}
