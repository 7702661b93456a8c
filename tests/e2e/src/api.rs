//! The Engine API without a client, over the daemon's socket. A look at six hosts by command lines takes seconds.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::Hosts;

/// Answers come from memory; a manager that waits for a leader says so within this time.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a host's daemon answers; an error is a line that says why not.
pub fn get(hosts: &Hosts, host: &str, path: &str) -> Result<Value, String> {
    exchange(hosts, host, &format!("GET /v1.41{path}"), "", "200")
}

/// Has a host's daemon make something; an error is a line that says why not.
pub fn post(hosts: &Hosts, host: &str, path: &str, body: &Value) -> Result<Value, String> {
    exchange(hosts, host, &format!("POST /v1.41{path}"), &body.to_string(), "201")
}

/// Has a host's daemon do something that has no answer, as `DELETE /containers/x?force=1`; an error is a line that
/// says why not.
pub fn order(hosts: &Hosts, host: &str, what: &str) -> Result<(), String> {
    let (method, path) = what.split_once(' ').ok_or_else(|| format!("{what}: no method"))?;
    ask(hosts, host, &format!("{method} /v1.41{path}"), "", "204").map(drop)
}

fn exchange(hosts: &Hosts, host: &str, what: &str, body: &str, want: &str) -> Result<Value, String> {
    let answer = ask(hosts, host, what, body, want)?;
    serde_json::from_str(&answer).map_err(|error| format!("{host} {what}: {error}"))
}

/// The answer's body, if its status is the wanted one.
fn ask(hosts: &Hosts, host: &str, what: &str, body: &str, want: &str) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{host} {what}: {error}");
    let mut stream = UnixStream::connect(&hosts.daemon(host).socket).map_err(|e| failed(&e))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|e| failed(&e))?;
    // By version 1.0 the answer comes whole and the connection ends.
    let head = format!("{what} HTTP/1.0\r\nHost: weft\r\n");
    let length = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all((head + &length).as_bytes()).map_err(|e| failed(&e))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|e| failed(&e))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failed(&"no answer"))?;
    if head.split_whitespace().nth(1) == Some(want) { Ok(body.to_owned()) } else { Err(failed(&body.trim())) }
}

/// The objects of a list.
pub(crate) fn list(hosts: &Hosts, host: &str, path: &str) -> Result<Vec<Value>, String> {
    match get(hosts, host, path)? {
        Value::Array(all) => Ok(all),
        other => Err(format!("{host} {path}: no list: {other}")),
    }
}

/// A text below these names; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}
