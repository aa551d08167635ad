//! The file of users that `auth` of a listener names, and `users` of `[admin]`: who may log in, with which
//! password, as which senders, and what the user may do on the admin port.
//!
//! ```text
//! # name  hash of the password (argon2id, PHC string)  the user's own senders
//! printer@example.org $argon2id$v=19$m=19456,t=2,p=1$…$… printer@example.org @scan.example.org
//! anna $argon2id$v=19$m=19456,t=2,p=1$…$… role=helpdesk
//! monitor $sha256$… role=look
//! ```
//! A user without senders has the address that is the user's name, if it is one. Names are compared without
//! regard to case. In place of a password a program has a token, of which the file has the digest: a token is random
//! and long, so that nothing slower is needed. `!` stands for no password: a proxy vouches for that user. Passwords are prepared by RFC 4013, as RFC 4616 §2 asks; only their hashes are kept.

use super::SenderPattern;
use crate::smtp::address::ReversePath;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Argon2, Params};
use aws_lc_rs::{constant_time, digest, rand};
use data_encoding::BASE64URL_NOPAD;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use stringprep::saslprep;

/// The longest name, in octets (RFC 4616 §2 has none; this is that of an address).
pub const USER_NAME_LIMIT: usize = 254;
/// The shortest password that is taken for a new user, in characters. A listener in the internet is guessed at.
const PASSWORD_LEAST: usize = 8;
/// The longest one, in octets, that may be offered: more is only work.
pub const PASSWORD_LIMIT: usize = 1024;
/// A hash that takes more than this to compute would keep us busy: memory in KiB, rounds, lanes.
const MOST_WORK: (u32, u32, u32) = (262_144, 16, 16);

/// What stands before the digest of a token.
const TOKEN_MARK: &str = "$sha256$";
/// What every token begins with, so that whoever finds one knows what it is.
const TOKEN_PREFIX: &str = "relay_";
/// Random octets in a token.
const TOKEN_OCTETS: usize = 32;
/// What stands for no password: a proxy vouches for the user.
pub const NO_PASSWORD: &str = "!";
/// What stands before a role.
const ROLE_MARK: &str = "role=";

/// What a user may do on the admin port; each may what those before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UserRole {
    /// Look at everything but content.
    Look,
    /// Also check domains, and have messages tried again.
    HelpDesk,
    /// Also all else: hold, release, bounce, delete, suspend, and read content.
    Operator,
}

impl UserRole {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Look, Self::HelpDesk, Self::Operator];

    /// The word in the file of users.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::HelpDesk => "helpdesk",
            Self::Operator => "operator",
        }
    }
}

impl FromStr for UserRole {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|role| role.word() == word);
        known.ok_or_else(|| format!("\"{word}\" is no role: write look, helpdesk or operator"))
    }
}

/// Who may log in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users(BTreeMap<String, Arc<User>>);

/// One of them.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The name, as it stands in the file.
    pub name: String,
    /// The addresses that are the user's own.
    pub senders: Vec<SenderPattern>,
    /// What the user may do on the admin port; nothing without.
    pub role: Option<UserRole>,
    hash: String,
}

/// The hash stays out of every log.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("senders", &self.senders).finish_non_exhaustive()
    }
}

/// Why a line of the file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {message}")]
pub struct UsersError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Whether a password is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordVerdict {
    /// The hash is that of this password.
    Right,
    /// It is not, or there is no such user.
    Wrong,
}

impl Users {
    /// Reads the file.
    ///
    /// # Errors
    /// The first line that cannot be used.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let mut users = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line_of = |message: String| UsersError { line: index + 1, message };
            let Some(user) = user_of(line).map_err(line_of)? else { continue };
            let twice = format!("{}: this user stands here twice; keep one line", user.name);
            if users.insert(user.name.to_lowercase(), Arc::new(user)).is_some() {
                return Err(line_of(twice));
            }
        }
        Ok(Self(users))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.0.values().map(Arc::as_ref)
    }

    /// The one of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<User>> {
        self.0.get(&name.to_lowercase())
    }

    /// The user, when name and password are right. Takes as long for a name that nobody has: then some other
    /// user's hash is computed, the costliest there is, and does not count.
    #[must_use]
    pub fn log_in(&self, name: &str, password: &[u8]) -> Option<Arc<User>> {
        let user = self.get(name).filter(|user| has_password(&user.hash));
        let computed = user.or_else(|| self.0.values().max_by_key(|user| work(&user.hash)))?;
        let verdict = verdict(&computed.hash, password);
        user.filter(|_| verdict == PasswordVerdict::Right).map(Arc::clone)
    }

    /// The user whose token that is.
    #[must_use]
    pub fn by_token(&self, token: &str) -> Option<Arc<User>> {
        let digest = token_digest(token);
        let is_theirs =
            |user: &&Arc<User>| constant_time::verify_slices_are_equal(user.hash.as_bytes(), digest.as_bytes()).is_ok();
        self.0.values().find(is_theirs).map(Arc::clone)
    }
}

impl User {
    /// Whether an address is the user's own. The null reverse-path is everybody's: it is that of reports.
    #[must_use]
    pub fn owns(&self, sender: &ReversePath) -> bool {
        *sender == ReversePath::Null || self.senders.iter().any(|pattern| pattern.fit(sender).is_some())
    }
}

/// None for an empty line and a remark.
fn user_of(line: &str) -> Result<Option<User>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (name, hash) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if name.len() > USER_NAME_LIMIT {
        return Err(format!("a name has at most {USER_NAME_LIMIT} octets"));
    }
    sound_hash(hash).map_err(|why| format!("{name}: {why}; make a line with `relay user add`"))?;
    let (roles, senders): (Vec<&str>, Vec<&str>) = words.partition(|word| word.starts_with(ROLE_MARK));
    let role = match roles.as_slice() {
        [] => None,
        [one] => Some(one.trim_start_matches(ROLE_MARK).parse().map_err(|why| format!("{name}: {why}"))?),
        [_, _, ..] => return Err(format!("{name}: a user has one role")),
    };
    let senders = senders.into_iter().map(|word| SenderPattern::try_from(word.to_owned()));
    let mut senders = senders.collect::<Result<Vec<_>, _>>()?;
    if senders.is_empty() {
        senders.extend(name.parse().ok().map(SenderPattern::Exactly));
    }
    Ok(Some(User { name: name.to_owned(), senders, role, hash: hash.to_owned() }))
}

/// The text of a file with that user in it, instead of the line that the name has so far. Other lines stay.
///
/// # Errors
/// When the name is none, or the file cannot be used.
pub fn with_user(
    text: &str,
    name: &str,
    hash: &str,
    senders: &[SenderPattern],
    role: Option<UserRole>,
) -> Result<String, String> {
    let is_name =
        !name.is_empty() && !name.starts_with('#') && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    if !is_name {
        return Err(format!("\"{name}\" is no name of a user: it has no blanks and does not begin with #"));
    }
    let words = [name.to_owned(), hash.to_owned()].into_iter().chain(senders.iter().map(ToString::to_string));
    let role = role.map(|role| format!("{ROLE_MARK}{}", role.word()));
    let line = words.chain(role).collect::<Vec<_>>().join(" ");
    let whole = format!("{}{line}\n", without_user(text, name).unwrap_or_else(|| ended(text)));
    Users::parse(&whole).map(|_| whole).map_err(|error| error.to_string())
}

/// The text of a file without that user; none where there is no such user.
#[must_use]
pub fn without_user(text: &str, name: &str) -> Option<String> {
    let is_theirs =
        |line: &&str| line.split_whitespace().next().is_some_and(|word| word.to_lowercase() == name.to_lowercase());
    text.lines()
        .any(|line| is_theirs(&line))
        .then(|| text.lines().filter(|line| !is_theirs(line)).fold(String::new(), |all, line| all + line + "\n"))
}

fn ended(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

fn has_password(hash: &str) -> bool {
    hash != NO_PASSWORD && !hash.starts_with(TOKEN_MARK)
}

fn sound_hash(text: &str) -> Result<(), String> {
    if text == NO_PASSWORD {
        return Ok(());
    }
    if let Some(digest) = text.strip_prefix(TOKEN_MARK) {
        let is_digest = BASE64URL_NOPAD.decode(digest.as_bytes()).is_ok_and(|octets| octets.len() == 32);
        return if is_digest { Ok(()) } else { Err("what follows $sha256$ is no digest of a token".to_owned()) };
    }
    let wrong = "the second word must be an argon2id hash that begins with $argon2id$";
    let hash = PasswordHash::new(text).map_err(|error| format!("{wrong} ({error})"))?;
    if hash.algorithm.as_str() != "argon2id" || hash.hash.is_none() || hash.salt.is_none() {
        return Err(wrong.to_owned());
    }
    let params = Params::try_from(&hash).map_err(|error| format!("{wrong} ({error})"))?;
    let (memory, rounds, lanes) = MOST_WORK;
    if params.m_cost() > memory || params.t_cost() > rounds || params.p_cost() > lanes {
        return Err(format!(
            "the hash takes more than m={memory},t={rounds},p={lanes}: every attempt would cost us that"
        ));
    }
    Ok(())
}

/// How much there is to compute.
fn work(hash: &str) -> u64 {
    let params = PasswordHash::new(hash).ok().and_then(|hash| Params::try_from(&hash).ok());
    params.map_or(0, |params| u64::from(params.m_cost()) * u64::from(params.t_cost()))
}

fn verdict(hash: &str, password: &[u8]) -> PasswordVerdict {
    let right = PasswordHash::new(hash).is_ok_and(|hash| {
        let prepared = prepared(password);
        Argon2::default().verify_password(&prepared, &hash).is_ok()
    });
    if right { PasswordVerdict::Right } else { PasswordVerdict::Wrong }
}

/// The hash of a new password, with a salt of its own.
///
/// # Errors
/// When it is too short or too long, or there is no randomness.
pub fn hash(password: &str) -> Result<String, String> {
    if password.chars().count() < PASSWORD_LEAST {
        return Err(format!("the password needs at least {PASSWORD_LEAST} characters"));
    }
    if password.len() > PASSWORD_LIMIT || password.contains('\0') {
        return Err(format!("the password may have at most {PASSWORD_LIMIT} octets, and no NUL"));
    }
    let hash = Argon2::default().hash_password(&prepared(password.as_bytes()));
    hash.map(|hash| hash.to_string()).map_err(|error| format!("the password cannot be hashed: {error}"))
}

/// A new token, and what the file has of it.
///
/// # Errors
/// When there is no randomness.
pub fn new_token() -> Result<NewToken, String> {
    let mut octets = [0; TOKEN_OCTETS];
    rand::fill(&mut octets).map_err(|_unspecified| "there is no randomness".to_owned())?;
    let token = format!("{TOKEN_PREFIX}{}", BASE64URL_NOPAD.encode(&octets));
    Ok(NewToken { hash: token_digest(&token), token })
}

/// A token that was just made.
pub struct NewToken {
    /// For the program; nobody else sees it again.
    pub token: String,
    /// For the file of users.
    pub hash: String,
}

fn token_digest(token: &str) -> String {
    format!("{TOKEN_MARK}{}", BASE64URL_NOPAD.encode(digest::digest(&digest::SHA256, token.as_bytes()).as_ref()))
}

fn prepared(password: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(password).ok().and_then(|text| saslprep(text).ok());
    text.map_or_else(|| password.to_vec(), |text| text.into_owned().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::address::parse_reverse_path;

    fn owns(user: &User, sender: &str) -> bool {
        user.owns(&parse_reverse_path(sender).unwrap())
    }

    #[test]
    fn a_user_is_found_by_name_and_password_alone() {
        let (one, two) = (hash("correct horse").unwrap(), hash("battery staple").unwrap());
        assert_ne!(one, hash("correct horse").unwrap(), "each hash has a salt of its own");
        let text = format!("# users\n\nAlice@Example.org {one}\nprinter {two} @scan.example.org bob@example.org\n");
        let users = Users::parse(&text).unwrap();
        assert_eq!(users.log_in("alice@example.org", b"correct horse").unwrap().name, "Alice@Example.org");
        for (name, password) in [
            ("alice@example.org", "battery staple"),
            ("alice@example.org", ""),
            ("printer", "correct horse"),
            ("nobody", "correct horse"),
            ("nobody", "battery staple"),
            ("", ""),
        ] {
            assert_eq!(users.log_in(name, password.as_bytes()), None, "{name} {password}");
        }
        let (alice, printer) = (users.get("ALICE@example.org").unwrap(), users.get("printer").unwrap());
        assert!(owns(alice, "<alice@example.org>") && owns(alice, "<>") && !owns(alice, "<bob@example.org>"));
        assert!(owns(printer, "<x@scan.example.org>") && owns(printer, "<bob@example.org>"));
        assert!(!owns(printer, "<printer@example.org>"));
        assert!(!format!("{users:?}").contains("argon2id$"));
    }

    #[test]
    fn rfc4616_2_passwords_are_prepared() {
        let users = Users::parse(&format!("u {}", hash("pass\u{ad}word\u{2168}").unwrap())).unwrap();
        assert!(users.log_in("u", "passwordIX".as_bytes()).is_some());
    }

    #[test]
    fn a_user_is_added_once_and_removed_and_other_lines_stay() {
        let (one, two) = (hash("correct horse").unwrap(), hash("battery staple").unwrap());
        let text = with_user("# ours\nbob x", "alice", &one, &[], None);
        assert!(text.unwrap_err().contains("2: bob"), "a broken file is not made worse");
        let text = with_user("# ours", "alice", &one, &["@a.example".to_owned().try_into().unwrap()], None).unwrap();
        assert_eq!(text, format!("# ours\nalice {one} @a.example\n"));
        let text = with_user(&text, "Alice", &two, &[], None).unwrap();
        assert_eq!(text, format!("# ours\nAlice {two}\n"));
        assert_eq!(without_user(&text, "bob"), None);
        assert_eq!(without_user(&text, "ALICE").as_deref(), Some("# ours\n"));
        for wrong in ["", "a b", "#a", "a\n"] {
            assert!(with_user("", wrong, &one, &[], None).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_role_stands_in_the_line_and_a_token_is_no_password() {
        let NewToken { token, hash: digest } = new_token().unwrap();
        let text = with_user("", "monitor", &digest, &[], Some(UserRole::Look)).unwrap();
        let text = with_user(&text, "anna", &hash("correct horse").unwrap(), &[], Some(UserRole::HelpDesk)).unwrap();
        let users = Users::parse(&(text + "vouched ! role=operator\n")).unwrap();
        let role = |name: &str| users.get(name).and_then(|user| user.role);
        assert_eq!([role("monitor"), role("anna"), role("vouched")], UserRole::ALL.map(Some));
        assert_eq!(users.by_token(&token).unwrap().name, "monitor");
        assert_eq!(users.by_token(&token.replace("relay_", "")), None);
        for (name, password) in [("monitor", token.as_str()), ("monitor", &digest), ("vouched", "!"), ("vouched", "")] {
            assert_eq!(users.log_in(name, password.as_bytes()), None, "{name}");
        }
        assert!(users.log_in("anna", b"correct horse").is_some());
        for wrong in ["a ! role=boss", "a ! role=look role=look", "a $sha256$abc"] {
            assert!(Users::parse(wrong).is_err(), "{wrong}");
        }
        assert!(UserRole::Look < UserRole::HelpDesk && UserRole::HelpDesk < UserRole::Operator);
    }

    #[test]
    fn a_line_that_cannot_be_used_is_named_with_what_to_do() {
        let good = hash("correct horse").unwrap();
        let costly = good.replace("m=19456", "m=4194304");
        for (text, line, words) in [
            ("alice secret".to_owned(), 1, "argon2id hash"),
            ("alice".to_owned(), 1, "relay user add"),
            (format!("alice {}", good.replace("argon2id", "argon2d")), 1, "argon2id"),
            (format!("alice {costly}"), 1, "more than m=262144"),
            (format!("a {good}\nA {good}"), 2, "twice"),
            (format!("a {good} nobody"), 1, "no sender"),
        ] {
            let error = Users::parse(&text).unwrap_err();
            assert!(error.line == line && error.message.contains(words), "{error}");
        }
        assert!(hash("short").unwrap_err().contains("at least 8"));
        assert!(hash(&"x".repeat(1025)).unwrap_err().contains("at most"));
    }
}
