//! The content as a server without 8BITMIME gets it (RFC 6152 §3): converted while it streams from the
//! spool. The rules are in [`crate::smtp::eight_bit`].

use super::body::OpenBody;
use crate::smtp::eight_bit::{ConversionPlan, Converter, Survey, Unconvertible};
use crate::spool::{BodyReader, SpoolError};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

/// How the content of one message is converted.
#[derive(Clone, Debug)]
pub struct Conversion {
    plan: ConversionPlan,
    /// The header field that tells of it.
    note: String,
    /// Octets of the result, for SIZE (RFC 1870 §6).
    size: u64,
}

impl Conversion {
    /// Reads the content and finds out how it can be converted; `by` names this relay and the message,
    /// for the trace.
    ///
    /// # Errors
    /// As for reading the content; inside, why it cannot be.
    pub async fn of(body: &dyn OpenBody, by: &str) -> Result<Result<Arc<Self>, Unconvertible>, SpoolError> {
        let (mut survey, mut reader) = (Survey::default(), body.open().await?);
        while let Some(piece) = reader.next().await? {
            survey.feed(&piece);
        }
        let plan = match survey.finish() {
            Ok(plan) => plan,
            Err(why_not) => return Ok(Err(why_not)),
        };
        let note = format!("X-MIME-Autoconverted: from 8bit to 7bit by {by}\r\n");
        let (mut converter, mut reader, mut size) = (Converter::new(&plan, note.clone()), body.open().await?, 0_u64);
        while let Some(piece) = reader.next().await? {
            size = size.saturating_add(converter.feed(&piece).len() as u64);
        }
        size = size.saturating_add(converter.finish().len() as u64);
        Ok(Ok(Arc::new(Self { plan, note, size })))
    }

    /// Octets of the result.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }
}

/// The content after its conversion.
pub(super) struct Converted<'a> {
    pub(super) body: &'a dyn OpenBody,
    pub(super) conversion: Arc<Conversion>,
}

#[async_trait]
impl OpenBody for Converted<'_> {
    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        let Conversion { plan, note, .. } = self.conversion.as_ref();
        let converter = Some(Converter::new(plan, note.clone()));
        Ok(Box::new(ConvertingReader { inner: self.body.open().await?, converter }))
    }
}

struct ConvertingReader {
    inner: Box<dyn BodyReader>,
    /// Until the end has been given.
    converter: Option<Converter>,
}

#[async_trait]
impl BodyReader for ConvertingReader {
    async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        while let Some(converter) = &mut self.converter {
            let wire = match self.inner.next().await? {
                Some(piece) => converter.feed(&piece),
                None => self.converter.take().map(Converter::finish).unwrap_or_default(),
            };
            if !wire.is_empty() {
                return Ok(Some(wire.into()));
            }
        }
        Ok(None)
    }
}
