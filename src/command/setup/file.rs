//! The configuration that follows from the answers, with comments.

use super::{CertificateFiles, SetupAnswers};
use std::fmt::{Display, Write as _};
use std::net::{IpAddr, SocketAddr};
use toml::Value;

/// Where Exchange takes reports.
const PORT: u16 = 25;

/// The text of the file. What it does not say has its default.
#[must_use]
pub fn text(answers: &SetupAnswers) -> String {
    let mut file = String::new();
    for part in [head(answers), listen(answers), spool(answers), dns(answers), check(answers), reports(answers)] {
        file.push_str(&part);
    }
    file
}

/// A string as TOML writes it.
fn quoted(text: impl Display) -> String {
    Value::String(text.to_string()).to_string()
}

fn list<T: Display>(all: impl IntoIterator<Item = T>) -> String {
    format!("[{}]", all.into_iter().map(quoted).collect::<Vec<_>>().join(", "))
}

fn head(answers: &SetupAnswers) -> String {
    format!(
        "# Configuration of relay, written by `relay setup`. What is not here has its default:\n\
         # `relay config example` explains every key, `relay config show` prints what counts.\n\
         # After a change: systemctl reload relay. `relay config diff` shows before what would change.\n\n\
         # The name that other servers see: its address is the one that mail leaves from, and that address has\n\
         # this name (PTR).\n\
         hostname = {}\n\n\
         # Who is told when a report could not be delivered, or the spool is damaged.\n\
         postmaster = {}\n",
        quoted(&answers.hostname),
        quoted(&answers.postmaster)
    )
}

fn listen(answers: &SetupAnswers) -> String {
    let clients = ["127.0.0.0/8".to_owned(), "::1/128".to_owned()];
    let exchange = answers.exchange.iter().map(|network| {
        if network.prefix_len() == network.max_prefix_len() { network.addr().to_string() } else { network.to_string() }
    });
    let mut text = format!(
        "\n[listen]\n\
         # Where Exchange hands mail in.\n\
         smtp = {}\n\
         # Who may: this machine, and the Exchange servers. Everybody else is refused with 550 5.7.1.\n\
         clients = {}\n\
         # Whose mail it may be. Mail from other domains is refused with 550 5.7.1.\n\
         sender_domains = {}\n",
        list(&answers.listen),
        list(clients.into_iter().chain(exchange)),
        list(&answers.sender_domains)
    );
    match &answers.certificate {
        Some(CertificateFiles { chain, key }) => {
            // Writing to a String does not fail.
            let _ = write!(
                text,
                "# For STARTTLS towards Exchange; renewed files are used by themselves.\n\
                 certificate = {}\nprivate_key = {}\n",
                quoted(chain.display()),
                quoted(key.display())
            );
        }
        None => text.push_str(
            "# For STARTTLS towards Exchange the relay makes itself a certificate. One of your own:\n\
             # certificate = \"/etc/relay/relay.pem\"\n# private_key = \"/etc/relay/relay.key\"\n",
        ),
    }
    text
}

fn spool(answers: &SetupAnswers) -> String {
    format!(
        "\n[spool]\n# Where accepted mail lives until its outcome is known: on a local disk.\npath = {}\n",
        quoted(answers.spool.display())
    )
}

fn dns(answers: &SetupAnswers) -> String {
    let mut text = "\n[dns]\n# The ways to the DNS, tried in order until an answer proves itself.\n".to_owned();
    let _ = match answers.upstreams.as_slice() {
        [] => writeln!(text, "upstreams = [\"system\", \"authoritative\"]"),
        some => writeln!(text, "upstreams = {}", list(some)),
    };
    if let Some(anchors) = &answers.trust_anchors {
        let _ = writeln!(text, "trust_anchors = {}", quoted(anchors.display()));
    }
    text
}

fn check(answers: &SetupAnswers) -> String {
    if answers.controls.is_empty() {
        return String::new();
    }
    format!(
        "\n[check]\n# Mail hosts of others: `relay check --self` tries there whether port 25 is open.\ncontrols = {}\n",
        list(&answers.controls)
    )
}

fn reports(answers: &SetupAnswers) -> String {
    let hosts: Vec<IpAddr> = answers.single_hosts().collect();
    let said = "Reports (NDRs), and all mail to these domains, go to Exchange.";
    if hosts.is_empty() {
        return format!(
            "\n# {said} Name your servers:\n# [[destination]]\n# domains = {}\n# next_hop = \"exchange.example.org:25\"\n",
            list(&answers.sender_domains)
        );
    }
    let hops = list(hosts.into_iter().map(|host| SocketAddr::new(host, PORT)));
    let domains = list(&answers.sender_domains);
    format!("\n# {said}\n[[destination]]\ndomains = {domains}\nnext_hop = {hops}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::setup::tests::answers;
    use crate::config::{Config, Upstream};
    use std::path::Path;

    fn read(answers: &SetupAnswers) -> Config {
        let text = text(answers);
        Config::parse(&text, Path::new("relay.toml")).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn the_file_says_what_was_answered() {
        let config = read(&answers());
        assert_eq!(config.hostname.to_string(), "relay.example.org");
        assert_eq!(config.listen.smtp, ["0.0.0.0:25".parse().unwrap()]);
        let clients: Vec<String> = config.listen.clients.iter().map(ToString::to_string).collect();
        assert_eq!(clients, ["127.0.0.0/8", "::1/128", "192.0.2.10/32", "2001:db8::10/128"]);
        assert_eq!(config.listen.sender_domains, answers().sender_domains);
        assert_eq!(config.spool.path, Path::new("/var/lib/relay"));
        assert_eq!(config.dns.upstreams, Config::default().dns.upstreams);
        let hops: Vec<String> = config.destination[0]
            .next_hop
            .iter()
            .flat_map(|hops| hops.iter())
            .map(|hop| hop.address.to_string())
            .collect();
        assert_eq!(hops, ["192.0.2.10:25", "[2001:db8::10]:25"]);
    }

    #[test]
    fn all_that_can_be_answered_is_written() {
        let full = SetupAnswers {
            exchange: vec!["192.0.2.0/24".parse().unwrap()],
            certificate: Some(CertificateFiles { chain: "/etc/a \"b\".pem".into(), key: "/etc/a.key".into() }),
            upstreams: vec!["udp://192.0.2.53:53".parse::<Upstream>().unwrap()],
            trust_anchors: Some("/etc/root.key".into()),
            controls: vec!["mx.example.com".parse().unwrap()],
            ..answers()
        };
        let config = read(&full);
        assert_eq!(config.listen.certificate.as_deref(), Some(Path::new("/etc/a \"b\".pem")));
        assert_eq!(config.dns.upstreams, full.upstreams);
        assert_eq!(config.check.controls, full.controls);
        assert!(config.destination.is_empty(), "a network takes no reports");
        assert!(text(&full).contains("# next_hop = \"exchange.example.org:25\""));
    }
}
