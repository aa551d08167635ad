//! What the service manager is told (sd_notify(3)): that the relay serves, reloads, stops, and, where
//! it asks for that, that it is alive. Where nobody asked (`NOTIFY_SOCKET` is not set) nothing happens.

use sd_notify::NotifyState;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The relay serves: `systemctl start` ends now. `status` is shown by `systemctl status`.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is read again, until [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_no_clock) => tell(&[NotifyState::Reloading]),
    }
}

/// The relay lets what is under way end, and ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("lets what is under way end")]);
}

/// Says twice in each period of the watchdog that work is still being done, until the stop. It runs
/// among the tasks of the relay, so it falls silent when they do: when every thread hangs.
pub async fn keep_alive(stop: CancellationToken) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let pause = (period / 2).max(Duration::from_millis(1));
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(news: &[NotifyState<'_>]) {
    // The manager that does not listen any more needs no news; mail flows all the same.
    let _nobody_listens = sd_notify::notify(news);
}
