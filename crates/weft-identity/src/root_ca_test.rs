use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;
use crate::{NodeKey, PeerCertificate, pem};

fn ids() -> (NodeId, SwarmId) {
    (NodeId::random(&mut rand::rng()), SwarmId::random(&mut rand::rng()))
}

fn issue(ca: &RootCa, role: NodeRole, now: SystemTime) -> (String, NodeId, SwarmId) {
    let (node, swarm) = ids();
    let csr = NodeKey::generate().unwrap().csr_pem().unwrap();
    let leaf = ca.issue(&csr, role, &node, &swarm, now, DEFAULT_NODE_VALIDITY).unwrap();
    (leaf, node, swarm)
}

#[test]
fn a_node_certificate_has_the_documented_form() {
    let now = SystemTime::now();
    let ca = RootCa::generate(now).unwrap();
    let (leaf_pem, node, swarm) = issue(&ca, NodeRole::Manager, now);
    let der = pem::certificates(&leaf_pem).unwrap();
    let (_, leaf) = X509Certificate::from_der(&der[0]).unwrap();
    let root_der = pem::certificates(ca.certificate_pem()).unwrap();
    let (_, root) = X509Certificate::from_der(&root_der[0]).unwrap();

    let subject: Vec<_> = leaf.subject().iter_attributes().map(|a| a.as_str().unwrap().to_owned()).collect();
    assert_eq!(subject, [swarm.to_string(), "swarm-manager".into(), node.to_string()]);
    assert_eq!(leaf.issuer().as_raw(), root.subject().as_raw());
    leaf.verify_signature(Some(root.public_key())).unwrap();
    assert_eq!(
        leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp(),
        (2160 + 1) * 3600
    );

    let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len();
    assert_eq!(names, 3);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && usage.value.key_encipherment());
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth);
    let constraints = leaf.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);
    let key_id = root.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    let authority = leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
        _ => None,
    });
    assert!(key_id.is_some());
    assert_eq!(key_id, authority);
}

#[test]
fn the_root_has_the_documented_form_and_survives_a_round_trip() {
    let now = SystemTime::now();
    let ca = RootCa::generate(now).unwrap();
    let der = pem::certificates(ca.certificate_pem()).unwrap();
    let (_, root) = X509Certificate::from_der(&der[0]).unwrap();
    assert_eq!(root.subject().to_string(), "CN=swarm-ca");
    assert!(root.is_ca());
    assert!(ca.certificate_pem().ends_with("-----END CERTIFICATE-----\n"));

    let again = RootCa::from_pem(ca.certificate_pem(), &ca.key_pem()).unwrap();
    assert_eq!(again.digest(), ca.digest());
    let (leaf, _, _) = issue(&again, NodeRole::Worker, now);
    RootBundle::parse(ca.certificate_pem()).unwrap().verify_node(&leaf, now).unwrap();
}

#[test]
fn a_foreign_key_is_refused_for_a_root() {
    let now = SystemTime::now();
    let (one, other) = (RootCa::generate(now).unwrap(), RootCa::generate(now).unwrap());
    assert!(matches!(
        RootCa::from_pem(one.certificate_pem(), &other.key_pem()),
        Err(CertificateError::KeyMismatch)
    ));
}

#[test]
fn expired_future_and_foreign_certificates_are_untrusted() {
    let now = SystemTime::now();
    let ca = RootCa::generate(now).unwrap();
    let roots = RootBundle::parse(ca.certificate_pem()).unwrap();
    let (leaf, _, _) = issue(&ca, NodeRole::Worker, now);
    roots.verify_node(&leaf, now).unwrap();
    for moment in
        [now + DEFAULT_NODE_VALIDITY + Duration::from_secs(1), now - BACKDATE - Duration::from_secs(1)]
    {
        assert!(matches!(roots.verify_node(&leaf, moment), Err(CertificateError::Untrusted { .. })));
    }
    let (foreign, _, _) = issue(&RootCa::generate(now).unwrap(), NodeRole::Worker, now);
    assert!(matches!(roots.verify_node(&foreign, now), Err(CertificateError::Untrusted { .. })));
}

#[test]
fn a_leaf_is_no_root() {
    let now = SystemTime::now();
    let (leaf, _, _) = issue(&RootCa::generate(now).unwrap(), NodeRole::Manager, now);
    assert!(matches!(RootBundle::parse(&leaf), Err(CertificateError::UnusableRoot(_))));
}

#[test]
fn the_request_decides_nothing_but_the_key() {
    // A request that asks to be a CA and a manager.
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut wish = CertificateParams::new(vec!["swarm-ca".to_owned(), "swarm-manager".to_owned()]).unwrap();
    wish.distinguished_name.push(DnType::OrganizationalUnitName, "swarm-manager");
    wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
    let now = SystemTime::now();
    let (node, swarm) = ids();
    let ca = RootCa::generate(now).unwrap();
    let leaf = ca.issue(&csr, NodeRole::Worker, &node, &swarm, now, DEFAULT_NODE_VALIDITY).unwrap();
    let der = pem::certificates(&leaf).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der[0]).unwrap();
    assert!(!certificate.is_ca());
    assert_eq!(PeerCertificate::from_der(&der[0]).unwrap().role, NodeRole::Worker);
    assert_eq!(certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
}

#[test]
fn a_too_short_lifetime_becomes_the_default() {
    let now = SystemTime::now();
    let ca = RootCa::generate(now).unwrap();
    let (node, swarm) = ids();
    let csr = NodeKey::generate().unwrap().csr_pem().unwrap();
    let leaf = ca.issue(&csr, NodeRole::Worker, &node, &swarm, now, Duration::from_secs(59)).unwrap();
    let roots = RootBundle::parse(ca.certificate_pem()).unwrap();
    roots.verify_node(&leaf, now + DEFAULT_NODE_VALIDITY - Duration::from_secs(1)).unwrap();
}

#[test]
fn damaged_requests_are_refused() {
    let now = SystemTime::now();
    let ca = RootCa::generate(now).unwrap();
    let (node, swarm) = ids();
    let csr = NodeKey::generate().unwrap().csr_pem().unwrap();
    for bad in [
        "",
        "no pem",
        &csr.replace("REQUEST", "REQUESTED"),
        &csr.replacen("MI", "MJ", 1),
        ca.certificate_pem(),
    ] {
        let answer = ca.issue(bad, NodeRole::Worker, &node, &swarm, now, DEFAULT_NODE_VALIDITY);
        assert!(matches!(answer, Err(CertificateError::Malformed("certificate request"))), "{bad}");
    }
}

mod captured {
    use prost::Message as _;
    use weft_wire::swarmkit::IssueNodeCertificateRequest;

    use super::*;

    fn vectors() -> serde_json::Value {
        serde_json::from_str(include_str!("../tests/vectors/01-join-and-ca.json")).unwrap()
    }

    #[test]
    fn a_request_of_a_docker_node_is_signed() {
        let bytes =
            hex::decode(vectors()["IssueNodeCertificateRequest_from_dockerd_20_10"].as_str().unwrap())
                .unwrap();
        let request = IssueNodeCertificateRequest::decode(&bytes[..]).unwrap();
        let csr = String::from_utf8(request.csr).unwrap();
        let now = SystemTime::now();
        let ca = RootCa::generate(now).unwrap();
        let (node, swarm) = ids();
        let leaf = ca.issue(&csr, NodeRole::Worker, &node, &swarm, now, DEFAULT_NODE_VALIDITY).unwrap();
        RootBundle::parse(ca.certificate_pem()).unwrap().verify_node(&leaf, now).unwrap();
        // Our own request looks like Docker's: same DER length but for the signature's leading zeros.
        let ours = NodeKey::generate().unwrap().csr_pem().unwrap();
        assert!(ours.len().abs_diff(csr.len()) <= 4, "{} beside {}", ours.len(), csr.len());
    }

    #[test]
    fn a_certificate_of_a_docker_manager_is_read_and_trusted_in_its_time() {
        let vectors = vectors();
        let leaf = vectors["issued_worker_cert_pem"].as_str().unwrap();
        let der = pem::certificates(leaf).unwrap();
        let peer = PeerCertificate::from_der(&der[0]).unwrap();
        assert_eq!(peer.role, NodeRole::Worker);
        assert_eq!(peer.node_id.as_str(), "wdfn9fh9phw49m4pnt94a4vky");
        let (_, certificate) = X509Certificate::from_der(&der[0]).unwrap();
        let begin = u64::try_from(certificate.validity().not_before.timestamp()).unwrap();
        let roots = RootBundle::parse(vectors["root_ca_pem"].as_str().unwrap()).unwrap();
        roots.verify_node(leaf, SystemTime::UNIX_EPOCH + Duration::from_secs(begin + 60)).unwrap();
    }
}

proptest::proptest! {
    #[test]
    fn damaged_certificates_never_panic(at in 0usize..600, flip in 1u8..=255, cut in 0usize..600) {
        static LEAF: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut der = LEAF
            .get_or_init(|| {
                let now = SystemTime::now();
                let (leaf, _, _) = issue(&RootCa::generate(now).unwrap(), NodeRole::Manager, now);
                pem::certificates(&leaf).unwrap()[0].to_vec()
            })
            .clone();
        let place = at % der.len();
        der[place] ^= flip;
        // Either is fine; neither may panic.
        let _ = PeerCertificate::from_der(&der);
        der.truncate(cut);
        let _ = PeerCertificate::from_der(&der);
    }

    #[test]
    fn arbitrary_text_is_no_root(text in "(-----BEGIN CERTIFICATE-----\n)?[A-Za-z0-9+/=\n]{0,300}(\n-----END CERTIFICATE-----\n)?") {
        assert!(RootBundle::parse(&text).is_err());
    }
}

#[test]
fn what_the_next_root_signs_is_valid_under_both_with_the_cross_signed_one() {
    let now = SystemTime::now();
    let (old, next) = (RootCa::generate(now).unwrap(), RootCa::generate(now).unwrap());
    let cross = old.cross_sign(&next, now).unwrap();
    let key = NodeKey::generate().unwrap();
    let (node, swarm) = (NodeId::random(&mut rand::rng()), SwarmId::random(&mut rand::rng()));
    let leaf = next
        .issue(&key.csr_pem().unwrap(), NodeRole::Worker, &node, &swarm, now, DEFAULT_NODE_VALIDITY)
        .unwrap();
    let chain = format!("{leaf}{cross}");
    let bundle = |root: &RootCa| RootBundle::parse(root.certificate_pem()).unwrap();
    bundle(&old).verify_node(&chain, now).unwrap();
    bundle(&next).verify_node(&chain, now).unwrap();
    bundle(&next).verify_node(&leaf, now).unwrap();
    assert!(bundle(&old).verify_node(&leaf, now).is_err());
    let identity =
        crate::NodeIdentity::from_pem(chain, key.key_pem(), old.certificate_pem().to_owned()).unwrap();
    let (said, want) = (identity.issuer_info().unwrap(), next.issuer_info().unwrap());
    assert_eq!((said.subject, said.public_key), (want.subject, want.public_key));
}
