//! Who is logged in: sessions in memory, each under a name at random that a login makes and nobody chooses.
//!
//! A session ends when it is left alone for an hour, eight hours after the login, when its user logs out, and with the
//! relay. What its user may do is looked up in the file of users at each request.

use crate::clock::Timestamp;
use aws_lc_rs::{hmac, rand};
use data_encoding::BASE64URL_NOPAD;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a session may be left alone.
const IDLE: Duration = Duration::from_secs(3_600);
/// How long one lasts at most: a working day.
const LONGEST: Duration = Duration::from_secs(8 * 3_600);
/// The most sessions; the one that was left alone longest goes first.
const MOST: usize = 500;
/// Random octets of a name.
const OCTETS: usize = 32;

/// See the module.
pub(super) struct Sessions {
    open: BTreeMap<String, OpenSession>,
    /// What tokens against forged forms are made with.
    key: hmac::Key,
}

struct OpenSession {
    user: String,
    since: Timestamp,
    last: Timestamp,
}

/// A name that nobody can guess.
///
/// # Errors
/// When there is no randomness.
pub(super) fn random_name() -> Result<String, String> {
    let mut octets = [0; OCTETS];
    rand::fill(&mut octets).map_err(|_unspecified| "there is no randomness".to_owned())?;
    Ok(BASE64URL_NOPAD.encode(&octets))
}

impl Sessions {
    /// None is open.
    ///
    /// # Errors
    /// When there is no randomness.
    pub(super) fn new() -> Result<Self, String> {
        let mut key = [0; OCTETS];
        rand::fill(&mut key).map_err(|_unspecified| "there is no randomness".to_owned())?;
        Ok(Self { open: BTreeMap::new(), key: hmac::Key::new(hmac::HMAC_SHA256, &key) })
    }

    /// A user has logged in. Gives the name of the session.
    ///
    /// # Errors
    /// When there is no randomness.
    pub(super) fn begin(&mut self, user: &str, now: Timestamp) -> Result<String, String> {
        self.open.retain(|_, session| session.is_open(now));
        if self.open.len() >= MOST {
            let oldest = self.open.iter().min_by_key(|(_, session)| session.last).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.open.remove(&name));
        }
        let name = random_name()?;
        self.open.insert(name.clone(), OpenSession { user: user.to_owned(), since: now, last: now });
        Ok(name)
    }

    /// Whose session that is; it counts as used.
    pub(super) fn user(&mut self, name: &str, now: Timestamp) -> Option<String> {
        let session = self.open.get_mut(name).filter(|session| session.is_open(now))?;
        session.last = now;
        Some(session.user.clone())
    }

    /// It is over.
    pub(super) fn end(&mut self, name: &str) {
        self.open.remove(name);
    }

    /// What a form of that session, or of that vouched user, has to bring along.
    pub(super) fn form_token(&self, of: &str) -> String {
        BASE64URL_NOPAD.encode(hmac::sign(&self.key, of.as_bytes()).as_ref())
    }

    /// Whether it is that.
    pub(super) fn is_form_token(&self, of: &str, offered: &str) -> bool {
        let offered = BASE64URL_NOPAD.decode(offered.as_bytes());
        offered.is_ok_and(|offered| hmac::verify(&self.key, of.as_bytes(), &offered).is_ok())
    }
}

impl OpenSession {
    fn is_open(&self, now: Timestamp) -> bool {
        now.since(self.last) < IDLE && now.since(self.since) < LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_261_468_000);

    fn later(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_session_ends_when_it_is_left_alone_after_a_day_and_when_its_user_says_so() {
        let mut sessions = Sessions::new().unwrap();
        let name = sessions.begin("anna", NOW).unwrap();
        assert_eq!(sessions.user(&name, later(3_599)).as_deref(), Some("anna"));
        assert_eq!(sessions.user(&name, later(3_599 + 3_600)), None, "left alone");
        let name = sessions.begin("anna", NOW).unwrap();
        for minute in (0..480).step_by(30) {
            assert!(sessions.user(&name, later(minute * 60)).is_some(), "{minute}");
        }
        assert_eq!(sessions.user(&name, later(8 * 3_600)), None, "a day");
        let name = sessions.begin("anna", NOW).unwrap();
        sessions.end(&name);
        assert_eq!(sessions.user(&name, NOW), None);
        assert_eq!(sessions.user("", NOW), None);
    }

    #[test]
    fn names_differ_and_are_bounded_in_number() {
        let mut sessions = Sessions::new().unwrap();
        let first = sessions.begin("first", NOW).unwrap();
        for number in 0..MOST as u64 {
            sessions.begin("anna", later(1 + number)).unwrap();
        }
        assert_eq!((sessions.open.len(), sessions.user(&first, later(1))), (MOST, None));
    }

    #[test]
    fn a_form_token_is_that_of_its_session_alone() {
        let (sessions, others) = (Sessions::new().unwrap(), Sessions::new().unwrap());
        let token = sessions.form_token("one");
        assert!(sessions.is_form_token("one", &token));
        assert!(!sessions.is_form_token("two", &token) && !others.is_form_token("one", &token));
        assert!(!sessions.is_form_token("one", "") && !sessions.is_form_token("one", "€"));
    }
}
