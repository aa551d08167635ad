//! The part of a report that machines read: message/delivery-status (RFC 3464 §2).
//!
//! Every failed recipient has a group of its own. Remote-MTA and Diagnostic-Code stand only
//! where a remote server really replied (RFC 3464 §2.3.5, §2.3.6); for a message that expired,
//! that is the last reply it met.

use super::form::field;
use super::{Failure, Ndr};
use crate::envelope::{ClientInfo, Origin};
use crate::outcome::{Cause, Peer, RequireTlsFailure};
use crate::smtp::address::{Domain, Host};
use crate::smtp::reply::Reply;

/// The whole part, without its MIME header.
pub(super) fn part(ndr: &Ndr<'_>) -> String {
    let groups = ndr.failures.iter().map(|failure| recipient_group(ndr, failure));
    std::iter::once(message_group(ndr)).chain(groups).collect::<Vec<_>>().join("\r\n")
}

/// RFC 3464 §2.2.
fn message_group(ndr: &Ndr<'_>) -> String {
    let envelope = ndr.original.envelope;
    let mut group = field("Reporting-MTA", &format!("dns; {}", ndr.hostname));
    match &envelope.origin {
        Origin::Client(client) => group.push_str(&field("Received-From-MTA", &mta_of_client(client))),
        Origin::Report { .. } => {}
    }
    group.push_str(&field("Arrival-Date", &envelope.accepted_at.rfc5322()));
    group.push_str(&field("X-Relay-Queue-Id", &ndr.original.id.to_string()));
    group
}

/// RFC 3464 §2.3. The date is that of the report: it is written with the attempt that failed.
fn recipient_group(ndr: &Ndr<'_>, failure: &Failure<'_>) -> String {
    let mut group = field("Final-Recipient", &format!("rfc822; {}", failure.recipient));
    group.push_str(&field("Action", "failed"));
    group.push_str(&field("Status", &failure.cause.row().status.to_string()));
    if let Some((peer, reply)) = remote_reply(failure.cause.root()) {
        group.push_str(&field("Remote-MTA", &mta(&peer.host)));
        group.push_str(&field("Diagnostic-Code", &format!("smtp; {reply}")));
    }
    group.push_str(&field("Last-Attempt-Date", &ndr.now.rfc5322()));
    group.push_str(&field("X-Relay-Cause", failure.cause.root().row().word));
    group
}

/// The reply behind a cause and who gave it.
fn remote_reply(cause: &Cause) -> Option<(&Peer, &Reply)> {
    match cause {
        Cause::RequireTlsUnmet { failure: RequireTlsFailure::Tls { cause }, .. } => remote_reply(cause),
        Cause::Rejected { peer, reply, .. } | Cause::StarttlsRefused { peer, reply, .. } => Some((peer, reply)),
        Cause::DomainNotFound { .. }
        | Cause::NullMx { .. }
        | Cause::NoMailHost { .. }
        | Cause::DnsUnavailable { .. }
        | Cause::DnsBogus { .. }
        | Cause::MailLoop { .. }
        | Cause::AddressForbidden { .. }
        | Cause::ConnectFailed { .. }
        | Cause::TimedOut { .. }
        | Cause::ConnectionLost { .. }
        | Cause::ProtocolError { .. }
        | Cause::StarttlsNotOffered { .. }
        | Cause::TlsHandshake { .. }
        | Cause::DaneMismatch { .. }
        | Cause::CertificateRejected { .. }
        | Cause::StsMxNotListed { .. }
        | Cause::DaneRequired { .. }
        | Cause::StsRequired { .. }
        | Cause::RequireTlsUnmet { .. }
        | Cause::MessageTooLarge { .. }
        | Cause::EightBitNotOffered { .. }
        | Cause::SmtpUtf8NotOffered { .. }
        | Cause::ContentDamaged
        | Cause::BouncedByOperator { .. }
        | Cause::Expired { .. } => None,
    }
}

/// `dns; name` or `dns; [address]` (RFC 3464 §2.1.2).
fn mta(host: &str) -> String {
    match host.parse() {
        Ok(address) => format!("dns; {}", Host::Literal(address)),
        Err(_) => format!("dns; {host}"),
    }
}

/// What the client called itself when that is a name, else its address.
fn mta_of_client(client: &ClientInfo) -> String {
    match client.helo.parse::<Domain>() {
        Ok(name) => format!("dns; {name}"),
        Err(_) => format!("dns; {}", Host::Literal(client.address)),
    }
}
