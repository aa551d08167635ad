//! Why the interface gives no answer, and what it reads of the small files of the spool.

use super::Api;
use crate::command::policy_list;
use crate::config::Config;
use crate::config::users::UserRole;
use crate::pipeline::Pipeline;
use crate::spool::ledger::LedgerError;
use axum::http::StatusCode;
use std::sync::Arc;

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct ApiFault {
    /// As a status of HTTP.
    pub(super) status: StatusCode,
    /// The fault in words.
    pub(super) why: String,
}

impl ApiFault {
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }

    pub(super) fn denied(needs: UserRole) -> Self {
        Self::new(StatusCode::FORBIDDEN, format!("this needs the role {}", needs.word()))
    }

    /// It is understood, and what was before stays.
    pub(super) fn unusable(why: String) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, why)
    }

    pub(super) fn conflict(why: String) -> Self {
        Self::new(StatusCode::CONFLICT, why)
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such thing")
    }
}

impl From<LedgerError> for ApiFault {
    fn from(error: LedgerError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

/// The policies that are kept.
pub(super) async fn policies(api: &Api) -> Result<Vec<policy_list::KeptPolicy>, ApiFault> {
    let now = api.operator.now();
    let read = blocking(api, move |config| policy_list::list(config, now).map_err(|fault| fault.to_string())).await?;
    read.map_err(|why| ApiFault::new(StatusCode::INTERNAL_SERVER_ERROR, why))
}

/// What is read from small files of the spool.
pub(super) async fn blocking<T: Send + 'static>(
    api: &Api,
    read: impl FnOnce(&Config) -> T + Send + 'static,
) -> Result<T, ApiFault> {
    let pipeline: Arc<Pipeline> = api.operator.pipeline();
    let done = tokio::task::spawn_blocking(move || read(&pipeline.out.config)).await;
    done.map_err(|bug| ApiFault::new(StatusCode::INTERNAL_SERVER_ERROR, bug.to_string()))
}
