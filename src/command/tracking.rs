//! Reads Exchange's message tracking log: what a server says it handed over by SMTP.
//!
//! The log is CSV in UTF-8 with comment lines, one of which (`#Fields:`) names the columns; a
//! message is named by the Message-ID of its header, its recipients stand in one column, parted by
//! semicolons. Only `SEND` and `SENDEXTERNAL` events of the source `SMTP` are of interest: a server
//! took the message over. Nothing of a subject is kept.

use crate::clock::Timestamp;
use csv::{ByteRecord, ReaderBuilder, Terminator};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The most messages that are held: an hourly file of a large house has some ten thousand.
const MOST_MESSAGES: usize = 1_000_000;

/// Octets of the comment lines above the first event.
const HEAD_LIMIT: u64 = 64 * 1024;

/// Lines that could not be read are named up to here, and counted beyond.
const MOST_UNREADABLE: usize = 20;

/// What begins the comment that names the columns.
const FIELDS: &str = "#Fields:";

/// Exchange's own connector between its servers: what goes over it never reaches a gateway.
const INTRA_ORGANIZATION: &str = "intra-organization";

/// Why a file is no tracking log.
#[derive(Debug, thiserror::Error)]
pub enum TrackingError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// It is in UTF-16.
    #[error("this is UTF-16; Exchange writes UTF-8: take the file itself, or save it as UTF-8")]
    Utf16,
    /// No line names the columns.
    #[error(
        "no line begins with `#Fields:`, so this is no message tracking log; they are the files MSGTRK*.LOG below \
         TransportRoles\\Logs\\MessageTracking"
    )]
    NoFields,
    /// A column is missing.
    #[error("the line `#Fields:` names no column `{0}`")]
    NoColumn(&'static str),
    /// More than can be held.
    #[error("more than {MOST_MESSAGES} messages: give fewer files at a time")]
    TooMany,
}

/// A message that Exchange says it handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOver {
    /// When first, by Exchange's clock.
    pub at: Timestamp,
    /// The sender's address.
    pub sender: String,
    /// All recipients of all its events, in lower case.
    pub recipients: BTreeSet<String>,
}

/// What the files say together.
#[derive(Debug, Default)]
pub struct TrackingLog {
    /// By the Message-ID without its brackets.
    pub messages: BTreeMap<String, HandedOver>,
    /// Events by which a message was handed over.
    pub events: u64,
    /// The time of the first and the last of them.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Lines that could not be read, by their number; the first of them.
    pub unreadable: Vec<String>,
    /// How many those are.
    pub unreadable_lines: u64,
}

/// The columns that are read, by their place.
struct Columns {
    time: usize,
    source: Option<usize>,
    event: usize,
    connector: Option<usize>,
    message_id: usize,
    recipients: usize,
    sender: Option<usize>,
}

impl Columns {
    /// By the text behind `#Fields:`.
    fn of(fields: &str) -> Result<Self, TrackingError> {
        let names: Vec<&str> = fields.split(',').map(str::trim).collect();
        let place = |name: &str| names.iter().position(|field| field.eq_ignore_ascii_case(name));
        let needed = |name: &'static str| place(name).ok_or(TrackingError::NoColumn(name));
        Ok(Self {
            time: needed("date-time")?,
            source: place("source"),
            event: needed("event-id")?,
            connector: place("connector-id"),
            message_id: needed("message-id")?,
            recipients: needed("recipient-address")?,
            sender: place("sender-address"),
        })
    }
}

impl TrackingLog {
    /// Reads one file more. `connectors` names the Send connectors that lead here; without any, all
    /// count but Exchange's own between its servers.
    ///
    /// # Errors
    /// When it is no tracking log, or cannot be read.
    pub fn read(&mut self, file: &str, text: impl BufRead, connectors: &[String]) -> Result<(), TrackingError> {
        let mut text = text;
        let (columns, lines) = head(&mut text)?;
        // Lines end where their LF stands, so that they are counted rightly; fields are trimmed.
        let mut rows = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .comment(Some(b'#'))
            .terminator(Terminator::Any(b'\n'))
            .from_reader(text);
        let mut row = ByteRecord::new();
        while rows.read_byte_record(&mut row).map_err(std::io::Error::from)? {
            match event(&row, &columns, connectors) {
                Ok(Some((id, handed_over))) => self.add(id, handed_over)?,
                Ok(None) => {}
                Err(what) => {
                    let line = lines + row.position().map_or(0, csv::Position::line);
                    self.cannot_read(format!("{file}, line {line}: {what}"));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, id: String, event: HandedOver) -> Result<(), TrackingError> {
        self.events += 1;
        let (first, last) = self.span.unwrap_or((event.at, event.at));
        self.span = Some((first.min(event.at), last.max(event.at)));
        let full = self.messages.len() >= MOST_MESSAGES;
        match self.messages.entry(id) {
            // A message for many recipients is handed over in several transactions.
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.at = known.at.min(event.at);
                known.recipients.extend(event.recipients);
            }
            Entry::Vacant(_) if full => return Err(TrackingError::TooMany),
            Entry::Vacant(new) => {
                new.insert(event);
            }
        }
        Ok(())
    }

    fn cannot_read(&mut self, line: String) {
        self.unreadable_lines += 1;
        if self.unreadable.len() < MOST_UNREADABLE {
            self.unreadable.push(line);
        }
    }
}

/// The columns, and how many lines were read for them.
fn head(text: &mut impl BufRead) -> Result<(Columns, u64), TrackingError> {
    if text.fill_buf()?.starts_with(b"\xFF\xFE") || text.fill_buf()?.starts_with(b"\xFE\xFF") {
        return Err(TrackingError::Utf16);
    }
    let (mut head, mut line, mut lines) = (text.take(HEAD_LIMIT), Vec::new(), 0);
    loop {
        line.clear();
        if head.read_until(b'\n', &mut line)? == 0 {
            return Err(TrackingError::NoFields);
        }
        lines += 1;
        let read = String::from_utf8_lossy(&line);
        let read = read.trim_start_matches('\u{feff}').trim_end();
        if let Some(fields) = read.strip_prefix(FIELDS) {
            return Ok((Columns::of(fields)?, lines));
        }
        if !read.is_empty() && !read.starts_with('#') {
            return Err(TrackingError::NoFields);
        }
    }
}

/// The message that was handed over by this event; `None` where the event says something else.
fn event(
    row: &ByteRecord,
    columns: &Columns,
    connectors: &[String],
) -> Result<Option<(String, HandedOver)>, &'static str> {
    let text = |place: usize| row.get(place).map(|octets| String::from_utf8_lossy(octets).trim().to_owned());
    let optional = |place: Option<usize>| place.and_then(text);
    let event = text(columns.event).ok_or("the line ends early")?;
    let is_handing_over = ["SEND", "SENDEXTERNAL"].iter().any(|name| event.eq_ignore_ascii_case(name));
    let by_smtp = optional(columns.source).is_none_or(|source| source.eq_ignore_ascii_case("SMTP"));
    if !is_handing_over || !by_smtp || !leads_here(&optional(columns.connector).unwrap_or_default(), connectors) {
        return Ok(None);
    }
    let id = text(columns.message_id).ok_or("the line ends early")?;
    let id = id.trim_start_matches('<').trim_end_matches('>').trim().to_owned();
    if id.is_empty() {
        return Err("the event names no Message-ID");
    }
    let recipients = text(columns.recipients).ok_or("the line ends early")?;
    let recipients: BTreeSet<String> =
        recipients.split(';').map(|address| address.trim().to_lowercase()).filter(|one| !one.is_empty()).collect();
    let at = text(columns.time).and_then(|time| OffsetDateTime::parse(&time, &Rfc3339).ok());
    let at = at.ok_or("its date-time is no time of RFC 3339")?;
    let at = i64::try_from(at.unix_timestamp_nanos() / 1_000_000).map_err(|_| "its date-time is out of range")?;
    let sender = optional(columns.sender).unwrap_or_default();
    Ok(Some((id, HandedOver { at: Timestamp(at), sender, recipients })))
}

fn leads_here(connector: &str, connectors: &[String]) -> bool {
    if connectors.is_empty() {
        return !connector.to_ascii_lowercase().contains(INTRA_ORGANIZATION);
    }
    connectors.iter().any(|name| name.eq_ignore_ascii_case(connector))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "\u{feff}#Software: Microsoft Exchange Server\r\n#Version: 15.01.2507.006\r\n\
        #Log-type: Message Tracking Log\r\n#Date: 2026-11-29T09:00:00.123Z\r\n\
        #Fields: date-time,client-ip,connector-id,source,event-id,message-id,recipient-address,message-subject,sender-address\r\n";

    fn read(lines: &str, connectors: &[&str]) -> Result<TrackingLog, TrackingError> {
        let connectors: Vec<String> = connectors.iter().map(|&name| name.to_owned()).collect();
        let mut log = TrackingLog::default();
        log.read("MSGTRK.LOG", format!("{HEAD}{lines}").as_bytes(), &connectors).map(|()| log)
    }

    #[test]
    fn what_was_handed_over_by_smtp_counts_and_nothing_else() {
        let log = read(
            "2026-11-29T09:00:01.000Z,10.0.0.5,Out,SMTP,SENDEXTERNAL,<a@x>,B@d.example;c@d.example,\"Hi, \"\"all\"\"\r\n;\",s@x\r\n\
             2026-11-29T09:00:02.5Z,10.0.0.5,Out,SMTP,SEND,<b@x>,b@d.example,,s@x\r\n\
             #Date: a comment in between\r\n\
             2026-11-29T09:00:03.000Z,10.0.0.5,Out,SMTP,RECEIVE,<c@x>,b@d.example,,s@x\r\n\
             2026-11-29T09:00:04.000Z,10.0.0.5,Out,STOREDRIVER,SEND,<d@x>,b@d.example,,s@x\r\n\
             2026-11-29T09:00:05.000Z,,Intra-Organization SMTP Send Connector,SMTP,SEND,<e@x>,b@d.example,,s@x\r\n\
             2026-11-29T09:00:06.000Z,10.0.0.5,Out,SMTP,SENDEXTERNAL,<a@x>,e@d.example,,s@x\r\n",
            &[],
        )
        .unwrap();
        assert_eq!(log.messages.keys().map(String::as_str).collect::<Vec<_>>(), ["a@x", "b@x"]);
        let recipients: Vec<_> = log.messages["a@x"].recipients.iter().map(String::as_str).collect();
        assert_eq!(recipients, ["b@d.example", "c@d.example", "e@d.example"]);
        assert_eq!((log.events, log.unreadable_lines), (3, 0));
        assert_eq!(log.span.map(|(first, last)| last.0 - first.0), Some(5_000));
    }

    #[test]
    fn a_connector_that_is_named_is_the_only_one_that_counts() {
        let lines = "2026-11-29T09:00:01.000Z,,Relay,SMTP,SEND,<a@x>,b@d.example,,\r\n\
             2026-11-29T09:00:01.000Z,,Partner,SMTP,SEND,<b@x>,b@d.example,,\r\n";
        assert_eq!(read(lines, &["relay"]).unwrap().messages.keys().collect::<Vec<_>>(), ["a@x"]);
    }

    #[test]
    fn lines_that_cannot_be_read_are_named() {
        let lines = "yesterday,,Out,SMTP,SEND,<a@x>,b@d.example,,\r\n2026-11-29T09:00:01Z,,Out,SMTP,SEND,,b@d.example,,\r\n\
             2026-11-29T09:00:01Z,,Out";
        let log = read(lines, &[]).unwrap();
        assert_eq!(
            log.unreadable,
            [
                "MSGTRK.LOG, line 6: its date-time is no time of RFC 3339",
                "MSGTRK.LOG, line 7: the event names no Message-ID",
                "MSGTRK.LOG, line 8: the line ends early"
            ]
        );
    }

    #[test]
    fn what_is_no_tracking_log_is_refused_in_words() {
        let refused = |octets: &[u8]| TrackingLog::default().read("f", octets, &[]).unwrap_err().to_string();
        assert!(refused(b"\xFF\xFE#\0").contains("UTF-16"));
        assert!(refused(b"").contains("#Fields:"));
        assert!(refused(b"a,b,c\n#Fields: x\n").contains("no message tracking log"));
        assert!(refused(b"#Fields: date-time,event-id,message-id\n").contains("recipient-address"));
        assert!(refused("#x\n".repeat(100_000).as_bytes()).contains("#Fields:"), "the head has a bound");
    }
}
