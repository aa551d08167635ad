//! Whether a suspicion is an incident, and whose (pure).
//!
//! A diagnosis that names a fault of this host, its resolver or its path counts by itself. Otherwise
//! it takes that most of the domains that mail was tried to fail alike: a few broken domains are there
//! every day.

use crate::outcome::{Cause, Certainty, Side};
use crate::spool::incident::{Incident, bounded};

/// The part of the domains tried that has to fail where no fault is named, as one in so many.
const SHARE: usize = 2;

/// Unrelated servers that do not all fail alike by chance.
const UNRELATED: usize = 3;

/// What was found out about one of the domains that fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// The word for the fault.
    pub(crate) cause: String,
    /// Other words that fit as well.
    pub(crate) also: Vec<String>,
    /// Who has to act.
    pub(crate) side: Side,
    /// How sure that is.
    pub(crate) certainty: Certainty,
    /// What is wrong, in a sentence or two.
    pub(crate) sentence: String,
    /// What was seen, line by line.
    pub(crate) evidence: Vec<String>,
    /// What to do, line by line.
    pub(crate) what_to_do: Vec<String>,
}

impl Judgement {
    /// What the failures alone say, where nothing more could be found out.
    #[must_use]
    pub(crate) fn by_cause(cause: &Cause) -> Self {
        let row = cause.root().row();
        let evidence = cause.root().evidence().into_iter().map(|(label, value)| format!("{label}: {value}"));
        Self {
            cause: row.word.to_owned(),
            also: Vec::new(),
            side: row.side,
            certainty: Certainty::Inconclusive,
            sentence: cause.root().sentence(),
            evidence: bounded(evidence),
            what_to_do: vec![cause.root().advice().to_owned()],
        }
    }

    /// Puts an incident down to this.
    pub(super) fn tell(self, incident: &mut Incident) {
        let also = (!self.also.is_empty()).then(|| format!("what fits as well: {}", self.also.join(", ")));
        (incident.cause, incident.side, incident.certainty) = (self.cause, self.side, self.certainty);
        incident.sentence = self.sentence;
        incident.evidence = bounded(self.evidence.into_iter().chain(also));
        incident.what_to_do = bounded(self.what_to_do);
    }

    /// Whether it names a fault on this side.
    fn names_ours(&self) -> bool {
        self.side.is_ours() && self.certainty >= Certainty::Likely && is_name_of_ours(&self.cause)
    }
}

/// Whether a word names a fault of this host, its resolver or its path, and not only what mail meets.
fn is_name_of_ours(word: &str) -> bool {
    word.starts_with("local-") || word.starts_with("resolver-")
}

/// Who has to act on a fault of ours.
fn side_of(word: &str) -> Side {
    if word.starts_with("resolver-") { Side::Resolver } else { Side::Path }
}

/// How many fail, of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FailureExtent {
    /// Domains that have begun to fail.
    pub(super) failing: usize,
    /// Domains that mail was tried to meanwhile.
    pub(super) tried: usize,
    /// Servers, or names, that have to do with it.
    pub(super) servers: usize,
}

/// What the incident is put down to; `None` where it is none.
pub(super) fn judge(found: Judgement, extent: FailureExtent) -> Option<Judgement> {
    if found.names_ours() {
        return Some(found);
    }
    if extent.failing.saturating_mul(SHARE) < extent.tried {
        return None;
    }
    let ours = found.also.iter().find(|word| is_name_of_ours(word)).cloned();
    let certainty = found.certainty.min(Certainty::Likely);
    match ours {
        // Servers that have nothing to do with each other do not break at once.
        Some(word) if found.side == Side::Recipient && extent.servers >= UNRELATED => {
            let also = vec![found.cause.clone()];
            let unrelated = format!("{} servers that have nothing to do with each other fail alike", extent.servers);
            let evidence = bounded([unrelated].into_iter().chain(found.evidence.clone()));
            Some(Judgement { side: side_of(&word), cause: word, also, certainty, evidence, ..found })
        }
        Some(_) | None => Some(Judgement { certainty, ..found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{DaneFailure, every};

    fn found(cause: &str, side: Side, certainty: Certainty) -> Judgement {
        Judgement { cause: cause.into(), side, certainty, ..Judgement::by_cause(&every::dane(DaneFailure::NoMatch)) }
    }

    const FEW: FailureExtent = FailureExtent { failing: 5, tried: 100, servers: 5 };
    const MOST: FailureExtent = FailureExtent { failing: 5, tried: 6, servers: 5 };

    #[test]
    fn a_named_fault_of_ours_needs_no_share_and_another_does() {
        let named = found("local-dns-count-filter", Side::Path, Certainty::Likely);
        assert_eq!(judge(named.clone(), FEW), Some(named));
        let unsure = found("local-dns-count-filter", Side::Path, Certainty::Inconclusive);
        assert_eq!(judge(unsure.clone(), FEW), None);
        assert_eq!(judge(unsure.clone(), MOST), Some(unsure));
        for (word, side) in [("timed-out", Side::Path), ("tlsa-invalid", Side::Recipient)] {
            assert_eq!(judge(found(word, side, Certainty::Proven), FEW), None, "{word}");
        }
    }

    #[test]
    fn unrelated_recipients_are_not_all_to_blame_at_once() {
        let also = vec!["local-tls-intercepted".to_owned()];
        let blamed = Judgement { also, ..found("tlsa-invalid", Side::Recipient, Certainty::Likely) };
        let judged = judge(blamed.clone(), MOST).unwrap();
        assert_eq!((judged.cause.as_str(), judged.side), ("local-tls-intercepted", Side::Path));
        assert_eq!((judged.certainty, judged.also), (Certainty::Likely, vec!["tlsa-invalid".to_owned()]));
        let of_one_provider = judge(blamed, FailureExtent { servers: 1, ..MOST }).unwrap();
        assert_eq!(of_one_provider.side, Side::Recipient);
    }

    #[test]
    fn nothing_is_proven_by_a_share() {
        let judged = judge(found("connect-failed", Side::Path, Certainty::Proven), MOST).unwrap();
        assert_eq!(judged.certainty, Certainty::Likely);
    }
}
