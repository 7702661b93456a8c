//! Services made over the API: a command line takes longer than what is measured.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use weft_e2e::Hosts;

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
    post(hosts, "/services/create", &service);
}

fn post(hosts: &Hosts, path: &str, body: &Value) {
    let mut stream = UnixStream::connect(&hosts.daemon("h1").socket).unwrap();
    let body = body.to_string();
    // By version 1.0 the connection ends with the answer.
    let head = format!(
        "POST /v1.41{path} HTTP/1.0\r\nHost: weft\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer.split_whitespace().nth(1), Some("201"), "{path}: {answer}");
}
