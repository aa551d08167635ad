//! What an attacker on the path may do to the messages of one path, by chance: repeat, shuffle,
//! add, drop and change records of any section, TTLs and capitals included. He has every message
//! that the zones ever send, and no key.

use super::forging::bank;
use super::{Resolver, name, of_type, tlsa};
use dane_relay::lab::dns::world::World;
use dane_relay::resolve::dnssec::Validated;
use hickory_proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_proto::dnssec::{Algorithm, DigestType, rdata::DS};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::cell::RefCell;

/// How often a record is repeated: around every limit that anybody ever thought of.
const TIMES: [usize; 11] = [1, 2, 3, 6, 12, 16, 17, 32, 41, 64, 250];
/// A message of DNS is not longer.
const MESSAGE_OCTETS: usize = 65_535;

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// All that the attacker has seen, and what he makes of it.
pub(crate) struct Attacker {
    pool: Vec<Record>,
    messages: Vec<Message>,
    chance: RefCell<Chance>,
    /// Which messages he touches.
    aim: Aim,
    /// What he did, for whoever has to understand it.
    pub(crate) log: RefCell<Vec<String>>,
}

#[derive(Clone, Copy, Debug)]
enum Aim {
    Types(&'static [RecordType]),
    Answer,
    All,
}

/// Every message about the questions, and every message of zones that have nothing to do with it.
pub(crate) fn seen(world: &World, questions: &[(String, RecordType)]) -> Vec<Message> {
    let mut messages: Vec<Message> =
        questions.iter().filter_map(|(question, rtype)| world.message(question, *rtype).ok()).collect();
    for zone in world.origins() {
        for rtype in [RecordType::DS, RecordType::DNSKEY, RecordType::SOA] {
            messages.push(world.message(&zone.to_ascii(), rtype).unwrap());
        }
    }
    let foreign = bank();
    for (question, rtype) in [("evil.test", RecordType::DNSKEY), ("_25._tcp.mail.evilplain.test", RecordType::TLSA)] {
        messages.push(foreign.message(question, rtype).unwrap());
    }
    messages
}

/// A question.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    pub(crate) name: &'a str,
    pub(crate) rtype: RecordType,
}

impl Attacker {
    pub(crate) fn new(messages: &[Message], seed: u64) -> Self {
        let mut chance = Chance(seed);
        let aim = match chance.below(8) {
            0 | 1 => Aim::Types(&[RecordType::DS]),
            2 => Aim::Types(&[RecordType::DNSKEY]),
            3 => Aim::Types(&[RecordType::DS, RecordType::DNSKEY]),
            4 | 5 => Aim::Answer,
            _ => Aim::All,
        };
        let all = messages.iter().flat_map(|m| m.answers.iter().chain(&m.authorities));
        Self {
            pool: all.cloned().collect(),
            messages: messages.to_vec(),
            chance: RefCell::new(chance),
            aim,
            log: RefCell::default(),
        }
    }

    /// Changes one message on its way, unless it gets too long to be one.
    pub(crate) fn touch(&self, question: Asked<'_>, asked: Asked<'_>, message: &mut Message) {
        let (name, rtype) = (asked.name, asked.rtype);
        let hits = match self.aim {
            Aim::Types(types) => types.contains(&rtype),
            Aim::Answer => question == asked,
            Aim::All => true,
        };
        let chance = &mut *self.chance.borrow_mut();
        if !hits || chance.below(6) == 0 {
            return;
        }
        let honest = message.clone();
        for _ in 0..=chance.below(3) {
            let did = self.act(chance, name, rtype, message);
            self.log.borrow_mut().push(format!("{name} {rtype}: {did}"));
        }
        if message.to_vec().is_ok_and(|octets| octets.len() <= MESSAGE_OCTETS) {
            return;
        }
        self.log.borrow_mut().push("too long, and sent as it was".into());
        *message = honest;
    }

    fn act(&self, chance: &mut Chance, asked: &str, rtype: RecordType, message: &mut Message) -> String {
        let in_answer = chance.below(4) != 0 && !message.answers.is_empty();
        let deed = chance.below(16);
        let section = if in_answer { &mut message.answers } else { &mut message.authorities };
        match deed {
            0..=3 => repeat(chance, section),
            4 => {
                shuffle(chance, section);
                "shuffled".into()
            }
            5 if !section.is_empty() => {
                let gone = section.remove(chance.below(section.len()));
                format!("dropped {} {}", gone.name, gone.record_type())
            }
            6 if !section.is_empty() => {
                let kind = chance.pick(section).record_type();
                section.retain(|r| r.record_type() != kind);
                format!("dropped all {kind}")
            }
            7 => {
                message.answers.clear();
                if chance.below(2) == 0 {
                    message.authorities.clear();
                }
                "emptied".into()
            }
            8 | 9 => self.add_foreign(chance, asked, section),
            10 => {
                let ttl = *chance.pick(&[0, 1, 59, 604_800, u32::MAX >> 1, u32::MAX]);
                let all = chance.below(3) != 0;
                for record in message.answers.iter_mut().chain(&mut message.authorities) {
                    if all || chance.below(2) == 0 {
                        record.ttl = ttl;
                    }
                }
                format!("TTL {ttl}")
            }
            11 => {
                section.iter_mut().for_each(|r| capitals(chance, r));
                "capitals".into()
            }
            12 => {
                std::mem::swap(&mut message.answers, &mut message.authorities);
                "swapped the sections".into()
            }
            13 => {
                let code = *chance.pick(&[ResponseCode::NoError, ResponseCode::NXDomain, ResponseCode::ServFail]);
                message.metadata.response_code = code;
                message.metadata.truncation = chance.below(8) == 0;
                code.to_str().into()
            }
            14 => self.stand_in(chance, asked, message),
            _ => forge(chance, asked, rtype, message),
        }
    }

    fn add_foreign(&self, chance: &mut Chance, asked: &str, section: &mut Vec<Record>) -> String {
        let many = *chance.pick(&TIMES);
        let rename = chance.below(3) == 0;
        for _ in 0..many.min(64) {
            let mut record = chance.pick(&self.pool).clone();
            if rename {
                record.name = name(asked);
            }
            section.insert(chance.below(section.len() + 1), record);
        }
        format!("added {many} records, renamed {rename}")
    }

    /// The records of another message, as they are or under the name that was asked for.
    fn stand_in(&self, chance: &mut Chance, asked: &str, message: &mut Message) -> String {
        let other = chance.pick(&self.messages);
        let keep = chance.below(2) == 0;
        if !keep {
            message.answers.clear();
            message.authorities.clear();
            message.metadata.response_code = other.metadata.response_code;
        }
        let rename = chance.below(3) == 0;
        let renamed = |records: &[Record]| -> Vec<Record> {
            let as_asked = |mut r: Record| {
                if rename {
                    r.name = name(asked);
                }
                r
            };
            records.iter().cloned().map(as_asked).collect()
        };
        message.answers.extend(renamed(&other.answers));
        message.authorities.extend(other.authorities.iter().cloned());
        let of = other.queries.first().map(|q| format!("{} {}", q.name(), q.query_type())).unwrap_or_default();
        format!("the message of {of} instead, beside it: {keep}, renamed: {rename}")
    }
}

fn repeat(chance: &mut Chance, section: &mut Vec<Record>) -> String {
    if section.is_empty() {
        return "nothing to repeat".into();
    }
    let times = *chance.pick(&TIMES);
    let record = chance.pick(section).clone();
    let place = chance.below(3);
    for _ in 0..times {
        let at = [0, section.len(), chance.below(section.len())][place];
        section.insert(at, record.clone());
    }
    format!("repeated {times} times at place {place}: {} {}", record.name, record.record_type())
}

fn shuffle(chance: &mut Chance, section: &mut [Record]) {
    for at in (1..section.len()).rev() {
        section.swap(at, chance.below(at + 1));
    }
}

fn mixed(chance: &mut Chance, of: &Name) -> Name {
    let upper = |c: char| if chance.below(2) == 0 { c.to_ascii_uppercase() } else { c };
    let text: String = of.to_ascii().chars().map(upper).collect();
    Name::from_ascii(text).unwrap()
}

/// Capitals in the owner, or in the names of the data.
#[expect(clippy::wildcard_enum_match_arm, reason = "there are no names in most kinds of data")]
fn capitals(chance: &mut Chance, record: &mut Record) {
    if chance.below(2) == 0 {
        record.name = mixed(chance, &record.name);
        return;
    }
    match &mut record.data {
        RData::MX(mx) => mx.exchange = mixed(chance, &mx.exchange),
        RData::CNAME(target) => target.0 = mixed(chance, &target.0),
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => {
            let mut input = rrsig.input().clone();
            input.signer_name = mixed(chance, &input.signer_name);
            record.data = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, rrsig.sig().to_vec())));
        }
        _ => {}
    }
}

/// What nobody signed: records, DS records of no use, or a signature that says something else.
fn forge(chance: &mut Chance, asked: &str, rtype: RecordType, message: &mut Message) -> String {
    match chance.below(4) {
        3 => {
            let many = *chance.pick(&[7, 60, 250]);
            let flood: Vec<Record> =
                message.answers.iter().filter_map(|r| broken(r, many)).flatten().take(550).collect();
            message.answers.splice(0..0, flood);
            format!("{many} broken signatures for each")
        }
        0 => {
            message.answers = vec![Record::from_rdata(name(asked), 3600, tlsa(66))];
            "an unsigned answer".into()
        }
        1 => {
            let (algorithm, digest) = *chance.pick(&[
                (Algorithm::Unknown(253), DigestType::SHA256),
                (Algorithm::ECDSAP256SHA256, DigestType::SHA1),
                (Algorithm::ECDSAP256SHA256, DigestType::from(77)),
            ]);
            let ds = DS::new(7, algorithm, digest, vec![7; 20]);
            let ds = Record::from_rdata(name(asked), 3600, RData::DNSSEC(DNSSECRData::DS(ds)));
            (0..*chance.pick(&TIMES)).for_each(|_| message.answers.insert(0, ds.clone()));
            "unsigned DS records of no use".into()
        }
        _ => {
            let change = chance.below(6);
            let value = chance.below(256);
            for record in message.answers.iter_mut().chain(&mut message.authorities) {
                let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &record.data else { continue };
                let mut input = rrsig.input().clone();
                match change {
                    0 => input.num_labels = u8::try_from(value % 8).unwrap(),
                    1 => input.original_ttl = u32::MAX,
                    2 => input.algorithm = Algorithm::from_u8(u8::try_from(value).unwrap()),
                    3 => input.key_tag = u16::try_from(value).unwrap(),
                    4 => input.type_covered = rtype,
                    _ => input.signer_name = input.signer_name.base_name(),
                }
                record.data = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, rrsig.sig().to_vec())));
            }
            format!("signatures changed, kind {change}")
        }
    }
}

/// Signatures that say they are of a key of the zone, and are not; none for another record.
pub(crate) fn broken(record: &Record, many: u8) -> Option<Vec<Record>> {
    let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &record.data else { return None };
    let one = |nth: u8| {
        let mut sig = rrsig.sig().to_vec();
        sig[1] ^= 1;
        sig[0] = nth;
        let data = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(rrsig.input().clone(), sig)));
        Record::from_rdata(record.name.clone(), record.ttl, data)
    };
    Some((0..many).map(one).collect())
}

/// A key set as it was before a key was added, signed by a key that was there already.
pub(crate) fn older_keys(world: &World, zone: &str, kept: &[u16]) -> Vec<Record> {
    let keys = of_type(&world.message(zone, RecordType::DNSKEY).unwrap().answers, RecordType::DNSKEY);
    let is_kept = |r: &Record| {
        let RData::DNSSEC(DNSSECRData::DNSKEY(key)) = &r.data else { return false };
        kept.contains(&key.calculate_key_tag().unwrap())
    };
    let data = keys.into_iter().filter(is_kept).map(|r| r.data).collect();
    let set = dane_relay::lab::dns::rrset::ZoneRrSet { owner: name(zone), rtype: RecordType::DNSKEY, ttl_s: 60, data };
    world.signed(zone, &set, None).unwrap()
}

/// One question under attack.
pub(crate) fn attacked(
    resolver: &mut Resolver<'_>,
    attacker: &Attacker,
    question: &str,
    rtype: RecordType,
) -> Validated {
    let whole = Asked { name: question, rtype };
    resolver.verdict_by(question, rtype, |name, rtype, message| attacker.touch(whole, Asked { name, rtype }, message))
}
