//! Manual pages and completions, made from the very definition of the command line.

use clap_complete::Shell;
use clap_mangen::Man;
use std::io;
use std::path::{Path, PathBuf};

/// Writes a manual page for the command and for each of its subcommands: `relay.1`,
/// `relay-queue.1`, `relay-queue-list.1`, and says which.
///
/// # Errors
/// When the directory cannot be written.
pub(crate) fn write_pages(command: clap::Command, directory: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(directory)?;
    // Names every command with those before it, so that the usage in each page is what one types.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut written = Vec::new();
    write_page(&command, directory, &mut written)?;
    Ok(written)
}

fn write_page(command: &clap::Command, directory: &Path, written: &mut Vec<PathBuf>) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let path = directory.join(format!("{name}.1"));
    let mut page = Vec::new();
    Man::new(command.clone().name(name)).render(&mut page)?;
    std::fs::write(&path, page)?;
    written.push(path);
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).try_for_each(|sub| write_page(sub, directory, written))
}

/// What a shell needs to complete the command.
pub(crate) fn completions(mut command: clap::Command, shell: Shell) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
