//! How a connection leaves, beside where it goes: who we are at the other end, where we come from, when
//! TLS begins. `store.rs` reads what the configuration names; the rest is pure.
//!
//! All of this is part of what a connection was opened under: one is never used again for mail that
//! leaves in another way (`pool.rs`).

pub(crate) mod store;

use crate::config::{FamilyChoice, SourceAddresses, TlsMode};
use crate::outcome::{Cause, DemandedBy, EgressFailure, Phase};
use crate::policy::{Decision, TlsPolicy};
use crate::smtp::address::Domain;
use data_encoding::BASE64;
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::Arc;

/// The way out of one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// When TLS begins.
    pub tls_mode: TlsMode,
    /// Who we are at the next hop.
    pub login: Option<Login>,
    /// What we show to servers that ask for a certificate.
    pub client_certificate: Option<ClientIdentity>,
    /// Where connections come from.
    pub source: SourceAddresses,
    /// Which addresses of a host are tried.
    pub family: Option<FamilyChoice>,
}

impl Egress {
    /// What a connection must be like when it leaves this way. A login goes to nobody who is not proven
    /// to be the right one: where nothing else proves it, a certificate for the name of the next hop does
    /// (RFC 8314 §3.3, RFC 6125). What is demanded already stays.
    #[must_use]
    pub fn strengthened(&self, host: &str, decision: Decision) -> Decision {
        let proves = match &decision.policy {
            TlsPolicy::Off | TlsPolicy::Opportunistic { .. } | TlsPolicy::Encrypt { .. } => false,
            TlsPolicy::Dane(_) | TlsPolicy::WebPki { .. } | TlsPolicy::WebPkiAndDane { .. } => true,
        };
        match (&self.login, host.parse::<Domain>()) {
            (Some(_), Ok(host)) if !proves => {
                Decision { policy: TlsPolicy::WebPki { host, demanded_by: DemandedBy::Operator }, ..decision }
            }
            (Some(_) | None, _) => decision,
        }
    }
}

/// What a next hop of the operator's says that wants us to log in first (RFC 4954 §6).
const WANTS_LOGIN: [u16; 3] = [530, 535, 538];

/// A refusal by a next hop that the operator named: that it wants a login is ours to satisfy, and no
/// recipient's fault.
#[must_use]
pub(crate) fn refused_by_own_hop(cause: Cause) -> Cause {
    if let Cause::Rejected { peer, phase: Phase::MailFrom | Phase::RcptTo, reply } = &cause
        && WANTS_LOGIN.contains(&reply.code)
    {
        let failure = EgressFailure::LoginWanted { peer: peer.clone(), reply: reply.clone() };
        return Cause::EgressFailed { host: peer.host.clone(), failure };
    }
    cause
}

/// A name and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    password: Arc<str>,
}

impl Login {
    /// A login with this password.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.into() }
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// Whether a text repeats the password, as it is or as it goes over the wire.
    pub(super) fn is_repeated_in(&self, text: &str) -> bool {
        let plain = format!("\0{}\0{}", self.user, self.password);
        let secrets =
            [self.password.to_string(), BASE64.encode(self.password.as_bytes()), BASE64.encode(plain.as_bytes())];
        secrets.iter().any(|secret| !secret.is_empty() && text.contains(secret.as_str()))
    }
}

/// The password stays out of every log.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A certificate with its key.
#[derive(Clone)]
pub struct ClientIdentity(Arc<CertifiedKey>);

impl ClientIdentity {
    /// For one connection.
    #[must_use]
    pub fn pair(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }

    /// The certificate itself, in DER.
    #[must_use]
    pub fn leaf(&self) -> &[u8] {
        self.0.cert.first().map(AsRef::as_ref).unwrap_or_default()
    }
}

/// A certificate has one key.
impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

impl Eq for ClientIdentity {}

/// The key stays out of every log.
impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").field("certificates", &self.0.cert.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::WhyOpportunistic;

    fn decision(policy: TlsPolicy) -> Decision {
        Decision { policy, watched: None, require_tls: false }
    }

    #[test]
    fn rfc8314_a_login_wants_a_proven_server_and_takes_no_proof_away() {
        let egress = Egress { login: Some(Login::new("u", "p")), ..Egress::default() };
        let host: Domain = "smart.example".parse().unwrap();
        let proven = TlsPolicy::WebPki { host, demanded_by: DemandedBy::Operator };
        for weak in [
            TlsPolicy::Off,
            TlsPolicy::Opportunistic { because: WhyOpportunistic::SenderWaives },
            TlsPolicy::Encrypt { base_domain: None, demanded_by: DemandedBy::Dane },
        ] {
            assert_eq!(Egress::default().strengthened("smart.example", decision(weak.clone())).policy, weak);
            assert_eq!(egress.strengthened("smart.example", decision(weak)).policy, proven);
        }
        let by_policy = TlsPolicy::WebPki { host: "smart.example".parse().unwrap(), demanded_by: DemandedBy::MtaSts };
        assert_eq!(egress.strengthened("smart.example", decision(by_policy.clone())).policy, by_policy);
    }

    #[test]
    fn a_password_is_found_wherever_it_is_repeated_and_shown_nowhere() {
        let login = Login::new("relay", "correct horse");
        assert_eq!(format!("{login:?}"), "Login { user: \"relay\", .. }");
        for text in ["no: correct horse", "no: Y29ycmVjdCBob3JzZQ==", "AHJlbGF5AGNvcnJlY3QgaG9yc2U="] {
            assert!(login.is_repeated_in(text), "{text}");
        }
        assert!(!login.is_repeated_in("535 5.7.8 authentication failed for relay"));
    }
}
