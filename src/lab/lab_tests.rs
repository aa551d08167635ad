//! The lab as a whole: what the builder describes is what the DNS says and the hosts do.

use super::{AnswerFault, Certificate, Lab, SignatureFault, StartTls, Tlsa, TroubleAt};
use crate::lab::mx::behaviour::{Trouble, reply};
use crate::lab::mx::client::SmtpClient;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::MX;
use hickory_proto::rr::{Name, RData, RecordType};

fn answers(lab: &Lab, name: &str, rtype: RecordType) -> Vec<RData> {
    let answer = lab.world().answer(&crate::lab::dns::world::name(name).unwrap(), rtype).unwrap();
    let wanted = answer.answers.into_iter().filter(|record| record.record_type() == rtype);
    wanted.map(|record| record.data).collect()
}

#[tokio::test]
async fn the_happy_path_needs_no_words() {
    let lab = Lab::builder().domain("dane.test", |d| d).start().await.unwrap();
    let mx = lab.mx("dane.test").unwrap();
    assert_eq!((mx.name(), mx.address().port()), ("mx.dane.test", lab.port()));
    assert_eq!(answers(&lab, "dane.test", RecordType::MX).len(), 1);
    let address = answers(&lab, "mx.dane.test", RecordType::A)[0].ip_addr().unwrap();
    assert_eq!(address, mx.address().ip());
    let owner = lab.tlsa_owner("mx.dane.test");
    assert_eq!(owner, format!("_{}._tcp.mx.dane.test", lab.port()));
    let client = SmtpClient::ready(mx.address()).await.unwrap().starttls("mx.dane.test").await;
    assert!(client.unwrap().send("", &["bob@dane.test"], b"x\r\n").await.unwrap().accepted());
    assert!(lab.trust_anchor().unwrap().starts_with(". 60 IN DS "));
}

#[tokio::test]
async fn rfc7672_2_2_3_records_are_at_the_real_port_and_change_while_served() {
    let lab = Lab::builder().domain("six.test", |d| d.host(|h| h.and_misfits(5))).start().await.unwrap();
    let owner = lab.tlsa_owner("mx.six.test");
    let before = answers(&lab, &owner, RecordType::TLSA);
    assert_eq!(before.len(), 6);
    lab.set_certificate("mx.six.test", &Certificate::Issued).unwrap();
    lab.set_tlsa("mx.six.test", &[Tlsa::Fits(2, 0, 1)]).unwrap();
    let after = answers(&lab, &owner, RecordType::TLSA);
    assert!(after.len() == 1 && !before.contains(&after[0]));
    lab.set_tlsa("mx.six.test", &[]).unwrap();
    assert!(answers(&lab, &owner, RecordType::TLSA).is_empty());
    assert!(lab.set_tlsa("mx.other.test", &[]).is_err());
}

#[tokio::test]
async fn rfc5321_5_1_mail_goes_where_the_description_says() {
    let lab = Lab::builder()
        .domain("provider.test", |d| d)
        .domain("customer.test", |d| d.hosted_by(10, "mx.provider.test").plain())
        .domain("nullmx.test", |d| d.null_mx())
        .domain("bare.test", |d| d.without_mx())
        .domain("two.test", |d| d.host(|h| h.down()).add_host("mx2.two.test", 20, |h| h))
        .start()
        .await
        .unwrap();
    let mx = |preference, host: &str| RData::MX(MX::new(preference, Name::from_ascii(host).unwrap()));
    assert_eq!(answers(&lab, "customer.test", RecordType::MX), [mx(10, "mx.provider.test.")]);
    assert_eq!(lab.mx("customer.test").unwrap().name(), "mx.provider.test");
    assert_eq!(answers(&lab, "nullmx.test", RecordType::MX), [mx(0, ".")]);
    assert!(lab.mx("nullmx.test").is_err());
    assert!(answers(&lab, "bare.test", RecordType::MX).is_empty());
    assert_eq!(answers(&lab, "bare.test", RecordType::A).len(), 1);
    assert_eq!(answers(&lab, "two.test", RecordType::MX), [mx(10, "mx.two.test."), mx(20, "mx2.two.test.")]);
    // The first host of two.test has an address at which nobody listens.
    let nobody = answers(&lab, "mx.two.test", RecordType::A)[0].ip_addr().unwrap();
    assert!(SmtpClient::connect((nobody, lab.port()).into()).await.is_err());
    assert!(SmtpClient::connect(lab.mx("mx2.two.test").unwrap().address()).await.is_ok());
    assert_eq!(lab.hosts().count(), 3);
}

#[tokio::test]
async fn faults_are_where_the_description_puts_them() {
    let lab = Lab::builder()
        .domain("fail.test", |d| d.fault("mx.fail.test", RecordType::TLSA, AnswerFault::ServFail))
        .domain("expired.test", |d| d.zone_fault(AnswerFault::Signature(SignatureFault::Missing)))
        .domain("cut.test", |d| d.host(|h| h.starttls(StartTls::NotOffered)))
        .domain("full.test", |d| {
            d.host(|h| h.trouble(TroubleAt::Mail, Trouble::Reply(reply("452 4.3.1 full").unwrap())))
        })
        .start()
        .await
        .unwrap();
    let owner = crate::lab::dns::world::name(&lab.tlsa_owner("mx.fail.test")).unwrap();
    assert_eq!(lab.world().answer(&owner, RecordType::TLSA).unwrap().code, ResponseCode::ServFail);
    let name = crate::lab::dns::world::name("expired.test").unwrap();
    assert_eq!(lab.world().answer(&name, RecordType::MX).unwrap().answers.len(), 1);
    let cut = SmtpClient::ready(lab.mx("cut.test").unwrap().address()).await.unwrap();
    assert!(!cut.offered().starttls);
    let mut full = SmtpClient::ready(lab.mx("full.test").unwrap().address()).await.unwrap();
    assert_eq!(full.send("", &["a@full.test"], b"x\r\n").await.unwrap().mail.code, 452);
}

#[tokio::test]
async fn labs_do_not_disturb_each_other() {
    let mut labs = Vec::new();
    for _ in 0..8 {
        let described = Lab::builder().domain("a.test", |d| d).domain("b.test", |d| d);
        labs.push(described.start().await.unwrap());
    }
    for lab in &labs {
        assert!(SmtpClient::ready(lab.mx("b.test").unwrap().address()).await.is_ok());
        assert_eq!(lab.mx("b.test").unwrap().connections(), 1);
    }
}
