//! How metrics come into the registry, each with its name, its labels and its help text.

use prometheus::core::{Collector, Desc};
use prometheus::{Error, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use std::cell::RefCell;

/// A metric as the reference shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricText {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The labels of its series.
    pub labels: Vec<String>,
    /// What it says.
    pub help: String,
}

/// Registers metrics, and remembers what they say.
pub(super) struct Register<'a> {
    registry: &'a Registry,
    all: RefCell<Vec<MetricText>>,
}

impl<'a> Register<'a> {
    pub(super) fn new(registry: &'a Registry) -> Self {
        Self { registry, all: RefCell::default() }
    }

    /// What was registered.
    pub(super) fn catalogue(self) -> Vec<MetricText> {
        self.all.into_inner()
    }

    pub(super) fn add(&self, kind: &'static str, metric: Box<dyn Collector>) -> Result<(), Error> {
        let text = |desc: &Desc| MetricText {
            name: desc.fq_name.clone(),
            kind,
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        };
        self.all.borrow_mut().extend(metric.desc().into_iter().map(text));
        self.registry.register(metric)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        let metric = IntCounter::new(name, help)?;
        self.add("counter", Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.add("counter", Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        let metric = IntGauge::new(name, help)?;
        self.add("gauge", Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.add("gauge", Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn seconds(&self, name: &str, help: &str) -> Result<Histogram, Error> {
        let buckets = vec![0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
        let metric = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
        self.add("histogram", Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn build_info(&self) -> Result<(), Error> {
        let info = self.gauges("relay_build_info", "Version of the running relay; always 1.", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(())
    }
}
