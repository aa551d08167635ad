//! What the control socket gives: the interface of the admin port, to an operator whom the system names.

use super::answer::{ApiFault, answer};
use super::question::{AnswerForm, ApiRequest};
use super::visitor::Visitor;
use super::{Api, BODY_LIMIT, fault_of, refused, response_of};
use axum::body::{Body, to_bytes};
use axum::http::header;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Incoming;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Questions that are answered at once; more wait.
const AT_ONCE: usize = 8;
/// How long a client may take to send its body.
const BODY_PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
pub(in crate::service) struct LocalApi {
    api: Arc<Api>,
    /// Apart from those of the admin port: visitors there keep no operator waiting.
    places: Arc<Semaphore>,
}

impl LocalApi {
    /// Over the interface.
    pub(in crate::service) fn new(api: Arc<Api>) -> Self {
        Self { api, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The spool whose socket it is.
    pub(in crate::service) fn spool(&self) -> &Path {
        &self.api.operator.spool.path
    }

    /// The system gave no connection.
    pub(in crate::service) fn not_accepted(&self, error: &io::Error) {
        self.api.operator.pipeline().observer.spool_failed("accept on the control socket", error);
    }

    /// Answers one request of that user of this host. Once it is asked it is carried out, whether or not somebody
    /// waits for the answer.
    pub(in crate::service) async fn answer(&self, uid: Option<u32>, request: Request<Incoming>) -> Response {
        let (parts, body) = request.into_parts();
        let body = match timeout(BODY_PATIENCE, to_bytes(Body::new(body), BODY_LIMIT)).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return refused(&ApiFault::new(StatusCode::PAYLOAD_TOO_LARGE, "that is too long")),
            Err(_) => return refused(&ApiFault::new(StatusCode::REQUEST_TIMEOUT, "the body did not come")),
        };
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            return refused(&ApiFault::new(StatusCode::SERVICE_UNAVAILABLE, "the relay is stopping"));
        };
        let api = Arc::clone(&self.api);
        let answering = tokio::spawn(async move {
            let response = answered(&api, uid, &parts, &body).await;
            drop(place);
            response
        });
        let bug = |bug: tokio::task::JoinError| ApiFault::new(StatusCode::INTERNAL_SERVER_ERROR, bug.to_string());
        answering.await.unwrap_or_else(|panicked| refused(&bug(panicked)))
    }
}

async fn answered(api: &Api, uid: Option<u32>, parts: &Parts, body: &Bytes) -> Response {
    let visitor = Visitor::here(uid);
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let request = ApiRequest {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        body,
        form: AnswerForm::accepted(accept),
        over: visitor.over(),
        now: api.operator.now(),
    };
    let asked = async {
        let route = request.route().map_err(fault_of)?;
        route.needs.met_by(&visitor)?;
        let question = request.question(route).map_err(fault_of)?;
        Box::pin(answer(api, question, &visitor)).await
    };
    response_of(api, asked.await)
}
