//! What is in good order but for something that ought to be known: a policy that nobody can use, and answers
//! that take long (pure) (RFC 8461 §3.3, RFC 5321 §4.5.3.2).

use super::{Certainty, CheckFinding};
use crate::check::evidence::{Evidence, ProbeRole, Whom};
use crate::outcome::Side;

/// The word for what takes longer than a check waits.
pub(super) const WORD: &str = "slow";

/// A policy that the domain announces and nobody can use: senders go on without it.
pub(super) fn unusable_policy(evidence: &Evidence) -> Option<CheckFinding> {
    if !evidence.delivery.delivers || evidence.delivery.cause.is_some() {
        return None;
    }
    let unusable = evidence.sts_unusable.as_ref()?;
    let sentence = format!(
        "The domain announces an MTA-STS policy that cannot be used: {}. Mail goes on as if there were none, and the \
         domain is not protected by it.",
        unusable.reason
    );
    let word = match unusable.result_type.as_str() {
        "sts-policy-invalid" => "sts-policy-invalid",
        "sts-webpki-invalid" => "sts-webpki-invalid",
        _ => "sts-policy-fetch-error",
    };
    // That it did not come may be our way to it; what came and is wrong is the domain's.
    let certainty = if word == "sts-policy-invalid" { Certainty::Proven } else { Certainty::Likely };
    let mut finding = CheckFinding::new(word, Side::Recipient, certainty, sentence);
    if certainty == Certainty::Likely {
        finding.also = vec![if word == "sts-webpki-invalid" { "local-tls-intercepted" } else { "local-tls-blocked" }];
    }
    finding.proof = vec![format!("https://mta-sts.{}/.well-known/mta-sts.txt: {}", evidence.domain, unusable.reason)];
    Some(finding)
}

/// A policy that has not come in the time that a check gives it.
pub(super) fn policy(evidence: &Evidence) -> Option<CheckFinding> {
    let slow = evidence.sts_slow.filter(|_| evidence.delivery.delivers && evidence.delivery.cause.is_none())?;
    let host = format!("mta-sts.{}", evidence.domain);
    let sentence = format!(
        "The policy host {host} is slow: no MTA-STS policy came in {}; delivery waits up to {}, and the policy that \
         comes then decides.",
        slow.waited(),
        slow.limit()
    );
    let mut finding = CheckFinding::new(WORD, Side::Recipient, Certainty::Inconclusive, sentence);
    finding.also = vec!["local-tls-blocked"];
    finding.proof = vec![format!("https://{host}/.well-known/mta-sts.txt: nothing yet after {}", slow.waited())];
    Some(finding)
}

/// The DNS had the answers, and not in the time that a check gives it at first.
pub(super) fn dns(evidence: &Evidence) -> Option<CheckFinding> {
    if !evidence.looked_again || !evidence.delivery.delivers {
        return None;
    }
    let ours = evidence.dns.iter().filter(|probe| probe.whom == Whom::Upstream && probe.seen.answered());
    let slowest = ours.clone().max_by_key(|probe| probe.seen.took_ms)?;
    let sentence = format!(
        "The DNS is slow: {} took {} ms for one answer. Delivery waits as long as it takes, and mail goes out late.",
        slowest.server, slowest.seen.took_ms
    );
    // That it is slow for everything is seen at a question about the root.
    let of_root = ours.filter(|probe| matches!(probe.role, ProbeRole::Root | ProbeRole::Again));
    let everything = of_root.map(|probe| probe.seen.took_ms).max().is_some_and(|ms| ms * 2 > slowest.seen.took_ms);
    let (side, also) = if everything { (Side::Resolver, "recipient-dns") } else { (Side::Recipient, "resolver-side") };
    let mut finding = CheckFinding::new(WORD, side, Certainty::Likely, sentence);
    finding.also = vec![also];
    finding.proof = vec![format!("{} by {}: {} ms", slowest.seen.question, slowest.server, slowest.seen.took_ms)];
    Some(finding)
}
