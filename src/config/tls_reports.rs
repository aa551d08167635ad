//! `[tls_reports]`: whether domains that ask for it are told how TLS went with them, and by whom (RFC 8460).

use super::destination::DomainPattern;
use super::dkim::{DkimConfig, DkimKeyRule};
use super::findings::ConfigFindings;
use crate::smtp::address::{Domain, Host, Mailbox};
use serde::Deserialize;
use std::net::IpAddr;

/// The most copies of each report.
const MOST_COPIES: usize = 8;
/// The most domains that are named as not reported to.
const MOST_NEVER: usize = 1000;
/// The longest name of an organization, in octets: it stands in the first lines of each report.
const LONGEST_ORGANIZATION: usize = 200;

/// `[tls_reports]`: who reports, to whom and how much.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsReportsConfig {
    /// Whether it is counted how TLS goes, and reports are sent.
    pub enabled: bool,
    /// The name of the organization that reports.
    pub organization: Option<String>,
    /// Whom to ask about its reports, and who sends them; its domain signs them.
    pub contact: Option<Mailbox>,
    /// Who gets a copy of every report that goes out.
    pub copy_to: Vec<Mailbox>,
    /// The domains that get none, whatever they ask for.
    pub domains_never: Vec<DomainPattern>,
    /// Whether a domain is told only of what failed.
    pub only_failures: bool,
}

impl TlsReportsConfig {
    /// Whether the operator keeps reports from a domain.
    #[must_use]
    pub fn is_never(&self, domain: &Domain) -> bool {
        let host = Host::Domain(domain.clone());
        self.domains_never.iter().any(|pattern| pattern.fit(&host).is_some())
    }

    /// What is probably wrong: reports by mail that nobody signs are thrown away by their readers (RFC 8460 §3).
    #[must_use]
    pub fn doubt(&self, dkim: &DkimConfig) -> Option<String> {
        let contact = self.contact.as_ref().filter(|_| self.enabled)?;
        let Host::Domain(domain) = contact.host() else { return None };
        let is_below = |rule: &DkimKeyRule| {
            let above = domain.as_str().strip_suffix(rule.domain.as_str());
            rule.subdomains && above.is_some_and(|rest| rest.ends_with('.'))
        };
        let is_signed = dkim.key.iter().any(|rule| rule.domain == *domain || is_below(rule));
        (!is_signed).then(|| {
            format!(
                "[tls_reports] contact: no [[dkim.key]] signs mail from {domain}, and unsigned reports are thrown away by \
                 their readers; reports over HTTPS are not concerned"
            )
        })
    }
}

/// Whether the values go together.
pub(super) fn check(config: &TlsReportsConfig, findings: &mut ConfigFindings<'_>) {
    who_reports(config, findings);
    if config.copy_to.len() > MOST_COPIES {
        findings.refuse(&["tls_reports.copy_to"], format!("at most {MOST_COPIES} addresses: name a list of yours"));
    }
    for (nth, copy) in config.copy_to.iter().enumerate() {
        if !is_plain(copy) {
            let message = format!("{copy}: write an address in ASCII at a domain, which any server takes");
            findings.refuse(&[&format!("tls_reports.copy_to.{nth}")], message);
        }
    }
    if config.domains_never.len() > MOST_NEVER {
        let message = format!("at most {MOST_NEVER} domains; \"*.example.org\" stands for all below example.org");
        findings.refuse(&["tls_reports.domains_never"], message);
    }
    for (nth, pattern) in config.domains_never.iter().enumerate() {
        let path = format!("tls_reports.domains_never.{nth}");
        match pattern {
            DomainPattern::Any => findings.refuse(&[&path], "to send no report at all, write enabled = false"),
            DomainPattern::Literals(_) => findings.refuse(&[&path], "only domains ask for reports: take it out"),
            DomainPattern::Below(_) | DomainPattern::Exactly(_) => {}
        }
    }
}

fn who_reports(config: &TlsReportsConfig, findings: &mut ConfigFindings<'_>) {
    match &config.organization {
        Some(name) if name.trim().is_empty() || name.chars().any(char::is_control) => {
            findings.refuse(&["tls_reports.organization"], "write the name of your organization, in one line");
        }
        Some(name) if name.len() > LONGEST_ORGANIZATION => {
            let message = format!("the name is longer than {LONGEST_ORGANIZATION} octets: write a shorter one");
            findings.refuse(&["tls_reports.organization"], message);
        }
        None if config.enabled => {
            let message = "true needs organization: a report says who sends it, as organization = \"Example Ltd\"";
            findings.refuse(&["tls_reports.enabled", "tls_reports.organization"], message);
        }
        Some(_) | None => {}
    }
    match &config.contact {
        Some(contact) if !is_plain(contact) => {
            let message = format!("{contact}: write an address in ASCII at a domain of yours, which signs the reports");
            findings.refuse(&["tls_reports.contact"], message);
        }
        None if config.enabled => {
            let message = "true needs contact: whoever gets a report may ask about it, as contact = \
                           \"tls-reports@example.org\"";
            findings.refuse(&["tls_reports.enabled", "tls_reports.contact"], message);
        }
        Some(_) | None => {}
    }
}

/// Whether an address can stand in any mail and be reached by name.
fn is_plain(mailbox: &Mailbox) -> bool {
    let is_named = match mailbox.host() {
        Host::Domain(domain) => domain.as_str().parse::<IpAddr>().is_err(),
        Host::Literal(_) => false,
    };
    is_named && !mailbox.needs_smtp_utf8()
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use std::path::Path;

    fn read(lines: &str) -> Result<TlsReportsConfig, String> {
        let text = format!("[tls_reports]\n{lines}\n");
        let config = Config::parse(&text, Path::new("relay.toml")).map_err(|error| error.to_string())?;
        Ok(config.tls_reports)
    }

    #[test]
    fn reports_are_off_until_they_are_switched_on_with_a_name_and_an_address() {
        assert!(!read("").unwrap().enabled);
        assert!(read("organization = \"Example Ltd\"").is_ok(), "what is off may be half written");
        let whole = "enabled = true\norganization = \"Example Ltd\"\ncontact = \"tls@example.org\"";
        assert!(read(whole).unwrap().enabled);
    }

    #[test]
    fn mistakes_in_what_reports_are_sent_are_refused_with_their_lines() {
        let (name, contact) = ("organization = \"Example Ltd\"", "contact = \"tls@example.org\"");
        for (lines, line, words) in [
            (format!("enabled = true\n{contact}"), 2, "needs organization"),
            (format!("enabled = true\n{name}"), 2, "needs contact"),
            ("organization = \" \"".into(), 2, "the name of your organization"),
            ("organization = \"a\\nb\"".into(), 2, "in one line"),
            (format!("organization = \"{}\"", "x".repeat(201)), 2, "longer than 200"),
            ("contact = \"tls\"".into(), 2, "write an address such as"),
            ("contact = \"tls@[192.0.2.1]\"".into(), 2, "at a domain of yours"),
            ("contact = \"t\u{fc}r@example.org\"".into(), 2, "in ASCII"),
            (format!("{name}\ncopy_to = [\"a@b.example\", \"c@192.0.2.1\"]"), 3, "c@192.0.2.1"),
            (format!("copy_to = [{}]", "\"a@b.example\",".repeat(9)), 2, "at most 8"),
            ("domains_never = [\"*\"]".into(), 2, "enabled = false"),
            ("domains_never = [\"[192.0.2.1]\"]".into(), 2, "only domains ask"),
            ("domains_never = [\"a@b.example\"]".into(), 2, "the domain alone"),
            ("only_failure = true".into(), 2, "did you mean `only_failures`?"),
        ] {
            let error = read(&lines).unwrap_err();
            assert!(error.contains(words) && error.contains(&format!("relay.toml:{line}")), "{lines}: {error}");
        }
        let both = read("enabled = true").unwrap_err();
        assert!(both.contains("needs organization"), "{both}");
    }

    #[test]
    fn rfc8460_3_p13_reports_that_nobody_signs_are_doubted() {
        let key = |domain: &str, subdomains| DkimKeyRule {
            domain: domain.parse().unwrap(),
            selector: "a".into(),
            key_file: None,
            credential: Some("key".into()),
            subdomains,
        };
        let config = TlsReportsConfig {
            enabled: true,
            contact: Some("tls@mail.example.org".parse().unwrap()),
            ..TlsReportsConfig::default()
        };
        let doubts = |rules: Vec<DkimKeyRule>| config.doubt(&DkimConfig { key: rules, ..DkimConfig::default() });
        assert!(doubts(Vec::new()).unwrap().contains("mail.example.org"));
        assert!(doubts(vec![key("example.org", false), key("l.example.org", true)]).is_some());
        assert_eq!(doubts(vec![key("mail.example.org", false)]), None);
        assert_eq!(doubts(vec![key("example.org", true)]), None);
        let off = TlsReportsConfig { enabled: false, ..config.clone() };
        assert_eq!(off.doubt(&DkimConfig::default()), None);
    }

    #[test]
    fn domains_that_get_none_are_named_as_elsewhere() {
        let config = read("domains_never = [\"a.example\", \"*.b.example\"]").unwrap();
        let never = |domain: &str| config.is_never(&domain.parse().unwrap());
        assert!(never("A.example") && never("mail.b.example"));
        assert!(!never("mail.a.example") && !never("b.example"));
    }
}
