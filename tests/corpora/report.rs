//! Reports about messages that strangers wrote and other strangers refused: RFC 3461 §4, RFC 3464,
//! RFC 5322 §2.1.1, RFC 6522 §3, RFC 6533 §4.
//!
//! Input: MAIL and RCPT commands and, behind the recipients they are for, replies of a server, each
//! in a line or more; an empty line; the content of the message.

use dane_relay::clock::Timestamp;
use dane_relay::config::NotifyConfig;
use dane_relay::envelope::{Charset, ClientInfo, DsnRequest, Envelope, Origin, QueueId, RecipientDsn, TlsRequest};
use dane_relay::outcome::{Cause, DeliveryOutcome, Peer, Phase};
use dane_relay::report::due::{Moment, ReportRules, due};
use dane_relay::report::{Due, Original, ReportContext, Texts, compose, content_wanted};
use dane_relay::smtp::address::ForwardPath;
use dane_relay::smtp::command::{self, Command, Mail, Rcpt};
use dane_relay::smtp::reply::{Reply, ReplyParser};
use dane_relay::spool::{RecipientState, Report, SpoolEntry};
use mail_parser::{MessageParser, MimeHeaders as _};
use std::collections::BTreeSet;

const ARRIVED: Timestamp = Timestamp(1_794_915_868_000);
const NOW: Timestamp = Timestamp(1_795_261_468_000);
const ID: QueueId = QueueId(1_795_261_468_000_123);
/// The header fields of a report; each is there at most once.
const FIELDS: [&str; 10] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Auto-Submitted",
    "MIME-Version",
    "Content-Type",
];
/// Addresses up to this length fit one line in every form that a report writes them in; longer
/// ones, of which every character outside ASCII becomes ten, may be cut.
const FITTING: usize = 90;

/// Gives the number of reports and of the recipients they name.
pub(crate) fn check(input: &[u8]) -> (usize, usize) {
    let Some((envelope, replies, content)) = read(input) else { return (0, 0) };
    let entry = SpoolEntry::new(ID, envelope, content.len() as u64);
    let changes: Vec<_> = replies.iter().map(refused).enumerate().collect();
    let postmaster = "postmaster@corp.example".parse().unwrap();
    let rules = ReportRules { notify: &NotifyConfig::default(), postmaster: Some(&postmaster) };
    let notifications = due(&entry, &changes, &rules, &Moment::at_rest(NOW));
    let (hostname, texts) = ("relay.corp.example".parse().unwrap(), Texts::english());
    let context = ReportContext { hostname: &hostname, texts: &texts, return_full_below: 10_000, html: true };
    let wanted = content_wanted(&entry, &notifications.reports, context.return_full_below).min(content.len());
    let content = content.get(..wanted).unwrap_or_default();
    let original = Original {
        entry: &entry,
        content,
        until: NOW,
        history: &[],
        tries_now: 1,
        earlier: &BTreeSet::new(),
        incidents: &[],
    };
    let named = notifications.reports.iter().map(|due| {
        let report = compose(&context, &original, due, NOW);
        any_mail_system_takes(&report);
        says_who(&report, due, &entry.envelope);
        due.recipients.len()
    });
    let named: Vec<usize> = named.collect();
    (named.len(), named.iter().sum())
}

/// The message with a refusal for each recipient, and its content.
fn read(input: &[u8]) -> Option<(Envelope, Vec<Reply>, &[u8])> {
    let (mut mail, mut rcpts, mut replies): (Option<Mail>, Vec<Rcpt>, Vec<Reply>) = (None, Vec::new(), Vec::new());
    let (mut parser, mut rest) = (ReplyParser::default(), input);
    loop {
        let end = rest.iter().position(|&b| b == b'\n').map_or(rest.len(), |end| end + 1);
        let (line, behind) = rest.split_at(end);
        rest = behind;
        match line.trim_ascii_end() {
            [] => break,
            line => match command::parse(line) {
                Ok(Command::Mail(said)) => _ = mail.get_or_insert(said),
                Ok(Command::Rcpt(rcpt)) => rcpts.push(rcpt),
                _ => match parser.line(line) {
                    Ok(Some(reply)) => replies.resize(rcpts.len().max(replies.len()), reply),
                    Ok(None) => {}
                    Err(_) => parser = ReplyParser::default(),
                },
            },
        }
    }
    let Mail { reverse_path, parameters } = mail?;
    let charset = if parameters.smtp_utf8 { Charset::Utf8 } else { Charset::Ascii };
    let of_session = |rcpt: &Rcpt| charset == Charset::Utf8 || rcpt.outside_ascii().is_none();
    let (mut recipients, mut dsn) = (Vec::new(), Vec::new());
    for rcpt in rcpts.into_iter().filter(of_session) {
        let ForwardPath::Mailbox(mailbox) = rcpt.forward_path else { continue };
        recipients.push(mailbox);
        let Rcpt { parameters, .. } = rcpt;
        dsn.push(RecipientDsn { notify: parameters.notify, original: parameters.original_recipient });
    }
    replies.truncate(recipients.len());
    let client =
        ClientInfo { address: "192.0.2.10".parse().ok()?, helo: "x".into(), protocol: "ESMTP".into(), user: None };
    let dsn = DsnRequest { ret: parameters.ret, envelope_id: parameters.envelope_id, recipients: dsn };
    let tls = if parameters.require_tls { TlsRequest::Required } else { TlsRequest::ByPolicy };
    let envelope = Envelope::new(reverse_path, recipients, ARRIVED, Origin::Client(client));
    Some((Envelope { dsn, tls, charset, ..envelope }, replies, rest))
}

fn refused(reply: &Reply) -> RecipientState {
    let peer = Peer { host: "mx.partner.example".into(), address: "192.0.2.25:25".parse().unwrap() };
    let cause = Cause::Rejected { peer, phase: Phase::RcptTo, reply: reply.clone() };
    RecipientState::Done { outcome: DeliveryOutcome::Failed { cause } }
}

/// Lines end in CRLF, hold at most 998 octets, and no control character.
fn any_mail_system_takes(report: &Report) {
    let text = std::str::from_utf8(&report.content).unwrap();
    assert!(text.ends_with("\r\n"));
    for line in text.split("\r\n") {
        assert!(line.len() <= 998, "{line}");
        assert!(!line.contains(|c: char| c.is_control() && c != '\t'), "{line:?}");
        assert!(line.is_ascii() || report.envelope.charset == Charset::Utf8, "{line:?}");
    }
}

/// What a reader of mail finds in it is what was to be said, and nothing that a stranger put there.
fn says_who(report: &Report, due: &Due, envelope: &Envelope) {
    let parsed = MessageParser::default().parse(&report.content[..]).unwrap();
    let names: Vec<&str> = parsed.headers().iter().map(|header| header.name.as_str()).collect();
    assert!(names.iter().all(|name| FIELDS.contains(name)), "{names:?}");
    assert!(FIELDS.iter().all(|field| names.iter().filter(|name| *name == field).count() <= 1), "{names:?}");
    let header = fields(&report.content);
    let to = format!("To: <{}>", due.to);
    assert!(due.to.as_str().len() > FITTING || header.contains(&to), "{to} in {header:?}");
    let types: Vec<_> = parsed.parts.iter().take(6).filter_map(|part| part.content_type()).collect();
    let types: Vec<_> = types.iter().map(|t| format!("{}/{}", t.ctype(), t.subtype().unwrap_or_default())).collect();
    assert_eq!(types[..4], ["multipart/report", "multipart/alternative", "text/plain", "text/html"]);
    assert!(["message/delivery-status", "message/global-delivery-status"].contains(&types[4].as_str()), "{types:?}");
    let boundary = parsed.content_type().unwrap().attribute("boundary").unwrap();
    let delimiter = format!("\r\n--{boundary}");
    let parts: Vec<&str> = std::str::from_utf8(&report.content).unwrap().split(&delimiter).collect();
    assert_eq!(parts.len(), 5, "a header, three parts and the end");
    let status = parts[2].split_once("\r\n\r\n").unwrap().1;
    names_all(&status.split("\r\n\r\n").map(|group| fields(group.as_bytes())).collect::<Vec<_>>(), due, envelope);
}

/// A group for the message, and one for each recipient.
fn names_all(groups: &[Vec<String>], due: &Due, envelope: &Envelope) {
    assert_eq!(groups.len(), due.recipients.len() + 1, "{groups:?}");
    for (group, (index, _)) in groups.iter().skip(1).zip(&due.recipients) {
        let once = |name: &str| group.iter().filter(|field| field.starts_with(name)).count() == 1;
        assert!(["Final-Recipient:", "Action:", "Status:", "Diagnostic-Code:"].into_iter().all(once), "{group:?}");
        let field = group.iter().find_map(|field| field.strip_prefix("Final-Recipient: "));
        let recipient = &envelope.recipients[*index];
        if recipient.as_str().len() <= FITTING {
            assert_eq!(field.and_then(address).as_deref(), Some(recipient.as_str()));
        }
    }
}

/// The address behind `rfc822;` or `utf-8;` (RFC 6533 §3).
fn address(field: &str) -> Option<String> {
    let (kind, address) = field.split_once("; ")?;
    if kind == "rfc822" {
        return Some(address.to_owned());
    }
    // As an ORCPT it has to be readable, unless it is plain UTF-8.
    let quoted = format!("utf-8;{}", address.replace(' ', "+20"));
    Some(
        quoted.parse::<dane_relay::smtp::dsn::OriginalRecipient>().map_or_else(|_| address.to_owned(), |o| o.address()),
    )
}

/// The fields of a header block, each in one line.
fn fields(block: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(block).unwrap();
    let header = text.split("\r\n\r\n").next().unwrap_or_default();
    let whole = header.replace("\r\n ", " ").replace("\r\n\t", "\t");
    whole.split("\r\n").filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
