//! In which languages whom is written to (`[notify] languages`): by the domain of the reader.
//!
//! A report says everything in each of them, one below the other; what administrators read is said once.

use super::texts::{LanguageTexts, TextsError};
use crate::config::Language;
use crate::outcome::Cause;
use crate::smtp::address::{Domain, Mailbox};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

/// The texts of one reader: never none.
#[derive(Clone, Debug)]
pub(super) struct ReaderLanguages {
    /// The one of the subject, and of what is said once.
    pub(super) first: LanguageTexts,
    others: Vec<LanguageTexts>,
}

impl ReaderLanguages {
    /// In their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &LanguageTexts> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// The words of reports for every reader.
#[derive(Clone, Debug)]
pub struct Texts {
    usual: ReaderLanguages,
    by_domain: BTreeMap<Domain, ReaderLanguages>,
}

/// What happened, as the built-in Dutch reports say it.
pub(crate) fn dutch_sentence(cause: &Cause) -> String {
    static DUTCH: OnceLock<LanguageTexts> = OnceLock::new();
    DUTCH.get_or_init(|| LanguageTexts::built_in(Language::Nl)).sentence(cause)
}

/// Which languages are wanted.
#[derive(Clone, Copy, Debug)]
pub struct LanguageChoice<'a> {
    /// Those of every reader; none means English.
    pub usual: &'a [Language],
    /// Those of readers in these domains.
    pub by_domain: &'a BTreeMap<Domain, Vec<Language>>,
}

impl Texts {
    /// The built-in English texts.
    #[must_use]
    pub fn english() -> Self {
        Self::only(LanguageTexts::built_in(Language::En))
    }

    /// These texts, and English where they have none; `path` is only for messages.
    ///
    /// # Errors
    /// [`TextsError::Invalid`]: an unknown section, key or name, a lone brace, or silence on what happened.
    pub fn parse(text: &str, path: &Path) -> Result<Self, TextsError> {
        LanguageTexts::parse(text, path, None).map(Self::only)
    }

    /// The built-in texts of these languages; `own` is the operator's file with its path, which replaces texts of
    /// the first usual language.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn choose(choice: &LanguageChoice<'_>, own: Option<(&str, &Path)>) -> Result<Self, TextsError> {
        let usual = choice.usual.first().copied();
        let first = match own {
            Some((text, path)) => LanguageTexts::parse(text, path, usual)?,
            None => LanguageTexts::built_in(usual.unwrap_or(Language::En)),
        };
        let texts = |language: &Language| match usual {
            Some(usual) if usual == *language => first.clone(),
            Some(_) | None => LanguageTexts::built_in(*language),
        };
        let others = choice.usual.iter().skip(1).map(texts).collect();
        let by_domain = choice.by_domain.iter().filter_map(|(domain, languages)| {
            let (own, others) = languages.split_first()?;
            let languages = ReaderLanguages { first: texts(own), others: others.iter().map(texts).collect() };
            Some((domain.clone(), languages))
        });
        let by_domain = by_domain.collect();
        Ok(Self { usual: ReaderLanguages { first, others }, by_domain })
    }

    fn only(first: LanguageTexts) -> Self {
        Self { usual: ReaderLanguages { first, others: Vec::new() }, by_domain: BTreeMap::new() }
    }

    /// The languages of a reader.
    pub(super) fn of(&self, reader: &Mailbox) -> &ReaderLanguages {
        super::notable_domain(reader).and_then(|domain| self.by_domain.get(domain)).unwrap_or(&self.usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(texts: &Texts, reader: &str) -> Vec<Option<&'static str>> {
        texts.of(&reader.parse().unwrap()).iter().map(LanguageTexts::tag).collect()
    }

    #[test]
    fn the_domain_of_the_reader_decides_and_the_file_of_the_operator_is_of_the_first_language() {
        let by_domain = BTreeMap::from([
            ("amt.example".parse().unwrap(), vec![Language::De]),
            ("bureau.example".parse().unwrap(), vec![Language::Fr, Language::Nl]),
        ]);
        let usual = [Language::Nl, Language::En];
        let choice = LanguageChoice { usual: &usual, by_domain: &by_domain };
        let own = "[failed]\nclosing = \"Eigen woorden.\"\n";
        let texts = Texts::choose(&choice, Some((own, Path::new("reports.toml")))).unwrap();
        assert_eq!(tags(&texts, "a@office.example"), [Some("nl"), Some("en")]);
        assert_eq!(tags(&texts, "a@AMT.example"), [Some("de")]);
        assert_eq!(tags(&texts, "a@bureau.example"), [Some("fr"), Some("nl")]);
        assert_eq!(tags(&texts, "a@[192.0.2.1]"), [Some("nl"), Some("en")]);
        let closing = |reader: &str| -> Vec<String> {
            texts.of(&reader.parse().unwrap()).iter().map(|texts| texts.say("failed.closing", &[])).collect()
        };
        assert_eq!(closing("a@office.example")[0], "Eigen woorden.");
        assert_eq!(closing("a@bureau.example")[1], "Eigen woorden.");
        assert!(!closing("a@amt.example")[0].contains("Eigen"));
    }

    #[test]
    fn without_languages_the_file_of_the_operator_is_of_any_language() {
        let none = BTreeMap::new();
        let choice = LanguageChoice { usual: &[], by_domain: &none };
        assert_eq!(tags(&Texts::choose(&choice, None).unwrap(), "a@office.example"), [Some("en")]);
        let own = Texts::choose(&choice, Some(("[failed]\nclosing = \"x\"\n", Path::new("x")))).unwrap();
        assert_eq!(tags(&own, "a@office.example"), [None]);
    }
}
