//! The range of every number and every duration of a file: what lies outside it is refused with the range,
//! and what lies inside it can be counted, waited for and kept in memory.

use super::document::is_number;
use super::findings::ConfigFindings;
use std::time::Duration;
use toml::de::DeValue;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// A thousand terabytes: more than a disk has, and far below where sums of octets overflow.
const MOST_OCTETS: u64 = 1_000_000_000_000_000;
/// More sockets than a process has.
const MOST_CONNECTIONS: u64 = 100_000;
/// More than anybody sends in a day over one connection.
const MOST_MESSAGES: u64 = 1_000_000;
/// A report stands whole in memory and in one record of the spool.
const MOST_RETURNED: u64 = 10_485_760;

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Border {
    /// A number from one to another, of what.
    Count(u64, u64, &'static str),
    /// A time from one to another, in milliseconds.
    Time(u64, u64),
}

/// Each key with its range; `*` stands for the number of a `[[table]]`.
pub(super) const BORDERS: &[(&str, Border)] = &[
    ("listen.max_received", Border::Count(1, 1000, "lines")),
    ("listen.max_message_bytes", Border::Count(1024, 1_073_741_824, "octets")),
    ("listen.max_recipients", Border::Count(1, 50_000, "recipients")),
    ("listen.max_sessions", Border::Count(1, MOST_CONNECTIONS, "sessions")),
    ("listen.max_new_connections", Border::Count(60, 1_000_000, "connections a minute")),
    ("listen.max_commands", Border::Count(1000, 10_000_000, "commands")),
    ("listen.idle_timeout", Border::Time(SECOND, DAY)),
    // A server has a hundred by default, for all its clients.
    ("spool.max_connections", Border::Count(4, 1000, "connections")),
    // Shorter, and a busy machine loses its claims; longer, and the mail of a dead one waits for too long.
    ("spool.lease", Border::Time(5 * SECOND, HOUR)),
    ("spool.min_free_bytes", Border::Count(0, MOST_OCTETS, "octets")),
    ("spool.min_free_inodes", Border::Count(0, MOST_OCTETS, "inodes")),
    ("spool.keep_history", Border::Time(HOUR, 10 * YEAR)),
    ("spool.max_history_bytes", Border::Count(1_048_576, MOST_OCTETS, "octets")),
    ("dns.timeout", Border::Time(100, MINUTE)),
    ("dns.deadline", Border::Time(100, 10 * MINUTE)),
    ("mta_sts.port", Border::Count(1, 65_535, "a port")),
    ("mta_sts.fetch_timeout", Border::Time(SECOND, 10 * MINUTE)),
    ("delivery.port", Border::Count(1, 65_535, "a port")),
    ("delivery.max_concurrent", Border::Count(1, MOST_CONNECTIONS, "connections")),
    ("delivery.max_per_next_hop", Border::Count(1, MOST_CONNECTIONS, "connections")),
    ("delivery.max_connections", Border::Count(1, MOST_CONNECTIONS, "connections")),
    ("delivery.max_messages_per_connection", Border::Count(1, MOST_MESSAGES, "messages")),
    ("delivery.reply_timeout", Border::Time(SECOND, HOUR)),
    ("delivery.connect_timeout", Border::Time(SECOND, HOUR)),
    ("retry.first", Border::Time(100, DAY)),
    ("retry.longest", Border::Time(100, 7 * DAY)),
    ("retry.expire_after", Border::Time(SECOND, YEAR)),
    ("notify.delay_after", Border::Time(1, YEAR)),
    ("notify.policy_failure_after", Border::Time(1, YEAR)),
    ("notify.return_full_below", Border::Count(0, MOST_RETURNED, "octets")),
    // The servers of the zone are to notice nothing, and an alarm is to come before the first user's call.
    ("check.canary_every", Border::Time(MINUTE, HOUR)),
    // Two that break at once are chance; more than 1000 never come together within minutes.
    ("incidents.domains", Border::Count(3, 1000, "domains")),
    ("watch.domains", Border::Count(0, 1000, "domains")),
    ("watch.every", Border::Time(HOUR, 30 * DAY)),
    ("destination.*.max_connections", Border::Count(1, MOST_CONNECTIONS, "connections")),
    ("destination.*.max_messages_per_connection", Border::Count(1, MOST_MESSAGES, "messages")),
    ("listener.*.max_message_bytes", Border::Count(1024, 1_073_741_824, "octets")),
    ("listener.*.max_sessions", Border::Count(1, MOST_CONNECTIONS, "sessions")),
    ("limit.*.warn_at", Border::Count(1, 100, "percent")),
    ("host.*.max_connections", Border::Count(1, MOST_CONNECTIONS, "connections")),
    ("host.*.max_messages_per_connection", Border::Count(1, MOST_MESSAGES, "messages")),
];

/// The range of the key at a path, if it has one.
pub(super) fn of(path: &str) -> Option<Border> {
    let steps: Vec<&str> = path.split('.').map(|step| if is_number(step) { "*" } else { step }).collect();
    let pattern = steps.join(".");
    BORDERS.iter().find(|(key, _)| *key == pattern).map(|(_, border)| *border)
}

/// Refuses every value of a file that is outside its range.
pub(super) fn check(findings: &mut ConfigFindings<'_>) {
    let Some(document) = findings.document() else { return };
    let places = |key: &str| match key.split_once(".*.") {
        None => vec![key.to_owned()],
        Some((table, key)) => (0..document.entries(table)).map(|nth| format!("{table}.{nth}.{key}")).collect(),
    };
    let all = BORDERS.iter().flat_map(|(key, border)| places(key).into_iter().map(|path| (path, *border)));
    let outside = all.filter_map(|(path, border)| {
        let value = document.value(&path)?;
        (!border.holds(value)).then(|| (border.refusal(&written(value)), path))
    });
    for (message, path) in outside.collect::<Vec<_>>() {
        findings.refuse(&[&path], message);
    }
}

/// A value as it stands in the file.
pub(super) fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{text}\""),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(when) => when.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

impl Border {
    fn holds(self, value: &DeValue<'_>) -> bool {
        match (self, value) {
            (Self::Count(least, most, _), DeValue::Integer(number)) => {
                let number = u64::from_str_radix(number.as_str(), number.radix());
                number.is_ok_and(|number| (least..=most).contains(&number))
            }
            (Self::Time(least, most), DeValue::String(text)) => {
                let limits = Duration::from_millis(least)..=Duration::from_millis(most);
                duration(text).is_ok_and(|time| limits.contains(&time))
            }
            (Self::Count(..) | Self::Time(..), _) => false,
        }
    }

    /// What to write instead of a value.
    pub(super) fn refusal(self, value: &str) -> String {
        match self {
            Self::Count(..) => format!("{value}: write a number {self}"),
            Self::Time(..) => {
                let why = duration(value.trim_matches('"')).err().unwrap_or_default();
                format!("{value}: {why}write a time {self}, such as \"30s\", \"5m\" or \"4h\"")
            }
        }
    }
}

/// `from 1 to 1000 (lines)`, `from 1s to 1h`
impl std::fmt::Display for Border {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = |millis: u64| match millis {
            millis if millis % DAY == 0 => format!("{}d", millis / DAY),
            millis => humantime::format_duration(Duration::from_millis(millis)).to_string(),
        };
        match self {
            Self::Count(least, most, what) => write!(f, "from {least} to {most} ({what})"),
            Self::Time(least, most) => write!(f, "from {} to {}", time(*least), time(*most)),
        }
    }
}

/// A time with its unit; why it is none, as the beginning of a sentence.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let units = text.split(|c: char| c.is_ascii_digit() || c.is_whitespace());
    if units.clone().any(|unit| unit == "M") {
        let minutes = text.replace('M', "m");
        return Err(format!("M means months; \"{minutes}\" is minutes, and \"30d\" a month; "));
    }
    if !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(format!("a unit is missing, as in \"{text}s\" for seconds; "));
    }
    humantime::parse_duration(text).map_err(|_| "this is no time; ".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::show::REFERENCE;
    use super::*;
    use std::path::Path;

    #[test]
    fn every_number_and_every_time_has_a_range_that_the_reference_states() {
        let written = REFERENCE.lines().filter_map(|line| line.trim_start_matches("# ").split_once(" = "));
        let is_time = |value: &str| duration(value.trim_matches('"')).is_ok() && value.starts_with('"');
        let bare: Vec<&str> =
            written.filter(|(_, value)| value.parse::<u64>().is_ok() || is_time(value)).map(|(key, _)| key).collect();
        let ranged: Vec<&str> = BORDERS.iter().filter_map(|(key, _)| key.rsplit('.').next()).collect();
        let without: Vec<_> = bare.iter().filter(|key| !ranged.contains(key)).collect();
        assert!(bare.len() >= 28 && without.is_empty(), "{without:?} of {bare:?}");
        for (path, border) in BORDERS {
            let key = path.rsplit('.').next().unwrap();
            let stated = format!("# {key}: {border}.");
            assert!(REFERENCE.contains(&stated), "deploy/relay.toml does not say: {stated}");
        }
    }

    #[test]
    fn what_is_outside_a_range_is_refused_with_it_and_the_borders_themselves_are_taken() {
        for (path, border) in BORDERS {
            let (table, key) = path.rsplit_once('.').unwrap();
            let head = match table.strip_suffix(".*") {
                Some("listener") => {
                    "[[listener]]\nname = \"in\"\naddresses = [\"127.0.0.1:1587\"]\nclients = [\"::1\"]\n".to_owned()
                }
                Some("limit") => "[[limit]]\nname = \"x\"\nper = \"user\"\nmessages = [\"1/m\"]\n".to_owned(),
                Some("host") => "[[host]]\nhosts = [\"a.example\"]\nrate = \"1/s\"\n".to_owned(),
                Some(_) => "[[destination]]\ndomains = [\"a.example\"]\ntls = \"encrypt\"\n".to_owned(),
                None => format!("[{table}]\n"),
            };
            let with = |value: &str| Config::parse(&format!("{head}{key} = {value}\n"), Path::new("r"));
            let (inside, outside) = match border {
                Border::Count(least, most, _) => (
                    [least.to_string(), most.to_string()],
                    [
                        (i128::from(*least) - 1).to_string(),
                        (most + 1).to_string(),
                        i64::MAX.to_string(),
                        "\"x\"".into(),
                    ],
                ),
                Border::Time(least, most) => (
                    [format!("\"{least}ms\""), format!("\"{most}ms\"")],
                    ["\"0s\"".into(), format!("\"{}ms\"", most + 1), "\"500000000000y\"".into(), "300".into()],
                ),
            };
            for value in outside {
                let told = with(&value).unwrap_err().to_string();
                assert!(told.contains(key) && told.contains(&border.to_string()), "{key} = {value}: {told}");
                assert_eq!(told.lines().count(), 1, "{told}");
            }
            for value in inside {
                // Other keys may have to change with it; this one is in its range.
                let told = with(&value).err().map(|e| e.to_string()).unwrap_or_default();
                assert!(!told.contains(&border.to_string()), "{key} = {value}: {told}");
            }
        }
    }

    #[test]
    fn months_are_not_minutes_and_a_number_alone_is_no_time() {
        assert!(duration("5M").unwrap_err().contains("\"5m\" is minutes"));
        assert!(duration("1h 5M").is_err());
        assert!(duration("300").unwrap_err().contains("\"300s\""));
        for good in ["5m", "5min", "1day", "1h 30m", "200ms"] {
            assert!(duration(good).is_ok(), "{good}");
        }
    }
}
