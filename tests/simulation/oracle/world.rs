//! The lab of a batch: zones, mail hosts and policy hosts as its cells say, the relay's
//! configuration for them, and what happens to policies between the first mails and the later ones.

use super::facts::{
    Batch, Cell, Certificate, Domain, Host, Kept, Level, Listed, Mode, Reach, Rule, Signed, StartTls, Sts, Tlsa,
};
use crate::network::pipe_to;
use async_trait::async_trait;
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::config::Config;
use dane_relay::lab::dns::world::AnchorForm;
use dane_relay::lab::mx::behaviour::reply;
use dane_relay::lab::tls::shape::Versions;
use dane_relay::lab::{self, AnswerFault, DomainSpec, HostSpec, Lab, LabBuilder, Signing, StsSpec, TlsShape};
use dane_relay::net::{Network, Stream};
use dane_relay::resolve::paths::{self, Source};
use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};
use rustls::AlertDescription::HandshakeFailure;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// When all begins.
pub(super) const BEGIN: Timestamp = Timestamp(1_795_261_468_000);
/// How long a policy holds whose time shall be over for the later mails, in seconds.
const SHORT_LIFE_S: u64 = 3600;

pub(super) fn domain_name(cell: usize, domain: usize) -> String {
    format!("c{cell}d{domain}.test")
}

fn host_zone(cell: usize, host: usize) -> String {
    format!("c{cell}h{host}.test")
}

pub(super) fn host_name(cell: usize, host: usize) -> String {
    format!("mx.{}", host_zone(cell, host))
}

/// The lab of a batch, as it is for the first mails.
pub(super) fn lab(batch: &Batch) -> LabBuilder {
    let lab = Lab::builder().without_sockets().clock(Clock::manual(BEGIN)).domain("office.test", |d| d);
    batch.cells.iter().enumerate().fold(lab, |lab, (number, cell)| with_cell(lab, number, cell))
}

fn with_cell(lab: LabBuilder, number: usize, cell: &Cell) -> LabBuilder {
    let lab = cell.hosts.iter().enumerate().fold(lab, |lab, (nth, host)| {
        lab.domain(&host_zone(number, nth), |d| {
            let first = domain_name(number, 0);
            zone(d, host.addresses).host(|h| described(h, host, &first)).and_faults(&host_name(number, nth), host)
        })
    });
    cell.domains.iter().enumerate().fold(lab, |lab, (nth, domain)| {
        let name = domain_name(number, nth);
        lab.domain(&name, |d| {
            let hosts = 0..cell.hosts.len();
            let d = hosts
                .zip(1..)
                .fold(zone(d, domain.mx), |d, (host, place)| d.hosted_by(10 * place, &host_name(number, host)));
            let d = if domain.mx == Signed::Lost { d.fault(&name, RecordType::MX, AnswerFault::ServFail) } else { d };
            with_policy(d, &name, domain, &listed(number, cell))
        })
    })
}

fn zone(domain: DomainSpec, signed: Signed) -> DomainSpec {
    match signed {
        Signed::No => domain.signing(Signing::Unsigned),
        Signed::Yes | Signed::Lost => domain,
    }
}

trait AndFaults {
    fn and_faults(self, name: &str, host: &Host) -> Self;
}

impl AndFaults for DomainSpec {
    fn and_faults(self, name: &str, host: &Host) -> Self {
        let addresses = [RecordType::A, RecordType::AAAA];
        let lost = if host.addresses == Signed::Lost { &addresses[..] } else { &[] };
        let zone = lost.iter().fold(self, |zone, rtype| zone.fault(name, *rtype, AnswerFault::ServFail));
        match host.tlsa {
            Tlsa::Lost => zone.fault(name, RecordType::TLSA, AnswerFault::ServFail),
            Tlsa::Denied => zone.fault(name, RecordType::TLSA, AnswerFault::ForgedNoData),
            Tlsa::None
            | Tlsa::Ee
            | Tlsa::Ta
            | Tlsa::EeWrong
            | Tlsa::TaWrong
            | Tlsa::EeAmongWrong
            | Tlsa::Unusable
            | Tlsa::UnusableAndWrong => zone,
        }
    }
}

fn described(spec: HostSpec, host: &Host, first_domain: &str) -> HostSpec {
    let spec = spec.tlsa(tlsa(host.tlsa)).certificate(match host.certificate {
        Certificate::Public => lab::Certificate::Issued,
        Certificate::PublicElsewhere => lab::Certificate::IssuedFor("elsewhere.test".into()),
        Certificate::PublicForDomain => lab::Certificate::IssuedFor(first_domain.into()),
        Certificate::PublicExpired => lab::Certificate::IssuedExpired,
        Certificate::PublicCommonName => lab::Certificate::IssuedCommonName,
        Certificate::SelfSigned => lab::Certificate::SelfSigned,
        Certificate::SelfSignedExpired => lab::Certificate::SelfSignedExpired,
    });
    let spec = if host.offers_requiretls { spec.keyword_in_tls("REQUIRETLS") } else { spec };
    match host.starttls {
        StartTls::Offered => spec,
        StartTls::Only12 => spec.tls(TlsShape::only_tls12()),
        StartTls::NotOffered => spec.starttls(lab::StartTls::NotOffered),
        StartTls::HeloOnly => spec.helo_only(),
        StartTls::Refused454 => spec.starttls(lab::StartTls::Refused(reply("454 4.7.0 not now").unwrap())),
        StartTls::Alert => spec.starttls(lab::StartTls::Alert(HandshakeFailure)),
        StartTls::Tls10 => spec.starttls(lab::StartTls::tls10_only()),
        StartTls::Cut => spec.starttls(lab::StartTls::DropAfter),
        StartTls::Garbage => spec.starttls(lab::StartTls::BrokenHandshake),
        StartTls::ClientCertificate12 => spec.tls(TlsShape::client_certificate(Versions::Only12)),
        StartTls::ClientCertificate13 => spec.tls(TlsShape::client_certificate(Versions::Only13)),
        StartTls::Silent => spec.starttls(lab::StartTls::Hang),
    }
}

fn tlsa(tlsa: Tlsa) -> Vec<lab::Tlsa> {
    use lab::Tlsa::{Fits, Misfits};
    let old = |nth| Misfits(3, 1, 1, nth);
    match tlsa {
        Tlsa::None | Tlsa::Denied => Vec::new(),
        Tlsa::Ee | Tlsa::Lost => vec![Fits(3, 1, 1)],
        Tlsa::Ta => vec![Fits(2, 0, 1)],
        Tlsa::EeWrong => vec![old(0)],
        Tlsa::TaWrong => vec![Misfits(2, 0, 1, 0)],
        Tlsa::EeAmongWrong => (0..5).map(old).chain([Fits(3, 1, 1)]).collect(),
        Tlsa::Unusable => vec![Fits(1, 1, 1)],
        Tlsa::UnusableAndWrong => vec![Fits(1, 1, 1), old(0)],
    }
}

/// The patterns of the policies of a cell.
fn listed(number: usize, cell: &Cell) -> Vec<String> {
    let pattern = |(nth, host): (usize, &Host)| match host.listed {
        Listed::ByName => Some(host_name(number, nth)),
        Listed::ByWildcard => Some(format!("*.{}", host_zone(number, nth))),
        Listed::No => None,
    };
    let named = cell.hosts.iter().enumerate().filter_map(pattern);
    // A policy that names nobody breaks the rules (RFC 8461 §3.2).
    named.chain(["mx.elsewhere.test".to_owned()]).collect()
}

fn with_mode(policy: StsSpec, mode: Mode, patterns: &[String]) -> StsSpec {
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    match mode {
        Mode::Enforce => policy.enforce().mx(&patterns),
        Mode::Testing => policy.testing().mx(&patterns),
        Mode::None => policy.none(),
    }
}

fn with_policy(spec: DomainSpec, name: &str, domain: &Domain, patterns: &[String]) -> DomainSpec {
    let publish = |spec: DomainSpec, mode| spec.mta_sts(|policy| with_mode(policy, mode, patterns));
    match domain.sts {
        Sts::Never => spec,
        Sts::BadRecord => publish(spec, Mode::Enforce).mta_sts(|policy| policy.txt(&["v=STSv1; id=;"])),
        Sts::Published(mode) => publish(spec, mode),
        Sts::TxtLost => {
            publish(spec, Mode::Enforce).fault(&format!("_mta-sts.{name}"), RecordType::TXT, AnswerFault::ServFail)
        }
        Sts::HostDown => publish(spec, Mode::Enforce).mta_sts(StsSpec::down),
        Sts::Kept(mode, Kept::Expired, _) => publish(spec, mode).mta_sts(|policy| policy.max_age(SHORT_LIFE_S)),
        Sts::Kept(mode, Kept::Whole | Kept::Unreadable, _) => publish(spec, mode),
        Sts::Replaced(mode, _) => spec.mta_sts(|policy| with_mode(policy, mode, &["mx.elsewhere.test".to_owned()])),
    }
}

/// What happens to the policies before the later mails. The relay is not asked; files that it cannot
/// read are made by [`spoil`] while it is down.
pub(super) async fn change(lab: &Lab, batch: &Batch) {
    for (number, cell) in batch.cells.iter().enumerate() {
        for (nth, domain) in cell.domains.iter().enumerate() {
            let name = domain_name(number, nth);
            match domain.sts {
                Sts::Kept(_, _, Reach::TxtGone) => lab.set_mta_sts_txt(&name, &[]).unwrap(),
                Sts::Kept(_, _, Reach::TxtLost) => {
                    lab.world().fault(&format!("_mta-sts.{name}"), RecordType::TXT, AnswerFault::ServFail).unwrap();
                }
                Sts::Kept(_, _, Reach::HostDown) => {
                    lab.set_mta_sts(&name, |policy| policy.id("2")).unwrap();
                    lab.policy_host(&name).unwrap().switch_off().await;
                }
                Sts::Kept(_, _, Reach::Gone) => {
                    lab.set_mta_sts_txt(&name, &[]).unwrap();
                    lab.policy_host(&name).unwrap().switch_off().await;
                }
                Sts::Replaced(_, new) => {
                    let patterns = listed(number, cell);
                    lab.set_mta_sts(&name, |policy| with_mode(policy, new, &patterns).id("2")).unwrap();
                }
                Sts::Never | Sts::BadRecord | Sts::Published(_) | Sts::TxtLost | Sts::HostDown => {}
                Sts::Kept(_, _, Reach::Live) => {}
            }
        }
    }
}

/// Flips a bit in the kept policies that shall be unreadable, wherever below the spool they are.
pub(super) fn spoil(spool: &Path, batch: &Batch) {
    for (number, cell) in batch.cells.iter().enumerate() {
        for (nth, domain) in cell.domains.iter().enumerate() {
            if matches!(domain.sts, Sts::Kept(_, Kept::Unreadable, _)) && batch.settings.mta_sts {
                let spoilt = spoil_files(&spool.join("mta-sts"), &domain_name(number, nth));
                assert!(spoilt > 0, "no policy was kept for {}", domain_name(number, nth));
            }
        }
    }
}

fn spoil_files(folder: &Path, name: &str) -> usize {
    let mut spoilt = 0;
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            spoilt += spoil_files(&entry.path(), name);
        } else if entry.file_name().to_string_lossy().contains(name) {
            let mut octets = fs::read(entry.path()).unwrap();
            let middle = octets.len() / 2;
            octets[middle] ^= 1;
            fs::write(entry.path(), octets).unwrap();
            // The time of the relay, and not of the machine.
            let written = UNIX_EPOCH + Duration::from_millis(BEGIN.0.unsigned_abs());
            fs::File::options().write(true).open(entry.path()).unwrap().set_modified(written).unwrap();
            spoilt += 1;
        }
    }
    spoilt
}

/// The configuration: the settings of the batch, and a `[[destination]]` for every rule.
pub(super) fn config(lab: &Lab, batch: &Batch, folder: &Path) -> Config {
    let anchors = folder.join("root.key");
    fs::write(&anchors, lab.world().trust_anchor(AnchorForm::DnsKey).unwrap()).unwrap();
    let roots = folder.join("roots.pem");
    fs::write(&roots, lab.roots_pem()).unwrap();
    let settings = batch.settings;
    let text = format!(
        "hostname = \"relay.office.test\"\npostmaster = \"postmaster@office.test\"\n\
         [spool]\npath = {spool:?}\nmin_free_bytes = 0\nmin_free_inodes = 0\n\
         [dns]\nupstreams = [\"udp://127.0.0.1:53\"]\ntrust_anchors = {anchors:?}\n\
         [tls]\nroots = {roots:?}\nclear_text_fallback = {fallback}\n\
         dane_behind_insecure_mx = {insecure}\ntls_required_no = {waives}\n\
         [mta_sts]\nenabled = {sts}\nport = {policy_port}\n\
         [delivery]\nport = {port}\nallow_loopback = true\n\
         [retry]\nfirst = \"20h\"\nlongest = \"20h\"\nexpire_after = \"5d\"\n",
        spool = folder.join("spool"),
        fallback = settings.clear_text_fallback,
        insecure = settings.dane_behind_insecure_mx,
        waives = settings.tls_required_no,
        sts = settings.mta_sts,
        port = lab.port(),
        policy_port = lab.policy_port(),
    );
    let cells = batch.cells.iter().enumerate();
    let domains = cells.flat_map(|(number, cell)| cell.domains.iter().enumerate().map(move |one| (number, one)));
    let rules = domains.map(|(number, (nth, domain))| destination(&domain_name(number, nth), domain.rule));
    Config::parse(&rules.fold(text, |text, rule| text + &rule), Path::new("matrix.toml")).unwrap()
}

fn destination(name: &str, rule: Rule) -> String {
    if rule == Rule::default() {
        return String::new();
    }
    let level = rule.level.map(|level| match level {
        Level::Opportunistic => "opportunistic",
        Level::Encrypt => "encrypt",
        Level::Dane => "dane",
        Level::DaneOnly => "dane-only",
        Level::MtaSts => "mta-sts",
        Level::Off => "off",
    });
    let level = level.map_or_else(String::new, |word| format!("tls = {word:?}\n"));
    let weakens = rule.report_only || matches!(rule.level, Some(Level::Opportunistic | Level::Dane | Level::Off));
    let excuse = if weakens { "reason = \"ticket 4711\"\nuntil = 2027-01-31\n" } else { "" };
    format!("[[destination]]\ndomains = [{name:?}]\n{level}report_only = {}\n{excuse}", rule.report_only)
}

/// The lab's DNS without a network.
pub(super) struct Names(pub(super) Arc<Lab>);

#[async_trait]
impl Source for Names {
    async fn fetch(&self, name: &Name, record_type: RecordType) -> Result<Message, paths::FetchError> {
        match self.0.dns().fetch(name, record_type) {
            Ok(Some(message)) => Ok(message),
            Ok(None) => std::future::pending().await,
            Err(error) => Err(paths::FetchError::Broken(error.to_string())),
        }
    }
}

/// Pipes to the lab's hosts.
pub(super) struct Pipes(pub(super) Arc<Lab>);

#[async_trait]
impl Network for Pipes {
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        pipe_to(&self.0, address)
    }
}
