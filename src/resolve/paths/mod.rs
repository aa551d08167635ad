//! The ways to the DNS: each carries one question to somebody who may know the answer.
//!
//! This page holds their names, what can go wrong on them, and the rule which is asked first.
//! An answer that is validated proves itself, so any path may bring it (RFC 4035 §5); a path
//! without a usable answer is only that path's failure (RFC 7672 §2.1).

mod asking;
pub(crate) mod carried;
pub(super) mod channel;
mod exchange;
pub(super) mod health;
pub(super) mod present;
mod referral;
mod scoped;
mod servers;
pub(super) mod setup;
pub mod standing;
mod system;
mod tolerant;
pub(super) mod walk;

use crate::clock::Timestamp;
use crate::outcome::PathFailure;
use async_trait::async_trait;
use carried::{Carried, TypeCarried};
use channel::{Channel, Flags};
use health::Health;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use standing::PathStanding;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use walk::Walk;

/// How a path speaks to its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP, with TCP for what is truncated.
    Udp,
    /// TCP.
    Tcp,
    /// TLS.
    Tls,
    /// HTTPS.
    Https,
    /// The authoritative servers, over UDP and TCP.
    Walk,
}

impl Transport {
    /// The word for metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::Walk => "authoritative",
        }
    }
}

/// A path as logs, metrics and reports name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathName {
    /// The upstream in the words of the configuration; a server of `system` is named with it.
    pub upstream: String,
    /// How it is spoken to.
    pub transport: Transport,
}

/// `udp://192.0.2.1:53`, and `udp://192.0.2.1:53 over TCP` for its second try.
impl fmt::Display for PathName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.upstream)?;
        if self.transport == Transport::Tcp && self.upstream.contains("udp://") {
            f.write_str(" over TCP")
        } else {
            Ok(())
        }
    }
}

/// Why a path gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// Silence.
    TimedOut,
    /// The server says that it failed, or will not.
    Code(ResponseCode),
    /// The answer is too long for UDP, and over TCP it does not come.
    Truncated(Box<Self>),
    /// The server takes signatures and proofs away.
    Stripped,
    /// The answer is not what its zone has signed.
    Bogus(String),
    /// A part of the chain of trust could not be had.
    Incomplete(String),
    /// The resolver does not say any more that it validates (`trust-ad`).
    NotValidating,
    /// The connection, or something that is no answer.
    Broken(String),
}

impl FetchError {
    /// What the validator said against the answer.
    pub(super) fn bogus(&self) -> Option<&str> {
        if let Self::Bogus(reason) = self { Some(reason) } else { None }
    }

    /// The word for metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::TimedOut => "timeout",
            Self::Code(ResponseCode::ServFail) => "servfail",
            Self::Code(ResponseCode::Refused) => "refused",
            Self::Code(_) => "error-code",
            Self::Truncated(_) => "truncated",
            Self::Stripped => "stripped",
            Self::Bogus(_) => "bogus",
            Self::Incomplete(_) => "incomplete",
            Self::NotValidating => "not-validating",
            Self::Broken(_) => "broken",
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("timeout"),
            Self::Code(ResponseCode::ServFail) => f.write_str("SERVFAIL"),
            Self::Code(ResponseCode::Refused) => f.write_str("REFUSED"),
            Self::Code(code) => f.write_str(code.to_str()),
            Self::Truncated(over_tcp) => write!(f, "truncated over UDP, and over TCP: {over_tcp}"),
            Self::Stripped => f.write_str("DNSSEC signatures are stripped on this path"),
            Self::Bogus(reason) => write!(f, "bogus: {reason}"),
            Self::Incomplete(detail) => write!(f, "the chain of trust could not be fetched: {detail}"),
            Self::NotValidating => f.write_str("the resolver does not validate"),
            Self::Broken(detail) => f.write_str(detail),
        }
    }
}

/// Somebody else who brings messages: the seam for simulations and measurements.
#[async_trait]
pub trait Source: Send + Sync {
    /// The message that answers a question asked with DO.
    ///
    /// # Errors
    /// Why there is none.
    async fn fetch(&self, name: &Name, record_type: RecordType) -> Result<Message, FetchError>;
}

/// Who is behind a path.
pub(super) enum Carrier {
    /// Whatever a simulation or a test brings.
    Source(Arc<dyn Source>),
    /// One resolver.
    Server(Arc<Channel>),
    /// All authoritative servers.
    Walk(Walk),
}

/// The servers of the walk that answered, so that others can be asked when their answers are no good.
#[derive(Debug, Default)]
pub(super) struct Heard {
    before: Vec<SocketAddr>,
    now: Vec<SocketAddr>,
}

impl Heard {
    /// From here on whoever answered is avoided; false when nobody is left to be asked instead.
    pub(super) fn avoid_those(&mut self) -> bool {
        let others_left = !self.now.is_empty();
        self.before.append(&mut self.now);
        others_left
    }
}

/// One way to the DNS.
pub(super) struct Path {
    pub(super) name: PathName,
    carrier: Carrier,
    health: Mutex<Health>,
    /// What it has carried lately.
    carried: Mutex<Carried>,
    /// The standing that was told last, once one was: a penalty fades without anybody noticing.
    told: Mutex<Option<PathStanding>>,
}

impl Path {
    pub(super) fn new(name: PathName, carrier: Carrier) -> Self {
        Self { name, carrier, health: Mutex::default(), carried: Mutex::default(), told: Mutex::default() }
    }

    /// Asks one question; what comes back is a message that answers it, with records or without.
    pub(super) async fn fetch(
        &self,
        name: &Name,
        record_type: RecordType,
        flags: Flags,
    ) -> Result<Message, FetchError> {
        self.fetch_beside(name, record_type, flags, &mut Heard::default()).await
    }

    /// As [`Path::fetch`], of other servers than have been heard before, where there are others.
    pub(super) async fn fetch_beside(
        &self,
        name: &Name,
        record_type: RecordType,
        flags: Flags,
        heard: &mut Heard,
    ) -> Result<Message, FetchError> {
        match &self.carrier {
            Carrier::Server(channel) => usable(channel.ask(name, record_type, flags).await?),
            Carrier::Source(source) => usable(source.fetch(name, record_type).await?),
            Carrier::Walk(walk) => {
                let (message, by) = walk.fetch(name, record_type, &heard.before).await;
                heard.now.extend(by);
                usable(message?)
            }
        }
    }

    pub(super) fn failure(&self, fault: &FetchError) -> PathFailure {
        PathFailure { upstream: self.name.to_string(), detail: fault.to_string() }
    }

    /// Notes how the path did against others.
    pub(super) fn note(&self, success: Result<(), ()>, now: Timestamp) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        match success {
            Ok(()) => health.succeeded(now),
            Err(()) => health.failed(now),
        }
    }

    /// Notes what became of one question; tells what the path has carried of that type lately.
    pub(super) fn carried(
        &self,
        name: &Name,
        record_type: &'static str,
        came: Option<usize>,
        now: Timestamp,
    ) -> Option<TypeCarried> {
        let mut carried = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        carried.note(name, record_type, came, now);
        carried.by_type(now).into_iter().find(|seen| seen.record_type == record_type)
    }

    /// Forgets what became of a question here: another path has the answer now, and this one was not asked.
    pub(super) fn forget(&self, name: &Name, record_type: &'static str) {
        self.carried.lock().unwrap_or_else(PoisonError::into_inner).forget(name, record_type);
    }

    /// What it has carried lately, by type.
    pub(super) fn lately(&self, now: Timestamp) -> Vec<TypeCarried> {
        self.carried.lock().unwrap_or_else(PoisonError::into_inner).by_type(now)
    }

    /// The standing, when it is another than was told before.
    pub(super) fn news(&self, now: Timestamp) -> Option<PathStanding> {
        let standing = self.standing(now);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Of a path that nobody has asked there is nothing to tell.
        let is_unknown = told.is_none() && standing == PathStanding::Good && self.lately(now).is_empty();
        if is_unknown || *told == Some(standing) {
            return None;
        }
        *told = Some(standing);
        Some(standing)
    }

    pub(super) fn standing(&self, now: Timestamp) -> PathStanding {
        let turn = self.turn(now);
        let loses = || self.lately(now).iter().any(|seen| seen.loses);
        if turn == PathStanding::Good && loses() { PathStanding::Loses } else { turn }
    }

    /// When it is asked: what nobody else has either is no reason to ask it last.
    fn turn(&self, now: Timestamp) -> PathStanding {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).standing(now)
    }
}

fn usable(message: Message) -> Result<Message, FetchError> {
    let code = message.metadata.response_code;
    if code == ResponseCode::NoError || code == ResponseCode::NXDomain {
        Ok(message)
    } else {
        Err(FetchError::Code(code))
    }
}

/// The order in which paths are asked: as configured, those that failed lately at the end.
pub(super) fn in_order(paths: &[Arc<Path>], now: Timestamp) -> Vec<&Path> {
    let all = paths.iter().map(AsRef::as_ref);
    let (good, put_back): (Vec<&Path>, Vec<&Path>) = all.partition(|path| path.turn(now) == PathStanding::Good);
    good.into_iter().chain(put_back).collect()
}
