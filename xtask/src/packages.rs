//! Debian packages that the build, the demo and the tests need.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{on_path, run};

/// A Debian package and a file or program whose presence shows that it is installed.
struct Package {
    name: &'static str,
    proof: Proof,
}

enum Proof {
    Program(&'static str),
    File(&'static str),
}

use Proof::{File, Program};

const BUILD: &[Package] = &[
    Package { name: "gcc", proof: Program("gcc") },
    Package { name: "libc6-dev", proof: File("/usr/include/stdlib.h") },
    Package { name: "make", proof: Program("make") },
    Package { name: "libseccomp-dev", proof: File("/usr/include/seccomp.h") },
];

const RUN: &[Package] = &[
    Package { name: "nftables", proof: Program("nft") },
    Package { name: "iproute2", proof: Program("ip") },
    Package { name: "busybox-static", proof: File("/usr/share/doc/busybox-static/copyright") },
    Package { name: "tcpdump", proof: Program("tcpdump") },
];

const PACKAGE: &[Package] = &[
    Package { name: "dpkg-dev", proof: Program("dpkg-shlibdeps") },
    Package { name: "binutils", proof: Program("strip") },
];

const TEST: &[Package] = &[
    Package { name: "docker.io", proof: Program("dockerd") },
    Package { name: "iptables", proof: Program("iptables") },
    Package { name: "iputils-ping", proof: Program("ping") },
    Package { name: "qemu-system-x86", proof: Program("qemu-system-x86_64") },
    Package { name: "clang", proof: Program("clang") },
    Package { name: "ethtool", proof: Program("ethtool") },
    Package { name: "kmod", proof: Program("modprobe") },
    Package { name: "xz-utils", proof: Program("unxz") },
    Package { name: "systemd", proof: Program("systemd-analyze") },
    Package { name: "procps", proof: Program("ps") },
    Package { name: "apparmor", proof: File("/sbin/apparmor_parser") },
    Package { name: "curl", proof: Program("curl") },
    Package { name: "docker-registry", proof: Program("docker-registry") },
    Package { name: "e2fsprogs", proof: File("/sbin/mkfs.ext4") },
    Package { name: "python3-pip", proof: Program("pip3") },
    Package {
        name: "python3-websocket",
        proof: File("/usr/lib/python3/dist-packages/websocket/__init__.py"),
    },
    Package { name: "systemd", proof: Program("systemd-socket-activate") },
    Package { name: "podman", proof: Program("podman") },
    Package { name: "docker-compose", proof: Program("docker-compose") },
    Package { name: "npm", proof: Program("npm") },
];

/// What is needed to build.
pub(crate) fn for_build() -> Result<()> {
    install(&[BUILD])
}

/// What a Debian package is made with, on top of the build.
pub(crate) fn for_package() -> Result<()> {
    install(&[BUILD, PACKAGE])
}

/// What the demo needs on top of the build.
pub(crate) fn for_demo() -> Result<()> {
    install(&[BUILD, RUN])
}

/// What the tests need on top of the demo.
pub(crate) fn for_tests() -> Result<()> {
    install(&[BUILD, RUN, PACKAGE, TEST])
}

fn install(groups: &[&[Package]]) -> Result<()> {
    let missing: Vec<&str> =
        groups.iter().flat_map(|g| g.iter()).filter(|p| !is_there(p)).map(|p| p.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(", "));
    if !on_path("apt-get") {
        bail!("install these packages by your system's means and run it again: {}", missing.join(" "));
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
        run(&mut command)
    };
    let help = || format!("install these packages by hand and run it again: {}", missing.join(" "));
    apt(&["update", "-qq"]).with_context(help)?;
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(&missing);
    apt(&args).with_context(help)
}

fn is_there(package: &Package) -> bool {
    match package.proof {
        Program(name) => on_path(name),
        File(path) => std::path::Path::new(path).exists(),
    }
}
