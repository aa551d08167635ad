//! Whether the values of `[[destination]]` go together, within each and among them.

use super::destination::{Destination, TlsLevel};
use super::egress::TlsMode;
use super::next_hop::{NextHopAddress, NextHops};
use std::collections::BTreeSet;

/// Whether the values of each go together, and no two destinations mean the same mail.
///
/// # Errors
/// Which ones do not, and what to change.
pub(super) fn check(destinations: &[Destination]) -> Result<(), String> {
    for destination in destinations {
        let named: Vec<_> = destination.domains.iter().map(ToString::to_string).collect();
        way_out(destination).map_err(|message| format!("[[destination]] {}: {message}", named.join(", ")))?;
        destination.check()?;
    }
    let mut met = BTreeSet::new();
    let twice = destinations.iter().flat_map(mail_meant).find(|meant| !met.insert(meant.clone()));
    let Some((domain, sender)) = twice else { return Ok(()) };
    let from = sender.map(|sender| format!(" from {sender}")).unwrap_or_default();
    Err(format!("[[destination]] {domain}: named twice for mail{from}; only one can hold, so keep one"))
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

/// Whether the keys about the way out go together.
///
/// # Errors
/// Which ones do not, and what to change.
fn way_out(destination: &Destination) -> Result<(), String> {
    let Destination { next_hop, tls, tls_mode, login, report_only, .. } = destination;
    if *tls_mode == Some(TlsMode::Implicit) {
        if next_hop.is_none() {
            return Err("tls_mode = \"implicit\" is for a next_hop: MX hosts speak STARTTLS".to_owned());
        }
        if *tls == Some(TlsLevel::Off) {
            return Err("tls_mode = \"implicit\" and tls = \"off\" contradict each other".to_owned());
        }
    }
    let Some(login) = login else { return Ok(()) };
    match (&login.password_file, &login.credential) {
        (Some(_), Some(_)) | (None, None) => {
            return Err("login needs a password_file or a credential, and not both".to_owned());
        }
        (None, Some(name)) if name.is_empty() || name.contains('/') || name.starts_with('.') => {
            return Err(format!("login: credential \"{name}\" is no name of a credential"));
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    if login.user.is_empty() || login.user.contains(char::is_control) {
        return Err("login: user must not be empty or hold control characters".to_owned());
    }
    let is_address = |hops: &NextHops| hops.iter().any(|hop| matches!(hop.address, NextHopAddress::Address { .. }));
    match next_hop {
        None => return Err("login is for a next_hop: nobody logs in at the MX hosts of others".to_owned()),
        Some(hops) if is_address(hops) => {
            return Err("login needs next_hop by name: only for a name is there a certificate to prove who gets the \
                        password"
                .to_owned());
        }
        Some(_) => {}
    }
    if *report_only || tls.is_some_and(TlsLevel::weakens) {
        return Err(
            "login needs TLS to a server that is proven to be the right one: take the weakening away".to_owned()
        );
    }
    Ok(())
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
            (format!("{smart}login = {{ user = \"relay\", password = \"x\" }}"), "unknown field `password`"),
            (format!("{smart}login = {{ user = \"relay\", credential = \"../x\" }}"), "no name of a credential"),
            (format!("{smart}login = {{ user = \"\", credential = \"x\" }}"), "user must not be empty"),
            ("tls_mode = \"implicit\"".to_owned(), "MX hosts speak STARTTLS"),
            (format!("{smart}tls_mode = \"smtps\""), "unknown variant `smtps`"),
            ("family = \"ipv5\"".to_owned(), "relay.toml:3: unknown variant `ipv5`"),
            ("source = { ipv4 = \"2001:db8::1\" }".to_owned(), "relay.toml:3: \"2001:db8::1\""),
            ("client_certificate = { chain = \"x\" }".to_owned(), "missing field `key`"),
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
        assert!(error.starts_with("relay.toml:6: \"x\" is no sender"), "{error}");
    }
}
