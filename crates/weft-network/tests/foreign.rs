//! Containers of other programs: namespaces that they made, and interfaces that they move. Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use common::many::Node;
use common::{Host, container, sandbox, shell};
use weft_kernel::Netns;
use weft_network::{EndpointSpec, HandedOn, NetworkSpec, SandboxKind, SandboxSpec};
use weft_types::ContainerId;

#[test]
#[ignore = "not a test: the helper process of the other tests"]
fn helper_entry() {
    common::helper_entry();
}

fn of_others(id: &ContainerId, kind: SandboxKind) -> SandboxSpec {
    SandboxSpec { kind, ..sandbox(id, "theirs") }
}

/// A wish for a place, as the network `cni` of another program.
fn place(interface: &str) -> EndpointSpec {
    let interface = Some(interface.to_owned());
    EndpointSpec { interface, claim: "cni".to_owned(), ..EndpointSpec::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_of_others_is_used_adopted_and_left_as_it_was() {
    let host = Host::new();
    let path = host.dir.path().join("theirs");
    let theirs = Netns::create(&path).unwrap();
    shell(
        &theirs,
        "ip link add own0 type veth peer name own1; ip addr add 10.99.9.1/24 dev own0; ip link set own0 up",
    );
    let id = container();
    {
        let controller = host.controller().await;
        controller.create_network(NetworkSpec::bridge("net")).await.unwrap();
        let missing = of_others(&container(), SandboxKind::Foreign(host.dir.path().join("missing")));
        controller.create_sandbox(missing).await.unwrap_err();
        controller.create_sandbox(of_others(&id, SandboxKind::Foreign(path.clone()))).await.unwrap();
        for wrong in ["lo", "a/b"] {
            controller.connect(&id, "net", place(wrong)).await.unwrap_err();
        }
        let joined = controller.connect(&id, "net", place("net7")).await.unwrap();
        let taken = controller.connect(&id, "bridge", place("net7")).await.unwrap_err().to_string();
        assert_eq!(taken, "the container already has an interface net7");
        let address = joined.address.unwrap().to_string();
        assert!(shell(&theirs, "ip -o -4 addr show net7").contains(&address));
        assert!(controller.missing(&id).await.unwrap().is_empty());
        shell(&theirs, "ip addr flush dev net7");
        assert!(controller.missing(&id).await.unwrap().iter().any(|op| op.contains(&address)));
        assert!(controller.audit().await.unwrap() > 0);
        assert!(controller.missing(&id).await.unwrap().is_empty());
        controller.shutdown(true).await;
    }

    // The next daemon has no container of its own of that id, and keeps it all the same.
    let controller = host.controller().await;
    controller.adopt(&[]).await.unwrap();
    let [kept] = controller.foreign_places().try_into().unwrap();
    assert_eq!((kept.claim.as_str(), kept.endpoint.interface.as_str()), ("cni", "net7"));
    controller.remove_sandbox(&id).await.unwrap();
    let left = shell(&theirs, "ip -o link; ip -o addr show own0");
    assert!(left.contains("own1") && left.contains("10.99.9.1/24") && !left.contains("net7"), "{left}");

    // One that is gone at the start is an orphan, and what has its place is another's.
    controller.create_sandbox(of_others(&id, SandboxKind::Foreign(path.clone()))).await.unwrap();
    controller.connect(&id, "net", place("net7")).await.unwrap();
    Netns::remove(&path).unwrap();
    let _another = Netns::create(&path).unwrap();
    controller.adopt(&[]).await.unwrap();
    assert!(controller.foreign_places().is_empty());
    assert!(!shell(&theirs, "ip -o link").contains("net7"));
    Netns::remove(&path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_that_is_handed_on_may_go_anywhere() {
    let node = Node::start().await;
    let (controller, host) = (&node.controller, &node.host.netns);
    let elsewhere = Netns::anonymous().unwrap();
    let id = container();
    controller.create_sandbox(of_others(&id, SandboxKind::Handed)).await.unwrap();
    controller.connect(&id, "bridge", EndpointSpec::default()).await.unwrap_err();
    let joined = controller.connect(&id, "ov1", EndpointSpec::default()).await.unwrap();
    let name = joined.interface;
    assert!(shell(host, &format!("ip -o link show {name}")).contains(&joined.mac.to_string()));
    let links = shell(host, "ip -o link");
    assert!(!links.contains("master docker_gwbridge"), "who moves it has a way out of its own: {links}");
    assert_eq!(controller.audit().await.unwrap(), 0, "it waits, and nobody minds");

    let moved = shell(host, &format!("ip link set {name} netns {} name eth0", elsewhere.path().display()));
    assert_eq!(moved, "");
    assert_eq!(controller.audit().await.unwrap(), 0, "it is not made again while it lives elsewhere");
    let mac = "02:00:00:00:00:07".parse().unwrap();
    let handed = HandedOn { claim: "docker:e".to_owned(), name: Some("ann".to_owned()), mac: Some(mac) };
    controller.hand_on(&id, handed).await.unwrap();
    let placeless = container();
    controller.create_sandbox(of_others(&placeless, SandboxKind::Handed)).await.unwrap();
    controller.adopt(&[]).await.unwrap();
    assert!(controller.sandbox(&placeless).is_err(), "nobody knows of what has no place");
    let [kept] = controller.foreign_places().try_into().unwrap();
    assert_eq!(
        (kept.claim.as_str(), kept.endpoint.name.as_str(), kept.endpoint.mac),
        ("docker:e", "ann", mac)
    );

    // The other end went with its container: it waits again.
    shell(&elsewhere, "ip link del eth0");
    assert!(controller.audit().await.unwrap() > 0);
    assert!(shell(host, &format!("ip -o link show {name}")).contains(&name));
    shell(host, &format!("ip link set {name} netns {} name eth0", elsewhere.path().display()));
    controller.remove_sandbox(&id).await.unwrap();
    assert!(!shell(&elsewhere, "ip -o link").contains("eth0"), "the pair goes as one");
    controller.shutdown(false).await;
}
