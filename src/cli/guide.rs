//! What stands below the help of each command: examples that work, and the exit codes that it can end with.
//!
//! One table for the help, the manual pages and `deploy/commands.md`. A command without a row here, and an
//! example that cannot be read, fail the tests.

use super::exit::Exit;

/// An example: what is typed, and what it is for.
pub(crate) type Example = (&'static str, &'static str);

/// What one command says for itself.
pub(crate) struct Guide {
    /// Its words without the first: `queue list`.
    pub(crate) command: &'static str,
    /// Whole lines, beginning with `relay`.
    pub(crate) examples: &'static [Example],
    /// What it ends with besides 0 and 64, and what that says where the general words do not do.
    pub(crate) exits: &'static [(Exit, &'static str)],
    /// Further sentences.
    pub(crate) more: &'static str,
}

/// Of whatever reads the spool.
const READS: [(Exit, &str); 3] = [(Exit::Io, "the history cannot be read"), (Exit::Denied, ""), (Exit::Config, "")];
/// Of whatever asks a relay that runs.
const ASKS: [(Exit, &str); 4] = [(Exit::Unavailable, ""), (Exit::Io, ""), (Exit::Denied, ""), (Exit::Config, "")];

const fn reads(nothing: &'static str) -> [(Exit, &'static str); 4] {
    [(Exit::Nothing, nothing), READS[0], READS[1], READS[2]]
}

const fn orders(nothing: &'static str) -> [(Exit, &'static str); 5] {
    [(Exit::Nothing, nothing), ASKS[0], ASKS[1], ASKS[2], ASKS[3]]
}

/// A command that ends as every one does.
const fn simple(command: &'static str, examples: &'static [Example]) -> Guide {
    Guide { command, examples, exits: &[], more: "" }
}

const NOT_ALL: &str = "nothing fits, or a message is in delivery at the moment";

/// Every command that does something.
pub(crate) const GUIDES: &[Guide] = &[
    Guide {
        command: "serve",
        examples: &[("relay serve --config /etc/relay/relay.toml", "as the service does")],
        exits: &[(Exit::System, ""), (Exit::Io, "the disk failed while it ran"), (Exit::Config, "")],
        more: "SIGHUP takes over the configuration, SIGUSR1 logs at debug until the next SIGUSR1, SIGUSR2 does nothing.",
    },
    Guide {
        command: "setup",
        examples: &[
            ("relay setup", "asks for all that it needs"),
            (
                "relay setup --yes --hostname relay.example.org --exchange 192.0.2.10 --sender-domain example.org",
                "asks nothing",
            ),
        ],
        exits: &[(Exit::Io, "the file cannot be written"), (Exit::Config, "what was answered makes no configuration")],
        more: "On a terminal it asks for what is not given. Without one, --hostname, --exchange and --sender-domain \
               must be there. What it finds wrong is said, and does not keep it from writing. A file that is there \
               already is a wrong command line (64).",
    },
    Guide {
        command: "send-test",
        examples: &[("relay send-test --to you@example.net --wait 5m", "waits up to five minutes for its end")],
        exits: &[
            (Exit::Nothing, "it still waits"),
            (Exit::Fault, "it was refused"),
            ASKS[0],
            ASKS[1],
            ASKS[2],
            ASKS[3],
        ],
        more: "",
    },
    #[cfg(feature = "lab")]
    Guide {
        command: "lab",
        examples: &[("relay lab", "a minute's tour"), ("relay lab --story", "whose fault it is, shown")],
        exits: &[(Exit::Nothing, "an outcome was not the expected one"), (Exit::Io, "")],
        more: "",
    },
    Guide {
        command: "check",
        examples: &[
            ("relay check example.org", "what mail to it would meet now"),
            ("relay check --self", "this host"),
            ("relay check --all-queued --json", "every domain that mail waits for, a line each"),
            ("relay check example.org --bundle evidence.json", "evidence to hand over"),
        ],
        exits: &[
            (Exit::Nothing, "a warning"),
            (Exit::Fault, "a fault"),
            (Exit::Unknown, ""),
            (Exit::Io, ""),
            (Exit::Config, ""),
        ],
        more: "",
    },
    Guide {
        command: "canary zonefile",
        examples: &[("relay canary zonefile canary.example.org", "what to publish")],
        exits: &[],
        more: "",
    },
    Guide {
        command: "dns",
        examples: &[
            ("relay dns example.org MX", "the answer, and whether it is secure"),
            ("relay dns -v _25._tcp.mx.example.org TLSA", "with the chain of trust"),
        ],
        exits: &[(Exit::Fault, "the answer is bogus"), (Exit::Unknown, ""), (Exit::Config, "")],
        more: "",
    },
    Guide {
        command: "dkim new",
        examples: &[
            ("relay dkim new example.org", "an RSA key, and its record for the DNS"),
            ("relay dkim new example.org --type ed25519", "a second one beside it"),
        ],
        exits: &[(Exit::System, "no key can be made"), (Exit::Io, "the file cannot be written"), (Exit::Config, "")],
        more: "Where the file is there already, nothing is made (64).",
    },
    Guide {
        command: "dkim check",
        examples: &[("relay dkim check example.org", "whether each key is published as it is used")],
        exits: &[
            (Exit::Nothing, "there is no key, or something to look at"),
            (Exit::Fault, "mail is signed with a key that is not published"),
            (Exit::Unknown, ""),
            (Exit::Config, ""),
        ],
        more: "",
    },
    Guide {
        command: "policy show",
        examples: &[("relay policy show example.org", "what is kept and what is announced")],
        exits: &[
            (Exit::Nothing, "there is no policy"),
            (Exit::Fault, "there should be one, and something is wrong with it"),
            (Exit::Unknown, ""),
            (Exit::Config, ""),
        ],
        more: "",
    },
    Guide {
        command: "policy refresh",
        examples: &[("relay policy refresh example.org", "fetch it now")],
        exits: &[
            (Exit::Nothing, "there is no policy"),
            (Exit::Fault, "there should be one, and something is wrong with it"),
            (Exit::Unknown, ""),
            (Exit::Config, ""),
        ],
        more: "",
    },
    Guide {
        command: "policy list",
        examples: &[("relay policy list --sort until", "those that end first")],
        exits: &[(Exit::Io, "the folder of the policies cannot be read"), (Exit::Config, "")],
        more: "",
    },
    Guide {
        command: "queue summary",
        examples: &[
            ("relay queue summary", "what waits, how old it is, and for which hosts"),
            ("relay queue summary --cause dns-unavailable", "who waits for the DNS"),
        ],
        exits: &reads("no message fits the conditions"),
        more: "",
    },
    Guide {
        command: "queue list",
        examples: &[
            ("relay queue list --domain example.org", "what waits for one domain"),
            ("relay queue list --sort -size --limit 10", "the ten largest"),
            ("relay queue list --older 4h --wide", "all columns, uncut"),
        ],
        exits: &reads("no message fits the conditions"),
        more: "",
    },
    Guide {
        command: "queue show",
        examples: &[
            ("relay queue show 06DJK8P2Q3R4S", "its story"),
            ("relay queue show 06DJK8P2Q3R4S --header", "the header of its content"),
        ],
        exits: &reads("nothing is known of it, or its content is gone"),
        more: "Who read the content of a message that waits is recorded in its history, where a relay runs.",
    },
    Guide {
        command: "queue export",
        examples: &[
            ("relay queue export 06DJK8P2Q3R4S -o message.eml", "to a file that mail programs open"),
            ("relay queue export 06DJK8P2Q3R4S", "to standard output"),
        ],
        exits: &reads("nothing is known of it, or its content is gone"),
        more: "Who read the content of a message that waits is recorded in its history, where a relay runs.",
    },
    Guide {
        command: "queue retry",
        examples: &[
            ("relay queue retry 06DJK8P2Q3R4S", "one message, now"),
            ("relay queue retry --domain example.org", "all that waits for a domain"),
        ],
        exits: &orders(NOT_ALL),
        more: "",
    },
    Guide {
        command: "queue hold",
        examples: &[("relay queue hold --sender you@example.org", "until it is released")],
        exits: &orders(NOT_ALL),
        more: "",
    },
    Guide {
        command: "queue release",
        examples: &[("relay queue release --all", "whatever is held")],
        exits: &orders(NOT_ALL),
        more: "",
    },
    Guide {
        command: "queue bounce",
        examples: &[("relay queue bounce 06DJK8P2Q3R4S", "back to its sender, with a report")],
        exits: &orders(NOT_ALL),
        more: "",
    },
    Guide {
        command: "queue delete",
        examples: &[("relay queue delete 06DJK8P2Q3R4S 06DJK8P2Q3R4T --yes", "two messages, without asking")],
        exits: &orders(NOT_ALL),
        more: "",
    },
    Guide {
        command: "top",
        examples: &[("relay top", "until q is typed")],
        exits: &READS,
        more: "It needs a terminal; without one ask `relay queue summary`.",
    },
    Guide {
        command: "why",
        examples: &[
            ("relay why 06DJK8P2Q3R4S", "the story of one message"),
            ("relay why bob@example.org --limit 100", "the newest hundred with this address"),
            ("relay why --what-if tls=dane-only --domain example.org", "which past deliveries would have waited"),
        ],
        exits: &reads("nothing is known of it; with --what-if: something would have waited"),
        more: "",
    },
    Guide {
        command: "incidents",
        examples: &[("relay incidents", "those that go on, then those that ended")],
        exits: &READS,
        more: "",
    },
    Guide {
        command: "watch list",
        examples: &[("relay watch list", "those with findings first")],
        exits: &[(Exit::Config, "")],
        more: "",
    },
    Guide {
        command: "watch show",
        examples: &[("relay watch show example.org", "what was found, and a text to send")],
        exits: &[(Exit::Nothing, "the domain is not watched"), (Exit::Config, "")],
        more: "",
    },
    Guide {
        command: "reports list",
        examples: &[("relay reports list", "the newest day first")],
        exits: &[READS[0], READS[1], READS[2]],
        more: "Times and days are UTC. Nothing is counted where `[tls_reports]` is not enabled.",
    },
    Guide {
        command: "reports show",
        examples: &[("relay reports show example.org --day 2026-11-29", "one day of one domain")],
        exits: &reads("nothing was counted of it"),
        more: "",
    },
    Guide {
        command: "reports send",
        examples: &[
            ("relay reports send --dry-run example.org", "the report as it would go out"),
            ("relay reports send --now", "those about days that are over, at once"),
        ],
        exits: &orders("with --now: no report is left to be sent"),
        more: "",
    },
    Guide {
        command: "audit",
        examples: &[
            ("relay audit", "everything"),
            ("relay audit --exchange-tracking MSGTRK2026112109-1.LOG", "against Exchange's own log"),
        ],
        exits: &[(Exit::Fault, "it does not hold, or the two do not agree"), READS[0], READS[1], READS[2]],
        more: "",
    },
    Guide {
        command: "status",
        examples: &[("relay status", "whether it runs, and how it is")],
        exits: &ASKS,
        more: "",
    },
    Guide {
        command: "reload",
        examples: &[("relay reload", "take over /etc/relay/relay.toml")],
        exits: &[ASKS[0], ASKS[1], ASKS[2], (Exit::Config, "refused: the configuration before stays in force")],
        more: "",
    },
    Guide {
        command: "drain",
        examples: &[("relay drain", "before an update of this node")],
        exits: &ASKS,
        more: "A service manager does not start it again: it ends as after `systemctl stop`, which does the same.",
    },
    Guide {
        command: "spool init",
        examples: &[("relay spool init --config /etc/relay/relay.toml", "once, in an empty database")],
        exits: &[(Exit::Io, "the database cannot be reached"), (Exit::Config, "")],
        more: "",
    },
    Guide {
        command: "spool migrate",
        examples: &[("relay spool migrate", "after an update that asks for it")],
        exits: &[(Exit::Io, "the database cannot be reached"), (Exit::Config, "")],
        more: "Relays of an older version go on where the new schema allows it, and end where it does not; the notes on a \
               release say which.",
    },
    Guide {
        command: "spool move",
        examples: &[
            ("relay spool move --from old.toml --to new.toml", "with the service stopped; again, after a fault"),
            ("relay spool move --from old.toml --to new.toml --give-up", "the mail stays where it was"),
        ],
        exits: &[
            (Exit::Fault, "a message is damaged in the old spool, or is not the same in the new one"),
            (Exit::System, "a relay is at work on one of the spools"),
            (Exit::Io, "a spool cannot be read or written; what was carried stays, and the next run goes on"),
            (Exit::Config, ""),
        ],
        more: "Everything is carried: what waits, what is held, and the history; at the end it is read again and compared. \
               No relay starts on the old spool from then on, and nothing is removed there.",
    },
    Guide {
        command: "spool status",
        examples: &[("relay spool status", "the engine, the version of the schema, and what waits")],
        exits: &[
            (Exit::Fault, "the schema is not one that this relay works with"),
            (Exit::Io, "the database cannot be reached"),
            (Exit::Config, ""),
        ],
        more: "",
    },
    Guide {
        command: "cluster status",
        examples: &[("relay cluster status", "which relays run, and what each carries")],
        exits: &[
            (Exit::Nothing, "a node is silent, or its clock is off"),
            (Exit::Io, "the database cannot be reached"),
            (Exit::Config, ""),
        ],
        more: "",
    },
    Guide {
        command: "suspend",
        examples: &[
            ("relay suspend", "who is suspended now, and who was"),
            ("relay suspend user printer-3 --for 4h --reason endless", "until it is repaired"),
            ("relay suspend destination partner.example", "until relay resume is said"),
        ],
        exits: &ASKS,
        more: "",
    },
    Guide {
        command: "resume",
        examples: &[("relay resume user printer-3 --reason repaired", "it may send again")],
        exits: &orders("that is not suspended"),
        more: "",
    },
    simple(
        "user add",
        &[
            ("relay user add scanner --sender scanner@example.org --file /etc/relay/users", "asks for the password"),
            ("relay user add anna --role helpdesk --file /etc/relay/admins", "for the admin port"),
        ],
    ),
    simple(
        "user token",
        &[("relay user token monitor --role look --file /etc/relay/admins", "its last line is the token")],
    ),
    simple(
        "user vouch",
        &[("relay user vouch anna --role helpdesk --file /etc/relay/admins", "the proxy asks for the password")],
    ),
    Guide {
        command: "user list",
        examples: &[("relay user list --file /etc/relay/users", "who may log in")],
        exits: &[(Exit::Io, "")],
        more: "",
    },
    simple("user remove", &[("relay user remove scanner --file /etc/relay/users", "that user may no longer log in")]),
    simple("user hash", &[("relay user hash", "for a file that something else writes")]),
    Guide {
        command: "log-level",
        examples: &[
            ("relay log-level debug --for 10m", "more, for ten minutes"),
            ("relay log-level info,dane_relay::deliver=debug", "more about deliveries alone"),
            ("relay log-level default", "as it was started"),
        ],
        exits: &ASKS,
        more: "",
    },
    Guide {
        command: "config check",
        examples: &[("relay config check", "whether it can be used")],
        exits: &[(Exit::Config, "it cannot be used")],
        more: "",
    },
    Guide {
        command: "config show",
        examples: &[("relay config show", "every key with the value that counts")],
        exits: &[(Exit::Config, "")],
        more: "",
    },
    Guide {
        command: "config diff",
        examples: &[("relay config diff", "what a reload would change")],
        exits: &[(Exit::Nothing, "there are differences"), ASKS[0], ASKS[1], ASKS[2], (Exit::Config, "")],
        more: "",
    },
    Guide {
        command: "config example",
        examples: &[("relay config example", "every key, its meaning and its default")],
        exits: &[],
        more: "",
    },
    Guide {
        command: "completions",
        examples: &[("relay completions bash", "to /etc/bash_completion.d/relay")],
        exits: &[],
        more: "",
    },
    Guide {
        command: "manual",
        examples: &[("relay manual /tmp/man", "a page for each command")],
        exits: &[(Exit::Io, "")],
        more: "",
    },
];
