//! A list of messages as they are when it is asked for: a cursor of a transaction that only reads, on a connection of
//! its own. It holds up nobody, and ends with whoever looks at it.

use super::reader::{cannot, failed, with_recipients};
use super::store::Database;
use crate::spool::ledger::{LedgerError, Listed, Listing};
use async_trait::async_trait;
use std::collections::VecDeque;
use tokio_postgres::Client;

/// See the module.
pub(super) struct DatabaseListing {
    client: Client,
    read: VecDeque<Listed>,
}

impl DatabaseListing {
    /// `select` is text of our own, and names the columns of the ledger.
    pub(super) async fn open(database: &Database, select: &str) -> Result<Self, LedgerError> {
        let client = database.connect_alone().await.map_err(cannot)?;
        // Somebody may look at a list for long; the other limits are for relays.
        let begin = format!(
            "SET idle_in_transaction_session_timeout = '15min';
             BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; DECLARE listed NO SCROLL CURSOR FOR {select}"
        );
        client.batch_execute(&begin).await.map_err(failed)?;
        Ok(Self { client, read: VecDeque::new() })
    }
}

#[async_trait]
impl Listing for DatabaseListing {
    async fn next(&mut self) -> Result<Option<Listed>, LedgerError> {
        if self.read.is_empty() {
            let rows = self.client.query("FETCH 200 FROM listed", &[]).await.map_err(failed)?;
            let messages = with_recipients(&self.client, &rows).await.map_err(failed)?;
            self.read.extend(messages.into_iter().map(|message| match message {
                Ok(message) => Listed::Message(Box::new(message)),
                Err(_id) => Listed::Unreadable,
            }));
        }
        Ok(self.read.pop_front())
    }
}
