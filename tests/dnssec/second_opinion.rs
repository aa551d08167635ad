//! A second opinion: the validator of NLnet Labs' `domain` judges the messages of random worlds
//! as well (RFC 4035 §5, RFC 5155 §8).
//!
//! Where the two differ, [`DIFFERENCES`] says why, and who is right by the standard; any other
//! difference is a fault, and so is a line of the table that explains nothing any more. Both get
//! their answers from the lab's zones in memory.

use super::{Resolver, name};
use bytes::Bytes;
use dane_relay::clock::Clock;
use dane_relay::lab::dns::random::RandomWorld;
use dane_relay::lab::dns::world::{AnchorForm, World};
use dane_relay::resolve::Security;
use domain::base::message::Message as TheirMessage;
use domain::dnssec::validator::anchor::TrustAnchors;
use domain::dnssec::validator::context::{Config, ValidationContext, ValidationState};
use domain::net::client::request::{ComposeRequest, Error, GetResponse, RequestMessage, SendRequest};
use hickory_proto::dnssec::PublicKey as _;
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::collections::BTreeSet;
use std::future::{Future, ready};
use std::pin::Pin;

/// Worlds to validate: enough for each shape of zone to meet each shape of question.
const SEEDS: u64 = 40;
/// Signatures that fit no key which their validator tries for one set: its greatest. The usual
/// one is too few for a key set in which tags collide.
const BAD_SIGNATURES: u8 = 8;

/// A message on which the two do not agree.
struct Case<'a> {
    message: &'a Message,
    question: Name,
    rtype: RecordType,
    /// Algorithms of the keys of all zones that the message is about, and of those above.
    algorithms: BTreeSet<u8>,
}

/// Why the two may differ.
struct Difference {
    ours: &'static [Security],
    theirs: ValidationState,
    when: fn(&Case<'_>) -> bool,
}

const DIFFERENCES: [Difference; 4] = [
    // They know no algorithms 14 and 15, and zones with them are insecure to them, sound or not
    // (RFC 4035 §5.2). Each is right for what it knows; ours knows more.
    Difference {
        ours: &[Security::Secure, Security::Bogus],
        theirs: ValidationState::Insecure,
        when: |case| case.algorithms.contains(&14) || case.algorithms.contains(&15),
    },
    // The alias at a wildcard, asked for by the wildcard's own name. They want proof that the name
    // does not exist, as if the record had been expanded. Ours is right: the `*` does not count as
    // a label (RFC 4034 §3.1.3), so nothing was expanded (RFC 4035 §5.3.4). For records that are
    // no alias they make the same exception.
    Difference {
        ours: &[Security::Secure, Security::Insecure],
        theirs: ValidationState::Bogus,
        when: |case| {
            let alias = |name: &Name| {
                case.message.answers.iter().any(|r| r.name == *name && r.record_type() == RecordType::CNAME)
            };
            case.question.is_wildcard() && alias(&case.question) && case.rtype != RecordType::CNAME
        },
    },
    // A CNAME record below a DNAME, asked for by that type. The lab takes the one that the DNAME
    // stands for as the answer, they follow it (RFC 6672 §3.2) and find no end. They are right
    // about the message; but nothing in an insecure zone can be bogus (RFC 4035 §4.3).
    Difference {
        ours: &[Security::Insecure],
        theirs: ValidationState::Bogus,
        when: |case| {
            let dname = case.message.answers.iter().any(|r| r.record_type() == RecordType::DNAME);
            case.rtype == RecordType::CNAME && dname
        },
    },
    // Aliases in a ring: the lab gives up, and there is no answer to validate. Ours is right, bogus is
    // said of data (RFC 4035 §4.3); they do not look at the code.
    Difference {
        ours: &[Security::Indeterminate],
        theirs: ValidationState::Bogus,
        when: |case| case.message.metadata.response_code == ResponseCode::ServFail,
    },
];

#[test]
fn rfc4035_5_another_validator_comes_to_the_same_verdicts() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut agreed, mut explained) = ([0; 3], [0; DIFFERENCES.len()]);
    for seed in 0..SEEDS {
        // They read the machine's clock, so the signatures are dated by it.
        let RandomWorld { world, questions } = RandomWorld::new(seed, Clock::system()).unwrap();
        let second = second(&world);
        let mut resolver = Resolver::new(&world);
        resolver.now = world.now();
        for (question, rtype) in questions {
            let message = world.message(&question, rtype).unwrap();
            let ours = resolver.verdict(&question, rtype);
            let mut given = given(&message);
            let (theirs, why) = runtime.block_on(second.validate_msg::<_, Vec<u8>>(&mut given)).unwrap();
            let same = [
                (Security::Secure, ValidationState::Secure),
                (Security::Insecure, ValidationState::Insecure),
                (Security::Bogus, ValidationState::Bogus),
            ];
            if let Some(place) = same.iter().position(|same| *same == (ours.security, theirs)) {
                agreed[place] += 1;
                continue;
            }
            let algorithms = algorithms(&world, &message);
            let case = Case { message: &message, question: name(&question), rtype, algorithms };
            let explains = |known: &Difference| {
                known.ours.contains(&ours.security) && known.theirs == theirs && (known.when)(&case)
            };
            let place = DIFFERENCES.iter().position(explains);
            let place = place.unwrap_or_else(|| {
                let reason = ours.reason.as_ref().map(ToString::to_string).unwrap_or_default();
                panic!(
                    "seed {seed}: {question} {rtype}: {:?} {reason}; they: {theirs:?} {why:?}\n{message}",
                    ours.security
                )
            });
            explained[place] += 1;
        }
    }
    assert!(agreed[0] > 1000 && agreed[1] > 1000 && agreed[2] > 100, "compared too little: {agreed:?}");
    assert!(explained.iter().all(|&count| count > 0), "a line explains nothing: {explained:?}");
}

fn second(world: &World) -> ValidationContext<Upstream<'_>> {
    let anchor = world.trust_anchor(AnchorForm::DnsKey).unwrap();
    let mut config = Config::new();
    config.set_bad_signatures(BAD_SIGNATURES);
    ValidationContext::with_config(TrustAnchors::from_u8(anchor.as_bytes()).unwrap(), Upstream(world), config)
}

fn algorithms(world: &World, message: &Message) -> BTreeSet<u8> {
    let owners = message.answers.iter().chain(&message.authorities).map(|r| &r.name);
    let names: Vec<&Name> = owners.chain(message.queries.iter().map(|q| q.name())).collect();
    let zones = world.origins().into_iter().filter(|zone| names.iter().any(|name| zone.zone_of(name)));
    let keys = zones.flat_map(|zone| world.message(&zone.to_ascii(), RecordType::DNSKEY).unwrap().answers);
    let algorithm = |data: RData| {
        let RData::DNSSEC(DNSSECRData::DNSKEY(key)) = data else { return None };
        Some(u8::from(key.public_key().algorithm()))
    };
    keys.filter_map(|key| algorithm(key.data)).collect()
}

/// The lab's answers, as their validator asks for them.
struct Upstream<'a>(&'a World);

impl SendRequest<RequestMessage<Vec<u8>>> for Upstream<'_> {
    fn send_request(&self, request: RequestMessage<Vec<u8>>) -> Box<dyn GetResponse + Send + Sync> {
        let asked = Message::from_vec(&request.to_vec().unwrap()).unwrap();
        let question = asked.queries.first().unwrap();
        let message = self.0.message(&question.name().to_ascii(), question.query_type()).unwrap();
        Box::new(Reply(given(&message)))
    }
}

/// What came, at once.
#[derive(Debug)]
struct Reply(TheirMessage<Bytes>);

impl GetResponse for Reply {
    fn get_response(&mut self) -> Pin<Box<dyn Future<Output = Result<TheirMessage<Bytes>, Error>> + Send + Sync + '_>> {
        Box::pin(ready(Ok(self.0.clone())))
    }
}

fn given(message: &Message) -> TheirMessage<Bytes> {
    TheirMessage::from_octets(Bytes::from(message.to_vec().unwrap())).unwrap()
}
