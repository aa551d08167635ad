//! The words of a report as text that any mail program shows (RFC 6522 §3, RFC 5322 §2.1.1).

use super::form::{line, utf8_item, utf8_paragraph};
use super::texts::LanguageTexts;
use super::words::{AdministratorWords, EvidenceWords, Fact, GroupWords, Phrase, ReaderWords, ReportWords};

/// Where the evidence begins in its line.
const COLUMN: usize = 20;
/// Recipients that one list names; more are counted, and stand in the part for machines.
const MOST_LISTED: usize = 200;
/// Stands for a space of an address while lines are filled; for private use, so in no address.
const UNBROKEN_SPACE: &str = "\u{E000}";

/// The whole part, without its MIME header.
pub(super) fn text(words: &ReportWords<'_>) -> String {
    let mut text = String::new();
    for (nth, reader) in words.readers.iter().enumerate() {
        if nth > 0 {
            text.push_str(&heading(reader.texts.name()));
        }
        text.push_str(&for_the_reader(reader));
    }
    text.push_str(&for_administrators(&words.administrators));
    for note in words.readers.iter().filter_map(|reader| reader.note.as_ref()) {
        text.push_str("\r\n");
        text.push_str(&utf8_paragraph(note, 0));
    }
    text
}

fn heading(heading: &str) -> String {
    format!("{heading}\r\n{}\r\n\r\n", "-".repeat(heading.chars().count()))
}

fn for_the_reader(reader: &ReaderWords<'_>) -> String {
    let mut text: String = reader.groups.iter().map(|group| of_group(reader.texts, group)).collect();
    if let Some(further) = &reader.further {
        text.push_str(&utf8_paragraph(&further.said, 0));
        text.push_str("\r\n");
        text.push_str(&listed(reader.texts, &further.lines));
        text.push_str("\r\n");
    }
    text
}

fn of_group(texts: &LanguageTexts, group: &GroupWords) -> String {
    let phrase = |phrase: &Phrase| match phrase {
        Phrase::Words(words) => words.clone(),
        Phrase::Address(address) => address.replace(' ', UNBROKEN_SPACE),
    };
    let first: String = group.first.iter().map(phrase).collect();
    let mut text = utf8_paragraph(&first, 0).replace(UNBROKEN_SPACE, " ");
    if !group.recipients.is_empty() {
        text.push_str("\r\n");
        text.push_str(&listed(texts, &group.recipients));
    }
    let last = group.action.iter().chain(&group.closing).map(String::as_str).collect::<Vec<_>>().join(" ");
    for paragraph in group.happened.iter().chain([&last]).filter(|paragraph| !paragraph.is_empty()) {
        text.push_str("\r\n");
        text.push_str(&utf8_paragraph(paragraph, 0));
    }
    text.push_str("\r\n");
    text
}

/// A list of bounded length that says what it leaves out.
fn listed(texts: &LanguageTexts, lines: &[String]) -> String {
    let mut text: String = lines.iter().take(MOST_LISTED).map(|shown| line(shown, 4)).collect();
    if let Some(more @ 1..) = lines.len().checked_sub(MOST_LISTED) {
        let said = texts.say("notes.more", &[("count", &more.to_string())]);
        text.push_str(&utf8_paragraph(&said, 4));
    }
    text
}

fn for_administrators(words: &AdministratorWords) -> String {
    let mut text = heading(&words.heading);
    text.extend(words.facts.iter().map(|(label, value)| utf8_item(&format!("{label}:"), value, COLUMN)));
    text.extend(words.groups.iter().map(evidence));
    if let Some(lost) = &words.lost {
        text.push_str("\r\n");
        text.push_str(&heading(&lost.heading));
        text.extend(lost.lines.iter().map(|said| line(said, 0)));
    }
    text
}

fn evidence(group: &EvidenceWords) -> String {
    let mut text = "\r\n".to_owned();
    text.extend(group.recipients.iter().take(MOST_LISTED).map(|recipient| line(recipient, 0)));
    if let Some(more @ 1..) = group.recipients.len().checked_sub(MOST_LISTED) {
        text.push_str(&utf8_paragraph(&format!("and {more} more"), 0));
    }
    let fact = |(label, value): &Fact| utf8_item(&format!("  {label}:"), value, COLUMN);
    text.extend(group.facts.iter().map(fact));
    text
}
