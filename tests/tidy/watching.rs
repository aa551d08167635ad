//! What watches a relay from outside asks for what there is: alerts and the dashboard.

use crate::source::sources;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn deployed(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
}

/// The metrics that lines ask for. Of a histogram there are three, by one name.
fn asked<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let words = lines.flat_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')));
    let metrics = words.filter(|word| word.starts_with("relay_") || word.starts_with("process_"));
    let whole =
        |name: &'a str| ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    metrics.map(whole).collect()
}

fn assert_there(asked: &BTreeSet<&str>) {
    let sources = sources();
    let missing = |name: &&&str| {
        let literal = format!("\"{name}\"");
        !sources.iter().any(|source| source.name.starts_with("observe/") && source.text.contains(&literal))
    };
    let missing: Vec<_> = asked.iter().filter(missing).collect();
    assert!(missing.is_empty(), "no such metrics: {missing:?}");
}

#[test]
fn alerts_ask_for_metrics_that_there_are() {
    let alerts = deployed("alerts.yml");
    let asked = asked(alerts.lines().filter(|line| !line.trim_start().starts_with('#')));
    assert!(asked.len() > 10, "{asked:?}");
    assert_there(&asked);
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are_and_for_all_that_mail_is_watched_by() {
    let dashboard = deployed("grafana-dashboard.json");
    let queries = dashboard.lines().filter(|line| line.contains("\"expr\"") || line.contains("label_values"));
    let asked = asked(queries);
    assert_there(&asked);
    let sources = sources();
    let observed = sources.iter().filter(|source| source.name.starts_with("observe/"));
    let literals = observed.flat_map(|source| source.text.split('"').skip(1).step_by(2).collect::<Vec<_>>());
    let metrics = literals.filter(|word| word.starts_with("relay_") && !word.contains(' '));
    let left_out: BTreeSet<_> = metrics.filter(|name| !asked.contains(name) && !name.contains('{')).collect();
    // Sessions are shown by how many are open.
    let sessions = BTreeSet::from(["relay_smtp_sessions_closed_total", "relay_smtp_sessions_total"]);
    assert_eq!(left_out, sessions, "show them, or say why not");
}

#[test]
fn each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() {
    let (alerts, tests) = (deployed("alerts.yml"), deployed("alerts_test.yml"));
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let fires = tests.contains(&format!("  alertname: {name}\n        exp_alerts:"));
        let is_quiet = tests.lines().any(|line| line.contains(&format!("alertname: {name}, exp_alerts: []")));
        assert!(fires && is_quiet, "{name}: fires {fires}, is quiet {is_quiet}");
    }
}
