//! One SMTP session of an MX host of the lab (RFC 5321 §4.1, §4.3.2; RFC 3207; RFC 2920).
//!
//! Commands are obeyed strictly in their order. Every reply passes through the host's troubles,
//! so that each of them can happen at its phase. A lone dot ends the content only between CRLFs.

use super::behaviour::{Behaviour, Dialect, Mailboxes, Received, SeenCommand, StartTls, TlsFacts, Trouble, TroubleAt};
use super::shared::MxHostState;
use super::wire::{IDLE, Wire};
use crate::lab::locked;
use crate::lab::mx::content::{Content, chunk_size};
use crate::lab::mx::params::{CommandChannel, has, refuse_mail, refuse_rcpt};
use crate::lab::mx::tls::{self, Shaken};
use crate::net::Stream;
use crate::smtp::address::{parse_forward_path, parse_reverse_path};
use crate::smtp::reply::{Reply, printable};
use std::io;
use std::time::Duration;
use tokio::time::timeout;

/// How long a hanging host hangs; any client of a test has given up by then.
const HANG: Duration = Duration::from_secs(600);
/// Recipients of one message (RFC 5321 §4.5.3.1.8 wants at least 100).
const RCPT_LIMIT: usize = 1000;

/// A transaction between MAIL and the dot.
#[derive(Default)]
struct ReceivedTransaction {
    mail: Option<(String, String)>,
    rcpt: Vec<(String, String)>,
    /// What came by BDAT so far.
    chunks: Option<Content>,
}

struct Session<'a> {
    shared: &'a MxHostState,
    number: usize,
    helo: String,
    /// The keywords of the last reply to EHLO.
    offered: Vec<String>,
    tls: Option<TlsFacts>,
    transaction: ReceivedTransaction,
}

/// Why the reading of commands ended.
enum End {
    Closed,
    StartTls,
}

/// Whether trouble has taken the place of the right reply.
enum TroubleTaken {
    Nothing,
    Replied,
    Kept,
    /// The right reply is the last.
    LastWords,
}

/// Serves one connection to its end.
pub(in crate::lab) async fn run(stream: impl Stream + 'static, number: usize, shared: &MxHostState) -> io::Result<()> {
    let mut wire = Wire::new(stream);
    let transaction = ReceivedTransaction::default();
    let mut session = Session { shared, number, helo: String::new(), offered: Vec::new(), tls: None, transaction };
    let met = session.meet(TroubleAt::Connect, &mut wire).await?;
    if let TroubleTaken::Replied = met {
        return wire.close().await;
    }
    wire.write(&Reply::plain(220, format!("{} ESMTP lab", shared.name)).to_wire()).await?;
    if let TroubleTaken::LastWords = met {
        return Err(dropped());
    }
    loop {
        match session.commands(&mut wire).await? {
            End::Closed => return wire.close().await,
            End::StartTls => wire = session.start_tls(wire).await?,
        }
    }
}

impl Session<'_> {
    fn behaviour(&self) -> Behaviour {
        locked(&self.shared.behaviour).clone()
    }

    /// Lets the trouble of a phase happen. A refusal counts as the reply to the command.
    async fn meet(&self, phase: TroubleAt, wire: &mut Wire) -> io::Result<TroubleTaken> {
        if let Some(delay) = self.behaviour().delays.get(&phase) {
            tokio::time::sleep(*delay).await;
        }
        match self.behaviour().troubles.get(&phase) {
            None => Ok(TroubleTaken::Nothing),
            Some(Trouble::Reply(reply)) => {
                wire.write(&reply.to_wire()).await?;
                // RFC 5321 §3.8: after 421 the server closes.
                if reply.code == 421 { Err(dropped()) } else { Ok(TroubleTaken::Replied) }
            }
            Some(Trouble::Hang) => {
                tokio::time::sleep(HANG).await;
                Err(dropped())
            }
            Some(Trouble::ReplyThenDrop) => Ok(TroubleTaken::LastWords),
            Some(Trouble::KeepThenDrop) if phase == TroubleAt::EndOfData => Ok(TroubleTaken::Kept),
            Some(Trouble::Drop | Trouble::KeepThenDrop) => Err(dropped()),
        }
    }

    async fn commands(&mut self, wire: &mut Wire) -> io::Result<End> {
        loop {
            let line = timeout(IDLE, wire.line()).await??;
            if line.is_empty() {
                return Ok(End::Closed);
            }
            let text = command_text(line.trim_ascii_end());
            self.shared.saw(SeenCommand { connection: self.number, secured: self.tls.is_some(), line: text.clone() });
            let (verb, rest) = text.split_once(' ').unwrap_or((&text, ""));
            let verb = verb.to_ascii_uppercase();
            let phase = phase_of(&verb).map(|phase| self.in_tls(phase));
            let met = match phase {
                Some(phase) => self.meet(phase, wire).await?,
                None => TroubleTaken::Nothing,
            };
            if let TroubleTaken::Replied = met {
                continue;
            }
            if let Some(end) = self.obey(&verb, rest, wire).await? {
                return Ok(end);
            }
            if let TroubleTaken::LastWords = met {
                return Err(dropped());
            }
        }
    }

    fn in_tls(&self, phase: TroubleAt) -> TroubleAt {
        let goes_wrong_there = self.tls.is_some() && self.behaviour().troubles.contains_key(&TroubleAt::EhloInTls);
        if phase == TroubleAt::Ehlo && goes_wrong_there { TroubleAt::EhloInTls } else { phase }
    }

    async fn obey(&mut self, verb: &str, rest: &str, wire: &mut Wire) -> io::Result<Option<End>> {
        if verb == "BDAT" && has(&self.offered, "CHUNKING") {
            self.chunk(rest, wire).await?;
            return Ok(None);
        }
        match phase_of(verb) {
            Some(TroubleAt::StartTls) => {
                let reply = self.starttls_reply();
                if reply.code != 220 {
                    wire.write(&reply.to_wire()).await?;
                    return Ok(None);
                }
                wire.write(&[reply.to_wire().as_slice(), &self.behaviour().behind_220].concat()).await?;
                return Ok(Some(End::StartTls));
            }
            Some(TroubleAt::Data) => self.data(wire).await?,
            Some(TroubleAt::Quit) => {
                wire.write(&Reply::new(221, 0, 0, "bye").to_wire()).await?;
                return Ok(Some(End::Closed));
            }
            Some(
                TroubleAt::Connect
                | TroubleAt::Ehlo
                | TroubleAt::EhloInTls
                | TroubleAt::Mail
                | TroubleAt::Rcpt
                | TroubleAt::EndOfData,
            )
            | None => {
                let reply = self.simple(verb, rest);
                wire.write(&reply.to_wire()).await?;
            }
        }
        Ok(None)
    }

    fn simple(&mut self, verb: &str, rest: &str) -> Reply {
        match verb {
            "EHLO" if self.behaviour().dialect == Dialect::HeloOnly => Reply::new(500, 5, 1, "not known here"),
            "EHLO" | "HELO" => self.hello(verb, rest),
            "MAIL" => self.mail(rest),
            "RCPT" => self.rcpt(rest),
            "RSET" => {
                self.transaction = ReceivedTransaction::default();
                Reply::new(250, 0, 0, "forgotten")
            }
            "NOOP" => Reply::new(250, 0, 0, "nothing done"),
            _ => Reply::new(500, 5, 1, "not known here"),
        }
    }

    fn hello(&mut self, verb: &str, name: &str) -> Reply {
        name.clone_into(&mut self.helo);
        self.transaction = ReceivedTransaction::default();
        self.offered = if verb == "EHLO" { self.keywords() } else { Vec::new() };
        let mut reply = Reply::plain(250, self.shared.name.clone());
        reply.lines.extend(self.offered.clone());
        reply
    }

    fn keywords(&self) -> Vec<String> {
        let behaviour = self.behaviour();
        let more = if self.tls.is_some() { behaviour.keywords_in_tls } else { behaviour.keywords_in_clear };
        let mut keywords = behaviour.keywords;
        keywords.extend(more);
        let offered = match behaviour.starttls {
            StartTls::NotOffered => false,
            StartTls::Offered(_)
            | StartTls::Refused(_)
            | StartTls::BrokenHandshake
            | StartTls::DropAfter
            | StartTls::Alert(_)
            | StartTls::Hang
            | StartTls::LosesLargeHello(_) => true,
        };
        // RFC 3207 §4.2: not offered again inside TLS.
        if offered && self.tls.is_none() {
            keywords.push("STARTTLS".into());
        }
        keywords
    }

    fn mail(&mut self, rest: &str) -> Reply {
        if self.transaction.mail.is_some() {
            return Reply::new(503, 5, 1, "nested MAIL");
        }
        match argument(rest, "FROM:") {
            Some((path, params)) if !path.is_ascii() && !gives_utf8(&params) => utf8_not_given(),
            Some((path, params)) if parse_reverse_path(&format!("<{path}>")).is_ok() => {
                let channel = if self.tls.is_some() { CommandChannel::Tls } else { CommandChannel::Clear };
                if let Some(refusal) = refuse_mail(&params, &self.offered, channel) {
                    return refusal;
                }
                self.transaction.mail = Some((path, params));
                Reply::new(250, 1, 0, "sender ok")
            }
            Some(_) | None => Reply::new(501, 1, 7, "bad reverse-path"),
        }
    }

    fn rcpt(&mut self, rest: &str) -> Reply {
        let Some((from, given)) = &self.transaction.mail else { return Reply::new(503, 5, 1, "MAIL first") };
        let Some((path, params)) = argument(rest, "TO:") else { return Reply::new(501, 1, 3, "bad forward-path") };
        if !path.is_ascii() && !gives_utf8(given) {
            return utf8_not_given();
        }
        if parse_forward_path(&format!("<{path}>")).is_err() {
            return Reply::new(501, 1, 3, "bad forward-path");
        }
        if let Some(refusal) = refuse_rcpt(&params, &self.offered) {
            return refusal;
        }
        if self.transaction.rcpt.len() >= RCPT_LIMIT {
            return Reply::new(452, 5, 3, "too many recipients");
        }
        let behaviour = self.behaviour();
        let local = path.rsplit_once('@').map_or(path.as_str(), |(local, _)| local).to_ascii_lowercase();
        let known = match &behaviour.known {
            Mailboxes::Everyone => true,
            Mailboxes::Only(users) => users.contains(&local),
        };
        if !known {
            return Reply::new(550, 1, 1, "no such user here");
        }
        let pair = (from.clone(), path.clone());
        if behaviour.greylist && locked(&self.shared.greylisted).insert(pair) {
            return Reply::new(451, 7, 1, "greylisted, come back later");
        }
        self.transaction.rcpt.push((path, params));
        Reply::new(250, 1, 5, "recipient ok")
    }

    async fn data(&mut self, wire: &mut Wire) -> io::Result<()> {
        if self.transaction.rcpt.is_empty() || self.transaction.chunks.is_some() {
            return wire.write(&Reply::new(503, 5, 1, "not now").to_wire()).await;
        }
        wire.write(&Reply::plain(354, "go on").to_wire()).await?;
        let mut content = Content::default();
        content.up_to_the_dot(wire).await?;
        self.finish(content, wire).await
    }

    /// RFC 3030 §2: the octets of a chunk are read whatever becomes of them.
    async fn chunk(&mut self, rest: &str, wire: &mut Wire) -> io::Result<()> {
        let Some((octets, last)) = chunk_size(rest) else {
            return wire.write(&Reply::new(501, 5, 4, "no chunk size").to_wire()).await;
        };
        let mut content = self.transaction.chunks.take().unwrap_or_default();
        content.chunk(octets, wire).await?;
        if self.transaction.rcpt.is_empty() {
            return wire.write(&Reply::new(503, 5, 1, "RCPT first").to_wire()).await;
        }
        if last {
            return self.finish(content, wire).await;
        }
        self.transaction.chunks = Some(content);
        match self.meet(TroubleAt::Data, wire).await? {
            TroubleTaken::Replied => {
                self.transaction = ReceivedTransaction::default();
                Ok(())
            }
            met @ (TroubleTaken::Nothing | TroubleTaken::Kept | TroubleTaken::LastWords) => {
                wire.write(&Reply::new(250, 0, 0, format!("{octets} octets")).to_wire()).await?;
                if let TroubleTaken::LastWords = met { Err(dropped()) } else { Ok(()) }
            }
        }
    }

    async fn finish(&mut self, content: Content, wire: &mut Wire) -> io::Result<()> {
        let transaction = std::mem::take(&mut self.transaction);
        let met = self.meet(TroubleAt::EndOfData, wire).await?;
        if let TroubleTaken::Replied = met {
            return Ok(());
        }
        let Some(content) = content.whole() else {
            return wire.write(&Reply::new(552, 3, 4, "message too large").to_wire()).await;
        };
        if self.shared.is_full() {
            return wire.write(&Reply::new(452, 3, 1, "no room").to_wire()).await;
        }
        let (mail_from, mail_params) = transaction.mail.unwrap_or_default();
        let (rcpt_to, rcpt_params) = transaction.rcpt.into_iter().unzip();
        self.shared.keep(Received {
            connection: self.number,
            helo: self.helo.clone(),
            mail_from,
            mail_params,
            rcpt_to,
            rcpt_params,
            content,
            tls: self.tls.clone(),
        });
        match met {
            TroubleTaken::Kept => Err(dropped()),
            TroubleTaken::Nothing | TroubleTaken::Replied | TroubleTaken::LastWords => {
                wire.write(&Reply::new(250, 0, 0, "kept").to_wire()).await?;
                if let TroubleTaken::LastWords = met { Err(dropped()) } else { Ok(()) }
            }
        }
    }

    fn starttls_reply(&self) -> Reply {
        if self.tls.is_some() {
            return Reply::new(503, 5, 1, "TLS is there already");
        }
        match self.behaviour().starttls {
            StartTls::NotOffered => Reply::new(502, 5, 1, "no TLS here"),
            StartTls::Refused(reply) => reply,
            StartTls::Offered(_)
            | StartTls::BrokenHandshake
            | StartTls::DropAfter
            | StartTls::Alert(_)
            | StartTls::Hang
            | StartTls::LosesLargeHello(_) => Reply::new(220, 0, 0, "go ahead with TLS"),
        }
    }

    async fn start_tls(&mut self, wire: Wire) -> io::Result<Wire> {
        let (wire, facts) = match tls::start(self.behaviour().starttls, wire.into_inner()).await? {
            Shaken::Done(wire, facts) => (wire, facts),
            Shaken::Spoilt(error) => return Err(error),
            Shaken::Failed(error) => {
                self.shared.handshake_failed();
                return Err(error);
            }
        };
        self.tls = Some(facts);
        // RFC 3207 §4.2: everything said in clear is forgotten.
        self.helo.clear();
        self.offered.clear();
        self.transaction = ReceivedTransaction::default();
        Ok(wire)
    }
}

/// The connection ends without a word.
fn dropped() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// A command in UTF-8 as it is (RFC 6531 §3.3); of anything else what can be printed.
fn command_text(line: &[u8]) -> String {
    let utf8 = std::str::from_utf8(line).ok().filter(|text| !text.contains(char::is_control));
    utf8.map_or_else(|| printable(line, line.len()), str::to_owned)
}

fn gives_utf8(mail_params: &str) -> bool {
    mail_params.split_ascii_whitespace().any(|param| param.eq_ignore_ascii_case("SMTPUTF8"))
}

/// RFC 6531 §3.5.
fn utf8_not_given() -> Reply {
    Reply::new(553, 6, 7, "an address outside ASCII needs SMTPUTF8")
}

fn phase_of(verb: &str) -> Option<TroubleAt> {
    Some(match verb {
        "EHLO" | "HELO" => TroubleAt::Ehlo,
        "STARTTLS" => TroubleAt::StartTls,
        "MAIL" => TroubleAt::Mail,
        "RCPT" => TroubleAt::Rcpt,
        "DATA" => TroubleAt::Data,
        "QUIT" => TroubleAt::Quit,
        _ => return None,
    })
}

/// `FROM:<path> params` ⇒ path without brackets, and params. A `>` in quotes ends nothing.
fn argument(rest: &str, keyword: &str) -> Option<(String, String)> {
    let (head, tail) = rest.split_at_checked(keyword.len())?;
    let inner = tail.trim_start().strip_prefix('<').filter(|_| head.eq_ignore_ascii_case(keyword))?;
    let (mut quoted, mut escaped) = (false, false);
    for (at, b) in inner.bytes().enumerate() {
        match (escaped, b) {
            (true, _) => escaped = false,
            (false, b'\\') => escaped = quoted,
            (false, b'"') => quoted = !quoted,
            (false, b'>') if !quoted => {
                return Some((inner.get(..at)?.to_owned(), inner.get(at + 1..)?.trim().to_owned()));
            }
            (false, _) => {}
        }
    }
    None
}
