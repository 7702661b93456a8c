//! What the machine is there for.

use std::process::Command;

/// Modules that machines which build often lack.
const MODULES: &[&str] = &[
    "sctp",
    "ip_vs",
    "ip_vs_rr",
    "esp4",
    "esp6",
    "xfrm_user",
    "gcm",
    "seqiv",
    "sch_netem",
    "8021q",
    "macvlan",
    "dummy",
    "wireguard",
];

#[test]
#[ignore = "needs the kernel of cargo xtask test vm"]
fn the_kernel_has_what_checks_need() {
    for module in MODULES {
        let output = Command::new("modprobe").arg(module).output().unwrap();
        assert!(output.status.success(), "{module}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
