//! Which sockets a lab has, and where on loopback they are.

use crate::lab::bad;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether servers can be reached by sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::lab) enum Sockets {
    #[default]
    Bound,
    None,
}

/// Whether anyone listens at a host's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lab) enum Presence {
    Up,
    Down,
}

/// The third octet of a lab's addresses. Labs of other tests run at the same time, in this process
/// and in others; without sockets none is in another's way.
pub(in crate::lab) fn free_block(sockets: Sockets) -> io::Result<u8> {
    static LABS: AtomicU32 = AtomicU32::new(0);
    match sockets {
        Sockets::None => Ok(1),
        Sockets::Bound => {
            let number = LABS.fetch_add(1, Ordering::SeqCst).wrapping_add(std::process::id());
            u8::try_from(number % 254 + 1).map_err(bad)
        }
    }
}
