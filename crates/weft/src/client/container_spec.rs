//! The flags of `run` and `create`, and the request they make.

use clap::Args;
use serde_json::{Map, Value, json};

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
    image: String,
    /// Command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl ContainerSpec {
    /// The body of `POST /containers/create`.
    pub(super) fn body(&self, attached: bool) -> Result<Value, ClientError> {
        let (exposed, bindings) = ports(&self.publish)?;
        let (mode, networking) = self.networks();
        let (restart, retries) = self.restart.split_once(':').unwrap_or((&self.restart, "0"));
        let retries: i64 =
            retries.parse().map_err(|_| usage(format!("invalid restart policy: {}", self.restart)))?;
        Ok(json!({
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
            },
            "NetworkingConfig": {"EndpointsConfig": networking},
        }))
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

/// `[ip:][host:]container[/proto]` words as exposed ports and bindings.
fn ports(words: &[String]) -> Result<(Value, Value), ClientError> {
    let mut exposed = Map::new();
    let mut bindings: Map<String, Value> = Map::new();
    for word in words {
        let (spec, proto) = word.rsplit_once('/').unwrap_or((word, "tcp"));
        let (rest, container) = spec.rsplit_once(':').unwrap_or(("", spec));
        let (ip, host) = rest.rsplit_once(':').unwrap_or(("", rest));
        let ip = ip.trim_start_matches('[').trim_end_matches(']');
        if container.parse::<u16>().is_err() || (!host.is_empty() && host.parse::<u16>().is_err()) {
            return Err(usage(format!(
                "invalid published port {word}: want [ip:][host:]container[/tcp|udp|sctp]"
            )));
        }
        let key = format!("{container}/{proto}");
        exposed.insert(key.clone(), json!({}));
        let binding = json!({"HostIp": ip, "HostPort": host});
        if let Value::Array(list) = bindings.entry(key).or_insert_with(|| json!([])) {
            list.push(binding);
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
