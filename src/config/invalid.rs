//! Why a file is not valid, in words for whoever wrote it: serde speaks of sequences and maps.

/// A value longer than this is not repeated in a message.
const LONGEST_VALUE: usize = 60;

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

/// The line, from 1, and what is wrong there.
pub(super) fn explain(text: &str, error: &toml::de::Error) -> (usize, String) {
    let span = error.span().unwrap_or_default();
    let line = text.bytes().take(span.start).filter(|&b| b == b'\n').count() + 1;
    let message = with_suggestion(&error.message().replace('\n', " "));
    let plain = IN_PLAIN_WORDS.iter().fold(message, |message, (theirs, ours)| message.replace(theirs, ours));
    let value = text.get(span).unwrap_or_default();
    let helps = value.len() <= LONGEST_VALUE && !value.contains('\n') && !value.trim().is_empty();
    // Our own messages begin with the value.
    if !helps || plain.contains(value) || plain.starts_with('"') || plain.starts_with("unknown ") {
        return (line, plain);
    }
    (line, format!("{value}: {plain}"))
}

/// Adds "did you mean" to serde's "unknown field `x`, expected one of `y`, `z`".
fn with_suggestion(message: &str) -> String {
    if !message.starts_with("unknown ") {
        return message.to_owned();
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(unknown) = quoted.next() else { return message.to_owned() };
    let nearest = quoted.map(|known| (strsim::damerau_levenshtein(unknown, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 3 => format!("{message}; did you mean `{known}`?"),
        _ => message.to_owned(),
    }
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
            ("hostname = \"bad host\"", "relay.toml:1: \"bad host\": write a domain name such as relay.example.org"),
            ("postmaster = \"bob\"", "relay.toml:1: \"bob\": write an address such as postmaster@example.org"),
            ("[listen]\nsmtp = \"0.0.0.0:25\"", "a list in brackets"),
            (
                "[listen]\nsmtp = [\"0.0.0.0\"]",
                "relay.toml:2: \"0.0.0.0\" is no address to listen on: write \"IP:PORT\"",
            ),
            ("[listen]\nclients = [\"192.0.2.0/33\"]", "\"192.0.2.0/33\" is no address and no network"),
            ("[admin]\nlisten = \"9925\"", "\"9925\" is no address to listen on"),
            ("[destination]\ndomains = [\"a.example\"]", "[[destination]]"),
            ("[mta_sts]\nport = 70000", "from 0 to 65535"),
            ("[tls]\nclear_text_fallback = \"no\"", "true or false"),
        ] {
            let message = error(text);
            assert!(message.contains(words), "{words:?} is not in {message:?}");
            assert!(!message.contains("sequence") && !message.contains("u16"), "{message:?}");
        }
    }
}
