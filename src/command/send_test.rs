//! `relay send-test`: one message, handed in as a client would at the listener of the relay that runs.
//!
//! It goes all the way that Exchange's mail goes, from the greeting of the listener on; what becomes of
//! it is told by [`super::why`].

use crate::clock::Timestamp;
use crate::config::Config;
use crate::deliver::Target;
use crate::deliver::driver::OpenBody;
use crate::deliver::message::{Message, Recipient};
use crate::envelope::{BodyType, Charset, QueueId, RecipientDsn};
use crate::outcome::{DeliveryOutcome, Peer};
use crate::pipeline::outbound::Outbound;
use crate::policy::{TlsPolicy, WhyOpportunistic};
use crate::smtp::address::{Mailbox, ReversePath};
use crate::spool::{BodyReader, SpoolError};
use async_trait::async_trait;
use bytes::Bytes;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Who sends to whom.
#[derive(Clone, Debug)]
pub struct TestMail {
    /// The reverse-path, and From.
    pub from: Mailbox,
    /// The recipient.
    pub to: Mailbox,
    /// When it is written.
    pub at: Timestamp,
}

/// What the listener said to it.
#[derive(Debug)]
pub enum HandedIn {
    /// It took it, under this name.
    Accepted(QueueId),
    /// It did not, in these words.
    Refused(String),
}

impl TestMail {
    /// The content (RFC 5322); an automatic answer to it is not wanted (RFC 3834 §5).
    #[must_use]
    pub fn content(&self, hostname: &str) -> String {
        let Self { from, to, at } = self;
        format!(
            "From: <{from}>\r\nTo: <{to}>\r\nSubject: Test of the relay {hostname}\r\nDate: {date}\r\n\
             Message-ID: <{stamp}.send-test@{hostname}>\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\r\n\
             This message was sent by \"relay send-test\" on {hostname}, to see whether mail to you arrives.\r\n\
             You need not answer it.\r\n",
            date = at.rfc5322(),
            stamp = at.0,
        )
    }
}

/// Hands it in at a listener of the relay.
pub async fn hand_in(out: &Outbound, listener: SocketAddr, mail: &TestMail) -> HandedIn {
    let content = mail.content(out.config.hostname.as_str());
    let message = Message {
        reverse_path: ReversePath::Mailbox(mail.from.clone()),
        recipients: vec![Recipient { index: 0, address: mail.to.clone(), dsn: RecipientDsn::default() }],
        size: content.len() as u64,
        body: BodyType::SevenBit,
        conversion: None,
        signatures: None,
        converted_signatures: None,
        charset: Charset::Ascii,
        require_tls: false,
        ret: None,
        envelope_id: None,
    };
    let target = Target {
        peer: Peer { host: out.config.hostname.to_string(), address: reachable(listener) },
        policy: TlsPolicy::Opportunistic { because: WhyOpportunistic::ReportOnly },
        watched: None,
        require_tls: false,
        egress: Arc::default(),
    };
    let report = Box::pin(out.mailer.attempt(&target, message, &Whole(content.into()))).await;
    out.mailer.close().await;
    match report.outcomes.into_iter().next() {
        Some((_, DeliveryOutcome::Delivered { reply, .. })) => named_in(&reply.text()).map_or_else(
            || HandedIn::Refused(format!("no relay of this kind answers there: {reply}")),
            HandedIn::Accepted,
        ),
        Some((_, DeliveryOutcome::Failed { cause })) => HandedIn::Refused(cause.sentence()),
        None => HandedIn::Refused("the relay ended the session".to_owned()),
    }
}

/// Who the message comes from when nobody says: the postmaster, or somebody of the first sender domain,
/// which may then send.
#[must_use]
pub fn usual_sender(config: &Config) -> Option<Mailbox> {
    let somebody = || {
        let domain = config.listen.sender_domains.first().unwrap_or(&config.hostname);
        format!("postmaster@{domain}").parse().ok()
    };
    config.postmaster.clone().or_else(somebody)
}

/// The name in the queue, which is the last word of our reply.
fn named_in(reply: &str) -> Option<QueueId> {
    reply.split_ascii_whitespace().last()?.parse().ok()
}

/// A listener at all addresses is reached at loopback.
const fn reachable(listener: SocketAddr) -> SocketAddr {
    let address = match listener.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address @ (IpAddr::V4(_) | IpAddr::V6(_)) => address,
    };
    SocketAddr::new(address, listener.port())
}

/// Content that is whole in memory.
struct Whole(Bytes);

#[async_trait]
impl OpenBody for Whole {
    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        Ok(Box::new(OnePiece(Some(self.0.clone()))))
    }
}

/// Gives it in one piece.
struct OnePiece(Option<Bytes>);

#[async_trait]
impl BodyReader for OnePiece {
    async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        Ok(self.0.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_at_all_addresses_is_reached_at_loopback() {
        let reached = |listener: &str| reachable(listener.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:25"), "127.0.0.1:25");
        assert_eq!(reached("[::]:2525"), "[::1]:2525");
        assert_eq!(reached("192.0.2.1:25"), "192.0.2.1:25");
    }

    #[test]
    fn the_sender_is_one_that_may_send() {
        let read = |text: &str| Config::parse(text, std::path::Path::new("relay.toml")).unwrap();
        let sender = |text: &str| usual_sender(&read(text)).unwrap().to_string();
        assert_eq!(sender("hostname = \"relay.example.org\""), "postmaster@relay.example.org");
        let listed = "hostname = \"relay.example.org\"\n[listen]\nsender_domains = [\"example.org\"]";
        assert_eq!(sender(listed), "postmaster@example.org");
        assert_eq!(sender("postmaster = \"mail@example.net\""), "mail@example.net");
    }
}
