//! Why a value cannot be read, in words for whoever wrote it: serde speaks of sequences and maps.

use super::Config;
use super::document::is_number;

/// A value longer than this is not repeated in a message.
const LONGEST_VALUE: usize = 60;
/// So many letters may be wrong in a word that is recognised.
const NEAR: usize = 3;

/// The words of serde that people need not know.
const IN_PLAIN_WORDS: &[(&str, &str)] = &[
    ("invalid type: map, expected a sequence", "write it with two brackets, as [[destination]]"),
    ("expected a sequence", "expected a list in brackets, as [\"…\", \"…\"]"),
    ("expected a boolean", "expected true or false"),
    ("expected path string", "expected a path in quotes"),
    ("expected a string", "expected text in quotes"),
    ("expected u16", "expected a number from 0 to 65535"),
    ("expected u32", "expected a number from 0 on"),
    ("expected u64", "expected a number from 0 on"),
    ("expected usize", "expected a number from 0 on"),
];

/// What is wrong at a path.
pub(super) fn explain(text: &str, path: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', " ");
    if let Some(key) = missing(&message) {
        return format!("`{key}` is missing");
    }
    if message.starts_with("unknown field ") {
        return no_such_key(path, &message);
    }
    let plain = with_suggestion(&plain(&message));
    let value = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    let helps = value.len() <= LONGEST_VALUE && !value.contains('\n') && !value.trim().is_empty();
    // Our own messages begin with the value.
    if !helps || plain.contains(value) || plain.starts_with('"') || plain.starts_with("unknown ") {
        return plain;
    }
    format!("{value}: {plain}")
}

/// What whoever writes with the habits of another system gets told of a line that cannot be read.
pub(super) fn habit(line: &str) -> Option<&'static str> {
    const QUOTES: [char; 8] = ['“', '”', '„', '‟', '‘', '’', '«', '»'];
    if line.contains(QUOTES) {
        return Some(
            "this line has typographic quotation marks, as text processors make them: write plain ones, \"…\"",
        );
    }
    line.contains('\\').then_some("a backslash begins an escape in TOML: paths here are written as \"/var/lib/relay\"")
}

/// Without the words of serde.
pub(super) fn plain(message: &str) -> String {
    IN_PLAIN_WORDS.iter().fold(message.to_owned(), |message, (theirs, ours)| message.replace(theirs, ours))
}

/// The key that is not there and has to be.
pub(super) fn missing(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// Of serde's "unknown field `x`, expected one of `y`, `z`" the one that was probably meant.
pub(super) fn meant(message: &str) -> Option<&str> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    nearest(unknown, quoted).map(|(_, known)| known)
}

/// Of serde's "unknown field `x`, expected one of `y`, `z`": where x belongs, or what was meant.
fn no_such_key(path: &str, message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    let near = nearest(unknown, known.iter().copied());
    let homes = homes_of(unknown);
    match (near, homes.as_slice()) {
        (Some((0 | 1, known)), _) | (Some((_, known)), []) => format!("there is no such key; did you mean `{known}`?"),
        (_, [_, ..]) => format!("there is no such key here: it belongs {}", homes.join(" or ")),
        (None, []) if path.split('.').any(is_number) || path.contains('.') => {
            format!("there is no such key here; the keys are {}", known.join(", "))
        }
        (None, []) => "there is no such key".to_owned(),
    }
}

/// Adds "did you mean" to serde's "unknown variant `x`, expected one of `y`, `z`".
fn with_suggestion(message: &str) -> String {
    if !message.starts_with("unknown variant ") {
        return message.to_owned();
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(unknown) = quoted.next() else { return message.to_owned() };
    match nearest(unknown, quoted) {
        Some((_, known)) => format!("{message}; did you mean `{known}`?"),
        None => message.to_owned(),
    }
}

fn nearest<'k>(unknown: &str, known: impl Iterator<Item = &'k str>) -> Option<(usize, &'k str)> {
    let unknown = unknown.replace('-', "_").to_ascii_lowercase();
    let far = |known: &str| strsim::damerau_levenshtein(&unknown, &known.replace('-', "_"));
    known.map(|known| (far(known), known)).min().filter(|(distance, _)| *distance <= NEAR)
}

/// Where a key of this name belongs.
fn homes_of(key: &str) -> Vec<String> {
    let top = keys_of("");
    let inside = top.iter().flat_map(|table| {
        [format!("[{table}]"), format!("[[{table}]]")].into_iter().filter(|head| keys_of(head).iter().any(|k| k == key))
    });
    let inside = inside.map(|head| format!("below {head}"));
    let outside = top.iter().filter(|name| *name == key).map(|name| {
        if keys_of(&format!("[{name}]")).is_empty() && keys_of(&format!("[[{name}]]")).is_empty() {
            "at the top of the file, before the first line in brackets".to_owned()
        } else {
            format!("into a line of its own, as [{name}]")
        }
    });
    outside.chain(inside).collect()
}

/// The keys that may stand below a header, as serde names them; empty where there is no such header.
pub(super) fn keys_of(head: &str) -> Vec<String> {
    const NONE_OF_THEM: &str = "no_such_key";
    let text = format!("{head}\n{NONE_OF_THEM} = 1\n");
    let Err(error) = toml::from_str::<Config>(&text) else { return Vec::new() };
    let mut quoted = error.message().split('`').skip(1).step_by(2);
    let is_about_it = error.message().starts_with("unknown field ") && quoted.next() == Some(NONE_OF_THEM);
    if is_about_it { quoted.map(str::to_owned).collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use std::path::Path;

    fn error(text: &str) -> String {
        Config::parse(text, Path::new("relay.toml")).unwrap_err().to_string()
    }

    #[test]
    fn messages_name_the_value_and_say_in_plain_words_what_would_be_right() {
        for (text, words) in [
            (
                "hostname = \"bad host\"",
                "relay.toml:1: hostname: \"bad host\": write a domain name such as relay.example.org",
            ),
            (
                "postmaster = \"bob\"",
                "relay.toml:1: postmaster: \"bob\": write an address such as postmaster@example.org",
            ),
            ("[listen]\nsmtp = \"0.0.0.0:25\"", "a list in brackets"),
            (
                "[listen]\nsmtp = [\"0.0.0.0\"]",
                "relay.toml:2: [listen] smtp: \"0.0.0.0\" is no address to listen on: write \"IP:PORT\"",
            ),
            ("[listen]\nclients = [\"192.0.2.0/33\"]", "\"192.0.2.0/33\" is no address and no network"),
            ("[admin]\nlisten = \"9925\"", "\"9925\" is no address to listen on"),
            ("[destination]\ndomains = [\"a.example\"]", "[[destination]]"),
            ("[mta_sts]\nport = 70000", "from 1 to 65535"),
            ("[tls]\nclear_text_fallback = \"no\"", "true or false"),
        ] {
            let message = error(text);
            assert!(message.contains(words), "{words:?} is not in {message:?}");
            assert!(!message.contains("sequence") && !message.contains("u16"), "{message:?}");
        }
    }

    #[test]
    fn a_key_in_the_wrong_place_is_told_where_it_belongs() {
        for (text, words) in [
            (
                "[dns]\nclients = []",
                "relay.toml:2: [dns] clients: there is no such key here: it belongs below [listen]",
            ),
            (
                "[listen]\nhostname = \"a.example\"",
                "it belongs at the top of the file, before the first line in brackets",
            ),
            ("[listen]\nnext_hop = \"a.example\"", "it belongs below [[destination]]"),
            ("[listn]\nsmtp = []", "relay.toml:1: [listn]: there is no such key; did you mean `listen`?"),
            ("[tls]\nxyzzy = 1", "relay.toml:2: [tls] xyzzy: there is no such key here; the keys are roots, "),
        ] {
            let message = error(text);
            assert!(message.contains(words), "{words:?} is not in {message:?}");
        }
    }
}
