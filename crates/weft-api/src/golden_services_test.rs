//! Services, tasks, secrets and configs come back exactly as Docker Engine 28.5.2 showed them: what is recorded is read
//! into SwarmKit's objects and written again. The recordings are in `tests/fixtures`.

use prost_types::Timestamp;
use serde_json::{Value, json};
use weft_wire::swarmkit::port_config::{Protocol, PublishMode};
use weft_wire::swarmkit::update_status::UpdateState;
use weft_wire::swarmkit::{
    Annotations, Config, ContainerStatus, Endpoint, JobStatus, Meta, PortConfig, PortStatus, Secret, Service,
    Task, TaskStatus, UpdateStatus, Version, endpoint, task_status,
};

use crate::convert;

fn recorded(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Go writes `0` where this crate's numbers may write `0.0`.
fn assert_same(ours: &Value, theirs: &Value) {
    let text = |value: &Value| serde_json::to_string_pretty(value).unwrap();
    assert!(ours == theirs, "ours:\n{}\nDocker's:\n{}", text(ours), text(theirs));
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn time(value: &Value) -> Option<Timestamp> {
    let at: jiff::Timestamp = value.as_str()?.parse().unwrap();
    Some(Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() })
}

fn version(value: &Value) -> Version {
    Version { index: value["Index"].as_u64().unwrap_or_default() }
}

fn meta(value: &Value) -> Option<Meta> {
    Some(Meta {
        version: Some(version(&value["Version"])),
        created_at: time(&value["CreatedAt"]),
        updated_at: time(&value["UpdatedAt"]),
    })
}

fn port(value: &Value) -> PortConfig {
    let protocol = match value["Protocol"].as_str() {
        Some("udp") => Protocol::Udp,
        Some("sctp") => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    let mode = if value["PublishMode"] == "host" { PublishMode::Host } else { PublishMode::Ingress };
    PortConfig {
        name: text(&value["Name"]),
        protocol: protocol.into(),
        target_port: number(&value["TargetPort"]) as u32,
        published_port: number(&value["PublishedPort"]) as u32,
        publish_mode: mode.into(),
    }
}

fn endpoint(value: &Value) -> Option<Endpoint> {
    let spec = &value["Spec"];
    if spec == &json!({}) && value.as_object().unwrap().len() == 1 {
        return None;
    }
    let request = json!({ "TaskTemplate": { "ContainerSpec": {} }, "EndpointSpec": spec });
    let empty = spec == &json!({});
    Some(Endpoint {
        spec: (!empty).then(|| convert::service_spec(&request).unwrap().endpoint).flatten(),
        ports: list(&value["Ports"]).iter().map(port).collect(),
        virtual_ips: list(&value["VirtualIPs"])
            .iter()
            .map(|vip| endpoint::VirtualIp { network_id: text(&vip["NetworkID"]), addr: text(&vip["Addr"]) })
            .collect(),
    })
}

fn update_status(value: &Value) -> Option<UpdateStatus> {
    let state = match value["State"].as_str()? {
        "updating" => UpdateState::Updating,
        "completed" => UpdateState::Completed,
        "rollback_started" => UpdateState::RollbackStarted,
        "rollback_completed" => UpdateState::RollbackCompleted,
        other => panic!("{other}"),
    };
    Some(UpdateStatus {
        state: state.into(),
        started_at: time(&value["StartedAt"]),
        completed_at: time(&value["CompletedAt"]),
        message: text(&value["Message"]),
    })
}

fn service(value: &Value) -> Service {
    let spec = |value: &Value| value.is_object().then(|| convert::service_spec(value).unwrap());
    let job = value.get("JobStatus").map(|status| JobStatus {
        job_iteration: Some(version(&status["JobIteration"])),
        last_execution: time(&status["LastExecution"]),
    });
    Service {
        id: text(&value["ID"]),
        meta: meta(value),
        spec: spec(&value["Spec"]),
        previous_spec: spec(&value["PreviousSpec"]),
        endpoint: endpoint(&value["Endpoint"]),
        update_status: update_status(&value["UpdateStatus"]),
        job_status: job,
        ..Service::default()
    }
}

#[test]
fn services() {
    for recorded in recorded("services") {
        assert_same(&convert::service(&service(&recorded)), &recorded);
    }
}

#[test]
fn specs_come_back_as_they_were_stored() {
    for recorded in recorded("service-specs") {
        let service = Service { spec: Some(convert::service_spec(&recorded).unwrap()), ..Service::default() };
        assert_same(&convert::service(&service)["Spec"], &recorded);
    }
}

/// What the command line sent, and what it got when it asked for the service with defaults.
#[test]
fn requests_become_the_specs_that_docker_made_of_them() {
    for pair in recorded("service-creates") {
        let mut spec = convert::service_spec(&pair["request"]).unwrap();
        convert::insert_defaults(&mut spec);
        let mut ours = convert::service(&Service { spec: Some(spec), ..Service::default() })["Spec"].take();
        if ours["Networks"] == json!([{ "Target": "net1" }]) {
            // The managers name networks by id.
            ours["Networks"] = pair["spec"]["Networks"].clone();
        }
        assert_same(&ours, &pair["spec"]);
    }
}

fn task(value: &Value) -> Task {
    let mut template = value["Spec"].clone();
    let container = template["ContainerSpec"].is_object();
    if !container {
        template["ContainerSpec"] = json!({});
    }
    let request = json!({ "TaskTemplate": template });
    let status = &value["Status"];
    let container_status = status.get("ContainerStatus").map(|container| ContainerStatus {
        container_id: text(&container["ContainerID"]),
        pid: number(&container["PID"]) as i32,
        exit_code: number(&container["ExitCode"]) as i32,
    });
    let ports = list(&status["PortStatus"]["Ports"]).iter().map(port).collect();
    let task_status = TaskStatus {
        timestamp: time(&status["Timestamp"]),
        state: convert::task_state(&text(&status["State"])).unwrap().into(),
        message: text(&status["Message"]),
        err: text(&status["Err"]),
        runtime_status: container_status.map(task_status::RuntimeStatus::Container),
        port_status: Some(PortStatus { ports }),
        ..TaskStatus::default()
    };
    Task {
        id: text(&value["ID"]),
        meta: meta(value),
        annotations: Some(Annotations { name: text(&value["Name"]), ..Annotations::default() }),
        spec: convert::service_spec(&request).unwrap().task,
        service_id: text(&value["ServiceID"]),
        slot: value["Slot"].as_u64().unwrap_or_default(),
        node_id: text(&value["NodeID"]),
        status: Some(task_status),
        desired_state: convert::task_state(&text(&value["DesiredState"])).unwrap().into(),
        job_iteration: value.get("JobIteration").map(version),
        ..Task::default()
    }
}

#[test]
fn tasks() {
    for recorded in recorded("tasks") {
        assert_same(&convert::task(&task(&recorded)), &recorded);
    }
}

#[test]
fn secrets_keep_their_data_for_themselves() {
    let stored = json!({
        "ID": "lfxwna7dldjhhfnqocfxx8gcj", "Version": { "Index": 524 },
        "CreatedAt": "2026-11-21T02:29:04.940343171Z", "UpdatedAt": "2026-11-21T02:29:04.940343171Z",
        "Spec": { "Name": "sec1", "Labels": {} },
    });
    let request = json!({ "Name": "sec1", "Labels": {}, "Data": "aGVsbG8=" });
    let spec = convert::secret_spec(&request).unwrap();
    assert_eq!(spec.data, b"hello");
    let secret =
        Secret { id: text(&stored["ID"]), meta: meta(&stored), spec: Some(spec), ..Secret::default() };
    assert_same(&convert::secret(&secret), &stored);
}

#[test]
fn configs_show_their_data() {
    let stored = json!({
        "ID": "90yrhi3ftx8vy8ckv8tqh4cew", "Version": { "Index": 525 },
        "CreatedAt": "2026-11-21T02:29:05.351536391Z", "UpdatedAt": "2026-11-21T02:29:05.351536391Z",
        "Spec": { "Name": "cfg1", "Labels": {}, "Data": "Y29uZg==" },
    });
    let request = json!({ "Name": "cfg1", "Labels": {}, "Data": "Y29uZg==" });
    let spec = convert::config_spec(&request).unwrap();
    let config = Config { id: text(&stored["ID"]), meta: meta(&stored), spec: Some(spec) };
    assert_same(&convert::config(&config), &stored);
    let bad = convert::config_spec(&json!({ "Name": "c", "Data": "a*b=" })).unwrap_err();
    assert_eq!(bad.message(), "invalid JSON: illegal base64 data at input byte 1");
}

#[test]
fn specs_are_refused_in_dockers_words() {
    let refusal = |path: &str, value: Value| {
        let mut request = json!({ "Name": "s", "TaskTemplate": { "ContainerSpec": { "Image": "i" } } });
        *request.pointer_mut(path).unwrap() = value;
        convert::service_spec(&request).unwrap_err().message().to_owned()
    };
    assert_eq!(refusal("/TaskTemplate", json!({})), "mismatched Runtime and *Spec fields");
    let with = |key: &str, value: Value| json!({ "Name": "s", "TaskTemplate": { "ContainerSpec": { "Image": "i" } }, key: value });
    for (key, value, message) in [
        ("EndpointSpec", json!({ "Mode": "bogus" }), "invalid resolution mode: \"bogus\""),
        ("UpdateConfig", json!({ "Order": "bogus" }), "unrecognized update order bogus"),
        ("RollbackConfig", json!({ "FailureAction": "bogus" }), "unrecognized update failure action bogus"),
        ("Mode", json!({ "Global": {}, "Replicated": {} }), "must specify only one service mode"),
    ] {
        assert_eq!(refusal("", with(key, value)), message);
    }
    assert_eq!(
        refusal("/TaskTemplate", json!({ "ContainerSpec": {}, "RestartPolicy": { "Condition": "bogus" } })),
        "invalid RestartCondition: \"bogus\""
    );
    assert_eq!(
        refusal("/TaskTemplate/ContainerSpec", json!({ "Mounts": [{ "Type": "bogus" }] })),
        "invalid MountType: \"bogus\""
    );
    assert_eq!(
        refusal("/TaskTemplate/ContainerSpec", json!({ "TTY": "yes" })),
        "invalid JSON: json: cannot unmarshal string into Go struct field \
         ServiceSpec.TaskTemplate.ContainerSpec.TTY of type bool"
    );
}

/// Every place of a value, as a JSON pointer.
fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| places(value, &format!("{path}/{key}"), found))
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| places(value, &format!("{path}/{i}"), found));
        }
        _ => {}
    }
}

/// Requests come from anywhere: each value in turn becomes another one of every kind.
#[test]
fn any_request_is_taken_or_refused() {
    let others = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!("x"),
        json!([1]),
        json!({ "a": [] }),
    ];
    for pair in recorded("service-creates") {
        let request = &pair["request"];
        let mut found = Vec::new();
        places(request, "", &mut found);
        for place in found {
            for other in &others {
                let mut changed = request.clone();
                *changed.pointer_mut(&place).unwrap() = other.clone();
                if let Ok(mut spec) = convert::service_spec(&changed) {
                    convert::insert_defaults(&mut spec);
                    let _ = convert::service(&Service { spec: Some(spec), ..Service::default() });
                }
            }
        }
    }
}
