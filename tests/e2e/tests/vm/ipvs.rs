//! Row D2: where the kernel has IPVS it balances like nftables does.

use std::path::PathBuf;

use weft_e2e::balance::Balanced;
use weft_e2e::{Hosts, weft_exe};
use weft_lab::{DaemonSpec, LabSpec};

#[test]
#[ignore = "needs the kernel of cargo xtask test vm"]
fn d2_the_same_by_ipvs() {
    let hosts = Hosts::up_with(LabSpec::bridged("ipvs", 2), |_| {
        DaemonSpec::weft(&weft_exe()).arg("--weft-service-balancer=ipvs")
    });
    hosts.swarm();
    let program = PathBuf::from(std::env::var("WEFT_CHECKS").unwrap()).join("peer-echo");
    Balanced::new(&hosts, &program).check("ipvs");
    let kept = hosts.host("h1").sh("cat /proc/modules").unwrap();
    assert!(kept.contains("ip_vs_rr"), "{kept}");
}
