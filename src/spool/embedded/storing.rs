//! A message from a client, and the copies that are to be made of it, on their way into the log.
//!
//! All of them are in one batch of the log, the copies before the message: a crash that tears the batch
//! leaves no message without its copies, and recovery drops copies without their message (RFC 5321 §4.2.5:
//! nobody was told 250). Content that has a file of its own is copied from file to file.

use super::EmbeddedSpool;
use super::content::{ContentWriter, FileReader, Finished};
use super::jobs::{Accepting, ContentPlace, LogJob, NewMessage, Storing};
use super::settle::{encode_envelope, invalid};
use crate::envelope::{Envelope, QueueId};
use crate::spool::record::{NewRecord, RecordContent, RecordKind};
use crate::spool::{BodyReader as _, BodyWriter as _, ContentCopy, Draft, SpoolEntry, SpoolError};
use std::sync::Arc;
use tokio::sync::oneshot;

impl EmbeddedSpool {
    /// Stores a message and copies of it; gives the names of the copies.
    pub(super) async fn store(
        &self,
        draft: Draft,
        envelope: Envelope,
        copies: Vec<ContentCopy>,
    ) -> Result<Vec<QueueId>, SpoolError> {
        self.running()?;
        let body = draft.body.into_any().downcast::<ContentWriter>();
        let body = body.map_err(|_| invalid("the draft was begun by another spool".into()))?;
        let id = body.id();
        self.shared.space.admit(body.in_memory())?;
        let finished = body.finish().await?;
        let mut messages = Vec::with_capacity(copies.len() + 1);
        for copy in copies {
            messages.push(self.copied(id, &finished.content, copy).await?);
        }
        let ids = messages.iter().map(|copy: &Storing| copy.message.entry.id).collect();
        messages.push(storing(id, envelope, finished)?);
        self.make_durable(messages).await?;
        Ok(ids)
    }

    /// Writes records in one batch of the log. `Ok` means that all of them are durable.
    pub(super) async fn make_durable(&self, messages: Vec<Storing>) -> Result<(), SpoolError> {
        let places = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        let backlog = Arc::clone(&self.shared.backlog);
        let permit = backlog.acquire_many_owned(places).await.map_err(|_| SpoolError::Stopped)?;
        let (answer, answered) = oneshot::channel();
        let job = LogJob::Accept(Box::new(Accepting { messages, permit, answer }));
        self.shared.unwritten.message_begins();
        self.log.send(job).map_err(|_| SpoolError::Stopped)?;
        answered.await.unwrap_or(Err(SpoolError::Stopped))
    }

    /// A copy of content that is complete; no more of it than a piece is in memory at once.
    async fn copied(&self, of: QueueId, content: &RecordContent, copy: ContentCopy) -> Result<Storing, SpoolError> {
        let ContentCopy { envelope, before, after } = copy;
        let id = self.next_id(envelope.accepted_at);
        let mut writer = ContentWriter::new(Arc::clone(&self.shared), id);
        writer.write(&before).await?;
        match content {
            RecordContent::Inline { bytes, .. } => writer.write(bytes).await?,
            RecordContent::External { size, crc } => {
                let mut reader = FileReader::open(Arc::clone(&self.shared), of, *size, *crc)?;
                while let Some(piece) = reader.next().await? {
                    writer.write(&piece).await?;
                }
            }
        }
        writer.write(&after).await?;
        self.shared.space.admit(writer.in_memory())?;
        storing(id, envelope, writer.finish().await?)
    }
}

/// A message before its first attempt, on its way into the log.
pub(super) fn storing(id: QueueId, envelope: Envelope, finished: Finished) -> Result<Storing, SpoolError> {
    let Finished { content, file, message_id } = finished;
    let place = match &content {
        RecordContent::Inline { .. } => ContentPlace::Inline,
        RecordContent::External { .. } => ContentPlace::OwnFile,
    };
    let json = encode_envelope(&envelope)?;
    let size = content.size();
    let record = NewRecord::new(id, json.clone(), content, RecordKind::OnItsOwn).map_err(|e| invalid(e.into()))?;
    let due = envelope.accepted_at;
    let entry = SpoolEntry::new(id, envelope, size);
    let message = NewMessage { entry, envelope: json, record, content: place, due, message_id };
    Ok(Storing { message, file })
}
