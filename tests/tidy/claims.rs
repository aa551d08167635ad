//! What the texts claim, each with a test that shows it. A sentence that changes, and a test that goes, fail here:
//! whoever changes the one looks at the other.

use crate::source::{package, sources, test_sources};
use std::collections::BTreeSet;
use std::fs;

const README: &str = "README.md";
const KEYS: &str = "deploy/relay.toml";
const CHECK: &str = "deploy/check.md";
const EXCHANGE: &str = "deploy/exchange.md";
const ALERTS: &str = "deploy/alerts.yml";
const CLUSTER: &str = "deploy/cluster.md";

/// The file, words of it, and the test that shows that they are true.
const CLAIMS: &[(&str, &str, &str)] = &[
    (
        README,
        "Without a login there are health and metrics alone",
        "without_a_login_nothing_but_health_and_metrics_is_answered",
    ),
    (README, "Who did what and why stands in", "who_did_what_and_why_stands_in_the_story_of_the_message"),
    (README, "`look` sees all but content", "each_role_may_what_it_is_for_and_no_more"),
    (
        README,
        "Sessions** last eight hours, and one hour without use",
        "a_session_ends_when_it_is_left_alone_after_a_day_and_when_its_user_says_so",
    ),
    (
        README,
        "whoever is taken out of the file is out at the next click",
        "a_session_has_a_name_of_its_own_and_ends_with_the_logout_and_with_the_user",
    ),
    (
        README,
        "against nothing that a client says of itself",
        "those_who_ask_through_a_proxy_are_counted_by_their_own_addresses",
    ),
    (README, "can vouch for them", "a_proxy_vouches_from_its_own_address_alone"),
    (README, "described in [deploy/openapi.json]", "every_way_of_the_description_answers_as_it_says"),
    (
        README,
        "a crash leaves all of them or none",
        "wherever_a_crash_tears_the_log_message_and_copies_are_all_there_or_none",
    ),
    (
        README,
        "one that fails is told to the postmaster",
        "an_archive_that_refuses_is_told_to_the_postmaster_and_never_to_the_sender",
    ),
    (README, "The relay's own reports are not copied", "only_chosen_mail_is_copied_and_never_a_report_of_ours"),
    // Several relays.
    (
        CLUSTER,
        "so a node whose clock is wrong",
        "the_mail_of_a_node_whose_clock_is_off_is_due_at_the_others_when_it_should_be",
    ),
    (CLUSTER, "its mail goes out by the others when its lease ends", "what_a_killed_node_had_goes_out_by_the_other"),
    (
        CLUSTER,
        "at most what it had under way",
        "rfc5321_4_2_5_of_three_nodes_under_load_one_is_killed_and_nothing_is_lost",
    ),
    (
        CLUSTER,
        "it finds its claims gone, and records nothing",
        "a_node_that_was_stopped_past_its_lease_records_nothing",
    ),
    (
        CLUSTER,
        "nobody takes over anything for the length of a lease",
        "rfc5321_6_1_what_ends_in_an_outage_longer_than_a_lease_is_recorded_and_not_sent_again",
    ),
    (
        CLUSTER,
        "A transaction that it had begun it brings to an end",
        "rfc5321_6_1_a_node_that_is_cut_off_past_its_lease_begins_nothing_and_records_nothing",
    ),
    (
        CLUSTER,
        "the relays look for the one that takes writes",
        "rfc5321_4_2_5_a_standby_takes_the_place_of_its_primary_under_load_and_has_all_that_was_acknowledged",
    ),
    (
        CLUSTER,
        "outcomes wait for room",
        "rfc5321_4_2_5_a_database_whose_disk_is_full_takes_nothing_loses_nothing_and_goes_on_when_there_is_room",
    ),
    (
        CLUSTER,
        "gives back what has not begun, which the others have at once",
        "a_node_that_drains_or_stops_hands_over_at_once_and_brings_to_its_end_what_it_has_begun",
    ),
    (
        CLUSTER,
        "programs may work with it, and a relay that may not ends with the reason",
        "a_node_goes_on_beside_a_newer_schema_that_allows_it_and_ends_at_one_that_does_not",
    ),
    (
        CLUSTER,
        "of 20 connections two nodes have 10 each",
        "a_host_has_as_many_connections_from_all_nodes_as_the_configuration_allows",
    ),
    (
        CLUSTER,
        "a host with one connection is served by one node",
        "a_host_that_takes_one_connection_gets_one_and_all_mail_goes_out",
    ),
    (CLUSTER, "at one node holds at all within a few seconds", "whom_one_node_suspends_gets_in_at_none"),
    (
        CLUSTER,
        "a new relay works with the one before until you migrate",
        "rfc5321_4_2_5_a_database_of_the_first_version_is_migrated_under_load_beside_nodes_that_work_with_it",
    ),
    (
        CLUSTER,
        "is refused and names them, and nothing is changed",
        "a_schema_that_running_nodes_cannot_work_with_does_not_come_and_they_are_named",
    ),
    (
        CLUSTER,
        "on the other, which then follows it",
        "rfc5321_4_2_5_of_two_standbys_the_one_that_is_ahead_takes_over_under_load_and_the_other_follows_it",
    ),
    (
        CLUSTER,
        "it goes by the policy that another node has fetched",
        "rfc8461_5_1_a_policy_that_one_node_has_fetched_holds_at_all",
    ),
    (
        CLUSTER,
        "what one node backs off from the others leave alone for as long",
        "a_host_that_turns_one_node_away_is_left_alone_by_the_others",
    ),
    (
        CLUSTER,
        "held against the limit, also after a restart",
        "what_is_handed_in_at_two_nodes_is_one_limit_and_outlives_a_node",
    ),
    // What holds.
    (
        README,
        "A message is on the disk before the client hears 250",
        "rfc5321_6_1_a_kill_at_any_moment_loses_nothing_that_was_acknowledged",
    ),
    (README, "it survives `kill -9` at any moment", "rfc5321_4_2_5_what_was_acknowledged_survives_kill_9"),
    (
        README,
        "At worst it is delivered twice",
        "rfc5321_6_1_a_crash_at_any_durable_step_costs_nobody_anything_but_a_duplicate",
    ),
    (
        README,
        "there is no clear text and no unauthenticated TLS",
        "rfc7672_2_2_no_clear_text_to_a_host_with_tlsa_records_and_no_starttls",
    ),
    (
        README,
        "\"Could not find out\" is never \"there is none\"",
        "rfc7672_2_1_2_servfail_for_tlsa_alone_skips_the_host",
    ),
    (
        README,
        "That holds for a kept MTA-STS policy that cannot be read any more, too",
        "rfc8461_5_1_a_damaged_policy_stops_mail_until_it_is_fetched_again",
    ),
    (
        README,
        "the first contact with a domain in an unsigned zone whose policy or TXT record cannot be had",
        "rfc8461_3_3_without_a_fetchable_policy_mail_goes_as_without_and_five_minutes_pass",
    ),
    (
        README,
        "the same server is asked over TCP, then the next of `[dns] upstreams`",
        "rfc7766_5_truncated_without_tcp_leads_to_the_next_upstream",
    ),
    (
        README,
        "It goes on octet by octet, NUL and octets above 127 too",
        "content_goes_on_as_it_came_nul_and_octets_above_127_too",
    ),
    (
        README,
        "A failure in it has the word that the log has",
        "rfc3463_every_cause_has_words_and_a_status_that_fits_its_class",
    ),
    (
        README,
        "The broken path is named in log and metrics",
        "a_second_path_delivers_by_dane_and_the_metric_names_the_broken_one",
    ),
    (
        README,
        "the next one when one is slow, over TCP, without EDNS where nothing is signed; dead ones are remembered",
        "rfc8906_lame_and_refusing_servers_are_passed_over",
    ),
    (
        README,
        "where it has signed TLSA records, they hold",
        "rfc7672_2_neither_inside_nor_hosts_file_frees_a_next_hop_of_its_tlsa_records",
    ),
    (
        README,
        "While it cannot be found, mail waits",
        "a_next_hop_that_nobody_knows_is_ours_and_ends_only_with_the_time_of_the_message",
    ),
    (
        README,
        "nothing is validated there, and only your servers are asked",
        "rfc7646_below_a_private_zone_only_its_own_servers_are_asked_and_nothing_is_validated",
    ),
    (README, "The addresses of a host take turns, IPv6 first", "rfc6724_6_of_both_families_ipv6_is_tried_first"),
    (
        README,
        "a family that stays silent goes behind for ten minutes",
        "a_silent_family_goes_behind_until_it_answers_or_for_a_while",
    ),
    (
        README,
        "addresses that this host has no route to are not tried where others are there",
        "rfc6724_6_an_address_without_a_route_is_left_out_where_another_has_one",
    ),
    (
        README,
        "DNS answers that fail for one family cost that family alone",
        "rfc4035_5_a_family_that_fails_costs_that_family_and_takes_no_dane_away",
    ),
    (
        README,
        "the first one again within a minute of its recovery",
        "mail_goes_to_the_second_of_a_list_at_once_and_is_back_at_the_first_within_a_minute",
    ),
    (README, "equals by weight", "equals_share_the_mail_by_their_weights"),
    (
        README,
        "The password goes to nobody without TLS and a certificate that is valid for the next hop",
        "no_password_goes_in_clear_or_to_a_server_that_is_not_proven",
    ),
    (
        README,
        "the mail waits, and no recipient is blamed",
        "rfc4954_6_a_refused_login_is_ours_waits_and_shows_no_secret",
    ),
    (
        README,
        "**Post-quantum key exchange** (X25519MLKEM768) is offered first",
        "rfc8446_4_2_8_a_post_quantum_exchange_is_made_where_both_can",
    ),
    (
        README,
        "a small one follows in the same attempt",
        "a_path_that_loses_large_client_hellos_costs_one_handshake_and_is_named",
    ),
    (
        README,
        "thousands of them delay nobody else",
        "three_thousand_silent_domains_at_as_many_addresses_cost_a_live_one_nothing",
    ),
    (
        README,
        "A silent host is known after its first silence",
        "a_silent_host_is_known_after_the_first_silence_and_all_leave_its_line",
    ),
    (
        README,
        "MX records and address literals of strangers lead neither to this machine nor into private networks",
        "foreign_mx_records_must_not_lead_to_loopback",
    ),
    (
        README,
        "is a mail loop, returned at the first look",
        "rfc5321_5_1_a_host_at_an_address_of_ours_is_a_loop_at_the_first_look",
    ),
    (README, "everybody else gets 550 5.7.1", "rfc5321_7_9_a_client_from_elsewhere_may_not_relay"),
    (
        README,
        "A `[[destination]]` for `\"*\"` holds for recipients at address literals, too",
        "rfc5321_4_1_3_a_literal_goes_to_the_next_hop_that_is_for_all",
    ),
    (
        README,
        "They are refused with 550 5.1.2 unless you name them",
        "rfc5321_4_1_3_a_literal_is_refused_until_it_is_opened_and_never_goes_past_a_rule",
    ),
    (README, "algorithms 8, 10, 13, 14 and 15", "every_algorithm_we_know_validates_and_the_others_are_insecure"),
    (
        README,
        "denials with more than 150 iterations are insecure",
        "rfc9276_3_2_denials_with_too_many_iterations_are_insecure",
    ),
    (
        README,
        "SHA-1 in signatures (algorithms 5 and 7) counts as unsigned",
        "every_algorithm_we_know_validates_and_the_others_are_insecure",
    ),
    (
        README,
        "a DS record with a SHA-1 digest counts where the zone has no better one",
        "rfc4035_5_2_ds_digests_we_know_count_and_a_zone_with_others_only_is_insecure",
    ),
    // Where the standards leave a choice.
    (
        README,
        "DANE behind unsigned MX records authenticates the host and claims nothing for the domain",
        "rfc7672_2_2_1_an_unsigned_mx_record_lets_dane_prove_the_host_and_not_the_domain",
    ),
    (
        README,
        "So it never stands in for an enforced policy",
        "rfc8461_4_dane_behind_an_unsigned_mx_adds_to_an_enforced_policy_and_never_replaces_it",
    ),
    (
        README,
        "`[tls] dane_behind_insecure_mx = false` leaves it out",
        "rfc7672_2_2_1_dane_behind_unsigned_mx_records_is_a_setting",
    ),
    (
        README,
        "DANE of a signed domain wins over an MTA-STS policy that does not list the host; `relay check` says so",
        "rfc8461_2_where_dane_passes_a_host_that_the_policy_misses_dane_wins_and_check_says_so",
    ),
    (README, "DANE that fails is never saved by a policy", "rfc8461_2_a_good_policy_is_no_way_around_a_failed_dane"),
    (
        README,
        "Where no TLSA record is usable, an enforced policy authenticates what the records cannot",
        "every_combination_of_policies_peers_and_wishes_ends_as_the_standards_say",
    ),
    (
        README,
        "A peer with TLS 1.0 or 1.1 alone gets clear text where nothing is demanded, and nothing otherwise",
        "opensmtpd_gets_the_same_octets_by_data_with_its_broken_tls_and_without_tls",
    ),
    (
        README,
        "REQUIRETLS takes a host that DNSSEC or an enforced MTA-STS policy names",
        "rfc8689_4_2_1_each_condition_is_needed_and_the_first_that_lacks_returns_the_message",
    ),
    (
        README,
        "NDRs about such mail travel without it and redacted",
        "rfc8689_5_a_report_about_a_message_with_requiretls_shows_only_its_id_and_date",
    ),
    (
        README,
        "A loop of CNAMEs at a recipient domain is a DNS failure and waits",
        "rfc1034_3_6_2_alias_loops_end_as_not_found_out",
    ),
    (
        README,
        "Mail with NOTIFY=NEVER keeps its reverse-path towards servers without DSN",
        "rfc3461_5_2_2_mail_that_nobody_is_to_be_told_of_keeps_its_reverse_path",
    ),
    (
        README,
        "A recipient domain with a null MX is found after the 250",
        "a02_a_null_mx_is_found_after_the_250_and_reported_at_once",
    ),
    (
        README,
        "Revocation is not asked for: with DANE it is the removal of the record",
        "rfc7672_4_revocation_is_the_removal_of_the_record",
    ),
    // What decides about TLS.
    (
        README,
        "No usable record: TLS without authentication",
        "rfc7672_2_2_without_usable_records_tls_is_a_must_and_authentication_is_not",
    ),
    (
        README,
        "the host is in the policy and has a certificate for its name from an authority in `[tls] roots`",
        "rfc8461_5_an_enforced_policy_demands_a_listed_host_and_its_certificate",
    ),
    (
        README,
        "Policies are kept in the spool and outlive restarts and outages",
        "rfc8461_5_1_an_unexpired_policy_outlasts_record_host_and_restart",
    ),
    (
        README,
        "strangers push none out that a domain's mail goes under",
        "rfc8461_10_2_strangers_with_the_largest_policies_evict_nobody_else",
    ),
    (
        README,
        "clear text when it is not, or when the handshake fails or STARTTLS is refused",
        "clear_text_after_a_failed_handshake_is_a_setting",
    ),
    (
        README,
        "delivers even where 1 or 2 forbid it",
        "rfc8689_4_2_2_tls_required_no_delivers_where_dane_would_not_and_stays_in_the_message",
    ),
    (
        README,
        "it also ends once relay check finds the domain clean",
        "an_exception_ends_when_the_domain_is_found_clean_and_not_before",
    ),
    (
        README,
        "What has ended stays so over a restart",
        "an_exception_that_is_over_stays_so_over_a_restart_and_status_names_both_kinds",
    ),
    // What senders are told, and the queue.
    (
        README,
        "They are passed on to a server that offers DSN",
        "rfc3461_5_2_1_a_next_hop_with_dsn_gets_what_the_sender_asked_and_no_other_does",
    ),
    (README, "for any other the relay reports success itself", "rfc3461_5_2_2_success_is_reported_as_relayed"),
    (
        README,
        "With RET=FULL a message comes back once",
        "rfc3461_4_3_a_message_comes_back_whole_with_its_first_report_only",
    ),
    (
        README,
        "nobody is told of mail from the null reverse-path",
        "rfc5321_4_5_5_nobody_is_told_of_mail_from_the_null_reverse_path",
    ),
    (
        README,
        "at most four mails an hour",
        "the_postmaster_gets_at_most_four_mails_an_hour_and_after_a_quiet_while_the_first_at_once",
    ),
    (README, "it loads nothing and links nowhere; what strangers wrote", "what_strangers_wrote_is_text_on_the_page"),
    (README, "is text and a page (HTML) in the same words", "rfc6522_3_text_and_page_say_the_same"),
    (README, "`html = false` leaves the page out", "without_html_a_report_has_the_text_alone"),
    (README, "says everything in both, and", "a_report_in_two_languages_says_everything_in_both_and_the_evidence_once"),
    (
        README,
        "`sender_languages` chooses by the sender's domain",
        "the_domain_of_the_reader_decides_and_the_file_of_the_operator_is_of_the_first_language",
    ),
    (
        README,
        "DKIM or DMARC sends your own administrators to act",
        "a_refusal_of_our_address_or_proofs_sends_our_administrators_to_act_and_nobody_else",
    ),
    (
        README,
        "`Diagnostic-Code: X-Relay; CAUSE: …`",
        "rfc3464_2_3_6_a_local_cause_has_a_diagnostic_code_of_our_own_type",
    ),
    (README, "it holds up nobody else", "rfc5321_4_5_4_1_a_dead_next_hop_is_not_dialled_for_each_message"),
    (
        README,
        "What is held does not expire",
        "rfc5321_4_5_4_1_what_is_held_does_not_expire_and_is_tried_when_it_is_released",
    ),
    (
        README,
        "one mail to `postmaster`, and its name in `relay why` of every message",
        "a_box_before_twelve_domains_is_one_incident_with_one_mail_and_ends_by_itself",
    ),
    (
        README,
        "reports and notices say that the fault is here and blame no recipient",
        "no_report_and_no_notice_blames_a_recipient_while_an_incident_of_ours_goes_on",
    ),
    // Health.
    (
        README,
        "`/readyz` says whether mail would be taken",
        "a_relay_whose_sessions_are_all_taken_is_not_ready_until_one_ends",
    ),
    (
        README,
        "and which ways to the DNS lose answers",
        "a_path_that_loses_the_sets_of_rolled_over_domains_is_not_healthy_and_is_again_afterwards",
    ),
    (
        README,
        "one typed cause for every failure, and says it in the same words in the log, the metrics, the NDR and `relay check`",
        "every_cause_has_the_same_words_in_every_output",
    ),
    (
        README,
        "one line for each delivery attempt with its TLS verdict",
        "o08_every_attempt_is_one_line_of_the_log_with_its_verdict",
    ),
    (
        KEYS,
        "it doubles up to the longest, which no wait exceeds",
        "no_wait_is_longer_than_the_longest_and_so_none_is_beyond_the_horizon",
    ),
    (
        KEYS,
        "How long the history of finished messages is kept",
        "an_idle_relay_prunes_all_that_is_over_without_another_job",
    ),
    (
        KEYS,
        "this, in bytes, as it was handed in",
        "rfc3461_4_3_what_counts_is_the_message_as_it_was_handed_in_without_our_received_line",
    ),
    (KEYS, "How long fetching a policy may take", "rfc8461_3_3_a_slow_policy_host_is_given_up_at_the_deadline"),
    (
        KEYS,
        "A message with more Received lines goes round in a loop",
        "rfc5321_6_3_a_message_that_has_gone_round_is_refused_before_it_is_ours",
    ),
    (
        KEYS,
        "true sends in clear text on a new connection, false lets the message wait",
        "clear_text_after_a_refused_starttls_is_a_setting",
    ),
    (
        CHECK,
        "with `--ns NAME` for each of your name servers, as a zone of its own",
        "rfc1035_5_2_with_its_name_servers_the_canary_zone_loads_as_it_is",
    ),
    (
        CHECK,
        "included in the file of a signed zone",
        "rfc1035_5_1_without_them_it_is_included_in_a_zone_that_has_its_own",
    ),
    (
        CHECK,
        "a running relay keeps in its spool, for each number of TLSA records, one name",
        "the_look_at_this_host_tries_the_canary_and_the_relays_own_history",
    ),
    (CHECK, "up to the point before MAIL FROM", "a_probe_stops_before_mail"),
    (
        CHECK,
        "the check warns with the cause of the last attempt",
        "a_check_that_finds_nothing_says_what_mail_in_the_queue_was_refused_for",
    ),
    (
        KEYS,
        "Whether the MTA-STS policies of recipient domains are fetched and kept to",
        "mta_sts_is_asked_from_the_next_message_on",
    ),
    (
        EXCHANGE,
        "senders after four hours and gives up after two days",
        "e01_when_one_of_two_relays_stops_its_clients_go_on_with_the_other",
    ),
    (
        ALERTS,
        "tried at least every hour ([retry] longest), so an hour without a failure means that it is over",
        "no_wait_is_longer_than_the_longest_and_so_none_is_beyond_the_horizon",
    ),
];

/// On one line, without the marks of comments.
fn plain(text: &str) -> String {
    let words = text.lines().flat_map(|line| line.trim_start().trim_start_matches('#').split_ascii_whitespace());
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_claim_is_in_its_text_and_has_its_test() {
    let code = sources().into_iter().chain(test_sources());
    let tests: BTreeSet<String> = code.flat_map(|source| names_of_tests(&source.text)).collect();
    let mut faults = Vec::new();
    for (file, words, test) in CLAIMS {
        let text = plain(&fs::read_to_string(package().join(file)).unwrap());
        if !text.to_lowercase().contains(&plain(words).to_lowercase()) {
            faults.push(format!("{file} does not say {words:?} any more: does {test} still show what it says?"));
        }
        if !tests.contains(*test) {
            faults.push(format!("{file} says {words:?}, and there is no test {test}"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Functions behind `#[test]` or `#[tokio::test…]`.
fn names_of_tests(text: &str) -> Vec<String> {
    let mut is_test = false;
    let mut names = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ")
            && is_test
        {
            names.extend(rest.split('(').next().map(str::to_owned));
            is_test = false;
        }
    }
    names
}

#[test]
fn only_functions_that_are_tests_count() {
    let text =
        "fn helper() {}\n#[test]\n#[ignore]\nfn shows() {}\n#[tokio::test]\nasync fn waits() {}\nfn other() {}\n";
    assert_eq!(names_of_tests(text), ["shows", "waits"]);
}
