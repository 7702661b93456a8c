//! The flags of `run` and `create` about limits, health, devices, namespaces and logs.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::container_spec::{bytes, variable};
use super::error::ClientError;
use super::network::pairs;
use super::service::duration;

/// docker's names. What is not given is left to the daemon.
#[derive(Debug, Args)]
pub(super) struct HostFlags {
    /// Memory and swap together, -1 for no limit
    #[arg(long, allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Soft memory limit
    #[arg(long)]
    memory_reservation: Option<String>,
    /// How readily its memory is swapped, 0 to 100
    #[arg(long, allow_hyphen_values = true)]
    memory_swappiness: Option<i64>,
    /// Relative weight
    #[arg(short = 'c', long)]
    cpu_shares: Option<i64>,
    /// Period in microseconds
    #[arg(long)]
    cpu_period: Option<i64>,
    /// Quota in microseconds
    #[arg(long, allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Processors it may run on, for example 0-2
    #[arg(long)]
    cpuset_cpus: Option<String>,
    /// Memory nodes it may use
    #[arg(long)]
    cpuset_mems: Option<String>,
    /// Relative weight of its input and output, 10 to 1000
    #[arg(long)]
    blkio_weight: Option<u16>,
    /// Most bytes read in a second of a device: path:1mb (repeatable)
    #[arg(long)]
    device_read_bps: Vec<String>,
    /// Most bytes written in a second to a device (repeatable)
    #[arg(long)]
    device_write_bps: Vec<String>,
    /// Most reads in a second of a device: path:100 (repeatable)
    #[arg(long)]
    device_read_iops: Vec<String>,
    /// Most writes in a second to a device (repeatable)
    #[arg(long)]
    device_write_iops: Vec<String>,
    /// Never end it for want of memory
    #[arg(long)]
    oom_kill_disable: bool,
    /// How readily it is ended for want of memory, -1000 to 1000
    #[arg(long, allow_hyphen_values = true)]
    oom_score_adj: Option<i64>,
    /// Limit of a resource: name=soft[:hard] (repeatable)
    #[arg(long)]
    ulimit: Vec<String>,
    /// Setting of the kernel: key=value (repeatable)
    #[arg(long)]
    sysctl: Vec<String>,
    /// Size of /dev/shm
    #[arg(long)]
    shm_size: Option<String>,
    /// A first process that passes on signals and reaps others
    #[arg(long)]
    init: bool,
    /// Device: host[:container[:rwm]] (repeatable)
    #[arg(long)]
    device: Vec<String>,
    /// Rule for devices, for example 'c 1:3 rwm' (repeatable)
    #[arg(long)]
    device_cgroup_rule: Vec<String>,
    /// Further group of the user (repeatable)
    #[arg(long)]
    group_add: Vec<String>,
    /// Control group to be under
    #[arg(long)]
    cgroup_parent: Option<String>,
    /// host or private
    #[arg(long)]
    cgroupns: Option<String>,
    /// host or container:NAME
    #[arg(long)]
    pid: Option<String>,
    /// host, private, shareable, none or container:NAME
    #[arg(long)]
    ipc: Option<String>,
    /// host
    #[arg(long)]
    uts: Option<String>,
    /// host
    #[arg(long)]
    userns: Option<String>,
    /// Volumes of another container: NAME[:ro] (repeatable)
    #[arg(long)]
    volumes_from: Vec<String>,
    /// Driver of volumes
    #[arg(long)]
    volume_driver: Option<String>,
    /// Where its output goes: json-file, local or none
    #[arg(long)]
    log_driver: Option<String>,
    /// Option of the log driver key=value (repeatable)
    #[arg(long)]
    log_opt: Vec<String>,
    /// Signal that ends it
    #[arg(long)]
    stop_signal: Option<String>,
    /// Seconds from that signal until it is killed
    #[arg(long, allow_hyphen_values = true)]
    stop_timeout: Option<i64>,
    /// Command that says whether it is well
    #[arg(long)]
    health_cmd: Option<String>,
    /// Time between two such questions
    #[arg(long)]
    health_interval: Option<String>,
    /// Time for an answer
    #[arg(long)]
    health_timeout: Option<String>,
    /// Time to start in
    #[arg(long)]
    health_start_period: Option<String>,
    /// Time between two questions while it starts
    #[arg(long)]
    health_start_interval: Option<String>,
    /// Failures in a row after which it is unwell
    #[arg(long)]
    health_retries: Option<i64>,
    /// Do not ask, whatever the image says
    #[arg(long, conflicts_with_all = ["health_cmd", "health_interval", "health_timeout", "health_retries"])]
    no_healthcheck: bool,
    /// Domain name inside
    #[arg(long)]
    domainname: Option<String>,
    /// Search domain (repeatable)
    #[arg(long)]
    dns_search: Vec<String>,
    /// Option of the resolver (repeatable)
    #[arg(long, visible_alias = "dns-opt")]
    dns_option: Vec<String>,
    /// Another container under a further name: CONTAINER[:ALIAS]; user-defined networks need none (repeatable)
    #[arg(long)]
    link: Vec<String>,
    /// Variables from a file, one a line (repeatable)
    #[arg(long)]
    env_file: Vec<PathBuf>,
    /// Labels from a file, one a line (repeatable)
    #[arg(long)]
    label_file: Vec<PathBuf>,
    /// Note key=value for the runtime (repeatable)
    #[arg(long)]
    annotation: Vec<String>,
    /// Runtime
    #[arg(long)]
    runtime: Option<String>,
}

impl HostFlags {
    /// Puts what was given into the body of `POST /containers/create`.
    pub(super) fn apply(&self, body: &mut Value) -> Result<(), ClientError> {
        self.process(body)?;
        self.limits(&mut body["HostConfig"])?;
        self.surroundings(&mut body["HostConfig"])
    }

    fn process(&self, body: &mut Value) -> Result<(), ClientError> {
        put(body, "Domainname", self.domainname.as_ref());
        put(body, "StopSignal", self.stop_signal.as_ref());
        put(body, "StopTimeout", self.stop_timeout);
        for file in &self.env_file {
            let own: Vec<Value> = body["Env"].as_array().cloned().unwrap_or_default();
            let read = variables(file)?.into_iter().map(Value::from);
            // What is said on the command line comes later, and so counts.
            body["Env"] = read.chain(own).collect();
        }
        for file in &self.label_file {
            let mut all = pairs(&lines(file)?);
            for (key, value) in body["Labels"].as_object().into_iter().flatten() {
                all[key] = value.clone();
            }
            body["Labels"] = all;
        }
        let health = self.health()?;
        if !health.is_empty() {
            body["Healthcheck"] = health.into();
        }
        Ok(())
    }

    fn health(&self) -> Result<Map<String, Value>, ClientError> {
        let mut health = Map::new();
        if self.no_healthcheck {
            health.insert("Test".to_owned(), json!(["NONE"]));
        }
        if let Some(command) = &self.health_cmd {
            health.insert("Test".to_owned(), json!(["CMD-SHELL", command]));
        }
        for (key, word) in [
            ("Interval", &self.health_interval),
            ("Timeout", &self.health_timeout),
            ("StartPeriod", &self.health_start_period),
            ("StartInterval", &self.health_start_interval),
        ] {
            if let Some(word) = word {
                health.insert(key.to_owned(), duration(word)?.into());
            }
        }
        health.extend(self.health_retries.map(|retries| ("Retries".to_owned(), retries.into())));
        Ok(health)
    }

    fn limits(&self, host: &mut Value) -> Result<(), ClientError> {
        let size = |word: &Option<String>| match word.as_deref() {
            Some("-1") => Ok(Some(-1)),
            Some(word) => bytes(word).map(Some),
            None => Ok(None),
        };
        put(host, "MemorySwap", size(&self.memory_swap)?);
        put(host, "MemoryReservation", size(&self.memory_reservation)?);
        put(host, "MemorySwappiness", self.memory_swappiness);
        put(host, "ShmSize", size(&self.shm_size)?);
        put(host, "CpuShares", self.cpu_shares);
        put(host, "CpuPeriod", self.cpu_period);
        put(host, "CpuQuota", self.cpu_quota);
        put(host, "CpusetCpus", self.cpuset_cpus.as_ref());
        put(host, "CpusetMems", self.cpuset_mems.as_ref());
        put(host, "BlkioWeight", self.blkio_weight);
        for (key, words) in [
            ("BlkioDeviceReadBps", &self.device_read_bps),
            ("BlkioDeviceWriteBps", &self.device_write_bps),
            ("BlkioDeviceReadIOps", &self.device_read_iops),
            ("BlkioDeviceWriteIOps", &self.device_write_iops),
        ] {
            let rates = words.iter().map(|word| rate(word)).collect::<Result<Vec<_>, _>>()?;
            put(host, key, Some(rates).filter(|rates| !rates.is_empty()));
        }
        put(host, "OomKillDisable", self.oom_kill_disable.then_some(true));
        put(host, "OomScoreAdj", self.oom_score_adj);
        put(host, "CgroupParent", self.cgroup_parent.as_ref());
        let limits = self.ulimit.iter().map(|word| ulimit(word)).collect::<Result<Vec<_>, _>>()?;
        put(host, "Ulimits", Some(limits).filter(|limits| !limits.is_empty()));
        put(host, "Sysctls", Some(pairs(&self.sysctl)).filter(|_| !self.sysctl.is_empty()));
        Ok(())
    }

    fn surroundings(&self, host: &mut Value) -> Result<(), ClientError> {
        let list = |words: &Vec<String>| Some(json!(words)).filter(|_| !words.is_empty());
        put(host, "Init", self.init.then_some(true));
        let devices: Vec<Value> = self.device.iter().map(|word| device(word)).collect();
        put(host, "Devices", Some(devices).filter(|devices| !devices.is_empty()));
        put(host, "DeviceCgroupRules", list(&self.device_cgroup_rule));
        put(host, "GroupAdd", list(&self.group_add));
        put(host, "CgroupnsMode", self.cgroupns.as_ref());
        put(host, "PidMode", self.pid.as_ref());
        put(host, "IpcMode", self.ipc.as_ref());
        put(host, "UTSMode", self.uts.as_ref());
        put(host, "UsernsMode", self.userns.as_ref());
        put(host, "VolumesFrom", list(&self.volumes_from));
        put(host, "VolumeDriver", self.volume_driver.as_ref());
        put(host, "DnsSearch", list(&self.dns_search));
        put(host, "DnsOptions", list(&self.dns_option));
        put(host, "Links", list(&self.link));
        put(host, "Runtime", self.runtime.as_ref());
        put(host, "Annotations", Some(pairs(&self.annotation)).filter(|_| !self.annotation.is_empty()));
        if self.log_driver.is_some() || !self.log_opt.is_empty() {
            let driver = self.log_driver.clone().unwrap_or_default();
            host["LogConfig"] = json!({"Type": driver, "Config": pairs(&self.log_opt)});
        }
        Ok(())
    }
}

fn put(object: &mut Value, key: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        object[key] = json!(value);
    }
}

/// Variables of a file, one a line.
pub(super) fn variables(file: &PathBuf) -> Result<Vec<String>, ClientError> {
    Ok(lines(file)?.iter().filter_map(|line| variable(line)).collect())
}

/// Lines of a file without blanks and comments.
fn lines(file: &PathBuf) -> Result<Vec<String>, ClientError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| ClientError::File { path: file.clone(), source })?;
    let lines = text.lines().map(str::trim_start);
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

/// `name=soft[:hard]`.
fn ulimit(word: &str) -> Result<Value, ClientError> {
    let bad = || ClientError::Usage(format!("invalid ulimit argument: {word}"));
    let (name, values) = word.split_once('=').ok_or_else(bad)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |text: &str| text.parse::<i64>().map_err(|_| bad());
    Ok(json!({"Name": name, "Soft": number(soft)?, "Hard": number(hard)?}))
}

/// `/dev/device:number`, the number with a unit or without.
fn rate(word: &str) -> Result<Value, ClientError> {
    let bad = || ClientError::Usage(format!("bad format: {word}: want device-path:number"));
    let (path, number) = word.split_once(':').ok_or_else(bad)?;
    Ok(json!({"Path": path, "Rate": bytes(number)?}))
}

/// `host[:container[:rwm]]`, also `host:rwm`.
fn device(word: &str) -> Value {
    let mut parts = word.split(':');
    let host = parts.next().unwrap_or_default();
    let (mut inside, mut rights) = (host, "rwm");
    for part in parts {
        if part.starts_with('/') { inside = part } else { rights = part }
    }
    json!({"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": rights})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_devices_are_read() {
        assert_eq!(ulimit("nofile=1:2").unwrap(), json!({"Name": "nofile", "Soft": 1, "Hard": 2}));
        assert_eq!(ulimit("core=-1").unwrap()["Hard"], -1);
        assert!(ulimit("nofile").is_err() && ulimit("nofile=x").is_err());
        assert_eq!(device("/dev/a:/dev/b:r")["CgroupPermissions"], "r");
        assert_eq!(device("/dev/a:rw")["PathInContainer"], "/dev/a");
        assert_eq!(rate("/dev/a:1kb").unwrap(), json!({"Path": "/dev/a", "Rate": 1024}));
        assert!(rate("/dev/a").is_err() && rate("/dev/a:x").is_err());
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: HostFlags,
    }

    fn applied(words: &[&str]) -> Value {
        let line = <Line as clap::Parser>::try_parse_from(std::iter::once("x").chain(words.iter().copied()));
        let mut body = json!({"HostConfig": {}});
        line.unwrap().flags.apply(&mut body).unwrap();
        body
    }

    #[test]
    fn what_is_not_given_is_not_sent() {
        assert_eq!(applied(&[]), json!({"HostConfig": {}}));
        let body = applied(&[
            "--health-cmd",
            "true",
            "--health-interval",
            "5s",
            "--sysctl",
            "a=b",
            "--log-driver",
            "none",
        ]);
        assert_eq!(
            body["Healthcheck"],
            json!({"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_i64})
        );
        assert_eq!(
            body["HostConfig"],
            json!({"Sysctls": {"a": "b"}, "LogConfig": {"Type": "none", "Config": {}}})
        );
    }
}
