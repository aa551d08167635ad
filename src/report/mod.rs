//! Who is told when a message cannot be delivered, and in which words
//! (RFC 3464, RFC 6522, RFC 3834, RFC 5321 §6.1).
//!
//! This page holds the nouns and the one decision: a message from the null reverse-path is
//! never reported on (RFC 5321 §4.5.5), so that two systems cannot send each other reports
//! about reports. `ndr.rs` puts the message together, `words.rs` is the part that people read,
//! `status.rs` the part that machines read, `form.rs` keeps both within mail's rules.

mod form;
mod ndr;
mod status;
#[cfg(test)]
mod tests;
mod words;

use crate::clock::Timestamp;
use crate::envelope::{Envelope, Origin, QueueId};
use crate::outcome::Cause;
use crate::smtp::address::{Domain, Host, Mailbox, ReversePath};
use crate::spool;
use bytes::Bytes;

/// The most of the original's header that is read and returned, in octets. Exchange allows
/// headers of 128 KiB; the beginning with its Received lines is what an administrator needs.
pub const HEADER_LIMIT: usize = 64 * 1024;

/// A recipient who will not get the message.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// The recipient, as the envelope has it.
    pub recipient: &'a Mailbox,
    /// Why, with a class of permanent; [`Cause::Expired`] among them.
    pub cause: &'a Cause,
}

/// The message that could not be delivered.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// Its name in the queue.
    pub id: QueueId,
    /// Its envelope.
    pub envelope: &'a Envelope,
    /// The beginning of its content: at least the header, or the first [`HEADER_LIMIT`]
    /// octets. What stands behind the header is not looked at.
    pub header: &'a [u8],
}

/// Writes the report about `failures` to the sender of `original`.
///
/// `None` when nobody may be told: the reverse-path is null, or nothing failed.
#[must_use]
pub fn compose(
    hostname: &Domain,
    original: &Original<'_>,
    failures: &[Failure<'_>],
    now: Timestamp,
) -> Option<spool::Report> {
    let ReversePath::Mailbox(sender) = &original.envelope.reverse_path else { return None };
    if failures.is_empty() {
        return None;
    }
    let content = Bytes::from(ndr::message(&Ndr { hostname, original, sender, failures, now }));
    let origin = Origin::Report { about: original.id };
    let envelope = Envelope::new(ReversePath::Null, vec![sender.clone()], now, origin);
    Some(spool::Report { envelope, content })
}

/// The domain to name in `relay check DOMAIN`; `None` for an address literal, which has no
/// MX records to check.
#[must_use]
pub fn notable_domain(recipient: &Mailbox) -> Option<&Domain> {
    match recipient.host() {
        Host::Domain(domain) => Some(domain),
        Host::Literal(_) => None,
    }
}

/// All that a report is made of.
struct Ndr<'a> {
    hostname: &'a Domain,
    original: &'a Original<'a>,
    sender: &'a Mailbox,
    failures: &'a [Failure<'a>],
    now: Timestamp,
}
