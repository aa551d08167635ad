//! Which engine keeps the spool. The only file of the crate that names one: a second engine is
//! chosen here, by the configuration, and nowhere else.

use super::carrying::CarryingSpool;
use super::cluster::{ClusterNode, DatabaseStatus, SchemaState};
use super::embedded::EmbeddedSpool;
use super::embedded::ledger::EmbeddedLedger;
use super::ledger::{Ledger, LedgerError};
use super::postgres::ledger::DatabaseLedger;
use super::postgres::{self, PostgresSpool, status};
use super::{Recovery, Spool, SpoolError};
use crate::clock::Timestamp;
use crate::config::{SpoolConfig, SpoolEngine};
use std::sync::Arc;

/// A spool that is open, and what was found when it was opened.
pub struct Opened {
    /// The spool.
    pub spool: Arc<dyn Spool>,
    /// What was found.
    pub recovery: Recovery,
}

/// Opens the spool that the configuration names, and recovers what a crash left.
///
/// # Errors
/// [`SpoolError::InUse`] when another process has it, [`SpoolError::Unusable`] when it cannot be
/// used, others when the store behind it fails.
pub async fn open(config: &SpoolConfig, now: Timestamp) -> Result<Opened, SpoolError> {
    match config.engine {
        SpoolEngine::Embedded => {
            let spool = open_embedded(config, now).await?;
            let recovery = spool.recovery().clone();
            Ok(Opened { spool: ours(spool).await?, recovery })
        }
        SpoolEngine::Postgresql => {
            let (spool, recovery) = PostgresSpool::open(config, now).await?;
            Ok(Opened { spool: ours(spool).await?, recovery })
        }
    }
}

/// Opens the spools that mail is carried from and to, also one whose mail belongs to another by now. Both may have one
/// directory: a database keeps no mail in it.
///
/// # Errors
/// As [`open`].
pub async fn open_carrying(
    from: &SpoolConfig,
    to: &SpoolConfig,
    now: Timestamp,
) -> Result<[Arc<dyn CarryingSpool>; 2], SpoolError> {
    if from.engine == SpoolEngine::Postgresql && to.engine == SpoolEngine::Embedded {
        // Files are opened first: they need the directory.
        let to_spool = open_carrying_one(to, None, now).await?;
        return Ok([open_carrying_one(from, Some(to), now).await?, to_spool]);
    }
    let from_spool = open_carrying_one(from, None, now).await?;
    let to_spool = open_carrying_one(to, Some(from), now).await?;
    Ok([from_spool, to_spool])
}

/// Opens one of two such spools, whatever becomes of the other.
///
/// # Errors
/// As [`open`].
pub async fn open_carrying_alone(config: &SpoolConfig, now: Timestamp) -> Result<Arc<dyn CarryingSpool>, SpoolError> {
    open_carrying_one(config, None, now).await
}

async fn open_carrying_one(
    config: &SpoolConfig,
    beside: Option<&SpoolConfig>,
    now: Timestamp,
) -> Result<Arc<dyn CarryingSpool>, SpoolError> {
    let is_held = beside.is_some_and(|other| other.path == config.path);
    match config.engine {
        SpoolEngine::Embedded => Ok(Arc::new(open_embedded(config, now).await?)),
        SpoolEngine::Postgresql if is_held => Ok(Arc::new(PostgresSpool::open_beside(config, now).await?)),
        SpoolEngine::Postgresql => Ok(Arc::new(PostgresSpool::open(config, now).await?.0)),
    }
}

/// A spool whose mail belongs to another is closed again: two relays would send it.
async fn ours(spool: impl CarryingSpool + 'static) -> Result<Arc<dyn Spool>, SpoolError> {
    let Some(since) = spool.carried_since() else { return Ok(Arc::new(spool)) };
    spool.close().await;
    Err(SpoolError::Unusable(format!(
        "the mail of this spool belongs to another one since {}: `relay spool move` has carried it there, or has begun \
         to. Name the other spool in [spool]; `relay spool move` goes on with what was cut off, or gives it up",
        since.to_second()
    )))
}

async fn open_embedded(config: &SpoolConfig, now: Timestamp) -> Result<EmbeddedSpool, SpoolError> {
    let config = config.clone();
    let opening = tokio::task::spawn_blocking(move || EmbeddedSpool::open(&config, now)).await;
    let interrupted = |ended| SpoolError::Io { action: "opening the spool", source: std::io::Error::other(ended) };
    opening.map_err(interrupted)?
}

/// Opens the ledger of the spool that the configuration names, beside a relay that runs or
/// without one.
///
/// # Errors
/// When there is none or it cannot be read.
pub async fn open_ledger(config: &SpoolConfig) -> Result<Box<dyn Ledger>, LedgerError> {
    match config.engine {
        SpoolEngine::Embedded => Ok(Box::new(EmbeddedLedger::open(&config.path).await?)),
        SpoolEngine::Postgresql => Ok(Box::new(DatabaseLedger::open(config).await?)),
    }
}

/// Makes an empty database a spool, or brings one to the version of this program; gives what it was before. `None`
/// for an engine that needs no such step.
///
/// # Errors
/// When the database cannot be used.
pub async fn migrate(config: &SpoolConfig) -> Result<Option<SchemaState>, SpoolError> {
    match config.engine {
        SpoolEngine::Embedded => Ok(None),
        SpoolEngine::Postgresql => postgres::migrate(config).await.map(Some),
    }
}

/// How the database stands that is the spool. `None` for an engine without one.
///
/// # Errors
/// When it cannot be asked.
pub async fn database_status(config: &SpoolConfig) -> Result<Option<DatabaseStatus>, SpoolError> {
    match config.engine {
        SpoolEngine::Embedded => Ok(None),
        SpoolEngine::Postgresql => status::status(config).await.map(Some),
    }
}

/// The relays that share the spool. `None` for an engine that one relay has for itself.
///
/// # Errors
/// When the database cannot be asked.
pub async fn nodes(config: &SpoolConfig) -> Result<Option<Vec<ClusterNode>>, SpoolError> {
    match config.engine {
        SpoolEngine::Embedded => Ok(None),
        SpoolEngine::Postgresql => status::nodes(config).await.map(Some),
    }
}
