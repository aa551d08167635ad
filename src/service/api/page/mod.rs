//! The page for those who answer the telephone: what `/api/v1` says, as HTML that is made here, without a script for
//! reading. What strangers wrote is shown harmlessly, and nothing is loaded from elsewhere.

mod chart;
mod domain;
mod dutch;
mod dutch_check;
mod dutch_faults;
mod find;
mod lists;
mod login;
mod now;
mod queue;
mod told;
mod words;

use super::answer::ApiFault;
use super::question::pairs;
use super::visitor::{FORM_TOKEN_FIELD, Visitor, only_looks};
use super::{Api, Visit, known_visitor, not_forged};
use crate::config::users::UserRole;
use crate::text::in_one_line;
use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use words::PageWords;

/// Files that are part of a page, for everybody.
const FILES: [(&str, &str, &str); 3] = [
    ("/style.css", "text/css; charset=utf-8", include_str!("style.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
    ("/icon.svg", "image/svg+xml", include_str!("icon.svg")),
];

/// What stands around every page.
struct Frame {
    w: &'static PageWords,
    /// Who is logged in.
    user: Option<String>,
    /// What the forms bring along.
    csrf: String,
    /// The path of the page.
    here: &'static str,
    /// Whether the page is to be loaded again soon.
    refresh: bool,
}

/// A page in the menu.
struct MenuItem {
    path: &'static str,
    name: &'static str,
    is_here: bool,
}

impl Frame {
    fn new(api: &Api, visit: &Visit, visitor: &Visitor, here: &'static str) -> Self {
        let csrf = visitor.form_subject().map(|subject| api.sessions().form_token(&subject)).unwrap_or_default();
        Self { w: words_for(visit), user: Some(shown(&visitor.name)), csrf, here, refresh: false }
    }

    /// The orders of the queue besides its age, in words.
    const fn sorts(&self) -> [(&'static str, &'static str); 4] {
        let w = self.w;
        [("domain", w.by_domain), ("next", w.by_next), ("size", w.by_size), ("attempts", w.by_attempts)]
    }

    fn menu(&self) -> Vec<MenuItem> {
        let w = self.w;
        let all = [
            ("/", w.now),
            ("/find", w.find),
            ("/domain", w.domain),
            ("/queue", w.queue),
            ("/incidents", w.incidents),
            ("/reports", w.reports),
            ("/exceptions", w.exceptions),
        ];
        all.into_iter().map(|(path, name)| MenuItem { path, name, is_here: path == self.here }).collect()
    }
}

/// The answer to a request that is none of the interface.
pub(super) async fn page(api: &Api, visit: &Visit) -> Response {
    let path = visit.uri.path();
    if let Some((_, kind, text)) = FILES.iter().find(|(name, ..)| *name == path) {
        return ([(header::CONTENT_TYPE, *kind)], *text).into_response();
    }
    if path == "/login" {
        return Box::pin(login::page(api, visit)).await;
    }
    let visitor = match known_visitor(api, visit).await {
        Ok(visitor) => visitor,
        Err(fault) if fault.status == StatusCode::UNAUTHORIZED && only_looks(&visit.method) => return see("/login"),
        Err(fault) => return plain(visit, &fault),
    };
    let made = if only_looks(&visit.method) {
        Box::pin(looked_at(api, visit, &visitor)).await
    } else {
        Box::pin(sent(api, visit, &visitor)).await
    };
    made.unwrap_or_else(|fault| plain(visit, &fault))
}

async fn looked_at(api: &Api, visit: &Visit, visitor: &Visitor) -> Result<Response, ApiFault> {
    match visit.uri.path() {
        "/" => now::page(api, visit, visitor).await,
        "/find" => find::page(api, visit, visitor).await,
        "/domain" => domain::page(api, visit, visitor).await,
        "/check" => domain::check(api, visit, visitor),
        "/queue" => queue::page(api, visit, visitor).await,
        "/incidents" => lists::incidents(api, visit, visitor).await,
        "/reports" => lists::reports(api, visit, visitor).await,
        "/report" => lists::report(api, visit, visitor).await,
        "/exceptions" => lists::exceptions(api, visit, visitor, None).await,
        _ => Err(ApiFault::new(StatusCode::NOT_FOUND, "there is no such page")),
    }
}

/// A form that was sent.
async fn sent(api: &Api, visit: &Visit, visitor: &Visitor) -> Result<Response, ApiFault> {
    let form = Form(pairs(&String::from_utf8_lossy(&visit.body)));
    let offered = visit.headers.get(FORM_TOKEN_FIELD).and_then(|value| value.to_str().ok());
    not_forged(api, visit, visitor, offered.unwrap_or_else(|| form.one("csrf")))?;
    match visit.uri.path() {
        "/logout" => Ok(login::out(api, visit, visitor)),
        "/queue/act" => queue::act(api, visit, visitor, &form).await,
        "/check" => domain::begin(api, visitor, &form),
        "/check/stop" => domain::stop(api, visitor, &form).await,
        "/suspend" => lists::suspend(api, visit, visitor, &form).await,
        "/resume" => lists::resume(api, visit, visitor, &form).await,
        _ => Err(ApiFault::new(StatusCode::NOT_FOUND, "there is no such form")),
    }
}

/// What a form holds.
struct Form(Vec<(String, String)>);

impl Form {
    /// The first value of that name; empty where there is none.
    fn one(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// All values of that name.
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What strangers wrote, as a page shows it; the template escapes it besides.
fn shown(text: &str) -> String {
    in_one_line(text).into_owned()
}

fn shown_all(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| shown(line)).collect()
}

/// A value as an address has it.
fn in_address(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn words_for(visit: &Visit) -> &'static PageWords {
    let wanted = visit.headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    PageWords::preferred(wanted)
}

/// Whatever a template makes.
fn made(template: &impl Template) -> Result<Response, ApiFault> {
    let html = template.render();
    let bug = |error: askama::Error| ApiFault::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    html.map(|html| Html(html).into_response()).map_err(bug)
}

/// The browser is to ask for another page. What cannot stand in a header leads to the first one.
fn see(path: &str) -> Response {
    let location = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

/// A fault in a few words, which no browser takes for more.
fn plain(visit: &Visit, fault: &ApiFault) -> Response {
    let why = told::by_language(&fault.why, dutch_faults::answer(fault.status), words_for(visit));
    (fault.status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], why + "\n").into_response()
}

/// Whether the visitor may do what needs that role.
fn needs(visitor: &Visitor, role: UserRole) -> Result<(), ApiFault> {
    if visitor.role < role { Err(ApiFault::denied(role)) } else { Ok(()) }
}
