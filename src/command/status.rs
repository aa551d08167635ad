//! `relay status`: whether the relay runs, and how it is.

use crate::clock::Timestamp;
use crate::deliver::egress::store::CertificateEndsAt;
use crate::deliver::hosts::view::HostsView;
use crate::observe::log_level::LogLevel;
use crate::policy::exceptions::{Exception, ExceptionsStatus};
use crate::spool::room::FullDisk;
use crate::text::{counted, paragraph};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// Where the words begin.
const COLUMN: usize = 15;

/// How it stands with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// Since when it is in force.
    pub since: Timestamp,
    /// When the file was refused after that, and why.
    pub refused: Option<(Timestamp, String)>,
    /// What comes into force with the next start, a line for each key.
    pub at_restart: Vec<String>,
}

/// A relay that runs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Running {
    /// Its version.
    #[serde(rename = "relay_version")]
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub since: Timestamp,
    /// Where clients hand mail in.
    pub smtp: Vec<SocketAddr>,
    /// Where it is watched.
    pub admin: SocketAddr,
    /// The configuration in force.
    #[serde(default)]
    pub config: Option<ConfigStatus>,
    /// How much is logged, where that can be changed.
    #[serde(default)]
    pub log_level: Option<LogLevel>,
    /// Why no mail is taken at the moment.
    pub refuses: Option<String>,
    /// How the disk of the spool stands, while it has no room for new mail.
    #[serde(default)]
    pub full_disk: Option<FullDisk>,
    /// Messages that wait.
    pub queued_messages: u64,
    /// Those of them that the operator holds.
    #[serde(default)]
    pub held_messages: u64,
    /// When the oldest of them came.
    pub oldest: Option<Timestamp>,
    /// Octets in segments and content files.
    pub spool_bytes: u64,
    /// Damaged records met since the start.
    pub damaged_records: u64,
    /// Next hops that the relay is backing off from.
    #[serde(alias = "next_hops_out_of_reach")]
    pub next_hops_backing_off: usize,
    /// How receiving hosts stand.
    #[serde(default)]
    pub hosts: HostsView,
    /// How the operator's weakenings stand.
    #[serde(default)]
    pub exceptions: ExceptionsStatus,
    /// Zones in which nothing is validated, and who is asked there.
    #[serde(default)]
    pub private_zones: Vec<String>,
    /// The client certificates in use.
    #[serde(default)]
    pub client_certificates: Vec<CertificateEndsAt>,
}

impl Running {
    /// For people.
    #[must_use]
    pub fn text(&self, now: Timestamp) -> String {
        let age = |since| humantime::format_duration(Duration::from_secs(now.since(since).as_secs()));
        let smtp = self.smtp.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let oldest = self.oldest.map_or_else(String::new, |at| format!(", the oldest for {}", age(at)));
        let mut text = String::new();
        let mut line = |label: &str, words: &str| text.push_str(&paragraph(label, words, COLUMN));
        line("relay", &format!("version {}, process {}", self.version, self.pid));
        line("runs since", &format!("{} ({})", self.since.to_second(), age(self.since)));
        self.config_lines(&mut line);
        if let Some(LogLevel { level, until: Some(until) }) = &self.log_level {
            line("log", &format!("at {level} until {}", until.to_second()));
        }
        line("takes mail", &self.refuses.as_ref().map_or(smtp, |why| format!("no: {why}")));
        line("metrics", &format!("http://{}/metrics", self.admin));
        let held = if self.held_messages > 0 { format!(", {} held", self.held_messages) } else { String::new() };
        line("queue", &format!("{}{oldest}{held}", counted(self.queued_messages, "message")));
        let backing_off = match self.next_hops_backing_off {
            0 => "no next hop".to_owned(),
            some => format!("{}, tried again later", counted(some as u64, "next hop")),
        };
        line("backing off", &backing_off);
        let HostsView { answering, new, in_line, outside, .. } = &self.hosts;
        let at_work = format!(
            "{} of {} attempts at hosts that answer, {} of {} at hosts that have not yet; {} waiting",
            answering.used,
            answering.most,
            new.used,
            new.most,
            counted((in_line + outside) as u64, "message"),
        );
        line("at work", &at_work);
        text.push_str(&self.hosts_text());
        let mut line = |label: &str, words: &str| text.push_str(&paragraph(label, words, COLUMN));
        let damaged = counted(self.damaged_records, "damaged record");
        line("spool", &format!("{}, {damaged}", counted(self.spool_bytes, "octet")));
        for CertificateEndsAt { domains, at } in &self.client_certificates {
            let until = at.map_or_else(|| "that cannot be read".to_owned(), |at| format!("until {}", at.to_second()));
            line("client cert.", &format!("{domains}: {until}"));
        }
        line("exceptions", if self.exceptions.in_force.is_empty() { "none in force" } else { "in force:" });
        for Exception { domains, kind, reason, until } in &self.exceptions.in_force {
            line("", &format!("{kind} for {domains} until {until}: {reason}"));
        }
        for Exception { domains, kind, until, .. } in &self.exceptions.over {
            line("", &format!("over: {kind} for {domains} until {until}; remove it from the configuration"));
        }
        for zone in &self.private_zones {
            line("private zone", &format!("{zone}: nothing is validated in it"));
        }
        text
    }

    fn config_lines(&self, line: &mut impl FnMut(&str, &str)) {
        let Some(ConfigStatus { since, refused, at_restart }) = &self.config else { return };
        line("configuration", &format!("in force since {}", since.to_second()));
        if let Some((at, why)) = refused {
            line("", &format!("refused at {}: {}", at.to_second(), why.replace('\n', "; ")));
        }
        at_restart.iter().for_each(|change| line("", change));
    }

    /// The hosts that mail waits for, and why.
    #[must_use]
    pub fn hosts_text(&self) -> String {
        let mut text = String::new();
        for (nth, host) in self.hosts.hosts.iter().enumerate() {
            text.push_str(&paragraph(if nth == 0 { "hosts" } else { "" }, &host.sentence(), COLUMN));
        }
        if self.hosts.further > 0 {
            text.push_str(&paragraph("", &format!("and {} more", counted(self.hosts.further as u64, "host")), COLUMN));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::hosts::view::{HostView, Share};

    const NOW: Timestamp = Timestamp(1_795_261_468_000);

    #[test]
    fn the_screen_fits_80_columns_and_so_160() {
        let before = |seconds: i64| Timestamp(NOW.0 - seconds * 1_000);
        let host = HostView {
            host: "mx.busy.example [192.0.2.7]:25".to_owned(),
            connections: Share { used: 0, most: 1 },
            waiting: 3,
            why: "backing off (The server mx.busy.example refused the connection.)".to_owned(),
            until: Some(Timestamp(NOW.0 + 300_000)),
        };
        let running = Running {
            version: "0.1.0".to_owned(),
            pid: 4_711,
            since: before(90_061),
            smtp: vec!["192.0.2.1:25".parse().unwrap(), "[2001:db8::1]:25".parse().unwrap()],
            admin: "127.0.0.1:9925".parse().unwrap(),
            config: Some(ConfigStatus {
                since: before(90_061),
                refused: Some((before(60), "relay.toml:7: [listen] smtp: \"x\" is no address".to_owned())),
                at_restart: vec!["[spool] path: \"/a\" -> \"/b\" (needs a restart)".to_owned()],
            }),
            log_level: Some(LogLevel { level: "debug".to_owned(), until: Some(Timestamp(NOW.0 + 600_000)) }),
            refuses: None,
            full_disk: None,
            queued_messages: 5_000,
            held_messages: 1,
            oldest: Some(before(7_200)),
            spool_bytes: 123_456_789,
            damaged_records: 0,
            next_hops_backing_off: 1,
            hosts: HostsView { hosts: vec![host], further: 2, ..HostsView::default() },
            exceptions: ExceptionsStatus::default(),
            private_zones: vec!["corp.local (asked at 192.0.2.53)".to_owned()],
            client_certificates: Vec::new(),
        };
        let read: Running = serde_json::from_str(&crate::command::json::object(&running)).unwrap();
        assert_eq!(read.text(NOW), running.text(NOW), "commands read what the interface says");
        let text = running.text(NOW);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        crate::command::screen_tests::check("status", &text);
    }
}
