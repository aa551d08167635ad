//! `relay why --what-if tls=LEVEL --domain DOMAIN`: which past deliveries would have waited under a level
//! of TLS, from the ledger alone.
//!
//! The ledger has how each delivery was protected, by what the domain published then and what was
//! configured then; nobody is asked. A level that asks for no more than delivery does by itself makes
//! nothing wait. The JSON form is stable.

use crate::config::TlsLevel;
use crate::outcome::{DaneScope, TlsVerdict};
use crate::smtp::address::Domain;
use crate::spool::ledger::{DeliveriesWanted, Ledger, LedgerError, PastDelivery};
use crate::text::{counted, paragraph};
use serde::Serialize;

/// Deliveries that are looked at: the newest.
const MOST_DELIVERIES: usize = 10_000;

/// Deliveries that are named to people; the JSON form has all.
const MOST_SHOWN: usize = 20;

/// What the configuration would say: `tls=dane-only`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supposition {
    /// The level of `[[destination]] tls`.
    pub level: TlsLevel,
}

/// Every level, for those who have to choose.
const LEVELS: [TlsLevel; 6] =
    [TlsLevel::Opportunistic, TlsLevel::Encrypt, TlsLevel::Dane, TlsLevel::DaneOnly, TlsLevel::MtaSts, TlsLevel::Off];

impl std::str::FromStr for Supposition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = text.strip_prefix("tls").map(|rest| rest.trim_start()).and_then(|rest| rest.strip_prefix('='));
        let word = word.map(|word| word.trim().trim_matches('"'));
        let level = word.and_then(|word| LEVELS.into_iter().find(|level| level.word() == word));
        let known = || LEVELS.map(TlsLevel::word).join(", ");
        level.map(|level| Self { level }).ok_or_else(|| format!("write tls=LEVEL, with one of {}", known()))
    }
}

/// What would have become of past deliveries.
#[derive(Debug, Serialize)]
pub struct WhatIf {
    /// The domain.
    pub domain: Domain,
    /// The level.
    pub level: &'static str,
    /// Deliveries that were looked at, the newest ones.
    pub deliveries: usize,
    /// Those that would have waited.
    pub would_have_waited: Vec<WouldWait>,
}

/// A delivery that would have waited.
#[derive(Debug, Serialize)]
pub struct WouldWait {
    /// How it went.
    #[serde(flatten)]
    pub delivery: PastDelivery,
    /// What was lacking.
    pub lacking: &'static str,
}

/// Looks at the past deliveries to a domain.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn what_if(ledger: &dyn Ledger, supposition: Supposition, domain: &Domain) -> Result<WhatIf, LedgerError> {
    let wanted = DeliveriesWanted { domain: domain.clone(), most: MOST_DELIVERIES, among: None };
    let deliveries = ledger.delivered(&wanted).await?;
    let count = deliveries.len();
    let waits = |delivery: PastDelivery| {
        let lacking = lacking(supposition.level, &delivery.tls)?;
        Some(WouldWait { delivery, lacking })
    };
    let would_have_waited = deliveries.into_iter().filter_map(waits).collect();
    Ok(WhatIf { domain: domain.clone(), level: supposition.level.word(), deliveries: count, would_have_waited })
}

/// What a connection lacked of a level.
const fn lacking(level: TlsLevel, tls: &TlsVerdict) -> Option<&'static str> {
    match (level, tls) {
        (TlsLevel::Opportunistic | TlsLevel::Dane | TlsLevel::Off, _)
        | (
            TlsLevel::Encrypt | TlsLevel::DaneOnly | TlsLevel::MtaSts,
            TlsVerdict::Dane { scope: DaneScope::Domain, .. },
        )
        | (TlsLevel::MtaSts, TlsVerdict::WebPki { .. } | TlsVerdict::WebPkiAndDane { .. })
        | (
            TlsLevel::Encrypt,
            TlsVerdict::Dane { .. }
            | TlsVerdict::WebPki { .. }
            | TlsVerdict::WebPkiAndDane { .. }
            | TlsVerdict::Unauthenticated { .. },
        ) => None,
        (_, TlsVerdict::ClearText) => Some("it went in clear text"),
        (_, TlsVerdict::Unauthenticated { .. }) => Some("nobody vouched for the certificate"),
        (_, TlsVerdict::Dane { scope: DaneScope::Host, .. } | TlsVerdict::WebPkiAndDane { .. }) => {
            Some("the MX records of the domain were not signed")
        }
        (_, TlsVerdict::WebPki { .. }) => Some("a public authority vouched for the certificate, and no TLSA record"),
    }
}

impl WhatIf {
    /// 0 when nothing would have waited, 1 when something would.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.would_have_waited.is_empty())
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { domain, level, deliveries, would_have_waited } = self;
        let of = counted(*deliveries as u64, "delivery").replace("deliverys", "deliveries");
        let mut text = match (deliveries, would_have_waited.len()) {
            (0, _) => format!("No delivery to {domain} is known. History is kept for [spool] keep_history.\n"),
            (_, 0) => format!("With tls = \"{level}\" none of {of} to {domain} would have waited.\n"),
            (_, some) => format!("With tls = \"{level}\" {some} of {of} to {domain} would have waited:\n"),
        };
        for WouldWait { delivery, lacking } in would_have_waited.iter().take(MOST_SHOWN) {
            let PastDelivery { id, recipient, accepted_at, peer, tls } = delivery;
            let tls = tls.word();
            let words = format!("{} to {recipient} by {} ({tls}): {lacking}", accepted_at.to_second(), peer.host);
            text.push_str(&paragraph(&format!("  {id}"), &words, 17));
        }
        if let Some(more @ 1..) = would_have_waited.len().checked_sub(MOST_SHOWN) {
            text.push_str(&format!("  and {more} more: --json has all\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supposition_is_read_as_the_configuration_has_it() {
        for text in ["tls=dane-only", "tls = \"dane-only\"", "tls=\"dane-only\""] {
            assert_eq!(text.parse(), Ok(Supposition { level: TlsLevel::DaneOnly }), "{text}");
        }
        for odd in ["", "tls", "tls=", "dane-only", "tls=sometimes", "port=25"] {
            let error = odd.parse::<Supposition>().unwrap_err();
            assert!(error.contains("opportunistic, encrypt, dane, dane-only, mta-sts, off"), "{error}");
        }
    }

    #[test]
    fn rfc7672_6_what_a_level_would_have_stopped() {
        let version = || "TLSv1.3".to_owned();
        let dane = |scope| TlsVerdict::Dane { version: version(), matched: "3 1 1 00".into(), scope };
        let web = TlsVerdict::WebPki { version: version(), host: "mx.test".into() };
        let both = TlsVerdict::WebPkiAndDane { version: version(), host: "mx.test".into(), matched: "3 1 1 00".into() };
        let plain = TlsVerdict::Unauthenticated { version: version() };
        let all = [dane(DaneScope::Domain), dane(DaneScope::Host), web, both, plain, TlsVerdict::ClearText];
        let passes = |level| all.each_ref().map(|tls| u8::from(lacking(level, tls).is_none()));
        assert_eq!(passes(TlsLevel::DaneOnly), [1, 0, 0, 0, 0, 0]);
        assert_eq!(passes(TlsLevel::MtaSts), [1, 0, 1, 1, 0, 0]);
        assert_eq!(passes(TlsLevel::Encrypt), [1, 1, 1, 1, 1, 0]);
        for level in [TlsLevel::Dane, TlsLevel::Opportunistic, TlsLevel::Off] {
            assert_eq!(passes(level), [1; 6]);
        }
    }
}
