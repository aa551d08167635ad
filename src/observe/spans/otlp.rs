//! Spans by the libraries of OpenTelemetry, and their way to the collector. The environment variables are
//! those of its specification: `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER` and the others.

use crate::clock::Timestamp;
use crate::envelope::QueueId;
use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracer, SdkTracerProvider};
use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;

/// How long the collector may take for one request. The variables of OTLP may say less.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Who records, once [`SpanExport::begin`] has found that somebody wants it.
static RECORDER: OnceLock<Recorder> = OnceLock::new();

struct Recorder {
    tracer: SdkTracer,
    /// So that the same queue id at two relays makes two traces.
    relay: String,
}

/// Spans are being sent until this is told to end.
pub struct SpanExport {
    provider: SdkTracerProvider,
}

/// The export of spans cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("the OTEL_… variables cannot be used: {0}")]
pub struct ExporterError(#[from] opentelemetry_otlp::ExporterBuildError);

impl SpanExport {
    /// Begins to record where the environment names a collector. Called within the runtime, once.
    ///
    /// # Errors
    /// A variable of OTLP that cannot be used.
    pub fn begin(hostname: &str) -> Result<Option<Self>, ExporterError> {
        if !super::is_wanted() {
            return Ok(None);
        }
        let client =
            OnRuntime { runtime: Handle::current(), client: HyperClient::with_default_connector(TIMEOUT, None) };
        let exporter = SpanExporter::builder().with_http().with_http_client(client).build()?;
        let resource = Resource::builder()
            .with_attribute(KeyValue::new("service.name", "relay"))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("host.name", hostname.to_owned()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_id_generator(RootIds::default())
            .with_resource(resource)
            .build();
        let recorder = Recorder { tracer: provider.tracer("relay"), relay: hostname.to_owned() };
        // A second one in the same process keeps the first.
        let _ = RECORDER.set(recorder);
        Ok(Some(Self { provider }))
    }

    /// Sends what is left, within seconds.
    pub async fn end(self) {
        // The library waits on the thread that calls it.
        let ended = tokio::task::spawn_blocking(move || self.provider.shutdown()).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

/// The library sends from a thread of its own, where no runtime is.
#[derive(Debug)]
struct OnRuntime {
    runtime: Handle,
    client: HyperClient,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(async move { client.send_bytes(request).await }).await?
    }
}

thread_local! {
    /// The ids of the span that this thread is about to make.
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Ids at random, and those of a message's own span as they follow from its queue id.
#[derive(Debug, Default)]
struct RootIds {
    random: RandomIdGenerator,
}

impl IdGenerator for RootIds {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| self.random.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| self.random.new_span_id(), |(_, span)| span)
    }
}

/// The trace of a message, and its own span in it.
fn ids(relay: &str, id: QueueId) -> (TraceId, SpanId) {
    let hash = digest(&SHA256, format!("{relay} {id}").as_bytes());
    let octets =
        |from: usize| hash.as_ref().iter().skip(from).fold(0_u128, |sum, &octet| (sum << 8) | u128::from(octet));
    // Never zero but for a hash that nobody will meet; the last octets of each shift are what stays.
    (TraceId::from(octets(16)), SpanId::from(u64::try_from(octets(0) & u128::from(u64::MAX)).unwrap_or(1)))
}

/// A span of work that is under way.
pub(super) struct Recorded {
    within: Context,
}

impl Recorded {
    pub(super) fn begin(id: QueueId, name: &'static str) -> Option<Self> {
        let recorder = RECORDER.get()?;
        let (trace, span) = ids(&recorder.relay, id);
        let message = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default());
        let parent = Context::new().with_remote_span_context(message);
        let recorded = Self::within(recorder, &parent, name);
        recorded.note("relay.queue_id", id.to_string());
        Some(recorded)
    }

    pub(super) fn part(&self, name: &'static str) -> Self {
        match RECORDER.get() {
            Some(recorder) => Self::within(recorder, &self.within, name),
            None => Self { within: Context::new() },
        }
    }

    fn within(recorder: &Recorder, parent: &Context, name: &'static str) -> Self {
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Internal);
        Self { within: Context::new().with_span(recorder.tracer.build_with_context(builder, parent)) }
    }

    pub(super) fn note(&self, key: &'static str, value: String) {
        self.within.span().set_attribute(KeyValue::new(key, value));
    }

    pub(super) fn failed(&self, cause: &'static str) {
        self.within.span().set_attribute(KeyValue::new("error.type", cause));
        self.within.span().set_status(Status::error(cause));
    }
}

pub(super) fn message_ended(id: QueueId, accepted_at: Timestamp) {
    let Some(recorder) = RECORDER.get() else { return };
    let since_epoch = Duration::from_millis(u64::try_from(accepted_at.0).unwrap_or(0));
    let builder = SpanBuilder::from_name("message")
        .with_kind(SpanKind::Consumer)
        .with_start_time(SystemTime::UNIX_EPOCH + since_epoch)
        .with_attributes([KeyValue::new("relay.queue_id", id.to_string())]);
    NEXT.set(Some(ids(&recorder.relay, id)));
    drop(recorder.tracer.build_with_context(builder, &Context::new()));
    NEXT.set(None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_one_trace_for_ever_and_another_at_each_relay() {
        let here = ids("relay.example", QueueId(7));
        assert_eq!(here, ids("relay.example", QueueId(7)));
        assert_ne!(here.0, ids("other.example", QueueId(7)).0);
        assert_ne!(here.0, ids("relay.example", QueueId(8)).0);
        assert!(here.0 != TraceId::INVALID && here.1 != SpanId::INVALID);
    }
}
