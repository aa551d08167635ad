//! The way of a message as spans, at a collector that takes OTLP as JSON.

use crate::process::Serving;
use crate::relay::{PATIENCE, SENDER, configuration_file, content, hand_in, lab, says, until};
use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use dane_relay::lab::TroubleAt;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Spans as they came in.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    /// Listens; gives its address as a URL.
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = self.clone();
        let router = Router::new().route("/v1/traces", post(move |body: Bytes| async move { taken.take(&body) }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    fn take(&self, body: &[u8]) -> &'static str {
        let request: Value = serde_json::from_slice(body).unwrap();
        for resource in request["resourceSpans"].as_array().unwrap() {
            for scope in resource["scopeSpans"].as_array().unwrap() {
                self.spans.lock().unwrap().extend(scope["spans"].as_array().unwrap().iter().cloned());
            }
        }
        "{}"
    }

    fn named(&self, name: &str) -> Vec<Value> {
        self.spans.lock().unwrap().iter().filter(|span| span["name"] == name).cloned().collect()
    }
}

async fn serve(collector: &str, config: &Path) -> Serving {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", OsStr::new(collector)),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", OsStr::new("http/json")),
        ("OTEL_BSP_SCHEDULE_DELAY", OsStr::new("50")),
    ];
    Serving::start_in(&variables, config).await
}

/// The value of an attribute.
fn said<'a>(span: &'a Value, key: &str) -> &'a str {
    let attribute = span["attributes"].as_array().unwrap().iter().find(|attribute| attribute["key"] == key);
    attribute.and_then(|attribute| attribute["value"]["stringValue"].as_str()).unwrap_or("")
}

#[tokio::test]
async fn a_message_is_one_trace_also_over_a_restart() {
    let lab = lab().domain("dane.test", |d| d.host(|h| h.trouble(TroubleAt::Mail, says("451 4.3.2 not now"))));
    let lab = lab.start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = configuration_file(&lab, folder.path());
    let collector = Collector::default();
    let address = collector.start().await;
    let relay = serve(&address, &config).await;
    let id = hand_in(relay.smtp, SENDER, &["bob@dane.test"], content("bob@dane.test").as_bytes()).await;
    let some = |name: &'static str| {
        let collector = collector.clone();
        move || {
            let found = collector.named(name).into_iter().next_back();
            async move { found }
        }
    };
    let refused = until(some("conversation"), "the span of a refusal").await;
    assert_eq!(said(&refused, "error.type"), "rejected-for-now", "{refused}");
    relay.terminate();
    assert_eq!(relay.ended().await, 0);

    let host = lab.mx("dane.test").unwrap();
    host.trouble(TroubleAt::Mail, None);
    let relay = serve(&address, &config).await;
    host.wait_for_messages(1, PATIENCE).await.unwrap();
    let message = until(some("message"), "the span of the whole message").await;
    assert_eq!(said(&message, "relay.queue_id"), id.to_string());
    let attempts = collector.named("attempt");
    assert!(attempts.len() >= 2, "{attempts:?}");
    for attempt in &attempts {
        assert_eq!(attempt["traceId"], message["traceId"]);
        assert_eq!(attempt["parentSpanId"], message["spanId"]);
        for part in ["resolve", "policies"] {
            assert!(collector.named(part).iter().any(|part| part["parentSpanId"] == attempt["spanId"]), "{part}");
        }
    }
    let delivered = collector.named("conversation").into_iter().find(|span| said(span, "error.type").is_empty());
    assert_eq!(delivered.map(|span| said(&span, "relay.tls").to_owned()).as_deref(), Some("dane"));
    let all = format!("{:?}", collector.spans.lock().unwrap());
    assert!(!all.contains("bob@") && !all.contains(SENDER), "an address of a person is in a span");
    relay.terminate();
    assert_eq!(relay.ended().await, 0);
}
