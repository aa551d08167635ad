//! `relay setup`: what an operator answers, and what follows from it: the configuration, the records to
//! publish, and the commands for Exchange. Pure; whoever asks, looks and writes is `cli/setup/`.

pub mod exchange;
pub mod file;
pub mod records;

use crate::config::Upstream;
use crate::smtp::address::{Domain, Mailbox};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupAnswers {
    /// The name that other servers see.
    pub hostname: Domain,
    /// Who is told when a report is lost.
    pub postmaster: Mailbox,
    /// Where Exchange hands mail in.
    pub listen: Vec<SocketAddr>,
    /// Who may hand mail in: the addresses of the Exchange servers, or their networks.
    pub exchange: Vec<IpNet>,
    /// The domains of the senders, to which reports go back.
    pub sender_domains: Vec<Domain>,
    /// The certificate of the listener; the relay makes one where there is none.
    pub certificate: Option<CertificateFiles>,
    /// Where accepted mail lives.
    pub spool: PathBuf,
    /// The ways to the DNS; the defaults where there is none.
    pub upstreams: Vec<Upstream>,
    /// A file of trust anchors in place of the built-in ones.
    pub trust_anchors: Option<PathBuf>,
    /// The addresses that mail leaves from as others see them; none where this host is to find out.
    pub egress: Vec<IpAddr>,
    /// Mail hosts of others, to see whether port 25 is open.
    pub controls: Vec<Domain>,
    /// The recipient domain with which the change begins.
    pub pilot: Domain,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the host's own certificate first.
    pub chain: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl SetupAnswers {
    /// The Exchange servers that are named one by one: reports can be sent to these.
    pub fn single_hosts(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.exchange.iter().filter(|network| network.prefix_len() == network.max_prefix_len()).map(IpNet::addr)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A usual office.
    pub(in crate::command::setup) fn answers() -> SetupAnswers {
        SetupAnswers {
            hostname: "relay.example.org".parse().unwrap(),
            postmaster: "postmaster@example.org".parse().unwrap(),
            listen: vec!["0.0.0.0:25".parse().unwrap()],
            exchange: vec!["192.0.2.10/32".parse().unwrap(), "2001:db8::10/128".parse().unwrap()],
            sender_domains: vec!["example.org".parse().unwrap(), "example.net".parse().unwrap()],
            certificate: None,
            spool: "/var/lib/relay".into(),
            upstreams: Vec::new(),
            trust_anchors: None,
            egress: Vec::new(),
            controls: Vec::new(),
            pilot: "partner.example".parse().unwrap(),
        }
    }
}
