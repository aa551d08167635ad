//! Packs a report (RFC 8460 §5.2, RFC 1952 §2.3).

use miniz_oxide::deflate::compress_to_vec;

/// How hard is tried: reports are small, and few.
const LEVEL: u8 = 9;
/// Deflate, no time, no name, an unknown system: the same report is the same octets.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 0xff];

/// One member of gzip.
#[must_use]
pub fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut packed = HEADER.to_vec();
    packed.extend_from_slice(&compress_to_vec(octets, LEVEL));
    packed.extend_from_slice(&crc32fast::hash(octets).to_le_bytes());
    // RFC 1952 §2.3.1: the size modulo 2^32.
    let size = u64::try_from(octets.len()).unwrap_or_default() & u64::from(u32::MAX);
    packed.extend_from_slice(&u32::try_from(size).unwrap_or_default().to_le_bytes());
    packed
}

#[cfg(test)]
pub(super) fn unpacked(packed: &[u8]) -> Vec<u8> {
    let (body, trailer) = packed[HEADER.len()..].split_at(packed.len() - HEADER.len() - 8);
    let octets = miniz_oxide::inflate::decompress_to_vec(body).unwrap();
    let size = u32::try_from(octets.len()).unwrap();
    assert_eq!(trailer, [crc32fast::hash(&octets).to_le_bytes(), size.to_le_bytes()].concat());
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc8460_5_2_p11_what_is_packed_comes_out_as_it_was_and_each_time_alike() {
        for octets in [&b""[..], b"{}", &b"policy ".repeat(10_000)] {
            let packed = gzip(octets);
            assert_eq!(unpacked(&packed), octets);
            assert_eq!(packed, gzip(octets));
        }
        assert!(gzip(&b"policy ".repeat(10_000)).len() < 1000);
    }
}
