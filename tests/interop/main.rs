//! The relay among foreign programs: NSD, BIND, Unbound, ldnsd, Postfix, Exim, OpenSMTPD, Dovecot, nginx, HAProxy, swaks, smtp-source,
//! smtp-sink, dig, openssl, promtool, Python's mail packages, flufl.bounce, Sisimai,
//! dkimpy, OpenDKIM. Nothing here
//! is our own imitation of them.
//!
//! Needs root (Postfix) and the Debian packages that `tests/run` installs; therefore behind the
//! feature `interop`: `cargo test --features interop --test interop`.
//! Everything runs on 127.0.0.0/8 in temporary folders and is stopped at the end of each test.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "test helpers fail by panicking, and a failed test shows the logs of its daemons"
)]

mod authoritative;
mod canary;
mod certificate;
mod client;
mod content;
mod daemon;
mod delivery;
mod dkim;
mod exim;
mod failure;
mod front;
mod listener;
mod load;
mod loops;
mod namespace;
mod odd_tls;
mod opensmtpd;
mod oracle;
mod policies;
mod postfix;
mod relay;
mod reports;
mod resolver;
mod smart_host;
mod verdicts;
mod world;
mod world_is_sound;
mod zone;
