//! Rows D1, D4: SCTP ports are published like those of TCP and UDP.

use weft_e2e::Hosts;
use weft_lab::{LabSpec, eventually};

use crate::SOON;

/// Options with which a container has the test program and its libraries.
fn with_program() -> String {
    let checks = std::env::var("WEFT_CHECKS").unwrap();
    format!("-v {checks}/sctp-echo:/sctp-echo:ro -v /lib:/lib:ro -v /lib64:/lib64:ro")
}

#[test]
#[ignore = "needs the kernel of cargo xtask test vm"]
fn d4_sctp_ports_are_reachable_from_outside() {
    let hosts = Hosts::up(LabSpec::bridged("sctp", 2));
    hosts.swarm();
    hosts.docker("h1", "network create -d overlay --attachable web").unwrap();
    let program = with_program();
    for (name, network, port) in [("on-bridge", "bridge", 9001), ("on-overlay", "web", 9002)] {
        let options = format!("run -d --name {name} --network {network} -p {port}:9000/sctp {program}");
        hosts.docker("h1", format!("{options} busybox /sctp-echo serve 9000")).unwrap();
        let shown = hosts.docker("h1", format!("port {name}")).unwrap();
        assert!(shown.contains(&format!("9000/sctp -> 0.0.0.0:{port}")), "{shown}");
        let server = format!("{}:{port}", hosts.host("h1").ipv4);
        let client = format!("{}/sctp-echo", std::env::var("WEFT_CHECKS").unwrap());
        eventually(&format!("{name} answers the other host"), SOON, || {
            let answer =
                hosts.host("h2").run(&client, ["ask", &server, "hello"]).map_err(|e| e.to_string())?;
            // Nothing stands between: the server sees who asks.
            let wanted = format!("hello from {}", hosts.host("h2").ipv4);
            if answer.trim() == wanted { Ok(()) } else { Err(answer) }
        });
    }
    let taken =
        hosts.docker("h1", format!("run -d -p 9001:9000/sctp {program} busybox /sctp-echo serve 9000"));
    let refusal = weft_e2e::refusal(taken);
    assert!(refusal.contains("9001"), "{refusal}");
}

#[test]
#[ignore = "needs the kernel of cargo xtask test vm"]
fn d1_sctp_ports_answer_on_every_node_and_see_who_asks() {
    let hosts = Hosts::up(LabSpec::bridged("sctpmesh", 3));
    let address = hosts.host("h1").ipv4;
    hosts.docker("h1", format!("swarm init --advertise-addr {address}")).unwrap();
    hosts.join("h2", "h1").unwrap();
    hosts.wait_ready(2);
    let checks = std::env::var("WEFT_CHECKS").unwrap();
    let mount = |from: &str, to: &str| format!("--mount type=bind,src={from},dst={to},ro");
    let program = [
        mount(&format!("{checks}/sctp-echo"), "/sctp-echo"),
        mount("/lib", "/lib"),
        mount("/lib64", "/lib64"),
    ];
    let options = "--constraint node.hostname==h1 -p published=9003,target=9000,protocol=sctp";
    let line = format!(
        "service create -d --name echo {options} {} busybox /sctp-echo serve 9000",
        program.join(" ")
    );
    hosts.docker("h1", line).unwrap();
    let wanted = format!("hello from {}", hosts.host("h3").ipv4);
    for node in ["h1", "h2"] {
        let server = format!("{}:9003", hosts.host(node).ipv4);
        eventually(&format!("{node} answers the client"), 3 * SOON, || {
            let client = format!("{checks}/sctp-echo");
            let answer =
                hosts.host("h3").run(&client, ["ask", &server, "hello"]).map_err(|e| e.to_string())?;
            if answer.trim() == wanted { Ok(()) } else { Err(answer) }
        });
    }
}
