//! How many connections may be open at once (RFC 5321 §4.5.4.1 asks senders to limit them), and
//! how many messages may wait for one.

use crate::route::NextHop;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Messages that wait at one next hop, for each connection it may have: enough to keep the
/// connections busy while those that were sent away come back.
const LINE_PER_CONNECTION: usize = 10;

/// How long a message that is sent away stays away. Where many are, each line full of them stays
/// away for one such time more, so that they come back as they can be taken.
const TURN: Duration = Duration::from_secs(1);

/// The longest of these times.
const MOST_TURNS: u32 = 60;

/// At most so many connections to one next hop at once, and so many to all of them: a message
/// for a thousand domains must not open a thousand.
///
/// Counted are those at work. A connection that waits for its next message holds no place: it
/// had one a moment ago, and who enters takes it before opening another. See
/// [`crate::deliver::pool`] for what bounds them.
pub(super) struct HopLimits {
    most: usize,
    all: Arc<Semaphore>,
    hops: Mutex<BTreeMap<NextHop, Hop>>,
}

struct Hop {
    places: Arc<Semaphore>,
    /// Who waits, and who is in.
    line: Arc<Semaphore>,
    /// Sent away since the line was last empty.
    sent_away: usize,
}

/// A place at a next hop, held while it is used.
pub(super) struct HopSlot {
    _at_hop: OwnedSemaphorePermit,
    among_all: OwnedSemaphorePermit,
    _in_line: OwnedSemaphorePermit,
}

/// What is left of a place when the server has been left: one among all of what is under way.
pub(super) struct Unrecorded {
    _among_all: OwnedSemaphorePermit,
}

impl HopSlot {
    /// Makes room at the next hop. The rest is held until what was delivered is recorded: that
    /// bounds what a crash can deliver twice.
    pub(super) fn leave(self) -> Unrecorded {
        Unrecorded { _among_all: self.among_all }
    }
}

/// What comes of asking for a place.
pub(super) enum Entry {
    /// Come in.
    Place(HopSlot),
    /// Too many wait already: come again after this time.
    Busy(Duration),
}

impl HopLimits {
    /// Limits every next hop to `most`, and all together to `all`.
    pub(super) fn new(most: usize, all: usize) -> Self {
        Self { most, all: Arc::new(Semaphore::new(all)), hops: Mutex::new(BTreeMap::new()) }
    }

    /// Waits for a place, unless too many do. The narrow door first, so that nobody who waits at
    /// it holds a place that others could use.
    pub(super) async fn enter(&self, hop: &NextHop) -> Entry {
        let (in_line, places) = match self.join_line(hop) {
            Ok(joined) => joined,
            Err(pause) => return Entry::Busy(pause),
        };
        let Ok(at_hop) = places.acquire_owned().await else { return Entry::Busy(TURN) };
        let Ok(among_all) = Arc::clone(&self.all).acquire_owned().await else { return Entry::Busy(TURN) };
        Entry::Place(HopSlot { _at_hop: at_hop, among_all, _in_line: in_line })
    }

    fn join_line(&self, hop: &NextHop) -> Result<(OwnedSemaphorePermit, Arc<Semaphore>), Duration> {
        let length = self.most.saturating_mul(LINE_PER_CONNECTION + 1);
        let mut hops = self.hops.lock().unwrap_or_else(PoisonError::into_inner);
        // A next hop that nobody is at or waits for is at rest and can be made again.
        hops.retain(|_, hop| hop.line.available_permits() < length);
        let hop = hops.entry(hop.clone()).or_insert_with(|| Hop {
            places: Arc::new(Semaphore::new(self.most)),
            line: Arc::new(Semaphore::new(length)),
            sent_away: 0,
        });
        match Arc::clone(&hop.line).try_acquire_owned() {
            Ok(in_line) => Ok((in_line, Arc::clone(&hop.places))),
            Err(_full) => {
                hop.sent_away += 1;
                let turns = u32::try_from(hop.sent_away / length).unwrap_or(MOST_TURNS);
                Err(TURN.saturating_mul(turns.saturating_add(1).min(MOST_TURNS)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_finds_the_line_full_is_sent_away_and_others_are_not() {
        let limits = Arc::new(HopLimits::new(1, 10));
        let slow = NextHop::Domain("slow.example".parse().unwrap());
        let Entry::Place(place) = limits.enter(&slow).await else { panic!("the first finds a place") };
        let waiting: Vec<_> = (0..LINE_PER_CONNECTION)
            .map(|_| {
                let (limits, slow) = (Arc::clone(&limits), slow.clone());
                tokio::spawn(async move { matches!(limits.enter(&slow).await, Entry::Place(_)) })
            })
            .collect();
        tokio::task::yield_now().await;
        let mut pauses = Vec::new();
        for _ in 0..30 {
            let Entry::Busy(pause) = limits.enter(&slow).await else { panic!("the line is full") };
            pauses.push(pause.as_secs());
        }
        assert_eq!((pauses[0], pauses[29]), (1, 3), "they do not all come back at once");
        let other = NextHop::Domain("other.example".parse().unwrap());
        assert!(matches!(limits.enter(&other).await, Entry::Place(_)));
        drop(place);
        for waited in waiting {
            assert!(waited.await.unwrap());
        }
        assert!(matches!(limits.enter(&slow).await, Entry::Place(_)));
    }
}
