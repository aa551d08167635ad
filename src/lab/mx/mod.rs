//! The lab's mail hosts, well behaved or odd; the way to them; and the client that hands mail in.

pub mod behaviour;
pub mod client;
mod content;
pub mod host;
#[cfg(test)]
mod host_tests;
pub(crate) mod mail_path;
mod params;
mod session;
#[cfg(test)]
mod shapes_tests;
mod shared;
mod silent_port;
mod tls;
pub(in crate::lab) mod wire;
