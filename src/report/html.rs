//! The words of a report as a page (HTML): the same words as the text, for programs that show pages.
//!
//! Whoever made the message or answered it may have written any of it, so all of it is escaped: by the template
//! for the page, and by [`in_one_line`] what would turn or hide text. No link, image or font leads anywhere.
//! Styles stand at their elements, and tables hold the layout, because that is what Outlook understands; the
//! style sheet in the head is for dark screens and narrow ones, and nothing depends on it.

use super::Kind;
use super::words::{EvidenceWords, Fact, GroupWords, Phrase, ReaderWords, ReportWords};
use crate::text::in_one_line;
use askama::Template;
use std::borrow::Cow;

/// Recipients that one list shows; more are counted, and stand in the part for machines.
const MOST_SHOWN: usize = 50;

/// What kind of news it is, as a colour.
#[derive(Clone, Copy)]
struct Tone {
    /// The bar above, and beside what to do.
    accent: &'static str,
    /// The ground of what to do.
    ground: &'static str,
}

impl Tone {
    const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Failed | Kind::ReportLost | Kind::CopyLost => Self { accent: "#c0392b", ground: "#fdf1ef" },
            Kind::Delayed | Kind::HeldBack => Self { accent: "#b7791f", ground: "#fdf6e7" },
            Kind::Relayed => Self { accent: "#2f6fb0", ground: "#eef4fb" },
        }
    }
}

/// The page as the template takes it. Each text has gone through [`in_one_line`].
#[derive(Template)]
#[template(path = "page.html", config = "src/report/askama.toml")]
struct ReportPage<'a> {
    tone: Tone,
    readers: Vec<PageReader<'a>>,
    heading: Cow<'a, str>,
    facts: Vec<PageFact<'a>>,
    evidence: Vec<PageEvidence<'a>>,
    lost: Option<PageLost<'a>>,
}

struct PageReader<'a> {
    tag: Option<&'static str>,
    /// Above every language but the first.
    name: Option<&'static str>,
    groups: Vec<PageGroup<'a>>,
    further: Option<PageFurther<'a>>,
    note: Option<Cow<'a, str>>,
}

struct PageGroup<'a> {
    title: Vec<PagePhrase<'a>>,
    /// What the first text says behind its first sentence.
    lead: Vec<PagePhrase<'a>>,
    list: PageList<'a>,
    happened: Option<Cow<'a, str>>,
    action: Option<Cow<'a, str>>,
    closing: Option<Cow<'a, str>>,
}

struct PagePhrase<'a> {
    text: Cow<'a, str>,
    is_address: bool,
}

struct PageFurther<'a> {
    said: Cow<'a, str>,
    list: PageList<'a>,
}

struct PageList<'a> {
    lines: Vec<Cow<'a, str>>,
    more: Option<String>,
}

struct PageFact<'a> {
    label: &'static str,
    value: Cow<'a, str>,
}

struct PageEvidence<'a> {
    list: PageList<'a>,
    facts: Vec<PageFact<'a>>,
}

struct PageLost<'a> {
    heading: Cow<'a, str>,
    lines: Vec<Cow<'a, str>>,
}

/// The page; none where it cannot be written, which the text alone then stands for.
pub(super) fn page(words: &ReportWords<'_>, kind: Kind) -> Option<String> {
    let administrators = &words.administrators;
    let page = ReportPage {
        tone: Tone::of(kind),
        readers: words.readers.iter().enumerate().map(|(nth, reader)| of_reader(reader, nth)).collect(),
        heading: in_one_line(&administrators.heading),
        facts: facts(&administrators.facts),
        evidence: administrators.groups.iter().map(evidence).collect(),
        lost: administrators.lost.as_ref().map(|lost| PageLost {
            heading: in_one_line(&lost.heading),
            lines: lost.lines.iter().map(|line| in_one_line(line)).collect(),
        }),
    };
    page.render().ok()
}

fn of_reader<'a>(reader: &'a ReaderWords<'_>, nth: usize) -> PageReader<'a> {
    let list =
        |lines: &'a [String]| listed(lines, |more| reader.texts.say("notes.more", &[("count", &more.to_string())]));
    let group = |group: &'a GroupWords| {
        let (title, lead) = title_and_lead(&group.first);
        PageGroup {
            title,
            lead,
            list: list(&group.recipients),
            happened: group.happened.as_deref().map(in_one_line),
            action: group.action.as_deref().map(in_one_line),
            closing: group.closing.as_deref().map(in_one_line),
        }
    };
    PageReader {
        tag: reader.texts.tag(),
        name: (nth > 0).then(|| reader.texts.name()),
        groups: reader.groups.iter().map(group).collect(),
        further: reader
            .further
            .as_ref()
            .map(|further| PageFurther { said: in_one_line(&further.said), list: list(&further.lines) }),
        note: reader.note.as_deref().map(in_one_line),
    }
}

/// The first sentence, and what stands behind it: a title should be read at a glance.
fn title_and_lead(phrases: &[Phrase]) -> (Vec<PagePhrase<'_>>, Vec<PagePhrase<'_>>) {
    let (mut title, mut lead) = (Vec::new(), Vec::new());
    for phrase in phrases {
        let is_behind = !lead.is_empty();
        let (text, is_address) = match phrase {
            Phrase::Words(words) => (words, false),
            Phrase::Address(address) => (address, true),
        };
        let end = text.find(". ").filter(|_| !is_address && !is_behind).map(|end| end + 1);
        let piece = |text| PagePhrase { text: in_one_line(text), is_address };
        match end {
            Some(end) => {
                let (before, behind) = text.split_at(end);
                title.push(piece(before));
                lead.push(piece(behind));
            }
            None if is_behind => lead.push(piece(text)),
            None => title.push(piece(text)),
        }
    }
    (title, lead)
}

fn listed(lines: &[String], more: impl Fn(usize) -> String) -> PageList<'_> {
    let left_out = lines.len().saturating_sub(MOST_SHOWN);
    PageList {
        lines: lines.iter().take(MOST_SHOWN).map(|line| in_one_line(line)).collect(),
        more: (left_out > 0).then(|| more(left_out)),
    }
}

fn facts(facts: &[Fact]) -> Vec<PageFact<'_>> {
    facts.iter().map(|(label, value)| PageFact { label, value: in_one_line(value) }).collect()
}

fn evidence(words: &EvidenceWords) -> PageEvidence<'_> {
    let list = listed(&words.recipients, |more| format!("and {more} more"));
    PageEvidence { list, facts: facts(&words.facts) }
}
