//! `[[archive]]`: copies of chosen mail for an archive, accepted in the same step as the mail.

use super::findings::ConfigFindings;
use super::{DomainPattern, SenderPattern};
use crate::envelope::Envelope;
use crate::smtp::address::Mailbox;
use serde::Deserialize;

/// The most rules: each may store all mail once more.
const MOST_RULES: usize = 20;

/// One archive, and the mail that it gets copies of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveRule {
    /// Where the copies go.
    pub to: Mailbox,
    /// Whose mail: `user@example.org`, `@example.org`, `<>`; everybody's where none is named.
    #[serde(default)]
    pub senders: Vec<SenderPattern>,
    /// Mail to these domains and address literals, as `[[destination]] domains` has them; to everybody where
    /// none is named.
    #[serde(default)]
    pub recipients: Vec<DomainPattern>,
    /// What a copy looks like.
    #[serde(default)]
    pub form: ArchiveForm,
}

/// What a copy looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArchiveForm {
    /// The message as it came, attached to a few words about it.
    #[default]
    Original,
    /// An envelope journal report as Exchange writes it, with the message attached.
    Journal,
}

impl ArchiveRule {
    /// Whether the archive gets a copy. Mail to nobody but the archive itself is there without one.
    #[must_use]
    pub fn wants(&self, envelope: &Envelope) -> bool {
        let of_sender = |pattern: &SenderPattern| pattern.fit(&envelope.reverse_path).is_some();
        let to_any = |pattern: &DomainPattern| {
            envelope.recipients.iter().any(|recipient| pattern.fit(recipient.host()).is_some())
        };
        let is_archive = |recipient: &Mailbox| recipient.as_str().eq_ignore_ascii_case(self.to.as_str());
        (self.senders.is_empty() || self.senders.iter().any(of_sender))
            && (self.recipients.is_empty() || self.recipients.iter().any(to_any))
            && !envelope.recipients.iter().all(is_archive)
    }
}

/// Whether the rules go together.
pub(super) fn check(rules: &[ArchiveRule], findings: &mut ConfigFindings<'_>) {
    if rules.len() > MOST_RULES {
        findings.refuse(&["archive"], format!("at most {MOST_RULES} archives; put senders of one together"));
    }
    for (nth, rule) in rules.iter().enumerate() {
        if rules.iter().take(nth).any(|other| other == rule) {
            findings.refuse(&[&format!("archive.{nth}.to")], "two are the same; take one out, or it gets all twice");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use crate::envelope::testing::envelope;
    use std::path::Path;

    fn rules(lines: &str) -> Result<Vec<ArchiveRule>, String> {
        let text = format!("[[archive]]\nto = \"archive@office.example\"\n{lines}");
        let config = Config::parse(&text, Path::new("relay.toml")).map_err(|error| error.to_string())?;
        Ok(config.archive)
    }

    fn wants(lines: &str, sender: &str, recipients: &[&str]) -> bool {
        rules(lines).unwrap()[0].wants(&envelope(sender, recipients))
    }

    #[test]
    fn all_mail_is_copied_where_nothing_is_named_and_else_what_is_of_both() {
        assert!(wants("", "a@office.example", &["b@one.example"]));
        assert!(wants("", "<>", &["b@one.example"]), "reports that others hand in are mail");
        let both = "senders = [\"@office.example\"]\nrecipients = [\"one.example\", \"*.two.example\"]";
        assert!(wants(both, "A@Office.example", &["x@three.example", "b@one.example"]));
        assert!(wants(both, "a@office.example", &["b@mail.two.example"]));
        assert!(!wants(both, "a@office.example", &["b@two.example"]));
        assert!(!wants(both, "a@other.example", &["b@one.example"]));
        assert!(!wants(both, "<>", &["b@one.example"]));
    }

    #[test]
    fn mail_to_the_archive_alone_is_not_copied_there() {
        assert!(!wants("", "a@office.example", &["Archive@office.example"]));
        assert!(wants("", "a@office.example", &["archive@office.example", "b@one.example"]));
    }

    #[test]
    fn mistakes_are_refused_with_their_lines() {
        for (lines, words) in [
            ("form = \"zip\"", "relay.toml:3"),
            ("senders = [\"office.example\"]", "relay.toml:3"),
            ("recipients = [\"a@b.example\"]", "relay.toml:3"),
            (
                "form = \"journal\"\n[[archive]]\nto = \"archive@office.example\"\nform = \"journal\"",
                "two are the same",
            ),
        ] {
            let error = rules(lines).unwrap_err();
            assert!(error.contains(words), "{lines}: {error}");
        }
        let error = rules(&"[[archive]]\nto = \"a@b.example\"\n".repeat(MOST_RULES)).unwrap_err();
        assert!(error.contains("at most 20"), "{error}");
    }
}
