//! *Find*: what happened to a message, in the words of its report.

use super::words::{PageLanguage, PageWords};
use super::{Form, Frame, dutch, made, pairs, shown, shown_all, told};
use crate::command::why::{self, Story, TimelineEntry};
use crate::service::api::answer::ApiFault;
use crate::service::api::visitor::Visitor;
use crate::service::api::{Api, Visit};
use askama::Template;
use axum::response::Response;

/// Messages told of.
const MOST: usize = 20;
/// The longest subject, in characters.
const SUBJECT_LIMIT: usize = 998;

#[derive(Template)]
#[template(path = "find.html", config = "src/service/api/askama.toml")]
struct FindPage {
    f: Frame,
    subject: String,
    stories: Vec<ShownStory>,
    more: bool,
}

struct ShownStory {
    id: String,
    standing: String,
    sender: String,
    accepted: String,
    message_id: Option<String>,
    recipients: Vec<String>,
    incidents: Vec<ShownLink>,
    timeline: Vec<ShownEntry>,
}

struct ShownLink {
    id: String,
    sentence: String,
}

struct ShownEntry {
    at: String,
    lines: Vec<String>,
}

/// The page.
pub(super) async fn page(api: &Api, visit: &Visit, visitor: &Visitor) -> Result<Response, ApiFault> {
    let f = Frame::new(api, visit, visitor, "/find");
    let asked = Form(pairs(visit.uri.query().unwrap_or_default()));
    let subject: String = asked.one("q").trim().chars().take(SUBJECT_LIMIT).collect();
    let (mut stories, mut more) = (Vec::new(), false);
    if !subject.is_empty() {
        let found = why::look_up(api.operator.ledger().await?.as_ref(), &subject, MOST).await?;
        (stories, more) = (found.stories.iter().map(|one| story(one, f.w)).collect(), found.more);
    }
    made(&FindPage { f, subject: shown(&subject), stories, more })
}

/// The same in the language of the page.
struct StoryTold {
    standing: String,
    recipients: Vec<String>,
    timeline: Vec<TimelineEntry>,
}

impl StoryTold {
    fn of(story: &Story, w: &PageWords) -> Self {
        match w.language {
            PageLanguage::English => {
                Self { standing: story.standing(), recipients: story.recipients(), timeline: story.timeline() }
            }
            PageLanguage::Dutch => Self {
                standing: dutch::standing(&story.message),
                recipients: dutch::recipients(story),
                timeline: dutch::timeline(story),
            },
        }
    }
}

fn story(story: &Story, w: &PageWords) -> ShownStory {
    let message = &story.message;
    let StoryTold { standing, recipients, timeline } = StoryTold::of(story, w);
    let incidents = story.incidents.iter();
    let incidents = incidents.map(|one| ShownLink { id: one.id.to_string(), sentence: shown(told::incident(one, w)) });
    let timeline = timeline.into_iter();
    let timeline = timeline.map(|entry| ShownEntry { at: entry.at.rfc3339(), lines: shown_all(&entry.lines) });
    ShownStory {
        id: message.id.to_string(),
        standing: shown(&standing),
        sender: shown(&message.envelope.reverse_path.to_string()),
        accepted: message.envelope.accepted_at.rfc3339(),
        message_id: message.message_id.as_deref().map(shown),
        recipients: shown_all(&recipients),
        incidents: incidents.collect(),
        timeline: timeline.collect(),
    }
}
