//! The files of the admin port: its certificate and its users, as they were read last.
//!
//! They are read again every minute, and whole with every reload. What cannot be used leaves what was before in use.

use crate::accept::tls::ListenerFiles;
use crate::config::users::Users;
use rustls::ServerConfig;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Whoever renews a file waits a minute, or reloads.
const READ_EVERY: Duration = Duration::from_secs(60);

/// See the module.
pub(in crate::service) struct AdminGate {
    files: RwLock<ListenerFiles>,
    /// What was told last of the file of users: visitors must not fill the log with it.
    told: Mutex<Option<String>>,
}

impl AdminGate {
    /// With what was read.
    pub(in crate::service) fn new(files: ListenerFiles) -> Self {
        Self { files: RwLock::new(files), told: Mutex::default() }
    }

    /// Another configuration names other files, or the same, read again.
    pub(in crate::service) fn replace(&self, files: ListenerFiles) {
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = files;
    }

    /// What handshakes are made with; none where the port speaks in clear.
    pub(in crate::service) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.files().tls.map(|tls| tls.server)
    }

    /// Whether anybody can log in.
    pub(in crate::service) fn has_users(&self) -> bool {
        self.files().users.is_some()
    }

    /// The users; none where nobody can log in. Looks whether their file has changed. Blocks for as long as it takes
    /// to read it.
    pub(in crate::service) fn users(&self) -> Option<Arc<Users>> {
        let users = self.files().users?;
        match users.reload() {
            Ok(None) => {}
            Ok(Some(_)) => *self.told() = None,
            Err(fault) => self.tell(fault.to_string()),
        }
        Some(users.users())
    }

    /// Once for each fault.
    fn tell(&self, fault: String) {
        let mut told = self.told();
        if told.as_ref() != Some(&fault) {
            tracing::warn!(%fault, "the file of users of the admin port cannot be used; those before stay");
            *told = Some(fault);
        }
    }

    fn told(&self) -> MutexGuard<'_, Option<String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> ListenerFiles {
        self.files.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads the files again until the stop.
pub(in crate::service) async fn watch(gate: Arc<AdminGate>, stop: CancellationToken) {
    let reading = async {
        loop {
            tokio::time::sleep(READ_EVERY).await;
            let files = gate.files();
            let faults = tokio::task::spawn_blocking(move || files.reread()).await.unwrap_or_default();
            for fault in faults {
                tracing::warn!(%fault, "a file of the admin port cannot be used; the one before stays");
            }
        }
    };
    let _stopped = stop.run_until_cancelled(reading).await;
}
