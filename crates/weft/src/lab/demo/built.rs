//! What the demo built, read back from the daemons, the containers and the wire.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use weft_lab::{Capture, Host, until};

use super::super::{remote::Remote, table};
use super::{NAME, PLACES};

/// Time for the last packets to reach the capture.
const CAPTURE_DEADLINE: Duration = Duration::from_secs(2);

/// Prints the tables.
pub(super) fn print(hosts: [&Host; 2], remotes: [&Remote; 2], wire: Option<&Capture>) -> Result<()> {
    let network = inspect(remotes[0], &["network", "inspect", NAME])?;
    let vni = text(&network, "/Options/com.docker.network.driver.overlay.vxlanid_list");
    let mut rows = Vec::new();
    for ((host, remote), (container, _)) in hosts.iter().zip(remotes).zip(PLACES) {
        let inspected = inspect(remote, &["inspect", container])?;
        let link = remote.exec(container, "ip link show dev eth0")?;
        let mtu = link.split_whitespace().skip_while(|w| *w != "mtu").nth(1).unwrap_or("?").to_owned();
        rows.push(vec![
            format!("{} ({})", host.name, host.ipv4),
            container.to_owned(),
            text(&inspected, &format!("/NetworkSettings/Networks/{NAME}/IPAddress")),
            text(&inspected, &format!("/NetworkSettings/Networks/{NAME}/MacAddress")),
            mtu,
        ]);
    }
    println!("\nNetwork {NAME}: subnet {}, VNI {vni}\n", text(&network, "/IPAM/Config/0/Subnet"));
    table::print(&["HOST", "CONTAINER", "OVERLAY ADDRESS", "MAC", "MTU"], &rows);
    if let Some(wire) = wire {
        print_wire(wire);
    }
    Ok(())
}

fn print_wire(wire: &Capture) {
    // The capture is a process of its own: its last lines may still be on their way.
    let _ = until("packets in the capture", CAPTURE_DEADLINE, || wire.count() > 0);
    println!(
        "\n{} encapsulated packets (udp port 4789) crossed h1's underlay link, for example:",
        wire.count()
    );
    let lines = wire.lines();
    let example = lines.iter().position(|l| l.contains("VXLAN")).map(|at| &lines[at..]);
    for line in example.into_iter().flat_map(|l| l.iter().take(2)) {
        println!("    {}", line.trim());
    }
}

fn inspect(remote: &Remote, command: &[&str]) -> Result<Value> {
    let output = remote.run(command.iter().copied())?;
    let mut list: Vec<Value> = serde_json::from_str(&output).with_context(|| format!("read {output}"))?;
    list.pop().with_context(|| format!("weft {} shows nothing", command.join(" ")))
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_owned()
}
