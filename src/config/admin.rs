//! `[admin]`: the port for Prometheus and health checks, and for the people who look after the relay.
//!
//! Health and metrics are open to whoever reaches the port. All else needs a user of the file `users`, who logs in,
//! or whom a proxy vouches for.

use super::findings::ConfigFindings;
use super::{KeyPairFiles, network};
use ipnet::IpNet;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Where `/metrics`, `/healthz` and `/readyz` are served, and to users the page and `/api/v1`.
    #[serde(deserialize_with = "network::socket")]
    pub listen: SocketAddr,
    /// The file of users, `relay user add --role`; without it nobody can log in.
    pub users: Option<PathBuf>,
    /// Certificate chain in PEM: with one the port speaks TLS alone.
    pub certificate: Option<PathBuf>,
    /// Its private key in PEM.
    pub private_key: Option<PathBuf>,
    /// Proxies in front of the port, whose word counts: in `X-Forwarded-Proto` whether the browser speaks TLS with
    /// them, in `X-Forwarded-For` from where it asks, and in [`AdminConfig::user_header`] who asks.
    #[serde(deserialize_with = "network::networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// The field of the request in which they say it. From elsewhere it counts for nothing.
    pub user_header: Option<String>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9925)),
            users: None,
            certificate: None,
            private_key: None,
            trusted_proxies: Vec::new(),
            user_header: None,
        }
    }
}

impl AdminConfig {
    /// The certificate and its key, where the port speaks TLS.
    #[must_use]
    pub fn key_pair(&self) -> Option<KeyPairFiles> {
        let (certificate, private_key) = (self.certificate.clone()?, self.private_key.clone()?);
        Some(KeyPairFiles { certificate, private_key })
    }
}

/// Whether the values go together.
pub(super) fn check(admin: &AdminConfig, findings: &mut ConfigFindings<'_>) {
    if admin.certificate.is_some() != admin.private_key.is_some() {
        let message = "certificate and private_key go together: give both or neither";
        findings.refuse(&["admin.certificate", "admin.private_key"], message);
    }
    if admin.users.is_some() && admin.certificate.is_none() && !admin.listen.ip().is_loopback() {
        let message = "passwords would cross the network in clear: give certificate and private_key, or listen on \
                       127.0.0.1 behind a proxy that speaks TLS";
        findings.refuse(&["admin.users", "admin.listen"], message);
    }
    if admin.trusted_proxies.is_empty() && admin.user_header.is_some() {
        let message = "needs trusted_proxies: from elsewhere anybody could say who asks";
        findings.refuse(&["admin.user_header", "admin.trusted_proxies"], message);
    }
    if admin.user_header.is_some() && admin.users.is_none() {
        let message = "needs users: the file says what each may do; `relay user vouch` adds one without a password";
        findings.refuse(&["admin.user_header", "admin.users"], message);
    }
    if let Some(header) = &admin.user_header
        && (header.is_empty() || !header.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
    {
        findings.refuse(&["admin.user_header"], "is no name of a field: write one such as \"X-Forwarded-User\"");
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use std::path::Path;

    #[test]
    fn what_does_not_go_together_is_refused_with_what_to_do() {
        for (text, words) in [
            ("certificate = \"c.pem\"", "give both or neither"),
            ("users = \"u\"\nlisten = \"0.0.0.0:9925\"", "in clear"),
            ("user_header = \"X-User\"", "needs trusted_proxies"),
            ("trusted_proxies = [\"127.0.0.1\"]\nuser_header = \"X-User\"", "needs users"),
            ("users = \"u\"\ntrusted_proxies = [\"127.0.0.1\"]\nuser_header = \"X User\"", "no name of a field"),
        ] {
            let error = Config::parse(&format!("[admin]\n{text}\n"), Path::new("relay.toml")).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let whole = "[admin]\nlisten = \"0.0.0.0:9925\"\nusers = \"u\"\ncertificate = \"c\"\nprivate_key = \"k\"\n\
                     trusted_proxies = [\"192.0.2.1\"]\nuser_header = \"X-Forwarded-User\"\n";
        let admin = Config::parse(whole, Path::new("relay.toml")).unwrap().admin;
        assert!(admin.key_pair().is_some() && admin.trusted_proxies.len() == 1);
    }
}
