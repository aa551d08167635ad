//! What relays that share a spool tell each other every few seconds: policies of domains, how receiving hosts stand, and
//! what was counted against limits.
//!
//! No message waits for it, and nothing asks the store for one message. What cannot be told now is told later; a relay
//! that cannot hear of the others works on with what it knows itself.

use crate::policy::sts::driver::StsClient;
use crate::service::generation::Service;
use crate::spool::findings::{Finding, FindingMark, FindingOwner, FindingTopic, HeardFinding};
use crate::spool::{Lease, SpoolError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// From one exchange to the next.
const EXCHANGE_EVERY: Duration = Duration::from_secs(2);
/// Findings that wait to be told; the others find out themselves what is more.
const MOST_UNTOLD: usize = 50_000;
/// Told in one go.
const MOST_AT_ONCE: usize = 2000;
/// Pieces that are read in one go: there may be many at the start.
const MOST_PIECES: usize = 20;

/// For all that there is to hear at the start. A node that goes on without it fetches policies itself.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How far the exchange has come.
#[derive(Default)]
pub(super) struct FindingExchange {
    heard: FindingMark,
    untold: BTreeMap<(FindingTopic, String), Finding>,
    /// Of what keeps policies, the one that has told all that it keeps.
    told_all: Option<Arc<StsClient>>,
}

/// Hears what the others know, before any mail is taken up: the policy of a domain that a new node cannot fetch now is no
/// reason to send without it (RFC 8461 §5.1).
pub(super) async fn begin(service: &Service) -> FindingExchange {
    let mut exchange = FindingExchange::default();
    if service.pipeline().spool.lease() != Lease::Process {
        let hearing = async { while exchange.hear(service).await.is_ok() && exchange.heard.is_cut() {} };
        let _goes_on_later = tokio::time::timeout(START_PATIENCE, hearing).await;
    }
    exchange
}

/// Tells the others and hears of them, until the stop.
pub(super) async fn run(mut exchange: FindingExchange, service: Arc<Service>, stop: CancellationToken) {
    if service.pipeline().spool.lease() == Lease::Process {
        return;
    }
    while stop.run_until_cancelled(exchange.once(&service)).await.is_some() {
        if stop.run_until_cancelled(tokio::time::sleep(EXCHANGE_EVERY)).await.is_none() {
            return;
        }
    }
}

impl FindingExchange {
    async fn once(&mut self, service: &Service) {
        let exchanged = match self.hear(service).await {
            Ok(true) => self.tell(service).await,
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        match exchanged {
            Ok(()) | Err(SpoolError::Unreachable(_) | SpoolError::Stopped | SpoolError::Full) => {}
            Err(error) => service.pipeline().observer.spool_failed("exchange findings", &error),
        }
    }

    /// False where there is nobody to hear of.
    async fn hear(&mut self, service: &Service) -> Result<bool, SpoolError> {
        let spool = Arc::clone(&service.pipeline().spool);
        for _ in 0..MOST_PIECES {
            let Some(heard) = spool.hear_findings(self.heard.clone()).await? else { return Ok(false) };
            for finding in &heard.findings {
                if let Err(why) = take_over(service, finding).await {
                    let (topic, name) = (finding.finding.topic.name(), &finding.finding.name);
                    let told = format!("what another relay tells of {name} ({topic}) cannot be read: {why}");
                    service.pipeline().observer.spool_failed("take over a finding", &told);
                }
            }
            self.heard = heard.mark;
            if !self.heard.is_cut() {
                break;
            }
        }
        Ok(true)
    }

    async fn tell(&mut self, service: &Service) -> Result<(), SpoolError> {
        let (pipeline, acceptor) = (service.pipeline(), service.acceptor());
        let sts = &pipeline.out.sts;
        if !self.told_all.as_ref().is_some_and(|told| Arc::ptr_eq(told, sts)) {
            self.gather(sts.all_to_tell().await);
            self.told_all = Some(Arc::clone(sts));
        }
        self.gather(sts.untold());
        self.gather(pipeline.hosts.tell());
        self.gather(acceptor.tell_limits());
        while !self.untold.is_empty() {
            let some: Vec<Finding> = self.untold.values().take(MOST_AT_ONCE).cloned().collect();
            pipeline.spool.tell_findings(&some).await?;
            for finding in some {
                self.untold.remove(&(finding.topic, finding.name));
            }
        }
        Ok(())
    }

    fn gather(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            let key = (finding.topic, finding.name.clone());
            if self.untold.len() < MOST_UNTOLD || self.untold.contains_key(&key) {
                self.untold.insert(key, finding);
            }
        }
    }
}

async fn take_over(service: &Service, heard: &HeardFinding) -> Result<(), String> {
    match (heard.finding.topic, heard.owner) {
        (FindingTopic::StsPolicy, _) => service.pipeline().out.sts.take_over(&heard.finding).await,
        (FindingTopic::Host, FindingOwner::Other(by)) => service.pipeline().hosts.hear(by, &heard.finding),
        // What this relay saw before its start it sees again.
        (FindingTopic::Host, FindingOwner::Own | FindingOwner::All) => Ok(()),
        (FindingTopic::Limit, _) => service.acceptor().hear_limit(heard),
    }
}
