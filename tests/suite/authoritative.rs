//! The walk from the root among name servers as the world has them: dead, lame, refusing, of another
//! century (RFC 1034 §5.3.3, RFC 6891 §7, RFC 8906, RFC 9520). Each of these works with any
//! resolver, and what is true the validation says.

use crate::relay::{config, lab};
use dane_relay::clock::Clock;
use dane_relay::lab::dns::authority::Authorities;
use dane_relay::lab::dns::manner::{Reproach, ServerManner};
use dane_relay::lab::dns::server::{DnsServer, PathFault};
use dane_relay::lab::{Lab, LabBuilder};
use dane_relay::outcome::Cause;
use dane_relay::resolve::Security;
use dane_relay::resolve::answer::{Answer, RecordType};
use dane_relay::resolve::driver::Dns;
use dane_relay::resolve::event::nobody;
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{Name, RData, RecordType as WireType};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tempfile::TempDir;

const SIGNED: &str = "signed.test";
const PLAIN: &str = "plain.test";

/// A lab with its authoritative servers, and somebody who knows no resolver.
struct Walked {
    lab: Lab,
    servers: Authorities,
    dns: Dns,
    _folder: TempDir,
}

async fn walked(lab: LabBuilder) -> Walked {
    let lab = lab.domain(SIGNED, |d| d).domain(PLAIN, |d| d.plain()).start().await.unwrap();
    let servers = lab.authorities().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&lab, folder.path());
    config.dns.upstreams = vec!["authoritative".parse().unwrap()];
    config.dns.root_hints = vec![servers.root()];
    let dns = Dns::new(&config, Clock::system(), nobody()).unwrap();
    Walked { lab, servers, dns, _folder: folder }
}

/// What was found: the number of records and what DNSSEC says, or why nothing was.
type Found = Result<(usize, Security), String>;

impl Walked {
    async fn ask(&self, name: &str, record_type: RecordType) -> Found {
        match self.dns.lookup(name, record_type).await.0 {
            Answer::Found(found) => Ok((found.data.len(), found.security)),
            Answer::NoData(security) | Answer::NxDomain(security) => Ok((0, security)),
            Answer::Failed(Cause::DnsUnavailable { tried, .. }) => Err(tried[0].detail.clone()),
            Answer::Failed(cause) => Err(cause.row().word.to_owned()),
        }
    }

    /// The address of a domain's host.
    async fn host_of(&self, domain: &str) -> Found {
        self.ask(&format!("mx.{domain}"), RecordType::A).await
    }

    /// What there is, what there is not, and what does not exist.
    async fn all_of(&self, domain: &str, security: Security) {
        assert_eq!(self.host_of(domain).await, Ok((1, security)), "{domain}");
        assert_eq!(self.ask(&format!("mx.{domain}"), RecordType::Aaaa).await, Ok((0, security)), "{domain}");
        assert_eq!(self.ask(&format!("nowhere.{domain}"), RecordType::Mx).await, Ok((0, security)), "{domain}");
    }

    fn server(&self, zone: &str) -> &DnsServer {
        self.servers.server(zone).unwrap()
    }

    fn kill(&self, zone: &str) {
        self.server(zone).set_path([PathFault::DropAll]);
    }

    /// More servers of a zone, with names in it.
    async fn more(&mut self, zone: &str, count: usize) -> Vec<Arc<DnsServer>> {
        let mut servers = Vec::new();
        for nth in 2..2 + count {
            servers.push(self.servers.add(zone, &format!("ns{nth}.{zone}")).await.unwrap());
        }
        servers
    }

    fn questions(&self) -> usize {
        self.servers.servers().map(|(_, server)| asked(server)).sum()
    }
}

fn asked(server: &DnsServer) -> usize {
    server.questions().iter().map(|(_, _, times)| times).sum()
}

#[tokio::test]
async fn where_everything_works_a_look_up_costs_no_question_more_than_it_must() {
    let world = walked(lab()).await;
    assert_eq!(world.host_of(SIGNED).await, Ok((1, Security::Secure)));
    // Three to walk down, and DNSKEY and DS of the chain: two for the root, two for each zone but one.
    assert_eq!(world.questions(), 3 + 5, "{:?}", world.server(SIGNED).questions());
    assert_eq!(world.ask(SIGNED, RecordType::Mx).await, Ok((1, Security::Secure)));
    assert_eq!(world.questions(), 9);
}

#[tokio::test]
async fn rfc1034_4_3_1_answers_without_aa_are_answers() {
    let world = walked(lab()).await;
    for zone in [".", "test", SIGNED, PLAIN] {
        world.server(zone).set_manner(ServerManner::WithoutAa);
    }
    world.all_of(SIGNED, Security::Secure).await;
    world.all_of(PLAIN, Security::Insecure).await;
}

#[tokio::test]
async fn rfc6891_6_2_2_who_does_not_know_edns_is_asked_without_it() {
    for reproach in Reproach::ALL {
        let world = walked(lab()).await;
        world.server(PLAIN).set_manner(ServerManner::KnowsNoEdns(reproach));
        assert_eq!(world.host_of(PLAIN).await, Ok((1, Security::Insecure)), "{reproach:?}");
        let before = asked(world.server(PLAIN));
        assert_eq!(world.ask(PLAIN, RecordType::Mx).await, Ok((1, Security::Insecure)), "{reproach:?}");
        assert_eq!(asked(world.server(PLAIN)), before + 1, "{reproach:?}: the next time at once");
    }
}

#[tokio::test]
async fn rfc6891_6_2_2_a_signed_zone_whose_server_does_not_know_edns_cannot_be_validated() {
    for reproach in Reproach::ALL {
        let mut world = walked(lab()).await;
        world.server(SIGNED).set_manner(ServerManner::KnowsNoEdns(reproach));
        let why = world.host_of(SIGNED).await.unwrap_err();
        let said = if reproach == Reproach::Silence { "no answer from the servers" } else { "does not know EDNS" };
        assert!(why.contains(said), "{reproach:?}: {why}");
        let _another = world.more(SIGNED, 1).await;
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&world.lab, folder.path());
        config.dns.upstreams = vec!["authoritative".parse().unwrap()];
        config.dns.root_hints = vec![world.servers.root()];
        world.dns = Dns::new(&config, Clock::system(), nobody()).unwrap();
        assert_eq!(world.host_of(SIGNED).await, Ok((1, Security::Secure)), "{reproach:?}: another server does");
    }
}

#[tokio::test]
async fn rfc6891_7_who_ignores_edns_serves_an_unsigned_zone_and_of_a_signed_one_the_others_are_asked() {
    let mut world = walked(lab()).await;
    world.server(PLAIN).set_manner(ServerManner::IgnoresEdns);
    world.server(SIGNED).set_manner(ServerManner::IgnoresEdns);
    let _another = world.more(SIGNED, 1).await;
    world.all_of(PLAIN, Security::Insecure).await;
    world.all_of(SIGNED, Security::Secure).await;
}

#[tokio::test]
async fn rfc9520_3_2_five_dead_servers_cost_the_first_look_up_some_time_and_the_next_one_nothing() {
    let mut world = walked(lab()).await;
    let more = world.more(SIGNED, 5).await;
    world.kill(SIGNED);
    more[..4].iter().for_each(|server| server.set_path([PathFault::DropAll]));
    assert_eq!(world.host_of(SIGNED).await, Ok((1, Security::Secure)));
    let of_the_dead = || asked(world.server(SIGNED)) + more[..4].iter().map(|server| asked(server)).sum::<usize>();
    let before = of_the_dead();
    assert!(before >= 5, "all were asked");
    assert_eq!(world.ask(SIGNED, RecordType::Mx).await, Ok((1, Security::Secure)));
    assert_eq!(world.ask("nowhere.signed.test", RecordType::Mx).await, Ok((0, Security::Secure)));
    assert_eq!(of_the_dead(), before);
}

#[tokio::test]
async fn rfc9520_3_2_where_all_are_dead_they_are_asked_and_found_alive_again() {
    let mut world = walked(lab()).await;
    let more = world.more(PLAIN, 5).await;
    world.kill(PLAIN);
    more.iter().for_each(|server| server.set_path([PathFault::DropAll]));
    let why = world.host_of(PLAIN).await.unwrap_err();
    assert!(why.contains("plain.test."), "{why}");
    world.server(PLAIN).set_path([]);
    more.iter().for_each(|server| server.set_path([]));
    assert_eq!(world.host_of(PLAIN).await, Ok((1, Security::Insecure)));
}

#[tokio::test]
async fn rfc1034_5_3_3_a_server_without_glue_is_looked_up_when_the_one_with_glue_is_dead() {
    let mut world = walked(lab().domain("other.test", |d| d)).await;
    let other = world.servers.add(SIGNED, "ns.other.test").await.unwrap();
    assert_eq!(world.host_of(SIGNED).await, Ok((1, Security::Secure)));
    assert_eq!(world.server("other.test").questions(), [], "as long as it answers nobody else is looked up");
    world.kill(SIGNED);
    assert_eq!(world.ask(SIGNED, RecordType::Mx).await, Ok((1, Security::Secure)));
    assert!(asked(&other) > 0);
    let before = asked(world.server("other.test"));
    assert_eq!(world.ask("nowhere.signed.test", RecordType::Mx).await, Ok((0, Security::Secure)));
    assert_eq!(asked(world.server("other.test")), before, "its address is kept with the zone");
}

#[tokio::test]
async fn rfc2308_2_2_a_denial_with_ns_and_without_soa_is_one_and_being_sent_back_is_none() {
    let world = walked(lab()).await;
    world.server(PLAIN).set_manner(ServerManner::DeniesWithServers);
    world.server(SIGNED).set_manner(ServerManner::DeniesWithServers);
    world.all_of(PLAIN, Security::Insecure).await;
    world.all_of(SIGNED, Security::Secure).await;
    for manner in [ServerManner::SendsBack, ServerManner::SendsUp, ServerManner::Refuses] {
        world.server(PLAIN).set_manner(manner);
        let why = world.ask("elsewhere.plain.test", RecordType::Mx).await.unwrap_err();
        assert!(why.contains("does not serve plain.test.") || why.contains("REFUSED"), "{manner:?}: {why}");
    }
}

#[tokio::test]
async fn rfc4035_3_1_4_a_question_for_ds_may_be_answered_by_the_referral() {
    let world = walked(lab()).await;
    for zone in [".", "test"] {
        world.server(zone).set_manner(ServerManner::RefersForDs);
    }
    world.all_of(SIGNED, Security::Secure).await;
    world.all_of(PLAIN, Security::Insecure).await;
}

#[tokio::test]
async fn rfc8906_lame_and_refusing_servers_are_passed_over() {
    for zone in [SIGNED, PLAIN] {
        let mut world = walked(lab()).await;
        let more = world.more(zone, 3).await;
        world.server(zone).set_manner(ServerManner::Refuses);
        more[0].set_manner(ServerManner::SendsUp);
        more[1].set_manner(ServerManner::SendsBack);
        world.all_of(zone, if zone == SIGNED { Security::Secure } else { Security::Insecure }).await;
        let refused = asked(world.server(zone));
        assert!(world.ask(zone, RecordType::Mx).await.is_ok());
        assert_eq!(asked(world.server(zone)), refused, "and not asked again");
    }
}

#[tokio::test]
async fn rfc7766_servers_over_tcp_alone_are_found() {
    let world = walked(lab()).await;
    for zone in ["test", SIGNED, PLAIN] {
        world.server(zone).set_manner(ServerManner::TcpAlone);
    }
    for (zone, security) in [(SIGNED, Security::Secure), (PLAIN, Security::Insecure)] {
        world.all_of(zone, security).await;
        let before = asked(world.server(zone));
        assert_eq!(world.ask(zone, RecordType::Mx).await, Ok((1, security)));
        assert_eq!(asked(world.server(zone)), before + 1, "the next time at once");
    }
}

#[tokio::test]
async fn rfc6724_6_addresses_without_a_way_to_them_cost_nothing() {
    let world = walked(lab()).await;
    let nowhere = [
        ("ns2.plain.test", RData::AAAA(AAAA("fe80::53".parse().unwrap()))),
        ("ns3.plain.test", RData::A(A(Ipv4Addr::BROADCAST))),
        ("ns4.plain.test", RData::AAAA(AAAA("fe80::54".parse().unwrap()))),
    ];
    for (name, address) in nowhere {
        world.lab.world().add(name, address).unwrap();
        world.lab.world().serve_also(PLAIN, name).unwrap();
    }
    world.all_of(PLAIN, Security::Insecure).await;
}

#[tokio::test]
async fn rfc1034_5_3_3_a_zone_that_has_moved_is_found_when_its_old_servers_are_gone() {
    let mut world = walked(lab()).await;
    assert_eq!(world.host_of(PLAIN).await, Ok((1, Security::Insecure)));
    let new = world.servers.add(PLAIN, "ns9.plain.test").await.unwrap();
    let name = |text: &str| Name::from_ascii(text).unwrap();
    let std::net::IpAddr::V4(address) = new.address().ip() else { panic!() };
    world.lab.world().serve(&name("plain.test."), &name("ns9.plain.test."), address).unwrap();
    world.kill(PLAIN);
    assert_eq!(world.ask(PLAIN, RecordType::Mx).await, Ok((1, Security::Insecure)));
}

#[tokio::test]
async fn rfc4035_5_what_is_bogus_from_one_server_may_be_sound_from_another() {
    let mut world = walked(lab()).await;
    let more = world.more(SIGNED, 1).await;
    world.server(SIGNED).set_path([PathFault::StripDnssec]);
    world.all_of(SIGNED, Security::Secure).await;
    more[0].set_path([PathFault::StripDnssec]);
    let why = world.ask("elsewhere.signed.test", RecordType::Mx).await;
    assert_eq!(why, Err("dnssec-invalid".to_owned()), "from nobody");
}

/// Whoever names sixteen servers in a zone of somebody else has them asked for only so often.
#[tokio::test]
async fn a_hostile_referral_to_many_names_does_not_multiply_our_questions() {
    let world = walked(lab().domain("hostile.test", |d| d.plain()).domain("victim.test", |d| d)).await;
    for nth in 0..14 {
        world.lab.world().serve_also("hostile.test", &format!("n{nth}.victim.test")).unwrap();
    }
    world.kill("hostile.test");
    assert!(world.host_of("hostile.test").await.is_err());
    let at_the_victim = world.server("victim.test").questions();
    assert!(!at_the_victim.is_empty() && asked(world.server("victim.test")) <= 8, "{at_the_victim:?}");
    assert_eq!(at_the_victim.iter().filter(|(_, rtype, _)| *rtype == WireType::DNSKEY).count(), 0);
}
