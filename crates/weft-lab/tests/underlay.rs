//! Labs on this machine: connectivity, cuts, MTU, capture, and nothing left behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use weft_lab::{Capture, Lab, LabError, LabSpec, eventually};

const SOON: Duration = Duration::from_secs(10);

fn ping(lab: &Lab, from: &str, to: &str) -> Result<String, LabError> {
    let (from, to) = (lab.host(from)?, lab.host(to)?);
    from.run("ping", ["-c1", "-W1", &to.ipv4.to_string()])?;
    from.run("ping", ["-c1", "-W1", &to.ipv6.to_string()])
}

fn exercise(spec: LabSpec) {
    let name = spec.name.clone();
    let lab = Lab::up(spec).unwrap();
    eventually("ping", SOON, || ping(&lab, "h1", "h2"));
    assert_eq!(lab.host("h2").unwrap().run("hostname", [""; 0]).unwrap().trim(), "h2");

    lab.cut("h1", "h2").unwrap();
    assert!(ping(&lab, "h1", "h2").is_err());
    ping(&lab, "h1", "h3").unwrap();
    lab.heal().unwrap();
    ping(&lab, "h1", "h2").unwrap();

    let h2 = lab.host("h2").unwrap();
    let capture = Capture::start(h2, "eth0", "icmp").unwrap();
    ping(&lab, "h1", "h2").unwrap();
    eventually("captured echo", SOON, || {
        if capture.count() >= 2 { Ok(()) } else { Err(capture.lines().join("\n")) }
    });

    lab.set_mtu("h2", 1300).unwrap();
    let big =
        lab.host("h1").unwrap().run("ping", ["-c1", "-W1", "-M", "do", "-s", "1372", &h2.ipv4.to_string()]);
    assert!(big.is_err());

    assert!(matches!(Lab::up(LabSpec::bridged(&name, 1)), Err(LabError::Exists(_))));
    assert!(matches!(lab.host("h9"), Err(LabError::NoHost { .. })));
    let (keeper, dir) = (h2.keeper, h2.dir.clone());
    drop(lab);
    assert!(!dir.exists());
    assert!(!std::path::Path::new(&format!("/run/netns/{name}-h2")).exists());
    let state = std::fs::read_to_string(format!("/proc/{keeper}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z"), "keeper still runs: {state}");
}

#[test]
fn bridged_hosts_reach_each_other() {
    exercise(LabSpec::bridged("lt-br", 3));
}

#[test]
fn routed_hosts_reach_each_other() {
    exercise(LabSpec::routed("lt-rt", 3));
}

#[test]
fn another_process_can_take_a_lab_down() {
    let mut lab = Lab::up(LabSpec::bridged("lt-open", 1)).unwrap();
    lab.keep();
    drop(lab);
    assert!(Lab::names().contains(&"lt-open".to_owned()));
    let lab = Lab::open("lt-open").unwrap();
    lab.host("h1").unwrap().sh("sleep 1000 >/dev/null 2>&1 & echo $!").unwrap();
    lab.down().unwrap();
    assert!(matches!(Lab::open("lt-open"), Err(LabError::NoLab(_))));
}

#[test]
fn a_lab_that_died_makes_room() {
    let mut lab = Lab::up(LabSpec::bridged("lt-ruin", 1)).unwrap();
    let keeper = lab.hosts()[0].keeper;
    lab.keep();
    drop(lab);
    std::process::Command::new("kill").args(["-9", &keeper.to_string()]).status().unwrap();
    let lab = eventually("a new lab", SOON, || Lab::up(LabSpec::bridged("lt-ruin", 1)));
    assert_ne!(lab.hosts()[0].keeper, keeper);
}
