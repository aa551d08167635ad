//! `relay watch list|show`: what will go wrong with the domains that mail goes to, as a relay that runs has
//! found it, and a text for whoever runs them.

use super::letter::letter;
use super::store::{self, WatchedDomain};
use crate::config::Config;
use crate::smtp::address::Domain;
use crate::state_dir;
use crate::text::paragraph;
use crate::text::table::{Column, TableView, TextTable};

/// Where the words begin in their line.
const COLUMN: usize = 26;

/// The domains that are watched, those with findings first.
#[must_use]
pub fn list(config: &Config) -> Vec<WatchedDomain> {
    let mut all = store::read(state_dir::open(&config.spool).as_ref());
    all.sort_by(|a, b| (a.findings.is_empty(), &a.domain).cmp(&(b.findings.is_empty(), &b.domain)));
    all
}

/// One of them.
#[must_use]
pub fn show(config: &Config, domain: &Domain) -> Option<WatchedDomain> {
    list(config).into_iter().find(|known| known.domain == domain.as_str())
}

/// The columns of the list.
pub const COLUMNS: &[Column] = &[
    Column::words("DOMAIN").at_least(20),
    Column::words("VERDICT"),
    Column::words("FINDINGS").at_least(16),
    Column::words("LOOKED AT").rank(1),
];

/// The list as it is wanted.
#[must_use]
pub fn arranged(all: Vec<WatchedDomain>, view: &TableView) -> Vec<WatchedDomain> {
    table(&all, view).values().map(|known| (*known).clone()).collect()
}

fn table<'a>(all: &'a [WatchedDomain], view: &TableView) -> TextTable<&'a WatchedDomain> {
    let mut table = TextTable::new(COLUMNS);
    for known in all {
        let kinds: Vec<&str> = known.findings.iter().map(|finding| finding.kind.word()).collect();
        let said = if kinds.is_empty() { "nothing to say".to_owned() } else { kinds.join(", ") };
        let row =
            vec![known.domain.clone().into(), known.verdict.clone().into(), said.into(), known.at.to_second().into()];
        table.push(row, known);
    }
    table.arrange(view);
    table
}

/// The list for people.
#[must_use]
pub fn list_text(all: &[WatchedDomain], config: &Config, view: &TableView) -> String {
    if all.is_empty() && config.watch.domains == 0 {
        return "No domain is watched: [watch] domains in the configuration says how many are to be.\n".to_owned();
    }
    if all.is_empty() {
        return "No domain has been looked at yet: a relay that runs does it, one after the other.\n".to_owned();
    }
    table(all, view).text(view.width)
}

/// One domain for people, with the text that can be sent.
#[must_use]
pub fn show_text(known: &WatchedDomain) -> String {
    let mut text = format!("{}  {}, looked at {}\n", known.domain, known.verdict, known.at.to_second());
    if known.findings.is_empty() {
        return text + "Nothing was found that will stop mail.\n";
    }
    for finding in &known.findings {
        text.push_str(&paragraph(&format!("  {}", finding.kind.word()), &finding.detail, COLUMN));
    }
    text + "\nA text for the contact, which the relay never sends by itself:\n\n" + &letter(known)
}
