//! The part of a report that people read (RFC 6522 §3, first part).
//!
//! First what happened and who must act, for whoever wrote the message, in the words of
//! `texts.rs`; then the evidence, for whoever runs the mail system: those words are the same in
//! every language, so that they are found in the log and by `relay check`.

use super::form::{line, utf8_item, utf8_paragraph};
use super::returned::Note;
use super::status::remote_reply;
use super::{Fate, Kind, Original, ReportDraft, notable_domain, readable, tries};
use crate::clock::Timestamp;
use crate::outcome::{Cause, Phase, Side, UNITS, span};
use crate::smtp::address::Mailbox;
use crate::spool::RecipientState;
use crate::spool::incident::Incident;
use mail_parser::MessageParser;

/// Where the evidence begins in its line.
const COLUMN: usize = 20;
/// Stands for a space of an address while lines are filled; for private use, so in no address.
const UNBROKEN_SPACE: &str = "\u{E000}";
/// The most lines that are repeated of a report that could not be delivered.
const REPEATED_LINES: usize = 60;

/// Groups that are told of in full; the recipients of further ones have a line each.
const MOST_GROUPS: usize = 20;
/// Recipients that one list names; more are counted, and stand in the part for machines.
const MOST_LISTED: usize = 200;
/// Domains that an administrator is told to check, of one group.
const MOST_CHECKS: usize = 10;

/// The whole part, without its MIME header.
pub(super) fn part(draft: &ReportDraft<'_>, note: Option<Note>) -> String {
    let groups = grouped(draft);
    let (full, brief) = groups.split_at(groups.len().min(MOST_GROUPS));
    let mut text = String::new();
    for group in full {
        text.push_str(&for_the_reader(draft, group));
    }
    text.push_str(&in_brief(draft, brief));
    text.push_str(&for_administrators(draft));
    for group in full {
        text.push_str(&evidence_for(draft, group));
    }
    if draft.due.kind == Kind::ReportLost {
        text.push_str(&what_the_report_said(draft));
    }
    if let Some(note) = note {
        let slot = match note {
            Note::HeaderCut => "notes.header_cut",
            Note::HeaderOnly => "notes.header_only",
            Note::ReturnedBefore => "notes.returned_before",
            Note::Redacted => "notes.redacted",
        };
        text.push_str("\r\n");
        text.push_str(&utf8_paragraph(&draft.context.texts.say(slot, &[]), 0));
    }
    text
}

/// Each recipient in a line, with the cause in the words of the log, so that a report about a thousand
/// hosts can be read and carried.
fn in_brief(draft: &ReportDraft<'_>, groups: &[CauseGroup<'_>]) -> String {
    if groups.is_empty() {
        return String::new();
    }
    let told = |group: &CauseGroup<'_>| match group.fate {
        Fate::Stopped(cause) => format!("{}, status {}", cause.root().row().word, cause.row().status),
        Fate::Relayed { peer, .. } => peer.to_string(),
    };
    let lines = groups.iter().flat_map(|group| {
        let told = told(group);
        let one = move |recipient: &&Mailbox| format!("{} ({told})", readable::mailbox(recipient));
        group.recipients.iter().map(one).collect::<Vec<_>>()
    });
    let lines: Vec<String> = lines.collect();
    let said = draft.context.texts.say("notes.further", &[("count", &lines.len().to_string())]);
    format!("{}\r\n{}\r\n", utf8_paragraph(&said, 0), listed(draft, lines))
}

/// A list of bounded length that says what it leaves out.
fn listed(draft: &ReportDraft<'_>, lines: Vec<String>) -> String {
    let mut text: String = lines.iter().take(MOST_LISTED).map(|shown| line(shown, 4)).collect();
    if let Some(more @ 1..) = lines.len().checked_sub(MOST_LISTED) {
        let said = draft.context.texts.say("notes.more", &[("count", &more.to_string())]);
        text.push_str(&utf8_paragraph(&said, 4));
    }
    text
}

/// Recipients of whom the same is to be said.
struct CauseGroup<'a> {
    fate: &'a Fate,
    indices: Vec<usize>,
    recipients: Vec<&'a Mailbox>,
}

/// In the order in which the fates first appear.
fn grouped<'a>(draft: &ReportDraft<'a>) -> Vec<CauseGroup<'a>> {
    draft.recipients().fold(Vec::new(), |mut groups: Vec<CauseGroup<'a>>, (index, recipient, fate)| {
        match groups.iter_mut().find(|group| group.fate == fate) {
            Some(group) => {
                group.indices.push(index);
                group.recipients.push(recipient);
            }
            None => groups.push(CauseGroup { fate, indices: vec![index], recipients: vec![recipient] }),
        }
        groups
    })
}

fn for_the_reader(draft: &ReportDraft<'_>, group: &CauseGroup<'_>) -> String {
    let server = match group.fate {
        Fate::Relayed { peer, .. } => readable::names(&peer.to_string()),
        Fate::Stopped(_) => String::new(),
    };
    let say = |key: &str, more: (&str, &str)| {
        let slot = format!("{}.{key}", draft.due.kind.word());
        draft.context.texts.say(&slot, &[("server", &server), more])
    };
    let mut text = match group.recipients.as_slice() {
        [only] => {
            let address = readable::mailbox(only).replace(' ', UNBROKEN_SPACE);
            utf8_paragraph(&say("one", ("recipient", &address)), 0).replace(UNBROKEN_SPACE, " ")
        }
        several => {
            let mut text = utf8_paragraph(&say("several", ("count", &several.len().to_string())), 0);
            text.push_str("\r\n");
            text.push_str(&listed(draft, several.iter().map(|recipient| readable::mailbox(recipient)).collect()));
            text
        }
    };
    text.push_str("\r\n");
    let until = short_date(draft.original.until);
    let closing = say("closing", ("until", &until));
    match group.fate {
        Fate::Stopped(cause) => {
            let said = remote_reply(group.fate).map(|(_, reply)| reply.to_string());
            let sentence = match draft.incident(cause) {
                Some(incident) => draft.context.texts.say("incident.reader", &[("since", &short_date(incident.since))]),
                None => readable::sentence(&draft.context.texts.sentence(cause), said.as_deref()),
            };
            text.push_str(&utf8_paragraph(&sentence, 0));
            text.push_str("\r\n");
            text.push_str(&utf8_paragraph(&format!("{} {closing}", what_to_do(draft, cause)), 0));
        }
        Fate::Relayed { .. } => text.push_str(&utf8_paragraph(&closing, 0)),
    }
    text.push_str("\r\n");
    text
}

/// Who must act, and what the reader can do.
fn what_to_do(draft: &ReportDraft<'_>, cause: &Cause) -> String {
    let texts = draft.context.texts;
    // Whatever part of our side it is, the reader's administrators are to act, and nobody else.
    let side = if draft.incident(cause).is_some() { Side::Here } else { cause.row().side };
    let first = if draft.due.kind == Kind::Failed && may_be_a_wrong_address(cause) {
        texts.say("next.address", &[])
    } else {
        String::new()
    };
    let next = match (draft.due.kind, side) {
        (Kind::ReportLost | Kind::CopyLost, _) => String::new(),
        (Kind::Delayed | Kind::HeldBack, _) => texts.say("next.waiting", &[]),
        (Kind::Failed | Kind::Relayed, Side::Sender) => texts.advice(cause),
        (Kind::Failed | Kind::Relayed, Side::Recipient) => texts.say("next.recipient", &[]),
        (Kind::Failed | Kind::Relayed, Side::Here | Side::Resolver | Side::Path) => texts.say("next.help_desk", &[]),
    };
    let who = if draft.incident(cause).is_some() { texts.side_must_act(side) } else { texts.who_must_act(cause) };
    format!("{first} {who} {next}").trim().to_owned()
}

/// Whether the other side says, or leaves open, that the address is wrong: the one fault that its
/// administrators cannot fix, and the most frequent one (RFC 3463 §3.2, RFC 5321 §4.2.3).
fn may_be_a_wrong_address(cause: &Cause) -> bool {
    let Cause::Rejected { phase: Phase::RcptTo, reply, .. } = cause.root() else { return false };
    match reply.enhanced {
        Some(code) => code.class == 5 && code.subject == 1,
        None => [550, 551, 553].contains(&reply.code),
    }
}

/// A moment for people in any language: `2026-11-25 11:44 UTC`.
fn short_date(moment: Timestamp) -> String {
    let text = moment.rfc3339();
    let minutes = text.split_once('T').and_then(|(date, time)| time.get(..5).map(|time| format!("{date} {time} UTC")));
    minutes.unwrap_or(text)
}

/// Of the recipient that was tried most. What the operator does is no attempt.
fn attempts(draft: &ReportDraft<'_>) -> u32 {
    let Original { entry, tries_now, .. } = *draft.original;
    let tries = |(index, _, fate): (usize, _, &Fate)| match (entry.recipients.get(index), fate) {
        (Some(RecipientState::Owed(owed)), _) => owed.tries,
        (Some(RecipientState::Queued(pending)), Fate::Stopped(_)) if draft.due.kind.waits() => {
            pending.tries.saturating_add(if draft.is_earlier(index) { 0 } else { tries_now })
        }
        (state, fate) => {
            let before = state.and_then(RecipientState::pending).map_or(0, |pending| pending.tries);
            let cause = match fate {
                Fate::Stopped(cause) => Some(cause),
                Fate::Relayed { .. } => None,
            };
            before.saturating_add(tries::ended_now(cause, tries_now))
        }
    };
    draft.recipients().map(tries).max().unwrap_or(0)
}

fn for_administrators(draft: &ReportDraft<'_>) -> String {
    let entry = draft.original.entry;
    let heading = draft.context.texts.say("notes.administrators", &[]);
    let mut text = format!("{heading}\r\n{}\r\n\r\n", "-".repeat(heading.chars().count()));
    text.push_str(&utf8_item("Relay:", draft.context.hostname.as_str(), COLUMN));
    text.push_str(&utf8_item("Queue id:", &entry.id.to_string(), COLUMN));
    text.push_str(&utf8_item("Received:", &entry.envelope.accepted_at.rfc5322(), COLUMN));
    text.push_str(&utf8_item("Reported:", &draft.now.rfc5322(), COLUMN));
    text.push_str(&utf8_item("Attempts:", &attempts(draft).to_string(), COLUMN));
    if draft.due.kind.waits() {
        text.push_str(&utf8_item("Tried until:", &draft.original.until.rfc5322(), COLUMN));
    }
    text
}

fn evidence_for(draft: &ReportDraft<'_>, group: &CauseGroup<'_>) -> String {
    let mut text = "\r\n".to_owned();
    text.extend(group.recipients.iter().take(MOST_LISTED).map(|recipient| line(recipient.as_str(), 0)));
    if let Some(more @ 1..) = group.recipients.len().checked_sub(MOST_LISTED) {
        text.push_str(&utf8_paragraph(&format!("and {more} more"), 0));
    }
    let lines = match group.fate {
        Fate::Stopped(cause) => draft.incident(cause).map(incident_line).into_iter().chain(evidence(cause)).collect(),
        Fate::Relayed { peer, reply } => vec![("Mail server", peer.to_string()), ("Reply", reply.to_string())],
    };
    for (label, value) in lines {
        text.push_str(&utf8_item(&format!("  {label}:"), &value, COLUMN));
    }
    if matches!(group.fate, Fate::Relayed { .. }) {
        return text;
    }
    for tries in tries::of(draft.original.history, &group.indices) {
        let (first, last) = (short_date(*tries.when.start()), short_date(*tries.when.end()));
        let when = if tries.count == 1 { first } else { format!("{} times from {first} to {last}", tries.count) };
        text.push_str(&utf8_item("  Earlier try:", &format!("{when}: {}", tries.what), COLUMN));
    }
    let mut domains: Vec<_> = group.recipients.iter().filter_map(|recipient| notable_domain(recipient)).collect();
    domains.sort();
    domains.dedup();
    for domain in domains.into_iter().take(MOST_CHECKS) {
        text.push_str(&utf8_item("  Run:", &format!("relay check {domain}"), COLUMN));
    }
    text.push_str(&utf8_item("  Run:", &format!("relay why {}", draft.original.entry.id), COLUMN));
    text
}

fn incident_line(incident: &Incident) -> (&'static str, String) {
    let Incident { id, cause, side, certainty, .. } = incident;
    ("Incident", format!("{id}: {cause}, side {}, {}", side.word(), certainty.word()))
}

/// Everything known about a cause that its sentence may leave out.
fn evidence(cause: &Cause) -> Vec<(&'static str, String)> {
    let row = cause.row();
    let mut lines = vec![("Cause", format!("{}, status {}", row.word, row.status))];
    if let Cause::Expired { waited_s, .. } = cause {
        lines.push(("Tried for", span(*waited_s, &UNITS)));
    }
    let root = cause.root();
    let root_row = root.row();
    if root != cause {
        lines.push(("Last cause", format!("{}, status {}", root_row.word, root_row.status)));
    }
    if let Some(result_type) = root_row.result_type {
        lines.push(("RFC 8460 result", result_type.to_owned()));
    }
    lines.extend(root.evidence());
    lines.push(("Advice", root.advice().to_owned()));
    lines
}

/// The words of the report that was lost, without its parts: reports do not nest.
fn what_the_report_said(draft: &ReportDraft<'_>) -> String {
    let heading = draft.context.texts.say("notes.what_it_said", &[]);
    let mut text = format!("\r\n{heading}\r\n{}\r\n\r\n", "-".repeat(heading.chars().count()));
    let parsed = MessageParser::default().parse(draft.original.content);
    let said = parsed.as_ref().and_then(|message| message.body_text(0)).unwrap_or_default();
    text.extend(said.lines().take(REPEATED_LINES).map(|said| line(said.trim_end(), 0)));
    text
}
