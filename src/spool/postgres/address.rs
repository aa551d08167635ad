//! Where the database is, and how the way to it is protected.
//!
//! Over a network TLS is always there, and the certificate is always held against roots and name (RFC 6125):
//! a spool is other people's mail. Only a socket of this host may go without.

use crate::config::SpoolConfig;
use crate::spool::SpoolError;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

/// For one host of several.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what was sent may stay without an answer of the other machine.
const SILENCE: Duration = Duration::from_secs(15);
/// From when on, and how often, an idle connection is looked at.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How connections are made.
#[derive(Clone)]
pub(super) struct DatabaseAddress {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
}

impl DatabaseAddress {
    /// Reads the files that the configuration names.
    pub(super) fn new(spool: &SpoolConfig) -> Result<Self, SpoolError> {
        let url = spool.database_url().map_err(|why| unusable(&why))?;
        let mut config = parsed(&url).map_err(|why| unusable(&why))?;
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(SILENCE)
            .keepalives_idle(KEEPALIVE)
            .keepalives_interval(KEEPALIVE / 2)
            .keepalives_retries(3)
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .application_name("relay");
        let roots = if config.get_ssl_mode() == SslMode::Disable {
            RootCertStore::empty()
        } else {
            spool.roots.load().map_err(|error| unusable(&format!("roots: {}: {}", error.source_name, error.message)))?
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config, tls: MakeRustlsConnect::new(client) })
    }
}

fn unusable(why: &str) -> SpoolError {
    SpoolError::Unusable(format!("[spool] {why}"))
}

/// What a URL says. The URL may hold a password and is part of no error.
fn parsed(url: &str) -> Result<Config, String> {
    // There is no weaker way here than the strongest of these.
    let strict = ["verify-full", "verify-ca"];
    let known =
        strict.iter().fold(url.to_owned(), |url, mode| url.replace(&format!("sslmode={mode}"), "sslmode=require"));
    let mut config: Config = known.parse().map_err(|_| {
        "url is none of PostgreSQL: write postgresql://USER@HOST/DATABASE, several hosts with commas".to_owned()
    })?;
    if config.get_hosts().is_empty() {
        return Err("url names no host: write postgresql://USER@HOST/DATABASE".to_owned());
    }
    let mode = match (config.get_hosts().iter().all(is_this_machine), known.contains("sslmode="), config.get_ssl_mode())
    {
        (true, false, _) | (true, true, SslMode::Disable) => SslMode::Disable,
        (false, true, SslMode::Disable) => {
            return Err(
                "url has sslmode=disable for a host of the network: mail would go there in the clear".to_owned()
            );
        }
        (_, _, _) => SslMode::Require,
    };
    config.ssl_mode(mode);
    Ok(config)
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            let ip = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            name == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> Result<SslMode, String> {
        parsed(url).map(|config| config.get_ssl_mode())
    }

    #[test]
    fn rfc6125_over_a_network_tls_is_always_there() {
        for url in [
            "postgresql://db.example/x",
            "postgresql://a,b/x?sslmode=prefer",
            "postgresql://10.0.0.1/x?sslmode=verify-full",
        ] {
            assert_eq!(mode(url), Ok(SslMode::Require), "{url}");
        }
        assert!(mode("postgresql://127.0.0.1,db.example/x?sslmode=disable").unwrap_err().contains("in the clear"));
    }

    #[test]
    fn a_socket_of_this_host_needs_none_and_may_have_it() {
        for url in ["postgresql:///x?host=/run/postgresql", "postgresql://localhost/x", "host=127.0.0.1 dbname=x"] {
            assert_eq!(mode(url), Ok(SslMode::Disable), "{url}");
        }
        assert_eq!(mode("postgresql://localhost/x?sslmode=verify-full"), Ok(SslMode::Require));
    }

    #[test]
    fn what_is_no_url_is_told_without_its_password() {
        for url in ["postgresql://relay:hunter2@db/x?sslmode=odd", "mysql://relay:hunter2@db/x", "", "dbname=x"] {
            assert!(!mode(url).unwrap_err().contains("hunter2"));
        }
    }
}
