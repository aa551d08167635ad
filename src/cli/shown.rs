//! How tables are wanted: their arguments, and what they make of the terminal.

use super::exit::Exit;
use super::terminal::{complain, width};
use clap::Args;
use dane_relay::command::why::USUAL_MESSAGES;
use dane_relay::text::table::{Column, SortBy, TableView, Width};
use std::process::ExitCode;

/// Order, number and width of rows.
#[derive(Args)]
pub(crate) struct TableArguments {
    /// Sort by this column; - in front of it turns the order. A queue is held in memory for it.
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    sort: Option<String>,
    /// At most so many rows.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// All columns, uncut, however wide the terminal is.
    #[arg(long)]
    wide: bool,
}

impl TableArguments {
    /// What they ask for of a table with these columns, or the exit code after a complaint.
    pub(crate) fn view(&self, columns: &[Column]) -> Result<TableView, ExitCode> {
        let sort = self.sort.as_ref().map(|text| SortBy::parse(text, columns)).transpose();
        let sort = sort.map_err(|message| complain(Exit::Usage, &message))?;
        Ok(TableView { width: if self.wide { Width::Whole } else { width() }, sort, limit: self.limit })
    }
}

/// How the messages of `why` are wanted.
#[derive(Args)]
pub(crate) struct WhyView {
    /// At most so many messages, the newest.
    #[arg(long, value_name = "N", default_value_t = USUAL_MESSAGES)]
    pub(crate) limit: usize,
    /// The story of each message, and not of the newest alone.
    #[arg(long)]
    pub(crate) stories: bool,
    /// Sort the table by this column; - in front of it turns the order.
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    sort: Option<String>,
    /// All columns, uncut, however wide the terminal is.
    #[arg(long)]
    wide: bool,
}

impl WhyView {
    /// The table; the number of messages is a matter of what is asked for.
    pub(crate) fn table(&self, columns: &[Column]) -> Result<TableView, ExitCode> {
        TableArguments { sort: self.sort.clone(), limit: None, wide: self.wide }.view(columns)
    }
}
