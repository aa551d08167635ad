//! Certificates for the tests of this stage, made afresh for each (RFC 5280 §4).
//!
//! Keys and certificates come from another library than the one that reads them, so what the
//! tests expect does not rest on the code under test.

use crate::clock::Timestamp;
use crate::resolve::TlsaRecord;
use crate::smtp::address::Domain;
use aws_lc_rs::digest::{SHA256, SHA512, digest};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData as _};

/// The present of all tests; the certificates are valid from 1975 to 4096 unless a test says else.
pub(super) const NOW: Timestamp = Timestamp(1_795_261_468_000);

/// A certificate with its key.
pub(super) struct Made {
    pub(super) params: CertificateParams,
    pub(super) key: KeyPair,
    pub(super) der: Vec<u8>,
}

impl Made {
    pub(super) fn spki(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    /// Issues a certificate; `bend` changes it from the ordinary.
    pub(super) fn issue(&self, mut params: CertificateParams, bend: impl FnOnce(&mut CertificateParams)) -> Self {
        bend(&mut params);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let der = params.signed_by(&key, &issuer).unwrap().der().to_vec();
        Self { params, key, der }
    }

    pub(super) fn ca(&self, name: &str) -> Self {
        self.issue(ca_params(name), |_| {})
    }

    pub(super) fn leaf(&self, names: &[&str]) -> Self {
        self.issue(leaf_params(names), |_| {})
    }
}

pub(super) fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.use_authority_key_identifier_extension = true;
    params
}

/// A server's certificate for `names`; its Common Name is none of them.
pub(super) fn leaf_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "mail server");
    params.use_authority_key_identifier_extension = true;
    params
}

pub(super) fn self_signed(params: CertificateParams) -> Made {
    let key = KeyPair::generate().unwrap();
    let der = params.self_signed(&key).unwrap().der().to_vec();
    Made { params, key, der }
}

pub(super) fn root(name: &str) -> Made {
    self_signed(ca_params(name))
}

/// The record with the given numbers that fits a certificate.
pub(super) fn tlsa(usage: u8, selector: u8, matching: u8, made: &Made) -> TlsaRecord {
    let selected = if selector == 0 { made.der.clone() } else { made.spki() };
    let data = match matching {
        0 => selected,
        1 => digest(&SHA256, &selected).as_ref().to_vec(),
        _ => digest(&SHA512, &selected).as_ref().to_vec(),
    };
    TlsaRecord { usage, selector, matching, data }
}

pub(super) fn domains(names: &[&str]) -> Vec<Domain> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}
