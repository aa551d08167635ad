//! The boxes on the path to the lab's mail servers: what inspecting firewalls and proxies make of
//! SMTP and of STARTTLS (RFC 3207 §6).
//!
//! A box sits between the client's socket and the server. It reads what is in clear, line by line,
//! and ends TLS where it can. What it cannot read it carries on as it is.

use super::client::anything;
use super::shared::MxHostState;
use super::wire::Wire;
use crate::lab::bad;
use crate::lab::mx::session;
use crate::lab::tls::ca::Authority;
use crate::net::Stream;
use crate::smtp::reply::{Reply, ReplyParser};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{copy_bidirectional, duplex};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What is under way inside a box, in octets: more than one SMTP exchange in clear holds.
const PIPE: usize = 64 * 1024;
/// What a box reads at once, in octets.
const PIECE: usize = 4096;
/// The longest line a box waits for the end of, in octets; a longer one goes on as it is.
const LINE_LIMIT: usize = 4096;
/// How long a handshake of the box may take; a test that is this slow has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A box on the path to mail servers.
#[derive(Clone, Debug)]
pub enum MailPath {
    /// Takes STARTTLS out of the reply to EHLO and says nothing of it.
    StripStartTls,
    /// Shows `*` for the banner, `X` for the keywords it does not know, and passes no STARTTLS:
    /// the default inspection of a well-known firewall.
    Mask,
    /// Ends TLS with a certificate of its own authority, whatever the host, and reads along.
    Intercept(Arc<Authority>),
    /// Lets STARTTLS pass and ends the connection at the first octet of the handshake.
    CutHandshake,
    /// Answers itself and in its own name for every host; the servers are never reached.
    Proxy(Proxy),
}

/// A host that answers for every other one; [`super::host::RunningMxHost::as_proxy`] makes it.
#[derive(Clone, Debug)]
pub struct Proxy(Arc<MxHostState>);

impl Proxy {
    pub(in crate::lab) fn new(shared: Arc<MxHostState>) -> Self {
        Self(shared)
    }
}

/// Carries one connection to a host through the box.
pub(in crate::lab) async fn carry<S>(path: MailPath, client: S, number: usize, shared: &MxHostState) -> io::Result<()>
where
    S: Stream + 'static,
{
    let inspection = match path {
        MailPath::Proxy(Proxy(own)) => return session::run(client, own.next_number(), &own).await,
        MailPath::StripStartTls => Inspection::Strip,
        MailPath::Mask => Inspection::Mask,
        MailPath::Intercept(authority) => Inspection::Intercept(authority),
        MailPath::CutHandshake => Inspection::CutHandshake,
    };
    let (near, far) = duplex(PIPE);
    let passage = Passage {
        name: &shared.name,
        inspection,
        client: Wire::new(client),
        server: Wire::new(near),
        commands: Vec::new(),
        replies: Vec::new(),
        parser: ReplyParser::default(),
        stage: ConversationStage::Banner,
    };
    // Each ends soon after the other has closed its side.
    let (session, passed) = tokio::join!(session::run(far, number, shared), passage.run());
    session.and(passed)
}

enum Inspection {
    Strip,
    Mask,
    Intercept(Arc<Authority>),
    CutHandshake,
}

/// How far the conversation has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ConversationStage {
    Banner,
    Clear,
    /// The client wants TLS, and the next reply decides.
    Asked,
}

/// What goes on after a reply.
enum Then {
    GoOn,
    Tls,
}

struct Passage<'a> {
    name: &'a str,
    inspection: Inspection,
    client: Wire,
    server: Wire,
    /// Unfinished lines.
    commands: Vec<u8>,
    replies: Vec<u8>,
    parser: ReplyParser,
    stage: ConversationStage,
}

impl Passage<'_> {
    async fn run(mut self) -> io::Result<()> {
        loop {
            tokio::select! {
                biased;
                piece = self.client.octets(PIECE) => {
                    let piece = piece?;
                    if piece.is_empty() {
                        return Ok(());
                    }
                    self.commands.extend(piece);
                    self.pass_commands().await?;
                }
                piece = self.server.octets(PIECE) => {
                    let piece = piece?;
                    if piece.is_empty() {
                        return self.client.close().await;
                    }
                    self.replies.extend(piece);
                    if let Then::Tls = self.pass_replies().await? {
                        return self.intercept().await;
                    }
                }
            }
        }
    }

    async fn pass_commands(&mut self) -> io::Result<()> {
        while let Some(line) = take_line(&mut self.commands) {
            let asks = line.trim_ascii().eq_ignore_ascii_case(b"STARTTLS");
            match (&self.inspection, asks) {
                (Inspection::Strip | Inspection::Mask, true) => self.server.write(b"XXXXXXXX\r\n").await?,
                (Inspection::Intercept(_) | Inspection::CutHandshake, true) => {
                    self.stage = ConversationStage::Asked;
                    self.server.write(&line).await?;
                }
                (_, false) => self.server.write(&line).await?,
            }
        }
        Ok(())
    }

    async fn pass_replies(&mut self) -> io::Result<Then> {
        while let Some(line) = take_line(&mut self.replies) {
            let Some(reply) = self.parser.line(&line).map_err(bad)? else { continue };
            let before = self.stage;
            self.stage = ConversationStage::Clear;
            let shown = self.inspection.shown(before, reply);
            self.client.write(&shown.to_wire()).await?;
            if before == ConversationStage::Asked && shown.code == 220 {
                return Ok(Then::Tls);
            }
        }
        Ok(Then::GoOn)
    }

    /// Two sessions instead of one, and the box between them.
    async fn intercept(mut self) -> io::Result<()> {
        let Inspection::Intercept(authority) = &self.inspection else {
            self.client.octets(1).await?;
            return Ok(());
        };
        let config = authority.issue(&[self.name])?.server_config()?;
        let mut client = timeout(PATIENCE, TlsAcceptor::from(config).accept(self.client.into_inner())).await??;
        let name = ServerName::try_from(self.name.to_owned()).map_err(bad)?;
        let connector = TlsConnector::from(Arc::new(anything(default_provider())?));
        let mut server = timeout(PATIENCE, connector.connect(name, self.server.into_inner())).await??;
        copy_bidirectional(&mut client, &mut server).await?;
        Ok(())
    }
}

impl Inspection {
    /// What the client sees of a reply.
    fn shown(&self, stage: ConversationStage, mut reply: Reply) -> Reply {
        match self {
            Self::Intercept(_) | Self::CutHandshake => {}
            Self::Strip => reply.lines.retain(|line| line != "STARTTLS"),
            Self::Mask if stage == ConversationStage::Banner => {
                reply.lines.iter_mut().for_each(|line| *line = "*".repeat(line.len()));
            }
            Self::Mask => {
                let masked = reply.lines.iter_mut().filter(|line| matches!(line.as_str(), "STARTTLS" | "CHUNKING"));
                masked.zip('A'..).for_each(|(line, nth)| *line = format!("XXXXXXX{nth}"));
            }
        }
        reply
    }
}

/// The first whole line, or all there is of one that is too long.
fn take_line(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = buffer.iter().position(|&octet| octet == b'\n').map(|at| at + 1);
    let end = end.or_else(|| (buffer.len() > LINE_LIMIT).then_some(buffer.len()))?;
    Some(buffer.drain(..end).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(lines: &[&str]) -> Reply {
        Reply { code: 250, enhanced: None, lines: lines.iter().map(|&line| line.to_owned()).collect() }
    }

    #[test]
    fn rfc3207_6_a_stripped_reply_is_whole_without_the_keyword() {
        let shown = Inspection::Strip.shown(ConversationStage::Clear, reply(&["mx.test", "SIZE 1", "STARTTLS"]));
        assert_eq!(shown.to_wire(), b"250-mx.test\r\n250 SIZE 1\r\n");
    }

    #[test]
    fn a_mask_leaves_the_length_of_the_banner_and_hides_keywords() {
        let banner = Inspection::Mask.shown(ConversationStage::Banner, Reply::plain(220, "mx.test ESMTP"));
        assert_eq!(banner.to_wire(), b"220 *************\r\n");
        let ehlo =
            Inspection::Mask.shown(ConversationStage::Clear, reply(&["mx.test", "CHUNKING", "SIZE 1", "STARTTLS"]));
        assert_eq!(ehlo.lines, ["mx.test", "XXXXXXXA", "SIZE 1", "XXXXXXXB"]);
    }

    #[test]
    fn lines_come_whole_and_endless_ones_are_not_waited_for() {
        let mut buffer = b"one\r\ntw".to_vec();
        assert_eq!(take_line(&mut buffer).unwrap(), b"one\r\n");
        assert_eq!(take_line(&mut buffer), None);
        buffer.extend([b'x'; LINE_LIMIT]);
        assert_eq!(take_line(&mut buffer).unwrap().len(), LINE_LIMIT + 2);
    }
}
