//! What the API refuses, with Docker's words and statuses, asked through the unmodified `docker` CLI and in the raw.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use weft_e2e::{Hosts, Words, refusal, weft_exe};
use weft_lab::LabSpec;

const ANSWER_LIMIT: Duration = Duration::from_secs(20);

fn up(name: &str) -> Hosts {
    Hosts::up(LabSpec::bridged(name, 1))
}

/// Each command line fails with a text that contains the message.
fn refused(hosts: &Hosts, cases: &[(&str, &str)]) {
    for (command, message) in cases {
        let text = refusal(hosts.docker("h1", *command));
        assert!(text.contains(message), "docker {command}: {text}");
    }
}

/// Status and body of a request made by hand.
fn raw(hosts: &Hosts, method: &str, path: &str, content_type: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(&hosts.daemon("h1").socket).unwrap();
    stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Method and path, body, status, message.
fn raw_refused(hosts: &Hosts, cases: &[(&str, &str, u16, &str)]) {
    for (line, body, status, message) in cases {
        let (method, path) = line.split_once(' ').unwrap();
        let (got, answer) = raw(hosts, method, path, "application/json", body);
        let json: serde_json::Value =
            serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{line}: {e}: {answer}"));
        assert_eq!((got, json["message"].as_str().unwrap()), (*status, *message), "{line} {body}");
    }
}

#[test]
fn containers() {
    let hosts = up("refcont");
    hosts.run_idle("h1", "c1", "").unwrap();
    hosts.docker("h1", "create --name made busybox true").unwrap();
    let id = hosts.inspect("h1", "made", "{{.Id}}").unwrap();
    refused(
        &hosts,
        &[
            (
                "create --name=-a busybox true",
                "Invalid container name (-a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            ),
            (
                "create --name=a/b busybox true",
                "Invalid container name (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            ),
            (
                "create --name c1 busybox true",
                "Conflict. The container name \"/c1\" is already in use by container",
            ),
            ("create --pull never nosuch true", "No such image: nosuch:latest"),
            ("create --cap-add BOGUS busybox true", "invalid CapAdd: unknown capability: \"CAP_BOGUS\""),
            (
                "create --isolation bogus busybox true",
                "invalid isolation (bogus): linux only supports 'default'",
            ),
            ("create --runtime bogus busybox true", "unknown or invalid runtime name: bogus"),
            ("create --memory 1m busybox true", "Minimum memory limit allowed is 6MB"),
            ("create -v rel/path:/x busybox true", "includes invalid characters for a local volume name"),
            (
                "create --mount type=bind,src=/nosuchdir2,dst=/x busybox true",
                "bind source path does not exist: /nosuchdir2",
            ),
            (
                "create --network container:nosuch -p 1:1 busybox true",
                "conflicting options: port publishing and the container type network mode",
            ),
            (
                "create --platform linux/arm64 --pull never busybox true",
                "does not match the specified platform (linux/arm64)",
            ),
            ("start nosuch", "No such container: nosuch"),
            ("stop nosuch", "No such container: nosuch"),
            ("kill nosuch", "cannot kill container: nosuch: No such container: nosuch"),
            ("kill -s BOGUS c1", "cannot kill container: c1: invalid signal: BOGUS"),
            ("rm nosuch", "No such container: nosuch"),
            (
                "rm c1",
                "cannot remove container \"c1\": container is running: stop the container before removing or force remove",
            ),
            ("rename nosuch x", "No such container: nosuch"),
            ("rename c1 c1", "Renaming a container with the same name as its current name"),
            ("rename c1 a/b", "Error when allocating new name: Invalid container name (/a/b)"),
            (
                "rename made c1",
                "Error when allocating new name: Conflict. The container name \"/c1\" is already in use",
            ),
            ("logs nosuch", "No such container: nosuch"),
            ("exec nosuch true", "No such container: nosuch"),
            ("top made", "is not running"),
            ("pause made", "is not running"),
            ("unpause c1", "is not paused"),
            ("attach nosuch", "No such container: nosuch"),
            (
                "run --rm -u nosuch busybox true",
                "unable to find user nosuch: no matching entries in passwd file",
            ),
            ("run --rm --network container:nosuch busybox true", "No such container: nosuch"),
            ("run --rm --network nosuch busybox true", "network nosuch not found"),
            ("ps --filter bogus=1", "invalid filter 'bogus'"),
            ("ps --filter status=bogus", "invalid value for state (bogus)"),
        ],
    );
    let not_running = format!("container {id} is not running");
    let cannot_kill = format!("cannot kill container: made: {not_running}");
    raw_refused(
        &hosts,
        &[
            ("POST /v1.50/containers/made/exec", r#"{"Cmd":["true"]}"#, 409, &not_running),
            ("POST /v1.50/containers/made/kill", "", 409, &cannot_kill),
            ("POST /v1.50/containers/c1/exec", r#"{"Cmd":[]}"#, 400, "No exec command specified"),
            ("GET /v1.50/containers/c1/logs", "", 400, "Bad parameters: you must choose at least one stream"),
            (
                "GET /v1.50/containers/c1/logs?stdout=1&since=abc",
                "",
                500,
                "strconv.ParseInt: parsing \"abc\": invalid syntax",
            ),
            (
                "POST /v1.50/containers/c1/resize?h=x&w=10",
                "",
                400,
                "invalid resize height \"x\": invalid syntax",
            ),
            (
                "POST /v1.50/containers/create?name=c9",
                "{}",
                400,
                "config cannot be empty in order to create a container",
            ),
            (
                "POST /v1.50/containers/create?name=c9",
                r#"{"Image":"busybox","Cmd":["true"],"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"x"}]}}}"#,
                400,
                "invalid port specification: \"x\"",
            ),
            (
                "POST /v1.50/containers/create?name=c9",
                r#"{"Image":"busybox","HostConfig":{"RestartPolicy":{"Name":"bogus"}}}"#,
                400,
                "invalid restart policy: unknown policy 'bogus'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
            ),
        ],
    );
    // What already is as asked is no error, and has no body.
    assert_eq!(raw(&hosts, "POST", "/v1.50/containers/c1/start", "application/json", "").0, 304);
    assert_eq!(raw(&hosts, "POST", "/v1.50/containers/made/stop", "application/json", "").0, 304);
}

#[test]
fn images() {
    let hosts = up("refimg");
    refused(
        &hosts,
        &[
            ("image inspect nosuch", "No such image: nosuch:latest"),
            ("history nosuch", "No such image: nosuch:latest"),
            ("rmi nosuch", "No such image: nosuch:latest"),
            ("tag nosuch x:1", "No such image: nosuch:latest"),
            ("save nosuch -o /tmp/weft-nosuch.tar", "No such image: nosuch"),
            ("import /etc/passwd x:1", "archive/tar: invalid tar header"),
            ("load -i /etc/passwd", "archive/tar: invalid tar header"),
            ("images --filter bogus=1", "invalid filter 'bogus'"),
            ("images --filter dangling=x", "invalid filter 'dangling=[x]'"),
            ("pull 127.0.0.1:1/alpine", "connect: connection refused"),
            ("push nosuch", "An image does not exist locally with the tag: nosuch"),
            ("push busybox:none", "tag does not exist: busybox:none"),
        ],
    );
}

#[test]
fn networks() {
    let hosts = up("refnet");
    hosts.docker("h1", "network create --subnet 10.99.101.0/24 n1").unwrap();
    hosts.run_idle("h1", "c1", "--network n1").unwrap();
    refused(
        &hosts,
        &[
            ("network create n1", "network with name n1 already exists"),
            ("network create host", "operation is not permitted on predefined host network"),
            ("network create -d nosuch x", "plugin \"nosuch\" not found"),
            ("network create -d host x", "only one instance of \"host\" network is allowed"),
            ("network create -d null x", "only one instance of \"null\" network is allowed"),
            (
                "network create --subnet 10.99.1.0/33 x",
                "invalid subnet 10.99.1.0/33: invalid CIDR block notation",
            ),
            ("network create --subnet foo x", "invalid subnet foo: invalid CIDR block notation"),
            (
                "network create --subnet 10.99.103.5/24 x",
                "invalid subnet 10.99.103.5/24: it should be 10.99.103.0/24",
            ),
            (
                "network create --subnet 10.99.101.0/24 x",
                "invalid pool request: Pool overlaps with other one on this address space",
            ),
            (
                "network create --subnet 10.99.104.0/24 --subnet 10.99.105.0/24 x",
                "bridge driver doesn't support multiple subnets",
            ),
            (
                "network create --opt com.docker.network.driver.mtu=abc x",
                "failed to parse com.docker.network.driver.mtu value: abc",
            ),
            ("network create --opt com.docker.network.driver.mtu=-1 x", "invalid MTU number: -1"),
            (
                "network create --opt com.docker.network.bridge.enable_icc=perhaps x",
                "failed to parse com.docker.network.bridge.enable_icc value: perhaps",
            ),
            ("network create -d overlay x", "This node is not a swarm manager."),
            (
                "network create -d overlay --scope local x",
                "cannot downgrade network scope for overlay networks",
            ),
            (
                "network create --scope swarm x",
                "cannot create a swarm scoped network when swarm is not active",
            ),
            ("network create --ingress x", "Ingress network can only be global scope network"),
            ("network inspect nosuch", "network nosuch not found"),
            ("network rm nosuch", "network nosuch not found"),
            ("network rm bridge", "bridge is a pre-defined network and cannot be removed"),
            ("network rm none", "none is a pre-defined network and cannot be removed"),
            (
                "network rm n1",
                "error while removing network: network n1 has active endpoints (name:\"c1\" id:",
            ),
            ("network connect nosuch c1", "network nosuch not found"),
            ("network connect n1 nosuch", "No such container: nosuch"),
            ("network connect n1 c1", "endpoint with name c1 already exists in network n1"),
            (
                "network connect host c1",
                "cannot connect container to host network - container must be created in host network mode",
            ),
            (
                "network connect none c1",
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ),
            ("network connect --ip 300.1.1.1 bridge c1", "invalid IPv4 address: 300.1.1.1"),
            ("network disconnect nosuch c1", "network nosuch not found"),
            ("network disconnect bridge c1", "is not connected to network bridge"),
            (
                "run --network n1 --ip 10.88.1.130 busybox true",
                "no configured subnet or ip-range contain the IP address 10.88.1.130",
            ),
            ("network ls --filter bogus=1", "invalid filter 'bogus'"),
        ],
    );
    raw_refused(
        &hosts,
        &[
            (
                "POST /v1.50/networks/create",
                r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.99.4.0/24","Gateway":"10.99.5.1"}]}}"#,
                400,
                "invalid network config:\ninvalid gateway 10.99.5.1: parent subnet 10.99.4.0/24 doesn't contain this address",
            ),
            (
                "POST /v1.50/networks/create",
                r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.99.4.0/24","IPRange":"10.88.0.0/24"}]}}"#,
                400,
                "invalid network config:\ninvalid ip-range 10.88.0.0/24: parent subnet 10.99.4.0/24 doesn't contain ip-range",
            ),
            (
                "POST /v1.50/networks/create",
                r#"{"Name":"x","IPAM":{"Config":[{"Gateway":"10.99.5.1"}]}}"#,
                400,
                "invalid network config:\ninvalid subnet : invalid CIDR block notation",
            ),
            (
                "POST /v1.50/networks/create",
                r#"{"Name":"x","IPAM":{"Driver":"nosuch"}}"#,
                404,
                "plugin \"nosuch\" not found",
            ),
            ("POST /v1.50/networks/create", "", 400, "invalid name: name is empty"),
            ("GET /v1.50/networks?filters=x", "", 400, "invalid filter"),
            (
                "GET /v1.50/networks/bridge?verbose=bogus",
                "",
                400,
                "invalid value for verbose: bogus: strconv.ParseBool: parsing \"bogus\": invalid syntax",
            ),
        ],
    );
    // Nothing of it was made.
    assert_eq!(hosts.docker("h1", "network ls -q --filter name=x").unwrap(), "");
}

#[test]
fn requests_no_client_should_make() {
    let hosts = up("refraw");
    raw_refused(
        &hosts,
        &[
            ("GET /nope", "", 404, "page not found"),
            ("DELETE /v1.50/info", "", 404, "page not found"),
            (
                "GET /v1.52/info",
                "",
                400,
                "client version 1.52 is too new. Maximum supported API version is 1.51",
            ),
            (
                "POST /v1.51/networks/create",
                "{bad",
                400,
                "invalid JSON: invalid character 'b' looking for beginning of object key string",
            ),
            ("POST /v1.51/networks/create", r#"{"Name":"x"} {"a":1}"#, 400, "unexpected content after JSON"),
            ("POST /v1.50/containers/create", "", 400, "invalid JSON: got EOF while reading request body"),
            (
                "GET /v1.50/events?since=10&until=5",
                "",
                400,
                "`since` time (10) cannot be after `until` time (5)",
            ),
            ("GET /v1.50/exec/nosuch/json", "", 404, "No such exec instance: nosuch"),
            ("POST /v1.50/swarm/init", "{}", 400, "invalid ListenAddr \"\": invalid empty address"),
        ],
    );
    let (status, answer) = raw(&hosts, "GET", "/v1.23/info", "application/json", "");
    assert_eq!(
        (status, answer.as_str()),
        (
            400,
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n"
        )
    );
    let (status, answer) = raw(&hosts, "POST", "/v1.51/networks/create", "text/plain", r#"{"Name":"x"}"#);
    assert_eq!(status, 400);
    assert!(
        answer.contains("unsupported Content-Type header (text/plain): must be 'application/json'"),
        "{answer}"
    );
    // Bytes that are no HTTP end the connection and nothing else.
    for garbage in [&b"\x16\x03\x01\x02\x00"[..], b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", &[0xff; 70_000]]
    {
        let mut stream = UnixStream::connect(&hosts.daemon("h1").socket).unwrap();
        stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
        // The daemon may close before all is written.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(raw(&hosts, "GET", "/_ping", "text/plain", "").1, "OK");
}

#[test]
fn a_swarm_of_one() {
    let hosts = up("refswarm");
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable --subnet 10.77.0.0/24 web").unwrap();
    hosts.docker("h1", "network create local").unwrap();
    refused(
        &hosts,
        &[
            ("network create -d overlay web", "network with name web already exists"),
            ("network create web", "network with name web already exists"),
            ("network create -d overlay local", "network with name local already exists"),
            ("network create -d overlay bridge", "network with name bridge already exists"),
            (
                "network create -d overlay --subnet 10.55.0.0/33 x",
                "invalid subnet 10.55.0.0/33: invalid CIDR block notation",
            ),
            (
                "network create -d overlay --subnet 10.55.0.7/24 x",
                "invalid subnet 10.55.0.7/24: it should be 10.55.0.0/24",
            ),
            (
                "network create -d overlay --ingress --attachable x",
                "rpc error: code = InvalidArgument desc = ingress network cannot be attachable",
            ),
            ("node inspect nosuch", "node nosuch not found"),
            ("node rm nosuch", "node nosuch not found"),
            ("node rm h1", "It must be demoted to worker before removal"),
            ("node update --availability bogus h1", "invalid Availability: \"bogus\""),
            ("node demote h1", "attempting to demote the last manager of the swarm"),
            (
                "swarm leave",
                "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message.",
            ),
            ("swarm update --cert-expiry 1m", "minimum certificate expiry time is: 1h0m0s"),
            ("service create --name a.b busybox", "name must be valid as a DNS name component"),
            (
                "service create --endpoint-mode dnsrr -p 80:80 busybox",
                "published with ingress mode can't be used with dnsrr mode",
            ),
            ("service create --constraint bogus busybox", "constraint expected one operator from"),
            ("service create --network nosuch busybox", "network nosuch not found"),
            ("service inspect nosuch", "no such service: nosuch"),
        ],
    );
    let text = refusal(hosts.docker("h1", ["network", "create", "-d", "overlay", "--", "a b"]));
    assert!(text.contains("name must be valid as a DNS name component"), "{text}");
    let long = format!("network create -d overlay {}", "x".repeat(64));
    let text = refusal(hosts.docker("h1", long.words()));
    assert!(text.contains("name must be 63 characters or fewer"), "{text}");
    raw_refused(
        &hosts,
        &[
            (
                "POST /v1.50/swarm/update",
                "{}",
                400,
                "invalid swarm version '': strconv.ParseUint: parsing \"\": invalid syntax",
            ),
            (
                "POST /v1.50/swarm/update?version=1&rotateWorkerToken=bogus",
                "{}",
                400,
                "invalid value for rotateWorkerToken: bogus",
            ),
            (
                "POST /v1.50/swarm/update?version=1",
                r#"{"Name":"default"}"#,
                500,
                "rpc error: code = Unknown desc = update out of sequence",
            ),
            ("GET /v1.50/tasks/nosuch", "", 404, "task nosuch not found"),
            ("GET /v1.50/secrets/nosuch", "", 404, "secret nosuch not found"),
        ],
    );
}

/// The daemon's own command line.
#[test]
fn flags_the_daemon_does_not_know() {
    let exe = weft_exe().display().to_string();
    for (args, hint) in [
        (vec!["daemon", "--nosuch"], "--nosuch"),
        (vec!["daemon", "--storage-driver", "zfs", "--data-root", "/nonexistent/x"], "zfs"),
        (vec!["daemon", "--config-file", "/nonexistent/daemon.json"], "/nonexistent/daemon.json"),
    ] {
        let output = std::process::Command::new(&exe).args(&args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(hint), "{args:?}: {text}");
    }
}
