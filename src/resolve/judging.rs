//! One look-up over one path: the answer, and all that proves it.
//!
//! Either the path only carries and everything is validated here (RFC 4035 §5), or its resolver
//! validates and says so with AD (RFC 6840 §5.8). What cannot be proven is the path's failure.

use super::dnssec::{Anchors, Outcome, Step, Validated, Validation, Zones};
use super::paths::channel::Flags;
use super::paths::{FetchError, Heard, Path};
use super::{Security, trust_ad};
use crate::clock::Clock;
use crate::config::DnsMode;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType as WireType};

/// Questions that one validation may ask on its path. The validator has its own limits; this is
/// the fuse behind them.
const STEPS_LIMIT: usize = 200;
/// How often other authoritative servers are asked when an answer of theirs is bogus.
const OTHER_SERVERS_LIMIT: usize = 2;

/// By what an answer is believed.
pub(super) struct ProofRules<'a> {
    pub(super) mode: DnsMode,
    pub(super) anchors: &'a Anchors,
    /// Zones whose keys are known already.
    pub(super) zones: &'a Zones,
    /// The operator's private zones, where what is validated ends.
    pub(super) private: &'a [Name],
    pub(super) clock: &'a Clock,
}

impl ProofRules<'_> {
    /// Asks a path.
    ///
    /// # Errors
    /// No answer, or none that can be believed.
    pub(super) async fn ask(&self, path: &Path, name: &Name, record_type: WireType) -> Result<Validated, FetchError> {
        match self.mode {
            DnsMode::Validate => self.validate(path, name, record_type).await,
            DnsMode::TrustAd => self.trust(path, name, record_type).await,
        }
    }

    /// Judges what a path brings; what is bogus from some servers of a zone may be sound from others.
    async fn validate(&self, path: &Path, name: &Name, record_type: WireType) -> Result<Validated, FetchError> {
        let mut heard = Heard::default();
        let mut verdict = self.validate_by(path, name, record_type, &mut heard).await;
        for _again in 0..OTHER_SERVERS_LIMIT {
            if !matches!(verdict, Err(FetchError::Bogus(_))) || !heard.avoid_those() {
                break;
            }
            verdict = match self.validate_by(path, name, record_type, &mut heard).await {
                Err(FetchError::TimedOut | FetchError::Broken(_) | FetchError::Code(_) | FetchError::Incomplete(_)) => {
                    verdict
                }
                of_others => of_others,
            };
        }
        verdict
    }

    /// Fetches the answer and, over the same path, all that proves it.
    async fn validate_by(
        &self,
        path: &Path,
        name: &Name,
        record_type: WireType,
        heard: &mut Heard,
    ) -> Result<Validated, FetchError> {
        let first = path.fetch_beside(name, record_type, Flags::Validate, heard).await?;
        let mut signatures = has_signatures(&first);
        let (mut missed, mut asked_again) = (None, false);
        let mut validation = Validation::begin(name, record_type, first, self.clock.now()).up_to(self.private);
        for _step in 0..STEPS_LIMIT {
            match validation.step(self.anchors, self.zones) {
                Step::Done(validated) => {
                    let judged = judge(validated, missed);
                    return match judged {
                        Err(FetchError::Bogus(reason)) if !signatures => {
                            Err(Self::bogus_or_stripped(path, reason).await)
                        }
                        Ok(_) | Err(_) => judged,
                    };
                }
                Step::Ask(name, record_type) => {
                    let mut reply = path.fetch_beside(&name, record_type, Flags::Validate, heard).await;
                    // A resolver that gives up once may have met one bad server of a zone above;
                    // one second question is cheaper than all of this over another path.
                    let gave_up = reply.as_ref().is_err_and(|fault| *fault == FetchError::Code(ResponseCode::ServFail));
                    if gave_up && !std::mem::replace(&mut asked_again, true) {
                        reply = path.fetch_beside(&name, record_type, Flags::Validate, heard).await;
                    }
                    signatures |= reply.as_ref().is_ok_and(has_signatures);
                    validation.feed(reply.map_err(|fault| {
                        let said = fault.to_string();
                        missed.get_or_insert((name, record_type, fault));
                        said
                    }));
                }
            }
        }
        Err(FetchError::Incomplete("the validation asked too many questions".into()))
    }

    /// An answer that should be signed and comes without any signature: is it the zone, or does
    /// this path pass none on? The root is always signed, so it tells.
    async fn bogus_or_stripped(path: &Path, reason: String) -> FetchError {
        match path.fetch(&Name::root(), WireType::SOA, Flags::Validate).await {
            Ok(root) if !has_signatures(&root) => FetchError::Stripped,
            Ok(_) | Err(_) => FetchError::Bogus(reason),
        }
    }

    async fn trust(&self, path: &Path, name: &Name, record_type: WireType) -> Result<Validated, FetchError> {
        let now = self.clock.now();
        let message = path.fetch(name, record_type, Flags::TrustAd).await?;
        let mut validated = trust_ad::read(name, record_type, &message, now)?;
        if validated.security == Security::Secure {
            return Ok(validated);
        }
        // Without AD this says "not signed". That counts only while the resolver still validates.
        vouches(path).await?;
        if let Outcome::Found { aliases, .. } = &mut validated.outcome {
            // AD speaks for the whole chain; the first link is asked for alone (RFC 7672 §2.2.2).
            if let Some(first) = aliases.first_mut() {
                let link = path.fetch(name, WireType::CNAME, Flags::TrustAd).await?;
                if link.metadata.authentic_data {
                    first.security = Security::Secure;
                }
            }
        }
        Ok(validated)
    }
}

/// Whether a resolver says that it validates: the root is signed, so its SOA comes with AD.
pub(super) async fn vouches(path: &Path) -> Result<(), FetchError> {
    let root = path.fetch(&Name::root(), WireType::SOA, Flags::TrustAd).await?;
    if root.metadata.authentic_data { Ok(()) } else { Err(FetchError::NotValidating) }
}

/// A verdict that is none is the path's failure.
fn judge(validated: Validated, missed: Option<(Name, WireType, FetchError)>) -> Result<Validated, FetchError> {
    let reason = |validated: &Validated| validated.reason.as_ref().map(ToString::to_string).unwrap_or_default();
    match validated.security {
        Security::Secure | Security::Insecure => match validated.outcome {
            Outcome::ErrorCode(code) => Err(FetchError::Code(code)),
            Outcome::Found { .. } | Outcome::NoData { .. } | Outcome::NxDomain { .. } => Ok(validated),
        },
        Security::Bogus => Err(FetchError::Bogus(reason(&validated))),
        Security::Indeterminate => Err(FetchError::Incomplete(match missed {
            Some((name, record_type, fault)) => format!("{name} {record_type}: {fault}"),
            None => reason(&validated),
        })),
    }
}

pub(super) fn has_signatures(message: &Message) -> bool {
    message.all_sections().any(|record| record.record_type() == WireType::RRSIG)
}
