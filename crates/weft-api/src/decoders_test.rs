//! Whatever a client sends is read or refused: real requests, some of whose values are others.

use bollard_stubs::models::{
    ContainerUpdateBody, ExecConfig, ExecStartConfig, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, VolumeCreateRequest,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use weft_wire::swarmkit::{Service, ServiceSpec};

use crate::convert;
use crate::request::{decode, typed};
use crate::version::ApiVersion;

/// Any JSON, small.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[-a-z0-9/:.=,*]{0,16}|\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[A-Za-z0-9/]{0,8}", inner, 0..4).prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

/// JSON pointers to all values of a document.
fn places(document: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    let named = document.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value));
    let listed =
        document.as_array().into_iter().flatten().enumerate().map(|(n, value)| (n.to_string(), value));
    for (key, value) in named.chain(listed) {
        places(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
    }
}

/// One of the documents with up to four of its values replaced.
fn damaged(documents: Vec<Value>) -> impl Strategy<Value = Value> {
    select(documents).prop_flat_map(|document| {
        let mut all = Vec::new();
        places(&document, "", &mut all);
        vec((select(all), any_json()), 0..5).prop_map(move |changes| {
            let mut document = document.clone();
            for (at, value) in changes {
                if let Some(place) = document.pointer_mut(&at) {
                    *place = value;
                }
            }
            document
        })
    })
}

fn fixture(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    match serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap() {
        Value::Array(list) => list,
        one => vec![one],
    }
}

fn service_specs() -> Vec<Value> {
    let creates = fixture("service-creates").into_iter().map(|mut both| both["request"].take());
    creates.chain(fixture("service-specs")).collect()
}

fn containers() -> Vec<Value> {
    vec![json!({
        "Image": "a", "Cmd": ["x", "y"], "Entrypoint": "sh", "Env": ["A=b"], "Labels": { "l": "v" }, "Tty": true,
        "ExposedPorts": { "80/tcp": {} }, "Volumes": { "/v": {} }, "StopSignal": "TERM", "StopTimeout": 3,
        "Healthcheck": { "Test": ["CMD", "true"], "Interval": 1_000_000_000 },
        "HostConfig": {
            "Binds": ["/a:/b:ro"], "NetworkMode": "n", "Memory": 64 << 20, "NanoCpus": 500_000_000, "CgroupnsMode": "host",
            "PortBindings": { "80/tcp": [{ "HostIp": "", "HostPort": "80" }] }, "Ulimits": [{ "Name": "nofile", "Soft": 1 }],
            "RestartPolicy": { "Name": "always", "MaximumRetryCount": 0 }, "Tmpfs": { "/t": "size=1m" },
            "Mounts": [{ "Type": "bind", "Source": "/a", "Target": "/c", "BindOptions": { "Propagation": "slave" } }],
            "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m" } }, "Isolation": "default",
        },
        "NetworkingConfig": { "EndpointsConfig": { "n": { "Aliases": ["w"], "IPAMConfig": { "IPv4Address": "10.0.0.2" } }, "m": null } },
    })]
}

fn smaller() -> Vec<Value> {
    vec![
        json!({
            "Name": "n", "Driver": "bridge", "Internal": true, "Options": { "a": "b" }, "Labels": {},
            "IPAM": { "Driver": "default", "Options": null, "Config": [{ "Subnet": "10.1.0.0/16", "AuxiliaryAddresses": { "x": "10.1.0.9" } }] },
        }),
        json!({ "Container": "c", "EndpointConfig": { "IPAMConfig": { "IPv4Address": "10.1.0.3" }, "Links": [], "DriverOpts": {} } }),
        json!({ "Container": "c", "Force": true }),
        json!({ "Name": "v", "Driver": "local", "DriverOpts": { "type": "tmpfs" }, "Labels": {} }),
        json!({ "Memory": 64 << 20, "RestartPolicy": { "Name": "no" }, "CpusetCpus": "0-1", "PidsLimit": 5 }),
        json!({ "AttachStdin": true, "Tty": true, "Cmd": ["a"], "Env": [], "ConsoleSize": [24, 80], "Privileged": false }),
        json!({ "Detach": false, "Tty": true, "ConsoleSize": [24, 80] }),
        json!({
            "Name": "default", "Labels": {}, "Raft": { "SnapshotInterval": 1, "HeartbeatTick": 1, "ElectionTick": 10 },
            "Dispatcher": { "HeartbeatPeriod": 5_000_000_000_u64 }, "Orchestration": { "TaskHistoryRetentionLimit": 5 },
            "CAConfig": { "NodeCertExpiry": 7_776_000_000_000_000_u64, "ExternalCAs": [{ "Protocol": "cfssl", "URL": "u" }] },
            "EncryptionConfig": { "AutoLockManagers": true }, "TaskDefaults": { "LogDriver": { "Name": "none" } },
        }),
        json!({ "Name": "n", "Labels": { "a": "b" }, "Role": "worker", "Availability": "active" }),
        json!({ "Name": "n", "Labels": {}, "Data": "YWJj", "Templating": { "Name": "golang" }, "Driver": { "Name": "d" } }),
    ]
}

fn shown(spec: ServiceSpec) -> Value {
    convert::service(&Service { spec: Some(spec), ..Service::default() })["Spec"].take()
}

proptest! {
    #[test]
    fn containers_are_made_of_what_can_be_read(body in damaged(containers())) {
        let _ = crate::containers::checked(body);
    }

    #[test]
    fn smaller_requests_are_read_or_refused(body in damaged(smaller())) {
        let _ = typed::<NetworkConnectRequest>(body.clone());
        let _ = typed::<NetworkDisconnectRequest>(body.clone());
        let _ = typed::<VolumeCreateRequest>(body.clone());
        let _ = typed::<ContainerUpdateBody>(body.clone());
        let _ = typed::<ExecConfig>(body.clone());
        let _ = typed::<ExecStartConfig>(body.clone());
        let _ = typed::<NetworkCreateRequest>(body.clone()).map(convert::network_spec);
        let _ = convert::cluster_spec(&body, None);
        let _ = convert::node_spec(&body);
        let _ = convert::secret_spec(&body);
        let _ = convert::config_spec(&body);
    }

    /// What is shown of a service can be sent again and means the same.
    #[test]
    fn a_spec_that_is_taken_is_shown_and_taken_again(request in damaged(service_specs())) {
        if let Ok(spec) = convert::service_spec(&request) {
            let shown = shown(spec);
            let again = convert::service_spec(&shown).map_err(|error| TestCaseError::fail(error.message().to_owned()))?;
            prop_assert_eq!(self::shown(again), shown);
        }
    }

    #[test]
    fn any_bytes_are_a_request_or_refused(bytes in vec(any::<u8>(), 0..200), cut in 0_usize..2000, flip in any::<(usize, u8)>()) {
        let _ = decode::<Value>(&bytes);
        let mut real = containers()[0].to_string().into_bytes();
        real.truncate(cut);
        if let Some(byte) = (!real.is_empty()).then(|| flip.0 % real.len()).and_then(|at| real.get_mut(at)) {
            *byte ^= flip.1;
        }
        let _ = decode::<Value>(&real).and_then(crate::containers::checked);
    }

    #[test]
    fn any_text_is_a_time_a_version_or_neither(text in "[-+0-9.e]{0,24}|\\PC{0,12}") {
        let _ = crate::containers::timestamp(&text);
        if let Some(version) = ApiVersion::parse(&text) {
            prop_assert_eq!(ApiVersion::parse(&version.to_string()), Some(version));
        }
    }
}
