//! How containers reach the resolver, on this kernel.
#![allow(clippy::print_stdout, reason = "the run shows which hook it is")]

use weft_e2e::Hosts;
use weft_lab::{LabSpec, eventually};

use crate::SOON;

#[test]
#[ignore = "needs the kernel of cargo xtask test vm"]
fn names_are_found_through_the_hook_that_this_kernel_has() {
    let hosts = Hosts::up(LabSpec::bridged("hook", 1));
    hosts.docker("h1", "network create local").unwrap();
    hosts.run_idle("h1", "ann", "--network local").unwrap();
    hosts.run_idle("h1", "bob", "--network local").unwrap();
    eventually("ann finds bob", SOON, || {
        hosts.exec("h1", "ann", "nslookup bob 127.0.0.11").map(drop).map_err(|e| e.to_string())
    });
    let pid = hosts.inspect("h1", "ann", "{{.State.Pid}}").unwrap();
    let rules = hosts.host("h1").sh(&format!("nsenter --net=/proc/{pid}/ns/net nft list ruleset")).unwrap();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let egress = rules.contains("hook egress");
    println!(
        "kernel {}: {}",
        release.trim(),
        if egress { "netdev egress on lo" } else { "filter output at raw" }
    );
    println!("{rules}");
    // Linux has the hook since 5.16.
    assert!(egress || release.starts_with("5."), "{rules}");
    assert!(!rules.contains("nat"), "{rules}");
}
