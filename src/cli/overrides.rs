//! How a result is printed, and what overrides the configuration file for one command.

use super::terminal::load;
use clap::Args;
use dane_relay::command::queue::OutputForm;
use dane_relay::config::{Config, RootsSource, TrustAnchorSource, Upstream};
use std::path::PathBuf;

/// How a result is printed.
#[derive(Args)]
pub(crate) struct Output {
    /// JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Output {
    pub(crate) const fn form(&self) -> OutputForm {
        if self.json { OutputForm::Json } else { OutputForm::Text }
    }
}

/// What overrides the configuration file, or stands in for it.
#[derive(Args)]
pub(crate) struct Overrides {
    /// Configuration file; without it $RELAY_CONFIG, or /etc/relay/relay.toml where that exists.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Ask this way: system, udp://IP:PORT, tcp://IP:PORT, tls://IP:PORT#NAME,
    /// https://IP:PORT/PATH#NAME, authoritative. May be given several times.
    #[arg(long, value_name = "UPSTREAM")]
    pub(crate) upstream: Vec<Upstream>,
    /// Trust anchors: builtin, or a file with DNSKEY or DS lines.
    #[arg(long, value_name = "FILE")]
    pub(crate) trust_anchors: Option<String>,
    /// Certificate authorities: system, or a PEM file.
    #[arg(long, value_name = "FILE")]
    pub(crate) roots: Option<String>,
    /// Port of the mail servers.
    #[arg(long)]
    pub(crate) port: Option<u16>,
}

impl Overrides {
    pub(crate) fn config(self) -> Result<Config, String> {
        let mut config = load(self.config.as_deref())?;
        if !self.upstream.is_empty() {
            config.dns.upstreams = self.upstream;
        }
        if let Some(anchors) = self.trust_anchors {
            config.dns.trust_anchors = TrustAnchorSource::from(anchors);
        }
        if let Some(roots) = self.roots {
            config.tls.roots = RootsSource::from(roots);
        }
        if let Some(port) = self.port {
            config.delivery.port = port;
        }
        config.check()?;
        Ok(config)
    }
}
