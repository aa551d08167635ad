//! The text of a configuration as TOML, in which every key and value knows where it stands.
//!
//! A place in it is a path: the names of tables and keys and the numbers of list entries, with dots
//! between them, such as `listen.smtp` or `destination.0.next_hop`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// The most faults in the syntax that are told: one that is misread leads to further ones.
const MOST_SYNTAX_FAULTS: usize = 10;

/// A file of TOML.
#[derive(Clone, Debug)]
pub(super) struct Document<'t> {
    root: Spanned<DeTable<'t>>,
    /// Where each line begins, in octets.
    starts: Vec<usize>,
}

/// A fault in the syntax.
pub(super) struct SyntaxFault {
    /// The line, from 1.
    pub(super) line: usize,
    /// What the parser says, in its words.
    pub(super) message: String,
}

impl<'t> Document<'t> {
    /// Reads the syntax.
    ///
    /// # Errors
    /// Every fault in it, in the order of the file and one for each line.
    pub(super) fn parse(text: &'t str) -> Result<Self, Vec<SyntaxFault>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let document = Self { root, starts };
        if errors.is_empty() {
            return Ok(document);
        }
        let fault = |error: &toml::de::Error| SyntaxFault {
            line: document.line(error.span().unwrap_or_default().start),
            message: error.message().replace('\n', " "),
        };
        let mut faults: Vec<_> = errors.iter().map(fault).collect();
        faults.sort_by_key(|fault| fault.line);
        faults.dedup_by_key(|fault| fault.line);
        faults.truncate(MOST_SYNTAX_FAULTS);
        Err(faults)
    }

    /// What serde reads.
    pub(super) fn root(&self) -> Spanned<DeTable<'t>> {
        self.root.clone()
    }

    /// The line, from 1, of an octet.
    pub(super) fn line(&self, octet: usize) -> usize {
        self.starts.partition_point(|start| *start <= octet).max(1)
    }

    /// The line of a path, or of the closest around it that stands in the file.
    pub(super) fn line_of(&self, path: &str) -> Option<usize> {
        let mut steps = path.split('.');
        let (key, mut here) = entry(self.root.get_ref(), steps.next()?)?;
        // The key of many tables stands at the first of them.
        let mut at = key.start;
        for step in steps {
            match here.get_ref() {
                DeValue::Table(table) => {
                    let Some((key, value)) = entry(table, step) else { break };
                    (at, here) = (key.start, value);
                }
                DeValue::Array(list) => {
                    let Some(value) = step.parse().ok().and_then(|nth: usize| list.get(nth)) else { break };
                    (at, here) = (value.span().start, value);
                }
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_) => break,
            }
        }
        Some(self.line(at))
    }

    /// The value of a path.
    pub(super) fn value(&self, path: &str) -> Option<&DeValue<'t>> {
        let mut steps = path.split('.');
        let (_, mut here) = entry(self.root.get_ref(), steps.next()?)?;
        for step in steps {
            here = match here.get_ref() {
                DeValue::Table(table) => entry(table, step)?.1,
                DeValue::Array(list) => list.get(step.parse::<usize>().ok()?)?,
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_) => return None,
            };
        }
        Some(here.get_ref())
    }

    /// The path of the innermost key or value around an octet.
    pub(super) fn path_at(&self, octet: usize) -> Option<String> {
        within_table(self.root.get_ref(), octet).map(|steps| steps.join("."))
    }

    /// What serde reads, where a list has one entry alone.
    pub(super) fn with_one_entry(&self, path: &str, nth: usize) -> Spanned<DeTable<'t>> {
        let mut reduced = self.clone();
        for other in (0..self.entries(path)).rev().filter(|other| *other != nth) {
            reduced.take_out(&format!("{path}.{other}"));
        }
        reduced.root
    }

    /// How many entries a list has.
    pub(super) fn entries(&self, table: &str) -> usize {
        self.value(table).and_then(DeValue::as_array).map_or(0, |list| list.len())
    }

    /// The line of every key and of every `[[table]]`, by its path.
    pub(super) fn lines(&self) -> BTreeMap<String, usize> {
        let mut lines = BTreeMap::new();
        self.add_lines("", self.root.get_ref(), &mut lines);
        lines
    }

    fn add_lines(&self, before: &str, table: &DeTable<'_>, lines: &mut BTreeMap<String, usize>) {
        for (key, value) in table.iter() {
            let path = format!("{before}{}", key.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) => self.add_lines(&format!("{path}."), inner, lines),
                DeValue::Array(list) => {
                    let tables = list
                        .iter()
                        .enumerate()
                        .filter_map(|(nth, entry)| Some((nth, entry.span(), entry.get_ref().as_table()?)));
                    for (nth, span, inner) in tables {
                        lines.insert(format!("{path}.{nth}"), self.line(span.start));
                        self.add_lines(&format!("{path}.{nth}."), inner, lines);
                    }
                }
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_) => {}
            }
            lines.insert(path, self.line(key.span().start));
        }
    }

    /// Whether a path names an entry of `[[tables]]` or of a list.
    pub(super) fn is_entry(path: &str) -> bool {
        path.rsplit('.').next().is_some_and(is_number)
    }

    /// Takes a key, or an entry of a list, out.
    pub(super) fn take_out(&mut self, path: &str) {
        let steps: Vec<&str> = path.split('.').collect();
        take_from(self.root.get_mut(), &steps);
    }
}

/// Whether a step of a path counts in a list.
pub(super) fn is_number(step: &str) -> bool {
    !step.is_empty() && step.bytes().all(|octet| octet.is_ascii_digit())
}

fn entry<'d, 't>(table: &'d DeTable<'t>, name: &str) -> Option<(Range<usize>, &'d Spanned<DeValue<'t>>)> {
    table.iter().find(|(key, _)| key.get_ref() == name).map(|(key, value)| (key.span(), value))
}

/// Tables below headers stand outside their own span, so all are looked through for the innermost.
fn within_table(table: &DeTable<'_>, octet: usize) -> Option<Vec<String>> {
    let inside = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &Cow<'_, str> = key.get_ref();
        within(value, octet).map(|steps| with_first(name, steps))
    };
    let here = |(key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        let is_here = key.span().contains(&octet) || value.span().contains(&octet);
        is_here.then(|| vec![key.get_ref().to_string()])
    };
    table.iter().find_map(inside).or_else(|| table.iter().find_map(here))
}

fn within(value: &Spanned<DeValue<'_>>, octet: usize) -> Option<Vec<String>> {
    match value.get_ref() {
        DeValue::Table(table) => within_table(table, octet),
        DeValue::Array(list) => {
            let inside = |(nth, value): (usize, &Spanned<DeValue<'_>>)| {
                within(value, octet).map(|steps| with_first(&nth.to_string(), steps))
            };
            let here = || list.iter().position(|value| value.span().contains(&octet)).map(|nth| vec![nth.to_string()]);
            list.iter().enumerate().find_map(inside).or_else(here)
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            None
        }
    }
}

fn with_first(first: &str, others: Vec<String>) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(others).collect()
}

fn take_from(table: &mut DeTable<'_>, steps: &[&str]) {
    match steps {
        [] => {}
        [last] => drop(table.remove(*last)),
        [name, inner @ ..] => match table.get_mut(*name).map(Spanned::get_mut) {
            Some(DeValue::Table(table)) => take_from(table, inner),
            Some(DeValue::Array(list)) => take_entry(list, inner),
            Some(_) | None => {}
        },
    }
}

fn take_entry(list: &mut DeArray<'_>, steps: &[&str]) {
    let [nth, inner @ ..] = steps else { return };
    let Ok(nth) = nth.parse::<usize>() else { return };
    if inner.is_empty() {
        let kept = std::mem::replace(list, DeArray::new()).into_iter().enumerate().filter(|(place, _)| *place != nth);
        *list = kept.map(|(_, value)| value).collect();
        return;
    }
    match list.get_mut(nth).map(Spanned::get_mut) {
        Some(DeValue::Table(table)) => take_from(table, inner),
        Some(DeValue::Array(list)) => take_entry(list, inner),
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "hostname = \"a\"\n[listen]\nclients = [\n  \"b\",\n  \"c\",\n]\n\n[[destination]]\nx = 1\n\
                        [[destination]]\nlogin = { user = \"u\", no = 2 }\n";

    fn document() -> Document<'static> {
        Document::parse(TEXT).unwrap_or_else(|faults| panic!("{}", faults[0].message))
    }

    #[test]
    fn every_key_and_value_has_its_line() {
        for (path, line) in [
            ("hostname", 1),
            ("listen", 2),
            ("listen.smtp", 2),
            ("listen.clients", 3),
            ("listen.clients.1", 5),
            ("destination.0", 8),
            ("destination.1", 10),
            ("destination.1.domains", 10),
            ("destination.1.login.no", 11),
        ] {
            assert_eq!(document().line_of(path), Some(line), "{path}");
        }
        assert_eq!(document().line_of("spool.path"), None);
    }

    #[test]
    fn the_innermost_place_around_an_octet_is_found_and_can_be_taken_out() {
        for (text, path) in [
            ("\"a\"", "hostname"),
            ("clients", "listen.clients"),
            ("\"c\"", "listen.clients.1"),
            ("[[destination]]\nx", "destination.0"),
            ("[[destination]]\nlogin", "destination.1"),
            ("{ user", "destination.1.login"),
            ("no =", "destination.1.login.no"),
            ("\"u\"", "destination.1.login.user"),
        ] {
            let mut document = document();
            let octet = TEXT.find(text).unwrap();
            assert_eq!(document.path_at(octet).as_deref(), Some(path), "{text}");
            let before = document.root.clone();
            document.take_out(path);
            assert_ne!(format!("{before:?}"), format!("{:?}", document.root), "{path}");
            assert_ne!(document.path_at(octet).as_deref(), Some(path));
        }
    }

    #[test]
    fn faults_in_the_syntax_are_told_together() {
        let faults = Document::parse("a = \n[b]\nc = 1\nc = 2\n").err().unwrap();
        assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [1, 4]);
    }
}
