//! `relay queue list`: the messages that wait, oldest first; a table for people, lines for programs.

use super::{DELIVERED, Filter, NOT_TRIED, NOTHING_FITS, OutputForm};
use crate::clock::Timestamp;
use crate::command::json;
use crate::envelope::QueueId;
use crate::outcome::Cause;
use crate::spool::RecipientState;
use crate::spool::ledger::{Ledger, LedgerError, LedgerMessage, MessageState};
use crate::text::table::{Cell, Column, Layout, TableView, TextTable, octets, span};
use serde::Serialize;
use std::ops::ControlFlow;

/// Rows whose widths are looked at before the first is printed; further ones come under the same columns.
const ROWS_AT_ONCE: usize = 1_000;

/// The columns of the table.
pub const COLUMNS: &[Column] = &[
    Column::words("ID"),
    Column::numbers("AGE"),
    Column::numbers("SIZE").rank(1),
    Column::words("NEXT"),
    Column::numbers("TRIES").rank(2),
    Column::words("CAUSE").at_least(12),
    Column::words("TO").at_least(16),
    Column::words("FROM").at_least(16).rank(3),
];

/// A message in a list.
#[derive(Debug, Serialize)]
pub struct QueueLine {
    /// Its name.
    pub id: QueueId,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// How long ago that is, in seconds.
    pub age_s: u64,
    /// When it is due.
    pub due: Timestamp,
    /// Whether the operator holds it.
    pub standing: MessageState,
    /// Its reverse-path.
    pub sender: String,
    /// Octets of content.
    pub size: u64,
    /// The Message-ID of its header, without brackets.
    pub message_id: Option<String>,
    /// Those that wait and fit.
    pub recipients: Vec<WaitingRecipient>,
}

/// A recipient in a list.
#[derive(Debug, Serialize)]
pub struct WaitingRecipient {
    /// The address.
    pub address: String,
    /// Attempts made.
    pub tries: u32,
    /// The word of what stopped the last one.
    pub cause: Option<&'static str>,
    /// Its sentence.
    pub detail: Option<String>,
    /// When the report goes out, of one that has its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_due: Option<Timestamp>,
}

impl QueueLine {
    /// Attempts made for the recipient that was tried most often.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.recipients.iter().map(|waiting| waiting.tries).max().unwrap_or_default()
    }
}

impl WaitingRecipient {
    /// What stopped it, in the word of its cause.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match (self.cause, self.report_due) {
            (Some(cause), _) => cause,
            (None, Some(_)) => DELIVERED,
            (None, None) => NOT_TRIED,
        }
    }
}

/// The first of several words, and how many others there are.
fn and_more(first: &str, others: usize) -> String {
    if others == 0 { first.to_owned() } else { format!("{first} +{others}") }
}

impl QueueLine {
    pub(super) fn new(message: &LedgerMessage, recipients: &[usize], now: Timestamp) -> Self {
        let waiting = |&index: &usize| {
            let known = message.recipients.get(index)?.as_ref()?;
            let (tries, last, report_due) = match &known.state {
                RecipientState::Queued(pending) => (pending.tries, pending.last.as_ref(), None),
                RecipientState::Owed(owed) => (owed.tries, owed.cause(), Some(owed.due)),
                RecipientState::Done { .. } | RecipientState::Removed => return None,
            };
            let (cause, detail) = (last.map(|cause| cause.row().word), last.map(Cause::sentence));
            Some(WaitingRecipient { address: known.address.clone(), tries, cause, detail, report_due })
        };
        Self {
            id: message.id,
            accepted: message.envelope.accepted_at,
            age_s: now.since(message.envelope.accepted_at).as_secs(),
            due: message.due_at,
            standing: message.standing,
            sender: message.envelope.reverse_path.to_string(),
            size: message.size,
            message_id: message.message_id.clone(),
            recipients: recipients.iter().filter_map(waiting).collect(),
        }
    }

    /// Whether only reports are to come.
    fn is_over(&self) -> bool {
        self.recipients.iter().all(|waiting| waiting.report_due.is_some())
    }

    /// What comes next, and when: sorted by when, and what is held last.
    fn next(&self, now: Timestamp) -> Cell {
        let in_s = self.due.since(now).as_secs();
        let words = match self.standing {
            MessageState::Held => return Cell::number("held", u64::MAX),
            MessageState::Queued | MessageState::Finished if self.due <= now => "now".to_owned(),
            MessageState::Queued | MessageState::Finished if self.is_over() => format!("report in {}", span(in_s)),
            MessageState::Queued | MessageState::Finished => format!("in {}", span(in_s)),
        };
        Cell::number(words, in_s)
    }

    fn row(&self, now: Timestamp) -> Vec<Cell> {
        let tries = self.recipients.iter().map(|waiting| waiting.tries).max().unwrap_or_default();
        let mut words: Vec<&str> = self.recipients.iter().map(WaitingRecipient::word).collect();
        words.dedup();
        let others = |many: usize| many.saturating_sub(1);
        let first = self.recipients.first().map_or("", |waiting| waiting.address.as_str());
        vec![
            self.id.to_string().into(),
            Cell::number(span(self.age_s), self.age_s),
            Cell::number(octets(self.size), self.size),
            self.next(now),
            u64::from(tries).into(),
            and_more(words.first().copied().unwrap_or_default(), others(words.len())).into(),
            and_more(first, others(self.recipients.len())).into(),
            self.sender.clone().into(),
        ]
    }
}

/// How a list is wanted.
#[derive(Clone, Copy, Debug)]
pub struct ListView {
    /// For whom.
    pub form: OutputForm,
    /// Width, order and number of rows.
    pub table: TableView,
}

/// What came of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListSum {
    /// Messages that fit, as far as they were looked at.
    pub found: usize,
    /// Messages that cannot be read.
    pub unreadable: u64,
}

/// Rows on their way to whoever reads. The text for programs goes with each.
struct Rows<P> {
    view: ListView,
    table: TextTable<String>,
    layout: Option<Layout>,
    found: usize,
    print: P,
}

impl<P: FnMut(&str) -> ControlFlow<()>> Rows<P> {
    fn take(&mut self, line: &QueueLine, now: Timestamp) -> ControlFlow<()> {
        self.found += 1;
        let is_sorted = self.view.table.sort.is_some();
        if !is_sorted && self.view.table.limit.is_some_and(|limit| self.found > limit) {
            return ControlFlow::Break(());
        }
        let json = match self.view.form {
            OutputForm::Json => json::line(line),
            OutputForm::Text => String::new(),
        };
        self.table.push(line.row(now), json);
        if is_sorted || self.table.len() < self.at_once() { ControlFlow::Continue(()) } else { self.flush() }
    }

    /// Programs get each line at once.
    const fn at_once(&self) -> usize {
        match self.view.form {
            OutputForm::Json => 1,
            OutputForm::Text => ROWS_AT_ONCE,
        }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        let text = match self.view.form {
            OutputForm::Json => self.table.values().map(String::as_str).collect(),
            OutputForm::Text if self.table.is_empty() => String::new(),
            OutputForm::Text => {
                let header = self.layout.is_none();
                let layout = self.layout.take().unwrap_or_else(|| self.table.layout(self.view.table.width));
                let head = if header { self.table.header(&layout) } else { String::new() };
                let text = head + &self.table.lines(&layout);
                self.layout = Some(layout);
                text
            }
        };
        self.table.clear();
        (self.print)(&text)
    }

    /// Prints what is left, and whether that is all.
    fn end(&mut self, nothing: &str) {
        self.table.arrange(&self.view.table);
        let mut enough = self.flush();
        if self.view.form == OutputForm::Json || enough.is_break() {
            return;
        }
        if self.found == 0 {
            enough = (self.print)(nothing);
        } else if self.view.table.limit.is_some_and(|limit| self.found > limit) {
            enough = (self.print)("There are more; --limit says how many are shown.\n");
        }
        // Nothing follows.
        let _enough = enough;
    }
}

/// The messages that fit, oldest first or as `view` says; the text is handed to `print` in pieces, until it
/// says that it is enough.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn list(
    ledger: &dyn Ledger,
    filter: &Filter,
    view: ListView,
    now: Timestamp,
    print: impl FnMut(&str) -> ControlFlow<()> + Send,
) -> Result<ListSum, LedgerError> {
    let mut rows = Rows { view, table: TextTable::new(COLUMNS), layout: None, found: 0, print };
    let each =
        |message: LedgerMessage, recipients: Vec<usize>| rows.take(&QueueLine::new(&message, &recipients, now), now);
    let unreadable = filter.for_each(ledger, now, each).await?;
    rows.end(if filter.is_everything() { "No message waits.\n" } else { NOTHING_FITS });
    Ok(ListSum { found: rows.found, unreadable })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, message, owed, sample, waits};
    use super::*;
    use crate::text::table::{SortBy, Width};

    fn cells(message: &LedgerMessage) -> String {
        let line = QueueLine::new(message, &Filter::default().fitting(message, NOW), NOW);
        let mut table = TextTable::new(COLUMNS);
        table.push(line.row(NOW), ());
        table.text(Width::Whole).lines().nth(1).unwrap().to_owned()
    }

    #[test]
    fn who_has_an_end_and_is_owed_a_report_is_listed_with_both() {
        let mut message = message();
        message.recipients[0].as_mut().unwrap().state = owed();
        message.due_at = Timestamp(NOW.0 + 60_000);
        let line = QueueLine::new(&message, &[0], NOW);
        assert_eq!((line.recipients[0].word(), line.recipients[0].report_due.is_some()), ("null-mx", true));
        assert_eq!(line.next(NOW), Cell::number("report in 1m", 60));
        let both = QueueLine::new(&message, &[0, 1], NOW);
        assert_eq!(both.next(NOW), Cell::number("in 1m", 60), "somebody waits for an attempt");
    }

    #[test]
    fn every_cause_has_its_word_in_the_list_and_its_sentence_for_programs() {
        for cause in crate::outcome::every::cause() {
            let (word, mut message) = (cause.row().word, message());
            message.recipients[0].as_mut().unwrap().state = waits(cause.clone());
            let line = QueueLine::new(&message, &[0], NOW);
            assert_eq!(line.recipients[0].word(), word);
            let told = json::value(&line)["recipients"][0].clone();
            assert_eq!((&told["cause"], &told["detail"]), (&word.into(), &cause.sentence().into()));
        }
    }

    #[test]
    fn a_row_says_how_many_others_there_are() {
        let row = cells(&message());
        assert!(row.contains("null-mx +1") && row.contains("a@One.example +2"), "{row}");
    }

    #[test]
    fn the_screens_at_80_and_160_columns() {
        let mut all = String::new();
        for (columns, sort) in [(80, "age"), (160, "-size")] {
            let sort_by = Some(SortBy::parse(sort, COLUMNS).unwrap());
            let table = TableView { width: Width::Columns(columns), sort: sort_by, limit: Some(3) };
            let text = shown(ListView { form: OutputForm::Text, table });
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{text}");
            all += &format!("{columns} columns, --sort {sort}, --limit 3\n{text}\n");
        }
        let whole = shown(ListView { form: OutputForm::Text, table: TableView::WHOLE });
        crate::command::screen_tests::check("queue-list", &format!("{all}not a terminal\n{whole}"));
    }

    #[test]
    fn programs_get_a_line_for_each_in_the_same_order() {
        let sort = Some(SortBy::parse("-size", COLUMNS).unwrap());
        let lines = |table| shown(ListView { form: OutputForm::Json, table });
        let sizes = |text: String| {
            let size = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["size"].as_u64().unwrap();
            text.lines().map(size).collect::<Vec<_>>()
        };
        assert_eq!(sizes(lines(TableView { sort, limit: Some(2), ..TableView::WHOLE })), [30_000_000, 2_048]);
        assert_eq!(sizes(lines(TableView { limit: Some(1), ..TableView::WHOLE })), [30_000_000]);
        assert_eq!(sizes(lines(TableView::WHOLE)), [30_000_000, 5, 2_048, 700]);
    }

    /// The list of the sample.
    fn shown(view: ListView) -> String {
        let mut text = String::new();
        let print = |piece: &str| {
            text.push_str(piece);
            ControlFlow::Continue(())
        };
        let mut rows = Rows { view, table: TextTable::new(COLUMNS), layout: None, found: 0, print };
        for message in sample() {
            let line = QueueLine::new(&message, &Filter::default().fitting(&message, NOW), NOW);
            if rows.take(&line, NOW).is_break() {
                break;
            }
        }
        rows.end("No message waits.\n");
        text
    }
}
