//! Init, join, session, heartbeat, renewal, removal: over real TLS.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::time::{Duration, SystemTime};

use common::*;
use tonic::{Code, Request};
use weft_identity::{
    ChannelMode, IdentityHandle, JoinError, JoinToken, NodeIdentity, NodeKey, NodeRole, RootCa, bootstrap,
    channel, renew,
};
use weft_manager::{InitOptions, Manager, ManagerError, Timing};
use weft_types::{NodeId, SwarmId};
use weft_wire::swarmkit::NodeRole as SwarmRole;
use weft_wire::swarmkit::dispatcher_client::DispatcherClient;
use weft_wire::swarmkit::health_client::HealthClient;
use weft_wire::swarmkit::log_broker_client::LogBrokerClient;
use weft_wire::swarmkit::node_ca_client::NodeCaClient;
use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::node_status::State;
use weft_wire::swarmkit::raft_membership_client::RaftMembershipClient;
use weft_wire::swarmkit::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_opens_a_session_and_is_ready() {
    let swarm = Swarm::start().await;
    let node = swarm.weft_node("w1").await;

    let first = &node.first;
    let object = first.node.as_ref().unwrap();
    assert_eq!(object.id, node.id());
    assert_eq!(object.spec.as_ref().unwrap().membership(), node_spec::Membership::Accepted);
    assert_eq!(object.status.as_ref().unwrap().state(), State::Ready);
    assert_eq!(object.status.as_ref().unwrap().addr, "127.0.0.1");
    assert_eq!(object.vxlanudp_port, 4789);
    assert_eq!(first.managers.len(), 1);
    assert_eq!(first.managers[0].weight, 10);
    assert_eq!(first.managers[0].peer.as_ref().unwrap().addr, swarm.address().to_string());
    assert_eq!(first.network_bootstrap_keys.len(), 6);
    assert_eq!(first.root_ca, node.identity.identity().root_pem.as_bytes());

    let listed = swarm.control().node("w1").unwrap();
    assert_eq!(listed.id, node.id());
    let manager = swarm.control().node("m1").unwrap();
    assert!(manager.manager_status.as_ref().unwrap().leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_swarm_has_dockers_defaults() {
    let swarm = Swarm::start().await;
    let cluster = swarm.control().cluster();
    let spec = cluster.spec.clone().unwrap();
    assert_eq!(spec.annotations.unwrap().name, "default");
    assert_eq!(spec.orchestration.unwrap().task_history_retention_limit, 5);
    assert_eq!(spec.dispatcher.unwrap().heartbeat_period.unwrap().seconds, 5);
    assert_eq!(spec.ca_config.unwrap().node_cert_expiry.unwrap().seconds, 7_776_000);
    assert_eq!((cluster.subnet_size, cluster.vxlanudp_port), (24, 4789));
    let ingress = swarm.control().network("ingress").unwrap();
    assert_eq!(ingress.ipam.as_ref().unwrap().configs[0].subnet, "10.0.0.0/24");
    assert_eq!(ingress.ipam.as_ref().unwrap().configs[0].gateway, "10.0.0.1");
    let options = &ingress.driver_state.as_ref().unwrap().options;
    assert_eq!(options["com.docker.network.driver.overlay.vxlanid_list"], "4096");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_refused_in_dockers_words() {
    let swarm = Swarm::start().await;
    let other = JoinToken::generate(&mut rand::rng(), &swarm.identity.identity().root_pem);
    let refused = bootstrap(swarm.address(), &other, Availability::Active).await.unwrap_err();
    assert!(matches!(refused, JoinError::Refused(_)), "{refused}");
    assert!(
        refused.to_string().contains("A valid join token is necessary to join this cluster"),
        "{refused}"
    );
    assert_eq!(swarm.control().nodes().len(), 1);
}

/// A Docker engine with the managers' token would wait for ever to be a manager.
#[tokio::test(flavor = "multi_thread")]
async fn other_engines_are_no_managers_and_leave_nothing_behind() {
    let swarm = Swarm::start().await;
    let root_pem = swarm.identity.identity().root_pem.clone();
    let plain = channel(swarm.address(), ChannelMode::Joining { root_pem: &root_pem }).unwrap();
    let foreign = |mut request: Request<()>| {
        request.metadata_mut().insert("user-agent", "grpc-go/1.71.0".parse().unwrap());
        Ok(request)
    };
    let mut ca = NodeCaClient::with_interceptor(plain, foreign);
    let request = IssueNodeCertificateRequest {
        csr: b"x".to_vec(),
        token: swarm.tokens().manager,
        ..Default::default()
    };
    let refused = ca.issue_node_certificate(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("join this node as a worker"), "{refused}");
    assert_eq!(swarm.control().nodes().len(), 1);

    let docker = swarm.docker_node("d1").await;
    let node = swarm.control().node(&docker.id()).unwrap();
    let spec = NodeSpec { desired_role: SwarmRole::Manager.into(), ..node.spec.clone().unwrap() };
    let version = node.meta.as_ref().unwrap().version.unwrap().index;
    let refused = swarm.control().update_node(&node.id, version, spec).await.unwrap_err();
    assert!(refused.to_string().contains("runs Docker's engine"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_for_certificates_are_refused() {
    let swarm = Swarm::start().await;
    let root_pem = swarm.identity.identity().root_pem.clone();
    let mut ca =
        NodeCaClient::new(channel(swarm.address(), ChannelMode::Joining { root_pem: &root_pem }).unwrap());
    let token = swarm.tokens().worker;
    let request = |csr: &[u8]| IssueNodeCertificateRequest {
        csr: csr.to_vec(),
        token: token.clone(),
        ..Default::default()
    };
    for csr in [&b""[..], b"x", b"\xff\xfe"] {
        let refused = ca.issue_node_certificate(request(csr)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{csr:?}");
    }
    let status = NodeCertificateStatusRequest { node_id: String::new() };
    assert_eq!(ca.node_certificate_status(status).await.unwrap_err().code(), Code::InvalidArgument);
    let status = NodeCertificateStatusRequest { node_id: "nosuch".to_owned() };
    assert_eq!(ca.node_certificate_status(status).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_token_replaces_the_old_one() {
    let swarm = Swarm::start().await;
    let old = swarm.worker_token();
    let cluster = swarm.control().cluster();
    let version = cluster.meta.as_ref().unwrap().version.unwrap().index;
    let spec = cluster.spec.clone().unwrap();
    let rotation = weft_manager::Rotation { worker_join_token: true, ..Default::default() };
    swarm.control().update_cluster(version, spec.clone(), rotation).await.unwrap();
    assert!(bootstrap(swarm.address(), &old, Availability::Active).await.is_err());
    swarm.join().await;
    let stale = swarm.control().update_cluster(version, spec, rotation).await.unwrap_err();
    assert_eq!(stale.to_string(), "rpc error: code = Unknown desc = update out of sequence");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_certificate_or_rights_are_refused_in_swarmkits_words() {
    let swarm = Swarm::start().await;
    let root_pem = swarm.identity.identity().root_pem.clone();
    let stranger = channel(swarm.address(), ChannelMode::Joining { root_pem: &root_pem }).unwrap();
    let refused = DispatcherClient::new(stranger).session(SessionRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(refused.message(), "Permission denied: no client certificates in request");

    let node = swarm.weft_node("w1").await;
    let refused =
        HealthClient::new(node.channel.clone()).check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(refused.message(), "Permission denied: remote certificate not part of OUs: [swarm-manager]");

    let manager = channel(swarm.address(), ChannelMode::Node(&swarm.identity)).unwrap();
    let health = HealthCheckRequest { service: "Raft".to_owned() };
    let answer = HealthClient::new(manager.clone()).check(health).await.unwrap().into_inner();
    assert_eq!(answer.status(), health_check_response::ServingStatus::Serving);
    let join = JoinRequest { addr: "127.0.0.1:1".to_owned() };
    let refused = RaftMembershipClient::new(manager).join(join).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_have_the_period_and_unknown_sessions_are_told() {
    let timing = Timing { heartbeat_period: Some(Duration::from_secs(5)), ..fast() };
    let swarm = Swarm::with(timing, InitOptions::new("m1")).await;
    let node = swarm.weft_node("w1").await;
    for _ in 0..20 {
        let request = HeartbeatRequest { session_id: node.session_id.clone() };
        let period = node.dispatcher().heartbeat(request).await.unwrap().into_inner().period.unwrap();
        let period = Duration::try_from(period).unwrap();
        assert!((Duration::from_millis(4500)..=Duration::from_millis(5500)).contains(&period), "{period:?}");
    }
    let beat = |session_id: &str| HeartbeatRequest { session_id: session_id.to_owned() };
    let refused = node.dispatcher().heartbeat(beat("other")).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "session invalid"));

    let unregistered = IdentityHandle::in_memory(swarm.join().await).unwrap();
    let unregistered = channel(swarm.address(), ChannelMode::Node(&unregistered)).unwrap();
    let refused = DispatcherClient::new(unregistered).heartbeat(beat("x")).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, "node not registered"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_goes_down_and_comes_back() {
    let timing = Timing { heartbeat_period: Some(Duration::from_millis(100)), ..fast() };
    let swarm = Swarm::with(timing, InitOptions::new("m1")).await;
    let identity = swarm.join().await;
    let mut node = Member::open(&swarm, identity.clone(), "w1", "weft").await;
    let state = || swarm.control().node("w1").unwrap().status.clone().unwrap();
    assert_eq!(state().state(), State::Ready);
    eventually("the node is down", || state().state() == State::Down).await;
    assert_eq!(state().message, "heartbeat failure");
    let ended = tokio::time::timeout(DEADLINE, async {
        loop {
            match node.session.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a word"),
                Err(status) => return status,
            }
        }
    });
    assert_eq!(ended.await.unwrap().code(), Code::Aborted);
    let _again = Member::open(&swarm, identity, "w1", "weft").await;
    assert_eq!(state().state(), State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_session_goes_on_and_a_new_one_ends_the_old() {
    let swarm = Swarm::start().await;
    let mut node = swarm.weft_node("w1").await;
    let request = SessionRequest {
        description: Some(describe("renamed", "weft")),
        session_id: node.session_id.clone(),
    };
    let mut again = node.dispatcher().session(request).await.unwrap().into_inner();
    let message = next(&mut again).await;
    assert_eq!(message.session_id, node.session_id);
    assert_eq!(message.node.unwrap().description.unwrap().hostname, "renamed");
    // The first stream hears of it too: the session is one.
    node.session_until(|m| m.node.as_ref().unwrap().description.as_ref().unwrap().hostname == "renamed")
        .await;

    let fresh = SessionRequest { description: None, session_id: "unknown".to_owned() };
    let mut fresh = node.dispatcher().session(fresh).await.unwrap().into_inner();
    assert_ne!(next(&mut fresh).await.session_id, node.session_id);
    let beat = HeartbeatRequest { session_id: node.session_id.clone() };
    assert_eq!(node.dispatcher().heartbeat(beat).await.unwrap_err().message(), "session invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_are_limited() {
    let timing = Timing { rate_limit_count: 3, ..fast() };
    let swarm = Swarm::with(timing, InitOptions::new("m1")).await;
    let node = swarm.weft_node("w1").await;
    for _ in 0..2 {
        node.dispatcher().session(SessionRequest::default()).await.unwrap();
    }
    let refused = node.dispatcher().session(SessionRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_and_told() {
    let swarm = Swarm::start().await;
    let mut node = swarm.weft_node("w1").await;
    let before = node.identity.identity();
    renew(&node.identity, node.channel.clone()).await.unwrap();
    let after = node.identity.identity();
    assert_eq!(before.node_id, after.node_id);
    assert_ne!(before.certificate_pem, after.certificate_pem);
    let pem = after.certificate_pem.clone();
    node.session_until(|m| {
        m.node.as_ref().unwrap().certificate.as_ref().unwrap().certificate == pem.as_bytes()
    })
    .await;
    assert_eq!(swarm.control().nodes().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_removed_by_dockers_rules_and_then_refused() {
    let swarm = Swarm::start().await;
    let node = swarm.weft_node("w1").await;
    let control = swarm.control();
    let id = node.id();
    assert_eq!(
        control.remove_node("w1", false).await.unwrap_err().to_string(),
        format!("rpc error: code = FailedPrecondition desc = node {id} is not down and can't be removed")
    );
    let manager = control.node("m1").unwrap().id.clone();
    assert_eq!(
        control.remove_node("m1", true).await.unwrap_err().to_string(),
        format!(
            "rpc error: code = FailedPrecondition desc = node {manager} is a cluster manager and is a member of the \
             raft cluster. It must be demoted to worker before removal"
        )
    );
    assert_eq!(control.remove_node("nosuch", false).await.unwrap_err().to_string(), "node nosuch not found");

    let network = swarm.overlay("web").await;
    node.attach("web", &[]).await.unwrap();
    control.remove_node("w1", true).await.unwrap();
    assert!(control.tasks().is_empty());
    assert_eq!(control.view().addresses(&network.id).count(), 1, "only the gateway is left");
    let refused = node.dispatcher().session(SessionRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(refused.message(), format!("Permission denied: node {id} was removed from swarm"));
    assert!(renew(&node.identity, node.channel.clone()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn node_specs_change_by_version_and_the_last_manager_stays() {
    let swarm = Swarm::start().await;
    let mut node = swarm.weft_node("w1").await;
    let control = swarm.control();
    let current = control.node("w1").unwrap();
    let version = current.meta.as_ref().unwrap().version.unwrap().index;
    let mut spec = current.spec.clone().unwrap();
    spec.set_availability(Availability::Drain);
    control.update_node(&current.id, version, spec.clone()).await.unwrap();
    node.session_until(|m| {
        m.node.as_ref().unwrap().spec.as_ref().unwrap().availability() == Availability::Drain
    })
    .await;
    let stale = control.update_node(&current.id, version, spec.clone()).await.unwrap_err();
    assert_eq!(stale.to_string(), "rpc error: code = Unknown desc = update out of sequence");

    let manager = control.node("m1").unwrap();
    let version = manager.meta.as_ref().unwrap().version.unwrap().index;
    let mut spec = manager.spec.clone().unwrap();
    spec.set_desired_role(weft_wire::swarmkit::NodeRole::Worker);
    let refused = control.update_node(&manager.id, version, spec).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn log_subscriptions_are_held_open() {
    let swarm = Swarm::start().await;
    let node = swarm.weft_node("w1").await;
    let mut broker = LogBrokerClient::new(node.channel.clone());
    let mut stream = broker.listen_subscriptions(ListenSubscriptionsRequest {}).await.unwrap().into_inner();
    assert!(tokio::time::timeout(Duration::from_millis(300), stream.message()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_init_are_checked_in_dockers_words() {
    let refusal = async |change: fn(&mut InitOptions)| {
        let dir = tempfile::tempdir().unwrap();
        let mut options = InitOptions::new("m1");
        change(&mut options);
        match Manager::init(config(&dir, fast()), options).await {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(
        refusal(|o| o.data_path_port = 80).await,
        "Datapath port number is not in valid range (1024-49151) : 80"
    );
    assert_eq!(refusal(|o| o.subnet_size = 33).await, "subnet size is out of range: 33");
    let small = |o: &mut InitOptions| {
        o.default_addr_pool = vec!["10.97.0.0/24".parse().unwrap()];
        o.subnet_size = 20;
    };
    assert_eq!(refusal(small).await, "invalid CIDR: \"10.97.0.0/24\". Subnet size is too small for pool: 20");
    let short = |o: &mut InitOptions| {
        let expiry = prost_types::Duration { seconds: 60, nanos: 0 };
        o.spec.ca_config = Some(CaConfig { node_cert_expiry: Some(expiry), ..Default::default() });
    };
    assert_eq!(
        refusal(short).await,
        "error updating cluster settings: rpc error: code = InvalidArgument desc = minimum certificate expiry time \
         is: 1h0m0s"
    );
    let named = |o: &mut InitOptions| {
        o.spec.annotations = Some(Annotations { name: "other".to_owned(), ..Default::default() });
    };
    assert_eq!(refusal(named).await, "swarm spec must be named \"default\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_init_and_a_taken_port_are_refused() {
    let swarm = Swarm::start().await;
    let taken = ManagerConfig2::taken(&swarm);
    let refused = Manager::init(taken, InitOptions::new("m2")).await.err().unwrap();
    assert!(matches!(refused, ManagerError::Listen { .. }));
    let text = refused.to_string();
    let expected = format!(
        "manager stopped: failed to listen on remote API address: listen tcp {}: bind: address already in use",
        swarm.address()
    );
    assert_eq!(text, expected);

    swarm.manager.stop().await;
    let refused = Manager::init(config(&swarm.dir, fast()), InitOptions::new("m1")).await.err().unwrap();
    assert!(matches!(refused, ManagerError::AlreadyInitialised), "{refused}");
}

struct ManagerConfig2;

impl ManagerConfig2 {
    fn taken(swarm: &Swarm) -> weft_manager::ManagerConfig {
        let dir = swarm.dir.path().join("other");
        weft_manager::ManagerConfig::new(dir, swarm.address(), swarm.address())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_and_foreign_certificates_are_refused() {
    let swarm = Swarm::start().await;
    let root = swarm.control().cluster().root_ca.clone().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let ca = RootCa::from_pem(&text(root.ca_cert.clone()), &text(root.ca_key)).unwrap();
    let stranger = RootCa::generate(SystemTime::now()).unwrap();
    let member: NodeId = swarm.join().await.node_id;
    let swarm_id = swarm.identity.identity().swarm_id.clone();
    let other_swarm = SwarmId::random(&mut rand::rng());
    let day = Duration::from_secs(24 * 60 * 60);
    let call = async |ca: &RootCa, swarm_of: &SwarmId, issued: SystemTime| {
        let key = NodeKey::generate().unwrap();
        let csr = key.csr_pem().unwrap();
        let leaf = ca.issue(&csr, NodeRole::Worker, &member, swarm_of, issued, day).unwrap();
        let root_pem = text(root.ca_cert.clone());
        let identity = NodeIdentity::from_pem(leaf, key.key_pem(), root_pem).unwrap();
        let handle = IdentityHandle::in_memory(identity).unwrap();
        let channel = channel(swarm.address(), ChannelMode::Node(&handle)).unwrap();
        DispatcherClient::new(channel).session(SessionRequest::default()).await.map(drop)
    };
    let now = SystemTime::now();
    call(&ca, &swarm_id, now).await.unwrap();
    let foreign = call(&ca, &other_swarm, now).await.unwrap_err();
    assert_eq!(foreign.code(), Code::PermissionDenied);
    assert_eq!(
        foreign.message(),
        format!("Permission denied: remote certificate not part of organization: {swarm_id}")
    );
    // These do not get through the handshake.
    for refused in [call(&ca, &swarm_id, now - 3 * day).await, call(&stranger, &swarm_id, now).await] {
        assert_ne!(refused.unwrap_err().code(), Code::PermissionDenied);
    }
    assert_eq!(swarm.control().nodes().len(), 2);
}
