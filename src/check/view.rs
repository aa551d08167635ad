//! The domain as delivery sees it, for the report: hosts, TLSA records, addresses, MTA-STS (pure).

use super::evidence::{ReportsAsked, ShortPatience, UnusableSts};
use super::observation::ProbedServer;
use super::report::{AddressReport, CauseRow, HostReport, StsReport, StsSource, TlsaReport};
use crate::clock::Timestamp;
use crate::config::PrivateZone;
use crate::deliver::driver::Probe;
use crate::deliver::families::WaysOut;
use crate::deliver::hello::LargeHello;
use crate::deliver::{Planned, Target};
use crate::outcome::{DaneScope, StsFault, TlsVerdict};
use crate::pipeline::outbound::RouteFacts;
use crate::policy::sts::failure::FetchFailure;
use crate::policy::sts::{StsAbsent, StsState};
use crate::policy::{TlsPolicy, dane};
use crate::report::tls::record::{self, ReportRecord, ReportRecordError};
use crate::resolve::answer::{Answer, Data};
use crate::resolve::{HostAddresses, MxHost, TlsaLookup, TlsaRecord};
use crate::route::NextHop;
use crate::smtp::address::Domain;
use std::net::IpAddr;

/// One host.
pub(super) fn host_report(host: &MxHost, known: &RouteFacts, probed: &[ProbedServer], now: Timestamp) -> HostReport {
    let mut policy = "none";
    let mut because = None;
    let mut references: &[Domain] = &[];
    let mut certificates: &[Vec<u8>] = &[];
    let mut addresses = Vec::new();
    for (target, probe) in probed.iter().filter_map(|probed| probed.at(host)) {
        policy = target.policy.word();
        match &target.policy {
            TlsPolicy::Dane(dane) | TlsPolicy::WebPkiAndDane { dane, .. } => references = &dane.references,
            TlsPolicy::Opportunistic { because: why } => because = Some(why.word()),
            TlsPolicy::Off | TlsPolicy::Encrypt { .. } | TlsPolicy::WebPki { .. } => {}
        }
        if certificates.is_empty() {
            certificates = &probe.certificates;
        }
        addresses.push(address_report(target, probe));
    }
    let (tlsa_base_domain, tlsa) = tlsa_report(&host.tlsa, certificates, references, now);
    let skipped = probed.iter().find_map(|probed| match &probed.step {
        Planned::Skip { host: name, cause } if *name == host.name => Some(CauseRow::from(cause)),
        Planned::Skip { .. } | Planned::Try(_) => None,
    });
    let no_dane = match &host.tlsa {
        TlsaLookup::Absent(because) => Some(because.phrase()),
        TlsaLookup::Unavailable(_) | TlsaLookup::Present { .. } => None,
    };
    let listed = match &known.sts {
        StsState::Policy(policy) => Some(policy.allows(&host.name)),
        StsState::Absent(_) => None,
    };
    HostReport {
        name: host.name.clone(),
        preference: host.preference,
        security: host.security,
        policy,
        because,
        listed,
        no_dane,
        tlsa_base_domain,
        tlsa,
        addresses,
        skipped,
    }
}

fn tlsa_report(
    tlsa: &TlsaLookup,
    certificates: &[Vec<u8>],
    references: &[Domain],
    now: Timestamp,
) -> (Option<String>, Vec<TlsaReport>) {
    let TlsaLookup::Present { base_domain, records } = tlsa else { return (None, Vec::new()) };
    let usable = dane::usable(records);
    let chain: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
    let report = |record: &TlsaRecord| TlsaReport {
        record: record.to_string(),
        usable: usable.contains(record),
        matched: usable.contains(record) && dane::verify(&chain, std::slice::from_ref(record), references, now).is_ok(),
    };
    (Some(base_domain.to_string()), records.iter().map(report).collect())
}

fn address_report(target: &Target, probe: &Probe) -> AddressReport {
    AddressReport {
        address: target.peer.address.to_string(),
        tls: probe.tls.clone(),
        group: probe.group,
        fault: probe.failure.as_ref().map(CauseRow::from),
        watched: probe.watched.as_ref().and_then(|watched| watched.failure.as_ref()).map(CauseRow::watched),
        took_ms: super::milliseconds(probe.took),
    }
}

/// Why a policy that is announced is not in force, or will not be for long (RFC 8461 §3.3, §5.1).
pub(super) fn sts_unusable(sts: &StsState) -> Option<UnusableSts> {
    match sts {
        StsState::Absent(StsAbsent::FetchFailed(FetchFailure::Slow { .. })) => None,
        StsState::Absent(StsAbsent::FetchFailed(failure)) => {
            Some(UnusableSts { result_type: failure.result_type().to_owned(), reason: failure.to_string() })
        }
        StsState::Absent(StsAbsent::UnusableRecord(error)) => {
            Some(UnusableSts { result_type: StsFault::Invalid.result_type().to_owned(), reason: error.to_string() })
        }
        StsState::Absent(
            StsAbsent::NoRecord
            | StsAbsent::Unknown(_)
            | StsAbsent::ModeNone
            | StsAbsent::AddressLiteral
            | StsAbsent::NotNeeded
            | StsAbsent::SwitchedOff
            | StsAbsent::Lost { .. },
        ) => None,
        StsState::Policy(policy) => policy.refresh_failure.as_ref().map(|failure| UnusableSts {
            result_type: failure.result_type.clone(),
            reason: format!(
                "{} (the policy of {} holds until {})",
                failure.sentence,
                policy.fetched_at.rfc3339(),
                policy.expires_at().rfc3339()
            ),
        }),
    }
}

/// That a policy was not waited for to the end, and how long delivery would wait.
pub(super) const fn sts_slow(sts: &StsState) -> Option<ShortPatience> {
    match sts {
        StsState::Absent(
            StsAbsent::FetchFailed(FetchFailure::Slow { waited_ms, limit_ms })
            | StsAbsent::Lost { fetch: Some(FetchFailure::Slow { waited_ms, limit_ms }), .. },
        ) => Some(ShortPatience { check_ms: *waited_ms, delivery_ms: *limit_ms }),
        StsState::Absent(_) | StsState::Policy(_) => None,
    }
}

/// Whether nobody could say what the policy of the domain is.
pub(super) const fn is_open(sts: &StsState) -> bool {
    match sts {
        StsState::Absent(StsAbsent::FetchFailed(failure)) => failure.leaves_open(),
        StsState::Absent(StsAbsent::Unknown(_) | StsAbsent::Lost { .. }) => true,
        StsState::Absent(
            StsAbsent::NoRecord
            | StsAbsent::UnusableRecord(_)
            | StsAbsent::ModeNone
            | StsAbsent::AddressLiteral
            | StsAbsent::NotNeeded
            | StsAbsent::SwitchedOff,
        )
        | StsState::Policy(_) => false,
    }
}

/// `began` is when the check did: a policy that came since is its own.
pub(super) fn sts_report(sts: &StsState, announced: Option<&String>, began: Timestamp) -> StsReport {
    match sts {
        StsState::Absent(absent) => StsReport {
            mode: "absent",
            absent: Some(absent.phrase()),
            id: None,
            mx: Vec::new(),
            fetched: None,
            source: None,
            announced: announced.cloned(),
            expires: None,
            refresh_failure: None,
        },
        StsState::Policy(policy) => StsReport {
            mode: policy.terms.mode.word(),
            absent: None,
            id: policy.id.as_ref().map(ToString::to_string),
            mx: policy.terms.mx.iter().map(ToString::to_string).collect(),
            fetched: Some(policy.fetched_at.rfc3339()),
            source: Some(if policy.fetched_at >= began { StsSource::Live } else { StsSource::Cache }),
            announced: announced.cloned(),
            expires: Some(policy.expires_at().rfc3339()),
            refresh_failure: policy.refresh_failure.as_ref().map(|failure| failure.sentence.clone()),
        },
    }
}

/// The record that asks for TLS reports (RFC 8460 §3).
pub(super) fn tls_report_record(answer: &Answer) -> Option<String> {
    let Answer::Found(found) = answer else { return None };
    found.data.iter().find_map(|data| match data {
        Data::Txt(text) => Some(String::from_utf8_lossy(text).into_owned()).filter(|t| t.starts_with("v=TLSRPTv1")),
        Data::Address(_) | Data::Mx(..) | Data::Tlsa(_) => None,
    })
}

/// What it asks for, and what is wrong with it.
pub(super) fn tls_reports_asked(answer: &Answer) -> Option<ReportsAsked> {
    let nothing = |security, problem| ReportsAsked { security, rua: Vec::new(), ignored: Vec::new(), problem };
    let found = match answer {
        Answer::Found(found) => found,
        Answer::NoData(_) | Answer::NxDomain(_) => return None,
        Answer::Failed(cause) => return Some(nothing(None, Some(cause.sentence()))),
    };
    let texts = found.data.iter().filter_map(|data| match data {
        Data::Txt(text) => Some(text.as_slice()),
        Data::Address(_) | Data::Mx(..) | Data::Tlsa(_) => None,
    });
    match record::read(texts.clone()) {
        Ok(ReportRecord { rua, ignored }) => Some(ReportsAsked {
            security: Some(found.security),
            rua: rua.iter().map(ToString::to_string).collect(),
            ignored: ignored.iter().map(ToString::to_string).collect(),
            problem: None,
        }),
        // Other texts may stand at this name; one that is meant so and written otherwise is worth a word.
        Err(ReportRecordError::None) => {
            let is_near = |text: &[u8]| text.to_ascii_lowercase().trim_ascii().starts_with(b"v=tlsrptv1");
            let near = texts.clone().any(is_near);
            near.then(|| nothing(Some(found.security), Some("its record does not begin with v=TLSRPTv1;".to_owned())))
        }
        Err(error) => Some(nothing(Some(found.security), Some(error.to_string()))),
    }
}

/// Whether the domain or its next hop is in a private zone.
pub(super) fn private(domain: &Domain, hop: &NextHop, zones: &[PrivateZone]) -> impl Iterator<Item = String> {
    let name = match hop {
        NextHop::Host { name, .. } => name,
        NextHop::Domain(_) | NextHop::Address { .. } | NextHop::OneOf(_) => domain,
    };
    let zone = PrivateZone::around(name.as_str(), zones);
    zone.map(|zone| format!("Private zone {zone}: nothing about {name} is validated.")).into_iter()
}

/// What is odd and stops no mail.
pub(super) fn notes(known: &RouteFacts, probed: &[ProbedServer], ways: &WaysOut) -> Vec<String> {
    left_out(known, ways).into_iter().chain(unlisted(known, probed)).chain(large_hello_lost(probed)).collect()
}

/// Addresses that no mail goes to, because this host knows no way to them.
fn left_out(known: &RouteFacts, ways: &WaysOut) -> Vec<String> {
    let hosts = known.resolution.hosts.iter().filter_map(|host| match &host.addresses {
        HostAddresses::Known(addresses) => Some((host, addresses)),
        HostAddresses::Unavailable(_) => None,
    });
    let of_host = |(host, addresses): (&MxHost, &Vec<IpAddr>)| {
        let left: Vec<String> =
            addresses.iter().filter(|a| ways.leaves_out(**a, addresses)).map(ToString::to_string).collect();
        (!left.is_empty()).then(|| {
            format!("This host knows no way to {} of {}; mail goes to the other addresses.", left.join(", "), host.name)
        })
    };
    hosts.filter_map(of_host).collect()
}

/// Hosts that a ClientHello of more than one TCP segment does not reach.
fn large_hello_lost(probed: &[ProbedServer]) -> Option<String> {
    let lost = probed.iter().filter_map(|probed| match (&probed.step, &probed.probe) {
        (Planned::Try(target), Some(probe)) if probe.large_hello == LargeHello::Lost => Some(target.peer.to_string()),
        (Planned::Try(_) | Planned::Skip { .. }, _) => None,
    });
    let lost: Vec<String> = lost.collect();
    (!lost.is_empty()).then(|| {
        format!(
            "large-client-hello-lost: a ClientHello above one TCP segment, as a post-quantum key exchange makes it, was \
             not answered by {}, and a small one was. A box on the path loses it; mail goes out with X25519, one \
             handshake later.",
            lost.join(", ")
        )
    })
}

fn unlisted(known: &RouteFacts, probed: &[ProbedServer]) -> Vec<String> {
    let StsState::Policy(policy) = &known.sts else { return Vec::new() };
    let unlisted = known.resolution.hosts.iter().filter(|host| {
        let by_dane = |(_, probe): (&Target, &Probe)| {
            matches!(probe.tls, Some(TlsVerdict::Dane { scope: DaneScope::Domain, .. }))
        };
        !policy.allows(&host.name) && probed.iter().filter_map(|probed| probed.at(host)).any(by_dane)
    });
    let note = |host: &MxHost| {
        format!(
            "The MTA-STS policy does not list {}, but its certificate is right by DANE: DANE wins, and mail goes there. \
             Senders without DANE will refuse it.",
            host.name
        )
    };
    unlisted.map(note).collect()
}
