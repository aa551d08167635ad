//! `[[destination]]`: what the operator wants for certain recipient domains.
//!
//! A pattern means domains, or the addresses of recipients at address literals; `*` means all of
//! both, so that with it there is no recipient without a rule (`route.rs` takes exactly one).
//!
//! A demand above what the recipient's domain publishes needs no excuse. A weakening does: a
//! reason, and a day after which it is over.

use super::egress::{ClientCertificateFiles, FamilyChoice, LoginConfig, SourceAddresses, TlsMode};
use super::next_hop::NextHops;
use super::sender::SenderPattern;
use super::sending::Rate;
use crate::clock::Timestamp;
use crate::smtp::address::{Domain, Host, ReversePath};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer};
use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// What holds for certain recipient domains.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// The recipient domains: `example.org`, `*.example.org` for all below it, `*` for all others;
    /// and address literals: `[192.0.2.1]`, `[192.0.2.0/24]`, `[IPv6:2001:db8::1]`.
    pub domains: Vec<DomainPattern>,
    /// The most connections for one next hop at once, instead of `[delivery] max_per_next_hop`.
    #[serde(default)]
    pub max_connections: Option<usize>,
    /// The most messages of one connection.
    #[serde(default)]
    pub max_messages_per_connection: Option<u32>,
    /// The most messages to one next hop in a time.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// Whose mail it is about: `user@example.org`, `@example.org`, `<>`; everybody's where none is named.
    #[serde(default)]
    pub senders: Vec<SenderPattern>,
    /// Where their mail goes instead of to their MX hosts, in the order in which it is tried.
    #[serde(default)]
    pub next_hop: Option<NextHops>,
    /// When TLS begins at the next hop.
    #[serde(default)]
    pub tls_mode: Option<TlsMode>,
    /// Who we are at the next hop.
    #[serde(default)]
    pub login: Option<LoginConfig>,
    /// What we show to servers that ask for a certificate.
    #[serde(default)]
    pub client_certificate: Option<ClientCertificateFiles>,
    /// Where connections come from.
    #[serde(default)]
    pub source: Option<SourceAddresses>,
    /// Which addresses of a host are tried.
    #[serde(default)]
    pub family: Option<FamilyChoice>,
    /// What TLS must be like.
    #[serde(default)]
    pub tls: Option<TlsLevel>,
    /// Whether policies are evaluated and counted, and the mail goes out whatever they say.
    #[serde(default, alias = "report-only")]
    pub report_only: bool,
    /// The last day of a weakening, in UTC.
    #[serde(default)]
    pub until: Option<LastDay>,
    /// Why a weakening is needed.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What the operator wants of TLS for a destination. Without a level DANE and MTA-STS decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsLevel {
    /// TLS when it is offered, DANE and MTA-STS are not looked at: a weakening.
    Opportunistic,
    /// At least TLS; DANE and MTA-STS hold where the domain publishes them.
    Encrypt,
    /// DANE where the domain has it, MTA-STS is not looked at: a weakening.
    Dane,
    /// DANE or nothing (RFC 7672 §6).
    DaneOnly,
    /// A certificate that an MTA-STS policy, or DANE with signed MX records, vouches for, or nothing.
    MtaSts,
    /// No TLS at all: a weakening.
    Off,
}

impl TlsLevel {
    /// The word of the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Opportunistic => "opportunistic",
            Self::Encrypt => "encrypt",
            Self::Dane => "dane",
            Self::DaneOnly => "dane-only",
            Self::MtaSts => "mta-sts",
            Self::Off => "off",
        }
    }

    /// Whether it asks for less than what a domain may publish.
    #[must_use]
    pub const fn weakens(self) -> bool {
        match self {
            Self::Opportunistic | Self::Dane | Self::Off => true,
            Self::Encrypt | Self::DaneOnly | Self::MtaSts => false,
        }
    }
}

/// A destination that asks for less than what the domain publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weakening<'a> {
    /// What it does: `report-only`, or the word of its level.
    pub kind: &'static str,
    /// Why the operator needs it, in their words.
    pub reason: &'a str,
    /// Its last day.
    pub until: LastDay,
}

impl Destination {
    /// Its domains, as messages name it.
    #[must_use]
    pub fn label(&self) -> String {
        self.domains.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// The weakening that this destination is, if it is one, whatever the day.
    #[must_use]
    pub fn weakening(&self) -> Option<Weakening<'_>> {
        let kind = match (self.report_only, self.tls) {
            (true, _) => "report-only",
            (false, Some(level)) if level.weakens() => level.word(),
            (false, Some(_) | None) => return None,
        };
        // `check` sees to it that both are there.
        Some(Weakening { kind, reason: self.reason.as_deref()?, until: self.until? })
    }
}

/// The last day of something, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastDay(time::Date);

impl LastDay {
    /// The first moment after it.
    #[must_use]
    pub fn end(self) -> Timestamp {
        let start = self.0.midnight().assume_utc().unix_timestamp();
        Timestamp(start.saturating_mul(1000)).plus(Duration::from_secs(86_400))
    }
}

impl fmt::Display for LastDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for LastDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || serde::de::Error::custom("until is a day without quotes and without a time: until = 2027-01-31");
        let given = toml::value::Datetime::deserialize(deserializer).map_err(|_| wrong())?;
        let (Some(date), None, None) = (given.date, given.time, given.offset) else { return Err(wrong()) };
        let month = time::Month::try_from(date.month).map_err(|_| wrong())?;
        time::Date::from_calendar_date(i32::from(date.year), month, date.day).map(Self).map_err(|_| wrong())
    }
}

/// Which recipient domains are meant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum DomainPattern {
    /// Every domain and every address literal that no other destination names.
    Any,
    /// Every domain below this one, and not itself.
    Below(Domain),
    /// This domain alone.
    Exactly(Domain),
    /// Address literals of this network, often of one address (RFC 5321 §4.1.3).
    Literals(IpNet),
}

impl DomainPattern {
    /// How closely the pattern fits what stands right of the `@`, more for closer; `None` when it
    /// does not. An IPv4 address is the same in its IPv6 spelling.
    #[must_use]
    pub fn fit(&self, host: &Host) -> Option<usize> {
        match (self, host) {
            (Self::Any, Host::Domain(_) | Host::Literal(_)) => Some(0),
            (Self::Below(parent), Host::Domain(domain)) => {
                let above = domain.as_str().strip_suffix(parent.as_str())?;
                above.ends_with('.').then(|| parent.as_str().len())
            }
            (Self::Exactly(exact), Host::Domain(domain)) => (exact == domain).then_some(usize::MAX),
            (Self::Literals(network), Host::Literal(address)) => {
                network.contains(&address.to_canonical()).then(|| 1 + usize::from(network.prefix_len()))
            }
            (Self::Literals(_), Host::Domain(_)) | (Self::Below(_) | Self::Exactly(_), Host::Literal(_)) => None,
        }
    }

    /// What stands between the brackets of an address literal, or a network in their place.
    fn literals(inside: &str) -> Option<Self> {
        let tag = inside.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:"));
        let text = inside.get(tag.map_or(0, str::len)..)?;
        let network = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>()).ok()?;
        let is_tagged_right = tag.is_none() || matches!(network, IpNet::V6(_));
        is_tagged_right.then(|| Self::Literals(canonical(network.trunc())))
    }
}

/// A network of IPv4 addresses in their IPv6 spelling, as one of IPv4 addresses.
fn canonical(network: IpNet) -> IpNet {
    let mapped = network.prefix_len().checked_sub(96).map(|prefix_len| (network.addr().to_canonical(), prefix_len));
    match (network, mapped) {
        (IpNet::V6(_), Some((IpAddr::V4(address), prefix_len))) => {
            Ipv4Net::new(address, prefix_len).map_or(network, IpNet::V4)
        }
        (IpNet::V4(_) | IpNet::V6(_), _) => network,
    }
}

/// The destination that holds for mail of a sender to a host, by its place.
///
/// The domain that fits most closely comes first. Among destinations whose domain fits equally well, one
/// for this very sender comes before one for the sender's domain, and that before one for everybody; one
/// for other senders does not count. Without a sender only those for everybody do. So every recipient is
/// under one rule at most, and under exactly one where a destination means `*` and everybody.
#[must_use]
pub fn closest(host: &Host, sender: Option<&ReversePath>, destinations: &[Destination]) -> Option<usize> {
    let by_sender = |d: &Destination| match (d.senders.as_slice(), sender) {
        ([], _) => Some(0),
        (senders, Some(sender)) => senders.iter().filter_map(|pattern| pattern.fit(sender)).max(),
        (_, None) => None,
    };
    let fit = |d: &Destination| {
        let by_domain = d.domains.iter().filter_map(|pattern| pattern.fit(host)).max()?;
        Some((by_domain, by_sender(d)?))
    };
    let fitting = destinations.iter().enumerate().filter_map(|(index, d)| Some((fit(d)?, Reverse(index))));
    fitting.max().map(|(_, Reverse(index))| index)
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Exactly(domain) => domain.fmt(f),
            Self::Literals(network) => {
                let tag = if matches!(network, IpNet::V6(_)) { "IPv6:" } else { "" };
                match network.prefix_len() == network.max_prefix_len() {
                    true => write!(f, "[{tag}{}]", network.addr()),
                    false => write!(f, "[{tag}{network}]"),
                }
            }
        }
    }
}

impl TryFrom<String> for DomainPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(inside) = text.strip_prefix('[') {
            let literals = inside.strip_suffix(']').and_then(Self::literals);
            return literals.ok_or_else(|| {
                format!("\"{text}\" is no address literal: write \"[192.0.2.1]\", \"[192.0.2.0/24]\" or \"[IPv6:2001:db8::1]\"")
            });
        }
        if let Some(domain) = text.strip_prefix('*').or_else(|| text.strip_prefix('.')).filter(|d| !d.starts_with('.'))
        {
            return Err(format!("\"{text}\": write \"*.{domain}\" for all below it, and \"{domain}\" for itself"));
        }
        if let Some((_, domain)) = text.rsplit_once('@') {
            return Err(format!("\"{text}\": write the domain alone, \"{domain}\""));
        }
        let wrong = |e| format!("\"{text}\" is no domain: {e}");
        match text.strip_prefix("*.") {
            Some(parent) => parent.parse().map(Self::Below).map_err(wrong),
            None => text.parse().map(Self::Exactly).map_err(wrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use std::path::Path;

    fn parse(lines: &str) -> Result<Destination, String> {
        let text = format!("[[destination]]\n{lines}");
        let config = Config::parse(&text, Path::new("relay.toml")).map_err(|e| e.to_string())?;
        Ok(config.destination.into_iter().next().unwrap())
    }

    #[test]
    fn a_weakening_needs_a_reason_and_a_last_day() {
        for weak in ["tls = \"opportunistic\"", "tls = \"dane\"", "tls = \"off\"", "report_only = true"] {
            let at = |more: &str| parse(&format!("domains = [\"x.example\"]\n{weak}\n{more}"));
            assert!(at("").unwrap_err().contains("needs a reason"), "{weak}");
            assert!(at("reason = \" \"").unwrap_err().contains("needs a reason"), "{weak}");
            assert!(at("reason = \"old MX\"").unwrap_err().contains("until = 2027-01-31"), "{weak}");
            let destination = at("reason = \"old MX\"\nuntil = 2027-01-31").unwrap();
            let weakening = destination.weakening().unwrap();
            assert_eq!(weakening.reason, "old MX");
            assert_eq!(weakening.until.to_string(), "2027-01-31");
            assert_eq!(weakening.until.end().rfc3339(), "2027-02-01T00:00:00Z");
        }
    }

    #[test]
    fn a_demand_needs_neither_and_takes_no_last_day() {
        for level in ["encrypt", "dane-only", "mta-sts"] {
            let lines = format!("domains = [\"x.example\"]\ntls = \"{level}\"\n");
            assert_eq!(parse(&lines).unwrap().weakening(), None);
            assert!(parse(&format!("{lines}until = 2027-01-31")).unwrap_err().contains("until is for a weakening"));
        }
    }

    #[test]
    fn what_changes_nothing_or_cannot_be_read_is_refused() {
        assert!(parse("domains = [\"x.example\"]").unwrap_err().contains("changes nothing"));
        assert!(parse("domains = []\ntls = \"encrypt\"").unwrap_err().contains("at least one"));
        let error = parse("domains = [\"x.example\"]\ntls = \"dane-onyl\"").unwrap_err();
        assert!(error.ends_with("did you mean `dane-only`?"), "{error}");
        for day in ["\"2027-01-31\"", "2027-01-31T00:00:00Z", "2027-02-30", "true"] {
            let lines = format!("domains = [\"x.example\"]\nreport-only = true\nreason = \"x\"\nuntil = {day}");
            assert!(parse(&lines).is_err(), "{day}");
        }
    }

    #[test]
    fn the_closest_pattern_fits_best() {
        let host: Host = "mail.example.org".parse().unwrap();
        let fit = |pattern: &str| DomainPattern::try_from(pattern.to_owned()).unwrap().fit(&host);
        assert!(fit("mail.example.org") > fit("*.example.org"));
        assert!(fit("*.example.org") > fit("*.org"));
        assert!(fit("*.org") > fit("*"));
        assert_eq!(fit("example.org"), None);
        assert_eq!(fit("*.mail.example.org"), None, "below, and not itself");
        assert_eq!(fit("*.ample.org"), None, "whole labels only");
        assert_eq!(fit("[0.0.0.0/0]"), None, "an address is no domain");
    }

    #[test]
    fn rfc5321_4_1_3_an_address_literal_is_meant_by_its_address_in_any_spelling() {
        let fit = |pattern: &str, host: &str| {
            DomainPattern::try_from(pattern.to_owned()).unwrap().fit(&host.parse().unwrap())
        };
        for literal in ["[192.0.2.1]", "[IPv6:::ffff:192.0.2.1]", "[ipv6:::FFFF:C000:201]"] {
            for pattern in ["[192.0.2.1]", "[192.0.2.0/24]", "[IPv6:::ffff:192.0.2.1]", "[::ffff:192.0.2.0/120]", "*"] {
                assert!(fit(pattern, literal).is_some(), "{pattern} {literal}");
            }
            assert!(fit("[192.0.2.1]", literal) > fit("[192.0.2.77/24]", literal));
            assert!(fit("[0.0.0.0/0]", literal) > fit("*", literal));
            for pattern in ["[192.0.2.2]", "[IPv6:2001:db8::1]", "[IPv6:2001:db8::/32]", "*.1", "192.0.2.1"] {
                assert_eq!(fit(pattern, literal), None, "{pattern} {literal}");
            }
        }
        for pattern in ["[2001:db8::1]", "[IPv6:2001:DB8::1]", "[2001:db8::/32]", "[::/0]", "*"] {
            assert!(fit(pattern, "[IPv6:2001:db8::1]").is_some(), "{pattern}");
        }
    }

    #[test]
    fn an_address_literal_is_written_as_in_an_address_and_a_wrong_one_is_refused() {
        let written = |text: &str| DomainPattern::try_from(text.to_owned()).map(|pattern| pattern.to_string());
        assert_eq!(written("[192.0.2.1]").unwrap(), "[192.0.2.1]");
        assert_eq!(written("[192.0.2.9/24]").unwrap(), "[192.0.2.0/24]");
        assert_eq!(written("[2001:db8::1]").unwrap(), "[IPv6:2001:db8::1]");
        assert_eq!(written("[ipv6:2001:db8::/32]").unwrap(), "[IPv6:2001:db8::/32]");
        for wrong in ["[192.0.2.1", "[]", "[x.example]", "[IPv6:192.0.2.1]", "[192.0.2.0/33]", "*.[192.0.2.1]"] {
            assert!(written(wrong).is_err(), "{wrong}");
        }
        assert!(written("[192.0.2.1").unwrap_err().contains("[192.0.2.0/24]"));
    }
}
