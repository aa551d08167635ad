//! Who logs in: the file of users in use, and the work of looking a password up (RFC 4954).
//!
//! The file is read again when it changes; one that cannot be used leaves the users before in use. Hashes are
//! computed beside the sessions, two at a time, and those who wait for it are few: whoever comes above gets 454.
#![expect(clippy::disallowed_methods, reason = "reads the file of users")]

use super::LoginResult;
use super::guessing::{GuessAttempt, Guessing};
use super::places::Places;
pub(crate) use super::step::LoginOutcome;
use crate::clock::Timestamp;
use crate::config::users::{Users, UsersError};
use crate::smtp::sasl::Credentials;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Hashes that are computed at once. Each takes some 20 MiB and a core.
const AT_ONCE: usize = 2;
/// How many may wait for that: a second's work.
const MOST_WAITING: usize = 32;

/// Why there are no users.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsersFileError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of it cannot be used.
    #[error("{path}:{source}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Which one, and why.
        source: UsersError,
    },
}

/// The users with the file they come from.
#[derive(Debug)]
pub struct UsersInUse {
    path: PathBuf,
    in_use: RwLock<Arc<Users>>,
    /// The file as it was read last, good or bad.
    read: Mutex<String>,
}

impl UsersInUse {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// [`UsersFileError`] when it cannot be used.
    pub(super) fn load(path: &Path) -> Result<Self, UsersFileError> {
        let text = read(path)?;
        let users = parsed(path, &text)?;
        Ok(Self { path: path.to_owned(), in_use: RwLock::new(Arc::new(users)), read: Mutex::new(text) })
    }

    /// Reads it again. Gives the number of users when it has changed.
    ///
    /// # Errors
    /// [`UsersFileError`] when what is there now cannot be used; told once for each change, except that a file
    /// which cannot be read is told every time.
    pub(crate) fn reload(&self) -> Result<Option<usize>, UsersFileError> {
        let text = read(&self.path)?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if *read == text {
            return Ok(None);
        }
        let users = parsed(&self.path, &text);
        *read = text;
        let users = users?;
        let number = users.iter().count();
        *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(users);
        Ok(Some(number))
    }

    /// Changes to users that were read from the same file meanwhile.
    pub(super) fn take_over(&self, other: &Self) {
        let text = other.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = text;
        *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = other.users();
    }

    /// Those that count now.
    #[must_use]
    pub(crate) fn users(&self) -> Arc<Users> {
        Arc::clone(&self.in_use.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read(path: &Path) -> Result<String, UsersFileError> {
    std::fs::read_to_string(path).map_err(|source| UsersFileError::Io { path: path.to_owned(), source })
}

fn parsed(path: &Path, text: &str) -> Result<Users, UsersFileError> {
    Users::parse(text).map_err(|source| UsersFileError::Line { path: path.to_owned(), source })
}

/// What all logins share, whatever the listener and the configuration.
#[derive(Clone)]
pub(crate) struct Logins {
    guessing: Arc<Mutex<Guessing>>,
    working: Arc<Semaphore>,
    waiting: Places,
}

/// What became of one, and how long the answer is to wait.
pub(crate) struct LoginEnd {
    pub(crate) outcome: LoginOutcome,
    pub(crate) result: LoginResult,
    /// The user, where there is one of that name.
    pub(crate) user: Option<String>,
    pub(crate) wait: Duration,
}

impl Default for Logins {
    fn default() -> Self {
        Self { guessing: Arc::default(), working: Arc::new(Semaphore::new(AT_ONCE)), waiting: Places::default() }
    }
}

impl Logins {
    /// Looks the password up.
    pub(crate) async fn log_in(
        &self,
        users: Arc<Users>,
        credentials: Credentials,
        client: IpAddr,
        now: Timestamp,
    ) -> LoginEnd {
        let Credentials { name, password } = credentials;
        // What somebody typed as a name may be a password: only names that we know are told.
        let user = users.get(&name).map(|user| user.name.clone());
        let not_now =
            |result| LoginEnd { outcome: LoginOutcome::NotNow, result, user: user.clone(), wait: Duration::ZERO };
        let Some(_place) = self.waiting.take(MOST_WAITING) else { return not_now(LoginResult::Busy) };
        let GuessAttempt::LookedAt { delay_if_wrong } = self.guessing().attempt(client, &name, now) else {
            return not_now(LoginResult::LockedOut);
        };
        let Ok(_permit) = self.working.acquire().await else { return not_now(LoginResult::Busy) };
        let said = name.clone();
        let found = tokio::task::spawn_blocking(move || users.log_in(&said, password.octets())).await;
        match found {
            Ok(Some(right)) => {
                self.guessing().was_right(client, &name, now);
                let (outcome, result) = (LoginOutcome::Right(right), LoginResult::Right);
                LoginEnd { outcome, result, user, wait: Duration::ZERO }
            }
            Ok(None) => {
                let (outcome, result) = (LoginOutcome::Wrong, LoginResult::Wrong);
                LoginEnd { outcome, result, user, wait: delay_if_wrong }
            }
            Err(_panicked) => not_now(LoginResult::Busy),
        }
    }

    fn guessing(&self) -> std::sync::MutexGuard<'_, Guessing> {
        self.guessing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::users::hash;

    #[test]
    fn another_file_counts_from_its_reading_on_and_a_broken_one_leaves_the_users_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let line = |name: &str| format!("{name} {}\n", hash("correct horse").unwrap());
        std::fs::write(&path, line("alice")).unwrap();
        let users = UsersInUse::load(&path).unwrap();
        assert_eq!(users.reload().unwrap(), None);
        std::fs::write(&path, line("alice") + &line("bob")).unwrap();
        assert_eq!((users.reload().unwrap(), users.users().get("bob").is_some()), (Some(2), true));
        std::fs::write(&path, "alice secret").unwrap();
        let error = users.reload().unwrap_err().to_string();
        assert!(error.contains("users:1: alice: the second word must be"), "{error}");
        assert_eq!(users.reload().unwrap(), None, "told once");
        std::fs::remove_file(&path).unwrap();
        assert!(users.reload().is_err());
        assert!(users.users().get("bob").is_some());
    }
}
