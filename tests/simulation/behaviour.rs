//! What domains are like, and how that changes in the middle of a world.

use crate::invariants::Passing;
use crate::world::World;
use dane_relay::clock::Timestamp;
use dane_relay::lab::mx::behaviour::reply;
use dane_relay::lab::{AnswerFault, Certificate, DomainSpec, SignatureFault, StartTls, Tlsa, Trouble, TroubleAt};
use futures_util::FutureExt as _;
use hickory_proto::rr::RecordType;
use std::time::Duration;

/// How often a policy is refreshed that changes, in seconds: at half its life.
const REFRESHED_S: u64 = 12 * 3600;
/// The day on which worlds begin; it ends in the middle of the first night.
const FORGIVEN_UNTIL: &str = "2026-11-21";
/// Its end.
pub(crate) const FORGIVEN_UNTIL_END: Timestamp = Timestamp(1_795_305_600_000);

/// The enum, and the list of all there is in it.
macro_rules! behaviours {
    ($($(#[$what:meta])* $name:ident,)*) => {
        /// What a domain is like. What heals does so some hours into the world.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum DomainBehaviour { $($(#[$what])* $name,)* }

        pub(crate) const BEHAVIOURS: &[DomainBehaviour] = &[$(DomainBehaviour::$name,)*];
    };
}

behaviours! {
    Fine,
    ByPolicy,
    Greylisting,
    Dead,
    Silent,
    Refusing,
    NullMx,
    NeverReady,
    Mismatched,
    Forged,
    WithoutTls,
    PolicyBroken,
    DeadAtFirst,
    SilentDnsAtFirst,
    MismatchedAtFirst,
    /// Has six TLSA records, and a box before the resolver passes four.
    FilteredAtFirst,
    /// Takes the message and closes before it says so.
    LosesRepliesAtFirst,
    /// Its MTA-STS policy does not fit its host; then it only tests.
    TestingLater,
    /// The same; then it says that there is none.
    NoPolicyLater,
    /// Its policy only tests; then it is enforced, and does not fit.
    EnforcedLater,
    /// Has a policy; then its policy host is gone, and another host has come between.
    PolicyHostGoneLater,
    /// Mismatched, which the operator forgives for a day.
    Forgiven,
    /// The same for longer, which ends when it matches. Then it is mismatched again.
    ForgivenAtFirst,
}

use DomainBehaviour::{
    ByPolicy, Dead, DeadAtFirst, EnforcedLater, FilteredAtFirst, Fine, Forged, Forgiven, ForgivenAtFirst, Greylisting,
    LosesRepliesAtFirst, Mismatched, MismatchedAtFirst, NeverReady, NoPolicyLater, NullMx, PolicyBroken,
    PolicyHostGoneLater, Refusing, Silent, SilentDnsAtFirst, TestingLater, WithoutTls,
};

/// Those that watchers deal with.
pub(crate) const CHANGING: [DomainBehaviour; 6] =
    [TestingLater, NoPolicyLater, EnforcedLater, PolicyHostGoneLater, Forgiven, ForgivenAtFirst];

impl DomainBehaviour {
    /// Whether mail arrives in the end; none where that depends on when it is sent.
    pub(crate) fn delivers(self) -> Option<bool> {
        match self {
            Fine | ByPolicy | Greylisting | DeadAtFirst | SilentDnsAtFirst | MismatchedAtFirst | FilteredAtFirst
            | LosesRepliesAtFirst | TestingLater | NoPolicyLater => Some(true),
            Dead | Silent | Refusing | NullMx | NeverReady | Mismatched | Forged | WithoutTls | PolicyBroken => {
                Some(false)
            }
            EnforcedLater | PolicyHostGoneLater | Forgiven | ForgivenAtFirst => None,
        }
    }

    /// What the operator has written into the configuration for it.
    pub(crate) fn exception(self, name: &str) -> Option<String> {
        let until = match self {
            Forgiven => FORGIVEN_UNTIL,
            ForgivenAtFirst => "2027-01-31",
            _ => return None,
        };
        let level = "tls = \"opportunistic\"\nreason = \"they renew their keys\"";
        Some(format!("[[destination]]\ndomains = [{name:?}]\n{level}\nuntil = {until}\n"))
    }

    pub(crate) fn describe(self, name: &str, domain: DomainSpec) -> DomainSpec {
        let host = format!("mx.{name}");
        match self {
            Fine | Dead | DeadAtFirst | Silent => domain,
            ByPolicy | PolicyHostGoneLater => {
                domain.plain().host(|h| h.certificate(Certificate::Issued)).mta_sts(|p| p.enforce())
            }
            PolicyBroken | TestingLater | NoPolicyLater => domain.plain().mta_sts(|p| p.enforce()),
            EnforcedLater => domain.plain().mta_sts(|p| p.testing().max_age(2 * REFRESHED_S)),
            Greylisting => domain.host(|h| h.greylisting()),
            Refusing => domain.host(|h| h.known(&["nobody"])),
            FilteredAtFirst => domain.host(|h| h.and_misfits(5)),
            NullMx => domain.null_mx(),
            NeverReady => {
                domain.host(|h| h.trouble(TroubleAt::Rcpt, Trouble::Reply(reply("451 4.3.0 later").unwrap())))
            }
            Mismatched | MismatchedAtFirst | Forgiven | ForgivenAtFirst => {
                domain.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)]))
            }
            Forged => domain.fault(&host, RecordType::TLSA, AnswerFault::Signature(SignatureFault::Bogus)),
            WithoutTls => domain.host(|h| h.starttls(StartTls::NotOffered)),
            SilentDnsAtFirst => domain.fault(name, RecordType::MX, AnswerFault::ServFail),
            LosesRepliesAtFirst => domain.host(|h| h.trouble(TroubleAt::EndOfData, Trouble::KeepThenDrop)),
        }
    }
}

impl World {
    /// What was only at first is over, and what is so later begins. `keeps_policy` says of a domain
    /// whether the relay has its policy.
    pub(crate) fn heal(&mut self, keeps_policy: impl Fn(&str) -> bool) {
        self.lab.dns().set_path([]);
        for (name, behaviour) in &self.behaviours {
            let host = format!("mx.{name}");
            match behaviour {
                DeadAtFirst => self.network.block(name, None),
                SilentDnsAtFirst => self.lab.world().fault(name, RecordType::MX, None).unwrap(),
                MismatchedAtFirst | ForgivenAtFirst => self.lab.set_tlsa(&host, &[Tlsa::Fits(3, 1, 1)]).unwrap(),
                LosesRepliesAtFirst => self.lab.mx(name).unwrap().trouble(TroubleAt::EndOfData, None),
                TestingLater => self.lab.set_mta_sts(name, |policy| policy.id("2").testing()).unwrap(),
                NoPolicyLater => self.lab.set_mta_sts(name, |policy| policy.id("2").none()).unwrap(),
                EnforcedLater => {
                    self.lab.set_mta_sts(name, |policy| policy.id("2").enforce()).unwrap();
                    // A message does not wait for the refresh of a policy that lets it through.
                    let passing = Passing::until(self.network.truth()).and_for(Duration::from_secs(REFRESHED_S));
                    self.invariants.passing.insert(name.clone(), passing);
                }
                PolicyHostGoneLater => {
                    self.lab.policy_host(name).unwrap().switch_off().now_or_never().unwrap();
                    // Whoever attacks may suppress the record too (RFC 8461 §10.2).
                    if name.as_bytes()[1].is_multiple_of(2) {
                        self.lab.set_mta_sts_txt(name, &[]).unwrap();
                    }
                    self.lab.set_certificate(&host, &Certificate::SelfSigned).unwrap();
                    // Whoever does not know the policy cannot learn of it any more (RFC 8461 §3.3).
                    if keeps_policy(name) {
                        self.invariants.passing.insert(name.clone(), Passing::until(self.network.truth()));
                    }
                }
                _ => {}
            }
        }
    }

    /// Where it matched the exception is over, so that nothing passes when it does not match again.
    pub(crate) fn break_again(&mut self) {
        for (name, _) in self.behaviours.iter().filter(|(_, behaviour)| **behaviour == ForgivenAtFirst) {
            self.lab.set_tlsa(&format!("mx.{name}"), &[Tlsa::Misfits(3, 1, 1, 0)]).unwrap();
            self.invariants.passing.insert(name.clone(), Passing::until(self.network.truth()));
        }
    }

    /// By the clock of the relay, the day of forgiveness may be over.
    pub(crate) fn end_forgiveness(&mut self, now: Timestamp) {
        if now < FORGIVEN_UNTIL_END {
            return;
        }
        for (name, _) in self.behaviours.iter().filter(|(_, behaviour)| **behaviour == Forgiven) {
            let until = self.network.truth().min(FORGIVEN_UNTIL_END);
            self.invariants.passing.entry(name.clone()).or_insert_with(|| Passing::until(until));
        }
    }
}
