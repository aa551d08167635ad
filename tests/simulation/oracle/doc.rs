//! Writes the oracle down for people: `deploy/tls-decisions.md` is what this makes of it.

use super::facts::{Asks, Certificate, Host, Level, Listed, Rule, Settings, Signed, StartTls, Tlsa};
use super::table::{Demand, How, Known, Policy, Stop, Vouching, Why, demand, meet};
use std::fmt::Write as _;

const HEAD: &str = "\
# What decides about TLS, cell by cell

Made by the oracle of the tests (`tests/simulation/oracle/table.rs`), which is written from RFC 7672 (DANE), RFC 8461
(MTA-STS) and RFC 8689 (REQUIRETLS) apart from the relay's own code. The tests send mail through the whole relay in
thousands of random combinations of all this and find no cell that differs; `relay check` foretells each.
`TLS_MATRIX_WRITE=1 cargo test --test simulation oracle::doc` writes this file again.

\"Waits\" means that the mail stays in the queue and is tried again, \"returns\" that the sender has it back with
5.7.30. Each MX host is judged by itself, and the first by preference that may have the mail gets it.
";

/// A row of table 1: what DNS says.
const DNS: [(&str, Signed, Signed, Tlsa); 8] = [
    ("signed MX, usable TLSA", Signed::Yes, Signed::Yes, Tlsa::Ee),
    ("signed MX, no usable TLSA record", Signed::Yes, Signed::Yes, Tlsa::Unusable),
    ("signed MX, no TLSA", Signed::Yes, Signed::Yes, Tlsa::None),
    ("unsigned MX, usable TLSA", Signed::No, Signed::Yes, Tlsa::Ee),
    ("unsigned MX, no usable TLSA record", Signed::No, Signed::Yes, Tlsa::Unusable),
    ("unsigned MX, no TLSA", Signed::No, Signed::Yes, Tlsa::None),
    ("TLSA could not be found out", Signed::No, Signed::Yes, Tlsa::Lost),
    ("MX or addresses could not be found out", Signed::Lost, Signed::Yes, Tlsa::None),
];

/// Its columns: what the policy says.
const POLICIES: [(&str, Policy, Listed); 6] = [
    ("none", Policy::None, Listed::No),
    ("announced, never had", Policy::Unfetched, Listed::No),
    ("testing, host listed", Policy::Testing, Listed::ByName),
    ("enforced, host listed", Policy::Enforce, Listed::ByName),
    ("enforced, not listed", Policy::Enforce, Listed::No),
    ("could not be found out", Policy::Lost, Listed::No),
];

const LEVELS: [(&str, Rule); 8] = [
    ("(none)", Rule { level: None, report_only: false }),
    ("encrypt", Rule { level: Some(Level::Encrypt), report_only: false }),
    ("dane-only", Rule { level: Some(Level::DaneOnly), report_only: false }),
    ("mta-sts", Rule { level: Some(Level::MtaSts), report_only: false }),
    ("dane", Rule { level: Some(Level::Dane), report_only: false }),
    ("opportunistic", Rule { level: Some(Level::Opportunistic), report_only: false }),
    ("off", Rule { level: Some(Level::Off), report_only: false }),
    ("report_only", Rule { level: None, report_only: true }),
];

const DEMANDS: [(&str, Demand); 6] = [
    ("nothing", Demand { tls: false, dane: false, webpki: false, requiretls: false }),
    ("TLS", Demand { tls: true, dane: false, webpki: false, requiretls: false }),
    ("TLSA", Demand { tls: true, dane: true, webpki: false, requiretls: false }),
    ("PKIX", Demand { tls: true, dane: false, webpki: true, requiretls: false }),
    ("PKIX + TLSA", Demand { tls: true, dane: true, webpki: true, requiretls: false }),
    ("PKIX + REQUIRETLS", Demand { tls: true, dane: false, webpki: true, requiretls: true }),
];

fn cell_of(demanded: &Result<Demand, Stop>) -> String {
    match demanded {
        Ok(demanded) => {
            let parts = [(demanded.webpki, "PKIX"), (demanded.dane, "TLSA"), (demanded.requiretls, "REQUIRETLS")];
            let parts: Vec<&str> = parts.into_iter().filter_map(|(is, word)| is.then_some(word)).collect();
            match (parts.is_empty(), demanded.tls) {
                (false, _) => parts.join(" + "),
                (true, true) => "TLS".to_owned(),
                (true, false) => "nothing".to_owned(),
            }
        }
        Err(Stop::Waits(whys)) => {
            format!("waits ({})", whys.iter().map(|why| reason(*why)).collect::<Vec<_>>().join(", "))
        }
        Err(Stop::Returns) => "returns".to_owned(),
        Err(Stop::Either(_)) => "returns or waits".to_owned(),
    }
}

const fn reason(why: Why) -> &'static str {
    match why {
        Why::NotFoundOut => "not found out",
        Why::NoTls => "no TLS",
        Why::Handshake => "handshake",
        Why::Certificate => "certificate",
        Why::NotListed => "not listed",
        Why::NoDane => "no DANE",
        Why::NoSts => "no policy",
        Why::RequireTls => "REQUIRETLS",
    }
}

/// One table of what is demanded: the rows are those of the DNS, the columns those of the policy.
fn demands(text: &mut String, settings: &Settings, rule: Rule, asks: Asks) {
    let head = POLICIES.map(|(name, ..)| format!(" policy {name} |")).concat();
    let _ = writeln!(text, "| DNS |{head}\n|---|{}", "---|".repeat(POLICIES.len()));
    for (name, mx, addresses, tlsa) in DNS {
        let _ = write!(text, "| {name} |");
        for (_, policy, listed) in POLICIES {
            let host = Host { addresses, tlsa, listed, ..Host::PLAIN };
            let known = Known { mx, policy, names_hosts: true, rule };
            let _ = write!(text, " {} |", cell_of(&demand(settings, &known, &host, asks)));
        }
        text.push('\n');
    }
}

fn ends(text: &mut String, settings: &Settings) {
    let peers = [
        ("good for the name, TLSA fits", StartTls::Offered, Certificate::Public, Tlsa::Ee),
        ("good for the name, TLSA does not fit", StartTls::Offered, Certificate::Public, Tlsa::EeWrong),
        ("another name or expired, TLSA fits (usage 3)", StartTls::Offered, Certificate::PublicExpired, Tlsa::Ee),
        (
            "another name or expired, TLSA of the issuer (usage 2)",
            StartTls::Offered,
            Certificate::PublicExpired,
            Tlsa::Ta,
        ),
        (
            "name of the domain alone, TLSA of the issuer (usage 2)",
            StartTls::Offered,
            Certificate::PublicForDomain,
            Tlsa::Ta,
        ),
        ("self-signed, no TLSA fits", StartTls::Offered, Certificate::SelfSigned, Tlsa::EeWrong),
        ("STARTTLS not offered, or refused with 454", StartTls::NotOffered, Certificate::Public, Tlsa::Ee),
        ("handshake fails, or TLS 1.0 alone", StartTls::Tls10, Certificate::Public, Tlsa::Ee),
    ];
    let head = DEMANDS.map(|(name, _)| format!(" {name} |")).concat();
    let _ = writeln!(text, "| certificate and TLS of the host |{head}\n|---|{}", "---|".repeat(DEMANDS.len()));
    for (name, starttls, certificate, tlsa) in peers {
        let _ = write!(text, "| {name} |");
        for (_, demanded) in DEMANDS {
            let host = Host { starttls, certificate, tlsa, addresses: Signed::Yes, ..Host::PLAIN };
            let of = Vouching { mx: Signed::Yes, is_first_domain: true };
            let met = meet(settings, &demanded, &host, &of);
            let _ = write!(text, " {} |", met.map_or_else(|_| "stops", how));
        }
        text.push('\n');
    }
}

const fn how(how: How) -> &'static str {
    match how {
        How::Clear => "clear text",
        How::Unauthenticated => "TLS",
        How::Dane | How::DaneOfHost => "TLSA",
        How::WebPki => "PKIX",
        How::WebPkiAndDaneOfHost => "PKIX + TLSA",
    }
}

/// The whole document.
fn document() -> String {
    let (usual, none) = (Settings::DEFAULT, Rule::default());
    let mut text = HEAD.to_owned();
    text.push_str(
        "\n## 1. What is demanded of a host\n\n\
         \"Nothing\" is TLS where it is offered and clear text where not; \"TLS\" is any certificate; \"TLSA\" one that a\n\
         TLSA record vouches for; \"PKIX\" one of a public authority for the host's name. A policy that could not be found\n\
         out is one that was kept and cannot be read, or one whose record cannot be looked up on first contact in a\n\
         signed zone (in an unsigned one it counts as none, RFC 8461 §3.3). Where addresses are not signed there is no TLSA.\n\n",
    );
    demands(&mut text, &usual, none, Asks::Nothing);
    text.push_str("\nWith `dane_behind_insecure_mx = false`:\n\n");
    demands(&mut text, &Settings { dane_behind_insecure_mx: false, ..usual }, none, Asks::Nothing);
    text.push_str("\n## 2. What becomes of it\n\nThe demand of the column meets the host of the row, behind signed MX records. \"Stops\": the next host, or the mail\nwaits (with REQUIRETLS it returns).\n\n");
    ends(&mut text, &usual);
    text.push_str("\nWith `clear_text_fallback = false` a handshake that fails stops the mail there, too, where nothing is demanded.\n");
    text.push_str(
        "\n## 3. REQUIRETLS\n\nNo exception of a `[[destination]]` reaches it; the levels that demand more do, and mail\nthat nothing but such a level stops waits.\n\n",
    );
    demands(&mut text, &usual, none, Asks::RequireTls);
    text.push_str("\n## 4. Levels of `[[destination]] tls`\n");
    for (name, rule) in LEVELS.into_iter().skip(1) {
        let _ = writeln!(text, "\n### {name}\n");
        if rule.level == Some(Level::Off) {
            text.push_str("Always clear text, but for REQUIRETLS.\n");
            continue;
        }
        demands(&mut text, &usual, rule, Asks::Nothing);
    }
    text.push_str(
        "\n## 5. `TLS-Required: No`\n\nIt waives what DNS and policy demand; nothing under a level that demands something (encrypt, dane-only, mta-sts).\n\n",
    );
    demands(&mut text, &usual, none, Asks::Waives);
    text
}

#[test]
fn the_table_for_people_is_what_the_oracle_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/tls-decisions.md");
    let made = document();
    if std::env::var_os("TLS_MATRIX_WRITE").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(there == made, "write it again: TLS_MATRIX_WRITE=1 cargo test --test simulation oracle::doc");
}
