//! Reading answers that a validating resolver on loopback has vouched for with the AD bit (pure)
//! (RFC 4035 §4.9.3, RFC 6840 §5.8).
//!
//! AD speaks for the whole message: with it everything is secure, without it nothing is. The
//! records of the answer are still walked from the question along the aliases; nothing else of
//! the message counts.

#![expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum of all record types")]

use super::Security;
use super::dnssec::{Alias, Outcome, Validated};
use super::paths::FetchError;
use crate::clock::Timestamp;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::collections::HashSet;
use std::time::Duration;

/// Aliases followed in one answer; more is a loop (resolvers stop between 8 and 16).
const ALIASES_LIMIT: usize = 16;

/// Reads a message.
///
/// # Errors
/// When it answers nothing.
pub(super) fn read(
    name: &Name,
    record_type: RecordType,
    message: &Message,
    now: Timestamp,
) -> Result<Validated, FetchError> {
    let security = if message.metadata.authentic_data { Security::Secure } else { Security::Insecure };
    let mut aliases: Vec<Alias> = Vec::new();
    let mut at = name.clone();
    let mut life_s = u32::MAX;
    for _hop in 0..=ALIASES_LIMIT {
        let here = || message.answers.iter().filter(|record| record.name == at);
        let of_type = || here().filter(|record| record.record_type() == record_type);
        life_s = of_type().fold(life_s, |life, record| life.min(record.ttl));
        let mut seen = HashSet::new();
        let records: Vec<Record> = of_type().filter(|record| seen.insert(&record.data)).cloned().collect();
        if !records.is_empty() {
            let outcome = Outcome::Found { records, name: at, aliases };
            return Ok(validated(security, outcome, now, life_s));
        }
        let alias = here().find_map(|record| match &record.data {
            RData::CNAME(target) => Some((target.0.clone(), record.ttl)),
            _ => None,
        });
        let Some((to, ttl)) = alias else {
            return denied(message, security, aliases, now, life_s);
        };
        life_s = life_s.min(ttl);
        aliases.push(Alias { from: at, to: to.clone(), security });
        at = to;
    }
    Err(FetchError::Broken("too many aliases".into()))
}

/// RFC 2308 §5: a denial holds for as long as its SOA says, and without one for no longer than
/// this look-up.
fn denied(
    message: &Message,
    security: Security,
    aliases: Vec<Alias>,
    now: Timestamp,
    life_s: u32,
) -> Result<Validated, FetchError> {
    let soa = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    if soa.is_none() && message.authorities.iter().any(|record| record.record_type() == RecordType::NS) {
        return Err(FetchError::Broken("a referral instead of an answer".into()));
    }
    let outcome = if message.metadata.response_code == ResponseCode::NXDomain {
        Outcome::NxDomain { aliases }
    } else {
        Outcome::NoData { aliases }
    };
    Ok(validated(security, outcome, now, life_s.min(soa.unwrap_or(0))))
}

fn validated(security: Security, outcome: Outcome, now: Timestamp, life_s: u32) -> Validated {
    // A TTL with the highest bit set counts as zero (RFC 2181 §8); the cache has the upper bound.
    let life_s = if life_s > u32::MAX >> 1 { 0 } else { life_s };
    let valid_until = now.plus(Duration::from_secs(u64::from(life_s)));
    Validated { security, reason: None, outcome, valid_until, chain: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::rdata::{A, CNAME, SOA};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn cname(owner: &str, target: &str) -> Record {
        Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
    }

    fn a(owner: &str) -> Record {
        Record::from_rdata(name(owner), 300, RData::A(A::new(192, 0, 2, 1)))
    }

    fn soa(ttl: u32, minimum: u32) -> Record {
        let data = SOA::new(name("ns.test."), name("root.test."), 1, 2, 3, 4, minimum);
        Record::from_rdata(name("test."), ttl, RData::SOA(data))
    }

    fn message(answers: Vec<Record>, authorities: Vec<Record>) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.authentic_data = true;
        message.add_answers(answers);
        message.add_authorities(authorities);
        message
    }

    fn life_s(validated: &Validated) -> i64 {
        validated.valid_until.unix_seconds()
    }

    fn read_a(message: &Message) -> Result<Validated, FetchError> {
        read(&name("a.test."), RecordType::A, message, Timestamp(0))
    }

    #[test]
    fn rfc1034_3_6_2_aliases_are_walked_from_the_question_whatever_their_order() {
        let answers = vec![a("c.test."), cname("b.test.", "c.test."), a("stray.test."), cname("a.test.", "b.test.")];
        let found = read_a(&message(answers, vec![])).unwrap();
        let Outcome::Found { records, name: end, aliases } = &found.outcome else { panic!("{found:?}") };
        assert_eq!((records.len(), end, aliases.len()), (1, &name("c.test."), 2));
        assert_eq!((life_s(&found), found.security), (60, Security::Secure));
    }

    #[test]
    fn rfc6840_5_8_without_ad_nothing_is_secure() {
        let mut plain = message(vec![a("a.test.")], vec![]);
        plain.metadata.authentic_data = false;
        assert_eq!(read_a(&plain).unwrap().security, Security::Insecure);
    }

    #[test]
    fn rfc2308_5_a_denial_lives_as_long_as_its_soa_says() {
        assert_eq!(life_s(&read_a(&message(vec![], vec![soa(900, 30)])).unwrap()), 30);
        assert_eq!(life_s(&read_a(&message(vec![], vec![soa(20, 30)])).unwrap()), 20);
        assert_eq!(life_s(&read_a(&message(vec![], vec![])).unwrap()), 0, "without SOA it is not kept");
    }

    #[test]
    fn a_loop_of_aliases_is_no_answer() {
        let answers = vec![cname("a.test.", "b.test."), cname("b.test.", "a.test.")];
        assert!(matches!(read_a(&message(answers, vec![])), Err(FetchError::Broken(_))));
    }
}
