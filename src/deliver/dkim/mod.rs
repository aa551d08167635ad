//! The content with the signatures of its author's domain on top (RFC 6376 §5).
//!
//! A message is signed as it is sent: once as it lies in the spool, and once more where it is converted for
//! servers that take only seven bits (§5.3); nothing is changed behind a signature. Content streams by, and
//! the fields of the signatures are all that is kept. `store.rs` reads the keys.

pub(crate) mod store;

use super::body::OpenBody;
use super::eight_bit::{Conversion, Converted};
use crate::clock::Timestamp;
use crate::config::{DkimConfig, OnSigningFailure};
use crate::outcome::Cause;
use crate::smtp::address::Domain;
use crate::smtp::dkim::{DkimKey, DkimKeyType, DkimSigner, SignedFields, SigningContent, SigningRead, Unsignable};
use crate::spool::{BodyReader, SpoolError};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

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
    /// The domain has signed it already.
    SignedAlready,
}

/// The fields of the signatures of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatures {
    fields: Bytes,
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

    /// Signs content that can be opened.
    pub(crate) async fn sign(&self, body: &dyn OpenBody, form: SignedForm, at: Timestamp) -> SigningResult {
        if self.by_domain.is_empty() {
            return SigningResult::NotWanted(NotSigned::NoKeys);
        }
        let tried = match &form {
            SignedForm::AsIs => self.read_and_sign(body, &form, at).await,
            SignedForm::Converted(conversion) => {
                let converted = Converted { body, conversion: Arc::clone(conversion) };
                self.read_and_sign(&converted, &form, at).await
            }
        };
        match tried {
            Ok(signing) => signing,
            Err(SigningFault::Damaged) => SigningResult::FailedAndHeld(Cause::ContentDamaged),
            // It says nothing of the message, and no choice of the operator is for it.
            Err(SigningFault::Away(domain)) => {
                SigningResult::FailedAndHeld(Cause::NotSigned { domain, failure: Unsignable::Unreadable })
            }
            Err(SigningFault::Unsignable(domain, failure)) => {
                let cause = Cause::NotSigned { domain, failure };
                match self.on_failure {
                    OnSigningFailure::Defer => SigningResult::FailedAndHeld(cause),
                    OnSigningFailure::Send => SigningResult::FailedAndSent(cause),
                }
            }
        }
    }

    async fn read_and_sign(
        &self,
        body: &dyn OpenBody,
        form: &SignedForm,
        at: Timestamp,
    ) -> Result<SigningResult, SigningFault> {
        let unreadable = |domain: Option<&Domain>| {
            let domain = domain.cloned();
            move |error| match error {
                SpoolError::Damaged => SigningFault::Damaged,
                SpoolError::Unreachable(_) | SpoolError::Fenced | SpoolError::Stopped => SigningFault::Away(domain),
                SpoolError::Full
                | SpoolError::Io { .. }
                | SpoolError::Engine(_)
                | SpoolError::InUse { .. }
                | SpoolError::Unusable(_) => SigningFault::Unsignable(domain, Unsignable::Unreadable),
            }
        };
        let mut reader = body.open().await.map_err(unreadable(None))?;
        let mut content = SigningContent::default();
        let (mut read, mut too_large) = (SigningRead::Header, None);
        while read == SigningRead::Header {
            let Some(piece) = reader.next().await.map_err(unreadable(None))? else { break };
            match content.feed(&piece) {
                Ok(so_far) => read = so_far,
                Err(failure) => {
                    too_large = Some(failure);
                    break;
                }
            }
        }
        let keys = match self.keys_for(&content, form) {
            Ok(keys) => keys,
            Err(none) => return Ok(SigningResult::NotWanted(none)),
        };
        let domain = keys.first().map(|key| key.domain.clone());
        if let Some(failure) = too_large {
            return Err(SigningFault::Unsignable(domain, failure));
        }
        while let Some(piece) = reader.next().await.map_err(unreadable(domain.as_ref()))? {
            content.feed(&piece).map_err(|failure| SigningFault::Unsignable(domain.clone(), failure))?;
        }
        let signer = |key: &'_ SigningKey| (key.key.key_type(), format!("{}:{}", key.domain, key.selector));
        let by = keys.iter().map(signer).collect();
        let signers: Vec<_> = keys.iter().map(SigningKey::signer).collect();
        let fields = content.sign(&signers, &self.which, at.unix_seconds());
        let fields = fields.map_err(|failure| SigningFault::Unsignable(domain, failure))?;
        Ok(SigningResult::Signed(Arc::new(Signatures { fields: fields.into(), by })))
    }

    fn keys_for(&self, content: &SigningContent, form: &SignedForm) -> Result<&[SigningKey], NotSigned> {
        let fields = content.fields();
        let author = fields.author().ok_or(NotSigned::NoAuthor)?;
        let keys = self.for_author(&author).ok_or(NotSigned::NoKeyForAuthor)?;
        let is_signed = match form {
            SignedForm::AsIs => keys.first().is_some_and(|key| fields.is_signed_by(&key.domain)),
            SignedForm::Converted(_) => false,
        };
        if is_signed && !self.signs_signed { Err(NotSigned::SignedAlready) } else { Ok(keys) }
    }
}

impl SigningKey {
    fn signer(&self) -> DkimSigner<'_> {
        DkimSigner { domain: &self.domain, selector: &self.selector, key: &self.key }
    }
}

enum SigningFault {
    /// The copy in the spool is damaged.
    Damaged,
    /// The store cannot be asked for it at the moment.
    Away(Option<Domain>),
    /// No signature, of which domain if that is known.
    Unsignable(Option<Domain>, Unsignable),
}

/// Content below its signatures.
pub(super) struct SignedBody<'a> {
    pub(super) body: &'a dyn OpenBody,
    pub(super) signatures: Arc<Signatures>,
}

#[async_trait]
impl OpenBody for SignedBody<'_> {
    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        let reader = SignedReader { fields: Some(self.signatures.fields.clone()), inner: self.body.open().await? };
        Ok(Box::new(reader))
    }
}

struct SignedReader {
    /// Until they have been given.
    fields: Option<Bytes>,
    inner: Box<dyn BodyReader>,
}

#[async_trait]
impl BodyReader for SignedReader {
    async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        match self.fields.take() {
            Some(fields) => Ok(Some(fields)),
            None => self.inner.next().await,
        }
    }
}

#[cfg(test)]
mod tests;
