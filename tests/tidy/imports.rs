//! Which file names which.

use crate::source::without_comments_and_tests;
use std::collections::{BTreeMap, BTreeSet};

/// Groups of files each of which leads to every other by what they import. That a file names one
/// above it in the tree, as a child names its parent, counts for nothing.
pub(crate) fn circles(files: &[(String, String)]) -> Vec<BTreeSet<String>> {
    let modules: BTreeMap<Vec<String>, &str> =
        files.iter().map(|(name, text)| (module_path(name), text.as_str())).collect();
    let imports: BTreeMap<&Vec<String>, BTreeSet<Vec<String>>> =
        modules.iter().map(|(own, text)| (own, imported(own, text, &modules))).collect();
    let reached: BTreeMap<&Vec<String>, BTreeSet<&Vec<String>>> =
        imports.keys().map(|own| (*own, all_reached(own, &imports))).collect();
    let mut groups = BTreeSet::new();
    for (own, reach) in reached.iter().filter(|(own, reach)| reach.contains(*own)) {
        let back = reach.iter().filter(|other| reached[**other].contains(own));
        groups.insert(back.map(|path| path.join("/")).collect::<BTreeSet<_>>());
    }
    groups.into_iter().collect()
}

fn all_reached<'a>(
    from: &Vec<String>,
    imports: &'a BTreeMap<&Vec<String>, BTreeSet<Vec<String>>>,
) -> BTreeSet<&'a Vec<String>> {
    let mut reached = BTreeSet::new();
    let mut to_do: Vec<&Vec<String>> = imports[from].iter().collect();
    while let Some(next) = to_do.pop() {
        if reached.insert(next) {
            to_do.extend(&imports[next]);
        }
    }
    reached
}

/// `spool/mod.rs` is `spool`, `spool/event.rs` is `spool`, `event`.
fn module_path(name: &str) -> Vec<String> {
    let path = name.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// The files whose contents a file names, those above it aside.
fn imported(own: &[String], text: &str, modules: &BTreeMap<Vec<String>, &str>) -> BTreeSet<Vec<String>> {
    let code = without_comments_and_tests(text);
    let mut named = Vec::new();
    for (at, _) in code.match_indices("::") {
        let first: String = code[..at].chars().rev().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let first: String = first.chars().rev().collect();
        let before = code[..at - first.len()].chars().next_back();
        if first.is_empty() || before.is_some_and(|c| c == ':' || c == '$') {
            continue;
        }
        let mut rest = &code[at + 2..];
        let mut base = match first.as_str() {
            "crate" | "dane_relay" => Vec::new(),
            "self" => own.to_vec(),
            "super" => own[..own.len() - 1].to_vec(),
            // A module of this one, or a name from elsewhere.
            child => [own, &[child.to_owned()]].concat(),
        };
        while let Some(further) = rest.strip_prefix("super::") {
            base.pop();
            rest = further;
        }
        expand(&mut rest.chars().peekable(), &base, &mut named);
    }
    let file_of =
        |path: Vec<String>| (1..=path.len()).rev().map(|n| path[..n].to_vec()).find(|p| modules.contains_key(p));
    named.into_iter().filter_map(file_of).filter(|other| !own.starts_with(other)).collect()
}

/// Every path from the root of the crate, braces expanded: `crate::{a::B, c}` ⇒ `a::B`, `c`.
pub(crate) fn paths(code: &str) -> Vec<Vec<String>> {
    expanded(code, &["crate::", "dane_relay::"])
}

/// Every path behind one of these beginnings; comments do not count.
pub(crate) fn expanded(text: &str, beginnings: &[&str]) -> Vec<Vec<String>> {
    let code = without_comments_and_tests(text);
    let mut found = Vec::new();
    for start in beginnings {
        for (at, _) in code.match_indices(start) {
            // `$crate::`, `my_crate::` are other things.
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '$') {
                expand(&mut code[at + start.len()..].chars().peekable(), &[], &mut found);
            }
        }
    }
    found
}

fn expand(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, before: &[String], found: &mut Vec<Vec<String>>) {
    let mut path = before.to_vec();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.next_if_eq(&'{').is_some() {
            while rest.peek().is_some_and(|c| *c != '}') {
                expand(rest, &path, found);
                // `as Name` and the comma.
                while rest.next_if(|c| *c != ',' && *c != '}').is_some() {}
                rest.next_if_eq(&',');
                while rest.next_if(|c| c.is_whitespace()).is_some() {}
            }
            rest.next();
            return;
        }
        let mut part = String::new();
        while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || *c == '_' || *c == '*') {
            part.push(c);
        }
        if part == "self" {
            found.push(path);
            return;
        }
        path.push(part);
        if rest.next_if_eq(&':').is_none() || rest.next_if_eq(&':').is_none() {
            found.push(path);
            return;
        }
    }
}
