//! Whether the values of a configuration go together: each rule says of which keys it is.

use super::destination::Destination;
use super::findings::ConfigFindings;
use super::sending::HostRule;
use super::{
    Config, DnsConfig, DnsMode, NextHopAddress, Retry, Upstream, admin, archive, dkim, limit, listener, notify,
    private_zone, spool, tls_reports, together,
};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// All of them.
pub(super) fn check(config: &Config, findings: &mut ConfigFindings<'_>) {
    name(config, findings);
    listen(config, findings);
    listener::check(&config.listener, findings);
    limit::check(&config.limit, findings);
    archive::check(&config.archive, findings);
    dkim::check(&config.dkim, findings);
    admin::check(&config.admin, findings);
    ports(config, findings);
    dns(&config.dns, findings);
    retry(&config.retry, findings);
    notify::check(&config.notify, findings);
    tls_reports::check(&config.tls_reports, findings);
    paths(config, findings);
    spool::check(&config.spool, findings);
    for (nth, rule) in config.host.iter().enumerate() {
        host(nth, rule, findings);
    }
    together::check(&config.destination, findings);
    for (nth, destination) in config.destination.iter().enumerate() {
        no_way_back(nth, destination, config, findings);
    }
}

fn name(config: &Config, findings: &mut ConfigFindings<'_>) {
    let name = config.hostname.as_str();
    // The name of the machine is a matter of a warning: nobody wrote it.
    let is_written = findings.document().is_some_and(|document| document.value("hostname").is_some());
    if is_written && name.parse::<IpAddr>().is_ok() {
        let message = format!("\"{name}\" is an address: write a name that resolves to it, such as relay.example.org");
        findings.refuse(&["hostname"], message);
    } else if is_written && !name.contains('.') {
        let message = format!(
            "\"{name}\" has no dot: other servers refuse such a name (504); write it in full, such as \
             {name}.example.org"
        );
        findings.refuse(&["hostname"], message);
    }
}

fn listen(config: &Config, findings: &mut ConfigFindings<'_>) {
    let listen = &config.listen;
    if listen.smtp.is_empty() && config.listener.is_empty() {
        let message = "the number of addresses must be at least 1, or there must be a [[listener]]";
        findings.refuse(&["listen.smtp"], message);
    }
    let (has, lacks) = match (&listen.certificate, &listen.private_key) {
        (Some(_), None) => ("listen.certificate", "private_key"),
        (None, Some(_)) => ("listen.private_key", "certificate"),
        (Some(_), Some(_)) | (None, None) => return,
    };
    let message = format!("certificate and private_key go together: give both or neither; {lacks} is missing");
    findings.refuse(&[has, "listen.certificate", "listen.private_key"], message);
}

/// Whether one address cannot be opened beside the other. Port 0 is any that is free.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_place = one.ip() == other.ip()
        || (one.ip().is_unspecified() || other.ip().is_unspecified()) && one.is_ipv4() == other.is_ipv4();
    one.port() != 0 && one.port() == other.port() && same_place
}

fn ports(config: &Config, findings: &mut ConfigFindings<'_>) {
    let of_listen = config.listen.smtp.iter().map(|address| ("listen.smtp".to_owned(), *address));
    let further = config.listener.iter().enumerate().flat_map(|(nth, listener)| {
        listener.addresses.iter().map(move |address| (format!("listener.{nth}.addresses"), *address))
    });
    let all: Vec<(String, SocketAddr)> = of_listen.chain(further).collect();
    for (nth, (path, address)) in all.iter().enumerate() {
        if let Some((_, before)) = all.iter().take(nth).find(|(_, before)| collide(*before, *address)) {
            let message = format!("{address} and {before} are one port, which opens once: leave one of them out");
            findings.refuse(&[path], message);
        }
        if collide(*address, config.admin.listen) {
            let message = format!(
                "{} is taken by {address}, where mail is taken: give another port, such as 127.0.0.1:9925",
                config.admin.listen
            );
            findings.refuse(&["admin.listen", path], message);
        }
    }
}

fn dns(dns: &DnsConfig, findings: &mut ConfigFindings<'_>) {
    if dns.upstreams.is_empty() {
        findings.refuse(&["dns.upstreams"], "the number of upstreams must be at least 1");
    }
    if dns.deadline < dns.timeout {
        findings.refuse(&["dns.timeout", "dns.deadline"], "must be above zero and not above deadline");
    }
    if dns.root_hints.is_empty() && dns.upstreams.contains(&Upstream::Authoritative) {
        let message = "must name a server, or upstreams must leave \"authoritative\" out";
        findings.refuse(&["dns.root_hints", "dns.upstreams"], message);
    }
    private_zone::check(&dns.private_zones, findings);
    match dns.mode {
        DnsMode::Validate => {}
        DnsMode::TrustAd => {
            for stranger in dns.upstreams.iter().filter(|upstream| !upstream.may_vouch()) {
                let message = format!(
                    "\"trust-ad\" needs validating resolvers on loopback, and \"{stranger}\" is none: take it out of \
                     upstreams, or set mode = \"validate\""
                );
                findings.refuse(&["dns.mode", "dns.upstreams"], message);
            }
        }
    }
}

fn retry(retry: &Retry, findings: &mut ConfigFindings<'_>) {
    if retry.longest < retry.first {
        findings.refuse(&["retry.first", "retry.longest"], "must be above zero and not above longest");
    }
    if retry.expire_after < retry.first {
        let message = "is below first, so mail would come back before it is tried again: write for example \"4d\"";
        findings.refuse(&["retry.expire_after", "retry.first"], message);
    }
}

fn host(nth: usize, rule: &HostRule, findings: &mut ConfigFindings<'_>) {
    let at = |key: &str| format!("host.{nth}.{key}");
    if rule.hosts.is_empty() {
        findings.refuse(&[&at("hosts")], "must name at least one host");
    }
    if rule.max_connections.is_none() && rule.max_messages_per_connection.is_none() && rule.rate.is_none() {
        let message = "give max_connections, max_messages_per_connection or rate; as it stands it changes nothing";
        findings.refuse(&[&format!("host.{nth}")], message);
    }
}

/// No path is one of Windows, or holds what an escape in TOML has made of one.
fn paths(config: &Config, findings: &mut ConfigFindings<'_>) {
    let optional = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
    let all = [
        ("spool.path", config.spool.path.clone()),
        ("spool.url_file", optional(&config.spool.url_file)),
        ("listen.certificate", optional(&config.listen.certificate)),
        ("listen.private_key", optional(&config.listen.private_key)),
        ("notify.templates", optional(&config.notify.templates)),
        ("dns.resolv_conf", config.dns.resolv_conf.clone()),
        ("dns.hosts", config.dns.hosts.clone()),
    ];
    for (key, path) in all {
        let text = path.to_string_lossy();
        if text.contains('\\') || text.contains(char::is_control) || text.get(1..3) == Some(":/") {
            let message = format!("{text:?} is no path of this system: write it as \"/var/lib/relay\"");
            findings.refuse(&[key], message);
        }
    }
    if config.spool.path.as_os_str().is_empty() {
        findings.refuse(&["spool.path"], "is empty: name a folder, such as \"/var/lib/relay\"");
    }
}

/// No next hop may be the relay itself: its mail would come in again until it has too many Received lines.
fn no_way_back(nth: usize, destination: &Destination, config: &Config, findings: &mut ConfigFindings<'_>) {
    for hop in destination.next_hop.iter().flat_map(|hops| hops.iter()) {
        let is_ours = |listening: &&SocketAddr| match &hop.address {
            NextHopAddress::Address { ip, port } => {
                leads_to(SocketAddr::new(*ip, port.unwrap_or(config.delivery.port)), **listening)
            }
            NextHopAddress::Host { name, port } => {
                *name == config.hostname && port.unwrap_or(config.delivery.port) == listening.port()
            }
        };
        if let Some(listening) = config.smtp_addresses().iter().find(is_ours) {
            let message = format!(
                "{} is this relay itself, which listens on {listening}: mail would go round in a loop; name the \
                 server that takes the mail",
                hop.address
            );
            findings.refuse(&[&format!("destination.{nth}.next_hop"), "listen.smtp", "hostname"], message);
        }
    }
}

/// Whether a connection to an address ends at a socket that listens: what listens everywhere has loopback.
fn leads_to(address: SocketAddr, listening: SocketAddr) -> bool {
    // What listens everywhere is at the usual address of loopback for certain; others may be those of containers.
    let this_machine = [IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()].contains(&address.ip());
    let everywhere = listening.ip().is_unspecified() && (this_machine || address.ip().is_unspecified());
    address.port() == listening.port() && (address.ip() == listening.ip() || everywhere)
}
