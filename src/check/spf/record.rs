//! An SPF record taken apart (RFC 7208 §4.6, §5, §6), and what to write into one.

use super::SpfResult;
use std::net::IpAddr;

/// How every record begins (RFC 7208 §4.5).
const VERSION: &str = "v=spf1";

/// One term of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Term {
    /// Who is meant, and what is said of them.
    Directive { result: SpfResult, mechanism: SpfMechanism },
    /// Go on with the record of another domain where nothing fits (RFC 7208 §6.1).
    Redirect(String),
    /// A modifier without bearing on the result, such as `exp`.
    Other,
}

/// Who is meant (RFC 7208 §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SpfMechanism {
    /// Everybody.
    All,
    /// Whoever passes the record of this domain.
    Include(String),
    /// The addresses of this name, or of the domain itself.
    A(NamedHosts),
    /// The addresses of the mail servers of this name, or of the domain itself.
    Mx(NamedHosts),
    /// A network.
    Network(ipnet::IpNet),
    /// What more than the address decides, or a macro.
    Unknown(String),
}

/// Hosts by name, with the prefixes that widen their addresses (RFC 7208 §5.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedHosts {
    pub(super) name: Option<String>,
    v4: u8,
    v6: u8,
}

impl NamedHosts {
    /// Whether an address is as good as that of a host.
    pub(super) fn covers(&self, host: IpAddr, address: IpAddr) -> bool {
        let prefix = if host.is_ipv4() { self.v4 } else { self.v6 };
        ipnet::IpNet::new(host, prefix).is_ok_and(|network| network.contains(&address))
    }
}

/// Whether a TXT record is one of SPF.
pub(super) fn is_record(text: &str) -> bool {
    let version = text.split(' ').next().unwrap_or_default();
    version.eq_ignore_ascii_case(VERSION)
}

/// The terms of a record.
pub(super) fn terms(record: &str) -> Result<Vec<Term>, String> {
    record.split(' ').skip(1).filter(|term| !term.is_empty()).map(term).collect()
}

fn term(text: &str) -> Result<Term, String> {
    if let Some((name, value)) = text.split_once('=').filter(|(name, _)| name.chars().all(is_name)) {
        let redirects = name.eq_ignore_ascii_case("redirect");
        return Ok(match redirects {
            true if value.contains('%') => {
                Term::Directive { result: SpfResult::Neutral, mechanism: SpfMechanism::Unknown(text.to_owned()) }
            }
            true => Term::Redirect(value.to_owned()),
            false => Term::Other,
        });
    }
    let (result, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (SpfResult::Pass, rest),
        Some(("-", rest)) => (SpfResult::Fail, rest),
        Some(("~", rest)) => (SpfResult::SoftFail, rest),
        Some(("?", rest)) => (SpfResult::Neutral, rest),
        Some(_) | None => (SpfResult::Pass, text),
    };
    let mechanism = mechanism(rest).ok_or_else(|| format!("\"{text}\" is no mechanism"))?;
    Ok(Term::Directive { result, mechanism })
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

fn mechanism(text: &str) -> Option<SpfMechanism> {
    if text.contains('%') {
        return Some(SpfMechanism::Unknown(text.to_owned()));
    }
    let end = text.find([':', '/']).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    let value = rest.strip_prefix(':');
    match name.to_ascii_lowercase().as_str() {
        "all" if rest.is_empty() => Some(SpfMechanism::All),
        "include" => value.filter(|value| !value.is_empty()).map(|value| SpfMechanism::Include(value.to_owned())),
        "a" => hosts(rest).map(SpfMechanism::A),
        "mx" => hosts(rest).map(SpfMechanism::Mx),
        "ip4" => network(value?).filter(|network| network.addr().is_ipv4()).map(SpfMechanism::Network),
        "ip6" => network(value?).filter(|network| network.addr().is_ipv6()).map(SpfMechanism::Network),
        "exists" | "ptr" => Some(SpfMechanism::Unknown(text.to_owned())),
        _ => None,
    }
}

fn network(text: &str) -> Option<ipnet::IpNet> {
    text.parse::<IpAddr>().map(ipnet::IpNet::from).ok().or_else(|| text.parse().ok())
}

/// `:name/24//64`, each part where it is given.
fn hosts(rest: &str) -> Option<NamedHosts> {
    let (name, prefixes) = match rest.strip_prefix(':') {
        Some(named) => {
            let end = named.find('/').unwrap_or(named.len());
            let (name, prefixes) = named.split_at_checked(end)?;
            (Some(name).filter(|name| !name.is_empty()).map(str::to_owned), prefixes)
        }
        None => (None, rest),
    };
    if rest.starts_with(':') && name.is_none() {
        return None;
    }
    let (v4, v6) = match prefixes.split_once("//") {
        Some((v4, v6)) => (v4, Some(v6)),
        None => (prefixes, None),
    };
    let v4 = if v4.is_empty() { 32 } else { v4.strip_prefix('/')?.parse().ok().filter(|prefix| *prefix <= 32)? };
    let v6 = match v6 {
        Some(v6) => v6.parse().ok().filter(|prefix| *prefix <= 128)?,
        None => 128,
    };
    Some(NamedHosts { name, v4, v6 })
}

/// The record of a domain, with these addresses in it.
#[must_use]
pub fn suggestion(record: Option<&str>, addresses: &[IpAddr]) -> String {
    let own: Vec<String> = addresses
        .iter()
        .map(|address| match address {
            IpAddr::V4(v4) => format!("ip4:{v4}"),
            IpAddr::V6(v6) => format!("ip6:{v6}"),
        })
        .collect();
    let rest = record.and_then(|record| record.split_once(' ')).map_or("~all", |(_version, rest)| rest.trim());
    format!("{VERSION} {} {rest}", own.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directive(result: SpfResult, mechanism: SpfMechanism) -> Term {
        Term::Directive { result, mechanism }
    }

    #[test]
    fn rfc7208_4_6_a_record_is_taken_apart() {
        let named = |name: Option<&str>, v4, v6| NamedHosts { name: name.map(str::to_owned), v4, v6 };
        let found =
            terms("v=spf1 mx a:mail.example.org/24//64 ip4:192.0.2.0/24  IP6:2001:db8::1 include:a.example ~all");
        let expected = [
            directive(SpfResult::Pass, SpfMechanism::Mx(named(None, 32, 128))),
            directive(SpfResult::Pass, SpfMechanism::A(named(Some("mail.example.org"), 24, 64))),
            directive(SpfResult::Pass, SpfMechanism::Network("192.0.2.0/24".parse().unwrap())),
            directive(SpfResult::Pass, SpfMechanism::Network("2001:db8::1/128".parse().unwrap())),
            directive(SpfResult::Pass, SpfMechanism::Include("a.example".to_owned())),
            directive(SpfResult::SoftFail, SpfMechanism::All),
        ];
        assert_eq!(found.unwrap(), expected);
        let rest = terms("v=spf1 ?exists:%{i}.x.example redirect=b.example exp=why.example").unwrap();
        let depends = SpfMechanism::Unknown("exists:%{i}.x.example".to_owned());
        assert_eq!(rest, [directive(SpfResult::Neutral, depends), Term::Redirect("b.example".to_owned()), Term::Other]);
    }

    #[test]
    fn rfc7208_4_6_what_is_no_record_is_named() {
        for wrong in
            ["v=spf1 ip4:example.org", "v=spf1 ip4:2001:db8::1", "v=spf1 mx/33", "v=spf1 include:", "v=spf1 al"]
        {
            assert!(terms(wrong).is_err(), "{wrong}");
        }
        assert!(is_record("V=SPF1 -all") && is_record("v=spf1") && !is_record("v=spf10 -all"));
    }

    #[test]
    fn a_suggested_record_keeps_what_the_old_one_says() {
        let addresses = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        assert_eq!(suggestion(None, &addresses), "v=spf1 ip4:192.0.2.7 ip6:2001:db8::7 ~all");
        assert_eq!(suggestion(Some("v=spf1 mx -all"), &addresses[..1]), "v=spf1 ip4:192.0.2.7 mx -all");
    }
}
