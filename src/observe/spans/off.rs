//! In place of the export, in a relay that was built without it.

/// The export of spans, which this relay cannot do.
pub struct NoExport(std::convert::Infallible);

/// A collector is named, and nothing will be sent to it.
#[derive(Debug, thiserror::Error)]
#[error(
    "OTEL_EXPORTER_OTLP_ENDPOINT is set, but this relay was built without the feature otel; unset it, or build with --features otel"
)]
pub struct NotBuiltIn;

impl NoExport {
    /// Says so where the environment names a collector.
    ///
    /// # Errors
    /// Always in that case.
    pub fn begin(_hostname: &str) -> Result<Option<Self>, NotBuiltIn> {
        if super::is_wanted() { Err(NotBuiltIn) } else { Ok(None) }
    }

    /// There is nothing to send.
    pub async fn end(self) {
        match self.0 {}
    }
}
