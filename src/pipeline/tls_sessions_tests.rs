//! Facts as they may meet, through the decision that delivery makes, to what is counted.

use super::*;
use crate::clock::Timestamp;
use crate::config::TlsLevel;
use crate::deliver::WatchReport;
use crate::deliver::egress::Egress;
use crate::envelope::TlsRequest;
use crate::outcome::{CertificateFailure, DaneFailure, DemandedBy, Peer, Phase};
use crate::policy::HostVerdict;
use crate::policy::decide::{Facts, decide};
use crate::policy::exceptions::LocalRule;
use crate::policy::sts::StsPolicy;
use crate::policy::sts::failure::FetchFailure;
use crate::resolve::{AbsentBecause, HostAddresses, HostsFrom, MxHost, Resolution, Security};
use crate::smtp::reply::Reply;
use std::sync::Arc;
use std::time::Duration;

const HOST: &str = "mx.x.example";

fn domain() -> Domain {
    "x.example".parse().unwrap()
}

fn peer() -> Peer {
    Peer { host: HOST.into(), address: "192.0.2.1:25".parse().unwrap() }
}

fn present(usages: &[u8]) -> TlsaLookup {
    let record = |&usage| TlsaRecord { usage, selector: 1, matching: 1, data: vec![7; 32] };
    TlsaLookup::Present { base_domain: HOST.parse().unwrap(), records: usages.iter().map(record).collect() }
}

fn absent() -> TlsaLookup {
    TlsaLookup::Absent(AbsentBecause::ProvenAbsent)
}

fn question(name: &str, record_type: &str) -> Question {
    Question { name: name.into(), record_type: record_type.into() }
}

fn silent(name: &str, record_type: &str) -> Cause {
    Cause::DnsUnavailable { question: question(name, record_type), tried: Vec::new() }
}

fn sts(mode: &str, listed: &str) -> StsState {
    let text = format!("version: STSv1\nmode: {mode}\nmx: {listed}\nmax_age: 86400\n");
    StsState::Policy(Arc::new(StsPolicy::read(domain(), None, text.into(), Timestamp(0)).unwrap()))
}

fn no_sts() -> StsState {
    StsState::Absent(StsAbsent::NoRecord)
}

/// What is known, and how the connection fares.
struct Scene {
    facts: RouteFacts,
    /// Why it fails, if it does.
    failure: Option<Cause>,
    /// How it is protected, where it came so far.
    tls: Option<TlsVerdict>,
    nth: u32,
}

fn scene(tlsa: TlsaLookup, sts: StsState) -> Scene {
    let host = MxHost {
        name: HOST.into(),
        preference: 10,
        addresses: HostAddresses::Known(vec!["192.0.2.1".parse().unwrap()]),
        security: Security::Secure,
        tlsa,
    };
    let resolution = Resolution {
        next_hop: "x.example".into(),
        port: 25,
        hosts_from: HostsFrom::Mx,
        mx_security: Security::Secure,
        references: Vec::new(),
        hosts: vec![host],
        traces: Vec::new(),
    };
    let (rule, egress) = (LocalRule::default(), Arc::new(Egress::default()));
    let facts = RouteFacts { resolution, sts, rule, request: TlsRequest::ByPolicy, egress };
    let tls = Some(TlsVerdict::Unauthenticated { version: "TLSv1.3".into() });
    Scene { facts, failure: None, tls, nth: 1 }
}

impl Scene {
    fn failing(self, cause: Cause) -> Self {
        Self { failure: Some(cause), tls: None, ..self }
    }

    fn in_clear(self) -> Self {
        Self { tls: Some(TlsVerdict::ClearText), ..self }
    }

    fn insecure(mut self) -> Self {
        self.facts.resolution.mx_security = Security::Insecure;
        self
    }

    fn level(mut self, level: TlsLevel) -> Self {
        self.facts.rule.level = Some(level);
        self
    }

    fn report_only(mut self) -> Self {
        self.facts.rule.report_only = true;
        self
    }

    fn request(mut self, request: TlsRequest) -> Self {
        self.facts.request = request;
        self
    }

    /// What is counted, through the decision that delivery makes.
    fn sessions(&self) -> Vec<TlsSession> {
        let facts = Facts {
            resolution: &self.facts.resolution,
            sts: &self.facts.sts,
            rule: &self.facts.rule,
            request: self.facts.request,
            dane_behind_insecure_mx: true,
        };
        let decision = match decide(&facts, &self.facts.resolution.hosts[0]) {
            HostVerdict::Use(decision) => decision,
            HostVerdict::Skip(cause) => {
                return of_untried(&domain(), Some(HOST), &cause, Some(&self.facts)).into_iter().collect();
            }
        };
        let egress = Arc::new(Egress::default());
        let (policy, watched) = (decision.policy, decision.watched);
        let target = Target { peer: peer(), policy: policy.clone(), watched, require_tls: false, egress };
        let seen = target.watched.as_ref().map(|watched| WatchReport {
            because: watched.because,
            failure: watched.demand.as_ref().err().or(self.failure.as_ref()).cloned(),
        });
        let is_watched = seen.is_some();
        let outcome = self.failure.clone().filter(|_| !is_watched).map(|cause| (0, DeliveryOutcome::Failed { cause }));
        let tls = if is_watched && self.tls.is_none() { Some(TlsVerdict::ClearText) } else { self.tls.clone() };
        let report = AttemptReport {
            peer: peer(),
            policy,
            tls,
            tls_failure: None,
            group: None,
            watched: seen,
            outcomes: outcome.into_iter().collect(),
            left: Vec::new(),
            nth_on_connection: self.nth,
            signatures: None,
            took: Duration::ZERO,
        };
        of_attempt(&domain(), &EndedTry { target: &target, report: &report, facts: &self.facts })
    }

    /// The same, a policy with its result in a line.
    fn counted(&self) -> Vec<String> {
        self.sessions().iter().map(in_words).collect()
    }
}

fn in_words(session: &TlsSession) -> String {
    let AppliedPolicy { kind, domain, .. } = &session.policy;
    let result = session.failure.as_ref().map_or("ok", |failure| &failure.result_type);
    format!("{} {domain} {result}", kind.word())
}

fn not_offered() -> Cause {
    Cause::StarttlsNotOffered { peer: peer(), demanded_by: DemandedBy::Dane }
}

fn dane_mismatch(failure: DaneFailure) -> Cause {
    Cause::DaneMismatch {
        peer: peer(),
        failure,
        base_domain: HOST.into(),
        usable_records: 1,
        certificate_sha256: String::new(),
    }
}

fn certificate(failure: CertificateFailure) -> Cause {
    let (demanded_by, certificate_sha256) = (DemandedBy::MtaSts, String::new());
    Cause::CertificateRejected { peer: peer(), failure, demanded_by, certificate_sha256 }
}

#[test]
fn rfc8460_4_4_a_session_counts_under_the_policy_that_was_applied() {
    let dane = || scene(present(&[3]), no_sts());
    assert_eq!(dane().counted(), ["tlsa mx.x.example ok"]);
    assert_eq!(scene(absent(), sts("enforce", HOST)).counted(), ["sts x.example ok"]);
    assert_eq!(scene(absent(), sts("testing", HOST)).counted(), ["sts x.example ok"]);
    assert_eq!(scene(absent(), no_sts()).counted(), ["no-policy-found x.example ok"]);
    let both = scene(present(&[3]), sts("enforce", HOST)).insecure();
    assert_eq!(both.counted(), ["tlsa mx.x.example ok", "sts x.example ok"]);
}

#[test]
fn rfc8460_4_3_p06_each_failure_has_its_result_type() {
    let dane = |cause| scene(present(&[3]), no_sts()).failing(cause).counted();
    let by_sts = |cause| scene(absent(), sts("enforce", HOST)).failing(cause).counted();
    assert_eq!(dane(not_offered()), ["tlsa mx.x.example starttls-not-supported"]);
    assert_eq!(dane(dane_mismatch(DaneFailure::NoMatch)), ["tlsa mx.x.example tlsa-invalid"]);
    assert_eq!(dane(dane_mismatch(DaneFailure::Expired)), ["tlsa mx.x.example certificate-expired"]);
    let named = DaneFailure::NameMismatch { presented: Vec::new() };
    assert_eq!(dane(dane_mismatch(named)), ["tlsa mx.x.example certificate-host-mismatch"]);
    let handshake = Cause::TlsHandshake { peer: peer(), detail: "alert".into() };
    assert_eq!(dane(handshake), ["tlsa mx.x.example validation-failure"]);
    assert_eq!(by_sts(certificate(CertificateFailure::Expired)), ["sts x.example certificate-expired"]);
    assert_eq!(scene(present(&[0, 1]), no_sts()).counted(), ["tlsa mx.x.example tlsa-invalid"]);
    assert_eq!(scene(absent(), sts("enforce", "other.example")).counted(), ["sts x.example validation-failure"]);
    assert_eq!(scene(absent(), sts("testing", "other.example")).counted(), ["sts x.example validation-failure"]);
    let demanded = scene(absent(), no_sts()).level(TlsLevel::DaneOnly);
    assert_eq!(demanded.counted(), ["tlsa mx.x.example dane-required"]);
}

#[test]
fn rfc8460_4_3_what_fails_before_a_connection_counts() {
    let tlsa = format!("_25._tcp.{HOST}");
    let unavailable = TlsaLookup::Unavailable(silent(&tlsa, "TLSA"));
    assert_eq!(scene(unavailable, no_sts()).counted(), ["tlsa mx.x.example dnssec-invalid"]);
    let bogus = Cause::DnsBogus { question: question(&tlsa, "TLSA"), detail: "no signature".into() };
    assert_eq!(scene(TlsaLookup::Unavailable(bogus), no_sts()).counted(), ["tlsa mx.x.example dnssec-invalid"]);
    let not_fetched = StsState::Absent(StsAbsent::FetchFailed(FetchFailure::TimedOut));
    assert_eq!(scene(absent(), not_fetched).counted(), ["sts x.example sts-policy-fetch-error"]);
    let unknown = StsState::Absent(StsAbsent::Unknown(silent("_mta-sts.x.example", "TXT")));
    assert_eq!(scene(absent(), unknown).counted(), ["sts x.example sts-policy-fetch-error"]);
    let bogus_mx = Cause::DnsBogus { question: question("x.example", "MX"), detail: "expired".into() };
    let session = of_untried(&domain(), None, &bogus_mx, None).unwrap();
    assert_eq!(in_words(&session), "tlsa x.example dnssec-invalid");
    assert_eq!(of_untried(&domain(), None, &silent("x.example", "MX"), None), None, "the network's, for all we know");
}

#[test]
fn rfc8460_5_what_is_only_looked_at_counts_as_if_it_were_enforced() {
    let mismatch = || dane_mismatch(DaneFailure::NoMatch);
    let watched = scene(present(&[3]), no_sts()).report_only();
    assert_eq!(watched.counted(), ["tlsa mx.x.example ok"]);
    assert_eq!(watched.failing(mismatch()).counted(), ["tlsa mx.x.example tlsa-invalid"]);
    let waived = scene(present(&[3]), no_sts()).request(TlsRequest::Optional);
    assert_eq!(waived.failing(mismatch()).counted(), ["tlsa mx.x.example tlsa-invalid"]);
    let tested = scene(absent(), sts("testing", HOST)).failing(certificate(CertificateFailure::Expired));
    assert_eq!(tested.counted(), ["sts x.example certificate-expired"]);
}

#[test]
fn rfc8460_4_3_4_what_says_nothing_about_tls_is_not_counted() {
    let lost = Cause::TimedOut { peer: peer(), phase: Phase::Connect };
    assert_eq!(scene(present(&[3]), no_sts()).failing(lost).counted(), [""; 0]);
    let again = Scene { nth: 2, ..scene(present(&[3]), no_sts()) };
    assert_eq!(again.counted(), [""; 0], "a message on the same connection is no session");
    let reply = Reply::new(550, 1, 1, "no such user");
    let refused = Cause::Rejected { peer: peer(), phase: Phase::RcptTo, reply };
    let refused = Scene { failure: Some(refused), ..scene(present(&[3]), no_sts()) };
    assert_eq!(refused.counted(), ["tlsa mx.x.example ok"], "TLS was well");
    for level in [TlsLevel::Off, TlsLevel::Opportunistic] {
        assert_eq!(scene(present(&[3]), no_sts()).level(level).counted(), [""; 0], "the operator looks at none");
    }
}

#[test]
fn rfc8460_4_3_1_clear_text_where_nothing_is_demanded_counts_as_no_starttls() {
    let clear = scene(absent(), no_sts()).in_clear();
    assert_eq!(clear.counted(), ["no-policy-found x.example starttls-not-supported"]);
    let mut fell_back = scene(absent(), no_sts()).in_clear().sessions();
    let failure = fell_back.remove(0).failure.unwrap();
    assert_eq!((failure.mx_host.as_deref(), failure.mx_address), (Some(HOST), Some("192.0.2.1".parse().unwrap())));
}

#[test]
fn rfc8460_4_4_a_failure_of_one_of_two_policies_says_nothing_of_the_other() {
    let both = |cause| scene(present(&[3]), sts("enforce", HOST)).insecure().failing(cause).counted();
    assert_eq!(both(dane_mismatch(DaneFailure::NoMatch)), ["tlsa mx.x.example tlsa-invalid"]);
    assert_eq!(both(certificate(CertificateFailure::Expired)), ["sts x.example certificate-expired"]);
    let not_offered = both(not_offered());
    assert_eq!(not_offered, ["tlsa mx.x.example starttls-not-supported", "sts x.example starttls-not-supported"]);
}

#[test]
fn rfc8689_4_2_1_a_demand_of_the_sender_hides_no_cause() {
    let cause = Box::new(dane_mismatch(DaneFailure::NoMatch));
    let demanded = Cause::RequireTlsUnmet { host: HOST.into(), failure: RequireTlsFailure::Tls { cause } };
    let scene = scene(present(&[3]), no_sts()).request(TlsRequest::Required).failing(demanded);
    assert_eq!(scene.counted(), ["tlsa mx.x.example tlsa-invalid"]);
}

#[test]
fn rfc8460_4_5_p17_the_policy_is_told_as_it_was_published() {
    let session = scene(present(&[3, 2]), no_sts()).sessions().remove(0);
    let hex = "07".repeat(32);
    assert_eq!(session.policy.strings, [format!("3 1 1 {hex}"), format!("2 1 1 {hex}")]);
    let session = scene(absent(), sts("enforce", HOST)).sessions().remove(0);
    assert_eq!(session.policy.strings, ["version: STSv1", "mode: enforce", "mx: mx.x.example", "max_age: 86400"]);
    assert_eq!(session.policy.mx_host, [HOST]);
}
