//! The vectors of RFC 8463 appendix A, and the form of the field.

use super::*;
use crate::smtp::dkim::{DkimKeyType, DkimRecord, SigningContent};
use aws_lc_rs::signature::{
    RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};

/// RFC 8463 §A.3, without signatures.
const MESSAGE: &str = "From: Joe SixPack <joe@football.example.com>\r\n\
    To: Suzie Q <suzie@shopping.example.net>\r\n\
    Subject: Is dinner ready?\r\n\
    Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
    Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n\
    Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
const BODY_HASH: &str = "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=";

/// §A.1, in PKCS #8.
fn ed25519() -> DkimKey {
    let seed = BASE64.decode(b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").unwrap();
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let der = BASE64.encode(&[&head[..], &seed].concat());
    DkimKey::from_pem(format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n").as_bytes()).unwrap()
}

fn which(names: &[&str], oversigned: &[&str]) -> SignedFields {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    SignedFields { names: owned(names), oversigned: owned(oversigned) }
}

fn read(content: &[u8]) -> ReadContent {
    let mut reading = SigningContent::default();
    reading.feed(content).unwrap();
    reading.finish()
}

fn vector(algorithm: &str, selector: &str) -> Vec<u8> {
    let ReadContent { header, relaxed, .. } = read(MESSAGE.as_bytes());
    assert_eq!(BASE64.encode(&relaxed), BODY_HASH);
    let names = which(&["from", "to", "subject", "date", "message-id"], &["from", "subject", "date"]);
    let (names, mut data) = chosen(&HeaderFields::of_header(&header), &names).unwrap();
    assert_eq!(names, ["from", "from", "to", "subject", "subject", "date", "date", "message-id"]);
    let field = format!(
        " v=1; a={algorithm}; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; \
         s={selector}; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n \
         bh={BODY_HASH};\r\n b="
    );
    relaxed_field(b"DKIM-Signature", [field.as_bytes()], &mut data);
    data
}

#[test]
fn rfc8463_a_3_the_signature_by_ed25519_is_that_of_the_standard() {
    let key = ed25519();
    assert_eq!(
        DkimRecord::text_for(&key),
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        "§A.2"
    );
    let signature = key.sign(&vector("ed25519-sha256", "brisbane")).unwrap();
    assert_eq!(
        BASE64.encode(&signature),
        "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
    );
}

#[test]
fn rfc8463_a_3_the_signature_by_rsa_is_over_the_same_octets() {
    // Its key has 1024 bits, with which nobody signs any more (RFC 8301 §3.2).
    let record = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi\
                  Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G\
                  +2kryOTIKT+l/K4w3QIDAQAB";
    let public = DkimRecord::parse(record).unwrap().public.unwrap();
    let signature = "F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGs\
                     geefOsk2JzdA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=";
    let key = UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, public);
    key.verify(&vector("rsa-sha256", "test"), &BASE64.decode(signature.as_bytes()).unwrap()).unwrap();
}

fn signed(content: &[u8], key: &DkimKey, which: &SignedFields) -> String {
    let domain = "x.example".parse().unwrap();
    let signer = DkimSigner { domain: &domain, selector: "s1", key };
    read(content).sign(&[signer], which, 1_795_000_000).unwrap()
}

#[test]
fn rfc6376_3_5_the_field_is_folded_and_verifies() {
    let key = DkimKey::generate(DkimKeyType::Rsa).unwrap();
    let names = which(&["from", "to", "subject", "date", "cc"], &["from", "subject", "date"]);
    let content = "Received: x\r\nTo: 1@y.example\r\nFROM: a@x.example\r\nTo: 2@y.example\r\n\r\nHi\r\n";
    let field = signed(content.as_bytes(), &key, &names);
    assert!(field.split("\r\n").all(|line| line.len() <= 78), "{field}");
    let flat = field.replace("\r\n", "");
    let tag = |name: &str| flat.split(';').find_map(|tag| tag.trim().strip_prefix(name)).unwrap().replace(' ', "");
    assert!(flat.starts_with("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=x.example; s=s1;"), "{flat}");
    assert_eq!(tag("h="), "from:from:to:to:subject:date");
    let (bare, _) = field.rsplit_once("b=").unwrap();
    let mut data = b"from:a@x.example\r\nto:2@y.example\r\nto:1@y.example\r\n".to_vec();
    let value = format!("{}b=", bare.strip_prefix("DKIM-Signature:").unwrap());
    relaxed_field(b"dkim-signature", [value.as_bytes()], &mut data);
    let signature = BASE64.decode(tag("b=").as_bytes()).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public()).verify(&data, &signature).unwrap();
}

#[test]
fn rfc6376_5_4_more_fields_than_one_signature_can_name_are_told() {
    let (key, names) = (ed25519(), which(&["to"], &[]));
    let many = "To: x@y.example\r\n".repeat(FIELDS_LIMIT + 1);
    let domain = "x.example".parse().unwrap();
    let signer = DkimSigner { domain: &domain, selector: "s1", key: &key };
    assert_eq!(read(many.as_bytes()).sign(&[signer], &names, 0), Err(Unsignable::TooManyFields));
    let most = "To: x@y.example\r\n".repeat(FIELDS_LIMIT);
    assert!(signed(most.as_bytes(), &key, &names).split("\r\n").all(|line| line.len() <= 78));
}

#[test]
fn both_kinds_of_key_sign_the_same_message() {
    let domain = "x.example".parse().unwrap();
    let (rsa, small) = (DkimKey::generate(DkimKeyType::Rsa).unwrap(), ed25519());
    let signers = [("r", &rsa), ("e", &small)].map(|(selector, key)| DkimSigner { domain: &domain, selector, key });
    let fields = read(MESSAGE.as_bytes()).sign(&signers, &which(&["from"], &["from"]), 0).unwrap();
    assert_eq!(fields.matches("DKIM-Signature: ").count(), 2);
    assert!(fields.contains("a=rsa-sha256") && fields.contains("a=ed25519-sha256") && fields.ends_with("\r\n"));
}
