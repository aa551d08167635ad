//! All that is wrong in a file, gathered while it is read and its values are held against each other.
//!
//! A key has one fault at a time: what follows from a value that is wrong itself is not told.

use super::document::{Document, is_number};
use super::problem::Problem;
use std::collections::BTreeSet;
use toml::de::DeValue;

/// The most faults that are told of one file.
const MOST_PROBLEMS: usize = 50;

/// Blocks of which a section has many.
const INNER_BLOCKS: [&str; 1] = ["dkim.key"];

/// The faults of a document.
#[derive(Debug, Default)]
pub(super) struct ConfigFindings<'t> {
    /// None where the values come from no file.
    document: Option<Document<'t>>,
    problems: Vec<Problem>,
    /// The paths of keys that have a fault.
    faulty: BTreeSet<String>,
}

impl<'t> ConfigFindings<'t> {
    /// Nothing is wrong yet.
    pub(super) fn of(document: Document<'t>) -> Self {
        Self { document: Some(document), ..Self::default() }
    }

    /// The document as far as it is good.
    pub(super) const fn document(&self) -> Option<&Document<'t>> {
        self.document.as_ref()
    }

    /// The values at these paths, the first of which is the one to change, do not go together. Where one of
    /// them has a fault already, nothing is said.
    pub(super) fn refuse(&mut self, paths: &[&str], message: impl Into<String>) {
        if paths.iter().any(|path| self.is_faulty(path)) {
            return;
        }
        let first = paths.first().copied().unwrap_or_default();
        self.note(first, message.into());
    }

    /// Whether a key, something in it or what it is in has a fault.
    pub(super) fn is_faulty(&self, path: &str) -> bool {
        let is_in = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.faulty.iter().any(|faulty| is_in(faulty, path) || is_in(path, faulty))
    }

    /// Something is wrong at a path, whatever else is.
    pub(super) fn note(&mut self, path: &str, message: String) {
        let line = self.document.as_ref().and_then(|document| document.line_of(path));
        let key = match self.document.as_ref().and_then(|document| document.value(path)) {
            Some(DeValue::Table(_)) if !path.contains('.') => format!("[{path}]"),
            Some(_) | None => shown(path),
        };
        self.problems.push(Problem { line, key, message });
        self.faulty.insert(key_of(path));
    }

    /// Nothing that follows from the value of this key is told: it may be meant by another that is wrong.
    pub(super) fn excuse(&mut self, path: &str) {
        self.faulty.insert(key_of(path));
    }

    /// Takes out what is wrong at a path, so that the rest can be read.
    pub(super) fn take_out(&mut self, path: &str) {
        let Some(document) = &mut self.document else { return };
        document.take_out(path);
        if Document::is_entry(path) {
            self.close_the_gap(path);
        }
    }

    /// Whether no more is to be told.
    pub(super) fn is_enough(&self) -> bool {
        self.problems.len() >= MOST_PROBLEMS
    }

    /// All that is wrong, in the order of the file.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        if self.is_enough() {
            self.problems.truncate(MOST_PROBLEMS);
            let message = "there may be more; mend these first".to_owned();
            self.problems.push(Problem { line: None, key: String::new(), message });
        }
        self.problems
    }

    /// The entries behind one that was taken out are called by the number before theirs now.
    fn close_the_gap(&mut self, path: &str) {
        let Some((list, nth)) = path.rsplit_once('.').and_then(|(list, nth)| Some((list, nth.parse::<usize>().ok()?)))
        else {
            return;
        };
        let renamed = |faulty: String| {
            let Some(inside) = faulty.strip_prefix(list).and_then(|rest| rest.strip_prefix('.')) else {
                return Some(faulty);
            };
            let (place, rest) = inside.split_once('.').map_or((inside, None), |(place, rest)| (place, Some(rest)));
            let rest = rest.map(|rest| format!(".{rest}")).unwrap_or_default();
            match place.parse::<usize>() {
                Ok(place) if place == nth => None,
                Ok(place) if place > nth => Some(format!("{list}.{}{rest}", place - 1)),
                Ok(_) | Err(_) => Some(faulty),
            }
        };
        self.faulty = std::mem::take(&mut self.faulty).into_iter().filter_map(renamed).collect();
    }
}

/// The path of the key that a path is in: entries of its list are not told apart.
fn key_of(path: &str) -> String {
    let steps: Vec<&str> = path.split('.').collect();
    let key = steps.iter().enumerate().take_while(|(nth, step)| *nth < 2 || !is_number(step));
    key.map(|(_, step)| *step).collect::<Vec<_>>().join(".")
}

/// A path as people write it: `[listen] smtp`, `[[destination]] login.user`, `hostname`.
pub(super) fn shown(path: &str) -> String {
    let inner = INNER_BLOCKS.iter().find_map(|block| Some((block, path.strip_prefix(block)?.strip_prefix('.')?)));
    if let Some((block, inside)) = inner {
        let key = inside.split_once('.').map(|(_, key)| format!(" {key}")).unwrap_or_default();
        return format!("[[{block}]]{key}");
    }
    let mut steps = path.split('.').peekable();
    let first = steps.next().unwrap_or_default();
    let is_many = steps.peek().is_some_and(|step| is_number(step));
    let inside: Vec<&str> = steps.filter(|step| !is_number(step)).collect();
    match (is_many, inside.as_slice()) {
        (true, []) => format!("[[{first}]]"),
        (true, some) => format!("[[{first}]] {}", some.join(".")),
        (false, []) => first.to_owned(),
        (false, some) => format!("[{first}] {}", some.join(".")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_fault_and_what_follows_from_it_is_not_told() {
        let mut findings = ConfigFindings::default();
        findings.note("destination.1.login.user", "is wrong".to_owned());
        findings.refuse(&["destination.1.next_hop", "destination.1.login"], "does not go with login");
        findings.refuse(&["destination.1.login.user.x"], "is in it");
        findings.refuse(&["destination.10.login"], "is another one");
        let told: Vec<_> = findings.into_problems().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["[[destination]] login.user: is wrong", "[[destination]] login: is another one"]);
    }

    #[test]
    fn entries_behind_one_that_is_gone_keep_their_faults() {
        let mut findings = ConfigFindings::of(Document::parse("[[d]]\n[[d]]\n[[d]]\n").ok().unwrap());
        for path in ["d.0.a", "d.1.a", "d.2.a"] {
            findings.note(path, String::new());
        }
        findings.take_out("d.1");
        assert!(["d.0.a", "d.1.a"].into_iter().all(|path| findings.is_faulty(path)));
        assert!(!findings.is_faulty("d.2"));
    }

    #[test]
    fn a_place_is_named_as_it_is_written() {
        for (path, name) in [
            ("hostname", "hostname"),
            ("listen.smtp", "[listen] smtp"),
            ("dns.private_zones.1.zone", "[dns] private_zones.zone"),
            ("destination.0", "[[destination]]"),
            ("destination.0.login.user", "[[destination]] login.user"),
        ] {
            assert_eq!(shown(path), name);
        }
    }
}
