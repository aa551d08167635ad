//! Plain notices to the postmaster, about no message: damage in the spool, limits that were reached, an incident
//! (RFC 5322 §3.6, RFC 3834 §5).

use super::ReportContext;
use super::form::{field, utf8_item, utf8_paragraph};
use super::mime::{MimePart, text_part};
use super::ndr::{addressed, dated};
use crate::accept::LimitNews;
use crate::clock::Timestamp;
use crate::smtp::address::Mailbox;
use crate::spool::incident::{Incident, OpenedBy};

/// Where the values begin in their lines.
const COLUMN: usize = 16;
/// Limits that are named; the log has more.
const MOST_LIMITS: usize = 50;
/// Domains that are named; the ledger has more.
const MOST_DOMAINS: usize = 20;

/// The notice that records of the spool were damaged: plain text, there is no message to show.
pub(super) fn damage_message(context: &ReportContext<'_>, to: &Mailbox, records: u64, now: Timestamp) -> Vec<u8> {
    let texts = &context.texts.of(to).first;
    let count = records.to_string();
    let text = utf8_paragraph(&texts.say("damage.text", &[("count", &count)]), 0);
    let header = addressed(context.hostname, to, &texts.say("damage.subject", &[]))
        + &dated(&format!("{}.damage@{}", now.0, context.hostname), now);
    plain(header, text)
}

/// The notice that limits were reached: whose, and what to think of it.
pub(super) fn limit_message(context: &ReportContext<'_>, to: &Mailbox, news: &[LimitNews], now: Timestamp) -> Vec<u8> {
    let texts = &context.texts.of(to).first;
    let count = news.len().to_string();
    let mut text = utf8_paragraph(&texts.say("limit.text", &[("count", &count)]), 0) + "\r\n";
    for LimitNews { rule, who, limit, .. } in news.iter().take(MOST_LIMITS) {
        text.push_str(&utf8_item("Reached:", &format!("{who} ({rule}: {limit})"), COLUMN));
    }
    let header = addressed(context.hostname, to, &texts.say("limit.subject", &[("count", &count)]))
        + &dated(&format!("{}.limit@{}", now.0, context.hostname), now);
    plain(header, text)
}

/// The notice that many domains fail alike: what it is, whose, and what to do.
pub(super) fn incident_message(
    context: &ReportContext<'_>,
    to: &Mailbox,
    incident: &Incident,
    now: Timestamp,
) -> Vec<u8> {
    let texts = &context.texts.of(to).first;
    let say = |key: &str, values: &[(&str, &str)]| texts.say(&format!("incident.{key}"), values);
    let (domains, messages) = (incident.domain_count.to_string(), incident.messages.to_string());
    let since = incident.since.to_second();
    let (subject, text) = match &incident.opened_by {
        OpenedBy::Check(check) if !incident.has_met_mail() => {
            ("check_subject", say("check", &[("check", check), ("since", &since)]))
        }
        OpenedBy::Check(_) | OpenedBy::Domains => {
            ("subject", say("text", &[("domains", &domains), ("messages", &messages), ("since", &since)]))
        }
    };
    let mut text = utf8_paragraph(&text, 0) + "\r\n";
    let mut item = |label: &str, value: &str| text.push_str(&utf8_item(label, value, COLUMN));
    item("Incident:", &incident.id.to_string());
    item("Cause:", &incident.cause);
    item("Side:", &format!("{}, {}", incident.side.word(), incident.certainty.word()));
    item("Since:", &since);
    item("What:", &incident.sentence);
    incident.evidence.iter().for_each(|line| item("Seen:", line));
    incident.what_to_do.iter().for_each(|line| item("To do:", line));
    let named: Vec<&str> = incident.domains.iter().take(MOST_DOMAINS).map(String::as_str).collect();
    if !named.is_empty() {
        item("Domains:", &named.join(", "));
    }
    item("Run:", "relay incidents");
    let header = addressed(context.hostname, to, &say(subject, &[("cause", &incident.cause)]))
        + &dated(&format!("{}.{}.incident@{}", now.0, incident.id, context.hostname), now);
    plain(header, text)
}

fn plain(mut message: String, text: String) -> Vec<u8> {
    let MimePart { encoding, octets: text, .. } = text_part(text);
    // RFC 3834 §5: nobody's request, so nobody's answer.
    message.push_str(&field("Auto-Submitted", "auto-generated"));
    message.push_str(&field("MIME-Version", "1.0"));
    message.push_str(&field("Content-Type", "text/plain; charset=utf-8"));
    message.push_str(&field("Content-Transfer-Encoding", encoding));
    message.push_str("\r\n");
    [message.into_bytes(), text].concat()
}
