//! The process itself, under the names that Prometheus clients in all languages give it: processor time,
//! memory, files, threads, start. Read at each scrape; what the system does not say keeps its last value.

use super::{Register, clamp};
use crate::clock::Timestamp;
use procfs::process::{LimitValue, Process};
use prometheus::{Counter, Error, IntGauge};
use rustix::time::{ClockId, clock_gettime};

pub(super) struct ProcessMetrics {
    cpu_seconds: Counter,
    open_fds: IntGauge,
    max_fds: IntGauge,
    virtual_memory: IntGauge,
    resident_memory: IntGauge,
    start_time: IntGauge,
    threads: IntGauge,
}

impl ProcessMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        let cpu_seconds = Counter::new("process_cpu_seconds_total", "Processor time spent, in seconds.")?;
        r.add("counter", Box::new(cpu_seconds.clone()))?;
        Ok(Self {
            cpu_seconds,
            open_fds: r.gauge("process_open_fds", "File descriptors that are open.")?,
            max_fds: r.gauge("process_max_fds", "The most file descriptors that may be open.")?,
            virtual_memory: r.gauge("process_virtual_memory_bytes", "Virtual memory, in octets.")?,
            resident_memory: r.gauge("process_resident_memory_bytes", "Resident memory, in octets.")?,
            start_time: r.gauge("process_start_time_seconds", "When the process started, in seconds since 1970.")?,
            threads: r.gauge("process_threads", "Threads of the process.")?,
        })
    }

    pub(super) fn set(&self, now: Timestamp) {
        let Ok(process) = Process::myself() else { return };
        if let Ok(open) = process.fd_count() {
            self.open_fds.set(clamp(open as u64));
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            self.max_fds.set(clamp(most));
        }
        let Ok(stat) = process.stat() else { return };
        let (ticks, page) = (procfs::ticks_per_second().max(1), procfs::page_size());
        self.virtual_memory.set(clamp(stat.vsize));
        self.resident_memory.set(clamp(stat.rss.saturating_mul(page)));
        self.threads.set(stat.num_threads);
        let spent = Seconds::of(stat.utime.saturating_add(stat.stime), ticks).0;
        self.cpu_seconds.inc_by((spent - self.cpu_seconds.get()).max(0.0));
        // Found once, so that it does not seem to change with the clock; and from when the machine started,
        // by a clock that needs no file which a hardened service may not see.
        if self.start_time.get() == 0 {
            let up = clock_gettime(ClockId::Boottime).tv_sec;
            let age = up.saturating_sub(clamp(stat.starttime / ticks));
            self.start_time.set(now.unix_seconds().saturating_sub(age));
        }
    }
}

/// Ticks as seconds.
struct Seconds(f64);

impl Seconds {
    fn of(ticks: u64, per_second: u64) -> Self {
        let thousandths = ticks.saturating_mul(1000) / per_second;
        Self(std::time::Duration::from_millis(thousandths).as_secs_f64())
    }
}
