//! A lab: its underlay, its hosts, and the record from which it can be taken down.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::{Host, LabError, LabSpec, Topology, processes, tool};

/// Where labs keep their record and their hosts' state.
const ROOT: &str = "/var/lib/weft-lab";
/// Table of the underlay that holds the cuts.
const CUT_TABLE: &str = "weft_lab_cut";
/// Name of a host's interface on the underlay.
const UNDERLAY_INTERFACE: &str = "eth0";

/// A running lab. Dropping it takes it down unless [`Lab::keep`] was called.
#[derive(Debug)]
pub struct Lab {
    record: Record,
    kept: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    spec: LabSpec,
    hosts: Vec<Host>,
}

impl Lab {
    /// Builds the underlay and the hosts. On error what was made is removed again.
    pub fn up(spec: LabSpec) -> Result<Self, LabError> {
        spec.check()?;
        let dir = dir_of(&spec.name);
        if dir.exists() {
            Self::clear_ruin(&spec.name)?;
        }
        std::fs::create_dir_all(&dir).map_err(|source| LabError::File { path: dir, source })?;
        let mut lab = Self { record: Record { spec, hosts: Vec::new() }, kept: false };
        lab.save()?;
        lab.build()?;
        lab.save()?;
        Ok(lab)
    }

    /// Removes what is left of a lab whose processes all died without taking it down, as after a reboot.
    fn clear_ruin(name: &str) -> Result<(), LabError> {
        let ruin = Self::open(name)?;
        let lives = ruin.hosts().iter().any(|h| processes::alive(h.keeper));
        if lives || ruin.hosts().is_empty() {
            return Err(LabError::Exists(name.to_owned()));
        }
        tracing::info!(lab = name, "removing a lab that died");
        ruin.down()
    }

    /// Takes hold of a lab that another process made; it is kept when this value is dropped.
    pub fn open(name: &str) -> Result<Self, LabError> {
        let path = dir_of(name).join("lab.json");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(LabError::NoLab(name.to_owned()));
            }
            Err(source) => return Err(LabError::File { path, source }),
        };
        let record = serde_json::from_str(&text).map_err(|source| LabError::Record { path, source })?;
        Ok(Self { record, kept: true })
    }

    /// Names of all labs of this machine.
    pub fn names() -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(ROOT) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Leaves the lab running when this value is dropped.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.record.spec.name
    }

    /// All hosts in order.
    pub fn hosts(&self) -> &[Host] {
        &self.record.hosts
    }

    /// The host called `h1`, `h2` …
    pub fn host(&self, name: &str) -> Result<&Host, LabError> {
        self.record.hosts.iter().find(|h| h.name == name).ok_or_else(|| LabError::NoHost {
            lab: self.name().to_owned(),
            host: name.to_owned(),
            known: self.record.hosts.iter().map(|h| h.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// Drops all packets between two hosts, both ways, also of connections that stand.
    pub fn cut(&self, a: &str, b: &str) -> Result<(), LabError> {
        let (a, b) = (self.host(a)?, self.host(b)?);
        let family = self.cut_family();
        let mut rules = format!(
            "add table {family} {CUT_TABLE}\nadd chain {family} {CUT_TABLE} forward {{ type filter hook forward priority 0; }}\n"
        );
        for (from, to) in [(a, b), (b, a)] {
            rules.push_str(&format!(
                "add rule {family} {CUT_TABLE} forward ip saddr {} ip daddr {} drop\n",
                from.ipv4, to.ipv4
            ));
            rules.push_str(&format!(
                "add rule {family} {CUT_TABLE} forward ip6 saddr {} ip6 daddr {} drop\n",
                from.ipv6, to.ipv6
            ));
        }
        self.underlay(&["nft", &rules]).map(drop)
    }

    /// Drops every second packet from and to a host, on the average; until [`Lab::heal`].
    pub fn lose_half(&self, host: &str) -> Result<(), LabError> {
        let host = self.host(host)?;
        let family = self.cut_family();
        let mut rules = format!(
            "add table {family} {CUT_TABLE}\nadd chain {family} {CUT_TABLE} forward {{ type filter hook forward priority 0; }}\n"
        );
        for side in ["saddr", "daddr"] {
            rules.push_str(&format!(
                "add rule {family} {CUT_TABLE} forward ip {side} {} numgen random mod 2 0 drop\n",
                host.ipv4
            ));
        }
        self.underlay(&["nft", &rules]).map(drop)
    }

    /// Ends all cuts and losses.
    pub fn heal(&self) -> Result<(), LabError> {
        let family = self.cut_family();
        self.underlay(&[
            "nft",
            &format!("add table {family} {CUT_TABLE}\ndelete table {family} {CUT_TABLE}\n"),
        ])
        .map(drop)
    }

    /// Sets the MTU of a host's underlay link at both ends.
    pub fn set_mtu(&self, host: &str, mtu: u32) -> Result<(), LabError> {
        let host = self.host(host)?;
        tool::ip(&format!("-n {} link set {UNDERLAY_INTERFACE} mtu {mtu}", host.netns))?;
        tool::ip(&format!("-n {} link set {} mtu {mtu}", self.underlay_netns(), host.name)).map(drop)
    }

    /// Kills a host without warning: every process on it but the one that holds its namespaces.
    pub fn kill(&self, host: &str) -> Result<(), LabError> {
        processes::kill_all(self.host(host)?.keeper)
    }

    /// Removes the lab: processes, namespaces, links, files. Goes on after errors and reports the first.
    pub fn down(mut self) -> Result<(), LabError> {
        self.kept = true;
        self.remove()
    }

    /// A file with the root file system of the image `busybox`; made when first asked for, removed with the lab.
    pub fn busybox_tar(&self) -> Result<PathBuf, LabError> {
        let path = dir_of(self.name()).join("busybox.tar");
        if !path.exists() {
            let bytes = crate::busybox_rootfs()?;
            std::fs::write(&path, bytes).map_err(|source| LabError::File { path: path.clone(), source })?;
        }
        Ok(path)
    }

    /// Name of the namespace between the hosts.
    pub fn underlay_netns(&self) -> String {
        format!("{}-net", self.name())
    }

    fn cut_family(&self) -> &'static str {
        match self.record.spec.topology {
            Topology::Bridged => "bridge",
            Topology::Routed => "inet",
        }
    }

    /// Runs `program input` in the underlay: the second word is the standard input of the first, as `nft -f -`.
    fn underlay(&self, [program, input]: &[&str; 2]) -> Result<String, LabError> {
        let script = format!("{program} -f - <<'EOF'\n{input}EOF\n");
        tool::run(
            Command::new("nsenter")
                .arg(format!("--net=/run/netns/{}", self.underlay_netns()))
                .args(["sh", "-c", &script]),
        )
    }

    fn build(&mut self) -> Result<(), LabError> {
        let net = self.underlay_netns();
        tool::ip(&format!("netns add {net}"))?;
        tool::ip(&format!("-n {net} link set lo up"))?;
        if self.record.spec.topology == Topology::Bridged {
            tool::ip(&format!("-n {net} link add name segment type bridge mcast_snooping 0"))?;
            tool::ip(&format!("-n {net} link set segment up"))?;
        } else {
            let forward =
                "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
            tool::run(
                Command::new("nsenter").arg(format!("--net=/run/netns/{net}")).args(["sh", "-c", forward]),
            )?;
        }
        let spec = self.record.spec.clone();
        for (n, name) in spec.hosts() {
            let host = self.build_host(n, &name)?;
            self.record.hosts.push(host);
            self.save()?;
        }
        Ok(())
    }

    fn build_host(&self, n: u8, name: &str) -> Result<Host, LabError> {
        let spec = &self.record.spec;
        let (ipv4, ipv6) = (spec.ipv4(n), spec.ipv6(n));
        let netns = format!("{}-{name}", self.name());
        let net = self.underlay_netns();
        tool::ip(&format!("netns add {netns}"))?;
        tool::ip(&format!(
            "-n {net} link add {name} type veth peer name {UNDERLAY_INTERFACE} netns {netns}"
        ))?;
        for (address, prefix) in [(IpAddr::V4(ipv4), 24), (IpAddr::V6(ipv6), 64)] {
            tool::ip(&format!(
                "-n {netns} addr add {address}/{prefix} dev {UNDERLAY_INTERFACE}{}",
                no_dad(address)
            ))?;
        }
        tool::ip(&format!("-n {netns} link set lo up"))?;
        tool::ip(&format!("-n {netns} link set {UNDERLAY_INTERFACE} up"))?;
        tool::ip(&format!("-n {net} link set {name} up"))?;
        self.connect(n, name, &netns)?;
        let dir = dir_of(self.name()).join(name);
        std::fs::create_dir_all(&dir).map_err(|source| LabError::File { path: dir.clone(), source })?;
        let keeper = Host::start_keeper(&netns, name)?;
        Ok(Host { name: name.to_owned(), ipv4, ipv6, dir, netns, keeper })
    }

    /// Joins the underlay's end of a host's link to the bridge, or makes it the host's router.
    fn connect(&self, n: u8, name: &str, netns: &str) -> Result<(), LabError> {
        let net = self.underlay_netns();
        if self.record.spec.topology == Topology::Bridged {
            tool::ip(&format!("-n {net} link set {name} master segment"))?;
            // Unreachable, not missing or a black hole: look-ups of what lies outside must fail at once.
            tool::ip(&format!("-n {netns} route add unreachable default metric 4000"))?;
            return Ok(());
        }
        for (router, prefix) in self.record.spec.router(n).into_iter().zip([24, 64]) {
            tool::ip(&format!("-n {net} addr add {router}/{prefix} dev {name}{}", no_dad(router)))?;
            tool::ip(&format!("-n {netns} route add default via {router}"))?;
        }
        Ok(())
    }

    fn save(&self) -> Result<(), LabError> {
        let path = dir_of(self.name()).join("lab.json");
        let failed = |source| LabError::File { path: path.clone(), source };
        let partial = path.with_extension("tmp");
        let text = serde_json::to_string_pretty(&self.record)
            .map_err(|source| LabError::Record { path: path.clone(), source })?;
        std::fs::write(&partial, text).map_err(failed)?;
        std::fs::rename(&partial, &path).map_err(failed)
    }

    fn remove(&mut self) -> Result<(), LabError> {
        let mut first_error = Ok(());
        let mut note = |outcome: Result<(), LabError>| {
            if let (Ok(()), Err(error)) = (&first_error, outcome) {
                first_error = Err(error);
            }
        };
        // The daemons first: they take down what is theirs.
        let daemons: Vec<i32> =
            self.record.hosts.iter().flat_map(|h| crate::daemon::recorded_pids(&h.dir)).collect();
        processes::end(&daemons);
        for host in &self.record.hosts {
            processes::end(&processes::of_host(host.keeper));
            processes::end(&[host.keeper]);
        }
        let namespaces = self
            .record
            .spec
            .hosts()
            .map(|(_, h)| format!("{}-{h}", self.name()))
            .chain([self.underlay_netns()]);
        for netns in namespaces.filter(|n| Path::new("/run/netns").join(n).exists()) {
            note(tool::ip(&format!("netns del {netns}")).map(drop));
        }
        let dir = dir_of(self.name());
        note(std::fs::remove_dir_all(&dir).map_err(|source| LabError::File { path: dir, source }));
        // Only when this was the last lab.
        let _ = std::fs::remove_dir(ROOT);
        first_error
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = self.remove() {
            tracing::warn!(lab = self.name(), %error, "lab not removed completely");
        }
    }
}

fn dir_of(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

/// IPv6 addresses are usable at once only without duplicate address detection; here there is nobody else.
fn no_dad(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " nodad" } else { "" }
}
