//! What a message is to the relay: who sent it, who is to have it, how it came.
//!
//! The nouns every stage shares. Content is not among them: it streams from the listener to
//! the spool and from the spool to the next hop.

use crate::clock::Timestamp;
use crate::smtp::address::{Mailbox, ReversePath};
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

/// What `BODY=` declared (RFC 6152 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyType {
    /// Nothing, or `BODY=7BIT`.
    #[default]
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBitMime,
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

/// The client that handed the message in, as the Received line and the log name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// The peer address of the connection.
    pub address: IpAddr,
    /// What it said in EHLO or HELO, bounded and printable.
    pub helo: String,
    /// The Received protocol word: SMTP, ESMTP or ESMTPS (RFC 3848 §2).
    pub protocol: String,
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
    /// What the sender asks of TLS.
    #[serde(default)]
    pub tls: TlsRequest,
    /// When we took responsibility for it.
    pub accepted_at: Timestamp,
    /// Where it comes from.
    pub origin: Origin,
}

impl Envelope {
    /// A message whose sender asks for nothing special.
    #[must_use]
    pub fn new(reverse_path: ReversePath, recipients: Vec<Mailbox>, accepted_at: Timestamp, origin: Origin) -> Self {
        let (body, tls) = (BodyType::SevenBit, TlsRequest::ByPolicy);
        Self { reverse_path, recipients, body, tls, accepted_at, origin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_relay_stored_is_still_read() {
        let stored = r#"{"reverse_path":{"Mailbox":"a@b.example"},"recipients":["c@d.example"],"body":"EightBitMime",
            "accepted_at":1795261468000,"origin":{"Client":{"address":"192.0.2.1","helo":"ex","protocol":"ESMTP"}}}"#;
        let envelope: Envelope = serde_json::from_str(stored).unwrap();
        let client = ClientInfo { address: "192.0.2.1".parse().unwrap(), helo: "ex".into(), protocol: "ESMTP".into() };
        let sender = ReversePath::Mailbox("a@b.example".parse().unwrap());
        let recipients = vec!["c@d.example".parse().unwrap()];
        let expected = Envelope::new(sender, recipients, Timestamp(1_795_261_468_000), Origin::Client(client));
        assert_eq!(envelope, Envelope { body: BodyType::EightBitMime, ..expected });
    }

    #[test]
    fn what_the_sender_asks_survives_the_spool() {
        let envelope = Envelope::new(ReversePath::Null, vec![], Timestamp(0), Origin::Report { about: QueueId(1) });
        for tls in [TlsRequest::ByPolicy, TlsRequest::Required, TlsRequest::Optional] {
            let asking = Envelope { tls, ..envelope.clone() };
            let stored = serde_json::to_vec(&asking).unwrap();
            assert_eq!(serde_json::from_slice::<Envelope>(&stored).unwrap(), asking);
        }
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
