//! What is decided from which facts: each rule alone, and the grid of what may meet.

use super::*;
use crate::clock::Timestamp;
use crate::outcome::{ExceptionInForce, Question};
use crate::policy::sts::StsAbsent;
use crate::policy::sts::failure::FetchFailure;
use crate::resolve::{HostAddresses, HostsFrom, TlsaRecord};
use std::sync::Arc;

const HOST: &str = "mx.x.example";

fn record(usage: u8) -> TlsaRecord {
    TlsaRecord { usage, selector: 1, matching: 1, data: vec![7; 32] }
}

fn present(usages: &[u8]) -> TlsaLookup {
    TlsaLookup::Present {
        base_domain: HOST.parse().unwrap(),
        records: usages.iter().map(|&usage| record(usage)).collect(),
    }
}

fn unavailable() -> TlsaLookup {
    let question = Question { name: format!("_25._tcp.{HOST}"), record_type: "TLSA".into() };
    TlsaLookup::Unavailable(Cause::DnsUnavailable { question, tried: Vec::new() })
}

fn absent() -> TlsaLookup {
    TlsaLookup::Absent(AbsentBecause::ProvenAbsent)
}

fn sts(mode: &str, listed: &str) -> StsState {
    let text = format!("version: STSv1\nmode: {mode}\nmx: {listed}\nmax_age: 86400\n");
    let policy = StsPolicy::read("x.example".parse().unwrap(), None, text.into(), Timestamp(0)).unwrap();
    StsState::Policy(Arc::new(policy))
}

fn no_sts() -> StsState {
    StsState::Absent(StsAbsent::NoRecord)
}

fn level(level: TlsLevel) -> LocalRule {
    let exception = level.weakens().then(|| ExceptionInForce {
        kind: level.word().into(),
        reason: "test".into(),
        until: "2027-01-31".into(),
    });
    LocalRule { level: Some(level), report_only: false, exception }
}

fn report_only(rule: LocalRule) -> LocalRule {
    LocalRule { report_only: true, ..rule }
}

/// All facts, with the defaults that say nothing.
struct DecisionCase {
    tlsa: TlsaLookup,
    mx: Security,
    sts: StsState,
    rule: LocalRule,
    request: TlsRequest,
    dane_behind_insecure_mx: bool,
}

fn case(tlsa: TlsaLookup) -> DecisionCase {
    DecisionCase {
        tlsa,
        mx: Security::Secure,
        sts: no_sts(),
        rule: LocalRule::default(),
        request: TlsRequest::ByPolicy,
        dane_behind_insecure_mx: true,
    }
}

impl DecisionCase {
    fn verdict(self) -> HostVerdict {
        self.judged(HOST).0
    }

    /// The verdict, and whether MTA-STS is asked for it.
    fn judged(self, host: &str) -> (HostVerdict, bool) {
        let host = MxHost {
            name: host.into(),
            preference: 10,
            addresses: HostAddresses::Known(vec!["192.0.2.1".parse().unwrap()]),
            security: Security::Secure,
            tlsa: self.tlsa,
        };
        let resolution = Resolution {
            next_hop: "x.example".into(),
            port: 25,
            hosts_from: HostsFrom::Mx,
            mx_security: self.mx,
            references: Vec::new(),
            hosts: vec![host.clone()],
            traces: Vec::new(),
        };
        let facts = Facts {
            resolution: &resolution,
            sts: &self.sts,
            rule: &self.rule,
            request: self.request,
            dane_behind_insecure_mx: self.dane_behind_insecure_mx,
        };
        (decide(&facts, &host), sts_matters(&facts))
    }

    /// The verdict in words: the policy, what is watched behind a slash, or the cause.
    fn words(self) -> String {
        self.words_for(HOST)
    }

    fn words_for(self, host: &str) -> String {
        match self.judged(host).0 {
            HostVerdict::Skip(cause) => format!("skip {}", cause.row().word),
            HostVerdict::Use(Decision { policy, watched: None, require_tls }) => {
                format!("{}{}", policy.word(), if require_tls { "+requiretls" } else { "" })
            }
            HostVerdict::Use(Decision { policy, watched: Some(watched), .. }) => {
                let demand = watched.demand.map_or_else(|cause| cause.row().word, |policy| policy.word());
                format!("{}/{} {demand}", policy.word(), watched.because.word())
            }
        }
    }
}

#[test]
fn rfc7672_2_2_what_the_tlsa_records_demand() {
    assert_eq!(case(absent()).words(), "opportunistic");
    assert_eq!(case(present(&[3])).words(), "dane");
    assert_eq!(case(present(&[0, 1])).words(), "encrypt", "none is usable: TLS without authentication");
    assert_eq!(case(present(&[0, 3])).words(), "dane", "one usable is enough");
    assert_eq!(case(unavailable()).words(), "skip dns-unavailable", "could not find out is never none");
}

#[test]
fn rfc8461_5_an_enforced_policy_demands_a_listed_host_and_its_certificate() {
    let with = |mode, listed| DecisionCase { sts: sts(mode, listed), ..case(absent()) }.words();
    assert_eq!(with("enforce", HOST), "webpki");
    assert_eq!(with("enforce", "*.x.example"), "webpki");
    assert_eq!(with("enforce", "other.example"), "skip sts-mx-not-listed");
    assert_eq!(with("testing", HOST), "opportunistic/mta-sts-testing webpki");
    assert_eq!(with("testing", "other.example"), "opportunistic/mta-sts-testing sts-mx-not-listed");
}

#[test]
fn rfc8461_2_dane_comes_first_and_no_policy_stands_in_for_one_that_failed() {
    for mode in ["enforce", "testing"] {
        let with = |tlsa, listed| DecisionCase { sts: sts(mode, listed), ..case(tlsa) }.words();
        assert_eq!(with(present(&[3]), HOST), "dane", "{mode}");
        assert_eq!(with(present(&[3]), "other.example"), "dane", "{mode}: the policy does not list it, DANE wins");
        assert_eq!(with(unavailable(), HOST), "skip dns-unavailable", "{mode}");
    }
    // Unusable records demand TLS; an enforced policy adds the authentication they cannot give.
    assert_eq!(DecisionCase { sts: sts("enforce", HOST), ..case(present(&[0])) }.words(), "webpki");
    assert_eq!(
        DecisionCase { sts: sts("enforce", "o.example"), ..case(present(&[0])) }.words(),
        "skip sts-mx-not-listed"
    );
    assert_eq!(DecisionCase { sts: sts("testing", HOST), ..case(present(&[0])) }.words(), "encrypt");
}

#[test]
fn rfc7672_2_2_1_an_unsigned_mx_record_lets_dane_prove_the_host_and_not_the_domain() {
    let with = |tlsa, setting| DecisionCase { mx: Security::Insecure, dane_behind_insecure_mx: setting, ..case(tlsa) };
    let HostVerdict::Use(Decision { policy: TlsPolicy::Dane(policy), .. }) = with(present(&[3]), true).verdict() else {
        panic!("dane is due");
    };
    assert_eq!(policy.scope, DaneScope::Host);
    assert_eq!(policy.references, ["mx.x.example".parse().unwrap()], "the host's name only (RFC 7672 §3.2.2)");
    assert_eq!(with(present(&[3]), false).words(), "opportunistic");
    assert_eq!(with(unavailable(), true).words(), "skip dns-unavailable");
    assert_eq!(with(unavailable(), false).words(), "opportunistic", "records that would not count cannot be missed");
}

/// An unsigned domain whose MX host is signed.
fn unsigned(tlsa: TlsaLookup, sts: StsState) -> DecisionCase {
    DecisionCase { mx: Security::Insecure, sts, ..case(tlsa) }
}

#[test]
fn rfc8461_4_dane_behind_an_unsigned_mx_adds_to_an_enforced_policy_and_never_replaces_it() {
    let with = |tlsa, listed| unsigned(tlsa, sts("enforce", listed)).words();
    assert_eq!(with(present(&[3]), HOST), "webpki-and-dane");
    assert_eq!(with(present(&[3]), "other.example"), "skip sts-mx-not-listed", "whoever forged the MX");
    assert_eq!(with(unavailable(), "other.example"), "skip sts-mx-not-listed");
    assert_eq!(with(unavailable(), HOST), "skip dns-unavailable", "could not find out is never none");
    assert_eq!(with(present(&[0]), HOST), "webpki", "no usable record has anything to add");
    assert_eq!(with(absent(), HOST), "webpki");
    for weaker in [sts("testing", "other.example"), no_sts()] {
        assert_eq!(unsigned(present(&[3]), weaker).words(), "dane");
    }
}

#[test]
fn rfc8461_4_no_level_of_the_operator_takes_the_host_for_the_domain() {
    let with = |rule, tlsa, sts| DecisionCase { rule: level(rule), ..unsigned(tlsa, sts) }.words();
    let enforced = |listed| sts("enforce", listed);
    for rule in [TlsLevel::Encrypt, TlsLevel::MtaSts] {
        assert_eq!(with(rule, present(&[3]), enforced(HOST)), "webpki-and-dane", "{rule:?}");
        assert_eq!(with(rule, present(&[3]), enforced("o.example")), "skip sts-mx-not-listed", "{rule:?}");
        assert_eq!(with(rule, unavailable(), enforced(HOST)), "skip dns-unavailable", "{rule:?}");
    }
    assert_eq!(
        with(TlsLevel::MtaSts, present(&[3]), no_sts()),
        "skip sts-required",
        "DANE names no host of the domain"
    );
    assert_eq!(with(TlsLevel::MtaSts, present(&[3]), sts("testing", HOST)), "webpki-and-dane", "taken at its word");
    assert_eq!(with(TlsLevel::MtaSts, present(&[3]), sts("testing", "o.example")), "skip sts-mx-not-listed");
    assert_eq!(with(TlsLevel::Encrypt, present(&[3]), no_sts()), "dane");
    assert_eq!(with(TlsLevel::Encrypt, present(&[3]), sts("testing", "o.example")), "dane");
    assert_eq!(with(TlsLevel::DaneOnly, present(&[3]), enforced(HOST)), "skip dane-required");
    assert_eq!(with(TlsLevel::Dane, present(&[3]), enforced("o.example")), "dane", "a weakening that is configured");
    assert_eq!(with(TlsLevel::Opportunistic, present(&[3]), enforced("o.example")), "opportunistic");
}

#[test]
fn rfc7672_2_2_1_dane_that_is_left_out_leaves_the_policy_in_force() {
    let with = |rule, tlsa, sts| DecisionCase { rule, dane_behind_insecure_mx: false, ..unsigned(tlsa, sts) }.words();
    for rule in [LocalRule::default(), level(TlsLevel::Encrypt), level(TlsLevel::MtaSts)] {
        for tlsa in [present(&[3]), present(&[0]), unavailable(), absent()] {
            assert_eq!(with(rule.clone(), tlsa.clone(), sts("enforce", HOST)), "webpki", "{rule:?}");
            assert_eq!(with(rule.clone(), tlsa, sts("enforce", "o.example")), "skip sts-mx-not-listed", "{rule:?}");
        }
    }
    assert_eq!(with(level(TlsLevel::Encrypt), present(&[3]), no_sts()), "encrypt");
    assert_eq!(with(level(TlsLevel::MtaSts), present(&[3]), no_sts()), "skip sts-required");
}

#[test]
fn what_both_demand_is_forgiven_and_watched_as_one() {
    let enforced = || sts("enforce", HOST);
    let with = |rule, request, sts| DecisionCase { rule, request, ..unsigned(present(&[3]), sts) }.words();
    let (by_policy, optional) = (TlsRequest::ByPolicy, TlsRequest::Optional);
    let reporting = report_only(LocalRule::default());
    assert_eq!(with(reporting, by_policy, enforced()), "opportunistic/report-only webpki-and-dane");
    let waived = with(LocalRule::default(), optional, enforced());
    assert_eq!(waived, "opportunistic/tls-required-no webpki-and-dane");
    assert_eq!(with(level(TlsLevel::MtaSts), optional, enforced()), "webpki-and-dane", "the operator's demand stays");
    assert_eq!(with(level(TlsLevel::MtaSts), optional, no_sts()), "skip sts-required");
}

#[test]
fn a_host_whose_name_is_no_domain_satisfies_no_policy() {
    for tlsa in [absent(), present(&[3])] {
        for mx in [Security::Secure, Security::Insecure] {
            let odd = |request, sts| {
                let case = DecisionCase { request, mx, sts, ..case(tlsa.clone()) };
                case.words_for("-mx.x.example")
            };
            let is_dane = mx == Security::Secure && tlsa != absent();
            let enforced = odd(TlsRequest::ByPolicy, sts("enforce", "*.x.example"));
            assert_eq!(enforced, if is_dane { "dane" } else { "skip sts-mx-not-listed" });
            let required = odd(TlsRequest::Required, no_sts());
            assert_eq!(required, if is_dane { "dane+requiretls" } else { "skip requiretls-unmet" });
        }
    }
}

#[test]
fn rfc7672_6_mandatory_dane_waits_where_there_is_none() {
    let with = |tlsa| DecisionCase { rule: level(TlsLevel::DaneOnly), sts: sts("enforce", HOST), ..case(tlsa) };
    assert_eq!(with(present(&[3])).words(), "dane");
    assert_eq!(with(absent()).words(), "skip dane-required");
    assert_eq!(with(present(&[0])).words(), "skip dane-required");
    assert_eq!(with(unavailable()).words(), "skip dns-unavailable", "the true reason");
    assert_eq!(
        DecisionCase { mx: Security::Insecure, ..with(present(&[3])) }.words(),
        "skip dane-required",
        "no secure MX"
    );
}

#[test]
fn levels_that_demand_never_take_away_what_the_domain_publishes() {
    for demand in [TlsLevel::Encrypt, TlsLevel::MtaSts, TlsLevel::DaneOnly] {
        assert_eq!(DecisionCase { rule: level(demand), ..case(present(&[3])) }.words(), "dane", "{demand:?}");
    }
    let encrypt = |tlsa, sts| DecisionCase { rule: level(TlsLevel::Encrypt), sts, ..case(tlsa) }.words();
    assert_eq!(encrypt(absent(), no_sts()), "encrypt");
    assert_eq!(encrypt(absent(), sts("enforce", HOST)), "webpki");
    assert_eq!(encrypt(unavailable(), no_sts()), "skip dns-unavailable");
    let mta_sts = |sts| DecisionCase { rule: level(TlsLevel::MtaSts), sts, ..case(absent()) }.words();
    assert_eq!(mta_sts(no_sts()), "skip sts-required");
    assert_eq!(mta_sts(sts("testing", HOST)), "webpki", "taken at its word");
    assert_eq!(mta_sts(sts("testing", "other.example")), "skip sts-mx-not-listed");
}

#[test]
fn weakenings_forgive_what_the_domain_publishes() {
    let with =
        |rule: TlsLevel, tlsa| DecisionCase { rule: level(rule), sts: sts("enforce", HOST), ..case(tlsa) }.words();
    for tlsa in [present(&[3]), absent(), unavailable()] {
        assert_eq!(with(TlsLevel::Opportunistic, tlsa.clone()), "opportunistic");
        assert_eq!(with(TlsLevel::Off, tlsa), "off");
    }
    assert_eq!(with(TlsLevel::Dane, present(&[3])), "dane");
    assert_eq!(with(TlsLevel::Dane, absent()), "opportunistic", "the policy is not looked at");
}

#[test]
fn report_only_delivers_and_remembers_what_would_have_failed() {
    let with = |rule, tlsa, sts| DecisionCase { rule: report_only(rule), sts, ..case(tlsa) }.words();
    let plain = LocalRule::default;
    assert_eq!(with(plain(), present(&[3]), no_sts()), "opportunistic/report-only dane");
    assert_eq!(with(plain(), unavailable(), no_sts()), "opportunistic/report-only dns-unavailable");
    assert_eq!(with(plain(), absent(), sts("enforce", HOST)), "opportunistic/report-only webpki");
    assert_eq!(with(plain(), absent(), no_sts()), "opportunistic", "there is nothing to forgive");
    assert_eq!(with(level(TlsLevel::DaneOnly), absent(), no_sts()), "opportunistic/report-only dane-required");
}

#[test]
fn rfc8689_4_2_1_requiretls_wants_a_proven_host_and_its_certificate() {
    let with = |tlsa, mx, sts| DecisionCase { request: TlsRequest::Required, mx, sts, ..case(tlsa) }.words();
    assert_eq!(with(present(&[3]), Security::Secure, no_sts()), "dane+requiretls");
    assert_eq!(with(absent(), Security::Secure, no_sts()), "webpki+requiretls");
    assert_eq!(with(present(&[0]), Security::Secure, no_sts()), "webpki+requiretls", "unusable records prove nothing");
    assert_eq!(with(absent(), Security::Insecure, sts("enforce", HOST)), "webpki+requiretls");
    assert_eq!(with(absent(), Security::Insecure, no_sts()), "skip requiretls-unmet");
    assert_eq!(with(present(&[3]), Security::Insecure, no_sts()), "skip requiretls-unmet", "who named the host?");
    assert_eq!(with(present(&[3]), Security::Insecure, sts("enforce", HOST)), "webpki-and-dane+requiretls");
    let unlisted = with(present(&[3]), Security::Insecure, sts("enforce", "o.example"));
    assert_eq!(unlisted, "skip sts-mx-not-listed");
    assert_eq!(with(absent(), Security::Insecure, sts("testing", HOST)), "skip requiretls-unmet");
    assert_eq!(with(unavailable(), Security::Secure, no_sts()), "skip dns-unavailable");
}

#[test]
fn rfc8689_4_2_1_a_policy_that_could_not_be_found_out_gives_no_message_back() {
    let with = |absent| {
        let case = DecisionCase { request: TlsRequest::Required, ..unsigned(present(&[3]), StsState::Absent(absent)) };
        case.words()
    };
    let TlsaLookup::Unavailable(cause) = unavailable() else { panic!("made above") };
    assert_eq!(with(StsAbsent::Unknown(cause)), "skip dns-unavailable");
    assert_eq!(with(StsAbsent::FetchFailed(FetchFailure::TimedOut)), "skip sts-required");
    for known in [StsAbsent::NoRecord, StsAbsent::ModeNone, StsAbsent::SwitchedOff] {
        assert_eq!(with(known), "skip requiretls-unmet", "before that the policy is looked at again");
    }
    let unmet = |failure| Cause::RequireTlsUnmet { host: HOST.into(), failure };
    assert!(sts_may_have_changed(&unmet(RequireTlsFailure::HostNotProven)));
}

#[test]
fn rfc8689_4_2_1_a_level_of_the_operator_gives_no_message_back_that_requiretls_alone_would_not() {
    let with = |rule: TlsLevel, mx, sts| {
        let case = DecisionCase { request: TlsRequest::Required, rule: level(rule), mx, sts, ..case(absent()) };
        case.words()
    };
    assert_eq!(with(TlsLevel::DaneOnly, Security::Secure, no_sts()), "skip dane-required");
    assert_eq!(with(TlsLevel::MtaSts, Security::Secure, no_sts()), "skip sts-required");
    assert_eq!(with(TlsLevel::DaneOnly, Security::Insecure, sts("enforce", HOST)), "skip dane-required");
    for unnamed in [TlsLevel::DaneOnly, TlsLevel::MtaSts] {
        assert_eq!(with(unnamed, Security::Insecure, no_sts()), "skip requiretls-unmet");
    }
    let fetch_failed = StsState::Absent(StsAbsent::FetchFailed(FetchFailure::TimedOut));
    assert_eq!(with(TlsLevel::DaneOnly, Security::Insecure, fetch_failed), "skip sts-required");
    assert_eq!(with(TlsLevel::DaneOnly, Security::Insecure, sts("enforce", "o.example")), "skip requiretls-unmet");
    let waits = Cause::DaneRequired { host: HOST.into(), because: "there is none".into() };
    assert_eq!(failed_under_require_tls(waits.clone()), waits);
}

#[test]
fn rfc8689_4_1_nothing_forgives_a_message_with_requiretls() {
    let weakenings = [
        level(TlsLevel::Opportunistic),
        level(TlsLevel::Off),
        level(TlsLevel::Dane),
        report_only(LocalRule::default()),
    ];
    for rule in weakenings {
        let request = TlsRequest::Required;
        assert_eq!(DecisionCase { request, rule: rule.clone(), ..case(present(&[3])) }.words(), "dane+requiretls");
        let by_policy = DecisionCase { request, rule, ..unsigned(absent(), sts("enforce", HOST)) };
        assert_eq!(by_policy.words(), "webpki+requiretls", "the policy counts, too");
    }
}

#[test]
fn rfc8689_4_2_2_tls_required_no_waives_what_the_recipients_side_demands() {
    let with = |tlsa, sts| DecisionCase { request: TlsRequest::Optional, sts, ..case(tlsa) }.words();
    assert_eq!(with(present(&[3]), no_sts()), "opportunistic/tls-required-no dane");
    assert_eq!(with(present(&[0]), no_sts()), "opportunistic/tls-required-no encrypt");
    assert_eq!(with(unavailable(), no_sts()), "opportunistic/tls-required-no dns-unavailable");
    assert_eq!(with(absent(), sts("enforce", "other.example")), "opportunistic/tls-required-no sts-mx-not-listed");
    assert_eq!(with(absent(), no_sts()), "opportunistic");
}

#[test]
fn rfc8689_4_2_2_tls_required_no_waives_nothing_that_our_operator_demands() {
    let with = |rule, tlsa| DecisionCase { request: TlsRequest::Optional, rule, ..case(tlsa) }.words();
    assert_eq!(with(level(TlsLevel::Encrypt), absent()), "encrypt");
    assert_eq!(with(level(TlsLevel::DaneOnly), present(&[3])), "dane");
    assert_eq!(with(level(TlsLevel::MtaSts), absent()), "skip sts-required");
}

/// Whether the sender or the operator lets the recipient's demands go.
fn forgives(rule: &LocalRule, request: TlsRequest) -> bool {
    rule.report_only
        || matches!(rule.level, Some(TlsLevel::Opportunistic | TlsLevel::Off))
        || (request == TlsRequest::Optional && !operator_demands(rule))
}

/// What must never be decided, whatever the facts.
fn hold_against_the_promises(case: DecisionCase) {
    let said = format!("{:?} {:?} {:?} {:?} {:?}", case.request, case.rule, case.sts, case.tlsa, case.mx);
    let (rule, request, is_signed) = (case.rule.clone(), case.request, case.mx == Security::Secure);
    let counts = is_signed || case.dane_behind_insecure_mx;
    let by_dns = counts && matches!(case.tlsa, TlsaLookup::Present { .. } | TlsaLookup::Unavailable(_));
    let enforced = match &case.sts {
        StsState::Policy(policy) if policy.terms.mode == Mode::Enforce => Some(policy.allows(HOST)),
        StsState::Policy(_) | StsState::Absent(_) => None,
    };
    let by_sts = enforced.is_some() && rule.level != Some(TlsLevel::Dane);
    let HostVerdict::Use(Decision { policy, require_tls, .. }) = case.verdict() else { return };
    let may_be_clear = policy.demanded_by().is_none();
    let proves_domain = match &policy {
        TlsPolicy::Dane(dane) => dane.scope == DaneScope::Domain,
        TlsPolicy::WebPki { .. } | TlsPolicy::WebPkiAndDane { .. } => true,
        TlsPolicy::Off | TlsPolicy::Opportunistic { .. } | TlsPolicy::Encrypt { .. } => false,
    };
    if request == TlsRequest::Required {
        assert!(proves_domain && require_tls, "{said}");
    } else if !forgives(&rule, request) && (by_dns || by_sts) {
        assert!(!may_be_clear, "{said}");
    }
    if operator_demands(&rule) && !rule.report_only {
        assert!(!may_be_clear, "{said}");
        assert!(proves_domain || rule.level == Some(TlsLevel::Encrypt), "{said}");
    }
    // What proves the host alone stands for no policy of the domain.
    if by_sts && !forgives(&rule, request) {
        assert!(proves_domain, "{said}");
        assert!(is_signed || enforced == Some(true), "{said}");
    }
}

/// What is not asked for makes no difference, whatever it would have been.
fn hold_against_every_answer(case: &dyn Fn(StsState) -> DecisionCase) {
    let (verdict, is_asked) = case(StsState::Absent(StsAbsent::NotNeeded)).judged(HOST);
    if !is_asked {
        for answer in answers() {
            assert_eq!(case(answer).verdict(), verdict);
        }
    }
}

fn answers() -> [StsState; 7] {
    let unknown = match unavailable() {
        TlsaLookup::Unavailable(cause) => StsState::Absent(StsAbsent::Unknown(cause)),
        TlsaLookup::Absent(_) | TlsaLookup::Present { .. } => panic!("made above"),
    };
    let none = StsState::Absent(StsAbsent::ModeNone);
    let [enforced, testing] = ["enforce", "testing"].map(|mode| [sts(mode, HOST), sts(mode, "o.example")]);
    let [listed, unlisted] = enforced;
    let [tested, missed] = testing;
    [no_sts(), none, unknown, listed, unlisted, tested, missed]
}

fn every_rule() -> Vec<LocalRule> {
    use TlsLevel::{Dane, DaneOnly, Encrypt, MtaSts, Off, Opportunistic};
    let levels = [Opportunistic, Encrypt, Dane, DaneOnly, MtaSts, Off].map(level);
    std::iter::once(LocalRule::default()).chain(levels).flat_map(|rule| [rule.clone(), report_only(rule)]).collect()
}

#[test]
fn rfc7672_9_1_no_combination_of_facts_falls_back_by_accident() {
    let tlsa = [absent(), unavailable(), present(&[0]), present(&[3]), present(&[2, 3])];
    for rule in every_rule() {
        for request in [TlsRequest::ByPolicy, TlsRequest::Required, TlsRequest::Optional] {
            for (mx, setting) in [(Security::Secure, true), (Security::Insecure, true), (Security::Insecure, false)] {
                for tlsa in &tlsa {
                    let rule = &rule;
                    let case = |sts| DecisionCase {
                        tlsa: tlsa.clone(),
                        sts,
                        rule: rule.clone(),
                        request,
                        mx,
                        dane_behind_insecure_mx: setting,
                    };
                    answers().into_iter().for_each(|sts| hold_against_the_promises(case(sts)));
                    hold_against_every_answer(&case);
                }
            }
        }
    }
}

#[test]
fn mta_sts_is_asked_where_the_verdict_depends_on_it_and_nowhere_else() {
    let is_asked = |case: DecisionCase| case.judged(HOST).1;
    for (signed, answers) in [(true, [false, false, true, true]), (false, [true; 4])] {
        let mx = if signed { Security::Secure } else { Security::Insecure };
        let tlsa = [present(&[3]), unavailable(), present(&[0]), absent()];
        let asked = tlsa.clone().map(|tlsa| is_asked(DecisionCase { mx, ..case(tlsa) }));
        assert_eq!(asked, answers, "signed: {signed}");
        let left_out = tlsa.map(|tlsa| is_asked(DecisionCase { mx, dane_behind_insecure_mx: false, ..case(tlsa) }));
        assert_eq!(left_out, answers, "signed: {signed}");
    }
    for rule in [TlsLevel::Dane, TlsLevel::Opportunistic, TlsLevel::Off, TlsLevel::DaneOnly] {
        assert!(!is_asked(DecisionCase { rule: level(rule), ..unsigned(present(&[3]), no_sts()) }), "{rule:?}");
    }
    assert!(is_asked(DecisionCase {
        rule: level(TlsLevel::Opportunistic),
        request: TlsRequest::Required,
        ..unsigned(present(&[3]), no_sts())
    }));
}

#[test]
fn rfc8461_4_2_a_failure_repeats_the_beginning_of_a_long_policy() {
    let listed = |patterns: usize| {
        let sts = sts("enforce", &vec!["a.example"; patterns].join("\nmx: "));
        let HostVerdict::Skip(cause) = DecisionCase { sts, ..case(absent()) }.verdict() else { panic!() };
        let Cause::StsMxNotListed { listed, .. } = cause else { panic!() };
        (listed.len(), listed.last().cloned().unwrap())
    };
    assert_eq!(listed(LISTED_SHOWN), (LISTED_SHOWN, "a.example".to_owned()));
    assert_eq!(listed(LISTED_SHOWN + 5), (LISTED_SHOWN + 1, "and 5 more".to_owned()));
}

#[test]
fn rfc8461_5_1_a_policy_that_nobody_can_look_into_stops_mail_wherever_it_would_count() {
    let lost = || {
        let because = crate::policy::sts::lost::LostBecause::LetGo;
        let lost = crate::policy::sts::lost::Lost { domain: "x.example".parse().unwrap(), until: None, because };
        StsState::Absent(StsAbsent::Lost { lost: Arc::new(lost), fetch: None })
    };
    let unknown = || {
        let question = Question { name: "_mta-sts.x.example".into(), record_type: "TXT".into() };
        StsState::Absent(StsAbsent::Unknown(Cause::DnsUnavailable { question, tried: Vec::new() }))
    };
    let words = |sts: StsState, change: &dyn Fn(DecisionCase) -> DecisionCase| {
        change(DecisionCase { sts, ..case(absent()) }).words()
    };
    let as_is: &dyn Fn(DecisionCase) -> DecisionCase = &|case| case;
    let unsigned: &dyn Fn(DecisionCase) -> DecisionCase = &|case| DecisionCase { mx: Security::Insecure, ..case };
    assert_eq!(
        (words(lost(), as_is), words(lost(), unsigned)),
        ("skip sts-policy-lost".into(), "skip sts-policy-lost".into())
    );
    assert_eq!(
        (words(unknown(), as_is), words(unknown(), unsigned)),
        ("skip dns-unavailable".into(), "opportunistic".into())
    );
    for (wanted, expected) in [
        (TlsLevel::MtaSts, "skip sts-policy-lost"),
        (TlsLevel::Encrypt, "skip sts-policy-lost"),
        (TlsLevel::Dane, "opportunistic"),
        (TlsLevel::Opportunistic, "opportunistic"),
        (TlsLevel::Off, "off"),
    ] {
        assert_eq!(words(lost(), &|case| DecisionCase { rule: level(wanted), ..case }), expected, "{wanted:?}");
    }
    let waived = words(lost(), &|case| DecisionCase { request: TlsRequest::Optional, ..case });
    assert_eq!(waived, "opportunistic/tls-required-no sts-policy-lost");
    assert_eq!(words(lost(), &|case| DecisionCase { tlsa: present(&[3]), ..case }), "dane", "DANE of the domain wins");
}
