//! The copies that archives get of a message (`[[archive]]`): which, and to whom.
//!
//! Only what a client hands in is copied: a copy and a report of ours come by no listener. A copy comes from the null
//! reverse-path, so that nothing about it is ever sent to the sender of the mail; that it failed is told to the
//! postmaster. It may go no less protected than the mail itself (RFC 8689 §4.2.1).

use super::cover::{self, Cover};
use crate::clock::Timestamp;
use crate::config::{ArchiveRule, Config};
use crate::envelope::{Charset, DsnRequest, Envelope, Origin, QueueId, TlsRequest};
use crate::smtp::address::ReversePath;
use crate::spool::{BodyWriter, ContentCopy, Draft, SpoolError};

/// So much of the content is kept for what the cover says, in octets; a header is seldom a tenth of it.
const HEAD_LIMIT: usize = 64 * 1024;

/// A message on its way into the spool.
pub(super) struct IncomingMessage {
    draft: Draft,
    /// The beginning of the content, where there are archives.
    head: Vec<u8>,
    head_limit: usize,
}

impl IncomingMessage {
    /// Nothing of it is there yet.
    pub(super) fn new(draft: Draft, archives: &[ArchiveRule]) -> Self {
        let head_limit = if archives.is_empty() { 0 } else { HEAD_LIMIT };
        Self { draft, head: Vec::new(), head_limit }
    }

    /// Appends a piece.
    ///
    /// # Errors
    /// When the spool does not take it.
    pub(super) async fn write(&mut self, piece: &[u8]) -> Result<(), SpoolError> {
        let wanted = self.head_limit.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(piece.get(..wanted).unwrap_or_default());
        self.draft.body.write(piece).await
    }

    /// Octets so far.
    pub(super) fn size(&self) -> u64 {
        BodyWriter::size(self.draft.body.as_ref())
    }

    /// The draft, and the copies that are made of it.
    pub(super) fn complete(self, config: &Config, envelope: &Envelope) -> (Draft, Vec<ContentCopy>) {
        let wanted = config.archive.iter().filter(|rule| rule.wants(envelope)).zip(1..);
        let id = self.draft.id;
        let copies = wanted.map(|(rule, nth)| copy(config, rule, envelope, &Copied { id, nth, head: &self.head }));
        let copies = copies.collect();
        (self.draft, copies)
    }
}

/// What a copy is of.
struct Copied<'a> {
    id: QueueId,
    /// Which copy of it, from 1.
    nth: usize,
    head: &'a [u8],
}

fn copy(config: &Config, rule: &ArchiveRule, envelope: &Envelope, copied: &Copied<'_>) -> ContentCopy {
    let Copied { id, nth, head } = *copied;
    let postmaster = config.postmaster.as_ref();
    let cover =
        Cover { hostname: &config.hostname, postmaster, form: rule.form, to: &rule.to, envelope, id, nth, head };
    let (before, after) = cover::around(&cover);
    ContentCopy { envelope: envelope_of(rule, envelope, id), before: before.into(), after: after.into() }
}

fn envelope_of(rule: &ArchiveRule, envelope: &Envelope, of: QueueId) -> Envelope {
    let accepted_at: Timestamp = envelope.accepted_at;
    let tls = match envelope.tls {
        TlsRequest::Required => TlsRequest::Required,
        // What the header of the mail asks is not in the header of the copy.
        TlsRequest::ByPolicy | TlsRequest::Optional => TlsRequest::ByPolicy,
    };
    Envelope {
        reverse_path: ReversePath::Null,
        recipients: vec![rule.to.clone()],
        body: envelope.body,
        // The header of the cover is in ASCII whatever that of the message.
        charset: Charset::Ascii,
        tls,
        dsn: DsnRequest::default(),
        accepted_at,
        origin: Origin::Copy { of },
    }
}
