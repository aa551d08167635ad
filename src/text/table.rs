//! Tables for people: a header, columns under each other, fitted to the width of a terminal.
//!
//! Where the width is known, the widest column that may shrink gives way first, down to its least; when that
//! does not do, whole columns are left out, those of the highest rank first. Where it is not known, nothing
//! is left out or cut.

use super::in_one_line;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Between two columns.
const GAP: usize = 2;

/// Stands for what was cut off.
const CUT: char = '…';

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its header, in capitals; `--sort` takes it in small letters.
    pub name: &'static str,
    least: usize,
    rank: u8,
    align: Align,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

impl Column {
    /// A column of words that is never cut or left out.
    #[must_use]
    pub const fn words(name: &'static str) -> Self {
        Self { name, least: usize::MAX, rank: 0, align: Align::Left }
    }

    /// A column of numbers, which stand under each other by their last digit.
    #[must_use]
    pub const fn numbers(name: &'static str) -> Self {
        Self { name, least: usize::MAX, rank: 0, align: Align::Right }
    }

    /// May be cut to so many characters.
    #[must_use]
    pub const fn at_least(self, least: usize) -> Self {
        Self { least, ..self }
    }

    /// May be left out, before those of a lower rank.
    #[must_use]
    pub const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }
}

/// What stands in a row under a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    /// What it is sorted by, where that is not the text.
    number: Option<u64>,
}

impl Cell {
    /// Text that stands for a number and is sorted by it.
    pub fn number(text: impl Into<String>, number: u64) -> Self {
        Self { text: text.into(), number: Some(number) }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text: in_one_line(&text).into_owned(), number: None }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::number(number.to_string(), number)
    }
}

/// How wide a line may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// So many columns of a terminal.
    Columns(usize),
    /// As wide as it is: for a file, a pipe, and `--wide`.
    Whole,
}

/// A column to sort by, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortBy {
    column: usize,
    order: SortOrder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SortOrder {
    Up,
    Down,
}

impl SortBy {
    /// Reads the name of a column; `-` in front of it turns the order.
    ///
    /// # Errors
    /// A sentence that names the columns that there are.
    pub fn parse(text: &str, columns: &[Column]) -> Result<Self, String> {
        let (name, order) = match text.strip_prefix('-') {
            Some(name) => (name, SortOrder::Down),
            None => (text, SortOrder::Up),
        };
        let is_meant = |column: &Column| column.name.replace(' ', "-").eq_ignore_ascii_case(name);
        let known = || columns.iter().map(|column| column.name.replace(' ', "-").to_lowercase()).collect::<Vec<_>>();
        columns.iter().position(is_meant).map(|column| Self { column, order }).ok_or_else(|| {
            format!("--sort: there is no column \"{name}\"; there are {}, and - turns the order", known().join(", "))
        })
    }
}

/// How a table is wanted.
#[derive(Clone, Copy, Debug)]
pub struct TableView {
    /// How wide a line may be.
    pub width: Width,
    /// By what it is sorted, where not as it comes.
    pub sort: Option<SortBy>,
    /// The most rows, where not all.
    pub limit: Option<usize>,
}

impl TableView {
    /// All rows as they come, uncut.
    pub const WHOLE: Self = Self { width: Width::Whole, sort: None, limit: None };
}

/// Rows under columns. Each row has a value that goes with it: what programs are told of it.
#[derive(Debug)]
pub struct TextTable<T = ()> {
    columns: &'static [Column],
    rows: Vec<(Vec<Cell>, T)>,
}

/// The columns that are shown, each with its width.
#[derive(Debug)]
pub struct Layout(Vec<ColumnWidth>);

#[derive(Debug)]
struct ColumnWidth {
    column: usize,
    width: usize,
}

impl<T> TextTable<T> {
    /// A table without rows.
    #[must_use]
    pub const fn new(columns: &'static [Column]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row: a cell for each column, and what goes with it.
    pub fn push(&mut self, row: Vec<Cell>, with: T) {
        self.rows.push((row, with));
    }

    /// How many rows there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Sorts the rows; those that are equal stay in their order.
    pub fn sort(&mut self, by: SortBy) {
        self.rows.sort_by(|(one, _), (other, _)| {
            let [one, other] = [one, other].map(|row| row.get(by.column));
            let key = |cell: Option<&Cell>| (cell.and_then(|cell| cell.number), cell.map(|cell| cell.text.clone()));
            let order = key(one).cmp(&key(other));
            match by.order {
                SortOrder::Up => order,
                SortOrder::Down => order.reverse(),
            }
        });
    }

    /// Sorts and cuts the rows as they are wanted. Gives the number of rows that are left out.
    pub fn arrange(&mut self, view: &TableView) -> usize {
        if let Some(by) = view.sort {
            self.sort(by);
        }
        let before = self.rows.len();
        self.rows.truncate(view.limit.unwrap_or(usize::MAX));
        before - self.rows.len()
    }

    /// What goes with the rows, in their order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.rows.iter().map(|(_, with)| with)
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        self.rows.clear();
    }

    /// Header and rows, each a line.
    #[must_use]
    pub fn text(&self, width: Width) -> String {
        let layout = self.layout(width);
        self.header(&layout) + &self.lines(&layout)
    }

    /// Which columns fit, and how wide each is.
    #[must_use]
    pub fn layout(&self, width: Width) -> Layout {
        let widest = |(at, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|(row, _)| row.get(at)).map(|cell| cell.text.width());
            ColumnWidth { column: at, width: cells.chain([column.name.width()]).max().unwrap_or_default() }
        };
        let mut shown: Vec<ColumnWidth> = self.columns.iter().enumerate().map(widest).collect();
        let Width::Columns(most) = width else { return Layout(shown) };
        loop {
            let too_much = total(&shown).saturating_sub(most);
            if too_much == 0 || self.shrink(&mut shown, too_much) || !self.leave_one_out(&mut shown) {
                return Layout(shown);
            }
        }
    }

    fn column(&self, at: usize) -> Option<&Column> {
        self.columns.get(at)
    }

    /// Cuts the widest first. Whether it fits then; where not, nothing has changed.
    fn shrink(&self, shown: &mut [ColumnWidth], too_much: usize) -> bool {
        let room = |one: &ColumnWidth| {
            self.column(one.column).map_or(0, |column| one.width.saturating_sub(column.least.max(column.name.width())))
        };
        if shown.iter().map(room).sum::<usize>() < too_much {
            return false;
        }
        for _ in 0..too_much {
            let widest = shown.iter_mut().filter(|one| room(one) > 0).max_by_key(|one| one.width);
            if let Some(widest) = widest {
                widest.width -= 1;
            }
        }
        true
    }

    /// Whether there was one that may be.
    fn leave_one_out(&self, shown: &mut Vec<ColumnWidth>) -> bool {
        let rank = |one: &ColumnWidth| self.column(one.column).map_or(0, |column| column.rank);
        let Some(highest) = shown.iter().map(rank).max().filter(|rank| *rank > 0) else { return false };
        let before = shown.len();
        shown.retain(|one| rank(one) != highest);
        shown.len() < before
    }

    /// The names of the columns, in a line.
    #[must_use]
    pub fn header(&self, layout: &Layout) -> String {
        self.line(layout, |at| self.column(at).map_or("", |column| column.name))
    }

    /// The rows, each a line.
    #[must_use]
    pub fn lines(&self, layout: &Layout) -> String {
        let line = |(row, _): &(Vec<Cell>, T)| self.line(layout, |at| row.get(at).map_or("", |cell| &cell.text));
        self.rows.iter().map(line).collect()
    }

    fn line<'a>(&self, layout: &Layout, text: impl Fn(usize) -> &'a str) -> String {
        let mut line = String::new();
        for ColumnWidth { column, width } in &layout.0 {
            let shown = cut(text(*column), *width);
            let blanks = " ".repeat(width.saturating_sub(shown.width()));
            match self.column(*column).map(|column| column.align) {
                Some(Align::Right) => line.push_str(&(blanks + &shown)),
                Some(Align::Left) | None => line.push_str(&(shown + &blanks)),
            }
            line.push_str(&" ".repeat(GAP));
        }
        line.trim_end().to_owned() + "\n"
    }
}

fn total(shown: &[ColumnWidth]) -> usize {
    shown.iter().map(|one| one.width + GAP).sum::<usize>().saturating_sub(GAP)
}

/// At most so many columns of a terminal.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| match left.checked_sub(c.width().unwrap_or_default()) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    text.chars().take_while(fits).chain([CUT]).collect()
}

/// A span of time to its two largest units: `3d 4h`, `12m`, `5s`.
#[must_use]
pub fn span(seconds: u64) -> String {
    let parts = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];
    let first = parts.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(parts.len() - 1);
    let mut left = seconds;
    let mut words = Vec::new();
    for (unit, letter) in parts.iter().skip(first).take(2) {
        let many = left / unit;
        left %= unit;
        if many > 0 || words.is_empty() {
            words.push(format!("{many}{letter}"));
        }
    }
    words.join(" ")
}

/// Octets in the largest unit that leaves a number before it: `812`, `12K`, `3M`.
#[must_use]
pub fn octets(number: u64) -> String {
    let units = [(1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
    let unit = units.into_iter().find(|(unit, _)| number >= *unit);
    unit.map_or_else(|| number.to_string(), |(unit, letter)| format!("{}{letter}", number / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::words("ID"),
        Column::numbers("SIZE").rank(1),
        Column::words("TO").at_least(6),
        Column::words("FROM").at_least(6).rank(2),
    ];

    fn table() -> TextTable {
        let mut table = TextTable::new(COLUMNS);
        table.push(vec!["1A".into(), 20_u64.into(), "bob@partner.example".into(), "alice@office.example".into()], ());
        table.push(vec!["1B".into(), 3_u64.into(), "日本@b.example".into(), "x".into()], ());
        table
    }

    #[test]
    fn columns_stand_under_each_other() {
        let expected = "ID  SIZE  TO                   FROM\n\
                        1A    20  bob@partner.example  alice@office.example\n\
                        1B     3  日本@b.example       x\n";
        assert_eq!(table().text(Width::Whole), expected);
        assert_eq!(table().text(Width::Columns(80)), expected);
    }

    #[test]
    fn a_narrow_terminal_cuts_the_widest_and_then_leaves_columns_out() {
        let shown = table().text(Width::Columns(30));
        assert_eq!(shown, "ID  SIZE  TO         FROM\n1A    20  bob@part…  alice@of…\n1B     3  日本@b.e…  x\n",);
        assert_eq!(table().text(Width::Columns(16)), "ID  SIZE  TO\n1A    20  bob@p…\n1B     3  日本@…\n");
        assert_eq!(table().text(Width::Columns(10)), "ID  TO\n1A  bob@p…\n1B  日本@…\n");
        assert_eq!(table().text(Width::Columns(3)), "ID  TO\n1A  bob@partner.example\n1B  日本@b.example\n");
    }

    #[test]
    fn rows_are_sorted_by_number_or_word_and_cut() {
        let mut sorted = table();
        let by = |text: &str| SortBy::parse(text, COLUMNS);
        let view = |sort: &str, limit| TableView { sort: Some(by(sort).unwrap()), limit, ..TableView::WHOLE };
        assert_eq!(sorted.arrange(&view("size", None)), 0);
        assert!(sorted.text(Width::Whole).lines().nth(1).unwrap().starts_with("1B"));
        assert_eq!(sorted.arrange(&view("-SIZE", Some(1))), 1);
        assert!(sorted.text(Width::Whole).lines().nth(1).unwrap().starts_with("1A") && sorted.len() == 1);
        assert!(by("colour").unwrap_err().contains("there are id, size, to, from"));
    }

    #[test]
    fn a_cell_stays_in_its_line() {
        let mut table = TextTable::new(COLUMNS);
        table.push(vec!["a\nb\u{202e}".into()], ());
        assert_eq!(table.text(Width::Whole).lines().nth(1).unwrap(), "a\\u{a}b\\u{202e}");
    }

    #[test]
    fn spans_and_sizes_are_short() {
        let spans = [0, 59, 60, 61, 3_600, 90_061].map(span);
        assert_eq!(spans, ["0s", "59s", "1m", "1m 1s", "1h", "1d 1h"]);
        assert_eq!([0, 1_023, 1_024, 5 << 20].map(octets), ["0", "1023", "1K", "5M"]);
    }
}
