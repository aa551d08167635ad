//! Next hops of a list that have just failed: asked last for a while (RFC 5321 §4.5.4.1).
//!
//! Pure; the pipeline holds one behind a lock. When the while is over, one message tries the host and
//! the others go on without it, until it is known to work: so nobody else waits for a host that is
//! still silent, and mail is back at the first host within a minute of its recovery. Lives in memory
//! alone. Bounded by the configuration: only next hops of lists come here.

use crate::clock::Timestamp;
use crate::outcome::DeliveryOutcome;
use crate::route::NextHop;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a host that has failed is asked last. With the time that one attempt to connect may take
/// (30 s) it stays below a minute.
const ASKED_LAST_FOR: Duration = Duration::from_secs(20);

/// Which next hops have failed, and until when they are asked last.
#[derive(Debug, Default)]
pub(super) struct Failover {
    failed: BTreeMap<NextHop, Timestamp>,
}

/// How a next hop of a list stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HopStanding {
    /// Nothing is known against it.
    Well,
    /// It has just failed, and is better asked last.
    AskedLast,
    /// Its while is over. Whoever hears this tries it for all, whatever else is remembered of its servers.
    TriedForAll,
}

impl Failover {
    /// How a next hop stands.
    pub(super) fn standing(&mut self, hop: &NextHop, now: Timestamp) -> HopStanding {
        let Some(until) = self.failed.get_mut(hop) else { return HopStanding::Well };
        // A clock that was set back must not make the while longer.
        if now < *until && until.since(now) <= ASKED_LAST_FOR {
            return HopStanding::AskedLast;
        }
        *until = now.plus(ASKED_LAST_FOR);
        HopStanding::TriedForAll
    }

    /// Takes in what an attempt at one next hop came to; nothing, where none of its servers was asked.
    pub(super) fn tried<'a>(
        &mut self,
        hop: &NextHop,
        outcomes: impl Iterator<Item = &'a DeliveryOutcome>,
        now: Timestamp,
    ) {
        let mut outcomes = outcomes.peekable();
        if outcomes.peek().is_none() {
            return;
        }
        if outcomes.all(is_of_the_host) {
            self.failed.insert(hop.clone(), now.plus(ASKED_LAST_FOR));
        } else {
            self.failed.remove(hop);
        }
    }
}

/// Whether an outcome says nothing about a recipient.
fn is_of_the_host(outcome: &DeliveryOutcome) -> bool {
    matches!(outcome, DeliveryOutcome::Failed { cause } if cause.is_of_the_host())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Cause, Peer, Phase};
    use crate::smtp::reply::Reply;

    const START: Timestamp = Timestamp(1_000_000);

    fn hop() -> NextHop {
        NextHop::Host { name: "a.test".parse().unwrap(), port: 25 }
    }

    fn peer() -> Peer {
        Peer { host: "a.test".into(), address: "192.0.2.1:25".parse().unwrap() }
    }

    fn refused() -> DeliveryOutcome {
        DeliveryOutcome::Failed { cause: Cause::ConnectFailed { peer: peer(), detail: "refused".into() } }
    }

    fn after(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_host_that_failed_is_asked_last_until_one_message_has_found_it_well() {
        let mut failover = Failover::default();
        assert_eq!(failover.standing(&hop(), START), HopStanding::Well);
        failover.tried(&hop(), [refused()].iter(), START);
        assert_eq!(failover.standing(&hop(), after(19)), HopStanding::AskedLast);
        failover.tried(&hop(), [].iter(), after(19));
        assert_eq!(failover.standing(&hop(), after(19)), HopStanding::AskedLast, "nobody was asked");
        assert_eq!(failover.standing(&hop(), after(20)), HopStanding::TriedForAll, "one tries it");
        assert_eq!(failover.standing(&hop(), after(21)), HopStanding::AskedLast, "and the others do not wait for that");
        failover.tried(&hop(), [refused()].iter(), after(30));
        assert_eq!(failover.standing(&hop(), after(49)), HopStanding::AskedLast);
        assert_eq!(failover.standing(&hop(), after(50)), HopStanding::TriedForAll);
        let reply = Reply::plain(550, "no such user");
        let answered = DeliveryOutcome::Failed { cause: Cause::Rejected { peer: peer(), phase: Phase::RcptTo, reply } };
        failover.tried(&hop(), [answered, refused()].iter(), after(51));
        assert_eq!(failover.standing(&hop(), after(52)), HopStanding::Well, "it speaks");
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nobody_from_a_host() {
        let mut failover = Failover::default();
        failover.tried(&hop(), [refused()].iter(), after(1000));
        assert_eq!(failover.standing(&hop(), START), HopStanding::TriedForAll);
    }
}
