//! Policies that are kept: one value a domain beside the spool (`<spool>/mta-sts/`, a file each), replaced
//! as a whole (RFC 8461 §5.1: a policy holds until it expires, so also over a restart).
//!
//! The invariant: a policy that was in force stays so until its time is over or a younger one of
//! its domain replaces it, whatever becomes of the disk and whoever else comes.
//!
//! - What cannot be read is [`Held::Lost`] and never "none". A damaged file stays where it is, so
//!   that this outlasts restarts, for as long as the policy in it can have held, counted from the
//!   time of the file; where the folder cannot be read, that goes for every domain.
//! - Who must go when there are too many is chosen in `room.rs`.
//! - Files are looked at again whenever they have changed, so another process may read and replace
//!   them while the relay runs; nobody replaces a policy by an older one.
//! - Where the disk refuses, a policy lives in memory (`memory.rs`), and the file before it stays.

use super::file::{self, FileContent};
use super::lost::{Lost, LostBecause};
use super::memory::{Held, PolicyMemory, Remembered};
use super::policy::Mode;
use super::room::{self, Choice, FileKind, Size, StoreLimits, StoredFile};
use super::{RefreshFailure, StsPolicy, Tenure, shared};
use crate::clock::Timestamp;
use crate::smtp::address::Domain;
use crate::state_dir::sealed::UNPACKED_LIMIT;
use crate::state_dir::{Durable, KeepFault, KeptStamp, SmallStore};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The collection of policies beside the spool.
pub(crate) const COLLECTION: &str = "mta-sts";
/// The longest file, in octets.
const FILE_LIMIT: u64 = UNPACKED_LIMIT as u64;

/// A policy could not be kept or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    /// A policy that was kept cannot be looked into.
    #[error("the kept MTA-STS policy of {domain} is lost: {detail}; mail to it waits until it is fetched again")]
    Lost {
        /// The domain of the policy.
        domain: Domain,
        /// What is wrong.
        detail: String,
    },
    /// The disk does not say which policies are kept.
    #[error(
        "the kept MTA-STS policies cannot be read, so mail to domains whose policy is not known waits: {path}: {detail}"
    )]
    Unreadable {
        /// Which file or folder.
        path: String,
        /// What the system said.
        detail: String,
    },
    /// The disk refuses.
    #[error("MTA-STS policies cannot be kept: {path}: {detail}")]
    Disk {
        /// Which file or folder.
        path: String,
        /// What the system said.
        detail: String,
    },
    /// There are more policies than are kept.
    #[error(
        "there is no room to keep the MTA-STS policies of {domains} domains, the newest; they hold only while the policy can be fetched"
    )]
    Full {
        /// How many were let go.
        domains: usize,
    },
}

/// What is held for a domain, and what was wrong where that is met for the first time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LookedUp {
    /// The policy, or what is known of it.
    pub held: Held,
    /// To be told.
    pub news: Option<StoreFault>,
}

impl From<Held> for LookedUp {
    fn from(held: Held) -> Self {
        Self { held, news: None }
    }
}

/// The policies that are kept.
pub(crate) struct Store {
    /// No domain has a slash, begins with a dot, or is longer than a name may be.
    values: Box<dyn SmallStore>,
    limits: StoreLimits,
    memory: Mutex<PolicyMemory>,
    /// What newcomers may bring before everybody is looked at; nothing when nobody was yet.
    left: Mutex<Option<Size>>,
    /// What the disk said last when it did not say whether there is a file.
    disk_says: Mutex<Option<String>>,
}

impl Store {
    /// The policies that `values` keeps. Nothing is read or made yet.
    #[must_use]
    pub(crate) fn new(values: Box<dyn SmallStore>, limits: StoreLimits) -> Self {
        Self { values, limits, memory: Mutex::default(), left: Mutex::default(), disk_says: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, PolicyMemory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is held for a domain, expired or not.
    #[must_use]
    pub(crate) fn get(&self, domain: &Domain) -> LookedUp {
        let mut memory = self.memory();
        let stamp = match self.values.stamp(domain.as_str()) {
            Ok(stamp) => stamp,
            Err(fault) => return self.no_answer(&memory, domain, &fault),
        };
        self.disk_speaks(None);
        let Some(stamp) = stamp else {
            if memory.get(domain).is_some_and(|known| known.stamp.is_some()) {
                memory.remove(domain);
            }
            return memory.get(domain).map_or(Held::Nothing, |known| known.held.clone()).into();
        };
        let known = memory.get(domain).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.stamp == Some(stamp)) {
            return known.held.clone().into();
        }
        let Some((read, news)) = self.load(domain, stamp) else { return Held::Nothing.into() };
        if let Some(known) = known.filter(|known| outlasts(known, &read)) {
            if known.stamp.is_none() {
                return known.held.into();
            }
            // What is remembered of a file is better than what has become of it.
            memory.insert(domain.clone(), Remembered { stamp: Some(stamp), ..known.clone() });
            return LookedUp { held: known.held, news };
        }
        let held = read.held.clone();
        memory.insert(domain.clone(), read);
        LookedUp { held, news }
    }

    /// Nothing where the file is gone by now.
    fn load(&self, domain: &Domain, stamp: KeptStamp) -> Option<(Remembered, Option<StoreFault>)> {
        let damaged = |detail| LostBecause::Damaged { path: self.values.place(domain.as_str()), detail };
        let because = match self.values.read(domain.as_str(), FILE_LIMIT) {
            _ if stamp.length > FILE_LIMIT => damaged("it is too long".to_owned()),
            Ok(None) => return None,
            Err(KeepFault { path, detail }) => LostBecause::Unreadable { path, detail },
            Ok(Some(octets)) => match file::decode(domain, &octets) {
                Ok(FileContent::Policy(policy)) => {
                    let (standing, held) = (Some(policy.standing), Held::Policy(Arc::new(policy)));
                    return Some((Remembered { held, standing, stamp: Some(stamp) }, None));
                }
                Ok(FileContent::End(until, standing)) => {
                    let lost = Lost { domain: domain.clone(), until: Some(until), because: LostBecause::LetGo };
                    let (standing, held) = (Some(standing), Held::Lost(Arc::new(lost)));
                    return Some((Remembered { held, standing, stamp: Some(stamp) }, None));
                }
                Err(detail) => damaged(detail),
            },
        };
        let news = StoreFault::Lost { domain: domain.clone(), detail: because.to_string() };
        let lost = Lost { domain: domain.clone(), until: Some(Lost::bound(stamp.kept_at())), because };
        let held = Held::Lost(Arc::new(lost));
        Some((Remembered { held, standing: None, stamp: Some(stamp) }, Some(news)))
    }

    /// The disk does not even say whether there is a file.
    fn no_answer(&self, memory: &PolicyMemory, domain: &Domain, fault: &KeepFault) -> LookedUp {
        let KeepFault { path, detail } = fault.clone();
        let news = self.disk_speaks(Some(&detail)).then(|| unreadable(fault.clone()));
        let lost = Lost { domain: domain.clone(), until: None, because: LostBecause::Unreadable { path, detail } };
        let held = memory.get(domain).map_or_else(|| Held::Lost(Arc::new(lost)), |known| known.held.clone());
        LookedUp { held, news }
    }

    /// Notes what the disk says, and whether that is new.
    fn disk_speaks(&self, detail: Option<&str>) -> bool {
        let mut says = self.disk_says.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = says.as_deref() != detail;
        if is_new {
            *says = detail.map(str::to_owned);
        }
        is_new
    }

    /// Keeps a policy instead of the one before, unless that is younger; blocks on the disk.
    ///
    /// # Errors
    /// [`StoreFault::Disk`]: then it is known until the relay stops, as far as there is room;
    /// [`StoreFault::Full`]: others were let go.
    pub(crate) fn put(&self, policy: &Arc<StsPolicy>, now: Timestamp) -> Result<(), StoreFault> {
        let before = self.standing(&policy.domain);
        self.write_policy(
            Arc::new(StsPolicy { standing: before.unwrap_or(policy.standing), ..(**policy).clone() }),
            now,
        )
    }

    /// Keeps a policy that was fetched elsewhere, if it is younger than the one here.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub(crate) fn take_over(&self, policy: &Arc<StsPolicy>, now: Timestamp) -> Result<(), StoreFault> {
        match self.get(&policy.domain).held {
            Held::Policy(here) if !shared::is_news(&here, policy) => Ok(()),
            Held::Policy(_) | Held::Lost(_) | Held::Nothing => self.put(policy, now),
        }
    }

    /// Notes that a refresh failed; what another process has fetched meanwhile stays.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub(crate) fn note_failure(
        &self,
        domain: &Domain,
        failure: RefreshFailure,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        self.amend(domain, |policy| policy.refresh_failure = Some(failure), now)
    }

    /// A newcomer whose policy was used again after its probation.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub(crate) fn establish(&self, domain: &Domain, now: Timestamp) -> Result<(), StoreFault> {
        self.amend(domain, |policy| policy.standing.established = Some(now), now)
    }

    /// A policy from a time that is still to come, by a clock that was wrong, lives from now on.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub(crate) fn correct_clock(&self, domain: &Domain, now: Timestamp) -> Result<(), StoreFault> {
        self.amend(domain, |policy| policy.fetched_at = policy.fetched_at.min(now), now)
    }

    fn amend(&self, domain: &Domain, change: impl FnOnce(&mut StsPolicy), now: Timestamp) -> Result<(), StoreFault> {
        let Held::Policy(policy) = self.get(domain).held else { return Ok(()) };
        let mut policy = (*policy).clone();
        change(&mut policy);
        self.write_policy(Arc::new(policy), now)
    }

    fn standing(&self, domain: &Domain) -> Option<Tenure> {
        // Whatever is there is read first.
        let _looked = self.get(domain);
        self.memory().get(domain).and_then(|known| known.standing)
    }

    fn write_policy(&self, policy: Arc<StsPolicy>, now: Timestamp) -> Result<(), StoreFault> {
        let domain = policy.domain.clone();
        let stamp = match self.write(&domain, file::encode(&policy), &Younger { than: &policy, now }) {
            Ok(None) => return Ok(()),
            Ok(Some(stamp)) => Ok(stamp),
            Err(fault) => Err(fault),
        };
        let standing = Some(policy.standing);
        let known = Remembered { held: Held::Policy(policy), standing, stamp: stamp.as_ref().ok().copied() };
        self.memory().insert(domain, known);
        self.make_room(stamp?.length, now)
    }

    /// Nothing when what is there by now is younger.
    fn write(
        &self,
        domain: &Domain,
        content: io::Result<Vec<u8>>,
        younger: &Younger<'_>,
    ) -> Result<Option<KeptStamp>, StoreFault> {
        let content = content.map_err(|error| self.cannot_be(domain, &error))?;
        let mut stays = || self.is_there(domain, younger);
        self.values.replace_unless(domain.as_str(), &content, Durable::Now, &mut stays).map_err(disk)
    }

    fn cannot_be(&self, domain: &Domain, error: &io::Error) -> StoreFault {
        StoreFault::Disk { path: self.values.place(domain.as_str()), detail: error.to_string() }
    }

    fn is_there(&self, domain: &Domain, younger: &Younger<'_>) -> bool {
        let Held::Policy(there) = self.get(domain).held else { return false };
        let is_on_disk = self.memory().get(domain).is_some_and(|known| known.stamp.is_some());
        is_on_disk && there.fetched_at > younger.than.fetched_at && there.fetched_at <= younger.now
    }

    /// Keeps to the limits after so many octets were written.
    fn make_room(&self, written: u64, now: Timestamp) -> Result<(), StoreFault> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.take().and_then(|left| left.spend(written));
        if left.is_some() {
            return Ok(());
        }
        let Choice { to_end, to_remove, to_lose, left: more } = room::choose(self.entries(now)?, &self.limits);
        to_remove.iter().chain(&to_lose).for_each(|domain| self.remove(domain));
        for domain in &to_end {
            // What cannot be shortened stays as it is.
            self.end(domain)?;
        }
        *left = Some(more);
        if to_lose.is_empty() { Ok(()) } else { Err(StoreFault::Full { domains: to_lose.len() }) }
    }

    fn entries(&self, now: Timestamp) -> Result<Vec<StoredFile>, StoreFault> {
        let entry = |(domain, octets): (Domain, u64)| {
            let held = self.get(&domain).held;
            let standing = self.memory().get(&domain).and_then(|known| known.standing);
            let kind = match held {
                Held::Policy(policy) if policy.has_expired(now) => FileKind::Expired,
                Held::Policy(policy) if policy.terms.mode == Mode::Enforce => FileKind::Enforced,
                Held::Policy(_) => FileKind::Harmless,
                Held::Lost(lost) if lost.because != LostBecause::LetGo => return None,
                Held::Lost(lost) if lost.is_over(now) => FileKind::Expired,
                Held::Lost(_) => FileKind::End,
                Held::Nothing => return None,
            };
            let (since, established) = standing.map_or((now, None), |standing| (standing.since, standing.established));
            Some(StoredFile { domain, octets, kind, since, established })
        };
        Ok(self.files()?.into_iter().filter_map(entry).collect())
    }

    /// Leaves of a policy when it ends. It need not be synced: if it comes to nothing, the file is
    /// damaged or as before, and no demand is lost.
    fn end(&self, domain: &Domain) -> Result<(), StoreFault> {
        let Held::Policy(policy) = self.get(domain).held else { return Ok(()) };
        let content = file::encode_end(domain, policy.expires_at(), policy.standing);
        let content = content.map_err(|error| self.cannot_be(domain, &error))?;
        let written = self.values.replace_unless(domain.as_str(), &content, Durable::Later, &mut || false);
        // It is read again when it is asked for.
        self.memory().remove(domain);
        written.map(|_stamp| ()).map_err(disk)
    }

    /// Forgets a policy.
    pub(crate) fn remove(&self, domain: &Domain) {
        self.memory().remove(domain);
        // Gone already, or it is found expired again.
        let _gone = self.values.remove(domain.as_str());
    }

    /// All that is held, in the order of the domains, and what is wrong with it.
    #[must_use]
    pub(crate) fn all(&self) -> (Vec<(Domain, Held)>, Vec<StoreFault>) {
        let (files, mut faults) = match self.files() {
            Ok(files) => (files, Vec::new()),
            Err(fault) => (Vec::new(), vec![fault]),
        };
        let mut domains: Vec<Domain> = files.into_iter().map(|(domain, _length)| domain).collect();
        domains.extend(self.memory().domains().cloned());
        domains.sort_unstable();
        domains.dedup();
        let look = |domain: Domain| {
            let LookedUp { held, news } = self.get(&domain);
            faults.extend(news);
            (domain, held)
        };
        (domains.into_iter().map(look).collect(), faults)
    }

    /// A domain of which something is kept on disk.
    #[must_use]
    pub(super) fn one_kept(&self) -> Option<Domain> {
        self.files().ok()?.into_iter().map(|(domain, _octets)| domain).next()
    }

    /// The domains of which something is kept.
    ///
    /// # Errors
    /// [`StoreFault::Unreadable`].
    pub(super) fn domains(&self) -> Result<Vec<Domain>, StoreFault> {
        Ok(self.files()?.into_iter().map(|(domain, _octets)| domain).collect())
    }

    fn files(&self) -> Result<Vec<(Domain, u64)>, StoreFault> {
        let names = self.values.names().map_err(unreadable)?;
        Ok(names.into_iter().filter_map(|(name, octets)| Some((name.parse().ok()?, octets))).collect())
    }
}

/// What would be replaced must not be younger, and not of a time that is still to come.
struct Younger<'p> {
    than: &'p StsPolicy,
    now: Timestamp,
}

/// Whether what is remembered counts more than what was read now: a policy that could not be
/// written may be younger than the file, and any is better than one that cannot be looked into.
fn outlasts(known: &Remembered, read: &Remembered) -> bool {
    match (known.policy(), &read.held) {
        (None, _) => false,
        (Some(here), Held::Policy(there)) => known.stamp.is_none() && here.fetched_at > there.fetched_at,
        // Somebody has made room; what is nowhere else is younger.
        (Some(_), Held::Lost(lost)) if lost.because == LostBecause::LetGo => known.stamp.is_none(),
        (Some(_), Held::Lost(_) | Held::Nothing) => true,
    }
}

fn disk(KeepFault { path, detail }: KeepFault) -> StoreFault {
    StoreFault::Disk { path, detail }
}

fn unreadable(KeepFault { path, detail }: KeepFault) -> StoreFault {
    StoreFault::Unreadable { path, detail }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
