//! How a test describes a mail domain of the lab, and what comes of the description
//! (RFC 5321 §5.1, RFC 7505, RFC 7672 §2).
//!
//! A domain that says nothing is the happy path: a signed zone, one host `mx.<domain>` with a
//! self-signed certificate, and the `3 1 1` TLSA record that fits it. A test overrides only what
//! it is about.

use crate::lab::dns::plan::{KeyAlgorithm, Signing, SigningPlan};
use crate::lab::dns::zone::AnswerFault;
use crate::lab::mx::behaviour::{Behaviour, Dialect, Mailboxes, StartTls, Trouble, TroubleAt};
use crate::lab::sockets::Presence;
use crate::lab::sts::spec::StsSpec;
use crate::lab::tls::certificate::{Certificate, Tlsa};
use crate::lab::tls::shape::TlsShape;
use hickory_proto::rr::{RData, RecordType};

/// The kind of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// One of its own in 127.0.0.0/8.
    V4,
    /// `::1`, which is all the loopback there is: one host of a lab can have it.
    V6,
}

/// The description of an MX host.
#[derive(Clone, Debug)]
pub struct HostSpec {
    pub(super) name: String,
    pub(super) preference: u16,
    pub(super) certificate: Certificate,
    pub(super) family: Family,
    /// Of each further address its own.
    pub(super) at_more_addresses: Vec<(Family, Certificate)>,
    pub(super) tlsa: Vec<Tlsa>,
    /// None: STARTTLS is offered with the certificate above.
    pub(super) starttls: Option<StartTls>,
    pub(super) tls_shape: TlsShape,
    pub(super) behaviour: Behaviour,
    pub(super) presence: Presence,
}

impl HostSpec {
    fn new(name: String, preference: u16) -> Self {
        Self {
            name,
            preference,
            certificate: Certificate::SelfSigned,
            family: Family::V4,
            at_more_addresses: Vec::new(),
            tlsa: vec![Tlsa::Fits(3, 1, 1)],
            starttls: None,
            tls_shape: TlsShape::default(),
            behaviour: Behaviour::default(),
            presence: Presence::Up,
        }
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = certificate;
        self
    }

    /// One more address of the same name, where a server of its own shows this certificate. The
    /// TLSA records stay those of the first. [`super::Lab::mx`] knows it as `name#2` and so on.
    #[must_use]
    pub fn and_at_another_address(mut self, certificate: Certificate) -> Self {
        self.at_more_addresses.push((Family::V4, certificate));
        self
    }

    /// As [`HostSpec::and_at_another_address`], and that address is `::1`. One host of a lab can
    /// have it, on a machine that does ([`super::mx::host::has_ipv6`]).
    #[must_use]
    pub fn and_at_ipv6(mut self, certificate: Certificate) -> Self {
        self.at_more_addresses.push((Family::V6, certificate));
        self
    }

    /// Its address is `::1` and none of IPv4, as [`HostSpec::and_at_ipv6`] says.
    #[must_use]
    pub fn ipv6_alone(mut self) -> Self {
        self.family = Family::V6;
        self
    }

    /// The TLSA records; an empty list means none.
    #[must_use]
    pub fn tlsa(mut self, records: impl IntoIterator<Item = Tlsa>) -> Self {
        self.tlsa = records.into_iter().collect();
        self
    }

    /// Adds `count` TLSA records `3 1 1` that do not fit, as left behind by key roll-overs.
    #[must_use]
    pub fn and_misfits(mut self, count: usize) -> Self {
        self.tlsa.extend((0..count).map(|nth| Tlsa::Misfits(3, 1, 1, nth)));
        self
    }

    /// What the host does about TLS instead of offering it with its certificate.
    #[must_use]
    pub fn starttls(mut self, starttls: StartTls) -> Self {
        self.starttls = Some(starttls);
        self
    }

    /// How the host does TLS with its certificate.
    #[must_use]
    pub fn tls(mut self, shape: TlsShape) -> Self {
        self.tls_shape = shape;
        self
    }

    /// The local-parts that have a mailbox; others get 550 5.1.1.
    #[must_use]
    pub fn known(mut self, users: &[&str]) -> Self {
        self.behaviour.known = Mailboxes::Only(users.iter().map(|user| user.to_ascii_lowercase()).collect());
        self
    }

    /// Refuses every sender and recipient the first time with 451 4.7.1.
    #[must_use]
    pub fn greylisting(mut self) -> Self {
        self.behaviour.greylist = true;
        self
    }

    /// Something goes wrong at a phase.
    #[must_use]
    pub fn trouble(mut self, phase: TroubleAt, trouble: Trouble) -> Self {
        self.behaviour.troubles.insert(phase, trouble);
        self
    }

    /// Adds a keyword to the reply to EHLO, such as `DSN`. The host takes the parameters that come
    /// with it and ignores them; with `CHUNKING` it takes BDAT.
    #[must_use]
    pub fn keyword(mut self, keyword: &str) -> Self {
        self.behaviour.keywords.push(keyword.to_owned());
        self
    }

    /// As [`HostSpec::keyword`], offered only before TLS.
    #[must_use]
    pub fn keyword_in_clear(mut self, keyword: &str) -> Self {
        self.behaviour.keywords_in_clear.push(keyword.to_owned());
        self
    }

    /// As [`HostSpec::keyword`], offered only inside TLS, as REQUIRETLS must be (RFC 8689 §2).
    #[must_use]
    pub fn keyword_in_tls(mut self, keyword: &str) -> Self {
        self.behaviour.keywords_in_tls.push(keyword.to_owned());
        self
    }

    /// Octets in clear behind the 220 to STARTTLS (RFC 3207 §6).
    #[must_use]
    pub fn behind_220(mut self, octets: &[u8]) -> Self {
        self.behaviour.behind_220 = octets.to_vec();
        self
    }

    /// Knows HELO and no EHLO.
    #[must_use]
    pub fn helo_only(mut self) -> Self {
        self.behaviour.dialect = Dialect::HeloOnly;
        self
    }

    /// Nobody listens: connections are refused.
    #[must_use]
    pub fn down(mut self) -> Self {
        self.presence = Presence::Down;
        self
    }
}

/// Where a domain's mail goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// To its hosts, by MX records.
    Mx,
    /// Nowhere: `MX 0 .` (RFC 7505).
    NullMx,
    /// To the domain's own address, for want of MX records (RFC 5321 §5.1).
    Implicit,
}

/// The description of a domain.
#[derive(Clone, Debug)]
pub struct DomainSpec {
    pub(super) name: String,
    pub(super) signing: SigningPlan,
    pub(super) exchange: Exchange,
    pub(super) hosts: Vec<HostSpec>,
    /// Hosts that other domains describe.
    pub(super) hosted_by: Vec<(u16, String)>,
    pub(super) records: Vec<(String, RData)>,
    pub(super) aliases: Vec<(String, String)>,
    pub(super) faults: Vec<(String, RecordType, AnswerFault)>,
    pub(super) zone_fault: Option<AnswerFault>,
    pub(super) sts: Option<StsSpec>,
}

impl DomainSpec {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            signing: SigningPlan::signed(KeyAlgorithm::EcdsaP256),
            exchange: Exchange::Mx,
            hosts: vec![HostSpec::new(format!("mx.{name}"), 10)],
            hosted_by: Vec::new(),
            records: Vec::new(),
            aliases: Vec::new(),
            faults: Vec::new(),
            zone_fault: None,
            sts: None,
        }
    }

    /// How the zone is signed.
    #[must_use]
    pub fn signing(mut self, signing: impl Into<SigningPlan>) -> Self {
        self.signing = signing.into();
        self
    }

    /// An unsigned zone without TLSA records: most of today's internet.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.signing = Signing::Unsigned.into();
        for host in &mut self.hosts {
            host.tlsa.clear();
        }
        self
    }

    /// Changes the first host, `mx.<domain>`.
    #[must_use]
    pub fn host(mut self, change: impl FnOnce(HostSpec) -> HostSpec) -> Self {
        if !self.hosts.is_empty() {
            let first = self.hosts.remove(0);
            self.hosts.insert(0, change(first));
        }
        self
    }

    /// Adds another host; `name` is its whole name.
    #[must_use]
    pub fn add_host(mut self, name: &str, preference: u16, change: impl FnOnce(HostSpec) -> HostSpec) -> Self {
        self.hosts.push(change(HostSpec::new(name.to_owned(), preference)));
        self
    }

    /// The domain has no hosts of its own; its MX record names a host of another domain.
    /// Several calls make several records.
    #[must_use]
    pub fn hosted_by(mut self, preference: u16, host: &str) -> Self {
        self.hosts.clear();
        self.hosted_by.push((preference, host.to_owned()));
        self
    }

    /// The domain takes no mail and says so (RFC 7505).
    #[must_use]
    pub fn null_mx(mut self) -> Self {
        self.hosts.clear();
        self.exchange = Exchange::NullMx;
        self
    }

    /// The domain has no MX record; the host bears the domain's own name (RFC 5321 §5.1).
    #[must_use]
    pub fn without_mx(mut self) -> Self {
        self.exchange = Exchange::Implicit;
        self.hosts.truncate(1);
        for host in &mut self.hosts {
            host.name.clone_from(&self.name);
        }
        self
    }

    /// Publishes an MTA-STS policy (RFC 8461): TXT record, policy host and policy. By itself it is in
    /// mode enforce and lists `mx.<domain>`, whose certificate should then be
    /// [`Certificate::Issued`].
    #[must_use]
    pub fn mta_sts(mut self, describe: impl FnOnce(StsSpec) -> StsSpec) -> Self {
        let spec = self.sts.take().unwrap_or_else(|| StsSpec::new(&self.name));
        self.sts = Some(describe(spec));
        self
    }

    /// Adds a record; `owner` is its whole name.
    #[must_use]
    pub fn record(mut self, owner: &str, data: RData) -> Self {
        self.records.push((owner.to_owned(), data));
        self
    }

    /// Adds an alias; both names are whole.
    #[must_use]
    pub fn alias(mut self, owner: &str, target: &str) -> Self {
        self.aliases.push((owner.to_owned(), target.to_owned()));
        self
    }

    /// A fault of one question; `owner` is a whole name. For TLSA give the host's name: the port
    /// comes in front of it by itself.
    #[must_use]
    pub fn fault(mut self, owner: &str, rtype: RecordType, fault: AnswerFault) -> Self {
        self.faults.push((owner.to_owned(), rtype, fault));
        self
    }

    /// A fault of everything in the zone.
    #[must_use]
    pub fn zone_fault(mut self, fault: AnswerFault) -> Self {
        self.zone_fault = Some(fault);
        self
    }
}
