//! Every reply of the listener, with its enhanced code (RFC 2034, RFC 3463, RFC 5321 §4.2,
//! RFC 4954, RFC 8689).
//!
//! Exchange shows these texts to administrators and, for 5yz, to senders: short, ASCII, and they
//! say what to do. The greeting and the answers to EHLO and HELO carry no enhanced code
//! (RFC 2034 §4).

use super::RefusalReason;
use super::intake::{ContentFault, MessageLimits, SpoolFault};
use super::rules::{NoWay, Offer, Rules};
use super::step::AdmitFault;
use crate::envelope::QueueId;
use crate::smtp::address::{AddressError, Domain, Host};
use crate::smtp::error::CommandError;
use crate::smtp::line::LineError;
use crate::smtp::reply::Reply;
use crate::smtp::sasl::SaslFault;
use std::net::IpAddr;

/// 220, the first line of a session.
#[must_use]
pub(super) fn greeting(hostname: &Domain) -> Reply {
    Reply::plain(220, format!("{hostname} ESMTP"))
}

/// 421 instead of a greeting.
#[must_use]
pub(super) fn no_session(reason: RefusalReason) -> Reply {
    match reason {
        RefusalReason::TooManySessions | RefusalReason::TooManySessionsHere | RefusalReason::TooManyDenied => {
            Reply::new(421, 3, 2, "too many sessions, try again later")
        }
        RefusalReason::TooManyNewConnections => {
            Reply::new(421, 7, 0, "too many connections from your address, try again in a minute")
        }
    }
}

/// The answer to EHLO: our name and what we offer. REQUIRETLS stands where STARTTLS stood before
/// (RFC 8689 §2): a message can require TLS only when it came over TLS itself.
#[must_use]
pub(super) fn ehlo(rules: &Rules, tls: TlsState, auth: Offer) -> Reply {
    let mut reply = Reply::plain(250, rules.hostname.to_string());
    let size = format!("SIZE {}", rules.max_message_bytes);
    let keywords = ["PIPELINING", &size, "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING"];
    reply.lines.extend(keywords.map(str::to_owned));
    if rules.dsn == Offer::Yes {
        reply.lines.push("DSN".to_owned());
    }
    if rules.smtp_utf8 == Offer::Yes {
        reply.lines.push("SMTPUTF8".to_owned());
    }
    match tls {
        TlsState::Offered => reply.lines.push("STARTTLS".to_owned()),
        TlsState::On if rules.require_tls == Offer::Yes => reply.lines.push("REQUIRETLS".to_owned()),
        TlsState::On | TlsState::Unavailable | TlsState::Off => {}
    }
    // RFC 4954 §4: only what can be used now.
    if auth == Offer::Yes {
        reply.lines.push("AUTH PLAIN LOGIN".to_owned());
    }
    reply
}

/// How a session stands with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsState {
    /// In clear, and we have no certificate to change that.
    Unavailable,
    /// In clear, as the operator wants it.
    Off,
    /// In clear, and STARTTLS is offered.
    Offered,
    /// Encrypted. STARTTLS is not offered again (RFC 3207 §4.2).
    On,
}

/// The answer to HELO.
#[must_use]
pub(super) fn helo(rules: &Rules) -> Reply {
    Reply::plain(250, rules.hostname.to_string())
}

/// 220, the go-ahead for the handshake.
#[must_use]
pub(super) fn start_tls() -> Reply {
    Reply::new(220, 0, 0, "ready to start TLS")
}

/// MAIL is good.
#[must_use]
pub(super) fn sender_ok() -> Reply {
    Reply::new(250, 1, 0, "Ok")
}

/// RCPT is good.
#[must_use]
pub(super) fn recipient_ok() -> Reply {
    Reply::new(250, 1, 5, "Ok")
}

/// RSET and NOOP are done.
#[must_use]
pub(super) fn ok() -> Reply {
    Reply::new(250, 0, 0, "Ok")
}

/// Content may come.
#[must_use]
pub(super) fn send_data() -> Reply {
    Reply::plain(354, "end data with <CR><LF>.<CR><LF>")
}

/// A chunk is in, more must follow.
#[must_use]
pub(super) fn chunk_ok(octets: u64) -> Reply {
    Reply::new(250, 0, 0, format!("{octets} octets received"))
}

/// The message is durable.
#[must_use]
pub(super) fn queued(id: QueueId) -> Reply {
    Reply::new(250, 0, 0, format!("Ok: queued as {id}"))
}

/// The answer to VRFY (RFC 5321 §3.5.3): we would have to ask the next hop.
#[must_use]
pub(super) fn cannot_verify() -> Reply {
    Reply::new(252, 0, 0, "cannot verify, send some mail and see")
}

/// The answer to HELP.
#[must_use]
pub(super) fn help() -> Reply {
    Reply::new(214, 0, 0, "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS QUIT")
}

/// The answer to QUIT.
#[must_use]
pub(super) fn bye() -> Reply {
    Reply::new(221, 0, 0, "bye")
}

/// The client may not hand mail in.
#[must_use]
pub(super) fn relaying_denied(client: IpAddr) -> Reply {
    Reply::new(550, 7, 1, format!("relaying denied: {client} is not a permitted client"))
}

/// The sender is of none of the domains in `[listen] sender_domains`.
#[must_use]
pub(super) fn foreign_sender() -> Reply {
    Reply::new(550, 7, 1, "this relay takes no mail from that sender domain")
}

/// A command at the wrong time.
#[must_use]
pub(super) fn bad_sequence(text: &'static str) -> Reply {
    Reply::new(503, 5, 1, text)
}

/// DATA while no RCPT was good (RFC 5321 §3.3).
#[must_use]
pub(super) fn no_recipients() -> Reply {
    Reply::new(554, 5, 1, "no valid recipients")
}

/// STARTTLS where the operator wants none.
#[must_use]
pub(super) fn tls_not_offered() -> Reply {
    Reply::new(502, 5, 1, "STARTTLS is not offered")
}

/// STARTTLS without a certificate that can be used (RFC 3207 §4).
#[must_use]
pub(super) fn tls_unavailable() -> Reply {
    Reply::new(454, 7, 0, "TLS is not available here for now, try again later")
}

/// Anything but the way into TLS, where mail wants TLS (RFC 3207 §4).
#[must_use]
pub(super) fn start_tls_first() -> Reply {
    Reply::new(530, 7, 0, "must issue a STARTTLS command first")
}

/// AUTH in clear (RFC 4954 §6): the password would be heard.
#[must_use]
pub(super) fn auth_needs_tls() -> Reply {
    Reply::new(538, 7, 11, "send STARTTLS first: passwords are not taken in clear")
}

/// MAIL before AUTH, where only users may (RFC 4954 §6).
#[must_use]
pub(super) fn auth_first(tls: TlsState) -> Reply {
    match tls {
        TlsState::On => Reply::new(530, 7, 0, "authentication required"),
        TlsState::Offered | TlsState::Unavailable | TlsState::Off => {
            Reply::new(530, 7, 0, "authentication required, send STARTTLS first")
        }
    }
}

/// 334: a line of the client is waited for (RFC 4954 §4).
#[must_use]
pub(super) fn challenge(text: &'static str) -> Reply {
    Reply::plain(334, text)
}

/// The exchange of AUTH is over without credentials (RFC 4954 §4).
#[must_use]
pub(super) fn auth_fault(fault: SaslFault) -> Reply {
    match fault {
        SaslFault::Cancelled => Reply::new(501, 7, 0, "authentication cancelled"),
        SaslFault::NotBase64 => Reply::new(501, 5, 2, "cannot decode this as base64"),
        SaslFault::UnknownMechanism => Reply::new(504, 5, 4, "mechanism not known, use PLAIN or LOGIN"),
        SaslFault::Refused => auth_refused(),
    }
}

/// A line of an exchange that is no line (RFC 4954 §6).
#[must_use]
pub(super) fn auth_line(error: LineError) -> Reply {
    match error {
        LineError::TooLong => Reply::new(500, 5, 6, "the line is too long"),
        LineError::BareLineEnd => bad_command(CommandError::Line(error)),
    }
}

/// The user is known (RFC 4954 §6). The severity of the enhanced code is that of the reply.
#[must_use]
pub(super) fn logged_in() -> Reply {
    Reply::new(235, 7, 0, "authentication succeeded")
}

/// Name or password is wrong; which one, nobody is told.
#[must_use]
pub(super) fn auth_refused() -> Reply {
    Reply::new(535, 7, 8, "authentication credentials invalid")
}

/// Not looked at: too many have failed, or too many ask at once.
#[must_use]
pub(super) fn auth_busy() -> Reply {
    Reply::new(454, 7, 0, "authentication is not possible now, try again later")
}

/// Too many wrong passwords in one session.
#[must_use]
pub(super) fn too_many_failed_logins() -> Reply {
    Reply::new(421, 7, 0, "too many failed logins, closing")
}

/// A limit of the operator is reached.
#[must_use]
pub(super) fn limited() -> Reply {
    Reply::new(451, 7, 1, "a sending limit of this relay is reached, try again later")
}

/// The operator has suspended the sender, the user or the destination.
#[must_use]
pub(super) fn suspended() -> Reply {
    Reply::new(451, 7, 1, "suspended by the administrators of this relay, try again later")
}

/// A message may not come now.
#[must_use]
pub(super) fn not_admitted(fault: AdmitFault) -> Reply {
    match fault {
        AdmitFault::Spool(fault) => spool(fault),
        AdmitFault::Limit => limited(),
        AdmitFault::Suspended => suspended(),
    }
}

/// The sender is none of the user's own (RFC 6409 §6.1).
#[must_use]
pub(super) fn not_the_users_sender() -> Reply {
    Reply::new(550, 7, 1, "this sender is not one of yours")
}

/// REQUIRETLS in clear, where STARTTLS would help (RFC 8689 §2; the code is that of RFC 3207 §4).
#[must_use]
pub(super) fn require_tls_in_clear() -> Reply {
    Reply::new(530, 7, 0, "REQUIRETLS needs TLS here, send STARTTLS first")
}

/// More recipients than one message may have; the client sends the rest in another one
/// (RFC 5321 §4.5.3.1.10).
#[must_use]
pub(super) fn too_many_recipients() -> Reply {
    Reply::new(452, 5, 3, "too many recipients, send the rest in another message")
}

/// An address literal to which nothing is sent. For this host itself the code is that of the report
/// it would become; else that of a bad destination system (RFC 3463 §3.2).
#[must_use]
pub(super) fn no_way_to(host: &Host, why: NoWay) -> Reply {
    match why {
        NoWay::Inward => Reply::new(550, 4, 4, format!("no mail is sent to {host} from here")),
        NoWay::Elsewhere => Reply::new(550, 7, 1, format!("mail to {host} is not taken here")),
        NoWay::Literal => Reply::new(550, 1, 2, format!("address literals are not accepted: {host}")),
    }
}

/// `<postmaster>` with nobody behind it.
#[must_use]
pub(super) fn no_postmaster() -> Reply {
    Reply::new(550, 1, 1, "no postmaster address is configured on this relay")
}

/// The declared or real size is above the limit.
#[must_use]
pub(super) fn too_large(limit: u64) -> Reply {
    Reply::new(552, 3, 4, format!("the message is larger than {limit} octets"))
}

/// The spool takes nothing.
#[must_use]
pub(super) fn spool(fault: SpoolFault) -> Reply {
    match fault {
        SpoolFault::Full => Reply::new(452, 3, 1, "the relay is short of disk space, try again later"),
        SpoolFault::Failed => Reply::new(451, 3, 0, "the relay could not store the message, try again later"),
    }
}

/// Content is refused. 5.6.11 is the code Exchange itself uses for bare line feeds, and so the
/// one its administrators look for.
#[must_use]
pub(super) fn content(fault: ContentFault, limits: MessageLimits) -> Reply {
    match fault {
        ContentFault::BareLineEnd => Reply::new(550, 6, 11, "bare CR or LF in the message, lines must end in CRLF"),
        ContentFault::TooLarge => too_large(limits.octets),
        ContentFault::Loop => {
            Reply::new(554, 4, 6, format!("mail loop: more than {} Received fields", limits.received))
        }
        ContentFault::Spool(fault) => spool(fault),
    }
}

/// Silence for too long.
#[must_use]
pub(super) fn timed_out() -> Reply {
    Reply::new(421, 4, 2, "idle for too long, closing")
}

/// The relay stops.
#[must_use]
pub(super) fn stopping() -> Reply {
    Reply::new(421, 3, 2, "the relay is stopping, try again later")
}

/// Other rules hold for sessions from now on.
#[must_use]
pub(super) fn reconfigured() -> Reply {
    Reply::new(421, 3, 2, "the relay has a new configuration, connect again")
}

/// A fault in this program.
#[must_use]
pub(super) fn internal_fault() -> Reply {
    Reply::new(421, 3, 0, "internal fault, closing")
}

/// Too many bad commands.
#[must_use]
pub(super) fn too_many_bad_commands() -> Reply {
    Reply::new(421, 7, 0, "too many bad commands, closing")
}

/// 421 after `[listen] max_commands`.
#[must_use]
pub(super) fn too_many_commands() -> Reply {
    Reply::new(421, 7, 0, "too many commands in one session, connect again")
}

/// A line that is no command (RFC 5321 §4.2.4).
#[must_use]
pub(super) fn bad_command(error: CommandError) -> Reply {
    match error {
        CommandError::Line(LineError::TooLong) => Reply::new(500, 5, 2, "the command line is too long"),
        CommandError::Line(LineError::BareLineEnd) => Reply::new(500, 5, 2, "bare CR or LF, lines must end in CRLF"),
        CommandError::Unknown => Reply::new(500, 5, 2, "command not recognized"),
        CommandError::NotImplemented => Reply::new(502, 5, 1, "command not implemented"),
        CommandError::HelloName => Reply::plain(501, "a host name or address literal must follow"),
        CommandError::Argument => Reply::new(501, 5, 4, "syntax error in arguments"),
        CommandError::ReversePath(AddressError::NonAscii) | CommandError::ForwardPath(AddressError::NonAscii) => {
            Reply::new(553, 6, 7, "an address outside ASCII needs SMTPUTF8, in UTF-8")
        }
        CommandError::ReversePath(error) => Reply::new(501, 1, 7, format!("bad sender address: {error}")),
        CommandError::ForwardPath(error) => Reply::new(501, 1, 3, format!("bad recipient address: {error}")),
        CommandError::UnknownParameter => Reply::new(555, 5, 4, "parameter not recognized"),
        CommandError::ParameterValue => Reply::new(501, 5, 4, "bad value of a parameter"),
        CommandError::ChunkSize => Reply::new(501, 5, 4, "the size of the chunk cannot be read, closing"),
        CommandError::ChunkArgument { .. } => Reply::new(501, 5, 4, "only LAST may follow the size of a chunk"),
    }
}
