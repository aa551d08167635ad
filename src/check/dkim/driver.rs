//! Reads the keys and asks for their records.

use super::{DkimKeyCheck, DkimReport, PublishedKey, RecordSeen, age_note, compare};
use crate::check::verdict::Verdict;
use crate::clock::Timestamp;
use crate::config::files::read_regular;
use crate::config::{Config, DkimKeyRule, is_selector};
use crate::deliver::dkim::store::path_of;
use crate::pipeline::outbound::Outbound;
use crate::resolve::dnssec::Outcome;
use crate::resolve::driver::LookupFailure;
use crate::smtp::address::Domain;
use crate::smtp::dkim::{DOMAIN_KEY, DkimKey};
use futures_util::future::join_all;
use hickory_proto::rr::{Name, RData, RecordType};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The most files of one folder that are looked at.
const FILES_LIMIT: usize = 1000;

/// Where further keys may be, beside those of the configuration.
#[derive(Clone, Debug, Default)]
pub struct KeyPlaces {
    /// Folders with files called `DOMAIN.SELECTOR.pem`.
    pub folders: Vec<PathBuf>,
}

/// One key to look at.
struct KeyToCheck {
    domain: Domain,
    selector: String,
    in_use: bool,
    file: Option<PathBuf>,
}

/// Compares all keys of a domain with what is published.
pub async fn check(out: &Outbound, domain: &Domain, places: &KeyPlaces) -> DkimReport {
    let mut keys: Vec<KeyToCheck> = signing_rules(&out.config, domain).map(of_rule).collect();
    for (selector, file) in places.folders.iter().flat_map(|folder| key_files(folder, domain)) {
        if !keys.iter().any(|key| key.domain == *domain && key.selector == selector) {
            keys.push(KeyToCheck { domain: domain.clone(), selector, in_use: false, file: Some(file) });
        }
    }
    let checks = join_all(keys.into_iter().map(|key| check_key(out, key))).await;
    DkimReport::of(domain.clone(), checks)
}

fn of_rule(rule: &DkimKeyRule) -> KeyToCheck {
    let (domain, selector) = (rule.domain.clone(), rule.selector.clone());
    KeyToCheck { domain, selector, in_use: true, file: path_of(rule) }
}

/// The rules that mail of a domain is signed by: its own, or those of the closest domain above that covers it.
pub(in crate::check) fn signing_rules<'c>(
    config: &'c Config,
    domain: &Domain,
) -> impl Iterator<Item = &'c DkimKeyRule> {
    let all = &config.dkim.key;
    let above = std::iter::successors(Some(domain.as_str()), |name| name.split_once('.').map(|(_, parent)| parent));
    let mut signers = above
        .enumerate()
        .filter(|(nth, name)| all.iter().any(|rule| rule.domain.as_str() == *name && (*nth == 0 || rule.subdomains)));
    let signer = signers.next().map(|(_, name)| name.to_owned());
    all.iter().filter(move |rule| signer.as_deref() == Some(rule.domain.as_str()))
}

/// The keys of a domain in a folder, by the names of their files.
#[must_use]
pub fn key_files(folder: &Path, domain: &Domain) -> Vec<(String, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let of_domain = |path: PathBuf| {
        let name = path.file_name()?.to_str()?;
        let selector = name.strip_prefix(domain.as_str())?.strip_prefix('.')?.strip_suffix(".pem")?;
        let is_ours = is_selector(selector).is_ok() && !selector.contains('.');
        is_ours.then(|| (selector.to_owned(), path.clone()))
    };
    let files = entries.take(FILES_LIMIT).filter_map(|entry| of_domain(entry.ok()?.path()));
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

async fn check_key(out: &Outbound, key: KeyToCheck) -> DkimKeyCheck {
    let KeyToCheck { domain, selector, in_use, file } = key;
    let record_name = format!("{selector}.{DOMAIN_KEY}.{domain}");
    let mut notes = Vec::new();
    let read = match &file {
        None => Err("it is a credential, and only the service has it".to_owned()),
        Some(path) => read_regular(path)
            .map_err(|error| error.to_string())
            .and_then(|pem| DkimKey::from_pem(&pem).map_err(|error| error.to_string())),
    };
    let made_at = file.as_deref().and_then(written_at);
    let seen = texts(out, &record_name).await;
    let published = match (&read, seen.texts) {
        (_, Err(none)) => none,
        (Ok(key), Ok(texts)) => {
            let (published, more) = compare(key, &texts);
            notes.extend(more);
            published
        }
        (Err(_), Ok(texts)) if texts.is_empty() => PublishedKey::Absent,
        (Err(why), Ok(_)) => PublishedKey::Unknown(format!("the key cannot be compared: {why}")),
    };
    if !in_use {
        notes.push("no [[dkim.key]] names it: it does not sign".to_owned());
    } else if published == PublishedKey::Absent {
        notes.push("mail is signed with it, and nobody can verify that: publish it, or take it out".to_owned());
    }
    notes.extend(age_note(made_at, out.clock.now()));
    let status = match published.verdict() {
        Verdict::Ok if notes.is_empty() => Verdict::Ok,
        Verdict::Fault if in_use => Verdict::Fault,
        Verdict::Ok | Verdict::Warning | Verdict::Fault => Verdict::Warning,
        Verdict::Inconclusive => Verdict::Inconclusive,
    };
    let key_type = read.ok().map(|key| key.key_type());
    let (key_file, dnssec) = (file, seen.dnssec);
    DkimKeyCheck {
        domain,
        selector,
        in_use,
        key_file,
        key_type,
        made_at,
        record_name,
        published,
        dnssec,
        notes,
        status,
    }
}

fn written_at(path: &Path) -> Option<Timestamp> {
    let modified = path.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(modified.as_millis()).ok().map(Timestamp)
}

/// The TXT records of a name.
pub(in crate::check) async fn texts(out: &Outbound, name: &str) -> RecordSeen {
    let unknown = |why: String| RecordSeen { texts: Err(PublishedKey::Unknown(why)), dnssec: None };
    let Ok(absolute) = Name::from_ascii(format!("{name}.")) else { return unknown(format!("{name} is no name")) };
    let lookup = out.dns.find(&absolute, RecordType::TXT).await;
    let validated = match &lookup.result {
        Ok(validated) => validated,
        Err(LookupFailure::Bogus(why)) => {
            return RecordSeen { texts: Err(PublishedKey::Bogus(why.clone())), dnssec: Some("bogus") };
        }
        Err(LookupFailure::Unavailable) => {
            return unknown(lookup.failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        }
    };
    let texts = match &validated.outcome {
        Outcome::Found { records, .. } => Ok(records.iter().filter_map(|record| text_of(&record.data)).collect()),
        Outcome::NoData { .. } | Outcome::NxDomain { .. } => Ok(Vec::new()),
        Outcome::ErrorCode(code) => Err(PublishedKey::Unknown(code.to_str().to_owned())),
    };
    RecordSeen { texts, dnssec: Some(validated.security.word()) }
}

fn text_of(data: &RData) -> Option<String> {
    if let RData::TXT(txt) = data {
        return Some(txt.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect());
    }
    None
}
