//! Whether the values of `[[destination]]` go together, within each and among them.

use super::destination::{Destination, DomainPattern, TlsLevel};
use super::egress::{LoginConfig, TlsMode};
use super::findings::ConfigFindings;
use super::next_hop::{NextHopAddress, NextHops};
use crate::clock::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// A year, and the rest of its last day.
const LONGEST_EXCEPTION: Duration = Duration::from_secs(367 * 86_400);

/// Whether the values of each go together, and no two destinations mean the same mail.
pub(super) fn check(destinations: &[Destination], findings: &mut ConfigFindings<'_>) {
    for (nth, destination) in destinations.iter().enumerate() {
        let mut entry = DestinationEntry { nth, findings };
        out_of_reach(destination, &mut entry);
        exception(destination, &mut entry);
        tls_mode(destination, &mut entry);
        if let Some(login) = &destination.login {
            login_itself(login, &mut entry);
            login_there(destination, &mut entry);
        }
        says_something(destination, &mut entry);
    }
    let mut met = BTreeSet::new();
    for (nth, destination) in destinations.iter().enumerate() {
        for (domain, sender) in mail_meant(destination) {
            let from = sender.as_ref().map(|sender| format!(" from {sender}")).unwrap_or_default();
            if !met.insert((domain.clone(), sender)) {
                let message = format!("{domain}: named twice for mail{from}; only one can hold, so keep one");
                DestinationEntry { nth, findings }.refuse(&["domains", "senders"], message);
            }
        }
    }
}

/// No weakening is for longer than a year: by then somebody looks at it again.
pub(super) fn check_until(destinations: &[Destination], now: Timestamp, findings: &mut ConfigFindings<'_>) {
    for (nth, destination) in destinations.iter().enumerate() {
        let too_late = destination.until.filter(|day| day.end() > now.plus(LONGEST_EXCEPTION));
        if let Some(day) = too_late {
            let message = format!("{day} is more than a year away: give an earlier day, and look at it again then");
            DestinationEntry { nth, findings }.refuse(&["until"], message);
        }
    }
}

/// One destination of the file.
struct DestinationEntry<'f, 't> {
    nth: usize,
    findings: &'f mut ConfigFindings<'t>,
}

impl DestinationEntry<'_, '_> {
    /// These keys of it do not go together; the first one is to change.
    fn refuse(&mut self, keys: &[&str], message: impl Into<String>) {
        let paths: Vec<String> = keys.iter().map(|key| format!("destination.{}.{key}", self.nth)).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        self.findings.refuse(&paths, message);
    }
}

/// Each domain with each sender of a destination, as it is shown; without a sender where all are meant.
fn mail_meant(destination: &Destination) -> Vec<(String, Option<String>)> {
    let senders: Vec<Option<String>> = match destination.senders.as_slice() {
        [] => vec![None],
        some => some.iter().map(|sender| Some(sender.to_string())).collect(),
    };
    let domains = destination.domains.iter().map(ToString::to_string);
    domains
        .flat_map(|domain| senders.iter().map(move |sender| (domain.clone(), sender.clone())).collect::<Vec<_>>())
        .collect()
}

fn says_something(destination: &Destination, entry: &mut DestinationEntry<'_, '_>) {
    if destination.domains.is_empty() {
        entry.refuse(&["domains"], "must name at least one domain");
    }
    let leaves_otherwise =
        destination.client_certificate.is_some() || destination.source.is_some() || destination.family.is_some();
    let limits = (destination.max_connections, destination.max_messages_per_connection, destination.rate);
    let changes_way = destination.next_hop.is_some() || leaves_otherwise || limits != (None, None, None);
    if !changes_way && destination.tls.is_none() && !destination.report_only {
        let message = "give next_hop, tls, source, report_only or a limit; as it stands it changes nothing";
        entry.findings.refuse(&[&format!("destination.{}", entry.nth)], message);
    }
}

/// A weakening needs a reason and a last day.
fn exception(destination: &Destination, entry: &mut DestinationEntry<'_, '_>) {
    let weakens_by = if destination.report_only { "report_only" } else { "tls" };
    let weakens = destination.report_only || destination.tls.is_some_and(TlsLevel::weakens);
    let reason = destination.reason.as_deref().map_or("", str::trim);
    let of_it = [weakens_by, "report-only", "report_only", "tls"];
    let with = |key: &'static str| [of_it.as_slice(), &[key]].concat();
    if weakens && reason.is_empty() {
        entry.refuse(&with("reason"), "it weakens security, so it needs a reason = \"…\"");
    }
    match (weakens, destination.until) {
        (true, None) => {
            entry.refuse(&with("until"), "it weakens security, so it needs a last day, such as until = 2027-01-31");
        }
        (false, Some(_)) => {
            let message = "until is for a weakening (report_only, opportunistic, dane, off)";
            entry.refuse(&["until", "tls", "report_only"], message);
        }
        (true, Some(_)) | (false, None) => {}
    }
}

/// For an address there are no TLSA records and no policy (RFC 7672 §2.2, RFC 8461 §3.1): what asks for them
/// would let the mail wait until it expires.
fn out_of_reach(destination: &Destination, entry: &mut DestinationEntry<'_, '_>) {
    let Some(level @ (TlsLevel::DaneOnly | TlsLevel::MtaSts)) = destination.tls else { return };
    let word = level.word();
    if let Some(hops) = &destination.next_hop {
        let address = hops.iter().find(|hop| matches!(hop.address, NextHopAddress::Address { .. }));
        if let Some(hop) = address {
            let message = format!(
                "\"{word}\" cannot hold for {}: an address has neither TLSA records nor a policy, so the mail would \
                 wait until it expires; name the next hop by its host name, or write \"encrypt\"",
                hop.address
            );
            entry.refuse(&["tls", "next_hop"], message);
        }
        return;
    }
    let literal = destination.domains.iter().find(|pattern| matches!(pattern, DomainPattern::Literals(_)));
    if let Some(literal) = literal {
        let message = format!(
            "\"{word}\" cannot hold for {literal}: an address has neither TLSA records nor a policy, so the mail \
             would wait until it expires; write \"encrypt\" for it in a [[destination]] of its own"
        );
        entry.refuse(&["tls", "domains"], message);
    }
}

fn tls_mode(destination: &Destination, entry: &mut DestinationEntry<'_, '_>) {
    if destination.tls_mode != Some(TlsMode::Implicit) {
        return;
    }
    if destination.next_hop.is_none() {
        entry.refuse(&["tls_mode", "next_hop"], "\"implicit\" is for a next_hop: MX hosts speak STARTTLS");
    }
    if destination.tls == Some(TlsLevel::Off) {
        entry.refuse(&["tls_mode", "tls"], "\"implicit\" and tls = \"off\" contradict each other");
    }
}

fn login_itself(login: &LoginConfig, entry: &mut DestinationEntry<'_, '_>) {
    match (&login.password_file, &login.credential) {
        (Some(_), Some(_)) | (None, None) => {
            entry.refuse(&["login"], "login needs a password_file or a credential, and not both");
        }
        (None, Some(name)) if name.is_empty() || name.contains('/') || name.starts_with('.') => {
            entry.refuse(&["login.credential"], format!("\"{name}\" is no name of a credential"));
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    if login.user.is_empty() || login.user.contains(char::is_control) {
        entry.refuse(&["login.user"], "user must not be empty or hold control characters");
    }
}

/// Whether a password may go where this destination's mail goes.
fn login_there(destination: &Destination, entry: &mut DestinationEntry<'_, '_>) {
    let is_address = |hops: &NextHops| hops.iter().any(|hop| matches!(hop.address, NextHopAddress::Address { .. }));
    match &destination.next_hop {
        None => {
            let message = "login is for a next_hop: nobody logs in at the MX hosts of others";
            entry.refuse(&["login", "next_hop"], message);
        }
        Some(hops) if is_address(hops) => {
            let message = "login needs next_hop by name: only for a name is there a certificate to prove who gets the \
                           password";
            entry.refuse(&["login", "next_hop"], message);
        }
        Some(_) => {}
    }
    if destination.report_only || destination.tls.is_some_and(TlsLevel::weakens) {
        let message = "login needs TLS to a server that is proven to be the right one: take the weakening away";
        entry.refuse(&["login", "tls", "report_only"], message);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use std::path::Path;

    fn parse(lines: &str) -> Result<Destination, String> {
        let text = format!("[[destination]]\ndomains = [\"x.example\"]\n{lines}");
        let config = Config::parse(&text, Path::new("relay.toml")).map_err(|e| e.to_string())?;
        Ok(config.destination.into_iter().next().unwrap())
    }

    #[test]
    fn what_goes_together_is_taken() {
        for lines in [
            "next_hop = \"smart.example:587\"\nlogin = { user = \"relay\", password_file = \"/run/secret\" }",
            "next_hop = \"smart.example\"\ntls_mode = \"implicit\"\nlogin = { user = \"relay\", credential = \"smart\" }",
            "client_certificate = { chain = \"a.pem\", key = \"a.key\" }",
            "source = { ipv4 = \"192.0.2.7\", ipv6 = \"2001:db8::7\", ehlo = \"out.example\" }",
            "family = \"prefer-ipv4\"",
        ] {
            parse(lines).unwrap();
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_what_to_change() {
        let smart = "next_hop = \"smart.example:587\"\n";
        let login = "login = { user = \"relay\", password_file = \"/run/secret\" }\n";
        let weak = "tls = \"opportunistic\"\nreason = \"x\"\nuntil = 2199-01-01\n";
        for (lines, words) in [
            (login.to_owned(), "nobody logs in at the MX hosts"),
            (format!("next_hop = \"192.0.2.1\"\n{login}"), "needs next_hop by name"),
            (format!("{smart}{login}{weak}"), "take the weakening away"),
            (format!("{smart}login = {{ user = \"relay\" }}"), "a password_file or a credential"),
            (
                format!("{smart}login = {{ user = \"relay\", password = \"x\" }}"),
                "login.password: there is no such key",
            ),
            (format!("{smart}login = {{ user = \"relay\", credential = \"../x\" }}"), "no name of a credential"),
            (format!("{smart}login = {{ user = \"\", credential = \"x\" }}"), "user must not be empty"),
            ("tls_mode = \"implicit\"".to_owned(), "MX hosts speak STARTTLS"),
            (format!("{smart}tls_mode = \"smtps\""), "unknown variant `smtps`"),
            ("family = \"ipv5\"".to_owned(), "relay.toml:3: [[destination]] family: unknown variant `ipv5`"),
            (
                "source = { ipv4 = \"2001:db8::1\" }".to_owned(),
                "relay.toml:3: [[destination]] source.ipv4: \"2001:db8::1\"",
            ),
            ("client_certificate = { chain = \"x\" }".to_owned(), "`key` is missing"),
        ] {
            let error = parse(&lines).unwrap_err();
            assert!(error.contains(words), "{lines}: {error}");
        }
    }

    #[test]
    fn what_two_destinations_say_of_the_same_mail_is_refused() {
        let two = |first: &str, second: &str| {
            let text =
                format!("[[destination]]\n{first}\ntls = \"encrypt\"\n[[destination]]\n{second}\ntls = \"encrypt\"\n");
            Config::parse(&text, Path::new("relay.toml")).map(|_| ()).map_err(|e| e.to_string())
        };
        let twice = two("domains = [\"a.example\"]", "domains = [\"b.example\", \"A.example\"]").unwrap_err();
        assert!(twice.contains("a.example: named twice for mail;"), "{twice}");
        let from = |senders: &str| format!("domains = [\"a.example\"]\nsenders = [{senders}]");
        let twice = two(&from("\"@x.example\""), &from("\"b@x.example\", \"@X.example\"")).unwrap_err();
        assert!(twice.contains("named twice for mail from @x.example"), "{twice}");
        assert!(two(&from("\"@x.example\""), &from("\"b@x.example\", \"<>\"")).is_ok());
        assert!(two("domains = [\"a.example\"]", &from("\"<>\"")).is_ok());
        let error = two("domains = [\"a.example\"]", &from("\"x\"")).unwrap_err();
        assert!(error.starts_with("relay.toml:6: [[destination]] senders: \"x\" is no sender"), "{error}");
    }
}
