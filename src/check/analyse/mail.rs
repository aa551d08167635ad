//! Whose fault it is that mail servers cannot be reached or do not protect the connection (pure)
//! (RFC 3207 §6, RFC 7672 §2.2).
//!
//! What a box does, it does to everybody: so servers elsewhere that look the same are the proof,
//! and servers elsewhere that are well clear the way. A masked greeting shows by itself.

use super::{Certainty, CheckFinding, witness};
use crate::check::evidence::{CertificateEnd, Evidence, ServerSeen};
use crate::outcome::{Cause, Phase, Side};

/// Days before the end of a certificate from which on it is worth a warning.
const EXPIRES_SOON_DAYS: i64 = 7;
/// Lines of a proof.
const PROOF_LINES: usize = 5;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// So many asterisks or X in a row are a mask and no word.
const MASK: [&str; 2] = ["****", "XXXX"];

/// The reason behind what the connections met.
pub(super) fn find(evidence: &Evidence) -> Option<CheckFinding> {
    let seen = MailServersSeen {
        ours: evidence.servers.iter().filter(|server| !server.control).collect(),
        controls: evidence.servers.iter().filter(|server| server.control).collect(),
        delivers: evidence.delivery.delivers,
    };
    blocked(&seen)
        .or_else(|| cut_off(&seen))
        .or_else(|| masked(&seen))
        .or_else(|| proxied(&seen))
        .or_else(|| stripped(&seen))
        .or_else(|| intercepted(&seen))
        .or_else(|| elsewhere_well(evidence, &seen))
        .or_else(|| expiring(evidence, &seen))
}

struct MailServersSeen<'a> {
    ours: Vec<&'a ServerSeen>,
    controls: Vec<&'a ServerSeen>,
    delivers: bool,
}

/// Nobody answered at all.
const fn unreached(server: &ServerSeen) -> bool {
    matches!(&server.cause, Some(Cause::ConnectFailed { .. } | Cause::TimedOut { phase: Phase::Connect, .. }))
}

fn no_starttls(server: &ServerSeen) -> bool {
    if server.control {
        return !server.ehlo.is_empty() && !offers_starttls(server) && server.certificate.is_none();
    }
    matches!(server.cause, Some(Cause::StarttlsNotOffered { .. }))
}

fn offers_starttls(server: &ServerSeen) -> bool {
    server.ehlo.iter().any(|line| line.trim().eq_ignore_ascii_case("STARTTLS"))
}

fn proof(seen: &MailServersSeen<'_>, what: impl Fn(&ServerSeen) -> String) -> Vec<String> {
    let line = |server: &&ServerSeen| {
        let role = if server.control { " (control)" } else { "" };
        format!("{} {}{role}: {}", server.host, server.address, what(server))
    };
    seen.ours.iter().chain(&seen.controls).map(line).take(PROOF_LINES).collect()
}

fn blocked(seen: &MailServersSeen<'_>) -> Option<CheckFinding> {
    if seen.delivers || seen.ours.is_empty() || !seen.ours.iter().all(|server| unreached(server)) {
        return None;
    }
    let reached = seen.controls.iter().any(|server| !unreached(server));
    if reached || seen.controls.is_empty() {
        // The way out is open, or nobody has looked: the cause stands as delivery met it.
        return None;
    }
    let sentence = "No mail server answers on the SMTP port, those of others neither: the port is blocked between \
                    this host and the internet."
        .to_owned();
    let mut finding = CheckFinding::new("local-port25-blocked", Side::Path, Certainty::Proven, sentence);
    finding.proof = proof(seen, |server| server.cause.as_ref().map_or("reached", |cause| cause.row().word).to_owned());
    Some(finding.bridged("let the firewall pass TCP from this host to port 25 of any address".into()))
}

/// A handshake that began and did not come to its end.
fn handshake_fails(server: &ServerSeen) -> bool {
    if server.control {
        return offers_starttls(server) && !server.tls;
    }
    let in_handshake = matches!(
        server.cause,
        Some(
            Cause::TlsHandshake { .. }
                | Cause::ConnectionLost { phase: Phase::Handshake, .. }
                | Cause::TimedOut { phase: Phase::Handshake, .. }
        )
    );
    in_handshake && server.certificate.is_none()
}

/// TLS comes about with nobody.
fn cut_off(seen: &MailServersSeen<'_>) -> Option<CheckFinding> {
    let server = seen.ours.iter().find(|server| handshake_fails(server))?;
    let somebody_has_tls = seen.ours.iter().chain(&seen.controls).any(|server| server.tls);
    let control = seen.controls.iter().find(|control| handshake_fails(control))?;
    if somebody_has_tls {
        return None;
    }
    let sentence = format!(
        "No TLS handshake comes to its end, with {} as little as with {}: a box on the way ends them.",
        server.host, control.host
    );
    let mut finding = CheckFinding::new("local-tls-blocked", Side::Path, Certainty::Proven, sentence);
    finding.proof = proof(seen, |server| {
        if handshake_fails(server) { "STARTTLS offered, no handshake".to_owned() } else { "no TLS".to_owned() }
    });
    Some(finding.bridged("let the firewall pass TLS on port 25 (STARTTLS) from this host; mail goes out then".into()))
}

fn is_masked(server: &ServerSeen) -> bool {
    let masked = |text: &str| MASK.iter().any(|mask| text.contains(mask));
    server.greeting.as_deref().is_some_and(masked) || server.ehlo.iter().any(|line| masked(line))
}

fn masked(seen: &MailServersSeen<'_>) -> Option<CheckFinding> {
    let server = seen.ours.iter().find(|server| server.cause.is_some() && is_masked(server))?;
    let sentence = format!(
        "A box on the way rewrites SMTP: the words of {} come masked, and STARTTLS does not get through.",
        server.host
    );
    // The recipient's own firewall does the same; at servers elsewhere it can only be ours.
    let everywhere = seen.controls.iter().any(|control| is_masked(control));
    let certainty = if everywhere { Certainty::Proven } else { Certainty::Likely };
    let mut finding = CheckFinding::new("local-smtp-rewritten", Side::Path, certainty, sentence);
    if !everywhere {
        finding.also = vec!["starttls-not-supported"];
    }
    finding.proof = [server.greeting.clone().map(|greeting| format!("greeting: {greeting}"))]
        .into_iter()
        .flatten()
        .chain(server.ehlo.iter().filter(|line| MASK.iter().any(|m| line.contains(m))).map(|l| format!("EHLO: {l}")))
        .take(4)
        .collect();
    Some(finding.bridged(INSPECTION_OFF.to_owned()))
}

/// What to ask of whoever runs the box.
const INSPECTION_OFF: &str =
    "switch SMTP inspection (\"fixup\", \"ESMTP inspect\", mail proxy) off for this host; mail goes out then";

/// One and the same server answers under different names.
fn proxied(seen: &MailServersSeen<'_>) -> Option<CheckFinding> {
    let server = seen.ours.iter().find(|server| server.cause.is_some() && server.greeting.is_some())?;
    let same = |control: &&&ServerSeen| {
        control.greeting == server.greeting && control.host != server.host && control.address != server.address
    };
    let control = seen.controls.iter().find(same)?;
    let sentence = format!(
        "A proxy on the way answers for every mail server: {} and {} greet with the same words.",
        server.host, control.host
    );
    let mut finding = CheckFinding::new("local-smtp-rewritten", Side::Path, Certainty::Proven, sentence);
    finding.proof = proof(seen, |server| server.greeting.clone().unwrap_or_else(|| "no greeting".to_owned()));
    Some(finding.bridged(INSPECTION_OFF.to_owned()))
}

/// A domain with TLSA records offers STARTTLS; that it is missing everywhere is a box.
fn stripped(seen: &MailServersSeen<'_>) -> Option<CheckFinding> {
    let server = seen.ours.iter().find(|server| no_starttls(server))?;
    if seen.controls.iter().any(|control| offers_starttls(control) || control.tls) {
        return None;
    }
    let by_policy =
        matches!(server.cause, Some(Cause::StarttlsNotOffered { demanded_by: crate::outcome::DemandedBy::Dane, .. }));
    let at_controls = seen.controls.iter().any(|control| no_starttls(control));
    let (certainty, also) = match (at_controls, by_policy) {
        (true, _) => (Certainty::Proven, vec![]),
        (false, true) => (Certainty::Likely, vec!["starttls-not-supported"]),
        (false, false) => return None,
    };
    let sentence = if at_controls {
        "STARTTLS is missing at the recipient's server and at servers of others: a box on the way takes it out."
    } else {
        "The domain publishes TLSA records, and its server does not offer STARTTLS: a box on the way takes it out, or \
         the server has lost it. A control (--control HOST) tells."
    };
    let mut finding = CheckFinding::new("local-smtp-rewritten", Side::Path, certainty, sentence.to_owned());
    finding.also = also;
    finding.proof =
        proof(
            seen,
            |server| {
                if no_starttls(server) { "no STARTTLS".to_owned() } else { "STARTTLS offered".to_owned() }
            },
        );
    Some(finding.bridged(INSPECTION_OFF.to_owned()))
}

/// The same issuer at servers that have nothing to do with each other, where ours does not fit.
fn intercepted(seen: &MailServersSeen<'_>) -> Option<CheckFinding> {
    let refused = |server: &&&ServerSeen| {
        matches!(
            server.cause,
            Some(Cause::DaneMismatch { .. } | Cause::CertificateRejected { .. } | Cause::TlsHandshake { .. })
        )
    };
    let server = seen.ours.iter().find(refused)?;
    let issuer = &server.certificate.as_ref()?.issuer;
    let same = |control: &&&ServerSeen| {
        control.certificate.as_ref().is_some_and(|c| c.issuer == *issuer || Some(&c.sha256) == sha256(server))
    };
    let control = seen.controls.iter().find(same)?;
    // A public authority may well have issued both; then the records of DANE would be wrong twice.
    let sentence = format!(
        "TLS is intercepted on the way: the certificates of {} and of {} come from the same issuer, \"{issuer}\", and \
         the recipient's does not fit what it publishes.",
        server.host, control.host
    );
    let self_made = is_one_box(server, control);
    let certainty = if self_made { Certainty::Proven } else { Certainty::Likely };
    let mut finding = CheckFinding::new("local-tls-intercepted", Side::Path, certainty, sentence);
    if !self_made {
        finding.also = vec!["tlsa-invalid"];
    }
    finding.proof = proof(seen, |server| {
        server.certificate.as_ref().map_or_else(|| "no certificate".to_owned(), |c| format!("issuer {}", c.issuer))
    });
    Some(finding.bridged("exempt this host from TLS inspection on port 25; mail goes out then".into()))
}

/// The same address is in good order as somebody elsewhere sees it, at the same day. A server may treat
/// its clients differently, and an address may stand for several: so it is no proof.
fn elsewhere_well(evidence: &Evidence, seen: &MailServersSeen<'_>) -> Option<CheckFinding> {
    let somebody_is_well = seen.ours.iter().chain(&seen.controls).any(|server| server.cause.is_none() && server.tls);
    if somebody_is_well {
        return None;
    }
    let pairs = seen.ours.iter().filter_map(|server| Some((server, witness::from_outside(evidence, server)?)));
    let (server, there) = pairs.into_iter().find(|(_, there)| there.cause.is_none())?;
    let another = sha256(server).is_some() && sha256(server) != sha256(there);
    let (word, what, fits) = match &server.cause {
        Some(Cause::DaneMismatch { .. } | Cause::CertificateRejected { .. }) if another => {
            ("local-tls-intercepted", "shows another certificate there, one that is good", "tlsa-invalid")
        }
        Some(Cause::StarttlsNotOffered { .. } | Cause::StarttlsRefused { .. }) if there.tls => {
            ("local-smtp-rewritten", "offers STARTTLS there", "starttls-not-supported")
        }
        Some(Cause::TlsHandshake { .. }) if there.tls => ("local-tls-blocked", "has TLS there", "tls-handshake-failed"),
        Some(cause) if unreached(server) => ("local-port25-blocked", "answers there", cause.row().word),
        Some(_) | None => return None,
    };
    let sentence = format!(
        "{} {} {what}, as the check elsewhere has seen it: a box between this host and the internet, or a server that \
         treats this host differently.",
        server.host, server.address
    );
    let mut finding = CheckFinding::new(word, Side::Path, Certainty::Likely, sentence);
    finding.also = vec![fits];
    let word = |server: &ServerSeen| server.cause.as_ref().map_or("good", |cause| cause.row().word);
    finding.proof = vec![format!("{} here: {}", server.address, word(server)), format!("there: {}", word(there))];
    Some(finding)
}

fn sha256(server: &ServerSeen) -> Option<&String> {
    server.certificate.as_ref().map(|certificate| &certificate.sha256)
}

/// Authorities that the world trusts issue for both without any box.
fn is_one_box(ours: &ServerSeen, control: &ServerSeen) -> bool {
    const PUBLIC: [&str; 6] = ["Let's Encrypt", "DigiCert", "Sectigo", "GlobalSign", "Google Trust", "Microsoft"];
    let Some(certificate) = &ours.certificate else { return false };
    sha256(ours) == sha256(control) || !PUBLIC.iter().any(|name| certificate.issuer.contains(name))
}

/// Good today, and not for long.
fn expiring(evidence: &Evidence, seen: &MailServersSeen<'_>) -> Option<CheckFinding> {
    if evidence.delivery.cause.is_some() {
        return None;
    }
    let soon = |server: &&&ServerSeen| {
        server.certificate.as_ref().is_some_and(|certificate| {
            certificate.end == CertificateEnd::Counts && days_left(evidence, server) < EXPIRES_SOON_DAYS
        })
    };
    let server = seen.ours.iter().find(soon)?;
    let days = days_left(evidence, server);
    let sentence =
        format!("The certificate of {} {} ends in {days} days, and mail to it with it.", server.host, server.address);
    let mut finding = CheckFinding::new("certificate-expires-soon", Side::Recipient, Certainty::Proven, sentence);
    finding.proof = proof(seen, |server| {
        server.certificate.as_ref().map_or_else(String::new, |c| format!("ends {}", c.not_after.rfc3339()))
    });
    Some(finding)
}

fn days_left(evidence: &Evidence, server: &ServerSeen) -> i64 {
    server.certificate.as_ref().map_or(i64::MAX, |c| (c.not_after.0 - evidence.at.0) / DAY_MS)
}
