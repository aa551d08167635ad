//! A lab that binds nothing: its hosts are found by their addresses and served by any stream
//! (RFC 5321 §4.5.4.1).
//!
//! That is for simulations in virtual time. Whoever connects for them decides what a block or a
//! host that is down means; what is said on a connection is the same as by a socket.

use super::mx::MxHost;
use super::policy_host::PolicyHost;
use super::{Lab, LabBuilder, Prepared, Presence, SMTP_PORT};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

/// Whether servers can be reached by sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sockets {
    #[default]
    Bound,
    None,
}

/// A host of the lab at an address.
#[derive(Clone, Copy, Debug)]
pub enum HostAt<'a> {
    /// Takes mail.
    Mx(&'a MxHost),
    /// Has a policy.
    Policy(&'a PolicyHost),
}

impl LabBuilder {
    /// Binds nothing: for a simulation, which reaches the hosts by [`Lab::host_at`] and the DNS by
    /// [`super::dns::DnsServer::fetch`]. Addresses and ports are the same each time.
    #[must_use]
    pub fn without_sockets(mut self) -> Self {
        self.sockets = Sockets::None;
        self
    }
}

impl Lab {
    /// Who is at an address: an MX host that is up, or a policy host. Whether it is blocked or
    /// switched off is its own to say.
    #[must_use]
    pub fn host_at(&self, address: SocketAddr) -> Option<HostAt<'_>> {
        let mx = self.hosts().find(|host| host.address() == address).map(HostAt::Mx);
        mx.or_else(|| self.policies.host_at(address).map(HostAt::Policy))
    }
}

pub(super) fn hosts_without_sockets(hosts: &[Prepared<'_>]) -> io::Result<BTreeMap<String, MxHost>> {
    let up = hosts.iter().filter(|host| host.spec.presence == Presence::Up);
    let made = up.map(|host| {
        let address = SocketAddr::from((host.address, SMTP_PORT));
        Ok((host.key.clone(), MxHost::without_socket(&host.spec.name, address, host.behaviour()?)))
    });
    made.collect()
}
