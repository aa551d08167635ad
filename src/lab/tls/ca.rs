//! Certificates for the lab's hosts, and the TLSA data that fits them
//! (RFC 6698 §2.1, RFC 7671 §5).
//!
//! An [`Identity`] is a chain with the key of its leaf. Every shape that matters to DANE has a
//! constructor: self-signed, issued by a CA, expired, for another name. Keys are fresh each time.

use crate::lab::bad;
use crate::resolve::TlsaRecord;
use aws_lc_rs::digest::{SHA256, SHA512, digest};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::io;
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The extension with the receipts of logs (RFC 6962 §3.3).
const RECEIPTS: &[u64] = &[1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];

/// A list of one receipt, in an octet string: version, log, time, no extensions, a signature that nobody has
/// made (RFC 6962 §3.2).
fn receipts() -> Vec<u8> {
    let signature = [4, 3, 0, 4, 1, 2, 3, 4];
    let receipt = [&[0][..], &[7; 32], &[0; 8], &[0; 2], &signature].concat();
    let framed = |octets: &[u8]| [&u16::try_from(octets.len()).unwrap_or(0).to_be_bytes(), octets].concat();
    let list = framed(&framed(&receipt));
    [&[4, u8::try_from(list.len()).unwrap_or(0)], list.as_slice()].concat()
}

/// Whether a certificate's time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validity {
    Good,
    Expired,
}

/// A certification authority of the lab.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new root with this common name.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(common_name: &str) -> io::Result<Self> {
        let mut params = named(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(bad)?;
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, key).map_err(bad)? })
    }

    /// The root certificate as PEM, for `[tls] roots`.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The root certificate.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A leaf for `names`, with the root behind it in the chain.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate, or no key can be made.
    pub fn issue(&self, names: &[&str]) -> io::Result<Identity> {
        self.issue_leaf(leaf(names, Validity::Good)?)
    }

    /// As [`Authority::issue`], expired since 2020.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_expired(&self, names: &[&str]) -> io::Result<Identity> {
        self.issue_leaf(leaf(names, Validity::Expired)?)
    }

    /// As [`Authority::issue`], with the name in the common name alone.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn issue_common_name(&self, name: &str) -> io::Result<Identity> {
        let mut params = leaf(&[name], Validity::Good)?;
        params.subject_alt_names.clear();
        self.issue_leaf(params)
    }

    /// As [`Authority::issue`], with what an authority of the world puts in: receipts of public logs
    /// (RFC 6962 §3.3). No log has ever seen it.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_publicly(&self, names: &[&str]) -> io::Result<Identity> {
        let mut params = leaf(names, Validity::Good)?;
        params.custom_extensions = vec![CustomExtension::from_oid_content(RECEIPTS, receipts())];
        self.issue_leaf(params)
    }

    fn issue_leaf(&self, mut params: CertificateParams) -> io::Result<Identity> {
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(bad)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(bad)?;
        Ok(Identity::from_parts(vec![certificate.der().clone(), self.issuer.der().clone()], &key))
    }
}

/// A certificate chain, leaf first, and the key of the leaf.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// A self-signed leaf for `names`: what DANE-EE needs and nothing more.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate, or no key can be made.
    pub fn self_signed(names: &[&str]) -> io::Result<Self> {
        Self::self_signed_with(names, Validity::Good)
    }

    /// As [`Identity::self_signed`], expired since 2020: DANE-EE accepts it (RFC 7672 §3.1.1).
    ///
    /// # Errors
    /// As [`Identity::self_signed`].
    pub fn self_signed_expired(names: &[&str]) -> io::Result<Self> {
        Self::self_signed_with(names, Validity::Expired)
    }

    fn self_signed_with(names: &[&str], validity: Validity) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(bad)?;
        let certificate = leaf(names, validity)?.self_signed(&key).map_err(bad)?;
        Ok(Self::from_parts(vec![certificate.der().clone()], &key))
    }

    /// A chain made elsewhere, leaf first, with the key of the leaf.
    #[must_use]
    pub fn from_parts(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        Self { chain, key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())) }
    }

    /// The chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The same identity with only its leaf in the chain, as a badly installed server sends it.
    #[must_use]
    pub fn without_issuers(&self) -> Self {
        Self { chain: self.chain.iter().take(1).cloned().collect(), key: self.key.clone_key() }
    }

    /// Chain and key as rustls wants them.
    pub(in crate::lab) fn certified_key(&self, provider: &CryptoProvider) -> io::Result<Arc<CertifiedKey>> {
        let key = CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), provider);
        Ok(Arc::new(key.map_err(bad)?))
    }

    /// The TLSA record that fits: for usages 0 and 2 the last certificate of the chain, for all
    /// others the leaf (RFC 6698 §2.1.1). Numbers nobody knows give the full certificate.
    ///
    /// # Errors
    /// When the certificate cannot be parsed.
    pub fn tlsa(&self, usage: u8, selector: u8, matching: u8) -> io::Result<TlsaRecord> {
        let issuer = matches!(usage, 0 | 2);
        let certificate = if issuer { self.chain.last() } else { self.chain.first() };
        let certificate = certificate.ok_or_else(|| bad("the chain is empty"))?;
        let selected = match selector {
            1 => X509Certificate::from_der(certificate).map_err(bad)?.1.public_key().raw.to_vec(),
            _ => certificate.to_vec(),
        };
        let data = match matching {
            1 => digest(&SHA256, &selected).as_ref().to_vec(),
            2 => digest(&SHA512, &selected).as_ref().to_vec(),
            _ => selected,
        };
        Ok(TlsaRecord { usage, selector, matching, data })
    }
}

/// A record of the right form that fits no certificate; `nth` keeps several apart.
#[must_use]
pub fn misfit(usage: u8, selector: u8, matching: u8, nth: usize) -> TlsaRecord {
    let seed = format!("a key that nobody has, {usage} {selector} {matching} {nth}");
    let data = match matching {
        2 => digest(&SHA512, seed.as_bytes()),
        _ => digest(&SHA256, seed.as_bytes()),
    };
    TlsaRecord { usage, selector, matching, data: data.as_ref().to_vec() }
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(2099, 1, 1);
    params
}

fn leaf(names: &[&str], validity: Validity) -> io::Result<CertificateParams> {
    let owned: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let alternative = CertificateParams::new(owned).map_err(bad)?.subject_alt_names;
    let mut params = named(names.first().copied().unwrap_or("nameless"));
    params.subject_alt_names = alternative;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if validity == Validity::Expired {
        params.not_after = date_time_ymd(2020, 1, 1);
    }
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6698_2_1_the_data_is_what_the_numbers_select() {
        let identity = Identity::self_signed(&["mx.dane.test"]).unwrap();
        let full = identity.tlsa(3, 0, 0).unwrap().data;
        assert_eq!(full, identity.chain()[0].to_vec());
        let spki = identity.tlsa(3, 1, 0).unwrap().data;
        // The key is part of the certificate, byte for byte.
        assert!(full.windows(spki.len()).any(|w| w == spki));
        assert_eq!(identity.tlsa(3, 1, 1).unwrap().data, digest(&SHA256, &spki).as_ref());
        assert_eq!(identity.tlsa(3, 1, 2).unwrap().data, digest(&SHA512, &spki).as_ref());
        assert_eq!(identity.tlsa(3, 0, 1).unwrap().data, digest(&SHA256, &full).as_ref());
    }

    #[test]
    fn rfc7671_5_2_usage_2_selects_the_issuer() {
        let authority = Authority::new("Lab Root").unwrap();
        let identity = authority.issue(&["mx.dane.test"]).unwrap();
        let other = authority.issue(&["mx2.dane.test"]).unwrap();
        assert_eq!(identity.tlsa(2, 0, 1).unwrap(), other.tlsa(2, 0, 1).unwrap());
        assert_ne!(identity.tlsa(3, 0, 1).unwrap().data, other.tlsa(3, 0, 1).unwrap().data);
        assert_eq!(identity.chain().len(), 2);
        assert_eq!(identity.without_issuers().chain().len(), 1);
        assert!(identity.server_config().is_ok());
    }

    #[test]
    fn expired_leaves_are_expired() {
        let identity = Identity::self_signed_expired(&["mx.dane.test"]).unwrap();
        let (_, parsed) = X509Certificate::from_der(&identity.chain()[0]).unwrap();
        assert!(parsed.validity().not_after.timestamp() < 1_600_000_000);
        let issued = Authority::new("Lab Root").unwrap().issue_expired(&["mx.dane.test"]).unwrap();
        let (_, parsed) = X509Certificate::from_der(&issued.chain()[0]).unwrap();
        assert!(parsed.validity().not_after.timestamp() < 1_600_000_000);
    }

    #[test]
    fn misfits_have_the_right_length_and_differ() {
        assert_eq!(misfit(3, 1, 1, 0).data.len(), 32);
        assert_eq!(misfit(3, 1, 2, 0).data.len(), 64);
        assert_ne!(misfit(3, 1, 1, 0).data, misfit(3, 1, 1, 1).data);
    }
}
