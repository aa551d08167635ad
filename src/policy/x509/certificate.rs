//! A certificate as the path rules see it: its bytes, its key, its names, its extensions
//! (RFC 5280 §4.1, §4.2).
//!
//! Two depths of reading. [`public_key_info`] walks the outer structure only and so finds the
//! key of certificates whose dates, serial numbers or extensions no strict parser accepts; that
//! is all DANE-EE needs (RFC 7672 §3.1.1). [`ParsedCertificate::read`] reads everything and is for
//! certificates that must be valid.

use super::distinguished::comparable;
use aws_lc_rs::digest;
use std::fmt::Write as _;
use x509_parser::asn1_rs::{Any, FromDer as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{
    BasicConstraints, ExtendedKeyUsage, GeneralName, KeyUsage, NameConstraints, ParsedExtension,
};
use x509_parser::oid_registry::Oid;
use x509_parser::oid_registry::{
    OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER as AUTHORITY_KEY_ID, OID_X509_EXT_BASIC_CONSTRAINTS as BASIC_CONSTRAINTS,
    OID_X509_EXT_CERTIFICATE_POLICIES as POLICIES, OID_X509_EXT_CRL_DISTRIBUTION_POINTS as CRL_POINTS,
    OID_X509_EXT_EXTENDED_KEY_USAGE as EXTENDED_KEY_USAGE, OID_X509_EXT_INHIBIT_ANY_POLICY as INHIBIT_ANY_POLICY,
    OID_X509_EXT_KEY_USAGE as KEY_USAGE, OID_X509_EXT_NAME_CONSTRAINTS as NAME_CONSTRAINTS,
    OID_X509_EXT_POLICY_CONSTRAINTS as POLICY_CONSTRAINTS, OID_X509_EXT_POLICY_MAPPINGS as POLICY_MAPPINGS,
    OID_X509_EXT_SUBJECT_ALT_NAME as SUBJECT_ALT_NAME, OID_X509_EXT_SUBJECT_KEY_IDENTIFIER as SUBJECT_KEY_ID,
};
use x509_parser::x509::X509Version;

/// The extensions whose content the path rules act on: unreadable ones refuse the certificate.
const ENFORCED: [Oid<'static>; 5] =
    [BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE, SUBJECT_ALT_NAME, NAME_CONSTRAINTS];

/// Extensions that may be critical and change nothing here, as in OpenSSL: key identifiers are
/// hints, certificate policies are not evaluated unless asked for, revocation lists are not
/// fetched (RFC 7672 §3.1 leaves revocation to the removal of the TLSA record).
const HARMLESS: [Oid<'static>; 7] =
    [AUTHORITY_KEY_ID, SUBJECT_KEY_ID, POLICIES, POLICY_MAPPINGS, POLICY_CONSTRAINTS, INHIBIT_ANY_POLICY, CRL_POINTS];

/// The most extensions of a certificate in a path. Real ones have about ten, and the search for
/// duplicates takes the square of their number.
const EXTENSIONS_LIMIT: usize = 64;

/// SHA-256 of a certificate, hexadecimal, as `openssl x509 -fingerprint -sha256` without colons.
#[must_use]
pub fn sha256_hex(der: &[u8]) -> String {
    digest::digest(&digest::SHA256, der).as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

/// The SubjectPublicKeyInfo of a certificate, as DER; `None` when the bytes are no certificate.
///
/// Reads the frame of RFC 5280 §4.1 and nothing inside the fields it passes over.
#[must_use]
pub fn public_key_info(der: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(der)?;
    let (to_be_signed, _) = element(certificate.content)?;
    let (first, after_version) = element(to_be_signed.content)?;
    let mut rest = if first.is_version { after_version } else { to_be_signed.content };
    for _field in ["serialNumber", "signature", "issuer", "validity", "subject"] {
        rest = element(rest)?.1;
    }
    Some(element(rest)?.0.raw)
}

/// A public key as the signature algorithms want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey<'a> {
    /// Content of the AlgorithmIdentifier: OID and parameters.
    pub algorithm: &'a [u8],
    /// Content of the subjectPublicKey bit string.
    pub bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// Reads a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    #[must_use]
    pub fn read(spki: &'a [u8]) -> Option<Self> {
        let (info, after) = element(spki)?;
        let (algorithm, rest) = element(info.content)?;
        let (bits, end) = element(rest)?;
        // The first octet counts unused bits; keys have none.
        let bits = bits.content.strip_prefix(&[0])?;
        (after.is_empty() && end.is_empty()).then_some(Self { algorithm: algorithm.content, bits })
    }
}

/// Whether the bytes are exactly one DER element, as a full certificate or key must be.
pub(in crate::policy) fn is_one_element(der: &[u8]) -> bool {
    element(der).is_some_and(|(found, rest)| rest.is_empty() && !found.content.is_empty())
}

/// One DER element.
pub(in crate::policy) struct Element<'a> {
    /// All its octets.
    pub(in crate::policy) raw: &'a [u8],
    /// Without tag and length.
    pub(in crate::policy) content: &'a [u8],
    is_version: bool,
}

/// The first DER element, and what follows it.
pub(in crate::policy) fn element(input: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (rest, any) = Any::from_der(input).ok()?;
    let raw = input.get(..input.len().checked_sub(rest.len())?)?;
    Some((Element { raw, content: any.data, is_version: raw.first() == Some(&0xA0) }, rest))
}

/// A certificate that could be read in full. Its extensions may still break rules:
/// see [`ParsedCertificate::broken_extension`].
#[derive(Debug)]
pub struct ParsedCertificate<'a> {
    /// The DER bytes.
    pub der: &'a [u8],
    /// SubjectPublicKeyInfo, as DER.
    pub spki: &'a [u8],
    /// The key in it.
    pub key: PublicKey<'a>,
    /// Content of the AlgorithmIdentifier of the signature.
    pub signature_algorithm: &'a [u8],
    /// What the issuer signed.
    pub signed: &'a [u8],
    /// The issuer's name in a form that compares by bytes.
    pub issuer: Vec<u8>,
    /// The subject's name in a form that compares by bytes.
    pub subject: Vec<u8>,
    x509: X509Certificate<'a>,
}

impl<'a> ParsedCertificate<'a> {
    /// Reads a certificate.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(der: &'a [u8]) -> Result<Self, String> {
        let (rest, x509) = x509_parser::parse_x509_certificate(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("bytes follow the certificate".to_owned());
        }
        let frame = || {
            let (certificate, _) = element(der)?;
            let (signed, rest) = element(certificate.content)?;
            Some((signed.raw, element(rest)?.0.content))
        };
        let (signed, signature_algorithm) = frame().ok_or("not a certificate")?;
        // RFC 5280 §4.1.1.2: both fields must be the same, or the signed one could be bypassed.
        if x509.signature_algorithm != x509.tbs_certificate.signature {
            return Err("the two signature algorithm fields differ".to_owned());
        }
        let spki = public_key_info(der).ok_or("no public key")?;
        let key = PublicKey::read(spki).ok_or("the public key is malformed")?;
        let issuer = comparable(&x509.tbs_certificate.issuer);
        let subject = comparable(&x509.tbs_certificate.subject);
        Ok(Self { der, spki, key, signature_algorithm, signed, issuer, subject, x509 })
    }

    /// The signature of the issuer.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.x509.signature_value.data
    }

    /// Issuer and subject are the same name (RFC 5280 §3.2: self-issued).
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// A certificate of version 1 or 2, which cannot say that it is a CA.
    #[must_use]
    pub fn has_no_extensions_by_version(&self) -> bool {
        self.x509.version != X509Version::V3
    }

    /// The last second before it is valid and the last second it is valid, since the epoch.
    #[must_use]
    pub fn validity(&self) -> (i64, i64) {
        let validity = &self.x509.validity;
        (validity.not_before.timestamp(), validity.not_after.timestamp())
    }

    /// The parsed subject.
    pub(in crate::policy) fn subject_name(&self) -> &x509_parser::x509::X509Name<'a> {
        &self.x509.tbs_certificate.subject
    }

    /// A reason to refuse it whatever its place in a path: an extension twice, an unreadable
    /// one that we act on, or a critical one that we do not know (RFC 5280 §4.2).
    #[must_use]
    pub fn broken_extension(&self) -> Option<String> {
        let extensions = self.x509.extensions();
        if extensions.len() > EXTENSIONS_LIMIT {
            return Some("a certificate has too many extensions".to_owned());
        }
        extensions.iter().enumerate().find_map(|(i, extension)| {
            let oid = &extension.oid;
            if extensions.iter().take(i).any(|earlier| earlier.oid == *oid) {
                return Some(format!("the extension {oid} stands twice in a certificate"));
            }
            if ENFORCED.contains(oid) {
                let unreadable = extension.parsed_extension().error().is_some();
                return unreadable.then(|| format!("the extension {oid} of a certificate cannot be read"));
            }
            (extension.critical && !HARMLESS.contains(oid))
                .then(|| format!("a certificate has the unknown critical extension {oid}"))
        })
    }

    fn parsed(&self, oid: &Oid<'_>) -> Option<&ParsedExtension<'a>> {
        self.x509.extensions().iter().find(|extension| extension.oid == *oid).map(|found| found.parsed_extension())
    }

    /// basicConstraints (RFC 5280 §4.2.1.9).
    #[must_use]
    pub fn basic_constraints(&self) -> Option<&BasicConstraints> {
        let ParsedExtension::BasicConstraints(found) = self.parsed(&BASIC_CONSTRAINTS)? else { return None };
        Some(found)
    }

    /// keyUsage (RFC 5280 §4.2.1.3).
    #[must_use]
    pub fn key_usage(&self) -> Option<&KeyUsage> {
        let ParsedExtension::KeyUsage(found) = self.parsed(&KEY_USAGE)? else { return None };
        Some(found)
    }

    /// extKeyUsage (RFC 5280 §4.2.1.12).
    #[must_use]
    pub fn extended_key_usage(&self) -> Option<&ExtendedKeyUsage<'a>> {
        let ParsedExtension::ExtendedKeyUsage(found) = self.parsed(&EXTENDED_KEY_USAGE)? else { return None };
        Some(found)
    }

    /// nameConstraints (RFC 5280 §4.2.1.10).
    #[must_use]
    pub fn name_constraints(&self) -> Option<&NameConstraints<'a>> {
        let ParsedExtension::NameConstraints(found) = self.parsed(&NAME_CONSTRAINTS)? else { return None };
        Some(found)
    }

    /// The octets of nameConstraints, for what the parser passes over.
    pub(in crate::policy) fn name_constraints_value(&self) -> Option<&'a [u8]> {
        self.x509.extensions().iter().find(|extension| extension.oid == NAME_CONSTRAINTS).map(|found| found.value)
    }

    /// The names of subjectAltName (RFC 5280 §4.2.1.6); empty without the extension.
    #[must_use]
    pub fn alternative_names(&self) -> &[GeneralName<'a>] {
        match self.parsed(&SUBJECT_ALT_NAME) {
            Some(ParsedExtension::SubjectAlternativeName(found)) => &found.general_names,
            Some(_) | None => &[],
        }
    }

    /// Whether the key identifiers, where both are given, name `issuer` as the issuer
    /// (RFC 5280 §4.2.1.1). A hint for the order of trying, never a proof.
    #[must_use]
    pub fn points_to(&self, issuer: &Self) -> bool {
        let wanted = match self.parsed(&AUTHORITY_KEY_ID) {
            Some(ParsedExtension::AuthorityKeyIdentifier(found)) => found.key_identifier.as_ref(),
            Some(_) | None => None,
        };
        let offered = match issuer.parsed(&SUBJECT_KEY_ID) {
            Some(ParsedExtension::SubjectKeyIdentifier(found)) => Some(found),
            Some(_) | None => None,
        };
        wanted.zip(offered).is_none_or(|(wanted, offered)| wanted == offered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{leaf_params, self_signed};

    #[test]
    fn certificate_digests_are_those_openssl_prints() {
        let version_1 = include_bytes!("../../../testdata/dane/version1.der");
        assert_eq!(sha256_hex(version_1), "d42192a5e1ca3655ab1d1afc3c799ad4a3c8a9251904deee33dacfe54ffc2418");
    }

    #[test]
    fn rfc5280_4_1_cut_or_changed_certificates_never_panic() {
        let made = self_signed(leaf_params(&["mx.example.org"]));
        for end in 0..made.der.len() {
            assert!(ParsedCertificate::read(&made.der[..end]).is_err());
            let _any = public_key_info(&made.der[..end]);
        }
        for place in 0..made.der.len() {
            let mut changed = made.der.clone();
            changed[place] ^= 0x55;
            let _any = public_key_info(&changed).and_then(PublicKey::read);
            if let Ok(read) = ParsedCertificate::read(&changed) {
                let _any = read.broken_extension();
            }
        }
        let longer = [made.der.as_slice(), b"\0"].concat();
        assert!(ParsedCertificate::read(&longer).is_err());
    }

    #[test]
    fn rfc5280_4_1_2_7_the_key_is_found_in_every_version() {
        let made = self_signed(leaf_params(&["mx.example.org"]));
        assert_eq!(public_key_info(&made.der), Some(made.spki().as_slice()));
        assert!(public_key_info(include_bytes!("../../../testdata/dane/version1.der")).is_some());
        assert_eq!(public_key_info(b""), None);
    }
}
