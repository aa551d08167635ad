//! `relay spool move`: all mail goes to another spool, and is looked at there.

use crate::clock::{Clock, Timestamp};
use crate::config::SpoolConfig;
use crate::spool::carrying::{CarryError, CarryReport, CarryingSide, carry};
use crate::spool::cluster::NodeState;
use crate::spool::ledger::LedgerError;
use crate::spool::{SpoolError, nodes, open_carrying, open_carrying_alone, open_ledger};
use crate::text::counted;

/// Messages that are named when something is wrong with them; of more only the number is told.
const NAMED: usize = 20;

/// Why nothing was carried, or not all.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// Both configurations name the same spool.
    #[error("both configurations name the same spool")]
    Same,
    /// A relay works on one of them.
    #[error("the relay {0} is at work on it: stop it first")]
    AtWork(String),
    /// There is no old spool, or it cannot be read.
    #[error("the old spool: {0}")]
    From(#[source] LedgerError),
    /// The new spool cannot be read.
    #[error("the new spool: {0}")]
    To(#[source] LedgerError),
    /// One of them cannot be opened.
    #[error(transparent)]
    Open(SpoolError),
    /// It broke off.
    #[error("{0}; the same command goes on where it stopped")]
    Carry(#[from] CarryError),
}

/// Carries everything. `told` hears how many messages are behind it.
///
/// # Errors
/// When it cannot begin, or breaks off.
pub async fn carry_all(from: &SpoolConfig, to: &SpoolConfig, told: impl FnMut(u64)) -> Result<CarryReport, MoveError> {
    are_two(from, to)?;
    nobody_works(from).await?;
    nobody_works(to).await?;
    // A directory without a spool would be made one, and nothing be carried from it.
    let from_ledger = open_ledger(from).await.map_err(MoveError::From)?;
    let now = Clock::system().now();
    let [from_spool, to_spool] = open_carrying(from, to, now).await.map_err(MoveError::Open)?;
    let carried = async {
        let to_ledger = open_ledger(to).await.map_err(MoveError::To)?;
        let from = CarryingSide { spool: from_spool.as_ref(), ledger: from_ledger.as_ref() };
        let to = CarryingSide { spool: to_spool.as_ref(), ledger: to_ledger.as_ref() };
        Ok(carry(&from, &to, now, told).await?)
    };
    let carried = carried.await;
    from_spool.close().await;
    to_spool.close().await;
    carried
}

/// Lets the old spool be worked on again.
///
/// # Errors
/// When it cannot be opened or written.
pub async fn give_up(from: &SpoolConfig, to: &SpoolConfig) -> Result<(), MoveError> {
    are_two(from, to)?;
    nobody_works(from).await?;
    open_ledger(from).await.map_err(MoveError::From)?;
    let now = Clock::system().now();
    nobody_seen_at_work(to, now).await?;
    let spool = open_carrying_alone(from, now).await.map_err(MoveError::Open)?;
    let unmarked = spool.set_carried_since(None).await;
    spool.close().await;
    unmarked.map_err(MoveError::Open)
}

/// That the new spool cannot be reached is the best of reasons to give up; that a relay works on it is none.
async fn nobody_seen_at_work(to: &SpoolConfig, now: Timestamp) -> Result<(), MoveError> {
    if let Err(error @ MoveError::AtWork(_)) = nobody_works(to).await {
        return Err(error);
    }
    match open_carrying_alone(to, now).await {
        Ok(spool) => spool.close().await,
        Err(error @ SpoolError::InUse { .. }) => return Err(MoveError::Open(error)),
        Err(_out_of_reach) => {}
    }
    Ok(())
}

fn are_two(from: &SpoolConfig, to: &SpoolConfig) -> Result<(), MoveError> {
    let is_same = match from.engine == to.engine {
        true if from.engine == crate::config::SpoolEngine::Embedded => from.path == to.path,
        true => [&from.url, &from.url_credential] == [&to.url, &to.url_credential] && from.url_file == to.url_file,
        false => false,
    };
    if is_same { Err(MoveError::Same) } else { Ok(()) }
}

async fn nobody_works(spool: &SpoolConfig) -> Result<(), MoveError> {
    let nodes = nodes(spool).await.map_err(MoveError::Open)?.unwrap_or_default();
    let at_work = nodes.into_iter().find(|node| node.state == NodeState::Running);
    at_work.map_or(Ok(()), |node| Err(MoveError::AtWork(node.name)))
}

/// What was carried, for people.
#[must_use]
pub fn text(report: &CarryReport) -> String {
    let mut text = format!(
        "{}: {} waiting, with {} of content; {} carried by an earlier run.\n",
        counted(report.messages, "message"),
        report.waiting,
        counted(report.octets, "octet"),
        report.known
    );
    let mut name = |ids: &[crate::envelope::QueueId], what: &str| {
        if !ids.is_empty() {
            let shown: Vec<String> = ids.iter().take(NAMED).map(ToString::to_string).collect();
            let rest = if ids.len() > NAMED { ", …" } else { "" };
            text.push_str(&format!("{} {what}: {}{rest}\n", ids.len(), shown.join(", ")));
        }
    };
    name(&report.damaged, "cannot be read in the old spool, and stay there alone");
    name(&report.differing, "are not in the new spool as they are in the old one");
    text.push_str(if report.is_whole() {
        "All of it was read again in the new spool and is the same. Start the relay with the new configuration. The old\n\
         spool stays as it is, and no relay starts on it.\n"
    } else {
        "Not all mail is at its new place.\n"
    });
    text
}

/// What giving up means, for people.
#[must_use]
pub const fn given_up() -> &'static str {
    "The old spool is worked on again. What was carried is in the new one still: no relay must ever send it from there,\n\
     so empty it (of a database: drop it and make it again) before it is used.\n"
}
