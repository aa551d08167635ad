//! Manual pages and completions, made from the very definition of the command line.

use clap_complete::Shell;
use std::io;
use std::path::Path;

/// Writes a manual page for the command and for each of its subcommands: `relay.1`, `relay-queue.1`,
/// `relay-queue-list.1`.
///
/// # Errors
/// When the directory cannot be written.
pub(crate) fn write_pages(command: clap::Command, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command.disable_help_subcommand(true), directory)
}

/// What a shell needs to complete the command.
pub(crate) fn completions(mut command: clap::Command, shell: Shell) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
