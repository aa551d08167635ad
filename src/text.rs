//! Text for people: words filled into lines of a given width.

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

/// A number with its noun: `1 message`, `2 messages`.
#[must_use]
pub fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

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
