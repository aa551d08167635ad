//! The rule of the validator (RFC 4035 §5, RFC 4033 §5), over zones of all shapes: whatever is
//! ordered, repeated, added, dropped or changed on the path, what is signed is never insecure or
//! absent; and what was done on one path changes no verdict on another.
//!
//! `DNSSEC_ATTACKS` before the command asks for more attacks than usual.

use super::attacker::{Asked, Attacker, Chance, attacked, older_keys, seen};
use super::shapes::{furnish, questions};
use super::{NOW, Resolver, expect, name, new_world, tlsa, verdict, word};
use dane_relay::clock::Clock;
use dane_relay::config::{Config, TrustAnchorSource};
use dane_relay::lab::dns::plan::{
    Denial, DsOf, DsSpec, EXCESSIVE_ITERATIONS, KeyAlgorithm, KeySpec, OptOut, Role, SigningPlan,
};
use dane_relay::lab::dns::random::RandomWorld;
use dane_relay::lab::dns::world::{AnchorForm, World};
use dane_relay::resolve::dnssec::{Outcome, Validated};
use dane_relay::resolve::driver::Dns;
use dane_relay::resolve::paths::{FetchError, PathName, Source, Transport};
use dane_relay::resolve::{Security, event};
use hickory_proto::dnssec::DigestType;
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Attacks that everybody runs.
const ATTACKS: u64 = 300;
/// The TTL of the lab.
const MINUTE: Duration = Duration::from_secs(60);
/// Attacks on one world: making one costs as much as a few.
const IN_ONE_WORLD: u64 = 30;

fn attacks() -> u64 {
    std::env::var("DNSSEC_ATTACKS").ok().map_or(ATTACKS, |text| text.parse().unwrap())
}

/// Zones with the plans that give an attacker something to work with.
fn plan(chance: &mut Chance) -> SigningPlan {
    let p256 = KeyAlgorithm::EcdsaP256;
    let mut plan = match chance.below(4) {
        0 => SigningPlan::signed(p256),
        1 => SigningPlan::split(p256, KeyAlgorithm::Ed25519),
        2 => SigningPlan::split(p256, p256),
        _ => SigningPlan::split(p256, p256).key(KeySpec::new(KeyAlgorithm::Unknown(253), Role::Combined)),
    };
    for _ in 0..*chance.pick(&[0, 0, 1, 3, 12]) {
        plan = plan.key(KeySpec::new(p256, Role::Standby));
    }
    let useless = [
        DsSpec::new(DsOf::Key(0), DigestType::SHA1),
        DsSpec::new(DsOf::Key(0), DigestType::from(77)),
        DsSpec::new(DsOf::Stranger(KeyAlgorithm::Unknown(253)), DigestType::SHA256),
        DsSpec::new(DsOf::Stranger(KeyAlgorithm::RsaSha1), DigestType::SHA256),
        DsSpec::new(DsOf::Stranger(p256), DigestType::SHA256),
    ];
    let mut ds: Vec<DsSpec> = (0..chance.below(4)).map(|_| *chance.pick(&useless)).collect();
    let good = DsSpec::new(DsOf::Key(0), *chance.pick(&[DigestType::SHA256, DigestType::SHA384]));
    ds.insert(chance.below(ds.len() + 1), good);
    let plan = plan.ds(ds);
    match chance.below(8) {
        0..=2 => plan,
        3 => plan.nsec3(0),
        4 => plan.nsec3(EXCESSIVE_ITERATIONS),
        5 => plan.opt_out(),
        6 => plan.compact(),
        _ => plan.denial(Denial::Nsec3 { salt: vec![1], iterations: 2, opt_out: OptOut::No }),
    }
}

/// One time of three a world that nobody thought of.
fn shape(seed: u64) -> (World, Vec<(String, RecordType)>) {
    if seed.is_multiple_of(3) {
        let random = RandomWorld::new(seed, Clock::manual(NOW)).unwrap();
        return (random.world, random.questions);
    }
    let world = new_world();
    world.add_zone("shape.test", plan(&mut Chance(seed))).unwrap();
    furnish(&world, "shape.test");
    (world, questions("shape.test"))
}

/// An answer as it can be compared: what is said, however it is ordered.
fn said(verdict: &Validated) -> String {
    let text = |records: &[String]| {
        let mut records = records.to_vec();
        records.sort();
        records.join(", ").to_lowercase()
    };
    let aliases = |aliases: &[dane_relay::resolve::dnssec::Alias]| {
        aliases.iter().map(|a| format!("{} {} {}; ", a.from, a.to, a.security.word())).collect::<String>()
    };
    let what = match &verdict.outcome {
        Outcome::Found { records, name, aliases: way } => {
            let data: Vec<String> = records.iter().map(|r| format!("{:?}", r.data)).collect();
            format!("{}{name}: {}", aliases(way), text(&data))
        }
        Outcome::NoData { aliases: way } => format!("{}no data", aliases(way)),
        Outcome::NxDomain { aliases: way } => format!("{}no name", aliases(way)),
        Outcome::ErrorCode(code) => code.to_str().to_owned(),
    };
    format!("{} {what}", verdict.security.word()).to_lowercase()
}

/// The zones on the way, with all their keys.
fn zones(verdict: &Validated) -> BTreeMap<String, String> {
    let keys = |detail: &str| {
        let mut words: Vec<&str> = detail.split(' ').collect();
        words.sort_unstable();
        words.join(" ")
    };
    verdict.chain.iter().map(|link| (link.zone.to_ascii().to_lowercase(), keys(&link.detail))).collect()
}

/// The truth, or no answer: nothing else may come of what is signed.
fn holds(truth: &Validated, found: &Validated) -> Result<(), String> {
    if truth.security != Security::Secure {
        return Ok(());
    }
    match found.security {
        Security::Bogus | Security::Indeterminate => Ok(()),
        Security::Insecure => Err(format!("insecure: {:?}", found.reason)),
        // The lab signs with a TTL of a minute: whatever stands in the message, nothing lives longer.
        Security::Secure if found.valid_until > NOW.plus(MINUTE) => Err(format!("kept to {:?}", found.valid_until)),
        Security::Secure => {
            let known = zones(truth);
            let other = zones(found).into_iter().find(|(zone, keys)| known.get(zone).is_some_and(|k| k != keys));
            match other {
                Some((zone, keys)) => Err(format!("{zone} has {keys} and not {}", known[&zone])),
                None if said(truth) == said(found) => Ok(()),
                None => Err(format!("the truth: {}; found: {}", said(truth), said(found))),
            }
        }
    }
}

#[test]
fn rfc4035_5_nothing_done_on_the_path_makes_signed_data_insecure_or_absent() {
    let (mut fooled, mut survived, mut stopped) = (Vec::new(), 0_u64, 0_u64);
    for seed in 0..attacks().div_ceil(IN_ONE_WORLD) {
        let (world, questions) = shape(seed);
        let truths: Vec<Validated> = questions.iter().map(|(q, t)| verdict(&world, q, *t)).collect();
        let messages = seen(&world, &questions);
        for attack in 0..IN_ONE_WORLD {
            let attacker = Attacker::new(&messages, seed * 1_000_003 + attack);
            let mut chance = Chance(attack ^ seed << 32);
            let (target, other) = (chance.below(questions.len()), chance.below(questions.len()));
            let mut resolver = Resolver::new(&world);
            if chance.below(2) == 0 {
                resolver.verdict(&questions[other].0, questions[other].1);
            }
            let known = resolver.zones.len();
            let found = attacked(&mut resolver, &attacker, &questions[target].0, questions[target].1);
            let failed = matches!(found.security, Security::Bogus | Security::Indeterminate);
            if failed {
                stopped += 1
            } else {
                survived += 1
            }
            let mut faults = Vec::new();
            faults.extend(holds(&truths[target], &found).err());
            if failed && resolver.zones.len() != known {
                faults.push("a failure left something behind".into());
            }
            // The same zones, another path: it says the truth, whatever was said before.
            for honest in [target, other] {
                let (question, rtype) = &questions[honest];
                let again = resolver.verdict(question, *rtype);
                if said(&again) != said(&truths[honest]) {
                    let why = again.reason.as_ref().map(ToString::to_string).unwrap_or_default();
                    let was = said(&truths[honest]);
                    faults.push(format!("afterwards {question} {rtype}: {} and not {was}: {why}", said(&again)));
                }
            }
            let (question, rtype) = &questions[target];
            let did = attacker.log.borrow().join("\n    ");
            fooled.extend(
                faults.iter().map(|f| format!("seed {seed}, attack {attack}: {question} {rtype}: {f}\n    {did}")),
            );
        }
    }
    assert!(fooled.is_empty(), "{} times:\n{}", fooled.len(), fooled[..fooled.len().min(5)].join("\n"));
    assert!(survived * 10 > stopped && stopped * 10 > survived, "{survived} against {stopped}: too one-sided");
}

/// One path of a look-up; the attacker sits on it, or nobody.
struct AttackedPath {
    world: Arc<World>,
    attacker: Option<Mutex<Attacker>>,
    question: (String, RecordType),
}

#[async_trait::async_trait]
impl Source for AttackedPath {
    async fn fetch(&self, name: &Name, rtype: RecordType) -> Result<Message, FetchError> {
        let text = name.to_ascii();
        let mut message = self.world.message(&text, rtype).unwrap();
        if let Some(attacker) = &self.attacker {
            let question = Asked { name: &self.question.0, rtype: self.question.1 };
            let asked = Asked { name: text.trim_end_matches('.'), rtype };
            attacker.lock().unwrap().touch(question, asked, &mut message);
        }
        Ok(Message::from_vec(&message.to_vec().unwrap()).unwrap())
    }
}

/// With one honest path beside the attacker's, every look-up has the true answer.
#[tokio::test]
async fn rfc7672_2_1_one_honest_path_is_enough() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for seed in 0..(attacks() / 4).div_ceil(IN_ONE_WORLD) {
        let (world, questions) = shape(seed);
        let world = Arc::new(world);
        file.as_file().set_len(0).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file.write_all(world.trust_anchor(AnchorForm::Ds).unwrap().as_bytes()).unwrap();
        let messages = seen(&world, &questions);
        for attack in 0..IN_ONE_WORLD {
            let mut chance = Chance(attack ^ seed << 32);
            let (question, rtype) = chance.pick(&questions).clone();
            let truth = verdict(&world, &question, rtype);
            if !matches!(truth.security, Security::Secure) {
                continue;
            }
            let attacker = Attacker::new(&messages, seed * 1_000_003 + attack);
            let source = |attacker: Option<Attacker>| -> Arc<dyn Source> {
                let question = (question.clone(), rtype);
                Arc::new(AttackedPath { world: Arc::clone(&world), attacker: attacker.map(Mutex::new), question })
            };
            let path = |name: &str| PathName { upstream: name.into(), transport: Transport::Udp };
            let sources = vec![(path("attacked"), source(Some(attacker))), (path("honest"), source(None))];
            let mut config = Config::default();
            config.dns.trust_anchors = TrustAnchorSource::File(file.path().to_owned());
            let dns = Dns::over(&config, sources, Clock::manual(NOW), event::nobody()).unwrap();
            for (asked, of) in [(question.clone(), rtype), chance.pick(&questions).clone()] {
                let truth = verdict(&world, &asked, of);
                let found = dns.find(&name(&asked), of).await;
                let found = found.result.as_ref().ok().filter(|_| truth.security == Security::Secure).map(said);
                let expected = (truth.security == Security::Secure).then(|| said(&truth));
                assert_eq!(found, expected, "seed {seed}, attack {attack}: {asked} {of}");
            }
        }
    }
}

/// The published attack: a DS record of no use, repeated in front of the one that counts. It made
/// the zone insecure, and the verdict stayed in the zone cache for honest paths.
#[test]
fn rfc4035_5_2_a_useless_ds_record_in_front_of_the_good_one_changes_nothing() {
    for useless in [
        DsSpec::new(DsOf::Key(0), DigestType::SHA1),
        DsSpec::new(DsOf::Key(0), DigestType::from(77)),
        DsSpec::new(DsOf::Stranger(KeyAlgorithm::Unknown(253)), DigestType::SHA256),
    ] {
        let world = new_world();
        let good = DsSpec::new(DsOf::Key(0), DigestType::SHA256);
        world.add_zone("bank.test", SigningPlan::signed(KeyAlgorithm::EcdsaP256).ds([useless, good])).unwrap();
        world.add("bank.test", tlsa(1)).unwrap();
        let mut resolver = Resolver::new(&world);
        let forged = resolver.verdict_by("bank.test", RecordType::TLSA, |_, rtype, message| {
            if rtype == RecordType::DS
                && let Some(first) = message.answers.iter().find(|r| r.record_type() == RecordType::DS).cloned()
            {
                message.answers.splice(0..0, std::iter::repeat_n(first, 40));
            }
        });
        expect(&forged, "secure found 1");
        expect(&resolver.verdict("bank.test", RecordType::TLSA), "secure found 1");
    }
}

/// A key set is read whole, however often one of its keys stands in front; what another path got
/// to see of it is no reason for bogus.
#[test]
fn rfc4035_5_3_1_what_one_path_was_shown_of_the_keys_makes_nothing_bogus_on_another() {
    let world = new_world();
    world.add_zone("bank.test", SigningPlan::split(KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP256)).unwrap();
    world.add("bank.test", tlsa(1)).unwrap();
    let keys = world.message("bank.test", RecordType::DNSKEY).unwrap().answers;
    let entry = keys.iter().find_map(|r| {
        let RData::DNSSEC(DNSSECRData::DNSKEY(key)) = &r.data else { return None };
        key.secure_entry_point().then(|| key.calculate_key_tag().ok())?
    });
    let mut resolver = Resolver::new(&world);
    // The key set of last week, signed by the key-signing key: a truth, but an older one.
    let replayed = resolver.verdict_by("bank.test", RecordType::DNSKEY, |asked, rtype, message| {
        if asked == "bank.test" && rtype == RecordType::DNSKEY {
            message.answers = older_keys(&world, "bank.test", &[entry.unwrap()]);
        }
    });
    expect(&replayed, "secure found 1");
    expect(&resolver.verdict("bank.test", RecordType::TLSA), "secure found 1");
    assert_eq!(word(&resolver.verdict("bank.test", RecordType::DNSKEY)), "secure found 2");
}

/// One signed record of a zone with many iterations proves nothing about a name that is there.
#[test]
fn rfc9276_3_2_many_iterations_make_no_signed_name_insecure() {
    let world = new_world();
    world.add_zone("bank.test", SigningPlan::signed(KeyAlgorithm::EcdsaP256).nsec3(EXCESSIVE_ITERATIONS)).unwrap();
    world.add("_25._tcp.mail.bank.test", tlsa(1)).unwrap();
    world.add_zone("sub.bank.test", KeyAlgorithm::EcdsaP256).unwrap();
    world.add("sub.bank.test", tlsa(1)).unwrap();
    let proof = world.message("absent.bank.test", RecordType::TLSA).unwrap();
    for (question, rtype) in [("_25._tcp.mail.bank.test", RecordType::TLSA), ("sub.bank.test", RecordType::DS)] {
        for code in [proof.metadata.response_code, ResponseCode::NoError] {
            let asked = if rtype == RecordType::DS { "sub.bank.test" } else { question };
            let mut resolver = Resolver::new(&world);
            let fooled = resolver.verdict_by(asked, RecordType::TLSA, |at, of, message| {
                if (at, of) == (question, rtype) {
                    message.answers.clear();
                    message.authorities = proof.authorities.clone();
                    message.metadata.response_code = code;
                }
            });
            assert_eq!(word(&fooled), "bogus", "{question} {rtype}");
            // Nor is a name in the zone unsigned because the zone's proof about its DS is costly.
            let stripped = resolver.verdict_by("_25._tcp.mail.bank.test", RecordType::TLSA, |_, of, message| {
                if of == RecordType::TLSA {
                    message.answers.retain(|r| r.record_type() != RecordType::RRSIG);
                }
            });
            assert_eq!(word(&stripped), "bogus");
        }
    }
}

/// A TTL that is raised on the way makes no proof about a zone live longer than its owner signed.
#[test]
fn rfc4035_5_3_3_the_ttl_of_a_proof_is_the_signed_one() {
    let world = new_world();
    world.add_zone("bank.test", KeyAlgorithm::EcdsaP256).unwrap();
    world.add_zone("plain.test", SigningPlan::unsigned()).unwrap();
    let raise = |_: &str, _: RecordType, message: &mut Message| {
        message.answers.iter_mut().chain(&mut message.authorities).for_each(|r| r.ttl = 604_800);
    };
    for question in ["bank.test", "plain.test"] {
        let mut resolver = Resolver::new(&world);
        let first = resolver.verdict_by(question, RecordType::SOA, raise);
        assert!(first.valid_until <= NOW.plus(MINUTE), "{question}: {first:?}");
        let asked = std::mem::take(&mut resolver.asked);
        resolver.now = NOW.plus(MINUTE);
        resolver.verdict(question, RecordType::SOA);
        assert_eq!(resolver.asked, asked, "{question}");
    }
}

/// A resolver that says SERVFAIL once, to the question about the cut.
struct Faltering {
    world: World,
    failed: AtomicBool,
}

#[async_trait::async_trait]
impl Source for Faltering {
    async fn fetch(&self, asked: &Name, rtype: RecordType) -> Result<Message, FetchError> {
        if *asked == name("plain.test") && rtype == RecordType::DS && !self.failed.swap(true, Ordering::SeqCst) {
            return Err(FetchError::Code(ResponseCode::ServFail));
        }
        Ok(self.world.message(&asked.to_ascii(), rtype).unwrap())
    }
}

#[tokio::test]
async fn rfc4035_4_3_one_servfail_about_a_cut_does_not_stop_mail_to_an_unsigned_zone() {
    let world = new_world();
    world.add_zone("plain.test", SigningPlan::unsigned()).unwrap();
    world.add("plain.test", super::a_record()).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(world.trust_anchor(AnchorForm::Ds).unwrap().as_bytes()).unwrap();
    let mut config = Config::default();
    config.dns.trust_anchors = TrustAnchorSource::File(file.path().to_owned());
    let path = PathName { upstream: "the only one".into(), transport: Transport::Udp };
    let source: Arc<dyn Source> = Arc::new(Faltering { world, failed: AtomicBool::new(false) });
    let dns = Dns::over(&config, vec![(path, source)], Clock::manual(NOW), event::nobody()).unwrap();
    let found = dns.find(&name("plain.test"), RecordType::A).await;
    expect(found.result.as_ref().unwrap(), "insecure found 1");
}
