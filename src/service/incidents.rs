//! Incidents of a running relay: one of the domains that fail is looked at as `relay check` does it,
//! affected domains are tried again as delivery does it, and what comes of it goes into the ledger, the
//! log, the metrics and one mail to the postmaster.
//!
//! Bounded: one diagnosis for a suspicion, no packet for a dismissed one before its time, and while an
//! incident is open three domains every fifteen seconds, later every three quarters of a minute.

use crate::check::analyse::Diagnosis;
use crate::check::{CheckReport, Checker, selfcheck};
use crate::outcome::Side;
use crate::pipeline::incidents::{IncidentChange, Judgement, ProbeOrder, Suspicion};
use crate::pipeline::{Pipeline, Pipelines};
use crate::smtp::address::Domain;
use crate::spool::incident::{FailureKind, Incident, bounded};
use crate::spool::open_ledger;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether there is anything to do; looking costs no packet.
const TICK: Duration = Duration::from_secs(1);

/// How long the diagnosis of one domain may take; a usual one takes ten seconds.
const DIAGNOSIS_LIMIT: Duration = Duration::from_secs(25);

/// How long it may take to try what delivery does for one domain.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// Ended incidents that are looked at when the relay starts.
const KNOWN_AT_START: usize = 50;

/// Looks after incidents until the stop.
pub(crate) async fn watch(pipelines: Pipelines, stop: CancellationToken) {
    let latest = || Arc::clone(&pipelines.borrow());
    take_up(&latest()).await;
    while stop.run_until_cancelled(tokio::time::sleep(TICK)).await.is_some() {
        let pipeline = latest();
        let now = pipeline.out.clock.now();
        for (check, seen) in pipeline.observer.incidents.take_checks() {
            pipeline.incidents.tracker().checked(check, seen.status, &seen.detail, now);
        }
        if pipeline.incidents.tracker().wants_check(now) {
            aside(&stop, look_at_host(Arc::clone(&pipeline)));
        }
        let suspicious = pipeline.out.config.incidents.domains;
        let suspicion = pipeline.incidents.tracker().suspicion(suspicious, now);
        if let Some(suspicion) = suspicion {
            aside(&stop, look_at(Arc::clone(&pipeline), suspicion));
        }
        let orders = pipeline.incidents.tracker().take_probes(now);
        for order in orders {
            aside(&stop, try_again(Arc::clone(&pipeline), order));
        }
        let changes = pipeline.incidents.tracker().take_changes(now);
        for change in changes {
            tell(&pipeline, change).await;
        }
    }
}

fn aside(stop: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    tokio::spawn(async move {
        let _done_or_stopped = stop.run_until_cancelled(work).await;
    });
}

/// What was open when the relay stopped is open.
async fn take_up(pipeline: &Pipeline) {
    let known = async { open_ledger(&pipeline.out.config.spool).await?.incidents(KNOWN_AT_START).await };
    match known.await {
        Ok(known) => pipeline.incidents.tracker().restore(known, pipeline.out.clock.now()),
        Err(error) => pipeline.observer.spool_failed("read the incidents", &error),
    }
    set_open(pipeline);
    // A crash may have come between the record and the mail.
    let open: Vec<Incident> = pipeline.incidents.tracker().open_incidents().cloned().collect();
    for incident in &open {
        tell_postmaster(pipeline, incident).await;
    }
}

fn set_open(pipeline: &Pipeline) {
    let tracker = pipeline.incidents.tracker();
    pipeline.observer.incidents.set_open(tracker.open_incidents());
}

/// Whether the check that opened an incident passes again.
async fn look_at_host(pipeline: Arc<Pipeline>) {
    let Ok(seen) = timeout(DIAGNOSIS_LIMIT, Box::pin(selfcheck::look(&pipeline.out))).await else { return };
    for one in seen {
        pipeline.observer.self_check(one.check, one.number(), &one.detail);
    }
}

/// One diagnosis of one domain, as an administrator would begin.
async fn look_at(pipeline: Arc<Pipeline>, suspicion: Suspicion) {
    let report = Box::pin(diagnosed(&pipeline, &suspicion.domain)).await;
    let (now, mut tracker) = (pipeline.out.clock.now(), pipeline.incidents.tracker());
    match report {
        Some(report) if report.evidence.delivery.cause.is_none() => tracker.is_well(&suspicion, now),
        Some(report) => tracker.judged(&suspicion.kind, Some(judgement(&report)), now),
        None => tracker.judged(&suspicion.kind, None, now),
    }
}

async fn diagnosed(pipeline: &Pipeline, domain: &str) -> Option<CheckReport> {
    let domain: Domain = domain.parse().ok()?;
    let checker = Checker::new((*pipeline.out.config).clone(), pipeline.out.clock.clone()).ok()?;
    timeout(DIAGNOSIS_LIMIT, Box::pin(checker.check(&domain))).await.ok()
}

/// What a diagnosis says of an incident.
fn judgement(report: &CheckReport) -> Judgement {
    let Diagnosis { side, certainty, word, also, decide, sentence, proof, hand_over, bridge, advice, do_not, .. } =
        &report.diagnosis;
    let to_do = [
        bridge.as_ref().map(|bridge| format!("meanwhile: {bridge}")),
        advice.clone(),
        decide.as_ref().map(|decide| format!("to be sure: {decide}")),
        do_not.as_ref().map(|do_not| format!("do not: {do_not}")),
    ];
    let of = format!("seen with {}", report.domain);
    Judgement {
        cause: word.clone(),
        also: also.clone(),
        side: side.unwrap_or(Side::Path),
        certainty: *certainty,
        sentence: sentence.clone(),
        evidence: bounded([of].into_iter().chain(proof.iter().cloned()).chain(hand_over.iter().cloned())),
        what_to_do: to_do.into_iter().flatten().collect(),
    }
}

/// Whether some affected domains still fail, by what delivery itself would do.
async fn try_again(pipeline: Arc<Pipeline>, order: ProbeOrder) {
    let checker = Checker::over(pipeline.out.clone());
    let mut still = Vec::new();
    for domain in &order.domains {
        if Box::pin(still_fails(&checker, domain, &order.kind)).await {
            still.push(domain.clone());
            // One is enough to know that it goes on.
            break;
        }
    }
    pipeline.incidents.tracker().probed(&order, &still, pipeline.out.clock.now());
}

async fn still_fails(checker: &Checker, domain: &str, kind: &FailureKind) -> bool {
    // What nobody can look at goes on until mail to it goes out.
    let Ok(domain) = domain.parse::<Domain>() else { return true };
    let Ok(report) = timeout(PROBE_LIMIT, Box::pin(checker.check(&domain))).await else { return true };
    report.evidence.delivery.cause.as_ref().and_then(FailureKind::of).as_ref() == Some(kind)
}

async fn tell(pipeline: &Pipeline, change: IncidentChange) {
    match change {
        IncidentChange::Opened(incident) => {
            pipeline.observer.incidents.opened(&incident);
            keep(pipeline, &incident).await;
            tell_postmaster(pipeline, &incident).await;
        }
        IncidentChange::Updated(incident) => keep(pipeline, &incident).await,
        IncidentChange::Closed(incident, waiting) => {
            pipeline.observer.incidents.closed(&incident);
            keep(pipeline, &incident).await;
            // What waited for that is tried now.
            pipeline.after_incident(&waiting).await;
        }
    }
    set_open(pipeline);
}

/// One mail for an incident, however many messages it stops and however often it comes back.
async fn tell_postmaster(pipeline: &Pipeline, incident: &Incident) {
    if incident.told.is_some() {
        return;
    }
    match pipeline.tell_of_incident(incident).await {
        Ok(()) => {
            let told = pipeline.incidents.tracker().told(incident.id, pipeline.out.clock.now());
            if let Some(told) = told {
                keep(pipeline, &told).await;
            }
        }
        Err(error) => pipeline.observer.spool_failed("tell the postmaster of an incident", &error),
    }
}

async fn keep(pipeline: &Pipeline, incident: &Incident) {
    if let Err(error) = pipeline.spool.record_incident(incident).await {
        pipeline.observer.spool_failed("record an incident", &error);
    }
}
