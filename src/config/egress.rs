//! How mail of a `[[destination]]` leaves: the login and certificate that we show, the address that we
//! send from, whether TLS comes first (RFC 4954, RFC 8314).

use crate::smtp::address::Domain;
use serde::Deserialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// Who we are at a next hop; the password is in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginConfig {
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
pub struct ClientCertificateFiles {
    /// The certificate with those above it.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where connections come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceAddresses {
    /// The address to send from over IPv4; the system chooses where there is none.
    pub ipv4: Option<Ipv4Addr>,
    /// The same over IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// The name for EHLO that goes with them; `hostname` where there is none.
    pub ehlo: Option<Domain>,
}

impl SourceAddresses {
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
