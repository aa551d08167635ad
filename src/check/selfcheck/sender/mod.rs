//! Whether mail of the operator's domains would pass at receivers that go by DMARC (RFC 7489): SPF lets it
//! leave from here, or a signature of its domain verifies, and the one that does is aligned with the From
//! field.

mod dmarc;
mod driver;

pub use dmarc::{DmarcPolicy, DmarcRecord};
pub(super) use driver::self_check;

use crate::check::dkim::PublishedKey;
use crate::check::spf::SpfResult;
use crate::check::verdict::Verdict;
use crate::smtp::address::Domain;
use crate::text::paragraph;
use serde::Serialize;

/// How SPF stands for mail of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpfStanding {
    /// What its record says of the address that mail leaves from.
    Seen(SpfResult),
    /// Others see another address than this host has.
    AddressUnknown,
}

/// How signatures of a domain stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DkimStanding {
    /// No `[[dkim.key]]` is for it; another system may sign.
    NotHere,
    /// It is signed here.
    Here {
        /// By whom: the domain itself, or one above it.
        signer: Domain,
        /// The worst that was found of a key.
        worst: PublishedKey,
    },
}

/// What the DNS says of DMARC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DmarcSeen {
    /// A policy, and where it stands: at the domain or at one above it.
    Policy {
        /// Where it stands.
        at: Domain,
        /// What it says.
        record: DmarcRecord,
    },
    /// There is none, or several, which counts as none (RFC 7489 §6.6.3).
    Absent,
    /// No usable answer.
    Unknown(String),
}

/// One way to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PassedBy {
    /// A signature.
    Dkim,
    /// The address.
    Spf,
}

/// One domain of the operator's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SenderDomain {
    /// The domain in the From field and in the reverse-path.
    pub domain: Domain,
    /// Whether SPF covers where mail leaves from.
    pub spf: SpfStanding,
    /// Whether it is signed, with a key that is published.
    pub dkim: DkimStanding,
    /// What receivers are asked to do with mail that fails.
    pub dmarc: DmarcSeen,
    /// By which of them mail is aligned; none, and DMARC fails.
    pub aligned_by: Vec<PassedBy>,
    /// What all this comes to.
    pub status: Verdict,
}

impl SenderDomain {
    /// What was found, put together.
    fn of(domain: Domain, spf: SpfStanding, dkim: DkimStanding, dmarc: DmarcSeen) -> Self {
        let strict = matches!(&dmarc, DmarcSeen::Policy { record, .. } if record.strict_dkim);
        let mut aligned_by = Vec::new();
        if let DkimStanding::Here { signer, worst: PublishedKey::Same } = &dkim
            && (!strict || *signer == domain)
        {
            aligned_by.push(PassedBy::Dkim);
        }
        if spf == SpfStanding::Seen(SpfResult::Pass) {
            aligned_by.push(PassedBy::Spf);
        }
        let status = if aligned_by.is_empty() { failing(&domain, &spf, &dkim, &dmarc) } else { Verdict::Ok };
        // A key that is not published as it is used is a fault in itself.
        let key = match &dkim {
            DkimStanding::NotHere => Verdict::Ok,
            DkimStanding::Here { worst, .. } => worst.verdict(),
        };
        let status = if key.weight() > status.weight() { key } else { status };
        Self { domain, spf, dkim, dmarc, aligned_by, status }
    }

    /// What receivers make of its mail, in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { domain, aligned_by, .. } = self;
        let by = match (aligned_by.contains(&PassedBy::Dkim), aligned_by.contains(&PassedBy::Spf)) {
            (true, true) => "passes by DKIM and by SPF",
            (true, false) => "passes by DKIM",
            (false, true) => "passes by SPF alone, which does not outlast forwarding",
            (false, false) if self.dkim == DkimStanding::NotHere => "passes only where another system has signed it",
            (false, false) => "is not known to pass",
        };
        let asked = match &self.dmarc {
            DmarcSeen::Policy { at, .. } => {
                let word = policy_for(domain, &self.dmarc).map_or("", DmarcPolicy::word);
                if at == domain { format!("p={word}") } else { format!("p={word} of {at}") }
            }
            DmarcSeen::Absent => "no DMARC policy".to_owned(),
            DmarcSeen::Unknown(why) => format!("DMARC policy not known: {why}"),
        };
        let dkim = match &self.dkim {
            DkimStanding::NotHere => String::new(),
            DkimStanding::Here { worst: PublishedKey::Same, .. } => String::new(),
            DkimStanding::Here { signer, worst } => format!("; DKIM of {signer}: {}", worst.words()),
        };
        format!("{domain} {by} ({asked}){dkim}")
    }
}

/// The policy that is asked for mail of a domain.
fn policy_for(domain: &Domain, dmarc: &DmarcSeen) -> Option<DmarcPolicy> {
    match dmarc {
        DmarcSeen::Policy { at, record } if at == domain => Some(record.policy),
        DmarcSeen::Policy { record, .. } => Some(record.for_below()),
        DmarcSeen::Absent | DmarcSeen::Unknown(_) => None,
    }
}

/// How bad it is that nothing is known to be aligned: as bad as the policy makes it, where no other system signs.
fn failing(domain: &Domain, spf: &SpfStanding, dkim: &DkimStanding, dmarc: &DmarcSeen) -> Verdict {
    let is_open = match spf {
        SpfStanding::AddressUnknown => true,
        SpfStanding::Seen(result) => matches!(result, SpfResult::Unavailable(_) | SpfResult::Depends(_)),
    };
    match (dkim, spf, dmarc) {
        // Another system may sign, and another host knows the address: nothing to say from here.
        (DkimStanding::NotHere, SpfStanding::AddressUnknown, _) => Verdict::Ok,
        (_, _, DmarcSeen::Unknown(_)) => Verdict::Inconclusive,
        (DkimStanding::NotHere, SpfStanding::Seen(_), _) if !is_open => Verdict::Warning,
        (_, _, _) if is_open => Verdict::Inconclusive,
        (_, _, DmarcSeen::Absent) => Verdict::Warning,
        (_, _, DmarcSeen::Policy { .. }) => match policy_for(domain, dmarc) {
            Some(DmarcPolicy::Quarantine | DmarcPolicy::Reject) => Verdict::Fault,
            Some(DmarcPolicy::None) | None => Verdict::Warning,
        },
    }
}

/// The lines for people; nothing where no domain is known.
#[must_use]
pub fn text(all: &[SenderDomain]) -> String {
    let mut text = String::new();
    for one in all {
        let label = format!("{:13}{:13}", one.status.word(), "sender");
        text += &paragraph(&label, &one.sentence(), label.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(spf: SpfResult, dkim: Option<(&str, PublishedKey)>, dmarc: Option<&str>) -> SenderDomain {
        let domain: Domain = "news.office.example".parse().unwrap();
        let dkim = dkim.map_or(DkimStanding::NotHere, |(signer, worst)| DkimStanding::Here {
            signer: signer.parse().unwrap(),
            worst,
        });
        let at = "office.example".parse().unwrap();
        let dmarc = dmarc
            .map_or(DmarcSeen::Absent, |record| DmarcSeen::Policy { at, record: DmarcRecord::parse(record).unwrap() });
        SenderDomain::of(domain, SpfStanding::Seen(spf), dkim, dmarc)
    }

    #[test]
    fn rfc7489_3_1_mail_passes_by_either_where_that_is_aligned() {
        let (own, above) = ("news.office.example", "office.example");
        let reject = Some("v=DMARC1; p=reject");
        for (one, status, by) in [
            (seen(SpfResult::Fail, Some((own, PublishedKey::Same)), reject), Verdict::Ok, vec![PassedBy::Dkim]),
            (seen(SpfResult::Pass, None, reject), Verdict::Ok, vec![PassedBy::Spf]),
            (seen(SpfResult::Fail, Some((above, PublishedKey::Same)), reject), Verdict::Ok, vec![PassedBy::Dkim]),
            (
                seen(SpfResult::Fail, Some((above, PublishedKey::Same)), Some("v=DMARC1; p=reject; adkim=s")),
                Verdict::Fault,
                vec![],
            ),
            (
                seen(SpfResult::Fail, Some((above, PublishedKey::Same)), Some("v=DMARC1; p=none; adkim=s")),
                Verdict::Warning,
                vec![],
            ),
            (seen(SpfResult::Pass, Some((own, PublishedKey::Absent)), None), Verdict::Fault, vec![PassedBy::Spf]),
            // Exchange may sign.
            (seen(SpfResult::Fail, None, reject), Verdict::Warning, vec![]),
            (seen(SpfResult::Depends("exists".into()), None, reject), Verdict::Inconclusive, vec![]),
            (seen(SpfResult::NoRecord, None, None), Verdict::Warning, vec![]),
        ] {
            assert_eq!((one.status, &one.aligned_by), (status, &by), "{one:?}");
        }
    }

    #[test]
    fn a_policy_from_above_is_told_with_what_it_says_of_domains_below() {
        let own = Some(("news.office.example", PublishedKey::Same));
        let one = seen(SpfResult::Pass, own, Some("v=DMARC1; p=none; sp=quarantine"));
        assert_eq!(one.sentence(), "news.office.example passes by DKIM and by SPF (p=quarantine of office.example)");
    }
}
