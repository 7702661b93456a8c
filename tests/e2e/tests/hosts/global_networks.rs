//! Rows F2 and F3: overlay networks that hosts share through Consul or etcd, without a swarm.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use weft_e2e::{Hosts, ping, refusal, weft_exe};
use weft_lab::{DaemonSpec, Host, LabSpec, eventually};

use crate::key_value::{Server, UP, wait_nodes};
use crate::{SOON, answers};

/// A lease of three seconds, what hosts wait beyond its end, and the store's own pace.
const FORGOTTEN: Duration = Duration::from_secs(40);
/// A store that does not answer is given up for one request within this time.
const FAST: Duration = Duration::from_secs(8);

/// The session of document 2, command by command: the store is a container of one of its hosts.
#[test]
fn f3_the_session_of_document_two() {
    let plain = DaemonSpec::weft(&weft_exe()).arg("--live-restore");
    let mut hosts = Hosts::up_with(LabSpec::bridged("kvdoc", 2), |_| plain.clone());
    let image = consul_image(hosts.host("h1"));
    let start = r#"CMD ["/bin/consul", "agent", "-dev", "-client", "0.0.0.0"]"#;
    hosts.docker("h1", ["import", "--change", start, &image, "consul"]).unwrap();
    hosts.docker("h1", "run -d -p 8500:8500 -h consul --name consul consul").unwrap();
    for host in ["h1", "h2"] {
        let advertise = format!("--cluster-advertise={}:2375", hosts.host(host).ipv4);
        hosts.replace(host, plain.clone().arg("--cluster-store=consul://10.99.0.1:8500").arg(advertise));
    }
    wait_nodes(&hosts, &["10.99.0.1:2375", "10.99.0.2:2375"], UP);
    assert_eq!(hosts.inspect("h1", "consul", "{{.State.Running}} {{.RestartCount}}").unwrap(), "true 0");

    assert_eq!(listed(&hosts, "h1"), ["bridge bridge local", "host host local", "none null local"]);
    let id = hosts.docker("h1", "network create -d overlay my_overlay").unwrap();
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    let want = ["bridge bridge local", "host host local", "my_overlay overlay global", "none null local"];
    assert_eq!(listed(&hosts, "h1"), want);
    eventually("the network on the other host", SOON, || same(&listed(&hosts, "h2"), &want));
    assert_eq!(hosts.inspect("h2", "my_overlay", "{{.Id}} {{.Scope}}").unwrap(), format!("{id} global"));

    let run = |host, name| {
        let line =
            format!("run -itd --stop-timeout 0 -h {name} --name {name} --network my_overlay busybox /bin/sh");
        hosts.docker(host, line).unwrap();
        hosts.inspect(host, name, "{{ .NetworkSettings.Networks.my_overlay.IPAddress}}").unwrap()
    };
    assert_eq!(run("h1", "master"), "10.0.0.2");
    assert_eq!(run("h2", "slaver"), "10.0.0.3");
    for (host, from, name, address) in
        [("h1", "master", "slaver", "10.0.0.3"), ("h2", "slaver", "master", "10.0.0.2")]
    {
        let pinged = answers(&hosts, host, from, address);
        assert!(pinged.is_lossless() && pinged.ttl == Some(64), "{pinged:?}");
        assert_eq!(ping(&hosts, host, from, name, 2).unwrap().address, address, "by name");
        let mac = hosts.exec(host, from, "cat /sys/class/net/eth0/address").unwrap();
        let own = if from == "master" { "02:42:0a:00:00:02" } else { "02:42:0a:00:00:03" };
        assert_eq!(mac, own);
    }
    // The way out is the bridge that swarms have, too; and no port was opened for any of this.
    assert!(hosts.exec("h2", "slaver", "ping -c 1 -W 2 10.99.0.1").is_ok());
    let open = hosts.host("h2").sh("ss -Hlntu '( sport = 2375 or sport = 7946 )'").unwrap();
    assert_eq!(open.trim(), "");

    // Row F4 in this mode: the daemon goes and comes, its containers stay.
    hosts.daemon("h2").stop().unwrap();
    assert!(ping(&hosts, "h1", "master", "slaver", 5).unwrap().is_lossless(), "without the daemon of h2");
    hosts.start("h2");
    assert!(ping(&hosts, "h1", "master", "slaver", 5).unwrap().is_lossless(), "with it again");
    assert_eq!(hosts.inspect("h2", "slaver", "{{.State.Running}} {{.RestartCount}}").unwrap(), "true 0");
    hosts.docker("h2", "rm -f slaver").unwrap();
    hosts.docker("h1", "rm -f master").unwrap();
    hosts.docker("h2", "network rm my_overlay").unwrap();
    eventually("it is gone everywhere", SOON, || {
        let left = listed(&hosts, "h1");
        if left.iter().any(|line| line.contains("my_overlay")) { Err(format!("{left:?}")) } else { Ok(()) }
    });
}

/// Name, driver and scope of each network, but for the bridge that is the way out.
fn listed(hosts: &Hosts, host: &str) -> Vec<String> {
    let all = hosts.docker(host, ["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"]).unwrap();
    all.lines().filter(|line| !line.starts_with("docker_gwbridge ")).map(str::to_owned).collect()
}

fn same(have: &[String], want: &[&str]) -> Result<(), String> {
    if have == want { Ok(()) } else { Err(format!("have {have:?}")) }
}

/// An archive with this machine's Consul and the libraries that it needs.
fn consul_image(host: &Host) -> String {
    let (root, archive) = (host.dir.join("consul"), host.dir.join("consul.tar"));
    let (root, archive) = (root.display().to_string(), archive.display().to_string());
    let pack = format!(
        "set -e; consul=$(command -v consul); mkdir -p {root}/bin {root}/tmp; cp $consul {root}/bin
         for library in $(ldd $consul | grep -o '/[^ ]*'); do cp --parents $library {root}; done
         tar -C {root} -cf {archive} ."
    );
    host.sh(&pack).unwrap();
    archive
}

/// Two hosts that share an etcd of three members on the first one.
#[test]
fn f2_networks_of_all_hosts_in_etcd() {
    let daemon = |host: &str| {
        let number = host.trim_start_matches('h');
        let spec = DaemonSpec::weft(&weft_exe());
        let spec = if host == "h2" { spec.arg("--live-restore") } else { spec };
        spec.arg("--cluster-store=etcd://10.99.0.1:2379,10.99.0.1:2381,10.99.0.1:2383/my")
            .arg(format!("--cluster-advertise=10.99.0.{number}:2375"))
            .arg("--cluster-store-opt=discovery.heartbeat=1")
            .arg("--cluster-store-opt=discovery.ttl=3")
    };
    let servers = RefCell::new(Vec::new());
    let prepare = |host: &Host| {
        if host.name == "h1" {
            *servers.borrow_mut() = Server::three_etcds(host);
        }
    };
    let mut hosts = Hosts::up_prepared(LabSpec::bridged("kvnet", 2), daemon, prepare);
    let mut servers = servers.into_inner();
    networks_are_made_and_refused(&hosts);
    containers_join_and_leave(&hosts);
    // A member of the store dies: two are enough.
    servers.remove(0);
    hosts.docker("h2", "network create -d overlay third").unwrap();
    hosts.docker("h1", "network rm third").unwrap();
    the_store_is_away(&mut hosts, &servers);
    a_daemon_is_away(&mut hosts);
    a_host_dies(&mut hosts);
}

fn networks_are_made_and_refused(hosts: &Hosts) {
    let create = |host, options: &str| hosts.docker(host, format!("network create -d overlay {options}"));
    create("h1", "--label tier=front my").unwrap();
    let text = refusal(create("h2", "my"));
    assert!(text.contains("network with name my already exists"), "{text}");
    let text = refusal(hosts.docker("h2", "network create my"));
    assert!(text.contains("network with name my already exists"), "{text}");
    hosts.docker("h2", "network create mine").unwrap();
    let text = refusal(create("h2", "mine"));
    assert!(text.contains("network with name mine already exists"), "{text}");
    let text = refusal(create("h2", "--opt encrypted secret"));
    assert!(text.contains("not implemented with a key-value store"), "{text}");
    let text = refusal(create("h2", "--subnet 10.0.0.128/25 over"));
    assert!(text.contains("Pool overlaps with other one on this address space"), "{text}");
    let text = refusal(create("h2", "--scope swarm over"));
    assert!(text.contains("cannot create a swarm scoped network when swarm is not active"), "{text}");
    let text = refusal(hosts.docker("h2", "run --rm --network nosuch busybox true"));
    assert!(text.contains("network nosuch not found"), "{text}");

    create(
        "h2",
        "--internal --subnet 10.50.0.0/24 --ip-range 10.50.0.64/26 --gateway 10.50.0.9 \
                  --opt com.docker.network.driver.mtu=1300 own",
    )
    .unwrap();
    let vni = |network| {
        let template = "{{index .Options \"com.docker.network.driver.overlay.vxlanid_list\"}}";
        hosts.inspect("h1", network, template).unwrap()
    };
    eventually("the network on the other host", SOON, || {
        let found = hosts.docker("h1", ["network", "ls", "-q", "--filter", "scope=global"]).unwrap();
        if found.lines().count() == 2 { Ok(()) } else { Err(found) }
    });
    assert_eq!((vni("my").as_str(), vni("own").as_str()), ("256", "257"));
    let shown = hosts.inspect(
        "h1",
        "own",
        "{{.Internal}} {{range .IPAM.Config}}{{.Subnet}} {{.IPRange}} {{.Gateway}}{{end}}",
    );
    assert_eq!(shown.unwrap(), "true 10.50.0.0/24 10.50.0.64/26 10.50.0.9");
    let labelled = hosts.docker("h2", ["network", "ls", "--filter", "label=tier", "--format", "{{.Name}}"]);
    assert_eq!(labelled.unwrap(), "my");
}

fn containers_join_and_leave(hosts: &Hosts) {
    hosts.run_idle("h1", "ann", "--network my --network-alias left").unwrap();
    hosts.run_idle("h2", "bob", "--network own").unwrap();
    assert_eq!(hosts.address("h2", "bob", "own").unwrap(), "10.50.0.64");
    assert_eq!(hosts.exec("h2", "bob", "cat /sys/class/net/eth0/mtu").unwrap(), "1250");
    assert!(hosts.exec("h2", "bob", "ip route").unwrap().lines().all(|route| !route.contains("default")));
    let events = Instant::now();
    hosts.docker("h2", "network connect --ip 10.0.0.77 --alias db my bob").unwrap();
    assert_eq!(hosts.address("h2", "bob", "my").unwrap(), "10.0.0.77");
    let text = refusal(hosts.docker("h1", "run --rm --network my --ip 10.0.0.77 busybox true"));
    assert!(text.contains("Address already in use"), "{text}");
    for name in ["db", "bob", "10.0.0.77"] {
        let pinged = answers(hosts, "h1", "ann", name);
        assert!(pinged.is_lossless() && pinged.address == "10.0.0.77", "{name}: {pinged:?}");
    }
    assert!(answers(hosts, "h2", "bob", "left").is_lossless());
    // Containers of this host by their ids, endpoints of others by theirs.
    let template =
        "{{range $id, $c := .Containers}}{{printf \"%.3s\" $id}} {{$c.Name}} {{$c.IPv4Address}};{{end}}";
    let shown = hosts.inspect("h1", "my", template).unwrap();
    assert!(shown.contains("ann 10.0.0.2/24;") && shown.contains("ep- bob 10.0.0.77/24;"), "{shown}");

    for host in ["h1", "h2"] {
        let text = refusal(hosts.docker(host, "network rm my"));
        assert!(text.contains("network my has active endpoints (name:"), "{host}: {text}");
    }
    hosts.docker("h2", "network disconnect my bob").unwrap();
    eventually("bob is gone from it", SOON, || {
        let shown = hosts.inspect("h1", "my", template).unwrap();
        if shown.contains("bob") { Err(shown) } else { Ok(()) }
    });
    eventually("the events of this host", SOON, || {
        let since = format!("--since={}s", events.elapsed().as_secs() + 2);
        let format = "--format={{.Action}} {{.Actor.Attributes.name}}";
        let told = ["events", &since, "--until=0s", "--filter=type=network", format];
        let told = hosts.docker("h2", told.as_slice()).unwrap();
        if told.contains("connect my\ndisconnect my") { Ok(()) } else { Err(told) }
    });
    // What is given back rests: the next one gets the next address.
    hosts.docker("h1", "rm -f ann").unwrap();
    hosts.run_idle("h2", "eve", "--network my").unwrap();
    assert_eq!(hosts.address("h2", "eve", "my").unwrap(), "10.0.0.3");
    hosts.run_idle("h1", "ann", "--network my --restart always").unwrap();
    assert_eq!(hosts.address("h1", "ann", "my").unwrap(), "10.0.0.4");
    assert!(answers(hosts, "h1", "ann", "eve").is_lossless());
    let text = refusal(hosts.docker("h1", "network rm own"));
    assert!(text.contains("network own has active endpoints"), "{text}");
    hosts.docker("h2", "rm -f bob").unwrap();
    hosts.docker("h1", "network rm own").unwrap();
}

/// Traffic goes on, changes fail at once, and all is well when it is back.
fn the_store_is_away(hosts: &mut Hosts, servers: &[Server]) {
    hosts.run_idle("h1", "near", "--restart always").unwrap();
    servers.iter().for_each(|server| server.signal("STOP"));
    let begin = Instant::now();
    let text = refusal(hosts.docker("h2", "network create -d overlay late"));
    assert!(text.contains("the key-value store at etcd://10.99.0.1:2379"), "{text}");
    let text = refusal(hosts.docker("h2", "run --rm --network my busybox true"));
    assert!(text.contains("the key-value store at etcd://10.99.0.1:2379"), "{text}");
    assert!(begin.elapsed() < 2 * FAST, "{:?}", begin.elapsed());
    assert!(ping(hosts, "h2", "eve", "ann", 5).unwrap().is_lossless());

    // The daemon starts without it, with containers of its own networks; the others wait.
    hosts.daemon("h1").stop().unwrap();
    hosts.start("h1");
    let running = |hosts: &Hosts, name: &str| {
        eventually(&format!("{name} runs"), UP, || {
            match hosts.inspect("h1", name, "{{.State.Running}}").unwrap().as_str() {
                "true" => Ok(()),
                _ => Err(hosts.inspect("h1", name, "{{.State.Error}}").unwrap()),
            }
        });
    };
    running(hosts, "near");
    assert_eq!(hosts.inspect("h1", "ann", "{{.State.Running}}").unwrap(), "false");
    servers.iter().for_each(|server| server.signal("CONT"));
    running(hosts, "ann");
    hosts.docker("h2", "network create -d overlay late").unwrap();
    hosts.docker("h2", "network rm late").unwrap();
    assert!(answers(hosts, "h2", "eve", "ann").is_lossless());
}

/// A host whose daemon is away is there for as long as that takes: longer than its lease, and what others wait beyond.
fn a_daemon_is_away(hosts: &mut Hosts) {
    hosts.daemon("h2").kill().unwrap();
    let pinged = ping(hosts, "h1", "ann", "eve", 160).unwrap();
    assert!(pinged.is_lossless(), "{pinged:?}");
    assert!(hosts.exec("h1", "ann", "nslookup eve").is_ok());
    hosts.start("h2");
    let pinged = ping(hosts, "h1", "ann", "eve", 60).unwrap();
    assert!(pinged.is_lossless(), "back again: {pinged:?}");
}

/// Nobody says goodbye: what the host had is forgotten when its lease has ended. When it comes back after all, its
/// container makes way for the one that has its address now.
fn a_host_dies(hosts: &mut Hosts) {
    let address = hosts.address("h2", "eve", "my").unwrap();
    hosts.daemon("h2").kill().unwrap();
    for helper in hosts.processes("h2", "helper") {
        hosts.host("h2").run("kill", ["-9", &helper.to_string()]).unwrap();
    }
    let known = |name: &str| hosts.exec("h1", "ann", &format!("nslookup {name}")).is_ok();
    assert!(known("eve"), "at once nothing is lost: {address}");
    eventually("its endpoints are forgotten", FORGOTTEN, || if known("eve") { Err("known") } else { Ok(()) });
    hosts.run_idle("h1", "heir", &format!("--network my --ip {address}")).unwrap();
    hosts.start("h2");
    eventually("eve makes way", SOON, || {
        match hosts
            .inspect("h2", "eve", "{{.State.Running}} {{len .NetworkSettings.Networks}}")
            .unwrap()
            .as_str()
        {
            "true 0" => Ok(()),
            shown => Err(shown.to_owned()),
        }
    });
    hosts.docker("h1", "rm -f ann heir").unwrap();
    hosts.docker("h1", "network rm my").unwrap();
}

/// The store loses all its data: containers go on, and their network is put back.
pub(crate) fn containers_outlive_the_data(hosts: &mut Hosts, servers: &RefCell<Vec<Server>>) {
    hosts.start("h2");
    let id = hosts.docker("h1", "network create -d overlay kept").unwrap();
    hosts.run_idle("h1", "ann", "--network kept").unwrap();
    hosts.run_idle("h2", "bob", "--network kept").unwrap();
    assert!(answers(hosts, "h1", "ann", "bob").is_lossless());
    servers.borrow_mut().clear();
    servers.borrow_mut().push(Server::consul(hosts.host("h1")));
    // Longer than it takes all hosts to notice.
    let pinged = ping(hosts, "h1", "ann", "bob", 80).unwrap();
    assert!(pinged.is_lossless(), "{pinged:?}");
    eventually("the network is back", SOON, || {
        match hosts.inspect("h2", "kept", "{{.Id}} {{len .Containers}}") {
            Ok(shown) if shown == format!("{id} 2") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let third = hosts.docker("h2", "run --rm --network kept busybox ip -4 addr show eth0").unwrap();
    assert!(third.contains("10.0.0.4/24"), "{third}");
    hosts.docker("h1", "rm -f ann").unwrap();
    hosts.docker("h2", "rm -f bob").unwrap();
    hosts.docker("h1", "network rm kept").unwrap();
    hosts.daemon("h2").stop().unwrap();
}
