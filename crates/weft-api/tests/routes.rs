//! The API over its socket: what Docker Engine 28.5.2 answered to the same requests, word for word.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use support::Api;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weft_api::{Listener, LocalNodeState};

const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";
const NOT_MANAGER: &str = "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager.";

async fn alone() -> Api {
    Api::start(LocalNodeState::Inactive, false).await
}

async fn manager() -> Api {
    Api::start(LocalNodeState::Active, true).await
}

#[tokio::test]
async fn every_answer_carries_the_common_headers() {
    let api = alone().await;
    let answer = api.get("/v1.47/networks").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("api-version"), "1.51");
    assert_eq!(answer.header("docker-experimental"), "false");
    assert_eq!(answer.header("ostype"), "linux");
    assert_eq!(answer.header("server"), "Weft/0.0 (linux)");
    assert_eq!(answer.header("content-type"), "application/json");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_not_found_and_bare() {
    let api = alone().await;
    for (method, path) in [(Method::GET, "/nope"), (Method::DELETE, "/v1.50/info"), (Method::GET, "/auth")] {
        let answer = api.call(method, path, &[], "").await;
        assert_eq!((answer.status, answer.message().as_str()), (404, "page not found"));
        assert_eq!(answer.header("api-version"), "");
        assert_eq!(answer.header("server"), "");
    }
}

#[tokio::test]
async fn versions_out_of_range_are_refused() {
    let api = alone().await;
    let new = api.get("/v1.52/info").await;
    assert_eq!(new.status, 400);
    assert_eq!(new.message(), "client version 1.52 is too new. Maximum supported API version is 1.51");
    assert_eq!(new.header("docker-experimental"), "");
    let old = api.get("/v1.23/info").await;
    assert_eq!(old.status, 400);
    assert_eq!(
        old.text,
        "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n"
    );
    assert!(old.header("content-type").starts_with("text/plain"));
    assert_eq!(old.header("x-content-type-options"), "nosniff");
    assert_eq!(api.get("/v1.24/networks").await.status, 200);
}

#[tokio::test]
async fn ping_tells_the_swarm_state() {
    let cases = [
        (LocalNodeState::Inactive, false, "inactive"),
        (LocalNodeState::Active, false, "active/worker"),
        (LocalNodeState::Active, true, "active/manager"),
        (LocalNodeState::Pending, false, "pending"),
        (LocalNodeState::Locked, false, "locked"),
    ];
    for (state, manages, header) in cases {
        let api = Api::start(state, manages).await;
        let answer = api.get("/_ping").await;
        assert_eq!((answer.text.as_str(), answer.header("swarm")), ("OK", header));
        assert_eq!(answer.header("cache-control"), "no-cache, no-store, must-revalidate");
        let head = api.call(Method::HEAD, "/_ping", &[], "").await;
        assert_eq!((head.status, head.text.as_str(), head.header("swarm")), (200, "", header));
    }
}

/// Method, path, JSON body, status, message.
type Refusal = (&'static str, &'static str, &'static str, u16, &'static str);

async fn refused(api: &Api, refusals: &[Refusal]) {
    for (method, path, body, status, message) in refusals {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let headers: &[(&str, &str)] =
            if body.is_empty() { &[] } else { &[("content-type", "application/json")] };
        let answer = api.call(method.clone(), path, headers, *body).await;
        assert_eq!((answer.status, answer.message().as_str()), (*status, *message), "{method} {path} {body}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused() {
    let api = alone().await;
    refused(
        &api,
        &[
            (
                "POST",
                "/networks/create",
                "{bad",
                400,
                "invalid JSON: invalid character 'b' looking for beginning of object key string",
            ),
            ("POST", "/networks/create", "{\"Name\":\"x\"} {\"a\":1}", 400, "unexpected content after JSON"),
            ("POST", "/networks/create", "", 400, "invalid name: name is empty"),
            (
                "POST",
                "/containers/create?name=c9",
                "",
                400,
                "invalid JSON: got EOF while reading request body",
            ),
        ],
    )
    .await;
    let answer = api
        .call(Method::POST, "/networks/create", &[("content-type", "text/plain")], "{\"Name\":\"x\"}")
        .await;
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (400, "unsupported Content-Type header (text/plain): must be 'application/json'")
    );
}

#[tokio::test]
async fn malformed_queries_are_refused() {
    let api = alone().await;
    refused(
        &api,
        &[
            ("GET", "/networks?filters=x", "", 400, "invalid filter"),
            ("GET", "/networks?filters=%7B%22bogus%22%3A%5B%221%22%5D%7D", "", 400, "invalid filter 'bogus'"),
            ("GET", "/networks?filters=%7B%22dangling%22%3A%5B%22x%22%5D%7D", "", 400, "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")"),
            ("GET", "/networks?filters=%7B%22type%22%3A%5B%22bogus%22%5D%7D", "", 500, "invalid filter: 'type'='bogus'"),
            ("GET", "/networks/bridge?verbose=bogus", "", 400, "invalid value for verbose: bogus: strconv.ParseBool: parsing \"bogus\": invalid syntax"),
            ("POST", "/networks/prune?filters=%7B%22bogus%22%3A%7B%221%22%3Atrue%7D%7D", "", 400, "invalid filter 'bogus'"),
            ("GET", "/containers/json?limit=x", "", 500, "strconv.Atoi: parsing \"x\": invalid syntax"),
            ("GET", "/containers/json?filters=%7B%22status%22%3A%5B%22bogus%22%5D%7D", "", 400, "invalid filter 'status=bogus': invalid value for state (bogus): must be one of created, running, paused, restarting, removing, exited, dead"),
            ("GET", "/images/json?filters=%7B%22dangling%22%3A%5B%22x%22%5D%7D", "", 400, "invalid filter 'dangling=[x]'"),
            ("GET", "/images/json?filters=%7B%22bogus%22%3A%5B%221%22%5D%7D", "", 400, "invalid filter 'bogus'"),
            ("GET", "/events?since=10&until=5", "", 400, "`since` time (10) cannot be after `until` time (5)"),
            ("GET", "/nodes?filters=%7B%22bogus%22%3A%5B%221%22%5D%7D", "", 400, "invalid filter 'bogus'"),
            ("GET", "/tasks?filters=%7B%22bogus%22%3A%5B%221%22%5D%7D", "", 400, "invalid filter 'bogus'"),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let api = alone().await;
    refused(
        &api,
        &[
            ("GET", "/containers/nosuch/json", "", 404, "No such container: nosuch"),
            ("POST", "/containers/nosuch/start", "", 404, "No such container: nosuch"),
            ("POST", "/containers/nosuch/stop", "", 404, "No such container: nosuch"),
            ("POST", "/containers/nosuch/restart", "", 404, "No such container: nosuch"),
            ("POST", "/containers/nosuch/wait", "", 404, "No such container: nosuch"),
            ("POST", "/containers/nosuch/pause", "", 404, "No such container: nosuch"),
            ("POST", "/containers/nosuch/rename?name=x", "", 404, "No such container: nosuch"),
            (
                "POST",
                "/containers/nosuch/kill",
                "",
                404,
                "cannot kill container: nosuch: No such container: nosuch",
            ),
            ("DELETE", "/containers/nosuch", "", 404, "No such container: nosuch"),
            ("GET", "/containers/nosuch/top", "", 404, "No such container: nosuch"),
            ("GET", "/containers/nosuch/stats", "", 404, "No such container: nosuch"),
            ("POST", "/containers/nosuch/update", "", 404, "No such container: nosuch"),
            ("GET", "/containers/nosuch/logs?stdout=1", "", 404, "No such container: nosuch"),
            ("POST", "/containers/nosuch/exec", "{\"Cmd\":[\"true\"]}", 404, "No such container: nosuch"),
            ("GET", "/exec/nosuch/json", "", 404, "No such exec instance: nosuch"),
            ("POST", "/exec/nosuch/start", "{\"Detach\":false}", 404, "No such exec instance: nosuch"),
            ("GET", "/images/nosuch/json", "", 404, "No such image: nosuch:latest"),
            ("GET", "/images/nosuch/history", "", 404, "No such image: nosuch:latest"),
            ("DELETE", "/images/nosuch", "", 404, "No such image: nosuch:latest"),
            ("POST", "/images/nosuch/tag?repo=x&tag=1", "", 404, "No such image: nosuch:latest"),
            ("GET", "/networks/nosuch", "", 404, "network nosuch not found"),
            ("DELETE", "/networks/nosuch", "", 404, "network nosuch not found"),
            ("POST", "/networks/nosuch/connect", "{\"Container\":\"c1\"}", 404, "network nosuch not found"),
            (
                "POST",
                "/networks/nosuch/disconnect",
                "{\"Container\":\"c1\"}",
                404,
                "network nosuch not found",
            ),
            ("GET", "/volumes/nosuch", "", 404, "get nosuch: no such volume"),
            ("DELETE", "/volumes/nosuch", "", 404, "get nosuch: no such volume"),
            ("GET", "/plugins/nosuch/json", "", 404, "plugin \"nosuch\" not found"),
            ("POST", "/containers/create", "{\"Image\":\"nosuch\"}", 404, "No such image: nosuch:latest"),
        ],
    )
    .await;
}

#[tokio::test]
async fn swarm_routes_refuse_outside_a_swarm() {
    let api = alone().await;
    refused(
        &api,
        &[
            ("GET", "/swarm", "", 503, NO_SWARM),
            ("GET", "/nodes", "", 503, NO_SWARM),
            ("GET", "/nodes/x", "", 503, NO_SWARM),
            ("DELETE", "/nodes/x", "", 503, NO_SWARM),
            ("GET", "/services", "", 503, NO_SWARM),
            ("GET", "/services/x", "", 503, NO_SWARM),
            ("POST", "/services/create", "{}", 503, NO_SWARM),
            ("GET", "/tasks", "", 503, NO_SWARM),
            ("GET", "/tasks/x", "", 503, NO_SWARM),
            ("GET", "/secrets", "", 503, NO_SWARM),
            ("GET", "/configs", "", 503, NO_SWARM),
            ("GET", "/swarm/unlockkey", "", 503, NO_SWARM),
            ("POST", "/swarm/leave", "", 503, "This node is not part of a swarm"),
            ("POST", "/swarm/init", "{}", 400, "invalid ListenAddr \"\": invalid empty address"),
            ("POST", "/swarm/join", "{}", 400, "invalid ListenAddr \"\": invalid empty address"),
            // Docker's status for this one is 403.
            ("POST", "/networks/create", "{\"Name\":\"ov\",\"Driver\":\"overlay\"}", 403, NO_SWARM),
            (
                "POST",
                "/networks/create",
                "{\"Name\":\"ov\",\"Driver\":\"overlay\",\"Scope\":\"local\"}",
                403,
                "cannot downgrade network scope for overlay networks",
            ),
            (
                "POST",
                "/networks/create",
                "{\"Name\":\"sw\",\"Scope\":\"swarm\"}",
                403,
                "cannot create a swarm scoped network when swarm is not active",
            ),
            (
                "POST",
                "/networks/create",
                "{\"Name\":\"ing\",\"Ingress\":true}",
                403,
                "Ingress network can only be global scope network",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn workers_refuse_what_managers_know() {
    let api = Api::start(LocalNodeState::Active, false).await;
    refused(
        &api,
        &[
            ("GET", "/swarm", "", 503, NOT_MANAGER),
            ("GET", "/nodes", "", 503, NOT_MANAGER),
            ("GET", "/services", "", 503, NOT_MANAGER),
            ("GET", "/tasks", "", 503, NOT_MANAGER),
        ],
    )
    .await;
}

const SERVICE: &str = r#"{"Name":"s","TaskTemplate":{"ContainerSpec":{"Image":"i"}}}"#;

#[tokio::test]
async fn services_secrets_and_configs_are_created() {
    let api = manager().await;
    let answer = api.post("/services/create", SERVICE).await;
    assert_eq!((answer.status, answer.json()), (201, json!({ "ID": "s".repeat(25), "Warnings": null })));
    let answer = api.post("/secrets/create", r#"{"Name":"x","Data":"aGVsbG8="}"#).await;
    assert_eq!((answer.status, answer.json()), (201, json!({ "ID": "x".repeat(25) })));
    let answer = api.post("/configs/create", r#"{"Name":"c","Data":"aGVsbG8="}"#).await;
    assert_eq!((answer.status, answer.json()), (201, json!({ "ID": "c".repeat(25) })));
    for (path, status) in [("/services/s", 200), ("/secrets/x", 204), ("/configs/c", 204)] {
        let answer = api.delete(path).await;
        assert_eq!((answer.status, answer.text.as_str()), (status, ""), "{path}");
    }
}

#[tokio::test]
async fn managers_refuse_bad_updates() {
    let api = manager().await;
    refused(
        &api,
        &[
            ("POST", "/swarm/update", "{}", 400, "invalid swarm version '': strconv.ParseUint: parsing \"\": invalid syntax"),
            ("POST", "/swarm/update?version=1&rotateWorkerToken=bogus", "{}", 400, "invalid value for rotateWorkerToken: bogus"),
            ("POST", "/nodes/x/update", "{\"Role\":\"worker\",\"Availability\":\"active\"}", 400, "invalid node version '': strconv.ParseUint: parsing \"\": invalid syntax"),
            ("POST", "/nodes/x/update?version=1", "{\"Role\":\"bogus\"}", 400, "invalid Role: \"bogus\""),
            ("POST", "/nodes/x/update?version=1", "{\"Role\":\"worker\",\"Availability\":\"bogus\"}", 400, "invalid Availability: \"bogus\""),
            ("GET", "/nodes?filters=%7B%22role%22%3A%5B%22bogus%22%5D%7D", "", 500, "Invalid role filter: 'bogus'"),
            ("GET", "/tasks?filters=%7B%22desired-state%22%3A%5B%22bogus%22%5D%7D", "", 500, "Invalid desired-state filter: 'bogus'"),
            ("GET", "/nodes/nosuch", "", 404, "node nosuch not found"),
            ("GET", "/tasks/nosuch", "", 404, "task nosuch not found"),
            ("GET", "/services/nosuch", "", 404, "service nosuch not found"),
            ("GET", "/secrets/nosuch", "", 404, "secret nosuch not found"),
            ("GET", "/configs/nosuch", "", 404, "config nosuch not found"),
            ("POST", "/services/create", "{}", 400, "mismatched Runtime and *Spec fields"),
            ("POST", "/services/x/update", SERVICE, 400, "invalid service version '': strconv.ParseUint: parsing \"\": invalid syntax"),
            ("POST", "/services/x/update?version=1&rollback=bogus", SERVICE, 400, "unrecognized rollback option bogus"),
            ("GET", "/services?filters=%7B%22bogus%22%3A%5B%22x%22%5D%7D", "", 400, "invalid filter 'bogus'"),
            ("GET", "/services/x/logs", "", 500, "Bad parameters: you must choose at least one stream"),
            ("GET", "/services/x/logs?stdout=1", "", 404, "service x not found"),
            ("GET", "/tasks/x/logs?stdout=1", "", 404, "task x not found"),
            ("POST", "/secrets/x/update?version=", "{}", 400, "invalid secret version"),
            ("POST", "/configs/x/update?version=1", "{}", 404, "config x not found"),
            ("POST", "/v1.36/secrets/create", "{\"Templating\":{\"Name\":\"golang\"}}", 400, "secret templating is not supported on the specified API version: 1.36"),
            ("POST", "/swarm/leave", "", 503, "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message. "),
        ],
    )
    .await;
}

#[tokio::test]
async fn containers_that_cannot_be_are_refused() {
    let api = alone().await;
    refused(
        &api,
        &[
            ("POST", "/containers/create?name=c9", "{}", 400, "config cannot be empty in order to create a container"),
            ("POST", "/containers/create?name=c9", "{\"Image\":\"Bad/NAME\"}", 400, "invalid reference format: repository name (NAME) must be lowercase"),
            ("POST", "/containers/create?name=c9", "{\"Image\":\"a\",\"HostConfig\":{\"RestartPolicy\":{\"Name\":\"bogus\"}}}", 400, "invalid restart policy: unknown policy 'bogus'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"),
            ("POST", "/containers/create?name=c9", "{\"Image\":\"a\",\"HostConfig\":{\"Isolation\":\"bogus\"}}", 400, "invalid isolation (bogus): linux only supports 'default'"),
        ],
    )
    .await;
}

/// A tar archive with one file.
fn archive() -> Vec<u8> {
    let mut head = [0u8; 512];
    head[..4].copy_from_slice(b"file");
    head[100..107].copy_from_slice(b"0000644");
    head[108..115].copy_from_slice(b"0000000");
    head[116..123].copy_from_slice(b"0000000");
    head[124..135].copy_from_slice(b"00000000000");
    head[136..147].copy_from_slice(b"00000000000");
    head[148..156].copy_from_slice(b"        ");
    head[156] = b'0';
    head[257..263].copy_from_slice(b"ustar\0");
    head[263..265].copy_from_slice(b"00");
    let sum: u32 = head.iter().map(|b| u32::from(*b)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = head.to_vec();
    archive.extend([0u8; 1024]);
    archive
}

async fn import(api: &Api, reference: &str) -> String {
    let path = format!("/v1.50/images/create?fromSrc=-&repo={reference}&changes=CMD+%5B%22%2Ffile%22%5D");
    let answer = api.call(Method::POST, &path, &[("content-type", "text/plain")], archive()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.text.ends_with("\r\n"));
    answer.json()["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_image_is_imported_listed_tagged_and_removed() {
    let api = alone().await;
    let id = import(&api, "box%3A1").await;
    let images = api.get("/images/json").await.json();
    assert_eq!(images[0]["Id"], Value::from(id.clone()));
    assert_eq!(images[0]["RepoTags"], json!(["box:1"]));
    assert_eq!(images[0]["Labels"], Value::Null);
    assert_eq!(api.post("/images/box:1/tag?repo=host:5000/a/box&tag=2", "").await.status, 201);
    assert_eq!(api.get("/images/host:5000/a/box:2/json").await.json()["Id"], Value::from(id));
    assert_eq!(api.get("/images/box:1/history").await.json().as_array().unwrap().len(), 1);
    let removed = api.delete("/images/host:5000/a/box:2").await.json();
    assert_eq!(removed, json!([{ "Untagged": "host:5000/a/box:2" }]));
    assert_eq!(api.delete("/images/box:1").await.status, 200);
    assert_eq!(api.get("/images/json").await.json(), json!([]));
}

#[tokio::test]
async fn a_container_is_created_shown_renamed_and_removed() {
    let api = alone().await;
    import(&api, "box%3A1").await;
    let created = api.post("/containers/create?name=web", "{\"Image\":\"box:1\"}").await;
    assert_eq!(created.status, 201, "{}", created.text);
    let id = created.json()["Id"].as_str().unwrap().to_owned();
    assert_eq!(created.json()["Warnings"], json!([]));
    let shown = api.get("/containers/web/json").await.json();
    assert_eq!((&shown["Name"], &shown["State"]["Status"]), (&"/web".into(), &"created".into()));
    assert!(shown["ExecIDs"].is_null() && shown["HostConfig"].get("Links").is_some());
    let taken = api.post("/containers/create?name=web", "{\"Image\":\"box:1\"}").await;
    assert_eq!(taken.status, 409);
    assert_eq!(
        taken.message(),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
        )
    );
    assert_eq!(api.post("/containers/web/rename?name=db", "").await.status, 204);
    assert_eq!(api.get("/containers/json?all=1").await.json()[0]["Names"], json!(["/db"]));
    assert_eq!(api.get("/containers/json").await.json(), json!([]));
    let not_running = format!("container {id} is not running");
    let exec = api.post("/containers/db/exec", "{\"Cmd\":[\"true\"]}").await;
    assert_eq!((exec.status, exec.message()), (409, not_running));
    let logs = api.get("/containers/db/logs").await;
    assert_eq!(
        (logs.status, logs.message().as_str()),
        (400, "Bad parameters: you must choose at least one stream")
    );
    let resize = api.post("/containers/db/resize?h=x&w=10", "").await;
    assert_eq!(
        (resize.status, resize.message().as_str()),
        (400, "invalid resize height \"x\": invalid syntax")
    );
    assert_eq!(api.delete("/containers/db").await.status, 204);
    assert_eq!(api.get("/containers/db/json").await.status, 404);
}

#[tokio::test]
async fn events_are_kept_for_since() {
    let api = alone().await;
    import(&api, "box%3A1").await;
    api.post("/containers/create?name=web", "{\"Image\":\"box:1\"}").await;
    let until = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 1;
    let filters = "%7B%22type%22%3A%7B%22container%22%3Atrue%7D%7D";
    let events = api.get(&format!("/events?since=1&until={until}&filters={filters}")).await;
    assert_eq!(events.status, 200);
    let event: Value = serde_json::from_str(events.text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&event["Type"], &event["Action"], &event["from"]),
        (&"container".into(), &"create".into(), &"box:1".into())
    );
    assert_eq!(event["Actor"]["Attributes"]["name"], "web");
}

#[tokio::test]
async fn networks_of_host_and_swarm_are_one_view() {
    let api = manager().await;
    let created =
        api.post("/networks/create", "{\"Name\":\"ov\",\"Driver\":\"overlay\",\"Attachable\":true}").await;
    assert_eq!((created.status, created.json()), (201, json!({ "Id": "n".repeat(25), "Warning": "" })));
    let names = |list: Value| {
        list.as_array().unwrap().iter().map(|n| n["Name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(api.get("/networks").await.json()), ["ov", "bridge"]);
    let only = |filter: &str| format!("/networks?filters=%7B%22{filter}%22%5D%7D");
    assert_eq!(names(api.get(&only("scope%22%3A%5B%22swarm")).await.json()), ["ov"]);
    assert_eq!(names(api.get(&only("type%22%3A%5B%22builtin")).await.json()), ["bridge"]);
    let shown = api.get("/networks/ov").await.json();
    assert_eq!((&shown["Scope"], &shown["Containers"]), (&"swarm".into(), &Value::Null));
    let again = api.post("/networks/create", "{\"Name\":\"ov\",\"Driver\":\"overlay\"}").await;
    assert_eq!((again.status, again.message().as_str()), (409, "network with name ov already exists"));
    let bridge = api.post("/networks/create", "{\"Name\":\"bridge\",\"Driver\":\"overlay\"}").await;
    assert_eq!((bridge.status, bridge.message().as_str()), (409, "network with name bridge already exists"));
    let builtin = api.delete("/networks/bridge").await;
    assert_eq!(
        (builtin.status, builtin.message().as_str()),
        (403, "bridge is a pre-defined network and cannot be removed")
    );
    assert_eq!(api.delete("/networks/ov").await.status, 204);
    assert_eq!(names(api.get("/networks").await.json()), ["bridge"]);
}

#[tokio::test]
async fn info_and_version_hold_what_clients_read() {
    let api = manager().await;
    let info = api.get("/info").await.json();
    assert_eq!(info["Swarm"]["LocalNodeState"], "active");
    assert_eq!(info["Swarm"]["ControlAvailable"], true);
    assert_eq!(info["Name"], "host");
    assert!(info["MemTotal"].as_u64().unwrap() > 0 && info["NCPU"].as_u64().unwrap() > 0);
    let recorded: Value = serde_json::from_str(include_str!("fixtures/info-inactive.json")).unwrap();
    let ours = info.as_object().unwrap();
    // What other engines have inside and we have not.
    let theirs = recorded
        .as_object()
        .unwrap()
        .keys()
        .filter(|k| !matches!(k.as_str(), "Containerd" | "FirewallBackend"));
    let missing: Vec<_> = theirs.filter(|k| !ours.contains_key(*k)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let version = api.get("/version").await.json();
    assert_eq!((&version["ApiVersion"], &version["MinAPIVersion"]), (&"1.51".into(), &"1.24".into()));
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_an_error_before_the_stream() {
    let api = alone().await;
    let refused = "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused";
    let pull = api.post("/images/create?fromImage=127.0.0.1:1/alpine&tag=latest", "").await;
    assert_eq!((pull.status, pull.message().as_str()), (500, refused));
    let inspect = api.get("/distribution/127.0.0.1:1/alpine/json").await;
    assert_eq!((inspect.status, inspect.message().as_str()), (500, refused));
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let api = alone().await;
    assert_eq!(api.post("/build", "").await.status, 501);
    // What `docker system prune` asks for at its end must be there.
    assert_eq!(
        api.post("/build/prune", "").await.json(),
        json!({ "CachesDeleted": null, "SpaceReclaimed": 0 })
    );
}

#[tokio::test]
async fn a_stop_ends_event_streams_at_once() {
    let api = alone().await;
    let mut stream = api.connect().await;
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 17];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head[..], b"HTTP/1.1 200 OK\r\n", "the head comes before any event");
    let begun = Instant::now();
    api.stop(Duration::from_secs(60)).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited for the stream");
    stream.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test]
async fn where_metrics_are_nothing_else_is() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let _api = Api::serve(LocalNodeState::Inactive, false, dir, vec![Listener::Metrics(listener)]).await;
    let ask = async |request: &str| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let metrics = ask("GET /metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("weft_build_info{version="), "{metrics}");
    assert!(metrics.contains("content-type: application/openmetrics-text"), "{metrics}");
    assert!(ask("POST /metrics").await.starts_with("HTTP/1.1 405"));
    for request in ["GET /containers/json", "GET /v1.47/info", "POST /containers/create", "GET /_ping"] {
        assert!(ask(request).await.starts_with("HTTP/1.1 404"), "{request}");
    }
}

#[tokio::test]
async fn over_tls_clients_without_certificate_are_refused() {
    let files = Certificates::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let listeners = vec![Listener::Tls(listener, Arc::new(files.server()))];
    let _api = Api::serve(LocalNodeState::Inactive, false, dir, listeners).await;
    let ask = async |client: rustls::ClientConfig| -> std::io::Result<String> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await?;
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    let answer = ask(files.client(true)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("OK"), "{answer}");
    assert!(ask(files.client(false)).await.is_err());
}

/// A certificate authority with one certificate for both sides.
struct Certificates {
    authority: rustls::pki_types::CertificateDer<'static>,
    leaf: rustls::pki_types::CertificateDer<'static>,
    key: Vec<u8>,
}

impl Certificates {
    fn new() -> Self {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        Self {
            authority: authority_certificate.der().clone(),
            leaf: leaf.der().clone(),
            key: key.serialize_der(),
        }
    }

    fn roots(&self) -> Arc<rustls::RootCertStore> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        Arc::new(roots)
    }

    fn key(&self) -> rustls::pki_types::PrivateKeyDer<'static> {
        self.key.clone().try_into().unwrap()
    }

    fn provider() -> Arc<rustls::crypto::CryptoProvider> {
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    }

    fn server(&self) -> rustls::ServerConfig {
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(self.roots(), Self::provider())
                .build();
        rustls::ServerConfig::builder_with_provider(Self::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.unwrap())
            .with_single_cert(vec![self.leaf.clone()], self.key())
            .unwrap()
    }

    fn client(&self, with_certificate: bool) -> rustls::ClientConfig {
        let builder = rustls::ClientConfig::builder_with_provider(Self::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        if with_certificate {
            builder.with_client_auth_cert(vec![self.leaf.clone()], self.key()).unwrap()
        } else {
            builder.with_no_client_auth()
        }
    }
}
