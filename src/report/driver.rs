//! Reads the operator's texts of reports from disk, once, at the start.

use super::texts::{Texts, TextsError};
use crate::config::files::read_regular_text;
use std::path::Path;

/// The file in the folder of `[notify] templates`.
pub const FILE_NAME: &str = "reports.toml";

/// The texts of this folder; without one the built-in ones.
///
/// # Errors
/// [`TextsError`], one line that names the file and the place.
pub fn load_texts(folder: Option<&Path>) -> Result<Texts, TextsError> {
    let Some(folder) = folder else { return Ok(Texts::english()) };
    let path = folder.join(FILE_NAME);
    match read_regular_text(&path) {
        Ok(text) => Texts::parse(&text, &path),
        Err(source) => Err(TextsError::Unreadable { path, source }),
    }
}
