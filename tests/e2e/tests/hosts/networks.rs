//! Rows B1, B2, B3, B7: networks as objects.

use serde_json::Value;
use weft_e2e::{Hosts, refusal};
use weft_lab::{LabSpec, eventually};

use crate::{SOON, answers, swarm_with_network};

fn inspect(hosts: &Hosts, host: &str, network: &str) -> Value {
    let text = hosts.docker(host, ["network", "inspect", network]).unwrap();
    serde_json::from_str::<Vec<Value>>(&text).unwrap().remove(0)
}

fn manager(name: &str) -> Hosts {
    let hosts = Hosts::up(LabSpec::bridged(name, 1));
    hosts.swarm();
    hosts
}

#[test]
fn b1_a_network_gets_the_next_subnet_and_vni() {
    let hosts = manager("b1");
    for (n, name) in [(1, "one"), (2, "two")] {
        let id = hosts.docker("h1", format!("network create -d overlay {name}")).unwrap();
        assert_eq!(id.len(), 25, "{id}");
        assert!(id.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()), "{id}");
        let network = inspect(&hosts, "h1", name);
        assert_eq!(network["Id"], id);
        assert_eq!(network["Scope"], "swarm");
        assert_eq!(network["Driver"], "overlay");
        assert_eq!(network["EnableIPv6"], false);
        assert_eq!(network["Attachable"], false);
        assert_eq!(network["IPAM"]["Driver"], "default");
        assert_eq!(network["IPAM"]["Config"][0]["Subnet"], format!("10.0.{n}.0/24"));
        assert_eq!(network["IPAM"]["Config"][0]["Gateway"], format!("10.0.{n}.1"));
        assert_eq!(
            network["Options"]["com.docker.network.driver.overlay.vxlanid_list"],
            (4096 + n).to_string()
        );
    }
}

#[test]
fn b2_options_are_honoured_and_shown() {
    let hosts = manager("b2");
    let options = "--subnet 10.50.0.0/24 --gateway 10.50.0.9 --ip-range 10.50.0.128/25 --aux-address h=10.50.0.130 \
                   --label k=v --internal --opt com.docker.network.driver.mtu=1300";
    hosts.docker("h1", format!("network create -d overlay --attachable {options} full")).unwrap();
    let network = inspect(&hosts, "h1", "full");
    let config = &network["IPAM"]["Config"][0];
    assert_eq!(config["Subnet"], "10.50.0.0/24");
    assert_eq!(config["Gateway"], "10.50.0.9");
    assert_eq!(config["IPRange"], "10.50.0.128/25");
    assert_eq!(config["AuxiliaryAddresses"]["h"], "10.50.0.130");
    assert_eq!(network["Labels"]["k"], "v");
    assert_eq!(network["Internal"], true);
    assert_eq!(network["Attachable"], true);
    assert_eq!(network["Options"]["com.docker.network.driver.mtu"], "1300");

    let mut addresses = Vec::new();
    for name in ["ann", "bob", "cat"] {
        hosts.run_idle("h1", name, "--network full").unwrap();
        addresses.push(hosts.address("h1", name, "full").unwrap());
    }
    assert_eq!(inspect(&hosts, "h1", "full")["IPAM"], network["IPAM"], "the same once containers are on it");
    for address in &addresses {
        let last: u8 = address.strip_prefix("10.50.0.").unwrap().parse().unwrap();
        assert!(last >= 128 && last != 130, "{addresses:?}");
    }
    let links = hosts.exec("h1", "ann", "ip -o link").unwrap();
    assert!(links.lines().any(|l| l.contains("eth0") && l.contains("mtu 1250")), "{links}");
    // An internal network has no way out: no second interface, no default route.
    assert!(!links.contains("eth1"), "{links}");
    let routes = hosts.exec("h1", "ann", "ip route").unwrap();
    assert!(!routes.contains("default"), "{routes}");

    // Document 0 writes the option this way.
    hosts
        .docker("h1", "network create -d overlay --attachable --opt com.docker.network.mtu=1400 short")
        .unwrap();
    hosts.run_idle("h1", "sid", "--network short").unwrap();
    let links = hosts.exec("h1", "sid", "ip -o link show eth0").unwrap();
    assert!(links.contains("mtu 1350"), "{links}");
}

#[test]
fn b2_wrong_options_are_refused() {
    let hosts = manager("b2bad");
    hosts.docker("h1", "network create -d overlay --subnet 10.60.0.0/16 taken").unwrap();
    for (options, message) in [
        ("--subnet 10.61.0.0/33", "invalid subnet 10.61.0.0/33: invalid CIDR block notation"),
        ("--subnet 10.61.0.7/24", "invalid subnet 10.61.0.7/24: it should be 10.61.0.0/24"),
        ("--subnet 10.60.7.0/24", "Pool overlaps with other one on this address space"),
        ("--subnet 10.61.0.0/24 --gateway 10.62.0.1", "no matching subnet for gateway 10.62.0.1"),
        ("--subnet 10.61.0.0/24 --ip-range 10.62.0.0/25", "no matching subnet for range 10.62.0.0/25"),
        ("--opt com.docker.network.driver.mtu=abc", "abc"),
        ("--opt com.docker.network.driver.mtu=12", "12"),
        ("--opt com.docker.network.driver.overlay.vxlanid_list=4097", "4097"),
    ] {
        let text = refusal(hosts.docker("h1", format!("network create -d overlay {options} bad")));
        assert!(text.contains(message), "{options}: {text}");
    }
    let body = r#"{"Name":"bad","Driver":"overlay","IPAM":{"Config":[{"Subnet":"10.61.0.0/24","Gateway":"10.62.0.1"}]}}"#;
    let socket = hosts.daemon("h1").socket.display().to_string();
    let host = hosts.host("h1");
    let curl = ["-s", "--unix-socket", &socket, "-H", "Content-Type: application/json", "-d", body];
    let answer = host.run("curl", curl.into_iter().chain(["http://docker/v1.51/networks/create"])).unwrap();
    assert!(
        answer.contains("invalid gateway 10.62.0.1: parent subnet 10.61.0.0/24 doesn't contain this address"),
        "{answer}"
    );
    for (name, message) in [
        ("taken", "network with name taken already exists"),
        ("ingress", "network with name ingress already exists"),
        ("-_-", "name must be valid as a DNS name component"),
    ] {
        let text = refusal(hosts.docker("h1", ["network", "create", "-d", "overlay", "--", name]));
        assert!(text.contains(message), "{name}: {text}");
    }
    let networks = hosts.docker("h1", "network ls -q --filter driver=overlay").unwrap();
    assert_eq!(networks.lines().count(), 2, "a refused network must not stay:\n{networks}");
}

#[test]
fn b2_pools_and_subnets_run_out_with_a_word_on_which() {
    let hosts = Hosts::up(LabSpec::bridged("b2full", 1));
    let init = "swarm init --advertise-addr 10.99.0.1 --default-addr-pool 10.20.0.0/23 --default-addr-pool-mask-length 24";
    hosts.docker("h1", init).unwrap();
    hosts.docker("h1", "network create -d overlay last").unwrap();
    let text = refusal(hosts.docker("h1", "network create -d overlay more"));
    assert!(
        text.contains("could not find an available subnet for network more: all 2 subnets of size /24"),
        "{text}"
    );

    hosts.docker("h1", "network create -d overlay --attachable --subnet 10.30.0.0/29 small").unwrap();
    // Six addresses, one of them the gateway's.
    let mut text = String::new();
    for n in 1..=6 {
        match hosts.run_idle("h1", &format!("c{n}"), "--network small") {
            Ok(_) => assert!(n < 6, "no sixth container fits"),
            Err(failed) => {
                text = failed.stderr;
                break;
            }
        }
    }
    assert!(text.contains("no available IPv4 addresses on this network's address pools: small"), "{text}");
}

#[test]
fn b3_a_worker_sees_a_network_while_it_uses_it() {
    let hosts = swarm_with_network(LabSpec::bridged("b3", 2));
    let sees =
        |host: &str| hosts.docker(host, "network ls -q --filter name=web").unwrap().lines().count() == 1;
    assert!(sees("h1"));
    assert!(!sees("h2"));
    let text = refusal(hosts.docker("h2", "network inspect web"));
    assert!(text.contains("network web not found"), "{text}");
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    assert!(sees("h2"));
    assert_eq!(inspect(&hosts, "h2", "web")["Scope"], "swarm");
    hosts.docker("h2", "rm -f bob").unwrap();
    eventually("the worker forgets the network", SOON, || {
        if sees("h2") { Err("it still sees it") } else { Ok(()) }
    });
    // And nothing of it stays in the kernel.
    let links = hosts.host("h2").sh("ip -o link; ip netns").unwrap();
    assert!(!links.contains("vxlan"), "{links}");
}

#[test]
fn b7_rm_prune_and_filters() {
    let hosts = swarm_with_network(LabSpec::bridged("b7", 2));
    hosts.docker("h1", "network create -d overlay --label tier=back idle").unwrap();
    hosts.run_idle("h2", "bob", "--network web").unwrap();

    let text = refusal(hosts.docker("h1", "network rm web"));
    assert!(
        text.contains("rpc error: code = FailedPrecondition desc = network ")
            && text.contains(" is in use by task "),
        "{text}"
    );
    let text = refusal(hosts.docker("h2", "network rm web"));
    assert!(text.contains("Worker nodes can't be used to view or modify cluster state"), "{text}");
    let text = refusal(hosts.docker("h1", "network rm nosuch"));
    assert!(text.contains("network nosuch not found"), "{text}");

    let ls = |filter: &str| {
        let list = ["network", "ls", "--format", "{{.Name}}", "--filter", filter];
        let mut names: Vec<String> = hosts.docker("h1", list).unwrap().lines().map(str::to_owned).collect();
        names.sort_unstable();
        names.join(" ")
    };
    assert_eq!(ls("driver=overlay"), "idle ingress web");
    assert_eq!(ls("scope=swarm"), "idle ingress web");
    assert_eq!(ls("label=tier=back"), "idle");
    assert_eq!(ls("name=we"), "web");
    let id = hosts.docker("h1", "network inspect --format {{.Id}} idle").unwrap();
    assert_eq!(ls(&format!("id={}", &id[..8])), "idle");

    let pruned = hosts.docker("h1", "network prune -f").unwrap();
    assert!(pruned.contains("idle") && !pruned.contains("web"), "{pruned}");
    hosts.docker("h2", "rm -f bob").unwrap();
    assert_eq!(hosts.docker("h1", "network rm web").unwrap(), "web");
    let text = refusal(hosts.docker("h1", "network inspect web"));
    assert!(text.contains("network web not found"), "{text}");
}

#[test]
fn b7_inspect_verbose_shows_the_endpoints_of_other_hosts() {
    let hosts = crate::swarm_with_pair(LabSpec::bridged("b7v", 2));
    answers(&hosts, "h1", "ann", "bob");
    let b = hosts.address("h2", "bob", "web").unwrap();
    let plain = inspect(&hosts, "h1", "web");
    let names: Vec<&str> =
        plain["Containers"].as_object().unwrap().values().filter_map(|c| c["Name"].as_str()).collect();
    assert!(names.contains(&"ann") && !names.contains(&"bob"), "{names:?}");
    eventually("both endpoints in the verbose view", SOON, || {
        let text = hosts.docker("h1", "network inspect --verbose web").map_err(|e| e.to_string())?;
        if text.contains(&b) && text.contains("10.99.0.2") { Ok(()) } else { Err(text) }
    });
}
