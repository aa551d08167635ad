//! Records that the decoder of messages refuses although the standards tell a validator to skip
//! them (RFC 4034 §2.1.2, RFC 5155 §8.1 and §8.2): they must not cost the whole message.
//!
//! Such a record belongs to its RRset all the same, for its zone has signed it there. So it is not
//! taken out: before the octets are decoded it gets a type of private use, and keeps its data.
//! Whoever reads RRsets counts it as what it is; nobody can read its data, so nobody uses it. One
//! that came with such a type is counted in the same way, and no zone has signed it there.

use super::octets::{each, number};
use hickory_proto::rr::{RData, Record, RecordType};

/// Added to the number of a type: in 65280–65534, which RFC 6895 §3.1 leaves to private use.
const ASIDE: u16 = 0xff00;
const DNSKEY: u16 = 48;
const NSEC3: u16 = 50;

/// Sets odd records of a message aside. Octets that are no message stay as they are.
pub(super) fn set_aside(octets: &mut [u8]) {
    let mut places = Vec::new();
    // What comes before a record that cannot be read has been read.
    let _whole = each(octets, |place| {
        let data = octets.get(place.data.clone()).unwrap_or_default();
        if number(octets, place.fields).is_some_and(|record_type| is_odd(record_type, data)) {
            places.push(place.fields);
        }
    });
    for place in places {
        if let Some(high) = octets.get_mut(place) {
            *high = ASIDE.to_be_bytes()[0];
        }
    }
}

/// The type of a record, whether or not it was set aside.
pub(super) fn type_of(record: &Record) -> RecordType {
    let given = record.record_type();
    let number = u16::from(given);
    let is_aside = [ASIDE + DNSKEY, ASIDE + NSEC3].contains(&number) && matches!(record.data, RData::Unknown { .. });
    if is_aside { RecordType::from(number - ASIDE) } else { given }
}

/// RFC 4034 §2.1.2: the protocol of a key must be 3. RFC 5155 §8.1 and §8.2: records with unknown
/// hashes or flags are ignored.
fn is_odd(record_type: u16, data: &[u8]) -> bool {
    match (record_type, data) {
        (DNSKEY, [_, _, protocol, ..]) => *protocol != 3,
        (NSEC3, [hash, flags, ..]) => *hash != 1 || flags & 0xfe != 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Message, OpCode};
    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::{A, NULL};

    fn with(number: u16, data: &[u8]) -> Vec<u8> {
        let raw = RData::Unknown { code: RecordType::from(number), rdata: NULL::with(data.to_vec()) };
        let name = Name::from_ascii("a.test.").unwrap();
        let mut message = Message::response(1, OpCode::Query);
        message.add_answer(Record::from_rdata(name.clone(), 60, raw));
        message.add_authority(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
        message.to_vec().unwrap()
    }

    #[test]
    fn rfc4034_2_1_2_an_odd_record_does_not_cost_the_message() {
        for (number, data) in
            [(DNSKEY, [1, 1, 2, 13, 7, 7].as_slice()), (NSEC3, &[1, 2, 0, 0, 0, 1, 9]), (NSEC3, &[2, 0, 0, 0, 0, 1, 9])]
        {
            let mut octets = with(number, data);
            assert!(Message::from_vec(&octets).is_err());
            set_aside(&mut octets);
            let message = Message::from_vec(&octets).unwrap();
            let record = &message.answers[0];
            assert_eq!((u16::from(type_of(record)), message.authorities.len()), (number, 1));
            let RData::Unknown { rdata, .. } = &record.data else { panic!("{record}") };
            assert_eq!(rdata.anything, data);
        }
    }

    #[test]
    fn other_octets_stay_as_they_are() {
        for whole in [with(DNSKEY, &[1, 1, 3, 13, 7, 7]), with(NSEC3, &[1, 1, 0, 0, 0, 1, 9]), with(1, &[1, 1, 2, 3])] {
            for length in 0..=whole.len() {
                let mut octets = whole[..length].to_vec();
                set_aside(&mut octets);
                assert_eq!(octets, whole[..length]);
            }
        }
        let mut noise: Vec<u8> = (0..=255).cycle().take(3000).collect();
        set_aside(&mut noise);
    }
}
