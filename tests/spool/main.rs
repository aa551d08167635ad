//! The spool: what every engine promises, and what the embedded one does beyond it.
//!
//! | module | holds |
//! |---|---|
//! | `engine` | the parameter: what the suite needs of an engine |
//! | `promises`, `reading` | the conformance suite: every promise as a test that any engine must pass |
//! | `embedded` | the directory of the embedded engine: damage, rebuilding, segments, a full disk |
//! | `postgres` | the engine on PostgreSQL, with a server of its own |
//! | `carrying` | mail that goes from one spool to another |
//! | `copies` | a message and its copies, all or none |
//! | `audit` | the audit finds what somebody took away, and names it |
//! | `steps` | a crash at every step that changes the disk |
//! | `kill` | `kill -9` of a process that takes and settles mail |
//! | `tls_counts` | the conformance suite: what is counted for the reports on TLS |
//! | `relay_kill` | `kill -9` and SIGTERM of the whole relay |
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what fails in a test is its result")]

mod audit;
mod carrying;
mod copies;
mod embedded;
mod engine;
mod findings;
mod kill;
#[cfg(feature = "interop")]
mod postgres;
#[cfg(feature = "interop")]
#[path = "../support/postgres_server.rs"]
#[allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "each program uses its part; the server has a folder of its own"
)]
mod postgres_server;
mod promises;
#[path = "../support/random.rs"]
#[allow(dead_code, reason = "each program uses its part")]
mod random;
mod reading;
#[cfg(feature = "lab")]
mod relay_kill;
mod sample;
mod steps;
mod tls_counts;

/// Holds an engine to its promises.
macro_rules! conformance {
    ($engine:ty: $($module:ident { $($promise:ident)* })*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                crate::$module::$promise(<$engine as crate::engine::Engine>::new().await).await;
            }
        )*)*
    };
}

/// Every promise, once for each engine.
macro_rules! every_promise {
    ($engine:ty) => {
        conformance! { $engine:
            promises {
                rfc5321_4_2_5_what_was_acknowledged_is_there_after_a_crash
                rfc5321_4_2_5_a_spool_that_is_closed_acknowledges_nothing
                no_id_is_given_twice_over_a_crash_and_a_clock_set_back
                a_draft_given_up_is_never_there
                rfc5321_6_1_outcome_and_report_are_durable_together
                rfc5321_6_1_a_part_is_durable_while_the_claim_goes_on
                rfc5321_6_1_who_is_owed_a_report_stays_in_the_queue_until_it_is_written
                rfc5321_6_1_a_report_about_several_messages_is_recorded_with_all_of_them_or_none
                a_settlement_is_there_after_a_crash_and_names_no_recipient_that_is_not
                a_claim_holds_a_message_for_one_worker
                an_old_generation_records_nothing_and_gives_nothing_back
                a_lease_that_ran_out_is_anybodys_and_a_renewed_one_is_not
                a_crash_ends_every_claim
                the_oldest_due_comes_first_and_nothing_before_its_time
                a_postponed_message_comes_later_and_a_held_one_only_by_name
                a_clock_set_back_makes_nothing_wait_longer
                a_change_is_seen_also_when_it_came_before_the_wait
                history_tells_in_order_what_happened_and_who_was_told
                an_incident_is_there_after_a_crash_as_it_was_last
                the_newest_incidents_are_kept_and_the_oldest_go
                many_at_once_lose_and_repeat_nothing
            }
            tls_counts {
                rfc8460_4_2_sessions_count_with_the_outcome_or_not_at_all
                rfc8460_4_4_a_domain_has_a_bounded_share_of_a_day
                rfc8460_5_5_a_report_goes_out_once
            }
            reading {
                rfc5321_6_1_every_recipient_is_accounted_for_also_after_a_crash
                the_story_of_a_message_is_told_as_it_was
                a_message_is_found_by_every_name_it_has
                the_domains_that_mail_goes_to_are_counted
                past_deliveries_to_a_domain_are_found_by_it_alone
                what_waits_is_listed_oldest_first_and_what_is_finished_is_not
                what_waits_is_the_same_in_brief_as_at_length
                what_clients_handed_in_is_listed_by_its_time
                an_open_listing_or_audit_holds_up_nobody
            }
        }
    };
}

mod conformance_of_embedded {
    every_promise!(crate::engine::Embedded);
}

#[cfg(feature = "interop")]
mod conformance_of_postgresql {
    every_promise!(crate::postgres::Postgres);
}
