//! `relay dkim check`: whether the keys of a domain are published as they are used (RFC 6376 §3.6), by the
//! DNS that delivers mail.

mod driver;

pub use driver::{KeyPlaces, check, key_files};
pub(in crate::check) use driver::{signing_rules, texts};

use super::verdict::Verdict;
use crate::clock::Timestamp;
use crate::smtp::address::Domain;
use crate::smtp::dkim::{DkimKey, DkimKeyType, DkimRecord};
use crate::text::{counted, paragraph};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// After this a key is due to be replaced: a key that leaks is used for so long at the most.
const OLD: Duration = Duration::from_secs(365 * 86_400);

/// What stands where the record of a key is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishedKey {
    /// The key itself.
    Same,
    /// Another key.
    Other,
    /// It was withdrawn (`p=` without a value).
    Withdrawn,
    /// Nothing.
    Absent,
    /// More than one record: which one counts is left to the verifier (RFC 6376 §3.6.2.2).
    Several,
    /// A record that verifiers cannot use.
    Faulty(String),
    /// An answer that does not validate.
    Bogus(String),
    /// No usable answer.
    Unknown(String),
}

/// What the DNS says of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::check) struct RecordSeen {
    /// The texts of its TXT records, or why there is no answer.
    pub(in crate::check) texts: Result<Vec<String>, PublishedKey>,
    /// What DNSSEC says of the answer.
    pub(in crate::check) dnssec: Option<&'static str>,
}

/// One key with its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DkimKeyCheck {
    /// `d=`
    pub domain: Domain,
    /// `s=`
    pub selector: String,
    /// Whether a `[[dkim.key]]` names it.
    pub in_use: bool,
    /// The file of the private key; none where it is a credential and there are none here.
    pub key_file: Option<PathBuf>,
    /// What kind of key it is; none where it cannot be read.
    pub key_type: Option<DkimKeyType>,
    /// When the file was written.
    pub made_at: Option<Timestamp>,
    /// Where the record is.
    pub record_name: String,
    /// What stands there.
    pub published: PublishedKey,
    /// What DNSSEC says of the answer.
    pub dnssec: Option<&'static str>,
    /// What has to be done, or may be.
    pub notes: Vec<String>,
    /// What all this comes to.
    pub status: Verdict,
}

/// All keys of a domain.
#[derive(Clone, Debug, Serialize)]
pub struct DkimReport {
    /// The domain asked about.
    pub domain: Domain,
    /// The worst of them.
    pub status: Verdict,
    /// Its keys; none where its mail is not signed.
    pub keys: Vec<DkimKeyCheck>,
}

impl DkimReport {
    fn of(domain: Domain, keys: Vec<DkimKeyCheck>) -> Self {
        let worst = keys.iter().map(|key| key.status).max_by_key(|status| status.weight());
        Self { domain, status: worst.unwrap_or(Verdict::Warning), keys }
    }

    /// The lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}  DKIM keys of {}\n", self.status.word(), self.domain);
        if self.keys.is_empty() {
            text += "  No key is there: relay dkim new makes one.\n";
        }
        for key in &self.keys {
            let kind = key.key_type.map_or("unreadable", DkimKeyType::word);
            let used = if key.in_use { "signs" } else { "in no [[dkim.key]]" };
            text += &format!("  {:13}{} {kind}, {used}\n", key.status.word(), key.record_name);
            let mut line = |label: &str, said: &str| text += &paragraph(&format!("    {label:11}"), said, 15);
            line("record", &key.published.words());
            line("dnssec", key.dnssec.unwrap_or("not known"));
            if let Some(file) = &key.key_file {
                let made = key.made_at.map(|at| format!(", written {}", at.to_second())).unwrap_or_default();
                line("key", &format!("{}{made}", file.display()));
            }
            key.notes.iter().for_each(|note| line("note", note));
        }
        text
    }
}

impl PublishedKey {
    /// What it says to people.
    pub(in crate::check) fn words(&self) -> String {
        match self {
            Self::Same => "the key is published".to_owned(),
            Self::Other => "another key is published".to_owned(),
            Self::Withdrawn => "the key was withdrawn (p= is empty)".to_owned(),
            Self::Absent => "nothing is published".to_owned(),
            Self::Several => "several records are published, and verifiers may take any".to_owned(),
            Self::Faulty(why) => format!("what is published is no key record: {why}"),
            Self::Bogus(why) => format!("the answer does not validate: {why}"),
            Self::Unknown(why) => format!("no usable answer: {why}"),
        }
    }

    /// What a key that signs comes to with this.
    pub(in crate::check) const fn verdict(&self) -> Verdict {
        match self {
            Self::Same => Verdict::Ok,
            Self::Unknown(_) => Verdict::Inconclusive,
            Self::Other | Self::Withdrawn | Self::Absent | Self::Several | Self::Faulty(_) | Self::Bogus(_) => {
                Verdict::Fault
            }
        }
    }
}

/// Holds the texts of a name against the key that is used.
pub(in crate::check) fn compare(key: &DkimKey, texts: &[String]) -> (PublishedKey, Vec<String>) {
    let (Some(text), None) = (texts.first(), texts.get(1)) else {
        return (if texts.is_empty() { PublishedKey::Absent } else { PublishedKey::Several }, Vec::new());
    };
    let record = match DkimRecord::parse(text) {
        Ok(record) => record,
        Err(fault) => return (PublishedKey::Faulty(fault.to_string()), Vec::new()),
    };
    let mut notes = Vec::new();
    if record.is_test {
        notes.push("t=y in the record tells verifiers to treat the mail as if it were not signed: take it out".into());
    }
    let published = match record.public {
        None => PublishedKey::Withdrawn,
        Some(public) if public == key.public() && record.key_type == key.key_type() => PublishedKey::Same,
        Some(_) => PublishedKey::Other,
    };
    (published, notes)
}

/// Whether a key should make room for another.
fn age_note(made_at: Option<Timestamp>, now: Timestamp) -> Option<String> {
    let age = now.since(made_at?);
    let days = counted(age.as_secs() / 86_400, "day");
    (age > OLD).then(|| {
        format!("the key is {days} old: make another one (relay dkim new), publish it, let both sign for a week")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6376_3_6_a_record_is_the_key_or_it_is_told_what_it_is() {
        let (key, other) = (DkimKey::generate(DkimKeyType::Ed25519), DkimKey::generate(DkimKeyType::Ed25519));
        let (key, other) = (key.unwrap(), DkimRecord::text_for(&other.unwrap()));
        let own = DkimRecord::text_for(&key);
        let of = |texts: &[&str]| compare(&key, &texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[&own]), (PublishedKey::Same, Vec::new()));
        assert_eq!(of(&[&other]).0, PublishedKey::Other);
        assert_eq!(of(&[&own.replace("ed25519", "rsa")]).0, PublishedKey::Other);
        assert_eq!(of(&["v=DKIM1; k=ed25519; p="]).0, PublishedKey::Withdrawn);
        assert_eq!(of(&[]).0, PublishedKey::Absent);
        assert_eq!(of(&[&own, &own]).0, PublishedKey::Several);
        assert!(matches!(of(&["v=DKIM1; k=ed25519"]).0, PublishedKey::Faulty(_)));
        assert_eq!(of(&[&own.replacen("k=", "t=y; k=", 1)]).1.len(), 1);
    }

    #[test]
    fn a_key_of_more_than_a_year_is_told() {
        let day = |n: i64| Timestamp(n * 86_400_000);
        assert_eq!(age_note(Some(day(0)), day(365)), None);
        assert!(age_note(Some(day(0)), day(366)).unwrap().contains("366 days old"));
        assert_eq!(age_note(Some(day(9)), day(1)), None, "a clock that was set back");
    }
}
