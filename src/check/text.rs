//! The report of `relay check` for people: the verdict first, in 80 columns; at most 30 lines for
//! a fault and 8 for a domain in good order. The words carry the meaning without any colour.

use super::report::{CauseRow, CheckReport, HostReport, StsSource, Verdict};
use crate::outcome::{Side, TlsVerdict};
use crate::resolve::HostsFrom;
use crate::text::paragraph;

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The verdict and what follows from it.
    Verdict,
    /// Every record and every probe as well.
    Everything,
}

/// Whether the terminal shows colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Colours are shown.
    Shown,
    /// It does not, or nobody wants them.
    Plain,
}

/// Where the text beside a label begins.
const LABEL_WIDTH: usize = 8;
/// MX hosts named one by one; a domain in good order is eight lines.
const HOSTS_NAMED: usize = 3;
/// Lines of proof, and of questions handed over, so that a fault is thirty lines.
const PROOF_LINES: usize = 9;

impl CheckReport {
    /// The verdict and what follows from it, without colour.
    #[must_use]
    pub fn text(&self) -> String {
        self.shown(Detail::Verdict, Color::Plain)
    }

    /// The report for people.
    #[must_use]
    pub fn shown(&self, detail: Detail, color: Color) -> String {
        let mut out = self.headline(color) + "\n";
        let found = &self.diagnosis;
        out += &paragraph("", &found.sentence, 0);
        if found.sentence != self.summary && self.verdict == Verdict::Warning {
            out += &paragraph("", &self.summary, 0);
        }
        if self.verdict != Verdict::Ok || self.evidence.queue.as_ref().is_some_and(|queue| queue.messages > 0) {
            out += &paragraph("mail:", &found.mail, LABEL_WIDTH);
        }
        let is_told = |fault: &CauseRow| fault.cause == found.word && reported_as(fault).is_none();
        if let Some(fault) = self.fault.as_ref().filter(|fault| !is_told(fault)) {
            let reported = reported_as(fault).map_or_else(String::new, |word| format!("; in TLS reports: {word}"));
            let line = format!("{} {} in log, metrics and relay why{reported}", fault.cause, fault.status);
            out += &paragraph("log:", &line, LABEL_WIDTH);
        }
        for (nth, line) in found.proof.iter().take(PROOF_LINES).enumerate() {
            out += &lines(if nth == 0 { "proof:" } else { "" }, line);
        }
        if !found.also.is_empty() {
            out += &paragraph("fits:", &format!("as well: {}", found.also.join(", ")), LABEL_WIDTH);
        }
        if let Some(decide) = &found.decide {
            out += &paragraph("decide:", decide, LABEL_WIDTH);
        }
        for (nth, line) in found.hand_over.iter().enumerate() {
            out += &paragraph(if nth == 0 { "hand:" } else { "" }, line, LABEL_WIDTH);
        }
        if let Some(bridge) = &found.bridge {
            out += &paragraph("bridge:", bridge, LABEL_WIDTH);
        }
        if let Some(advice) = &found.advice {
            out += &paragraph("advice:", advice, LABEL_WIDTH);
        }
        if let Some(do_not) = &found.do_not {
            out += &paragraph("avoid:", do_not, LABEL_WIDTH);
        }
        out += &self.route_text();
        out += &self.hosts_text();
        for note in &self.notes {
            out += &paragraph("note:", note, LABEL_WIDTH);
        }
        match detail {
            Detail::Verdict => {}
            Detail::Everything => out += &self.details(),
        }
        out
    }

    /// `FAULT  path  proven  local-dns-count-filter  rollover.test  (3.1 s)`
    #[must_use]
    pub fn headline(&self, color: Color) -> String {
        let found = &self.diagnosis;
        let level = match (color, self.verdict) {
            (Color::Plain, verdict) => verdict.word().to_owned(),
            (Color::Shown, Verdict::Ok) => format!("\x1b[32m{}\x1b[0m", Verdict::Ok.word()),
            (Color::Shown, Verdict::Fault) => format!("\x1b[1;31m{}\x1b[0m", Verdict::Fault.word()),
            (Color::Shown, verdict @ (Verdict::Warning | Verdict::Inconclusive)) => {
                format!("\x1b[33m{}\x1b[0m", verdict.word())
            }
        };
        let took_ms = self.evidence.took_ms;
        let took = format!("({}.{} s)", took_ms / 1000, took_ms % 1000 / 100);
        match self.verdict {
            Verdict::Ok => format!("{level}  {}  {took}", self.domain),
            Verdict::Warning | Verdict::Fault | Verdict::Inconclusive => {
                let side = found.side.map_or("nobody", Side::word);
                let certainty = match self.verdict {
                    Verdict::Inconclusive => String::new(),
                    Verdict::Ok | Verdict::Warning | Verdict::Fault => format!("{}  ", found.certainty.word()),
                };
                format!("{level}  {side}  {certainty}{}  {}  {took}", found.word, self.domain)
            }
        }
    }

    fn route_text(&self) -> String {
        let (Some(from), Some(security)) = (self.hosts_from, self.mx_security) else { return String::new() };
        let source = match from {
            HostsFrom::Mx => format!("MX records ({})", security.word()),
            HostsFrom::ImplicitMx => format!("no MX records ({}), the domain is its own host", security.word()),
            HostsFrom::Configuration => "next hop named by the configuration".to_owned(),
        };
        let mut route = format!("{} by {source}", self.next_hop);
        if let Some(sts) = self.mta_sts.as_ref().filter(|sts| sts.absent.is_none()) {
            let from = match (sts.source, &sts.fetched) {
                (Some(StsSource::Live), _) => ", fetched just now".to_owned(),
                (Some(StsSource::Cache), Some(fetched)) => format!(", kept since {fetched}"),
                (Some(StsSource::Cache) | None, _) => String::new(),
            };
            route += &format!("; MTA-STS {}{from}", sts.mode);
        }
        match &self.evidence.tls_reports {
            Some(asked) if asked.problem.is_none() => route += "; wants TLS reports",
            Some(_) if self.evidence.tlsrpt.is_some() => route += "; wants TLS reports, and none can go out (-v)",
            Some(_) | None => {}
        }
        if let Some(exception) = &self.exception {
            route += &format!("; weakened by a [[destination]]: {exception}");
        }
        paragraph("route:", &route, LABEL_WIDTH)
    }

    fn hosts_text(&self) -> String {
        let mut out = String::new();
        for (nth, host) in self.hosts.iter().take(HOSTS_NAMED).enumerate() {
            out += &paragraph(if nth == 0 { "hosts:" } else { "" }, &host.brief_text(), LABEL_WIDTH);
        }
        if self.hosts.len() > HOSTS_NAMED {
            out += &paragraph("", &format!("and {} more (-v shows all)", self.hosts.len() - HOSTS_NAMED), LABEL_WIDTH);
        }
        out
    }
}

/// The result type of TLS reports (RFC 8460 §4.3), where it is another word than that of the log.
fn reported_as(fault: &CauseRow) -> Option<&'static str> {
    fault.result_type.filter(|word| *word != fault.cause)
}

/// A table keeps its columns; what is too wide for one line is broken as text.
fn lines(label: &str, line: &str) -> String {
    if line.len() + LABEL_WIDTH <= crate::text::TERMINAL_WIDTH {
        return format!("{label:LABEL_WIDTH$}{line}\n");
    }
    paragraph(label, line, LABEL_WIDTH)
}

impl HostReport {
    /// One host in one line: what would happen there now.
    fn brief_text(&self) -> String {
        let usable = self.tlsa.iter().filter(|tlsa| tlsa.usable).count();
        let matched = self.tlsa.iter().filter(|tlsa| tlsa.matched).count();
        let tlsa =
            if self.tlsa.is_empty() { String::new() } else { format!(", TLSA {usable} usable, {matched} matched") };
        let good = self.addresses.iter().filter(|address| address.fault.is_none()).count();
        let how = self.addresses.iter().find_map(|address| address.tls.as_ref()).map_or_else(String::new, |tls| {
            let authenticated = match tls {
                TlsVerdict::Dane { .. } => ", authenticated by DANE",
                TlsVerdict::WebPki { .. } => ", authenticated by a public certificate",
                TlsVerdict::WebPkiAndDane { .. } => ", authenticated by a public certificate and by DANE",
                TlsVerdict::Unauthenticated { .. } => ", TLS without authentication",
                TlsVerdict::ClearText => ", clear text",
            };
            authenticated.to_owned()
        });
        match &self.skipped {
            Some(fault) => format!("{} {} left alone: {}", self.preference, self.name, fault.cause),
            None => {
                format!(
                    "{} {}: {good} of {} addresses good{how}{tlsa}",
                    self.preference,
                    self.name,
                    self.addresses.len()
                )
            }
        }
    }
}
