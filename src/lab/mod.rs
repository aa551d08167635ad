//! The lab: a signed mini-internet on loopback.

pub mod ca;
pub mod client;
pub mod dns;
#[cfg(test)]
mod dns_tests;
pub mod mx;
mod mx_session;
#[cfg(test)]
mod mx_tests;
pub mod signer;
mod wire;
pub mod world;
pub mod zone;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Any error as an [`io::Error`]: the lab has only callers who stop on it.
fn bad(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}

/// A lock that a panicking test may have left behind is still good: all changes are whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
