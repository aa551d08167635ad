//! The relay in the signed mini-internet of its lab: real sockets, real TLS, real DNSSEC.
//!
//! One program for all scenarios. Each starts its own relay and its own lab on 127.0.0.0/8, with
//! ports that the system chooses, so they all run side by side; nothing outlives its test.
//! `relay.rs` holds what they share, the other files are named for what they hold the relay to.
//! What needs no socket but the same words (evidence from files) is here too: a program more costs
//! every build a link.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "what fails in a test is the test's result; configuration files are written for the relay to read"
)]

mod accept;
mod alignment;
#[path = "../support/any_certificate.rs"]
mod any_certificate;
mod api;
mod archive;
mod authoritative;
#[cfg(feature = "interop")] // Chromium, its driver and axe-core
mod browser;
mod check;
mod check_bundle;
mod check_evidence;
mod check_paths;
mod check_situations;
#[cfg(feature = "interop")] // a PostgreSQL server
mod cluster;
mod command;
mod commands;
mod control;
mod dane;
mod deliver;
mod destination;
mod dkim;
mod exchange;
mod front;
mod full_disk;
mod grid;
mod health;
mod http;
mod incidents;
mod ipv6;
mod leases;
mod mistakes;
mod next_hop_lists;
mod next_hops;
#[cfg(feature = "interop")] // unshare and ip make its network
mod no_route;
mod notify;
mod operator;
mod page;
mod page_dutch;
mod paths;
mod peers;
mod policies;
#[cfg(feature = "interop")]
#[path = "../support/postgres_server.rs"]
#[allow(dead_code, reason = "each program uses its part")]
mod postgres_server;
mod process;
mod queue;
#[path = "../support/random.rs"]
mod random;
mod relay;
mod reload;
mod reload_keys;
mod reload_load;
mod reload_reports;
mod report;
mod require_tls;
mod resolve;
mod reuse;
mod scripted;
mod selfcheck;
mod serve;
mod setup;
mod situations;
mod smart_host;
#[cfg(feature = "otel")]
mod spans;
mod standards;
mod sts;
#[path = "../support/tls_report.rs"]
mod tls_report;
mod tls_reporting;
mod tls_reports;
mod tracking;
mod watch;
mod wire;
mod worlds;
#[path = "../support/wrapped_spool.rs"]
mod wrapped_spool;
