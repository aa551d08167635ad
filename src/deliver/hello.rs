//! Which key exchange a ClientHello offers, and with it how large it is (RFC 8446 §4.2.8).
//!
//! The first one brings a share of X25519MLKEM768, which keeps what is said today from whoever records it
//! and has a quantum computer later. That makes it larger than a TCP segment, and some boxes on the path
//! lose it. So where it meets silence or the end of the connection, a small one follows at once on a fresh
//! connection, with X25519 alone in front; and a host that answered the small one alone gets it first for
//! a while.

use crate::clock::Timestamp;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a host gets the small one first. Boxes are replaced now and then; finding out costs one
/// handshake.
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);
/// Hosts that are remembered; beyond it the oldest memory goes.
const MOST_HOSTS: usize = 10_000;
/// How long the large one waits for an answer before the small one follows. The small one has the whole
/// patience of a handshake.
pub(super) const LARGE_PATIENCE: Duration = Duration::from_secs(10);

/// How large a ClientHello is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HelloSize {
    /// With a post-quantum share: above one TCP segment.
    Large,
    /// Without: in one segment.
    Small,
}

/// What became of the large one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LargeHello {
    /// Nothing is known against it.
    #[default]
    Fine,
    /// It met silence or the end of the connection, and the small one was answered.
    Lost,
}

/// The cryptography of both.
#[derive(Clone, Debug)]
pub(crate) struct Providers {
    large: Arc<CryptoProvider>,
    small: Arc<CryptoProvider>,
}

impl Providers {
    /// With all cipher suites of the library.
    #[must_use]
    pub(crate) fn new() -> Self {
        let usual: [&'static dyn SupportedKxGroup; 3] = [kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
        let provider = |groups| Arc::new(CryptoProvider { kx_groups: groups, ..default_provider() });
        let with_post_quantum = std::iter::once(kx_group::X25519MLKEM768).chain(usual).collect();
        Self { large: provider(with_post_quantum), small: provider(usual.to_vec()) }
    }

    /// That of one of them.
    #[must_use]
    pub(crate) const fn of(&self, hello: HelloSize) -> &Arc<CryptoProvider> {
        match hello {
            HelloSize::Large => &self.large,
            HelloSize::Small => &self.small,
        }
    }
}

impl Default for Providers {
    fn default() -> Self {
        Self::new()
    }
}

/// The hosts that get the small one first.
#[derive(Debug, Default)]
pub(crate) struct SmallFirst {
    since: Mutex<BTreeMap<IpAddr, Timestamp>>,
}

impl SmallFirst {
    /// Which one a host gets first.
    #[must_use]
    pub(crate) fn hello(&self, address: IpAddr, now: Timestamp) -> HelloSize {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner).get(&address).copied();
        // A clock that was set back forgets.
        match since.filter(|since| now >= *since && now.since(*since) < REMEMBERED_FOR) {
            Some(_) => HelloSize::Small,
            None => HelloSize::Large,
        }
    }

    /// A host answered the small one and not the large one.
    pub(crate) fn lost_large(&self, address: IpAddr, now: Timestamp) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.len() >= MOST_HOSTS && !since.contains_key(&address) {
            let oldest = since.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address);
            oldest.and_then(|address| since.remove(&address));
        }
        since.insert(address, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::NamedGroup;

    #[test]
    fn the_large_hello_offers_a_post_quantum_exchange_first_and_the_small_one_none() {
        let groups = |hello| Providers::new().of(hello).kx_groups.iter().map(|group| group.name()).collect::<Vec<_>>();
        assert_eq!(groups(HelloSize::Large)[..2], [NamedGroup::X25519MLKEM768, NamedGroup::X25519]);
        assert_eq!(groups(HelloSize::Small), [NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1]);
    }

    #[test]
    fn a_host_that_lost_the_large_one_gets_the_small_one_first_for_a_while() {
        let (memory, host, other) = (SmallFirst::default(), IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let at = |seconds| Timestamp(1_000_000).plus(Duration::from_secs(seconds));
        assert_eq!(memory.hello(host, at(0)), HelloSize::Large);
        memory.lost_large(host, at(0));
        assert_eq!((memory.hello(host, at(3599)), memory.hello(other, at(1))), (HelloSize::Small, HelloSize::Large));
        assert_eq!(memory.hello(host, at(3600)), HelloSize::Large, "it is tried again");
        assert_eq!(memory.hello(host, Timestamp(0)), HelloSize::Large, "a clock that was set back");
    }

    #[test]
    fn the_memory_is_bounded() {
        let memory = SmallFirst::default();
        for n in 0..=u32::try_from(MOST_HOSTS).unwrap() {
            memory.lost_large(IpAddr::from(n.to_be_bytes()), Timestamp(i64::from(n)));
        }
        assert_eq!(memory.since.lock().unwrap().len(), MOST_HOSTS);
        assert_eq!(memory.hello(IpAddr::from([0, 0, 0, 0]), Timestamp(0)), HelloSize::Large, "the oldest is gone");
    }
}
