//! One type name, one meaning.

use crate::source::sources;
use std::collections::BTreeMap;

/// Every state machine has these of its own, and everybody knows them.
const KNOWN_TO_EVERYBODY: [&str; 5] = ["Error", "Event", "Session", "State", "Step"];

#[test]
fn a_type_name_has_one_meaning() {
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources() {
        for name in types_defined(&source.text) {
            defined.entry(name).or_default().push(source.name.clone());
        }
    }
    defined.retain(|name, at| at.len() > 1 && !KNOWN_TO_EVERYBODY.contains(&name.as_str()));
    assert!(defined.is_empty(), "these have several meanings: {defined:#?}");
}

#[test]
fn the_watch_for_type_names_sees_what_it_is_for() {
    let text = "pub(super) struct A<T> {\n}\nenum B {}\npub type C = u8;\nimpl X {\n    type Error = D;\n}\n\
                mod tests {\n    struct E;\n    // struct F\n}\nlet enumerated = 1;\npub trait G: H {}\n";
    assert_eq!(types_defined(text), ["A", "B", "C", "E", "G"]);
}

/// The types that a file defines, those of its tests too; associated types are none.
fn types_defined(text: &str) -> Vec<String> {
    let name_in = |line: &str| {
        let mut item = line.trim_start();
        if let Some(public) = item.strip_prefix("pub") {
            let behind = public.strip_prefix('(').and_then(|scope| scope.split_once(')')).map(|(_, behind)| behind);
            item = behind.unwrap_or(public).trim_start();
        }
        let (keyword, rest) = item.split_once(' ')?;
        let is_type = matches!(keyword, "struct" | "enum" | "trait") || keyword == "type" && !line.starts_with(' ');
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        (is_type && name.starts_with(|c: char| c.is_ascii_uppercase())).then_some(name)
    };
    text.lines().filter_map(name_in).collect()
}
