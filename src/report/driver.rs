//! Reads the operator's texts of reports from disk, once, at the start.

use super::languages::{LanguageChoice, Texts};
use super::texts::TextsError;
use crate::config::NotifyConfig;
use crate::config::files::read_regular_text;

/// The file in the folder of `[notify] templates`.
pub const FILE_NAME: &str = "reports.toml";

/// The texts that the configuration wants: those built in, and the file of the operator over them.
///
/// # Errors
/// [`TextsError`], one line that names the file and the place.
pub fn load_texts(notify: &NotifyConfig) -> Result<Texts, TextsError> {
    let choice = LanguageChoice { usual: &notify.languages, by_domain: &notify.sender_languages };
    let Some(folder) = &notify.templates else { return Texts::choose(&choice, None) };
    let path = folder.join(FILE_NAME);
    match read_regular_text(&path) {
        Ok(text) => Texts::choose(&choice, Some((&text, &path))),
        Err(source) => Err(TextsError::Unreadable { path, source }),
    }
}
