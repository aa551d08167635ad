//! Nobody who was asked has a usable answer: the recipient's DNS, or the way to it (pure)
//! (RFC 7672 §2.1.2).

use super::case::{DnsCase, error_code};
use super::filter::FilterKind;
use super::line::ServerProbes;
use super::{Certainty, CheckFinding, proof, witness};
use crate::check::evidence::Whom;
use crate::outcome::Side;
use crate::resolve::probe::ProbeTransport;

impl DnsCase<'_> {
    /// No usable answer on any way that was asked.
    pub(super) fn nobody_has_it(&self, line: &ServerProbes<'_>, fitting: &[(FilterKind, Certainty)]) -> CheckFinding {
        let name = self.subject_name();
        let of_zone = || self.lines.iter().filter(|other| other.whom == Whom::Authority);
        if !of_zone().any(ServerProbes::alive) && of_zone().next().is_some() {
            return self.dead_zone(line);
        }
        let Some(authority) = of_zone().find(|other| other.alive() && other.subject_fails()) else {
            let sentence =
                format!("{} has no usable answer to {name}, and no other way could be compared.", line.server);
            let mut finding = CheckFinding::new("inconclusive", Side::Resolver, Certainty::Inconclusive, sentence);
            finding.also = vec!["resolver-side", "recipient-dns"];
            finding.proof = proof::ways(line);
            return finding;
        };
        let over = [ProbeTransport::Udp, ProbeTransport::Tcp].into_iter();
        let says = over.filter_map(|transport| authority.subject(transport)).find_map(error_code);
        // Two witnesses that have no part in the way to the zone's servers: who is asked encrypted or
        // elsewhere, and a canary in another zone.
        let certainty =
            match (witness::fails_elsewhere(self.evidence, self.lines), witness::canary_clears(self.evidence), says) {
                (true, true, _) | (false, true, Some(_)) => Certainty::Proven,
                (true, false, _) | (false, true, None) | (false, false, Some(_)) => Certainty::Likely,
                (false, false, None) => Certainty::Inconclusive,
            };
        let (word, side) = match certainty {
            Certainty::Inconclusive => ("inconclusive", Side::Path),
            Certainty::Likely | Certainty::Proven => ("recipient-dns", Side::Recipient),
        };
        let how = says.map_or_else(|| "do not answer".to_owned(), |code| format!("say {code} to"));
        let sentence = match certainty {
            Certainty::Proven => {
                format!(
                    "The servers of the recipient's own zone {how} {name}, and answers of its kind pass: nobody can get it."
                )
            }
            Certainty::Likely => format!(
                "The servers of the recipient's own zone {how} {name}: a fault of theirs, unless a filter on the way out \
                 of this network does it in their name."
            ),
            Certainty::Inconclusive => format!(
                "Answers to {name} vanish, and nobody who could be asked has them: a filter on the way, or a fault of \
                 the recipient's DNS."
            ),
        };
        let mut finding = CheckFinding::new(word, side, certainty, sentence);
        if certainty != Certainty::Proven {
            finding.also = fitting.iter().map(|(kind, _)| kind.word()).collect();
            if certainty == Certainty::Inconclusive {
                finding.also.push("recipient-dns");
            } else if finding.also.is_empty() {
                finding.also = vec!["local-dns-size-filter"];
            }
        }
        finding.proof = proof::ways(authority);
        finding.hand_over = match certainty {
            Certainty::Proven => vec![format!("to the recipient's DNS administrators: {name} at {}", authority.server)],
            Certainty::Likely | Certainty::Inconclusive => proof::packets(authority),
        };
        finding
    }

    /// None of the servers of the zone answers anything: they are dead, or this host is cut off from
    /// them; a resolver that goes on answering about other zones has no part in it.
    fn dead_zone(&self, line: &ServerProbes<'_>) -> CheckFinding {
        let name = self.subject_name();
        let certainty =
            match (witness::fails_elsewhere(self.evidence, self.lines), witness::canary_clears(self.evidence)) {
                (true, true) => Certainty::Proven,
                (true, false) | (false, true) | (false, false) => Certainty::Likely,
            };
        let sentence = format!(
            "None of the recipient's name servers answers anything, {name} as little as harmless questions, and other \
             zones are answered: the recipient's DNS is down, or cannot be reached from here."
        );
        let mut finding = CheckFinding::new("recipient-dns", Side::Recipient, certainty, sentence);
        if certainty != Certainty::Proven {
            finding.also = vec!["local-dns-blocked"];
        }
        finding.proof = proof::ways(line);
        let dead = self.lines.iter().filter(|other| other.whom == Whom::Authority);
        finding.hand_over = dead.flat_map(proof::packets).take(3).collect();
        finding
    }

    /// No filter explains it: as many records, as large an answer, pass.
    pub(super) fn silent_for_one(&self, line: &ServerProbes<'_>) -> CheckFinding {
        let name = self.subject_name();
        let server = line.server;
        let sentence = format!(
            "{server} does not answer {name}, though it answers larger questions, and other ways have the answer."
        );
        let mut finding = CheckFinding::new("resolver-side", Side::Resolver, Certainty::Likely, sentence);
        finding.also = vec!["recipient-dns"];
        finding.proof = proof::ways(line);
        finding.proof.extend(proof::elsewhere(self.evidence));
        finding
    }
}
