//! A whole surrounding in which one [`Situation`] comes true: the lab, a resolver and what it
//! asks, a resolver far away with an encrypted front, a canary zone, and the boxes in between
//! (RFC 7672 §2, RFC 7858).
//!
//! A stage is calm until the trouble strikes, so that a relay can be started before. A box on the
//! path sees everything that leaves this host in clear: what goes to the resolver or, where it
//! stands behind that, what the resolver asks; and in both cases what goes to authoritative servers
//! or to resolvers elsewhere. What is encrypted passes it.

use super::situation::Situation;
use crate::check::canary;
use crate::clock::Clock;
use crate::config::Config;
use crate::lab::dns::authority::Authorities;
use crate::lab::dns::boxes::{Helpless, LabTransport, PathFault};
use crate::lab::dns::fronts::{Front, FrontKind};
use crate::lab::dns::rrset::SignatureFault;
use crate::lab::dns::server::{DnsServer, Validating};
use crate::lab::dns::world::AnchorForm;
use crate::lab::domain::DomainSpec;
use crate::lab::mx::behaviour::{Behaviour, StartTls, Trouble, TroubleAt, reply};
use crate::lab::tls::certificate;
use crate::lab::{AnswerFault, Authority, Block, Certificate, Identity, Lab, MailPath, RunningMxHost, bad};
use crate::resolve::TlsaRecord;
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{RData, RecordType};
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The domain that the situation is about.
pub const DOMAIN: &str = "partner.test";
/// Its mail host.
pub const HOST: &str = "mx.partner.test";
/// The sender's domain.
pub const OFFICE: &str = "office.test";
/// A domain that has nothing to do with it, with DANE.
pub const NEIGHBOUR: &str = "neighbour.test";
/// A zone with answers of known sizes.
pub const CANARY: &str = "canary.test";
/// The records that the domain publishes where the number matters: more than the box lets pass.
const ROLLOVER: usize = 6;
/// What the boxes of this lab let pass.
const PASSES: usize = 4;
/// So many TLSA records are more than 512 octets and fit into a datagram of 1232.
const ABOVE_512_OCTETS: usize = 16;
/// So many do not fit into a datagram.
const ABOVE_ONE_DATAGRAM: usize = 41;
/// The box that answers for every mail server.
const GATEWAY: &str = "gateway.firewall.test";
/// What a server says to a host that it finds on a block list.
const LISTED: &str = "554 5.7.1 Service unavailable; client host [192.0.2.7] is listed at blocklist.test";
/// How long servers wait for who speaks too early (Postfix's postscreen).
const EARLY_TALKER_WAIT: Duration = Duration::from_secs(6);
/// How long a reply takes that is late.
const LATE_REPLY: Duration = Duration::from_millis(4500);
/// How long an answer takes of a resolver that is slow.
const SLOW_ANSWER: Duration = Duration::from_millis(1100);
/// How far the clock is off in [`Situation::WrongClock`]: more than signatures last.
const CLOCK_OFF: Duration = Duration::from_secs(30 * 24 * 3600);

/// Everything around a relay.
#[derive(Debug)]
pub struct Stage {
    situation: Situation,
    /// The mini-internet; its DNS server is the relay's resolver.
    pub lab: Lab,
    /// The authoritative servers of its zones.
    pub authorities: Authorities,
    /// A resolver elsewhere, that no box here stands behind.
    pub elsewhere: DnsServer,
    /// Its encrypted front.
    pub dot: Front,
    proxy: RunningMxHost,
    /// The time in the lab; the relay's may be another.
    clock: Clock,
}

impl Stage {
    /// Starts everything, as it is before the trouble.
    ///
    /// # Errors
    /// When no sockets can be had.
    pub async fn calm(situation: Situation) -> io::Result<Self> {
        let clock = Clock::manual(Clock::system().now());
        let identity = Arc::new(identity(situation)?);
        let lab = Lab::builder()
            .clock(clock.clone())
            .domain(OFFICE, |d| d)
            .domain(NEIGHBOUR, |d| d)
            .domain(CANARY, canary_zone)
            .domain(DOMAIN, |d| recipient(situation, d, &identity))
            .start()
            .await?;
        let authorities = lab.authorities().await?;
        let elsewhere = lab.another_dns().await?;
        for resolver in [lab.dns(), &elsewhere] {
            resolver.set_validating(Validating::Yes);
        }
        let dot = Front::start(FrontKind::Tls, &elsewhere, lab.authority()).await?;
        let proxy = RunningMxHost::start(GATEWAY, Ipv4Addr::LOCALHOST, 0, gateway(situation)?).await?;
        Ok(Self { situation, lab, authorities, elsewhere, dot, proxy, clock })
    }

    /// Starts everything with the trouble in it.
    ///
    /// # Errors
    /// As [`Stage::calm`].
    pub async fn set(situation: Situation) -> io::Result<Self> {
        let stage = Self::calm(situation).await?;
        stage.strike().await?;
        Ok(stage)
    }

    /// Brings the trouble.
    ///
    /// # Errors
    /// When a box or a block needs a socket that cannot be had.
    #[expect(clippy::too_many_lines, reason = "a line or two for each situation")]
    pub async fn strike(&self) -> io::Result<()> {
        let over_tlsa = PathFault::DropTlsaOver(PASSES);
        match self.situation {
            Situation::Healthy
            | Situation::HealthyWithoutDane
            | Situation::OneOldCertificate
            | Situation::PolicyMissesHost
            | Situation::IntermediateMissing
            | Situation::PolicyWithMark
            // The configuration has them from the beginning.
            | Situation::WrongAnchors => {}
            Situation::CountFilter => self.box_before_resolver(over_tlsa),
            Situation::CountFilterOverUdp => self.box_on_udp(over_tlsa),
            Situation::CountFilterBeyondSilence => self.box_behind_resolver(Helpless::Silent, over_tlsa),
            Situation::CountFilterBeyondServFail => self.box_behind_resolver(Helpless::ServFail, over_tlsa),
            Situation::RefusedOverCount => self.box_before_resolver(PathFault::RefuseTlsaOver(PASSES)),
            Situation::CutToFour => self.box_before_resolver(PathFault::CutTlsaTo(PASSES)),
            Situation::TypeFilter => self.box_before_resolver(PathFault::DropType(RecordType::TLSA)),
            Situation::TypeFilterBeyondServFail => {
                self.box_behind_resolver(Helpless::ServFail, PathFault::DropType(RecordType::TLSA));
            }
            Situation::AnyCountFilter => self.box_before_resolver(PathFault::DropRecordsOver(PASSES)),
            Situation::SizeFilter => self.box_on_udp(PathFault::DropOver(512)),
            Situation::EdnsFilter => self.box_before_resolver(PathFault::DropEdns),
            Situation::EdnsFilterOverUdp => self.box_on_udp(PathFault::DropEdns),
            Situation::Tcp53Blocked => self.box_before_resolver(PathFault::BlockTcp),
            Situation::TlsaForged => self.box_before_resolver(PathFault::ForgeNoData(RecordType::TLSA)),
            Situation::CountFilterOverUdpBeyondServFail => {
                self.lab.dns().set_path_beyond(Helpless::ServFail, [over_tlsa]);
                self.far_servers().for_each(|server| server.set_path_on(LabTransport::Udp, [over_tlsa]));
            }
            Situation::TlsaForgedBeyondServFail => {
                self.box_behind_resolver(Helpless::ServFail, PathFault::ForgeNoData(RecordType::TLSA));
            }
            Situation::ResolverSlow => self.lab.dns().set_delay(SLOW_ANSWER),
            Situation::ResolverStrips => self.lab.dns().set_path([PathFault::StripDnssec]),
            Situation::ResolverNotValidating => self.lab.dns().set_validating(Validating::No),
            Situation::ResolverFails => self.lab.dns().set_path([PathFault::ServFail]),
            Situation::ResolverWithoutKeys => self.lab.dns().set_path([PathFault::ForgeNoData(RecordType::DNSKEY)]),
            Situation::ZoneBogus => self.spoil_signatures(SignatureFault::Bogus)?,
            Situation::ZoneExpired => self.spoil_signatures(SignatureFault::Expired)?,
            Situation::RecipientServFail => {
                self.lab.world().fault(&self.lab.tlsa_owner(HOST), RecordType::TLSA, AnswerFault::ServFail)?;
            }
            Situation::RecipientDropsTlsa => {
                self.silence_tlsa(HOST)?;
                self.silence_tlsa(&self.lab.tlsa_owner(HOST))?;
            }
            Situation::RecipientSilent => self.silence_tlsa(&self.lab.tlsa_owner(HOST))?,
            Situation::NameServersDead => self.lab.world().zone_fault(DOMAIN, AnswerFault::Silent)?,
            Situation::PublicCertificateRolled => self.lab.set_certificate(HOST, &Certificate::IssuedPublicly)?,
            Situation::CertificateRolled => self.lab.set_certificate(HOST, &Certificate::SelfSigned)?,
            Situation::StartTlsStripped
            | Situation::BannerMasked
            | Situation::TlsIntercepted
            | Situation::InterceptedByTrusted
            | Situation::ProxyForEveryone
            | Situation::GatewayForEveryone
            | Situation::HandshakesCut
            | Situation::AddressListed
            | Situation::GreetsLate
            | Situation::RepliesLate
            | Situation::Port25Refused
            | Situation::Port25Silent => self.strike_mail().await?,
            // The relay goes by the machine's clock, which is then behind the world's.
            Situation::WrongClock => self.clock.advance(CLOCK_OFF),
        }
        Ok(())
    }

    /// Brings trouble that is between this host and the mail servers.
    #[expect(clippy::wildcard_enum_match_arm, reason = "what is no matter of mail strikes elsewhere")]
    async fn strike_mail(&self) -> io::Result<()> {
        match self.situation {
            Situation::StartTlsStripped => self.lab.set_mail_path(MailPath::StripStartTls),
            Situation::BannerMasked => self.lab.set_mail_path(MailPath::Mask),
            Situation::TlsIntercepted => {
                self.lab.set_mail_path(MailPath::Intercept(Authority::new("Firewall Inspection CA")?.into()));
            }
            Situation::InterceptedByTrusted => {
                self.lab.set_mail_path(MailPath::Intercept(Arc::clone(self.lab.authority())));
            }
            Situation::GreetsLate => self.lab.mx(HOST)?.delay(TroubleAt::Connect, EARLY_TALKER_WAIT),
            Situation::RepliesLate => {
                let host = self.lab.mx(HOST)?;
                [TroubleAt::Connect, TroubleAt::Ehlo, TroubleAt::StartTls]
                    .into_iter()
                    .for_each(|at| host.delay(at, LATE_REPLY));
            }
            Situation::HandshakesCut => self.lab.set_mail_path(MailPath::CutHandshake),
            Situation::AddressListed => {
                self.lab.mx(HOST)?.trouble(TroubleAt::Connect, Trouble::Reply(reply(LISTED)?));
            }
            Situation::ProxyForEveryone | Situation::GatewayForEveryone => {
                self.lab.set_mail_path(self.proxy.as_proxy())
            }
            Situation::Port25Refused => self.lab.block_mail(Block::Refused).await?,
            Situation::Port25Silent => self.lab.block_mail(Block::Silent).await?,
            _ => {}
        }
        Ok(())
    }

    /// The situation.
    #[must_use]
    pub fn situation(&self) -> Situation {
        self.situation
    }

    /// The proxy of [`Situation::ProxyForEveryone`]: what it was told was told to the wrong one.
    #[must_use]
    pub fn proxy(&self) -> &RunningMxHost {
        &self.proxy
    }

    /// What the box lets pass in encrypted form, as the configuration writes an upstream.
    #[must_use]
    pub fn encrypted_upstream(&self) -> String {
        self.dot.upstream()
    }

    /// The configuration of a relay here, as its file says it; it asks these upstreams. Trust
    /// anchor, trusted roots and spool are in `folder`.
    ///
    /// # Errors
    /// When `folder` cannot be written.
    pub async fn configuration(&self, folder: &Path, upstreams: &[String]) -> io::Result<String> {
        let (anchors, roots) = (folder.join("root.key"), folder.join("roots.pem"));
        tokio::fs::write(&anchors, self.lab.world().trust_anchor(AnchorForm::DnsKey)?).await?;
        tokio::fs::write(&roots, self.lab.roots_pem()).await?;
        if self.situation == Situation::WrongAnchors {
            let another = Lab::builder().start().await?;
            tokio::fs::write(&anchors, another.world().trust_anchor(AnchorForm::DnsKey)?).await?;
        }
        // Slow is what is slower than a check waits at first, and not slower than delivery waits.
        let timeout = if self.situation == Situation::ResolverSlow { "3s" } else { "600ms" };
        let mode = if self.situation == Situation::ResolverNotValidating { "trust-ad" } else { "validate" };
        Ok(format!(
            r#"hostname = "relay.{OFFICE}"
[listen]
smtp = ["127.0.0.1:0"]
[spool]
path = {spool:?}
min_free_bytes = 0
min_free_inodes = 0
[dns]
mode = "{mode}"
upstreams = {upstreams:?}
trust_anchors = {anchors:?}
root_hints = ["{root}"]
timeout = "{timeout}"
[tls]
roots = {roots:?}
[mta_sts]
port = {policy_port}
[delivery]
port = {port}
allow_loopback = true
connect_timeout = "1s"
reply_timeout = "20s"
[retry]
first = "1s"
longest = "1s"
[admin]
listen = "127.0.0.1:0"
"#,
            spool = folder.join("spool"),
            root = self.authorities.root(),
            policy_port = self.lab.policy_port(),
            port = self.lab.port(),
        ))
    }

    /// Whom a check may ask besides, as a configuration file says it: the canary zone, the resolver
    /// elsewhere, and a mail host that has nothing to do with it.
    #[must_use]
    pub fn check_configuration(&self) -> String {
        let reference = self.encrypted_upstream();
        format!("[check]\ncanary = \"{CANARY}\"\nreferences = [\"{reference}\"]\ncontrols = [\"mx.{NEIGHBOUR}\"]\n")
    }

    /// [`Stage::configuration`], read: with the resolver as its only upstream.
    ///
    /// # Errors
    /// When `folder` cannot be written.
    pub async fn config(&self, folder: &Path) -> io::Result<Config> {
        let text = self.configuration(folder, &[self.lab.dns().upstream()]).await?;
        Config::parse(&text, Path::new("stage.toml")).map_err(bad)
    }

    fn box_before_resolver(&self, fault: PathFault) {
        self.lab.dns().set_path([fault]);
        self.far_servers().for_each(|server| server.set_path([fault]));
    }

    fn box_behind_resolver(&self, helpless: Helpless, fault: PathFault) {
        self.lab.dns().set_path_beyond(helpless, [fault]);
        self.far_servers().for_each(|server| server.set_path([fault]));
    }

    fn box_on_udp(&self, fault: PathFault) {
        let resolver = std::iter::once(self.lab.dns());
        resolver.chain(self.far_servers()).for_each(|server| server.set_path_on(LabTransport::Udp, [fault]));
    }

    fn far_servers(&self) -> impl Iterator<Item = &DnsServer> {
        self.authorities.servers().map(|(_, server)| server).chain(std::iter::once(&self.elsewhere))
    }

    fn silence_tlsa(&self, owner: &str) -> io::Result<()> {
        self.lab.world().fault(owner, RecordType::TLSA, AnswerFault::Silent)
    }

    fn spoil_signatures(&self, fault: SignatureFault) -> io::Result<()> {
        self.lab.world().zone_fault(DOMAIN, AnswerFault::Signature(fault))
    }
}

/// How the box behaves that answers for every mail server.
fn gateway(situation: Situation) -> io::Result<Behaviour> {
    let starttls = if situation == Situation::GatewayForEveryone {
        StartTls::Offered(Identity::self_signed(&[GATEWAY])?.server_config()?)
    } else {
        StartTls::NotOffered
    };
    Ok(Behaviour { starttls, ..Behaviour::default() })
}

/// The certificate of the recipient, where the situation is about it.
fn identity(situation: Situation) -> io::Result<Identity> {
    if situation == Situation::IntermediateMissing {
        return Ok(Authority::new("Issuing CA")?.issue(&[HOST])?.without_issuers());
    }
    Identity::self_signed(&[HOST])
}

/// The domain as the situation wants it before the trouble.
#[expect(clippy::too_many_lines, reason = "a line or two for each situation")]
fn recipient(situation: Situation, domain: DomainSpec, identity: &Arc<Identity>) -> DomainSpec {
    let records = |domain: DomainSpec, count: usize| domain.host(|host| host.and_misfits(count - 1));
    let is = || Certificate::Given(Arc::clone(identity));
    match situation {
        Situation::HealthyWithoutDane => domain.plain(),
        Situation::CountFilter
        | Situation::CountFilterOverUdp
        | Situation::CountFilterBeyondSilence
        | Situation::CountFilterBeyondServFail
        | Situation::CountFilterOverUdpBeyondServFail
        | Situation::RefusedOverCount
        | Situation::CutToFour
        | Situation::RecipientSilent
        | Situation::AnyCountFilter => records(domain, ROLLOVER),
        Situation::SizeFilter => records(domain, ABOVE_512_OCTETS),
        Situation::Tcp53Blocked => records(domain, ABOVE_ONE_DATAGRAM),
        Situation::OneOldCertificate => domain.host(|host| {
            let host = host.certificate(is()).and_at_another_address(Certificate::SelfSigned);
            host.and_at_another_address(is()).and_at_another_address(is())
        }),
        Situation::PolicyMissesHost => domain
            .plain()
            .host(|host| host.certificate(Certificate::Issued))
            .mta_sts(|policy| policy.enforce().mx(&["mx-old.partner.test"])),
        Situation::IntermediateMissing => {
            domain.plain().host(|host| host.certificate(is())).mta_sts(|policy| policy.enforce())
        }
        Situation::PolicyWithMark => domain.plain().mta_sts(|policy| {
            let text = format!("\u{feff}version: STSv1\nmode: enforce\nmx: {HOST}\nmax_age: 86400\n");
            policy.raw(text)
        }),
        Situation::Healthy
        | Situation::TlsaForgedBeyondServFail
        | Situation::WrongAnchors
        | Situation::PublicCertificateRolled
        | Situation::InterceptedByTrusted
        | Situation::GreetsLate
        | Situation::RepliesLate
        | Situation::ResolverSlow
        | Situation::TypeFilter
        | Situation::EdnsFilter
        | Situation::EdnsFilterOverUdp
        | Situation::TlsaForged
        | Situation::ResolverStrips
        | Situation::ResolverNotValidating
        | Situation::ResolverFails
        | Situation::ZoneBogus
        | Situation::ZoneExpired
        | Situation::RecipientServFail
        | Situation::ResolverWithoutKeys
        | Situation::RecipientDropsTlsa
        | Situation::TypeFilterBeyondServFail
        | Situation::NameServersDead
        | Situation::GatewayForEveryone
        | Situation::HandshakesCut
        | Situation::AddressListed
        | Situation::CertificateRolled
        | Situation::StartTlsStripped
        | Situation::BannerMasked
        | Situation::TlsIntercepted
        | Situation::ProxyForEveryone
        | Situation::Port25Refused
        | Situation::Port25Silent
        | Situation::WrongClock => domain,
    }
}

/// The zone that `relay canary zonefile` prints, whole; it takes no mail.
#[must_use]
pub fn canary_zone(domain: DomainSpec) -> DomainSpec {
    let Ok(zone) = domain.name.parse() else { return domain };
    let tlsa = canary::COUNTS.into_iter().flat_map(|count| {
        let record = |(matching, data)| TlsaRecord { usage: 3, selector: 1, matching, data };
        canary::tlsa_data(count).into_iter().map(move |data| (count, certificate::rdata(&record(data))))
    });
    let domain =
        tlsa.fold(domain.null_mx(), |domain, (count, record)| domain.record(&canary::tlsa_owner(&zone, count), record));
    let domain = domain.record(&canary::large_owner(&zone), RData::TXT(TXT::new(canary::large_strings())));
    (1_u8..)
        .take(canary::ADDRESSES)
        .fold(domain, |domain, last| domain.record(&canary::addresses_owner(&zone), RData::A(A::new(192, 0, 2, last))))
}
