//! The content with the signatures of its author's domain on top (RFC 6376 §5).
//!
//! A message is signed as it is sent: once as it lies in the spool, and once more where it is converted for
//! servers that take only seven bits (§5.3); nothing is changed behind a signature. Content streams by; what
//! is short is kept with the fields of the signatures, so that it need not be read twice. `store.rs` reads the keys.

pub(crate) mod store;

use super::body::OpenBody;
use super::eight_bit::{Conversion, Converted};
use crate::clock::Timestamp;
use crate::config::{DkimConfig, OnSigningFailure};
use crate::outcome::Cause;
use crate::resolve::answer::{Answer, Ask, Data, Freshness, RecordType};
use crate::smtp::address::Domain;
use crate::smtp::dkim::{
    DkimKey, DkimKeyType, DkimRecord, DkimSigner, ReadContent, SignedFields, SigningContent, SigningRead,
    StandingSignature, Unsignable,
};
use crate::spool::{BodyReader, SpoolError};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long the key of a signature that is there already is looked for: a place at the server is held meanwhile.
const KEY_PATIENCE: Duration = Duration::from_secs(5);

/// A key with the names that it is published under.
#[derive(Debug)]
pub struct SigningKey {
    /// `d=`
    pub domain: Domain,
    /// `s=`
    pub selector: String,
    /// The private key.
    pub key: DkimKey,
}

/// The keys of one domain.
#[derive(Debug, Default)]
struct DomainKeys {
    keys: Vec<SigningKey>,
    covers_subdomains: bool,
}

/// All keys, and how they are used.
#[derive(Debug)]
pub struct SigningKeys {
    by_domain: BTreeMap<Domain, DomainKeys>,
    which: SignedFields,
    on_failure: OnSigningFailure,
    signs_signed: bool,
}

/// The form in which content is signed.
#[derive(Clone, Debug)]
pub(crate) enum SignedForm {
    /// As it lies in the spool.
    AsIs,
    /// Converted: the signatures that it had are broken by that.
    Converted(Arc<Conversion>),
}

/// What signing came to.
#[derive(Clone, Debug)]
pub(crate) enum SigningResult {
    /// The fields are there.
    Signed(Arc<Signatures>),
    /// None is wanted.
    NotWanted(NotSigned),
    /// There is none, and the operator wants the message to go out.
    FailedAndSent(Cause),
    /// There is none, and the message waits.
    FailedAndHeld(Cause),
}

/// Why a message is not to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSigned {
    /// There are no keys at all.
    NoKeys,
    /// No key is for the domain of its author.
    NoKeyForAuthor,
    /// It does not say who its one author is.
    NoAuthor,
    /// It has a signature of the domain that holds.
    SignedAlready,
}

/// Content up to this many octets is sent from where it was signed, and not read once more.
const KEPT_OCTETS: usize = 32 * 1024;

/// The fields of the signatures of one message.
#[derive(Clone, PartialEq, Eq)]
pub struct Signatures {
    fields: Bytes,
    /// What was signed, whole and checked; none where it is long.
    content: Option<Vec<Bytes>>,
    /// With what it was signed, and the names of the keys.
    by: Vec<(DkimKeyType, String)>,
}

impl Signatures {
    /// Octets that they add to the content (RFC 1870 §6).
    #[must_use]
    pub fn size(&self) -> u64 {
        self.fields.len() as u64
    }

    /// With what it was signed.
    pub fn key_types(&self) -> impl Iterator<Item = DkimKeyType> {
        self.by.iter().map(|(key_type, _)| *key_type)
    }
}

/// Shows no content.
impl fmt::Debug for Signatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signatures({self})")
    }
}

/// The names of the keys: `office.example:s1, office.example:s2`.
impl fmt::Display for Signatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.by.iter().map(|(_, name)| name.as_str()).collect();
        f.write_str(&names.join(", "))
    }
}

impl SigningKeys {
    /// Used as the configuration says.
    fn new(keys: Vec<SigningKey>, config: &DkimConfig) -> Self {
        let mut by_domain: BTreeMap<Domain, DomainKeys> = BTreeMap::new();
        for key in keys {
            let covers_subdomains = config.key.iter().any(|rule| rule.domain == key.domain && rule.subdomains);
            let of_domain = by_domain.entry(key.domain.clone()).or_default();
            of_domain.covers_subdomains = covers_subdomains;
            of_domain.keys.push(key);
        }
        let names =
            |names: &[crate::config::HeaderFieldName]| names.iter().map(|name| name.as_str().to_owned()).collect();
        let which = SignedFields { names: names(&config.headers), oversigned: names(&config.oversign) };
        Self { by_domain, which, on_failure: config.on_failure, signs_signed: config.sign_signed }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &SigningKey> {
        self.by_domain.values().flat_map(|of_domain| &of_domain.keys)
    }

    /// The keys for mail of an author: of the domain itself, or of the closest one above it whose keys are
    /// for what is below (RFC 7489 §3.1.1).
    fn for_author(&self, author: &Domain) -> Option<&[SigningKey]> {
        if let Some(own) = self.by_domain.get(author) {
            return Some(&own.keys);
        }
        let mut above = author.as_str().split_once('.');
        while let Some((_, parent)) = above {
            let of_parent = parent.parse::<Domain>().ok().and_then(|parent| self.by_domain.get(&parent));
            if let Some(of_parent) = of_parent.filter(|keys| keys.covers_subdomains) {
                return Some(&of_parent.keys);
            }
            above = parent.split_once('.');
        }
        None
    }

    /// Signs content that can be opened. `records` knows the keys of signatures that are there already.
    pub(crate) async fn sign(
        &self,
        body: &dyn OpenBody,
        form: SignedForm,
        records: &dyn Ask,
        at: Timestamp,
    ) -> SigningResult {
        if self.by_domain.is_empty() {
            return SigningResult::NotWanted(NotSigned::NoKeys);
        }
        let tried = match form {
            SignedForm::AsIs if self.signs_signed => self.read_and_sign(body, None, at).await,
            SignedForm::AsIs => self.read_and_sign(body, Some(records), at).await,
            SignedForm::Converted(conversion) => self.read_and_sign(&Converted { body, conversion }, None, at).await,
        };
        match tried {
            Ok(signing) => signing,
            Err(SigningFault::Damaged) => SigningResult::FailedAndHeld(Cause::ContentDamaged),
            Err(SigningFault::Unsignable(domain, failure)) => {
                let cause = Cause::NotSigned { domain, failure };
                match self.on_failure {
                    OnSigningFailure::Defer => SigningResult::FailedAndHeld(cause),
                    OnSigningFailure::Send => SigningResult::FailedAndSent(cause),
                }
            }
        }
    }

    /// With `records` only what has no signature of the domain that holds.
    async fn read_and_sign(
        &self,
        body: &dyn OpenBody,
        records: Option<&dyn Ask>,
        at: Timestamp,
    ) -> Result<SigningResult, SigningFault> {
        let unreadable = |domain: Option<&Domain>| {
            let domain = domain.cloned();
            move |error| match error {
                SpoolError::Damaged => SigningFault::Damaged,
                SpoolError::Full
                | SpoolError::Io { .. }
                | SpoolError::Engine(_)
                | SpoolError::Fenced
                | SpoolError::Stopped
                | SpoolError::InUse { .. }
                | SpoolError::Unusable(_) => SigningFault::Unsignable(domain, Unsignable::Unreadable),
            }
        };
        let mut reader = body.open().await.map_err(unreadable(None))?;
        let (mut content, mut kept) = (SigningContent::default(), KeptContent::default());
        let (mut read, mut too_large) = (SigningRead::Header, None);
        while read == SigningRead::Header {
            let Some(piece) = reader.next().await.map_err(unreadable(None))? else { break };
            kept.add(&piece);
            match content.feed(&piece) {
                Ok(so_far) => read = so_far,
                Err(failure) => {
                    too_large = Some(failure);
                    break;
                }
            }
        }
        let keys = match self.keys_for(&content) {
            Ok(keys) => keys,
            Err(none) => return Ok(SigningResult::NotWanted(none)),
        };
        let domain = keys.first().map(|key| key.domain.clone());
        if let Some(failure) = too_large {
            return Err(SigningFault::Unsignable(domain, failure));
        }
        while let Some(piece) = reader.next().await.map_err(unreadable(domain.as_ref()))? {
            kept.add(&piece);
            content.feed(&piece).map_err(|failure| SigningFault::Unsignable(domain.clone(), failure))?;
        }
        let content = content.finish();
        if let (Some(records), Some(domain)) = (records, &domain)
            && holds_already(&content, domain, records, at).await
        {
            return Ok(SigningResult::NotWanted(NotSigned::SignedAlready));
        }
        let signer = |key: &'_ SigningKey| (key.key.key_type(), format!("{}:{}", key.domain, key.selector));
        let by = keys.iter().map(signer).collect();
        let signers: Vec<_> = keys.iter().map(SigningKey::signer).collect();
        let fields = content.sign(&signers, &self.which, at.unix_seconds());
        let fields = fields.map_err(|failure| SigningFault::Unsignable(domain, failure))?;
        Ok(SigningResult::Signed(Arc::new(Signatures { fields: fields.into(), content: kept.whole(), by })))
    }

    fn keys_for(&self, content: &SigningContent) -> Result<&[SigningKey], NotSigned> {
        let author = content.fields().author().ok_or(NotSigned::NoAuthor)?;
        self.for_author(&author).ok_or(NotSigned::NoKeyForAuthor)
    }
}

/// Whether content has a signature of a domain that holds. One whose key cannot be had in time is none: two
/// signatures do no harm, and one that fails does.
async fn holds_already(content: &ReadContent, domain: &Domain, records: &dyn Ask, at: Timestamp) -> bool {
    let look = async {
        for signature in content.standing(domain, at.unix_seconds()) {
            if holds(&signature, records).await {
                return true;
            }
        }
        false
    };
    timeout(KEY_PATIENCE, look).await.unwrap_or(false)
}

async fn holds(signature: &StandingSignature, records: &dyn Ask) -> bool {
    let answer = records.ask(&signature.record_name(), RecordType::Txt, Freshness::Kept).await;
    let Answer::Found(found) = answer else { return false };
    found.data.iter().any(|data| match data {
        Data::Txt(text) => {
            let record = std::str::from_utf8(text).ok().and_then(|text| DkimRecord::parse(text).ok());
            record.is_some_and(|record| signature.holds_with(&record))
        }
        Data::Address(_) | Data::Mx(..) | Data::Tlsa(_) => false,
    })
}

impl SigningKey {
    fn signer(&self) -> DkimSigner<'_> {
        DkimSigner { domain: &self.domain, selector: &self.selector, key: &self.key }
    }
}

enum SigningFault {
    /// The copy in the spool is damaged.
    Damaged,
    /// No signature, of which domain if that is known.
    Unsignable(Option<Domain>, Unsignable),
}

/// What was read, as long as it is short.
struct KeptContent {
    pieces: Vec<Bytes>,
    room: Option<usize>,
}

impl Default for KeptContent {
    fn default() -> Self {
        Self { pieces: Vec::new(), room: Some(KEPT_OCTETS) }
    }
}

impl KeptContent {
    fn add(&mut self, piece: &Bytes) {
        self.room = self.room.and_then(|room| room.checked_sub(piece.len()));
        match self.room {
            Some(_) => self.pieces.push(piece.clone()),
            None => self.pieces.clear(),
        }
    }

    fn whole(self) -> Option<Vec<Bytes>> {
        self.room.map(|_| self.pieces)
    }
}

/// Content below its signatures.
pub(super) struct SignedBody<'a> {
    pub(super) body: &'a dyn OpenBody,
    pub(super) signatures: Arc<Signatures>,
}

#[async_trait]
impl OpenBody for SignedBody<'_> {
    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        let Signatures { fields, content, .. } = self.signatures.as_ref();
        let below = match content {
            Some(pieces) => Below::Kept(pieces.clone().into_iter()),
            None => Below::Read(self.body.open().await?),
        };
        Ok(Box::new(SignedReader { fields: Some(fields.clone()), below }))
    }
}

struct SignedReader {
    /// Until they have been given.
    fields: Option<Bytes>,
    below: Below,
}

enum Below {
    Kept(std::vec::IntoIter<Bytes>),
    Read(Box<dyn BodyReader>),
}

#[async_trait]
impl BodyReader for SignedReader {
    async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        if let Some(fields) = self.fields.take() {
            return Ok(Some(fields));
        }
        match &mut self.below {
            Below::Kept(pieces) => Ok(pieces.next()),
            Below::Read(reader) => reader.next().await,
        }
    }
}

#[cfg(test)]
mod tests;
