//! What visitors do with what waits: a bounded piece of work at a time, each act recorded with who and why.

use super::question::ActWanted;
use crate::command::queue::Filter;
use crate::envelope::QueueId;
use crate::pipeline::operate::{Acted, Order};
use crate::service::operator::Operator;
use crate::spool::event::{Act, Actor};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Messages that one order of a visitor concerns; more need another one.
const MOST: usize = 100;
/// How long may be looked for them.
const LOOKING: Duration = Duration::from_secs(3);

/// What came of an order.
#[derive(Debug, Default, Serialize)]
pub(super) struct ActSum {
    /// Messages it is done with.
    pub(super) acted: usize,
    /// Messages that were left alone.
    pub(super) left_alone: usize,
    /// Whether there may be more that fits than one order concerns.
    pub(super) more: bool,
    /// Each of them.
    pub(super) messages: Vec<ActedMessage>,
}

/// A message that an order concerned.
#[derive(Debug, Serialize)]
pub(super) struct ActedMessage {
    /// The message.
    pub(super) id: QueueId,
    /// Recipients that it is done with.
    pub(super) recipients: usize,
    /// `done`; or `busy`, in delivery at the moment or gone; or `held`, to be released first.
    pub(super) result: &'static str,
}

/// Carries an order out. Once begun it goes on, also where whoever gave it goes away: a message that was taken out of
/// the queue for it has to go back.
///
/// # Errors
/// Why it cannot be carried out further, in words.
pub(super) async fn carry_out(operator: &Arc<Operator>, wanted: ActWanted, user: &str) -> Result<ActSum, String> {
    let ActWanted { act, filter, reason } = wanted;
    let order = Order { act, actor: Actor::user(user, reason.as_deref()) };
    let carried_out = tokio::spawn(to_the_end(Arc::clone(operator), order, filter)).await;
    carried_out.unwrap_or_else(|bug| Err(bug.to_string()))
}

async fn to_the_end(operator: Arc<Operator>, order: Order, filter: Filter) -> Result<ActSum, String> {
    let looking = async {
        let ledger = operator.ledger().await?;
        filter.select_at_most(ledger.as_ref(), order.act, MOST, operator.now()).await
    };
    let selected = match timeout(LOOKING, looking).await {
        Ok(selected) => selected.map_err(|error| error.to_string())?,
        Err(_elapsed) => return Err("too many messages have to be looked through: name the messages by id".to_owned()),
    };
    let mut sum = ActSum { more: selected.len() >= MOST, ..ActSum::default() };
    for one in selected {
        let acted = operator.act(&order, &one).await.map_err(|error| error.to_string())?;
        let (result, recipients) = match acted {
            Acted::Done => ("done", one.recipients.len()),
            Acted::Busy => ("busy", 0),
            Acted::Held => ("held", 0),
        };
        let count = if acted == Acted::Done { &mut sum.acted } else { &mut sum.left_alone };
        *count += 1;
        sum.messages.push(ActedMessage { id: one.id, recipients, result });
    }
    Ok(sum)
}

/// Records that a visitor reads the content of a message. Without the record nothing is read.
///
/// # Errors
/// Why it cannot be recorded.
pub(super) async fn record_reading(operator: &Arc<Operator>, id: QueueId, user: &str) -> Result<(), String> {
    let filter = Filter { id: vec![id], ..Filter::default() };
    let sum = carry_out(operator, ActWanted { act: Act::Read, filter, reason: None }, user).await?;
    match sum.acted {
        0 => Err("that it is read cannot be recorded now: the message is in delivery, or has its end".to_owned()),
        _ => Ok(()),
    }
}
