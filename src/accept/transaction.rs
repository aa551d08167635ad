//! A mail transaction: what MAIL and RCPT gather until the content has come (RFC 5321 §3.3).

use super::intake::ContentTraits;
use super::meters::Allowance;
use crate::clock::Timestamp;
use crate::envelope::{BodyType, Charset, ClientInfo, DsnRequest, Envelope, Origin, RecipientDsn, TlsRequest};
use crate::smtp::address::{Host, Mailbox, ReversePath};
use crate::smtp::command::Mail;
use crate::smtp::parameter::{BodyParameter, RcptParameters};

/// Begins with MAIL and ends as an [`Envelope`], or nowhere.
#[derive(Debug)]
pub(super) struct Transaction {
    reverse_path: ReversePath,
    recipients: Vec<Mailbox>,
    body: BodyType,
    charset: Charset,
    tls: TlsRequest,
    dsn: DsnRequest,
    opened_at: Timestamp,
    /// So many recipients does a limit of the operator leave.
    allowance: Allowance,
}

impl Transaction {
    /// After a good MAIL; the session has decided what its REQUIRETLS counts for.
    #[must_use]
    pub(super) fn new(mail: Mail, tls: TlsRequest) -> Self {
        let asked = mail.parameters;
        let body = match asked.body {
            Some(BodyParameter::EightBitMime) => BodyType::EightBitMime,
            Some(BodyParameter::SevenBit) | None => BodyType::SevenBit,
        };
        let charset = if asked.smtp_utf8 { Charset::Utf8 } else { Charset::Ascii };
        let dsn = DsnRequest { ret: asked.ret, envelope_id: asked.envelope_id, recipients: Vec::new() };
        let (reverse_path, recipients, opened_at) = (mail.reverse_path, Vec::new(), Timestamp(0));
        let allowance = Allowance::ALL;
        Self { reverse_path, recipients, body, charset, tls, dsn, opened_at, allowance }
    }

    /// It may come, with so many recipients.
    pub(super) fn allow(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    /// Whether a limit of the operator leaves room for another recipient.
    #[must_use]
    pub(super) fn may_have_more(&self) -> bool {
        self.recipients.len() < self.allowance.recipients
    }

    /// Whether the operator has suspended mail to there.
    #[must_use]
    pub(super) fn is_closed_for(&self, host: &Host) -> bool {
        self.allowance.closed.iter().any(|pattern| pattern.fit(host).is_some())
    }

    /// A good RCPT. What is asked about a recipient stands at its index, so those before it who
    /// asked for nothing get their place now; with nothing asked at all, nothing is kept.
    pub(super) fn add(&mut self, recipient: Mailbox, asked: RcptParameters) {
        let asked = RecipientDsn { notify: asked.notify, original: asked.original_recipient };
        if asked != RecipientDsn::NOTHING {
            self.dsn.recipients.resize(self.recipients.len(), RecipientDsn::NOTHING);
            self.dsn.recipients.push(asked);
        }
        self.recipients.push(recipient);
    }

    /// Whom to tell of failure.
    #[must_use]
    pub(super) fn reverse_path(&self) -> &ReversePath {
        &self.reverse_path
    }

    /// The recipients so far.
    #[must_use]
    pub(super) fn recipients(&self) -> &[Mailbox] {
        &self.recipients
    }

    /// What addresses may hold.
    #[must_use]
    pub(super) fn charset(&self) -> Charset {
        self.charset
    }

    /// The content begins to arrive.
    pub(super) fn open(&mut self, at: Timestamp) {
        self.opened_at = at;
    }

    /// The content came. What its header asks of TLS does not count beside REQUIRETLS (RFC 8689
    /// §4.1). Nor does `BODY=8BITMIME` where no octet is in need of it: Exchange may say so of any
    /// message, and a host without 8BITMIME can have this one (RFC 6152 §3).
    pub(super) fn received(&mut self, content: ContentTraits) {
        match self.tls {
            TlsRequest::ByPolicy | TlsRequest::Optional => self.tls = content.tls,
            TlsRequest::Required => {}
        }
        // RFC 6531 §3.2: nor does SMTPUTF8 where the header is in ASCII; the addresses speak for
        // themselves.
        if content.charset == Charset::Ascii {
            self.charset = Charset::Ascii;
        }
        match content.body {
            BodyType::SevenBit => self.body = BodyType::SevenBit,
            BodyType::EightBitMime => {}
        }
    }

    /// The content is complete.
    #[must_use]
    pub(super) fn into_envelope(self, client: ClientInfo) -> Envelope {
        let Self { reverse_path, recipients, body, charset, tls, dsn, opened_at: accepted_at, allowance: _ } = self;
        let origin = Origin::Client(client);
        Envelope { reverse_path, recipients, body, charset, tls, dsn, accepted_at, origin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::command::{Command, parse};

    fn command(line: &str) -> Command {
        parse(line.as_bytes()).unwrap()
    }

    fn envelope(lines: &[&str]) -> Envelope {
        let Command::Mail(mail) = command(lines[0]) else { panic!() };
        let mut transaction = Transaction::new(mail, TlsRequest::ByPolicy);
        for line in &lines[1..] {
            let Command::Rcpt(rcpt) = command(line) else { panic!() };
            transaction.add("x@d.example".parse().unwrap(), rcpt.parameters);
        }
        let (address, protocol) = ("192.0.2.1".parse().unwrap(), "ESMTP".to_owned());
        transaction.into_envelope(ClientInfo { address, helo: "ex".into(), protocol, user: None })
    }

    #[test]
    fn rfc3461_4_what_is_asked_about_a_recipient_stands_at_its_index() {
        let plain = "RCPT TO:<x@d.example>";
        let never = "RCPT TO:<x@d.example> NOTIFY=NEVER";
        let original = "RCPT TO:<x@d.example> ORCPT=rfc822;y@d.example";
        let envelope = envelope(&["MAIL FROM:<> RET=HDRS ENVID=q", plain, never, plain, plain, original, plain]);
        assert_eq!(envelope.recipients.len(), 6);
        let asked: Vec<_> = (0..6).map(|i| envelope.dsn_for(i)).collect();
        assert_eq!(asked[1].notify.as_ref().map(ToString::to_string).as_deref(), Some("NEVER"));
        assert_eq!(asked[4].original.as_ref().map(|o| o.address()).as_deref(), Some("y@d.example"));
        for nothing in [0, 2, 3, 5] {
            assert_eq!(asked[nothing], &RecipientDsn::NOTHING, "{nothing}");
        }
        assert_eq!(envelope.dsn.envelope_id.unwrap().as_str(), "q");
    }

    #[test]
    fn who_asks_for_nothing_leaves_nothing_in_the_envelope() {
        let envelope = envelope(&["MAIL FROM:<a@b.example> SIZE=1", "RCPT TO:<x@d.example>", "RCPT TO:<x@d.example>"]);
        assert!(envelope.dsn.is_empty());
    }
}
