//! `[[limit]]`: how much one user, sender or network may hand in, so that an account that was taken over, or a
//! printer gone mad, does not cost the name of the house.

use super::findings::ConfigFindings;
use super::network::counted_client;
use super::{Rate, SenderPattern, network};
use crate::smtp::address::ReversePath;
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The usual part of a limit at which it is warned of, in percent.
const WARN_AT: u8 = 80;

/// One rule: each of those whom it is about has this much.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRule {
    /// What messages and the log call it.
    pub name: String,
    /// Who is counted each for themselves.
    pub per: LimitPer,
    /// The users that it is about; everybody where none is named.
    #[serde(default)]
    pub users: Vec<String>,
    /// The senders that it is about; everybody where none is named.
    #[serde(default)]
    pub senders: Vec<SenderPattern>,
    /// The networks that it is about; everybody where none is named.
    #[serde(default, deserialize_with = "network::networks")]
    pub clients: Vec<IpNet>,
    /// The most messages in a time, one or several: `["60/m", "2000/d"]`.
    #[serde(default)]
    pub messages: Vec<Rate>,
    /// The most recipients in a time.
    #[serde(default)]
    pub recipients: Vec<Rate>,
    /// The part of it at which it is warned of, in percent.
    #[serde(default = "warn_at")]
    pub warn_at: u8,
}

const fn warn_at() -> u8 {
    WARN_AT
}

/// Who is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitPer {
    /// Each user, after AUTH.
    User,
    /// Each sender address.
    Sender,
    /// Each client address; a whole /64 of IPv6.
    Network,
}

/// Who hands a message in, as far as limits are about it.
#[derive(Clone, Copy, Debug)]
pub struct LimitSubject<'a> {
    /// The user, after AUTH.
    pub user: Option<&'a str>,
    /// The reverse-path.
    pub sender: &'a ReversePath,
    /// The client.
    pub client: IpAddr,
}

impl LimitRule {
    /// Under which name the subject is counted; `None` where the rule is not about it. Reports, which have no
    /// sender, are nobody's.
    #[must_use]
    pub fn counted_as(&self, subject: &LimitSubject<'_>) -> Option<String> {
        let LimitSubject { user, sender, client } = *subject;
        let client = client.to_canonical();
        let is_user = |named: &String| user.is_some_and(|user| user.to_lowercase() == named.to_lowercase());
        let about = (self.users.is_empty() || self.users.iter().any(is_user))
            && (self.senders.is_empty() || self.senders.iter().any(|pattern| pattern.fit(sender).is_some()))
            && (self.clients.is_empty() || self.clients.iter().any(|net| net.contains(&client)));
        if !about {
            return None;
        }
        match (self.per, sender) {
            (LimitPer::User, _) => user.map(str::to_lowercase),
            (LimitPer::Sender, ReversePath::Mailbox(mailbox)) => Some(mailbox.as_str().to_lowercase()),
            (LimitPer::Sender, ReversePath::Null) => None,
            (LimitPer::Network, _) => Some(counted_client(client).to_string()),
        }
    }
}

/// Whether the rules go together.
pub(super) fn check(rules: &[LimitRule], findings: &mut ConfigFindings<'_>) {
    let mut names = BTreeSet::new();
    for (nth, rule) in rules.iter().enumerate() {
        let at = |key: &str| format!("limit.{nth}.{key}");
        if rule.name.is_empty() || rule.name.contains(char::is_control) {
            findings.refuse(&[&at("name")], "give each a name, such as \"users\"");
        }
        if !names.insert(rule.name.as_str()) {
            findings.refuse(&[&at("name")], "two have this name; give each its own");
        }
        if rule.messages.is_empty() && rule.recipients.is_empty() {
            let message = "give messages or recipients, such as [\"60/m\", \"2000/d\"]; as it stands it limits nothing";
            findings.refuse(&[&format!("limit.{nth}"), &at("messages"), &at("recipients")], message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use crate::smtp::address::parse_reverse_path;
    use std::path::Path;

    fn rule(lines: &str) -> Result<LimitRule, String> {
        let text = format!("[[limit]]\nname = \"x\"\n{lines}");
        let config = Config::parse(&text, Path::new("relay.toml")).map_err(|error| error.to_string())?;
        Ok(config.limit.into_iter().next().unwrap())
    }

    fn counted(lines: &str, user: Option<&str>, sender: &str, client: &str) -> Option<String> {
        let sender = parse_reverse_path(sender).unwrap();
        rule(lines).unwrap().counted_as(&LimitSubject { user, sender: &sender, client: client.parse().unwrap() })
    }

    #[test]
    fn each_of_those_a_rule_is_about_is_counted_alone() {
        let user = "per = \"user\"\nmessages = [\"1/m\"]";
        assert_eq!(counted(user, Some("Bob"), "<a@b.example>", "192.0.2.1").as_deref(), Some("bob"));
        assert_eq!(counted(user, None, "<a@b.example>", "192.0.2.1"), None);
        let sender = "per = \"sender\"\nsenders = [\"@b.example\"]\nrecipients = [\"1/m\"]";
        assert_eq!(counted(sender, None, "<A@b.example>", "192.0.2.1").as_deref(), Some("a@b.example"));
        assert_eq!(counted(sender, None, "<a@c.example>", "192.0.2.1"), None);
        assert_eq!(counted("per = \"sender\"\nmessages = [\"1/m\"]", None, "<>", "192.0.2.1"), None, "reports");
        let network = "per = \"network\"\nclients = [\"192.0.2.0/24\", \"2001:db8::/32\"]\nmessages = [\"1/m\"]";
        assert_eq!(counted(network, None, "<>", "::ffff:192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(counted(network, None, "<>", "2001:db8::1:2:3:4").as_deref(), Some("2001:db8::"));
        assert_eq!(counted(network, None, "<>", "198.51.100.1"), None);
        let some = "per = \"network\"\nusers = [\"bob\"]\nmessages = [\"1/m\"]";
        assert_eq!(counted(some, Some("alice"), "<>", "192.0.2.1"), None);
    }

    #[test]
    fn a_rule_that_limits_nothing_is_refused() {
        for (lines, words) in [
            ("per = \"user\"", "limits nothing"),
            ("per = \"house\"\nmessages = [\"1/m\"]", "house"),
            ("per = \"user\"\nmessages = [\"1\"]", "no rate"),
            ("per = \"user\"\nmessages = [\"1/m\"]\nwarn_at = 0", "from 1 to 100"),
            (
                "per = \"user\"\nmessages = [\"1/m\"]\n[[limit]]\nname = \"x\"\nper = \"user\"\nmessages = [\"1/m\"]",
                "two have",
            ),
        ] {
            let error = rule(lines).unwrap_err();
            assert!(error.contains(words), "{lines}: {error}");
        }
    }
}
