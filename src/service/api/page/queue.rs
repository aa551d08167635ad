//! *Queue*: what waits, page by page, and what can be done with it.

use super::dutch_faults::{NOT_POSSIBLE, NOT_UNDERSTOOD, SAY_WHY, TOO_MANY_TO_SORT};
use super::words::PageWords;
use super::{Form, Frame, in_address, made, pairs, shown, told};
use crate::clock::Timestamp;
use crate::command::queue::Filter;
use crate::command::queue::list::{QueueLine, WaitingRecipient};
use crate::command::queue::page::{PageError, QueuePage};
use crate::service::api::answer::{self, ApiFault};
use crate::service::api::question::page_wanted;
use crate::service::api::visitor::Visitor;
use crate::service::api::wanted::{ActScope, ActWanted, AskedOver, needed_for, wanted};
use crate::service::api::{Api, Visit};
use crate::spool::event::Act;
use crate::spool::ledger::MessageState;
use crate::text::table::span;
use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

/// What the conditions of the form are called.
const CONDITIONS: [&str; 5] = ["domain", "cause", "sender", "older", "sort"];
/// What can be done, as the form offers it.
const ACTS: [Act; 5] = [Act::Retry, Act::Hold, Act::Release, Act::Bounce, Act::Delete];

#[derive(Template)]
#[template(path = "queue.html", config = "src/service/api/askama.toml")]
struct QueueTablePage {
    f: Frame,
    asked: AskedQueue,
    /// The conditions, as the address has them.
    query: String,
    fault: Option<String>,
    done: Option<DoneAct>,
    rows: Vec<QueueRow>,
    next: Option<String>,
    acts: Vec<OfferedAct>,
}

/// What stands in the form of conditions.
#[derive(Default)]
struct AskedQueue {
    domain: String,
    cause: String,
    sender: String,
    older: String,
    sort: String,
}

/// A message that waits.
pub(super) struct QueueRow {
    pub(super) id: String,
    pub(super) age: String,
    pub(super) next: String,
    pub(super) tries: u32,
    pub(super) cause: &'static str,
    pub(super) detail: Option<String>,
    pub(super) to: String,
    pub(super) sender: String,
}

struct OfferedAct {
    word: &'static str,
    name: &'static str,
}

/// What came of an order, and the order that takes it back.
struct DoneAct {
    sentence: String,
    lines: Vec<String>,
    undo: Option<&'static str>,
    ids: Vec<String>,
}

/// The page.
pub(super) async fn page(api: &Api, visit: &Visit, visitor: &Visitor) -> Result<Response, ApiFault> {
    let f = Frame::new(api, visit, visitor, "/queue");
    shown_page(api, f, visitor, QueueNews::of(visit.uri.query().unwrap_or_default())).await
}

/// What is to be shown besides the messages.
struct QueueNews {
    query: String,
    fault: Option<String>,
    done: Option<DoneAct>,
}

impl QueueNews {
    fn of(query: &str) -> Self {
        Self { query: query.to_owned(), fault: None, done: None }
    }
}

async fn shown_page(api: &Api, f: Frame, visitor: &Visitor, news: QueueNews) -> Result<Response, ApiFault> {
    let QueueNews { query, mut fault, done } = news;
    let form = Form(pairs(&query));
    let found = match page_wanted(&query) {
        Ok(wanted) => match answer::queue_page(api, &wanted).await {
            Ok(page) => page,
            Err(why @ PageError::TooManyToSort) => {
                fault = Some(told::by_language(&why.to_string(), TOO_MANY_TO_SORT, f.w));
                QueuePage::default()
            }
            Err(why @ PageError::Sorting) => {
                fault = Some(told::by_language(&why.to_string(), NOT_POSSIBLE, f.w));
                QueuePage::default()
            }
            Err(PageError::Ledger(error)) => return Err(error.into()),
        },
        Err(why) => {
            fault = Some(told::by_language(&why, NOT_UNDERSTOOD, f.w));
            QueuePage::default()
        }
    };
    let kept = CONDITIONS.iter().filter(|name| !form.one(name).is_empty());
    let kept = kept.map(|name| format!("{name}={}", in_address(form.one(name)))).collect::<Vec<_>>().join("&");
    let next = found.next.as_ref().map(|next| format!("{kept}&after={}", in_address(next)));
    let asked = AskedQueue {
        domain: shown(form.one("domain")),
        cause: shown(form.one("cause")),
        sender: shown(form.one("sender")),
        older: shown(form.one("older")),
        sort: shown(form.one("sort")),
    };
    let offered = ACTS.into_iter().filter(|act| visitor.role >= needed_for(*act));
    let acts = offered.map(|act| OfferedAct { word: act.word(), name: name_of(act, f.w) }).collect();
    let rows = rows(&found, api.operator.now(), f.w);
    made(&QueueTablePage { f, asked, query: kept, fault, done, rows, next, acts })
}

/// The messages of a page as rows.
pub(super) fn rows(page: &QueuePage, now: Timestamp, w: &PageWords) -> Vec<QueueRow> {
    page.messages.iter().map(|line| row(line, now, w)).collect()
}

fn row(line: &QueueLine, now: Timestamp, w: &PageWords) -> QueueRow {
    let first = line.recipients.first();
    let others = line.recipients.len().saturating_sub(1);
    let to = first.map_or("", |first| first.address.as_str());
    let next = match line.standing {
        MessageState::Held => w.held.to_owned(),
        MessageState::Queued | MessageState::Finished => span(line.due.since(now).as_secs()),
    };
    QueueRow {
        id: line.id.to_string(),
        age: span(line.age_s),
        next,
        tries: line.tries(),
        cause: first.map_or("", WaitingRecipient::word),
        detail: first.and_then(|first| Some(shown(told::fault(first.cause?, first.detail.as_deref()?, w)))),
        to: if others == 0 { shown(to) } else { format!("{} +{others}", shown(to)) },
        sender: shown(&line.sender),
    }
}

const fn name_of(act: Act, w: &PageWords) -> &'static str {
    match act {
        Act::Retry => w.retry,
        Act::Hold => w.hold,
        Act::Release => w.release,
        Act::Bounce => w.bounce,
        Act::Delete | Act::Read => w.delete,
    }
}

/// The form below the table was sent.
pub(super) async fn act(api: &Api, visit: &Visit, visitor: &Visitor, form: &Form) -> Result<Response, ApiFault> {
    let f = Frame::new(api, visit, visitor, "/queue");
    let act = ACTS.into_iter().find(|act| act.word() == form.one("act"));
    let act = act.ok_or_else(|| ApiFault::new(StatusCode::BAD_REQUEST, "there is no such act"))?;
    let mut news = QueueNews::of(form.one("back"));
    let filter = form.all("id").try_fold(Filter::default(), |filter, id| filter.with("id", id));
    let filter = filter.map_err(|why| ApiFault::new(StatusCode::BAD_REQUEST, why))?;
    if filter.is_everything() {
        news.fault = Some(f.w.choose_some.to_owned());
        return shown_page(api, f, visitor, news).await;
    }
    let order = ActWanted { act, filter, reason: Some(form.one("reason").to_owned()) };
    match wanted(order, ActScope::Named, AskedOver::Network) {
        Err(why) => news.fault = Some(told::by_language(&why, SAY_WHY, f.w)),
        Ok(wanted) => match answer::act(api, wanted, visitor).await {
            Err(fault) if fault.status == StatusCode::CONFLICT => {
                news.fault = Some(told::by_language(&fault.why, NOT_POSSIBLE, f.w))
            }
            Err(fault) => return Err(fault),
            Ok(sum) => {
                let lines = sum.messages.iter().map(|one| format!("{}: {}", one.id, told::result(one.result, f.w)));
                let ids = sum.messages.iter().filter(|one| one.result == "done").map(|one| one.id.to_string());
                let ids: Vec<String> = ids.collect();
                let left =
                    if sum.left_alone > 0 { format!("; {} {}", sum.left_alone, f.w.left_alone) } else { String::new() };
                let sentence = format!("{}: {}{left}", name_of(act, f.w), told::messages(sum.acted, f.w));
                let undo = undo(act).filter(|_| !ids.is_empty()).map(Act::word);
                news.done = Some(DoneAct { sentence, lines: lines.collect(), undo, ids });
            }
        },
    }
    shown_page(api, f, visitor, news).await
}

/// What takes an act back; the others cannot be taken back.
const fn undo(act: Act) -> Option<Act> {
    match act {
        Act::Hold => Some(Act::Release),
        Act::Release => Some(Act::Hold),
        Act::Retry | Act::Bounce | Act::Delete | Act::Read => None,
    }
}
