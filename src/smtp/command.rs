//! SMTP commands as a server reads them (RFC 5321 §4.1, RFC 3030, RFC 3207, RFC 4954).
//!
//! One line in, a [`Command`] or a typed `CommandError` out. Verbs and parameters are read in
//! any case (RFC 5321 §2.4), addresses are kept verbatim. Every value is checked here, so that
//! no control character gets further, and from outside ASCII nothing but UTF-8 in addresses. In
//! MAIL and VRFY that takes the word SMTPUTF8 beside it (RFC 6531 §3.4); for RCPT the session
//! remembers whether MAIL had it.

use super::address::{AddressError, DOMAIN_LIMIT, ForwardPath, ReversePath, parse_forward_path, parse_reverse_path};
use super::error::CommandError;
use super::parameter::{MailParameters, RcptParameters, octets, words};
use super::sasl::{AuthCommand, Secret};

/// A command with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `EHLO name`.
    Ehlo(String),
    /// `HELO name`.
    Helo(String),
    /// `MAIL FROM:<…>`.
    Mail(Mail),
    /// `RCPT TO:<…>`.
    Rcpt(Rcpt),
    /// `DATA`.
    Data,
    /// `BDAT octets [LAST]` (RFC 3030 §2).
    Bdat(Chunk),
    /// `RSET`.
    Rset,
    /// `NOOP`.
    Noop,
    /// `VRFY something`.
    Vrfy,
    /// `HELP`.
    Help,
    /// `STARTTLS` (RFC 3207 §4).
    StartTls,
    /// `AUTH mechanism [initial response]` (RFC 4954 §4).
    Auth(AuthCommand),
    /// `QUIT`.
    Quit,
}

/// The arguments of MAIL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Whom to tell of failure.
    pub reverse_path: ReversePath,
    /// What else is asked.
    pub parameters: MailParameters,
}

/// The arguments of RCPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rcpt {
    /// Who is to have the message.
    pub forward_path: ForwardPath,
    /// What else is asked.
    pub parameters: RcptParameters,
}

impl Rcpt {
    /// What is wrong with it where MAIL had no SMTPUTF8 (RFC 6531 §3.5; ORCPT: RFC 6533 §3).
    #[must_use]
    pub fn outside_ascii(&self) -> Option<CommandError> {
        let address_fits = match &self.forward_path {
            ForwardPath::Mailbox(mailbox) => mailbox.is_ascii(),
            ForwardPath::Postmaster => true,
        };
        let original_fits = self.parameters.original_recipient.as_ref().is_none_or(|o| o.as_str().is_ascii());
        match (address_fits, original_fits) {
            (false, _) => Some(CommandError::ForwardPath(AddressError::NonAscii)),
            (true, false) => Some(CommandError::ParameterValue),
            (true, true) => None,
        }
    }
}

/// The arguments of BDAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Octets of content that follow the line.
    pub octets: u64,
    /// Whether these are the last of the message.
    pub last: bool,
}

/// Parses one line without its CRLF.
///
/// # Errors
/// `CommandError`, one value for each kind of answer.
pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
    let line = line.trim_ascii_end();
    let verb_end = line.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(line.len());
    let (verb, rest) = line.split_at_checked(verb_end).unwrap_or_default();
    let arguments = rest.trim_ascii_start();
    match verb.to_ascii_uppercase().as_slice() {
        b"EHLO" => hello_name(arguments).map(Command::Ehlo),
        b"HELO" => hello_name(arguments).map(Command::Helo),
        b"MAIL" => mail(arguments).map(Command::Mail),
        b"RCPT" => rcpt(arguments).map(Command::Rcpt),
        b"DATA" => without_argument(Command::Data, arguments),
        b"BDAT" => bdat(arguments).map(Command::Bdat),
        b"RSET" => without_argument(Command::Rset, arguments),
        b"NOOP" => Ok(Command::Noop),
        b"VRFY" => vrfy(arguments),
        b"HELP" => Ok(Command::Help),
        b"STARTTLS" => without_argument(Command::StartTls, arguments),
        b"QUIT" => without_argument(Command::Quit, arguments),
        b"AUTH" => auth(arguments).map(Command::Auth),
        // XCLIENT and XFORWARD let a client say whom it speaks for: here the PROXY protocol does that, and
        // only from balancers that are named.
        b"EXPN" | b"SEND" | b"SOML" | b"SAML" | b"TURN" | b"ETRN" | b"ATRN" | b"BURL" | b"XCLIENT" | b"XFORWARD" => {
            Err(CommandError::NotImplemented)
        }
        _ => Err(CommandError::Unknown),
    }
}

fn without_argument(command: Command, arguments: &[u8]) -> Result<Command, CommandError> {
    if arguments.is_empty() { Ok(command) } else { Err(CommandError::Argument) }
}

/// RFC 5321 §4.1.4: a name that does not resolve or is no proper domain is no reason to refuse;
/// it only has to be printable and bounded, because it goes into the Received line.
fn hello_name(arguments: &[u8]) -> Result<String, CommandError> {
    let printable = arguments.iter().all(u8::is_ascii_graphic);
    if arguments.is_empty() || arguments.len() > DOMAIN_LIMIT + 2 || !printable {
        return Err(CommandError::HelloName);
    }
    Ok(String::from_utf8_lossy(arguments).into_owned())
}

fn mail(arguments: &[u8]) -> Result<Mail, CommandError> {
    let (path, parameters) = path_and_parameters(arguments, b"FROM:")?;
    let path = std::str::from_utf8(path).map_err(|_| CommandError::ReversePath(AddressError::NonAscii))?;
    let reverse_path = parse_reverse_path(path).map_err(CommandError::ReversePath)?;
    let parameters = MailParameters::parse(parameters)?;
    if !reverse_path.is_ascii() && !parameters.smtp_utf8 {
        return Err(CommandError::ReversePath(AddressError::NonAscii));
    }
    Ok(Mail { reverse_path, parameters })
}

fn rcpt(arguments: &[u8]) -> Result<Rcpt, CommandError> {
    let (path, parameters) = path_and_parameters(arguments, b"TO:")?;
    let path = std::str::from_utf8(path).map_err(|_| CommandError::ForwardPath(AddressError::NonAscii))?;
    let forward_path = parse_forward_path(path).map_err(CommandError::ForwardPath)?;
    Ok(Rcpt { forward_path, parameters: RcptParameters::parse(parameters)? })
}

/// What it asks about is never looked at; RFC 6531 §3.1 gives it the parameter all the same.
fn vrfy(arguments: &[u8]) -> Result<Command, CommandError> {
    let has_parameter = words(arguments).last().is_some_and(|word| word.eq_ignore_ascii_case(b"SMTPUTF8"));
    match arguments {
        [] => Err(CommandError::Argument),
        _ if arguments.is_ascii() || has_parameter => Ok(Command::Vrfy),
        _ => Err(CommandError::ForwardPath(AddressError::NonAscii)),
    }
}

/// Divides `FROM:<path> parameters`. A blank behind the colon is wrong (RFC 5321 §3.3) and
/// harmless, so it is accepted. A `>` within a quoted local-part does not end the path.
fn path_and_parameters<'a>(arguments: &'a [u8], keyword: &[u8]) -> Result<(&'a [u8], &'a [u8]), CommandError> {
    let (head, rest) = arguments.split_at_checked(keyword.len()).ok_or(CommandError::Argument)?;
    if !head.eq_ignore_ascii_case(keyword) {
        return Err(CommandError::Argument);
    }
    let rest = rest.trim_ascii_start();
    let (mut quoted, mut escaped) = (false, false);
    let end = rest.iter().position(|&b| {
        let ends = b == b'>' && !quoted;
        if b == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && b == b'\\' && !escaped;
        ends
    });
    let (path, parameters) = end.and_then(|end| rest.split_at_checked(end + 1)).unwrap_or((rest, &[]));
    if parameters.first().is_some_and(|b| !matches!(b, b' ' | b'\t')) {
        return Err(CommandError::Argument);
    }
    Ok((path, parameters))
}

/// RFC 4954 §4: the name of a mechanism has at most 20 characters (RFC 4422 §3.1).
fn auth(arguments: &[u8]) -> Result<AuthCommand, CommandError> {
    let mut words = words(arguments);
    let (mechanism, initial) = (words.next().unwrap_or_default(), words.next());
    let is_of_names = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if mechanism.is_empty() || mechanism.len() > 20 || !mechanism.iter().all(is_of_names) || words.next().is_some() {
        return Err(CommandError::Argument);
    }
    let mechanism = String::from_utf8_lossy(mechanism).to_ascii_uppercase();
    Ok(AuthCommand { mechanism, initial: initial.map(Secret::new) })
}

fn bdat(arguments: &[u8]) -> Result<Chunk, CommandError> {
    let mut words = words(arguments);
    // A saturated number is no size: so many octets cannot be counted down truthfully.
    let octets = words.next().and_then(octets).filter(|&n| n < u64::MAX).ok_or(CommandError::ChunkSize)?;
    match (words.next(), words.next()) {
        (None, _) => Ok(Chunk { octets, last: false }),
        (Some(word), None) if word.eq_ignore_ascii_case(b"LAST") => Ok(Chunk { octets, last: true }),
        (Some(_), _) => Err(CommandError::ChunkArgument { octets }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dsn::{ENVID_LIMIT, ORCPT_LIMIT, Ret};
    use super::super::line::COMMAND_LINE_LIMIT;
    use super::*;

    fn reverse(path: &str) -> ReversePath {
        parse_reverse_path(path).unwrap()
    }

    #[test]
    fn rfc5321_2_4_verbs_are_read_in_any_case() {
        assert_eq!(parse(b"ehlo Host"), Ok(Command::Ehlo("Host".into())));
        assert_eq!(parse(b"eHlO [IPv6:::1] "), Ok(Command::Ehlo("[IPv6:::1]".into())));
        for (line, command) in [
            ("data", Command::Data),
            ("Rset  ", Command::Rset),
            ("noop anything \u{e9}", Command::Noop),
            ("VRFY postmaster", Command::Vrfy),
            ("help", Command::Help),
            ("StartTls", Command::StartTls),
            ("QUIT", Command::Quit),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(command), "{line}");
        }
    }

    #[test]
    fn rfc5321_4_1_1_2_mail_takes_a_path_and_parameters() {
        let mail = |line: &str| match parse(line.as_bytes()) {
            Ok(Command::Mail(mail)) => mail,
            other => panic!("{line}: {other:?}"),
        };
        let bare = |path: &str| Mail { reverse_path: reverse(path), parameters: MailParameters::default() };
        assert_eq!(mail("MAIL FROM:<>"), bare("<>"));
        assert_eq!(mail("mail from: <a@b.example> "), bare("<a@b.example>"));
        assert_eq!(mail("MAIL FROM:<\"a> b\\\"\"@b.example>"), bare("<\"a> b\\\"\"@b.example>"));
        let full = mail("MAIL FROM:<a@b.example> size=007 RET=FULL");
        assert_eq!((full.parameters.size, full.parameters.ret), (Some(7), Some(Ret::Full)));
    }

    #[test]
    fn rfc3461_4_2_the_longest_line_of_each_command_is_below_the_limit_of_lines() {
        let (local, label) = ("l".repeat(255), "d".repeat(61));
        let mailbox = format!("{local}@{label}.{label}.{label}.{label}.exam");
        let envelope_id = "e".repeat(ENVID_LIMIT);
        let mail = format!(
            "MAIL FROM:<{mailbox}> SIZE=12345678901234567890 BODY=8BITMIME REQUIRETLS SMTPUTF8 RET=HDRS ENVID={envelope_id}"
        );
        let original = format!("rfc822;{}", "o".repeat(ORCPT_LIMIT - 7));
        let rcpt = format!("RCPT TO:<{mailbox}> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT={original}");
        for line in [mail, rcpt] {
            assert!(parse(line.as_bytes()).is_ok(), "{line}");
            assert!(line.len() + 2 <= COMMAND_LINE_LIMIT, "{}", line.len());
        }
    }

    #[test]
    fn rfc5321_4_2_4_each_fault_has_its_own_error() {
        let syntax = AddressError::Syntax;
        for (line, error) in [
            ("", CommandError::Unknown),
            ("FOO", CommandError::Unknown),
            ("EHLO\0 x", CommandError::Unknown),
            ("EXPN list", CommandError::NotImplemented),
            ("XCLIENT ADDR=192.0.2.1", CommandError::NotImplemented),
            ("XFORWARD NAME=x", CommandError::NotImplemented),
            ("AUTH", CommandError::Argument),
            ("AUTH PLAIN AGEAYg== x", CommandError::Argument),
            ("AUTH PL/AIN", CommandError::Argument),
            ("EHLO", CommandError::HelloName),
            ("HELO a b", CommandError::HelloName),
            ("EHLO a\u{1}", CommandError::HelloName),
            ("EHLO h\u{f6}st", CommandError::HelloName),
            ("DATA now", CommandError::Argument),
            ("QUIT 1", CommandError::Argument),
            ("VRFY", CommandError::Argument),
            ("MAIL", CommandError::Argument),
            ("MAIL TO:<a@b.example>", CommandError::Argument),
            ("MAIL FROM:<a@b.example>SIZE=1", CommandError::Argument),
            ("MAIL FROM:", CommandError::ReversePath(syntax)),
            ("MAIL FROM:a@b.example", CommandError::ReversePath(syntax)),
            ("MAIL FROM:<a\u{0}@b.example>", CommandError::ReversePath(syntax)),
            ("MAIL FROM:<a@b.example", CommandError::ReversePath(syntax)),
            ("MAIL FROM:<j\u{fc}@b.example>", CommandError::ReversePath(AddressError::NonAscii)),
            ("MAIL FROM:<j\u{85}@b.example> SMTPUTF8", CommandError::ReversePath(syntax)),
            ("VRFY j\u{fc}", CommandError::ForwardPath(AddressError::NonAscii)),
            ("MAIL FROM:<> BODY=BINARYMIME", CommandError::UnknownParameter),
            ("MAIL FROM:<> SIZE=1 SIZE=1", CommandError::ParameterValue),
            ("RCPT TO:<>", CommandError::ForwardPath(syntax)),
            ("RCPT TO:<a@b.example> SIZE=1", CommandError::UnknownParameter),
            ("RCPT TO:<a@b.example> NOTIFY=", CommandError::ParameterValue),
            ("RCPT TO:<a@b.example>NOTIFY=NEVER", CommandError::Argument),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(error), "{line}");
        }
        let latin1 = b"RCPT TO:<\xe9@b.example>";
        assert_eq!(parse(latin1), Err(CommandError::ForwardPath(AddressError::NonAscii)));
        let latin1 = b"MAIL FROM:<\xe9@b.example> SMTPUTF8";
        assert_eq!(parse(latin1), Err(CommandError::ReversePath(AddressError::NonAscii)));
    }

    #[test]
    fn rfc6531_3_4_addresses_in_utf_8_come_with_the_parameter() {
        assert!(matches!(parse("MAIL FROM:<jürgen@bücher.example> smtputf8".as_bytes()), Ok(Command::Mail(_))));
        assert!(matches!(parse("RCPT TO:<\"jürgen >\"@b.example>".as_bytes()), Ok(Command::Rcpt(_))));
        assert_eq!(parse("VRFY jürgen SMTPUTF8".as_bytes()), Ok(Command::Vrfy));
    }

    #[test]
    fn rfc3030_2_chunk_sizes_are_exact_or_refused() {
        let chunk = |octets, last| Ok(Command::Bdat(Chunk { octets, last }));
        assert_eq!(parse(b"BDAT 0 LAST"), chunk(0, true));
        assert_eq!(parse(b"bdat 000123 last"), chunk(123, true));
        assert_eq!(parse(b"BDAT 9"), chunk(9, false));
        for line in [
            "BDAT",
            "BDAT -1",
            "BDAT x",
            "BDAT 1x",
            "BDAT 99999999999999999999",
            "BDAT 000000000000000000001",
            "BDAT LAST 1",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(CommandError::ChunkSize), "{line}");
        }
        for line in ["BDAT 5 FIRST", "BDAT 5 LAST LAST"] {
            assert_eq!(parse(line.as_bytes()), Err(CommandError::ChunkArgument { octets: 5 }), "{line}");
        }
    }

    #[test]
    fn no_octets_make_it_panic() {
        for verb in ["", "EHLO ", "MAIL FROM:", "RCPT TO:<", "BDAT ", "MAIL FROM:<> "] {
            for a in 0..=255_u8 {
                for b in [0, b'"', b'\\', b'<', b'>', b'=', b' ', b'@', 0xff] {
                    let line = [verb.as_bytes(), &[a, b, a]].concat();
                    assert!(parse(&line).is_ok() || parse(&line).is_err());
                }
            }
        }
    }
}
