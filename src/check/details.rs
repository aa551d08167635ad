//! All that `relay check -v` shows below the verdict, in 80 columns (the TLSA records alone may be
//! longer: one record is one line, there to be compared).

use super::analyse::said;
use super::evidence::{CertificateEnd, DnsProbe, ServerSeen};
use super::report::{CauseRow, CheckReport, HostReport, StsReport, StsSource};
use crate::outcome::{DaneScope, TlsVerdict};
use crate::resolve::HostsFrom;
use crate::resolve::probe::ProbeTransport;
use crate::text::{counted, paragraph};
use std::collections::BTreeSet;

impl CheckReport {
    /// Everything there is to show, below the verdict.
    pub(super) fn details(&self) -> String {
        let mut out = String::new();
        if let Some(fault) = &self.fault {
            let result_type = fault.result_type.map_or_else(String::new, |r| format!(", RFC 8460: {r}"));
            let cause = format!("{} ({}{result_type}), side: {}", fault.cause, fault.status, fault.side);
            out += &paragraph("cause:", &cause, LABEL_WIDTH);
            for (label, value) in &fault.evidence {
                out += &paragraph("seen:", &format!("{label}: {value}"), LABEL_WIDTH);
            }
            out += &paragraph("advice:", fault.advice, LABEL_WIDTH);
        }
        if let (Some(from), Some(security)) = (self.hosts_from, self.mx_security) {
            let source = match from {
                HostsFrom::Mx => format!("MX records ({})", security.word()),
                HostsFrom::ImplicitMx => format!("no MX records ({}), the domain is its own host", security.word()),
                HostsFrom::Configuration => "next hop named by the configuration".to_owned(),
            };
            out += &paragraph("route:", &format!("{} by {source}", self.next_hop), LABEL_WIDTH);
        }
        if let Some(sts) = &self.mta_sts {
            sts.text(&mut out);
        }
        self.reports_text(&mut out);
        if let Some(level) = self.level {
            out += &paragraph("rule:", &format!("a [[destination]] sets tls = \"{level}\""), LABEL_WIDTH);
        }
        if let Some(exception) = &self.exception {
            out += &paragraph("rule:", &format!("weakened by a [[destination]]: {exception}"), LABEL_WIDTH);
        }
        self.paths_text(&mut out);
        for host in &self.hosts {
            host.text(&mut out, self.fault.as_ref());
        }
        for server in self.evidence.servers.iter().filter(|server| !server.control) {
            out += &certificate_text(server);
        }
        for probe in &self.evidence.dns {
            out += &probe_text(probe);
        }
        out
    }
}

impl CheckReport {
    /// Whether the domain asks for TLS reports, and where they would go.
    fn reports_text(&self, out: &mut String) {
        if let Some(record) = &self.evidence.tlsrpt {
            *out += &paragraph("tlsrpt:", record, LABEL_WIDTH);
        }
        let Some(asked) = &self.evidence.tls_reports else { return };
        let label = if self.evidence.tlsrpt.is_some() { "" } else { "tlsrpt:" };
        let security = asked.security.map(|security| format!("{}, ", security.word())).unwrap_or_default();
        let what = match &asked.problem {
            Some(problem) => format!("{security}no report can go out: {problem}"),
            None => format!("{security}reports go to {}", asked.rua.join(", ")),
        };
        *out += &paragraph(label, &what, LABEL_WIDTH);
        for place in &asked.ignored {
            *out += &paragraph("", &format!("passed over: {place}"), LABEL_WIDTH);
        }
    }

    /// The paths that brought answers, and every failure before.
    fn paths_text(&self, out: &mut String) {
        let paths: BTreeSet<&str> = self.dns.iter().filter_map(|trace| trace.path.as_deref()).collect();
        if !paths.is_empty() {
            let paths = paths.into_iter().collect::<Vec<_>>().join(", ");
            *out += &paragraph("dns:", &format!("answers by {paths}"), LABEL_WIDTH);
        }
        for trace in &self.dns {
            for failure in &trace.failed {
                *out += &paragraph("", &format!("{}: no answer by {failure}", trace.question), LABEL_WIDTH);
            }
        }
    }
}

/// What a server showed: whose it is, who issued it, how long it holds, and how much of a chain came with it.
fn certificate_text(server: &ServerSeen) -> String {
    let Some(certificate) = &server.certificate else { return String::new() };
    let counts = match certificate.end {
        CertificateEnd::Counts => "",
        CertificateEnd::Ignored => ", which nobody asks for here",
    };
    let line = format!(
        "{} shows {}, issued by {}, until {}{counts}; {} sent",
        server.address,
        certificate.subject,
        certificate.issuer,
        certificate.not_after,
        counted(u64::try_from(certificate.sent).unwrap_or(u64::MAX), "certificate"),
    );
    paragraph("cert:", &line, LABEL_WIDTH)
}

/// One question of the diagnosis and its answer.
fn probe_text(probe: &DnsProbe) -> String {
    let seen = &probe.seen;
    let over = match (seen.transport, seen.edns) {
        (ProbeTransport::Udp, Some(payload)) => format!("UDP/{payload}"),
        (ProbeTransport::Udp, None) => "UDP, no EDNS".to_owned(),
        (ProbeTransport::Tcp, _) => "TCP".to_owned(),
        (ProbeTransport::Encrypted, _) => "encrypted".to_owned(),
    };
    let line = format!("{} at {} over {over}: {} ({} ms)", seen.question, probe.server, said(seen), seen.took_ms);
    paragraph("probe:", &line, LABEL_WIDTH)
}

/// Where the text beside a label begins.
const LABEL_WIDTH: usize = 8;

impl StsReport {
    fn text(&self, out: &mut String) {
        let line = match (&self.absent, &self.id, &self.expires) {
            (Some(absent), _, _) => format!("no MTA-STS policy: {absent}"),
            (None, id, expires) => format!(
                "MTA-STS policy, mode {}, id {}, until {}, lists {}",
                self.mode,
                id.as_deref().unwrap_or("unknown"),
                expires.as_deref().unwrap_or("unknown"),
                self.mx.join(", ")
            ),
        };
        *out += &paragraph("sts:", &line, LABEL_WIDTH);
        if let Some(fetched) = &self.fetched {
            let now = match &self.announced {
                Some(announced) if Some(announced) == self.id.as_ref() => "the DNS announces the same now".to_owned(),
                Some(announced) => format!("the DNS announces {announced} now"),
                None => "the DNS announces none now".to_owned(),
            };
            let how = match self.source {
                Some(StsSource::Live) => "fetched just now,",
                Some(StsSource::Cache) => "kept, fetched",
                None => "fetched",
            };
            *out += &paragraph("", &format!("{how} {fetched}; {now}"), LABEL_WIDTH);
        }
        if let Some(failure) = &self.refresh_failure {
            *out += &paragraph("", &format!("its last refresh failed: {failure}"), LABEL_WIDTH);
        }
    }
}

impl HostReport {
    fn text(&self, out: &mut String, told: Option<&CauseRow>) {
        let because = self.because.map_or_else(String::new, |because| format!(" ({because})"));
        let (preference, name, security) = (self.preference, &self.name, self.security.word());
        let host = format!("{preference} {name}, addresses {security}, policy {}{because}", self.policy);
        *out += &paragraph("host:", &host, LABEL_WIDTH);
        if let Some(reason) = self.no_dane {
            *out += &paragraph("", &format!("no DANE: {reason}"), LABEL_WIDTH);
        }
        if let Some(fault) = &self.skipped {
            *out += &paragraph("", &format!("left alone: {}", fault.brief(told)), LABEL_WIDTH);
        }
        if let Some(base) = &self.tlsa_base_domain {
            let usable = self.tlsa.iter().filter(|t| t.usable).count();
            let matched = self.tlsa.iter().filter(|t| t.matched).count();
            let count = self.tlsa.len();
            let tlsa = format!("{count} TLSA records of {base}, {usable} usable, {matched} matched:");
            *out += &paragraph("", &tlsa, LABEL_WIDTH);
        }
        for tlsa in &self.tlsa {
            let mark = match (tlsa.usable, tlsa.matched) {
                (_, true) => "matched",
                (true, false) => "usable",
                (false, false) => "unusable",
            };
            // One record is one line, however long: it is there to be compared.
            *out += &format!("  {mark:9}{}\n", tlsa.record);
        }
        for address in &self.addresses {
            let what = match (&address.fault, &address.tls) {
                (Some(fault), _) => fault.brief(told),
                (None, Some(TlsVerdict::Dane { version, scope: DaneScope::Domain, .. })) => {
                    format!("{version}, authenticated by DANE")
                }
                (None, Some(TlsVerdict::Dane { version, scope: DaneScope::Host, .. })) => format!(
                    "{version}, the host is authenticated by DANE; that it serves the domain is not proven, because \
                     the MX records are not signed"
                ),
                (None, Some(TlsVerdict::WebPki { version, .. })) => {
                    format!("{version}, authenticated by a public certificate")
                }
                (None, Some(TlsVerdict::WebPkiAndDane { version, .. })) => format!(
                    "{version}, authenticated by a public certificate, as the MTA-STS policy demands, and by DANE for \
                     the host"
                ),
                (None, Some(TlsVerdict::Unauthenticated { version })) => format!("{version}, not authenticated"),
                (None, Some(TlsVerdict::ClearText) | None) => "clear text".to_owned(),
            };
            *out += &paragraph("", &format!("{}: {what} ({} ms)", address.address, address.took_ms), LABEL_WIDTH);
            if let Some(watched) = &address.watched {
                *out += &paragraph("", &format!("not enforced: {}", watched.brief(None)), LABEL_WIDTH);
            }
        }
    }
}

impl CauseRow {
    /// The cause, with its sentence unless the report has said it already.
    fn brief(&self, told: Option<&Self>) -> String {
        match told {
            Some(told) if told.sentence == self.sentence => format!("{} ({})", self.cause, self.status),
            Some(_) | None => format!("{} ({}): {}", self.cause, self.status, self.sentence),
        }
    }
}
