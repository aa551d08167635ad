//! DNSSEC: is this answer secure, insecure, bogus, or could we not find out (RFC 4033 §5,
//! RFC 4035 §4.3 and §5, RFC 7671 §6)?
//!
//! ```text
//! Validation::begin(question, message)
//!   step → Ask(name, type) → feed(what came) → step → … → Done(Validated)
//! ```
//! A message is believed only as far as a chain of signatures leads from the trust anchors to it.
//! No section of it is trusted because another one is unsigned, records of other zones have no
//! influence, and an absence counts only with its proof. What cannot be fetched is never
//! "insecure". Everything is bounded; nothing here touches the network or the clock.
//!
//! # The rule
//!
//! Nothing that someone on the path can order, repeat, add, take away or change makes what is
//! signed *insecure* or *absent*: all he can bring about is *bogus* or *indeterminate*, and then
//! another path is asked and the mail waits.
//! - A set is read whole, each record once, and no verdict comes from the order of records.
//! - What cannot be used is left out before anything is counted.
//! - A limit that is reached means indeterminate. There are three: the records of a message, the
//!   work of a look-up, the aliases of a name.
//! - Insecure and absent need a proof that is whole.
//! - Other look-ups share what this one has proven once its verdict stands, and nothing of one that
//!   failed ([`Zones`]). What they have proven on other paths is never the reason for bogus: it may
//!   be an older truth that was replayed there, so this path is asked for all of it first.
//! - How long a verdict is kept, a signature says: a TTL may be shorter than the signed one, for a
//!   cache has counted it down, and never longer.

mod alias;
mod anchors;
mod delegation;
mod denial;
mod digest;
pub mod fuzz;
mod link;
mod message;
mod nsec;
mod nsec3;
mod octets;
mod odd;
mod question;
mod readable;
mod serial;
mod signature;
mod work;
mod zones;

pub use anchors::{AnchorError, Anchors};
pub(in crate::resolve) use readable::{decode, make_readable};
pub use zones::Zones;

use crate::clock::Timestamp;
use crate::resolve::Security;
use crate::resolve::answer::weakest;
use delegation::{DelegationWalk, Memory};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use link::{NameData, Query};
use signature::VerifyError;
use std::fmt;
use zones::Cut;

/// CNAMEs and DNAMEs followed; resolvers stop between 8 and 16, more is a loop.
pub const ALIASES_LIMIT: usize = 16;

/// Why an answer is not secure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The section that says so, as in `RFC 4035 §5.4`.
    pub rfc: &'static str,
    /// The name at fault.
    pub name: Name,
    /// What is wrong there.
    pub sentence: String,
}

impl Reason {
    fn new(rfc: &'static str, name: &Name, sentence: String) -> Self {
        Self { rfc, name: name.clone(), sentence }
    }
}

/// `_25._tcp.mail.example.: no signed proof … (RFC 4035 §5.4)`
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.name, self.sentence, self.rfc)
    }
}

/// One alias on the way to the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The name that is an alias.
    pub from: Name,
    /// The name it stands for.
    pub to: Name,
    /// What DNSSEC says about this step.
    pub security: Security,
}

/// What an answer comes to.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Records of the type asked for, at the end of the aliases.
    Found {
        /// Never empty; each once.
        records: Vec<Record>,
        /// The name they belong to.
        name: Name,
        /// The way to it.
        aliases: Vec<Alias>,
    },
    /// The name at the end of the aliases has no such records.
    NoData {
        /// The way to it.
        aliases: Vec<Alias>,
    },
    /// The name at the end of the aliases does not exist.
    NxDomain {
        /// The way to it.
        aliases: Vec<Alias>,
    },
    /// No answer: the server's code, or SERVFAIL where we could not find out.
    ErrorCode(ResponseCode),
}

impl Outcome {
    /// The way to the name at the end.
    #[must_use]
    pub fn aliases(&self) -> &[Alias] {
        match self {
            Self::Found { aliases, .. } | Self::NoData { aliases } | Self::NxDomain { aliases } => aliases,
            Self::ErrorCode(_) => &[],
        }
    }

    pub(super) const fn aliases_mut(&mut self) -> Option<&mut Vec<Alias>> {
        match self {
            Self::Found { aliases, .. } | Self::NoData { aliases } | Self::NxDomain { aliases } => Some(aliases),
            Self::ErrorCode(_) => None,
        }
    }
}

/// A step on the way from the root, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneLink {
    /// A zone, or the name from which on nothing is signed.
    pub zone: Name,
    /// What DNSSEC says about it.
    pub security: Security,
    /// The tags of its keys, or why it is insecure.
    pub detail: String,
}

/// A verdict.
#[derive(Clone, Debug)]
pub struct Validated {
    /// The weakest link of the way from the question to the outcome.
    pub security: Security,
    /// Why it is not secure.
    pub reason: Option<Reason>,
    /// What the answer says. When [`Validated::security`] is bogus or indeterminate it is no
    /// answer: [`Outcome::ErrorCode`].
    pub outcome: Outcome,
    /// The first end among all TTLs and signatures it rests on; never later than a day.
    pub valid_until: Timestamp,
    /// The zones it passes, from the root on.
    pub chain: Vec<ZoneLink>,
}

/// What a [`Validation`] wants.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "moved once per question, and easier to match on than a box")]
pub enum Step {
    /// Fetch this by the same path, with DO set, then [`Validation::feed`] what came.
    Ask(Name, RecordType),
    /// The verdict.
    Done(Validated),
}

/// Why a function cannot go on.
#[derive(Debug)]
enum Halt {
    Ask(Name, RecordType),
    Stop(Security, Reason),
}

impl From<VerifyError> for Halt {
    fn from(fault: VerifyError) -> Self {
        match fault {
            VerifyError::Bogus(reason) => Self::Stop(Security::Bogus, reason),
            VerifyError::Spent(name) => {
                let said = "the answer costs more work to validate than one look-up may".into();
                Self::Stop(Security::Indeterminate, Reason::new("RFC 4035 §5.3.3", &name, said))
            }
        }
    }
}

/// One validation.
#[derive(Debug)]
pub struct Validation {
    rtype: RecordType,
    now: Timestamp,
    memory: Memory,
    at: Name,
    /// What came for `at`, or for a name that leads there.
    message: Message,
    /// Whether `message` was asked for `at` itself.
    direct: bool,
    misled: Option<Reason>,
    aliases: Vec<Alias>,
    security: Security,
    reason: Option<Reason>,
    until: Timestamp,
    asked: Option<(Name, RecordType)>,
    private: Vec<Name>,
}

impl Validation {
    /// Begins with the message that came for a question, at the time `now`.
    #[must_use]
    pub fn begin(name: &Name, record_type: RecordType, message: Message, now: Timestamp) -> Self {
        let mut at = name.to_lowercase();
        at.set_fqdn(true);
        let message = message::of_interest(message);
        Self {
            rtype: record_type,
            now,
            memory: Memory::new(),
            at,
            message,
            direct: true,
            misled: None,
            aliases: Vec::new(),
            security: Security::Secure,
            reason: None,
            until: Timestamp(i64::MAX),
            asked: None,
            private: Vec::new(),
        }
    }

    /// The same, up to these zones (RFC 7646 §2): an alias to a name in one of them is the end, an insecure
    /// absence, and whoever has begun this asks somebody else about that name.
    #[must_use]
    pub fn up_to(mut self, private: &[Name]) -> Self {
        self.private = private.to_vec();
        self
    }

    /// Works as far as it can with what it has. Ends after a bounded number of steps, whatever
    /// is fed.
    pub fn step(&mut self, anchors: &Anchors, zones: &Zones) -> Step {
        loop {
            if let Err(verdict) = self.readable() {
                return Step::Done(verdict);
            }
            let mut walk = DelegationWalk { anchors, zones, memory: &mut self.memory, now: self.now };
            let mut subject =
                Query { name: &self.at, rtype: self.rtype, message: &self.message, misled: &mut self.misled };
            match link::judge(&mut subject, &mut walk) {
                Ok(link) => {
                    if let Some(step) = self.take(link) {
                        self.share(&step, zones);
                        return step;
                    }
                }
                Err(Halt::Ask(name, rtype)) => return self.ask(name, rtype),
                // A server may leave out what lies at the end of an alias: ask for it once.
                Err(Halt::Stop(Security::Bogus, _)) if !self.direct && !self.has_records() => {
                    return self.ask_on();
                }
                // Other look-ups may have been shown an older truth: see the rule above.
                Err(Halt::Stop(Security::Bogus, _)) if self.memory.start_alone() => self.misled = None,
                Err(Halt::Stop(security, reason)) => return Step::Done(self.failed(security, reason)),
            }
        }
    }

    /// A verdict that stands is shared with all that was proven for it.
    fn share(&self, step: &Step, zones: &Zones) {
        if let Step::Done(Validated { security: Security::Secure | Security::Insecure, .. }) = step {
            self.memory.share(zones);
        }
    }

    /// What the path gave for the question of the last [`Step::Ask`]: a message, or why none came.
    pub fn feed(&mut self, reply: Result<Message, String>) {
        let Some((name, rtype)) = self.asked.take() else { return };
        if (&name, rtype) != (&self.at, self.rtype) || self.direct {
            self.memory.replies.insert((name, rtype), reply);
            return;
        }
        self.direct = true;
        self.misled = None;
        match reply {
            Ok(message) => self.message = message::of_interest(message),
            Err(why) => {
                self.message.metadata.response_code = ResponseCode::ServFail;
                self.reason = Some(Reason::new("RFC 4035 §4.3", &name, format!("could not be fetched: {why}")));
            }
        }
    }

    fn readable(&mut self) -> Result<(), Validated> {
        let code = self.message.metadata.response_code;
        let why = if code != ResponseCode::NoError && code != ResponseCode::NXDomain {
            self.reason
                .take_if(|_| code == ResponseCode::ServFail)
                .map_or_else(|| code.to_str().to_owned(), |r| r.sentence)
        } else if self.message.metadata.truncation {
            "the answer is truncated".to_owned()
        } else if message::is_too_large(&self.message) {
            "the answer holds too many records".to_owned()
        } else if self.rtype == RecordType::ANY || self.rtype == RecordType::RRSIG {
            "answers of this type cannot be validated".to_owned()
        } else {
            return Ok(());
        };
        let reason = Reason::new("RFC 4035 §4.3", &self.at, why);
        let mut verdict = self.failed(Security::Indeterminate, reason);
        if code != ResponseCode::NoError && code != ResponseCode::NXDomain {
            verdict.outcome = Outcome::ErrorCode(code);
        }
        Err(verdict)
    }

    /// A judged link: the end, or one step further.
    fn take(&mut self, link: link::Link) -> Option<Step> {
        let standing = link.standing;
        self.security = weakest(self.security, standing.security);
        if self.reason.is_none() {
            self.reason = standing.reason;
        }
        self.until = self.until.min(standing.until);
        let aliases = std::mem::take(&mut self.aliases);
        let outcome = match link.said {
            NameData::Found(records) => Outcome::Found { records, name: self.at.clone(), aliases },
            NameData::NoData => Outcome::NoData { aliases },
            NameData::NoName => Outcome::NxDomain { aliases },
            NameData::TooLong => Outcome::ErrorCode(ResponseCode::YXDomain),
            NameData::Alias(to) => {
                self.aliases = aliases;
                return self.follow(to, standing.security);
            }
        };
        let reason = self.reason.take();
        Some(Step::Done(Validated {
            security: self.security,
            reason,
            outcome,
            valid_until: self.until.max(self.now),
            chain: self.chain(),
        }))
    }

    fn follow(&mut self, to: Name, security: Security) -> Option<Step> {
        let from = std::mem::replace(&mut self.at, to.clone());
        self.aliases.push(Alias { from, to, security });
        self.misled = None;
        self.direct = false;
        if self.aliases.len() > ALIASES_LIMIT {
            let said = format!("more than {ALIASES_LIMIT} aliases");
            let reason = Reason::new("RFC 1034 §3.6.2", &self.at, said);
            return Some(Step::Done(self.failed(Security::Indeterminate, reason)));
        }
        if self.private.iter().any(|zone| zone.zone_of(&self.at)) {
            return Some(Step::Done(self.left()));
        }
        if link::speaks_of(&self.message, &self.at, self.rtype) { None } else { Some(self.ask_on()) }
    }

    /// The way to a private zone.
    fn left(&self) -> Validated {
        Validated {
            security: Security::Insecure,
            reason: Some(Reason::new("RFC 7646 §2", &self.at, "in a private zone nothing is validated".into())),
            outcome: Outcome::NoData { aliases: self.aliases.clone() },
            valid_until: self.until.max(self.now),
            chain: self.chain(),
        }
    }

    fn has_records(&self) -> bool {
        let has = |rtype| message::has(&self.message.answers, &self.at, rtype);
        has(self.rtype) || has(RecordType::CNAME) || alias::dname_above(&self.message.answers, &self.at).is_some()
    }

    fn ask_on(&mut self) -> Step {
        self.ask(self.at.clone(), self.rtype)
    }

    fn ask(&mut self, name: Name, rtype: RecordType) -> Step {
        if let Err(work::Spent) = self.memory.budget.ask() {
            let said = "the chain of trust takes more questions than one look-up may ask".into();
            let reason = Reason::new("RFC 4035 §4.3", &name, said);
            return Step::Done(self.failed(Security::Indeterminate, reason));
        }
        self.asked = Some((name.clone(), rtype));
        Step::Ask(name, rtype)
    }

    fn failed(&self, security: Security, reason: Reason) -> Validated {
        Validated {
            security,
            reason: Some(reason),
            outcome: Outcome::ErrorCode(ResponseCode::ServFail),
            valid_until: self.now,
            chain: self.chain(),
        }
    }

    fn chain(&self) -> Vec<ZoneLink> {
        let shown = |(name, known): (&Name, &zones::CutVerdict)| {
            let (security, detail) = match &known.cut {
                Cut::Secure(keys) => {
                    let tags: Vec<String> = keys.keys.iter().map(|(tag, _)| tag.to_string()).collect();
                    (Security::Secure, format!("keys {}", tags.join(" ")))
                }
                Cut::Insecure(reason) => (Security::Insecure, reason.to_string()),
                Cut::Inside | Cut::Nothing => return None,
            };
            Some(ZoneLink { zone: name.clone(), security, detail })
        };
        self.memory.cuts().filter_map(shown).collect()
    }
}
