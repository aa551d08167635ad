//! What a server bears less of than it says: recipients at a time, where it closed the connection over
//! one more (RFC 5321 §3.8, §4.5.3.1.10), and chunks, where it offers them and does not know them
//! (RFC 3030).
//!
//! Pure. Such a server is spared that for a day.

use super::session::Transfer;
use crate::clock::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long it is kept in mind.
const KEPT_FOR: Duration = Duration::from_secs(86_400);
/// Hosts that are kept in mind.
const MOST_HOSTS: usize = 1000;

/// What is known, by the name of the host.
#[derive(Debug, Default)]
pub(super) struct Crowds {
    recipients: Mutex<BTreeMap<String, HostMemory<u32>>>,
    no_chunks: Mutex<BTreeMap<String, HostMemory<()>>>,
}

#[derive(Clone, Copy, Debug)]
struct HostMemory<T> {
    value: T,
    until: Timestamp,
}

impl Crowds {
    /// A host took so many recipients before it closed.
    pub(super) fn bore(&self, host: &str, recipients: u32, now: Timestamp) {
        keep(&self.recipients, host, recipients, now);
    }

    /// The most recipients for a host at a time, where that is known.
    pub(super) fn most(&self, host: &str, now: Timestamp) -> Option<u32> {
        kept(&self.recipients, host, now)
    }

    /// A host offers chunks and refuses the command.
    pub(super) fn knows_no_chunks(&self, host: &str, now: Timestamp) {
        keep(&self.no_chunks, host, (), now);
    }

    /// How content goes to a host.
    pub(super) fn transfer(&self, host: &str, now: Timestamp) -> Transfer {
        kept(&self.no_chunks, host, now).map_or(Transfer::ChunksWhereOffered, |()| Transfer::Data)
    }
}

fn keep<T>(all: &Mutex<BTreeMap<String, HostMemory<T>>>, host: &str, value: T, now: Timestamp) {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() >= MOST_HOSTS && !all.contains_key(host) {
        all.retain(|_, kept| kept.until > now);
        if all.len() >= MOST_HOSTS {
            return;
        }
    }
    all.insert(host.to_owned(), HostMemory { value, until: now.plus(KEPT_FOR) });
}

fn kept<T: Copy>(all: &Mutex<BTreeMap<String, HostMemory<T>>>, host: &str, now: Timestamp) -> Option<T> {
    let all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.get(host).filter(|kept| kept.until > now).map(|kept| kept.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_for_a_day_and_the_newest_number_counts() {
        let crowds = Crowds::default();
        crowds.bore("mx.example", 20, Timestamp(0));
        crowds.bore("mx.example", 5, Timestamp(1));
        assert_eq!(crowds.most("mx.example", Timestamp(86_400_000)), Some(5));
        assert_eq!(crowds.most("mx.example", Timestamp(86_400_001)), None);
        assert_eq!(crowds.most("other.example", Timestamp(2)), None);
    }

    #[test]
    fn no_more_hosts_than_the_limit_are_kept_and_old_ones_make_room() {
        let crowds = Crowds::default();
        let host = |n: usize| format!("mx{n}.example");
        (0..MOST_HOSTS + 5).for_each(|n| crowds.bore(&host(n), 1, Timestamp(0)));
        assert_eq!(crowds.most(&host(MOST_HOSTS), Timestamp(1)), None);
        crowds.bore(&host(MOST_HOSTS), 1, Timestamp(86_400_000));
        assert_eq!(crowds.most(&host(MOST_HOSTS), Timestamp(86_400_001)), Some(1));
        assert_eq!(crowds.recipients.lock().unwrap().len(), 1);
    }
}
