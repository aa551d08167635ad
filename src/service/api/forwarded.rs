//! What a proxy in front of the port says of a browser: whether it speaks TLS, and from where; without I/O.

use crate::config::AdminConfig;
use crate::service::admin::listener::{AdminPeer, AdminTransport};
use axum::http::HeaderMap;
use std::net::{IpAddr, SocketAddr};

/// The field in which a proxy says what the browser speaks with it.
const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// The field to which each proxy on the way adds the address that it was asked from.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Whether others could read a request on its way: a proxy of ours says whether the browser spoke TLS with it. From
/// elsewhere, and said twice, the word counts for nothing.
pub(super) fn transport(headers: &HeaderMap, peer: AdminPeer, admin: &AdminConfig) -> AdminTransport {
    let mut said = headers.get_all(FORWARDED_PROTO).iter();
    let is_tls = matches!((said.next(), said.next()), (Some(proto), None) if proto == "https");
    if is_proxy(peer.address.ip(), admin) && is_tls { AdminTransport::Tls } else { peer.transport }
}

/// From where the browser asks. The last entry is by the proxy that asks here, and each one before it by the proxy
/// that the one after it names; so the last that is no proxy of ours is the client, and what stands before it is the
/// client's own. An entry that is no address leaves the proxy that wrote it.
pub(super) fn client(headers: &HeaderMap, peer: AdminPeer, admin: &AdminConfig) -> IpAddr {
    let fields = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut entries = fields.flat_map(|field| field.to_str().unwrap_or_default().rsplit(','));
    let mut nearest = peer.address.ip().to_canonical();
    while is_proxy(nearest, admin) {
        match entries.next().and_then(address) {
            Some(before) => nearest = before,
            None => break,
        }
    }
    nearest
}

/// An entry: an address, also one in brackets, or with the port that some proxies add.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = entry.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(entry);
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|ip| ip.to_canonical())
}

/// Whether the word of that address counts.
pub(super) fn is_proxy(ip: IpAddr, admin: &AdminConfig) -> bool {
    let ip = ip.to_canonical();
    admin.trusted_proxies.iter().any(|network| network.contains(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn peer(address: &str) -> AdminPeer {
        AdminPeer { address: address.parse().unwrap(), transport: AdminTransport::Clear }
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut made = HeaderMap::new();
        for (name, value) in all {
            made.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        made
    }

    fn proxied() -> AdminConfig {
        let trusted_proxies = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::1/128".parse().unwrap()];
        AdminConfig { trusted_proxies, ..AdminConfig::default() }
    }

    #[test]
    fn a_proxy_of_ours_alone_may_say_that_the_browser_speaks_tls() {
        let of = |address: &str, all: &[(&'static str, &str)]| transport(&headers(all), peer(address), &proxied());
        let https = (FORWARDED_PROTO, "https");
        assert_eq!(of("192.0.2.1:5", &[https]), AdminTransport::Tls);
        assert_eq!(of("127.0.0.1:5", &[https]), AdminTransport::Clear, "anybody could say so");
        assert_eq!(of("192.0.2.1:5", &[(FORWARDED_PROTO, "http")]), AdminTransport::Clear);
        assert_eq!(of("192.0.2.1:5", &[https, (FORWARDED_PROTO, "http")]), AdminTransport::Clear);
        assert_eq!(of("192.0.2.1:5", &[]), AdminTransport::Clear);
    }

    #[test]
    fn the_client_is_the_last_entry_that_is_no_proxy_of_ours() {
        for (from, fields, client_is) in [
            ("192.0.2.1:5", &["198.51.100.7"][..], "198.51.100.7"),
            ("[::ffff:192.0.2.1]:5", &["::ffff:198.51.100.7"], "198.51.100.7"),
            ("[2001:db8::1]:5", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("192.0.2.1:5", &["[2001:db8::7]"], "2001:db8::7"),
            ("192.0.2.1:5", &["198.51.100.7:4711"], "198.51.100.7"),
            // What the client wrote itself stands before.
            ("192.0.2.1:5", &["203.0.113.1, 198.51.100.7"], "198.51.100.7"),
            ("192.0.2.1:5", &["192.0.2.9, 203.0.113.1", "198.51.100.7"], "198.51.100.7"),
            // Proxies behind one another.
            ("192.0.2.1:5", &["203.0.113.1, 198.51.100.7, 192.0.2.2"], "198.51.100.7"),
            ("192.0.2.1:5", &["198.51.100.7,192.0.2.3", " 192.0.2.2 "], "198.51.100.7"),
            // Nobody says more than this.
            ("192.0.2.1:5", &[], "192.0.2.1"),
            ("192.0.2.1:5", &[""], "192.0.2.1"),
            ("192.0.2.1:5", &["203.0.113.1, unknown"], "192.0.2.1"),
            ("192.0.2.1:5", &["203.0.113.1, unknown, 192.0.2.2"], "192.0.2.2"),
            ("192.0.2.1:5", &["192.0.2.3, 192.0.2.2"], "192.0.2.3"),
            // From elsewhere anybody could say anything.
            ("198.51.100.7:5", &["203.0.113.1"], "198.51.100.7"),
        ] {
            let fields: Vec<_> = fields.iter().map(|field| (FORWARDED_FOR, *field)).collect();
            let said = client(&headers(&fields), peer(from), &proxied());
            assert_eq!(said.to_string(), client_is, "{from}: {fields:?}");
        }
        let said = client(&headers(&[(FORWARDED_FOR, "203.0.113.1")]), peer("127.0.0.1:5"), &AdminConfig::default());
        assert_eq!(said.to_string(), "127.0.0.1", "no proxy is named");
    }
}
