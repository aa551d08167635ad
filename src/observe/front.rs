//! The listeners: who logs in and who tries to, limits that are met, certificates.

use super::Register;
use super::closed::from_zero;
use crate::accept::{AcceptEvent, CloseReason, LimitLevel, LimitNews, LoginResult, RefusalReason};
use crate::clock::Timestamp;
use prometheus::{Error, IntCounter, IntCounterVec, IntGauge};
use std::net::SocketAddr;

pub(super) struct FrontMetrics {
    sessions: IntCounter,
    sessions_open: IntGauge,
    sessions_refused: IntCounterVec,
    sessions_closed: IntCounterVec,
    logins: IntCounterVec,
    users_refused: IntCounter,
    proxy_failures: IntCounter,
    limits: IntCounterVec,
    tls_failures: IntCounter,
    certificate_expiry: IntGauge,
}

impl FrontMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        let metrics = Self {
            sessions: r.counter("relay_smtp_sessions_total", "SMTP sessions opened by clients.")?,
            sessions_open: r.gauge("relay_smtp_sessions_open", "SMTP sessions of clients that are open now.")?,
            sessions_refused: r.counters(
                "relay_smtp_sessions_refused_total",
                "Connections answered with 421 at once, by reason: sessions, sessions-here, strangers, new-connections.",
                &["reason"],
            )?,
            sessions_closed: r.counters(
                "relay_smtp_sessions_closed_total",
                "SMTP sessions of clients that ended, by reason: quit, disconnected, timed-out, stopped, reconfigured, \
                 bad-commands, commands, failed-logins, lost-framing, tls-failed, internal-fault.",
                &["reason"],
            )?,
            logins: r.counters(
                "relay_smtp_logins_total",
                "Logins of clients (AUTH), by result: right, wrong, locked-out, busy.",
                &["result"],
            )?,
            users_refused: r
                .counter("relay_smtp_users_refused_total", "Readings of a file of users that could not be used.")?,
            proxy_failures: r.counter(
                "relay_smtp_proxy_failures_total",
                "Connections of a balancer without a header of the PROXY protocol.",
            )?,
            tls_failures: r.counter("relay_smtp_tls_failures_total", "TLS handshakes with clients that failed.")?,
            certificate_expiry: r.gauge(
                "relay_smtp_certificate_expiry_timestamp_seconds",
                "When the certificate of the listener expires, in seconds since 1970; 0 when unknown.",
            )?,
            limits: r.counters(
                "relay_limits_met_total",
                "Users, senders and networks that came near a limit or reached it, by [[limit]] and level.",
                &["limit", "level"],
            )?,
        };
        for result in [LoginResult::Right, LoginResult::Wrong, LoginResult::LockedOut, LoginResult::Busy] {
            metrics.logins.with_label_values(&[word(result)]).inc_by(0);
        }
        from_zero(&metrics.sessions_refused, &[&REFUSED.map(refused_word)]);
        from_zero(&metrics.sessions_closed, &[&CLOSED.map(closed_word)]);
        Ok(metrics)
    }

    /// Events about these things; others are none of this.
    pub(super) fn told(&self, event: &AcceptEvent) {
        match event {
            AcceptEvent::SessionOpened { peer, standing } => {
                self.sessions.inc();
                self.sessions_open.inc();
                tracing::debug!(%peer, ?standing, "session opened");
            }
            AcceptEvent::SessionRefused { peer, reason } => {
                self.sessions_refused.with_label_values(&[refused_word(*reason)]).inc();
                tracing::warn!(%peer, ?reason, "session refused");
            }
            AcceptEvent::SessionClosed { peer, reason } => self.closed(*peer, *reason),
            AcceptEvent::Login { peer, user, result } => {
                self.logins.with_label_values(&[word(*result)]).inc();
                let (result, user) = (word(*result), user.as_deref().unwrap_or("(unknown)"));
                tracing::info!(%peer, user, result, "login");
            }
            AcceptEvent::Limit(LimitNews { rule, who, limit, level }) => {
                let word = match level {
                    LimitLevel::Near => "near",
                    LimitLevel::Reached => "reached",
                };
                self.limits.with_label_values(&[rule.as_str(), word]).inc();
                tracing::warn!(rule, who, limit, level = word, "a sending limit is met");
            }
            AcceptEvent::UsersInUse { users } => tracing::info!(users, "another file of users is in use"),
            AcceptEvent::UsersRefused { error } => {
                self.users_refused.inc();
                tracing::error!(%error, "the file of users cannot be used; the users before stay");
            }
            AcceptEvent::ProxyHeaderFailed { peer, error } => {
                self.proxy_failures.inc();
                tracing::warn!(%peer, %error, "a balancer did not say for whom it connects");
            }
            AcceptEvent::CertificateInUse { expires_at } => {
                self.certificate_expiry.set(expires_at.map_or(0, Timestamp::unix_seconds));
                tracing::info!(expires_at = expires_at.map(|at| at.to_string()), "certificate in use");
            }
            AcceptEvent::CertificateRefused { error } => {
                tracing::error!(%error, "the new certificate cannot be used; the old one stays");
            }
            AcceptEvent::TlsFailed { peer, error } => {
                self.tls_failures.inc();
                tracing::warn!(%peer, %error, "TLS with a client failed");
            }
            AcceptEvent::ListenerFailed { .. }
            | AcceptEvent::MessageAccepted(_)
            | AcceptEvent::MessageCopied { .. }
            | AcceptEvent::MessageRefused { .. }
            | AcceptEvent::SpoolFailed { .. } => {}
        }
    }
}

impl FrontMetrics {
    fn closed(&self, peer: SocketAddr, reason: CloseReason) {
        self.sessions_open.dec();
        self.sessions_closed.with_label_values(&[closed_word(reason)]).inc();
        match reason {
            CloseReason::TooManyCommands => tracing::warn!(%peer, "a session had too many commands and was closed"),
            CloseReason::Quit
            | CloseReason::Disconnected
            | CloseReason::TimedOut
            | CloseReason::Stopped
            | CloseReason::Reconfigured
            | CloseReason::TooManyBadCommands
            | CloseReason::TooManyFailedLogins
            | CloseReason::LostFraming
            | CloseReason::TlsFailed
            | CloseReason::InternalFault => tracing::debug!(%peer, ?reason, "session closed"),
        }
    }
}

const REFUSED: [RefusalReason; 4] = [
    RefusalReason::TooManySessions,
    RefusalReason::TooManySessionsHere,
    RefusalReason::TooManyDenied,
    RefusalReason::TooManyNewConnections,
];

const fn refused_word(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::TooManySessions => "sessions",
        RefusalReason::TooManySessionsHere => "sessions-here",
        RefusalReason::TooManyDenied => "strangers",
        RefusalReason::TooManyNewConnections => "new-connections",
    }
}

const CLOSED: [CloseReason; 11] = [
    CloseReason::Quit,
    CloseReason::Disconnected,
    CloseReason::TimedOut,
    CloseReason::Stopped,
    CloseReason::Reconfigured,
    CloseReason::TooManyBadCommands,
    CloseReason::TooManyCommands,
    CloseReason::TooManyFailedLogins,
    CloseReason::LostFraming,
    CloseReason::TlsFailed,
    CloseReason::InternalFault,
];

const fn closed_word(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Quit => "quit",
        CloseReason::Disconnected => "disconnected",
        CloseReason::TimedOut => "timed-out",
        CloseReason::Stopped => "stopped",
        CloseReason::Reconfigured => "reconfigured",
        CloseReason::TooManyBadCommands => "bad-commands",
        CloseReason::TooManyCommands => "commands",
        CloseReason::TooManyFailedLogins => "failed-logins",
        CloseReason::LostFraming => "lost-framing",
        CloseReason::TlsFailed => "tls-failed",
        CloseReason::InternalFault => "internal-fault",
    }
}

const fn word(result: LoginResult) -> &'static str {
    match result {
        LoginResult::Right => "right",
        LoginResult::Wrong => "wrong",
        LoginResult::LockedOut => "locked-out",
        LoginResult::Busy => "busy",
    }
}
