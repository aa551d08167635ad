//! How a test describes a domain's MTA-STS, and what comes of the description (RFC 8461 §3).
//!
//! A description that says nothing is the happy path: a TXT record, a policy host with a
//! certificate of the lab's authority, and a policy in mode enforce that lists `mx.<domain>` for a
//! week. A test overrides only what it is about.

use crate::lab::bad;
use crate::lab::sockets::Presence;
use crate::lab::tls::certificate::Certificate;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::TXT;
use std::io;
use std::time::Duration;

/// One week, in seconds: what RFC 8461 §3.2 shows, and longer than any test.
const MAX_AGE_S: u64 = 604_800;
/// The longest piece of a TXT record, in octets (RFC 1035 §3.3.14).
const TXT_PIECE_LIMIT: usize = 255;

/// How a policy host brings its answer about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyHostManner {
    /// All at once, with its length.
    Whole,
    /// All at once, in chunks and without a length.
    Chunked,
    /// The body again and again in chunks, until the client has had enough.
    Endless,
    /// The head at once, and of the body one octet after each pause.
    Drip(Duration),
    /// The head tells the whole length; after so many octets of the body the connection is closed.
    CutAfter(usize),
    /// The head tells no length; after so many octets of the body TCP ends without the
    /// close_notify of TLS, as when somebody on the path cut it (RFC 8446 §6.1).
    TruncatedAfter(usize),
    /// The request is read, and then nothing comes.
    Hang,
    /// Not even the handshake is answered.
    HangInHandshake,
    /// The connection is closed instead of a handshake.
    NoHandshake,
}

/// What a policy host answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyAnswer {
    /// The status code.
    pub status: u16,
    /// The header fields, without those that frame the body.
    pub headers: Vec<(String, String)>,
    /// The policy, or whatever is there instead.
    pub body: Vec<u8>,
    /// How it goes out.
    pub manner: PolicyHostManner,
    /// How long the host thinks before it answers.
    pub delay: Duration,
}

impl PolicyAnswer {
    fn ok() -> Self {
        let headers = vec![("Content-Type".to_owned(), "text/plain".to_owned())];
        Self { status: 200, headers, body: Vec::new(), manner: PolicyHostManner::Whole, delay: Duration::ZERO }
    }

    /// Another status code.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Another media type.
    #[must_use]
    pub fn content_type(mut self, media_type: &str) -> Self {
        self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Content-Type"));
        self.header("Content-Type", media_type)
    }

    /// One more header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends the client elsewhere; RFC 8461 §3.3 forbids it to go.
    #[must_use]
    pub fn redirect(self, status: u16, location: &str) -> Self {
        self.status(status).header("Location", location)
    }

    /// Another manner.
    #[must_use]
    pub fn manner(mut self, manner: PolicyHostManner) -> Self {
        self.manner = manner;
        self
    }

    /// A host that thinks first.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// What the policy says.
#[derive(Clone, Debug)]
enum Text {
    Made { mode: &'static str, mx: Vec<String>, max_age_s: u64 },
    Raw(Vec<u8>),
}

/// The description of a domain's MTA-STS.
#[derive(Clone, Debug)]
pub struct StsSpec {
    domain: String,
    id: String,
    /// The TXT records where they are not made from the id.
    txt: Option<Vec<String>>,
    text: Text,
    answer: PolicyAnswer,
    pub(in crate::lab) certificate: Certificate,
    pub(in crate::lab) presence: Presence,
}

impl StsSpec {
    pub(in crate::lab) fn new(domain: &str) -> Self {
        let mx = vec![format!("mx.{domain}")];
        Self {
            domain: domain.to_owned(),
            id: "1".to_owned(),
            txt: None,
            text: Text::Made { mode: "enforce", mx, max_age_s: MAX_AGE_S },
            answer: PolicyAnswer::ok(),
            certificate: Certificate::Issued,
            presence: Presence::Up,
        }
    }

    /// Mode enforce.
    #[must_use]
    pub fn enforce(self) -> Self {
        self.mode("enforce")
    }

    /// Mode testing.
    #[must_use]
    pub fn testing(self) -> Self {
        self.mode("testing")
    }

    /// Mode none; the policy lists no hosts.
    #[must_use]
    pub fn none(self) -> Self {
        self.mode("none").mx(&[])
    }

    /// The patterns of the policy instead of `mx.<domain>`.
    #[must_use]
    pub fn mx(mut self, patterns: &[&str]) -> Self {
        let (mode, _, max_age_s) = self.made();
        let mx = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        self.text = Text::Made { mode, mx, max_age_s };
        self
    }

    /// How long the policy may be kept, in seconds.
    #[must_use]
    pub fn max_age(mut self, max_age_s: u64) -> Self {
        let (mode, mx, _) = self.made();
        self.text = Text::Made { mode, mx, max_age_s };
        self
    }

    /// Exactly these octets in place of a policy.
    #[must_use]
    pub fn raw(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.text = Text::Raw(body.into());
        self
    }

    /// The id in the TXT record.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self.txt = None;
        self
    }

    /// Exactly these TXT records; an empty list means none.
    #[must_use]
    pub fn txt(mut self, records: &[&str]) -> Self {
        self.txt = Some(records.iter().map(|&record| record.to_owned()).collect());
        self
    }

    /// Changes the answer of the policy host: its status, header fields and manner. The body stays
    /// the policy.
    #[must_use]
    pub fn answer(mut self, change: impl FnOnce(PolicyAnswer) -> PolicyAnswer) -> Self {
        self.answer = change(self.answer);
        self
    }

    /// The certificate of the policy host; its name is `mta-sts.<domain>`.
    #[must_use]
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = certificate;
        self
    }

    /// Nobody listens at the policy host's address.
    #[must_use]
    pub fn down(mut self) -> Self {
        self.presence = Presence::Down;
        self
    }

    fn mode(mut self, mode: &'static str) -> Self {
        let (_, mx, max_age_s) = self.made();
        // Back from mode none, whose policy lists no hosts.
        let mx = if mx.is_empty() { vec![format!("mx.{}", self.domain)] } else { mx };
        self.text = Text::Made { mode, mx, max_age_s };
        self
    }

    /// What a policy consists of; what was raw begins again.
    fn made(&self) -> (&'static str, Vec<String>, u64) {
        match &self.text {
            Text::Made { mode, mx, max_age_s } => (mode, mx.clone(), *max_age_s),
            Text::Raw(_) => ("enforce", vec![format!("mx.{}", self.domain)], MAX_AGE_S),
        }
    }

    /// The name of the policy host (RFC 8461 §3.3).
    pub(in crate::lab) fn host(&self) -> String {
        host_of(&self.domain)
    }

    /// The TXT records of `_mta-sts.<domain>` (RFC 8461 §3.1).
    pub(in crate::lab) fn records(&self) -> io::Result<Vec<RData>> {
        match &self.txt {
            Some(records) => records.iter().map(|record| txt(record)).collect(),
            None => Ok(vec![txt(&format!("v=STSv1; id={};", self.id))?]),
        }
    }

    /// The whole answer of the policy host.
    pub(in crate::lab) fn whole_answer(&self) -> PolicyAnswer {
        let body = match &self.text {
            Text::Raw(body) => body.clone(),
            Text::Made { mode, mx, max_age_s } => {
                let head = format!("version: STSv1\r\nmode: {mode}\r\n");
                let text = mx.iter().fold(head, |text, mx| format!("{text}mx: {mx}\r\n"));
                format!("{text}max_age: {max_age_s}\r\n").into_bytes()
            }
        };
        PolicyAnswer { body, ..self.answer.clone() }
    }
}

/// The name of a domain's policy host (RFC 8461 §3.3).
pub(in crate::lab) fn host_of(domain: &str) -> String {
    format!("mta-sts.{domain}")
}

/// Where a domain's TXT records are (RFC 8461 §3.1).
pub(in crate::lab) fn txt_owner(domain: &str) -> String {
    format!("_mta-sts.{domain}")
}

/// A TXT record; a long one is cut into pieces, which its readers join again.
pub(in crate::lab) fn txt(text: &str) -> io::Result<RData> {
    let pieces = text.as_bytes().chunks(TXT_PIECE_LIMIT).map(|piece| String::from_utf8(piece.to_vec()));
    let pieces = pieces.collect::<Result<Vec<_>, _>>().map_err(bad)?;
    Ok(RData::TXT(TXT::new(if pieces.is_empty() { vec![String::new()] } else { pieces })))
}
