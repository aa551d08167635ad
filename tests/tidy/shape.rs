//! The shape of files and functions: how long, who touches the world, who hides parameters.

use crate::source::{Source, sources, test_sources, without_comments_and_tests, without_tests};

/// The most lines of one file without its tests.
const LINES_LIMIT: usize = 450;
/// The most lines of a file with its tests, and of a file that is one.
const WITH_TESTS_LIMIT: usize = 600;

/// Files that are longer, and why.
const LONG: &[(&str, &str)] = &[
    ("accept/session.rs", "one state machine, whose states are read together"),
    ("config/mod.rs", "the list of all keys"),
    ("deliver/session.rs", "one state machine, whose states are read together"),
    ("outcome/mod.rs", "one table of all causes"),
    ("spool/embedded/state.rs", "all of SQL in one place"),
    ("spool/mod.rs", "two traits and all their nouns"),
];

/// What reaches out of the process, or asks how late it is.
const WORLD: [&str; 16] = [
    "Command::new",
    "File::create",
    "File::open",
    "Instant::now",
    "OpenOptions",
    "SystemTime::now",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
    "fs::rename",
    "rustix::fs",
    "std::fs",
    "tokio::fs",
];
/// Files with these names may: they do what others have chosen.
const DOERS: [&str; 3] = ["disk.rs", "driver.rs", "store.rs"];

/// Others that touch the world, and why they have another name. A folder stands for all its files.
const TOUCH_THE_WORLD: &[(&str, &str)] = &[
    ("accept/logins.rs", "reads the file of users"),
    ("accept/ports.rs", "opens and closes the ports"),
    ("accept/tls.rs", "keeps the certificate that it made"),
    ("check/mod.rs", "measures how long it took"),
    ("check/selfcheck/", "is about this host: its disk, its sockets, its clock"),
    ("cli/audit.rs", "reads the tracking logs that it is given"),
    ("cli/check.rs", "writes what it saw to a file, and reads what was seen elsewhere"),
    ("cli/content.rs", "writes the content of a message to the file that it is given"),
    ("cli/dkim.rs", "writes the key that it made"),
    ("cli/log.rs", "asks whether standard error is the journal"),
    ("cli/manual.rs", "writes the manual pages"),
    ("cli/user.rs", "reads and writes the file of users"),
    ("clock.rs", "the clock"),
    ("config/", "reads the files of the configuration"),
    ("deliver/content.rs", "each step within its time, in virtual time where tests want it"),
    ("deliver/parking.rs", "how long a connection has been idle, in virtual time where tests want it"),
    ("net.rs", "the one trait by which connections are made"),
    ("pipeline/lease.rs", "how long a claim is held, in virtual time where tests want it"),
    ("pipeline/postmaster.rs", "how long reports are gathered, in virtual time where tests want it"),
    ("policy/sts/testing.rs", "a policy host of the unit tests"),
    ("resolve/own.rs", "reads the file that names this host"),
    ("resolve/paths/", "the paths to the DNS: sockets, and how long each took"),
    ("resolve/probe.rs", "a question past all paths"),
    ("service/", "starts what runs: listeners, timers, signals"),
    ("spool/embedded/", "the engine is files; each is called for what it keeps"),
    ("spool/postgres/content.rs", "how long a reader waits for a database that is away"),
    ("spool/postgres/session.rs", "how long a node waits for its name"),
    ("state_dir/", "the one store of small files"),
];

#[test]
fn files_stay_readable() {
    let is_test = |name: &str| name.starts_with("tests/") || name.ends_with("tests.rs") || name.ends_with("testing.rs");
    let is_long = |source: &Source| {
        let whole = source.text.lines().count();
        whole > WITH_TESTS_LIMIT || !is_test(&source.name) && without_tests(&source.text).len() > LINES_LIMIT
    };
    let long: Vec<String> =
        sources().into_iter().chain(test_sources()).filter(is_long).map(|source| source.name).collect();
    agree(&long, LONG, "longer than a file may be");
}

#[test]
fn who_touches_the_world_is_called_so() {
    let is_doer = |name: &str| name.rsplit('/').next().is_some_and(|file| DOERS.contains(&file));
    let touches = |source: &Source| {
        let exempt = is_doer(&source.name) || source.name.starts_with("lab/") || source.name.ends_with("tests.rs");
        !exempt && touched(&source.text).is_some()
    };
    let doing: Vec<String> = sources().into_iter().filter(touches).map(|source| source.name).collect();
    agree(&doing, TOUCH_THE_WORLD, "touches the world: call it driver, disk or store, or say why not");
    assert_eq!(touched("let now = tokio::time::Instant::now();"), Some("Instant::now"));
    assert_eq!(touched("use std::fs::OpenOptions;"), Some("OpenOptions"));
    assert_eq!(touched("use std::net::{IpAddr, TcpListener};"), Some("TcpListener"));
    assert_eq!(touched("struct MyTcpListener;\n// std::fs\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}"), None);
}

fn touched(text: &str) -> Option<&'static str> {
    let code = without_comments_and_tests(text);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    WORLD.into_iter().find(|word| {
        code.match_indices(word)
            .any(|(at, _)| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
    })
}

#[test]
fn parameters_are_not_hidden_in_tuples() {
    // What is below shows the watch tuples.
    let others = test_sources().into_iter().filter(|source| !source.name.starts_with("tests/tidy/"));
    let all = sources().into_iter().chain(others);
    let found: Vec<String> = all
        .flat_map(|source| tuple_takers(&source.text).into_iter().map(move |name| format!("{} {name}", source.name)))
        .collect();
    assert!(found.is_empty(), "takes a tuple: give its parts parameters or a type of their own: {found:#?}");
    assert_eq!(tuple_takers("pub(super) fn f<T: Fn(u8) -> u8>((a, b): (u8, T), c: u8) -> (u8, u8) {"), ["f"]);
    assert_eq!(tuple_takers("fn f(&self, pair: &'a mut (u8, u8)) {}"), ["f"]);
    assert_eq!(
        tuple_takers("fn f(\n    one: [(u8, u8); 2],\n    two: impl Fn((u8, u8)),\n    _nothing: (),\n) {}"),
        [""; 0]
    );
}

/// The functions one of whose parameters is a tuple.
fn tuple_takers(text: &str) -> Vec<String> {
    let mut takers = Vec::new();
    for (at, _) in text.match_indices("fn ") {
        let rest = &text[at + 3..];
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let opens = rest[name.len()..].starts_with(['(', '<']) && !name.is_empty();
        if opens && parameter_types(&rest[name.len()..]).iter().any(|taken| is_tuple(taken)) {
            takers.push(name);
        }
    }
    takers
}

/// What stands behind the colons of a list of parameters; generics may come before it.
fn parameter_types(rest: &str) -> Vec<String> {
    let (mut round, mut other, mut angle) = (0, 0, 0);
    let (mut types, mut current, mut before) = (Vec::new(), None::<String>, ' ');
    for c in rest.chars() {
        match c {
            '(' => round += 1,
            ')' => round -= 1,
            '[' | '{' => other += 1,
            ']' | '}' => other -= 1,
            '<' => angle += 1,
            '>' if before != '-' => angle -= 1,
            _ => {}
        }
        let is_top = (round, other, angle) == (1, 0, 0);
        match c {
            ')' if round == 0 && angle == 0 => {
                types.extend(current);
                return types;
            }
            ',' if is_top => types.extend(current.take()),
            ':' if is_top && current.is_none() => current = Some(String::new()),
            c => current.iter_mut().for_each(|current| current.push(c)),
        }
        before = c;
    }
    types
}

fn is_tuple(taken: &str) -> bool {
    let mut taken = taken.trim();
    while let Some(rest) = taken.strip_prefix('&') {
        let lifetime = rest.strip_prefix('\'');
        taken = lifetime.map_or(rest, |lifetime| lifetime.split_once(' ').map_or("", |(_, behind)| behind));
        taken = taken.strip_prefix("mut ").unwrap_or(taken).trim_start();
    }
    taken.starts_with('(') && taken.contains(',')
}

/// What is found is what is allowed, no more and no less.
fn agree(found: &[String], allowed: &[(&str, &str)], what: &str) {
    let allows = |allowed: &str, name: &str| allowed == name || allowed.ends_with('/') && name.starts_with(allowed);
    let new: Vec<_> = found.iter().filter(|name| !allowed.iter().any(|(one, _)| allows(one, name))).collect();
    assert!(new.is_empty(), "{what}: {new:#?}");
    let idle: Vec<_> = allowed.iter().filter(|(one, _)| !found.iter().any(|name| allows(one, name))).collect();
    assert!(idle.is_empty(), "no more, take it from the list: {idle:?}");
}
