//! What happened to a message, as its history keeps it: one typed event for each thing.
//!
//! The words of a failure come from its [`Cause`] alone. An event is JSON with a version, so that
//! a later relay reads what an earlier one wrote; what cannot be read is shown as it is and is no
//! error ([`Event::Unreadable`]). Everything an event holds is bounded where it comes from, and
//! all of it by [`MOST_OCTETS`].

use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::outcome::{Cause, DeliveryOutcome, PathFailure, Peer, Question, TlsVerdict};
use serde::{Deserialize, Serialize};

/// The version that is written.
const VERSION: u8 = 1;

/// The longest event that is kept, as JSON: a reply of a hundred long lines fits.
pub const MOST_OCTETS: usize = 64 * 1024;

/// Something that happened to a message. Recipients are named by their index in the envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A conversation with a mail server has ended.
    Attempt(Box<Attempt>),
    /// A host was left alone, or a next hop has none: no connection was made.
    NotTried {
        /// The next hop.
        next_hop: String,
        /// Whom it would have been for; an older relay named nobody and meant any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        recipients: Vec<usize>,
        /// Why no connection was made.
        cause: Cause,
    },
    /// Recipients wait for their next attempt.
    Waits {
        /// By index in the envelope.
        recipients: Vec<usize>,
        /// When they are tried again.
        due: Timestamp,
        /// Why, where no attempt of this message says it: the next hop could not be reached for
        /// others, and the relay is backing off.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backing_off: Option<Cause>,
    },
    /// Recipients have their end.
    Ended {
        /// By index in the envelope.
        recipients: Vec<usize>,
        /// Why they failed; without it they were delivered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    /// A report about recipients is in the queue.
    Told {
        /// The recipients that the report is about.
        recipients: Vec<usize>,
        /// Its own name in the queue.
        report: QueueId,
        /// Who gets it.
        to: Vec<String>,
        /// Whether it is only a notice: that they wait, or that they have it.
        #[serde(default)]
        notice: bool,
    },
    /// Nobody is told of recipients that failed.
    NotTold {
        /// By index in the envelope.
        recipients: Vec<usize>,
        /// The rule by which no report is written.
        because: Silence,
    },
    /// The operator did something.
    Operator {
        /// What the operator did.
        act: Act,
        /// By index in the envelope.
        recipients: Vec<usize>,
        /// Whoever asked for it, as far as that is known.
        #[serde(flatten)]
        actor: Actor,
    },
    /// An attempt ended by a bug of ours.
    Broken {
        /// The next hop.
        next_hop: String,
    },
    /// Written by another version, damaged, or too long to be kept.
    Unreadable {
        /// As it was found.
        text: String,
    },
}

/// A conversation with a mail server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The next hop that led to the server.
    pub next_hop: String,
    /// The server.
    pub peer: Peer,
    /// The word of the TLS policy it was held to.
    pub policy: String,
    /// How the connection was protected; `None` when it did not come that far.
    pub tls: Option<TlsVerdict>,
    /// The key exchange of TLS, by the name of its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The operator's exception that was in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What it brought.
    pub results: Vec<Group>,
    /// By which ways the DNS led to the server; none in what earlier relays wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Answered>,
}

/// An answer of the DNS that led to a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// What was asked.
    pub question: Question,
    /// The path that answered, in the words of the configuration.
    pub path: String,
    /// The paths that failed before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub despite: Vec<PathFailure>,
}

/// Recipients that fared alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// By index in the envelope.
    pub recipients: Vec<usize>,
    /// Their outcome.
    pub outcome: DeliveryOutcome,
}

/// Why nobody is told of a recipient that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Silence {
    /// The reverse-path is null (RFC 5321 §4.5.5).
    NullReversePath,
    /// The sender asked for no report of failure (RFC 3461 §4.1).
    NotAsked,
}

impl Silence {
    /// The rule in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NullReversePath => "the reverse-path is null",
            Self::NotAsked => "the sender asked for no report",
        }
    }
}

/// Who did something, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The user id of a process on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The name of a user of the admin port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The reason given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The longest reason that is kept, in characters.
const REASON_LIMIT: usize = 500;

impl Actor {
    /// A process on this host.
    #[must_use]
    pub fn process(uid: Option<u32>, reason: Option<&str>) -> Self {
        Self { uid, user: None, reason: short_reason(reason) }
    }

    /// A user of the admin port.
    #[must_use]
    pub fn user(name: &str, reason: Option<&str>) -> Self {
        Self { uid: None, user: Some(name.to_owned()), reason: short_reason(reason) }
    }

    /// Who it was and why, for whoever reads a history: empty where nothing is known.
    #[must_use]
    pub fn words(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("the user {user}"));
        let who = user.or_else(|| self.uid.map(|uid| format!("user id {uid}")));
        who.into_iter().chain(self.reason.clone()).collect::<Vec<_>>().join(": ")
    }
}

/// None where it says nothing.
fn short_reason(reason: Option<&str>) -> Option<String> {
    let short: String = reason?.trim().chars().take(REASON_LIMIT).collect();
    (!short.is_empty()).then_some(short)
}

/// What the operator does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Made it due at once.
    Retry,
    /// Took it out of its schedule until it is released.
    Hold,
    /// Put it back.
    Release,
    /// Returned it to its sender.
    Bounce,
    /// Removed it; nobody is told.
    Delete,
    /// Read its content.
    Read,
}

impl Act {
    /// What has become of a message, for whoever gave the order.
    #[must_use]
    pub const fn done(self) -> &'static str {
        match self {
            Self::Retry => "to be tried now",
            Self::Hold => "held",
            Self::Release => "released",
            Self::Bounce => "returned to the sender",
            Self::Delete => "deleted",
            Self::Read => "read",
        }
    }

    /// The word for commands, logs and histories.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Bounce => "bounce",
            Self::Delete => "delete",
            Self::Read => "read",
        }
    }
}

#[derive(Serialize)]
struct Versioned<'a> {
    v: u8,
    #[serde(flatten)]
    event: &'a Event,
}

impl Event {
    /// As it is stored.
    #[must_use]
    pub fn to_json(&self) -> String {
        let json = |event| serde_json::to_string(&Versioned { v: VERSION, event }).unwrap_or_default();
        let text = json(self);
        if text.len() <= MOST_OCTETS {
            return text;
        }
        json(&Self::Unreadable { text: format!("an event of {} octets, which is too long to be kept", text.len()) })
    }

    /// As it was stored.
    #[must_use]
    pub fn from_json(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self::Unreadable { text: text.to_owned() })
    }
}

/// Puts recipients with equal outcomes together, in the order in which the outcomes first appear.
#[must_use]
pub fn grouped<T: PartialEq>(outcomes: impl IntoIterator<Item = (usize, T)>) -> Vec<(Vec<usize>, T)> {
    let mut groups: Vec<(Vec<usize>, T)> = Vec::new();
    for (index, outcome) in outcomes {
        match groups.iter_mut().find(|(_, known)| *known == outcome) {
            Some((recipients, _)) => recipients.push(index),
            None => groups.push((vec![index], outcome)),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer { host: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() }
    }

    #[test]
    fn events_survive_storage_and_say_their_version() {
        let cause = Cause::ConnectFailed { peer: peer(), detail: "refused".into() };
        let results = vec![Group { recipients: vec![0, 2], outcome: DeliveryOutcome::Failed { cause: cause.clone() } }];
        let (next_hop, policy) = ("x.example".to_owned(), "dane".to_owned());
        let tls = Some(TlsVerdict::ClearText);
        let question = Question { name: "x.example".into(), record_type: "MX".into() };
        let failed = PathFailure { upstream: "udp://192.0.2.53:53".into(), detail: "SERVFAIL".into() };
        let dns = vec![Answered { question, path: "authoritative".into(), despite: vec![failed] }];
        let group = Some("X25519MLKEM768".to_owned());
        let attempt = Attempt { next_hop, peer: peer(), policy, tls, group, exception: None, took_ms: 7, results, dns };
        for event in [
            Event::Attempt(Box::new(attempt)),
            Event::Waits { recipients: vec![0], due: Timestamp(5), backing_off: Some(cause.clone()) },
            Event::Ended { recipients: vec![0], cause: Some(cause) },
            Event::Told { recipients: vec![0], report: QueueId(9), to: vec!["a@b.example".into()], notice: true },
            Event::NotTold { recipients: vec![1], because: Silence::NullReversePath },
            Event::Operator { act: Act::Delete, recipients: vec![0], actor: Actor::process(Some(0), None) },
            Event::Operator { act: Act::Hold, recipients: vec![1], actor: Actor::user("anna", Some(" on the phone ")) },
        ] {
            let text = event.to_json();
            assert!(text.starts_with("{\"v\":1,\"event\":\""), "{text}");
            assert_eq!(Event::from_json(&text), event);
        }
    }

    #[test]
    fn an_attempt_that_an_earlier_relay_wrote_is_still_read() {
        let old = r#"{"v":1,"event":"attempt","next_hop":"x.example",
            "peer":{"host":"mx.example","address":"192.0.2.1:25"},
            "policy":"dane","tls":null,"took_ms":7,"results":[]}"#;
        let Event::Attempt(attempt) = Event::from_json(old) else { panic!("{:?}", Event::from_json(old)) };
        assert_eq!((attempt.took_ms, attempt.exception, attempt.group, attempt.dns), (7, None, None, Vec::new()));
    }

    #[test]
    fn who_did_something_is_told_with_the_reason_and_an_earlier_relay_is_understood() {
        let old = r#"{"v":1,"event":"operator","act":"hold","recipients":[0],"uid":1000}"#;
        let Event::Operator { actor, .. } = Event::from_json(old) else { panic!("{old}") };
        assert_eq!((actor.uid, actor.words().as_str()), (Some(1000), "user id 1000"));
        assert_eq!(Actor::user("anna", Some(" on the phone\n")).words(), "the user anna: on the phone");
        assert_eq!(Actor::process(None, Some("  ")).words(), "");
        assert_eq!(Actor::user("a", Some(&"x".repeat(9_999))).reason.unwrap().len(), REASON_LIMIT);
    }

    #[test]
    fn what_cannot_be_read_is_kept_as_it_is_and_what_is_too_long_is_not() {
        let odd = "{\"recipient\":0,\"deferred\":{}}";
        assert_eq!(Event::from_json(odd), Event::Unreadable { text: odd.into() });
        let next_hop = "x".repeat(MOST_OCTETS);
        let text = Event::Broken { next_hop }.to_json();
        assert!(text.len() < 200 && text.contains("too long"), "{text}");
    }

    #[test]
    fn equal_outcomes_stand_together() {
        assert_eq!(grouped([(0, 'a'), (1, 'b'), (2, 'a')]), [(vec![0, 2], 'a'), (vec![1], 'b')]);
    }
}
