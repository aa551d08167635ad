//! The record of a DMARC policy (RFC 7489 §6.3).

use serde::Serialize;

/// What receivers are asked to do with mail that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DmarcPolicy {
    /// Nothing.
    None,
    /// Treat it as suspicious.
    Quarantine,
    /// Refuse it.
    Reject,
}

impl DmarcPolicy {
    /// The word of the record.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::None, Self::Quarantine, Self::Reject].into_iter().find(|policy| policy.word().eq_ignore_ascii_case(word))
    }
}

/// What of a record decides about alignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DmarcRecord {
    /// `p=`
    pub policy: DmarcPolicy,
    /// `sp=`
    pub subdomain_policy: Option<DmarcPolicy>,
    /// `adkim=s`: the signer has to be the very domain.
    pub strict_dkim: bool,
    /// `aspf=s`: the same of the reverse-path.
    pub strict_spf: bool,
}

impl DmarcRecord {
    /// Reads a text; none where it is no such record.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut tags = text.split(';').filter_map(|tag| tag.split_once('='));
        let mut all = Vec::new();
        let (version, word) = tags.next()?;
        if version.trim() != "v" || word.trim() != "DMARC1" {
            return None;
        }
        all.extend(tags.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim())));
        let value = |wanted: &str| all.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
        let is_strict = |name: &str| value(name).is_some_and(|mode| mode.eq_ignore_ascii_case("s"));
        Some(Self {
            policy: value("p").and_then(DmarcPolicy::parse).unwrap_or(DmarcPolicy::None),
            subdomain_policy: value("sp").and_then(DmarcPolicy::parse),
            strict_dkim: is_strict("adkim"),
            strict_spf: is_strict("aspf"),
        })
    }

    /// The policy for domains below the one where it stands.
    #[must_use]
    pub fn for_below(&self) -> DmarcPolicy {
        self.subdomain_policy.unwrap_or(self.policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc7489_6_3_records_and_what_is_none() {
        let read = |text| DmarcRecord::parse(text);
        let record = read("v=DMARC1; p=Reject ;sp=none; ADKIM=s; rua=mailto:a@b.example; pct=100").unwrap();
        assert_eq!((record.policy, record.for_below()), (DmarcPolicy::Reject, DmarcPolicy::None));
        assert!(record.strict_dkim && !record.strict_spf);
        assert_eq!(read("v=DMARC1;p=quarantine").unwrap().for_below(), DmarcPolicy::Quarantine);
        // RFC 7489 §6.6.3: a record without a policy that can be read asks for nothing.
        assert_eq!(read("v=DMARC1; p=x; rua=mailto:a@b.example").unwrap().policy, DmarcPolicy::None);
        for none in ["v=spf1 -all", "p=none; v=DMARC1", "v=DMARC2; p=none", "", "text"] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
