//! What can be wrong with the way out that the operator chose: the login at a next hop, the address to
//! send from, the family of addresses (RFC 4954, RFC 5321 §4.5.4.1).
//!
//! All of it is ours to set right, and temporary: no recipient is at fault, and nothing is returned for it
//! before its time.

use super::{Cause, Named, Peer, Row, Side, row};
use crate::outcome::Class::Transient;
use crate::smtp::reply::Reply;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Why mail cannot leave as the configuration says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressFailure {
    /// The login was not tried, because nothing proves who would get the password.
    LoginUnprotected {
        /// What was wrong with TLS; nothing where there was TLS and nobody vouched for the server.
        cause: Option<Box<Cause>>,
    },
    /// The server offers no way to log in that we know.
    LoginNotOffered {
        /// The server that login was tried at.
        peer: Peer,
        /// What it offers.
        offered: Vec<String>,
    },
    /// The server refused the login.
    LoginRefused {
        /// The server that login was tried at.
        peer: Peer,
        /// Its words, without those that repeat the login.
        reply: Reply,
    },
    /// The server wants a login, and the configuration names none that it has taken.
    LoginWanted {
        /// The server that login was tried at.
        peer: Peer,
        /// The reply of the server.
        reply: Reply,
    },
    /// The server's part of the login is not as it must be.
    LoginUnsound {
        /// The server that login was tried at.
        peer: Peer,
        /// What is wrong with it.
        detail: String,
    },
    /// This host does not have the address to send from.
    SourceUnavailable {
        /// The address.
        source: IpAddr,
        /// What the system said.
        detail: String,
    },
    /// The host has no address of the family that the configuration allows.
    NoAddressOfFamily {
        /// The word of the configuration.
        family: String,
    },
}

impl EgressFailure {
    pub(super) fn row(&self) -> Row {
        match self {
            Self::LoginUnprotected { .. } => row("login-unprotected", Transient, 7, 11, Side::Here),
            Self::LoginNotOffered { .. }
            | Self::LoginRefused { .. }
            | Self::LoginWanted { .. }
            | Self::LoginUnsound { .. } => row("login-failed", Transient, 7, 8, Side::Here),
            Self::SourceUnavailable { .. } => row("source-unavailable", Transient, 3, 5, Side::Here),
            Self::NoAddressOfFamily { .. } => row("no-address-of-family", Transient, 4, 4, Side::Here),
        }
    }

    pub(super) fn sentence(&self, host: &str) -> String {
        match self {
            Self::LoginUnprotected { cause: Some(cause) } => format!(
                "This relay has to log in at the mail server {host} and did not, because the connection is not safe: {}",
                cause.sentence()
            ),
            Self::LoginUnprotected { cause: None } => format!(
                "This relay has to log in at the mail server {host} and did not, because nothing proves that it is the \
                 right one."
            ),
            Self::LoginNotOffered { .. } => {
                format!("This relay has to log in at the mail server {host}, which offers no way to do so.")
            }
            Self::LoginRefused { reply, .. } => {
                format!("The mail server {host} refused the login of this relay: {reply}")
            }
            Self::LoginWanted { reply, .. } => {
                format!("The mail server {host} takes mail of this relay only after a login: {reply}")
            }
            Self::LoginUnsound { detail, .. } => {
                format!("The login of this relay at the mail server {host} failed: {detail}.")
            }
            Self::SourceUnavailable { .. } => {
                "This relay does not have the address that its configuration tells it to send from.".to_owned()
            }
            Self::NoAddressOfFamily { family } => format!(
                "The mail server {host} has no address of the kind that the configuration of this relay allows ({family})."
            ),
        }
    }

    pub(super) const fn advice(&self) -> &'static str {
        match self {
            Self::LoginUnprotected { .. } => {
                "The next hop needs STARTTLS, or tls_mode = \"implicit\", and a certificate for its name from an authority \
                 in [tls] roots, or signed TLSA records; then relay check says so."
            }
            Self::LoginNotOffered { .. } => {
                "Check the port of next_hop (587, or 465 with tls_mode = \"implicit\"), and whether the server offers AUTH \
                 PLAIN, LOGIN or SCRAM-SHA-256 inside TLS."
            }
            Self::LoginWanted { .. } => {
                "Give this [[destination]] a login or a client_certificate, or let the server know the address that this \
                 relay comes from."
            }
            Self::LoginRefused { .. } => {
                "Check user and password_file or credential of login in this [[destination]]; the reply above is the \
                 server's own reason."
            }
            Self::LoginUnsound { .. } => {
                "Check the password; where it is right, the server does not know it and is not the one that it should be."
            }
            Self::SourceUnavailable { .. } => "Give this host the address, or correct source in this [[destination]].",
            Self::NoAddressOfFamily { .. } => {
                "Let family in this [[destination]] allow the other kind of address, or name another next_hop."
            }
        }
    }

    pub(super) fn evidence(&self, host: &str) -> Vec<(&'static str, String)> {
        let at = |peer: &Peer| ("Mail server", peer.to_string());
        match self {
            Self::LoginUnprotected { cause: Some(cause) } => cause.evidence(),
            Self::LoginUnprotected { cause: None } => vec![("Mail server", host.to_owned())],
            Self::LoginNotOffered { peer, offered } => vec![at(peer), ("It offers", offered.join(" "))],
            Self::LoginRefused { peer, reply } | Self::LoginWanted { peer, reply } => {
                vec![at(peer), ("Reply", reply.to_string())]
            }
            Self::LoginUnsound { peer, detail } => vec![at(peer), ("Detail", detail.clone())],
            Self::SourceUnavailable { source, detail } => {
                vec![("Mail server", host.to_owned()), ("Source", source.to_string()), ("Detail", detail.clone())]
            }
            Self::NoAddressOfFamily { family } => vec![("Mail server", host.to_owned()), ("Family", family.clone())],
        }
    }

    pub(super) fn named(&self, host: &str) -> Vec<(&'static str, Named<'_>)> {
        let server = ("server", Named::Text(host.to_owned()));
        match self {
            Self::LoginUnprotected { cause } => vec![server, ("because", Named::Because(cause.as_deref()))],
            Self::LoginRefused { reply, .. } | Self::LoginWanted { reply, .. } => {
                vec![server, ("detail", Named::Text(reply.to_string()))]
            }
            Self::LoginNotOffered { offered, .. } => vec![server, ("detail", Named::Text(offered.join(" ")))],
            Self::LoginUnsound { detail, .. } => vec![server, ("detail", Named::Text(detail.clone()))],
            Self::SourceUnavailable { .. } => Vec::new(),
            Self::NoAddressOfFamily { family } => vec![server, ("family", Named::Text(family.clone()))],
        }
    }
}

#[cfg(test)]
pub(super) fn every() -> Vec<Cause> {
    let peer = super::every::peer;
    let refused = super::every::reply(&[b"535 5.7.8 authentication failed"]);
    let unprotected = Cause::TlsHandshake { peer: peer(), detail: "unknown issuer".into() };
    let failures = [
        EgressFailure::LoginUnprotected { cause: None },
        EgressFailure::LoginUnprotected { cause: Some(Box::new(unprotected)) },
        EgressFailure::LoginNotOffered { peer: peer(), offered: vec!["GSSAPI".into()] },
        EgressFailure::LoginRefused { peer: peer(), reply: refused },
        EgressFailure::LoginWanted { peer: peer(), reply: super::every::reply(&[b"530 5.7.0 log in first"]) },
        EgressFailure::LoginUnsound { peer: peer(), detail: "the server's proof is wrong".into() },
        EgressFailure::SourceUnavailable { source: [192, 0, 2, 7].into(), detail: "no such address".into() },
        EgressFailure::NoAddressOfFamily { family: "ipv4".into() },
    ];
    failures.into_iter().map(|failure| Cause::EgressFailed { host: peer().host, failure }).collect()
}
