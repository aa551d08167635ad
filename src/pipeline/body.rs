//! The content of a message, opened again for each server.

use crate::deliver::driver::OpenBody;
use crate::envelope::QueueId;
use crate::spool::{BodyReader, Spool, SpoolError};
use async_trait::async_trait;
use std::sync::Arc;

/// Where it waits.
pub(super) struct SpooledBody {
    pub(super) spool: Arc<dyn Spool>,
    pub(super) id: QueueId,
}

#[async_trait]
impl OpenBody for SpooledBody {
    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        self.spool.open_body(self.id).await
    }
}
