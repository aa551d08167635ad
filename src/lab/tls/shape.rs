//! How a server of the lab does TLS: which versions, which chain for whom, and what it asks of
//! its client (RFC 8446, RFC 5246, RFC 6066 §3).
//!
//! Every server resumes sessions, as real ones do, and goes on to do so when its certificate is
//! replaced: a client that resumes never sees the new one (RFC 9325 §3.4).

use super::ca::{Authority, Identity};
use crate::lab::bad;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::io;
use std::sync::Arc;

/// The versions of TLS that a server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// TLS 1.2 and 1.3.
    #[default]
    Both,
    /// TLS 1.2 alone.
    Only12,
    /// TLS 1.3 alone.
    Only13,
}

impl Versions {
    fn list(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Both => vec![&TLS13, &TLS12],
            Self::Only12 => vec![&TLS12],
            Self::Only13 => vec![&TLS13],
        }
    }
}

/// Whether a server insists on a client certificate, which no relay has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// It does not ask.
    #[default]
    NotAsked,
    /// It ends the connection without one: in TLS 1.2 within the handshake, in TLS 1.3 after the
    /// client's side of it is finished (RFC 8446 §4.4.2.4).
    Demanded,
}

/// Who gets to see the right chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RightChain {
    /// Every client gets it.
    #[default]
    Always,
    /// Those who ask for the host's name by SNI. All others see a chain for another name.
    BySni,
}

/// How a server departs from the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsShape {
    /// The versions.
    pub versions: Versions,
    /// The client certificate.
    pub client_certificate: ClientCertificate,
    /// The chain.
    pub right_chain: RightChain,
}

impl TlsShape {
    /// TLS 1.2 alone.
    #[must_use]
    pub fn only_tls12() -> Self {
        Self { versions: Versions::Only12, ..Self::default() }
    }

    /// The right chain for those who ask for the host's name.
    #[must_use]
    pub fn by_sni() -> Self {
        Self { right_chain: RightChain::BySni, ..Self::default() }
    }

    /// A client certificate is a must.
    #[must_use]
    pub fn client_certificate(versions: Versions) -> Self {
        Self { versions, client_certificate: ClientCertificate::Demanded, ..Self::default() }
    }

    /// The settings of a server called `name` that shows the chain of `identity`.
    ///
    /// # Errors
    /// When rustls refuses the chain.
    pub fn server_config(&self, name: &str, identity: &Identity) -> io::Result<Arc<ServerConfig>> {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&self.versions.list()).map_err(bad)?;
        let builder = match self.client_certificate {
            ClientCertificate::NotAsked => builder.with_no_client_auth(),
            ClientCertificate::Demanded => {
                // Nobody's certificate would do, since nobody knows this authority.
                let mut roots = RootCertStore::empty();
                roots.add(Authority::new("Lab Client CA")?.certificate()).map_err(bad)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
                builder.with_client_cert_verifier(verifier.build().map_err(bad)?)
            }
        };
        let others = match self.right_chain {
            RightChain::Always => None,
            RightChain::BySni => Some(Identity::self_signed(&["default.invalid"])?.certified_key(&provider)?),
        };
        let chains = Chains { name: name.to_owned(), right: identity.certified_key(&provider)?, others };
        let mut config = builder.with_cert_resolver(Arc::new(chains));
        config.ticketer = Ticketer::new().map_err(bad)?;
        Ok(Arc::new(config))
    }
}

impl Identity {
    /// The settings of a TLS server that shows this chain to everyone: TLS 1.2 and 1.3, no client
    /// certificate. Others are made by [`TlsShape`].
    ///
    /// # Errors
    /// When rustls refuses the chain.
    pub fn server_config(&self) -> io::Result<Arc<ServerConfig>> {
        TlsShape::default().server_config("", self)
    }
}

/// The new settings of a server that knows the sessions of its old ones.
pub(in crate::lab) fn resuming(new: &ServerConfig, old: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = new.clone();
    config.session_storage = Arc::clone(&old.session_storage);
    config.ticketer = Arc::clone(&old.ticketer);
    Arc::new(config)
}

#[derive(Debug)]
struct Chains {
    name: String,
    right: Arc<CertifiedKey>,
    others: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Chains {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().is_some_and(|name| name.eq_ignore_ascii_case(&self.name));
        let shown = self.others.as_ref().filter(|_| !asked).unwrap_or(&self.right);
        Some(Arc::clone(shown))
    }
}
