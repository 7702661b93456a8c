//! Rows B4, B8, B9 and names: containers on networks.

use std::collections::BTreeSet;

use weft_e2e::{ping, refusal};
use weft_lab::{LabSpec, eventually};

use crate::{SOON, answers, swarm_with_network, swarm_with_pair};

#[test]
fn b4_only_a_common_network_connects() {
    let hosts = swarm_with_network(LabSpec::bridged("b4", 2));
    hosts.docker("h1", "network create -d overlay --attachable back").unwrap();
    hosts.run_idle("h1", "front", "--network web").unwrap();
    hosts.run_idle("h2", "db", "--network back").unwrap();
    hosts.run_idle("h1", "mid", "--network web").unwrap();
    hosts.docker("h1", "network connect back mid").unwrap();
    let [front, db] =
        [hosts.address("h1", "front", "web"), hosts.address("h2", "db", "back")].map(Result::unwrap);

    for (host, from, name) in [("h1", "mid", "front"), ("h1", "mid", "db"), ("h2", "db", "mid")] {
        let answered = answers(&hosts, host, from, name);
        assert!(answered.is_lossless(), "{from} pings {name}: {answered:?}");
    }
    for (host, from, name, address) in [("h1", "front", "db", &db), ("h2", "db", "front", &front)] {
        assert_eq!(ping(&hosts, host, from, address, 2).unwrap().received, 0, "{from} reaches {name}");
        assert!(hosts.exec(host, from, &format!("nslookup {name}")).is_err(), "{from} knows {name}");
    }
}

#[test]
fn b8_addresses_are_unique_in_the_cluster() {
    let hosts = swarm_with_network(LabSpec::bridged("b8", 3));
    let mut addresses = BTreeSet::new();
    for n in 0..9 {
        let (host, name) = (format!("h{}", n % 3 + 1), format!("c{n}"));
        hosts.run_idle(&host, &name, "--network web").unwrap();
        let address = hosts.address(&host, &name, "web").unwrap();
        assert!(address.starts_with("10.0.1."), "{address}");
        assert!(addresses.insert(address.clone()), "{address} twice");
    }
    for target in ["c1", "c2", "c3", "c8"] {
        assert!(answers(&hosts, "h1", "c0", target).is_lossless());
    }
}

#[test]
fn b8_without_attachable_it_is_refused() {
    let hosts = swarm_with_network(LabSpec::bridged("b8no", 2));
    hosts.docker("h1", "network create -d overlay closed").unwrap();
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    for host in ["h1", "h2"] {
        let text = refusal(hosts.docker(host, "run --rm --network closed busybox true"));
        let wanted = "Could not attach to network closed: rpc error: code = PermissionDenied desc = network closed not \
                      manually attachable";
        assert!(text.contains(wanted), "{host}: {text}");
    }
    let text = refusal(hosts.docker("h2", "network connect closed bob"));
    assert!(text.contains("network closed not manually attachable"), "{text}");
    let text = refusal(hosts.docker("h2", "run --rm --network nosuch busybox true"));
    assert!(text.contains("network nosuch not found"), "{text}");
    assert_eq!(
        hosts.docker("h2", ["ps", "-a", "--format", "{{.Names}}"]).unwrap(),
        "bob",
        "refused containers stay"
    );
}

#[test]
fn b8_connect_and_disconnect_with_address_and_alias() {
    let hosts = swarm_with_network(LabSpec::bridged("b8con", 2));
    hosts.docker("h1", "network create -d overlay --attachable --subnet 10.50.0.0/24 fixed").unwrap();
    hosts.run_idle("h1", "ann", "--network fixed").unwrap();
    hosts.run_idle("h2", "bob", "--network web").unwrap();
    hosts.docker("h2", "network connect --ip 10.50.0.77 --alias db fixed bob").unwrap();
    assert_eq!(hosts.address("h2", "bob", "fixed").unwrap(), "10.50.0.77");
    for name in ["db", "bob", "10.50.0.77"] {
        let pinged = answers(&hosts, "h1", "ann", name);
        assert!(pinged.is_lossless() && pinged.address == "10.50.0.77", "{name}: {pinged:?}");
    }
    let again = refusal(hosts.docker("h2", "network connect fixed bob"));
    assert!(again.contains("already"), "{again}");
    let outside = refusal(hosts.docker("h2", "run --rm --network fixed --ip 10.51.0.3 busybox true"));
    assert!(
        outside.contains("no configured subnet or ip-range contain the IP address 10.51.0.3"),
        "{outside}"
    );
    let taken = refusal(hosts.docker("h1", "run --rm --network fixed --ip 10.50.0.77 busybox true"));
    assert!(taken.contains("Address already in use"), "{taken}");

    hosts.docker("h2", "network disconnect fixed bob").unwrap();
    let not = refusal(hosts.docker("h2", "network disconnect fixed bob"));
    assert!(not.contains("is not connected to network fixed"), "{not}");
    eventually("the alias is forgotten", SOON, || match hosts.exec("h1", "ann", "nslookup db") {
        Err(_) => Ok(()),
        Ok(text) => Err(text),
    });
    assert_eq!(ping(&hosts, "h1", "ann", "10.50.0.77", 1).unwrap().received, 0);
    // The address is free again at once when it is asked for.
    hosts.docker("h1", "run --rm --network fixed --ip 10.50.0.77 busybox true").unwrap();
}

#[test]
fn b9_interfaces_routes_and_resolver() {
    let hosts = swarm_with_pair(LabSpec::bridged("b9", 2));
    let address = hosts.address("h2", "bob", "web").unwrap();
    let links = hosts.exec("h2", "bob", "ip -o addr").unwrap();
    assert!(links.lines().any(|l| l.contains("eth0") && l.contains(&format!("{address}/24"))), "{links}");
    assert!(links.lines().any(|l| l.contains("eth1") && l.contains("172.18.")), "{links}");
    let mtu = hosts.exec("h2", "bob", "cat /sys/class/net/eth0/mtu").unwrap();
    assert_eq!(mtu, "1450");
    let routes = hosts.exec("h2", "bob", "ip route").unwrap();
    assert!(routes.lines().any(|l| l.starts_with("default via 172.18.0.1 dev eth1")), "{routes}");
    let resolver = hosts.exec("h2", "bob", "cat /etc/resolv.conf").unwrap();
    assert!(resolver.contains("nameserver 127.0.0.11"), "{resolver}");

    let octets: Vec<u8> = address.split('.').map(|o| o.parse().unwrap()).collect();
    let mac = format!("02:42:{:02x}:{:02x}:{:02x}:{:02x}", octets[0], octets[1], octets[2], octets[3]);
    assert_eq!(hosts.exec("h2", "bob", "cat /sys/class/net/eth0/address").unwrap(), mac);
    // The default route leads out of the overlay: the host itself answers.
    assert!(
        ping(&hosts, "h2", "bob", "10.99.0.1", 2).unwrap().is_lossless(),
        "masqueraded through docker_gwbridge"
    );
}

#[test]
fn b9_names_short_ids_and_reverse_lookups() {
    let hosts = swarm_with_network(LabSpec::bridged("names", 2));
    hosts.run_idle("h1", "ann", "--network web").unwrap();
    let id = hosts.run_idle("h2", "bob", "--network web --network-alias store --hostname beta").unwrap();
    let address = hosts.address("h2", "bob", "web").unwrap();
    for name in ["bob", "store", &id[..12], "bob.web"] {
        eventually(&format!("{name} resolves"), SOON, || {
            let answer = hosts.exec("h1", "ann", &format!("nslookup {name}")).map_err(|e| e.to_string())?;
            if answer.contains(&address) { Ok(()) } else { Err(answer) }
        });
    }
    let reverse = hosts.exec("h1", "ann", &format!("nslookup {address}")).unwrap();
    assert!(reverse.contains("bob.web"), "{reverse}");
    assert!(hosts.exec("h1", "ann", "nslookup nosuch").is_err());
}
