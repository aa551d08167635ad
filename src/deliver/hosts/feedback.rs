//! What an attempt says about the receiving host, whatever it says about the message (pure;
//! RFC 5321 §4.5.4.1, RFC 3463 §3.4).

use crate::outcome::{Cause, DeliveryOutcome, Phase};
use crate::smtp::reply::Reply;

/// Service not available, closing the channel (RFC 5321 §4.2.2).
const CLOSING: u16 = 421;

/// What came of an attempt for the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// It took a message.
    Took,
    /// It answered; nothing follows for how it is approached.
    Answered,
    /// It wants less: 421, 4.3.2, 4.4.5, 4.7.x, or a connection that broke.
    WantsLess,
    /// It turned a connection away before anything was said: 421 at the greeting.
    TurnedAway(Cause),
    /// It could not be reached, and said so at once: refused, reset.
    Refused(Cause),
    /// Nothing came back.
    Silent(Cause),
    /// It was not asked, or we gave up for reasons of our own.
    Unknown,
}

/// The feedback of one attempt; of its outcomes the one counts that says most.
#[must_use]
pub(crate) fn feedback<'a>(outcomes: impl Iterator<Item = &'a DeliveryOutcome>) -> Feedback {
    let weight = |feedback: &Feedback| match feedback {
        Feedback::Unknown => 0,
        Feedback::Answered => 1,
        Feedback::WantsLess => 2,
        Feedback::TurnedAway(_) => 3,
        Feedback::Refused(_) => 4,
        Feedback::Silent(_) => 5,
        // A host that takes messages is well, whatever it says about some recipients.
        Feedback::Took => 6,
    };
    outcomes.map(of_outcome).max_by_key(weight).unwrap_or(Feedback::Unknown)
}

fn of_outcome(outcome: &DeliveryOutcome) -> Feedback {
    let cause = match outcome {
        DeliveryOutcome::Delivered { .. } => return Feedback::Took,
        DeliveryOutcome::Failed { cause } => cause,
    };
    if matches!(
        cause,
        Cause::ConnectFailed { .. } | Cause::ConnectionLost { phase: Phase::Connect | Phase::Greeting, .. }
    ) {
        return Feedback::Refused(cause.clone());
    }
    if matches!(cause, Cause::TimedOut { phase: Phase::Connect | Phase::Greeting, .. }) {
        return Feedback::Silent(cause.clone());
    }
    if let Cause::Rejected { reply, phase, .. } = cause {
        return match (phase, reply.code) {
            (Phase::Greeting, CLOSING) => Feedback::TurnedAway(cause.clone()),
            (_, _) if wants_less(reply) => Feedback::WantsLess,
            (_, _) => Feedback::Answered,
        };
    }
    if matches!(cause, Cause::TimedOut { .. } | Cause::ConnectionLost { .. }) {
        return Feedback::WantsLess;
    }
    Feedback::Answered
}

/// 421; system not accepting messages (4.3.2), congestion (4.4.5), and policy in passing (4.7.x):
/// so the big providers say "slow down". Greylisting is 4.7.x, too, and has its own words.
fn wants_less(reply: &Reply) -> bool {
    let by_code = reply
        .enhanced
        .is_some_and(|code| code.class == 4 && matches!((code.subject, code.detail), (3, 2) | (4, 5) | (7, _)));
    let greylists = || reply.lines.iter().any(|line| line.to_ascii_lowercase().contains("greylist"));
    reply.code == CLOSING || (by_code && !greylists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Peer;

    fn peer() -> Peer {
        Peer { host: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() }
    }

    fn rejected(phase: Phase, code: u16, text: &str) -> Feedback {
        let enhanced = text.split(' ').next().and_then(|word| word.parse().ok());
        let reply = Reply { code, enhanced, lines: vec![text.to_owned()] };
        feedback([DeliveryOutcome::Failed { cause: Cause::Rejected { peer: peer(), phase, reply } }].iter())
    }

    #[test]
    fn rfc3463_3_4_slow_down_is_understood_however_it_is_said() {
        for (phase, code, text) in [
            (Phase::MailFrom, 421, "4.7.0 try again later"),
            (Phase::MailFrom, 451, "4.7.500 server busy"),
            (Phase::RcptTo, 450, "4.3.2 not accepting messages"),
            (Phase::Data, 452, "4.4.5 congestion"),
            (Phase::RcptTo, 421, "bye"),
        ] {
            assert_eq!(rejected(phase, code, text), Feedback::WantsLess, "{text}");
        }
        for (code, text) in [(450, "4.7.1 Greylisted, come back"), (450, "4.2.1 mailbox busy"), (550, "5.7.1 no")] {
            assert_eq!(rejected(Phase::RcptTo, code, text), Feedback::Answered, "{text}");
        }
        assert!(matches!(rejected(Phase::Greeting, 421, "too many connections"), Feedback::TurnedAway(_)));
        assert_eq!(rejected(Phase::Greeting, 554, "no"), Feedback::Answered);
    }

    #[test]
    fn silence_and_refusal_count_before_the_greeting_and_not_behind_it() {
        let of = |cause| feedback([DeliveryOutcome::Failed { cause }].iter());
        for phase in [Phase::Connect, Phase::Greeting] {
            assert!(matches!(of(Cause::TimedOut { peer: peer(), phase }), Feedback::Silent(_)));
        }
        assert_eq!(of(Cause::TimedOut { peer: peer(), phase: Phase::EndOfData }), Feedback::WantsLess);
        let lost = |phase| Cause::ConnectionLost { peer: peer(), phase, detail: "reset".into() };
        assert!(matches!(of(lost(Phase::Greeting)), Feedback::Refused(_)));
        assert_eq!(of(lost(Phase::Data)), Feedback::WantsLess);
        assert_eq!(feedback([].iter()), Feedback::Unknown);
    }
}
