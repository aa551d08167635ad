//! What the client of MTA-STS tells the relays that share its spool, and what it takes over from them.

use super::driver::StsClient;
use super::memory::Held;
use super::shared;
use crate::smtp::address::Domain;
use crate::spool::findings::Finding;
use std::sync::{Arc, PoisonError};

impl StsClient {
    /// The policies that were fetched here since this was asked last, for whoever shares the spool.
    pub fn untold(&self) -> Vec<Finding> {
        self.inner.untold.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// All policies that are kept and have not expired, for whoever shares the spool.
    pub async fn all_to_tell(&self) -> Vec<Finding> {
        let (inner, now) = (Arc::clone(&self.inner), self.inner.clock.now());
        let told = tokio::task::spawn_blocking(move || {
            let (all, _told_when_it_is_used) = inner.store.all();
            let unexpired = |(_, held): (Domain, Held)| match held {
                Held::Policy(policy) if !policy.has_expired(now) => shared::finding(&policy),
                Held::Policy(_) | Held::Lost(_) | Held::Nothing => None,
            };
            all.into_iter().filter_map(unexpired).collect()
        });
        told.await.unwrap_or_default()
    }

    /// Keeps a policy that another relay has fetched, if it is younger than what is here.
    ///
    /// # Errors
    /// When it is none.
    pub async fn take_over(&self, heard: &Finding) -> Result<(), String> {
        let now = self.inner.clock.now();
        let policy = Arc::new(shared::policy(heard, now)?);
        if self.inner.enabled && !policy.has_expired(now) {
            self.inner.write(move |store| store.take_over(&policy, now)).await;
        }
        Ok(())
    }
}
