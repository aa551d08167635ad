//! A list of next hops in a check: each host is looked at as if it were the only one, and what was seen
//! is put together, in the order of the list, as it is for several MX hosts (pure).

use super::Observed;
use super::observation::ProbedServer;
use crate::deliver::Planned;
use crate::route::Route;

/// What was seen of all of them, in their order. Whichever gets mail speaks for the others.
pub(super) fn together(seen: Vec<(Route, Observed)>) -> Option<Observed> {
    let is_good = |(_, looked): &(Route, Observed)| {
        looked.met.probed.iter().any(|probed| probed.probe.is_some() && probed.failure().is_none())
    };
    let speaker =
        seen.iter().position(is_good).or_else(|| seen.iter().position(|(_, looked)| looked.met.known.is_some()));
    let nobody_is_known = speaker.is_none();
    let mut all: Option<Observed> = None;
    let (mut hosts, mut traces, mut probed) = (Vec::new(), Vec::new(), Vec::new());
    for (place, (route, mut looked)) in seen.into_iter().enumerate() {
        if let Some(known) = &looked.met.known {
            hosts.extend(known.resolution.hosts.clone());
            traces.extend(known.resolution.traces.clone());
        }
        probed.append(&mut looked.met.probed);
        if !nobody_is_known && let Some(cause) = looked.met.stopped.take() {
            let step = Planned::Skip { host: route.hop.to_string(), cause };
            probed.push(ProbedServer { step, probe: None });
        }
        let speaks = speaker.unwrap_or(0) == place;
        all = Some(match all {
            None => looked,
            Some(before) if speaks => looked.and(before),
            Some(before) => before.and(looked),
        });
    }
    let mut all = all?;
    if let Some(known) = &mut all.met.known {
        (known.resolution.hosts, known.resolution.traces) = (hosts, traces);
    }
    all.met.probed = probed;
    Some(all)
}

impl Observed {
    /// With what was seen of another host that does not speak for both.
    fn and(mut self, other: Self) -> Self {
        self.troubled.extend(other.troubled);
        self.subject = self.subject.or(other.subject);
        self.dns.extend(other.dns);
        self.opinions.extend(other.opinions);
        self.servers.extend(other.servers);
        self.looked_again |= other.looked_again;
        self
    }
}
