//! What a relay that runs can be asked over its control socket, and what it answers (`control.rs`).

use crate::accept::suspended::{SuspendedKind, Suspension};
use crate::command::queue::Filter;
use crate::command::status::Running;
use crate::config::settings::{KeyChange, Settings};
use crate::envelope::QueueId;
use crate::observe::log_level::LogLevel;
use crate::smtp::address::Domain;
use crate::spool::event::Act;
use crate::spool::tls_session::{TlsReportId, TlsReportState};
use serde::{Deserialize, Serialize};

/// What can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// How the relay is.
    Status,
    /// Take over the configuration as it is in its file now.
    Reload,
    /// Which configuration is in force.
    Settings,
    /// Say more or less in the log.
    LogLevel {
        /// A level, a list of modules with a level each, or `default`.
        level: String,
        /// For how long, in seconds; until it is changed again without it.
        for_s: Option<u64>,
    },
    /// Let nothing further in from somebody, or to somewhere.
    Suspend {
        /// Whom, why and until when.
        suspension: Suspension,
    },
    /// Let it in again.
    Resume {
        /// What kind of name it is.
        kind: SuspendedKind,
        /// The name.
        name: String,
    },
    /// Who is suspended.
    Suspended,
    /// Make the reports on TLS about days that are over, also those that wait for their time.
    SendTlsReports {
        /// Only those of this domain.
        domain: Option<Domain>,
    },
    /// Hand over what has not begun, and end when the rest is done.
    Drain,
    /// Do something with what waits.
    Act {
        /// What is done.
        act: Act,
        /// The messages and recipients that it is done with.
        filter: Filter,
        /// Why, for whoever reads their history.
        #[serde(default)]
        reason: Option<String>,
    },
}

/// A line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum ControlReply {
    /// To [`Request::Status`]; the last line.
    Status(Box<Running>),
    /// To [`Request::Reload`]: it is in force; the last line.
    Reloaded {
        /// What is different.
        changes: Vec<KeyChange>,
    },
    /// To [`Request::Reload`] and [`Request::LogLevel`]: it cannot be used, and what was before stays in
    /// force; the last line.
    Refused {
        /// The reason, with the key to change.
        why: String,
    },
    /// To [`Request::Settings`]; the last line.
    Settings {
        /// Every key with the value that counts.
        settings: Settings,
    },
    /// To [`Request::LogLevel`]; the last line.
    LogLevel(LogLevel),
    /// To [`Request::Suspend`], [`Request::Resume`] and [`Request::Suspended`]: who is suspended now; the last line.
    Suspended {
        /// All of them.
        suspended: Vec<Suspension>,
        /// Whether the order changed something.
        changed: bool,
    },
    /// To [`Request::Drain`]: how it stands, again and again; the end of the relay ends it.
    Draining {
        /// Connections on which a message is under way.
        under_way: usize,
    },
    /// To [`Request::SendTlsReports`]: one report has come so far.
    TlsReport {
        /// The report.
        report: TlsReportId,
        /// What has become of it.
        state: TlsReportState,
    },
    /// To [`Request::SendTlsReports`]: there are no more; the last line.
    TlsReportsSent,
    /// It is done with this message, and recorded.
    Acted {
        /// The message.
        id: QueueId,
        /// How many of its recipients.
        recipients: usize,
    },
    /// This message is in delivery at the moment, or has left the queue meanwhile.
    Busy {
        /// The message.
        id: QueueId,
    },
    /// This message is held: it has to be released first.
    Held {
        /// The message.
        id: QueueId,
    },
    /// All that fits is done; the last line.
    Done {
        /// Messages it is done with.
        acted: usize,
        /// Messages that were left alone, each for the reason given.
        left_alone: usize,
        /// Whether there may be more that fits than one order concerns.
        more: bool,
    },
    /// It cannot be done; the last line.
    Failed {
        /// The reason, in words for the operator.
        error: String,
    },
}
