//! The threads of the writers.

use super::paths;
use super::shared::SharedState;
use crate::spool::SpoolError;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Starts a writer; should it ever panic, the spool stops as if the disk had failed.
pub(super) fn spawn(
    name: &'static str,
    shared: &Arc<SharedState>,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, SpoolError> {
    let guard = StopOnPanic(Arc::clone(shared));
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        work();
        drop(guard);
    });
    thread.map_err(paths::io("starting a thread of the spool"))
}

struct StopOnPanic(Arc<SharedState>);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(&paths::io("writing the spool")(std::io::Error::other("the writer has panicked")));
        }
    }
}
