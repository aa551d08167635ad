//! Who holds a port of this host already: Debian installs exim4 with many a package, and it takes
//! port 25.

pub(super) mod driver;
mod tables;

use std::net::SocketAddr;

/// A listening socket of another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortHolder {
    /// Where it listens.
    pub(super) at: SocketAddr,
    /// Its process, where that may be seen.
    pub(super) process: Option<HoldingProcess>,
}

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HoldingProcess {
    /// Its number.
    pub(super) id: u32,
    /// Its name, as `ps` shows it.
    pub(super) name: String,
    /// The service that it belongs to, such as `exim4.service`.
    pub(super) unit: Option<String>,
}

impl PortHolder {
    /// What is seen, and what to do about it.
    #[must_use]
    pub(super) fn sentence(&self) -> String {
        let at = self.at;
        match &self.process {
            None => format!(
                "something listens at {at} already; `ss -ltnp` as root shows what. Stop it, or let [listen] smtp name \
                 another address"
            ),
            Some(HoldingProcess { id, name, unit: Some(unit) }) => {
                format!("{name} (process {id}) holds {at}. When nothing else needs it: systemctl disable --now {unit}")
            }
            Some(HoldingProcess { id, name, unit: None }) => {
                format!("{name} (process {id}) holds {at}. Stop it, or let [listen] smtp name another address")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_port_is_named_with_what_to_do() {
        let process = HoldingProcess { id: 612, name: "exim4".to_owned(), unit: Some("exim4.service".to_owned()) };
        let holder = PortHolder { at: "127.0.0.1:25".parse().unwrap(), process: Some(process) };
        let sentence = holder.sentence();
        assert!(sentence.contains("exim4 (process 612) holds 127.0.0.1:25"), "{sentence}");
        assert!(sentence.ends_with("systemctl disable --now exim4.service"), "{sentence}");
    }
}
