//! Where a domain wants its reports to go (pure): `mailto:` and `https:`, and no other (RFC 8460 §3).
//!
//! Whoever publishes a record is a stranger, so a place is a name of the DNS and never an address, and
//! everything has its bound.

use crate::smtp::address::{Domain, Host, Mailbox};
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The longest URI, in octets; a whole record is hardly twice as long.
const URI_LIMIT: usize = 2048;
/// The port that a URL need not name.
const HTTPS_PORT: u16 = 443;

/// A place for reports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportUri {
    /// By mail, to an address in ASCII (RFC 6068 §2).
    Mailto(Mailbox),
    /// By a POST.
    Https(HttpsUrl),
}

/// A URL of the scheme `https`, without user and fragment (RFC 3986 §3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpsUrl {
    host: Domain,
    port: u16,
    path: String,
}

/// Why a URI is none that a report can go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum UriError {
    /// Neither of the two schemes.
    #[error("it is neither mailto: nor https:")]
    Scheme,
    /// `!` as it is, a `%` without its two digits, or what no URI may have.
    #[error("it has a character that must be percent-encoded")]
    Encoding,
    /// Header fields, or a fragment.
    #[error("it has more than an address")]
    MoreThanAddress,
    /// Not the address of a mailbox, in ASCII and at a domain.
    #[error("it is not the address of a mailbox in ASCII at a domain")]
    Mailbox,
    /// User and password in a URL.
    #[error("it names a user")]
    User,
    /// The host of a URL is not a name.
    #[error("its host is not a name of the DNS")]
    Host,
    /// A port that is none.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// Longer than any needs to be.
    #[error("it is too long")]
    TooLong,
    /// One more than are looked at.
    #[error("it is one too many")]
    TooMany,
}

impl HttpsUrl {
    /// The name that is looked up.
    #[must_use]
    pub const fn host(&self) -> &Domain {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as they are asked for.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and port as the field `Host` has them (RFC 3986 §3.2).
    #[must_use]
    pub fn authority(&self) -> String {
        if self.port == HTTPS_PORT { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    fn read(rest: &str) -> Result<Self, UriError> {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).ok_or(UriError::Host)?;
        if authority.contains('@') {
            return Err(UriError::User);
        }
        if authority.starts_with('[') {
            return Err(UriError::Host);
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, "")) => (host, HTTPS_PORT),
            Some((host, port)) => (host, port_number(port)?),
            None => (authority, HTTPS_PORT),
        };
        let host: Domain = host.parse().map_err(|_| UriError::Host)?;
        if host.as_str().parse::<IpAddr>().is_ok() {
            return Err(UriError::Host);
        }
        // What stands behind a `#` is for whoever reads the answer, and there is none.
        let path = path.split('#').next().unwrap_or_default();
        if !path.bytes().all(is_in_path) {
            return Err(UriError::Encoding);
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { host, port, path })
    }
}

fn port_number(text: &str) -> Result<u16, UriError> {
    let digits = text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0).ok_or(UriError::Port)
}

/// RFC 3986 §3.3, §3.4.
const fn is_in_path(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(octet, b'-' | b'.' | b'_' | b'~' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b'=')
        || matches!(octet, b'%' | b':' | b'@' | b'/' | b'?')
}

impl FromStr for ReportUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.len() > URI_LIMIT {
            return Err(UriError::TooLong);
        }
        // RFC 8460 §3: `!`, `,` and `;` stand for themselves nowhere in a record.
        if !text.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'!' | b',' | b';')) {
            return Err(UriError::Encoding);
        }
        let decoded = percent_decoded(text)?;
        let (scheme, rest) = text.split_once(':').ok_or(UriError::Scheme)?;
        if scheme.eq_ignore_ascii_case("mailto") {
            if rest.contains(['?', '#']) {
                return Err(UriError::MoreThanAddress);
            }
            let address = decoded.split_once(':').map(|(_, address)| address);
            return address.and_then(mailbox).map(Self::Mailto).ok_or(UriError::Mailbox);
        }
        if scheme.eq_ignore_ascii_case("https") {
            return HttpsUrl::read(rest.strip_prefix("//").ok_or(UriError::Host)?).map(Self::Https);
        }
        Err(UriError::Scheme)
    }
}

/// RFC 3986 §2.1. What it stands for is UTF-8 (RFC 6068 §2).
fn percent_decoded(text: &str) -> Result<String, UriError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            decoded.push(octet);
            continue;
        }
        let mut digit = || rest.next().and_then(|octet| char::from(octet).to_digit(16)).ok_or(UriError::Encoding);
        let value = digit()? * 16 + digit()?;
        decoded.push(u8::try_from(value).map_err(|_| UriError::Encoding)?);
    }
    String::from_utf8(decoded).map_err(|_| UriError::Encoding)
}

/// An address that any way can carry: a report is in ASCII, and an address literal is a stranger's way into
/// networks that are not his.
fn mailbox(text: &str) -> Option<Mailbox> {
    let mailbox: Mailbox = text.parse().ok()?;
    match mailbox.host() {
        Host::Domain(domain) if domain.as_str().parse::<IpAddr>().is_err() => {
            mailbox.on_the_wire().parse().ok().filter(Mailbox::is_ascii)
        }
        Host::Domain(_) | Host::Literal(_) => None,
    }
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority(), self.path)
    }
}

/// As a record may have it.
impl fmt::Display for ReportUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Https(url) => url.fmt(f),
            Self::Mailto(mailbox) => {
                f.write_str("mailto:")?;
                mailbox.as_str().chars().try_for_each(|c| match c {
                    'a'..='z' | 'A'..='Z' | '0'..='9' | '@' | '-' | '.' | '_' | '~' | '+' => write!(f, "{c}"),
                    other => write!(f, "%{:02X}", u32::from(other)),
                })
            }
        }
    }
}

impl Serialize for ReportUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, UriError> {
        let uri: ReportUri = text.parse()?;
        assert_eq!(uri.to_string().parse(), Ok(uri.clone()), "{text}");
        Ok(match uri {
            ReportUri::Mailto(mailbox) => mailbox.to_string(),
            ReportUri::Https(url) => format!("{} {} {}", url.host(), url.port(), url.path()),
        })
    }

    #[test]
    fn rfc8460_3_p02_mailto_and_https_are_read() {
        for (text, expected) in [
            ("mailto:reports@example.com", "reports@example.com"),
            ("MAILTO:tls.rpt+1@example.com", "tls.rpt+1@example.com"),
            ("mailto:a%21b@example.com", "a!b@example.com"),
            ("mailto:%22b%2cc%3Bd%22@example.com", "\"b,c;d\"@example.com"),
            ("mailto:%22a%20b%22@example.com", "\"a b\"@example.com"),
            ("mailto:tls@b%C3%BCcher.example", "tls@xn--bcher-kva.example"),
            ("https://reporting.example.com/v1/tlsrpt", "reporting.example.com 443 /v1/tlsrpt"),
            ("HTTPS://Reporting.Example.com", "reporting.example.com 443 /"),
            ("https://a.example:/x", "a.example 443 /x"),
            ("https://a.example:8443/x?y=z&k=%2C", "a.example 8443 /x?y=z&k=%2C"),
            ("https://a.example?y", "a.example 443 /?y"),
            ("https://a.example/x#part", "a.example 443 /x"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn rfc8460_3_p02_anything_else_is_no_place_for_a_report() {
        use UriError::{Encoding, Host, Mailbox, MoreThanAddress, Port, Scheme, TooLong, User};
        let long = format!("https://a.example/{}", "x".repeat(URI_LIMIT));
        for (text, error) in [
            ("", Scheme),
            ("reports@example.com", Scheme),
            ("http://a.example/", Scheme),
            ("ftp://a.example/", Scheme),
            ("mailto", Scheme),
            ("mailto:a@b.example!10m", Encoding),
            ("mailto:a b@b.example", Encoding),
            ("mailto:a%2@b.example", Encoding),
            ("mailto:a%@b.example", Encoding),
            ("mailto:a%FF@b.example", Encoding),
            ("mailto:\u{e9}@b.example", Encoding),
            ("mailto:a@b.example?subject=x", MoreThanAddress),
            ("mailto:a@b.example#x", MoreThanAddress),
            ("mailto:", Mailbox),
            ("mailto:a", Mailbox),
            ("mailto:a%0d%0aRCPT@b.example", Mailbox),
            ("mailto:%C3%A9@b.example", Mailbox),
            ("mailto:a@[192.0.2.1]", Mailbox),
            ("mailto:a@192.0.2.1", Mailbox),
            ("mailto://a@b.example@", Mailbox),
            ("https:a.example", Host),
            ("https://", Host),
            ("https:///x", Host),
            ("https://192.0.2.1/", Host),
            ("https://[2001:db8::1]/", Host),
            ("https://a%2eexample/", Host),
            ("https://a b/", Encoding),
            ("https://a.example/<x>", Encoding),
            ("https://user@a.example/", User),
            ("https://user:word@a.example/", User),
            ("https://a.example:0/", Port),
            ("https://a.example:+1/", Port),
            ("https://a.example:65536/", Port),
            (&long, TooLong),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
    }
}
