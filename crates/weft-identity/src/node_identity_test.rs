use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::*;
use crate::{DEFAULT_NODE_VALIDITY, IdentityHandle, NodeKey, RootCa};

fn identity(ca: &RootCa, node: &NodeId, swarm: &SwarmId) -> NodeIdentity {
    let key = NodeKey::generate().unwrap();
    let csr = key.csr_pem().unwrap();
    let leaf =
        ca.issue(&csr, NodeRole::Worker, node, swarm, SystemTime::now(), DEFAULT_NODE_VALIDITY).unwrap();
    NodeIdentity::from_pem(leaf, key.key_pem(), ca.certificate_pem().to_owned()).unwrap()
}

fn sample() -> (RootCa, NodeIdentity) {
    let ca = RootCa::generate(SystemTime::now()).unwrap();
    let (node, swarm) = (NodeId::random(&mut rand::rng()), SwarmId::random(&mut rand::rng()));
    let identity = identity(&ca, &node, &swarm);
    (ca, identity)
}

#[test]
fn what_is_stored_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let (_, identity) = sample();
    assert!(matches!(NodeIdentity::load(dir.path(), None), Err(StoreError::Missing(_))));
    identity.store(dir.path(), None).unwrap();
    let loaded = NodeIdentity::load(dir.path(), None).unwrap();
    assert_eq!(loaded.node_id, identity.node_id);
    assert_eq!(loaded.certificate_pem, identity.certificate_pem);
    let mode = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    NodeIdentity::remove(dir.path()).unwrap();
    NodeIdentity::remove(dir.path()).unwrap();
    assert!(matches!(NodeIdentity::load(dir.path(), None), Err(StoreError::Missing(_))));
}

#[test]
fn a_crash_while_writing_leaves_the_old_identity() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, first) = sample();
    first.store(dir.path(), None).unwrap();
    // What a crash between creating and renaming leaves: half a file, readable by all.
    let left = dir.path().join(format!(".{FILE_NAME}.tmp"));
    std::fs::write(&left, b"{\"format\": 1, \"certi").unwrap();
    assert_eq!(NodeIdentity::load(dir.path(), None).unwrap().certificate_pem, first.certificate_pem);
    let second = identity(&ca, &first.node_id, &first.swarm_id);
    second.store(dir.path(), None).unwrap();
    assert_eq!(NodeIdentity::load(dir.path(), None).unwrap().certificate_pem, second.certificate_pem);
    assert!(!left.exists());
}

#[test]
fn damaged_files_are_refused_with_their_path() {
    let dir = tempfile::tempdir().unwrap();
    let (_, identity) = sample();
    let (_, other) = sample();
    let path = dir.path().join(FILE_NAME);
    let file = |format: u32, key: &str| {
        serde_json::to_vec(&Stored {
            format,
            certificate: identity.certificate_pem.clone(),
            key: key.to_owned(),
            root: identity.root_pem.clone(),
        })
        .unwrap()
    };
    for (bytes, what) in [
        (b"not json".to_vec(), "malformed"),
        (file(9, &identity.key_pem), "format"),
        (file(1, &other.key_pem), "foreign key"),
        (file(1, "no key"), "no key"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = NodeIdentity::load(dir.path(), None).unwrap_err();
        assert!(error.to_string().contains(FILE_NAME), "{what}: {error}");
    }
}

#[test]
fn renewal_falls_between_half_and_four_fifths_of_the_validity() {
    let (_, identity) = sample();
    let validity = identity.not_after.duration_since(identity.not_before).unwrap();
    for fraction in [0.0, 0.3, 0.999, 7.0] {
        let after = identity.renewal_time(fraction).duration_since(identity.not_before).unwrap();
        assert!(after + Duration::from_secs(60) >= validity.mul_f64(0.5), "{fraction}");
        assert!(after <= validity.mul_f64(0.8), "{fraction}");
        assert_eq!(after.as_secs() % 60, 0);
    }
}

#[test]
fn issuer_info_is_that_of_the_root() {
    let (_, identity) = sample();
    let info = identity.issuer_info().unwrap();
    let root = pem::certificates(&identity.root_pem).unwrap();
    let (_, root) = X509Certificate::from_der(&root[0]).unwrap();
    assert_eq!(
        info,
        IssuerInfo { subject: root.subject().as_raw().to_vec(), public_key: root.public_key().raw.to_vec() }
    );
}

#[test]
fn an_update_is_stored_before_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, first) = sample();
    let handle = IdentityHandle::create(dir.path(), first.clone()).unwrap();
    let mut changes = handle.changes();
    let second = identity(&ca, &first.node_id, &first.swarm_id);
    handle.update(second.clone()).unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert_eq!(handle.identity().certificate_pem, second.certificate_pem);
    assert_eq!(
        IdentityHandle::open(dir.path(), None).unwrap().identity().certificate_pem,
        second.certificate_pem
    );
}

#[test]
fn a_root_is_taken_over_only_if_our_certificate_is_valid_under_it() {
    let (ca, first) = sample();
    let handle = IdentityHandle::in_memory(first.clone()).unwrap();
    let foreign = RootCa::generate(SystemTime::now()).unwrap();
    assert!(handle.update_root(foreign.certificate_pem(), SystemTime::now()).is_err());
    assert!(handle.update_root("rubbish", SystemTime::now()).is_err());
    assert_eq!(handle.identity().root_pem, first.root_pem);
    assert!(!handle.update_root(&first.root_pem, SystemTime::now()).unwrap());
    let bundle = format!("{}{}", ca.certificate_pem(), foreign.certificate_pem());
    assert!(handle.update_root(&bundle, SystemTime::now()).unwrap());
    assert_eq!(handle.identity().root_pem, bundle);
}

/// Turns bytes around, and marks them.
struct Turned;

impl KeySeal for Turned {
    fn seal(&self, plain: &[u8]) -> Vec<u8> {
        plain.iter().rev().copied().chain([7]).collect()
    }

    fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (mark, turned) = sealed.split_last()?;
        (*mark == 7).then(|| turned.iter().rev().copied().collect())
    }
}

#[test]
fn a_sealed_key_is_not_on_disk_and_opens_with_its_seal_only() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, first) = sample();
    let handle = IdentityHandle::create(dir.path(), first.clone()).unwrap();
    let seal = || Some(Arc::new(Turned) as Arc<dyn KeySeal>);
    assert!(handle.set_seal(seal()).unwrap());
    assert!(!handle.set_seal(seal()).unwrap(), "sealed already");
    let file = std::fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
    assert!(!file.contains("PRIVATE KEY") && file.contains("CERTIFICATE"), "{file}");
    assert!(NodeIdentity::is_sealed(dir.path()).unwrap());
    assert!(matches!(NodeIdentity::load(dir.path(), None), Err(StoreError::Sealed(_))));
    let again = IdentityHandle::open(dir.path(), seal()).unwrap();
    assert_eq!(again.identity().key_pem, handle.identity().key_pem);
    // What is renewed stays sealed.
    again.update(identity(&ca, &first.node_id, &first.swarm_id)).unwrap();
    assert!(NodeIdentity::is_sealed(dir.path()).unwrap());
    assert!(again.set_seal(None).unwrap());
    assert!(!NodeIdentity::is_sealed(dir.path()).unwrap());
    NodeIdentity::load(dir.path(), None).unwrap();
}
