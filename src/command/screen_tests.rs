//! What people see, kept beside the tests: a change of a screen is looked at.

#![expect(clippy::disallowed_methods, reason = "screens are kept in files beside the tests")]

use std::path::Path;

/// Compares a screen with the one that is kept; `UPDATE_SCREENS=1` keeps it.
pub(crate) fn check(name: &str, screen: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/screens").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SCREENS").is_some() {
        std::fs::write(&path, screen).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(screen, kept, "{} differs", path.display());
}
