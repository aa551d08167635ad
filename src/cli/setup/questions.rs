//! The questions of `relay setup`, with what is meant when nothing is typed.

use super::GivenAnswers;
use crate::cli::values::{domain, mailbox, network};
use dane_relay::command::setup::{CertificateFiles, SetupAnswers};
use dane_relay::config::Config;
use dane_relay::smtp::address::{Domain, Mailbox};
use dane_relay::text::harmless;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The port of mail.
const PORT: u16 = 25;
/// Where the change begins when nobody says.
const SOME_PARTNER: &str = "partner.example";
/// Questions that are put again after an answer that makes no sense.
const TRIES: usize = 5;

/// Why there are no answers.
#[derive(Debug)]
pub(super) enum AnswerError {
    /// An option must be given.
    Missing(String),
    /// The terminal said no more.
    Ended(io::Error),
}

impl From<io::Error> for AnswerError {
    fn from(error: io::Error) -> Self {
        Self::Ended(error)
    }
}

/// The answers from the options alone.
pub(super) fn complete(given: GivenAnswers) -> Result<SetupAnswers, AnswerError> {
    let missing: Vec<&str> = [
        given.hostname.is_none().then_some("--hostname NAME"),
        given.exchange.is_empty().then_some("--exchange ADDRESS"),
        given.sender_domain.is_empty().then_some("--sender-domain DOMAIN"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let Some(hostname) = given.hostname.clone().filter(|_| missing.is_empty()) else {
        let what = missing.join(", ");
        return Err(AnswerError::Missing(format!("without a terminal, setup needs {what}")));
    };
    let postmaster = given.postmaster.clone().or_else(|| usual_postmaster(&given.sender_domain));
    let Some(postmaster) = postmaster else {
        return Err(AnswerError::Missing("setup needs --postmaster ADDRESS".to_owned()));
    };
    let listen = if given.listen.is_empty() { vec![everywhere()] } else { given.listen };
    let pilot = given.pilot.or_else(|| SOME_PARTNER.parse().ok()).unwrap_or_else(|| hostname.clone());
    Ok(SetupAnswers {
        hostname,
        postmaster,
        listen,
        exchange: given.exchange,
        sender_domains: given.sender_domain,
        certificate: given.certificate.zip(given.key).map(|(chain, key)| CertificateFiles { chain, key }),
        spool: given.spool,
        upstreams: given.upstream,
        trust_anchors: given.trust_anchors,
        egress: given.egress,
        controls: given.control,
        pilot,
    })
}

const fn everywhere() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)
}

fn usual_postmaster(domains: &[Domain]) -> Option<Mailbox> {
    domains.first().and_then(|domain| format!("postmaster@{domain}").parse().ok())
}

/// Asks on the terminal for what is not given.
pub(super) fn on_terminal(given: GivenAnswers) -> Result<SetupAnswers, AnswerError> {
    let mut terminal = Terminal { input: io::stdin().lock(), output: io::stderr() };
    complete(terminal.ask_all(given)?)
}

/// Somebody who answers.
struct Terminal<R, W> {
    input: R,
    output: W,
}

impl<R: BufRead, W: Write> Terminal<R, W> {
    fn ask_all(&mut self, mut given: GivenAnswers) -> io::Result<GivenAnswers> {
        if given.hostname.is_none() {
            let own = Config::default().hostname.to_string();
            let usual = if own.contains('.') { own.as_str() } else { "" };
            given.hostname = Some(self.one("The name of this relay that other servers see", usual, domain)?);
        }
        if given.exchange.is_empty() {
            given.exchange = self.several("The addresses of your Exchange servers", Few::AtLeastOne, network)?;
        }
        if given.sender_domain.is_empty() {
            given.sender_domain = self.several("The domains of your senders", Few::AtLeastOne, domain)?;
        }
        if given.postmaster.is_none() {
            let usual = usual_postmaster(&given.sender_domain).map(|usual| usual.to_string()).unwrap_or_default();
            given.postmaster = Some(self.one("Who is told when a report cannot be delivered", &usual, mailbox)?);
        }
        if given.listen.is_empty() {
            let socket = |text: &str| text.parse().map_err(|_| "write IP:PORT, such as 0.0.0.0:25".to_owned());
            given.listen = vec![self.one("Where Exchange hands mail in", &everywhere().to_string(), socket)?];
        }
        if given.egress.is_empty() {
            let question = "The address that mail leaves from, as others see it (Enter: that of this machine)";
            let address = |text: &str| text.parse().map_err(|_| format!("\"{text}\" is no address"));
            given.egress = self.several(question, Few::OrNone, address)?;
        }
        if given.control.is_empty() {
            let question = "A mail server of somebody else, to see whether port 25 is open (Enter: do not try)";
            given.control = self.several(question, Few::OrNone, domain)?;
        }
        if given.pilot.is_none() {
            given.pilot = Some(self.one("The recipient domain to begin with", SOME_PARTNER, domain)?);
        }
        Ok(given)
    }

    /// One answer; Enter stands for the usual one, where there is one.
    fn one<T>(&mut self, question: &str, usual: &str, read: impl Fn(&str) -> Result<T, String>) -> io::Result<T> {
        let shown = if usual.is_empty() { String::new() } else { format!(" [{usual}]") };
        self.until(&format!("{question}{shown}: "), |line| read(if line.is_empty() { usual } else { line }))
    }

    /// Several, with blanks or commas between them.
    fn several<T>(&mut self, question: &str, few: Few, read: impl Fn(&str) -> Result<T, String>) -> io::Result<Vec<T>> {
        self.until(&format!("{question}: "), |line| {
            let words = line.split([' ', ',', '\t']).filter(|word| !word.is_empty());
            let all = words.map(&read).collect::<Result<Vec<T>, String>>()?;
            if all.is_empty() && few == Few::AtLeastOne { Err("at least one is needed".to_owned()) } else { Ok(all) }
        })
    }

    fn until<T>(&mut self, question: &str, read: impl Fn(&str) -> Result<T, String>) -> io::Result<T> {
        for _try in 0..TRIES {
            write!(self.output, "{question}")?;
            self.output.flush()?;
            let mut line = String::new();
            if self.input.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match read(line.trim()) {
                Ok(answer) => return Ok(answer),
                Err(wrong) => writeln!(self.output, "  {}", harmless(&wrong))?,
            }
        }
        Err(io::Error::other("none of the answers made sense"))
    }
}

/// How few answers will do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Few {
    OrNone,
    AtLeastOne,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str, given: GivenAnswers) -> (Result<SetupAnswers, AnswerError>, String) {
        let mut terminal = Terminal { input: text.as_bytes(), output: Vec::new() };
        let answers = terminal.ask_all(given).map_err(AnswerError::from).and_then(complete);
        (answers, String::from_utf8(terminal.output).unwrap())
    }

    #[test]
    fn what_is_typed_counts_and_enter_takes_the_usual() {
        let text = "relay.example.org\n192.0.2.10, 192.0.2.11\nexample.org example.net\n\n\n\n\npilot.example\n";
        let (answers, asked) = typed(text, GivenAnswers::default());
        let answers = answers.unwrap();
        assert_eq!(answers.exchange.len(), 2);
        assert_eq!(answers.postmaster.to_string(), "postmaster@example.org");
        assert_eq!(answers.listen, [everywhere()]);
        assert!(answers.controls.is_empty());
        assert_eq!(answers.pilot.to_string(), "pilot.example");
        assert!(asked.contains("[postmaster@example.org]"), "{asked}");
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_asked_for_again() {
        let given = GivenAnswers { hostname: Some("relay.example.org".parse().unwrap()), ..GivenAnswers::default() };
        let text = "exchange.example.org\n\n192.0.2.10\nexample.org\n\n\n\n\n\n";
        let (answers, asked) = typed(text, given);
        assert_eq!(answers.unwrap().exchange, [network("192.0.2.10").unwrap()]);
        assert!(asked.contains("is no address") && asked.contains("at least one"), "{asked}");
        assert!(!asked.contains("name of this relay"), "what is given is not asked for: {asked}");
    }

    #[test]
    fn who_ends_the_input_has_not_answered() {
        let (answers, _) = typed("relay.example.org\n", GivenAnswers::default());
        assert!(matches!(answers, Err(AnswerError::Ended(_))), "{answers:?}");
    }

    #[test]
    fn without_a_terminal_all_that_is_missing_is_named_at_once() {
        let Err(AnswerError::Missing(what)) = complete(GivenAnswers::default()) else { panic!() };
        assert!(["--hostname", "--exchange", "--sender-domain"].iter().all(|option| what.contains(option)), "{what}");
    }
}
