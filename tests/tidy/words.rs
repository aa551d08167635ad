//! The words of the field in what operators and developers read.

use crate::source::{package, sources, test_sources, without_comments_and_tests};
use std::fs;

/// Words that were ours, in lower case, and what the field says.
const OURS: [(&str, &str); 5] = [
    ("left in peace", "backing off"),
    ("leaves in peace", "backs off"),
    ("anew", "again"),
    ("mended", "fixed"),
    ("thoroughness", "depth"),
];

/// Comments that say nothing of the thing they stand at.
const EMPTY_COMMENTS: [&str; 44] = [
    "About which.",
    "Both say so.",
    "By which rule.",
    "By whom.",
    "Chooses.",
    "Come in.",
    "For ages.",
    "From whom.",
    "How it stands.",
    "How many.",
    "How.",
    "In words.",
    "It cannot.",
    "It did not.",
    "It did.",
    "It does.",
    "It is not.",
    "It is.",
    "It may not.",
    "It must.",
    "Its words.",
    "No.",
    "Of whom.",
    "Since when.",
    "To what.",
    "To whom.",
    "Until when.",
    "What came.",
    "What for.",
    "What.",
    "When.",
    "Where.",
    "Which and why.",
    "Which one.",
    "Which.",
    "Who did not.",
    "Who got it.",
    "Who it is.",
    "Who.",
    "Whom.",
    "Whose.",
    "Why not.",
    "Why.",
    "With whom.",
];

#[test]
fn what_people_read_is_in_the_words_of_the_field() {
    let mut faults = Vec::new();
    for source in sources().into_iter().chain(test_sources()).filter(|source| !source.name.starts_with("tests/tidy/")) {
        faults.extend(ours(&source.text).into_iter().map(|fault| format!("{}: {fault}", source.name)));
    }
    for name in
        ["README.md", "SECURITY.md", "deploy/relay.toml", "deploy/templates/en/reports.toml", "deploy/alerts.yml"]
    {
        let text = fs::read_to_string(package().join(name)).unwrap();
        faults.extend(ours(&text).into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert_eq!(ours("it is asked\n/// Anew, and recommended.").len(), 1);
}

/// Good names inside the code, and riddles to whoever reads a guide.
#[test]
fn the_guides_have_no_words_that_only_the_code_explains() {
    for name in ["README.md", "deploy/relay.toml", "deploy/check.md", "deploy/operations.md", "deploy/exchange.md"] {
        let text = fs::read_to_string(package().join(name)).unwrap().to_lowercase();
        for word in ["ledger", "suppressed", "means it again", "names stand in"] {
            assert!(!text.contains(word), "{name} says {word:?}");
        }
    }
}

/// A check names what it finds by a word; the page in Dutch has a sentence for each.
#[test]
fn every_word_of_a_check_has_a_sentence_in_dutch() {
    let all = sources();
    let dutch = &all.iter().find(|source| source.name == "service/api/page/dutch_faults.rs").unwrap().text;
    let begins = ["local-", "resolver-", "recipient-", "sts-", "certificate-"];
    let mut words = 0;
    for source in all.iter().filter(|source| source.name.starts_with("check/analyse/")) {
        let code = without_comments_and_tests(&source.text);
        let is_word = |text: &&str| {
            text.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-')
        };
        let quoted =
            code.split('"').skip(1).step_by(2).filter(|text| begins.iter().any(|begin| text.starts_with(begin)));
        for word in quoted.filter(|word| word.len() > "resolver-".len()).filter(is_word) {
            words += 1;
            assert!(dutch.contains(&format!("\"{word}\"")), "no sentence for {word} of {}", source.name);
        }
    }
    assert!(words > 20, "words are not found any more: {words}");
}

#[test]
fn a_doc_comment_names_the_thing() {
    let empty = |text: &str| {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let alone = |at: usize| {
            let is_doc =
                |at: Option<usize>| at.and_then(|at| lines.get(at)).is_some_and(|line| line.starts_with("///"));
            !is_doc(at.checked_sub(1)) && !is_doc(Some(at + 1))
        };
        let says_nothing = |at: &usize| {
            lines[*at].strip_prefix("/// ").is_some_and(|said| EMPTY_COMMENTS.contains(&said) && alone(*at))
        };
        (0..lines.len()).filter(says_nothing).map(|at| at + 1).collect::<Vec<_>>()
    };
    assert_eq!(empty("/// The peer.\n/// Who.\na: u8,\n\n    /// With whom.\n    peer: Peer,"), [5]);
    let found: Vec<_> = sources()
        .into_iter()
        .flat_map(|source| empty(&source.text).into_iter().map(move |line| format!("src/{}:{line}", source.name)))
        .collect();
    assert!(found.is_empty(), "say what it is, or leave the comment out: {found:#?}");
}

/// The words of ours in a text.
fn ours(text: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric();
    let text = text.to_lowercase();
    let stands_alone = |word: &str| {
        let mut found = text.match_indices(word);
        found.any(|(at, _)| !text[..at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word))
    };
    let found = OURS.iter().filter(|(word, _)| stands_alone(word));
    found.map(|(word, right)| format!("{word}: say {right}")).collect()
}
