//! The kinds of mail server, and what TLS with each comes to (RFC 7671 §5.1, RFC 9325 §3.1, §4).
//!
//! `ALL:@SECLEVEL=0` makes OpenSSL offer what is weak, too.

use End::{BreaksLater, CannotSpeak, Speaks};

/// What comes of TLS with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// There is a session, of this version.
    Speaks(&'static str),
    /// There is none.
    CannotSpeak,
    /// There is none, but the relay has seen the certificate before it breaks.
    BreaksLater,
}

/// A mail server.
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// Makes `leaf.pem` and `leaf.key`.
    pub(super) script: &'static str,
    /// The arguments of `s_server`.
    pub(super) arguments: &'static [&'static str],
    /// What the relay comes to.
    pub(super) end: End,
    /// What Postfix's client comes to.
    pub(super) end_of_postfix: End,
}

/// Those that the relay speaks.
pub(super) const TLS12: End = Speaks("TLSv1.2");
pub(super) const TLS13: End = Speaks("TLSv1.3");

/// A self-signed certificate with a key of this kind.
macro_rules! own {
    ($key:literal) => {
        concat!("openssl req -x509 -nodes -days 7 -subj /CN=mx -keyout leaf.key -out leaf.pem -newkey ", $key)
    };
}

/// The same with the RSA key that all share, as making one takes longest: what stands before
/// `openssl`, the subject, what stands at the end.
macro_rules! rsa {
    ($before:literal, $rest:literal) => {
        concat!(
            "cp ../rsa2048.key leaf.key\n",
            $before,
            " openssl req -x509 -days 7 -key leaf.key -out leaf.pem -subj ",
            $rest
        )
    };
}

pub(super) const P256: &str = own!("ec -pkeyopt ec_paramgen_curve:P-256");
const P521: &str = own!("ec -pkeyopt ec_paramgen_curve:P-521");
const RSA: &str = rsa!("", "/CN=mx");
const RSASSA_PSS: &str = own!("rsa-pss -pkeyopt rsa_keygen_bits:2048");

pub(super) const fn both(
    name: &'static str,
    script: &'static str,
    arguments: &'static [&'static str],
    end: End,
) -> Peer {
    Peer { name, script, arguments, end, end_of_postfix: end }
}

/// What OpenSSL does as a client and the library of the relay does not.
const fn postfix_alone(
    name: &'static str,
    script: &'static str,
    arguments: &'static [&'static str],
    end: End,
    end_of_postfix: End,
) -> Peer {
    Peer { name, script, arguments, end, end_of_postfix }
}

/// A server that demands a certificate of the client.
const fn refuses_us(name: &'static str, arguments: &'static [&'static str]) -> Peer {
    Peer { name, script: P256, arguments, end: BreaksLater, end_of_postfix: CannotSpeak }
}

/// Every kind of peer.
#[rustfmt::skip]
pub(super) const PEERS: [Peer; 34] = [
    both("rsa1024", own!("rsa:1024"), &["-cipher", "ALL:@SECLEVEL=0"], TLS13),
    both("rsa1024-tls12", own!("rsa:1024"), &["-cipher", "ALL:@SECLEVEL=0", "-tls1_2"], TLS12),
    both("rsa2048", RSA, &[], TLS13),
    both("rsa3072-tls12", own!("rsa:3072"), &["-tls1_2"], TLS12),
    both("rsassa-pss", RSASSA_PSS, &[], TLS13),
    both("rsassa-pss-sha384", own!("rsa-pss -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_pss_keygen_md:sha384 \
        -pkeyopt rsa_pss_keygen_mgf1_md:sha384 -pkeyopt rsa_pss_keygen_saltlen:48"), &[], TLS13),
    // rustls knows the schemes for such keys in TLS 1.3 alone.
    postfix_alone("rsassa-pss-tls12", RSASSA_PSS, &["-tls1_2"], BreaksLater, TLS12),
    both("p256", P256, &[], TLS13),
    both("p384", own!("ec -pkeyopt ec_paramgen_curve:P-384"), &[], TLS13),
    both("p521", P521, &[], TLS13),
    // Before TLS 1.3 a client has to offer the curve of the key for the exchange of keys too.
    postfix_alone("p521-tls12", P521, &["-tls1_2"], CannotSpeak, TLS12),
    both("ed25519", own!("ed25519"), &[], TLS13),
    both("ed25519-tls12", own!("ed25519"), &["-tls1_2"], TLS12),
    postfix_alone("ed448", own!("ed448"), &[], CannotSpeak, TLS13),
    both("version1", "cp ../rsa2048.key leaf.key
        openssl req -new -key leaf.key -subj /CN=mx -out leaf.csr
        openssl x509 -req -in leaf.csr -signkey leaf.key -days 7 -out leaf.pem", &[], TLS13),
    both("no-name", rsa!("", "/"), &[], TLS13),
    both("expired", rsa!("faketime '30 days ago'", "/CN=mx"), &[], TLS13),
    both("not-yet", rsa!("faketime '+30 days'", "/CN=mx"), &[], TLS13),
    both("sha1", rsa!("", "/CN=mx -sha1"), &["-cipher", "ALL:@SECLEVEL=0"], TLS13),
    both("md5", rsa!("", "/CN=mx -md5"), &["-cipher", "ALL:@SECLEVEL=0"], TLS13),
    both("many-names", rsa!("names=$(seq -f 'DNS:host-%g.many-names.test' -s , 700)\n",
        "/CN=mx -addext subjectAltName=$names"), &[], TLS13),
    both("tls12-only", P256, &["-tls1_2"], TLS12),
    both("tls13-only", P256, &["-tls1_3"], TLS13),
    both("tls11-only", RSA, &["-cipher", "ALL:@SECLEVEL=0", "-tls1_1"], CannotSpeak),
    both("tls10-only", RSA, &["-cipher", "ALL:@SECLEVEL=0", "-tls1"], CannotSpeak),
    postfix_alone("static-rsa", RSA, &["-tls1_2", "-cipher", "AES256-GCM-SHA384"], CannotSpeak, TLS12),
    postfix_alone("dhe", RSA, &["-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"], CannotSpeak, TLS12),
    postfix_alone("cbc", RSA, &["-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384"], CannotSpeak, TLS12),
    both("chacha", RSA, &["-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"], TLS12),
    // The client guesses another group first: one more round trip.
    both("group-p384", P256, &["-groups", "P-384"], TLS13),
    postfix_alone("group-p521", P256, &["-groups", "P-521"], CannotSpeak, TLS13),
    both("asks-for-a-certificate", P256, &["-verify", "1"], TLS13),
    refuses_us("demands-a-certificate", &["-Verify", "1"]),
    refuses_us("demands-a-certificate-tls12", &["-Verify", "1", "-tls1_2"]),
];

impl Peer {
    /// Its domains: without TLSA records, with `3 1 1`, with `3 0 1`, with one that does not fit.
    pub(super) fn domains(&self) -> [String; 4] {
        ["plain", "key", "certificate", "other"].map(|kind| format!("{}.{kind}.test", self.name))
    }
}
