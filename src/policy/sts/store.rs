//! Policies on disk: one file a domain in `<spool>/mta-sts/`, replaced as a whole (RFC 8461 §5.1:
//! a policy holds until it expires, so also over a restart).
//!
//! A file begins with a checksum (`state_dir/sealed.rs`); one that is damaged is set aside and costs its domain a new
//! fetch, and nobody else anything. Files are looked at anew whenever they have changed, so
//! another process may read and replace them while the relay runs. Where the disk refuses, a
//! policy lives in memory.
#![expect(clippy::disallowed_methods, reason = "this is where policies meet the disk")]

use super::policy::Mode;
use super::record::PolicyId;
use super::{RefreshFailure, StsPolicy};
use crate::clock::Timestamp;
use crate::smtp::address::Domain;
use crate::state_dir::sealed as kept;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The folder in the spool.
const FOLDER: &str = "mta-sts";
/// Where damaged files go. No domain begins with a dot.
const DAMAGED: &str = ".damaged";
/// Files that were begun and not finished.
const UNFINISHED: &str = ".new-";
/// Version of the files.
const VERSION: u32 = 1;
/// The longest file, in octets: the longest policy with every character escaped, and room for
/// the rest.
const FILE_LIMIT: u64 = 1_048_576;

/// A full store lets go of this part of its policies at once. To find out which, all are looked
/// at, and the next to come shall not have to do so again.
const ROOM_MADE: usize = 16;

/// How much is kept, or may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Policies.
    pub entries: usize,
    /// Octets of all files.
    pub bytes: u64,
}

impl Size {
    const fn hold(self, size: Self) -> bool {
        size.entries <= self.entries && size.bytes <= self.bytes
    }

    const fn with_room(self) -> Self {
        Self { entries: self.entries - self.entries / ROOM_MADE, bytes: self.bytes - self.bytes / ROOM_MADE as u64 }
    }
}

/// Some ten times what a busy relay meets; ordinary policies have 300 octets.
pub const LIMITS: Size = Size { entries: 20_000, bytes: 64 * 1_048_576 };

/// Policies that are known though the disk refused them: they live in memory alone, where no file's
/// length bounds them, and the largest have 64 KiB.
const UNWRITTEN_LIMIT: usize = 500;

/// A policy could not be kept or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    /// The file is damaged and was set aside.
    #[error("the kept MTA-STS policy of {domain} is damaged and was set aside: {detail}")]
    Damaged {
        /// Whose.
        domain: Domain,
        /// What is wrong.
        detail: String,
    },
    /// The disk.
    #[error("MTA-STS policies cannot be kept: {path}: {detail}")]
    Disk {
        /// Which file or folder.
        path: String,
        /// What the system said.
        detail: String,
    },
}

/// The policies that are kept.
pub struct Store {
    folder: PathBuf,
    limits: Size,
    known: Mutex<BTreeMap<Domain, Known>>,
    /// How much there is at most: what was there when the folder was looked at last, and all that
    /// was written since, though it may have replaced what was there.
    at_most: Mutex<Option<Size>>,
    written: AtomicU64,
}

/// A policy as it was read or written last.
struct Known {
    policy: Arc<StsPolicy>,
    /// The file it is from; none when it could not be written.
    stamp: Option<Stamp>,
}

/// Tells whether a file is still the same.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

impl From<&fs::Metadata> for Stamp {
    fn from(of: &fs::Metadata) -> Self {
        Self { inode: of.ino(), modified: (of.mtime(), of.mtime_nsec()), length: of.len() }
    }
}

/// The content of a file behind its checksum.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    domain: Domain,
    id: Option<PolicyId>,
    fetched_at: Timestamp,
    refresh_failure: Option<RefreshFailure>,
    text: String,
}

impl Store {
    /// The store of a spool. Nothing is read or made yet.
    #[must_use]
    pub fn new(spool: &Path, limits: Size) -> Self {
        let (known, at_most, written) = (Mutex::default(), Mutex::default(), AtomicU64::default());
        Self { folder: spool.join(FOLDER), limits, known, at_most, written }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Domain, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No domain has a slash, begins with a dot, or is longer than a file name may be.
    fn path(&self, domain: &Domain) -> PathBuf {
        self.folder.join(domain.as_str())
    }

    /// The policy of a domain, expired or not.
    ///
    /// # Errors
    /// [`StoreFault`]; then nothing is known.
    pub fn get(&self, domain: &Domain) -> Result<Option<Arc<StsPolicy>>, StoreFault> {
        let path = self.path(domain);
        let mut known = self.known();
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if known.get(domain).is_some_and(|known| known.stamp.is_some()) {
                    known.remove(domain);
                }
                return Ok(known.get(domain).map(|known| Arc::clone(&known.policy)));
            }
            Err(error) => return remembered(&known, domain).map_or_else(|| Err(disk(&path, &error)), |p| Ok(Some(p))),
        };
        let stamp = Stamp::from(&metadata);
        if let Some(known) = known.get(domain).filter(|known| known.stamp == Some(stamp)) {
            return Ok(Some(Arc::clone(&known.policy)));
        }
        let policy = match self.load(domain, &path, stamp) {
            Ok(policy) => Arc::new(policy),
            Err(fault) => return remembered(&known, domain).map_or(Err(fault), |policy| Ok(Some(policy))),
        };
        // One that could not be written may be younger than the file.
        if let Some(here) = remembered(&known, domain).filter(|here| here.fetched_at > policy.fetched_at) {
            return Ok(Some(here));
        }
        self.remember(&mut known, &policy, Some(stamp));
        Ok(Some(policy))
    }

    fn load(&self, domain: &Domain, path: &Path, stamp: Stamp) -> Result<StsPolicy, StoreFault> {
        let read = if stamp.length > FILE_LIMIT {
            Err("it is too long".to_owned())
        } else {
            decode(domain, &fs::read(path).map_err(|error| disk(path, &error))?)
        };
        read.map_err(|detail| {
            let aside = self.folder.join(DAMAGED);
            // Where it cannot be moved, the next policy replaces it.
            let _moved = fs::create_dir_all(&aside).and_then(|()| fs::rename(path, aside.join(domain.as_str())));
            StoreFault::Damaged { domain: domain.clone(), detail }
        })
    }

    fn remember(&self, known: &mut BTreeMap<Domain, Known>, policy: &Arc<StsPolicy>, stamp: Option<Stamp>) {
        while known.len() >= self.limits.entries && !known.contains_key(&policy.domain) {
            if known.pop_first().is_none() {
                break;
            }
        }
        known.insert(policy.domain.clone(), Known { policy: Arc::clone(policy), stamp });
    }

    /// Keeps a policy instead of the one before; blocks on the disk.
    ///
    /// # Errors
    /// [`StoreFault::Disk`]; then it is known until the relay stops.
    pub fn put(&self, policy: &Arc<StsPolicy>) -> Result<(), StoreFault> {
        let written = self.write(policy);
        let stamp = written.as_ref().ok().copied();
        let mut known = self.known();
        if stamp.is_none() {
            forget_one_of_many_unwritten(&mut known);
        }
        self.remember(&mut known, policy, stamp);
        drop(known);
        self.make_room(written?.length)
    }

    /// Keeps to the limits after so many octets were written.
    fn make_room(&self, written: u64) -> Result<(), StoreFault> {
        let mut at_most = self.at_most.lock().unwrap_or_else(PoisonError::into_inner);
        let size = at_most.take().map(|size| Size { entries: size.entries + 1, bytes: size.bytes + written });
        match size.filter(|size| self.limits.hold(*size)) {
            Some(size) => *at_most = Some(size),
            None => *at_most = Some(self.trim()?),
        }
        Ok(())
    }

    /// Written aside and renamed, so that nobody ever reads half of it.
    fn write(&self, policy: &StsPolicy) -> Result<Stamp, StoreFault> {
        let path = self.path(&policy.domain);
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let aside = self.folder.join(format!("{UNFINISHED}{}-{number}", std::process::id()));
        let written = make_folder(&self.folder).and_then(|()| kept::replace(&path, &aside, &encode(policy)?));
        written.map(|metadata| Stamp::from(&metadata)).map_err(|error| disk(&path, &error))
    }

    /// Forgets a policy.
    pub fn remove(&self, domain: &Domain) {
        self.known().remove(domain);
        // Gone already, or the next start finds it expired again.
        let _gone = fs::remove_file(self.path(domain));
    }

    /// All policies, in the order of their domains, and what could not be read.
    #[must_use]
    pub fn all(&self) -> (Vec<Arc<StsPolicy>>, Vec<StoreFault>) {
        let mut domains: Vec<Domain> = self.files().into_iter().map(|(domain, _length)| domain).collect();
        domains.extend(self.known().keys().cloned());
        domains.sort_unstable();
        domains.dedup();
        let (mut policies, mut faults) = (Vec::new(), Vec::new());
        for domain in domains {
            match self.get(&domain) {
                Ok(policy) => policies.extend(policy),
                Err(fault) => faults.push(fault),
            }
        }
        (policies, faults)
    }

    fn files(&self) -> Vec<(Domain, u64)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let file = |entry: fs::DirEntry| {
            let domain = entry.file_name().to_str()?.parse().ok()?;
            Some((domain, entry.metadata().ok().filter(fs::Metadata::is_file)?.len()))
        };
        entries.filter_map(file).collect()
    }

    /// Where there are too many, those go first that say there is no policy, then those that
    /// would expire first. Gives what is left.
    fn trim(&self) -> Result<Size, StoreFault> {
        let files = self.files();
        let mut size = Size { entries: files.len(), bytes: files.iter().map(|(_domain, length)| length).sum() };
        if self.limits.hold(size) {
            return Ok(size);
        }
        let (mut policies, faults) = self.all();
        policies.sort_by_key(|policy| (policy.terms.mode != Mode::None, policy.expires_at()));
        let length_of: BTreeMap<&Domain, u64> = files.iter().map(|(domain, length)| (domain, *length)).collect();
        for policy in policies {
            if self.limits.with_room().hold(size) {
                break;
            }
            self.remove(&policy.domain);
            size.entries = size.entries.saturating_sub(1);
            size.bytes = size.bytes.saturating_sub(length_of.get(&policy.domain).copied().unwrap_or(0));
        }
        faults.into_iter().next().map_or(Ok(size), Err)
    }
}

/// The one that would expire first.
fn forget_one_of_many_unwritten(known: &mut BTreeMap<Domain, Known>) {
    let unwritten = || known.values().filter(|known| known.stamp.is_none()).map(|known| &known.policy);
    if unwritten().count() >= UNWRITTEN_LIMIT {
        let first = unwritten().min_by_key(|policy| policy.expires_at()).map(|policy| policy.domain.clone());
        first.and_then(|domain| known.remove(&domain));
    }
}

fn remembered(known: &BTreeMap<Domain, Known>, domain: &Domain) -> Option<Arc<StsPolicy>> {
    known.get(domain).map(|known| Arc::clone(&known.policy))
}

fn disk(path: &Path, error: &io::Error) -> StoreFault {
    StoreFault::Disk { path: path.display().to_string(), detail: error.to_string() }
}

/// The spool itself is not made here: an operator, who may be another user, must not be the first
/// to make it.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    if let Some(spool) = folder.parent() {
        kept::belongs_with(folder, spool);
    }
    Ok(())
}

fn encode(policy: &StsPolicy) -> io::Result<Vec<u8>> {
    kept::seal(&Kept {
        version: VERSION,
        domain: policy.domain.clone(),
        id: policy.id.clone(),
        fetched_at: policy.fetched_at,
        refresh_failure: policy.refresh_failure.clone(),
        text: policy.text.clone(),
    })
}

fn decode(domain: &Domain, file: &[u8]) -> Result<StsPolicy, String> {
    let kept: Kept = kept::unseal(file)?;
    if kept.version != VERSION {
        return Err(format!("its version is {}", kept.version));
    }
    if kept.domain != *domain {
        return Err(format!("it is the policy of {}", kept.domain));
    }
    let policy = StsPolicy::read(kept.domain, kept.id, kept.text.into_bytes(), kept.fetched_at);
    let policy = policy.map_err(|e| e.to_string())?;
    Ok(StsPolicy { refresh_failure: kept.refresh_failure, ..policy })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_795_261_468_000);

    fn policy(domain: &str, mode: &str, max_age: u64) -> Arc<StsPolicy> {
        let text = format!("version: STSv1\r\nmode: {mode}\r\nmx: *.test\r\nmax_age: {max_age}\r\n");
        let id = Some(PolicyId::try_from("1".to_owned()).unwrap());
        Arc::new(StsPolicy::read(domain.parse().unwrap(), id, text.into_bytes(), NOW).unwrap())
    }

    fn kept(store: &Store) -> Vec<String> {
        store.all().0.iter().map(|policy| policy.domain.to_string()).collect()
    }

    #[test]
    fn rfc8461_5_1_policies_survive_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let failure = RefreshFailure { at: NOW, result_type: "sts-webpki-invalid".into(), sentence: "no".into() };
        let first = policy("a.test", "enforce", 1000);
        let second = Arc::new(StsPolicy { refresh_failure: Some(failure), id: None, ..(*first).clone() });
        let third = policy(&format!("{0}.{0}.{0}.{1}", "x".repeat(63), "y".repeat(61)), "testing", 9);
        for policy in [&first, &second, &third] {
            Store::new(folder.path(), LIMITS).put(policy).unwrap();
            assert_eq!(Store::new(folder.path(), LIMITS).get(&policy.domain), Ok(Some(Arc::clone(policy))));
        }
        let files = fs::read_dir(folder.path().join(FOLDER)).unwrap().count();
        assert_eq!(files, 2, "nothing unfinished stays behind");
    }

    #[test]
    fn rfc8461_10_2_a_full_store_lets_go_of_no_policies_then_of_the_first_to_expire() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), Size { entries: 2, bytes: u64::MAX });
        for (domain, mode, max_age) in
            [("long.test", "enforce", 900), ("none.test", "none", 999), ("short.test", "testing", 9)]
        {
            store.put(&policy(domain, mode, max_age)).unwrap();
        }
        assert_eq!(kept(&store), ["long.test", "short.test"]);
        store.put(&policy("middle.test", "enforce", 99)).unwrap();
        assert_eq!(kept(&store), ["long.test", "middle.test"]);
        assert_eq!(kept(&Store::new(folder.path(), LIMITS)), ["long.test", "middle.test"]);
    }

    #[test]
    fn rfc8461_10_2_a_store_is_bounded_in_octets_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let one = encode(&policy("a.test", "enforce", 10)).unwrap().len() as u64;
        let store = Store::new(folder.path(), Size { entries: 100, bytes: 3 * one - 1 });
        for (n, name) in ["a.test", "b.test", "c.test", "d.test"].iter().enumerate() {
            store.put(&policy(name, "enforce", 10 + n as u64)).unwrap();
        }
        assert_eq!(kept(&store), ["c.test", "d.test"]);
    }

    #[test]
    fn rfc8461_10_2_a_full_store_makes_room_for_more_than_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), Size { entries: 32, bytes: u64::MAX });
        let put = |n: u64| store.put(&policy(&format!("d{n}.test"), "enforce", 10 + n)).unwrap();
        (0..32).for_each(put);
        assert_eq!(kept(&store).len(), 32);
        put(32);
        assert_eq!(kept(&store).len(), 30);
        (33..35).for_each(put);
        assert_eq!(kept(&store).len(), 32);
        // What was there before counts, whoever wrote it; what is replaced counts once.
        let other = Store::new(folder.path(), Size { entries: 32, bytes: u64::MAX });
        (0..40).for_each(|_| other.put(&policy("d34.test", "enforce", 99)).unwrap());
        assert_eq!(kept(&other).len(), 32);
        other.put(&policy("new.test", "enforce", 99)).unwrap();
        assert_eq!(kept(&other).len(), 30);
    }

    #[test]
    fn rfc8461_10_2_a_disk_that_refuses_makes_memory_no_store_without_bounds() {
        let store = Store::new(&tempfile::tempdir().unwrap().path().join("gone"), LIMITS);
        for number in 0..=UNWRITTEN_LIMIT as u64 {
            assert!(store.put(&policy(&format!("{number}.test"), "enforce", 10 + number)).is_err());
        }
        assert_eq!(store.known().len(), UNWRITTEN_LIMIT);
        let is_known = |domain: &str| store.get(&domain.parse().unwrap()).unwrap().is_some();
        assert_eq!((is_known("0.test"), is_known(&format!("{UNWRITTEN_LIMIT}.test"))), (false, true));
    }

    #[test]
    fn what_is_removed_is_gone_for_everybody() {
        let folder = tempfile::tempdir().unwrap();
        let (store, other) = (Store::new(folder.path(), LIMITS), Store::new(folder.path(), LIMITS));
        let policy = policy("a.test", "enforce", 10);
        store.put(&policy).unwrap();
        assert!(other.get(&policy.domain).unwrap().is_some());
        store.remove(&policy.domain);
        assert_eq!((store.get(&policy.domain), other.get(&policy.domain)), (Ok(None), Ok(None)));
    }

    #[test]
    fn any_damaged_octet_is_noticed() {
        let policy = policy("a.test", "enforce", 10);
        let good = encode(&policy).unwrap();
        assert_eq!(decode(&policy.domain, &good).as_ref(), Ok(&*policy));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            assert!(decode(&policy.domain, &bad).is_err(), "octet {at}");
            assert!(decode(&policy.domain, &good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_younger_policy_in_memory_outlasts_an_older_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), LIMITS);
        let old = policy("a.test", "enforce", 1000);
        store.put(&old).unwrap();
        let new = Arc::new(StsPolicy { fetched_at: NOW.plus(Duration::from_secs(1)), ..(*old).clone() });
        let mut known = store.known();
        store.remember(&mut known, &new, None);
        drop(known);
        assert_eq!(store.get(&old.domain), Ok(Some(new)));
    }
}
