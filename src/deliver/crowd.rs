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
        // The host that was met longest ago makes room: it is learnt again at the cost of one attempt, while
        // a thousand names of strangers must not keep anything from being learnt for a day.
        let oldest = all.iter().min_by_key(|(_, kept)| kept.until).map(|(name, _)| name.clone());
        if all.len() >= MOST_HOSTS
            && let Some(oldest) = oldest
        {
            all.remove(&oldest);
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
    fn the_names_of_strangers_fill_no_memory_and_keep_nothing_from_being_learnt() {
        let crowds = Crowds::default();
        let stranger = |n: i64| format!("mx{n}.example");
        let many = i64::try_from(MOST_HOSTS).unwrap();
        (0..many).for_each(|n| crowds.bore(&stranger(n), 1, Timestamp(n)));
        let now = Timestamp(many);
        crowds.bore("mx.partner.example", 20, now);
        crowds.knows_no_chunks("mx.partner.example", now);
        assert_eq!(crowds.most("mx.partner.example", now), Some(20));
        assert_eq!(crowds.transfer("mx.partner.example", now), Transfer::Data);
        assert_eq!((crowds.most(&stranger(0), now), crowds.most(&stranger(1), now)), (None, Some(1)));
        assert_eq!(crowds.recipients.lock().unwrap().len(), MOST_HOSTS);
        let a_day_later = Timestamp(2 * 86_400_000);
        crowds.bore("mx.partner.example", 5, a_day_later);
        (0..2).for_each(|n| crowds.bore(&stranger(n), 1, a_day_later));
        assert_eq!(crowds.recipients.lock().unwrap().len(), 3, "those of yesterday made room");
    }
}
