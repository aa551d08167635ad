//! Which key signs what.

use super::*;
use crate::config::Config;
use crate::resolve::Security;
use crate::resolve::answer::PositiveAnswer;
use std::path::Path;

/// A DNS in which only this text is published, under every name.
struct Published(Option<String>);

#[async_trait]
impl Ask for Published {
    async fn ask(&self, _: &str, record_type: RecordType, _: Freshness) -> Answer {
        assert_eq!(record_type, RecordType::Txt);
        match &self.0 {
            Some(text) => {
                let data = vec![Data::Txt(text.clone().into_bytes())];
                let security = Security::Insecure;
                Answer::Found(PositiveAnswer { security, expanded: None, first_alias: None, data })
            }
            None => Answer::NxDomain(Security::Insecure),
        }
    }
}

/// Content in pieces of this size.
struct Pieces<'a> {
    content: &'a [u8],
    size: usize,
}

#[async_trait]
impl OpenBody for Pieces<'_> {
    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        Ok(Box::new(PieceReader(self.content.chunks(self.size).map(Bytes::copy_from_slice).rev().collect())))
    }
}

struct PieceReader(Vec<Bytes>);

#[async_trait]
impl BodyReader for PieceReader {
    async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        Ok(self.0.pop())
    }
}

fn keys(names: &[(&str, &str)], lines: &str) -> SigningKeys {
    let rule = |(domain, selector): &(&str, &str)| {
        let below = domain.starts_with("all.");
        format!("[[dkim.key]]\ndomain = {domain:?}\nselector = {selector:?}\nkey_file = \"/x\"\nsubdomains = {below}\n")
    };
    let text = format!("[dkim]\n{lines}\n{}", names.iter().map(rule).collect::<String>());
    let config = Config::parse(&text, Path::new("r")).unwrap();
    let made = |(domain, selector): &(&str, &str)| SigningKey {
        domain: domain.parse().unwrap(),
        selector: (*selector).to_owned(),
        key: DkimKey::generate(DkimKeyType::Ed25519).unwrap(),
    };
    SigningKeys::new(names.iter().map(made).collect(), &config.dkim)
}

async fn signed(keys: &SigningKeys, content: &str) -> SigningResult {
    signed_where(keys, content, &Published(None)).await
}

async fn signed_where(keys: &SigningKeys, content: &str, records: &Published) -> SigningResult {
    let (content, mut all) = (content.as_bytes(), Vec::new());
    for size in [1, 7, 4096] {
        all.push(keys.sign(&Pieces { content, size }, SignedForm::AsIs, records, Timestamp(1_795_000_000_000)).await);
    }
    let told = |signing: &SigningResult| format!("{signing:?}");
    assert!(all.iter().all(|one| told(one) == told(&all[0])), "{all:?}");
    all.remove(0)
}

fn by(signing: &SigningResult) -> String {
    match signing {
        SigningResult::Signed(signatures) => signatures.to_string(),
        SigningResult::NotWanted(why) => format!("{why:?}"),
        SigningResult::FailedAndSent(cause) | SigningResult::FailedAndHeld(cause) => {
            format!("{signing:?}").replace(&format!("{cause:?}"), cause.row().word)
        }
    }
}

#[tokio::test]
async fn rfc7489_3_1_1_the_key_is_that_of_the_author_or_of_a_domain_above_that_covers_it() {
    let keys = keys(&[("x.example", "a"), ("all.example", "b"), ("all.own.all.example", "c")], "");
    for (from, expected) in [
        ("x.example", "x.example:a"),
        ("below.x.example", "NoKeyForAuthor"),
        ("all.example", "all.example:b"),
        ("deep.below.all.example", "all.example:b"),
        ("below.all.own.all.example", "all.own.all.example:c"),
        ("other.example", "NoKeyForAuthor"),
        ("example", "NoKeyForAuthor"),
    ] {
        let content = format!("From: a@{from}\r\nSender: b@x.example\r\n\r\nHi\r\n");
        assert_eq!(by(&signed(&keys, &content).await), expected, "{from}");
    }
    assert_eq!(by(&signed(&keys, "Subject: x\r\n\r\nHi\r\n").await), "NoAuthor");
}

#[tokio::test]
async fn what_the_domain_has_signed_is_signed_again_only_where_the_operator_wants_it_or_it_fails() {
    let once = keys(&[("x.example", "a")], "");
    let content = "From: a@x.example\r\n\r\nHi\r\n";
    let SigningResult::Signed(fields) = signed(&once, content).await else { panic!() };
    let content = format!("{}{content}", String::from_utf8_lossy(&fields.fields));
    let key = || Published(Some(DkimRecord::text_for(&once.all().next().unwrap().key)));
    assert_eq!(by(&signed_where(&once, &content, &key()).await), "SignedAlready");
    let other = DkimRecord::text_for(&DkimKey::generate(DkimKeyType::Ed25519).unwrap());
    for published in [None, Some(other), Some("v=spf1 -all".to_owned())] {
        assert_eq!(by(&signed_where(&once, &content, &Published(published)).await), "x.example:a");
    }
    assert_eq!(by(&signed_where(&once, &content.replace("Hi", "Ho"), &key()).await), "x.example:a");
    let again = keys(&[("x.example", "a"), ("x.example", "b")], "sign_signed = true");
    assert_eq!(by(&signed_where(&again, &content, &key()).await), "x.example:a, x.example:b");
}

#[tokio::test]
async fn what_goes_out_is_what_was_signed_whether_it_was_kept_or_is_read_again() {
    let keys = keys(&[("x.example", "a")], "");
    for (lines, kept) in [(1, true), (1000, true), (10_000, false)] {
        let content = format!("From: a@x.example\r\n\r\n{}", "0123456789\r\n".repeat(lines));
        let body = Pieces { content: content.as_bytes(), size: 4000 };
        let signing = keys.sign(&body, SignedForm::AsIs, &Published(None), Timestamp(0)).await;
        let SigningResult::Signed(signatures) = signing else { panic!() };
        assert_eq!(signatures.content.is_some(), kept, "{lines}");
        let fields = signatures.fields.clone();
        let signed = SignedBody { body: &body, signatures };
        let (mut reader, mut sent) = (signed.open().await.unwrap(), Vec::new());
        while let Some(piece) = reader.next().await.unwrap() {
            sent.extend_from_slice(&piece);
        }
        assert_eq!(sent, [&fields[..], content.as_bytes()].concat());
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_signed_waits_or_goes_out_as_the_operator_wants() {
    let content = format!("From: a@x.example\r\n{}\r\nHi\r\n", "To: a@y.example\r\n".repeat(600));
    assert_eq!(by(&signed(&keys(&[("x.example", "a")], ""), &content).await), "FailedAndHeld(dkim-unsignable)");
    let sends = keys(&[("x.example", "a")], "on_failure = \"send\"");
    assert_eq!(by(&signed(&sends, &content).await), "FailedAndSent(dkim-unsignable)");
    assert_eq!(by(&signed(&keys(&[], ""), &content).await), "NoKeys");
}
