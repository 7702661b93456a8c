//! Messages captured between dockerd nodes: every one is read completely (an unknown field would be lost and make
//! the message shorter) and holds what the capture's own decoding says.

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use prost::Message;
use weft_wire::swarmkit::{
    self, AssignmentsMessage, SessionMessage, SessionRequest, UpdateTaskStatusRequest, assignment,
    assignments_message, encryption_key, ipam_config, issuance_status, node_status, task_spec, task_status,
};

#[derive(Clone, Debug)]
struct Vector {
    name: String,
    message: String,
    bytes: Vec<u8>,
}

fn dispatcher_vectors() -> Vec<Vector> {
    let text = include_str!("vectors/02-dispatcher.json");
    let list: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
    let text = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap().to_owned();
    list.iter()
        .map(|entry| Vector {
            name: text(entry, "name"),
            message: text(entry, "message"),
            bytes: hex::decode(text(entry, "hex")).unwrap(),
        })
        .collect()
}

fn vector<M: Message + Default>(name: &str) -> M {
    let vectors = dispatcher_vectors();
    let found = vectors.iter().find(|vector| vector.name.starts_with(name)).unwrap();
    M::decode(found.bytes.as_slice()).unwrap()
}

fn join_vector<M: Message + Default>(key: &str) -> M {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("vectors/01-join-and-ca.json")).unwrap();
    let bytes = hex::decode(vectors[key].as_str().unwrap()).unwrap();
    let message = M::decode(bytes.as_slice()).unwrap();
    assert_eq!(hex::encode(message.encode_to_vec()), hex::encode(&bytes), "{key}");
    message
}

fn assert_round_trip<M: Message + Default + PartialEq + std::fmt::Debug>(vector: &Vector) {
    let message = M::decode(vector.bytes.as_slice()).unwrap();
    let encoded = message.encode_to_vec();
    // Not the same bytes: a oneof is written where its lowest number is, SwarmKit writes it by its own number.
    assert_eq!(encoded.len(), vector.bytes.len(), "{}", vector.name);
    assert_eq!(M::decode(encoded.as_slice()).unwrap(), message, "{}", vector.name);
}

#[test]
fn every_dispatcher_message_is_read_completely_and_comes_back() {
    let vectors = dispatcher_vectors();
    assert_eq!(vectors.len(), 14);
    for vector in &vectors {
        match vector.message.strip_prefix("docker.swarmkit.v1.").unwrap() {
            "SessionRequest" => assert_round_trip::<SessionRequest>(vector),
            "SessionMessage" => assert_round_trip::<SessionMessage>(vector),
            "AssignmentsMessage" => assert_round_trip::<AssignmentsMessage>(vector),
            "UpdateTaskStatusRequest" => assert_round_trip::<UpdateTaskStatusRequest>(vector),
            other => panic!("no test for {other}"),
        }
    }
}

#[test]
fn join_and_certificate_messages() {
    let request: swarmkit::IssueNodeCertificateRequest = join_vector("IssueNodeCertificateRequest");
    assert!(request.csr.starts_with(b"-----BEGIN CERTIFICATE REQUEST-----\n"));
    assert!(request.token.starts_with("SWMTKN-1-40jnno0y43bodxtmebgsxiivwgemzld3nh7e6adq6kt79v9agc-"));
    let of_dockerd: swarmkit::IssueNodeCertificateRequest =
        join_vector("IssueNodeCertificateRequest_from_dockerd_20_10");
    assert!(of_dockerd.token.starts_with("SWMTKN-1-"));
    let response: swarmkit::IssueNodeCertificateResponse = join_vector("IssueNodeCertificateResponse");
    assert_eq!(response.node_id, "wdfn9fh9phw49m4pnt94a4vky");
    assert_eq!(response.node_membership(), swarmkit::node_spec::Membership::Accepted);
    let status: swarmkit::NodeCertificateStatusResponse = join_vector("NodeCertificateStatusResponse");
    assert_eq!(status.status.unwrap().state(), issuance_status::State::Issued);
    let certificate = status.certificate.unwrap();
    assert_eq!((certificate.cn.as_str(), &certificate.csr), ("wdfn9fh9phw49m4pnt94a4vky", &request.csr));
}

#[test]
fn session_messages_carry_node_managers_keys_and_root() {
    let request: SessionRequest = vector("session request");
    let description = request.description.unwrap();
    assert_eq!(description.hostname, "vm");
    assert_eq!(description.platform.unwrap().architecture, "x86_64");
    let plugins = description.engine.unwrap().plugins;
    assert!(plugins.iter().any(|plugin| plugin.r#type == "Network" && plugin.name == "overlay"));

    let message: SessionMessage = vector("first session message");
    assert_eq!(message.session_id, "simcti92khok04vyndrn0sfjt");
    let node = message.node.unwrap();
    assert_eq!(node.id, "wdfn9fh9phw49m4pnt94a4vky");
    let status = node.status.unwrap();
    assert_eq!((status.state(), status.addr.as_str()), (node_status::State::Ready, "10.96.0.4"));
    assert_eq!(message.network_bootstrap_keys.len(), 6);
    let key = &message.network_bootstrap_keys[0];
    assert_eq!((key.algorithm(), key.key.len()), (encryption_key::Algorithm::Aes128Gcm, 16));
    assert!(message.root_ca.starts_with(b"-----BEGIN CERTIFICATE-----\n"));

    let update: SessionMessage = vector("session update");
    assert!(!update.node.unwrap().attachments.is_empty());
}

#[test]
fn assignments_of_an_attachment() {
    let empty: AssignmentsMessage = vector("empty COMPLETE");
    assert_eq!(empty.r#type(), assignments_message::Type::Complete);
    assert_eq!((empty.applies_to.as_str(), empty.results_in.as_str()), ("", "1"));

    let message: AssignmentsMessage = vector("attachment task");
    assert_eq!(message.r#type(), assignments_message::Type::Incremental);
    let item = message.changes[0].assignment.clone().unwrap().item.unwrap();
    let assignment::Item::Task(task) = item else { panic!("not a task: {item:?}") };
    let Some(task_spec::Runtime::Attachment(attachment)) = task.spec.unwrap().runtime else { panic!() };
    assert!(attachment.container_id.starts_with("c0ffee"));
    assert_eq!(task.networks[0].addresses, ["10.0.1.15/24"]);
    let network = task.networks[0].network.clone().unwrap();
    assert!(network.spec.unwrap().attachable);
    let config = &network.ipam.unwrap().configs[0];
    assert_eq!((config.family(), config.gateway.as_str()), (ipam_config::AddressFamily::Ipv4, "10.0.1.1"));
    let options = network.driver_state.unwrap().options;
    assert_eq!(options["com.docker.network.driver.overlay.vxlanid_list"], "4097");
}

#[test]
fn task_states_are_in_field_three() {
    let request: UpdateTaskStatusRequest = vector("task status RUNNING");
    let status = request.updates[0].status.clone().unwrap();
    assert_eq!(status.state(), swarmkit::TaskState::Running);
    let Some(task_status::RuntimeStatus::Container(container)) = status.runtime_status else { panic!() };
    assert_eq!((container.pid, container.exit_code), (3808, -1));
}

/// Enum lists that SwarmKit declares unpacked are written so; readers take both forms.
#[test]
fn log_streams_are_written_unpacked() {
    let options = swarmkit::LogSubscriptionOptions { streams: vec![1, 2], ..Default::default() };
    assert_eq!(options.encode_to_vec(), [0x08, 1, 0x08, 2]);
    let packed = swarmkit::LogSubscriptionOptions::decode(&[0x0a, 2, 1, 2][..]).unwrap();
    assert_eq!(packed, options);
}
