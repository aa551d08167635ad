//! Posts reports (RFC 8460 §5.4): one request to the host that a stranger names, within one deadline.
//!
//! Any certificate will do, as RFC 8460 §3 allows: a report says nothing that its reader may not tell, and a broken
//! certificate is often what it is about. The host may lead where mail to strangers may, and nowhere else. What it
//! says beside its status is not read.

use super::post::{PostError, judge, request};
use super::uri::HttpsUrl;
use crate::clock::Clock;
use crate::config::DeliveryConfig;
use crate::deliver::{AddressPolicy, Loopback};
use crate::https::{HttpsClient, HttpsHost, HttpsTrust};
use crate::net::Network;
use crate::resolve::answer::Ask;
use bytes::Bytes;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a report may take, from the look-up to the status.
const DEADLINE: Duration = Duration::from_secs(60);

/// Whoever posts reports.
pub struct ReportPoster {
    client: HttpsClient,
    network: Arc<dyn Network>,
    this_host: Loopback,
    allowed: AddressPolicy,
    deadline: Duration,
}

impl ReportPoster {
    /// Under what the operator allows strangers' names to lead to.
    ///
    /// # Errors
    /// [`PostError::Unreachable`] when the TLS library refuses its own defaults.
    pub fn new(delivery: &DeliveryConfig, network: Arc<dyn Network>, clock: &Clock) -> Result<Self, PostError> {
        let client = HttpsClient::new(HttpsTrust::Anybody, Arc::clone(&network), clock)
            .map_err(|detail| PostError::Unreachable { detail })?;
        let this_host = if delivery.allow_loopback { Loopback::Allowed } else { Loopback::Refused };
        let allowed = AddressPolicy::Outward { this_host, private: delivery.allow_private.clone() };
        Ok(Self { client, network, this_host, allowed, deadline: DEADLINE })
    }

    /// Hands a packed report in; once this is `Ok`, somebody has it.
    ///
    /// # Errors
    /// [`PostError`]: nobody is known to have it.
    pub async fn post(&self, dns: &dyn Ask, url: &HttpsUrl, packed: Bytes) -> Result<(), PostError> {
        let posting = Box::pin(async {
            let request = request(url, packed)?;
            let host = HttpsHost { name: url.host().as_str(), port: url.port() };
            let connection = self.client.connect(dns, host, |address| self.may_lead_to(address)).await?;
            judge(connection.send(request).await?.response.status())
        });
        let late = PostError::TimedOut { seconds: self.deadline.as_secs() };
        timeout(self.deadline, posting).await.unwrap_or(Err(late))
    }

    /// A name must not make the relay talk to what listens for this machine or its networks alone.
    fn may_lead_to(&self, address: IpAddr) -> bool {
        let is_own = || self.this_host == Loopback::Refused && self.network.is_own(address);
        self.allowed.allows(address) && !is_own()
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
