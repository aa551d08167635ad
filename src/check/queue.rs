//! What waits in the queue: one look at the ledger of the spool, which is only read.
//!
//! The spool may belong to a running relay or not be there at all; then there is nothing to say.

use super::evidence::Queue;
use super::{CheckReport, Checker};
use crate::config::SpoolConfig;
use crate::smtp::address::Domain;
use crate::spool::ledger::{LedgerMessage, Listed};
use crate::spool::open_ledger;
use futures_util::stream::{self, StreamExt as _};
use std::collections::BTreeMap;

/// Messages that are looked at, the oldest first: enough to say "many" within a second.
const MESSAGES_LIMIT: u64 = 100_000;

/// Domains of the queue that are checked at once; whoever has more has one cause for many.
const QUEUED_LIMIT: usize = 200;
/// Checks side by side: each holds a handful of connections.
const SIDE_BY_SIDE: usize = 16;

impl Checker {
    /// The domains that mail waits for, most messages first.
    pub async fn queued(&self) -> Vec<Domain> {
        domains(&self.out.config.spool, QUEUED_LIMIT).await
    }

    /// Checks many domains side by side; the reports stand in the order of the domains.
    pub async fn check_all(&self, domains: &[Domain]) -> Vec<CheckReport> {
        stream::iter(domains).map(|domain| self.check(domain)).buffered(SIDE_BY_SIDE).collect().await
    }
}

/// Messages with a recipient of the domain that still waits; none when it cannot be found out.
pub(super) async fn waiting(spool: &SpoolConfig, domain: &Domain) -> Option<Queue> {
    read(spool, Queue::default(), |queue, message| {
        let ours = || message.waiting().filter(|recipient| domain_of(&recipient.address).as_ref() == Some(domain));
        if ours().next().is_some() {
            queue.messages += 1;
            let met = ours().filter_map(|recipient| recipient.state.pending()?.last.as_ref());
            // The newest message has the latest word.
            if let Some(cause) = met.filter(|cause| !cause.is_of_the_host()).last() {
                queue.refused = Some(cause.clone());
            }
            let at = message.envelope.accepted_at;
            queue.oldest = Some(queue.oldest.map_or(at, |oldest| oldest.min(at)));
        }
    })
    .await
}

/// The domains of all recipients that wait, those with most messages first; at most `most`.
async fn domains(spool: &SpoolConfig, most: usize) -> Vec<Domain> {
    let counted = read(spool, BTreeMap::<String, (u64, Domain)>::new(), |counts, message| {
        for domain in message.waiting().filter_map(|recipient| domain_of(&recipient.address)) {
            counts.entry(domain.to_string()).or_insert((0, domain)).0 += 1;
        }
    });
    let mut counted: Vec<(u64, Domain)> = counted.await.unwrap_or_default().into_values().collect();
    counted.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    counted.into_iter().take(most).map(|(_, domain)| domain).collect()
}

/// Goes through what waits.
async fn read<T: Send>(
    spool: &SpoolConfig,
    mut found: T,
    mut each: impl FnMut(&mut T, &LedgerMessage) + Send,
) -> Option<T> {
    let mut listing = open_ledger(spool).await.ok()?.waiting().await.ok()?;
    for _ in 0..MESSAGES_LIMIT {
        match listing.next().await.ok()? {
            None => break,
            Some(Listed::Message(message)) => each(&mut found, &message),
            Some(Listed::Unreadable) => {}
        }
    }
    Some(found)
}

/// None for an address literal, which no check is about.
fn domain_of(address: &str) -> Option<Domain> {
    address.rsplit_once('@').and_then(|(_, domain)| domain.parse().ok())
}
