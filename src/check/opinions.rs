//! A second opinion about an answer that does not prove itself: the same question, validated, by
//! ways that the broken one has no part in (RFC 4035 §5).

use super::evidence::{LookupVerdict, SecondOpinion};
use crate::clock::Clock;
use crate::config::{Config, DnsMode, Upstream};
use crate::outcome::{Cause, Question};
use crate::resolve::Security;
use crate::resolve::answer::{Answer, RecordType};
use crate::resolve::driver::Dns;
use crate::resolve::event;
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::timeout;

/// Opinions that are asked for: one from the zone's own servers, some from references.
const OPINIONS_LIMIT: usize = 3;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// Asks the zone's own servers and the references.
pub(super) async fn ask(config: &Config, question: &Question, clock: &Clock) -> Vec<SecondOpinion> {
    let Some(record_type) = type_of(question) else { return Vec::new() };
    let ways = std::iter::once(Upstream::Authoritative).chain(config.check.references.iter().cloned());
    let opinions = ways.take(OPINIONS_LIMIT).map(|way| async move {
        let by = way.to_string();
        let mut alone = config.clone();
        (alone.dns.upstreams, alone.dns.mode) = (vec![way], DnsMode::Validate);
        let dns = Dns::new(&alone, clock.clone(), event::nobody()).ok()?;
        let looked = timeout(PATIENCE, dns.lookup(&question.name, record_type)).await;
        let said = looked.map_or(LookupVerdict::Nothing, |(answer, _trace)| said(&answer));
        Some(SecondOpinion { by, said })
    });
    join_all(opinions).await.into_iter().flatten().collect()
}

fn type_of(question: &Question) -> Option<RecordType> {
    let all = [RecordType::A, RecordType::Aaaa, RecordType::Mx, RecordType::Tlsa, RecordType::Txt];
    all.into_iter().find(|record_type| record_type.word() == question.record_type)
}

const fn said(answer: &Answer) -> LookupVerdict {
    match answer {
        Answer::Found(found) => of(found.security),
        Answer::NoData(security) | Answer::NxDomain(security) => of(*security),
        Answer::Failed(Cause::DnsBogus { .. }) => LookupVerdict::Bogus,
        Answer::Failed(_) => LookupVerdict::Nothing,
    }
}

const fn of(security: Security) -> LookupVerdict {
    match security {
        Security::Secure | Security::Insecure => LookupVerdict::Valid,
        Security::Bogus => LookupVerdict::Bogus,
        Security::Indeterminate => LookupVerdict::Nothing,
    }
}
