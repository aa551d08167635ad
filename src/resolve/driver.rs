//! Asks the DNS: one transport per upstream, each with its own deadline, tried in order.
//!
//! hickory-resolver carries the questions and, for now, validates the answers; everything it
//! says passes through [`Answer`] before anyone else sees it, and what it cannot prove counts
//! as failed (RFC 4035 §4.3, RFC 7672 §2.1). UDP answers that are truncated are fetched over TCP.

#![expect(clippy::wildcard_enum_match_arm, reason = "foreign enums of all record types and all errors")]

use super::Security;
use super::answer::{Answer, Data, Found, RecordType, weakest};
use crate::config::{Dns as DnsConfig, TrustAnchorSource, Upstream};
use crate::outcome::{Cause, PathFailure, Question};
use crate::resolve::TlsaRecord;
use crate::smtp::address::Domain;
use hickory_proto::dnssec::{Proof, TrustAnchors};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType as WireType};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::{Resolver, TokioResolver, system_conf};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// UDP payload we offer: fits every path without fragments (the value of the DNS flag day 2020).
const UDP_PAYLOAD_BYTES: u16 = 1232;
/// Answers kept by each upstream's cache.
const CACHED_ANSWERS: u64 = 20_000;
/// CNAMEs followed within one answer; more is a loop.
const ALIASES_LIMIT: usize = 16;

/// Why the DNS side cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DnsSetupError {
    /// The trust anchor file is unreadable, empty or not understood.
    #[error("[dns] trust_anchors: {path}: {message}")]
    TrustAnchors {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// An upstream cannot be used.
    #[error("[dns] upstreams: {upstream}: {message}")]
    Upstream {
        /// The upstream as configured.
        upstream: String,
        /// What is wrong with it.
        message: String,
    },
}

struct Path {
    name: String,
    resolver: TokioResolver,
}

/// The ways to the DNS that the operator configured.
pub struct Dns {
    paths: Vec<Path>,
    timeout: Duration,
}

impl Dns {
    /// Sets up all upstreams and reads the trust anchors. Nothing is asked yet.
    ///
    /// # Errors
    /// [`DnsSetupError`], one line that names the key to change.
    pub fn new(config: &DnsConfig) -> Result<Self, DnsSetupError> {
        let anchors = Arc::new(trust_anchors(&config.trust_anchors)?);
        let mut paths = Vec::new();
        for upstream in &config.upstreams {
            for (name, server) in servers(upstream)? {
                let resolver = resolver(server, Arc::clone(&anchors), config.timeout)
                    .map_err(|e| DnsSetupError::Upstream { upstream: name.clone(), message: e.to_string() })?;
                paths.push(Path { name, resolver });
            }
        }
        Ok(Self { paths, timeout: config.timeout })
    }

    /// One validated look-up: the first upstream with a usable answer wins.
    pub async fn lookup(&self, name: &str, record_type: RecordType) -> Answer {
        let question = Question { name: name.to_owned(), record_type: record_type.word().to_owned() };
        let Ok(wire_name) = Name::from_ascii(format!("{name}.")) else {
            // A name that does not fit into the DNS cannot exist in it.
            return Answer::NxDomain(Security::Secure);
        };
        let mut tried = Vec::new();
        let mut bogus = 0;
        for path in &self.paths {
            let asked = path.resolver.lookup(wire_name.clone(), wire_type(record_type));
            let read = match tokio::time::timeout(self.timeout, asked).await {
                Err(_elapsed) => Err(NotUsable::Unavailable("no answer in time".to_owned())),
                Ok(Ok(lookup)) => read_positive(&wire_name, record_type, &lookup),
                Ok(Err(error)) => read_error(error),
            };
            let detail = match read {
                Ok(answer) => return answer,
                Err(NotUsable::Bogus(detail)) => {
                    bogus += 1;
                    detail
                }
                Err(NotUsable::Unavailable(detail)) => detail,
            };
            tried.push(PathFailure { upstream: path.name.clone(), detail });
        }
        // Bogus only when every path says so: one that is silent proves nothing about the zone.
        if bogus == tried.len() {
            let detail = tried.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Answer::Failed(Cause::DnsBogus { question, detail });
        }
        Answer::Failed(Cause::DnsUnavailable { question, tried })
    }
}

enum NotUsable {
    Bogus(String),
    Unavailable(String),
}

fn wire_type(record_type: RecordType) -> WireType {
    match record_type {
        RecordType::A => WireType::A,
        RecordType::Aaaa => WireType::AAAA,
        RecordType::Mx => WireType::MX,
        RecordType::Tlsa => WireType::TLSA,
    }
}

#[expect(clippy::disallowed_methods, reason = "the trust anchor file is read once, at the start")]
fn trust_anchors(source: &TrustAnchorSource) -> Result<TrustAnchors, DnsSetupError> {
    let TrustAnchorSource::File(path) = source else {
        return Ok(TrustAnchors::default());
    };
    let error = |message: String| DnsSetupError::TrustAnchors { path: path.display().to_string(), message };
    let text = std::fs::read_to_string(path).map_err(|e| error(format!("cannot be read: {e}")))?;
    let anchors: TrustAnchors =
        text.parse().map_err(|e| error(format!("{e}; write DNSKEY lines as in Unbound's root.key")))?;
    if anchors.is_empty() {
        return Err(error("holds no key of the root zone; write a DNSKEY line for \".\"".into()));
    }
    Ok(anchors)
}

/// The servers behind an upstream, each a path of its own with a name for logs.
fn servers(upstream: &Upstream) -> Result<Vec<(String, NameServerConfig)>, DnsSetupError> {
    match upstream {
        Upstream::Udp(server) => Ok(vec![(
            upstream.to_string(),
            server_config(*server, &[ConnectionConfig::udp(), ConnectionConfig::tcp()]),
        )]),
        Upstream::Tcp(server) => Ok(vec![(upstream.to_string(), server_config(*server, &[ConnectionConfig::tcp()]))]),
        Upstream::System => {
            let error = |message| DnsSetupError::Upstream { upstream: "system".into(), message };
            let (config, _options) =
                system_conf::read_system_conf().map_err(|e| error(format!("/etc/resolv.conf: {e}")))?;
            let named = |server: &NameServerConfig| (format!("system udp://{}", server.ip), server.clone());
            let mut servers: Vec<_> = config.name_servers().iter().map(named).collect();
            servers.dedup_by(|a, b| a.1.ip == b.1.ip);
            if servers.is_empty() {
                return Err(error("/etc/resolv.conf names no server; write upstreams = [\"udp://IP:PORT\"]".into()));
            }
            Ok(servers)
        }
    }
}

fn server_config(server: SocketAddr, connections: &[ConnectionConfig]) -> NameServerConfig {
    let with_port = |connection: &ConnectionConfig| {
        let mut connection = connection.clone();
        connection.port = server.port();
        connection
    };
    NameServerConfig::new(server.ip(), true, connections.iter().map(with_port).collect())
}

fn resolver(
    server: NameServerConfig,
    anchors: Arc<TrustAnchors>,
    timeout: Duration,
) -> Result<TokioResolver, NetError> {
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut options = ResolverOpts::default();
    options.timeout = timeout;
    options.attempts = 1;
    options.edns0 = true;
    options.edns_payload_len = UDP_PAYLOAD_BYTES;
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = CACHED_ANSWERS;
    options.num_concurrent_reqs = 1;
    options.preserve_intermediates = true;
    options.try_tcp_on_error = true;
    Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .with_trust_anchor(anchors)
        .build()
}

/// Walks from the question along the CNAMEs to the data; the order of records means nothing.
fn read_positive(question: &Name, record_type: RecordType, lookup: &Lookup) -> Result<Answer, NotUsable> {
    let answers = lookup.answers();
    let mut name = question.clone();
    let mut security = Security::Secure;
    let mut first_alias = None;
    for _hop in 0..=ALIASES_LIMIT {
        let here: Vec<&Record> = answers.iter().filter(|r| r.name == name).collect();
        let wanted: Vec<&&Record> = here.iter().filter(|r| r.record_type() == wire_type(record_type)).collect();
        if !wanted.is_empty() {
            security = wanted.iter().fold(security, |weak, r| weakest(weak, security_of(r.proof)));
            refuse_unproven(security)?;
            let expanded = if name == *question { None } else { domain_of(&name) };
            let data = wanted.iter().filter_map(|r| data_of(&r.data)).collect();
            return Ok(Answer::Found(Found { security, expanded, first_alias, data }));
        }
        let alias = here.iter().find_map(|r| match &r.data {
            RData::CNAME(target) => Some((target.0.clone(), security_of(r.proof))),
            _ => None,
        });
        let Some((target, link)) = alias else { break };
        first_alias.get_or_insert(link);
        security = weakest(security, link);
        name = target;
    }
    refuse_unproven(security)?;
    // A proven absence comes as an error with its proof; this is an answer that answers nothing.
    Err(NotUsable::Unavailable("an answer without the records asked for".into()))
}

fn refuse_unproven(security: Security) -> Result<(), NotUsable> {
    match security {
        Security::Secure | Security::Insecure => Ok(()),
        Security::Bogus => Err(NotUsable::Bogus("the answer fails DNSSEC validation".into())),
        Security::Indeterminate => Err(NotUsable::Unavailable("the chain of trust could not be fetched".into())),
    }
}

fn read_error(error: NetError) -> Result<Answer, NotUsable> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => read_negative(&none),
        NetError::Dns(DnsError::Nsec { proof, response, .. }) => match proof {
            Proof::Insecure => Ok(denied(response.response_code, Security::Insecure)),
            Proof::Secure => Ok(denied(response.response_code, Security::Secure)),
            Proof::Bogus | Proof::Indeterminate => {
                Err(NotUsable::Bogus("the proof that there is no such record is not valid".into()))
            }
        },
        NetError::Dns(DnsError::DnssecBogus) => Err(NotUsable::Bogus("the answer fails DNSSEC validation".into())),
        NetError::Dns(DnsError::ResponseCode(code)) => Err(NotUsable::Unavailable(code.to_str().to_owned())),
        NetError::Timeout => Err(NotUsable::Unavailable("no answer in time".into())),
        other => Err(NotUsable::Unavailable(other.to_string())),
    }
}

/// A denial counts as proven only when every record of its proof is; a denial without any
/// records proves nothing (RFC 4035 §5.4).
fn read_negative(none: &NoRecords) -> Result<Answer, NotUsable> {
    let proofs: Vec<Security> = none.authorities.iter().flat_map(|a| a.iter()).map(|r| security_of(r.proof)).collect();
    let security = proofs.iter().copied().reduce(weakest);
    match security {
        Some(proven @ (Security::Secure | Security::Insecure)) => Ok(denied(none.response_code, proven)),
        Some(Security::Bogus) => Err(NotUsable::Bogus("the proof that there is no such record is not valid".into())),
        Some(Security::Indeterminate) | None => {
            Err(NotUsable::Unavailable("an empty answer without proof that there is no such record".into()))
        }
    }
}

fn denied(code: ResponseCode, security: Security) -> Answer {
    if code == ResponseCode::NXDomain { Answer::NxDomain(security) } else { Answer::NoData(security) }
}

fn security_of(proof: Proof) -> Security {
    match proof {
        Proof::Secure => Security::Secure,
        Proof::Insecure => Security::Insecure,
        Proof::Bogus => Security::Bogus,
        Proof::Indeterminate => Security::Indeterminate,
    }
}

fn domain_of(name: &Name) -> Option<Domain> {
    name.to_ascii().parse().ok()
}

fn data_of(data: &RData) -> Option<Data> {
    match data {
        RData::A(a) => Some(Data::Address(a.0.into())),
        RData::AAAA(aaaa) => Some(Data::Address(aaaa.0.into())),
        RData::MX(mx) if mx.exchange.is_root() => Some(Data::Mx(mx.preference, None)),
        RData::MX(mx) => domain_of(&mx.exchange).map(|name| Data::Mx(mx.preference, Some(name))),
        RData::TLSA(tlsa) => Some(Data::Tlsa(TlsaRecord {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        })),
        _ => None,
    }
}
