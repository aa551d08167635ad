//! All MTA-STS of a lab: the policy hosts on their common port, and the records that lead to them
//! (RFC 8461 §3.1, §3.3).
//!
//! Everything may change while the lab runs, as it does with real domains: the TXT record, the
//! policy, the certificate, and whether anyone answers.

use crate::lab::domain::DomainSpec;
use crate::lab::sockets::{Presence, Sockets, free_block};
use crate::lab::sts::host::PolicyHost;
use crate::lab::sts::spec::{StsSpec, host_of, txt, txt_owner};
use crate::lab::tls::ca::Authority;
use crate::lab::tls::certificate::Certificate;
use crate::lab::{HOST_LIMIT, Lab, PORT_ATTEMPTS, bad, locked};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, RecordType};
use rustls::ServerConfig;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

/// The port when there is no policy host: that of HTTPS.
const HTTPS_PORT: u16 = 443;

/// A domain's MTA-STS with what must be known before its host starts.
struct PreparedSts<'a> {
    domain: &'a str,
    spec: &'a StsSpec,
    config: Arc<ServerConfig>,
    address: Ipv4Addr,
}

/// The MTA-STS of all domains.
#[derive(Debug)]
pub(in crate::lab) struct Policies {
    port: u16,
    /// By domain.
    hosts: BTreeMap<String, PolicyHost>,
    specs: Mutex<BTreeMap<String, StsSpec>>,
    records: Vec<(String, RData)>,
}

impl Policies {
    /// Starts the policy hosts of all domains that have MTA-STS.
    pub(in crate::lab) async fn start(
        domains: &[DomainSpec],
        authority: &Authority,
        sockets: Sockets,
    ) -> io::Result<Self> {
        let described: Vec<_> = domains.iter().filter_map(|d| Some((d.name.as_str(), d.sts.as_ref()?))).collect();
        if described.len() > HOST_LIMIT {
            return Err(bad("more policy hosts than one lab can have"));
        }
        let block = free_block(sockets)?;
        let mut prepared = Vec::new();
        for ((domain, spec), nth) in described.into_iter().zip(1..) {
            let config = spec.certificate.identity(&spec.host(), authority)?.server_config()?;
            prepared.push(PreparedSts { domain, spec, config, address: Ipv4Addr::new(127, 2, block, nth) });
        }
        let mut records = Vec::new();
        for one in &prepared {
            records.push((one.spec.host(), RData::A(A(one.address))));
            records.extend(one.spec.records()?.into_iter().map(|record| (txt_owner(one.domain), record)));
        }
        let (port, hosts) = match sockets {
            Sockets::Bound => start_hosts(&prepared).await?,
            Sockets::None => (HTTPS_PORT, hosts_without_sockets(&prepared).await),
        };
        let specs = prepared.iter().map(|one| (one.domain.to_owned(), one.spec.clone())).collect();
        Ok(Self { port, hosts, specs: Mutex::new(specs), records })
    }

    /// The host at an address.
    pub(in crate::lab) fn host_at(&self, address: SocketAddr) -> Option<&PolicyHost> {
        self.hosts.values().find(|host| host.address() == address)
    }

    /// The records of the start: TXT, and the addresses of the policy hosts.
    pub(in crate::lab) fn records(&self) -> &[(String, RData)] {
        &self.records
    }
}

async fn hosts_without_sockets(prepared: &[PreparedSts<'_>]) -> BTreeMap<String, PolicyHost> {
    let mut hosts = BTreeMap::new();
    for one in prepared {
        let (config, answer) = (Arc::clone(&one.config), one.spec.whole_answer());
        let address = SocketAddr::from((one.address, HTTPS_PORT));
        let host = PolicyHost::without_socket(&one.spec.host(), address, config, answer);
        if one.spec.presence == Presence::Down {
            host.switch_off().await;
        }
        hosts.insert(one.domain.to_owned(), host);
    }
    hosts
}

/// All hosts listen on one port, as the real ones do; the first chooses it.
async fn start_hosts(prepared: &[PreparedSts<'_>]) -> io::Result<(u16, BTreeMap<String, PolicyHost>)> {
    let mut last = bad("no port");
    for _ in 0..PORT_ATTEMPTS {
        match start_on_one_port(prepared).await {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => last = e,
            done => return done,
        }
    }
    Err(last)
}

async fn start_on_one_port(prepared: &[PreparedSts<'_>]) -> io::Result<(u16, BTreeMap<String, PolicyHost>)> {
    let (mut port, mut hosts) = (0, BTreeMap::new());
    for one in prepared {
        let (config, answer) = (Arc::clone(&one.config), one.spec.whole_answer());
        let host = PolicyHost::start(&one.spec.host(), (one.address, port).into(), config, answer).await?;
        port = host.address().port();
        if one.spec.presence == Presence::Down {
            host.switch_off().await;
        }
        hosts.insert(one.domain.to_owned(), host);
    }
    Ok((if port == 0 { HTTPS_PORT } else { port }, hosts))
}

impl Lab {
    /// The port of all policy hosts.
    #[must_use]
    pub fn policy_port(&self) -> u16 {
        self.policies.port
    }

    /// The root of [`Lab::authority`] as PEM, for `[tls] roots`: it vouches for policy hosts, and
    /// for MX hosts with an issued certificate.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        self.authority.pem()
    }

    /// The policy host of a domain; it may be switched off.
    ///
    /// # Errors
    /// When the domain has no MTA-STS.
    pub fn policy_host(&self, domain: &str) -> io::Result<&PolicyHost> {
        self.policies.hosts.get(domain).ok_or_else(|| no_policy(domain))
    }

    /// Publishes another policy while the lab runs: the TXT records and the answer of the policy
    /// host follow. Say `id` for clients to notice. Certificate and presence stay.
    ///
    /// # Errors
    /// When the domain has no MTA-STS.
    pub fn set_mta_sts(&self, domain: &str, change: impl FnOnce(StsSpec) -> StsSpec) -> io::Result<()> {
        let mut specs = locked(&self.policies.specs);
        let spec = specs.get_mut(domain).ok_or_else(|| no_policy(domain))?;
        *spec = change(spec.clone());
        self.world.replace(&txt_owner(domain), RecordType::TXT, spec.records()?)?;
        let answer = spec.whole_answer();
        self.policy_host(domain)?.behave(|there| *there = answer);
        Ok(())
    }

    /// Replaces the records of `_mta-sts.<domain>` and nothing else, for any domain of the lab; an
    /// empty list takes them away.
    ///
    /// # Errors
    /// When the name is no domain name.
    pub fn set_mta_sts_txt(&self, domain: &str, records: &[&str]) -> io::Result<()> {
        let made = records.iter().map(|record| txt(record)).collect::<io::Result<Vec<_>>>()?;
        self.world.replace(&txt_owner(domain), RecordType::TXT, made)
    }

    /// Gives a policy host another certificate while it runs.
    ///
    /// # Errors
    /// When the domain has no MTA-STS, or rustls refuses the chain.
    pub fn set_policy_certificate(&self, domain: &str, certificate: &Certificate) -> io::Result<()> {
        let config = certificate.identity(&host_of(domain), &self.authority)?.server_config()?;
        self.policy_host(domain)?.set_config(config);
        Ok(())
    }
}

fn no_policy(domain: &str) -> io::Error {
    bad(format!("{domain} has no MTA-STS in the lab"))
}
