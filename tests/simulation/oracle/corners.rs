//! Combinations in which one rule by itself decides: whoever breaks the rule changes the end there. All
//! that the rule does not need stays as chance has made it.

use super::facts::{
    Asks, Cell, Certificate, Domain, Host, Level, Listed, Mail, Mode, Rule, Signed, StartTls, Sts, Tlsa,
};
use crate::random::SeededRandom;

/// What such a combination is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Corner {
    /// DANE of a host alone adds to an enforced policy, and replaces nothing of it.
    HostDaneBesidePolicy,
    /// Nor is it the policy that `mta-sts` demands.
    HostDaneUnderMtaSts,
    /// Nor the DANE that `dane-only` demands.
    HostDaneUnderDaneOnly,
    /// Without a policy it stands for itself, and claims no more.
    HostDaneAlone,
    /// DANE of the domain comes before its policy, whether it fails or not.
    DomainDaneBesidePolicy,
    /// TLSA records of which none can be used demand TLS.
    UnusableRecords,
    /// The certificate has the name of the domain, which counts where the MX records are signed.
    NameOfDomain,
    /// An exception of the operator, and REQUIRETLS.
    WeakenedUnderRequireTls,
    /// A handshake fails, and nothing is demanded.
    BrokenHandshake,
}

impl Corner {
    pub(crate) const ALL: [Self; 9] = [
        Self::HostDaneBesidePolicy,
        Self::HostDaneUnderMtaSts,
        Self::HostDaneUnderDaneOnly,
        Self::HostDaneAlone,
        Self::DomainDaneBesidePolicy,
        Self::UnusableRecords,
        Self::NameOfDomain,
        Self::WeakenedUnderRequireTls,
        Self::BrokenHandshake,
    ];

    /// The cell moved into this corner: one domain, one host, one mail.
    pub(crate) fn of(self, random: &mut SeededRandom, cell: &Cell) -> Cell {
        let mail = Mail { domain: 0, asks: self.asks() };
        let (host, domain) = (self.host(random, cell.hosts[0]), self.domain(random, cell.domains[0].mx));
        Cell { hosts: vec![host], domains: vec![domain], first: vec![mail], later: Vec::new() }
    }

    const fn asks(self) -> Asks {
        match self {
            Self::WeakenedUnderRequireTls => Asks::RequireTls,
            Self::HostDaneBesidePolicy
            | Self::HostDaneUnderMtaSts
            | Self::HostDaneUnderDaneOnly
            | Self::HostDaneAlone
            | Self::DomainDaneBesidePolicy
            | Self::UnusableRecords
            | Self::NameOfDomain
            | Self::BrokenHandshake => Asks::Nothing,
        }
    }

    fn host(self, random: &mut SeededRandom, host: Host) -> Host {
        let signed = Host { addresses: Signed::Yes, starttls: StartTls::Offered, ..host };
        let matched = Host { tlsa: *random.pick(&[Tlsa::Ee, Tlsa::EeAmongWrong]), ..signed };
        match self {
            Self::HostDaneUnderMtaSts | Self::HostDaneUnderDaneOnly | Self::HostDaneAlone => matched,
            Self::HostDaneBesidePolicy => Host {
                certificate: *random.pick(&[Certificate::Public, Certificate::Public, Certificate::SelfSigned]),
                ..matched
            },
            Self::DomainDaneBesidePolicy => Host {
                tlsa: *random.pick(&[Tlsa::Ee, Tlsa::EeWrong, Tlsa::TaWrong, Tlsa::Lost, Tlsa::Denied]),
                certificate: Certificate::Public,
                ..signed
            },
            Self::UnusableRecords => {
                let starttls = *random.pick(&[StartTls::NotOffered, StartTls::HeloOnly, StartTls::Refused454]);
                Host { tlsa: Tlsa::Unusable, starttls, ..signed }
            }
            Self::NameOfDomain => Host { tlsa: Tlsa::Ta, certificate: Certificate::PublicForDomain, ..signed },
            Self::WeakenedUnderRequireTls => Host {
                tlsa: *random.pick(&[Tlsa::None, Tlsa::Ee]),
                certificate: Certificate::Public,
                offers_requiretls: true,
                listed: Listed::ByName,
                ..signed
            },
            Self::BrokenHandshake => Host {
                tlsa: Tlsa::None,
                starttls: *random.pick(&[StartTls::Alert, StartTls::Tls10, StartTls::Cut, StartTls::Garbage]),
                ..signed
            },
        }
    }

    /// `mx`: as chance has made it.
    fn domain(self, random: &mut SeededRandom, mx: Signed) -> Domain {
        let enforced = Sts::Published(Mode::Enforce);
        let with = |level| Rule { level: Some(level), report_only: false };
        let unsigned = Domain { mx: Signed::No, ..Domain::PLAIN };
        let found = if mx == Signed::Lost { Signed::No } else { mx };
        match self {
            Self::HostDaneBesidePolicy => Domain { sts: enforced, ..unsigned },
            Self::HostDaneUnderMtaSts => {
                let sts = *random.pick(&[Sts::Never, enforced, Sts::Published(Mode::Testing)]);
                Domain { sts, rule: with(Level::MtaSts), ..unsigned }
            }
            Self::HostDaneUnderDaneOnly => {
                Domain { sts: *random.pick(&[Sts::Never, enforced]), rule: with(Level::DaneOnly), ..unsigned }
            }
            Self::HostDaneAlone => unsigned,
            Self::DomainDaneBesidePolicy => Domain { mx: Signed::Yes, sts: enforced, ..Domain::PLAIN },
            Self::UnusableRecords | Self::NameOfDomain | Self::BrokenHandshake => Domain { mx: found, ..Domain::PLAIN },
            Self::WeakenedUnderRequireTls => {
                let rules = [
                    with(Level::Opportunistic),
                    with(Level::Dane),
                    with(Level::Off),
                    Rule { level: None, report_only: true },
                ];
                Domain { sts: enforced, rule: *random.pick(&rules), ..unsigned }
            }
        }
    }
}
