//! What the table of `guide.rs` says, put below the help of each command.

use super::exit::Exit;
use super::guide::{GUIDES, Guide};
use clap::Command;
use std::fmt::Write as _;

/// The row of a command.
pub(crate) fn of(command: &str) -> Option<&'static Guide> {
    GUIDES.iter().find(|guide| guide.command == command)
}

impl Guide {
    /// Each code that it can end with, and what that says.
    pub(crate) fn codes(&self) -> Vec<(Exit, &'static str)> {
        let own = |exit: Exit| self.exits.iter().find(|(known, _)| *known == exit).map(|(_, words)| *words);
        let always = |exit: Exit| matches!(exit, Exit::Done | Exit::Usage).then_some("");
        let told = |exit: Exit| {
            let words = own(exit).or_else(|| always(exit))?;
            Some((exit, if words.is_empty() { exit.words() } else { words }))
        };
        Exit::ALL.into_iter().filter_map(told).collect()
    }

    /// What stands below the help.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("Examples:\n");
        for (typed, what) in self.examples {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {typed}\n      {what}");
        }
        let codes: Vec<String> = self.codes().iter().map(|(exit, words)| format!("{} {words}", exit.code())).collect();
        let _ = write!(text, "\nExit codes: {}.", codes.join("; "));
        if !self.more.is_empty() {
            let _ = write!(text, "\n\n{}", self.more);
        }
        text
    }
}

/// Puts below the help of each command what its row says.
pub(crate) fn annotated(command: Command) -> Command {
    below(command, "")
}

fn below(command: Command, path: &str) -> Command {
    let path = path.to_owned();
    let command = command.mut_subcommands(|one| {
        let name = [&path, one.get_name()].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        below(one, &name)
    });
    match of(&path) {
        Some(guide) => command.after_help(guide.text()),
        None => command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::Cli;
    use clap::{CommandFactory as _, FromArgMatches as _};
    use std::collections::BTreeSet;

    fn leaves(command: &Command, path: &str, found: &mut BTreeSet<String>) {
        for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
            let name = if path.is_empty() { one.get_name().to_owned() } else { format!("{path} {}", one.get_name()) };
            if one.has_subcommands() {
                leaves(one, &name, found);
            } else {
                found.insert(name);
            }
        }
    }

    #[test]
    fn each_command_has_examples_and_exit_codes_and_no_other_has() {
        let mut found = BTreeSet::new();
        leaves(&Cli::command(), "", &mut found);
        let told: BTreeSet<String> = GUIDES.iter().map(|guide| guide.command.to_owned()).collect();
        assert_eq!(told, found);
        assert_eq!(told.len(), GUIDES.len(), "one row each");
        assert!(GUIDES.iter().all(|guide| !guide.examples.is_empty()));
    }

    #[test]
    fn every_example_can_be_read() {
        let read = |line: &str| {
            let matches = annotated(Cli::command()).try_get_matches_from(line.split_ascii_whitespace())?;
            Cli::from_arg_matches(&matches)
        };
        for guide in GUIDES {
            for (typed, _) in guide.examples {
                assert!(typed.starts_with(&format!("relay {}", guide.command)), "{typed}");
                if let Err(error) = read(typed) {
                    panic!("{typed}: {error}");
                }
            }
        }
        assert!(read("relay queue list --sort").is_err());
    }

    #[test]
    fn the_help_names_the_codes_that_apply_and_no_other() {
        let help = |name: &str| of(name).unwrap().text();
        assert!(help("queue list").contains("1 no message fits the conditions; 64 "), "{}", help("queue list"));
        assert!(!help("queue list").contains("69 ") && help("queue hold").contains("69 no relay runs"));
        assert!(!help("canary zonefile").contains("78 ") && help("check").contains("3 it could not be found out"));
    }

    #[test]
    fn the_codes_are_those_of_sysexits_and_each_is_told_apart() {
        let codes = Exit::ALL.map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 64, 69, 71, 74, 77, 78]);
        let words: BTreeSet<&str> = Exit::ALL.iter().map(|exit| exit.words()).collect();
        assert_eq!(words.len(), Exit::ALL.len());
    }
}
