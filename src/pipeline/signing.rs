//! The signatures of a message (RFC 6376): made when there is a place at its first server, once as it is
//! and once as it is converted, for all routes and servers of one attempt.

use super::Pipeline;
use crate::deliver::dkim::{Signatures, SignedForm, SigningResult};
use crate::deliver::eight_bit::Conversion;
use crate::deliver::message::Message;
use crate::envelope::QueueId;
use crate::outcome::Cause;
use std::sync::{Arc, OnceLock};
use tokio::sync::OnceCell;

/// What the signatures of one message came to so far, whatever the route.
#[derive(Default)]
pub(super) struct MessageSigning {
    as_is: OnceCell<SigningResult>,
    converted: OnceCell<SigningResult>,
}

/// The signatures that a message goes out with on one route.
pub(super) struct AttemptSignatures<'a> {
    signing: &'a MessageSigning,
    as_is: OnceLock<Arc<Signatures>>,
    converted: OnceLock<Arc<Signatures>>,
}

impl<'a> AttemptSignatures<'a> {
    /// None yet.
    pub(super) const fn of(signing: &'a MessageSigning) -> Self {
        Self { signing, as_is: OnceLock::new(), converted: OnceLock::new() }
    }

    /// The message with those that were made.
    pub(super) fn on(&self, message: Message) -> Message {
        Message {
            signatures: self.as_is.get().cloned(),
            converted_signatures: self.converted.get().cloned(),
            ..message
        }
    }
}

impl Pipeline {
    /// Signs a message as it goes out, converted or as it is; a message that is not to be signed goes without.
    ///
    /// # Errors
    /// Why it has to wait.
    pub(super) async fn sign(
        &self,
        id: QueueId,
        signatures: &AttemptSignatures<'_>,
        conversion: Option<&Arc<Conversion>>,
    ) -> Result<(), Cause> {
        let AttemptSignatures { signing, as_is, converted } = signatures;
        let (made, place, form) = match conversion {
            None => (&signing.as_is, as_is, SignedForm::AsIs),
            Some(conversion) => (&signing.converted, converted, SignedForm::Converted(Arc::clone(conversion))),
        };
        let sign = || async {
            let made =
                self.out.signing.sign(&self.body_of(id), form, self.out.dns.as_ref(), self.out.clock.now()).await;
            self.observer.signing(id, &made);
            made
        };
        // In a box, so that those who wait for a place are small.
        match Box::pin(made.get_or_init(sign)).await {
            SigningResult::Signed(signatures) => {
                place.get_or_init(|| Arc::clone(signatures));
                Ok(())
            }
            SigningResult::NotWanted(_) | SigningResult::FailedAndSent(_) => Ok(()),
            SigningResult::FailedAndHeld(cause) => Err(cause.clone()),
        }
    }
}
