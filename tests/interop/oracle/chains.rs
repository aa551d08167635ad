//! Certificate chains with and without faults, for OpenSSL and for us (RFC 5280 §4.2, §6.1).
//!
//! A chain is a root, CAs and a server's certificate for [`HOST`], each made with one of the bends
//! below. Depth 0 is a self-signed server certificate.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, DnValue, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};

/// The host all chains are asked about.
pub(crate) const HOST: &str = "mx.example.org";
/// The most issuers above the server's certificate.
pub(crate) const DEPTH_LIMIT: usize = 3;

type Bend = (&'static str, fn(&mut CertificateParams));

/// Certificates, DER, the server's own first; the last is self-signed.
#[derive(Clone)]
pub(crate) struct Chain {
    /// Depth and bends.
    pub(crate) name: String,
    /// From the server's certificate to the root.
    pub(crate) path: Vec<Vec<u8>>,
    /// What the server sends.
    pub(crate) sent: Vec<Vec<u8>>,
}

/// Every depth with no fault and with one, then `count` with any number of them.
pub(crate) fn chains(count: u32) -> Vec<Chain> {
    let mut all: Vec<Chain> = (0..=DEPTH_LIMIT).map(|depth| chain(depth, |_| &STRAIGHT)).collect();
    for depth in 0..=DEPTH_LIMIT {
        all.extend(LEAF_BENDS.iter().map(|bend| chain(depth, |level| if level == 0 { bend } else { &STRAIGHT })));
        for at in 1..=depth {
            all.extend(CA_BENDS.iter().map(|bend| chain(depth, |level| if level == at { bend } else { &STRAIGHT })));
        }
    }
    all.extend(PAIRS.iter().map(|(leaf, ca)| {
        let bends = [bend(LEAF_BENDS, leaf), bend(CA_BENDS, ca)];
        chain(1, |level| bends[level])
    }));
    all.extend((0..count).map(random));
    all
}

/// Bends of a server's certificate that only show below an issuer with one.
const PAIRS: &[(&str, &str)] = &[
    ("with a mail address", "permits a mail domain"),
    ("with a mail address", "permits one mailbox"),
    ("with a mail address", "permits another mailbox"),
    ("with a mail address", "excludes a mail domain"),
    ("with a mail address elsewhere", "permits mail below a domain"),
    ("with a mail address elsewhere", "permits mail addresses"),
    ("with a damaged mail address", "permits a mail domain"),
    ("with an address", "permits an address"),
    ("with an address", "excludes an address"),
    ("with a long address", "permits an address"),
    ("with an organization", "permits a directory"),
    ("wildcard", "excludes the host"),
    ("wildcard", "excludes a neighbour"),
    ("wildcard", "permits another domain"),
    ("common name only", "permits another domain"),
    ("common name only", "excludes the domain"),
    ("wildcard common name only", "permits another domain"),
    ("no names at all", "permits another domain"),
];

fn bend(of: &'static [Bend], word: &str) -> &'static Bend {
    of.iter().find(|(known, _)| *known == word).unwrap()
}

const STRAIGHT: Bend = ("", |_| {});

/// A chain of some depth, each level bent at random and sent in some order.
fn random(seed: u32) -> Chain {
    let mut state = u64::from(seed) + 1;
    let mut below = move |limit: usize| {
        // Knuth's MMIX generator; only its high bits are random.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % limit
    };
    let depth = below(DEPTH_LIMIT + 1);
    let picked: Vec<&Bend> = (0..=depth)
        .map(|level| match (below(3), level) {
            (0, 0) => &LEAF_BENDS[below(LEAF_BENDS.len())],
            (0, _) => &CA_BENDS[below(CA_BENDS.len())],
            _ => &STRAIGHT,
        })
        .collect();
    let mut made = chain(depth, |level| picked[level]);
    made.name = format!("random {seed}: {}", made.name);
    match below(6) {
        0 => {
            made.sent.truncate(depth.max(1));
            made.name += " without its root";
        }
        1 => {
            made.sent[1..].reverse();
            made.name += " shuffled";
        }
        2 => {
            let again = made.sent.clone();
            made.sent.extend(again);
            made.name += " twice";
        }
        3 => {
            made.sent.insert(1, b"\x30\x03\x02\x01\x05".to_vec());
            made.name += " with junk";
        }
        4 => {
            made.sent.insert(1, chain(0, |_| &STRAIGHT).path.remove(0));
            made.name += " with a stranger";
        }
        _ => {}
    }
    made
}

/// Makes a chain from the root down.
fn chain<'b>(depth: usize, bend: impl Fn(usize) -> &'b Bend) -> Chain {
    let mut path = Vec::new();
    let mut issuer: Option<Issuer<'static, KeyPair>> = None;
    let mut name = format!("depth {depth}");
    for level in (0..=depth).rev() {
        let (word, bend) = bend(level);
        let mut params = if level == 0 { leaf_params() } else { ca_params(level) };
        bend(&mut params);
        if !word.is_empty() {
            name += &format!(", {level}: {word}");
        }
        let key = KeyPair::generate().unwrap();
        let made = match &issuer {
            Some(issuer) => params.signed_by(&key, issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        path.insert(0, made.der().to_vec());
        issuer = Some(Issuer::new(params, key));
    }
    Chain { name, sent: path.clone(), path }
}

fn ca_params(level: usize) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("CA {level}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.use_authority_key_identifier_extension = true;
    params
}

fn leaf_params() -> CertificateParams {
    let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a mail server");
    params.use_authority_key_identifier_extension = true;
    params
}

fn named(params: &mut CertificateParams, names: &[&str]) {
    params.subject_alt_names = names.iter().map(|&name| SanType::DnsName(name.try_into().unwrap())).collect();
}

fn common_name(params: &mut CertificateParams, name: &str) {
    params.distinguished_name.push(DnType::CommonName, name);
}

fn extension(params: &mut CertificateParams, oid: &[u64], content: &[u8]) {
    let mut custom = CustomExtension::from_oid_content(oid, content.to_vec());
    custom.set_criticality(true);
    params.custom_extensions.push(custom);
}

const UNKNOWN: &[u64] = &[1, 3, 6, 1, 4, 1, 99_999, 1];
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];

const LEAF_BENDS: &[Bend] = &[
    ("expired", |leaf| leaf.not_after = date_time_ymd(2020, 1, 1)),
    ("not yet valid", |leaf| leaf.not_before = date_time_ymd(2090, 1, 1)),
    ("other name", |leaf| named(leaf, &["mx.example.com"])),
    ("upper case", |leaf| named(leaf, &["MX.EXAMPLE.ORG"])),
    ("second name", |leaf| named(leaf, &["other.example", HOST])),
    ("common name only", |leaf| {
        named(leaf, &[]);
        common_name(leaf, HOST);
    }),
    ("other common name only", |leaf| named(leaf, &[])),
    ("wildcard common name only", |leaf| {
        named(leaf, &[]);
        common_name(leaf, "*.example.org");
    }),
    ("common name of another type only", |leaf| {
        named(leaf, &[]);
        leaf.distinguished_name.push(DnType::CommonName, DnValue::BmpString(HOST.try_into().unwrap()));
    }),
    ("common name beside another alternative", |leaf| {
        named(leaf, &["other.example"]);
        common_name(leaf, HOST);
    }),
    ("common name beside an address", |leaf| {
        leaf.subject_alt_names = vec![SanType::IpAddress([192, 0, 2, 1].into())];
        common_name(leaf, HOST);
    }),
    ("common name beside a mail address", |leaf| {
        leaf.subject_alt_names = vec![SanType::Rfc822Name("root@example.org".try_into().unwrap())];
        common_name(leaf, HOST);
    }),
    ("with an address", |leaf| leaf.subject_alt_names.push(SanType::IpAddress([192, 0, 2, 1].into()))),
    ("with a long address", |leaf| leaf.subject_alt_names.push(SanType::IpAddress([7; 16].into()))),
    ("with a mail address", |leaf| leaf.subject_alt_names.push(mail("root@example.org"))),
    ("with a mail address elsewhere", |leaf| leaf.subject_alt_names.push(mail("root@sub.example.com"))),
    ("with a damaged mail address", |leaf| leaf.subject_alt_names.push(mail("example.org"))),
    ("with a URI", |leaf| leaf.subject_alt_names.push(SanType::URI("https://mx.example.org/".try_into().unwrap()))),
    ("with an organization", |leaf| leaf.distinguished_name.push(DnType::OrganizationName, "NOBODY")),
    ("no subject", |leaf| leaf.distinguished_name = rcgen::DistinguishedName::new()),
    ("no names at all", |leaf| {
        named(leaf, &[]);
        leaf.distinguished_name = rcgen::DistinguishedName::new();
    }),
    ("wildcard", |leaf| named(leaf, &["*.example.org"])),
    ("wildcard one label short", |leaf| named(leaf, &["*.mx.example.org"])),
    ("wildcard one label long", |leaf| named(leaf, &["*.org"])),
    ("partial wildcard", |leaf| named(leaf, &["m*.example.org"])),
    ("partial wildcard behind", |leaf| named(leaf, &["*x.example.org"])),
    ("two wildcards", |leaf| named(leaf, &["*.*.org"])),
    ("wildcard inside", |leaf| named(leaf, &["mx.*.org"])),
    ("wildcard alone", |leaf| named(leaf, &["*"])),
    ("final dot", |leaf| named(leaf, &["mx.example.org."])),
    ("leading dot", |leaf| named(leaf, &[".example.org"])),
    ("empty name", |leaf| named(leaf, &[""])),
    ("nul in the name", |leaf| named(leaf, &["mx.example.org\0.evil.example"])),
    ("very long name", |leaf| named(leaf, &[&"a".repeat(5_000), HOST])),
    ("for clients", |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
    ("for servers", |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
    ("for any purpose", |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
    ("key for signatures", |leaf| leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
    ("key for encipherment", |leaf| leaf.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
    ("key for revocation lists", |leaf| leaf.key_usages = vec![KeyUsagePurpose::CrlSign]),
    ("key for certificates", |leaf| leaf.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
    ("a CA itself", |leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
    ("no CA, as it says", |leaf| leaf.is_ca = IsCa::ExplicitNoCa),
    ("unknown critical extension", |leaf| extension(leaf, UNKNOWN, &[5, 0])),
    ("unknown extension", |leaf| {
        leaf.custom_extensions.push(CustomExtension::from_oid_content(UNKNOWN, vec![5, 0]));
    }),
    ("named like its issuer", |leaf| common_name(leaf, "CA 1")),
];

const CA_BENDS: &[Bend] = &[
    ("expired", |ca| ca.not_after = date_time_ymd(2020, 1, 1)),
    ("not yet valid", |ca| ca.not_before = date_time_ymd(2090, 1, 1)),
    ("no CA", |ca| ca.is_ca = IsCa::NoCa),
    ("no CA, as it says", |ca| ca.is_ca = IsCa::ExplicitNoCa),
    ("no CA but a key for certificates", |ca| {
        ca.is_ca = IsCa::NoCa;
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }),
    ("path length 0", |ca| ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
    ("path length 1", |ca| ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(1))),
    ("key for certificates", |ca| ca.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
    ("key for revocation lists", |ca| ca.key_usages = vec![KeyUsagePurpose::CrlSign]),
    ("for clients", |ca| ca.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
    ("for servers", |ca| ca.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
    ("for any purpose", |ca| ca.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
    ("unknown critical extension", |ca| extension(ca, UNKNOWN, &[5, 0])),
    ("no key identifiers", |ca| ca.use_authority_key_identifier_extension = false),
    ("the same name as all", |ca| common_name(ca, "CA 1")),
    ("other key identifier", |ca| ca.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![1, 2, 3])),
    ("permits the domain", |ca| limit(ca, &[dns("example.org")], &[])),
    ("permits the domain by a dot", |ca| limit(ca, &[dns(".example.org")], &[])),
    ("permits another domain", |ca| limit(ca, &[dns("example.com")], &[])),
    ("permits another domain by half a label", |ca| limit(ca, &[dns("ample.org")], &[])),
    ("permits every domain", |ca| limit(ca, &[dns("")], &[])),
    ("permits mail addresses", |ca| limit(ca, &[GeneralSubtree::Rfc822Name("example.com".into())], &[])),
    ("permits a mail domain", |ca| limit(ca, &[mail_domain("EXAMPLE.org")], &[])),
    ("permits mail below a domain", |ca| limit(ca, &[mail_domain(".example.com")], &[])),
    ("permits one mailbox", |ca| limit(ca, &[mail_domain("root@example.org")], &[])),
    ("permits another mailbox", |ca| limit(ca, &[mail_domain("ROOT@example.org")], &[])),
    ("excludes a mail domain", |ca| limit(ca, &[], &[mail_domain("example.org")])),
    ("excludes an address", |ca| limit(ca, &[], &[address()])),
    ("permits an address", |ca| {
        limit(ca, &[address()], &[]);
    }),
    ("permits a directory", |ca| {
        let mut name = rcgen::DistinguishedName::new();
        name.push(DnType::OrganizationName, "Nobody");
        limit(ca, &[GeneralSubtree::DirectoryName(name)], &[]);
    }),
    ("excludes the host", |ca| limit(ca, &[], &[dns(HOST)])),
    ("excludes the domain", |ca| limit(ca, &[], &[dns("example.org")])),
    ("excludes another domain", |ca| limit(ca, &[], &[dns("example.com")])),
    ("excludes a neighbour", |ca| limit(ca, &[], &[dns("mail.example.org")])),
    ("excludes what it permits", |ca| limit(ca, &[dns("example.org")], &[dns("mx.example.org")])),
    // SEQUENCE { [0] { SEQUENCE { [2] "example.org", [0] 1 } } }: the minimum is not 0.
    ("permits from a minimum", |ca| {
        extension(ca, NAME_CONSTRAINTS, b"\x30\x14\xa0\x12\x30\x10\x82\x0bexample.org\x80\x01\x01");
    }),
    ("permits to a maximum", |ca| {
        extension(ca, NAME_CONSTRAINTS, b"\x30\x14\xa0\x12\x30\x10\x82\x0bexample.org\x81\x01\x05");
    }),
    ("permits another kind to a maximum", |ca| {
        extension(ca, NAME_CONSTRAINTS, b"\x30\x14\xa0\x12\x30\x10\x81\x0bexample.org\x81\x01\x05");
    }),
    ("excludes another domain to a maximum", |ca| {
        extension(ca, NAME_CONSTRAINTS, b"\x30\x14\xa1\x12\x30\x10\x82\x0bexample.com\x81\x01\x05");
    }),
];

fn dns(name: &str) -> GeneralSubtree {
    GeneralSubtree::DnsName(name.to_owned())
}

fn mail_domain(name: &str) -> GeneralSubtree {
    GeneralSubtree::Rfc822Name(name.to_owned())
}

fn mail(address: &str) -> SanType {
    SanType::Rfc822Name(address.try_into().unwrap())
}

fn address() -> GeneralSubtree {
    GeneralSubtree::IpAddress(rcgen::CidrSubnet::from_v4_prefix([192, 0, 2, 0], 24))
}

fn limit(ca: &mut CertificateParams, permitted: &[GeneralSubtree], excluded: &[GeneralSubtree]) {
    let constraints = NameConstraints { permitted_subtrees: permitted.to_vec(), excluded_subtrees: excluded.to_vec() };
    ca.name_constraints = Some(constraints);
}
