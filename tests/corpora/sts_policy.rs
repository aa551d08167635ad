//! MTA-STS policies: RFC 8461 §3.2, §4.1.
//!
//! Input: what a policy host serves.

use dane_relay::policy::sts::policy::{MAX_AGE_LIMIT, Mode, MxPattern, POLICY_LIMIT, PolicyError, Terms, read};

/// Gives the mode, the patterns and the life, or why it is no policy.
pub(crate) fn check(input: &[u8]) -> Result<String, PolicyError> {
    let terms = read(input)?;
    assert!(input.len() <= POLICY_LIMIT && terms.max_age <= MAX_AGE_LIMIT);
    assert!(!terms.mx.is_empty() || terms.mode == Mode::None, "{terms:?}");
    for pattern in &terms.mx {
        means_what_it_says(pattern);
    }
    let patterns: Vec<String> = terms.mx.iter().map(ToString::to_string).collect();
    assert_eq!(read(written(&terms, &patterns).as_bytes()), Ok(terms.clone()), "written again it says the same");
    Ok(format!("{} {} {}", terms.mode.word(), patterns.join(" "), terms.max_age.as_secs()))
}

/// Without what may be left out, so never longer than what was read.
fn written(terms: &Terms, patterns: &[String]) -> String {
    let mx: String = patterns.iter().map(|pattern| format!("mx:{pattern}\n")).collect();
    format!("version:STSv1\nmode:{}\n{mx}max_age:{}", terms.mode.word(), terms.max_age.as_secs())
}

fn means_what_it_says(pattern: &MxPattern) {
    match pattern {
        MxPattern::Exactly(name) => {
            assert!(pattern.matches(name.as_str()) && pattern.matches(&name.fqdn().to_ascii_uppercase()));
            assert!(!pattern.matches(&format!("a.{name}")));
        }
        MxPattern::Below(parent) => {
            assert!(pattern.matches(&format!("a.{parent}")) && !pattern.matches(parent.as_str()));
            assert!(!pattern.matches(&format!("a.b.{parent}")));
        }
    }
}
