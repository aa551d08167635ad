//! The words of reports in one language: those built in, and what the operator's file puts in their place.
//!
//! The file is `reports.toml` in the folder of `[notify] templates`. Each text stands in a
//! section under a key and may use certain names; whatever is wrong with it is found when it is
//! read, with its line. The sentences about causes are in `outcome/words.rs` and can be
//! translated here by the word of the cause (RFC 3463, RFC 8460 §4.3 where those words come from).

use super::template::Template;
use crate::config::Language;
use crate::outcome::{Cause, NAMES, Named, Side, UNITS, span};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Spanned;

/// The English texts.
const ENGLISH: &str = include_str!("../../deploy/templates/en/reports.toml");
/// The Dutch texts.
const DUTCH: &str = include_str!("../../deploy/templates/nl/reports.toml");
/// The German texts.
const GERMAN: &str = include_str!("../../deploy/templates/de/reports.toml");
/// The French texts.
const FRENCH: &str = include_str!("../../deploy/templates/fr/reports.toml");

/// The longest text, in octets: a paragraph, not a book.
const TEXT_LIMIT: usize = 4096;

/// Sections, keys, and the names that a text may use there. Those of `[causes]` and `[advice]`
/// follow from [`NAMES`].
const SLOTS: &[(&str, &[&str], &[&str])] = &[
    ("failed", &["subject"], &["subject"]),
    ("failed", &["one"], &["recipient"]),
    ("failed", &["several"], &["count"]),
    ("failed", &["closing"], &[]),
    ("delayed", &["subject"], &["subject"]),
    ("delayed", &["one"], &["recipient"]),
    ("delayed", &["several"], &["count"]),
    ("delayed", &["closing"], &["until"]),
    ("held-back", &["subject"], &["subject"]),
    ("held-back", &["one"], &["recipient"]),
    ("held-back", &["several"], &["count"]),
    ("held-back", &["closing"], &["until"]),
    ("relayed", &["subject"], &["subject"]),
    ("relayed", &["one"], &["recipient", "server"]),
    ("relayed", &["several"], &["count", "server"]),
    ("relayed", &["closing"], &["server"]),
    ("report-lost", &["subject"], &["subject"]),
    ("report-lost", &["one"], &["recipient"]),
    ("report-lost", &["several"], &["count"]),
    ("report-lost", &["closing"], &[]),
    ("copy-lost", &["subject"], &["subject"]),
    ("copy-lost", &["one"], &["recipient"]),
    ("copy-lost", &["several"], &["count"]),
    ("copy-lost", &["closing"], &[]),
    ("digest", &["subject", "text", "copies_subject", "copies_text", "more"], &["count"]),
    ("damage", &["subject"], &[]),
    ("damage", &["text"], &["count"]),
    ("limit", &["subject", "text"], &["count"]),
    ("incident", &["reader"], &["since"]),
    ("incident", &["subject"], &["cause"]),
    ("incident", &["text"], &["domains", "messages", "since"]),
    ("incident", &["check_subject"], &["cause"]),
    ("incident", &["check"], &["check", "since"]),
    ("next", &["recipient", "address", "help_desk", "waiting"], &[]),
    (
        "notes",
        &["no_subject", "administrators", "what_it_said", "header_cut", "header_only", "returned_before", "redacted"],
        &[],
    ),
    ("notes", &["further", "more"], &["count"]),
    ("who", &["here", "resolver", "path", "recipient", "sender", "unclear"], &[]),
    ("units", &["day", "days", "hour", "hours", "minute", "minutes", "second", "seconds"], &[]),
];

/// Why the texts cannot be used: one line, with the place.
#[derive(Debug, thiserror::Error)]
pub enum TextsError {
    /// The file cannot be read.
    #[error("[notify] templates: {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{path}:{line}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// Texts by `section.key`.
type Table = BTreeMap<String, Template>;

/// The words of reports in one language.
#[derive(Clone, Debug)]
pub(super) struct LanguageTexts {
    table: Arc<Table>,
    /// Unknown where a file of the operator says everything.
    language: Option<Language>,
}

impl LanguageTexts {
    /// The built-in texts; where a language has none, the English one.
    pub(super) fn built_in(language: Language) -> Self {
        // A test reads the built-in files; if one could not be read there would be no words.
        let read = |text| read(text, Path::new("built in")).unwrap_or_default();
        let mut table = read(ENGLISH);
        match language {
            Language::En => {}
            Language::Nl => table.extend(read(DUTCH)),
            Language::De => table.extend(read(GERMAN)),
            Language::Fr => table.extend(read(FRENCH)),
        }
        Self { table: Arc::new(table), language: Some(language) }
    }

    /// These texts over those of a language; without one over English, in whatever language they are.
    ///
    /// # Errors
    /// [`TextsError::Invalid`]: an unknown section, key or name, a lone brace, or silence on what happened.
    pub(super) fn parse(text: &str, path: &Path, over: Option<Language>) -> Result<Self, TextsError> {
        let mut table = Self::built_in(over.unwrap_or(Language::En)).table.as_ref().clone();
        table.extend(read(text, path)?);
        Ok(Self { table: Arc::new(table), language: over })
    }

    /// The tag of the language (BCP 47), where it is known.
    pub(super) fn tag(&self) -> Option<&'static str> {
        self.language.map(Language::tag)
    }

    /// The name of the language, as a heading; nothing where it is not known.
    pub(super) fn name(&self) -> &'static str {
        self.language.map_or("", Language::name)
    }

    /// A text that English has, too.
    pub(super) fn say(&self, slot: &str, values: &[(&str, &str)]) -> String {
        self.translated(slot, values).unwrap_or_default()
    }

    /// Who must act.
    pub(super) fn who_must_act(&self, cause: &Cause) -> String {
        let root = cause.root();
        let who = if matches!(root, Cause::DnsUnavailable { .. }) { "unclear" } else { root.row().side.word() };
        self.translated(&format!("who.{who}"), &[]).unwrap_or_else(|| cause.who_must_act().to_owned())
    }

    /// That those of a side must act, whatever the cause alone would say.
    pub(super) fn side_must_act(&self, side: Side) -> String {
        self.translated(&format!("who.{}", side.word()), &[]).unwrap_or_else(|| side.who_must_act().to_owned())
    }

    /// What happened.
    pub(super) fn sentence(&self, cause: &Cause) -> String {
        let Some(template) = self.table.get(&format!("causes.{}", cause.row().word)) else {
            return cause.sentence();
        };
        let values: Vec<(&str, String)> =
            cause.named().into_iter().map(|(name, value)| (name, self.value(value))).collect();
        let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        template.fill(&values)
    }

    /// What the writer of the message can do.
    pub(super) fn advice(&self, cause: &Cause) -> String {
        let slot = format!("advice.{}", cause.row().word);
        self.translated(&slot, &[]).unwrap_or_else(|| cause.advice().to_owned())
    }

    fn value(&self, value: Named<'_>) -> String {
        match value {
            Named::Text(text) => text,
            Named::Because(cause) => cause.map(|cause| self.sentence(cause)).unwrap_or_default(),
            Named::Span(seconds) => self.span(seconds),
        }
    }

    fn span(&self, seconds: u64) -> String {
        let unit = |name: &str| self.translated(&format!("units.{name}"), &[]).unwrap_or_else(|| name.to_owned());
        let units = UNITS.map(|names| names.map(unit));
        span(seconds, &units.each_ref().map(|names| names.each_ref().map(String::as_str)))
    }

    fn translated(&self, slot: &str, values: &[(&str, &str)]) -> Option<String> {
        self.table.get(slot).map(|template| template.fill(values))
    }
}

/// The names that a text may use; `None` where no text belongs.
fn names_for(section: &str, key: &str) -> Option<&'static [&'static str]> {
    let of_cause = NAMES.iter().find(|(word, _)| *word == key).map(|(_, names)| *names);
    match section {
        "causes" => of_cause,
        "advice" => of_cause.map(|_| [].as_slice()),
        _ => SLOTS.iter().find(|(known, keys, _)| *known == section && keys.contains(&key)).map(|(_, _, names)| *names),
    }
}

fn read(text: &str, path: &Path) -> Result<Table, TextsError> {
    let invalid = |at: usize, message: String| {
        let line = text.bytes().take(at).filter(|&b| b == b'\n').count() + 1;
        TextsError::Invalid { path: path.to_owned(), line, message }
    };
    type Section = BTreeMap<Spanned<String>, Spanned<String>>;
    let sections: BTreeMap<Spanned<String>, Section> = toml::from_str(text)
        .map_err(|e| invalid(e.span().map_or(0, |span| span.start), e.message().replace('\n', " ")))?;
    let mut table = Table::new();
    for (section, texts) in &sections {
        for (key, value) in texts {
            let slot = format!("{}.{}", section.get_ref(), key.get_ref());
            let Some(names) = names_for(section.get_ref(), key.get_ref()) else {
                return Err(invalid(
                    key.span().start,
                    format!("[{}] {}: there is no such text", section.get_ref(), key.get_ref()),
                ));
            };
            if value.get_ref().len() > TEXT_LIMIT {
                return Err(invalid(value.span().start, format!("{slot}: a text has at most {TEXT_LIMIT} octets")));
            }
            let must_speak = ["subject", "one", "several", "text"].contains(&key.get_ref().as_str())
                || ["causes", "who"].contains(&section.get_ref().as_str());
            if must_speak && value.get_ref().trim().is_empty() {
                let message = format!("{slot}: this text is empty; leave the line out for the English one");
                return Err(invalid(value.span().start, message));
            }
            let template = Template::parse(value.get_ref(), names)
                .map_err(|e| invalid(value.span().start, format!("{slot}: {e}")))?;
            table.insert(slot, template);
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::every;

    const TRANSLATIONS: [(Language, &str); 3] = [(Language::Nl, DUTCH), (Language::De, GERMAN), (Language::Fr, FRENCH)];

    fn parse(text: &str) -> Result<LanguageTexts, TextsError> {
        LanguageTexts::parse(text, Path::new("reports.toml"), None)
    }

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn english_has_every_text_that_is_not_in_the_tables_of_causes() {
        let english = read(ENGLISH, Path::new("en")).unwrap();
        for (section, keys, _) in SLOTS.iter().filter(|(section, ..)| !["who", "units"].contains(section)) {
            for key in *keys {
                assert!(english.contains_key(&format!("{section}.{key}")), "{section}.{key}");
            }
        }
        for (word, names) in NAMES {
            let names = names.iter().map(|name| format!(" {{{name}}}")).collect::<String>();
            assert!(ENGLISH.contains(&format!("#   {word}:{names}\n")), "{word} is not explained");
        }
    }

    /// How often each name stands in a text.
    fn used<'a>(template: &Template, names: &[&'a str]) -> Vec<(&'a str, usize)> {
        let count = |name: &'a str| (name, template.fill(&[(name, "\u{1}")]).matches('\u{1}').count());
        names.iter().map(|name| count(name)).collect()
    }

    #[test]
    fn every_language_has_every_text_with_the_names_that_the_others_use() {
        let english = read(ENGLISH, Path::new("en")).unwrap();
        let dutch = read(DUTCH, Path::new("nl")).unwrap();
        for (language, text) in TRANSLATIONS {
            let table = read(text, Path::new(language.tag())).unwrap();
            for (section, keys, names) in SLOTS {
                for key in *keys {
                    let slot = format!("{section}.{key}");
                    let own = table.get(&slot).unwrap_or_else(|| panic!("{slot} in {language:?}"));
                    let first = english.get(&slot).or_else(|| dutch.get(&slot)).unwrap();
                    assert_eq!(used(first, names), used(own, names), "{slot} in {language:?}");
                }
            }
            for (word, names) in NAMES {
                let slot = format!("causes.{word}");
                let own = table.get(&slot).unwrap_or_else(|| panic!("{slot} in {language:?}"));
                assert_eq!(used(&dutch[&slot], names), used(own, names), "{slot} in {language:?}");
            }
            for cause in every::cause().iter().filter(|cause| cause.row().side == Side::Sender) {
                let slot = format!("advice.{}", cause.row().word);
                assert!(table.contains_key(&slot), "{slot} in {language:?}: it is what the sender is told to do");
            }
        }
    }

    #[test]
    fn every_cause_reads_well_in_each_language_and_in_english_without_a_translation() {
        let english = LanguageTexts::built_in(Language::En);
        for (language, text) in TRANSLATIONS {
            let texts = LanguageTexts::built_in(language);
            for cause in every::cause() {
                assert_eq!(english.sentence(&cause), cause.sentence());
                let sentence = texts.sentence(&cause);
                assert_ne!(sentence, cause.sentence());
                assert!(!sentence.contains(['{', '}']) && !sentence.contains("  "), "{sentence}");
                assert!(english.who_must_act(&cause) != texts.who_must_act(&cause), "{language:?} {cause:?}");
            }
            let mut own = text.lines().filter(|line| !line.starts_with('#'));
            assert!(!own.any(|line| line.contains("{detail}")), "details are English");
        }
        let last = Some(Box::new(every::dane(crate::outcome::DaneFailure::NoMatch)));
        let expired = Cause::Expired { waited_s: 345_600, last };
        for (language, words) in [
            (Language::Nl, ["We hebben het 4 dagen zonder succes geprobeerd", "Het certificaat van de mailserver mx1"]),
            (Language::De, ["Wir haben es 4 Tage lang vergeblich versucht", "Das Zertifikat des Mailservers mx1"]),
            (
                Language::Fr,
                ["Nous avons essayé pendant 4 jours sans succès", "Le certificat du serveur de messagerie mx1"],
            ),
        ] {
            let sentence = LanguageTexts::built_in(language).sentence(&expired);
            assert!(words.iter().all(|words| sentence.contains(words)), "{sentence}");
        }
    }

    #[test]
    fn a_broken_text_is_refused_with_its_line() {
        assert_eq!(
            error("[failed]\n\nsubject = \"Weg: {subjekt}\"\n"),
            "reports.toml:3: failed.subject: {subjekt} is not known here; known are: {subject}"
        );
        assert!(error("[causes]\nnull-mx = \"{server}\"").starts_with("reports.toml:2: causes.null-mx: {server}"));
        assert!(error("[failed]\none = \"{recipient\"").contains("reports.toml:2: failed.one: a brace"));
        assert_eq!(
            error("[failed]\none = \"x\"\nthree = \"y\""),
            "reports.toml:3: [failed] three: there is no such text"
        );
        assert!(error("[causes]\nno-such-cause = \"y\"").contains("reports.toml:2: [causes] no-such-cause"));
        assert!(error("[failed]\none = 1").starts_with("reports.toml:2: "));
        assert!(error("one = \"x\"").starts_with("reports.toml:1: "));
        assert!(error("[failed\n").starts_with("reports.toml:1: "));
        assert!(error("[failed]\none = \" \"").starts_with("reports.toml:2: failed.one: this text is empty"));
        assert!(parse("[failed]\nclosing = \"\"").is_ok(), "nobody misses that");
        assert!(error(&format!("[failed]\nclosing = \"{}\"", "x".repeat(TEXT_LIMIT + 1))).contains("at most"));
        assert!(parse(&format!("[failed]\nclosing = \"{}\"", "x".repeat(TEXT_LIMIT))).is_ok());
    }
}
