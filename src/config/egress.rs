//! How mail of a `[[destination]]` leaves: the login and certificate that we show, the address that we
//! send from, whether TLS comes first (RFC 4954, RFC 8314).

use super::Destination;
use super::destination::TlsLevel;
use super::next_hop::{NextHopAddress, NextHops};
use crate::smtp::address::Domain;
use serde::Deserialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// Who we are at a next hop; the password is in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The name to log in with.
    pub user: String,
    /// The file with the password: its first line.
    pub password_file: Option<PathBuf>,
    /// The credential of the service manager with the password: a file in `$CREDENTIALS_DIRECTORY`.
    pub credential: Option<String>,
}

/// What we show where a server asks for a certificate, in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// The certificate with those above it.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where connections come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The address to send from over IPv4; the system chooses where there is none.
    pub ipv4: Option<Ipv4Addr>,
    /// The same over IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// The name for EHLO that goes with them; `hostname` where there is none.
    pub ehlo: Option<Domain>,
}

impl Source {
    /// The address to send from to a peer.
    #[must_use]
    pub fn towards(&self, peer: IpAddr) -> Option<IpAddr> {
        if peer.is_ipv4() { self.ipv4.map(IpAddr::V4) } else { self.ipv6.map(IpAddr::V6) }
    }

    /// All addresses to send from.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

/// Which addresses of a host are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FamilyChoice {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both, IPv4 first.
    PreferIpv4,
}

impl FamilyChoice {
    /// The word of the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::PreferIpv4 => "prefer-ipv4",
        }
    }
}

impl fmt::Display for FamilyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// After STARTTLS (RFC 3207).
    #[default]
    Starttls,
    /// With the first octet (RFC 8314 §3.3), on port 465 where none is given.
    Implicit,
}

/// Whether the keys of this file go together.
///
/// # Errors
/// Which ones do not, and what to change.
pub(super) fn check(destination: &Destination) -> Result<(), String> {
    let Destination { next_hop, tls, tls_mode, login, report_only, .. } = destination;
    if *tls_mode == Some(TlsMode::Implicit) {
        if next_hop.is_none() {
            return Err("tls_mode = \"implicit\" is for a next_hop: MX hosts speak STARTTLS".to_owned());
        }
        if *tls == Some(TlsLevel::Off) {
            return Err("tls_mode = \"implicit\" and tls = \"off\" contradict each other".to_owned());
        }
    }
    let Some(login) = login else { return Ok(()) };
    match (&login.password_file, &login.credential) {
        (Some(_), Some(_)) | (None, None) => {
            return Err("login needs a password_file or a credential, and not both".to_owned());
        }
        (None, Some(name)) if name.is_empty() || name.contains('/') || name.starts_with('.') => {
            return Err(format!("login: credential \"{name}\" is no name of a credential"));
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    if login.user.is_empty() || login.user.contains(char::is_control) {
        return Err("login: user must not be empty or hold control characters".to_owned());
    }
    let is_address = |hops: &NextHops| hops.iter().any(|hop| matches!(hop.address, NextHopAddress::Address { .. }));
    match next_hop {
        None => return Err("login is for a next_hop: nobody logs in at the MX hosts of others".to_owned()),
        Some(hops) if is_address(hops) => {
            return Err("login needs next_hop by name: only for a name is there a certificate to prove who gets the \
                        password"
                .to_owned());
        }
        Some(_) => {}
    }
    if *report_only || tls.is_some_and(TlsLevel::weakens) {
        return Err(
            "login needs TLS to a server that is proven to be the right one: take the weakening away".to_owned()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use std::path::Path;

    fn parse(lines: &str) -> Result<Destination, String> {
        let text = format!("[[destination]]\ndomains = [\"x.example\"]\n{lines}");
        let config = Config::parse(&text, Path::new("relay.toml")).map_err(|e| e.to_string())?;
        Ok(config.destination.into_iter().next().unwrap())
    }

    #[test]
    fn what_goes_together_is_taken() {
        for lines in [
            "next_hop = \"smart.example:587\"\nlogin = { user = \"relay\", password_file = \"/run/secret\" }",
            "next_hop = \"smart.example\"\ntls_mode = \"implicit\"\nlogin = { user = \"relay\", credential = \"smart\" }",
            "client_certificate = { chain = \"a.pem\", key = \"a.key\" }",
            "source = { ipv4 = \"192.0.2.7\", ipv6 = \"2001:db8::7\", ehlo = \"out.example\" }",
            "family = \"prefer-ipv4\"",
        ] {
            parse(lines).unwrap();
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_what_to_change() {
        let smart = "next_hop = \"smart.example:587\"\n";
        let login = "login = { user = \"relay\", password_file = \"/run/secret\" }\n";
        let weak = "tls = \"opportunistic\"\nreason = \"x\"\nuntil = 2199-01-01\n";
        for (lines, words) in [
            (login.to_owned(), "nobody logs in at the MX hosts"),
            (format!("next_hop = \"192.0.2.1\"\n{login}"), "needs next_hop by name"),
            (format!("{smart}{login}{weak}"), "take the weakening away"),
            (format!("{smart}login = {{ user = \"relay\" }}"), "a password_file or a credential"),
            (format!("{smart}login = {{ user = \"relay\", password = \"x\" }}"), "unknown field `password`"),
            (format!("{smart}login = {{ user = \"relay\", credential = \"../x\" }}"), "no name of a credential"),
            (format!("{smart}login = {{ user = \"\", credential = \"x\" }}"), "user must not be empty"),
            ("tls_mode = \"implicit\"".to_owned(), "MX hosts speak STARTTLS"),
            (format!("{smart}tls_mode = \"smtps\""), "unknown variant `smtps`"),
            ("family = \"ipv5\"".to_owned(), "relay.toml:3: unknown variant `ipv5`"),
            ("source = { ipv4 = \"2001:db8::1\" }".to_owned(), "relay.toml:3: \"2001:db8::1\""),
            ("client_certificate = { chain = \"x\" }".to_owned(), "missing field `key`"),
        ] {
            let error = parse(&lines).unwrap_err();
            assert!(error.contains(words), "{lines}: {error}");
        }
    }
}
