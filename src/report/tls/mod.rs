//! Reports on TLS: how often it went well with a domain in a day, and how it failed (RFC 8460).
//!
//! All but when they go out, with their nouns on this page. `record.rs` reads the record by which a domain says
//! that it wants reports, and `uri.rs` the places that it names. `document.rs` puts a day's counts together,
//! `gzip.rs` packs them, and `mail.rs` makes the mail that carries them; `post.rs` is the request in its place, which
//! `driver.rs` makes.

mod document;
mod driver;
mod gzip;
mod mail;
mod post;
pub mod record;
mod uri;

pub use document::{RESULT_TYPES, ReportExtent, TlsReportDocument};
pub use driver::ReportPoster;
pub use gzip::gzip;
pub use mail::{MEDIA_TYPE, report_mail};
pub use post::PostError;
pub use uri::{HttpsUrl, ReportUri, UriError};

use crate::smtp::address::{Domain, Host, Mailbox};
use crate::spool::tls_session::ReportDay;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;

/// As much of a hash makes an id, in octets: two reports of a day are told apart, were there millions.
const ID_OCTETS: usize = 10;

/// Who reports (RFC 8460 §4.4).
#[derive(Clone, Copy, Debug)]
pub struct ReportSubmitter<'a> {
    /// The name of the organization.
    pub organization: &'a str,
    /// Whom to ask about its reports, and who sends them.
    pub contact: &'a Mailbox,
    /// The name of the relay, which tells it from others of the organization.
    pub hostname: &'a Domain,
}

impl ReportSubmitter<'_> {
    /// The domain that reports: that of the contact, which is also the one that signs (RFC 8460 §3).
    #[must_use]
    pub fn domain(&self) -> &Domain {
        match self.contact.host() {
            Host::Domain(domain) => domain,
            Host::Literal(_) => self.hostname,
        }
    }
}

/// Which report it is: whose, about which domain and which day.
#[derive(Clone, Copy, Debug)]
pub struct ReportSubject<'a> {
    /// Who reports.
    pub submitter: ReportSubmitter<'a>,
    /// The domain that wants it.
    pub domain: &'a Domain,
    /// The day that it is about.
    pub day: ReportDay,
}

impl ReportSubject<'_> {
    /// Letters and digits that no other report has, and this one each time: who gets it twice sees that
    /// (RFC 8460 §5.1, §5.3).
    #[must_use]
    pub fn unique_id(&self) -> String {
        let whole = format!("{}\n{}\n{}", self.submitter.hostname, self.domain, self.day);
        let hash = digest(&SHA256, whole.as_bytes());
        let start = hash.as_ref().get(..ID_OCTETS).unwrap_or_default();
        format!("{}x{}", self.day.to_string().replace('-', ""), HEXLOWER.encode(start))
    }

    /// The id of the report, in the form of one of a message (RFC 8460 §4.4, §5.3).
    #[must_use]
    pub fn report_id(&self) -> String {
        format!("{}@{}", self.unique_id(), self.submitter.hostname)
    }

    /// The name of the file (RFC 8460 §5.1).
    #[must_use]
    pub fn file_name(&self) -> String {
        let (begin, last) = (self.day.begin().unix_seconds(), document::last_second(self.day).unix_seconds());
        format!("{}!{}!{begin}!{last}!{}.json.gz", self.submitter.domain(), self.domain, self.unique_id())
    }
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::testing::Parts;

    #[test]
    fn rfc8460_4_1_p09_the_id_of_a_report_is_its_own_and_the_same_each_time() {
        let id = |domain: &str, day: &str, hostname: &str| Parts::of(domain, day, hostname).subject().unique_id();
        let first = id("a.example", "2026-11-29", "relay.sender.example");
        assert_eq!(id("a.example", "2026-11-29", "relay.sender.example"), first);
        for other in [
            id("b.example", "2026-11-29", "relay.sender.example"),
            id("a.example", "2026-11-30", "relay.sender.example"),
            id("a.example", "2026-11-29", "relay2.sender.example"),
        ] {
            assert_ne!(other, first);
            assert!(other.bytes().all(|octet| octet.is_ascii_alphanumeric()), "{other}");
        }
    }

    #[test]
    fn rfc8460_5_1_p11_the_file_is_named_for_sender_domain_and_day() {
        let parts = Parts::of("a.example", "2026-11-29", "relay.sender.example");
        let id = parts.subject().unique_id();
        let name = format!("sender.example!a.example!1795910400!1795996799!{id}.json.gz");
        assert_eq!(parts.subject().file_name(), name);
        assert_eq!(parts.subject().report_id(), format!("{id}@relay.sender.example"));
    }
}
