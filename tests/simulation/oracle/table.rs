//! The oracle: what must become of a mail, from RFC 7672 (DANE), RFC 8461 (MTA-STS), RFC 8689
//! (REQUIRETLS) and what the README lets the operator say. It knows nothing of the relay's code and
//! names nothing of it; whoever changes a rule changes it here by hand, too.
//!
//! From the facts of a host follow its [`Records`] and the domain's [`Policy`]; from those what is
//! [`published`]; from that, the operator's level and the sender's wish the [`Demand`]; and from the
//! demand and what the host does about TLS the end with it. The hosts are asked in their order.

use super::facts::{
    Asks, Cell, Certificate, Domain, Host, Kept, Level, Listed, Mail, Mode, Reach, Rule, Settings, Signed, StartTls,
    Sts, Tlsa,
};
use std::collections::BTreeSet;

/// What becomes of a mail at its first attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The host with this number takes it.
    Goes(usize, How),
    /// It stays in the queue, for one of these reasons.
    Waits(Whys),
    /// The sender has it back, with 5.7.30.
    Returns,
    /// Either: something is known to lack, and something else could not be found out.
    Either(Whys),
}

/// How well protected it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum How {
    Clear,
    /// Through TLS, to whoever it is.
    Unauthenticated,
    /// TLSA records vouch for the host, and signed MX records for its serving the domain.
    Dane,
    /// TLSA records vouch for the host, and nobody for its serving the domain.
    DaneOfHost,
    /// A public authority vouches for the host's name.
    WebPki,
    /// Both.
    WebPkiAndDaneOfHost,
}

/// Why it does not go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// Something that decides could not be found out.
    NotFoundOut,
    /// There is no STARTTLS.
    NoTls,
    Handshake,
    Certificate,
    /// The policy does not name the host.
    NotListed,
    /// The operator demands DANE.
    NoDane,
    /// The operator demands MTA-STS.
    NoSts,
    /// REQUIRETLS cannot be kept.
    RequireTls,
}

/// The TLSA records of a host, as far as they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Records {
    None,
    /// There are some, and none of them can be used.
    Unusable,
    Usable,
    Lost,
}

/// The MTA-STS policy in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// None, or one in mode none.
    None,
    /// On first contact there is one that cannot be had: as none, but for who needs one.
    Unfetched,
    Testing,
    Enforce,
    Lost,
}

/// What a host must prove before it is told an envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is demanded or not, whatever the others are")]
pub(crate) struct Demand {
    pub(crate) tls: bool,
    pub(crate) dane: bool,
    pub(crate) webpki: bool,
    pub(crate) requiretls: bool,
}

/// Why it does not go: one of these will be told.
pub(crate) type Whys = BTreeSet<Why>;

/// A host does not get the mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Waits(Whys),
    Returns,
    /// See [`End::Either`].
    Either(Whys),
}

/// When a mail is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    First,
    Later,
    /// When all mails have gone.
    Last,
}

/// What is known of a domain at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) mx: Signed,
    pub(crate) policy: Policy,
    /// Whether it names hosts as [`Host::listed`] says; otherwise none.
    pub(crate) names_hosts: bool,
    pub(crate) rule: Rule,
}

/// RFC 7672 §2.2.2: without signed addresses nobody asks for TLSA records. §2.1.2: what cannot be
/// had or does not prove itself is not "none". §3.1.3: usages 0 and 1 mean nothing. Behind unsigned
/// MX records (§2.2.1) the operator says whether they count.
pub(crate) fn records(settings: &Settings, mx: Signed, host: &Host) -> Records {
    let count = mx == Signed::Yes || settings.dane_behind_insecure_mx;
    match host.tlsa {
        _ if !count || host.addresses == Signed::No => Records::None,
        Tlsa::None => Records::None,
        Tlsa::Unusable => Records::Unusable,
        Tlsa::Lost | Tlsa::Denied => Records::Lost,
        Tlsa::Ee | Tlsa::Ta | Tlsa::EeWrong | Tlsa::TaWrong | Tlsa::EeAmongWrong | Tlsa::UnusableAndWrong => {
            Records::Usable
        }
    }
}

/// RFC 8461 §3.3: who cannot get a policy on first contact goes on without; but where the zone is
/// signed, whoever hides the record cannot prove that there is none, and is not believed, as with
/// TLSA. §5.1, §10.2: a policy that was fetched holds until its time is over, whatever can be
/// reached; and where one was fetched that cannot be read, there is no first contact.
pub(crate) fn policy(settings: &Settings, domain: &Domain, when: When) -> Policy {
    let of_mode = |mode: Mode| match mode {
        Mode::Enforce => Policy::Enforce,
        Mode::Testing => Policy::Testing,
        Mode::None => Policy::None,
    };
    let hidden = if domain.mx == Signed::No { Policy::Unfetched } else { Policy::Lost };
    match domain.sts {
        _ if !settings.mta_sts => Policy::None,
        Sts::Never | Sts::BadRecord => Policy::None,
        Sts::HostDown => Policy::Unfetched,
        Sts::TxtLost => hidden,
        Sts::Published(mode) => of_mode(mode),
        Sts::Kept(mode, _, _) if when == When::First => of_mode(mode),
        Sts::Kept(mode, Kept::Whole, _) | Sts::Kept(mode, _, Reach::Live) => of_mode(mode),
        // It is fetched again, whatever has become of the record (RFC 8461 §10.2).
        Sts::Kept(mode, Kept::Unreadable, Reach::TxtGone | Reach::TxtLost) => of_mode(mode),
        Sts::Kept(_, Kept::Unreadable, Reach::HostDown | Reach::Gone) => Policy::Lost,
        Sts::Kept(_, Kept::Expired, Reach::TxtGone | Reach::Gone) => Policy::None,
        Sts::Kept(_, Kept::Expired, Reach::HostDown) => Policy::Unfetched,
        Sts::Kept(_, Kept::Expired, Reach::TxtLost) => hidden,
        Sts::Replaced(_, new) if when == When::Last => of_mode(new),
        Sts::Replaced(old, _) => of_mode(old),
    }
}

/// What DNS and policy of the recipient's side demand. DANE of the domain, which is signed MX
/// records and usable TLSA records, leaves nothing to MTA-STS (RFC 8461 §2). Anything less adds to
/// what an enforced policy demands and takes nothing away.
#[expect(clippy::fn_params_excessive_bools, reason = "a fact about the host, and no switch")]
pub(crate) fn published(mx: Signed, records: Records, policy: Policy, is_listed: bool) -> Result<Demand, Whys> {
    let by_dns = match records {
        Records::Lost => Err(Why::NotFoundOut),
        Records::None => Ok(Demand::default()),
        Records::Unusable => Ok(Demand { tls: true, ..Demand::default() }),
        Records::Usable => Ok(Demand { tls: true, dane: true, ..Demand::default() }),
    };
    let by_policy = match policy {
        _ if mx == Signed::Yes && records == Records::Usable => Ok(Demand::default()),
        Policy::None | Policy::Unfetched | Policy::Testing => Ok(Demand::default()),
        Policy::Lost => Err(Why::NotFoundOut),
        Policy::Enforce if is_listed => Ok(Demand { tls: true, webpki: true, ..Demand::default() }),
        Policy::Enforce => Err(Why::NotListed),
    };
    both(by_dns.map_err(|why| Whys::from([why])), by_policy.map_err(|why| Whys::from([why])))
}

/// All that both demand; whatever stops one of them stops it.
fn both(one: Result<Demand, Whys>, other: Result<Demand, Whys>) -> Result<Demand, Whys> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok(one.and(other)),
        (one, other) => Err([one, other].into_iter().filter_map(Result::err).flatten().collect()),
    }
}

/// What the operator demands on top; neither the sender nor the recipient can waive it.
fn floor(level: Option<Level>, mx: Signed, records: Records, policy: Policy) -> Result<Demand, Whys> {
    let is_dane_of_domain = mx == Signed::Yes && records == Records::Usable;
    let stop = |why| Err(Whys::from([why]));
    match level {
        None | Some(Level::Opportunistic | Level::Dane | Level::Off) => Ok(Demand::default()),
        Some(Level::Encrypt) => Ok(Demand { tls: true, ..Demand::default() }),
        Some(Level::DaneOnly) if is_dane_of_domain => Ok(Demand { tls: true, dane: true, ..Demand::default() }),
        Some(Level::DaneOnly) if records == Records::Lost => stop(Why::NotFoundOut),
        Some(Level::DaneOnly) => stop(Why::NoDane),
        // What the policy demands is demanded already.
        Some(Level::MtaSts) if is_dane_of_domain || matches!(policy, Policy::Enforce | Policy::Lost) => {
            Ok(Demand::default())
        }
        Some(Level::MtaSts) => stop(Why::NoSts),
    }
}

/// What one host must prove for one mail.
pub(crate) fn demand(settings: &Settings, known: &Known, host: &Host, asks: Asks) -> Result<Demand, Stop> {
    let Known { mx, rule, .. } = *known;
    if mx == Signed::Lost || host.addresses == Signed::Lost {
        return Err(Stop::Waits(Whys::from([Why::NotFoundOut])));
    }
    // RFC 8689 §4.2.1: no exception of ours reaches a mail whose sender demands TLS all the way.
    let requires = asks == Asks::RequireTls;
    let rule = if requires { without_weakening(rule) } else { rule };
    let records = records(settings, mx, host);
    let policy = match (rule.level, known.policy) {
        (Some(Level::Dane), _) => Policy::None,
        // Who demands a policy enforces one that is only tested, too.
        (Some(Level::MtaSts), Policy::Testing) => Policy::Enforce,
        (_, policy) => policy,
    };
    let is_listed = known.names_hosts && host.listed != Listed::No;
    let public = published(mx, records, policy, is_listed);
    let floor = if rule.report_only { Ok(Demand::default()) } else { floor(rule.level, mx, records, policy) };
    // What the operator demands is never waived, and under a level that demands something he demands
    // what is published, too.
    let demands = matches!(rule.level, Some(Level::Encrypt | Level::DaneOnly | Level::MtaSts));
    let waived = asks == Asks::Waives && settings.tls_required_no && !demands;
    let ignored = waived || rule.report_only || matches!(rule.level, Some(Level::Opportunistic | Level::Off));
    let public = if ignored { Ok(Demand::default()) } else { public };
    let demand = both(public, floor);
    if requires { under_requiretls(mx, policy, is_listed, demand) } else { demand.map_err(Stop::Waits) }
}

fn without_weakening(rule: Rule) -> Rule {
    match rule {
        Rule { level: Some(Level::Opportunistic | Level::Dane | Level::Off), .. } => Rule::default(),
        // A demand outlives the trial of it.
        Rule { level, .. } => Rule { level, report_only: false },
    }
}

/// RFC 8689 §4.2.1: signed MX records or an enforced policy prove the host, DANE or a public
/// authority its certificate, and it must offer REQUIRETLS. What is known to lack returns the mail;
/// what could not be found out lets it wait, and so does what the operator demands beyond all that.
#[expect(clippy::fn_params_excessive_bools, reason = "a fact about the host, and no switch")]
fn under_requiretls(mx: Signed, policy: Policy, is_listed: bool, demand: Result<Demand, Whys>) -> Result<Demand, Stop> {
    let is_proven = mx == Signed::Yes || policy == Policy::Enforce && is_listed;
    let may_be_proven = is_proven || matches!(policy, Policy::Lost | Policy::Unfetched);
    match demand {
        Err(whys) if whys.contains(&Why::NotFoundOut) && !may_be_proven => Err(Stop::Either(whys)),
        _ if !may_be_proven => Err(Stop::Returns),
        Err(whys) if whys.contains(&Why::NotFoundOut) => Err(Stop::Waits(whys)),
        Err(whys) if whys.contains(&Why::NoDane) || whys.contains(&Why::NoSts) => {
            let lost = [Why::NotFoundOut, Why::NoSts].into_iter().filter(|_| !is_proven);
            Err(Stop::Waits(whys.into_iter().chain(lost).collect()))
        }
        Ok(_) if !is_proven => Err(Stop::Waits(Whys::from([Why::NotFoundOut, Why::NoSts]))),
        Err(whys) if !is_proven => Err(Stop::Either(whys.into_iter().chain([Why::NotFoundOut, Why::NoSts]).collect())),
        Err(_) => Err(Stop::Returns),
        // TLSA records of a host behind unsigned MX records never stand alone here: the policy has
        // asked for a public certificate already.
        Ok(demand) => Ok(Demand { tls: true, webpki: demand.webpki || !demand.dane, requiretls: true, ..demand }),
    }
}

impl Demand {
    fn and(self, other: Self) -> Self {
        Self {
            tls: self.tls || other.tls,
            dane: self.dane || other.dane,
            webpki: self.webpki || other.webpki,
            requiretls: self.requiretls || other.requiretls,
        }
    }
}

/// Whether TLSA records vouch for the certificate. `3`: it is the one, whatever its name and date
/// (RFC 7672 §3.1.1). `2`: its name and date count, too (§3.1.2); with signed MX records the name of
/// the domain will also do (§3.2.2), and without alternative names the common name (§3.2.3).
#[expect(clippy::fn_params_excessive_bools, reason = "a fact about the host, and no switch")]
fn dane_vouches(host: &Host, mx: Signed, is_first_domain: bool) -> bool {
    match host.tlsa {
        Tlsa::Ee | Tlsa::EeAmongWrong => true,
        Tlsa::Ta => match host.certificate {
            Certificate::Public | Certificate::PublicCommonName | Certificate::SelfSigned => true,
            Certificate::PublicForDomain => mx == Signed::Yes && is_first_domain,
            Certificate::PublicElsewhere | Certificate::PublicExpired | Certificate::SelfSignedExpired => false,
        },
        Tlsa::None | Tlsa::EeWrong | Tlsa::TaWrong | Tlsa::Unusable | Tlsa::UnusableAndWrong => false,
        Tlsa::Lost | Tlsa::Denied => false,
    }
}

/// RFC 8461 §4.2: trusted, in its time, and for the host's name as an alternative name.
fn public_authority_vouches(host: &Host) -> bool {
    host.certificate == Certificate::Public
}

/// What a host does about TLS when it is asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    Works,
    /// There is none, and the connection goes on.
    Refused,
    /// The connection is lost over it.
    Breaks,
}

fn tls(starttls: StartTls) -> Tls {
    match starttls {
        StartTls::Offered | StartTls::Only12 => Tls::Works,
        StartTls::NotOffered | StartTls::HeloOnly | StartTls::Refused454 => Tls::Refused,
        StartTls::Alert | StartTls::Tls10 | StartTls::Cut | StartTls::Garbage | StartTls::Silent => Tls::Breaks,
        StartTls::ClientCertificate12 | StartTls::ClientCertificate13 => Tls::Breaks,
    }
}

/// What becomes of a mail at a host of which this is demanded.
pub(crate) fn meet(settings: &Settings, demand: &Demand, host: &Host, of: &Vouching) -> Result<How, Whys> {
    let is_bad = demand.dane && !dane_vouches(host, of.mx, of.is_first_domain)
        || demand.webpki && !public_authority_vouches(host);
    match tls(host.starttls) {
        // RFC 7435: better in clear text than not at all, where nothing is demanded.
        Tls::Refused if demand.tls => Err(Whys::from([Why::NoTls])),
        Tls::Refused => Ok(How::Clear),
        // The certificate may have been seen before.
        Tls::Breaks if is_bad => Err(Whys::from([Why::Handshake, Why::Certificate])),
        Tls::Breaks if demand.tls || !settings.clear_text_fallback => Err(Whys::from([Why::Handshake])),
        Tls::Breaks => Ok(How::Clear),
        Tls::Works if is_bad => Err(Whys::from([Why::Certificate])),
        Tls::Works if demand.requiretls && !host.offers_requiretls => Err(Whys::from([Why::RequireTls])),
        Tls::Works => Ok(match (demand.dane, demand.webpki) {
            (true, true) => How::WebPkiAndDaneOfHost,
            (false, true) => How::WebPki,
            (true, false) if of.mx == Signed::Yes => How::Dane,
            (true, false) => How::DaneOfHost,
            (false, false) => How::Unauthenticated,
        }),
    }
}

/// What the names in a certificate are compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vouching {
    pub(crate) mx: Signed,
    pub(crate) is_first_domain: bool,
}

/// The end of a mail, with what is known.
fn end_with(settings: &Settings, cell: &Cell, mail: Mail, known: &Known) -> End {
    let of = Vouching { mx: known.mx, is_first_domain: mail.domain == 0 };
    let is_never_tls = known.rule.level == Some(Level::Off) && mail.asks != Asks::RequireTls;
    let mut stops = Vec::new();
    for (number, host) in cell.hosts.iter().enumerate() {
        let met =
            demand(settings, known, host, mail.asks).and_then(|demand| match meet(settings, &demand, host, &of) {
                _ if is_never_tls => Ok(How::Clear),
                Ok(how) => Ok(how),
                // Whoever says nothing has not said that he cannot.
                Err(_) if mail.asks == Asks::RequireTls && host.starttls != StartTls::Silent => Err(Stop::Returns),
                Err(whys) => Err(Stop::Waits(whys)),
            });
        match met {
            // RFC 5321 §5.1: the first that may have it.
            Ok(how) => return End::Goes(number, how),
            Err(stop) => stops.push(stop),
        }
    }
    stopped(stops)
}

/// What one host is known not to keep another may keep, once more is found out.
fn stopped(stops: Vec<Stop>) -> End {
    let (mut whys, mut waits, mut may_wait) = (Whys::new(), false, false);
    for stop in stops {
        waits |= matches!(stop, Stop::Waits(_));
        may_wait |= matches!(stop, Stop::Either(_));
        match stop {
            Stop::Waits(more) | Stop::Either(more) => whys.extend(more),
            Stop::Returns => _ = whys.insert(Why::RequireTls),
        }
    }
    match (waits, may_wait) {
        (true, _) => End::Waits(whys),
        (false, true) => End::Either(whys),
        (false, false) => End::Returns,
    }
}

/// The end of a mail at its first attempt, whatever other mail went before it.
pub(crate) fn end(settings: &Settings, cell: &Cell, mail: Mail, when: When) -> End {
    let domain = &cell.domains[mail.domain];
    let known = |when: When| Known {
        mx: domain.mx,
        policy: policy(settings, domain, when),
        names_hosts: !matches!(domain.sts, Sts::Replaced(..)) || when == When::Last,
        rule: domain.rule,
    };
    // RFC 8461 §5.1 lets mail go by the old policy while the new one is fetched. One of mode none says
    // that there is none, so this is as on first contact.
    let when = if matches!(domain.sts, Sts::Replaced(Mode::None, _)) { When::Last } else { when };
    let end = end_with(settings, cell, mail, &known(when));
    // RFC 8461 §5.1: before a policy stops a mail it is looked at again.
    match (domain.sts, end) {
        (Sts::Replaced(..), stopped @ (End::Waits(_) | End::Returns | End::Either(_))) if when == When::Later => {
            match (end_with(settings, cell, mail, &known(When::Last)), stopped) {
                (End::Waits(new), End::Waits(old)) => End::Waits(new.union(&old).copied().collect()),
                (end, _) => end,
            }
        }
        (_, end) => end,
    }
}
