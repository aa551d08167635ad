//! The load: sessions that hand mail in as fast as they are let, through kills and restarts.
//!
//! Half of them send DATA, with envelope commands in one go (RFC 2920); half send whole messages
//! without waiting for any reply (RFC 3030 §4.2), so that several stand open in one session when
//! the relay dies. A message is acknowledged when its 250 has been read, and not before.

use super::mail::Mail;
use super::relay::Addresses;
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::smtp::reply::{Reply, Severity};
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Sessions at once.
const SESSIONS: usize = 16;
/// Messages sent without waiting for a reply.
const TRAIN: usize = 4;

/// What the clients did.
#[derive(Default)]
pub(crate) struct Submitted {
    /// Every message of which an octet may have left.
    pub(crate) sent: BTreeSet<u64>,
    /// Those whose 250 was read.
    pub(crate) acknowledged: BTreeSet<u64>,
}

/// What the sessions share.
struct Shared {
    said: Mutex<Submitted>,
    next: AtomicU64,
    /// Messages that may still be begun.
    allowance: Semaphore,
    over: CancellationToken,
}

/// Sessions that run until they are stopped.
pub(crate) struct Load {
    shared: Arc<Shared>,
    sessions: JoinSet<()>,
}

impl Load {
    /// Starts the sessions; they wait for an allowance and for a relay.
    pub(crate) fn start(serving: &watch::Receiver<Option<Addresses>>) -> Self {
        let shared = Arc::new(Shared {
            said: Mutex::default(),
            next: AtomicU64::new(1),
            allowance: Semaphore::new(0),
            over: CancellationToken::new(),
        });
        let mut sessions = JoinSet::new();
        for number in 0..SESSIONS {
            sessions.spawn(session(number, Arc::clone(&shared), serving.clone()));
        }
        Self { shared, sessions }
    }

    /// Lets up to `messages` more be begun, those not yet begun included: the load is bounded by
    /// the rounds, however fast the machine is.
    pub(crate) fn allow(&self, messages: usize) {
        self.shared.allowance.add_permits(messages.saturating_sub(self.shared.allowance.available_permits()));
    }

    /// Messages whose 250 has been read so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.shared.said.lock().unwrap().acknowledged.len()
    }

    /// Ends the sessions once no relay runs any more: they read what it still said.
    pub(crate) async fn finish(mut self) -> Submitted {
        self.shared.over.cancel();
        while let Some(ended) = self.sessions.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut *self.shared.said.lock().unwrap())
    }
}

async fn session(number: usize, shared: Arc<Shared>, mut serving: watch::Receiver<Option<Addresses>>) {
    loop {
        let told = tokio::select! {
            told = serving.wait_for(Option::is_some) => told.map(|addresses| *addresses),
            () = shared.over.cancelled() => return,
        };
        let Ok(Some(Addresses { smtp, .. })) = told else { return };
        // A connection that breaks is what this test is about. The ledger knows what it means.
        let _broken = converse(number, &shared, smtp).await;
        tokio::task::yield_now().await;
    }
}

async fn converse(number: usize, shared: &Shared, address: SocketAddr) -> io::Result<()> {
    let mut client = SmtpClient::ready(address).await?;
    loop {
        let train = if number.is_multiple_of(2) { 1 } else { TRAIN };
        let allowed = tokio::select! {
            allowed = shared.allowance.acquire_many(u32::try_from(train).unwrap()) => allowed.unwrap(),
            () = shared.over.cancelled() => return Ok(()),
        };
        allowed.forget();
        let mails: Vec<Mail> = (0..train).map(|_| shared.next_mail(train)).collect();
        match mails.as_slice() {
            [mail] => shared.send_data(&mut client, mail).await?,
            mails => shared.send_train(&mut client, mails).await?,
        }
    }
}

impl Shared {
    /// A new message, noted as sent before any of it is.
    fn next_mail(&self, train: usize) -> Mail {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.said.lock().unwrap().sent.insert(id);
        // What a stopping relay has not read when it says 421 must stay below what it still takes
        // in, or the reset would destroy the 250 before it: no large ones in a train.
        if train == 1 { Mail::of_any_size(id) } else { Mail::small(id) }
    }

    async fn send_data(&self, client: &mut SmtpClient, mail: &Mail) -> io::Result<()> {
        let to: Vec<&str> = mail.to.iter().map(String::as_str).collect();
        let handed = client.send(&mail.from, &to, &mail.content).await?;
        self.heard(mail, handed.last())
    }

    /// MAIL, RCPT and two chunks for every message, all in one write; then all replies.
    async fn send_train(&self, client: &mut SmtpClient, mails: &[Mail]) -> io::Result<()> {
        let mut wire = Vec::new();
        for mail in mails {
            let (first, rest) = mail.content.split_at(mail.content.len() / 2);
            wire.extend_from_slice(format!("MAIL FROM:<{}>\r\n", mail.from).as_bytes());
            for to in &mail.to {
                wire.extend_from_slice(format!("RCPT TO:<{to}>\r\n").as_bytes());
            }
            wire.extend_from_slice(format!("BDAT {}\r\n", first.len()).as_bytes());
            wire.extend_from_slice(first);
            wire.extend_from_slice(format!("BDAT {} LAST\r\n", rest.len()).as_bytes());
            wire.extend_from_slice(rest);
        }
        client.raw(&wire).await?;
        for mail in mails {
            for _mail_rcpt_and_first_chunk in 0..mail.to.len() + 2 {
                taken(&client.reply().await?)?;
            }
            self.heard(mail, &client.reply().await?)?;
        }
        Ok(())
    }

    /// The reply to the end of a message.
    fn heard(&self, mail: &Mail, reply: &Reply) -> io::Result<()> {
        taken(reply)?;
        self.said.lock().unwrap().acknowledged.insert(mail.id);
        Ok(())
    }
}

/// 421 is the only refusal here, and it ends the session.
fn taken(reply: &Reply) -> io::Result<()> {
    assert!(reply.severity() == Severity::Completed || reply.code == 421, "the relay refuses good mail: {reply}");
    if reply.code == 421 { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
}
