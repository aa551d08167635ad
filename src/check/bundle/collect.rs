//! Collects what a bundle holds beside the report of a check: every look-up that matters once more, with
//! its chain of trust, and what the servers say in clear.

use super::verify::{judged, shown};
use super::{BUNDLE_VERSION, Bundle, BundledAnswer, BundledMessage, BundledServer, FORMAT};
use crate::check::report::{CheckReport, HostReport, ShownChain};
use crate::check::{Checker, Color, smtp};
use crate::config::PrivateZone;
use crate::resolve::dnssec::{Anchors, Validated};
use crate::resolve::proof::{DnsProof, SignatureEnd};
use data_encoding::BASE64;
use futures_util::stream::{self, StreamExt as _};
use hickory_proto::rr::{Name, RecordType};
use std::net::SocketAddr;

/// Hosts whose records and certificates are collected.
const MOST_HOSTS: usize = 8;
/// Addresses of servers.
const MOST_SERVERS: usize = 16;
/// Look-ups side by side.
const SIDE_BY_SIDE: usize = 4;
/// Certificates of one server.
const MOST_CERTIFICATES: usize = 16;

impl Checker {
    /// Collects the evidence behind a report. Sends no mail, and asks for nothing that the check has not
    /// asked for.
    pub async fn bundle(&self, report: &CheckReport) -> Bundle {
        // Nothing is validated in a private zone, so there is nothing to hand over.
        let zone = |name: &Name| PrivateZone::around(&name.to_ascii(), &self.out.config.dns.private_zones);
        let (inside, questions): (Vec<_>, Vec<_>) =
            self.questions(report).into_iter().partition(|(name, _)| zone(name).is_some());
        let asked = stream::iter(questions.clone()).map(|(name, record_type)| self.answer(name, record_type));
        let answers: Vec<_> = asked.buffered(SIDE_BY_SIDE).filter_map(async |answer| answer).collect().await;
        let bundle = Bundle {
            format: FORMAT.to_owned(),
            version: BUNDLE_VERSION,
            relay: env!("CARGO_PKG_VERSION").to_owned(),
            at: self.out.clock.now(),
            domain: report.domain.to_string(),
            verdict: report.headline(Color::Plain),
            dns: answers.iter().map(|(answer, _)| answer.clone()).collect(),
            unproven: inside
                .iter()
                .map(|(name, record_type)| {
                    format!("{name} {record_type}: in a private zone, where nothing is validated")
                })
                .chain(missing(&questions, &answers))
                .collect(),
            servers: Vec::new(),
            evidence: report.evidence.clone(),
        };
        let mut servers = Vec::new();
        for chain in report.chains.iter().take(MOST_SERVERS) {
            let server = self.server(report, chain).await;
            let tlsa = answers.iter().find(|(answer, _)| {
                Some(&answer.name) == server.tlsa.as_ref()
                    && answer.record_type == "TLSA"
                    && answer.security == "secure"
            });
            let dane = tlsa.and_then(|(_, validated)| judged(&bundle, &server, validated).ok());
            let tlsa = server.tlsa.clone().filter(|_| dane.is_some());
            servers.push(BundledServer { tlsa, dane, ..server });
        }
        Bundle { servers, ..bundle }
    }

    /// When the signatures end that mail to the domain rests on.
    pub async fn signatures(&self, report: &CheckReport) -> Vec<SignatureEnd> {
        let questions = stream::iter(self.questions(report));
        let asked = questions.map(|(name, record_type)| async move { self.out.dns.prove(&name, record_type).await });
        let proofs: Vec<_> = asked.buffered(SIDE_BY_SIDE).filter_map(async |proof| proof).collect().await;
        let mut ends: Vec<SignatureEnd> = proofs.iter().flat_map(DnsProof::signatures).collect();
        ends.sort_by(|a, b| (a.ends, &a.name, &a.record_type).cmp(&(b.ends, &b.name, &b.record_type)));
        ends.dedup();
        ends
    }

    /// The trust anchors in use.
    #[must_use]
    pub fn anchors(&self) -> &Anchors {
        self.out.dns.anchors()
    }

    /// The look-ups that mail to the domain takes, and the one that had no answer.
    fn questions(&self, report: &CheckReport) -> Vec<(Name, RecordType)> {
        let mut names = vec![(report.domain.to_string(), RecordType::MX)];
        for host in report.hosts.iter().take(MOST_HOSTS) {
            names.extend([RecordType::A, RecordType::AAAA].map(|record_type| (host.name.clone(), record_type)));
            names.push((self.tlsa_owner(host), RecordType::TLSA));
        }
        if let Some(subject) = &report.evidence.subject
            && let Ok(record_type) = subject.record_type.parse()
        {
            names.push((subject.name.clone(), record_type));
        }
        let mut questions: Vec<(Name, RecordType)> = Vec::new();
        for (name, record_type) in names {
            let Ok(name) = Name::from_ascii(format!("{}.", name.trim_end_matches('.'))) else { continue };
            if !questions.contains(&(name.clone(), record_type)) {
                questions.push((name, record_type));
            }
        }
        questions
    }

    fn tlsa_owner(&self, host: &HostReport) -> String {
        let base = host.tlsa_base_domain.as_deref().unwrap_or(&host.name);
        format!("_{}._tcp.{base}", self.out.config.delivery.port)
    }

    async fn answer(&self, name: Name, record_type: RecordType) -> Option<(BundledAnswer, Validated)> {
        let proof = self.out.dns.prove(&name, record_type).await?;
        // What cannot be validated from its octets alone is not worth handing over.
        let validated = proof.validate(self.anchors()).ok()?;
        Some((bundled(&name, record_type, proof, &validated), validated))
    }

    async fn server(&self, report: &CheckReport, chain: &ShownChain) -> BundledServer {
        let host = report.hosts.iter().find(|host| host.name == chain.host);
        let said = match chain.address.parse::<SocketAddr>() {
            Ok(address) => smtp::look(&*self.out.network, address, self.out.config.hostname.as_str()).await,
            Err(_no_address) => smtp::SmtpTranscript::default(),
        };
        let certificates = chain.certificates.iter().take(MOST_CERTIFICATES).map(|der| BASE64.encode(der)).collect();
        BundledServer {
            host: chain.host.clone(),
            address: chain.address.clone(),
            at: self.out.clock.now(),
            greeting: said.greeting,
            ehlo: said.ehlo,
            certificates,
            tlsa: host.filter(|host| !host.tlsa.is_empty()).map(|host| format!("{}.", self.tlsa_owner(host))),
            dane: None,
        }
    }
}

/// What was asked for and has no chain of trust.
fn missing<'a>(
    asked: &'a [(Name, RecordType)],
    answers: &'a [(BundledAnswer, Validated)],
) -> impl Iterator<Item = String> + 'a {
    let is_there = |name: &Name, record_type: RecordType| {
        let (name, record_type) = (name.to_ascii(), record_type.to_string());
        answers.iter().any(|(answer, _)| answer.name == name && answer.record_type == record_type)
    };
    let missing = asked.iter().filter(move |(name, record_type)| !is_there(name, *record_type));
    missing.map(|(name, record_type)| format!("{name} {record_type}: no answer with a chain of trust could be had"))
}

fn bundled(name: &Name, record_type: RecordType, proof: DnsProof, validated: &Validated) -> BundledAnswer {
    let message = |message: crate::resolve::proof::ProofMessage| BundledMessage {
        name: message.name.to_ascii(),
        record_type: message.record_type.to_string(),
        at: message.at,
        message: BASE64.encode(&message.octets),
    };
    BundledAnswer {
        name: name.to_ascii(),
        record_type: record_type.to_string(),
        at: proof.at,
        path: proof.path,
        security: validated.security.word().to_owned(),
        reason: validated.reason.as_ref().map(ToString::to_string),
        records: shown(validated),
        messages: proof.messages.into_iter().map(message).collect(),
    }
}
