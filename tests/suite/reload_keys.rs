//! Every key of the configuration is either changed by a reload, with a test of its kind, or named as needing
//! a restart.

use dane_relay::config::Config;
use dane_relay::config::settings::AT_RESTART;
use std::collections::BTreeSet;

/// Every key, and the test of its kind in `reload.rs` or in the file of its subject: a new key needs a row.
const KINDS: &[(&str, &[&str])] = &[
    ("hostname_and_postmaster_are_those_of_the_next_session_and_the_next_delivery", &["hostname", "postmaster"]),
    (
        "clients_and_limits_hold_for_sessions_from_then_on_and_a_message_on_its_way_in_ends_as_it_began",
        &[
            "[listen] clients",
            "[listen] sender_domains",
            "[listen] address_literals",
            "[listen] hide_client",
            "[listen] max_received",
            "[listen] max_message_bytes",
            "[listen] max_recipients",
            "[listen] max_sessions",
            "[listen] max_new_connections",
            "[listen] max_commands",
            "[listen] idle_timeout",
        ],
    ),
    ("ports_are_opened_and_closed_and_one_that_cannot_be_had_is_a_reason_to_leave_all_as_it_is", &["[listen] smtp"]),
    (
        "listeners_come_change_and_go_with_a_reload",
        &[
            "[[listener]] name",
            "[[listener]] addresses",
            "[[listener]] tls",
            "[[listener]] min_tls",
            "[[listener]] certificate",
            "[[listener]] private_key",
            "[[listener]] certificates",
            "[[listener]] clients",
            "[[listener]] auth",
            "[[listener]] client_certificates",
            "[[listener]] sender_domains",
            "[[listener]] senders_of_user",
            "[[listener]] recipients",
            "[[listener]] next_hops",
            "[[listener]] max_message_bytes",
            "[[listener]] dsn",
            "[[listener]] requiretls",
            "[[listener]] proxy_protocol_from",
            "[[listener]] max_sessions",
        ],
    ),
    (
        "archives_are_those_of_the_next_message",
        &["[[archive]] to", "[[archive]] senders", "[[archive]] recipients", "[[archive]] form"],
    ),
    (
        "keys_of_dkim_are_others_for_the_next_message_and_a_broken_one_is_refused",
        &["[dkim] on_failure", "[dkim] sign_signed", "[dkim] headers", "[dkim] oversign", "[dkim] key"],
    ),
    (
        "limits_of_what_is_handed_in_are_those_of_now",
        &[
            "[[limit]] name",
            "[[limit]] per",
            "[[limit]] users",
            "[[limit]] senders",
            "[[limit]] clients",
            "[[limit]] messages",
            "[[limit]] recipients",
            "[[limit]] warn_at",
        ],
    ),
    ("another_certificate_is_shown_from_the_next_handshake_on", &["[listen] certificate", "[listen] private_key"]),
    (
        "floors_of_the_spool_are_those_of_now_and_its_place_waits_for_a_restart",
        &["[spool] min_free_bytes", "[spool] min_free_inodes", "[spool] keep_history", "[spool] max_history_bytes"],
    ),
    (
        "the_ways_to_the_dns_are_others_for_the_next_look_up_and_nothing_is_left_of_those_before",
        &[
            "[dns] mode",
            "[dns] upstreams",
            "[dns] resolv_conf",
            "[dns] system_servers",
            "[dns] hosts",
            "[dns] private_zones",
            "[dns] trust_anchors",
            "[dns] root_hints",
            "[dns] timeout",
            "[dns] deadline",
        ],
    ),
    (
        "what_delivery_may_do_is_what_the_configuration_says_now",
        &[
            "[delivery] port",
            "[delivery] allow_loopback",
            "[delivery] allow_private",
            "[delivery] reuse_connections",
            "[delivery] reply_timeout",
            "[delivery] connect_timeout",
        ],
    ),
    (
        "limits_for_receiving_hosts_are_those_of_now",
        &[
            "[delivery] max_concurrent",
            "[delivery] max_per_next_hop",
            "[delivery] max_connections",
            "[delivery] max_messages_per_connection",
            "[delivery] rate",
            "[[host]] hosts",
            "[[host]] max_connections",
            "[[host]] max_messages_per_connection",
            "[[host]] rate",
        ],
    ),
    (
        "policies_of_tls_are_what_the_configuration_says_now",
        &["[tls] roots", "[tls] clear_text_fallback", "[tls] dane_behind_insecure_mx", "[tls] tls_required_no"],
    ),
    ("mta_sts_is_asked_from_the_next_message_on", &["[mta_sts] enabled", "[mta_sts] port", "[mta_sts] fetch_timeout"]),
    (
        "who_reports_on_tls_is_what_the_configuration_says_now",
        &[
            "[tls_reports] enabled",
            "[tls_reports] organization",
            "[tls_reports] contact",
            "[tls_reports] copy_to",
            "[tls_reports] domains_never",
            "[tls_reports] only_failures",
        ],
    ),
    ("the_schedule_of_retries_is_that_of_now", &["[retry] first", "[retry] longest", "[retry] expire_after"]),
    (
        "what_senders_are_told_and_when_is_what_the_configuration_says_now",
        &[
            "[notify] delay_after",
            "[notify] policy_failure_after",
            "[notify] return_full_below",
            "[notify] html",
            "[notify] languages",
            "[notify] sender_languages",
            "[notify] templates",
        ],
    ),
    ("the_admin_port_moves", &["[admin] listen"]),
    (
        "users_certificate_and_proxies_of_the_admin_port_are_those_of_now",
        &[
            "[admin] users",
            "[admin] certificate",
            "[admin] private_key",
            "[admin] trusted_proxies",
            "[admin] user_header",
        ],
    ),
    ("other_domains_are_watched_as_the_configuration_says_now", &["[watch] domains", "[watch] every"]),
    ("as_many_domains_are_an_incident_as_the_configuration_says_now", &["[incidents] domains"]),
    // Commands read them themselves; the relay uses them for its self-check, by what it has taken over.
    (
        "a_reload_that_says_nothing_about_sessions_dismisses_nobody",
        &["[check] canary", "[check] canary_every", "[check] references", "[check] controls"],
    ),
    (
        "rules_for_destinations_hold_for_the_next_attempt_of_what_waits",
        &[
            "[[destination]] domains",
            "[[destination]] senders",
            "[[destination]] next_hop",
            "[[destination]] tls_mode",
            "[[destination]] login",
            "[[destination]] client_certificate",
            "[[destination]] source",
            "[[destination]] family",
            "[[destination]] tls",
            "[[destination]] report_only",
            "[[destination]] report-only",
            "[[destination]] until",
            "[[destination]] reason",
            "[[destination]] max_connections",
            "[[destination]] max_messages_per_connection",
            "[[destination]] rate",
        ],
    ),
];

/// The keys of the section that a file begins with, as its parser names them.
fn keys_of(text: &str) -> Option<Vec<String>> {
    let error = toml::from_str::<Config>(text).unwrap_err();
    let (unknown, expected) = error.message().split_once(", expected ")?;
    let names = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    (unknown == "unknown field `no_such_key`").then_some(names)
}

fn all_keys() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for top in keys_of("no_such_key = 1").unwrap() {
        let sections = [format!("[{top}]"), format!("[[{top}]]")];
        let found = sections.iter().find_map(|head| Some((head, keys_of(&format!("{head}\nno_such_key = 1"))?)));
        match found {
            Some((head, inside)) => keys.extend(inside.iter().map(|key| format!("{head} {key}"))),
            None => drop(keys.insert(top)),
        }
    }
    keys
}

#[test]
fn every_key_changes_with_a_reload_or_is_named_as_needing_a_restart() {
    let named: Vec<&str> =
        KINDS.iter().flat_map(|(_, keys)| *keys).copied().chain(AT_RESTART.iter().map(|(key, _)| *key)).collect();
    let distinct: BTreeSet<String> = named.iter().map(|key| (*key).to_owned()).collect();
    assert_eq!(distinct.len(), named.len(), "a key has one row");
    assert_eq!(distinct, all_keys());
    let files = [
        include_str!("reload.rs"),
        include_str!("reload_reports.rs"),
        include_str!("dkim.rs"),
        include_str!("page.rs"),
    ];
    let tests = files.concat();
    for (test, _) in KINDS {
        assert!(tests.contains(&format!("async fn {test}() {{")), "there is no test {test}");
    }
}
