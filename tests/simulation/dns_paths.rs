//! The paths to the lab's DNS, without a network: some are honest, others silent, filtered, or lie;
//! and that changes in the middle of a world. What one honest path brings must do.

use crate::random::SeededRandom;
use crate::world::{Size, World};
use async_trait::async_trait;
use dane_relay::clock::Clock;
use dane_relay::lab::Lab;
use dane_relay::resolve::paths::{FetchError, PathName, Source, Transport};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, MX};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

/// The domain to whose host all lies lead.
pub(crate) const TRAP: &str = "trap.test";

/// What a path does to answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathBehaviour {
    Honest,
    Silent,
    ServFail,
    /// Lets no answer about TLSA records through.
    TlsaDropped,
    /// Says that there are no TLSA records.
    TlsaDenied,
    /// Says that no zone is signed.
    DsDenied,
    /// Takes signatures and proofs away.
    Stripped,
    /// Leads mail elsewhere, past what is signed.
    Lies,
}

const PATH_BEHAVIOURS: [PathBehaviour; 8] = [
    PathBehaviour::Honest,
    PathBehaviour::Silent,
    PathBehaviour::ServFail,
    PathBehaviour::TlsaDropped,
    PathBehaviour::TlsaDenied,
    PathBehaviour::DsDenied,
    PathBehaviour::Stripped,
    PathBehaviour::Lies,
];

/// Parts of a world: until what is only at first heals, until some of it breaks again, and the rest.
const PARTS: usize = 3;

/// What all paths are like, now and later.
pub(crate) struct DnsPaths {
    parts: [Vec<PathBehaviour>; PARTS],
    part: usize,
}

impl DnsPaths {
    /// In later parts at least one path is honest, and most often in the first.
    pub(crate) fn new(seed: u64, size: Size) -> Self {
        // Of its own, so that the rest of the world does not depend on it.
        let mut random = SeededRandom::new(seed.wrapping_add(1_000_003));
        let count = if size == Size::Small { 1 } else { 1 + random.size(3) };
        let parts = [0, 1, 2].map(|part| {
            let mut paths: Vec<PathBehaviour> = (0..count).map(|_| *random.pick(&PATH_BEHAVIOURS)).collect();
            let (honest, none) = (random.size(count), random.one_in(6));
            if part > 0 || !none || size == Size::Small {
                paths[honest] = PathBehaviour::Honest;
            }
            paths
        });
        Self { parts, part: 0 }
    }

    /// The next part begins.
    pub(crate) fn change(&mut self) {
        self.part = (self.part + 1).min(PARTS - 1);
    }

    /// Whether at every moment some path is honest.
    pub(crate) fn always_lead_somewhere(&self) -> bool {
        self.parts.iter().all(|paths| paths.contains(&PathBehaviour::Honest))
    }

    fn now(&self, nth: usize) -> PathBehaviour {
        self.parts[self.part][nth]
    }
}

impl World {
    /// The paths to the DNS, for a relay with this clock.
    pub(crate) fn dns_paths(&self, asking: &Clock) -> Vec<(PathName, Arc<dyn Source>)> {
        let count = self.paths.lock().unwrap().parts[0].len();
        let path = |nth: usize| {
            let upstream = format!("udp://192.0.2.{}:53", 53 + nth);
            let names = Names {
                nth,
                paths: Arc::clone(&self.paths),
                lab: Arc::clone(&self.lab),
                signing: self.signing.clone(),
                asking: asking.clone(),
            };
            (PathName { upstream, transport: Transport::Udp }, Arc::new(names) as Arc<dyn Source>)
        };
        (0..count).map(path).collect()
    }
}

/// One path to the lab's DNS.
struct Names {
    nth: usize,
    paths: Arc<Mutex<DnsPaths>>,
    lab: Arc<Lab>,
    /// The time by which the zones are signed, which keeps up with that of whoever asks.
    signing: Clock,
    asking: Clock,
}

#[async_trait]
impl Source for Names {
    async fn fetch(&self, name: &Name, record_type: RecordType) -> Result<Message, FetchError> {
        let (signing, asking) = (self.signing.now(), self.asking.now());
        self.signing.advance(asking.since(signing));
        self.signing.set_back(signing.since(asking));
        let behaviour = self.paths.lock().unwrap().now(self.nth);
        match self.lab.dns().fetch(name, record_type) {
            Ok(Some(message)) => match behind(behaviour, message, record_type, || self.trap()) {
                Some(message) => Ok(message),
                None => std::future::pending().await,
            },
            // Whoever waits is stopped by its deadline.
            Ok(None) => std::future::pending().await,
            Err(error) => Err(FetchError::Broken(error.to_string())),
        }
    }
}

impl Names {
    fn trap(&self) -> Ipv4Addr {
        match self.lab.mx(TRAP).unwrap().address() {
            SocketAddr::V4(address) => *address.ip(),
            SocketAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        }
    }
}

/// What comes through; none when nothing does.
fn behind(
    behaviour: PathBehaviour,
    mut message: Message,
    asked: RecordType,
    trap: impl Fn() -> Ipv4Addr,
) -> Option<Message> {
    let denied = match behaviour {
        PathBehaviour::TlsaDenied => asked == RecordType::TLSA,
        PathBehaviour::DsDenied => asked == RecordType::DS,
        _ => false,
    };
    match behaviour {
        PathBehaviour::Silent => return None,
        PathBehaviour::TlsaDropped if asked == RecordType::TLSA => return None,
        PathBehaviour::ServFail => message.metadata.response_code = ResponseCode::ServFail,
        PathBehaviour::Stripped => return Some(message.maybe_strip_dnssec_records(false)),
        PathBehaviour::Lies if message.answers.iter().any(|record| record.record_type() == RecordType::RRSIG) => {
            message.answers.iter_mut().for_each(|record| *record = lie(record, trap()));
        }
        _ => {}
    }
    if behaviour == PathBehaviour::ServFail || denied {
        message.answers.clear();
        message.authorities.clear();
    }
    Some(message)
}

/// Leads to the trap, whose name and address nobody has signed for this.
fn lie(record: &Record, trap: Ipv4Addr) -> Record {
    let data = match &record.data {
        RData::A(_) => RData::A(A(trap)),
        RData::MX(mx) => RData::MX(MX::new(mx.preference, format!("mx.{TRAP}.").parse().unwrap())),
        _ => return record.clone(),
    };
    Record::from_rdata(record.name.clone(), record.ttl, data)
}
