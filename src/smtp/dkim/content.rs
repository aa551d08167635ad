//! A message as its signer reads it: the header whole, the body as its hash (RFC 6376 §3.7).

use super::canonical::{BodyHash, CanonicalForm, HASH_OCTETS};
use super::{HEADER_LIMIT, Unsignable};
use crate::smtp::address::Domain;
use crate::smtp::header::{Line, lines};
use mail_parser::{Address, MessageParser};

/// Where a reading stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SigningRead {
    /// In the header.
    Header,
    /// Behind it: the header is whole.
    Body,
}

/// Reads content that comes in pieces, however it is cut.
pub(crate) struct SigningContent {
    header: Vec<u8>,
    /// Where its last line begins.
    line: usize,
    at: SigningRead,
    relaxed: BodyHash,
    /// Where the message has a signature, which may be over this form.
    simple: Option<BodyHash>,
}

/// What a signer or a verifier needs of a message: the header, and the hash of the body in its forms.
pub(crate) struct ReadContent {
    pub(super) header: Vec<u8>,
    pub(super) relaxed: [u8; HASH_OCTETS],
    pub(super) simple: Option<[u8; HASH_OCTETS]>,
}

/// The field of a signature (RFC 6376 §3.5).
pub(super) const SIGNATURE_FIELD: &str = "DKIM-Signature";

impl Default for SigningContent {
    fn default() -> Self {
        let relaxed = BodyHash::of(CanonicalForm::Relaxed);
        Self { header: Vec::new(), line: 0, at: SigningRead::Header, relaxed, simple: None }
    }
}

impl SigningContent {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`Unsignable::HeaderTooLarge`]
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Result<SigningRead, Unsignable> {
        let mut rest = piece;
        while self.at == SigningRead::Header && !rest.is_empty() {
            let end = rest.iter().position(|&octet| octet == b'\n').map_or(rest.len(), |at| at + 1);
            let (part, behind) = rest.split_at(end);
            if self.header.len() + part.len() > HEADER_LIMIT {
                return Err(Unsignable::HeaderTooLarge);
            }
            self.header.extend_from_slice(part);
            rest = behind;
            if part.ends_with(b"\n") {
                self.line_ends();
                self.line = self.header.len();
            }
        }
        self.relaxed.feed(rest);
        if let Some(simple) = &mut self.simple {
            simple.feed(rest);
        }
        Ok(self.at)
    }

    fn line_ends(&mut self) {
        let line = self.header.get(self.line..).unwrap_or_default();
        if matches!(line, b"\r\n" | b"\n") {
            self.at = SigningRead::Body;
        }
        let name = line.get(..SIGNATURE_FIELD.len()).unwrap_or_default();
        if self.simple.is_none() && name.eq_ignore_ascii_case(SIGNATURE_FIELD.as_bytes()) {
            self.simple = Some(BodyHash::of(CanonicalForm::Simple));
        }
    }

    /// The fields of the header as far as it was read.
    pub(crate) fn fields(&self) -> HeaderFields<'_> {
        HeaderFields::of_header(&self.header)
    }

    /// What was read, after the last piece.
    pub(crate) fn finish(self) -> ReadContent {
        let (relaxed, simple) = (self.relaxed.finish(), self.simple.map(BodyHash::finish));
        ReadContent { header: self.header, relaxed, simple }
    }
}

/// One field of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeaderField<'a> {
    /// As it is written.
    pub(super) name: &'a [u8],
    /// Its value, line by line.
    pub(super) lines: Vec<&'a [u8]>,
}

/// The fields of a header, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderFields<'a>(Vec<HeaderField<'a>>);

impl<'a> HeaderFields<'a> {
    pub(super) fn of_header(header: &'a [u8]) -> Self {
        let mut fields: Vec<HeaderField<'a>> = Vec::new();
        for line in lines(header) {
            match line {
                Line::Field { name, value } => fields.push(HeaderField { name, lines: vec![value] }),
                Line::Folded(more) => {
                    if let Some(field) = fields.last_mut() {
                        field.lines.push(more);
                    }
                }
                // No verifier takes it for a field that a signature can name.
                Line::Odd(_) => {}
            }
        }
        Self(fields)
    }

    /// The fields of a name, the last one first, each as the lines of its value (RFC 6376 §5.4.2).
    pub(super) fn last_first<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s [&'a [u8]]> {
        self.0
            .iter()
            .rev()
            .filter(move |field| field.name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| field.lines.as_slice())
    }

    /// The domain of the author: of the first mailbox in the one From field (RFC 7489 §3.1.1). None where
    /// there is no such field, or more than one, so that nobody could say whose message it is.
    pub(crate) fn author(&self) -> Option<Domain> {
        let mut all = self.last_first("from");
        let (Some(lines), None) = (all.next(), all.next()) else { return None };
        let field = [b"From:", lines.concat().as_slice(), b"\r\n\r\n"].concat();
        let parsed = MessageParser::default().parse_headers(&field)?;
        let mailbox = match parsed.from()? {
            Address::List(all) => all.first(),
            Address::Group(groups) => groups.iter().find_map(|group| group.addresses.first()),
        };
        let (_, domain) = mailbox?.address()?.rsplit_once('@')?;
        domain.trim().parse().ok()
    }

    /// All of them, the last one first.
    pub(super) fn all_last_first(&self) -> impl Iterator<Item = &HeaderField<'a>> {
        self.0.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author(header: &str) -> Option<String> {
        let mut reading = SigningContent::default();
        reading.feed(header.as_bytes()).unwrap();
        reading.fields().author().map(|domain| domain.to_string())
    }

    #[test]
    fn rfc7489_3_1_1_the_author_is_in_the_one_from_field() {
        for (header, domain) in [
            ("From: a@x.example\r\n", Some("x.example")),
            ("fRoM : \"a@y.example\" <a@X.example>\r\n", Some("x.example")),
            ("From: A\r\n (b@c.example)\r\n <a@x.example>\r\n", Some("x.example")),
            ("From: one@x.example, two@y.example\r\n", Some("x.example")),
            ("From: a@b\u{fc}cher.example\r\n", Some("xn--bcher-kva.example")),
            ("X-From: a@y.example\r\nFrom: a@x.example\r\nFrom-Server: b@z.example\r\n", Some("x.example")),
            ("Resent-From: a@y.example\r\nSender: b@z.example\r\nFrom: a@x.example\r\n", Some("x.example")),
            ("From: a@x.example\r\nFrom: a@y.example\r\n", None),
            ("From: undisclosed\r\n", None),
            ("From:\r\n", None),
            ("Subject: x\r\n\r\nFrom: a@x.example\r\n", None),
            ("", None),
        ] {
            assert_eq!(author(header).as_deref(), domain, "{header:?}");
        }
    }

    #[test]
    fn a_header_is_found_however_the_content_is_cut() {
        let content = b"a: b\r\n c\r\n\r\nbody\r\n";
        for cut in 0..=content.len() {
            let (mut reading, (one, two)) = (SigningContent::default(), content.split_at(cut));
            let first = reading.feed(one).unwrap();
            assert_eq!(first == SigningRead::Body, cut >= 12, "{cut}");
            assert_eq!(reading.feed(two).unwrap(), SigningRead::Body);
            assert_eq!(reading.finish().header, b"a: b\r\n c\r\n\r\n");
        }
        let mut endless = SigningContent::default();
        let read = (0..10_000).try_for_each(|_| endless.feed(b"a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n").map(drop));
        assert_eq!(read, Err(Unsignable::HeaderTooLarge));
    }
}
