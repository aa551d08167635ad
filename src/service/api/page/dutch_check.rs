//! A check in Dutch: its steps, and what it came to. What is handed over to other teams stays English, as the command
//! prints it.

use super::dutch_faults::{by_word, certainty, no_dane, side, verdict};
use crate::check::{CheckReport, HostReport, StepTaken, Verdict};
use crate::outcome::{Cause, Class, TlsVerdict};
use crate::policy::sts::{StsAbsent, StsState};
use crate::report::dutch_sentence;
use crate::resolve::{HostsFrom, TlsaLookup};
use crate::text::paragraph;

/// Where the text beside a label begins.
const LABEL_WIDTH: usize = 8;
/// Mail servers named one by one.
const MOST_HOSTS: usize = 5;

/// A step.
pub(super) fn step(taken: &StepTaken) -> String {
    match taken {
        StepTaken::Asks(next_hop) => format!("de DNS wordt gevraagd naar {next_hop}"),
        StepTaken::Unroutable(cause) => dutch_sentence(cause),
        StepTaken::MailServers { from, security, names } => {
            format!("uit {} ({}): {}", hosts_from(*from), security.word(), names.join(", "))
        }
        StepTaken::Records { host, security, tlsa } => format!("{host} ({}): {}", security.word(), records(tlsa)),
        StepTaken::Policy(StsState::Absent(absent)) => format!("geen MTA-STS: {}", no_policy(absent)),
        StepTaken::Policy(StsState::Policy(policy)) => {
            format!("MTA-STS: een beleid met de modus {}", policy.terms.mode.word())
        }
        StepTaken::Connects(peer) => format!("verbinden met {} op {}", peer.host, peer.address),
        StepTaken::Skips { host, cause } => format!("{host} mag niet worden gebruikt: {}", dutch_sentence(cause)),
        StepTaken::Met { peer, failure, tls } => {
            let end = match (failure, tls) {
                (Some(cause), _) => dutch_sentence(cause),
                (None, Some(tls)) => format!("{}, {}", tls.version().unwrap_or("geen TLS"), protection(tls)),
                (None, None) => "antwoordde".to_owned(),
            };
            format!("{} op {}: {end}", peer.host, peer.address)
        }
        StepTaken::Diagnoses(name) => format!("anderen worden naar {name} gevraagd, om te weten bij wie de fout ligt"),
        StepTaken::Judges => "wat gevonden is, wordt beoordeeld".to_owned(),
    }
}

/// What it came to.
pub(super) fn text(report: &CheckReport) -> String {
    let found = &report.diagnosis;
    let fault = by_word(&found.word);
    let of_cause = cause(report).filter(|cause| cause.row().word == found.word).map(dutch_sentence);
    let sentence = of_cause.unwrap_or_else(|| fault.sentence.to_owned());
    let mut out = headline(report) + "\n" + &paragraph("", &sentence, 0);
    out += &paragraph("mail:", &mail(report), LABEL_WIDTH);
    if report.verdict != Verdict::Ok {
        out += &paragraph("doen:", fault.to_do, LABEL_WIDTH);
    }
    for (nth, word) in found.also.iter().enumerate() {
        let line = format!("{word}: {}", by_word(word).sentence);
        out += &paragraph(if nth == 0 { "of:" } else { "" }, &line, LABEL_WIDTH);
    }
    if let (Some(from), Some(security)) = (report.hosts_from, report.mx_security) {
        let policy = report.mta_sts.as_ref().filter(|sts| sts.absent.is_none());
        let policy = policy.map(|sts| format!("; MTA-STS {}", sts.mode)).unwrap_or_default();
        let line = format!("{} volgens {} ({}){policy}", report.next_hop, hosts_from(from), security.word());
        out += &paragraph("route:", &line, LABEL_WIDTH);
    }
    for (nth, host) in report.hosts.iter().take(MOST_HOSTS).enumerate() {
        out += &paragraph(if nth == 0 { "server:" } else { "" }, &host_line(host), LABEL_WIDTH);
    }
    out
}

fn headline(report: &CheckReport) -> String {
    let (found, took_ms) = (&report.diagnosis, report.evidence.took_ms);
    let took = format!("({},{} s)", took_ms / 1000, took_ms % 1000 / 100);
    match report.verdict {
        Verdict::Ok => format!("{}  {}  {took}", verdict(report.verdict), report.domain),
        Verdict::Warning | Verdict::Fault | Verdict::Inconclusive => {
            let whose = found.side.map_or("niemand", side);
            let sure = certainty(found.certainty);
            format!("{}  {whose}  {sure}  {}  {}  {took}", verdict(report.verdict), found.word, report.domain)
        }
    }
}

/// What delivery, or mail that waits, has met.
fn cause(report: &CheckReport) -> Option<&Cause> {
    let delivery = &report.evidence.delivery;
    let met = report.evidence.queue.as_ref().and_then(|queue| queue.refused.as_ref());
    delivery.cause.as_ref().or(delivery.watched.as_ref()).or(met)
}

fn mail(report: &CheckReport) -> String {
    let waits = report.evidence.queue.as_ref().filter(|queue| queue.messages > 0).map(|queue| {
        let oldest = queue.oldest.map(|at| format!(", het oudste sinds {}", at.to_second())).unwrap_or_default();
        let (messages, wait) = if queue.messages == 1 { ("bericht", "wacht") } else { ("berichten", "wachten") };
        format!("{} {messages} {wait}{oldest}; er gaat niets verloren", queue.messages)
    });
    let is_final = report.evidence.delivery.cause.as_ref().is_some_and(|cause| cause.class() == Class::Permanent);
    match (report.verdict, waits) {
        (Verdict::Ok | Verdict::Warning, None) => "mail wordt bezorgd".to_owned(),
        (Verdict::Ok | Verdict::Warning, Some(waits)) => format!("mail wordt bezorgd; {waits}"),
        (Verdict::Fault | Verdict::Inconclusive, Some(waits)) => waits,
        (Verdict::Fault | Verdict::Inconclusive, None) if is_final => {
            "mail gaat terug naar de afzender, met een bericht".to_owned()
        }
        (Verdict::Fault | Verdict::Inconclusive, None) => {
            "mail wacht en wordt opnieuw geprobeerd; er gaat niets verloren".to_owned()
        }
    }
}

const fn hosts_from(from: HostsFrom) -> &'static str {
    match from {
        HostsFrom::Mx => "MX-records",
        HostsFrom::ImplicitMx => "het domein zelf, zonder MX-records",
        HostsFrom::Configuration => "de instellingen",
    }
}

fn records(tlsa: &TlsaLookup) -> String {
    match tlsa {
        TlsaLookup::Present { records, .. } if records.len() == 1 => "1 TLSA-record".to_owned(),
        TlsaLookup::Present { records, .. } => format!("{} TLSA-records", records.len()),
        TlsaLookup::Absent(because) => format!("geen DANE: {}", no_dane(*because)),
        TlsaLookup::Unavailable(cause) => dutch_sentence(cause),
    }
}

fn no_policy(absent: &StsAbsent) -> String {
    let text = match absent {
        StsAbsent::NoRecord => "het domein kondigt geen beleid aan",
        StsAbsent::UnusableRecord(_) => "het record is niet te gebruiken",
        StsAbsent::Unknown(cause) => return format!("het record was niet op te zoeken: {}", dutch_sentence(cause)),
        StsAbsent::FetchFailed(_) => "het beleid was niet op te halen",
        StsAbsent::ModeNone => "het beleid van het domein heeft de modus none",
        StsAbsent::AddressLiteral => "de volgende server is een adres en geen naam",
        StsAbsent::NotNeeded => "niet gevraagd, want er hangt niets van af",
        StsAbsent::SwitchedOff => "het staat hier uit",
        StsAbsent::Lost { .. } => "een bewaard beleid is niet te lezen",
    };
    text.to_owned()
}

const fn protection(tls: &TlsVerdict) -> &'static str {
    match tls {
        TlsVerdict::Dane { .. } => "bewezen met DANE",
        TlsVerdict::WebPki { .. } => "bewezen met een openbaar certificaat",
        TlsVerdict::WebPkiAndDane { .. } => "bewezen met een openbaar certificaat en met DANE",
        TlsVerdict::Unauthenticated { .. } => "TLS zonder bewijs van wie het is",
        TlsVerdict::ClearText => "zonder versleuteling",
    }
}

fn host_line(host: &HostReport) -> String {
    if let Some(fault) = &host.skipped {
        return format!("{} {}: niet gebruikt, {}", host.preference, host.name, fault.cause);
    }
    let good = host.addresses.iter().filter(|address| address.fault.is_none()).count();
    let how = host.addresses.iter().find_map(|address| address.tls.as_ref()).map(protection);
    let how = how.map(|how| format!(", {how}")).unwrap_or_default();
    let of = host.addresses.len();
    format!("{} {}: {good} van {of} adressen goed{how}", host.preference, host.name)
}
