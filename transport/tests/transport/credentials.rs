use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::Message;
use starling_proto::NodeId;
use starling_proto::mesh::v1;
use starling_transport::{CredentialError, MAX_CREDENTIAL, Refusal};

use crate::fixture::Mesh;

fn spoiled(credential: &Bytes, spoil: impl FnOnce(&mut v1::Credential)) -> Vec<u8> {
    let mut credential = v1::Credential::decode(credential.clone()).unwrap();
    spoil(&mut credential);
    credential.encode_to_vec()
}

fn flipped(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[10] ^= 1;
    bytes.into()
}

#[test]
fn whoever_trusts_the_roots_can_check_a_credential() {
    let mesh = Mesh::new();
    let identity = mesh.identity("web-1", &["web"]);
    let trust = mesh.identity("web-2", &[]).trust().clone();
    let verified = trust.verify_credential(&identity.credential(), SystemTime::now()).unwrap();
    assert_eq!(verified.spiffe, Mesh::spiffe("web-1"));
    assert_eq!(verified.node_id, identity.node_id());
    assert_eq!(verified.node_id, NodeId::of_key(&verified.gossip_key));
    assert_eq!(verified.services, identity.services());
    assert_eq!(verified.not_after, identity.not_after());
}

#[test]
fn a_credential_with_anything_changed_is_refused() {
    let mesh = Mesh::new();
    let identity = mesh.identity("web-1", &["web"]);
    let other = v1::Credential::decode(mesh.identity("web-2", &[]).credential()).unwrap();
    let good = identity.credential();
    let check = |bytes: &[u8]| identity.trust().verify_credential(bytes, SystemTime::now()).unwrap_err();
    let spoil = |change: &dyn Fn(&mut v1::Credential)| check(&spoiled(&good, change));

    assert_eq!(spoil(&|c| c.issued_at -= 1), CredentialError::GossipSignature);
    assert_eq!(spoil(&|c| c.gossip_key = other.gossip_key.clone()), CredentialError::GossipSignature);
    assert_eq!(spoil(&|c| c.certificates = other.certificates.clone()), CredentialError::GossipSignature);
    assert_eq!(spoil(&|c| c.by_gossip_key = flipped(&c.by_gossip_key)), CredentialError::GossipSignature);
    assert_eq!(
        spoil(&|c| c.by_certificate_key = flipped(&c.by_certificate_key)),
        CredentialError::CertificateSignature
    );
    assert_eq!(spoil(&|c| c.by_certificate_key = c.by_gossip_key.clone()), CredentialError::CertificateSignature);
    assert_eq!(spoil(&|c| c.certificate_scheme = 0x0401), CredentialError::Scheme(0x0401));
    assert_eq!(spoil(&|c| c.certificate_scheme = 0x1_0807), CredentialError::Scheme(0x1_0807));
    assert_eq!(spoil(&|c| c.certificate_scheme = 0x0403), CredentialError::CertificateSignature);
    assert_eq!(spoil(&|c| c.certificates.clear()), CredentialError::Chain(0));
    assert_eq!(spoil(&|c| c.certificates = vec![c.certificates[0].clone(); 5]), CredentialError::Chain(5));
    assert_eq!(spoil(&|c| c.gossip_key = Bytes::from_static(&[1; 31])), CredentialError::GossipKey(31));
    assert!(matches!(check(&[0xff; 8]), CredentialError::Decode(_)));
    assert!(matches!(check(&vec![0; MAX_CREDENTIAL + 1]), CredentialError::Decode(_)));
}

#[test]
fn a_credential_ends_with_its_certificate_and_belongs_to_one_mesh() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    let identity = mesh.identity("web-1", &[]);
    let refused = |trust: &starling_transport::Trust, now| match trust.verify_credential(&identity.credential(), now) {
        Err(CredentialError::Certificate(refused)) => refused.reason,
        outcome => panic!("{outcome:?}"),
    };
    let later = identity.not_after() + Duration::from_secs(1);
    assert_eq!(refused(identity.trust(), later), Refusal::Expired);
    assert_eq!(refused(other.identity("web-1", &[]).trust(), SystemTime::now()), Refusal::UnknownIssuer);
}

#[test]
fn a_credential_of_the_future_is_refused() {
    let mesh = Mesh::new();
    let identity = mesh.identity("web-1", &[]);
    let past = SystemTime::now() - Duration::from_hours(1);
    let error = identity.trust().verify_credential(&identity.credential(), past).unwrap_err();
    assert!(matches!(error, CredentialError::Future(3550..=3650)), "{error}");
}
