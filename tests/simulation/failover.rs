//! A list of next hops over minutes: while the first is dead its mail goes to the second in the same attempt,
//! and it is back at the first within a minute of its recovery (RFC 5321 §4.5.4.1).

use crate::behaviour::DomainBehaviour::{DeadAtFirst, Fine};
use crate::invariants::message_id;
use crate::world::{BEGIN, SENDER, Size, Submission, What, World};
use dane_relay::clock::Timestamp;
use dane_relay::config::Config;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Between two messages.
const EVERY: Duration = Duration::from_secs(5);
/// After so many messages the first host comes back.
const DEAD_FOR: usize = 13;
/// Messages of a minute.
const A_MINUTE: usize = 12;
const ALL: usize = 60;

fn at(number: usize) -> Timestamp {
    BEGIN.plus(EVERY * u32::try_from(number).unwrap())
}

#[test]
fn mail_goes_to_the_second_of_a_list_at_once_and_is_back_at_the_first_within_a_minute() {
    let sent = (0..ALL).map(|number| {
        let to = vec!["bob@d1.test".to_owned()];
        let submission = Submission { number, at: at(number), from: SENDER, ret: "", to, notify: "", padding: 0 };
        (at(number), What::Send(submission))
    });
    let mut to_come: Vec<_> = sent.chain([(at(DEAD_FOR), What::Heal)]).collect();
    to_come.sort_by_key(|(at, _)| *at);
    let behaviours = BTreeMap::from([("d0.test".to_owned(), DeadAtFirst), ("d1.test".to_owned(), Fine)]);
    let mut world = World::made_of(0, Size::Small, behaviours, to_come.into());
    let [first, second] = ["d0.test", "d1.test"].map(|name| world.lab.mx(name).unwrap().address());
    let text = format!("[[destination]]\ndomains = [\"d1.test\"]\nnext_hop = [\"{first}\", \"{second}\"]\n");
    world.config.destination = Config::parse(&text, Path::new("failover.toml")).unwrap().destination;
    world.run(&[]);
    let came_to = |name: &str| -> BTreeSet<usize> {
        let messages = world.lab.mx(name).unwrap().messages();
        let numbers = messages.iter().map(|mail| {
            assert_eq!(mail.rcpt_to, ["bob@d1.test"]);
            message_id(mail).trim_start_matches('n').trim_end_matches("@office.test").parse().unwrap()
        });
        numbers.collect()
    };
    let (first, second) = (came_to("d0.test"), came_to("d1.test"));
    assert_eq!(first.len() + second.len(), ALL, "each arrived once: {first:?} {second:?}");
    assert!((0..DEAD_FOR).all(|number| second.contains(&number)), "{second:?}");
    assert!((DEAD_FOR + A_MINUTE..ALL).all(|number| first.contains(&number)), "{first:?}");
    // Mail ends then, and with it the reason to look.
    let unasked = world.network.longest_silence("d0.test", at(ALL));
    assert!(unasked < Duration::from_secs(60), "a dead host is looked at within a minute: {unasked:?}");
}
