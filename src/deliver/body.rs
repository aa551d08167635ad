//! Where the content of a message comes from.

use crate::spool::{BodyReader, SpoolError};
use async_trait::async_trait;

/// Opens the content of the message, when and if a server wants it.
#[async_trait]
pub trait OpenBody: Send + Sync {
    /// A fresh reader from the start of the content.
    ///
    /// # Errors
    /// As [`crate::spool::Spool::open_body`].
    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError>;
}
