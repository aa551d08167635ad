//! The part of a report that people read (RFC 6522 §3, first part).
//!
//! First what happened and who must act, for whoever wrote the message; then the evidence, for
//! whoever runs the mail system. The words for a cause come from the table in `outcome.rs`, so
//! that they are those of the log and of `relay check`.

use super::form::{item, line, paragraph};
use super::{Failure, Ndr, notable_domain};
use crate::outcome::{Cause, Side};
use crate::smtp::address::Mailbox;
use std::time::Duration;

/// Where the evidence begins in its line.
const COLUMN: usize = 20;

/// Whether the original's header is returned whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Returned {
    /// All of it.
    Whole,
    /// It was longer than [`super::HEADER_LIMIT`].
    Cut,
}

/// The whole part, without its MIME header.
pub(super) fn part(ndr: &Ndr<'_>, returned: Returned) -> String {
    let groups = grouped(ndr.failures);
    let mut text = String::new();
    for group in &groups {
        text.push_str(&for_the_sender(group));
    }
    text.push_str(&for_administrators(ndr));
    for group in &groups {
        text.push_str(&evidence_for(group));
    }
    if returned == Returned::Cut {
        let note = "The header of your message is very long; only its beginning is attached.";
        text.push_str("\r\n");
        text.push_str(&paragraph(note, 0));
    }
    text
}

/// Recipients that failed for the same reason.
struct Group<'a> {
    cause: &'a Cause,
    recipients: Vec<&'a Mailbox>,
}

/// In the order in which the causes first appear.
fn grouped<'a>(failures: &[Failure<'a>]) -> Vec<Group<'a>> {
    failures.iter().fold(Vec::new(), |mut groups: Vec<Group<'a>>, failure| {
        match groups.iter_mut().find(|group| group.cause == failure.cause) {
            Some(group) => group.recipients.push(failure.recipient),
            None => groups.push(Group { cause: failure.cause, recipients: vec![failure.recipient] }),
        }
        groups
    })
}

fn for_the_sender(group: &Group<'_>) -> String {
    let mut text = match group.recipients.as_slice() {
        [only] => line(&format!("Your message was not delivered to {only}."), 0),
        several => {
            let mut text = paragraph(&format!("Your message was not delivered to {} recipients:", several.len()), 0);
            text.push_str("\r\n");
            text.extend(several.iter().map(|recipient| line(recipient.as_str(), 4)));
            text
        }
    };
    text.push_str("\r\n");
    text.push_str(&paragraph(&group.cause.sentence(), 0));
    text.push_str("\r\n");
    text.push_str(&paragraph(&what_to_do(group.cause), 0));
    text.push_str("\r\n");
    text
}

fn what_to_do(cause: &Cause) -> String {
    let side = cause.row().side;
    let next = match side {
        Side::Sender => cause.advice(),
        Side::Recipient => "If you can reach the recipient in another way, pass this report on.",
        Side::Here | Side::Resolver | Side::Path => "Please pass this report on to your help desk.",
    };
    format!(
        "{} {next} This message will not be tried again; once the fault is corrected, send it anew.",
        side.who_must_act()
    )
}

fn for_administrators(ndr: &Ndr<'_>) -> String {
    let envelope = ndr.original.envelope;
    let mut text = "For administrators\r\n------------------\r\n\r\n".to_owned();
    text.push_str(&item("Relay:", ndr.hostname.as_str(), COLUMN));
    text.push_str(&item("Queue id:", &ndr.original.id.to_string(), COLUMN));
    text.push_str(&item("Received:", &envelope.accepted_at.rfc5322(), COLUMN));
    text.push_str(&item("Reported:", &ndr.now.rfc5322(), COLUMN));
    text
}

fn evidence_for(group: &Group<'_>) -> String {
    let mut text = "\r\n".to_owned();
    text.extend(group.recipients.iter().map(|recipient| line(recipient.as_str(), 0)));
    for (label, value) in evidence(group.cause) {
        text.push_str(&item(&format!("  {label}:"), &value, COLUMN));
    }
    let mut domains: Vec<_> = group.recipients.iter().filter_map(|recipient| notable_domain(recipient)).collect();
    domains.sort();
    domains.dedup();
    for domain in domains {
        text.push_str(&item("  Run:", &format!("relay check {domain}"), COLUMN));
    }
    text
}

/// Everything known about a cause that its sentence may leave out.
fn evidence(cause: &Cause) -> Vec<(&'static str, String)> {
    let row = cause.row();
    let mut lines = vec![("Cause", format!("{}, status {}", row.word, row.status))];
    if let Cause::Expired { waited_s, .. } = cause {
        lines.push(("Tried for", humantime::format_duration(Duration::from_secs(*waited_s)).to_string()));
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
