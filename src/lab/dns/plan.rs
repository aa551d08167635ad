//! How a zone of the lab is signed, denies, and is vouched for by its parent
//! (RFC 4034 §2 and §5, RFC 5155, RFC 9824).
//!
//! [`Signing`] has the common cases, one word each; a [`SigningPlan`] is any combination of keys,
//! denial and DS records, sound or not. The plan is data: nothing is made from it here.

use hickory_proto::dnssec::DigestType;

/// Iterations above what RFC 9276 §3.2 lets a validator accept as secure.
pub const EXCESSIVE_ITERATIONS: u16 = 151;

/// The algorithm of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// Algorithm 5, RSA with SHA-1: the number only. Nothing here signs with SHA-1, so the
    /// signatures under it are made with SHA-256 and no validator can find them good.
    RsaSha1,
    /// Algorithm 7, as 5 but for zones with NSEC3; the number only.
    RsaSha1Nsec3,
    /// Algorithm 8, RSA with SHA-256 (RFC 5702).
    RsaSha256,
    /// Algorithm 10, RSA with SHA-512 (RFC 5702).
    RsaSha512,
    /// Algorithm 13, ECDSA P-256 with SHA-256 (RFC 6605).
    EcdsaP256,
    /// Algorithm 14, ECDSA P-384 with SHA-384 (RFC 6605).
    EcdsaP384,
    /// Algorithm 15, Ed25519 (RFC 8080).
    Ed25519,
    /// An algorithm nobody implements, by its number: 253 is reserved for private use.
    Unknown(u8),
}

/// What a key is for (RFC 4034 §2.1.1, RFC 6781 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Signs everything.
    Combined,
    /// Signs the DNSKEY RRset.
    KeySigning,
    /// Signs everything else.
    ZoneSigning,
    /// Is published and signs nothing.
    Standby,
}

/// The flags of a key beside the one for its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFlags {
    /// As they should be.
    Sound,
    /// The revoke bit is set (RFC 5011 §2.1).
    Revoked,
    /// The zone key bit is not set: the key must not be used (RFC 4034 §2.1.1).
    NotForZones,
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Its algorithm.
    pub algorithm: KeyAlgorithm,
    /// What it is for.
    pub role: Role,
    /// Its flags.
    pub flags: KeyFlags,
    /// The key, by its place in the plan, whose tag it shares.
    pub tag_of: Option<usize>,
}

impl KeySpec {
    /// A sound key.
    #[must_use]
    pub fn new(algorithm: KeyAlgorithm, role: Role) -> Self {
        Self { algorithm, role, flags: KeyFlags::Sound, tag_of: None }
    }

    /// With these flags.
    #[must_use]
    pub fn flags(mut self, flags: KeyFlags) -> Self {
        self.flags = flags;
        self
    }

    /// With the tag of an earlier key of the plan.
    #[must_use]
    pub fn tag_of(mut self, key: usize) -> Self {
        self.tag_of = Some(key);
        self
    }
}

/// The key that a DS record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DsOf {
    /// A key of the plan, by its place.
    Key(usize),
    /// A key of the plan, by its place, with one bit of the digest flipped.
    Damaged(usize),
    /// A key of this algorithm that is not in the zone.
    Stranger(KeyAlgorithm),
}

/// One DS record of the parent (RFC 4034 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DsSpec {
    /// Whose digest it is.
    pub of: DsOf,
    /// The digest; of an unknown type the data is made up.
    pub digest: DigestType,
}

impl DsSpec {
    /// A DS record.
    #[must_use]
    pub fn new(of: DsOf, digest: DigestType) -> Self {
        Self { of, digest }
    }
}

/// Whether unsigned delegations are in the NSEC3 chain (RFC 5155 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptOut {
    /// All names are in the chain.
    No,
    /// Unsigned delegations are left out, and all records have the flag.
    Yes,
}

/// How a zone proves what is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// By NSEC records between existing names (RFC 4034 §4).
    Nsec,
    /// By NSEC3 records between hashes (RFC 5155).
    Nsec3 {
        /// The salt, at most 255 octets.
        salt: Vec<u8>,
        /// How often the hash is hashed again.
        iterations: u16,
        /// Whether unsigned delegations are left out.
        opt_out: OptOut,
    },
    /// By an NSEC record made for the name asked (RFC 9824).
    Compact,
}

/// The common ways to sign a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// Signed, with its DS in the parent: secure.
    Signed(KeyAlgorithm),
    /// Not signed, and the parent proves that there is no DS: insecure.
    Unsigned,
    /// Signed, but the parent has no DS: insecure all the same (RFC 4035 §5.2).
    NoDs,
    /// Signed, and the parent's DS is of another key: bogus.
    WrongDs,
    /// Not signed although the parent has a DS: bogus.
    DsButUnsigned,
}

/// Keys, denial and DS records of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningPlan {
    /// The keys; none when the zone is not signed.
    pub keys: Vec<KeySpec>,
    /// How it denies.
    pub denial: Denial,
    /// The DS records in the parent.
    pub ds: Vec<DsSpec>,
}

impl SigningPlan {
    /// One key for everything, NSEC, and a SHA-256 DS record that fits.
    #[must_use]
    pub fn signed(algorithm: KeyAlgorithm) -> Self {
        let fitting = DsSpec::new(DsOf::Key(0), DigestType::SHA256);
        Self { keys: vec![KeySpec::new(algorithm, Role::Combined)], denial: Denial::Nsec, ds: vec![fitting] }
    }

    /// A key-signing key, which the DS record names, and a zone-signing key.
    #[must_use]
    pub fn split(key_signing: KeyAlgorithm, zone_signing: KeyAlgorithm) -> Self {
        let keys = vec![KeySpec::new(key_signing, Role::KeySigning), KeySpec::new(zone_signing, Role::ZoneSigning)];
        Self { keys, ..Self::signed(key_signing) }
    }

    /// No keys and no DS records.
    #[must_use]
    pub fn unsigned() -> Self {
        Self { keys: Vec::new(), denial: Denial::Nsec, ds: Vec::new() }
    }

    /// With NSEC3, a salt of four octets, and all names in the chain.
    #[must_use]
    pub fn nsec3(self, iterations: u16) -> Self {
        self.denial(Denial::Nsec3 { salt: vec![0xde, 0xad, 0xbe, 0xef], iterations, opt_out: OptOut::No })
    }

    /// With NSEC3 as RFC 9276 §3.1 wants it (no salt, no iterations) and opt-out.
    #[must_use]
    pub fn opt_out(self) -> Self {
        self.denial(Denial::Nsec3 { salt: Vec::new(), iterations: 0, opt_out: OptOut::Yes })
    }

    /// With compact denial of existence.
    #[must_use]
    pub fn compact(self) -> Self {
        self.denial(Denial::Compact)
    }

    /// With this denial.
    #[must_use]
    pub fn denial(mut self, denial: Denial) -> Self {
        self.denial = denial;
        self
    }

    /// With one more key, last in the plan.
    #[must_use]
    pub fn key(mut self, key: KeySpec) -> Self {
        self.keys.push(key);
        self
    }

    /// With `count` more keys that have the tag and algorithm of the first and sign nothing
    /// (a validator has to try them all, or none).
    #[must_use]
    pub fn colliding(mut self, count: usize) -> Self {
        if let Some(first) = self.keys.first().copied() {
            let decoy = KeySpec::new(first.algorithm, Role::Standby).tag_of(0);
            self.keys.extend(std::iter::repeat_n(decoy, count));
        }
        self
    }

    /// With exactly these DS records.
    #[must_use]
    pub fn ds(mut self, ds: impl IntoIterator<Item = DsSpec>) -> Self {
        self.ds = ds.into_iter().collect();
        self
    }
}

impl From<KeyAlgorithm> for SigningPlan {
    fn from(algorithm: KeyAlgorithm) -> Self {
        Self::signed(algorithm)
    }
}

impl From<Signing> for SigningPlan {
    fn from(signing: Signing) -> Self {
        let usual = Self::signed(KeyAlgorithm::EcdsaP256);
        let stranger = DsSpec::new(DsOf::Stranger(KeyAlgorithm::EcdsaP256), DigestType::SHA256);
        match signing {
            Signing::Signed(algorithm) => Self::signed(algorithm),
            Signing::Unsigned => Self::unsigned(),
            Signing::NoDs => usual.ds([]),
            Signing::WrongDs => usual.ds([stranger]),
            Signing::DsButUnsigned => Self::unsigned().ds([stranger]),
        }
    }
}
