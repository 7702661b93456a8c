//! Our answers have the shape of those recorded from Docker Engine 28.5.2: the same keys, the same kinds of values,
//! `null` where it has `null`. The recordings are in `tests/fixtures`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bollard_stubs::models;
use serde_json::{Value, json};
use weft_wire::swarmkit::{
    self, Annotations, Cluster, Driver, IpamConfig, IpamOptions, ManagerStatus, Meta, Network, NetworkSpec,
    Node, NodeDescription, NodeRole, NodeSpec, NodeStatus, Task,
};

use crate::network_backend::{
    Attachment, LocalEndpoint, LocalNetwork, NetworkScope, NetworkService, Peer, Subnet,
};
use crate::{containers, convert, images, networks};

/// Maps whose keys are data.
const FREE_MAPS: &[&str] =
    &["Labels", "Options", "Containers", "Networks", "Ports", "PortBindings", "Volumes", "Data"];

fn recorded(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Every difference in shape, by path.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    if kind(ours) != kind(theirs) {
        found.push(format!("{path}: {} instead of {}", kind(ours), kind(theirs)));
        return;
    }
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let free = FREE_MAPS.iter().any(|name| path.ends_with(name));
            if free {
                if let (Some(ours), Some(theirs)) = (ours.values().next(), theirs.values().next()) {
                    differences(&format!("{path}.*"), ours, theirs, found);
                }
                return;
            }
            for key in theirs.keys().filter(|key| !ours.contains_key(*key)) {
                found.push(format!("{path}.{key}: missing"));
            }
            for (key, value) in ours {
                match theirs.get(key) {
                    Some(theirs) => differences(&format!("{path}.{key}"), value, theirs, found),
                    None => found.push(format!("{path}.{key}: not Docker's")),
                }
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            if let (Some(ours), Some(theirs)) = (ours.first(), theirs.first()) {
                differences(&format!("{path}[]"), ours, theirs, found);
            }
        }
        _ => {}
    }
}

fn assert_shape(name: &str, ours: &Value) {
    let mut found = Vec::new();
    differences("", ours, &recorded(name), &mut found);
    assert!(found.is_empty(), "{name}:\n{}\n{ours:#}", found.join("\n"));
}

fn meta() -> Option<Meta> {
    let at = Some(prost_types::Timestamp { seconds: 1_795_227_792, nanos: 1 });
    Some(Meta { version: Some(swarmkit::Version { index: 7 }), created_at: at, updated_at: at })
}

fn named(name: &str) -> Option<Annotations> {
    Some(Annotations { name: name.to_owned(), ..Annotations::default() })
}

fn node(manager: bool) -> Node {
    let fixture = recorded("node-worker");
    let root = fixture["Description"]["TLSInfo"]["TrustRoot"].as_str().unwrap().to_owned();
    let plugin = swarmkit::PluginDescription { r#type: "Network".to_owned(), name: "overlay".to_owned() };
    Node {
        id: "7ygbj76hkkg2y22vti6ss4lj7".to_owned(),
        meta: meta(),
        spec: Some(NodeSpec {
            annotations: named(""),
            desired_role: NodeRole::Worker.into(),
            ..NodeSpec::default()
        }),
        description: Some(NodeDescription {
            hostname: "host".to_owned(),
            platform: Some(swarmkit::Platform { architecture: "x86_64".to_owned(), os: "linux".to_owned() }),
            resources: Some(swarmkit::Resources { nano_cpus: 1, memory_bytes: 1, generic: Vec::new() }),
            engine: Some(swarmkit::EngineDescription {
                engine_version: "1".to_owned(),
                plugins: vec![plugin],
                ..Default::default()
            }),
            tls_info: Some(swarmkit::NodeTlsInfo {
                trust_root: root.into_bytes(),
                cert_issuer_subject: vec![1],
                cert_issuer_public_key: vec![2],
            }),
            ..NodeDescription::default()
        }),
        status: Some(NodeStatus {
            state: swarmkit::node_status::State::Ready.into(),
            addr: "10.0.0.1".to_owned(),
            ..Default::default()
        }),
        manager_status: manager.then(|| ManagerStatus {
            leader: true,
            addr: "10.0.0.1:2377".to_owned(),
            ..Default::default()
        }),
        ..Node::default()
    }
}

#[test]
fn nodes() {
    assert_shape("node-worker", &convert::node(&node(false)));
    assert_shape("node-manager", &convert::node(&node(true)));
}

#[test]
fn swarm_with_the_words_of_its_root_certificate() {
    let fixture = recorded("swarm");
    let root = fixture["TLSInfo"]["TrustRoot"].as_str().unwrap().to_owned();
    let spec = convert::cluster_spec(&fixture["Spec"], None).unwrap();
    let cluster = Cluster {
        id: "rkknass4ts0ufrv6s3lc2qoxb".to_owned(),
        meta: meta(),
        spec: Some(spec),
        root_ca: Some(swarmkit::RootCa { ca_cert: root.into_bytes(), ..Default::default() }),
        default_address_pool: vec!["10.97.0.0/16".to_owned()],
        subnet_size: 24,
        vxlanudp_port: 4789,
        ..Cluster::default()
    };
    let ours = convert::swarm(&cluster);
    assert_shape("swarm", &ours);
    assert_eq!(ours["Spec"], fixture["Spec"], "a spec comes back as it was given");
    assert_eq!(ours["TLSInfo"], fixture["TLSInfo"], "issuer and key are read from the certificate");
    let default = Cluster { default_address_pool: vec!["10.0.0.0/8".to_owned()], ..cluster };
    assert_eq!(convert::swarm(&default)["DefaultAddrPool"], Value::Null);
}

fn swarm_network() -> Network {
    let vni = ("com.docker.network.driver.overlay.vxlanid_list".to_owned(), "4097".to_owned());
    Network {
        id: "qf33nguwotuyexiffzhcqjcrf".to_owned(),
        meta: meta(),
        spec: Some(NetworkSpec {
            annotations: named("ov1"),
            driver_config: Some(Driver { name: "overlay".to_owned(), ..Default::default() }),
            ipam: Some(IpamOptions {
                driver: Some(Driver { name: "default".to_owned(), ..Default::default() }),
                configs: Vec::new(),
            }),
            attachable: true,
            ..NetworkSpec::default()
        }),
        driver_state: Some(Driver { name: "overlay".to_owned(), options: BTreeMap::from([vni]) }),
        ipam: Some(IpamOptions {
            driver: Some(Driver { name: "default".to_owned(), ..Default::default() }),
            configs: vec![IpamConfig {
                subnet: "10.0.1.0/24".to_owned(),
                gateway: "10.0.1.1".to_owned(),
                ..Default::default()
            }],
        }),
        ..Network::default()
    }
}

#[test]
fn networks_of_the_swarm() {
    assert_shape("network-swarm", &convert::swarm_network(&swarm_network()));
}

fn local_network(driver: &str) -> LocalNetwork {
    LocalNetwork {
        id: "91d8310ac5368919fec98c399e1b92f840ebd1593ebbbd13209974b6cfcddd06".to_owned(),
        name: "n".to_owned(),
        created: SystemTime::now(),
        scope: NetworkScope::Local,
        driver: driver.to_owned(),
        enable_ipv4: true,
        enable_ipv6: false,
        internal: false,
        attachable: false,
        ingress: false,
        subnets: vec![Subnet {
            subnet: Some("172.19.0.0/16".parse().unwrap()),
            gateway: Some("172.19.0.1".parse().unwrap()),
            ..Subnet::default()
        }],
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        ipam_options: Some(BTreeMap::new()),
        config_only: false,
        config_from: String::new(),
        predefined: false,
        containers: Vec::new(),
        peers: None,
    }
}

#[test]
fn networks_of_this_host() {
    assert_shape("network-local", &networks::shape::local(&local_network("bridge"), &[], None));
    let builtin = LocalNetwork { ipam_options: None, ..local_network("bridge") };
    assert_shape("network-bridge", &networks::shape::local(&builtin, &[], None));
    let host = LocalNetwork { ipam_options: None, subnets: Vec::new(), ..local_network("host") };
    assert_shape("network-host", &networks::shape::local(&host, &[], None));
}

#[test]
fn a_swarm_network_with_endpoints_here() {
    let address = "10.0.1.2".parse().unwrap();
    let network = LocalNetwork {
        scope: NetworkScope::Swarm,
        ipam_options: None,
        containers: vec![LocalEndpoint { container: "c".to_owned(), ..LocalEndpoint::default() }],
        peers: Some(vec![Peer { name: "85192669f25c".to_owned(), address }]),
        ..local_network("overlay")
    };
    let containers = NetworkService {
        endpoints: vec![Attachment {
            name: "a1".to_owned(),
            endpoint_id: "e".to_owned(),
            address,
            host: address,
        }],
        ..NetworkService::default()
    };
    assert_shape("network-instantiated", &networks::shape::local(&network, &[containers], None));
    // As recorded of a service that publishes nothing here, and of what a port looks like.
    let service = NetworkService {
        name: "s1".to_owned(),
        virtual_ip: Some("10.0.1.2".parse().unwrap()),
        ports: vec![(80, 8080)],
        endpoints: Vec::new(),
    };
    let shown = networks::shape::local(&network, &[service], None);
    let want =
        json!({ "VIP": "10.0.1.2", "Ports": ["Target: 80, Publish: 8080"], "LocalLBIndex": 0, "Tasks": [] });
    assert_eq!(shown["Services"]["s1"], want);
}

#[test]
fn tasks() {
    let mut task = Task {
        id: "icq4qk2cid2s493vwq1adkyi5".to_owned(),
        meta: meta(),
        annotations: named(""),
        spec: Some(swarmkit::TaskSpec {
            runtime: Some(swarmkit::task_spec::Runtime::Attachment(swarmkit::NetworkAttachmentSpec {
                container_id: "c".to_owned(),
            })),
            resources: Some(swarmkit::ResourceRequirements {
                limits: Some(swarmkit::Resources::default()),
                reservations: Some(swarmkit::Resources::default()),
                ..Default::default()
            }),
            networks: vec![swarmkit::NetworkAttachmentConfig {
                target: "n".to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        }),
        service_id: "s".to_owned(),
        slot: 1,
        status: Some(swarmkit::TaskStatus { message: "pending".to_owned(), ..Default::default() }),
        networks: vec![swarmkit::NetworkAttachment {
            network: Some(swarm_network()),
            addresses: vec!["10.0.1.3/24".to_owned()],
            ..Default::default()
        }],
        ..Task::default()
    };
    task.set_desired_state(swarmkit::TaskState::Running);
    let mut ours = convert::task(&task);
    // The recorded task is of a service; what stands for the container differs, the rest does not.
    let spec = ours["Spec"].as_object_mut().unwrap();
    spec.remove("NetworkAttachmentSpec").unwrap();
    spec.remove("Runtime").unwrap();
    spec.insert("ContainerSpec".to_owned(), recorded("task")["Spec"]["ContainerSpec"].clone());
    assert_shape("task", &ours);
}

/// The models leave out what is null; what we add must bring back the recorded answer.
#[test]
fn containers_keep_their_nulls() {
    let fixture = recorded("container-inspect");
    let model: models::ContainerInspectResponse = serde_json::from_value(fixture).unwrap();
    let mut ours = serde_json::to_value(model).unwrap();
    containers::shape::inspect(&mut ours);
    assert_shape("container-inspect", &ours);

    let fixture = recorded("container-summary");
    let model: models::ContainerSummary = serde_json::from_value(fixture).unwrap();
    let mut ours = serde_json::to_value(model).unwrap();
    containers::shape::summary(&mut ours);
    assert_shape("container-summary", &ours);
}

#[test]
fn images_keep_their_nulls() {
    let model: models::ImageInspect = serde_json::from_value(recorded("image-inspect")).unwrap();
    let mut ours = serde_json::to_value(model).unwrap();
    images::inspected(&mut ours);
    assert_shape("image-inspect", &ours);

    let model: models::ImageSummary = serde_json::from_value(recorded("image-summary")).unwrap();
    let mut ours = serde_json::to_value(model).unwrap();
    images::summary(&mut ours);
    assert_shape("image-summary", &ours);
}

#[test]
fn volumes() {
    let volume = weft_engine::Volume {
        name: "v".to_owned(),
        mountpoint: "/v".into(),
        created: String::new(),
        labels: BTreeMap::new(),
        anonymous: false,
        options: BTreeMap::new(),
    };
    assert_shape("volume", &crate::volumes::shape(&volume));
}

#[test]
fn differences_are_found() {
    let at = |ours: Value, theirs: Value| {
        let mut found = Vec::new();
        differences("", &ours, &theirs, &mut found);
        found
    };
    assert_eq!(at(json!({ "a": 1 }), json!({ "a": "1" })), [".a: number instead of string"]);
    assert_eq!(at(json!({ "a": 1 }), json!({ "b": 1 })), [".b: missing", ".a: not Docker's"]);
    assert_eq!(at(json!([{ "a": null }]), json!([{ "a": {} }])), ["[].a: null instead of object"]);
}
