//! `relay user …`: the file of users that `auth` of a listener names, or `users` of the admin port.
//!
//! The password comes from the terminal, without echo, or as the first line of standard input; never from the
//! arguments, which every process of the machine can read.
#![expect(clippy::disallowed_methods, reason = "reads and writes the file of users")]

use super::exit::Exit;
use super::terminal::{complain, say};
use clap::{Args, Subcommand};
use dane_relay::config::SenderPattern;
use dane_relay::config::users::{
    NO_PASSWORD, NewToken, User, UserRole, Users, hash, new_token, with_user, without_user,
};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// `relay user …`
#[derive(Subcommand)]
pub(crate) enum UserAction {
    /// Add a user, or give one another password. It is asked for, or read from standard input.
    Add {
        /// The name that the client logs in with.
        name: String,
        /// An address that is the user's own, or @example.org for all of a domain. May be given several times;
        /// without it the name itself, where it is an address.
        #[arg(long, value_name = "ADDRESS", value_parser = sender_pattern)]
        sender: Vec<SenderPattern>,
        /// What the user may do on the admin port: look, helpdesk (also check and retry) or operator (all).
        #[arg(long, value_name = "ROLE")]
        role: Option<UserRole>,
        #[command(flatten)]
        of: UsersFile,
    },
    /// Give a program a token for the admin port. It is printed, once.
    Token {
        /// The name of the program; a token that it had is replaced.
        name: String,
        /// What it may do: look, helpdesk or operator.
        #[arg(long, value_name = "ROLE")]
        role: UserRole,
        #[command(flatten)]
        of: UsersFile,
    },
    /// Add somebody for whom a proxy in front of the admin port vouches: without a password.
    Vouch {
        /// The name, as the proxy says it.
        name: String,
        /// What the user may do: look, helpdesk or operator.
        #[arg(long, value_name = "ROLE")]
        role: UserRole,
        #[command(flatten)]
        of: UsersFile,
    },
    /// The users, the senders that are their own, and their roles on the admin port.
    List {
        #[command(flatten)]
        of: UsersFile,
    },
    /// Remove a user.
    Remove {
        /// The name.
        name: String,
        #[command(flatten)]
        of: UsersFile,
    },
    /// Print the hash of a password, which is asked for, or read from standard input.
    Hash,
}

/// Where the users are.
#[derive(Args)]
pub(crate) struct UsersFile {
    /// The file that `auth` of a `[[listener]]` or `users` of `[admin]` names; it is made if it is not there.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

fn sender_pattern(text: &str) -> Result<SenderPattern, String> {
    SenderPattern::try_from(text.to_owned())
}

/// Does it.
pub(crate) fn user(action: UserAction) -> ExitCode {
    match action {
        UserAction::Hash => match password().and_then(|password| hash(&password)) {
            Ok(hash) => say(&format!("{hash}\n")),
            Err(why) => complain(Exit::Usage, &why),
        },
        UserAction::List { of } => match list(&of.file) {
            Ok(text) => say(&text),
            Err(why) => complain(Exit::Io, &why),
        },
        UserAction::Add { name, sender, role, of } => {
            let added = password().and_then(|password| hash(&password));
            told(added.and_then(|hash| add(&of.file, &name, &hash, &sender, role)))
        }
        UserAction::Token { name, role, of } => told(token(&of.file, &name, role)),
        UserAction::Vouch { name, role, of } => told(add(&of.file, &name, NO_PASSWORD, &[], Some(role))),
        UserAction::Remove { name, of } => told(remove(&of.file, &name)),
    }
}

fn told(done: Result<String, String>) -> ExitCode {
    match done {
        Ok(text) => say(&text),
        Err(why) => complain(Exit::Usage, &why),
    }
}

fn list(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let users = Users::parse(&text).map_err(|error| format!("{}:{error}", file.display()))?;
    let words = |user: &User| {
        let senders = user.senders.iter().map(ToString::to_string);
        senders.chain(user.role.map(|role| format!("role={}", role.word()))).collect::<Vec<_>>().join(" ")
    };
    Ok(users.iter().map(|user| format!("{} {}\n", user.name, words(user))).collect())
}

/// The token is the last line, for a script.
fn token(file: &Path, name: &str, role: UserRole) -> Result<String, String> {
    let NewToken { token, hash } = new_token()?;
    let added = add(file, name, &hash, &[], Some(role))?;
    Ok(format!("{added}{token}\n"))
}

fn add(
    file: &Path,
    name: &str,
    hash: &str,
    senders: &[SenderPattern],
    role: Option<UserRole>,
) -> Result<String, String> {
    let before = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    let text = with_user(&before, name, hash, senders, role).map_err(|error| format!("{}:{error}", file.display()))?;
    replace(file, &text).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(format!("{name} is in {}; a running relay knows within a minute, or with `relay reload`\n", file.display()))
}

fn remove(file: &Path, name: &str) -> Result<String, String> {
    let before = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let text = without_user(&before, name).ok_or_else(|| format!("{}: there is no user {name}", file.display()))?;
    replace(file, &text).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(format!("{name} is gone; a running relay knows within a minute, or with `relay reload`\n"))
}

/// Written aside and renamed, so that nobody reads half of it. A new file is for the group of its directory to
/// read, which is that of the service in /etc/relay; another keeps owner and mode.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let directory = file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let aside = file.with_extension("new");
    let (owner, mode) = match std::fs::metadata(file) {
        Ok(before) => (Some((before.uid(), before.gid())), before.permissions().mode() & 0o777),
        Err(_none_yet) => (None, 0o640),
    };
    let mut new = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    new.write_all(text.as_bytes())?;
    new.set_permissions(std::fs::Permissions::from_mode(mode))?;
    new.sync_all()?;
    match owner {
        Some((user, group)) => chown(&aside, Some(user), Some(group))?,
        // Whoever is in no such group cannot give it away, and runs the relay as themselves.
        None => drop(chown(&aside, None, Some(std::fs::metadata(directory)?.gid()))),
    }
    std::fs::rename(&aside, file)
}

fn password() -> Result<String, String> {
    let unreadable = |error: io::Error| format!("the password cannot be read: {error}");
    if io::stdin().is_terminal() {
        let password = rpassword::prompt_password("Password: ").map_err(unreadable)?;
        let again = rpassword::prompt_password("The same again: ").map_err(unreadable)?;
        return if password == again { Ok(password) } else { Err("the two are not the same".to_owned()) };
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(unreadable)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
