//! Looks at the domains by the DNS that delivers mail.

use super::{DkimStanding, DmarcRecord, DmarcSeen, SenderDomain, SpfStanding};
use crate::check::Checker;
use crate::check::dkim::{self, PublishedKey, signing_rules, texts};
use crate::check::selfcheck::names::{DOMAINS_LIMIT, spf_of};
use crate::check::selfcheck::{SelfCheck, egress, is_inward};
use crate::pipeline::outbound::Outbound;
use crate::smtp::address::Domain;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The most names that are asked for one policy: the domain, and those above it.
const WALK_LIMIT: usize = 8;

impl Checker {
    /// Looks at the domains that may hand mail in and those that are signed for: how receivers see their mail.
    pub async fn look_at_senders(&self) -> Vec<SenderDomain> {
        look_leaving_from(&self.out, &egress(&self.out.config)).await
    }
}

/// The same, with the addresses that mail leaves from.
async fn look_leaving_from(out: &Outbound, egress: &[IpAddr]) -> Vec<SenderDomain> {
    let outward: Vec<IpAddr> = egress.iter().copied().filter(|address| !is_inward(*address)).collect();
    let signed = out.config.dkim.key.iter().map(|rule| &rule.domain);
    let domains: BTreeSet<&Domain> = out.config.listen.sender_domains.iter().chain(signed).collect();
    let outward = &outward;
    join_all(domains.into_iter().take(DOMAINS_LIMIT).map(|domain| async move {
        let (spf, dkim, dmarc) = tokio::join!(
            Box::pin(spf(out, domain, outward)),
            Box::pin(keys(out, domain)),
            Box::pin(dmarc(out, domain))
        );
        SenderDomain::of(domain.clone(), spf, dkim, dmarc)
    }))
    .await
}

/// The line of the self-check: the domain that is worst off counts.
pub(in crate::check::selfcheck) async fn self_check(out: &Outbound, egress: &[IpAddr]) -> SelfCheck {
    const CHECK: &str = "alignment";
    // Without a key here the line about SPF says all that this relay can.
    if out.config.dkim.key.is_empty() {
        return SelfCheck::not_looked_at(CHECK, "[[dkim.key]] names no key");
    }
    let all = look_leaving_from(out, egress).await;
    let worst = all.iter().max_by_key(|one| one.status.weight());
    worst.map_or_else(
        || SelfCheck::not_looked_at(CHECK, "no domain is known"),
        |worst| SelfCheck::new(CHECK, worst.status, worst.sentence()),
    )
}

async fn spf(out: &Outbound, domain: &Domain, outward: &[IpAddr]) -> SpfStanding {
    let seen = spf_of(out, domain, outward).await;
    seen.map_or(SpfStanding::AddressUnknown, |(_, seen)| SpfStanding::Seen(seen.result))
}

async fn keys(out: &Outbound, domain: &Domain) -> DkimStanding {
    let Some(signer) = signing_rules(&out.config, domain).next().map(|rule| rule.domain.clone()) else {
        return DkimStanding::NotHere;
    };
    let report = dkim::check(out, domain, &dkim::KeyPlaces::default()).await;
    let worst = report.keys.into_iter().map(|key| key.published).max_by_key(|published| published.verdict().weight());
    // A signature that verifies is enough, and one that does not is a fault of its own.
    DkimStanding::Here { signer, worst: worst.unwrap_or(PublishedKey::Absent) }
}

/// The policy of the domain, or of the closest one above it that has one (RFC 7489 §6.6.3).
async fn dmarc(out: &Outbound, domain: &Domain) -> DmarcSeen {
    let above = std::iter::successors(Some(domain.as_str()), |name| name.split_once('.').map(|(_, parent)| parent));
    for name in above.filter(|name| name.contains('.')).take(WALK_LIMIT) {
        let texts = match texts(out, &format!("_dmarc.{name}")).await.texts {
            Ok(texts) => texts,
            Err(none) => return DmarcSeen::Unknown(none.words()),
        };
        let mut records = texts.iter().filter_map(|text| DmarcRecord::parse(text));
        match (records.next(), records.next(), name.parse()) {
            (Some(record), None, Ok(at)) => return DmarcSeen::Policy { at, record },
            (Some(_), _, _) => return DmarcSeen::Absent,
            (None, _, _) => {}
        }
    }
    DmarcSeen::Absent
}
