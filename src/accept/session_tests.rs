//! The session by itself: what a dialogue does not show.

use super::meters::Allowance;
use super::rules::{NoWay, Offer, Rules, TlsOffer};
use super::session::Session;
use super::step::{Event, Step};
use super::{ClientAccess, RefusalReason, replies};
use crate::config::Config;
use crate::smtp::command;
use std::sync::Arc;

fn session() -> Session {
    let rules = Rules { smtp_utf8: Offer::Yes, ..Rules::of_listen(&Config::default(), TlsOffer::Available) };
    Session::new(Arc::new(rules), "192.0.2.1".parse().unwrap(), ClientAccess::Permitted)
}

fn say(session: &mut Session, line: &str) -> String {
    let mut step = session.on(Event::Command(command::parse(line.as_bytes())));
    if let Step::Admit(_) = step {
        step = session.on(Event::Admitted(Ok(Allowance::ALL)));
    }
    let Step::Send(reply) = step else { panic!("{line}: {step:?}") };
    String::from_utf8(reply.to_wire()).unwrap()
}

#[test]
fn rfc3848_2_and_rfc6531_4_3_the_word_of_the_protocol_says_how_the_message_came() {
    for (secured, lines, word) in [
        (false, vec!["HELO x", "MAIL FROM:<>"], "SMTP"),
        (false, vec!["EHLO x", "MAIL FROM:<>"], "ESMTP"),
        (true, vec!["EHLO x", "MAIL FROM:<>"], "ESMTPS"),
        (false, vec!["EHLO x", "MAIL FROM:<> SMTPUTF8"], "UTF8SMTP"),
        (true, vec!["EHLO x", "MAIL FROM:<> SMTPUTF8"], "UTF8SMTPS"),
        (false, vec!["EHLO x", "MAIL FROM:<> SMTPUTF8", "RSET", "MAIL FROM:<>"], "ESMTP"),
    ] {
        let mut session = session();
        if secured {
            session.secured();
        }
        for line in &lines {
            let reply = say(&mut session, line);
            assert!(reply.starts_with("250"), "{line}: {reply}");
        }
        assert_eq!(session.protocol(), word, "{lines:?}");
    }
}

/// The keywords of EHLO, without the name.
fn offered(session: &mut Session) -> Vec<String> {
    let reply = say(session, "EHLO x");
    reply.lines().skip(1).map(|line| line[4..].to_owned()).collect()
}

#[test]
fn rfc3207_4_2_the_offer_differs_within_tls_by_starttls_and_requiretls_alone() {
    let mut session = session();
    let mut clear = offered(&mut session);
    session.secured();
    let mut within = offered(&mut session);
    assert_eq!((clear.pop().as_deref(), within.pop().as_deref()), (Some("STARTTLS"), Some("REQUIRETLS")));
    assert_eq!(clear, within);
    assert!(!clear.iter().any(|word| word.starts_with('X') || word.starts_with("AUTH") || word == "BINARYMIME"));
}

#[test]
fn what_administrators_read_is_short_plain_and_has_a_code() {
    let address = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
    let all = [
        replies::no_session(RefusalReason::TooManySessions),
        replies::no_session(RefusalReason::TooManyNewConnections),
        replies::too_many_commands(),
        replies::start_tls(),
        replies::sender_ok(),
        replies::recipient_ok(),
        replies::ok(),
        replies::chunk_ok(u64::MAX),
        replies::queued(crate::envelope::QueueId(u64::MAX)),
        replies::cannot_verify(),
        replies::help(),
        replies::bye(),
        replies::relaying_denied(address),
        replies::no_recipients(),
        replies::foreign_sender(),
        replies::tls_unavailable(),
        replies::require_tls_in_clear(),
        replies::too_many_recipients(),
        replies::no_way_to(&crate::smtp::address::Host::Literal(address), NoWay::Inward),
        replies::no_way_to(&crate::smtp::address::Host::Literal(address), NoWay::Literal),
        replies::no_postmaster(),
        replies::too_large(u64::MAX),
        replies::timed_out(),
        replies::stopping(),
        replies::internal_fault(),
        replies::too_many_bad_commands(),
    ];
    for reply in all {
        let enhanced = reply.enhanced.expect("RFC 2034 §4: a code for every reply but those to EHLO and HELO");
        assert_eq!(u16::from(enhanced.class), reply.code / 100, "{reply}");
        assert!(reply.lines.len() == 1 && reply.text().len() <= 100, "{reply}");
        assert!(reply.text().bytes().all(|b| (32..127).contains(&b)), "{reply}");
    }
}
