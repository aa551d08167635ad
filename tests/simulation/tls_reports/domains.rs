//! Domains of all kinds, as reports on TLS see them, and what each of them asks for (RFC 8460 §3).
//!
//! Some have hosts of their own; the others have theirs at one of these, as most domains have.

use crate::behaviour::DomainBehaviour::{
    self, ByPolicy, Dead, Fine, Forged, Greylisting, Mismatched, NeverReady, NullMx, PolicyBroken, Refusing, Silent,
    WithoutTls,
};
use dane_relay::lab::mx::behaviour::reply;
use dane_relay::lab::{AnswerFault, Certificate, DomainSpec, StartTls, Tlsa};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, RecordType};
use std::collections::BTreeMap;

/// Takes reports.
pub(crate) const REPORTS: &str = "reports.test";
/// Takes none.
pub(crate) const CLOSED: &str = "closed.test";

/// What the mail of a domain meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsSetup {
    /// As its behaviour says.
    Usual(DomainBehaviour),
    /// DANE, and a policy of MTA-STS that fits: the policy counts as well where DANE does not speak for the domain,
    /// as its MX records are not signed (RFC 7672 §2.2.1, RFC 8461 §2).
    DaneAndPolicy,
    /// A policy that does not fit, and only tests.
    PolicyTests,
    /// A policy host without a policy.
    PolicyMissing,
    /// TLSA records, none of which is one for SMTP.
    TlsaUnusable,
    /// The DNS does not say whether there are TLSA records.
    TlsaUnknown,
    /// No TLSA records and no policy.
    Plain,
    PlainWithoutTls,
    PlainRefusingTls,
}

use TlsSetup::{
    DaneAndPolicy, Plain, PlainRefusingTls, PlainWithoutTls, PolicyMissing, PolicyTests, TlsaUnknown, TlsaUnusable,
    Usual,
};

/// All that there are.
pub(crate) const SETUPS: [TlsSetup; 20] = [
    Usual(Fine),
    Usual(ByPolicy),
    Usual(Mismatched),
    Plain,
    Usual(Greylisting),
    TlsaUnknown,
    PlainWithoutTls,
    DaneAndPolicy,
    Usual(PolicyBroken),
    PolicyTests,
    Usual(Forged),
    PolicyMissing,
    Usual(WithoutTls),
    TlsaUnusable,
    Usual(Refusing),
    PlainRefusingTls,
    Usual(NeverReady),
    Usual(NullMx),
    Usual(Dead),
    Usual(Silent),
];

impl TlsSetup {
    /// What the invariants of all worlds expect of it.
    pub(crate) const fn behaviour(self) -> DomainBehaviour {
        match self {
            Usual(behaviour) => behaviour,
            TlsaUnknown => Forged,
            DaneAndPolicy | PolicyTests | PolicyMissing | TlsaUnusable | Plain | PlainWithoutTls | PlainRefusingTls => {
                Fine
            }
        }
    }

    /// A domain whose host is its own.
    fn own(self, name: &str, domain: DomainSpec) -> DomainSpec {
        let host = format!("mx.{name}");
        match self {
            Usual(behaviour) => behaviour.describe(name, domain),
            DaneAndPolicy => domain.host(|h| h.certificate(Certificate::Issued)).mta_sts(|p| p.enforce()),
            PolicyTests => domain.plain().mta_sts(|p| p.testing()),
            PolicyMissing => domain.plain().mta_sts(|p| p.answer(|answer| answer.status(404))),
            TlsaUnusable => domain.host(|h| h.tlsa([Tlsa::Misfits(1, 1, 1, 0)])),
            TlsaUnknown => domain.fault(&host, RecordType::TLSA, AnswerFault::ServFail),
            Plain => domain.plain(),
            PlainWithoutTls => domain.plain().host(|h| h.starttls(StartTls::NotOffered)),
            PlainRefusingTls => {
                domain.plain().host(|h| h.starttls(StartTls::Refused(reply("454 4.7.0 not now").unwrap())))
            }
        }
    }

    /// A domain whose mail goes to the host of another one.
    fn hosted(self, hoster: &str, domain: DomainSpec) -> DomainSpec {
        let host = format!("mx.{hoster}");
        match self {
            Usual(NullMx) => domain.null_mx(),
            Usual(ByPolicy | PolicyBroken) | DaneAndPolicy => {
                domain.plain().mta_sts(|p| p.mx(&[&host])).hosted_by(10, &host)
            }
            PolicyTests => domain.plain().mta_sts(|p| p.mx(&[&host]).testing()).hosted_by(10, &host),
            PolicyMissing => domain.plain().mta_sts(|p| p.answer(|answer| answer.status(404))).hosted_by(10, &host),
            Plain | PlainWithoutTls | PlainRefusingTls => domain.plain().hosted_by(10, &host),
            Usual(_) | TlsaUnusable | TlsaUnknown => domain.hosted_by(10, &host),
        }
    }
}

/// What a domain asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskedFor {
    Nothing,
    ByMail,
    /// At two addresses.
    ByTwoMails,
    /// At an address that does not exist.
    AtClosed,
    /// By HTTPS, where nobody is.
    AtNobody,
    /// In words that nobody understands.
    Unclear,
}

/// In turn; by mail most.
const ASKED_FOR: [AskedFor; 11] = [
    AskedFor::ByMail,
    AskedFor::ByMail,
    AskedFor::Nothing,
    AskedFor::ByMail,
    AskedFor::AtClosed,
    AskedFor::ByMail,
    AskedFor::ByTwoMails,
    AskedFor::ByMail,
    AskedFor::Unclear,
    AskedFor::AtNobody,
    AskedFor::ByMail,
];

impl AskedFor {
    /// Its TXT record.
    fn record(self) -> Option<&'static str> {
        Some(match self {
            Self::Nothing => return None,
            Self::ByMail => "v=TLSRPTv1; rua=mailto:tls@reports.test",
            Self::ByTwoMails => "v=TLSRPTv1; rua=mailto:tls@reports.test,mailto:second@reports.test",
            Self::AtClosed => "v=TLSRPTv1; rua=mailto:tls@closed.test",
            Self::AtNobody => "v=TLSRPTv1; rua=https://nobody.reports.test/tls",
            Self::Unclear => "v=TLSRPTv1; rua=fax:5551234",
        })
    }

    /// Who gets a report.
    pub(crate) const fn readers(self) -> &'static [&'static str] {
        match self {
            Self::ByMail => &["tls@reports.test"],
            Self::ByTwoMails => &["tls@reports.test", "second@reports.test"],
            Self::Nothing | Self::AtClosed | Self::AtNobody | Self::Unclear => &[],
        }
    }

    /// What becomes of its report in the end.
    pub(crate) const fn end(self) -> &'static str {
        match self {
            Self::ByMail | Self::ByTwoMails | Self::AtClosed => "sent",
            Self::Nothing | Self::Unclear => "not-wanted",
            Self::AtNobody => "given-up",
        }
    }
}

/// A domain of such a world.
#[derive(Clone, Debug)]
pub(crate) struct ReportedDomain {
    pub(crate) setup: TlsSetup,
    pub(crate) asks: AskedFor,
    /// The domain whose host takes its mail.
    pub(crate) hoster: String,
}

/// So many of all kinds.
pub(crate) fn of_all_kinds(count: usize) -> BTreeMap<String, ReportedDomain> {
    let domain = |nth: usize| {
        let (setup, hoster) = (SETUPS[nth % SETUPS.len()], format!("d{}.test", nth % SETUPS.len()));
        (format!("d{nth}.test"), ReportedDomain { setup, asks: ASKED_FOR[nth % ASKED_FOR.len()], hoster })
    };
    (0..count).map(domain).collect()
}

impl ReportedDomain {
    /// Policies that are applied to each session that succeeds.
    pub(crate) fn policies(&self, name: &str) -> u64 {
        if self.setup == DaneAndPolicy && self.hoster != name { 2 } else { 1 }
    }

    pub(crate) fn describe(&self, name: &str, domain: DomainSpec) -> DomainSpec {
        let domain =
            if self.hoster == name { self.setup.own(name, domain) } else { self.setup.hosted(&self.hoster, domain) };
        match self.asks.record() {
            Some(record) => domain.record(&format!("_smtp._tls.{name}"), RData::TXT(TXT::new(vec![record.to_owned()]))),
            None => domain,
        }
    }
}
