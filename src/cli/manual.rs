//! Manual pages, completions and the reference of all commands, made from the very definition of the command
//! line.

use super::exit::Exit;
use super::guided;
use clap::{Arg, Command};
use clap_complete::Shell;
use dane_relay::text::fill;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// Writes a manual page for the command and for each of its subcommands: `relay.1`, `relay-queue.1`,
/// `relay-queue-list.1`; and the reference of all, `commands.md`.
///
/// # Errors
/// When the directory cannot be written.
#[expect(clippy::disallowed_methods, reason = "this command writes files")]
pub(crate) fn write_pages(command: Command, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("commands.md"), reference(&command))?;
    clap_mangen::generate_to(command.disable_help_subcommand(true), directory)
}

/// What a shell needs to complete the command.
pub(crate) fn completions(mut command: Command, shell: Shell) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// What is no command of its own, and what a package has not.
const SKIPPED: [&str; 2] = ["help", "lab"];

/// What is the same for all commands.
const RULES: &str = "\
# Commands

Every command, its options, its exit codes and examples. This file is made from the program itself:
`relay COMMAND --help` and the manual pages say the same.

## For programs

`--json` prints JSON in place of text. All commands keep to this:

- One answer is one object, over several lines. What can be without bound comes as lines, one object each:
  `queue list`, what `queue retry|hold|release|bounce|delete` did, `policy list`, `check --all-queued`.
  A list that is bounded stands in the object under its own name.
- Every object has `\"version\": 1` at its top. The number changes when a member goes or means something else;
  members may be added.
- Names are in `snake_case`. A duration ends in its unit, `_s` or `_ms`.
- A moment is RFC 3339 in UTC: `2026-11-21T11:44:28.123Z`.
- A cause of failure has the word that the log, the metrics and the reports use: `tlsa-invalid`. In a history
  its evidence stands beside it, with `status`, `side`, `sentence` and `advice`. The state database has
  the same word under `cause`; the rest of what it holds is the relay's own: ask a command.
- Nothing but JSON is on standard output; complaints are on standard error.
- A command without `--json` prints text that has a form of its own (a configuration, a zone, a script of a shell,
  mail), or talks with a person: `setup`, `top`, `lab`, `user`.

## For people

- Tables are as wide as the terminal, or as `$COLUMNS` says: the widest columns are cut, with `…`, and those of
  least use left out. `--wide` prints all, and so does a pipe or a file. `--sort COLUMN` sorts, `--sort -COLUMN`
  the other way round; `--limit N` says how many rows.
- What strangers said (servers, senders, the DNS) cannot steer the terminal or turn the text: control
  characters, and those that turn or hide text, are shown as `\\u{202e}`.
- What takes more than a second says so on standard error, where that is a terminal.

## Exit codes

From 64 on they are those of sysexits.h. Each command says below which it can end with.

| code | |
|---|---|
";

/// The reference of all commands, in Markdown.
pub(crate) fn reference(command: &Command) -> String {
    let mut text = RULES.to_owned();
    for exit in Exit::ALL {
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {} | {} |", exit.code(), exit.words());
    }
    text.push_str(
        "\nWhat is named and not there is 1 everywhere: an id, an address, a domain, a filter that nothing fits. A \
         list of\neverything that is empty is an answer: 0.\n\n## All commands\n",
    );
    add(command, "", &mut text);
    text
}

fn add(command: &Command, path: &str, text: &mut String) {
    for one in command.get_subcommands().filter(|one| !SKIPPED.contains(&one.get_name()) && !one.is_hide_set()) {
        let name = if path.is_empty() { one.get_name().to_owned() } else { format!("{path} {}", one.get_name()) };
        if one.has_subcommands() {
            add(one, &name, text);
        } else {
            section(one, &name, text);
        }
    }
}

fn section(command: &Command, name: &str, text: &mut String) {
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(text, "\n### relay {name}\n\n{}", wrapped(&in_markdown(about.trim())));
    let arguments = command.get_arguments().filter(|argument| argument.get_id() != "help" && !argument.is_hide_set());
    let rows: Vec<String> = arguments.map(row).collect();
    if !rows.is_empty() {
        let _ = writeln!(text, "| argument | |\n|---|---|\n{}\n", rows.join("\n"));
    }
    let Some(guide) = guided::of(name) else { return };
    let _ = writeln!(text, "```sh");
    for (typed, what) in guide.examples {
        let _ = writeln!(text, "{typed}   # {what}");
    }
    let codes: Vec<String> = guide.codes().iter().map(|(exit, words)| format!("{} {words}", exit.code())).collect();
    let _ = write!(text, "```\n\n{}", wrapped(&format!("Exit codes: {}.", codes.join("; "))));
    if !guide.more.is_empty() {
        let _ = write!(text, "\n{}", wrapped(guide.more));
    }
}

fn row(argument: &Arg) -> String {
    let values = argument.get_value_names().unwrap_or_default().iter().map(|name| format!(" {name}"));
    let values = if argument.get_action().takes_values() { values.collect() } else { String::new() };
    let typed = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("`-{short}`, `--{long}{values}`"),
        (None, Some(long)) => format!("`--{long}{values}`"),
        (_, None) => format!("`{}`", values.trim()),
    };
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let default: Vec<String> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let default = if default.is_empty() || !argument.get_action().takes_values() {
        String::new()
    } else {
        format!(" (default: {})", default.join(", "))
    };
    format!("| {typed} | {}{default} |", in_markdown(&help))
}

/// Lines of at most so many characters, each ended.
fn wrapped(words: &str) -> String {
    fill("", words.split_whitespace(), 0, 110).into_iter().map(|line| line + "\n").collect()
}

/// Words that Markdown would take for something else.
fn in_markdown(words: &str) -> String {
    words.replace('|', "\\|").replace('<', "\\<")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::Cli;
    use clap::CommandFactory as _;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the reference is a file")]
    fn the_reference_is_that_of_this_program() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/commands.md");
        // The lab is no part of the package.
        let made = reference(&Cli::command());
        if std::env::var_os("UPDATE_COMMANDS").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(made == kept, "deploy/commands.md is old: make it with UPDATE_COMMANDS=1 cargo test --bin relay");
    }
}
