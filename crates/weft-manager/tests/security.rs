//! Root rotation and autolock, with nodes that come and go.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use common::*;
use weft_identity::{ChannelMode, IdentityHandle, bootstrap, channel, renew};
use weft_manager::{Control, KeyEncryptionKey, Manager, ManagerConfig, Rotation};
use weft_wire::swarmkit::dispatcher_client::DispatcherClient;
use weft_wire::swarmkit::issuance_status::State;
use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::*;

async fn update(
    control: &Control,
    rotation: Rotation,
    change: impl FnOnce(&mut ClusterSpec),
) -> Result<(), String> {
    let cluster = control.cluster();
    let mut spec = cluster.spec.clone().unwrap();
    change(&mut spec);
    let version = cluster.meta.as_ref().unwrap().version.unwrap().index;
    control.update_cluster(version, spec, rotation).await.map(drop).map_err(|error| error.to_string())
}

/// Opens a session that tells who issued the node's certificate, as agents do.
async fn tell(swarm: &Swarm, identity: &IdentityHandle) -> tonic::Streaming<SessionMessage> {
    let info = identity.identity().issuer_info().unwrap();
    let description = NodeDescription {
        tls_info: Some(NodeTlsInfo {
            trust_root: identity.identity().root_pem.clone().into_bytes(),
            cert_issuer_subject: info.subject,
            cert_issuer_public_key: info.public_key,
        }),
        ..describe("n", "weft")
    };
    let channel = channel(swarm.address(), ChannelMode::Node(identity)).unwrap();
    let request = SessionRequest { description: Some(description), ..Default::default() };
    DispatcherClient::new(channel).session(request).await.unwrap().into_inner()
}

async fn renew_now(swarm: &Swarm, identity: &IdentityHandle) {
    renew(identity, channel(swarm.address(), ChannelMode::Node(identity)).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_rotates_while_a_node_is_away() {
    let swarm = Swarm::start().await;
    let control = swarm.control();
    let worker = IdentityHandle::in_memory(swarm.join().await).unwrap();
    let away = IdentityHandle::in_memory(swarm.join().await).unwrap();
    let (old_root, old_token) = (control.cluster().root_ca.clone().unwrap(), swarm.worker_token());
    let sessions = (tell(&swarm, &worker).await, tell(&swarm, &swarm.identity).await);

    update(&control, Rotation::default(), |spec| spec.ca_config.as_mut().unwrap().force_rotate += 1)
        .await
        .unwrap();
    let rotating = control.cluster().root_ca.clone().unwrap();
    assert!(rotating.root_rotation.is_some());
    assert_eq!(rotating.ca_cert, old_root.ca_cert, "the old root stays until all have the new one");
    let told = |id: &str| {
        let status = control.node(id).unwrap().certificate.clone().unwrap().status.unwrap();
        status.state() == State::Rotate
    };
    let id = |identity: &IdentityHandle| identity.identity().node_id.to_string();
    eventually("nodes are told", || told(&id(&worker)) && told(&id(&away)) && told(&id(&swarm.identity)))
        .await;
    drop(sessions);
    // New nodes still join by the old token, and the manager's renewed certificate is good for those with the old root.
    for identity in [&swarm.identity, &worker] {
        renew_now(&swarm, identity).await;
        drop(tell(&swarm, identity).await);
    }
    let late = bootstrap(swarm.address(), &old_token, Availability::Active).await.unwrap();
    let late = IdentityHandle::in_memory(late).unwrap();
    drop(tell(&swarm, &late).await);
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert!(control.cluster().root_ca.as_ref().unwrap().root_rotation.is_some(), "one is still away");

    renew_now(&swarm, &away).await;
    let mut session = tell(&swarm, &away).await;
    eventually("the rotation ends", || control.cluster().root_ca.as_ref().unwrap().root_rotation.is_none())
        .await;
    let new_root = control.cluster().root_ca.clone().unwrap();
    assert_ne!(new_root.ca_cert, old_root.ca_cert);
    assert_ne!(swarm.worker_token().to_string(), old_token.to_string());
    // Who has a session learns the new root, and its certificate is good under it.
    loop {
        let message = next(&mut session).await;
        if message.root_ca == new_root.ca_cert {
            break;
        }
    }
    let pem = String::from_utf8(new_root.ca_cert).unwrap();
    for identity in [&swarm.identity, &worker, &away, &late] {
        assert!(identity.update_root(&pem, std::time::SystemTime::now()).unwrap());
    }
    drop(tell(&swarm, &worker).await);
    assert!(bootstrap(swarm.address(), &old_token, Availability::Active).await.is_err());
    swarm.join().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_settings_that_cannot_be_met_are_refused() {
    let swarm = Swarm::start().await;
    let control = swarm.control();
    let external = |spec: &mut ClusterSpec| {
        let ca = ExternalCa { url: "https://ca.example".to_owned(), ..Default::default() };
        spec.ca_config.as_mut().unwrap().external_cas = vec![ca];
    };
    let refused = update(&control, Rotation::default(), external).await.unwrap_err();
    assert!(refused.contains("external certificate authorities are not supported"), "{refused}");
    let key_only = |spec: &mut ClusterSpec| spec.ca_config.as_mut().unwrap().signing_ca_key = b"x".to_vec();
    let refused = update(&control, Rotation::default(), key_only).await.unwrap_err();
    assert!(refused.contains("the signing CA cert must also be provided"), "{refused}");
    // An own root with its key is rotated to.
    let own = weft_identity::RootCa::generate(std::time::SystemTime::now()).unwrap();
    let given = |spec: &mut ClusterSpec| {
        let ca = spec.ca_config.as_mut().unwrap();
        ca.signing_ca_cert = own.certificate_pem().as_bytes().to_vec();
        ca.signing_ca_key = own.key_pem().into_bytes();
    };
    update(&control, Rotation::default(), given).await.unwrap();
    let rotation = control.cluster().root_ca.clone().unwrap().root_rotation.unwrap();
    assert_eq!(rotation.ca_cert, own.certificate_pem().as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn network_keys_rotate_when_asked_for() {
    let swarm = Swarm::start().await;
    let control = swarm.control();
    let times = || -> Vec<u64> {
        control.cluster().network_bootstrap_keys.iter().map(|key| key.lamport_time).collect()
    };
    let before = times();
    update(&control, Rotation::default(), |_| {}).await.unwrap();
    assert_eq!(times(), before);
    let rotate = Rotation { network_keys: true, ..Default::default() };
    update(&control, rotate, |_| {}).await.unwrap();
    let fresh = times().iter().filter(|time| !before.contains(time)).count();
    assert_eq!(fresh, 2, "one for gossip, one for encrypted networks: {:?}, then {:?}", before, times());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_manager_opens_only_with_the_key() {
    let swarm = Swarm::start().await;
    let control = swarm.control();
    assert_eq!(control.unlock_key(), "");
    let lock =
        |spec: &mut ClusterSpec| spec.encryption_config = Some(EncryptionConfig { auto_lock_managers: true });
    update(&control, Rotation::default(), lock).await.unwrap();
    let first = control.unlock_key();
    assert!(first.starts_with("SWMKEY-1-"), "{first}");
    let rotate = Rotation { manager_unlock_key: true, ..Default::default() };
    update(&control, rotate, |_| {}).await.unwrap();
    let key = control.unlock_key();
    assert_ne!(key, first);
    control.create_network(overlay_spec("kept")).await.unwrap();
    let wrapped = async |key: &str| {
        let kek = KeyEncryptionKey::from_unlock_key(key).unwrap();
        let config = ManagerConfig { kek, ..config(&swarm.dir, fast()) };
        Manager::open(config, swarm.identity.clone()).await
    };
    // Wrapped a moment after the commit.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    swarm.manager.stop().await;
    let locked = Manager::open(config(&swarm.dir, fast()), swarm.identity.clone()).await.err().unwrap();
    assert!(locked.is_locked(), "{locked}");
    let wrong = wrapped(&first).await.err().unwrap();
    assert!(wrong.is_wrong_key(), "{wrong}");
    let manager = wrapped(&key).await.ok().unwrap();
    assert!(manager.control().network("kept").is_ok());
    let unlock = |spec: &mut ClusterSpec| spec.encryption_config = None;
    update(&manager.control(), Rotation::default(), unlock).await.unwrap();
    assert_eq!(manager.control().unlock_key(), "");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    manager.stop().await;
    Manager::open(config(&swarm.dir, fast()), swarm.identity.clone()).await.unwrap();
}
