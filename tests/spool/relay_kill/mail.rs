//! A message of the crash test: everything about it follows from its number.
//!
//! So a message that arrives can be compared octet for octet with what was sent, and the number
//! and the checksum in its header tell a reader of a failure what was damaged.

/// Where its reports go.
pub(crate) const SENDERS: &str = "back.test";
/// Where everyone has a mailbox.
pub(crate) const SINK: &str = "sink.test";
/// Where nobody has one.
pub(crate) const REFUSING: &str = "refused.test";
/// The field with the number.
const NUMBER: &str = "X-Crash-Number: ";
/// Content above this goes to a file of its own in the spool.
const LARGE: usize = 256 * 1024;

/// A message.
pub(crate) struct Mail {
    pub(crate) id: u64,
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) content: Vec<u8>,
}

/// What must become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A copy in the sink.
    Delivered,
    /// An NDR.
    Refused,
    /// Two recipients: a copy in the sink, and an NDR about the other one.
    Both,
}

impl Fate {
    pub(crate) const fn of(id: u64) -> Self {
        match id % 8 {
            3 => Self::Refused,
            6 => Self::Both,
            _ => Self::Delivered,
        }
    }

    pub(crate) fn is_delivered(self) -> bool {
        matches!(self, Self::Delivered | Self::Both)
    }

    pub(crate) fn is_reported(self) -> bool {
        matches!(self, Self::Refused | Self::Both)
    }
}

impl Mail {
    /// A few kilobytes.
    pub(crate) fn small(id: u64) -> Self {
        Self::new(id, 200 + usize::try_from(mix(id) % 6000).unwrap())
    }

    /// One in a dozen is large.
    pub(crate) fn of_any_size(id: u64) -> Self {
        let random = mix(id ^ 0xA11);
        if random.is_multiple_of(12) {
            Self::new(id, LARGE + usize::try_from(random % 200_000).unwrap())
        } else {
            Self::small(id)
        }
    }

    fn new(id: u64, size: usize) -> Self {
        let to = |domain: &str| format!("r{id}@{domain}");
        let to = match Fate::of(id) {
            Fate::Delivered => vec![to(SINK)],
            Fate::Refused => vec![to(REFUSING)],
            Fate::Both => vec![to(SINK), to(REFUSING)],
        };
        let (from, body) = (format!("s{id}@{SENDERS}"), body(id, size));
        let crc = crc32fast::hash(&body);
        let header = format!(
            "From: <{from}>\r\nSubject: crash {id}\r\n{NUMBER}{id}.{size}\r\nX-Crash-Checksum: {crc:08x}\r\n\r\n"
        );
        Self { id, from, to, content: [header.as_bytes(), &body].concat() }
    }

    /// The message that content with this header claims to be.
    pub(crate) fn claimed_by(content: &[u8]) -> Option<Self> {
        let header = String::from_utf8_lossy(content.get(..1500).unwrap_or(content)).into_owned();
        let (_, rest) = header.split_once(NUMBER)?;
        let (id, size) = rest.split_once("\r\n")?.0.split_once('.')?;
        Some(Self::new(id.parse().ok()?, size.parse().ok()?))
    }
}

/// Lines of text, among them ones that only dot-stuffing can carry (RFC 5321 §4.5.2).
fn body(id: u64, size: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(size + 80);
    let mut line = 0;
    while body.len() < size {
        line += 1;
        let random = mix(id.wrapping_mul(1_000_003).wrapping_add(line));
        let text = match random % 9 {
            0 => ".".to_owned(),
            1 => format!("..{random:x}"),
            2 => String::new(),
            _ => format!("{random:016x} message {id} line {line} {:016x}", mix(random)),
        };
        body.extend_from_slice(text.as_bytes());
        body.extend_from_slice(b"\r\n");
    }
    body
}

/// Spreads a number over 64 bits (the finaliser of `SplitMix64`).
pub(crate) const fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
