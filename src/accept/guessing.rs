//! Who has guessed passwords too often, by address and by name (RFC 4954 §9 leaves that to us).
//!
//! An attempt counts as failed from its beginning, so that many at once are no way round; the right password
//! takes it back. An address that fails too often gets no answer for a while. A name under attack is closed to
//! addresses that have never proven to be that user, so that nobody can lock a user out from elsewhere.

use super::remembered::make_room;
use crate::clock::Timestamp;
use crate::config::counted_client;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// How long failures are remembered, from the last one on, in milliseconds.
const MEMORY_MS: i64 = 15 * 60_000;
/// So many failures close an address: whoever has forgotten a password needs fewer.
const FAILURES_OF_ADDRESS: u32 = 10;
/// So many failures from anywhere close a name to strangers.
const FAILURES_OF_NAME: u32 = 20;
/// How long an address stays known as that of a user, in milliseconds.
const KNOWN_MS: i64 = 30 * 86_400_000;
/// The most addresses, names and pairs that are remembered; the oldest go.
const MOST_REMEMBERED: usize = 10_000;
/// So much of a name is remembered, in characters: users have shorter ones, and strangers say what they like.
const NAME_LENGTH: usize = 256;
/// Each failure of an address makes its next answer wait longer, by so much.
const DELAY_STEP: Duration = Duration::from_millis(500);
/// The longest wait: a client must not take the relay for dead.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Guessing {
    addresses: BTreeMap<IpAddr, Failures>,
    names: BTreeMap<String, Failures>,
    /// Which addresses have proven to be which user, and when last.
    known: BTreeMap<(IpAddr, String), Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    number: u32,
    last: Timestamp,
}

/// What an attempt may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuessAttempt {
    /// It is looked at; a wrong password is answered after this time.
    LookedAt {
        /// From the wrong password to its answer.
        delay_if_wrong: Duration,
    },
    /// Nothing is looked at: too many have failed.
    LockedOut,
}

impl Guessing {
    /// Somebody at `client` says to be `name`.
    pub(super) fn attempt(&mut self, client: IpAddr, name: &str, now: Timestamp) -> GuessAttempt {
        let (client, name) = (counted_client(client), remembered_name(name));
        let so_far = |failures: Option<&Failures>| failures.filter(|f| is_fresh(f.last, now)).map_or(0, |f| f.number);
        let (of_address, of_name) = (so_far(self.addresses.get(&client)), so_far(self.names.get(&name)));
        let is_known = self.known.contains_key(&(client, name.clone()));
        if of_address >= FAILURES_OF_ADDRESS || of_name >= FAILURES_OF_NAME && !is_known {
            return GuessAttempt::LockedOut;
        }
        make_room(&mut self.addresses, MOST_REMEMBERED, |failures| failures.last);
        make_room(&mut self.names, MOST_REMEMBERED, |failures| failures.last);
        self.addresses.insert(client, Failures { number: of_address + 1, last: now });
        self.names.insert(name, Failures { number: of_name + 1, last: now });
        GuessAttempt::LookedAt { delay_if_wrong: (DELAY_STEP * (of_address + 1)).min(LONGEST_DELAY) }
    }

    /// It was the right password.
    pub(super) fn was_right(&mut self, client: IpAddr, name: &str, now: Timestamp) {
        let (client, name) = (counted_client(client), remembered_name(name));
        take_back(self.addresses.get_mut(&client));
        take_back(self.names.get_mut(&name));
        self.known.retain(|_, last| now.0.saturating_sub(last.0) < KNOWN_MS);
        make_room(&mut self.known, MOST_REMEMBERED, |last| *last);
        self.known.insert((client, name), now);
    }
}

fn remembered_name(name: &str) -> String {
    name.chars().take(NAME_LENGTH).flat_map(char::to_lowercase).collect()
}

fn take_back(failures: Option<&mut Failures>) {
    if let Some(failures) = failures {
        failures.number = failures.number.saturating_sub(1);
    }
}

const fn is_fresh(last: Timestamp, now: Timestamp) -> bool {
    now.0.saturating_sub(last.0) < MEMORY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_261_468_000);
    const LATER: Timestamp = Timestamp(NOW.0 + MEMORY_MS);

    fn client(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn wrong(guessing: &mut Guessing, from: IpAddr, name: &str, times: u32) -> u32 {
        let looked_at = (0..times).filter(|_| guessing.attempt(from, name, NOW) != GuessAttempt::LockedOut);
        u32::try_from(looked_at.count()).unwrap()
    }

    #[test]
    fn an_address_that_fails_too_often_is_locked_out_for_a_while_and_no_other_is() {
        let mut guessing = Guessing::default();
        let tried = (0..50).map(|n| wrong(&mut guessing, client(1), &format!("user{n}"), 1)).sum::<u32>();
        assert_eq!(tried, FAILURES_OF_ADDRESS);
        assert_ne!(guessing.attempt(client(2), "user0", NOW), GuessAttempt::LockedOut);
        assert_ne!(guessing.attempt(client(1), "user0", LATER), GuessAttempt::LockedOut, "it is forgotten");
        let one_network = ["2001:db8::1", "2001:db8::ffff:2"].map(|a| a.parse::<IpAddr>().unwrap());
        assert_eq!(wrong(&mut guessing, one_network[0], "a", 20), FAILURES_OF_ADDRESS);
        assert_eq!(guessing.attempt(one_network[1], "b", NOW), GuessAttempt::LockedOut);
        assert_ne!(guessing.attempt("2001:db8:0:1::1".parse().unwrap(), "b", NOW), GuessAttempt::LockedOut);
    }

    #[test]
    fn of_an_endless_name_the_beginning_is_remembered() {
        let mut guessing = Guessing::default();
        wrong(&mut guessing, client(1), &"x".repeat(100_000), 1);
        assert!(guessing.names.keys().all(|name| name.len() == NAME_LENGTH));
    }

    #[test]
    fn a_name_under_attack_is_closed_to_strangers_and_stays_open_to_its_user() {
        let mut guessing = Guessing::default();
        assert_ne!(guessing.attempt(client(250), "Bob", NOW), GuessAttempt::LockedOut);
        guessing.was_right(client(250), "bob", NOW);
        let tried = (1..50).map(|n| wrong(&mut guessing, client(n), "bob", 1)).sum::<u32>();
        assert_eq!(tried, FAILURES_OF_NAME);
        assert_ne!(guessing.attempt(client(250), "bob", NOW), GuessAttempt::LockedOut);
        assert_ne!(guessing.attempt(client(1), "alice", NOW), GuessAttempt::LockedOut);
    }

    #[test]
    fn the_right_password_leaves_nothing_behind_and_does_not_clean_what_was() {
        let mut guessing = Guessing::default();
        for _ in 0..100 {
            assert_ne!(guessing.attempt(client(1), "bob", NOW), GuessAttempt::LockedOut);
            guessing.was_right(client(1), "bob", NOW);
        }
        wrong(&mut guessing, client(1), "alice", 9);
        guessing.attempt(client(1), "bob", NOW);
        guessing.was_right(client(1), "bob", NOW);
        assert_eq!(wrong(&mut guessing, client(1), "alice", 9), 1, "a user of ours may guess no more than others");
    }

    #[test]
    fn failures_are_answered_later_and_later_and_memory_is_bounded() {
        let mut guessing = Guessing::default();
        let delay = |attempt| match attempt {
            GuessAttempt::LookedAt { delay_if_wrong } => delay_if_wrong,
            GuessAttempt::LockedOut => panic!("locked out"),
        };
        let delays: Vec<Duration> = (0..10).map(|_| delay(guessing.attempt(client(1), "bob", NOW))).collect();
        assert!(delays.is_sorted() && delays[0] < delays[9] && delays[9] <= LONGEST_DELAY, "{delays:?}");
        for n in 0..20_000_u32 {
            guessing.attempt(IpAddr::from(n.to_be_bytes()), &n.to_string(), NOW);
        }
        assert!(guessing.addresses.len() <= MOST_REMEMBERED && guessing.names.len() <= MOST_REMEMBERED);
    }
}
