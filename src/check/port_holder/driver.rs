//! Asks the kernel who listens.
#![expect(clippy::disallowed_methods, reason = "the tables of the kernel are files")]

use super::tables::{in_the_way, listening, unit};
use super::{HoldingProcess, PortHolder};
use std::fs;
use std::net::SocketAddr;

/// Who keeps this process from listening at one of these addresses. `None` where nobody does.
pub(in crate::check) fn in_the_way_of(ours: &[SocketAddr]) -> Option<PortHolder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let mut sockets = tables.iter().flat_map(|table| listening(table));
    let socket = sockets.find(|socket| ours.iter().any(|ours| ours.port() != 0 && in_the_way(socket.at, *ours)))?;
    Some(PortHolder { at: socket.at, process: holder(socket.inode) })
}

/// The process that has the socket open. Those of others are seen by root alone.
fn holder(inode: u64) -> Option<HoldingProcess> {
    let link = format!("socket:[{inode}]");
    let has_it = |id: u32| {
        let files = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
        files.into_iter().any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))
    };
    let all = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let id = all.into_iter().find(|id| has_it(*id))?;
    let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?.trim_end().to_owned();
    let unit = fs::read_to_string(format!("/proc/{id}/cgroup")).ok().and_then(|cgroup| unit(&cgroup));
    Some(HoldingProcess { id, name, unit })
}
