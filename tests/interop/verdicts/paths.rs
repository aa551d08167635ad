//! The relay's verdicts: by its library in every way it has of asking, and by `relay dns`.

use super::LookupResult;
use super::servers::Servers;
use crate::daemon::{both, run};
use dane_relay::clock::Clock;
use dane_relay::command::dns::{parse_name, parse_type};
use dane_relay::config::{Config, TrustAnchorSource, Upstream};
use dane_relay::resolve::Security;
use dane_relay::resolve::dnssec::{Outcome, Validated};
use dane_relay::resolve::driver::{Dns, Lookup, LookupFailure};
use dane_relay::resolve::event;
use hickory_proto::rr::Name;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// The paths to ask by, with their names in failure messages.
pub(crate) fn paths(servers: &Servers) -> [(&'static str, Config); 3] {
    let config = |upstream| by_one_way(upstream, &servers.anchor, servers.root);
    [
        ("through a forwarder", config(Upstream::Udp(servers.forwarding))),
        ("through a validating resolver", config(Upstream::Udp(servers.validating))),
        ("from the authoritative servers", config(Upstream::Authoritative)),
    ]
}

/// The configuration of somebody who asks by one way alone.
pub(crate) fn by_one_way(upstream: Upstream, anchor: &Path, root: SocketAddr) -> Config {
    let mut config = Config::default();
    config.dns.upstreams = vec![upstream];
    config.dns.trust_anchors = TrustAnchorSource::File(anchor.to_owned());
    config.dns.root_hints = vec![root];
    config
}

/// A resolver that has asked nothing yet.
pub(crate) fn cold(config: &Config) -> Dns {
    Dns::new(config, Clock::system(), event::nobody()).unwrap()
}

/// Our verdict, and what else the look-up says.
pub(crate) async fn ask(dns: &Dns, name: &str, record_type: &str) -> (LookupResult, String) {
    // Types that the command knows by their numbers alone.
    let record_type = match record_type {
        "RP" => "TYPE17",
        "AFSDB" => "TYPE18",
        known => known,
    };
    let lookup = dns.find(&wire_name(name), parse_type(record_type).unwrap()).await;
    (LookupResult { verdict: verdict(&lookup), records: records(&lookup) }, detail(&lookup))
}

/// A name as zone files write it (RFC 1035 §5.1), with octets that the command does not take.
fn wire_name(name: &str) -> Name {
    if !name.contains('\\') {
        return parse_name(name).unwrap();
    }
    let mut labels = vec![Vec::new()];
    let mut rest = name.trim_end_matches('.');
    while let Some(first) = rest.bytes().next() {
        let (octet, length) = match (first, rest.get(1..4).map(str::parse)) {
            (b'\\', Some(Ok(number))) => (number, 4),
            (b'\\', _) => (rest.as_bytes()[1], 2),
            (plain, _) => (plain, 1),
        };
        rest = &rest[length..];
        match (first, labels.last_mut()) {
            (b'.', _) | (_, None) => labels.push(Vec::new()),
            (_, Some(label)) => label.push(octet),
        }
    }
    Name::from_labels(labels).unwrap()
}

fn records(lookup: &Lookup) -> usize {
    match &lookup.result {
        Ok(Validated { outcome: Outcome::Found { records, .. }, .. }) => records.len(),
        Ok(_) | Err(_) => 0,
    }
}

fn verdict(lookup: &Lookup) -> String {
    match &lookup.result {
        Err(LookupFailure::Bogus(_)) => "bogus".to_owned(),
        Err(LookupFailure::Unavailable) => "failed".to_owned(),
        Ok(validated) => match validated.security {
            Security::Bogus => "bogus".to_owned(),
            Security::Indeterminate => "failed".to_owned(),
            Security::Secure | Security::Insecure => {
                format!("{} {}", outcome(validated), validated.security.word())
            }
        },
    }
}

const fn outcome(validated: &Validated) -> &'static str {
    match &validated.outcome {
        Outcome::Found { .. } => "found",
        Outcome::NoData { .. } => "nodata",
        Outcome::NxDomain { .. } => "nxdomain",
        Outcome::ErrorCode(_) => "error",
    }
}

fn detail(lookup: &Lookup) -> String {
    let reason = match &lookup.result {
        Err(LookupFailure::Bogus(reason)) => reason.clone(),
        Err(LookupFailure::Unavailable) => String::new(),
        Ok(validated) => validated.reason.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    lookup.failed.iter().fold(reason, |text, failure| format!("{text}; {failure}"))
}

/// What `relay dns --json` says, with its exit code, perhaps at another time.
pub(crate) fn relay_dns(servers: &Servers, shift: Option<&str>, name: &str, record_type: &str) -> (Value, i32) {
    let program = env!("CARGO_BIN_EXE_relay");
    let mut command = match shift {
        None => Command::new(program),
        Some(shift) => {
            let mut command = Command::new("faketime");
            command.args([shift, program]);
            command
        }
    };
    command.args(["dns", name, record_type, "--json", "--upstream", &format!("udp://{}", servers.forwarding)]);
    let output = run(command.arg("--trust-anchors").arg(&servers.anchor));
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", both(&output)));
    (json, output.status.code().unwrap_or(-1))
}
