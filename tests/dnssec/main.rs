//! The validator against the lab's zones, in process and without sockets: truthful answers of
//! every shape, each fault by itself, and an attacker on the path.

#![cfg(test)]

mod attacker;
mod faults;
mod forging;
mod forging_denials;
mod forging_insecure;
mod hostile;
mod on_the_path;
mod second_opinion;
mod shapes;

use dane_relay::clock::{Clock, Timestamp};
use dane_relay::lab::dns::world::{AnchorForm, World};
use dane_relay::resolve::Security;
use dane_relay::resolve::dnssec::{Anchors, Outcome, Step, Validated, Validation, Zones, fuzz};
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::{A, TLSA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::Ipv4Addr;

/// The moment at which the lab stands still: 21 November 2026.
pub(crate) const NOW: Timestamp = Timestamp(1_795_261_468_000);

pub(crate) fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

pub(crate) fn a_record() -> RData {
    RData::A(A(Ipv4Addr::LOCALHOST))
}

pub(crate) fn tlsa(first: u8) -> RData {
    RData::TLSA(TLSA::new(3.into(), 1.into(), 1.into(), vec![first; 32]))
}

pub(crate) fn new_world() -> World {
    World::new(Clock::manual(NOW)).unwrap()
}

pub(crate) fn anchors(world: &World) -> Anchors {
    Anchors::parse(&world.trust_anchor(AnchorForm::Ds).unwrap()).unwrap()
}

/// A validator behind a path that may change what passes.
pub(crate) struct Resolver<'a> {
    pub(crate) world: &'a World,
    pub(crate) now: Timestamp,
    pub(crate) zones: Zones,
    pub(crate) asked: Vec<(Name, RecordType)>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world, now: NOW, zones: Zones::new(1000), asked: Vec::new() }
    }

    pub(crate) fn verdict(&mut self, question: &str, rtype: RecordType) -> Validated {
        self.verdict_by(question, rtype, |_, _, _| {})
    }

    /// The verdict when `tamper` changes messages on the path.
    pub(crate) fn verdict_by(
        &mut self,
        question: &str,
        rtype: RecordType,
        tamper: impl Fn(&str, RecordType, &mut Message),
    ) -> Validated {
        let anchors = anchors(self.world);
        let fetch = |name: &Name, rtype: RecordType| {
            let text = name.to_ascii();
            let mut message = self.world.message(&text, rtype).unwrap();
            tamper(text.trim_end_matches('.'), rtype, &mut message);
            // As it arrives: read from bytes.
            fuzz::read(&message.to_vec().unwrap()).unwrap()
        };
        let question = name(question);
        let mut validation = Validation::begin(&question, rtype, fetch(&question, rtype), self.now);
        for _ in 0..200 {
            match validation.step(&anchors, &self.zones) {
                Step::Done(verdict) => return verdict,
                Step::Ask(name, rtype) => {
                    self.asked.push((name.clone(), rtype));
                    validation.feed(Ok(fetch(&name, rtype)));
                }
            }
        }
        panic!("the validation does not end");
    }
}

pub(crate) fn verdict(world: &World, question: &str, rtype: RecordType) -> Validated {
    Resolver::new(world).verdict(question, rtype)
}

/// `secure found 2`, `insecure nodata`, `bogus` …
pub(crate) fn word(verdict: &Validated) -> String {
    let security = verdict.security.word();
    match &verdict.outcome {
        Outcome::Found { records, .. } => format!("{security} found {}", records.len()),
        Outcome::NoData { .. } => format!("{security} nodata"),
        Outcome::NxDomain { .. } => format!("{security} nxdomain"),
        Outcome::ErrorCode(_) if verdict.security == Security::Bogus => security.into(),
        Outcome::ErrorCode(code) => format!("{security} {code}"),
    }
}

#[track_caller]
pub(crate) fn expect(verdict: &Validated, expected: &str) {
    let why = verdict.reason.as_ref().map(ToString::to_string).unwrap_or_default();
    assert_eq!(word(verdict), expected, "{why}\n{:#?}", verdict.chain);
}

pub(crate) fn of_type(records: &[Record], rtype: RecordType) -> Vec<Record> {
    records.iter().filter(|r| r.record_type() == rtype).cloned().collect()
}
