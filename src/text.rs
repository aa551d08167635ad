//! Text for people: words filled into lines of a given width.

pub mod table;

use std::borrow::Cow;

/// What begins a command to a terminal.
const ESCAPE: char = '\u{1b}';
/// The only ones of ours: the colours of a verdict, and their end.
const COLORS: [&str; 4] = ["[0m", "[32m", "[33m", "[1;31m"];

/// Text that a terminal shows and does not obey. Much of what is printed was said by strangers:
/// servers, the DNS, certificates, a file of evidence that somebody sent. Lines, tabs and our own
/// colours stay; any other control character, and what turns or hides text ([`is_deceptive`]), is
/// shown as `\u{202e}`.
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
    let is_ours = |at: usize| COLORS.iter().any(|color| text.get(at + 1..).is_some_and(|rest| rest.starts_with(color)));
    let acts = |(at, c): (usize, char)| {
        (c.is_control() && !"\n\t".contains(c) && !(c == ESCAPE && is_ours(at))) || is_deceptive(c)
    };
    if !text.char_indices().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if acts((at, c)) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// The same for a value that stands in one line among others: lines and tabs are shown, too, and no colour
/// is ours.
#[must_use]
pub fn in_one_line(text: &str) -> Cow<'_, str> {
    let acts = |c: char| c.is_control() || is_deceptive(c);
    if is_plain(text) || !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// Whether a text is ASCII that can be seen, as nearly every line of a log is: found out many octets at a time.
fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, octet| plain & matches!(octet, b' '..=b'~'))
}

/// The same for JSON, whose own escapes say the same to programs.
#[must_use]
pub fn harmless_json(json: &str) -> Cow<'_, str> {
    let acts = |c: char| (c.is_control() && c != '\n') || is_deceptive(c);
    if is_plain(json) || !json.chars().any(acts) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if acts(c) {
            let mut units = [0; 2];
            shown.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Characters that no terminal shows and that change how others are shown: they turn the direction of text
/// (UAX #9), end a line or a paragraph, or have no width.
#[must_use]
pub const fn is_deceptive(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// What a library says, without the web address at which it explains itself to programmers.
#[must_use]
pub fn without_web_address(said: &str) -> String {
    let words = said.split(' ').filter(|word| !word.contains("://"));
    words.collect::<Vec<_>>().join(" ").trim_end_matches([':', ';', ',', ' ']).to_owned()
}

/// Columns of a terminal.
pub const TERMINAL_WIDTH: usize = 80;

/// `label`, and `words` beside it from column `indent` on; further lines stand under the words.
/// A word wider than a line has one to itself.
pub fn fill<'a>(label: &str, words: impl Iterator<Item = &'a str>, indent: usize, width: usize) -> Vec<String> {
    let mut lines = vec![format!("{label:indent$}")];
    for word in words.filter(|word| !word.is_empty()) {
        let fits = lines.last().is_none_or(|line| line.len() <= indent || line.len() + 1 + word.len() <= width);
        if !fits {
            lines.push(" ".repeat(indent));
        }
        if let Some(line) = lines.last_mut() {
            if line.len() > indent {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

/// A paragraph for the terminal, every line indented and ended.
#[must_use]
pub fn paragraph(label: &str, text: &str, indent: usize) -> String {
    fill(label, text.split(' '), indent, TERMINAL_WIDTH).into_iter().map(|line| line + "\n").collect()
}

/// A time in seconds with their tenths: `15.0 s`.
#[must_use]
pub fn seconds(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}

/// A number with its noun: `1 message`, `2 messages`.
#[must_use]
pub fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_shows_what_strangers_say_and_does_not_obey_it() {
        let hostile = "\u{1b}]0;title\u{7}\u{1b}[2Jgone\r\u{9b}31m\u{7f}\t\0";
        let shown = "\\u{1b}]0;title\\u{7}\\u{1b}[2Jgone\\u{d}\\u{9b}31m\\u{7f}\t\\u{0}";
        assert_eq!(harmless(hostile), shown);
        let ours = "\u{1b}[1;31mfault\u{1b}[0m\nJürgen\n";
        assert!(matches!(harmless(ours), Cow::Borrowed(text) if text == ours));
    }

    #[test]
    fn what_turns_or_hides_text_is_shown_as_an_escape() {
        assert_eq!(harmless("moc.knab\u{202e} \u{2028}x\u{feff}"), "moc.knab\\u{202e} \\u{2028}x\\u{feff}");
        assert_eq!(in_one_line("a\nb\t\u{1b}[32m"), "a\\u{a}b\\u{9}\\u{1b}[32m");
        assert!(matches!(in_one_line("Jürgen 日本"), Cow::Borrowed(_)));
        let said = "moc.knab\u{202e}\u{e0001}\u{9b}";
        let json = serde_json::to_string(&said).unwrap();
        let shown = harmless_json(&json);
        assert!(shown.is_ascii(), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), said, "programs read the same");
    }

    #[test]
    fn what_a_library_says_comes_without_its_web_address() {
        let said = "peer closed connection without sending TLS close_notify: https://docs.example/how_to#eof";
        assert_eq!(without_web_address(said), "peer closed connection without sending TLS close_notify");
        assert_eq!(without_web_address("connection refused"), "connection refused");
    }

    #[test]
    fn nouns_follow_their_number() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "message")), ["0 messages", "1 message", "2 messages"]);
    }

    #[test]
    fn words_fill_lines_under_each_other() {
        let lines = fill("a:", ["one", "two", "", "three", "a-very-long-word"].into_iter(), 3, 11);
        assert_eq!(lines, ["a: one two", "   three", "   a-very-long-word"]);
        assert_eq!(paragraph("", "x", 2), "  x\n");
    }
}
