//! What is told of an order while it is carried out: the events of `/api/v1` about it.

use crate::envelope::QueueId;
use serde::{Deserialize, Serialize};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum OrderEvent {
    /// It is done with this message, and recorded.
    Acted {
        /// The message.
        id: QueueId,
        /// How many of its recipients.
        recipients: usize,
    },
    /// This message is in delivery at the moment, or has left the queue meanwhile.
    Busy {
        /// The message.
        id: QueueId,
    },
    /// This message is held: it has to be released first.
    Held {
        /// The message.
        id: QueueId,
    },
    /// All that fits is done; the last one.
    Done {
        /// Messages it is done with.
        acted: usize,
        /// Messages that were left alone, each for the reason given.
        left_alone: usize,
        /// Whether there may be more that fits than one order concerns.
        more: bool,
    },
    /// It cannot be done, or not further; the last one.
    Failed {
        /// The reason, in words for the operator.
        error: String,
    },
    /// How a relay stands that ends, again and again; the end of the relay ends it.
    Draining {
        /// Connections on which a message is under way.
        under_way: usize,
    },
}
