//! Everything a check has seen, as plain data: what `--json` shows, what `--save` keeps, and all
//! that the analysis may look at.
//!
//! Facts only. What they mean is said in [`super::analyse`], which has nothing else to go by; so a
//! diagnosis can be repeated from a file, elsewhere and later.

use crate::clock::Timestamp;
use crate::outcome::{Cause, ExceptionInForce, PathFailure, Phase, Question};
use crate::resolve::Security;
use crate::resolve::probe::ProbeResult;
use crate::text::seconds;
use serde::{Deserialize, Serialize};

/// Version of the JSON form. 2: evidence and diagnosis.
pub const VERSION: u32 = 2;
/// The UDP payload that is offered ordinarily, as delivery does.
pub const ORDINARY_PAYLOAD: u16 = 1232;

/// What a check has seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Version of this form.
    pub version: u32,
    /// The domain.
    pub domain: String,
    /// When the check began.
    pub at: Timestamp,
    /// What delivery would do.
    pub delivery: DeliveryForecast,
    /// Whether a resolver's AD bit is trusted (`mode = "trust-ad"`).
    pub trust_ad: bool,
    /// The look-ups of delivery that some or all paths failed for.
    #[serde(default)]
    pub troubled: Vec<Troubled>,
    /// The question to the DNS that the probes are about.
    #[serde(default)]
    pub subject: Option<Question>,
    /// The single questions to the DNS, in their order.
    #[serde(default)]
    pub dns: Vec<DnsProbe>,
    /// What other ways say about an answer that does not prove itself.
    #[serde(default)]
    pub opinions: Vec<SecondOpinion>,
    /// The mail servers, address by address, and the controls.
    #[serde(default)]
    pub servers: Vec<ServerSeen>,
    /// What waits in the queue.
    #[serde(default)]
    pub queue: Option<Queue>,
    /// The id of the MTA-STS policy that the DNS announces now (RFC 8461 §3.1).
    #[serde(default)]
    pub sts_announced: Option<String>,
    /// The DNS record that asks for TLS reports, as it is (RFC 8460 §3).
    #[serde(default)]
    pub tlsrpt: Option<String>,
    /// What that record asks for, or why it asks for nothing; none where there is no such record.
    #[serde(default)]
    pub tls_reports: Option<ReportsAsked>,
    /// What a check elsewhere has seen of the same domain (`--compare`).
    #[serde(default)]
    pub outside: Option<OutsideCheck>,
    /// The ways to the DNS that delivery asks, in the words of the configuration.
    #[serde(default)]
    pub upstreams: Vec<String>,
    /// The tags of the keys that are trusted as the root's.
    #[serde(default)]
    pub anchors: Vec<u16>,
    /// How long was waited where delivery waits longer.
    #[serde(default)]
    pub patience: Option<ShortPatience>,
    /// Whether the DNS was asked once more, with the patience of delivery, because it was slow.
    #[serde(default)]
    pub looked_again: bool,
    /// Why a policy that the domain announces (MTA-STS) is not in force.
    #[serde(default)]
    pub sts_unusable: Option<UnusableSts>,
    /// How long the policy (MTA-STS) was waited for, where it had not come by then.
    #[serde(default)]
    pub sts_slow: Option<ShortPatience>,
    /// Whether mail depends on a policy (MTA-STS) of which nobody could say what it is.
    #[serde(default)]
    pub sts_open: bool,
    /// How long the check took, in milliseconds.
    pub took_ms: u64,
}

/// What a domain asks for that wants TLS reports (RFC 8460 §3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportsAsked {
    /// What DNSSEC says of the answer; none where there is no answer. Reports go out without it, too.
    pub security: Option<Security>,
    /// The places that a report can go to.
    pub rua: Vec<String>,
    /// Other places that the record names, each with what is wrong with it.
    pub ignored: Vec<String>,
    /// Why no report can go out.
    pub problem: Option<String>,
}

/// What a check elsewhere has seen: by a way that this host's has no part in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutsideCheck {
    /// When that was.
    pub at: Timestamp,
    /// Whether delivery from there would succeed.
    pub delivers: bool,
    /// Why a server, or every server, is not used from there.
    pub cause: Option<Cause>,
    /// TLSA records that were got and validated there.
    pub tlsa: Vec<TlsaCount>,
    /// The questions that had no answer there.
    pub unanswered: Vec<Question>,
    /// The mail servers of the domain as they were seen from there.
    pub servers: Vec<ServerSeen>,
}

impl OutsideCheck {
    /// What of a check elsewhere counts here: nothing when it is about another domain.
    #[must_use]
    pub fn of(theirs: &Evidence, domain: &str) -> Option<Self> {
        let nobody_answered = |troubled: &&Troubled| troubled.answered_by.is_none();
        (theirs.domain == domain).then(|| Self {
            at: theirs.at,
            delivers: theirs.delivery.delivers,
            cause: theirs.delivery.cause.clone(),
            tlsa: theirs.delivery.tlsa.clone(),
            unanswered: theirs.troubled.iter().filter(nobody_answered).map(|t| t.question.clone()).collect(),
            servers: theirs.servers.iter().filter(|server| !server.control).cloned().collect(),
        })
    }
}

/// How long something was waited for, where delivery waits longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortPatience {
    /// By this check, in milliseconds.
    pub check_ms: u64,
    /// By delivery, in milliseconds.
    pub delivery_ms: u64,
}

impl ShortPatience {
    /// `10.0 s`: the time of this check.
    #[must_use]
    pub fn waited(self) -> String {
        seconds(self.check_ms)
    }

    /// `300.0 s`: the time of delivery.
    #[must_use]
    pub fn limit(self) -> String {
        seconds(self.delivery_ms)
    }

    /// Whether what failed is only this patience: delivery has more (RFC 5321 §4.5.3.2).
    #[must_use]
    pub fn ended_with(self, cause: &Cause) -> bool {
        matches!(cause, Cause::TimedOut { phase, .. } if *phase != Phase::Connect)
    }
}

/// A policy (MTA-STS) that is announced and cannot be used (RFC 8461 §3.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnusableSts {
    /// The result type of RFC 8460 §4.3.2.2.
    pub result_type: String,
    /// What is wrong, in a sentence.
    pub reason: String,
}

/// What delivery would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryForecast {
    /// Whether a server would be given the message.
    pub delivers: bool,
    /// Why a server, or every server, is not.
    pub cause: Option<Cause>,
    /// Why a policy that is only watched would not.
    pub watched: Option<Cause>,
    /// The operator's weakening in force.
    pub exception: Option<ExceptionInForce>,
    /// How, in a sentence.
    pub sentence: String,
    /// TLSA records that delivery has got and validated, by name of their owner.
    #[serde(default)]
    pub tlsa: Vec<TlsaCount>,
}

/// How many TLSA records a name has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsaCount {
    /// The owner.
    pub name: String,
    /// The number of records in its TLSA RRset.
    pub records: usize,
}

/// A look-up that some paths failed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Troubled {
    /// What was asked.
    pub question: Question,
    /// The path that answered in the end.
    pub answered_by: Option<String>,
    /// Those that did not.
    pub failed: Vec<PathFailure>,
}

/// What another way says about an answer that is bogus on ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondOpinion {
    /// The way in the words of the configuration.
    pub by: String,
    /// What it says.
    pub said: LookupVerdict,
}

/// What became of a validated look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LookupVerdict {
    /// An answer that proves itself, or is proven not to be signed.
    Valid,
    /// One that does not prove itself there either.
    Bogus,
    /// No usable answer.
    Nothing,
}

/// Whom a question was put to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whom {
    /// A resolver that the configuration names: what delivery relies on.
    Upstream,
    /// A server of the zone itself.
    Authority,
    /// Somebody named for comparison (`--reference`).
    Reference,
}

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", content = "expected", rename_all = "kebab-case")]
pub enum ProbeRole {
    /// The root's keys: always there, always signed.
    Root,
    /// The host's address, or another type at the same place: harmless.
    Harmless,
    /// A TLSA question whose answer has no records.
    TlsaWithout,
    /// A name of the canary zone with this many TLSA records.
    Control(usize),
    /// A name that had this many TLSA records when it was last asked for.
    Known(usize),
    /// A name known to have this many addresses.
    Addresses(usize),
    /// A name with one record that is larger than any number of TLSA records.
    Large,
    /// The question that matters.
    Subject,
    /// The harmless one again, at the end.
    Again,
}

/// One question to the DNS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsProbe {
    /// Whose server was asked.
    pub whom: Whom,
    /// The server in the words of the configuration.
    pub server: String,
    /// What the question is to show.
    #[serde(flatten)]
    pub role: ProbeRole,
    /// What was seen.
    #[serde(flatten)]
    pub seen: ProbeResult,
}

/// One address of a mail server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerSeen {
    /// The host.
    pub host: String,
    /// Address and port.
    pub address: String,
    /// Whether it is one of the domain's, or a control elsewhere (`--control`).
    pub control: bool,
    /// When the connection was tried.
    pub at: Timestamp,
    /// The lines of the greeting and of the reply to EHLO before TLS, where they were looked at.
    #[serde(default)]
    pub greeting: Option<String>,
    /// The reply to EHLO before TLS.
    #[serde(default)]
    pub ehlo: Vec<String>,
    /// What went wrong with a delivery up to MAIL FROM.
    pub cause: Option<Cause>,
    /// Whether TLS came about.
    pub tls: bool,
    /// What TLS was negotiated to, and what the server offers behind it.
    #[serde(default)]
    pub negotiated: Option<NegotiatedTls>,
    /// The certificate of the server, where one was shown.
    #[serde(default)]
    pub certificate: Option<CertificateSeen>,
    /// How long all of it took, in milliseconds.
    #[serde(default)]
    pub took_ms: u64,
}

/// TLS as it came about with a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NegotiatedTls {
    /// `TLSv1.3`, `TLSv1.2`.
    pub version: String,
    /// The group of the key exchange, by its name.
    pub group: Option<String>,
    /// The keywords of the reply to EHLO inside it, as far as delivery has a use for them.
    pub offers: Vec<String>,
}

/// A server's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateSeen {
    /// Its subject.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// When it ends.
    pub not_after: Timestamp,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// What its end means.
    pub end: CertificateEnd,
    /// How many certificates the server sent, this one included.
    #[serde(default)]
    pub sent: usize,
    /// Whether it leads to a root that is trusted here, is about the host, and bears the receipts of
    /// public logs (RFC 6962 §3.3), which an authority of a firewall has none of.
    #[serde(default)]
    pub public: bool,
}

/// What it means that a certificate ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateEnd {
    /// Mail will not be delivered to this server any more.
    Counts,
    /// Nothing: by DANE-EE (RFC 7672 §3.1.1) and without authentication nobody looks at it.
    Ignored,
}

/// What waits in the queue for the domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Messages.
    pub messages: u64,
    /// When the oldest was accepted.
    pub oldest: Option<Timestamp>,
    /// What the last attempt for one of them met behind the point where a check stops: at MAIL FROM or later. It may
    /// name a recipient, so it goes into no file.
    #[serde(skip)]
    pub refused: Option<Cause>,
}
