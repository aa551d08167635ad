//! A lab that binds nothing: its hosts are found by their addresses and served by any stream
//! (RFC 5321 §4.5.4.1).
//!
//! That is for simulations in virtual time. Whoever connects for them decides what a block or a
//! host that is down means; what is said on a connection is the same as by a socket.

use super::{Lab, LabBuilder};
use crate::lab::mx::host::RunningMxHost;
use crate::lab::sockets::Sockets;
use crate::lab::sts::host::PolicyHost;
use std::net::SocketAddr;

/// A host of the lab at an address.
#[derive(Clone, Copy, Debug)]
pub enum HostAt<'a> {
    /// Takes mail.
    Mx(&'a RunningMxHost),
    /// Has a policy.
    Policy(&'a PolicyHost),
}

impl LabBuilder {
    /// Binds nothing: for a simulation, which reaches the hosts by [`Lab::host_at`] and the DNS by
    /// [`super::dns::server::DnsServer::fetch`]. Addresses and ports are the same each time.
    #[must_use]
    pub fn without_sockets(mut self) -> Self {
        self.sockets = Sockets::None;
        self
    }
}

impl Lab {
    /// Who is at an address: an MX host that is up, or a policy host. Whether it is blocked or
    /// switched off is its own to say.
    #[must_use]
    pub fn host_at(&self, address: SocketAddr) -> Option<HostAt<'_>> {
        let mx = self.hosts().find(|host| host.address() == address).map(HostAt::Mx);
        mx.or_else(|| self.policies.host_at(address).map(HostAt::Policy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::lab::dns::server::PathFault;
    use crate::lab::{Block, Certificate, MailPath};
    use hickory_proto::dnssec::rdata::DNSSECRData;
    use hickory_proto::rr::{Name, RData, RecordType};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    const START: Timestamp = Timestamp(1_795_261_468_000);

    async fn lab() -> Lab {
        let lab = Lab::builder()
            .domain("dane.test", |d| d)
            .domain("sts.test", |d| d.plain().host(|h| h.certificate(Certificate::Issued)).mta_sts(|p| p.enforce()));
        lab.clock(Clock::manual(START)).without_sockets().start().await.unwrap()
    }

    /// Everything the host says to a client that says this and closes.
    async fn says(lab: &Lab, host: &str, client: &str) -> String {
        let (mut ours, theirs) = duplex(16 * 1024);
        let Some(HostAt::Mx(mx)) = lab.host_at(lab.mx(host).unwrap().address()) else { panic!("{host} is not there") };
        let conversation = async {
            ours.write_all(client.as_bytes()).await.unwrap();
            let mut said = String::new();
            ours.read_to_string(&mut said).await.unwrap();
            said
        };
        tokio::join!(mx.serve_stream(theirs), conversation).1
    }

    #[tokio::test]
    async fn rfc5321_4_3_1_a_host_without_a_socket_speaks_on_any_stream_also_through_a_box() {
        let lab = lab().await;
        let dialogue = "EHLO client.test\r\nQUIT\r\n";
        assert!(says(&lab, "dane.test", dialogue).await.contains("STARTTLS"));
        lab.set_mail_path(MailPath::StripStartTls);
        let said = says(&lab, "dane.test", dialogue).await;
        assert!(said.starts_with("220 mx.dane.test") && !said.contains("STARTTLS"), "{said}");
        assert_eq!(lab.mx("dane.test").unwrap().connections(), 2);
    }

    #[tokio::test]
    async fn hosts_are_found_by_their_addresses_and_say_whether_anyone_is_let_in() {
        let lab = lab().await;
        let (mx, policy) = (lab.mx("dane.test").unwrap(), lab.policy_host("sts.test").unwrap());
        assert_eq!((lab.port(), lab.policy_port()), (mx.address().port(), policy.address().port()));
        assert!(matches!(lab.host_at(policy.address()), Some(HostAt::Policy(there)) if there.is_on()));
        policy.switch_off().await;
        assert!(!policy.is_on());
        policy.switch_on().await.unwrap();
        assert!(policy.is_on());
        assert_eq!(mx.blocked(), None);
        for block in [Block::Silent, Block::Refused] {
            mx.block(block).await.unwrap();
            assert_eq!(mx.blocked(), Some(block));
        }
        assert!(lab.host_at("127.9.9.9:25".parse().unwrap()).is_none());
    }

    #[tokio::test]
    async fn rfc4035_3_1_the_dns_answers_without_a_socket_and_signs_for_ten_days_and_more() {
        let lab = lab().await;
        let name = Name::from_ascii("dane.test.").unwrap();
        let answer = lab.dns().fetch(&name, RecordType::MX).unwrap().unwrap();
        let signature = |data: &RData| {
            let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = data else { return None };
            Some(i64::from(rrsig.input().sig_expiration.get()))
        };
        let ends: Vec<i64> = answer.answers.iter().filter_map(|record| signature(&record.data)).collect();
        let in_ten_days = START.plus(Duration::from_hours(240)).unix_seconds();
        assert!(!ends.is_empty() && ends.iter().all(|end| *end > in_ten_days), "{ends:?}");
        assert_eq!(lab.dns().asked("dane.test", RecordType::MX), 1);
        lab.dns().set_path([PathFault::DropType(RecordType::MX)]);
        assert!(lab.dns().fetch(&name, RecordType::MX).unwrap().is_none());
    }
}
