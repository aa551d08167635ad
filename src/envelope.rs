//! What a message is to the relay: who sent it, who is to have it, how it came.
//!
//! The nouns every stage shares. Content is not among them: it streams from the listener to
//! the spool and from the spool to the next hop.

use crate::clock::{ReportDay, Timestamp};
use crate::smtp::address::{Mailbox, ReversePath};
use crate::smtp::dsn::{EnvelopeId, Notify, NotifyOn, OriginalRecipient, Ret};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The name of a message in the queue, in logs, in Received and in our 250.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueId(pub u64);

/// Crockford's alphabet: no I, L, O, U, so that an id read out over the telephone is safe.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const QUEUE_ID_LENGTH: usize = 13;

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'0'; QUEUE_ID_LENGTH];
        let mut rest = self.0;
        for place in text.iter_mut().rev() {
            *place = usize::try_from(rest % 32).ok().and_then(|i| ALPHABET.get(i)).copied().unwrap_or(b'0');
            rest /= 32;
        }
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

/// The text is not a queue id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a queue id has 13 letters and digits")]
pub struct NotAQueueId;

impl FromStr for QueueId {
    type Err = NotAQueueId;

    fn from_str(text: &str) -> Result<Self, NotAQueueId> {
        if text.len() != QUEUE_ID_LENGTH {
            return Err(NotAQueueId);
        }
        text.bytes()
            .try_fold(0_u64, |value, b| {
                let digit = ALPHABET.iter().position(|a| a.eq_ignore_ascii_case(&b)).ok_or(NotAQueueId)?;
                let digit = u64::try_from(digit).map_err(|_| NotAQueueId)?;
                value.checked_mul(32).and_then(|v| v.checked_add(digit)).ok_or(NotAQueueId)
            })
            .map(Self)
    }
}

impl TryFrom<String> for QueueId {
    type Error = NotAQueueId;

    fn try_from(text: String) -> Result<Self, NotAQueueId> {
        text.parse()
    }
}

impl From<QueueId> for String {
    fn from(id: QueueId) -> Self {
        id.to_string()
    }
}

/// What the content is (RFC 6152 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyType {
    /// Declared as 7-bit, by `BODY=7BIT` or by nothing; or in truth.
    #[default]
    SevenBit,
    /// Declared by `BODY=8BITMIME`, and with at least one 8-bit octet.
    EightBitMime,
}

/// What addresses and header of a message may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Charset {
    /// ASCII alone.
    #[default]
    Ascii,
    /// `SMTPUTF8` at MAIL: UTF-8 (RFC 6531 §3.4).
    Utf8,
}

/// What the sender asks of TLS on the way to the recipients (RFC 8689).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsRequest {
    /// Nothing: the policies decide.
    #[default]
    ByPolicy,
    /// `REQUIRETLS` at MAIL: authenticated TLS on every hop, or no delivery (RFC 8689 §4.2.1).
    Required,
    /// Header field `TLS-Required: No`: delivery counts for more than the recipient's policies
    /// (RFC 8689 §4.2.2).
    Optional,
}

/// What the sender asks of notifications about the whole message (RFC 3461 §4.3, §4.4), and about
/// each recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DsnRequest {
    /// How much of the message a report of failure brings back; without it, that is our choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ret: Option<Ret>,
    /// The sender's name for the envelope; it comes back in every report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envelope_id: Option<EnvelopeId>,
    /// By the index of the recipient; those behind the end ask for nothing. See
    /// [`Envelope::dsn_for`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<RecipientDsn>,
}

impl DsnRequest {
    /// Whether nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ret.is_none() && self.envelope_id.is_none() && self.recipients.is_empty()
    }
}

/// What the sender asks of notifications about one recipient (RFC 3461 §4.1, §4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecipientDsn {
    /// When to tell. `None` is something else than any value: nothing is then passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    /// The address as the sender wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<OriginalRecipient>,
}

impl RecipientDsn {
    /// A recipient about whom nothing is asked.
    pub const NOTHING: Self = Self { notify: None, original: None };

    /// Whether the sender is to be told. Without NOTIFY that is failure, and delay if we like
    /// (RFC 3461 §4.1).
    #[must_use]
    pub fn wants(&self, on: NotifyOn) -> bool {
        match (&self.notify, on) {
            (Some(notify), _) => notify.has(on),
            (None, NotifyOn::Failure | NotifyOn::Delay) => true,
            (None, NotifyOn::Success) => false,
        }
    }
}

/// The client that handed the message in, as the Received line and the log name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// The peer address of the connection.
    pub address: IpAddr,
    /// What it said in EHLO or HELO, bounded and printable.
    pub helo: String,
    /// The Received protocol word: SMTP, ESMTP, ESMTPS (RFC 3848 §2), UTF8SMTP, UTF8SMTPS
    /// (RFC 6531 §4.3); with an A at the end after AUTH.
    pub protocol: String,
    /// The user, after AUTH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Where a message comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Handed in over SMTP by a permitted client.
    Client(ClientInfo),
    /// A notification that the relay made about another message.
    Report {
        /// The message it tells of.
        about: QueueId,
    },
    /// A report on TLS (RFC 8460): nothing else is reported of it, and the policies of its recipients stop it not.
    TlsReport {
        /// The domain it tells of, in A-labels.
        domain: String,
        /// The day, in UTC.
        day: ReportDay,
    },
    /// A copy that the operator wants of another message.
    Copy {
        /// The message it is a copy of.
        of: QueueId,
    },
}

/// A message without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Whom to tell when delivery fails.
    pub reverse_path: ReversePath,
    /// Who is to have it, in the order of the RCPT commands; the index names a recipient.
    pub recipients: Vec<Mailbox>,
    /// The declared kind of body.
    pub body: BodyType,
    /// What the header holds, where the sender declared SMTPUTF8; see [`Envelope::needs_smtp_utf8`].
    #[serde(default)]
    pub charset: Charset,
    /// What the sender asks of TLS.
    #[serde(default)]
    pub tls: TlsRequest,
    /// What the sender asks of notifications.
    #[serde(default, skip_serializing_if = "DsnRequest::is_empty")]
    pub dsn: DsnRequest,
    /// When we took responsibility for it.
    pub accepted_at: Timestamp,
    /// Where it comes from.
    pub origin: Origin,
}

impl Envelope {
    /// The message that this is a copy of, where it is one.
    #[must_use]
    pub const fn copy_of(&self) -> Option<QueueId> {
        match &self.origin {
            Origin::Copy { of } => Some(*of),
            Origin::Client(_) | Origin::Report { .. } | Origin::TlsReport { .. } => None,
        }
    }

    /// A message whose sender asks for nothing special.
    #[must_use]
    pub fn new(reverse_path: ReversePath, recipients: Vec<Mailbox>, accepted_at: Timestamp, origin: Origin) -> Self {
        let (body, charset) = (BodyType::SevenBit, Charset::Ascii);
        let (tls, dsn) = (TlsRequest::ByPolicy, DsnRequest::default());
        Self { reverse_path, recipients, body, charset, tls, dsn, accepted_at, origin }
    }

    /// Whether only a host that offers SMTPUTF8 may have it (RFC 6531 §3.2): its header is in UTF-8,
    /// or an address is, as one that the operator chose may be.
    #[must_use]
    pub fn needs_smtp_utf8(&self) -> bool {
        let by_address = self.reverse_path.needs_smtp_utf8() || self.recipients.iter().any(Mailbox::needs_smtp_utf8);
        self.charset == Charset::Utf8 || by_address
    }

    /// What the sender asks of notifications about the recipient of that index.
    #[must_use]
    pub fn dsn_for(&self, recipient: usize) -> &RecipientDsn {
        self.dsn.recipients.get(recipient).unwrap_or(&RecipientDsn::NOTHING)
    }
}

/// Envelopes for the unit tests of all modules; what a test is about it sets itself.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// From a client. The sender may stand in brackets; an empty one is the null reverse-path.
    pub(crate) fn envelope(sender: &str, recipients: &[&str]) -> Envelope {
        let address = [192, 0, 2, 10].into();
        let client = ClientInfo { address, helo: "ex.corp.example".into(), protocol: "ESMTP".into(), user: None };
        let sender = sender.trim_matches(['<', '>']);
        let sender = if sender.is_empty() { ReversePath::Null } else { ReversePath::Mailbox(sender.parse().unwrap()) };
        let recipients = recipients.iter().map(|recipient| recipient.parse().unwrap()).collect();
        Envelope::new(sender, recipients, Timestamp(0), Origin::Client(client))
    }

    /// Of a report to these.
    pub(crate) fn report(recipients: &[&str]) -> Envelope {
        Envelope { origin: Origin::Report { about: QueueId(1) }, ..envelope("", recipients) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_relay_stored_is_still_read() {
        let stored = r#"{"reverse_path":{"Mailbox":"a@b.example"},"recipients":["c@d.example"],"body":"EightBitMime",
            "accepted_at":1795261468000,"origin":{"Client":{"address":"192.0.2.10","helo":"ex.corp.example","protocol":"ESMTP"}}}"#;
        let envelope: Envelope = serde_json::from_str(stored).unwrap();
        let expected = testing::envelope("a@b.example", &["c@d.example"]);
        let (body, accepted_at) = (BodyType::EightBitMime, Timestamp(1_795_261_468_000));
        assert_eq!(envelope, Envelope { body, accepted_at, ..expected });
    }

    #[test]
    fn rfc3461_5_2_what_the_sender_asks_survives_the_spool() {
        let envelope = testing::report(&[]);
        let notify = RecipientDsn { notify: Some("NEVER".parse().unwrap()), original: None };
        let original = RecipientDsn { notify: None, original: Some("rfc822;A+2Bb@d.example".parse().unwrap()) };
        let asked = [
            (TlsRequest::ByPolicy, DsnRequest::default()),
            (TlsRequest::Required, DsnRequest { ret: Some(Ret::Headers), ..DsnRequest::default() }),
            (TlsRequest::Optional, DsnRequest { envelope_id: Some("a+20b".parse().unwrap()), ..DsnRequest::default() }),
            (
                TlsRequest::ByPolicy,
                DsnRequest { recipients: vec![RecipientDsn::NOTHING, notify, original], ..DsnRequest::default() },
            ),
        ];
        for (tls, dsn) in asked {
            let asking = Envelope { tls, dsn, ..envelope.clone() };
            let stored = serde_json::to_vec(&asking).unwrap();
            assert_eq!(serde_json::from_slice::<Envelope>(&stored).unwrap(), asking);
        }
    }

    #[test]
    fn rfc6531_3_2_utf_8_is_needed_for_the_header_or_a_local_part() {
        let needs = |recipient: &str, charset| {
            Envelope { charset, ..testing::report(&["a@b.example", recipient]) }.needs_smtp_utf8()
        };
        assert!(!needs("c@d.example", Charset::Ascii));
        assert!(needs("c@d.example", Charset::Utf8));
        assert!(needs("jürgen@d.example", Charset::Ascii));
        assert!(!needs("c@bücher.example", Charset::Ascii), "its domain has a form in ASCII");
    }

    #[test]
    fn rfc3461_4_1_who_asks_for_nothing_is_told_of_failure_and_delay() {
        let all = [NotifyOn::Success, NotifyOn::Failure, NotifyOn::Delay];
        let wants = |notify: Option<&str>| {
            let dsn = RecipientDsn { notify: notify.map(|n| n.parse().unwrap()), original: None };
            all.map(|on| dsn.wants(on))
        };
        assert_eq!(wants(None), [false, true, true]);
        assert_eq!(wants(Some("NEVER")), [false, false, false]);
        assert_eq!(wants(Some("SUCCESS")), [true, false, false]);
        assert_eq!(wants(Some("FAILURE,SUCCESS")), [true, true, false]);
        let envelope = testing::report(&[]);
        assert_eq!(envelope.dsn_for(7), &RecipientDsn::NOTHING);
    }

    #[test]
    fn queue_ids_survive_the_way_through_text() {
        for id in [0, 1, 31, 32, 1_795_261_468_000_123, u64::MAX] {
            assert_eq!(QueueId(id).to_string().parse(), Ok(QueueId(id)));
        }
        assert!("ZZZZZZZZZZZZZ".parse::<QueueId>().is_err(), "above 64 bits");
        assert!("0".parse::<QueueId>().is_err());
        assert!("000000000000!".parse::<QueueId>().is_err());
    }
}
