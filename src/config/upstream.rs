//! The ways to the DNS as the configuration writes them, and where a walk from the root starts.
//!
//! `system`, `udp://IP:PORT`, `tcp://IP:PORT`, `tls://IP:PORT#NAME` (DNS over TLS, RFC 7858),
//! `https://IP:PORT/PATH#NAME` (DNS over HTTPS, RFC 8484), `authoritative`. Upstreams are
//! addresses, never names: a resolver that must be resolved first is no way out of trouble.

use crate::smtp::address::Domain;
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The port of DNS (RFC 1035 §4.2).
const PORT: u16 = 53;
/// The port of DNS over TLS (RFC 7858 §3.1).
const PORT_TLS: u16 = 853;
/// The port of HTTPS.
const PORT_HTTPS: u16 = 443;
/// The path of DNS over HTTPS where none is given (RFC 8484 §4.1.1).
const HTTPS_PATH: &str = "/dns-query";

/// The addresses of the root servers, as in the root hints of December 2025.
const ROOT_SERVERS: &[&str] = &[
    "198.41.0.4",
    "170.247.170.2",
    "192.33.4.12",
    "199.7.91.13",
    "192.203.230.10",
    "192.5.5.241",
    "192.112.36.4",
    "198.97.190.53",
    "192.36.148.17",
    "192.58.128.30",
    "193.0.14.129",
    "199.7.83.42",
    "202.12.27.33",
    "2001:503:ba3e::2:30",
    "2801:1b8:10::b",
    "2001:500:2::c",
    "2001:500:2d::d",
    "2001:500:a8::e",
    "2001:500:2f::f",
    "2001:500:12::d0d",
    "2001:500:1::53",
    "2001:7fe::53",
    "2001:503:c27::2:30",
    "2001:7fd::1",
    "2001:500:9f::42",
    "2001:dc3::35",
];

/// One way to the DNS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Upstream {
    /// The servers of `/etc/resolv.conf`.
    System,
    /// A server over UDP, and over TCP where UDP gives no usable answer.
    Udp(SocketAddr),
    /// A server over TCP alone.
    Tcp(SocketAddr),
    /// A server over TLS.
    Tls {
        /// Where it is.
        server: SocketAddr,
        /// The name its certificate must carry.
        name: Domain,
    },
    /// A server over HTTPS.
    Https {
        /// Where it is.
        server: SocketAddr,
        /// The path of its address, from the slash on.
        path: String,
        /// The name its certificate must carry.
        name: Domain,
    },
    /// The authoritative servers themselves, from the root down.
    Authoritative,
}

impl Upstream {
    /// Whether its AD bit may be trusted: only when nobody can come between (RFC 7672 §2.1.1).
    /// What `system` leads to is seen when it is read.
    pub(super) fn may_vouch(&self) -> bool {
        match self {
            Self::System => true,
            Self::Udp(server) | Self::Tcp(server) | Self::Tls { server, .. } | Self::Https { server, .. } => {
                server.ip().is_loopback()
            }
            Self::Authoritative => false,
        }
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let server = |rest: &str, port: u16| {
            parse_server(rest, port).ok_or_else(|| format!("\"{text}\": no IP address after the scheme"))
        };
        match text {
            "system" => return Ok(Self::System),
            "authoritative" => return Ok(Self::Authoritative),
            _ => {}
        }
        if let Some(rest) = text.strip_prefix("udp://") {
            server(rest, PORT).map(Self::Udp)
        } else if let Some(rest) = text.strip_prefix("tcp://") {
            server(rest, PORT).map(Self::Tcp)
        } else if let Some(rest) = text.strip_prefix("tls://") {
            let (address, name) = named(text, rest)?;
            Ok(Self::Tls { server: server(address, PORT_TLS)?, name })
        } else if let Some(rest) = text.strip_prefix("https://") {
            let (rest, name) = named(text, rest)?;
            let (address, path) = rest.find('/').map_or((rest, HTTPS_PATH), |slash| rest.split_at(slash));
            Ok(Self::Https { server: server(address, PORT_HTTPS)?, path: path.to_owned(), name })
        } else {
            Err(format!(
                "\"{text}\" is no upstream: write \"system\", \"udp://IP:PORT\", \"tcp://IP:PORT\", \
                 \"tls://IP:PORT#NAME\", \"https://IP:PORT/PATH#NAME\" or \"authoritative\""
            ))
        }
    }
}

fn named<'a>(text: &str, rest: &'a str) -> Result<(&'a str, Domain), String> {
    let (address, name) = rest
        .rsplit_once('#')
        .ok_or_else(|| format!("\"{text}\": add #NAME, the name in the certificate of the server"))?;
    let name = name.parse().map_err(|e| format!("\"{text}\": {name} is no name of a server: {e}"))?;
    Ok((address, name))
}

/// `192.0.2.1`, `192.0.2.1:5353`, `[2001:db8::1]:53`, `2001:db8::1`.
fn parse_server(text: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port))
}

/// The root servers of the internet.
pub(super) fn root_servers() -> Vec<SocketAddr> {
    ROOT_SERVERS.iter().filter_map(|text| parse_server(text, PORT)).collect()
}

/// A list of addresses, with ports where they are not 53.
pub(super) fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    Ok(Vec::<ListedServer>::deserialize(deserializer)?.into_iter().map(|ListedServer(address)| address).collect())
}

/// One of such a list, so that a wrong one is told by itself.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct ListedServer(SocketAddr);

impl TryFrom<String> for ListedServer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let address = parse_server(&text, PORT).map(Self);
        address.ok_or_else(|| format!("\"{text}\" is no address of a server; write \"IP\" or \"IP:PORT\""))
    }
}

impl TryFrom<String> for Upstream {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Udp(server) => write!(f, "udp://{server}"),
            Self::Tcp(server) => write!(f, "tcp://{server}"),
            Self::Tls { server, name } => write!(f, "tls://{server}#{name}"),
            Self::Https { server, path, name } => write!(f, "https://{server}{path}#{name}"),
            Self::Authoritative => f.write_str("authoritative"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> Result<String, String> {
        text.parse::<Upstream>().map(|upstream| upstream.to_string())
    }

    #[test]
    fn upstreams_print_as_they_are_written_with_their_port() {
        for (written, shown) in [
            ("system", "system"),
            ("authoritative", "authoritative"),
            ("udp://192.0.2.1", "udp://192.0.2.1:53"),
            ("tcp://[2001:db8::1]:5", "tcp://[2001:db8::1]:5"),
            ("tls://192.0.2.1#dns.example", "tls://192.0.2.1:853#dns.example"),
            ("tls://[2001:db8::1]#dns.example", "tls://[2001:db8::1]:853#dns.example"),
            ("https://192.0.2.1/q#dns.example", "https://192.0.2.1:443/q#dns.example"),
            ("https://192.0.2.1:8443#dns.example", "https://192.0.2.1:8443/dns-query#dns.example"),
        ] {
            assert_eq!(printed(written).as_deref(), Ok(shown));
        }
    }

    #[test]
    fn an_upstream_that_cannot_be_used_says_what_is_missing() {
        assert!(printed("tls://192.0.2.1").unwrap_err().contains("add #NAME"));
        assert!(printed("udp://dns.example").unwrap_err().contains("no IP address"));
        assert!(printed("https://192.0.2.1/#not a name").unwrap_err().contains("no name of a server"));
        assert!(printed("quic://192.0.2.1").unwrap_err().contains("is no upstream"));
    }

    #[test]
    fn all_root_servers_have_both_addresses() {
        assert_eq!(root_servers().len(), 26);
        assert_eq!(root_servers().iter().filter(|server| server.is_ipv4()).count(), 13);
    }
}
