//! Whom the operator has suspended, for mail still to come: senders, users, destinations.
//!
//! What is queued already is not touched; `relay queue hold` is for that. A suspension ends by itself at its
//! end, or when the operator says so, and outlives a restart: the state `suspended`.

use crate::clock::Timestamp;
use crate::config::{DomainPattern, SenderPattern};
use crate::smtp::address::ReversePath;
use crate::state_dir::{self, KeepFault, SmallStore};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// Its name among the small states, and among those that relays share.
pub(crate) const NAME: &str = "suspended";
/// Its version.
const VERSION: u32 = 1;
/// The most that is read, in octets: some thousand suspensions.
const LIMIT: u64 = 1_048_576;
/// The most at once.
const MOST: usize = 1000;
/// The most records of who suspended and let in again: the newest.
const MOST_RECORDS: usize = 200;

/// Who or what is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuspendedKind {
    /// A sender, `user@example.org`, or all of a domain, `@example.org`.
    Sender,
    /// A user, after AUTH.
    User,
    /// Recipients of a domain, as destinations name them.
    Destination,
}

impl fmt::Display for SuspendedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sender => "sender",
            Self::User => "user",
            Self::Destination => "destination",
        })
    }
}

/// One suspension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// What kind of name it is.
    pub kind: SuspendedKind,
    /// The name, in lower case.
    pub name: String,
    /// What made the operator do it.
    pub reason: String,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// The user of the admin port who did it; none for somebody on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Suspension {
    /// A new one.
    ///
    /// # Errors
    /// When the name is none of its kind.
    pub fn new(kind: SuspendedKind, name: &str, reason: String, until: Option<Timestamp>) -> Result<Self, String> {
        match kind {
            SuspendedKind::Sender => drop(SenderPattern::try_from(name.to_owned())?),
            SuspendedKind::Destination => drop(DomainPattern::try_from(name.to_owned())?),
            SuspendedKind::User if name.is_empty() || name.contains(char::is_control) => {
                return Err(format!("\"{name}\" is no name of a user"));
            }
            SuspendedKind::User => {}
        }
        Ok(Self { kind, name: name.to_lowercase(), reason, until, by: None })
    }

    fn counts(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    fn is_about(&self, sender: &ReversePath, user: Option<&str>) -> bool {
        match self.kind {
            SuspendedKind::Sender => {
                SenderPattern::try_from(self.name.clone()).is_ok_and(|pattern| pattern.fit(sender).is_some())
            }
            SuspendedKind::User => user.is_some_and(|user| user.to_lowercase() == self.name),
            SuspendedKind::Destination => false,
        }
    }
}

/// What became of a suspension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuspensionChange {
    /// It began.
    Suspended,
    /// It was ended.
    Resumed,
}

/// That somebody suspended, or let in again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspensionRecord {
    /// When that was.
    pub at: Timestamp,
    /// What was done.
    pub change: SuspensionChange,
    /// What kind of name it is.
    pub kind: SuspendedKind,
    /// The name, in lower case.
    pub name: String,
    /// Why it was done.
    pub reason: String,
    /// Who did it: a user of the admin port, or the user id of somebody on this host.
    pub by: String,
}

/// The end of a suspension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// What kind of name it is.
    pub kind: SuspendedKind,
    /// The name.
    pub name: String,
    /// Why it ends.
    pub reason: String,
}

impl Resumption {
    fn ends(&self, one: &Suspension) -> bool {
        one.kind == self.kind && one.name == self.name.to_lowercase()
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct SuspendedFile {
    version: u32,
    suspended: Vec<Suspension>,
    /// The oldest first; an older relay knows none of it, and drops it.
    #[serde(default)]
    records: Vec<SuspensionRecord>,
}

/// All that are in force, kept in a store.
#[derive(Default)]
pub struct Suspensions {
    /// None in a relay that keeps nothing: a suspension is then over with it.
    store: Option<Box<dyn SmallStore>>,
    all: RwLock<Arc<SuspendedFile>>,
}

impl Suspensions {
    /// What was kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn load(store: Box<dyn SmallStore>) -> Result<Self, KeepFault> {
        let all = match state_dir::load::<SuspendedFile>(store.as_ref(), NAME, LIMIT)? {
            None => SuspendedFile::default(),
            Some(kept) if kept.version == VERSION => kept,
            Some(kept) => {
                return Err(state_dir::fault(store.as_ref(), NAME, format!("its version is {}", kept.version)));
            }
        };
        Ok(Self { store: Some(store), all: RwLock::new(Arc::new(all)) })
    }

    /// None, after what was kept could not be read; the next one is kept instead of it.
    #[must_use]
    pub(crate) fn none(store: Box<dyn SmallStore>) -> Self {
        Self { store: Some(store), all: RwLock::default() }
    }

    /// Those in force.
    #[must_use]
    pub fn now(&self, now: Timestamp) -> Vec<Suspension> {
        self.all().suspended.iter().filter(|one| one.counts(now)).cloned().collect()
    }

    /// Who suspended and let in again, the newest first.
    #[must_use]
    pub fn records(&self) -> Vec<SuspensionRecord> {
        self.all().records.iter().rev().cloned().collect()
    }

    /// Whether mail of that sender, by that user, may come.
    #[must_use]
    pub(super) fn let_in(&self, sender: &ReversePath, user: Option<&str>, now: Timestamp) -> bool {
        !self.all().suspended.iter().any(|one| one.counts(now) && one.is_about(sender, user))
    }

    /// The destinations that no mail may go to.
    #[must_use]
    pub(super) fn destinations(&self, now: Timestamp) -> Vec<DomainPattern> {
        let all = self.all();
        let destinations = all.suspended.iter().filter(|one| one.kind == SuspendedKind::Destination && one.counts(now));
        destinations.filter_map(|one| DomainPattern::try_from(one.name.clone()).ok()).collect()
    }

    /// Suspends, durably, and records who did it; another one of the same name is replaced. Blocks.
    ///
    /// # Errors
    /// When it cannot be kept; then it is not in force.
    pub fn suspend(&self, one: Suspension, by: &str, now: Timestamp) -> Result<(), String> {
        let mut all = self.now(now);
        all.retain(|other| (other.kind, &other.name) != (one.kind, &one.name));
        if all.len() >= MOST {
            return Err(format!("{MOST} are suspended already: resume some of them, or suspend a whole domain"));
        }
        let record = record(&one, SuspensionChange::Suspended, by, now);
        all.push(one);
        self.keep_with(all, Some(record))
    }

    /// Ends a suspension, and records who did it and why. Whether there was one. Blocks.
    ///
    /// # Errors
    /// When that cannot be kept; then it is still in force.
    pub fn resume(&self, wanted: Resumption, by: &str, now: Timestamp) -> Result<bool, String> {
        let (ended, left): (Vec<Suspension>, Vec<Suspension>) =
            self.now(now).into_iter().partition(|one| wanted.ends(one));
        let record = ended
            .first()
            .map(|one| SuspensionRecord { reason: wanted.reason, ..record(one, SuspensionChange::Resumed, by, now) });
        self.keep_with(left, record).map(|()| !ended.is_empty())
    }

    /// All of them, for relays that share the spool.
    ///
    /// # Errors
    /// When they cannot be written down.
    pub(crate) fn shared(&self) -> Result<Vec<u8>, String> {
        let file = SuspendedFile { version: VERSION, ..SuspendedFile::clone(&self.all()) };
        serde_json::to_vec(&file).map_err(|error| error.to_string())
    }

    /// Takes over all that such a relay has, in place of those here. Blocks.
    ///
    /// # Errors
    /// When they cannot be read or kept; then those before are in force.
    pub(crate) fn take_over(&self, shared: &[u8]) -> Result<(), String> {
        let file: SuspendedFile = serde_json::from_slice(shared).map_err(|error| error.to_string())?;
        if file.version != VERSION {
            return Err(format!("their version is {}", file.version));
        }
        self.keep(file)
    }

    fn all(&self) -> Arc<SuspendedFile> {
        Arc::clone(&self.all.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep_with(&self, suspended: Vec<Suspension>, record: Option<SuspensionRecord>) -> Result<(), String> {
        let mut records = self.all().records.clone();
        records.extend(record);
        let too_many = records.len().saturating_sub(MOST_RECORDS);
        records.drain(..too_many);
        self.keep(SuspendedFile { version: VERSION, suspended, records })
    }

    fn keep(&self, file: SuspendedFile) -> Result<(), String> {
        let mut in_force = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = &self.store {
            state_dir::keep(store.as_ref(), NAME, &file).map_err(|fault| fault.to_string())?;
        }
        *in_force = Arc::new(file);
        Ok(())
    }
}

fn record(one: &Suspension, change: SuspensionChange, by: &str, at: Timestamp) -> SuspensionRecord {
    let Suspension { kind, name, reason, .. } = one;
    SuspensionRecord { at, change, kind: *kind, name: name.clone(), reason: reason.clone(), by: by.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::address::parse_reverse_path;
    use crate::state_dir::StateDir;

    const NOW: Timestamp = Timestamp(1_795_261_468_000);

    fn one(kind: SuspendedKind, name: &str, until: Option<Timestamp>) -> Suspension {
        Suspension::new(kind, name, "taken over".into(), until).unwrap()
    }

    #[test]
    fn a_suspension_holds_until_its_end_or_until_it_is_lifted_also_over_a_restart() {
        let spool = tempfile::tempdir().unwrap();
        let load = || Suspensions::load(Box::new(StateDir::new(spool.path()))).unwrap();
        let suspensions = load();
        let may = |suspensions: &Suspensions, sender: &str, user: Option<&str>, now: Timestamp| {
            suspensions.let_in(&parse_reverse_path(sender).unwrap(), user, now)
        };
        assert!(may(&suspensions, "<eve@a.example>", Some("eve"), NOW));
        let later = Timestamp(NOW.0 + 1000);
        suspensions.suspend(one(SuspendedKind::Sender, "Eve@a.example", None), "anna", NOW).unwrap();
        suspensions.suspend(one(SuspendedKind::User, "printer", Some(later)), "anna", NOW).unwrap();
        suspensions.suspend(one(SuspendedKind::Destination, "*.b.example", None), "anna", NOW).unwrap();
        for suspensions in [&suspensions, &load()] {
            assert!(!may(suspensions, "<eve@A.example>", None, NOW));
            assert!(may(suspensions, "<bob@a.example>", None, NOW) && may(suspensions, "<>", None, NOW));
            assert!(!may(suspensions, "<>", Some("Printer"), NOW) && may(suspensions, "<>", Some("printer"), later));
            let closed = suspensions.destinations(NOW);
            assert!(closed[0].fit(&"x.b.example".parse().unwrap()).is_some());
            assert!(closed[0].fit(&"b.example".parse().unwrap()).is_none());
        }
        let resumption = || Resumption {
            kind: SuspendedKind::Sender,
            name: "EVE@a.example".to_owned(),
            reason: "has another password".to_owned(),
        };
        assert_eq!(suspensions.resume(resumption(), "bert", NOW), Ok(true));
        assert_eq!(suspensions.resume(resumption(), "bert", NOW), Ok(false));
        assert!(may(&load(), "<eve@a.example>", None, NOW));
        assert_eq!(load().now(later).len(), 1);
        let told = |record: &SuspensionRecord| (record.change, record.name.clone(), record.by.clone());
        let records = load().records();
        assert_eq!(records.len(), 4, "{records:?}");
        assert_eq!(told(&records[0]), (SuspensionChange::Resumed, "eve@a.example".to_owned(), "bert".to_owned()));
        assert_eq!((records[0].reason.as_str(), records[3].reason.as_str()), ("has another password", "taken over"));
        assert_eq!(told(&records[3]), (SuspensionChange::Suspended, "eve@a.example".to_owned(), "anna".to_owned()));
        let other = Suspensions::default();
        other.take_over(&load().shared().unwrap()).unwrap();
        assert_eq!(other.records(), records, "all relays of a spool know it");
    }

    #[test]
    fn records_are_bounded_and_the_newest_stay() {
        let suspensions = Suspensions::default();
        for number in 0..MOST_RECORDS + 5 {
            suspensions.suspend(one(SuspendedKind::User, "printer", None), &number.to_string(), NOW).unwrap();
        }
        let records = suspensions.records();
        assert_eq!((records.len(), records[0].by.as_str()), (MOST_RECORDS, (MOST_RECORDS + 4).to_string().as_str()));
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        for (kind, name) in
            [(SuspendedKind::Sender, "eve"), (SuspendedKind::User, ""), (SuspendedKind::Destination, "a b")]
        {
            assert!(Suspension::new(kind, name, String::new(), None).is_err(), "{name}");
        }
    }
}
