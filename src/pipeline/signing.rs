//! The signatures of a message (RFC 6376): made when its first server is about to be tried, once as it is
//! and once as it is converted, for all its routes and servers.

use super::Pipeline;
use crate::deliver::dkim::{Signatures, SignedForm, Signing};
use crate::deliver::driver::OpenBody;
use crate::deliver::eight_bit::Conversion;
use crate::envelope::QueueId;
use crate::outcome::Cause;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// What the signatures of one message came to so far.
#[derive(Default)]
pub(super) struct MessageSigning {
    as_is: OnceCell<Signing>,
    converted: OnceCell<Signing>,
}

impl Pipeline {
    /// The signatures of a message, converted or as it is; none where none is wanted.
    ///
    /// # Errors
    /// Why the message has to wait.
    pub(super) async fn signatures(
        &self,
        id: QueueId,
        body: &dyn OpenBody,
        signing: &MessageSigning,
        conversion: Option<&Arc<Conversion>>,
    ) -> Result<Option<Arc<Signatures>>, Cause> {
        let (made, form) = match conversion {
            None => (&signing.as_is, SignedForm::AsIs),
            Some(conversion) => (&signing.converted, SignedForm::Converted(Arc::clone(conversion))),
        };
        let sign = || async {
            let made = self.out.signing.sign(body, form, self.out.clock.now()).await;
            self.observer.signing(id, &made);
            made
        };
        match made.get_or_init(sign).await {
            Signing::Signed(signatures) => Ok(Some(Arc::clone(signatures))),
            Signing::NotWanted(_) | Signing::FailedAndSent(_) => Ok(None),
            Signing::FailedAndHeld(cause) => Err(cause.clone()),
        }
    }
}
