//! From evidence to diagnosis (pure): whose fault it is, how sure that is, and what to do.
//!
//! A hypothesis that the evidence contradicts is out; a control that is missing counts as nothing.
//! A side is proven to be at fault when the others are sound by a way that has no part in what is
//! suspected: an encrypted path, a canary in another zone, a control host elsewhere (`witness.rs`).
//! Otherwise it is likely, the other causes that fit are said, and the one command that decides. What
//! delivery would do is not judged again here: its cause stands (RFC 7672 §2.1), and only the reason behind
//! it is looked for.

mod bogus;
mod case;
mod dns;
mod filter;
mod line;
mod mail;
mod proof;
mod slow;
mod unanswered;
mod witness;

pub use crate::outcome::Certainty;
pub(super) use proof::said;

use super::evidence::{DnsProbe, Evidence, ProbeRole};
use super::verdict::Verdict;
use crate::outcome::{Cause, Side};
use serde::{Deserialize, Serialize};

/// What is wrong, and whose fault it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// How bad it is for mail.
    pub level: Verdict,
    /// Who has to act; nobody when nothing is wrong.
    pub side: Option<Side>,
    /// How sure this is.
    pub certainty: Certainty,
    /// The word for the fault; `ok` when there is none.
    pub word: String,
    /// Other causes that fit as well.
    pub also: Vec<String>,
    /// The command that would decide, where it is not proven.
    #[serde(default)]
    pub decide: Option<String>,
    /// What is wrong, in a sentence or two.
    pub sentence: String,
    /// What it means for mail.
    pub mail: String,
    /// The smallest proof, line by line.
    pub proof: Vec<String>,
    /// What another team needs to find it: addresses, ports, times.
    pub hand_over: Vec<String>,
    /// What gets mail out meanwhile, and keeps it secure.
    pub bridge: Option<String>,
    /// What can be done, where somebody else has to act.
    pub advice: Option<String>,
    /// What would make it worse.
    pub do_not: Option<String>,
}

/// A reason found behind what delivery met.
#[derive(Clone, Debug, PartialEq)]
struct CheckFinding {
    word: &'static str,
    side: Side,
    certainty: Certainty,
    also: Vec<&'static str>,
    sentence: String,
    proof: Vec<String>,
    hand_over: Vec<String>,
    bridge: Option<String>,
}

impl CheckFinding {
    fn new(word: &'static str, side: Side, certainty: Certainty, sentence: String) -> Self {
        Self { word, side, certainty, also: Vec::new(), sentence, proof: vec![], hand_over: vec![], bridge: None }
    }

    /// A bridge that needs nothing but this host.
    fn bridged(self, bridge: String) -> Self {
        Self { bridge: Some(bridge), ..self }
    }
}

/// Says what the evidence means.
#[must_use]
pub fn analyse(evidence: &Evidence) -> Diagnosis {
    let base = base(evidence);
    let found = bogus::clock(evidence)
        .or_else(|| bogus::anchors(evidence))
        .or_else(|| dns::find(evidence))
        .or_else(|| bogus::changed_here(evidence))
        .or_else(|| mail::find(evidence))
        .or_else(|| slow::unusable_policy(evidence))
        .or_else(|| slow::policy(evidence))
        .or_else(|| slow::dns(evidence));
    let found = match found.filter(|finding| !(is_ours(evidence) && finding.side == Side::Recipient)) {
        None => base,
        Some(finding) => with(base, finding, evidence),
    };
    let found = behind_the_check(evidence, found);
    let decide = witness::decide(evidence, &found);
    Diagnosis { decide, ..found }
}

/// A check stops before MAIL FROM: what mail in the queue meets behind that it cannot see, and "ok" would be wrong.
fn behind_the_check(evidence: &Evidence, found: Diagnosis) -> Diagnosis {
    let refused = evidence.queue.as_ref().and_then(|queue| queue.refused.as_ref());
    let Some(cause) = refused.filter(|_| found.level == Verdict::Ok) else { return found };
    let row = cause.row();
    let sentence = format!(
        "Up to MAIL FROM, where a check stops, all is well. Mail that waits for it came further at its last attempt and \
         met this: {}",
        cause.sentence()
    );
    Diagnosis {
        level: Verdict::Warning,
        side: Some(row.side),
        certainty: Certainty::Likely,
        word: row.word.to_owned(),
        sentence,
        mail: mail_sentence(evidence, Verdict::Fault),
        advice: Some(cause.advice().to_owned()),
        ..found
    }
}

/// Whether it is the operator's own next hop that is not found: whatever its zone does, no
/// recipient has anything to do with it.
const fn is_ours(evidence: &Evidence) -> bool {
    matches!(evidence.delivery.cause, Some(Cause::NextHopUnknown { .. }))
}

/// What delivery alone says.
fn base(evidence: &Evidence) -> Diagnosis {
    let delivery = &evidence.delivery;
    let cause = delivery.cause.as_ref().or(delivery.watched.as_ref());
    let level = match (delivery.delivers, cause, &delivery.exception) {
        (true, None, None) => Verdict::Ok,
        (true, _, _) => Verdict::Warning,
        (false, Some(cause), _) if is_not_knowing(cause) || is_unseen(evidence) => Verdict::Inconclusive,
        (false, _, _) => Verdict::Fault,
    };
    let row = cause.map(Cause::row);
    let word = match (row, &delivery.exception) {
        // Nothing failed; it was not waited for.
        (Some(_), _) if is_unseen(evidence) => slow::WORD,
        // That of the log, of the metrics and of `relay why`.
        (Some(row), _) => row.word,
        (None, Some(_)) => "exception-in-force",
        (None, None) if level == Verdict::Ok => "ok",
        (None, None) => "no-mail-host",
    };
    let side = row.map(|row| row.side).or_else(|| delivery.exception.as_ref().map(|_| Side::Here));
    let (certainty, also) = match cause {
        Some(cause) if is_unseen(evidence) => (Certainty::Inconclusive, Some(cause.row().word)),
        Some(cause) => certainty(cause, evidence),
        None => (Certainty::Proven, None),
    };
    Diagnosis {
        level,
        side,
        certainty,
        word: word.to_owned(),
        also: also.map(str::to_owned).filter(|_| certainty != Certainty::Proven).into_iter().collect(),
        decide: None,
        sentence: delivery.sentence.clone(),
        mail: mail_sentence(evidence, level),
        proof: cause.map(proof::of_cause).unwrap_or_default(),
        hand_over: cause.filter(|_| level != Verdict::Ok).map(|c| proof::peer(c, evidence)).unwrap_or_default(),
        bridge: None,
        advice: cause.filter(|_| !is_unseen(evidence)).map(|cause| cause.advice().to_owned()),
        do_not: None,
    }
}

/// Whether what stands in the way of mail is only that a server was not waited for as long as delivery waits.
fn is_unseen(evidence: &Evidence) -> bool {
    let cause = evidence.delivery.cause.as_ref();
    // The policy that was lost may yet come.
    if evidence.sts_slow.is_some() && matches!(cause, Some(Cause::StsPolicyLost { .. })) {
        return true;
    }
    let Some(short) = evidence.patience else { return false };
    let of_servers =
        evidence.servers.iter().filter(|server| !server.control).filter_map(|server| server.cause.as_ref());
    let mut unseen = of_servers.filter(|cause| short.ended_with(cause));
    if evidence.delivery.delivers {
        return cause.is_some_and(|cause| short.ended_with(cause));
    }
    cause.is_some() && unseen.next().is_some()
}

fn with(base: Diagnosis, finding: CheckFinding, evidence: &Evidence) -> Diagnosis {
    let level = match (base.level, finding.certainty) {
        (Verdict::Ok, _) => Verdict::Warning,
        // Whatever explains it: delivery waits longer, and may succeed.
        (Verdict::Inconclusive, _) if is_unseen(evidence) => Verdict::Inconclusive,
        (Verdict::Inconclusive, Certainty::Likely | Certainty::Proven) => Verdict::Fault,
        (level, _) => level,
    };
    let do_not = (level != Verdict::Warning
        || finding.word.starts_with("local-")
        || finding.word.starts_with("resolver"))
    .then(|| "do not switch DANE off for the domain: it works, and the answers are what is missing".to_owned())
    .filter(|_| has_dane(evidence))
    .filter(|_| finding.word.contains("dns") || finding.word.starts_with("resolver") || finding.word.contains("tcp53"));
    Diagnosis {
        level,
        side: Some(finding.side),
        certainty: finding.certainty,
        word: finding.word.to_owned(),
        also: finding.also.into_iter().map(str::to_owned).collect(),
        decide: None,
        sentence: finding.sentence,
        proof: if finding.proof.is_empty() { base.proof } else { finding.proof },
        hand_over: if finding.hand_over.is_empty() { base.hand_over } else { finding.hand_over },
        advice: if finding.bridge.is_some() { None } else { base.advice },
        bridge: finding.bridge,
        do_not,
        mail: base.mail,
    }
}

/// Whether anybody has seen TLSA records of the domain; about what nobody has seen there is no advice.
fn has_dane(evidence: &Evidence) -> bool {
    let is_of_domain =
        |probe: &&DnsProbe| probe.role == ProbeRole::Subject && probe.seen.question.record_type == "TLSA";
    let outside = witness::outside(evidence).is_some_and(|there| !there.tlsa.is_empty());
    let seen = evidence.dns.iter().filter(is_of_domain).any(|probe| probe.seen.records > 0);
    seen || outside || !evidence.delivery.tlsa.is_empty()
}

/// Whether we could not find out. A spool that this user may not read tells nothing about what the
/// service can read.
const fn is_not_knowing(cause: &Cause) -> bool {
    matches!(cause, Cause::DnsUnavailable { .. })
        || matches!(cause, Cause::StsPolicyLost { lost, .. } if lost.until.is_none())
}

/// How sure a cause is, and the word of what fits as well. What was read from the peer itself is proven;
/// that nobody answered says little about why.
fn certainty(cause: &Cause, evidence: &Evidence) -> (Certainty, Option<&'static str>) {
    use Certainty::{Inconclusive, Likely, Proven};
    match cause {
        Cause::DnsUnavailable { .. } => (Inconclusive, Some("recipient-dns")),
        Cause::StsPolicyLost { lost, .. } if lost.until.is_none() => (Inconclusive, Some("inconclusive")),
        // That it is ours is sure; what stands behind it is not.
        Cause::NextHopUnknown { question: Some(_), .. } => (Likely, Some("resolver-side")),
        Cause::DnsBogus { .. } => (bogus::certainty(evidence), Some(bogus::disguise(evidence))),
        Cause::ConnectFailed { .. } | Cause::TimedOut { .. } | Cause::ConnectionLost { .. } => {
            (Likely, Some("local-port25-blocked"))
        }
        Cause::TlsHandshake { .. } => (Likely, Some("local-tls-blocked")),
        Cause::ProtocolError { .. } => (Likely, Some("local-smtp-rewritten")),
        // Met by mail and not by a check.
        Cause::PerhapsTaken { .. } => (Likely, None),
        // Somebody on the way may have answered, or shown a certificate, in place of the server.
        Cause::Rejected { .. } if cause.row().side == Side::Here => (Likely, Some("local-smtp-rewritten")),
        Cause::Rejected { .. } | Cause::StarttlsNotOffered { .. } | Cause::StarttlsRefused { .. } => {
            (witness::of_mail_path(evidence), Some("local-smtp-rewritten"))
        }
        Cause::DaneMismatch { .. } | Cause::CertificateRejected { .. } => {
            (witness::of_mail_path(evidence), Some("local-tls-intercepted"))
        }
        Cause::DomainNotFound { .. }
        | Cause::NullMx { .. }
        | Cause::NoMailHost { .. }
        | Cause::SpecialUseDomain { .. }
        | Cause::NextHopUnknown { question: None, .. }
        | Cause::MailLoop { .. }
        | Cause::AddressForbidden { .. }
        | Cause::NoRoute { .. }
        | Cause::StsMxNotListed { .. }
        | Cause::DaneRequired { .. }
        | Cause::StsRequired { .. }
        | Cause::StsPolicyLost { .. }
        | Cause::EgressFailed { .. }
        | Cause::RequireTlsUnmet { .. }
        | Cause::NotSigned { .. }
        | Cause::MessageTooLarge { .. }
        | Cause::EightBitNotOffered { .. }
        | Cause::SmtpUtf8NotOffered { .. }
        | Cause::ContentDamaged
        | Cause::BouncedByOperator { .. }
        | Cause::Expired { .. } => (Proven, None),
    }
}

/// How many wait, since when, and that nothing is lost.
fn mail_sentence(evidence: &Evidence, level: Verdict) -> String {
    let waiting = evidence.queue.as_ref().filter(|queue| queue.messages > 0).map(|queue| {
        let since =
            queue.oldest.map(|at| format!(", the oldest since {}", proof::seconds(&at.rfc3339()))).unwrap_or_default();
        let messages =
            if queue.messages == 1 { "1 message waits".into() } else { format!("{} messages wait", queue.messages) };
        format!("{messages}{since}; nothing is lost")
    });
    match (level, waiting) {
        (Verdict::Ok | Verdict::Warning, None) => "mail is delivered".to_owned(),
        (Verdict::Ok | Verdict::Warning, Some(waiting)) => format!("mail is delivered; {waiting}"),
        (Verdict::Fault | Verdict::Inconclusive, Some(waiting)) => waiting,
        (Verdict::Fault | Verdict::Inconclusive, None) => {
            let permanent =
                evidence.delivery.cause.as_ref().is_some_and(|c| c.class() == crate::outcome::Class::Permanent);
            if permanent {
                "mail to it goes back to its sender with a report".to_owned()
            } else {
                "mail to it waits and is tried again; nothing is lost".to_owned()
            }
        }
    }
}
