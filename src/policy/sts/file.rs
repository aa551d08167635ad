//! What a file of the store holds (pure): a policy, or the end of one whose text was let go.
//!
//! Version 2 adds since when the domain is known and established, ends, and compression
//! (`state_dir/sealed.rs`); version 1 is still read. Whatever cannot be read says so: it never counts
//! as no policy.

use super::StsPolicy;
use super::record::PolicyId;
use super::{RefreshFailure, Tenure};
use crate::clock::Timestamp;
use crate::smtp::address::Domain;
use crate::state_dir::sealed as kept;
use serde::{Deserialize, Serialize};
use std::io;

/// Version of the files.
const VERSION: u32 = 2;
/// The oldest that is read.
const OLDEST_VERSION: u32 = 1;

/// A file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileContent {
    /// A policy.
    Policy(StsPolicy),
    /// An enforced policy holds until then; its text was let go.
    End(Timestamp, Tenure),
}

/// The content behind the checksum.
#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    domain: Domain,
    #[serde(default)]
    since: Option<Timestamp>,
    #[serde(default)]
    established: Option<Timestamp>,
    #[serde(default)]
    policy: Option<PolicyPart>,
    /// Instead of a policy.
    #[serde(default)]
    ends: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct PolicyPart {
    id: Option<PolicyId>,
    fetched_at: Timestamp,
    refresh_failure: Option<RefreshFailure>,
    text: String,
}

/// Version 1.
#[derive(Deserialize)]
struct FirstFile {
    version: u32,
    domain: Domain,
    #[serde(flatten)]
    policy: PolicyPart,
}

/// Only this, to tell which form it is.
#[derive(Deserialize)]
struct AnyFile {
    version: u32,
}

pub(super) fn encode(policy: &StsPolicy) -> io::Result<Vec<u8>> {
    kept::seal(&File {
        version: VERSION,
        domain: policy.domain.clone(),
        since: Some(policy.standing.since),
        established: policy.standing.established,
        policy: Some(PolicyPart {
            id: policy.id.clone(),
            fetched_at: policy.fetched_at,
            refresh_failure: policy.refresh_failure.clone(),
            text: policy.text.clone(),
        }),
        ends: None,
    })
}

pub(super) fn encode_end(domain: &Domain, ends: Timestamp, standing: Tenure) -> io::Result<Vec<u8>> {
    let (since, established) = (Some(standing.since), standing.established);
    kept::seal(&File { version: VERSION, domain: domain.clone(), since, established, policy: None, ends: Some(ends) })
}

/// # Errors
/// What is wrong with it.
pub(super) fn decode(domain: &Domain, octets: &[u8]) -> Result<FileContent, String> {
    let AnyFile { version } = kept::unseal(octets)?;
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(format!("its version is {version}"));
    }
    let file = if version == OLDEST_VERSION { first(kept::unseal(octets)?) } else { kept::unseal(octets)? };
    if file.domain != *domain {
        return Err(format!("it is the policy of {}", file.domain));
    }
    match (file.policy, file.ends) {
        (Some(part), _) => {
            let standing = Tenure { since: file.since.unwrap_or(part.fetched_at), established: file.established };
            let policy = StsPolicy::read(file.domain, part.id, part.text.into_bytes(), part.fetched_at);
            let policy = policy.map_err(|error| error.to_string())?;
            Ok(FileContent::Policy(StsPolicy { refresh_failure: part.refresh_failure, standing, ..policy }))
        }
        (None, Some(ends)) => {
            Ok(FileContent::End(ends, Tenure { since: file.since.unwrap_or(ends), established: file.established }))
        }
        (None, None) => Err("it has neither a policy nor an end".to_owned()),
    }
}

fn first(file: FirstFile) -> File {
    let FirstFile { version, domain, policy } = file;
    File { version, domain, since: None, established: None, policy: Some(policy), ends: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "version: STSv1\nmode: enforce\nmx: *.a.test\nmax_age: 86400\n";

    fn domain(name: &str) -> Domain {
        name.parse().unwrap()
    }

    fn policy() -> StsPolicy {
        let policy = StsPolicy::read(domain("a.test"), None, TEXT.into(), Timestamp(1000)).unwrap();
        StsPolicy { standing: Tenure { since: Timestamp(500), established: Some(Timestamp(900)) }, ..policy }
    }

    #[test]
    fn any_damaged_octet_is_noticed() {
        let long = StsPolicy { text: format!("{TEXT}{}", "mx: m.a.test\n".repeat(500)), ..policy() };
        let long = StsPolicy::read(long.domain, None, long.text.into_bytes(), Timestamp(1000)).unwrap();
        for policy in [policy(), long] {
            let good = encode(&policy).unwrap();
            assert_eq!(decode(&policy.domain, &good), Ok(FileContent::Policy(policy.clone())));
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 0x20;
                assert!(decode(&policy.domain, &bad).is_err(), "octet {at}");
                assert!(decode(&policy.domain, &good[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn ends_are_read_as_they_were_written() {
        let standing = Tenure { since: Timestamp(1), established: None };
        let end = encode_end(&domain("a.test"), Timestamp(77), standing).unwrap();
        assert_eq!(decode(&domain("a.test"), &end), Ok(FileContent::End(Timestamp(77), standing)));
        assert!(decode(&domain("b.test"), &end).is_err());
    }

    #[test]
    fn the_first_version_is_still_read_and_a_newer_one_is_not_taken_for_nothing() {
        let first = serde_json::json!({
            "version": 1, "domain": "a.test", "id": "7", "fetched_at": 1000, "refresh_failure": null, "text": TEXT,
        });
        let read = decode(&domain("a.test"), &kept::seal(&first).unwrap()).unwrap();
        let FileContent::Policy(read) = read else { panic!("{read:?}") };
        assert_eq!((read.text.as_str(), read.standing.since, read.standing.established), (TEXT, Timestamp(1000), None));
        for (newer, complaint) in [
            (serde_json::json!({ "version": 3, "domain": "a.test", "policy": "of another form" }), "its version is 3"),
            (serde_json::json!({ "version": 2, "domain": "a.test" }), "neither a policy nor an end"),
        ] {
            let said = decode(&domain("a.test"), &kept::seal(&newer).unwrap()).unwrap_err();
            assert!(said.contains(complaint), "{said}");
        }
    }
}
