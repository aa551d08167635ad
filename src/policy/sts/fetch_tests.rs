//! What a policy host may and may not do (RFC 8461 §3.2, §3.3), over real sockets and real TLS.

use super::failure::FetchFailure;
use super::testing::{HttpReply, POLICY, StsWorld, domain, failed, found, ok, reply};
use crate::policy::testing::{Made, NOW, leaf_params, root, self_signed};
use crate::resolve::answer::{Answer, Data, RecordType};
use crate::smtp::address::Domain;
use rcgen::{CertificateParams, DnType};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

async fn refresh(world: &StsWorld) -> Result<String, FetchFailure> {
    world.client().refresh(&domain("a.test")).await.map(|policy| policy.text.clone())
}

fn when(seconds: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(NOW.unix_seconds() + seconds).unwrap()
}

/// What the policy host's certificate leads to; `identity` makes it from the trusted authority.
async fn certificate(identity: impl FnOnce(&Made) -> Made) -> Result<String, FetchFailure> {
    let ca = root("public authority");
    let identity = identity(&ca);
    refresh(&StsWorld::with(&ca, &identity).await).await
}

fn common_name_only(params: &mut CertificateParams) {
    params.subject_alt_names.clear();
    params.distinguished_name.push(DnType::CommonName, "mta-sts.a.test");
}

#[tokio::test]
async fn rfc8461_3_3_a_trusted_certificate_for_the_policy_host_is_good() {
    for names in [&["mta-sts.a.test"][..], &["*.a.test"], &["other.test", "MTA-STS.a.test"]] {
        assert_eq!(certificate(|ca| ca.leaf(names)).await, Ok(POLICY.to_owned()), "{names:?}");
    }
}

#[tokio::test]
async fn rfc8461_3_3_any_other_certificate_is_not() {
    let name = || leaf_params(&["mta-sts.a.test"]);
    let came = [
        ("self-signed", certificate(|_| self_signed(name())).await),
        ("of a stranger", certificate(|_| root("stranger").leaf(&["mta-sts.a.test"])).await),
        ("expired", certificate(|ca| ca.issue(name(), |p| p.not_after = when(-1))).await),
        ("not valid yet", certificate(|ca| ca.issue(name(), |p| p.not_before = when(60))).await),
        ("of another host", certificate(|ca| ca.leaf(&["www.a.test"])).await),
        ("of the domain", certificate(|ca| ca.leaf(&["a.test"])).await),
        ("with a wildcard too high", certificate(|ca| ca.leaf(&["*.test"])).await),
        ("with a part of a wildcard", certificate(|ca| ca.leaf(&["mta-*.a.test"])).await),
        ("with the name as common name", certificate(|ca| ca.issue(leaf_params(&[]), common_name_only)).await),
    ];
    for (which, result) in came {
        let Err(failure @ FetchFailure::Certificate { .. }) = result else { panic!("{which}: {result:?}") };
        assert_eq!(failure.result_type(), "sts-webpki-invalid", "{which}");
    }
}

#[tokio::test]
async fn rfc8461_3_3_the_request_is_a_get_of_the_well_known_path_with_sni() {
    let world = StsWorld::new().await;
    refresh(&world).await.unwrap();
    let (name, head) = world.host.requests().remove(0);
    assert_eq!(name.as_deref(), Some("mta-sts.a.test"));
    assert!(head.starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\n"), "{head}");
    let host = format!("\r\nhost: mta-sts.a.test:{}\r\n", world.host.port);
    assert!(head.to_ascii_lowercase().contains(&host) && head.contains("\r\nuser-agent: relay\r\n"), "{head}");
}

#[tokio::test]
async fn rfc8461_3_3_only_status_200_counts_and_redirects_are_not_followed() {
    let world = StsWorld::new().await;
    let to = format!("Content-Type: text/plain\r\nLocation: https://mta-sts.a.test:{}/good\r\n", world.host.port);
    for (line, status) in [
        ("301 Moved Permanently", 301),
        ("302 Found", 302),
        ("307 Temporary Redirect", 307),
        ("308 Permanent Redirect", 308),
        ("201 Created", 201),
        ("203 Non-Authoritative Information", 203),
        ("404 Not Found", 404),
        ("500 Internal Server Error", 500),
        ("503 Service Unavailable", 503),
    ] {
        world.host.say(reply(line, &to, POLICY));
        let before = world.host.gets();
        assert_eq!(refresh(&world).await, Err(FetchFailure::Status { status }));
        assert_eq!(world.host.gets(), before + 1, "{line} was followed");
    }
    world.host.say(HttpReply::Octets(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()));
    assert_eq!(refresh(&world).await, Err(FetchFailure::Status { status: 204 }));
}

#[tokio::test]
async fn rfc8461_3_2_the_media_type_is_text_plain() {
    let world = StsWorld::new().await;
    for field in ["text/plain", "Text/Plain; charset=utf-8", "text/plain;charset=us-ascii", "text/plain ; x=y"] {
        world.host.say(reply("200 OK", &format!("Content-Type: {field}\r\n"), POLICY));
        assert_eq!(refresh(&world).await, Ok(POLICY.to_owned()), "{field}");
    }
    for field in ["text/html", "application/octet-stream", "text/plainer", "text", ""] {
        world.host.say(reply("200 OK", &format!("Content-Type: {field}\r\n"), POLICY));
        assert_eq!(refresh(&world).await, Err(FetchFailure::MediaType { media_type: field.to_owned() }));
    }
    world.host.say(reply("200 OK", "", POLICY));
    assert_eq!(refresh(&world).await, Err(FetchFailure::MediaType { media_type: "of no type".to_owned() }));
}

#[tokio::test]
async fn rfc8461_3_2_a_policy_has_64_kilobytes_at_most() {
    let world = StsWorld::new().await;
    let fill = |length: usize| format!("{POLICY}a: {}\n", "x".repeat(length - POLICY.len() - 4));
    world.host.say(ok(&fill(65_536)));
    assert_eq!(refresh(&world).await.map(|text| text.len()), Ok(65_536));
    world.host.say(ok(&fill(65_537)));
    assert_eq!(refresh(&world).await, Err(FetchFailure::TooLarge));
    world.host.say(HttpReply::Endless);
    assert_eq!(refresh(&world).await, Err(FetchFailure::TooLarge));
}

#[tokio::test]
async fn rfc8461_3_3_a_slow_policy_host_is_given_up_at_the_deadline() {
    let mut world = StsWorld::new().await;
    world.config.mta_sts.fetch_timeout = Duration::from_millis(200);
    for slow in [HttpReply::Silence, HttpReply::Drip] {
        world.host.say(slow);
        let failure = refresh(&world).await.unwrap_err();
        assert_eq!((&failure, failure.result_type()), (&FetchFailure::TimedOut, "sts-policy-fetch-error"));
    }
}

#[tokio::test]
async fn rfc8461_3_3_what_is_no_http_or_breaks_off_is_no_policy() {
    let world = StsWorld::new().await;
    let short = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\n";
    let header = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(300_000));
    for octets in ["", "220 smtp.a.test ESMTP\r\n", "HTTP/1.1 200 OK\r\n", &format!("{short}{POLICY}"), &header] {
        world.host.say(HttpReply::Octets(octets.as_bytes().to_vec()));
        let came = refresh(&world).await;
        assert!(matches!(came, Err(FetchFailure::Http { .. })), "{came:?}");
    }
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    world.host.say(HttpReply::Octets(format!("{chunked}{:x}\r\n{POLICY}\r\n0\r\n\r\n", POLICY.len()).into_bytes()));
    assert_eq!(refresh(&world).await, Ok(POLICY.to_owned()));
}

#[tokio::test]
async fn rfc8461_3_2_a_page_that_is_no_policy_is_policy_invalid() {
    let world = StsWorld::new().await;
    world.host.say(ok("<html>It works!</html>\n"));
    let failure = refresh(&world).await.unwrap_err();
    assert_eq!(failure.result_type(), "sts-policy-invalid");
    assert_eq!(failure.to_string(), "the policy is not valid: line 1 is not of the form key: value");
}

#[tokio::test]
async fn rfc8461_3_3_nothing_is_cached_as_http_would() {
    let world = StsWorld::new().await;
    world.host.say(reply(
        "200 OK",
        "Content-Type: text/plain\r\nCache-Control: max-age=600\r\nETag: \"1\"\r\n",
        POLICY,
    ));
    let client = world.client();
    for _twice in 0..2 {
        client.refresh(&domain("a.test")).await.unwrap();
    }
    assert_eq!(world.host.gets(), 2);
    assert!(!world.host.requests()[1].1.to_ascii_lowercase().contains("if-"));
}

#[tokio::test]
async fn a_policy_host_on_this_machine_is_not_connected_to() {
    let mut world = StsWorld::new().await;
    world.config.delivery.allow_loopback = false;
    for text in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"] {
        let address: IpAddr = text.parse().unwrap();
        for record_type in [RecordType::A, RecordType::Aaaa] {
            world.zone.set("mta-sts.a.test", record_type, found(vec![Data::Address(address)]));
        }
        assert_eq!(refresh(&world).await, Err(FetchFailure::Loopback { address }));
    }
    assert_eq!(world.host.gets(), 0);
}

#[tokio::test]
async fn rfc4035_5_a_family_that_is_bogus_or_missing_costs_that_family_alone() {
    let world = StsWorld::new().await;
    let set = |record_type, answer| world.zone.set("mta-sts.a.test", record_type, answer);
    for bogus in [None, Some("no signature")] {
        set(RecordType::Aaaa, failed("mta-sts.a.test", bogus));
        assert_eq!(refresh(&world).await, Ok(POLICY.to_owned()), "one family is enough");
    }
    for bogus in [None, Some("no signature")] {
        set(RecordType::A, failed("mta-sts.a.test", bogus));
        assert!(matches!(refresh(&world).await, Err(FetchFailure::Dns(_))));
        set(RecordType::Aaaa, Answer::NoData(crate::resolve::Security::Secure));
        assert!(matches!(refresh(&world).await, Err(FetchFailure::Dns(_))), "what is not known is not absent");
    }
    for record_type in [RecordType::A, RecordType::Aaaa] {
        set(record_type, Answer::NoData(crate::resolve::Security::Secure));
    }
    assert_eq!(refresh(&world).await, Err(FetchFailure::NoAddress { host: "mta-sts.a.test".to_owned() }));
}

#[tokio::test]
async fn rfc8461_3_3_the_next_address_is_tried_and_four_at_most() {
    let world = StsWorld::new().await;
    let addresses = |dead: u8| (0..=dead).map(move |n| [127, 0, 0, if n == dead { 1 } else { 9 - n }].into());
    let set =
        |dead| world.zone.set("mta-sts.a.test", RecordType::A, found(addresses(dead).map(Data::Address).collect()));
    set(3);
    assert_eq!(refresh(&world).await, Ok(POLICY.to_owned()));
    set(4);
    let came = refresh(&world).await;
    assert!(matches!(came, Err(FetchFailure::Connect { .. })), "{came:?}");
}

/// RFC 8461 §3.3 has HTTPS, and so whatever family the name has.
#[tokio::test]
async fn rfc8461_3_3_a_policy_comes_over_ipv6_and_over_ipv4_where_ipv6_leads_nowhere() {
    // Some containers have no IPv6 at all; the second half holds there, too.
    if let Ok(world) = StsWorld::at(Ipv6Addr::LOCALHOST.into()).await {
        assert_eq!(refresh(&world).await, Ok(POLICY.to_owned()));
        world.zone.address("mta-sts.a.test", [127, 0, 0, 9].into());
        assert_eq!(refresh(&world).await, Ok(POLICY.to_owned()));
        assert_eq!(world.host.gets(), 2);
    }
    let world = StsWorld::new().await;
    world.zone.address("mta-sts.a.test", Ipv6Addr::LOCALHOST.into());
    assert_eq!(refresh(&world).await, Ok(POLICY.to_owned()));
}

#[tokio::test]
async fn rfc8461_8_2_behind_an_alias_the_certificate_is_still_for_the_policy_host() {
    let at_provider = |data| match found(data) {
        Answer::Found(found) => {
            let expanded: Domain = domain("sts.provider.test");
            Answer::Found(crate::resolve::answer::PositiveAnswer { expanded: Some(expanded), ..found })
        }
        other @ (Answer::NoData(_) | Answer::NxDomain(_) | Answer::Failed(_)) => other,
    };
    for (names, good) in [(&["mta-sts.a.test"], true), (&["sts.provider.test"], false)] {
        let ca = root("public authority");
        let identity = ca.leaf(names);
        let world = StsWorld::with(&ca, &identity).await;
        let record = vec![Data::Txt(b"v=STSv1; id=7;".to_vec())];
        world.zone.set("_mta-sts.a.test", RecordType::Txt, at_provider(record));
        let address = vec![Data::Address([127, 0, 0, 1].into())];
        world.zone.set("mta-sts.a.test", RecordType::A, at_provider(address));
        let came = refresh(&world).await;
        assert_eq!(came.is_ok(), good, "{came:?}");
        assert!(world.host.requests().iter().all(|(name, _)| name.as_deref() == Some("mta-sts.a.test")));
    }
}
