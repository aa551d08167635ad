//! Logging in and out.

use super::{Form, Frame, made, pairs, plain, see, words_for};
use crate::accept::logins::{LoginEnd, LoginOutcome};
use crate::config::users::{PASSWORD_LIMIT, USER_NAME_LIMIT};
use crate::service::api::answer::ApiFault;
use crate::service::api::visitor::{LoginProof, Visitor, is_same_origin, only_looks, set_cookie};
use crate::service::api::{Api, Visit};
use crate::smtp::sasl::{Credentials, Secret};
use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;
use std::time::Duration;

/// The answer to a wrong password waits no longer: the connection has its own patience.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

#[derive(Template)]
#[template(path = "login.html", config = "src/service/api/askama.toml")]
struct LoginPage {
    f: Frame,
    fault: Option<&'static str>,
}

/// The form, or what came of it.
pub(super) async fn page(api: &Api, visit: &Visit) -> Response {
    if only_looks(&visit.method) {
        return form(visit, None, StatusCode::OK);
    }
    if !is_same_origin(&visit.headers) {
        return plain(visit, &ApiFault::new(StatusCode::FORBIDDEN, "this came from another site"));
    }
    let w = words_for(visit);
    let sent = Form(pairs(&String::from_utf8_lossy(&visit.body)));
    let (name, password) = (sent.one("name"), sent.one("password"));
    if name.is_empty() || name.len() > USER_NAME_LIMIT || password.len() > PASSWORD_LIMIT {
        return form(visit, Some(w.wrong), StatusCode::FORBIDDEN);
    }
    let gate = Arc::clone(&api.gate);
    let Some(users) = tokio::task::spawn_blocking(move || gate.users()).await.ok().flatten() else {
        return form(visit, Some(w.wrong), StatusCode::FORBIDDEN);
    };
    let (client, now) = (visit.client, api.operator.now());
    let credentials = Credentials { name: name.to_owned(), password: Secret::new(password) };
    let LoginEnd { outcome, user, wait, .. } = api.logins.log_in(users, credentials, client, now).await;
    match outcome {
        LoginOutcome::Right(right) if right.role.is_none() => form(visit, Some(w.no_role), StatusCode::FORBIDDEN),
        LoginOutcome::Right(right) => {
            tracing::info!(user = right.name, %client, "a user has logged in at the admin port");
            begun(api, visit, &right.name)
        }
        LoginOutcome::Wrong => {
            tracing::warn!(user, %client, "a login at the admin port has failed");
            tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
            form(visit, Some(w.wrong), StatusCode::FORBIDDEN)
        }
        LoginOutcome::NotNow => {
            tracing::warn!(user, %client, "a login at the admin port was not looked at: too many have failed");
            form(visit, Some(w.later), StatusCode::TOO_MANY_REQUESTS)
        }
    }
}

/// A session of its own: one that the browser brought along ends.
fn begun(api: &Api, visit: &Visit, name: &str) -> Response {
    let before = crate::service::api::visitor::session_cookie(&visit.headers, visit.peer.transport);
    let mut sessions = api.sessions();
    before.iter().for_each(|session| sessions.end(session));
    match sessions.begin(name, api.operator.now()) {
        Ok(session) => with_cookie(see("/"), &set_cookie(&session, visit.peer.transport)),
        Err(why) => plain(visit, &ApiFault::new(StatusCode::INTERNAL_SERVER_ERROR, why)),
    }
}

/// The session is over, on both sides.
pub(super) fn out(api: &Api, visit: &Visit, visitor: &Visitor) -> Response {
    if let LoginProof::Session(session) = &visitor.proof {
        api.sessions().end(session);
    }
    with_cookie(see("/login"), &set_cookie("", visit.peer.transport))
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

fn form(visit: &Visit, fault: Option<&'static str>, status: StatusCode) -> Response {
    let f = Frame { w: words_for(visit), user: None, csrf: String::new(), here: "/login", refresh: false };
    match made(&LoginPage { f, fault }) {
        Ok(response) => (status, response).into_response(),
        Err(fault) => plain(visit, &fault),
    }
}
