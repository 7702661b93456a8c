//! The initial file system: the kernel's modules, programs of this machine with their libraries, and what is tested.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::kernel::Kernel;
use crate::run::{run, target};

/// The first process: `init.sh` beside this file.
const INIT: &str = include_str!("init.sh");
/// Programs of this machine that labs, checks and the product use. `sh` is the machine's own, because busybox' prefers
/// its own applets to programs on the PATH.
const PROGRAMS: &[&str] = &[
    "bash", "sh", "busybox", "docker", "nft", "ip", "bridge", "tc", "ping", "tcpdump", "modprobe", "mount",
    "umount", "nsenter", "unshare", "hostname", "timeout", "sleep", "env", "cat", "cp", "mv", "rm", "mkdir",
    "rmdir", "ln", "ls", "chmod", "chroot", "head", "tail", "wc", "sort", "tr", "cut", "grep", "sed", "find",
    "kill", "ps", "id", "dmesg", "sysctl", "md5sum", "true", "false", "seq", "date", "touch", "readlink",
    "stat", "curl", "ethtool",
];
/// What loads AppArmor's profiles: this kernel has AppArmor.
const PROFILES: &[&str] = &["apparmor_parser"];
/// Docker's engine and what it calls, the other kind of node: a name, and the program under it. The engine calls
/// `iptables` hundreds of times, and the one that translates for nftables takes ten times as long as its forerunner when
/// it is emulated.
const DOCKER: &[(&str, &str)] = &[
    ("dockerd", "dockerd"),
    ("docker-init", "docker-init"),
    ("docker-proxy", "docker-proxy"),
    ("containerd", "containerd"),
    ("containerd-shim", "containerd-shim"),
    ("containerd-shim-runc-v2", "containerd-shim-runc-v2"),
    ("runc", "runc"),
    ("iptables", "iptables-legacy"),
    ("ip6tables", "ip6tables-legacy"),
];
/// Folders that are mount points or that programs expect.
const FOLDERS: &[&str] = &[
    "usr", "usr/bin", "dev", "proc", "sys", "run", "tmp", "mnt", "root", "var", "var/lib", "var/tmp", "etc",
    "lib", "lib64", "checks",
];
/// Names under which programs look for each other.
const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("sbin", "usr/bin"),
    ("usr/sbin", "bin"),
    ("var/run", "../run"),
    ("usr/lib", "../lib"),
];
/// Files as they are here; those that are missing here are not needed.
const SETTINGS: &[&str] =
    &["/etc/protocols", "/etc/services", "/etc/iproute2/rt_tables", "/etc/nsswitch.conf", "/etc/os-release"];

/// A test program and what it is called with.
pub(super) struct Check {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// It starts Docker's engine.
    pub(super) docker: bool,
}

/// Builds the file system for one run of these test programs, one after the other, and writes it to `out`.
pub(super) fn build(cache: &Path, kernel: &Kernel, checks: &[Check], out: &Path) -> Result<()> {
    let mut bytes = fs::read(&kernel.modules).context("read the modules")?;
    let mut archive = Archive::new(&mut bytes);
    for folder in FOLDERS {
        archive.directory(folder)?;
    }
    for (name, to) in LINKS {
        archive.link(name, to)?;
    }
    let mut libraries = BTreeSet::new();
    let own = PROGRAMS.iter().chain(PROFILES).map(|name| (name, name));
    let docker = checks.iter().any(|check| check.docker);
    let docker = DOCKER.iter().map(|(name, program)| (name, program)).filter(|_| docker);
    for (name, program) in own.chain(docker) {
        let path = find(program)?;
        libraries.extend(libraries_of(&path)?);
        archive.file(&format!("usr/bin/{name}"), 0o755, &fs::read(&path)?)?;
    }
    let weft = target().join("debug/weft");
    let mut tested = vec![(weft, "usr/bin/weft".to_owned())];
    let mut script = String::new();
    for (at, check) in checks.iter().enumerate() {
        tested.push((check.program.clone(), format!("checks/test{at}")));
        let arguments: Vec<String> = check.arguments.iter().map(|word| format!(" '{word}'")).collect();
        script += &format!("/checks/test{at}{} || verdict=$?\n", arguments.concat());
    }
    if let Some(check) = checks.first() {
        tested.extend(helpers(&check.program)?);
    }
    for (path, name) in tested {
        libraries.extend(libraries_of(&path)?);
        let stripped = stripped(cache, &path)?;
        archive.file(
            &name,
            0o755,
            &fs::read(&stripped).with_context(|| format!("read {}", stripped.display()))?,
        )?;
    }
    archive.link("usr/bin/weftd", "weft")?;
    libraries.extend(extensions(&libraries)?);
    add_libraries(&mut archive, &libraries)?;
    add_settings(&mut archive)?;
    archive.file("checks/run", 0o644, script.as_bytes())?;
    archive.file("init", 0o755, INIT.as_bytes())?;
    archive.finish()?;
    fs::write(out, bytes).with_context(|| format!("write {}", out.display()))
}

/// What `iptables` loads by name: a folder beside its library.
fn extensions(libraries: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>> {
    let own =
        |path: &&PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libxtables."));
    let Some(folder) = libraries.iter().find(own).and_then(|path| path.parent()) else {
        return Ok(Vec::new());
    };
    let folder = folder.join("xtables");
    let entries = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// Programs of the tests' own package that stand beside a test program and that checks start.
fn helpers(program: &Path) -> Result<Vec<(PathBuf, String)>> {
    let beside = program.ancestors().nth(2).context("the target folder of the test program")?;
    let names = ["sctp-echo", "peer-echo"];
    let paths = names.iter().map(|n| (beside.join(n), format!("checks/{n}")));
    Ok(paths.filter(|(path, _)| path.exists()).collect())
}

fn add_libraries<W: std::io::Write>(archive: &mut Archive<W>, libraries: &BTreeSet<PathBuf>) -> Result<()> {
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    for library in libraries {
        let parents: Vec<_> = library.ancestors().skip(1).collect();
        for folder in parents.iter().rev().filter(|f| f.parent().is_some()) {
            if folders.insert(folder.to_path_buf()) && !is_made(folder) {
                archive.directory(&folder.display().to_string())?;
            }
        }
        let content = fs::read(library).with_context(|| format!("read {}", library.display()))?;
        archive.file(&library.display().to_string(), 0o755, &content)?;
    }
    Ok(())
}

/// Whether the folder is there already, as one or as a link to one.
fn is_made(folder: &Path) -> bool {
    let name = folder.display().to_string();
    let name = name.trim_start_matches('/');
    FOLDERS.contains(&name) || LINKS.iter().any(|(link, _)| *link == name)
}

fn add_settings<W: std::io::Write>(archive: &mut Archive<W>) -> Result<()> {
    archive.directory("etc/iproute2")?;
    archive.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\ntcpdump:x:100:100::/tmp:/bin/false\n",
    )?;
    archive.file("etc/group", 0o644, b"root:x:0:\ntcpdump:x:100:\n")?;
    archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n")?;
    archive.file("etc/resolv.conf", 0o644, b"")?;
    for path in SETTINGS {
        if let Ok(content) = fs::read(path) {
            archive.file(path, 0o644, &content)?;
        }
    }
    Ok(())
}

/// A program of this machine.
fn find(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|file| file.is_file()).with_context(|| {
        format!("the virtual machine needs '{name}' and it is not on this machine: install it")
    })
}

/// The shared libraries of a program by the word of its own loader; none if it is static.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if let Some(line) = text.lines().find(|l| l.contains("not found")) {
        bail!("{}: {}", program.display(), line.trim());
    }
    let words = text.lines().filter_map(|l| l.split_whitespace().find(|w| w.starts_with('/')));
    Ok(words.map(PathBuf::from).collect())
}

/// A copy without debugging symbols, made again when the program changed: most of a debug build is symbols.
fn stripped(cache: &Path, program: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("a program's name")?;
    let copy = cache.join(name).with_extension("stripped");
    let changed = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    if changed(&copy).is_none_or(|at| Some(at) < changed(program)) {
        run(Command::new("strip").arg("-s").arg("-o").arg(&copy).arg(program))?;
    }
    Ok(copy)
}
