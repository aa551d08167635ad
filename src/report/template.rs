//! A text with places for values: `Undeliverable: {subject}`.
//!
//! Strict, so that a slip in a translation is met at the start and not in a report: a brace is
//! the beginning of a known name, or it is written twice. Runs of spaces and line ends are one
//! space, because paragraphs are filled when they are used (RFC 5322 §2.1.1); a no-break space stays, as French
//! wants it.

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    /// `{` without `}`, or `}` without `{`.
    #[error("a brace stands alone; write {{{{ or }}}} for one")]
    LoneBrace,
    /// `{name}` that has no value here.
    #[error("{{{0}}} is not known here; known are: {1}")]
    Unknown(String, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePiece {
    Text(String),
    Name(String),
}

/// A text that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<TemplatePiece>);

impl Template {
    /// Reads a text that may use these names.
    pub(super) fn parse(text: &str, names: &[&str]) -> Result<Self, TemplateError> {
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                literal.push_str(&from[..1]);
                rest = after;
                continue;
            }
            let inside = from.strip_prefix('{').ok_or(TemplateError::LoneBrace)?;
            let (name, after) = inside.split_once('}').ok_or(TemplateError::LoneBrace)?;
            if !names.contains(&name) {
                let known: Vec<_> = names.iter().map(|name| format!("{{{name}}}")).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(" ") };
                return Err(TemplateError::Unknown(name.to_owned(), known));
            }
            pieces.push(TemplatePiece::Text(std::mem::take(&mut literal)));
            pieces.push(TemplatePiece::Name(name.to_owned()));
            rest = after;
        }
        literal.push_str(rest);
        pieces.push(TemplatePiece::Text(literal));
        Ok(Self(pieces))
    }

    /// The text with its values. A name without a value leaves nothing.
    pub(super) fn fill(&self, values: &[(&str, &str)]) -> String {
        let value = |name: &str| values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| *value);
        let piece = |piece: &TemplatePiece| match piece {
            TemplatePiece::Text(text) => text.clone(),
            TemplatePiece::Name(name) => value(name).to_owned(),
        };
        self.0.iter().map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, TemplateError> {
        let template = Template::parse(text, &["who", "what"])?;
        Ok(template.fill(&[("what", "{who}"), ("who", "Ann")]))
    }

    #[test]
    fn names_are_filled_once_and_braces_are_written_twice() {
        assert_eq!(filled("{who} sent\n  {what}{what}.").unwrap(), "Ann sent {who}{who}.");
        assert_eq!(filled("{{who}} }}{{").unwrap(), "{who} }{");
        assert_eq!(filled("").unwrap(), "");
        assert_eq!(filled("{who}\u{a0}:\t{what}").unwrap(), "Ann\u{a0}: {who}");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let unknown = filled("Dear {whom}").unwrap_err();
        assert_eq!(unknown.to_string(), "{whom} is not known here; known are: {who} {what}");
        for lone in ["{", "}", "{who", "who}", "{{}", "a } b"] {
            assert_eq!(filled(lone).unwrap_err(), TemplateError::LoneBrace, "{lone}");
        }
        assert_eq!(TemplateError::LoneBrace.to_string(), "a brace stands alone; write {{ or }} for one");
        for strange in ["{}", "{who what}", "{who{what}}", "{ who}"] {
            assert!(matches!(filled(strange), Err(TemplateError::Unknown(..))), "{strange}");
        }
    }
}
