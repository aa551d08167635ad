//! What a report says to people, before it has a form (RFC 6522 §3, first part): `plain.rs` makes text of it, and
//! `html.rs` a page.
//!
//! First what happened and who must act, for whoever wrote the message, in the words of
//! `texts.rs` and in each language of that reader; then the evidence, for whoever runs the mail system: those
//! words are the same in every language, so that they are found in the log and by `relay check`.

use super::returned::Note;
use super::status::remote_reply;
use super::texts::LanguageTexts;
use super::{Fate, Kind, Original, ReportDraft, notable_domain, readable, tries};
use crate::clock::Timestamp;
use crate::outcome::{Cause, Phase, Side, UNITS, span};
use crate::smtp::address::Mailbox;
use crate::spool::RecipientState;
use crate::spool::incident::Incident;
use mail_parser::MessageParser;
use std::collections::BTreeSet;

/// Stands for the address while its sentence is filled; for private use, so in no text.
const ADDRESS: &str = "\u{E001}";
/// The most lines that are repeated of a report that could not be delivered.
const REPEATED_LINES: usize = 60;

/// Groups that are told of in full; the recipients of further ones have a line each.
const MOST_GROUPS: usize = 20;
/// Domains that an administrator is told to check, of one group.
const MOST_CHECKS: usize = 10;

/// All that a report says.
pub(super) struct ReportWords<'a> {
    /// The same for the reader in each of the languages.
    pub(super) readers: Vec<ReaderWords<'a>>,
    /// For administrators.
    pub(super) administrators: AdministratorWords,
}

/// What the writer of the message is told, in one language.
pub(super) struct ReaderWords<'a> {
    pub(super) texts: &'a LanguageTexts,
    pub(super) groups: Vec<GroupWords>,
    /// Recipients of further groups.
    pub(super) further: Option<FurtherWords>,
    /// What the reader should know about what comes back of the message.
    pub(super) note: Option<String>,
}

/// What is said of recipients that share a fate.
pub(super) struct GroupWords {
    pub(super) first: Vec<Phrase>,
    /// Where there are several.
    pub(super) recipients: Vec<String>,
    pub(super) happened: Option<String>,
    /// Who must act, and what the reader can do.
    pub(super) action: Option<String>,
    /// What comes next.
    pub(super) closing: Option<String>,
}

/// A piece of a sentence.
pub(super) enum Phrase {
    Words(String),
    Address(String),
}

/// Recipients in a line each.
pub(super) struct FurtherWords {
    pub(super) said: String,
    pub(super) lines: Vec<String>,
}

/// A label and what stands beside it.
pub(super) type Fact = (&'static str, String);

/// What administrators are told.
pub(super) struct AdministratorWords {
    pub(super) heading: String,
    pub(super) facts: Vec<Fact>,
    pub(super) groups: Vec<EvidenceWords>,
    /// The words of a report that was lost, with their heading.
    pub(super) lost: Option<LostWords>,
}

/// What is known of a group.
pub(super) struct EvidenceWords {
    pub(super) recipients: Vec<String>,
    pub(super) facts: Vec<Fact>,
}

/// The words of the report that was lost, without its parts: reports do not nest.
pub(super) struct LostWords {
    pub(super) heading: String,
    pub(super) lines: Vec<String>,
}

/// Puts the words together.
pub(super) fn words<'a>(draft: &ReportDraft<'a>, note: Option<Note>) -> ReportWords<'a> {
    let groups = grouped(draft);
    let (full, brief) = groups.split_at(groups.len().min(MOST_GROUPS));
    let reader = |texts: &'a LanguageTexts| ReaderWords {
        texts,
        groups: said_once(full.iter().map(|group| for_the_reader(draft, texts, group)).collect()),
        further: further(texts, brief),
        note: note.map(|note| texts.say(slot_of(note), &[])),
    };
    ReportWords {
        readers: draft.languages().iter().map(reader).collect(),
        administrators: for_administrators(draft, full),
    }
}

const fn slot_of(note: Note) -> &'static str {
    match note {
        Note::HeaderCut => "notes.header_cut",
        Note::HeaderOnly => "notes.header_only",
        Note::ReturnedBefore => "notes.returned_before",
        Note::Redacted => "notes.redacted",
    }
}

/// Each recipient in a line, with the cause in the words of the log, so that a report about a thousand
/// hosts can be read and carried.
fn further(texts: &LanguageTexts, groups: &[CauseGroup<'_>]) -> Option<FurtherWords> {
    let told = |group: &CauseGroup<'_>| match group.fate {
        Fate::Stopped(cause) => format!("{}, status {}", cause.root().row().word, cause.row().status),
        Fate::Relayed { peer, .. } => peer.to_string(),
    };
    let lines = groups.iter().flat_map(|group| {
        let told = told(group);
        let one = move |recipient: &&Mailbox| format!("{} ({told})", readable::mailbox(recipient));
        group.recipients.iter().map(one).collect::<Vec<_>>()
    });
    let lines: Vec<String> = lines.collect();
    let said = texts.say("notes.further", &[("count", &lines.len().to_string())]);
    (!lines.is_empty()).then_some(FurtherWords { said, lines })
}

/// Recipients of whom the same is to be said.
struct CauseGroup<'a> {
    fate: &'a Fate,
    indices: Vec<usize>,
    recipients: Vec<&'a Mailbox>,
}

/// In the order in which the fates first appear.
fn grouped<'a>(draft: &ReportDraft<'a>) -> Vec<CauseGroup<'a>> {
    draft.recipients().fold(Vec::new(), |mut groups: Vec<CauseGroup<'a>>, (index, recipient, fate)| {
        match groups.iter_mut().find(|group| group.fate == fate) {
            Some(group) => {
                group.indices.push(index);
                group.recipients.push(recipient);
            }
            None => groups.push(CauseGroup { fate, indices: vec![index], recipients: vec![recipient] }),
        }
        groups
    })
}

fn for_the_reader(draft: &ReportDraft<'_>, texts: &LanguageTexts, group: &CauseGroup<'_>) -> GroupWords {
    let server = match group.fate {
        Fate::Relayed { peer, .. } => readable::names(&peer.to_string()),
        Fate::Stopped(_) => String::new(),
    };
    let say = |key: &str, more: (&str, &str)| {
        let slot = format!("{}.{key}", draft.due.kind.word());
        texts.say(&slot, &[("server", &server), more])
    };
    let (first, recipients) = match group.recipients.as_slice() {
        [only] => (around_address(&say("one", ("recipient", ADDRESS)), &readable::mailbox(only)), Vec::new()),
        several => {
            let first = say("several", ("count", &several.len().to_string()));
            (vec![Phrase::Words(first)], several.iter().map(|recipient| readable::mailbox(recipient)).collect())
        }
    };
    let closing = say("closing", ("until", &short_date(draft.original.until)));
    let (happened, action) = match group.fate {
        Fate::Stopped(cause) => {
            let said = remote_reply(group.fate).map(|(_, reply)| reply.to_string());
            let sentence = match draft.incident(cause) {
                Some(incident) => texts.say("incident.reader", &[("since", &short_date(incident.since))]),
                None => readable::sentence(&texts.sentence(cause), said.as_deref()),
            };
            (Some(sentence), Some(what_to_do(draft, texts, cause)))
        }
        Fate::Relayed { .. } => (None, None),
    };
    GroupWords { first, recipients, happened, action, closing: Some(closing) }
}

/// What neighbours share stands below the last of them.
fn said_once(mut groups: Vec<GroupWords>) -> Vec<GroupWords> {
    let mut below: Option<(Option<String>, Option<String>)> = None;
    for group in groups.iter_mut().rev() {
        let own = (group.action.clone(), group.closing.clone());
        if let Some((action, closing)) = &below
            && *closing == own.1
        {
            group.closing = None;
            if *action == own.0 {
                group.action = None;
            }
        }
        below = Some(own);
    }
    groups
}

/// A sentence in pieces, so that a form can keep the address whole.
fn around_address(sentence: &str, address: &str) -> Vec<Phrase> {
    let words = sentence.split(ADDRESS).map(|words| Phrase::Words(words.to_owned()));
    let mut phrases = Vec::new();
    for piece in words {
        if !phrases.is_empty() {
            phrases.push(Phrase::Address(address.to_owned()));
        }
        phrases.push(piece);
    }
    phrases
}

/// Who must act, and what the reader can do.
fn what_to_do(draft: &ReportDraft<'_>, texts: &LanguageTexts, cause: &Cause) -> String {
    // Whatever part of our side it is, the reader's administrators are to act, and nobody else.
    let side = if draft.incident(cause).is_some() { Side::Here } else { cause.row().side };
    let first = if draft.due.kind == Kind::Failed && may_be_a_wrong_address(cause) {
        texts.say("next.address", &[])
    } else {
        String::new()
    };
    let next = match (draft.due.kind, side) {
        (Kind::ReportLost | Kind::CopyLost, _) => String::new(),
        (Kind::Delayed | Kind::HeldBack, _) => texts.say("next.waiting", &[]),
        (Kind::Failed | Kind::Relayed, Side::Sender) => texts.advice(cause),
        (Kind::Failed | Kind::Relayed, Side::Recipient) => texts.say("next.recipient", &[]),
        (Kind::Failed | Kind::Relayed, Side::Here | Side::Resolver | Side::Path) => texts.say("next.help_desk", &[]),
    };
    let who = if draft.incident(cause).is_some() { texts.side_must_act(side) } else { texts.who_must_act(cause) };
    format!("{first} {who} {next}").trim().to_owned()
}

/// Whether the other side says, or leaves open, that the address is wrong: the one fault that its
/// administrators cannot fix, and the most frequent one (RFC 3463 §3.2, RFC 5321 §4.2.3).
fn may_be_a_wrong_address(cause: &Cause) -> bool {
    let root = cause.root();
    let Cause::Rejected { phase: Phase::RcptTo, reply, .. } = root else { return false };
    if root.row().side == Side::Here {
        return false;
    }
    match reply.enhanced {
        Some(code) => code.class == 5 && code.subject == 1,
        None => [550, 551, 553].contains(&reply.code),
    }
}

/// A moment for people in any language: `2026-11-25 11:44 UTC`.
fn short_date(moment: Timestamp) -> String {
    let text = moment.rfc3339();
    let minutes = text.split_once('T').and_then(|(date, time)| time.get(..5).map(|time| format!("{date} {time} UTC")));
    minutes.unwrap_or(text)
}

/// Of the recipient that was tried most. What the operator does is no attempt.
fn attempts(draft: &ReportDraft<'_>) -> u32 {
    let Original { entry, tries_now, .. } = *draft.original;
    let tries = |(index, _, fate): (usize, _, &Fate)| match (entry.recipients.get(index), fate) {
        (Some(RecipientState::Owed(owed)), _) => owed.tries,
        (Some(RecipientState::Queued(pending)), Fate::Stopped(_)) if draft.due.kind.waits() => {
            pending.tries.saturating_add(if draft.is_earlier(index) { 0 } else { tries_now })
        }
        (state, fate) => {
            let before = state.and_then(RecipientState::pending).map_or(0, |pending| pending.tries);
            let cause = match fate {
                Fate::Stopped(cause) => Some(cause),
                Fate::Relayed { .. } => None,
            };
            before.saturating_add(tries::ended_now(cause, tries_now))
        }
    };
    draft.recipients().map(tries).max().unwrap_or(0)
}

fn for_administrators(draft: &ReportDraft<'_>, groups: &[CauseGroup<'_>]) -> AdministratorWords {
    let entry = draft.original.entry;
    let mut facts = vec![
        ("Relay", draft.context.hostname.to_string()),
        ("Queue id", entry.id.to_string()),
        ("Received", entry.envelope.accepted_at.rfc5322()),
        ("Reported", draft.now.rfc5322()),
        ("Attempts", attempts(draft).to_string()),
    ];
    if draft.due.kind.waits() {
        facts.push(("Tried until", draft.original.until.rfc5322()));
    }
    let texts = &draft.languages().first;
    // Advice and commands that many groups share are given with the first of them.
    let mut given = BTreeSet::new();
    let mut evidence = |group: &CauseGroup<'_>| {
        let mut words = evidence_for(draft, group);
        words.facts.retain(|fact| !["Advice", "Run"].contains(&fact.0) || given.insert(fact.clone()));
        words
    };
    AdministratorWords {
        heading: texts.say("notes.administrators", &[]),
        facts,
        groups: groups.iter().map(&mut evidence).collect(),
        lost: (draft.due.kind == Kind::ReportLost).then(|| what_the_report_said(draft, texts)),
    }
}

fn evidence_for(draft: &ReportDraft<'_>, group: &CauseGroup<'_>) -> EvidenceWords {
    let recipients = group.recipients.iter().map(|recipient| recipient.as_str().to_owned()).collect();
    let cause = match group.fate {
        Fate::Stopped(cause) => cause,
        Fate::Relayed { peer, reply } => {
            let facts = vec![("Mail server", peer.to_string()), ("Reply", reply.to_string())];
            return EvidenceWords { recipients, facts };
        }
    };
    let mut facts: Vec<Fact> = draft.incident(cause).map(incident_line).into_iter().chain(evidence(cause)).collect();
    for tries in tries::of(draft.original.history, &group.indices) {
        let (first, last) = (short_date(*tries.when.start()), short_date(*tries.when.end()));
        let when = match tries.count {
            1 => first,
            count if first == last => format!("{count} times at {first}"),
            count => format!("{count} times from {first} to {last}"),
        };
        facts.push(("Earlier try", format!("{when}: {}", tries.what)));
    }
    let mut domains: Vec<_> = group.recipients.iter().filter_map(|recipient| notable_domain(recipient)).collect();
    domains.sort();
    domains.dedup();
    facts.extend(domains.into_iter().take(MOST_CHECKS).map(|domain| ("Run", format!("relay check {domain}"))));
    facts.push(("Run", format!("relay why {}", draft.original.entry.id)));
    EvidenceWords { recipients, facts }
}

fn incident_line(incident: &Incident) -> Fact {
    let Incident { id, cause, side, certainty, .. } = incident;
    ("Incident", format!("{id}: {cause}, side {}, {}", side.word(), certainty.word()))
}

/// Everything known about a cause that its sentence may leave out.
fn evidence(cause: &Cause) -> Vec<Fact> {
    let row = cause.row();
    let mut lines = vec![("Cause", format!("{}, status {}", row.word, row.status))];
    if let Cause::Expired { waited_s, .. } = cause {
        lines.push(("Tried for", span(*waited_s, &UNITS)));
    }
    let root = cause.root();
    let root_row = root.row();
    if root != cause {
        lines.push(("Last cause", format!("{}, status {}", root_row.word, root_row.status)));
    }
    if let Some(result_type) = root_row.result_type {
        lines.push(("RFC 8460 result", result_type.to_owned()));
    }
    lines.extend(root.evidence());
    lines.push(("Advice", root.advice().to_owned()));
    lines
}

fn what_the_report_said(draft: &ReportDraft<'_>, texts: &LanguageTexts) -> LostWords {
    let parsed = MessageParser::default().parse(draft.original.content);
    let said = parsed.as_ref().and_then(|message| message.body_text(0)).unwrap_or_default();
    let lines = said.lines().take(REPEATED_LINES).map(|said| said.trim_end().to_owned()).collect();
    LostWords { heading: texts.say("notes.what_it_said", &[]), lines }
}
