//! The octets of a message before hickory decodes them: names that would cost more than those of a
//! message may are refused here (RFC 1035 §4.1.4).
//!
//! A pointer may lead to a pointer that leads to a pointer, eight thousand of them in 16 KiB, or to a name
//! of 127 labels; and each of the thousands of records behind them may begin there. Decoding that takes
//! millions of steps. So the steps are counted before: those of each owner, and for the data of each record
//! those of the longest name that could begin in it, whatever its type is. No octet is walked over twice for
//! that. A message of more steps than honest ones take becomes a server failure.

use std::ops::Range;

/// Labels and pointers of all names in a message: 600 records, which are all that the validator looks at,
/// with 100 of them each.
const STEPS_LIMIT: usize = 60_000;
/// With so few pointers no message of 64 KiB comes to many more steps.
const FEW_POINTERS: usize = 127;
/// The two bits that make a pointer of a length (RFC 1035 §4.1.4).
const POINTER: u8 = 0xc0;
/// The header of a message (RFC 1035 §4.1.1).
const HEADER_OCTETS: usize = 12;
/// Type and class of a question; type, class, TTL and length of a record.
const QUESTION_OCTETS: usize = 4;
const RECORD_OCTETS: usize = 10;
const SERVFAIL: u8 = 2;

/// Leaves header and question, and says that there is no answer.
pub(super) fn refuse(octets: &mut [u8]) {
    let header = octets.first_chunk_mut::<HEADER_OCTETS>();
    if let Some([_, _, _, code, questions_high, questions, counts @ ..]) = header {
        *questions = if (*questions_high, *questions) == (0, 0) { 0 } else { 1 };
        *questions_high = 0;
        *code = (*code & 0xf0) | SERVFAIL;
        counts.fill(0);
    }
}

/// A question or a record.
pub(super) struct RecordAt {
    /// Where its owner begins.
    pub(super) owner: usize,
    /// Where its type stands.
    pub(super) fields: usize,
    /// Its data; a question has none.
    pub(super) data: Range<usize>,
}

/// Shows all questions and records in turn, up to one that cannot be read.
pub(super) fn each(octets: &[u8], mut show: impl FnMut(&RecordAt)) -> Option<()> {
    let [questions, answers, authorities, additionals] = [4, 6, 8, 10].map(|at| number(octets, at));
    let mut at = HEADER_OCTETS;
    for _ in 0..questions? {
        let fields = after_name(octets, at)?;
        show(&RecordAt { owner: at, fields, data: 0..0 });
        at = fields + QUESTION_OCTETS;
    }
    for _ in 0..u32::from(answers?) + u32::from(authorities?) + u32::from(additionals?) {
        let fields = after_name(octets, at)?;
        let start = fields + RECORD_OCTETS;
        let end = start + usize::from(number(octets, start - 2)?);
        octets.get(start..end)?;
        show(&RecordAt { owner: at, fields, data: start..end });
        at = end;
    }
    Some(())
}

/// A pointer ends a name here, wherever it leads.
fn after_name(octets: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *octets.get(at)? {
            0 => return Some(at + 1),
            length if length >= POINTER => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

pub(super) fn number(octets: &[u8], at: usize) -> Option<u16> {
    let [high, low] = octets.get(at..at + 2)? else { return None };
    Some(u16::from_be_bytes([*high, *low]))
}

/// Whether the names of a message take more steps than they may.
pub(super) fn is_laborious(octets: &[u8]) -> bool {
    if pointers_back(octets) <= FEW_POINTERS {
        return false;
    }
    let (mut names, mut steps) = (Names::of(octets), 0_usize);
    // What cannot be read, hickory does not read either.
    let _whole = each(octets, |place| {
        steps += names.steps(place.owner);
        steps += place.data.clone().map(|at| names.steps(at)).max().unwrap_or_default();
    });
    steps > STEPS_LIMIT
}

/// How many octets could be pointers to what came before.
fn pointers_back(octets: &[u8]) -> usize {
    let leads_back = |(at, pair): (usize, &[u8])| pointer(pair).is_some_and(|target| target < at);
    octets.windows(2).enumerate().filter(|place| leads_back(*place)).count()
}

fn pointer(pair: &[u8]) -> Option<usize> {
    match pair {
        [high, low, ..] if *high >= POINTER => Some(usize::from(*high & !POINTER) << 8 | usize::from(*low)),
        _ => None,
    }
}

/// What names could begin at the octets of a message.
struct Names<'a> {
    octets: &'a [u8],
    known: Vec<WalkMark>,
    /// The octets of the walk that is under way.
    way: Vec<usize>,
}

/// What is known of an octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WalkMark {
    Nothing,
    /// No name begins here, or a walk that began here is not over: who comes by again goes in a ring.
    NoName,
    Name(Length),
}

/// How long a name is from an octet on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Length {
    octets: u8,
    /// Labels and pointers.
    steps: u16,
}

impl Length {
    /// The same with a label or a pointer in front. RFC 1035 §2.3.4: a name has 255 octets at most.
    fn behind(self, first: u8) -> Option<Self> {
        let label = if first >= POINTER { 0 } else { first + 1 };
        Some(Self { octets: self.octets.checked_add(label)?, steps: self.steps.saturating_add(1) })
    }
}

impl<'a> Names<'a> {
    fn of(octets: &'a [u8]) -> Self {
        Self { octets, known: vec![WalkMark::Nothing; octets.len()], way: Vec::new() }
    }

    /// The steps of the name that begins at an octet; none where no name does.
    fn steps(&mut self, start: usize) -> usize {
        let mut length = self.follow(start);
        while let Some(at) = self.way.pop() {
            length = length.and_then(|length| length.behind(self.octets.get(at).copied()?));
            if let (Some(known), Some(length)) = (self.known.get_mut(at), length) {
                *known = WalkMark::Name(length);
            }
        }
        length.map_or(0, |length| usize::from(length.steps))
    }

    /// Walks to the first octet that is known, or to the end of the name; puts on the way what was new.
    fn follow(&mut self, mut at: usize) -> Option<Length> {
        loop {
            let here = self.known.get_mut(at)?;
            match *here {
                WalkMark::Name(length) => return Some(length),
                WalkMark::NoName => return None,
                WalkMark::Nothing => *here = WalkMark::NoName,
            }
            self.way.push(at);
            let rest = self.octets.get(at..)?;
            at = match (*rest.first()?, pointer(rest)) {
                (0, _) => return Some(Length::default()),
                (_, Some(target)) => target,
                (length, None) if length < 64 => at + 1 + usize::from(length),
                _ => return None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::dnssec::{decode, make_readable};
    use hickory_proto::op::Message;
    use hickory_proto::op::ResponseCode;

    /// A message about the root. Its first record, of a type that nobody knows, holds a chain of pointers,
    /// perhaps each behind a label; the others begin with the last one, and their data is the same name.
    fn chained(pointers: u16, label: &[u8], records: u16) -> Vec<u8> {
        let mut octets = vec![0, 7, 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
        octets[6..8].copy_from_slice(&(records + 1).to_be_bytes());
        octets.extend_from_slice(&[0, 0xff, 0x10, 0, 1, 0, 0, 0, 60]);
        let length = pointers * (2 + u16::try_from(label.len()).unwrap());
        octets.extend_from_slice(&length.to_be_bytes());
        // The name of the question is the root.
        let mut last = u16::try_from(HEADER_OCTETS).unwrap();
        for _ in 0..pointers {
            let here = u16::try_from(octets.len()).unwrap();
            octets.extend_from_slice(label);
            octets.extend_from_slice(&(0xc000 | last).to_be_bytes());
            last = here;
        }
        for _ in 0..records {
            octets.extend_from_slice(&(0xc000 | last).to_be_bytes());
            octets.extend_from_slice(&[0, 2, 0, 1, 0, 0, 0, 60, 0, 2]);
            octets.extend_from_slice(&(0xc000 | last).to_be_bytes());
        }
        octets
    }

    fn code_and_records(octets: &[u8]) -> (ResponseCode, usize) {
        let message = decode(octets).unwrap();
        assert_eq!((message.queries.len(), message.metadata.id), (1, 7), "it still answers the question");
        (message.metadata.response_code, message.answers.len())
    }

    #[test]
    fn rfc1035_4_1_4_the_pre_pass_refuses_names_of_too_many_steps_in_all() {
        let refused = (ResponseCode::ServFail, 0);
        // A record has its name twice, each with a pointer in front and the root behind.
        for (pointers, label, steps) in [(8000, &b""[..], 8002), (126, b"\x01a", 254), (200, b"", 202)] {
            let enough = u16::try_from(STEPS_LIMIT / (2 * steps)).unwrap();
            // What could begin in the middle of the data counts, too: somewhat less is enough.
            let less = enough - 1 - enough / 10;
            let read = code_and_records(&chained(pointers, label, less));
            assert_eq!(read, (ResponseCode::NoError, usize::from(less) + 1), "{pointers}");
            for records in [enough + 1, 3000] {
                let more = chained(pointers, label, records);
                assert!(Message::from_vec(&more).is_ok(), "hickory reads it");
                assert_eq!(code_and_records(&more), refused, "{pointers} {records}");
            }
        }
    }

    #[test]
    fn rfc1035_4_1_4_the_pre_pass_refuses_what_questions_repeat_and_keeps_one() {
        // Each asks for the name of the one before it.
        let mut octets = vec![0, 7, 0x84, 0, 0x17, 0x70, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
        let mut last = u16::try_from(HEADER_OCTETS).unwrap();
        for _ in 1..0x1770 {
            let here = octets.len();
            octets.extend_from_slice(&(0xc000 | last).to_be_bytes());
            octets.extend_from_slice(&[0, 1, 0, 1]);
            last = if here < 0x4000 { u16::try_from(here).unwrap() } else { last };
        }
        make_readable(&mut octets);
        assert_eq!(octets[3..12], [2, 0, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn rfc1035_4_1_4_an_honest_message_of_many_records_is_left_as_it_is() {
        let deep: Vec<u8> = [1, b'a'].repeat(30);
        let octets = chained(1, &deep, 599);
        assert_eq!(code_and_records(&octets), (ResponseCode::NoError, 600));
    }

    /// Rings, names that are too long, and lengths that no label has.
    #[test]
    fn rfc1035_4_1_4_what_is_no_name_takes_no_steps() {
        let ring = [0xc0, 2, 0xc0, 0].to_vec();
        let labels = [vec![1; 400], vec![0]].concat();
        for octets in [ring, labels, vec![0x80; 300], vec![0xff; 300], vec![0xc0; 300], Vec::new()] {
            assert_eq!(Names::of(&octets).steps(0), 0, "{octets:?}");
            make_readable(&mut octets.clone());
        }
        assert_eq!(Names::of(&[1, b'a', 0, 0xc0, 0]).steps(3), 3, "a pointer, a label and the root");
    }

    /// No octet is walked over twice, whatever leads to it.
    #[test]
    fn the_pre_pass_takes_no_more_steps_than_there_are_octets() {
        let noise: Vec<u8> = (0..65_535_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        for octets in [chained(8000, b"", 3000), vec![0xc0; 65_535], vec![1; 65_535], noise] {
            let (mut names, mut steps) = (Names::of(&octets), 0);
            for start in 0..octets.len() {
                let _length = names.follow(start);
                steps += names.way.drain(..).count();
            }
            assert_eq!(steps, octets.len());
        }
    }
}
