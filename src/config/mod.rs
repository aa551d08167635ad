//! What the operator chose: TOML, parsed once, every value typed.
//!
//! Every key has a default, so the relay runs without a file: a listener on loopback and a spool
//! in `./relay-spool`. Unknown keys are errors that name the line and the key that was
//! probably meant.

mod admin;
mod archive;
mod borders;
mod check;
mod checks;
mod destination;
mod dkim;
mod document;
mod egress;
pub(crate) mod files;
mod findings;
mod incidents;
mod invalid;
mod key_lines;
mod limit;
mod listener;
mod mta_sts;
mod named_files;
mod network;
mod next_hop;
mod notify;
mod private_zone;
mod problem;
mod reading;
mod roots;
mod sender;
mod sending;
pub mod settings;
mod show;
mod source;
mod spool;
mod tls_reports;
mod together;
mod upstream;
pub mod users;
mod watch;

pub use admin::AdminConfig;
pub use archive::{ArchiveForm, ArchiveRule};
pub use check::CheckConfig;
pub use destination::{Destination, DomainPattern, LastDay, TlsLevel, Weakening, closest};
pub use dkim::{DkimConfig, DkimKeyRule, HeaderFieldName, OnSigningFailure, is_selector};
pub use egress::{ClientCertificateFiles, FamilyChoice, LoginConfig, SourceAddresses, TlsMode};
pub use incidents::IncidentsConfig;
pub use key_lines::KeyLines;
pub use limit::{LimitPer, LimitRule, LimitSubject};
pub use listener::{ClientCertificates, ClientTls, Fingerprint, KeyPairFiles, ListenerConfig, MinTls};
pub use mta_sts::MtaSts;
pub use network::counted_client;
pub use next_hop::{ListedNextHop, NextHopAddress, NextHops};
pub use notify::{Language, NotifyConfig};
pub use private_zone::PrivateZone;
pub use problem::{ConfigError, Problem};
pub use roots::{RootsError, TrustedRoots};
pub use sender::SenderPattern;
pub use sending::{HostRule, Rate, closest_rule};
pub use settings::LoadedConfig;
pub use show::{REFERENCE, shown, shown_values};
pub use source::{ConfigSource, spool_of};
pub use spool::{SpoolConfig, SpoolEngine};
pub use tls_reports::TlsReportsConfig;
pub use upstream::Upstream;
pub use watch::WatchConfig;

use crate::clock::Timestamp;
use crate::smtp::address::{Domain, Mailbox};
use findings::ConfigFindings;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The name we greet, say EHLO and sign reports with.
    pub hostname: Domain,
    /// Who reads mail for `<postmaster>` and notices about reports that failed.
    pub postmaster: Option<Mailbox>,
    /// `[listen]`
    pub listen: Listen,
    /// `[[listener]]`
    pub listener: Vec<ListenerConfig>,
    /// `[[limit]]`
    pub limit: Vec<LimitRule>,
    /// `[[archive]]`
    pub archive: Vec<ArchiveRule>,
    /// `[spool]`
    pub spool: SpoolConfig,
    /// `[dns]`
    pub dns: DnsConfig,
    /// `[delivery]`
    pub delivery: DeliveryConfig,
    /// `[tls]`
    pub tls: TlsConfig,
    /// `[mta_sts]`
    pub mta_sts: MtaSts,
    /// `[tls_reports]`
    pub tls_reports: TlsReportsConfig,
    /// `[dkim]`
    pub dkim: DkimConfig,
    /// `[retry]`
    pub retry: Retry,
    /// `[notify]`
    pub notify: NotifyConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[check]`
    pub check: CheckConfig,
    /// `[incidents]`
    pub incidents: IncidentsConfig,
    /// `[watch]`
    pub watch: WatchConfig,
    /// `[[destination]]`
    pub destination: Vec<Destination>,
    /// `[[host]]`
    pub host: Vec<HostRule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hostname: system_hostname(),
            postmaster: None,
            listen: Listen::default(),
            listener: Vec::new(),
            limit: Vec::new(),
            archive: Vec::new(),
            spool: SpoolConfig::default(),
            dns: DnsConfig::default(),
            delivery: DeliveryConfig::default(),
            tls: TlsConfig::default(),
            mta_sts: MtaSts::default(),
            tls_reports: TlsReportsConfig::default(),
            dkim: DkimConfig::default(),
            retry: Retry::default(),
            notify: NotifyConfig::default(),
            admin: AdminConfig::default(),
            check: CheckConfig::default(),
            incidents: IncidentsConfig::default(),
            watch: WatchConfig::default(),
            destination: Vec::new(),
            host: Vec::new(),
        }
    }
}

/// `[listen]`: who may hand mail in, and how much.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Addresses to listen on.
    #[serde(deserialize_with = "network::sockets")]
    pub smtp: Vec<SocketAddr>,
    /// Networks that may hand mail in; everybody else gets 550 5.7.1.
    #[serde(deserialize_with = "network::networks")]
    pub clients: Vec<IpNet>,
    /// The domains of senders that may hand mail in, exactly; none named, and all may. The null
    /// reverse-path always may.
    pub sender_domains: Vec<Domain>,
    /// Whether recipients at address literals are taken, `user@[192.0.2.1]`, that no destination
    /// names (RFC 5321 §4.1.3).
    pub address_literals: bool,
    /// Whether name and address of the client stay out of our Received line (RFC 5321 §7.6).
    pub hide_client: bool,
    /// The most Received lines of a message; more is a mail loop (RFC 5321 §6.3).
    pub max_received: u32,
    /// The largest message, in octets. Exchange sends up to 36,700,160 by default.
    pub max_message_bytes: u64,
    /// The most recipients of one message; more get 452 4.5.3 and are sent in a further one.
    pub max_recipients: usize,
    /// The most sessions at once; more get 421.
    pub max_sessions: usize,
    /// The most connections that one client address, or a /64 of IPv6, begins in a minute; more get 421.
    pub max_new_connections: u32,
    /// The most commands of one session; the client is then told 421 between two messages.
    pub max_commands: u32,
    /// How long a client may be silent (RFC 5321 §4.5.3.2.7 asks for five minutes).
    #[serde(deserialize_with = "duration")]
    pub idle_timeout: Duration,
    /// Certificate chain in PEM; without one a self-signed certificate is made in the spool.
    pub certificate: Option<PathBuf>,
    /// Its private key in PEM.
    pub private_key: Option<PathBuf>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            smtp: vec![SocketAddr::from(([127, 0, 0, 1], 2525))],
            clients: vec![loopback_v4(), loopback_v6()],
            sender_domains: Vec::new(),
            address_literals: false,
            hide_client: false,
            max_received: 100,
            max_message_bytes: 52_428_800,
            max_recipients: 1000,
            max_sessions: 1000,
            max_new_connections: 10_000,
            max_commands: 100_000,
            idle_timeout: Duration::from_secs(300),
            certificate: None,
            private_key: None,
        }
    }
}

impl Listen {
    /// Whether sessions under both are alike, wherever they come in.
    #[must_use]
    pub fn is_alike_for_sessions(&self, other: &Self) -> bool {
        self == &Self { smtp: self.smtp.clone(), ..other.clone() }
    }
}

fn loopback_v4() -> IpNet {
    IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::LOCALHOST, 8).trunc())
}

fn loopback_v6() -> IpNet {
    IpNet::V6(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128))
}

/// `[dns]`: whom we ask and what we trust. The words for resolvers are in `upstream.rs`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsConfig {
    /// How answers come to be trusted.
    pub mode: DnsMode,
    /// The ways to the DNS, tried in order.
    pub upstreams: Vec<Upstream>,
    /// Where the servers of `system` are named.
    pub resolv_conf: PathBuf,
    /// The servers that `system` stands for; those of that file where none is named.
    #[serde(deserialize_with = "upstream::servers")]
    pub system_servers: Vec<SocketAddr>,
    /// The file with the names of hosts that count before any DNS for what the operator names.
    pub hosts: PathBuf,
    /// Zones with a view of their own inside.
    pub private_zones: Vec<PrivateZone>,
    /// The keys that the chain of trust starts from.
    pub trust_anchors: TrustAnchorSource,
    /// Where the walk of `authoritative` starts.
    #[serde(deserialize_with = "upstream::servers")]
    pub root_hints: Vec<SocketAddr>,
    /// How long a server may take for one question.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// How long a look-up may take, over all upstreams and with its whole chain of trust.
    #[serde(deserialize_with = "duration")]
    pub deadline: Duration,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            mode: DnsMode::Validate,
            upstreams: vec![Upstream::System, Upstream::Authoritative],
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            system_servers: Vec::new(),
            hosts: PathBuf::from("/etc/hosts"),
            private_zones: Vec::new(),
            trust_anchors: TrustAnchorSource::Builtin,
            root_hints: upstream::root_servers(),
            timeout: Duration::from_secs(3),
            deadline: Duration::from_secs(30),
        }
    }
}

/// How DNS answers come to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DnsMode {
    /// Signatures are checked here, from the trust anchor down (RFC 4035 §5).
    Validate,
    /// A resolver on loopback checks them and says so with the AD bit (RFC 4035 §4.9.3).
    TrustAd,
}

/// Where the trust anchors come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum TrustAnchorSource {
    /// The keys of the DNS root that are built in.
    Builtin,
    /// A file with DNSKEY or DS lines, as Unbound's `root.key`.
    File(PathBuf),
}

impl From<String> for TrustAnchorSource {
    fn from(text: String) -> Self {
        if text == "builtin" { Self::Builtin } else { Self::File(PathBuf::from(text)) }
    }
}

/// `[tls]`: how connections to mail servers are protected where nothing stronger applies, and
/// whose certificates count.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Who vouches for the certificates of `tls://` and `https://` upstreams, of the hosts that
    /// publish MTA-STS policies, and of the MX hosts under such a policy.
    pub roots: RootsSource,
    /// Whether a message goes out in clear text when no policy demands TLS and a handshake fails.
    pub clear_text_fallback: bool,
    /// Whether the TLSA records of a host count when the MX records that lead to it are not
    /// signed (RFC 7672 §2.2.1).
    pub dane_behind_insecure_mx: bool,
    /// Whether the header field `TLS-Required: No` waives what the recipient's domain demands
    /// (RFC 8689 §4.2.2).
    pub tls_required_no: bool,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            roots: RootsSource::System,
            clear_text_fallback: true,
            dane_behind_insecure_mx: true,
            tls_required_no: true,
        }
    }
}

/// Where trusted certificate authorities come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum RootsSource {
    /// Those of this machine.
    #[default]
    System,
    /// A PEM file.
    File(PathBuf),
}

impl From<String> for RootsSource {
    fn from(text: String) -> Self {
        if text == "system" { Self::System } else { Self::File(PathBuf::from(text)) }
    }
}

/// `[delivery]`: how mail goes out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryConfig {
    /// The port of MX hosts; their TLSA records are looked up for this port.
    pub port: u16,
    /// Whether MX records may lead to loopback and to our own addresses.
    pub allow_loopback: bool,
    /// Private networks that MX records may lead into.
    #[serde(deserialize_with = "network::networks")]
    pub allow_private: Vec<IpNet>,
    /// The most connections to mail servers at once.
    pub max_concurrent: usize,
    /// The most connections for one next hop at once.
    pub max_per_next_hop: usize,
    /// The most connections to one receiving host, by name and by address, whatever the domains;
    /// how many of them are used is learnt.
    pub max_connections: usize,
    /// The most messages of one connection. Many servers set such a limit and answer 421 beyond it.
    pub max_messages_per_connection: u32,
    /// The most messages to one receiving host in a time.
    pub rate: Option<Rate>,
    /// Whether a connection carries further messages that are held to the same TLS policy.
    pub reuse_connections: bool,
    /// How long a server may take to answer a command (RFC 5321 §4.5.3.2: five minutes); the
    /// reply to the end of the message may take twice as long.
    #[serde(deserialize_with = "duration")]
    pub reply_timeout: Duration,
    /// How long opening a TCP connection may take, per address.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            port: 25,
            allow_loopback: false,
            allow_private: Vec::new(),
            max_concurrent: 500,
            max_per_next_hop: 40,
            max_connections: 40,
            max_messages_per_connection: 100,
            rate: None,
            reuse_connections: true,
            reply_timeout: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(30),
        }
    }
}

/// `[retry]`: when a message is tried again, and when it is given up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// The wait after the first failed attempt; it doubles with each further one.
    #[serde(deserialize_with = "duration")]
    pub first: Duration,
    /// The longest wait between attempts.
    #[serde(deserialize_with = "duration")]
    pub longest: Duration,
    /// The age at which a message that still waits is returned to its sender.
    #[serde(deserialize_with = "duration")]
    pub expire_after: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(300),
            longest: Duration::from_secs(3600),
            expire_after: Duration::from_secs(4 * 86_400),
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`]: all that is wrong, each in a line that names the file, the place and the fix.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads text; `path` is only for messages.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        reading::read(text, None)
            .map(|(config, _)| config)
            .map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
    }

    /// Whether the values go together.
    ///
    /// # Errors
    /// Which ones do not, and what to change, a line for each.
    pub fn check(&self) -> Result<(), String> {
        let mut findings = ConfigFindings::default();
        checks::check(self, &mut findings);
        let told: Vec<String> = findings.into_problems().iter().map(ToString::to_string).collect();
        if told.is_empty() { Ok(()) } else { Err(told.join("\n")) }
    }

    /// What can be used and is probably not meant, each in a line.
    #[must_use]
    pub fn doubts(&self, now: Timestamp) -> Vec<String> {
        let everybody = listener::open_to_everybody(self).into_iter();
        let ended = self.destination.iter().filter_map(|destination| {
            let until = destination.until.filter(|day| day.end() <= now)?;
            Some(format!(
                "[[destination]] {}: the exception ended with {until} and does nothing any more",
                destination.label()
            ))
        });
        let notices =
            [("delay_after", self.notify.delay_after), ("policy_failure_after", self.notify.policy_failure_after)];
        let never = notices.into_iter().filter(|(_, after)| *after >= self.retry.expire_after);
        let never = never.map(|(key, _)| format!("[notify] {key} is not below [retry] expire_after: it never comes"));
        let nobody = self.postmaster.is_none().then(|| {
            "postmaster is not set: nobody is told of lost reports or of a damaged spool, but the log".to_owned()
        });
        let name = self.hostname.as_str();
        let short = (!name.contains('.')).then(|| {
            format!("hostname: this machine is called \"{name}\", without a dot, and other servers refuse such a name: set it")
        });
        let zero = [("[admin] listen", self.admin.listen)].into_iter();
        let zero = self.listen.smtp.iter().map(|address| ("[listen] smtp", *address)).chain(zero);
        let zero = zero.filter(|(_, address)| address.port() == 0);
        let zero =
            zero.map(|(key, _)| format!("{key}: port 0 is another free port at each start: write one from 1 to 65535"));
        let private = private_zone::doubts(&self.dns.private_zones);
        let unsigned = self.tls_reports.doubt(&self.dkim);
        let all = everybody.chain(ended).chain(never).chain(private).chain(nobody).chain(short).chain(zero);
        all.chain(unsigned).collect()
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    files::read_regular_text(path)
}

/// This machine's name; `localhost` when it has none that is a domain.
fn system_hostname() -> Domain {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy().parse();
    name.or_else(|_| "localhost".parse()).unwrap_or_else(|_| unreachable!("localhost is a domain"))
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    borders::duration(&text).map_err(|why| serde::de::Error::custom(format!("\"{text}\": {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("relay.toml"))
    }

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_the_safe_default() {
        let config = parse("").unwrap();
        assert!(config.listen.smtp.iter().all(|a| a.ip().is_loopback()));
        assert!(config.admin.listen.ip().is_loopback());
        assert!(!config.delivery.allow_loopback);
        assert!(config.listen.max_message_bytes >= 36_700_160, "Exchange sends that much");
    }

    #[test]
    fn the_reference_file_names_every_key_and_shows_the_defaults() {
        let text = REFERENCE;
        let defaults = Config { postmaster: None, ..Config::default() };
        let shown = Config { hostname: defaults.hostname.clone(), postmaster: None, ..parse(text).unwrap() };
        assert_eq!(format!("{shown:?}"), format!("{defaults:?}"));
        let debug = format!("{defaults:?}");
        let keys: Vec<&str> = debug.split([' ', '{']).filter_map(|word| word.strip_suffix(':')).collect();
        assert!(keys.len() > 25, "{keys:?}");
        let more = "domains next_hop weight senders tls_mode login family source client_certificate reason until hosts \
                    name addresses min_tls certificates auth client_certificates ca fingerprints senders_of_user \
                    recipients next_hops dsn requiretls proxy_protocol_from per users messages warn_at selector key_file credential subdomains";
        for key in keys.into_iter().chain(more.split(' ')) {
            assert!(text.contains(key), "{key} is not explained");
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_a_suggestion() {
        let message = error("hostname = \"a.example\"\n[listen]\nsmpt = []\n");
        assert!(message.starts_with("relay.toml:3: [listen] smpt: there is no such key"), "{message}");
        assert!(message.ends_with("did you mean `smtp`?"), "{message}");
    }

    #[test]
    fn wrong_values_say_what_would_be_right() {
        assert!(error("[retry]\nexpire_after = \"4 parsecs\"").contains("\"4h\""));
        assert!(error("[dns]\nupstreams = [\"1.2.3.4\"]").contains("udp://IP:PORT"));
        assert!(error("[listen]\ncertificate = \"x.pem\"").contains("both or neither"));
        assert!(error("[listen]\nsmtp = []").contains("at least 1"));
        assert!(error("[notify]\nreturn_full_below = 10485761").contains("to 10485760 (octets)"));
        assert!(error("[dns]\nupstreams = []").contains("at least 1"));
        assert!(error("[dns]\ntimeout = \"1m\"").contains("not above deadline"));
        assert!(error("[dns]\nroot_hints = [\"a.example\"]").contains("no address of a server"));
        assert!(error("hostname = \"a b\"").contains("relay.toml:1"));
    }

    #[test]
    fn what_is_probably_not_meant_is_said() {
        let text = "hostname = \"a.example\"\npostmaster = \"pm@office.example\"\n[listen]\nclients = [\"0.0.0.0/0\", \"192.0.2.10\"]\n[notify]\ndelay_after = \"5d\"\n\
                    [[destination]]\ndomains = [\"old.example\"]\ntls = \"off\"\nreason = \"x\"\nuntil = 2026-01-31\n";
        let doubts = parse(text).unwrap().doubts(Timestamp(1_795_261_468_000));
        assert_eq!(doubts.len(), 3, "{doubts:?}");
        for (doubt, words) in doubts.iter().zip(["an open relay", "old.example: the exception ended", "delay_after"]) {
            assert!(doubt.contains(words), "{doubt}");
        }
        let doubts = parse("hostname = \"a.example\"").unwrap().doubts(Timestamp(0));
        assert!(doubts.len() == 1 && doubts[0].starts_with("postmaster is not set"), "{doubts:?}");
    }

    #[test]
    fn rfc7672_2_1_1_the_ad_bit_is_taken_from_loopback_only() {
        let trust = |upstreams: &str| parse(&format!("[dns]\nmode = \"trust-ad\"\nupstreams = {upstreams}"));
        assert!(trust("[\"udp://127.0.0.1\", \"tls://[::1]#resolver.example\", \"system\"]").is_ok());
        for remote in ["udp://192.0.2.1:53", "https://192.0.2.1:443/dns-query#dns.example", "authoritative"] {
            let message = trust(&format!("[\"udp://127.0.0.1\", \"{remote}\"]")).unwrap_err().to_string();
            assert!(message.contains(remote) && message.contains("loopback"), "{message}");
        }
    }
}
