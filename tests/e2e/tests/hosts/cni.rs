//! The CNI plugin: the protocol itself with a bare namespace in a container's place, then Podman.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use weft_e2e::{Hosts, refusal, weft_exe};
use weft_lab::{Daemon, Host, LabError, LabSpec, eventually};

use crate::{SOON, answers, swarm_with_network};

/// A namespace that is gone is noticed at the second look, and looks are five seconds apart.
const NOTICED: Duration = Duration::from_secs(20);

/// An attachment of a namespace on a host.
#[derive(Clone, Copy)]
struct Attachment<'a> {
    hosts: &'a Hosts,
    host: &'a str,
    container: &'a str,
    interface: &'a str,
    args: &'a str,
}

impl<'a> Attachment<'a> {
    fn new(hosts: &'a Hosts, host: &'a str, container: &'a str) -> Self {
        Self { hosts, host, container, interface: "eth0", args: "" }
    }

    fn host(&self) -> &Host {
        self.hosts.host(self.host)
    }

    fn make_namespace(&self) {
        self.host().sh(&format!("ip netns add {}", self.container)).unwrap();
    }

    fn netns(&self) -> String {
        format!("/run/netns/{}", self.container)
    }

    /// What the plugin prints; an error is what it prints on failure.
    fn call(&self, command: &str, config: &Value) -> Result<Value, Value> {
        let mut plugin = self.host().command(plugin(self.host()));
        plugin
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", self.container)
            .env("CNI_NETNS", self.netns());
        plugin.env("CNI_IFNAME", self.interface).env("CNI_ARGS", self.args).env("CNI_PATH", "/opt/cni/bin");
        plugin.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = plugin.spawn().unwrap();
        process.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        let output = process.wait_with_output().unwrap();
        let value = match output.stdout.as_slice() {
            b"" => Value::Null,
            text => serde_json::from_slice(text).unwrap(),
        };
        if output.status.success() { Ok(value) } else { Err(value) }
    }

    fn code(&self, command: &str, config: &Value) -> u64 {
        match self.call(command, config) {
            Ok(value) => panic!("{command} must fail; it printed {value}"),
            Err(error) => error["code"].as_u64().unwrap(),
        }
    }

    fn sh(&self, line: &str) -> Result<String, String> {
        let line = format!("nsenter --net={} {line}", self.netns());
        self.host().sh(&line).map_err(|error| error.to_string())
    }

    fn pings(&self, address: &str) {
        let ask = || self.sh(&format!("ping -c 1 -W 1 {address}")).map(drop);
        eventually(&format!("{address} answers {}", self.container), SOON, ask);
        let three = self.sh(&format!("ping -c 3 -i 0.2 -W 2 {address}")).unwrap();
        assert!(three.contains(" 0% packet loss"), "{three}");
    }

    fn resolves(&self, name: &str, address: &str) {
        eventually(&format!("{} resolves {name}", self.container), SOON, || {
            let answer = self.sh(&format!("busybox nslookup {name} 127.0.0.11"))?;
            if answer.contains(address) { Ok(()) } else { Err(answer) }
        });
    }
}

/// The plugin as a runtime finds it: by the type that configurations name.
fn plugin(host: &Host) -> PathBuf {
    let folder = host.dir.join("cni-bin");
    let path = folder.join("weft");
    if !path.exists() {
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(weft_exe(), &path).unwrap();
    }
    path
}

fn config(version: &str, network: &str) -> Value {
    json!({"cniVersion": version, "name": network, "type": "weft"})
}

/// A configuration with more in it.
fn with(mut config: Value, key: &str, value: &Value) -> Value {
    config[key] = value.clone();
    config
}

fn address(result: &Value) -> String {
    let text = result["ips"][0]["address"].as_str().unwrap();
    text.split_once('/').unwrap().0.to_owned()
}

/// Containers that a host's daemon knows on a network.
fn known(hosts: &Hosts, host: &str, network: &str) -> usize {
    let listed = hosts.docker(host, ["network", "inspect", network, "--format", "{{len .Containers}}"]);
    listed.ok().and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[test]
fn cni_attachments_are_made_checked_kept_and_removed() {
    let mut hosts = swarm_with_network(LabSpec::bridged("cni", 2));
    hosts.run_idle("h1", "own", "--network web").unwrap();
    let results = made(&hosts);
    let (result, bob) = (&results[0], address(&results[1]));
    let previous = with(config("1.1.0", "web"), "prevResult", result);
    checked(&hosts, &previous);

    // A daemon that was killed, and one that was stopped: containers go on, and the next daemon knows them.
    for stop in [Daemon::kill as fn(&Daemon) -> Result<(), LabError>, Daemon::stop] {
        stop(hosts.daemon("h1")).unwrap();
        let ann = Attachment { args: "K8S_POD_NAME=ann", ..Attachment::new(&hosts, "h1", "c1") };
        ann.pings(&bob);
        ann.resolves("bob", &bob);
        for (command, code) in [("STATUS", 50), ("ADD", 11), ("DEL", 11)] {
            assert_eq!(ann.code(command, &config("1.1.0", "web")), code, "{command} without a daemon");
        }
        hosts.start("h1");
        let ann = Attachment::new(&hosts, "h1", "c1");
        ann.call("CHECK", &previous).unwrap();
        ann.pings(&bob);
        ann.resolves("bob", &bob);
    }
    hosts.wait_ready(2);
    hosts.docker("h1", "start own").unwrap();
    removed(&hosts, &previous);
}

/// One attachment on each host, by different versions.
fn made(hosts: &Hosts) -> [Value; 2] {
    let ann = Attachment { args: "IgnoreUnknown=1;K8S_POD_NAME=ann", ..Attachment::new(hosts, "h1", "c1") };
    let bob = Attachment { args: "K8S_POD_NAME=bob", ..Attachment::new(hosts, "h2", "c2") };
    let told = ann.call("VERSION", &json!({"cniVersion": "1.0.0"})).unwrap();
    assert_eq!(told, json!({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]}));
    ann.call("STATUS", &config("1.1.0", "web")).unwrap();
    assert_eq!(ann.code("ADD", &config("1.1.0", "web")), 3, "its namespace is not there");
    for container in [&ann, &bob] {
        container.make_namespace();
    }
    let error = ann.call("ADD", &config("1.1.0", "nosuch")).unwrap_err();
    assert!(error["code"] == 100 && error["msg"].to_string().contains("network nosuch not found"), "{error}");
    assert!(error["cniVersion"] == "1.1.0", "{error}");

    let first = ann.call("ADD", &config("1.1.0", "web")).unwrap();
    let ports = json!({"portMappings": [{"hostPort": 8081, "containerPort": 81, "protocol": "tcp"}],
        "aliases": {"front": ["store"]}});
    let second = config("0.4.0", "front");
    let second = with(with(second, "network", &"web".into()), "runtimeConfig", &ports);
    let second = bob.call("ADD", &second).unwrap();
    assert_eq!(first["interfaces"][0]["name"], "eth0", "{first}");
    assert_eq!(first["interfaces"][0]["sandbox"], "/run/netns/c1", "{first}");
    assert_eq!(first["interfaces"][0]["mtu"], 1450, "{first}");
    assert_eq!(first["routes"][0], json!({"dst": "0.0.0.0/0", "gw": "172.18.0.1"}), "{first}");
    assert_eq!(first["dns"]["nameservers"][0], "127.0.0.11", "{first}");
    assert_eq!(second["ips"][0]["version"], "4", "{second}");
    assert_eq!(ann.code("ADD", &config("1.1.0", "web")), 100, "a second time");

    let (first_ip, second_ip) = (address(&first), address(&second));
    assert!(first_ip.starts_with("10.0.1.") && second_ip.starts_with("10.0.1."), "{first} {second}");
    ann.pings(&second_ip);
    bob.pings(&first_ip);
    ann.resolves("bob", &second_ip);
    ann.resolves("store", &second_ip);
    bob.resolves("ann", &first_ip);
    // Containers of the host's own daemon, both ways.
    assert!(answers(hosts, "h1", "own", "bob").is_lossless());
    bob.resolves("own", &hosts.address("h1", "own", "web").unwrap());
    // The way out, and the way in by a published port.
    ann.pings("10.99.0.2");
    let mut server = bob.host().command("nsenter");
    server.args([&format!("--net={}", bob.netns()), "busybox", "httpd", "-f", "-p", "81", "-h", "/etc"]);
    let mut server = server.stdin(Stdio::null()).spawn().unwrap();
    eventually("the published port answers", SOON, || {
        hosts.host("h1").sh("curl -sf http://10.99.0.2:8081/hostname")
    });
    server.kill().unwrap();
    server.wait().unwrap();
    [first, second]
}

/// What CHECK finds, and what is repaired before it looks.
fn checked(hosts: &Hosts, previous: &Value) {
    let ann = Attachment::new(hosts, "h1", "c1");
    ann.call("CHECK", previous).unwrap();
    let mut other = previous.clone();
    other["prevResult"]["ips"][0]["address"] = "10.0.1.250/24".into();
    assert_eq!(ann.code("CHECK", &other), 101, "another address");
    // Somebody else's default route: it is left alone, and told.
    ann.sh("ip route replace default via 172.18.0.9 dev weftgw0 proto static").unwrap();
    let error = ann.call("CHECK", previous).unwrap_err();
    assert!(error["code"] == 101 && error["details"].to_string().contains("172.18.0.1"), "{error}");
    ann.sh("ip route del default").unwrap();
    eventually("CHECK is content", SOON, || ann.call("CHECK", previous).map_err(|error| error.to_string()));
    // The interface itself is put back.
    ann.sh("ip link del eth0").unwrap();
    eventually("the interface is there again", SOON, || ann.sh("ip link show eth0"));
    eventually("CHECK is content", SOON, || ann.call("CHECK", previous).map_err(|error| error.to_string()));
}

/// Two networks in one container, DEL, GC, and namespaces that go without a word.
fn removed(hosts: &Hosts, previous: &Value) {
    hosts.docker("h1", "network create -d overlay --attachable --internal back").unwrap();
    let ann = Attachment::new(hosts, "h1", "c1");
    let second = Attachment { interface: "eth1", ..ann };
    let result = second.call("ADD", &config("1.0.0", "back")).unwrap();
    assert_eq!(result["routes"], json!([]), "the default route came with the first network");
    assert!(ann.sh("ip -br address show eth1").unwrap().contains(&address(&result)));
    let in_use = refusal(hosts.docker("h1", "network rm back"));
    assert!(in_use.contains("is in use by task"), "{in_use}");
    second.call("DEL", &config("1.0.0", "back")).unwrap();
    second.sh("ip link show eth1").unwrap_err();
    ann.call("CHECK", previous).unwrap();

    let other = Attachment::new(hosts, "h1", "c3");
    other.make_namespace();
    other.call("ADD", &config("1.1.0", "web")).unwrap();
    assert_eq!(known(hosts, "h1", "web"), 3, "the host's own, and two of others");
    let valid = json!([{"containerID": "c3", "ifname": "eth0"}]);
    ann.call("GC", &with(config("1.1.0", "web"), "cni.dev/valid-attachments", &valid)).unwrap();
    ann.sh("ip link show eth0").unwrap_err();
    other.sh("ip link show eth0").unwrap();
    for _ in 0..2 {
        ann.call("DEL", &config("1.1.0", "web")).unwrap();
        other.call("DEL", &config("1.1.0", "web")).unwrap();
    }
    assert_eq!(known(hosts, "h1", "web"), 1);
    let left = other.sh("ip -o link").unwrap();
    assert_eq!(left.lines().count(), 1, "only lo is left: {left}");

    // Without DEL, as after a crash of the runtime.
    let bob = Attachment::new(hosts, "h2", "c2");
    assert_eq!(known(hosts, "h2", "web"), 1);
    bob.host().sh("ip netns del c2").unwrap();
    eventually("the attachment is gone", NOTICED, || match known(hosts, "h2", "web") {
        0 => Ok(()),
        more => Err(format!("{more} containers")),
    });
    eventually("its namespace is let go", SOON, || {
        let pins = bob.host().sh("ls /run/weft/network/netns").map_err(|error| error.to_string())?;
        if pins.lines().all(|pin| pin.starts_with("1-")) { Ok(()) } else { Err(pins) }
    });
    bob.call("DEL", &config("0.4.0", "front")).unwrap();
}

/// Podman on a host, with its files there.
struct Podman<'a>(&'a Host);

impl<'a> Podman<'a> {
    /// Ready to run the image `busybox` on a CNI network `web`.
    fn ready(hosts: &Hosts, host: &'a Host) -> Self {
        let folder = host.dir.join("podman");
        let networks = folder.join("net.d");
        std::fs::create_dir_all(&networks).unwrap();
        let bin = plugin(host);
        let list = json!({"cniVersion": "0.4.0", "name": "web", "plugins": [
            {"type": "weft", "capabilities": {"portMappings": true, "aliases": true, "ips": true, "mac": true}}]});
        std::fs::write(networks.join("web.conflist"), list.to_string()).unwrap();
        // runc, because crun does not know this mixture of cgroup versions.
        let text = format!(
            "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [{:?}]\nnetwork_config_dir = {networks:?}\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n\
             [containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n",
            bin.parent().unwrap(),
        );
        std::fs::write(folder.join("containers.conf"), text).unwrap();
        let podman = Self(host);
        let image = hosts.lab().busybox_tar().unwrap().display().to_string();
        podman.run(&["import", "-q", &image, "busybox"]).unwrap();
        podman
    }

    fn run(&self, args: &[&str]) -> Result<String, String> {
        let folder = self.0.dir.join("podman");
        let mut command = self.0.command("timeout");
        command
            .args(["-s", "KILL", "90", "podman", "--storage-driver", "vfs", "--root"])
            .arg(folder.join("root"));
        command.args(["--runroot", "/run/podman-test", "--log-level", "warn"]).args(args);
        command.env("CONTAINERS_CONF", folder.join("containers.conf")).stdin(Stdio::null());
        // Its monitor of a container would keep a pipe open: files do not make anybody wait.
        let at = |name: &str| folder.join(name);
        let file = |name: &str| std::fs::File::create(at(name)).unwrap();
        let status = command.stdout(file("stdout")).stderr(file("stderr")).status().unwrap();
        let text = |name: &str| std::fs::read_to_string(at(name)).unwrap();
        if status.success() { Ok(text("stdout").trim().to_owned()) } else { Err(text("stderr")) }
    }

    fn pings(&self, from: &str, name: &str) {
        let ask = || self.run(&["exec", from, "ping", "-c", "1", "-W", "1", name]).map(drop);
        eventually(&format!("{name} answers {from}"), SOON, ask);
        let three = self.run(&["exec", from, "ping", "-c", "3", "-W", "2", name]).unwrap();
        assert!(three.contains(" 0% packet loss"), "{three}");
    }
}

#[test]
fn cni_podman_runs_containers_on_an_overlay() {
    let mut hosts = swarm_with_network(LabSpec::bridged("cnipod", 2));
    let podmen = ["h1", "h2"].map(|name| hosts.host(name).clone());
    let [one, two] = [0, 1].map(|at| Podman::ready(&hosts, &podmen[at]));
    hosts.run_idle("h2", "own", "--network web").unwrap();
    let idle = ["busybox", "sleep", "100000"];
    one.run(&[&["run", "-d", "--name", "ann", "--network", "web"][..], &idle].concat()).unwrap();
    let server = ["busybox", "httpd", "-f", "-p", "80"];
    two.run(&[&["run", "-d", "--name", "bob", "--network", "web", "-p", "8080:80"][..], &server].concat())
        .unwrap();

    one.pings("ann", "bob");
    two.pings("bob", "ann");
    two.pings("bob", "own");
    assert!(answers(&hosts, "h2", "own", "ann").is_lossless());
    let shown =
        one.run(&["inspect", "ann", "--format", "{{.NetworkSettings.Networks.web.IPAddress}}"]).unwrap();
    assert!(shown.starts_with("10.0.1."), "{shown}");
    let resolver = one.run(&["exec", "ann", "cat", "/etc/resolv.conf"]).unwrap();
    assert!(resolver.starts_with("nameserver 127.0.0.11"), "{resolver}");
    let published = || hosts.host("h1").sh("curl -s -o /dev/null http://10.99.0.2:8080/");
    eventually("the published port answers", SOON, published);

    // The daemon is killed and comes back; Podman's containers do not notice.
    hosts.daemon("h1").kill().unwrap();
    one.pings("ann", "bob");
    hosts.start("h1");
    one.pings("ann", "bob");
    two.pings("bob", "ann");

    one.run(&["restart", "-t", "0", "ann"]).unwrap();
    two.pings("bob", "ann");
    for (podman, name) in [(&one, "ann"), (&two, "bob")] {
        podman.run(&["rm", "-f", "-t", "0", name]).unwrap();
    }
    assert_eq!(
        (known(&hosts, "h1", "web"), known(&hosts, "h2", "web")),
        (0, 1),
        "nothing of Podman's is left"
    );
}
