//! What a node's certificate says: one name, the services it may run, and until when.

use std::time::{Duration, SystemTime};

use starling_proto::{ServiceName, ServicePattern, SpiffeId, TrustDomain};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::refusal::{Refusal, RefusedCertificate};

/// The extension that lists services: `SEQUENCE OF UTF8String`, each `ns/<namespace>/svc/<service>`, globs allowed.
/// Under 2.25 (X.667), so that nobody had to be asked for it; docs/decisions/0005 says how the number was made.
pub(crate) const SERVICES_OID: &[u64] = &[2, 25, 2_179_726_146_485_910_188];
/// The most services a certificate may list.
pub(crate) const MAX_SERVICES: usize = 256;

/// Who a peer is, by its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its name.
    pub spiffe: SpiffeId,
    /// What it may run.
    pub services: Vec<ServicePattern>,
    /// When the certificate ends.
    pub not_after: SystemTime,
}

impl PeerIdentity {
    /// May it serve, or speak for, this service?
    pub fn may_run(&self, service: &ServiceName) -> bool {
        self.services.iter().any(|pattern| pattern.matches(service))
    }
}

/// Reads a leaf certificate of this mesh. Its chain is not checked here.
pub(crate) fn read_leaf(der: &[u8], domain: &TrustDomain) -> Result<PeerIdentity, RefusedCertificate> {
    let certificate = parse(der)?;
    let name = only_uri(&certificate)?;
    let spiffe: SpiffeId =
        name.parse().map_err(|error| RefusedCertificate::new(Refusal::BadName, format!("{error}")))?;
    if spiffe.trust_domain() != domain {
        let detail = format!("'{spiffe}' is not of the mesh '{domain}'");
        return Err(RefusedCertificate::new(Refusal::WrongTrustDomain, detail));
    }
    let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Ok(PeerIdentity {
        spiffe,
        services: services(&certificate)?,
        not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(not_after),
    })
}

/// Reads the trust domain out of a root made by `starling ca init`: its only URI is `spiffe://<trust-domain>`.
pub(crate) fn read_root(der: &[u8]) -> Result<TrustDomain, RefusedCertificate> {
    let certificate = parse(der)?;
    let uri = only_uri(&certificate)?;
    let domain = uri
        .strip_prefix("spiffe://")
        .ok_or_else(|| RefusedCertificate::new(Refusal::BadName, format!("'{uri}' is not spiffe://<trust-domain>")))?;
    domain.parse().map_err(|error| RefusedCertificate::new(Refusal::BadName, format!("{error}")))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, RefusedCertificate> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(RefusedCertificate::new(Refusal::BadCertificate, "bytes after the certificate")),
        Err(error) => Err(RefusedCertificate::new(Refusal::BadCertificate, error.to_string())),
    }
}

/// The one URI among the alternative names (SPIFFE X.509-SVID, section 2: exactly one).
fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, RefusedCertificate> {
    let bad = |detail: String| RefusedCertificate::new(Refusal::BadName, detail);
    let names = certificate.subject_alternative_name().map_err(|error| bad(error.to_string()))?;
    let mut uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.count()) {
        (Some(uri), 0) => Ok(uri),
        (None, _) => Err(bad("no URI among the certificate's names".to_owned())),
        (Some(_), more) => Err(bad(format!("{} URIs among the certificate's names, not one", more + 1))),
    }
}

fn services(certificate: &X509Certificate<'_>) -> Result<Vec<ServicePattern>, RefusedCertificate> {
    let bad = |detail: String| RefusedCertificate::new(Refusal::BadServices, detail);
    let mut found = certificate.extensions().iter().filter(|extension| is_services_oid(extension.oid.as_bytes()));
    let Some(extension) = found.next() else { return Ok(Vec::new()) };
    if found.next().is_some() || !matches!(extension.parsed_extension(), ParsedExtension::UnsupportedExtension { .. }) {
        return Err(bad("the list of services appears twice".to_owned()));
    }
    let texts = read_services(extension.value).ok_or_else(|| bad("the list of services is malformed".to_owned()))?;
    texts.into_iter().map(|text| text.parse().map_err(|error| bad(format!("{error}")))).collect()
}

fn is_services_oid(content: &[u8]) -> bool {
    // 2.25 is one byte, 2 * 40 + 25; the rest is base 128 (X.690, 8.19).
    let Some((first, rest)) = content.split_first() else { return false };
    let Some((last, high)) = rest.split_last() else { return false };
    let whole = high.iter().all(|byte| byte & 0x80 != 0) && last & 0x80 == 0 && rest.len() <= 9;
    let value = rest.iter().fold(0_u64, |value, byte| (value << 7) | u64::from(byte & 0x7f));
    *first == 105 && whole && value == SERVICES_OID[2]
}

const SEQUENCE: u8 = 0x30;
const UTF8_STRING: u8 = 0x0c;

/// Encodes the extension's value (DER).
pub(crate) fn write_services(services: &[ServicePattern]) -> Vec<u8> {
    let mut body = Vec::new();
    for service in services {
        write_der(&mut body, UTF8_STRING, service.to_string().as_bytes());
    }
    let mut der = Vec::new();
    write_der(&mut der, SEQUENCE, &body);
    der
}

fn write_der(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    // 256 patterns of at most 135 bytes: a length of up to two bytes.
    let [.., high, low] = body.len().to_be_bytes();
    match body.len() {
        0..=0x7f => out.push(low),
        0x80..=0xff => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    out.extend_from_slice(body);
}

/// Reads what [`write_services`] writes; `None` if it is anything else.
fn read_services(der: &[u8]) -> Option<Vec<&str>> {
    let (mut body, rest) = read_der(der, SEQUENCE)?;
    if !rest.is_empty() {
        return None;
    }
    let mut texts = Vec::new();
    while !body.is_empty() {
        let (text, rest) = read_der(body, UTF8_STRING)?;
        texts.push(std::str::from_utf8(text).ok()?);
        if texts.len() > MAX_SERVICES {
            return None;
        }
        body = rest;
    }
    Some(texts)
}

fn read_der(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (len, body) = match der {
        [first, rest @ ..] if *first != tag || rest.is_empty() => return None,
        [_, len @ 0..=0x7f, body @ ..] => (usize::from(*len), body),
        [_, 0x81, len, body @ ..] if *len >= 0x80 => (usize::from(*len), body),
        [_, 0x82, high, low, body @ ..] if *high != 0 => (usize::from(u16::from_be_bytes([*high, *low])), body),
        _ => return None,
    };
    body.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_of_services_of_all_lengths_survive() {
        for count in [0, 1, 3, 5, 20, MAX_SERVICES] {
            let patterns: Vec<ServicePattern> =
                (0..count).map(|n| format!("shop/orders-{n}-*").parse().unwrap()).collect();
            let der = write_services(&patterns);
            let texts = read_services(&der).unwrap();
            let read: Vec<ServicePattern> = texts.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(read, patterns);
        }
    }

    #[test]
    fn a_list_with_trailing_bytes_is_refused() {
        let mut der = write_services(&["web".parse().unwrap()]);
        der.push(0);
        assert_eq!(read_services(&der), None);
    }

    proptest! {
        #[test]
        fn reading_arbitrary_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_services(&bytes);
            let _ = is_services_oid(&bytes);
            let _ = read_leaf(&bytes, &"demo.example".parse().unwrap());
        }
    }
}
