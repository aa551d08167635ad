//! How receiving hosts are approached, in numbers that do not grow with their names.

use super::{Register, clamp};
use crate::deliver::hosts::view::HostsView;
use prometheus::{Error, IntGauge, IntGaugeVec};

pub(super) struct HostMetrics {
    at_work: IntGaugeVec,
    most: IntGaugeVec,
    waiting: IntGaugeVec,
    backing_off: IntGauge,
    held_back: IntGauge,
}

impl HostMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            at_work: r.gauges(
                "relay_attempts_at_work",
                "Attempts at receiving hosts under way, at hosts that answer and at hosts that have not yet.",
                &["hosts"],
            )?,
            most: r.gauges("relay_attempts_at_work_limit", "The most of them.", &["hosts"])?,
            waiting: r.gauges(
                "relay_messages_waiting_for_host",
                "Messages that are due and wait for a place at a receiving host, in memory and in the spool.",
                &["where"],
            )?,
            backing_off: r.gauge("relay_hosts_backing_off", "Receiving hosts that nobody dials for a while.")?,
            held_back: r.gauge(
                "relay_hosts_held_back",
                "Receiving hosts that get fewer connections than the configuration allows, while messages wait.",
            )?,
        })
    }

    pub(super) fn set(&self, view: &HostsView) {
        for (hosts, share) in [("answering", view.answering), ("new", view.new)] {
            self.at_work.with_label_values(&[hosts]).set(clamp(share.used as u64));
            self.most.with_label_values(&[hosts]).set(clamp(share.most as u64));
        }
        for (place, messages) in [("memory", view.in_line), ("spool", view.outside)] {
            self.waiting.with_label_values(&[place]).set(clamp(messages as u64));
        }
        self.backing_off.set(clamp(view.backing_off as u64));
        self.held_back.set(clamp(view.held_back as u64));
    }
}
