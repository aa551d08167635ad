//! What one session is to do.

use super::LoginJob;
use crate::deliver::message::Message;
use crate::outcome::{DemandedBy, Peer};

/// What one session is to do.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The name we say in EHLO.
    pub hostname: String,
    /// With whom we speak.
    pub peer: Peer,
    /// Whether TLS must, may or must not be started.
    pub starttls: StartTlsUse,
    /// Whether the server must offer REQUIRETLS (RFC 8689 §4.2.1).
    pub require_tls: bool,
    /// The most recipients of one transaction that this server is known to bear.
    pub most_recipients: Option<u32>,
    /// How the content goes.
    pub transfer: Transfer,
    /// The message to hand over; `None` stops before MAIL FROM.
    pub message: Option<Message>,
    /// Who we are there.
    pub login: Option<LoginJob>,
}

/// How a session treats STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartTlsUse {
    /// Without TLS nothing is said, because of somebody's demand.
    Required(DemandedBy),
    /// TLS when it is offered; when that goes wrong, none.
    IfOffered,
    /// TLS when it is offered; when that goes wrong, nothing is said, as the operator wants it.
    AsOffered,
    /// TLS before the first word (RFC 8314 §3.3).
    FromTheStart,
    /// No TLS, as the operator wants it.
    Never,
    /// No TLS: that of an opportunistic connection just before this one failed.
    NotAgain,
}

/// How the content goes to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// In chunks where they are offered (RFC 3030), else by DATA.
    ChunksWhereOffered,
    /// By DATA: this server offers chunks and does not know them.
    Data,
}
