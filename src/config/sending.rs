//! How fast mail goes out: `max_connections`, `max_messages_per_connection` and `rate`, for all
//! receiving hosts (`[delivery]`), for those of certain domains (`[[destination]]`), and for the
//! hosts of a whole provider together (`[[host]]`).

use super::DomainPattern;
use crate::smtp::address::Host;
use serde::Deserialize;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// The most messages of a rate: the time between two of them is still one.
const MOST_MESSAGES: u32 = 1_000_000;

/// `100/m`: so many messages in so much time, evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate {
    messages: NonZeroU32,
    unit: RateUnit,
    /// Relays that keep it together.
    among: NonZeroU32,
}

/// The time of a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RateUnit {
    Second,
    Minute,
    Hour,
    Day,
}

impl RateUnit {
    const ALL: [(Self, &'static str, u64); 4] =
        [(Self::Second, "s", 1), (Self::Minute, "m", 60), (Self::Hour, "h", 3600), (Self::Day, "d", 86_400)];

    fn row(self) -> (&'static str, u64) {
        let row = Self::ALL.into_iter().find(|(unit, ..)| *unit == self);
        row.map_or(("s", 1), |(_, letter, seconds)| (letter, seconds))
    }
}

impl Rate {
    /// So many messages.
    #[must_use]
    pub const fn messages(self) -> u32 {
        self.messages.get()
    }

    /// In so much time.
    #[must_use]
    pub fn time(self) -> Duration {
        Duration::from_secs(self.unit.row().1)
    }

    /// The part of each where so many relays keep it together.
    #[must_use]
    pub const fn among(self, relays: NonZeroU32) -> Self {
        Self { among: relays, ..self }
    }

    /// The time from one message to the next.
    #[must_use]
    pub fn interval(self) -> Duration {
        Duration::from_secs(self.unit.row().1).saturating_mul(self.among.get()) / self.messages.get()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.messages, self.unit.row().0)
    }
}

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(messages, letter)| {
            let unit = RateUnit::ALL.into_iter().find(|(_, known, _)| *known == letter.trim())?.0;
            let messages =
                messages.trim().parse().ok().filter(|messages: &NonZeroU32| messages.get() <= MOST_MESSAGES)?;
            Some(Self { messages, unit, among: NonZeroU32::MIN })
        });
        parsed.ok_or_else(|| {
            format!("\"{text}\" is no rate: write \"100/m\", or /s, /h, /d, with a number from 1 to {MOST_MESSAGES}")
        })
    }
}

/// `[[host]]`: what holds for certain receiving hosts, counted together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRule {
    /// The names of MX hosts, `*.mail.protection.outlook.com`, or their addresses, `[192.0.2.0/24]`.
    pub hosts: Vec<DomainPattern>,
    /// The most connections to all of them at once.
    #[serde(default)]
    pub max_connections: Option<usize>,
    /// The most messages of one connection.
    #[serde(default)]
    pub max_messages_per_connection: Option<u32>,
    /// The most messages to all of them in a time.
    #[serde(default)]
    pub rate: Option<Rate>,
}

impl HostRule {
    fn fit(&self, name: Option<&Host>, address: &Host) -> Option<usize> {
        let fit = |pattern: &DomainPattern| name.and_then(|name| pattern.fit(name)).max(pattern.fit(address));
        self.hosts.iter().filter_map(fit).max()
    }
}

/// The rule whose pattern fits a receiving host most closely, by its place; of equal ones the first.
#[must_use]
pub fn closest_rule(name: &str, address: IpAddr, rules: &[HostRule]) -> Option<usize> {
    if rules.is_empty() {
        return None;
    }
    let (name, address) = (name.parse::<Host>().ok(), Host::Literal(address.to_canonical()));
    let fitting = rules.iter().enumerate();
    let fitting =
        fitting.filter_map(|(index, rule)| Some((rule.fit(name.as_ref(), &address)?, std::cmp::Reverse(index))));
    fitting.max().map(|(_, std::cmp::Reverse(index))| index)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use std::path::Path;

    fn rules(text: &str) -> Result<Vec<HostRule>, String> {
        Config::parse(text, Path::new("relay.toml")).map(|config| config.host).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rate_is_so_many_messages_in_so_much_time() {
        let rate = |text: &str| Rate::try_from(text.to_owned());
        assert_eq!(rate("100/m").unwrap().interval(), Duration::from_millis(600));
        assert_eq!(rate("10 / s").unwrap().interval(), Duration::from_millis(100));
        assert_eq!(rate("2/d").unwrap().to_string(), "2/d");
        for wrong in ["100", "0/m", "-1/m", "100/w", "m/100", "1000001/s", ""] {
            assert!(rate(wrong).unwrap_err().contains("100/m"), "{wrong}");
        }
    }

    #[test]
    fn a_rule_holds_for_the_hosts_of_a_provider_by_name_and_by_address() {
        let text = "[[host]]\nhosts = [\"*.mail.protection.outlook.com\", \"*.mx.microsoft\"]\nmax_connections = 20\n\
                    [[host]]\nhosts = [\"[192.0.2.0/24]\", \"mx.example\"]\nrate = \"100/m\"\n";
        let rules = rules(text).unwrap();
        let rule = |name: &str, address: &str| closest_rule(name, address.parse().unwrap(), &rules);
        assert_eq!(rule("x-example.mail.protection.outlook.com", "198.51.100.1"), Some(0));
        assert_eq!(rule("X.j-v1.MX.microsoft", "198.51.100.1"), Some(0));
        assert_eq!(rule("mx.example", "198.51.100.1"), Some(1));
        assert_eq!(rule("192.0.2.7", "192.0.2.7"), Some(1));
        assert_eq!(rule("-odd-.example", "::ffff:192.0.2.7"), Some(1), "a name that is no domain");
        assert_eq!(rule("other.example", "198.51.100.1"), None);
    }

    #[test]
    fn a_rule_that_says_nothing_or_lets_nothing_through_is_refused() {
        assert!(rules("[[host]]\nhosts = [\"mx.example\"]").unwrap_err().contains("changes nothing"));
        assert!(rules("[[host]]\nhosts = []\nrate = \"1/s\"").unwrap_err().contains("at least one host"));
        assert!(rules("[[host]]\nhosts = [\"*\"]\nmax_connections = 0").unwrap_err().contains("from 1 to"));
        assert!(rules("[[host]]\nhost = [\"*\"]").unwrap_err().contains("did you mean `hosts`"));
    }
}
