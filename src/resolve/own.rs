//! Whom a question goes to: the ways of the configuration, whose answers prove themselves, or
//! servers of the operator's own, whose answers are taken as they come.
//!
//! A question about a name in a private zone goes to the servers of that zone and nowhere else, and
//! nothing about it is validated (RFC 7646 §2); so it is with an alias that leads there from elsewhere.
//! A special-use name goes to no public server (RFC 6761). Only what
//! the operator names himself, a next hop, is asked by the system's way (`/etc/hosts`, the servers of
//! `/etc/resolv.conf`). None of these answers is ever more than insecure.

use super::Security;
use super::dnssec::{Alias, Outcome, Reason, Validated};
use super::error::DnsSetupError;
use super::lookup::Lookup;
use super::paths::channel::Flags;
use super::paths::present::{List, Paths};
use super::paths::setup::{self, Setup};
use super::paths::{FetchError, Path};
use super::trust_ad;
use crate::clock::Timestamp;
use crate::config::files::open_regular;
use crate::config::{Config, PrivateZone};
use crate::smtp::special_use::{SpecialUse, is_at_or_below};
use hickory_proto::op::Query;
use hickory_proto::rr::{Name, RecordType};
use hickory_resolver::Hosts;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tokio::io::AsyncReadExt as _;

/// Octets of the hosts file that are read; lists of blocked names are of this size.
const HOSTS_LIMIT: u64 = 4 * 1024 * 1024;

/// By which way a question goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Way {
    /// As the configuration says for everything that others name.
    Configured,
    /// As this machine asks: only for what the operator names.
    System,
}

/// Who can answer a question.
pub(super) enum Realm {
    /// Everybody: the answer proves itself.
    Public,
    /// These servers alone.
    Private {
        /// The ways to them.
        paths: List,
        /// Why nothing is proven.
        reason: Reason,
    },
    /// No server: the name is in no DNS.
    NoDns(Reason),
}

/// The servers and the file that know the operator's own names.
#[derive(Default)]
pub(super) struct Own {
    hosts: Option<HostsFile>,
    /// None: nobody.
    system: Option<Paths>,
    /// The domains that the system tries behind a name of one label.
    pub(super) search: Vec<Name>,
    zones: Vec<ZonePaths>,
    /// The names of the private zones: what is validated ends there.
    pub(super) private: Vec<Name>,
}

struct ZonePaths {
    name: String,
    /// None: those of the system.
    paths: Option<List>,
}

impl Own {
    pub(super) fn new(config: &Config) -> Result<Self, DnsSetupError> {
        let setup = Setup::of_system(config)?;
        let zones = config.dns.private_zones.iter().map(|private| {
            let label = format!("private {}", private.zone);
            let paths = setup.to_servers(&label, &private.servers);
            ZonePaths { name: private.zone.to_string(), paths: (!paths.is_empty()).then(|| paths.into()) }
        });
        let named = |private: &PrivateZone| Name::from_ascii(format!("{}.", private.zone)).ok();
        Ok(Self {
            zones: zones.collect(),
            private: config.dns.private_zones.iter().filter_map(named).collect(),
            hosts: Some(HostsFile { path: config.dns.hosts.clone(), last: Mutex::default() }),
            search: setup::search_list(&config.dns),
            system: Some(Paths::of_system(setup)),
        })
    }

    /// Whether the system tries the same domains behind a name of one label.
    pub(super) fn searches_alike(&self, config: &Config) -> bool {
        self.search == setup::search_list(&config.dns)
    }

    pub(super) fn realm(&self, way: Way, name: &str) -> Realm {
        let reason = |rfc, sentence: &str| {
            let name = Name::from_ascii(name).unwrap_or_else(|_| Name::root());
            Reason { rfc, name, sentence: sentence.to_owned() }
        };
        if way == Way::System {
            let reason = reason("RFC 4033 §5", "asked as this machine asks, where nothing is validated");
            return Realm::Private { paths: self.system(), reason };
        }
        if let Some(zone) = self.zone_around(name) {
            let said = format!("{} is a private zone of the configuration: nothing is validated in it", zone.name);
            let paths = zone.paths.clone().unwrap_or_else(|| self.system());
            return Realm::Private { paths, reason: reason("RFC 7646 §2", &said) };
        }
        match SpecialUse::of(name) {
            Some(SpecialUse::ThisHost | SpecialUse::Private | SpecialUse::NoDns) => {
                Realm::NoDns(reason("RFC 6761 §3", "a special-use name, which the public DNS is never asked for"))
            }
            None => Realm::Public,
        }
    }

    /// The servers of the system now; whoever asks them for all the world tells when they change.
    fn system(&self) -> List {
        self.system.as_ref().map_or_else(List::default, |system| system.now(|_told_elsewhere| {}))
    }

    /// The closest private zone that a name is in.
    fn zone_around(&self, name: &str) -> Option<&ZonePaths> {
        let around = self.zones.iter().filter(|zone| is_at_or_below(name, &zone.name));
        around.max_by_key(|zone| zone.name.len())
    }

    pub(super) fn is_in_private_zone(&self, name: &str) -> bool {
        self.zone_around(name).is_some()
    }

    /// Where an answer from everywhere leads into a private zone, whatever it says of the names there.
    pub(super) fn led_to<'l>(&self, lookup: &'l Lookup) -> Option<&'l Name> {
        let aliases = lookup.result.as_ref().ok()?.outcome.aliases();
        aliases.iter().map(|alias| &alias.to).find(|to| self.private.iter().any(|zone| zone.zone_of(to)))
    }

    /// What the hosts file says of a name.
    pub(super) async fn pinned(&self, name: &Name) -> Vec<IpAddr> {
        let Some(file) = &self.hosts else { return Vec::new() };
        let hosts = file.read().await;
        let of_type = |rtype| hosts.lookup_static_host(&Query::query(name.clone(), rtype));
        let found = [RecordType::AAAA, RecordType::A].into_iter().filter_map(of_type);
        found.flat_map(|lookup| lookup.answers().iter().filter_map(|r| r.data.ip_addr()).collect::<Vec<_>>()).collect()
    }
}

/// Asks a server that is believed as it stands, for want of any proof.
pub(super) async fn ask(
    path: &Path,
    name: &Name,
    record_type: RecordType,
    reason: &Reason,
    now: Timestamp,
) -> Result<Validated, FetchError> {
    // Without CD: what a server that validates finds bogus is not wanted from it either.
    let message = path.fetch(name, record_type, Flags::TrustAd).await?;
    let mut read = trust_ad::read(name, record_type, &message, now)?;
    read.security = Security::Insecure;
    read.reason = Some(reason.clone());
    if let Some(aliases) = read.outcome.aliases_mut() {
        aliases.iter_mut().for_each(|alias| alias.security = Security::Insecure);
    }
    Ok(read)
}

/// The aliases that lead to a name, and then what its own servers say of it: insecure as that is.
pub(super) fn joined(way: Lookup, to: &Name, rest: Lookup) -> Lookup {
    let Ok(way_there) = way.result else { return rest };
    let mut aliases: Vec<Alias> = way_there.outcome.aliases().to_vec();
    aliases.truncate(aliases.iter().position(|alias| alias.to == *to).map_or(0, |last| last + 1));
    let result = rest.result.map(|mut read| {
        if let Some(further) = read.outcome.aliases_mut() {
            aliases.append(further);
            *further = aliases;
        }
        let valid_until = read.valid_until.min(way_there.valid_until);
        Validated { security: Security::Insecure, valid_until, chain: way_there.chain, ..read }
    });
    Lookup { result, failed: way.failed.into_iter().chain(rest.failed).collect(), ..rest }
}

/// The answer to a question that nobody is asked.
pub(super) fn no_dns(reason: Reason, now: Timestamp) -> Validated {
    Validated {
        security: Security::Insecure,
        reason: Some(reason),
        outcome: Outcome::NxDomain { aliases: Vec::new() },
        valid_until: now,
        chain: Vec::new(),
    }
}

/// The hosts file; read again when it has changed.
struct HostsFile {
    path: PathBuf,
    last: Mutex<Option<Reading>>,
}

#[derive(Clone)]
struct Reading {
    /// Time of the last change, and length.
    version: (Option<SystemTime>, u64),
    hosts: Arc<Hosts>,
}

impl HostsFile {
    /// What it says; nothing where it cannot be read.
    async fn read(&self) -> Arc<Hosts> {
        let Ok(metadata) = tokio::fs::metadata(&self.path).await else { return Arc::default() };
        let version = (metadata.modified().ok(), metadata.len());
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(last) = last.filter(|last| last.version == version) {
            return last.hosts;
        }
        let mut octets = Vec::new();
        // A pipe would let whoever reads it wait for ever.
        if let Ok(file) = open_regular(&self.path).map(tokio::fs::File::from_std) {
            // What was read before an error counts.
            let _octets = file.take(HOSTS_LIMIT).read_to_end(&mut octets).await;
        }
        let hosts = Arc::new(parsed(&octets));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Reading { version, hosts: Arc::clone(&hosts) });
        hosts
    }
}

fn parsed(octets: &[u8]) -> Hosts {
    let mut hosts = Hosts::default();
    // Lines that are none are left out; reading from memory does not fail.
    let _infallible = hosts.read_hosts_conf(String::from_utf8_lossy(octets).as_bytes());
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path as FilePath;

    fn own(text: &str) -> Own {
        Own::new(&Config::parse(text, FilePath::new("t")).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn rfc7646_and_rfc6761_say_who_is_asked_for_a_name() {
        let own =
            own("[dns]\nprivate_zones = [\"corp.example\", { zone = \"lab.local\", servers = [\"127.0.0.1:1\"] }]");
        let realm = |name: &str| match own.realm(Way::Configured, name) {
            Realm::Public => "public".to_owned(),
            Realm::Private { paths, .. } => paths[0].name.to_string(),
            Realm::NoDns(reason) => reason.rfc.to_owned(),
        };
        assert!(realm("_25._tcp.MX.corp.example.").starts_with("system udp://"));
        assert_eq!(realm("dc1.lab.local."), "private lab.local udp://127.0.0.1:1");
        for name in ["exch.corp.local.", "a.onion.", "localhost.", "nas.home.arpa."] {
            assert_eq!(realm(name), "RFC 6761 §3", "{name}");
        }
        for name in [".", "example.", "notcorp.example.", "office.test."] {
            assert_eq!(realm(name), "public", "{name}");
        }
    }

    #[tokio::test]
    async fn a_pipe_in_place_of_the_hosts_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let own = own(&format!("[dns]\nhosts = {path:?}"));
        assert!(own.pinned(&Name::from_ascii("exch.corp.example.").unwrap()).await.is_empty());
    }

    #[tokio::test]
    async fn the_hosts_file_is_read_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        let own = own(&format!("[dns]\nhosts = {path:?}"));
        let pinned = async || own.pinned(&Name::from_ascii("Exch.corp.example.").unwrap()).await;
        assert!(pinned().await.is_empty(), "no file");
        tokio::fs::write(&path, "# 192.0.2.9 exch.corp.example\n\n192.0.2.1\texch.corp.EXAMPLE exch\nx y\n")
            .await
            .unwrap();
        assert_eq!(pinned().await, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        tokio::fs::write(&path, "\u{feff}192.0.2.2 exch.corp.example #\n::1 a exch.corp.example\n").await.unwrap();
        assert_eq!(pinned().await, ["::1", "192.0.2.2"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    }
}
