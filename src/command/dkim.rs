//! `relay dkim new`: a key for the mail of a domain, and what is to be published for it (RFC 6376 §3.6.1).

use crate::clock::Timestamp;
use crate::smtp::address::Domain;
use crate::smtp::dkim::{DOMAIN_KEY, DkimKey, DkimKeyType, DkimRecord, zone_file_strings};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A key that was made, for those who publish it.
#[derive(Debug, Serialize)]
pub struct NewDkimKey {
    /// `d=`
    pub domain: Domain,
    /// `s=`
    pub selector: String,
    /// What kind of key it is.
    pub key_type: DkimKeyType,
    /// The file of the private key.
    pub key_file: PathBuf,
    /// Where the record belongs.
    pub record_name: String,
    /// The text of the record, in one piece.
    pub record: String,
    /// The record as a line of a zone file.
    pub zone_file: String,
}

/// The selector that a key has when none is said: by month and kind.
#[must_use]
pub fn usual_selector(key_type: DkimKeyType, now: Timestamp) -> String {
    let month: String = now.rfc3339().chars().filter(char::is_ascii_digit).take(6).collect();
    let kind = match key_type {
        DkimKeyType::Rsa => "",
        DkimKeyType::Ed25519 => "e",
    };
    format!("relay{month}{kind}")
}

impl NewDkimKey {
    /// What is said of a key.
    #[must_use]
    pub fn of(key: &DkimKey, domain: &Domain, selector: &str, file: &Path) -> Self {
        let record_name = format!("{selector}.{DOMAIN_KEY}.{domain}");
        let record = DkimRecord::text_for(key);
        let strings: Vec<String> = zone_file_strings(&record).iter().map(|one| format!("\"{one}\"")).collect();
        let zone_file = format!("{record_name}. IN TXT ( {} )", strings.join("\n    "));
        Self {
            domain: domain.clone(),
            selector: selector.to_owned(),
            key_type: key.key_type(),
            key_file: file.to_owned(),
            record_name,
            record,
            zone_file,
        }
    }

    /// The lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { domain, selector, key_file, record_name, record, zone_file, .. } = self;
        let mut text = format!("The private key is in {}; nobody else may read it.\n\n", key_file.display());
        let _infallible = write!(
            text,
            "1. Publish a TXT record at {record_name}\n   In a web form, in one piece:\n\n{record}\n\n   In a zone file:\n\n\
             {zone_file}\n\n2. See that it is there: relay dkim check {domain}\n\n\
             3. Put this into the configuration, and say relay reload:\n\n[[dkim.key]]\ndomain = \"{domain}\"\n\
             selector = \"{selector}\"\nkey_file = {key_file:?}\n"
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_an_rsa_key_is_split_for_zone_files_alone() {
        let domain = "office.example".parse().unwrap();
        let made = |key_type| {
            let key = DkimKey::generate(key_type).unwrap();
            let selector = usual_selector(key_type, Timestamp(1_795_261_468_000));
            NewDkimKey::of(&key, &domain, &selector, Path::new("/etc/relay/dkim/x.pem"))
        };
        let (rsa, small) = (made(DkimKeyType::Rsa), made(DkimKeyType::Ed25519));
        assert_eq!((rsa.selector.as_str(), small.selector.as_str()), ("relay202611", "relay202611e"));
        assert_eq!((rsa.zone_file.matches('"').count(), small.zone_file.matches('"').count()), (4, 2));
        assert_eq!(rsa.zone_file.split('"').filter(|part| part.len() > 9).map(str::len).max(), Some(255));
        assert!(rsa.text().contains(&format!("\n{}\n", rsa.record)), "{}", rsa.text());
        assert!(rsa.text().contains("selector = \"relay202611\"\nkey_file = \"/etc/relay/dkim/x.pem\"\n"));
    }
}
