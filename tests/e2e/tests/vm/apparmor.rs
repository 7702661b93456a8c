//! AppArmor, which Debian's kernel has and many of those that build have not.

use std::process::Command;

use weft_e2e::{Hosts, refusal};
use weft_lab::LabSpec;

const SECURITYFS: &str = "/sys/kernel/security";

/// While it is mounted, engines know of AppArmor: those of the other checks do without.
struct SecurityFs;

impl SecurityFs {
    fn mount() -> Self {
        let mounted = Command::new("mount").args(["-t", "securityfs", "none", SECURITYFS]).status().unwrap();
        assert!(mounted.success());
        Self
    }
}

impl Drop for SecurityFs {
    fn drop(&mut self) {
        // Should it stay, the other checks see what this one did.
        let _ = Command::new("umount").arg(SECURITYFS).status();
    }
}

#[test]
#[ignore = "needs the kernel of cargo xtask test vm"]
fn containers_are_confined_by_apparmor() {
    let _mounted = SecurityFs::mount();
    let hosts = Hosts::up(LabSpec::bridged("apparmor", 1));
    let docker = |line: &str| hosts.docker("h1", line).unwrap();
    assert!(docker("info --format {{.SecurityOptions}}").contains("name=apparmor"));
    let profile = "cat /proc/self/attr/current";
    hosts.run_idle("h1", "c1", "--cap-add SYS_ADMIN").unwrap();
    assert_eq!(hosts.inspect("h1", "c1", "{{.AppArmorProfile}}").unwrap(), "docker-default");
    assert_eq!(hosts.exec("h1", "c1", profile).unwrap(), "docker-default (enforce)");
    // What capabilities and masks leave open.
    let mount = "mkdir -p /m && mount -t tmpfs none /m";
    let text = refusal(hosts.exec("h1", "c1", mount));
    assert!(text.contains("ermission denied"), "{text}");
    // What programs do every day.
    hosts.exec("h1", "c1", "echo x > /f && mv /f /g && sleep 100 & kill $! && ping -c 1 127.0.0.1").unwrap();
    docker("stop -t 1 c1");
    docker("rm c1");

    let free = docker(&format!("run --rm --security-opt apparmor=unconfined busybox {profile}"));
    assert_eq!(free, "unconfined");
    assert_eq!(docker(&format!("run --rm --privileged busybox {profile}")), "unconfined");
    hosts.run_idle("h1", "c2", "--cap-add SYS_ADMIN --security-opt apparmor=unconfined").unwrap();
    hosts.exec("h1", "c2", mount).unwrap();
    let text = refusal(hosts.docker("h1", "run --rm --security-opt apparmor=nosuch busybox true"));
    assert!(text.contains("unable to apply apparmor profile: \"nosuch\" is not loaded"), "{text}");
    assert_eq!(docker("ps -a --format {{.Names}}"), "c2", "what did not start with --rm is removed");
}
