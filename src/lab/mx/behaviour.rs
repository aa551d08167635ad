//! How an MX host of the lab behaves, and what it tells of the sessions it had (RFC 5321, RFC 3207).

use crate::lab::bad;
use crate::smtp::reply::Reply;
use rustls::{AlertDescription, ServerConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What the host does about TLS.
#[derive(Clone, Debug)]
pub enum StartTls {
    /// Offers it and shows what the settings hold.
    Offered(Arc<ServerConfig>),
    /// Does not offer it: a host without TLS, or a box on the path that strips the keyword.
    NotOffered,
    /// Offers it and answers the command with this reply, such as 454.
    Refused(Reply),
    /// Answers 220 and then speaks no TLS.
    BrokenHandshake,
    /// Answers 220 and closes the connection.
    DropAfter,
    /// Answers 220, reads the ClientHello, and answers it with this fatal alert
    /// (RFC 8446 §6.2): `ProtocolVersion` as a server that knows only TLS 1.0 does,
    /// `HandshakeFailure` as one that shares no cipher suite.
    Alert(AlertDescription),
    /// Answers 220 and says nothing any more.
    Hang,
    /// As [`StartTls::Offered`], behind a box on the path that loses a ClientHello above one
    /// TCP segment: to the client the host falls silent.
    LosesLargeHello(Arc<ServerConfig>),
}

impl StartTls {
    /// A host that knows no TLS above 1.0 (RFC 8996).
    #[must_use]
    pub const fn tls10_only() -> Self {
        Self::Alert(AlertDescription::ProtocolVersion)
    }

    /// The settings, where there can be a session.
    pub(in crate::lab) fn config(&self) -> Option<&Arc<ServerConfig>> {
        match self {
            Self::Offered(config) | Self::LosesLargeHello(config) => Some(config),
            Self::NotOffered
            | Self::Refused(_)
            | Self::BrokenHandshake
            | Self::DropAfter
            | Self::Alert(_)
            | Self::Hang => None,
        }
    }
}

/// Which SMTP the host speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// EHLO and HELO (RFC 5321 §3.2).
    Extended,
    /// HELO alone: EHLO gets 500, and nothing that needs it is there, such as STARTTLS.
    HeloOnly,
}

/// Who has a mailbox here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mailboxes {
    /// Every local-part.
    Everyone,
    /// These local-parts, in lower case, in every domain. Others get 550 5.1.1.
    Only(BTreeSet<String>),
}

/// Where in a session trouble begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleAt {
    /// In place of the greeting.
    Connect,
    /// At EHLO or HELO.
    Ehlo,
    /// At EHLO inside TLS; where nothing goes wrong there, what does at EHLO holds.
    EhloInTls,
    /// At STARTTLS.
    StartTls,
    /// At MAIL.
    Mail,
    /// At RCPT.
    Rcpt,
    /// At DATA.
    Data,
    /// After the lone dot.
    EndOfData,
    /// At QUIT.
    Quit,
}

/// What happens instead of the right reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// This reply. A refusing one after the dot means that the message is not kept.
    Reply(Reply),
    /// No reply, and the connection stays open.
    Hang,
    /// No reply, and the connection is closed. After the dot: the message is not kept.
    Drop,
    /// After the dot: the message is kept, and then the connection is closed without a reply.
    /// Anywhere else as [`Trouble::Drop`].
    KeepThenDrop,
    /// The right reply, and then TCP ends without the close_notify of TLS (RFC 8446 §6.1). After
    /// the dot: the message is kept.
    ReplyThenDrop,
}

/// How a host behaves. The default takes everything from everyone, without TLS.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// TLS.
    pub starttls: StartTls,
    /// The mailboxes.
    pub known: Mailboxes,
    /// Whether a sender and recipient that come the first time get 451 4.7.1.
    pub greylist: bool,
    /// What goes wrong, and when.
    pub troubles: BTreeMap<TroubleAt, Trouble>,
    /// How long the reply of a phase takes.
    pub delays: BTreeMap<TroubleAt, Duration>,
    /// The keywords of the reply to EHLO. STARTTLS comes by itself.
    pub keywords: Vec<String>,
    /// More of them before TLS.
    pub keywords_in_clear: Vec<String>,
    /// More of them inside TLS.
    pub keywords_in_tls: Vec<String>,
    /// What comes in clear behind the 220 to STARTTLS, in the same write: the work of somebody on
    /// the path (RFC 3207 §6).
    pub behind_220: Vec<u8>,
    /// Whether it knows EHLO.
    pub dialect: Dialect,
}

impl Default for Behaviour {
    fn default() -> Self {
        let keywords = ["PIPELINING", "SIZE 36700160", "8BITMIME", "ENHANCEDSTATUSCODES"];
        Self {
            starttls: StartTls::NotOffered,
            known: Mailboxes::Everyone,
            greylist: false,
            troubles: BTreeMap::new(),
            delays: BTreeMap::new(),
            keywords: keywords.map(String::from).into(),
            keywords_in_clear: Vec::new(),
            keywords_in_tls: Vec::new(),
            behind_220: Vec::new(),
            dialect: Dialect::Extended,
        }
    }
}

/// Where the keys of a TLS session come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionOrigin {
    /// A whole handshake, in which the client saw the certificate.
    Fresh,
    /// An earlier session; the client saw no certificate (RFC 8446 §2.2).
    Resumed,
}

/// What a TLS handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1_2` or `TLSv1_3`.
    pub version: String,
    /// The cipher suite.
    pub cipher: String,
    /// The name the client asked for (RFC 6066 §3).
    pub sni: Option<String>,
    /// Whether the session was resumed.
    pub origin: SessionOrigin,
}

/// A message as the host accepted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which connection brought it, counted from 1.
    pub connection: usize,
    /// The argument of the last EHLO or HELO.
    pub helo: String,
    /// The reverse-path without brackets; empty for the null one.
    pub mail_from: String,
    /// What stood behind it (`SIZE=… BODY=…`).
    pub mail_params: String,
    /// The accepted forward-paths without brackets.
    pub rcpt_to: Vec<String>,
    /// What stood behind each of them.
    pub rcpt_params: Vec<String>,
    /// The content, unstuffed, with the line end before the lone dot.
    pub content: Vec<u8>,
    /// TLS, or none when it came in clear.
    pub tls: Option<TlsFacts>,
}

/// A command as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenCommand {
    /// Which connection, counted from 1.
    pub connection: usize,
    /// Whether it came through TLS.
    pub secured: bool,
    /// The line without its end.
    pub line: String,
}

/// Parses the text form of a reply (`550 5.1.1 no such user`) for use in a [`Trouble`].
///
/// # Errors
/// When the text is no reply of one line.
pub fn reply(text: &str) -> io::Result<Reply> {
    let parsed = crate::smtp::reply::ReplyParser::default().line(text.as_bytes()).map_err(bad)?;
    parsed.ok_or_else(|| bad("the reply has more than one line"))
}
