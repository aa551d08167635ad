//! The facts that a decision about TLS may depend on, one type for each; and a batch of random
//! combinations of them, made from a seed.
//!
//! A [`Cell`] is one recipient domain, or two on the same hosts, and the mails to them. A [`Batch`]
//! is what one relay lives through: its settings, its cells, and what happens between the first
//! mails and the later ones.
//!
//! Chance alone seldom meets the few combinations in which one rule by itself decides. So half of the
//! cells are [`Corner`]s: random in all but what the rule needs.

use super::corners::Corner;
use crate::random::SeededRandom;

/// Whether an answer of the DNS is signed, or cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signed {
    Yes,
    No,
    /// SERVFAIL, or an answer that does not prove itself.
    Lost,
}

/// The TLSA records of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tlsa {
    None,
    /// `3 1 1` of its certificate.
    Ee,
    /// `2 0 1` of the last certificate of its chain.
    Ta,
    /// `3 1 1` of another certificate.
    EeWrong,
    /// `2 0 1` of another one.
    TaWrong,
    /// Five old ones and the right one.
    EeAmongWrong,
    /// `1 1 1`, which means nothing in SMTP.
    Unusable,
    /// That, beside a wrong one.
    UnusableAndWrong,
    /// SERVFAIL.
    Lost,
    /// Somebody says that there are none, and cannot prove it.
    Denied,
}

/// The certificate of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certificate {
    Public,
    PublicElsewhere,
    /// For the first domain of the cell, and not for the host.
    PublicForDomain,
    PublicExpired,
    /// The name is in the common name alone.
    PublicCommonName,
    SelfSigned,
    SelfSignedExpired,
}

/// What a host does about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartTls {
    Offered,
    Only12,
    NotOffered,
    HeloOnly,
    Refused454,
    Alert,
    Tls10,
    /// The connection ends after 220.
    Cut,
    /// What comes after 220 is no TLS.
    Garbage,
    ClientCertificate12,
    ClientCertificate13,
    /// Nothing comes after 220.
    Silent,
}

/// Whether the MTA-STS policy of a domain names a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    ByName,
    ByWildcard,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Enforce,
    Testing,
    None,
}

/// What is left of a policy that was fetched an hour or two ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Whole,
    /// Its time is over.
    Expired,
    /// The relay was restarted, and cannot read it.
    Unreadable,
}

/// Whether the policy can still be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// As before.
    Live,
    /// The TXT record is not there.
    TxtGone,
    /// It cannot be looked up.
    TxtLost,
    /// It announces a new policy, whose host is down.
    HostDown,
    /// Neither is there.
    Gone,
}

/// The MTA-STS of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sts {
    Never,
    /// A TXT record without a proper id.
    BadRecord,
    Published(Mode),
    /// A policy is published; on first contact its TXT record cannot be looked up.
    TxtLost,
    /// It is announced, and its host has always been down.
    HostDown,
    /// Fetched before the later mails.
    Kept(Mode, Kept, Reach),
    /// Fetched before the later mails, when it named no host and had this mode; now it names them
    /// as [`Host::listed`] says and has the other mode.
    Replaced(Mode, Mode),
}

/// A level of `[[destination]] tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Opportunistic,
    Encrypt,
    Dane,
    DaneOnly,
    MtaSts,
    Off,
}

/// What the operator says of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) level: Option<Level>,
    pub(crate) report_only: bool,
}

/// What the sender asks of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    Nothing,
    /// REQUIRETLS.
    RequireTls,
    /// `TLS-Required: No`.
    Waives,
}

/// The settings of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the configuration, which is one")]
pub(crate) struct Settings {
    pub(crate) dane_behind_insecure_mx: bool,
    pub(crate) clear_text_fallback: bool,
    pub(crate) tls_required_no: bool,
    pub(crate) mta_sts: bool,
}

/// A host: its name's zone and what it is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) addresses: Signed,
    pub(crate) tlsa: Tlsa,
    pub(crate) certificate: Certificate,
    pub(crate) starttls: StartTls,
    pub(crate) offers_requiretls: bool,
    pub(crate) listed: Listed,
}

/// A recipient domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Domain {
    pub(crate) mx: Signed,
    pub(crate) sts: Sts,
    pub(crate) rule: Rule,
}

/// A mail to the domain with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mail {
    pub(crate) domain: usize,
    pub(crate) asks: Asks,
}

/// Domains that share hosts, the best first, and mails to them, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) hosts: Vec<Host>,
    pub(crate) domains: Vec<Domain>,
    /// Before policies go away.
    pub(crate) first: Vec<Mail>,
    /// And after.
    pub(crate) later: Vec<Mail>,
}

/// Whether the relay is started again before the later mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    Nothing,
    Restart,
}

/// What one relay lives through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) settings: Settings,
    pub(crate) between: Between,
    pub(crate) cells: Vec<Cell>,
}

impl Settings {
    /// Those of a relay that nobody has configured.
    pub(crate) const DEFAULT: Self =
        Self { dane_behind_insecure_mx: true, clear_text_fallback: true, tls_required_no: true, mta_sts: true };
}

impl Host {
    /// A host that says nothing of itself and can do everything.
    pub(crate) const PLAIN: Self = Self {
        addresses: Signed::No,
        tlsa: Tlsa::None,
        certificate: Certificate::Public,
        starttls: StartTls::Offered,
        offers_requiretls: true,
        listed: Listed::ByName,
    };
}

impl Domain {
    pub(crate) const PLAIN: Self =
        Self { mx: Signed::No, sts: Sts::Never, rule: Rule { level: None, report_only: false } };
}

impl Batch {
    pub(crate) fn random(seed: u64, cells: usize) -> Self {
        let mut random = SeededRandom::new(seed);
        // Neighbouring seeds have each of them both ways, and many seeds all of their combinations.
        let settings = Settings {
            clear_text_fallback: !seed.is_multiple_of(3),
            dane_behind_insecure_mx: seed % 4 != 1,
            tls_required_no: seed % 5 != 2,
            mta_sts: seed % 7 != 3,
        };
        let between = if random.one_in(2) { Between::Restart } else { Between::Nothing };
        // Whoever waits for a silent host lets the connections of all others grow old.
        let patient = random.one_in(4);
        let corners = Corner::ALL.iter().map(Some).flat_map(|corner| [None, corner]).cycle();
        let with = |corner: Option<&Corner>| {
            let cell = cell(&mut random, between, patient);
            match corner {
                Some(corner) => corner.of(&mut random, &cell),
                None => cell,
            }
        };
        let cells = corners.take(cells).map(with).collect();
        Self { settings, between, cells }
    }

    /// A batch of this one cell.
    pub(crate) fn of(&self, cell: usize) -> Self {
        Self { cells: vec![self.cells[cell].clone()], ..self.clone() }
    }
}

#[expect(clippy::fn_params_excessive_bools, reason = "one wish, handed through")]
fn cell(random: &mut SeededRandom, between: Between, patient: bool) -> Cell {
    let hosts: Vec<Host> = (0..if random.one_in(3) { 2 } else { 1 }).map(|_| host(random, patient)).collect();
    let mut domains = vec![domain(random, between)];
    // A policy that is replaced depends on who has asked for it before.
    let is_alone = matches!(domains[0].sts, Sts::Replaced(..));
    if !is_alone && random.one_in(3) {
        let neighbour = domain(random, between);
        domains.push(if matches!(neighbour.sts, Sts::Replaced(..)) { Domain::PLAIN } else { neighbour });
    }
    let mut mails = |most: usize| -> Vec<Mail> {
        (0..most).map(|_| Mail { domain: random.size(domains.len()), asks: asks(random) }).collect()
    };
    let (first, later) = if is_alone { (Vec::new(), mails(1)) } else { (mails(1), mails(2)) };
    Cell { hosts, domains, first, later }
}

#[expect(clippy::fn_params_excessive_bools, reason = "one wish, handed through")]
#[expect(clippy::too_many_lines, reason = "a list of all that a host can be")]
fn host(random: &mut SeededRandom, patient: bool) -> Host {
    use StartTls::{
        Alert, ClientCertificate12, ClientCertificate13, Cut, Garbage, HeloOnly, NotOffered, Offered, Only12,
        Refused454, Silent, Tls10,
    };
    let tlsa = *random.pick(&[
        Tlsa::None,
        Tlsa::None,
        Tlsa::Ee,
        Tlsa::Ee,
        Tlsa::Ta,
        Tlsa::EeWrong,
        Tlsa::TaWrong,
        Tlsa::EeAmongWrong,
        Tlsa::Unusable,
        Tlsa::UnusableAndWrong,
        Tlsa::Lost,
        Tlsa::Denied,
    ]);
    let certificate = *random.pick(&[
        Certificate::Public,
        Certificate::Public,
        Certificate::Public,
        Certificate::PublicElsewhere,
        Certificate::PublicForDomain,
        Certificate::PublicExpired,
        Certificate::PublicCommonName,
        Certificate::SelfSigned,
        Certificate::SelfSigned,
        Certificate::SelfSignedExpired,
    ]);
    let spoilt = [
        NotOffered,
        NotOffered,
        HeloOnly,
        Refused454,
        Alert,
        Tls10,
        Cut,
        Garbage,
        ClientCertificate12,
        ClientCertificate13,
    ];
    let starttls = match random.below(10) {
        0..6 => Offered,
        6 => Only12,
        7 if patient && random.one_in(4) => Silent,
        _ => *random.pick(&spoilt),
    };
    Host {
        addresses: *random.pick(&[
            Signed::Yes,
            Signed::Yes,
            Signed::Yes,
            Signed::Yes,
            Signed::No,
            Signed::No,
            Signed::Lost,
        ]),
        tlsa,
        certificate,
        starttls,
        offers_requiretls: !random.one_in(4),
        listed: *random.pick(&[Listed::ByName, Listed::ByName, Listed::ByWildcard, Listed::No]),
    }
}

fn domain(random: &mut SeededRandom, between: Between) -> Domain {
    let mx = match random.below(16) {
        0..6 => Signed::Yes,
        15 => Signed::Lost,
        _ => Signed::No,
    };
    Domain { mx, sts: sts(random, between), rule: rule(random) }
}

fn mode(random: &mut SeededRandom) -> Mode {
    *random.pick(&[Mode::Enforce, Mode::Enforce, Mode::Enforce, Mode::Testing, Mode::None])
}

fn sts(random: &mut SeededRandom, between: Between) -> Sts {
    let kept: &[Kept] = match between {
        Between::Nothing => &[Kept::Whole, Kept::Whole, Kept::Expired],
        Between::Restart => &[Kept::Whole, Kept::Whole, Kept::Expired, Kept::Unreadable, Kept::Unreadable],
    };
    match random.below(16) {
        0..4 => Sts::Never,
        4 => Sts::BadRecord,
        5 => Sts::TxtLost,
        6 => Sts::HostDown,
        7 => Sts::Replaced(mode(random), mode(random)),
        8..11 => Sts::Published(mode(random)),
        _ => {
            let reach = *random.pick(&[Reach::Live, Reach::TxtGone, Reach::TxtLost, Reach::HostDown, Reach::Gone]);
            Sts::Kept(mode(random), *random.pick(kept), reach)
        }
    }
}

fn rule(random: &mut SeededRandom) -> Rule {
    let level = match random.below(12) {
        0 => Some(Level::Opportunistic),
        1 => Some(Level::Encrypt),
        2 => Some(Level::Dane),
        3 => Some(Level::DaneOnly),
        4 => Some(Level::MtaSts),
        5 => Some(Level::Off),
        _ => None,
    };
    // Who wants nothing has nothing to report.
    let may_report = !matches!(level, Some(Level::Opportunistic | Level::Off));
    Rule { level, report_only: may_report && random.one_in(8) }
}

fn asks(random: &mut SeededRandom) -> Asks {
    *random.pick(&[Asks::Nothing, Asks::Nothing, Asks::RequireTls, Asks::Waives])
}
