//! The grid: every policy against every peer, one expected end a cell (RFC 7672 §2.2, RFC 7435,
//! RFC 8461 §5, RFC 8689 §4).
//!
//! One relay meets all of them at once in one lab, through real sockets, and `relay check` says
//! of every cell what delivery does in it.

use crate::relay::{SENDER, World, content, heard, lab, queue_id, saw_no_mail};
use End::{Authenticated, Clear, Deferred, Encrypted, Failed};
use dane_relay::check::{CheckReport, Checker, Verdict};
use dane_relay::clock::Clock;
use dane_relay::config::Config;
use dane_relay::envelope::QueueId;
use dane_relay::lab::mx::behaviour::reply;
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::{Certificate, DomainSpec, HostSpec, LabBuilder, StartTls, Tlsa};
use dane_relay::outcome::{Class, DeliveryOutcome};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use rustls::AlertDescription::HandshakeFailure;

/// What becomes of a message at the first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Delivered to a host that proved who it is.
    Authenticated,
    /// Delivered through TLS to whoever it was.
    Encrypted,
    /// Delivered in clear text.
    Clear,
    /// Kept for another attempt, for this cause.
    Deferred(&'static str),
    /// Given up, for this cause.
    Failed(&'static str),
}

/// Who has decided what the connection must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// Nobody.
    Nobody,
    /// TLSA records that can be compared with a certificate.
    Dane,
    /// TLSA records of usages that do not exist in SMTP.
    DaneUnusable,
    /// An MTA-STS policy in mode enforce.
    StsEnforce,
    /// An MTA-STS policy in mode testing.
    StsTesting,
    /// TLSA records of a signed host; the MX records that lead to it are not signed.
    DaneOfHost,
    /// As [`Policy::DaneOfHost`], and an enforced MTA-STS policy lists the host.
    StsAndDane,
    /// As [`Policy::DaneOfHost`], and an enforced MTA-STS policy lists another host.
    StsForged,
    /// As [`Policy::StsAndDane`], and the sender demands it by REQUIRETLS.
    RequireTlsBySts,
    /// The sender, who demands it by REQUIRETLS; DNS as [`Policy::Dane`].
    RequireTls,
    /// The sender, who waives it by `TLS-Required: No`; DNS as [`Policy::Dane`].
    TlsOptional,
}

/// The peers, in the order of the columns.
const PEERS: [&str; 8] = ["good", "no-starttls", "454", "wrong-name", "expired", "alert", "tls10", "cut"];

const NO_TLS: End = Deferred("starttls-not-supported");
const NO_SESSION: End = Deferred("tls-handshake-failed");
const WRONG: End = Deferred("certificate-host-mismatch");
const OLD: End = Deferred("certificate-expired");
const UNLISTED: End = Deferred("sts-mx-not-listed");
const UNMET: End = Failed("requiretls-unmet");

#[rustfmt::skip]
const GRID: [(Policy, [End; PEERS.len()]); 11] = [
    //                      good           no-starttls 454     wrong-name expired    alert       tls10       cut
    (Policy::Nobody,       [Encrypted,     Clear,      Clear,  Encrypted, Encrypted, Clear,      Clear,      Clear]),
    (Policy::Dane,         [Authenticated, NO_TLS,     NO_TLS, WRONG,     OLD,       NO_SESSION, NO_SESSION, NO_SESSION]),
    (Policy::DaneUnusable, [Encrypted,     NO_TLS,     NO_TLS, Encrypted, Encrypted, NO_SESSION, NO_SESSION, NO_SESSION]),
    (Policy::StsEnforce,   [Authenticated, NO_TLS,     NO_TLS, WRONG,     OLD,       NO_SESSION, NO_SESSION, NO_SESSION]),
    (Policy::StsTesting,   [Encrypted,     Clear,      Clear,  Encrypted, Encrypted, Clear,      Clear,      Clear]),
    (Policy::RequireTls,   [Authenticated, UNMET,      UNMET,  UNMET,     UNMET,     UNMET,      UNMET,      UNMET]),
    (Policy::TlsOptional,  [Encrypted,     Clear,      Clear,  Encrypted, Encrypted, Clear,      Clear,      Clear]),
    (Policy::DaneOfHost,   [Authenticated, NO_TLS,     NO_TLS, WRONG,     OLD,       NO_SESSION, NO_SESSION, NO_SESSION]),
    (Policy::StsAndDane,   [Authenticated, NO_TLS,     NO_TLS, WRONG,     OLD,       NO_SESSION, NO_SESSION, NO_SESSION]),
    (Policy::StsForged,    [UNLISTED; PEERS.len()]),
    (Policy::RequireTlsBySts, [Authenticated, UNMET,   UNMET,  UNMET,     UNMET,     UNMET,      UNMET,      UNMET]),
];

impl Policy {
    fn word(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Dane => "dane",
            Self::DaneUnusable => "dane-unusable",
            Self::StsEnforce => "sts-enforce",
            Self::StsTesting => "sts-testing",
            Self::DaneOfHost => "dane-of-host",
            Self::StsAndDane => "sts-and-dane",
            Self::StsForged => "sts-forged",
            Self::RequireTlsBySts => "requiretls-by-sts",
            Self::RequireTls => "requiretls",
            Self::TlsOptional => "tls-optional",
        }
    }

    /// What a check goes by, which knows of no message and so of no sender.
    fn of_the_recipient(self) -> Self {
        match self {
            Self::RequireTls | Self::TlsOptional => Self::Dane,
            Self::RequireTlsBySts => Self::StsAndDane,
            Self::Nobody
            | Self::Dane
            | Self::DaneUnusable
            | Self::StsEnforce
            | Self::StsTesting
            | Self::DaneOfHost
            | Self::StsAndDane
            | Self::StsForged => self,
        }
    }

    fn mail_parameter(self) -> &'static str {
        if self.requires_tls() { " REQUIRETLS" } else { "" }
    }

    fn requires_tls(self) -> bool {
        matches!(self, Self::RequireTls | Self::RequireTlsBySts)
    }

    /// The domain that the MX host is of, where it is another one.
    fn host_domain(self, domain: &str) -> Option<String> {
        let is_elsewhere =
            matches!(self, Self::DaneOfHost | Self::StsAndDane | Self::StsForged | Self::RequireTlsBySts);
        is_elsewhere.then(|| format!("host-{domain}"))
    }

    fn header_field(self) -> &'static str {
        if self == Self::TlsOptional { "TLS-Required: No\r\n" } else { "" }
    }

    /// The host in the policy of a domain whose host is another domain's.
    fn lists(self, mx: &str) -> Option<&str> {
        match self {
            Self::StsAndDane | Self::RequireTlsBySts => Some(mx),
            Self::StsForged => Some("mx.elsewhere.test"),
            Self::Nobody
            | Self::Dane
            | Self::DaneUnusable
            | Self::StsEnforce
            | Self::StsTesting
            | Self::RequireTls
            | Self::TlsOptional
            | Self::DaneOfHost => None,
        }
    }

    fn publish(self, domain: DomainSpec) -> DomainSpec {
        match self {
            Self::Nobody => domain.plain(),
            // The one kind of record that says as much about a certificate as the public PKI.
            Self::Dane
            | Self::RequireTls
            | Self::TlsOptional
            | Self::DaneOfHost
            | Self::StsAndDane
            | Self::StsForged
            | Self::RequireTlsBySts => domain.host(|h| h.tlsa([Tlsa::Fits(2, 0, 1)])),
            Self::StsEnforce => domain.plain().mta_sts(|p| p.enforce()),
            Self::StsTesting => domain.plain().mta_sts(|p| p.testing()),
            Self::DaneUnusable => domain.host(|h| h.tlsa([Tlsa::Fits(1, 1, 1)])),
        }
    }
}

fn peer(name: &str, host: HostSpec) -> HostSpec {
    let host = host.certificate(Certificate::Issued).keyword_in_tls("REQUIRETLS");
    match name {
        "good" => host,
        "no-starttls" => host.starttls(StartTls::NotOffered),
        "454" => host.starttls(StartTls::Refused(reply("454 4.7.0 not now").unwrap())),
        "wrong-name" => host.certificate(Certificate::IssuedFor("elsewhere.test".into())),
        "expired" => host.certificate(Certificate::IssuedExpired),
        "alert" => host.starttls(StartTls::Alert(HandshakeFailure)),
        "tls10" => host.starttls(StartTls::tls10_only()),
        "cut" => host.starttls(StartTls::DropAfter),
        other => panic!("there is no peer {other}"),
    }
}

/// A square of the grid.
struct Cell {
    policy: Policy,
    column: usize,
    domain: String,
    end: End,
    /// What a check has to say: the end of the same peer in the row that it goes by.
    foretold: End,
}

impl Cell {
    /// Whose host it is.
    fn host(&self) -> String {
        self.policy.host_domain(&self.domain).unwrap_or_else(|| self.domain.clone())
    }

    fn recipient(&self) -> String {
        format!("bob@{}", self.domain)
    }
}

/// The end in a row of the grid.
fn expected(policy: Policy, column: usize) -> End {
    GRID.iter().find(|(row, _)| *row == policy).unwrap().1[column]
}

fn cells() -> Vec<Cell> {
    let cell = |policy: Policy, (column, name)| Cell {
        policy,
        column,
        domain: format!("{name}.{}.test", policy.word()),
        end: expected(policy, column),
        foretold: expected(policy.of_the_recipient(), column),
    };
    GRID.iter().flat_map(|(policy, _)| PEERS.into_iter().enumerate().map(|peer| cell(*policy, peer))).collect()
}

fn described(cells: &[Cell]) -> LabBuilder {
    let with = |lab: LabBuilder, cell: &Cell| {
        let name = cell.domain.split('.').next().unwrap();
        let lab = lab.domain(&cell.host(), |d| cell.policy.publish(d).host(|h| peer(name, h)));
        let Some(host) = cell.policy.host_domain(&cell.domain) else { return lab };
        let mx = format!("mx.{host}");
        lab.domain(&cell.domain, |d| {
            let tenant = d.plain().hosted_by(10, &mx);
            match cell.policy.lists(&mx) {
                Some(listed) => tenant.mta_sts(|p| p.mx(&[listed])),
                None => tenant,
            }
        })
    };
    cells.iter().fold(lab(), with)
}

/// Hands one message for every cell in.
async fn hand_in(world: &World, cells: &[Cell]) -> Vec<QueueId> {
    let client = SmtpClient::ready(world.smtp()).await.unwrap();
    let mut client = client.starttls("relay.office.test").await.unwrap();
    let mut ids = Vec::new();
    for cell in cells {
        let to = cell.recipient();
        let mail = format!("MAIL FROM:<{SENDER}>{}", cell.policy.mail_parameter());
        let content = format!("{}{}", cell.policy.header_field(), content(&to));
        let handed = client.transact(&mail, &[format!("RCPT TO:<{to}>")], content.as_bytes()).await.unwrap();
        assert!(handed.accepted(), "the relay said: {}", handed.last());
        ids.push(queue_id(&handed.last().text()));
    }
    ids
}

/// How the first attempt ended.
async fn first_end(world: &World, id: QueueId, cell: &Cell) -> End {
    match world.news(id, &cell.recipient(), |known| !known.is_empty()).await.remove(0) {
        DeliveryOutcome::Delivered { tls, .. } => match tls.word() {
            "clear-text" => Clear,
            "unauthenticated" => Encrypted,
            _ => Authenticated,
        },
        DeliveryOutcome::Failed { cause } => match cause.class() {
            Class::Transient => Deferred(cause.row().word),
            Class::Permanent => Failed(cause.row().word),
        },
    }
}

/// What a check says a message would meet.
fn foretold(report: &CheckReport) -> End {
    match (report.verdict, &report.fault) {
        (Verdict::Fault, Some(fault)) => Deferred(fault.cause),
        (Verdict::Ok | Verdict::Warning, _) => {
            let tls = report.hosts.iter().flat_map(|host| &host.addresses).find_map(|address| address.tls.as_ref());
            match tls.map(|tls| tls.word()) {
                None | Some("clear-text") => Clear,
                Some("unauthenticated") => Encrypted,
                Some(_) => Authenticated,
            }
        }
        (Verdict::Fault | Verdict::Inconclusive, _) => panic!("{}", report.text()),
    }
}

/// The relay of the grid and a checker with its configuration.
async fn world(cells: &[Cell]) -> (World, Checker) {
    let mut shared: Option<Config> = None;
    let world = World::with(described(cells), |_lab, config| shared = Some(config.clone()));
    (world.await, Checker::new(shared.unwrap(), Clock::system()).unwrap())
}

#[tokio::test]
async fn every_policy_meets_every_peer_and_a_check_foretells_it() {
    let cells = cells();
    let (world, checker) = world(&cells).await;
    let ids = hand_in(&world, &cells).await;
    let ends = join_all(ids.into_iter().zip(&cells).map(|(id, cell)| first_end(&world, id, cell))).await;
    let domains = cells.iter().map(|cell| cell.domain.parse().unwrap()).collect::<Vec<_>>();
    // A few at a time: all of them share one thread with the DNS that they ask.
    let reports: Vec<CheckReport> =
        stream::iter(&domains).map(|domain| checker.check(domain)).buffered(8).collect().await;

    let mut wrong = Vec::new();
    for ((cell, end), report) in cells.iter().zip(ends).zip(&reports) {
        let foretold = foretold(report);
        if end != cell.end {
            wrong.push(format!("{}: {:?} expected, {end:?} seen", cell.domain, cell.end));
        }
        if foretold != cell.foretold {
            wrong.push(format!("{}: {:?} expected, {foretold:?} foretold", cell.domain, cell.foretold));
        }
    }
    // RFC 8461 §5: testing stops nothing, and shows what enforcing would stop.
    for (cell, report) in cells.iter().zip(&reports).filter(|(cell, _)| cell.policy == Policy::StsTesting) {
        let shown = report.fault.as_ref().map_or(Authenticated, |fault| Deferred(fault.cause));
        let enforced = expected(Policy::StsEnforce, cell.column);
        if shown != enforced {
            wrong.push(format!("{}: {enforced:?} if it were enforced, {shown:?} shown", cell.domain));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    for cell in &cells {
        let mx = world.mx(&cell.host());
        match cell.end {
            UNLISTED => assert_eq!(mx.connections(), 0),
            Deferred(_) | Failed(_) => saw_no_mail(mx),
            Authenticated | Encrypted => assert!(mx.messages().iter().all(|message| message.tls.is_some())),
            Clear => assert_eq!((heard(mx, "MAIL"), mx.messages()[0].tls.is_some()), (1, false)),
        }
        // RFC 8689 §4.2.1: the demand goes on with the message, and no other message has it.
        let demanded = mx.messages().iter().any(|message| message.mail_params.contains("REQUIRETLS"));
        assert_eq!(demanded, cell.policy.requires_tls() && cell.end == Authenticated, "{}", cell.domain);
    }
}
