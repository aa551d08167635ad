//! The part of a report that machines read (RFC 3464 §2; with addresses outside ASCII
//! RFC 6533 §3, §4).
//!
//! Every recipient has a group of its own. Remote-MTA, and a Diagnostic-Code of the type smtp, stand only where a
//! remote server really replied (RFC 3464 §2.3.5, §2.3.6); for a message that expired, that is the
//! last reply it met. Where none did, a Diagnostic-Code of our own type says what stopped the message.

use super::form::{field, utf8_field};
use super::{Fate, Kind, ReportDraft, ReportForm, tries};
use crate::clock::Timestamp;
use crate::envelope::{ClientInfo, Origin, RecipientDsn};
use crate::outcome::{Cause, Peer};
use crate::smtp::address::{Domain, Host, Mailbox};
use crate::smtp::dsn::{OriginalRecipient, to_code_points};
use crate::smtp::reply::{EnhancedStatusCode, Reply};
use crate::spool::RecipientState;

/// What is said of a host that took the message without an enhanced code (RFC 3463 §3.1).
const SUCCESS: EnhancedStatusCode = EnhancedStatusCode::new(2, 0, 0);

/// The type of what no server said: the word of a cause, a colon, its sentence (RFC 3464 §2.3.6, §9.2: a type that
/// is not registered begins with `X-`).
const OWN_DIAGNOSTIC: &str = "X-Relay";

/// Recipients of whom the words of a server are repeated. Beyond, a group says who, what and the status:
/// enough for whoever keeps lists, and a report about a thousand recipients stays a mail.
const MOST_IN_FULL: usize = 200;

/// The whole part, without its MIME header.
pub(super) fn part(draft: &ReportDraft<'_>) -> String {
    let envelope = &draft.original.entry.envelope;
    let groups = draft.recipients().enumerate().map(|(place, (index, recipient, fate))| {
        let group =
            StatusGroup { draft, index, recipient, dsn: envelope.dsn_for(index), form: ReportForm::of(draft.due) };
        if place < MOST_IN_FULL { group.fields(fate) } else { group.who_and_what(fate) }
    });
    std::iter::once(message_group(draft)).chain(groups).collect::<Vec<_>>().join("\r\n")
}

/// RFC 3464 §2.2.
fn message_group(draft: &ReportDraft<'_>) -> String {
    let envelope = &draft.original.entry.envelope;
    let mut group = String::new();
    if let Some(id) = &envelope.dsn.envelope_id {
        group.push_str(&field("Original-Envelope-Id", &id.decoded()));
    }
    group.push_str(&field("Reporting-MTA", &format!("dns; {}", draft.context.hostname)));
    match &envelope.origin {
        Origin::Client(client) => group.push_str(&field("Received-From-MTA", &mta_of_client(client))),
        Origin::Report { .. } | Origin::TlsReport { .. } | Origin::Copy { .. } => {}
    }
    group.push_str(&field("Arrival-Date", &envelope.accepted_at.rfc5322()));
    group.push_str(&field("X-Relay-Queue-Id", &draft.original.entry.id.to_string()));
    group
}

/// One recipient on the way into its group.
struct StatusGroup<'a> {
    draft: &'a ReportDraft<'a>,
    index: usize,
    recipient: &'a Mailbox,
    dsn: &'a RecipientDsn,
    form: ReportForm,
}

impl StatusGroup<'_> {
    /// RFC 3464 §2.3.
    fn fields(&self, fate: &Fate) -> String {
        let kind = self.draft.due.kind;
        let mut group = self.who_and_what(fate);
        if let Some((peer, _)) = remote_reply(fate) {
            group.push_str(&field("Remote-MTA", &mta(&peer.host)));
        }
        if let Some(said) = self.diagnosis(fate) {
            group.push_str(&match self.form {
                ReportForm::Utf8 => utf8_field("Diagnostic-Code", &said),
                ReportForm::SevenBit => field("Diagnostic-Code", &said),
            });
        }
        let last_attempt = self.last_attempt(fate).map(|at| field("Last-Attempt-Date", &at.rfc5322()));
        group.push_str(&last_attempt.unwrap_or_default());
        if kind.waits() {
            // RFC 3464 §2.3.9: only for those who wait.
            group.push_str(&field("Will-Retry-Until", &self.draft.original.until.rfc5322()));
        }
        match fate {
            Fate::Stopped(cause) => group.push_str(&field("X-Relay-Cause", cause.root().row().word)),
            Fate::Relayed { .. } => {}
        }
        group
    }

    /// RFC 3464 §2.3.6: what the server said; where none did, what stopped the message.
    fn diagnosis(&self, fate: &Fate) -> Option<String> {
        if let Some((_, reply)) = remote_reply(fate) {
            return Some(format!("smtp; {reply}"));
        }
        let Fate::Stopped(cause) = fate else { return None };
        let root = cause.root();
        let sentence = match self.draft.incident(cause) {
            // Whose fault it is was found out: the cause alone would blame the recipient.
            Some(incident) => format!("incident {} of the reporting system: {}", incident.id, incident.cause),
            None => root.sentence(),
        };
        Some(format!("{OWN_DIAGNOSTIC}; {}: {sentence}", root.row().word))
    }

    /// What RFC 3464 §2.3 demands of a group, and whom the sender called it.
    fn who_and_what(&self, fate: &Fate) -> String {
        let original = self.dsn.original.as_ref().map(|original| self.original_address(original));
        let mut group = original.map(|address| utf8_field("Original-Recipient", &address)).unwrap_or_default();
        group.push_str(&utf8_field("Final-Recipient", &self.final_address()));
        group.push_str(&field("Action", action(self.draft.due.kind)));
        let status = match fate {
            Fate::Stopped(cause) => cause.row().status,
            Fate::Relayed { reply, .. } => reply.enhanced.filter(|code| code.class == 2).unwrap_or(SUCCESS),
        };
        group.push_str(&field("Status", &status.to_string()));
        group
    }

    /// When it was tried last, where that is known; without a date there is no field (RFC 3464
    /// §2.3.7). Most reports are written with the attempt they tell of. Not so where the time was
    /// up, or a notice due, while the relay was backing off, or where the operator ended it.
    fn last_attempt(&self, fate: &Fate) -> Option<Timestamp> {
        let (draft, original) = (self.draft, self.draft.original);
        let owed = original.entry.recipients.get(self.index).and_then(RecipientState::owed);
        if let Some(at) = owed.and_then(|owed| owed.tried_at) {
            return Some(at);
        }
        let was_tried_now = match fate {
            _ if draft.is_earlier(self.index) => false,
            Fate::Stopped(Cause::BouncedByOperator { .. }) => false,
            Fate::Stopped(Cause::Expired { .. }) => original.tries_now > 0,
            Fate::Stopped(_) => original.tries_now > 0 || !draft.due.kind.waits(),
            Fate::Relayed { .. } => true,
        };
        if was_tried_now {
            return Some(draft.now);
        }
        tries::of(original.history, &[self.index]).last().map(|tries| *tries.when.end())
    }

    fn final_address(&self) -> String {
        if self.recipient.is_ascii() {
            format!("rfc822; {}", self.recipient)
        } else {
            format!("utf-8; {}", in_form(self.recipient.as_str(), self.form))
        }
    }

    fn original_address(&self, original: &OriginalRecipient) -> String {
        let address = original.address();
        let shown = if address.is_ascii() { address } else { in_form(&address, self.form) };
        format!("{}; {shown}", original.address_type())
    }
}

/// RFC 3464 §2.3.3.
const fn action(kind: Kind) -> &'static str {
    match kind {
        Kind::Failed | Kind::ReportLost | Kind::CopyLost => "failed",
        Kind::Delayed | Kind::HeldBack => "delayed",
        Kind::Relayed => "relayed",
    }
}

/// An address outside ASCII; where only ASCII may stand, as utf-8-addr-xtext (RFC 6533 §3).
fn in_form(address: &str, form: ReportForm) -> String {
    match form {
        ReportForm::Utf8 => address.to_owned(),
        ReportForm::SevenBit => to_code_points(address),
    }
}

/// The reply behind a fate and who gave it.
pub(super) fn remote_reply(fate: &Fate) -> Option<(&Peer, &Reply)> {
    match fate {
        Fate::Stopped(cause) => cause.root().reply(),
        Fate::Relayed { peer, reply } => Some((peer, reply)),
    }
}

/// `dns; name` or `dns; [address]` (RFC 3464 §2.1.2).
fn mta(host: &str) -> String {
    match host.parse() {
        Ok(address) => format!("dns; {}", Host::Literal(address)),
        Err(_) => format!("dns; {host}"),
    }
}

/// What the client called itself when that is a name, else its address.
fn mta_of_client(client: &ClientInfo) -> String {
    match client.helo.parse::<Domain>() {
        Ok(name) => format!("dns; {name}"),
        Err(_) => format!("dns; {}", Host::Literal(client.address)),
    }
}
