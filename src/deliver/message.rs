//! A message as one server gets it: its recipients, and the parameters that server understands
//! (RFC 1870 §6, RFC 3461 §5.2, RFC 6152 §3, RFC 6531 §3.5, RFC 8689 §4.2.1, RFC 9422).
//!
//! Pure. A parameter goes only to a server that offers its keyword. Where the message cannot do
//! without one, nothing of it is said, and the obstacle is the cause.

use super::dkim::Signatures;
use super::eight_bit::Conversion;
use crate::envelope::{BodyType, Charset, Envelope, RecipientDsn, TlsRequest};
use crate::outcome::{Cause, Peer};
use crate::smtp::address::{Mailbox, ReversePath};
use crate::smtp::dsn::{EnvelopeId, Ret};
use crate::smtp::reply::{Capabilities, EnhancedStatusCode, Limits, Reply};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The envelope as one transaction sends it.
#[derive(Clone, Debug)]
pub struct Message {
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// RCPT TO.
    pub recipients: Vec<Recipient>,
    /// Octets of content before dot-stuffing, for SIZE (RFC 1870 §6).
    pub size: u64,
    /// The declared kind of body.
    pub body: BodyType,
    /// How 8-bit content is made 7-bit for a server that takes no other, where that is allowed.
    pub conversion: Option<Arc<Conversion>>,
    /// The signatures of its content as it is.
    pub signatures: Option<Arc<Signatures>>,
    /// Those of its content after that conversion.
    pub converted_signatures: Option<Arc<Signatures>>,
    /// Whether only a server that offers SMTPUTF8 may have it (RFC 6531 §3.2).
    pub charset: Charset,
    /// Whether REQUIRETLS goes with it (RFC 8689 §4.2.1).
    pub require_tls: bool,
    /// RET (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// ENVID (RFC 3461 §4.4).
    pub envelope_id: Option<EnvelopeId>,
}

/// One recipient of it.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// Its index in the envelope.
    pub index: usize,
    /// The forward-path.
    pub address: Mailbox,
    /// What the sender asks of notifications about it.
    pub dsn: RecipientDsn,
}

impl Message {
    /// The message of that envelope and content for some of its recipients, by index; indices
    /// that it has not are left out.
    #[must_use]
    pub fn of(envelope: &Envelope, size: u64, indices: &[usize]) -> Self {
        let recipient = |&index: &usize| {
            let address = envelope.recipients.get(index)?.clone();
            Some(Recipient { index, address, dsn: envelope.dsn_for(index).clone() })
        };
        Self {
            reverse_path: envelope.reverse_path.clone(),
            recipients: indices.iter().filter_map(recipient).collect(),
            size,
            body: envelope.body,
            conversion: None,
            signatures: None,
            converted_signatures: None,
            charset: charset(envelope, indices),
            require_tls: envelope.tls == TlsRequest::Required,
            ret: envelope.dsn.ret,
            envelope_id: envelope.dsn.envelope_id.clone(),
        }
    }

    /// The same for some of its recipients, by index in the envelope.
    #[must_use]
    pub fn only_for(mut self, indices: &[usize]) -> Self {
        self.recipients.retain(|recipient| indices.contains(&recipient.index));
        self
    }

    /// Why a server with this offer cannot have the message at all.
    #[must_use]
    pub fn obstacle(&self, offered: &Capabilities, peer: &Peer) -> Option<Cause> {
        let (peer, size) = (|| peer.clone(), self.size_for(offered));
        if let Some(Some(limit)) = offered.size
            && size > limit
        {
            return Some(Cause::MessageTooLarge { peer: peer(), limit, size });
        }
        if self.charset == Charset::Utf8 && !offered.smtp_utf8 {
            return Some(Cause::SmtpUtf8NotOffered { peer: peer() });
        }
        if self.body == BodyType::EightBitMime && !offered.eight_bit_mime && self.conversion.is_none() {
            return Some(Cause::EightBitNotOffered { peer: peer(), unconvertible: None });
        }
        None
    }

    /// How the content is converted for a server with this offer, where it has to be.
    #[must_use]
    pub fn conversion_for(&self, offered: &Capabilities) -> Option<&Arc<Conversion>> {
        self.conversion.as_ref().filter(|_| self.body == BodyType::EightBitMime && !offered.eight_bit_mime)
    }

    /// The signatures of the content as a server with this offer gets it.
    #[must_use]
    pub fn signatures_for(&self, offered: &Capabilities) -> Option<&Arc<Signatures>> {
        match self.conversion_for(offered) {
            Some(_) => self.converted_signatures.as_ref(),
            None => self.signatures.as_ref(),
        }
    }

    fn size_for(&self, offered: &Capabilities) -> u64 {
        let content = self.conversion_for(offered).map_or(self.size, |conversion| conversion.size());
        content.saturating_add(self.signatures_for(offered).map_or(0, |signatures| signatures.size()))
    }

    /// The MAIL command for a server with this offer.
    ///
    /// The reverse-path stays, also for recipients with NOTIFY=NEVER and a server without DSN,
    /// where the null one would keep that server from writing reports and is allowed (RFC 3461
    /// §5.2.2). The null one says that the message is a report: SPF then knows only our own name,
    /// so that DMARC loses half of what it aligns with, and filters refuse what is no report after
    /// all. With NEVER nobody would hear of that. A report too many is the smaller harm, and it goes
    /// to the one who asked for none.
    #[must_use]
    pub fn mail_command(&self, offered: &Capabilities) -> String {
        let mut command = format!("MAIL FROM:<{}>", self.reverse_path.on_the_wire());
        if offered.size.is_some() {
            command.push_str(&format!(" SIZE={}", self.size_for(offered)));
        }
        if offered.eight_bit_mime && self.body == BodyType::EightBitMime {
            command.push_str(" BODY=8BITMIME");
        }
        if offered.smtp_utf8 && self.charset == Charset::Utf8 {
            command.push_str(" SMTPUTF8");
        }
        if offered.require_tls && self.require_tls {
            command.push_str(" REQUIRETLS");
        }
        if offered.dsn {
            command.extend(self.ret.map(|ret| format!(" RET={ret}")));
            command.extend(self.envelope_id.as_ref().map(|id| format!(" ENVID={id}")));
        }
        command.push_str("\r\n");
        command
    }

    /// Puts the recipients that one transaction may have to the front, in their order, and says
    /// how many they are: always at least one, if there is any (RFC 9422 §4).
    pub fn put_first_what_fits(&mut self, limits: Limits) -> usize {
        let within =
            |count: usize, most: Option<u32>| most.is_none_or(|most| u32::try_from(count).is_ok_and(|n| n < most));
        let mut domains = BTreeSet::new();
        let (mut now, mut later) = (Vec::new(), Vec::new());
        for recipient in std::mem::take(&mut self.recipients) {
            let domain = recipient.address.host().clone();
            let fits = within(now.len(), limits.rcpt)
                && (domains.contains(&domain) || within(domains.len(), limits.rcpt_domain));
            if fits {
                domains.insert(domain);
                now.push(recipient);
            } else {
                later.push(recipient);
            }
        }
        let fitting = now.len();
        self.recipients = now;
        self.recipients.append(&mut later);
        fitting
    }
}

/// What this transaction needs: the header counts for all, an address for those with it.
fn charset(envelope: &Envelope, indices: &[usize]) -> Charset {
    let mut recipients = indices.iter().filter_map(|&index| envelope.recipients.get(index));
    let by_address = envelope.reverse_path.needs_smtp_utf8() || recipients.any(Mailbox::needs_smtp_utf8);
    if by_address { Charset::Utf8 } else { envelope.charset }
}

impl Recipient {
    /// The RCPT command for a server with this offer. What the sender asked goes on unchanged,
    /// and nothing is added (RFC 3461 §5.2.1).
    #[must_use]
    pub fn command(&self, offered: &Capabilities) -> String {
        let mut command = format!("RCPT TO:<{}>", self.address.on_the_wire());
        if offered.dsn {
            command.extend(self.dsn.notify.as_ref().map(|notify| format!(" NOTIFY={notify}")));
            command.extend(self.dsn.original.as_ref().map(|original| format!(" ORCPT={}", original.on_the_wire())));
        }
        command.push_str("\r\n");
        command
    }
}

/// Whether a refusal of a recipient may mean the number of them, so that a further transaction
/// can help (RFC 5321 §4.5.3.1.10, which counts 552 as 452; RFC 3463 §3.6 for the code).
#[must_use]
pub fn means_too_many(reply: &Reply) -> bool {
    let about_the_number = |code: EnhancedStatusCode| (code.subject, code.detail) == (5, 3);
    matches!(reply.code, 452 | 552) && reply.enhanced.is_none_or(about_the_number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::envelope::{DsnRequest, Origin, QueueId};

    fn envelope(recipients: &[&str]) -> Envelope {
        let sender = ReversePath::Mailbox("sender@example.org".parse().unwrap());
        let recipients = recipients.iter().map(|r| r.parse().unwrap()).collect();
        Envelope::new(sender, recipients, Timestamp(0), Origin::Report { about: QueueId(1) })
    }

    fn offers(keywords: &[&str]) -> Capabilities {
        let mut reply = Reply::plain(250, "mx");
        reply.lines.extend(keywords.iter().map(|&keyword| keyword.to_owned()));
        Capabilities::from_ehlo(&reply)
    }

    fn peer() -> Peer {
        Peer { host: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() }
    }

    /// The first recipient asks for much, the second for nothing.
    fn asking() -> Message {
        let first = RecipientDsn {
            notify: Some("Success,DELAY".parse().unwrap()),
            original: Some("rfc822;B+2BC@Old.example".parse().unwrap()),
        };
        let dsn = DsnRequest {
            ret: Some(Ret::Headers),
            envelope_id: Some("QQ+2B314159".parse().unwrap()),
            recipients: vec![first],
        };
        Message::of(&Envelope { dsn, ..envelope(&["b@x.example", "c@x.example"]) }, 99, &[0, 1, 2])
    }

    #[test]
    fn rfc3461_5_2_1_what_was_asked_goes_on_unchanged_and_nothing_is_added() {
        let message = asking();
        assert_eq!(
            message.mail_command(&offers(&["DSN"])),
            "MAIL FROM:<sender@example.org> RET=HDRS ENVID=QQ+2B314159\r\n"
        );
        let commands: Vec<String> = message.recipients.iter().map(|r| r.command(&offers(&["DSN"]))).collect();
        assert_eq!(
            commands,
            [
                "RCPT TO:<b@x.example> NOTIFY=Success,DELAY ORCPT=rfc822;B+2BC@Old.example\r\n",
                "RCPT TO:<c@x.example>\r\n"
            ]
        );
    }

    #[test]
    fn rfc3461_5_2_2_mail_that_nobody_is_to_be_told_of_keeps_its_reverse_path() {
        let never = RecipientDsn { notify: Some("NEVER".parse().unwrap()), original: None };
        let dsn = DsnRequest { recipients: vec![never], ..DsnRequest::default() };
        let message = Message::of(&Envelope { dsn, ..envelope(&["b@x.example"]) }, 99, &[0]);
        assert_eq!(message.mail_command(&offers(&[])), "MAIL FROM:<sender@example.org>\r\n");
        assert_eq!(message.recipients[0].command(&offers(&["DSN"])), "RCPT TO:<b@x.example> NOTIFY=NEVER\r\n");
    }

    #[test]
    fn rfc3461_5_2_2_a_server_without_dsn_hears_none_of_it() {
        let message = asking();
        assert_eq!(message.mail_command(&offers(&["SIZE"])), "MAIL FROM:<sender@example.org> SIZE=99\r\n");
        assert_eq!(message.recipients[0].command(&offers(&["SIZE"])), "RCPT TO:<b@x.example>\r\n");
    }

    #[test]
    fn rfc6531_3_5_utf_8_goes_only_where_it_is_offered() {
        let declared = Message::of(&Envelope { charset: Charset::Utf8, ..envelope(&["a@x.example"]) }, 1, &[0]);
        let addressed = Message::of(&envelope(&["jürgen@x.example"]), 1, &[0]);
        for message in [declared, addressed] {
            let without = message.obstacle(&offers(&["8BITMIME"]), &peer());
            assert_eq!(without, Some(Cause::SmtpUtf8NotOffered { peer: peer() }));
            let with = offers(&["8BITMIME", "smtputf8"]);
            assert_eq!(message.obstacle(&with, &peer()), None);
            assert_eq!(message.mail_command(&with), "MAIL FROM:<sender@example.org> SMTPUTF8\r\n");
        }
        let ascii = Message::of(&envelope(&["a@x.example"]), 1, &[0]);
        assert_eq!(ascii.obstacle(&offers(&[]), &peer()), None);
        assert!(!ascii.mail_command(&offers(&["SMTPUTF8"])).contains("UTF8"));
    }

    #[test]
    fn rfc6531_3_2_what_has_a_form_in_ascii_goes_out_in_it() {
        let mut to = envelope(&["a@bücher.example", "jürgen@x.example"]);
        to.reverse_path = ReversePath::Mailbox("b@例子.广告".parse().unwrap());
        let original = Some("utf-8;ä+2Bö@bücher.example".parse().unwrap());
        to.dsn.recipients = vec![RecipientDsn { notify: None, original }];
        let message = Message::of(&to, 1, &[0]);
        assert_eq!(message.obstacle(&offers(&[]), &peer()), None, "the other recipient is not in this transaction");
        assert_eq!(message.mail_command(&offers(&["SMTPUTF8"])), "MAIL FROM:<b@xn--fsqu00a.xn--4rr70v>\r\n");
        assert_eq!(
            message.recipients[0].command(&offers(&["DSN"])),
            "RCPT TO:<a@xn--bcher-kva.example> ORCPT=utf-8;\\x{E4}\\x{2B}\\x{F6}@b\\x{FC}cher.example\r\n"
        );
        assert!(Message::of(&to, 1, &[0, 1]).obstacle(&offers(&[]), &peer()).is_some());
    }

    #[test]
    fn rfc1870_6_the_limit_itself_still_fits() {
        let message = |size| Message::of(&envelope(&["a@x.example"]), size, &[0]);
        assert_eq!(message(1000).obstacle(&offers(&["SIZE 1000"]), &peer()), None);
        assert!(message(1001).obstacle(&offers(&["SIZE 1000"]), &peer()).is_some());
        // RFC 1870 §4: no number and 0 mean no fixed limit.
        assert_eq!(message(u64::MAX).obstacle(&offers(&["SIZE 0"]), &peer()), None);
    }

    #[test]
    fn rfc9422_4_no_more_recipients_and_domains_than_the_limits() {
        let fitting = |keyword: &str| {
            let to = ["a@x.example", "b@y.example", "c@X.example", "d@z.example"];
            let mut message = Message::of(&envelope(&to), 1, &[0, 1, 2, 3]);
            let count = message.put_first_what_fits(offers(&[keyword]).limits);
            (count, message.recipients.iter().map(|r| r.index).collect::<Vec<_>>())
        };
        assert_eq!(fitting("LIMITS"), (4, vec![0, 1, 2, 3]));
        assert_eq!(fitting("LIMITS RCPTMAX=3"), (3, vec![0, 1, 2, 3]));
        assert_eq!(fitting("LIMITS RCPTDOMAINMAX=1"), (2, vec![0, 2, 1, 3]));
        assert_eq!(fitting("LIMITS RCPTDOMAINMAX=2 RCPTMAX=2"), (2, vec![0, 1, 2, 3]));
    }

    #[test]
    fn rfc5321_4_5_3_1_10_only_a_reply_about_the_number_asks_for_a_further_transaction() {
        let means = |text: &str| {
            let reply = crate::smtp::reply::ReplyParser::default().line(text.as_bytes()).unwrap().unwrap();
            means_too_many(&reply)
        };
        for text in ["452 4.5.3 too many", "452 too many", "552 5.5.3 too many", "552 too many recipients"] {
            assert!(means(text), "{text}");
        }
        for text in ["452 4.3.1 disk full", "552 5.2.2 mailbox full", "451 4.5.3 x", "550 5.5.3 x", "452 4.2.2 full"] {
            assert!(!means(text), "{text}");
        }
    }
}
