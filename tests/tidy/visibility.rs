//! `pub` only for what the library offers: a public module is named from outside of it. What is
//! `pub` inside a module that is not is for the compiler (`unreachable_pub`), and it sees dead code.

use crate::imports::expanded;
use crate::source::{Source, fuzz_sources, sources, test_sources, without_comments_and_tests};
use std::collections::BTreeSet;

#[test]
fn a_public_module_is_named_from_outside_the_library() {
    let (outside, inside): (Vec<Source>, Vec<Source>) =
        sources().into_iter().partition(|source| source.name == "main.rs" || source.name.starts_with("cli/"));
    let outside: Vec<Source> = outside.into_iter().chain(test_sources()).chain(fuzz_sources()).collect();
    let idle = idle(&inside, &outside);
    assert!(idle.is_empty(), "nothing outside the library names these: make them pub(crate) or private: {idle:?}");
}

#[test]
fn the_watch_for_public_modules_sees_what_it_is_for() {
    let file = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let inside = [
        file("lib.rs", "pub mod a;\nmod b;\npub(crate) mod c;\n/// pub mod d;\npub mod e;"),
        file("a/mod.rs", "pub mod f;\npub mod g;\nmod h;"),
    ];
    let outside = [file("tests/x.rs", "use dane_relay::a::{self, f::F};\nuse crate::e;\n// dane_relay::a::g")];
    assert_eq!(idle(&inside, &outside), ["a::g", "e"]);
    let through_an_import = [file("main.rs", "use dane_relay::{a, e};\nfn f() { a::g::h(a::f::i()) }")];
    assert_eq!(idle(&inside, &through_an_import), [""; 0]);
}

/// The modules that are public and named by nobody outside.
fn idle(inside: &[Source], outside: &[Source]) -> Vec<String> {
    let named: BTreeSet<String> = outside
        .iter()
        .flat_map(named_by)
        .flat_map(|path| (1..=path.len()).map(move |n| path[..n].join("::")))
        .collect();
    let mut idle: Vec<String> =
        inside.iter().flat_map(public_modules).filter(|module| !named.contains(module)).collect();
    idle.sort();
    idle
}

/// The paths that a file names, those behind the modules that it imports too.
fn named_by(source: &Source) -> Vec<Vec<String>> {
    let mut named = expanded(&source.text, &["dane_relay::"]);
    let is_module = |path: &&Vec<String>| path.last().is_some_and(|last| last.starts_with(char::is_lowercase));
    let modules: Vec<Vec<String>> = named.iter().filter(is_module).cloned().collect();
    for module in modules {
        let beginning = format!("{}::", module[module.len() - 1]);
        let behind = expanded(&source.text, &[&beginning]).into_iter();
        named.extend(behind.map(|further| [module.clone(), further].concat()));
    }
    named
}

fn public_modules(source: &Source) -> Vec<String> {
    let own = source.name.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
    let path = |name: &str| if own == "lib" { name.to_owned() } else { format!("{own}::{name}") };
    let code = without_comments_and_tests(&source.text);
    let name = |line: &str| Some(path(line.strip_prefix("pub mod ")?.strip_suffix(';')?));
    code.lines().filter_map(name).collect()
}
