//! Signatures that hold, and what breaks them.

use super::*;
use crate::smtp::dkim::{DkimKey, DkimSigner, SignedFields, SigningContent};

/// RFC 8463 §A.3, with both of its signatures.
const MESSAGE: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n \
    d=football.example.com; i=@football.example.com;\r\n \
    q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n \
    subject : date : message-id : from : subject : date;\r\n \
    bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n \
    b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n \
    Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n\
    DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n \
    d=football.example.com; i=@football.example.com;\r\n \
    q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n \
    date : message-id : from : subject : date;\r\n \
    bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n \
    b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n \
    DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n \
    dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n\
    From: Joe SixPack <joe@football.example.com>\r\n\
    To: Suzie Q <suzie@shopping.example.net>\r\n\
    Subject: Is dinner ready?\r\n\
    Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
    Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n\
    Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
const ED25519_RECORD: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const RSA_RECORD: &str = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi\
    Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G\
    +2kryOTIKT+l/K4w3QIDAQAB";
const NOW: i64 = 1_795_000_000;

fn read(content: &str) -> ReadContent {
    let mut reading = SigningContent::default();
    content.as_bytes().chunks(7).try_for_each(|piece| reading.feed(piece).map(drop)).unwrap();
    reading.finish()
}

fn standing(content: &str) -> Vec<StandingSignature> {
    read(content).standing(&"football.example.com".parse().unwrap(), NOW)
}

/// How many signatures of a message hold with one of these records.
fn held(content: &str, records: &[&str]) -> usize {
    let records: Vec<DkimRecord> = records.iter().map(|text| DkimRecord::parse(text).unwrap()).collect();
    standing(content).iter().filter(|one| records.iter().any(|record| one.holds_with(record))).count()
}

#[test]
fn rfc8463_a_3_both_signatures_of_the_standard_hold() {
    let names: Vec<String> = standing(MESSAGE).iter().map(StandingSignature::record_name).collect();
    assert_eq!(names, ["test._domainkey.football.example.com", "brisbane._domainkey.football.example.com"]);
    assert_eq!(held(MESSAGE, &[ED25519_RECORD, RSA_RECORD]), 2);
    assert_eq!((held(MESSAGE, &[ED25519_RECORD]), held(MESSAGE, &[RSA_RECORD])), (1, 1));
    assert_eq!(read(MESSAGE).standing(&"example.com".parse().unwrap(), NOW), []);
}

#[test]
fn what_a_signature_covers_breaks_it_and_what_it_allows_for_does_not() {
    let all = [ED25519_RECORD, RSA_RECORD];
    for (what, with, holds) in [
        ("Joe.\r\n", "Joe!\r\n", 0),
        ("Joe.\r\n", "Joe.  \r\n\r\n\r\n", 2),
        ("the game.  Are", "the game. Are", 2),
        ("Subject: Is", "Subject:  is", 0),
        ("Subject: Is", "subject  :  Is", 2),
        ("From: Joe", "From: x@y.example\r\nFrom: Joe", 0),
        ("From: Joe", "Received: x\r\nX-From: y\r\nFrom: Joe", 2),
        ("To: Suzie", "Cc: z@y.example\r\nTo: Suzie", 2),
        ("t=1528637909", "t=1528637908", 0),
    ] {
        let changed = MESSAGE.replace(what, with);
        assert_ne!(changed, MESSAGE, "{what}");
        assert_eq!(held(&changed, &all), holds, "{what:?} -> {with:?}");
    }
}

/// A message with a signature of our own making in these forms; `more` are further tags.
fn made(key: &DkimKey, forms: &str, more: &str) -> String {
    let (header, body) = ("From: a@football.example.com\r\nSubject:  x \r\n", " a\t b \r\n\r\n");
    let read = read(&format!("DKIM-Signature: x\r\n{header}\r\n{body}"));
    let (header_form, body_form) = super::forms(forms).unwrap();
    let hash = match body_form {
        CanonicalForm::Relaxed => read.relaxed,
        CanonicalForm::Simple => read.simple.unwrap(),
    };
    let algorithm = key.key_type().algorithm();
    let value = format!(
        " v=1; a={algorithm}; c={forms}; d=football.example.com; s=s1;{more}\r\n\th=From:Subject:Subject; \
         bh={};\r\n b = ",
        BASE64.encode(&hash)
    );
    let text = format!("DKIM-Signature:{value}; z=x\r\n{header}");
    let fields = HeaderFields::of_header(text.as_bytes());
    let own = fields.all_last_first().last().unwrap();
    let data = signed(&fields, own, &["From", "Subject", "Subject"], header_form);
    let signature = BASE64.encode(&key.sign(&data).unwrap());
    format!("DKIM-Signature:{value}{signature}\r\n ; z=x\r\n{header}\r\n{body}")
}

#[test]
fn rfc6376_3_4_a_signature_holds_in_each_pair_of_forms() {
    for key_type in [DkimKeyType::Rsa, DkimKeyType::Ed25519] {
        let key = DkimKey::generate(key_type).unwrap();
        let record = DkimRecord::text_for(&key);
        for forms in ["simple", "relaxed", "simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"] {
            let message = made(&key, forms, "");
            assert_eq!(held(&message, &[&record]), 1, "{forms}\n{message}");
            let header_is_simple = forms.starts_with("simple");
            let other = held(&message.replace("Subject:  x \r\n", "Subject: x\r\n"), &[&record]);
            assert_eq!(other, usize::from(!header_is_simple), "{forms}");
        }
    }
}

#[test]
fn what_is_over_partial_or_for_another_is_no_signature_that_holds() {
    let key = DkimKey::generate(DkimKeyType::Ed25519).unwrap();
    let record = DkimRecord::text_for(&key);
    for (more, holds) in [
        (" x=1795000000;", 1),
        (" x=1794999999;", 0),
        (" x=soon;", 0),
        (" l=5;", 0),
        (" q=http/x;", 0),
        (" q=http/x:dns/txt;", 1),
        (" i=@football.example.com;", 1),
        (" i=joe@mail.football.example.com;", 1),
        (" i=@xfootball.example.com;", 0),
        (" i=@example.com;", 0),
        (" i=nobody;", 0),
        (" s=s2;", 0),
        (" n=a note;", 1),
        (" note;", 0),
    ] {
        assert_eq!(held(&made(&key, "relaxed/relaxed", more), &[&record]), holds, "{more}");
    }
    let below = made(&key, "relaxed/relaxed", " i=@mail.football.example.com;");
    assert_eq!(held(&below, &[&format!("{record}; t=s")]), 0);
    let plain = made(&key, "relaxed/relaxed", "");
    for record in [format!("{record}; t=y"), "v=DKIM1; k=ed25519; p=".into(), RSA_RECORD.into()] {
        assert_eq!(held(&plain, &[&record]), 0, "{record}");
    }
    for (what, with) in
        [("v=1;", "v=2;"), ("v=1;", ""), ("h=From", "h=To"), ("a=ed25519-sha256", "a=rsa-sha1"), ("b = ", "b = ?")]
    {
        assert_eq!(held(&plain.replacen(what, with, 1), &[&record]), 0, "{what}");
    }
}

#[test]
fn what_we_sign_holds() {
    let key = DkimKey::generate(DkimKeyType::Rsa).unwrap();
    let domain = "football.example.com".parse().unwrap();
    let signer = DkimSigner { domain: &domain, selector: "s1", key: &key };
    let (_, content) = MESSAGE.split_once("From:").unwrap();
    let content = format!("From:{content}");
    let names = ["from", "to", "cc"].map(str::to_owned).to_vec();
    let which = SignedFields { names: names.clone(), oversigned: names };
    let field = read(&content).sign(&[signer], &which, NOW).unwrap();
    assert_eq!(held(&format!("{field}{content}"), &[&DkimRecord::text_for(&key)]), 1);
}

#[test]
fn only_so_many_signatures_are_looked_at() {
    let many = MESSAGE.replacen(
        "From: ",
        &format!("{}From: ", "DKIM-Signature: v=1; d=football.example.com\r\n".repeat(5)),
        1,
    );
    assert_eq!(standing(&many), []);
    assert_eq!(held(&MESSAGE.replacen("From: ", "DKIM-Signature: v=1; d=x.example\r\nFrom: ", 1), &[RSA_RECORD]), 1);
}
