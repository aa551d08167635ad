//! What visitors do with what waits: a bounded piece of work at a time, each act recorded with who and why.

use super::visitor::Visitor;
use super::wanted::{ActWanted, AskedOver};
use crate::command::queue::{Filter, MOST_SELECTED, Selected};
use crate::envelope::QueueId;
use crate::pipeline::operate::{Acted, Order};
use crate::service::operator::Operator;
use crate::service::order::OrderEvent;
use crate::spool::event::Act;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Messages that one order over the network concerns; more need another one.
const MOST: usize = 100;
/// How long may be looked for them there.
const LOOKING: Duration = Duration::from_secs(3);
/// How long may be looked for those of an order by a user of this host: through millions.
const LOOKING_HERE: Duration = Duration::from_secs(600);
/// Events that wait for a slow reader.
const EVENTS: usize = 64;
/// How long a reader may take for the next of them; the order ends with whoever gave it.
const READING: Duration = Duration::from_secs(10);

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

/// How much one order may be.
#[derive(Clone, Copy)]
struct ActBounds {
    most: usize,
    looking: Duration,
}

impl ActBounds {
    const fn over(over: AskedOver) -> Self {
        match over {
            AskedOver::Network => Self { most: MOST, looking: LOOKING },
            AskedOver::Socket => Self { most: MOST_SELECTED, looking: LOOKING_HERE },
        }
    }
}

/// Messages that an order concerns.
struct SelectedForAct {
    messages: Vec<Selected>,
    /// Whether there may be more than one order concerns.
    more: bool,
}

/// Carries an order out. Once begun it goes on, also where whoever gave it goes away: a message that was taken out of
/// the queue for it has to go back.
///
/// # Errors
/// Why it cannot be carried out further, in words.
pub(super) async fn carry_out(
    operator: &Arc<Operator>,
    wanted: ActWanted,
    visitor: &Visitor,
) -> Result<ActSum, String> {
    let ActWanted { act, filter, reason } = wanted;
    let order = Order { act, actor: visitor.actor(reason.as_deref()) };
    let bounds = ActBounds::over(visitor.over());
    let carried_out = tokio::spawn(to_the_end(Arc::clone(operator), order, filter, bounds)).await;
    carried_out.unwrap_or_else(|bug| Err(bug.to_string()))
}

async fn to_the_end(
    operator: Arc<Operator>,
    order: Order,
    filter: Filter,
    bounds: ActBounds,
) -> Result<ActSum, String> {
    let SelectedForAct { messages, more } = selected(&operator, &order, &filter, bounds).await?;
    let mut sum = ActSum { more, ..ActSum::default() };
    for one in messages {
        let acted = operator.act(&order, &one).await.map_err(|error| error.to_string())?;
        let (result, recipients) = match acted {
            Acted::Done => ("done", one.recipients.len()),
            Acted::Busy => ("busy", 0),
            Acted::Held => ("held", 0),
        };
        sum.count(acted);
        sum.messages.push(ActedMessage { id: one.id, recipients, result });
    }
    Ok(sum)
}

impl ActSum {
    fn count(&mut self, acted: Acted) {
        let count = if acted == Acted::Done { &mut self.acted } else { &mut self.left_alone };
        *count += 1;
    }
}

async fn selected(
    operator: &Operator,
    order: &Order,
    filter: &Filter,
    bounds: ActBounds,
) -> Result<SelectedForAct, String> {
    let looking = async {
        let ledger = operator.ledger().await?;
        filter.select(ledger.as_ref(), order.act, bounds.most, operator.now()).await
    };
    match timeout(bounds.looking, looking).await {
        Ok(Ok(messages)) => Ok(SelectedForAct { more: messages.len() >= bounds.most, messages }),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => Err("too many messages have to be looked through: name the messages by id".to_owned()),
    }
}

/// Begins to carry an order out, message by message; it ends between two of them where nobody hears of it any more.
pub(super) fn begin(operator: &Arc<Operator>, wanted: ActWanted, visitor: &Visitor) -> mpsc::Receiver<OrderEvent> {
    let ActWanted { act, filter, reason } = wanted;
    let order = Order { act, actor: visitor.actor(reason.as_deref()) };
    let (bounds, operator) = (ActBounds::over(visitor.over()), Arc::clone(operator));
    let (teller, events) = mpsc::channel(EVENTS);
    tokio::spawn(async move {
        let last = match selected(&operator, &order, &filter, bounds).await {
            Ok(selected) => one_by_one(&operator, &order, selected, &teller).await,
            Err(error) => Some(OrderEvent::Failed { error }),
        };
        if let Some(last) = last {
            let _gone = teller.send_timeout(last, READING).await;
        }
    });
    events
}

/// The last word about an order; none where nobody hears it.
async fn one_by_one(
    operator: &Operator,
    order: &Order,
    selected: SelectedForAct,
    teller: &mpsc::Sender<OrderEvent>,
) -> Option<OrderEvent> {
    let mut sum = ActSum::default();
    for one in selected.messages {
        let acted = match operator.act(order, &one).await {
            Ok(acted) => acted,
            Err(error) => return Some(OrderEvent::Failed { error: error.to_string() }),
        };
        sum.count(acted);
        let id = one.id;
        let told = match acted {
            Acted::Done => OrderEvent::Acted { id, recipients: one.recipients.len() },
            Acted::Busy => OrderEvent::Busy { id },
            Acted::Held => OrderEvent::Held { id },
        };
        teller.send_timeout(told, READING).await.ok()?;
    }
    Some(OrderEvent::Done { acted: sum.acted, left_alone: sum.left_alone, more: selected.more })
}

/// Records that a visitor reads the content of a message. Without the record nothing is read.
///
/// # Errors
/// Why it cannot be recorded.
pub(super) async fn record_reading(operator: &Arc<Operator>, id: QueueId, visitor: &Visitor) -> Result<(), String> {
    let filter = Filter { id: vec![id], ..Filter::default() };
    let sum = carry_out(operator, ActWanted { act: Act::Read, filter, reason: None }, visitor).await?;
    match sum.acted {
        0 => Err("that it is read cannot be recorded now: the message is in delivery, or has its end".to_owned()),
        _ => Ok(()),
    }
}
