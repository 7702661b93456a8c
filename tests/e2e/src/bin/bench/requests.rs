//! Services made over the API: a command line takes longer than what is measured.

use serde_json::json;
use weft_e2e::Hosts;
use weft_e2e::api::post;

/// Creates a service on a network that has names and a virtual IP, and no task.
pub(crate) fn create_service(hosts: &Hosts, name: &str, network: &str) {
    let service = json!({
        "Name": name,
        "TaskTemplate": {
            "ContainerSpec": { "Image": "busybox", "Command": ["sleep", "100000"] },
            "Networks": [{ "Target": network }],
        },
        "Mode": { "Replicated": { "Replicas": 0 } },
        "EndpointSpec": { "Mode": "vip" },
    });
    post(hosts, "h1", "/services/create", &service).unwrap();
}
