//! The flags of `run` and `create`, and the request they make.

use clap::Args;
use serde_json::{Map, Value, json};

use super::container_host::HostFlags;
use super::error::ClientError;
use super::network::pairs;

/// What a new container is to be; docker's names.
#[derive(Debug, Args)]
pub(super) struct ContainerSpec {
    /// Name of the container
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Network to join: a name, host, none or container:NAME (repeatable)
    #[arg(long, visible_alias = "net")]
    network: Vec<String>,
    /// Further name on the network (repeatable)
    #[arg(long, visible_alias = "net-alias")]
    network_alias: Vec<String>,
    /// IPv4 address on the network
    #[arg(long)]
    ip: Option<String>,
    /// IPv6 address on the network
    #[arg(long)]
    ip6: Option<String>,
    /// Publish a port: [ip:][host:]container[/proto] (repeatable)
    #[arg(short, long)]
    publish: Vec<String>,
    /// Set a variable: key=value, or key to pass the own one (repeatable)
    #[arg(short, long)]
    env: Vec<String>,
    /// Bind mount or volume: source:target[:ro] (repeatable)
    #[arg(short, long)]
    volume: Vec<String>,
    /// Memory file system: target[:options] (repeatable)
    #[arg(long)]
    tmpfs: Vec<String>,
    /// Mount: type=bind|volume|tmpfs,source=…,target=…[,readonly] (repeatable)
    #[arg(long)]
    mount: Vec<String>,
    /// Host name of the container
    #[arg(long)]
    hostname: Option<String>,
    /// Label key=value (repeatable)
    #[arg(short, long)]
    label: Vec<String>,
    /// Working directory
    #[arg(short, long)]
    workdir: Option<String>,
    /// User: name or id[:group]
    #[arg(short, long)]
    user: Option<String>,
    /// Program instead of the image's
    #[arg(long)]
    entrypoint: Option<String>,
    /// Name server (repeatable)
    #[arg(long)]
    dns: Vec<String>,
    /// Line for /etc/hosts: name:address (repeatable)
    #[arg(long)]
    add_host: Vec<String>,
    /// All of the host's privileges
    #[arg(long)]
    privileged: bool,
    /// Add a capability (repeatable)
    #[arg(long)]
    cap_add: Vec<String>,
    /// Drop a capability (repeatable)
    #[arg(long)]
    cap_drop: Vec<String>,
    /// Security option (repeatable)
    #[arg(long)]
    security_opt: Vec<String>,
    /// The root file system cannot be written
    #[arg(long)]
    read_only: bool,
    /// Memory limit: bytes, or with k, m, g
    #[arg(short, long)]
    memory: Option<String>,
    /// Number of CPUs, for example 1.5
    #[arg(long)]
    cpus: Option<f64>,
    /// Most processes
    #[arg(long)]
    pids_limit: Option<i64>,
    /// no, on-failure[:N], always or unless-stopped
    #[arg(long, default_value = "no")]
    restart: String,
    /// Address of its first interface, 02:…
    #[arg(long)]
    mac_address: Option<String>,
    /// Port or range that it listens at: 80[/proto] (repeatable)
    #[arg(long)]
    expose: Vec<String>,
    /// Publish all that it listens at
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// os/architecture of the image
    #[arg(long)]
    platform: Option<String>,
    /// Bring the image: missing, always or never
    #[arg(long, default_value = "missing")]
    pub(super) pull: String,
    /// Do not say that the image is missing
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Write the id to this file
    #[arg(long, value_name = "file")]
    pub(super) cidfile: Option<std::path::PathBuf>,
    #[command(flatten)]
    host: HostFlags,
    /// Remove the container when it ends
    #[arg(long)]
    pub(super) rm: bool,
    /// Keep standard input open
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Image
    pub(super) image: String,
    /// Command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl ContainerSpec {
    /// The body of `POST /containers/create`.
    pub(super) fn body(&self, attached: bool) -> Result<Value, ClientError> {
        let (mut exposed, bindings) = ports(&self.publish)?;
        for word in &self.expose {
            let (range, proto) = word.rsplit_once('/').unwrap_or((word, "tcp"));
            for port in port_range(range)
                .ok_or_else(|| usage(format!("invalid range format for --expose: {word}")))?
            {
                exposed[format!("{port}/{proto}")] = json!({});
            }
        }
        let (mode, networking) = self.networks();
        let (restart, retries) = self.restart.split_once(':').unwrap_or((&self.restart, "0"));
        let retries: i64 =
            retries.parse().map_err(|_| usage(format!("invalid restart policy: {}", self.restart)))?;
        let mut body = json!({
            "Hostname": self.hostname.clone().unwrap_or_default(),
            "User": self.user.clone().unwrap_or_default(),
            "AttachStdin": attached && self.interactive,
            "AttachStdout": attached,
            "AttachStderr": attached,
            "OpenStdin": self.interactive,
            "StdinOnce": attached && self.interactive,
            "Tty": self.tty,
            "Env": self.env.iter().filter_map(|e| variable(e)).collect::<Vec<_>>(),
            "Cmd": if self.command.is_empty() { Value::Null } else { json!(self.command) },
            "Entrypoint": self.entrypoint.as_ref().map(|e| vec![e]),
            "Image": self.image,
            "WorkingDir": self.workdir.clone().unwrap_or_default(),
            "Labels": pairs(&self.label),
            "ExposedPorts": exposed,
            "HostConfig": {
                "Binds": self.volume,
                "Mounts": self.mount.iter().map(|m| mount(m)).collect::<Result<Vec<_>, _>>()?,
                "Tmpfs": Value::Object(self.tmpfs.iter().map(|t| t.split_once(':').unwrap_or((t, ""))).map(|(t, o)| (t.to_owned(), json!(o))).collect()),
                "NetworkMode": mode,
                "PortBindings": bindings,
                "RestartPolicy": {"Name": restart, "MaximumRetryCount": retries},
                "AutoRemove": self.rm,
                "Privileged": self.privileged,
                "CapAdd": self.cap_add,
                "CapDrop": self.cap_drop,
                "SecurityOpt": self.security_opt,
                "ReadonlyRootfs": self.read_only,
                "Dns": self.dns,
                "ExtraHosts": self.add_host,
                "Memory": self.memory.as_deref().map(bytes).transpose()?.unwrap_or(0),
                "NanoCpus": self.cpus.map_or(0, |c| (c * 1e9) as i64),
                "PidsLimit": self.pids_limit,
                "PublishAllPorts": self.publish_all,
            },
            "NetworkingConfig": {"EndpointsConfig": networking},
        });
        if let Some(mac) = &self.mac_address {
            body["MacAddress"] = json!(mac);
        }
        self.host.apply(&mut body)?;
        Ok(body)
    }

    /// `os/architecture[/variant]`, where it was asked for.
    pub(super) fn platform(&self) -> Option<&str> {
        self.platform.as_deref()
    }

    /// The first network is the mode; addresses and aliases belong to it.
    fn networks(&self) -> (String, Value) {
        let mode = self.network.first().cloned().unwrap_or_else(|| "default".to_owned());
        let mut endpoints = Map::new();
        for (i, network) in self.network.iter().enumerate().filter(|(_, n)| !is_mode(n)) {
            let own = i == 0;
            endpoints.insert(
                network.clone(),
                json!({
                    "IPAMConfig": {
                        "IPv4Address": self.ip.clone().filter(|_| own).unwrap_or_default(),
                        "IPv6Address": self.ip6.clone().filter(|_| own).unwrap_or_default(),
                    },
                    "Aliases": if own { self.network_alias.clone() } else { Vec::new() },
                    "MacAddress": self.mac_address.clone().filter(|_| own).unwrap_or_default(),
                }),
            );
        }
        (mode, Value::Object(endpoints))
    }
}

/// Modes that are no networks to connect to.
fn is_mode(network: &str) -> bool {
    matches!(network, "host" | "none" | "default" | "bridge") || network.starts_with("container:")
}

fn usage(text: String) -> ClientError {
    ClientError::Usage(text)
}

/// `key=value`, or the client's own value of `key`; unset ones are left out.
pub(super) fn variable(word: &str) -> Option<String> {
    if word.contains('=') {
        return Some(word.to_owned());
    }
    std::env::var(word).ok().map(|value| format!("{word}={value}"))
}

/// `80` or `80-90`.
fn port_range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (0 < first && first <= last).then_some(first..=last)
}

/// `[ip:][host:]container[/proto]` words as exposed ports and bindings; ranges of one length go side by side, and a single
/// port may have one of several of the host's.
fn ports(words: &[String]) -> Result<(Value, Value), ClientError> {
    let (mut exposed, mut bindings) = (Map::new(), Map::<String, Value>::new());
    for word in words {
        let refused = || {
            usage(format!(
                "invalid published port {word}: want [ip:][host:]container[/tcp|udp|sctp], ports or ranges"
            ))
        };
        let (spec, proto) = word.rsplit_once('/').unwrap_or((word, "tcp"));
        let (rest, container) = spec.rsplit_once(':').unwrap_or(("", spec));
        let (ip, host) = rest.rsplit_once(':').unwrap_or(("", rest));
        let ip = ip.trim_start_matches('[').trim_end_matches(']');
        let inside = port_range(container).ok_or_else(refused)?;
        let outside = if host.is_empty() { None } else { Some(port_range(host).ok_or_else(refused)?) };
        let single = inside.len() == 1;
        if outside.as_ref().is_some_and(|outside| !single && outside.len() != inside.len()) {
            return Err(usage(format!(
                "invalid ranges specified for container and host Ports: {container} and {host}"
            )));
        }
        for (at, port) in inside.enumerate() {
            let key = format!("{port}/{proto}");
            let of_host = match &outside {
                Some(_) if single => host.to_owned(),
                Some(outside) => outside.clone().nth(at).map(|port| port.to_string()).unwrap_or_default(),
                None => String::new(),
            };
            exposed.insert(key.clone(), json!({}));
            if let Value::Array(list) = bindings.entry(key).or_insert_with(|| json!([])) {
                list.push(json!({"HostIp": ip, "HostPort": of_host}));
            }
        }
    }
    Ok((Value::Object(exposed), Value::Object(bindings)))
}

/// `type=…,source=…,target=…` as a mount.
pub(super) fn mount(word: &str) -> Result<Value, ClientError> {
    let mut mount = json!({"Type": "volume"});
    for part in word.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, "true"));
        match key {
            "type" => mount["Type"] = json!(value),
            "source" | "src" => mount["Source"] = json!(value),
            "target" | "dst" | "destination" => mount["Target"] = json!(value),
            "readonly" | "ro" => mount["ReadOnly"] = json!(value != "false" && value != "0"),
            "bind-propagation" => mount["BindOptions"]["Propagation"] = json!(value),
            "bind-nonrecursive" => mount["BindOptions"]["NonRecursive"] = json!(value != "false"),
            "volume-nocopy" => mount["VolumeOptions"]["NoCopy"] = json!(value != "false"),
            "volume-subpath" => mount["VolumeOptions"]["Subpath"] = json!(value),
            "volume-driver" => mount["VolumeOptions"]["DriverConfig"]["Name"] = json!(value),
            "volume-label" | "volume-opt" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                let options = &mut mount["VolumeOptions"];
                match key {
                    "volume-label" => options["Labels"][name] = json!(value),
                    _ => options["DriverConfig"]["Options"][name] = json!(value),
                }
            }
            "tmpfs-size" => mount["TmpfsOptions"]["SizeBytes"] = json!(bytes(value)?),
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8)
                    .map_err(|_| usage(format!("invalid value for tmpfs-mode: {value}")))?;
                mount["TmpfsOptions"]["Mode"] = json!(mode);
            }
            other => return Err(usage(format!("unexpected key '{other}' in '{word}'"))),
        }
    }
    Ok(mount)
}

/// A size with an optional binary unit.
pub(super) fn bytes(word: &str) -> Result<i64, ClientError> {
    let lower = word.to_ascii_lowercase();
    let number = lower.trim_end_matches('b').trim_end_matches(['k', 'm', 'g']);
    let unit = match lower.trim_end_matches('b').as_bytes().last() {
        Some(b'k') => 1 << 10,
        Some(b'm') => 1 << 20,
        Some(b'g') => 1 << 30,
        _ => 1,
    };
    let value: f64 = number.parse().map_err(|_| usage(format!("invalid size: '{word}'")))?;
    Ok((value * f64::from(unit)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_in_all_forms() {
        let words = ["80", "8080:80", "127.0.0.1:8080:80/udp", "[::1]:1:2"].map(str::to_owned);
        let (exposed, bindings) = ports(&words).unwrap();
        assert_eq!(exposed.as_object().unwrap().len(), 3);
        assert_eq!(bindings["80/udp"][0], json!({"HostIp": "127.0.0.1", "HostPort": "8080"}));
        assert_eq!(bindings["2/tcp"][0], json!({"HostIp": "::1", "HostPort": "1"}));
        assert_eq!(bindings["80/tcp"].as_array().unwrap().len(), 2);
        assert!(ports(&["x:80".to_owned()]).is_err());
        let (exposed, bindings) = ports(&["8000-8001:80-81".to_owned(), "9000-9005:90".to_owned()]).unwrap();
        assert_eq!(
            (exposed.as_object().unwrap().len(), &bindings["81/tcp"][0]["HostPort"]),
            (3, &json!("8001"))
        );
        assert_eq!(bindings["90/tcp"][0]["HostPort"], "9000-9005");
        assert!(ports(&["8000-8005:80-81".to_owned()]).is_err() && ports(&["81-80".to_owned()]).is_err());
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(bytes("64m").unwrap(), 64 << 20);
        assert_eq!(bytes("1gb").unwrap(), 1 << 30);
        assert_eq!(bytes("512").unwrap(), 512);
        assert!(bytes("lots").is_err());
    }

    #[test]
    fn mounts_are_parsed() {
        let parsed = mount("type=bind,src=/a,dst=/b,readonly").unwrap();
        assert_eq!(parsed, json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true}));
        assert!(mount("typo=bind").is_err());
    }
}
