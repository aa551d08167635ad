//! The work one look-up may cost (RFC 4035 §5.3.3 leaves the bound to us; RFC 9276 §3.2).
//!
//! A hostile zone can publish keys with colliding tags, heaps of signatures and costly hashes.
//! Everything expensive is paid from one [`WorkBudget`] per look-up; when it is spent, the verdict is
//! "could not find out", never "insecure".

use hickory_proto::dnssec::{Algorithm, PublicKey as _, PublicKeyBuf};

/// Time for checking signatures, in microseconds of a slow core: twenty P-384 signatures or a
/// hundred of P-256. An honest cold look-up over three zones checks about fifteen, and aliases over
/// five zones of P-384 about as many of the dearest kind.
const SIGNATURES_US: u32 = 8_000;
/// The part of it for checks that fail. A good zone has next to none: two of its keys would need the
/// same tag. Whoever makes zones to be costly, or adds signatures to those of others, has nothing else.
const FAILURES_US: u32 = 3_000;
/// SHA-1 blocks for NSEC3: a few milliseconds; an honest denial with no extra iterations needs
/// twenty, one at the limit of iterations about a thousand, and one at the 2,500 of RFC 5155 §10.3
/// some ten thousand.
const HASH_BLOCKS: u32 = 20_000;
/// Questions one look-up may cause: a chain through six zones with all their labels.
const ASKS: u32 = 48;
/// Bytes in a block of SHA-1.
const BLOCK_BYTES: usize = 64;

/// What is left of the work allowed for one look-up.
#[derive(Debug)]
pub(super) struct WorkBudget {
    signatures_us: u32,
    failures_us: u32,
    hash_blocks: u32,
    asks: u32,
}

/// The budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent;

impl WorkBudget {
    pub(super) fn new() -> Self {
        Self { signatures_us: SIGNATURES_US, failures_us: FAILURES_US, hash_blocks: HASH_BLOCKS, asks: ASKS }
    }

    /// Pays for one check of a signature.
    pub(super) fn signature(&mut self, key: &PublicKeyBuf) -> Result<(), Spent> {
        self.signatures_us = self.signatures_us.checked_sub(signature_us(key)).ok_or(Spent)?;
        Ok(())
    }

    /// Notes that the check failed.
    pub(super) fn failed(&mut self, key: &PublicKeyBuf) -> Result<(), Spent> {
        self.failures_us = self.failures_us.checked_sub(signature_us(key)).ok_or(Spent)?;
        Ok(())
    }

    /// Pays for one NSEC3 hash.
    pub(super) fn hash(&mut self, iterations: u16, salt: &[u8]) -> Result<(), Spent> {
        let blocks_each = u32::try_from(1 + salt.len().saturating_add(30) / BLOCK_BYTES).unwrap_or(u32::MAX);
        let blocks = (u32::from(iterations) + 1).saturating_mul(blocks_each);
        self.hash_blocks = self.hash_blocks.checked_sub(blocks).ok_or(Spent)?;
        Ok(())
    }

    /// Pays for one question.
    pub(super) fn ask(&mut self) -> Result<(), Spent> {
        self.asks = self.asks.checked_sub(1).ok_or(Spent)?;
        Ok(())
    }
}

/// Estimates, checked once against what one check took on one virtual core in a test build: RSA
/// of 2048 bits 20 µs, of 4096 bits 60, of 8192 bits 240; P-256 60, P-384 180 at best and 330 on
/// average, Ed25519 35. Each is above that; an algorithm not named costs as much as P-256.
fn signature_us(key: &PublicKeyBuf) -> u32 {
    let algorithm = key.algorithm();
    if algorithm == Algorithm::ECDSAP384SHA384 {
        return 400;
    }
    if algorithm == Algorithm::RSASHA256 || algorithm == Algorithm::RSASHA512 {
        // Squares of the modulus: 2048 bits cost 32, 8192 bits 512.
        let quarter_kib = u32::try_from(key.public_bytes().len() / 64).unwrap_or(u32::MAX);
        return quarter_kib.saturating_mul(quarter_kib).saturating_mul(2).max(20);
    }
    80
}
