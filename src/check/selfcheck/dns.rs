//! What the ways to the DNS carry: what was seen lately, the canary zone, and names that this relay has had
//! answers for. "In general" says nothing: boxes lose answers by type and by number of records.

use super::SelfCheck;
use crate::check::verdict::Verdict;
use crate::check::{canary, history};
use crate::pipeline::outbound::Outbound;
use crate::resolve::answer::{Answer, RecordType};
use crate::resolve::paths::standing::PathStanding;
use crate::resolve::tlsa_counts::{KnownCount, TlsaCounts};
use crate::state_dir;
use futures_util::future::join_all;

/// Names of earlier answers that are asked for, of each kind.
const KNOWN_LIMIT: usize = 3;
/// The most records of an answer that every box met so far lets pass.
const USUAL_STEP: usize = 4;

/// How every path stands, by what it was asked for lately.
pub(super) fn resolver(out: &Outbound) -> SelfCheck {
    const CHECK: &str = "resolver";
    let named = |wanted: PathStanding| {
        let those = out.dns.standings().filter(|(_, standing)| *standing == wanted);
        those.map(|(path, _)| path.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (loses, put_back) = (named(PathStanding::Loses), named(PathStanding::PutBack));
    match (loses.is_empty(), put_back.is_empty()) {
        (false, _) => {
            let detail =
                format!("answers for several names were lost lately, and nobody had them: {loses}; {}", lately(out));
            SelfCheck::new(CHECK, Verdict::Fault, detail)
        }
        (true, false) => SelfCheck::new(CHECK, Verdict::Warning, format!("failed lately: {put_back}")),
        (true, true) => SelfCheck::new(CHECK, Verdict::Ok, format!("no path has failed lately; {}", lately(out))),
    }
}

/// What came lately, by type.
fn lately(out: &Outbound) -> String {
    let all = out.dns.lately();
    let tlsa = all.iter().flat_map(|(_, types)| types).filter(|seen| seen.record_type == "TLSA");
    let (came, lost) = tlsa.clone().fold((0, 0), |(came, lost), seen| (came + seen.came, lost + seen.lost));
    match tlsa.map(|seen| seen.most).max() {
        None => "no TLSA records were asked for".to_owned(),
        Some(most) => format!("TLSA: {came} names came, with up to {most} records, and {lost} did not"),
    }
}

/// The sets of the canary zone, past the cache.
pub(super) async fn canary(out: &Outbound) -> SelfCheck {
    const CHECK: &str = "canary";
    let Some(zone) = &out.config.check.canary else {
        return SelfCheck::not_looked_at(CHECK, "[check] canary names no zone");
    };
    let asked = canary::COUNTS.map(|count| async move { (count, came(out, &canary::tlsa_owner(zone, count)).await) });
    let seen = join_all(asked).await;
    let list = |is: fn(&(usize, Option<usize>)) -> bool| {
        seen.iter().filter(|one| is(one)).map(|(count, _)| count.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (whole, missing) = (list(|(count, came)| Some(*count) == *came), list(|(count, came)| Some(*count) != *came));
    match (whole.is_empty(), missing.is_empty()) {
        (_, true) => SelfCheck::new(CHECK, Verdict::Ok, format!("its sets of {whole} TLSA records come whole")),
        (true, false) => {
            let detail =
                format!("nothing of {zone} comes: is it published (relay canary zonefile {zone}), and signed?");
            SelfCheck::new(CHECK, Verdict::Warning, detail)
        }
        (false, false) => {
            let detail = format!(
                "its sets of {missing} TLSA records do not come, and those of {whole} come: something on the way to the \
                 DNS loses or cuts answers by their number"
            );
            SelfCheck::new(CHECK, Verdict::Fault, detail)
        }
    }
}

/// How many records come now.
async fn came(out: &Outbound, owner: &str) -> Option<usize> {
    match out.dns.lookup_fresh(owner, RecordType::Tlsa).await.0 {
        Answer::Found(found) => Some(found.data.len()),
        Answer::NoData(_) | Answer::NxDomain(_) => Some(0),
        Answer::Failed(_) => None,
    }
}

/// Names that had more records than boxes let pass, and names that had fewer: what this relay has sent mail by.
pub(super) async fn own_history(out: &Outbound) -> SelfCheck {
    const CHECK: &str = "history";
    let mut counts = TlsaCounts::default();
    let kept = history::read(state_dir::open(&out.config.spool).as_ref());
    kept.into_iter().chain(out.dns.tlsa_counts()).for_each(|known| counts.note(known));
    let (small, large): (Vec<KnownCount>, Vec<KnownCount>) =
        counts.all().into_iter().partition(|known| known.records <= USUAL_STEP);
    if large.is_empty() {
        return SelfCheck::not_looked_at(
            CHECK,
            "no domain with more than four TLSA records is known from earlier mail",
        );
    }
    let ask = |known: Vec<KnownCount>| async move {
        let asked =
            known.into_iter().take(KNOWN_LIMIT).map(|known| async move { came(out, &known.name).await.is_some() });
        let answered = join_all(asked).await;
        (answered.iter().filter(|came| **came).count(), answered.len())
    };
    let ((small_came, small_asked), (large_came, large_asked)) = tokio::join!(ask(small), ask(large));
    let detail = format!(
        "of {large_asked} names with more than four TLSA records {large_came} come, of {small_asked} with fewer \
         {small_came}"
    );
    let status = match (large_came, large_asked) {
        (came, asked) if came == asked => Verdict::Ok,
        // One zone may be dead by itself.
        (0, 2..) if small_came > 0 => Verdict::Fault,
        (_, _) => Verdict::Warning,
    };
    SelfCheck::new(CHECK, status, detail)
}
