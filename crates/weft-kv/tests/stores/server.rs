//! Real servers of both stores on this machine, each on a loopback address of its own: no port is in anybody's way.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Consul,
    Etcd,
}

/// Files with which a server proves itself and checks who comes.
pub(crate) struct ServerTls {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// One server; it ends with the value.
pub(crate) struct Server {
    kind: Kind,
    pub(crate) ip: Ipv4Addr,
    dir: TempDir,
    args: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// A store of one server, which runs.
    pub(crate) fn start(kind: Kind) -> Self {
        let mut server = Self::prepare(kind);
        server.run();
        server
    }

    /// The same, not started yet.
    pub(crate) fn prepare(kind: Kind) -> Self {
        Self::new(kind, loopback(), |ip| match kind {
            Kind::Consul => consul(ip, None),
            Kind::Etcd => etcd("http", &ip.to_string(), &[ip], ip),
        })
    }

    /// One that speaks TLS only, and only with those whose certificate is of the same authority.
    pub(crate) fn start_tls(kind: Kind, ip: Ipv4Addr, tls: &ServerTls) -> Self {
        let mut server = Self::new(kind, ip, |ip| match kind {
            Kind::Consul => consul(ip, Some(tls)),
            Kind::Etcd => {
                let mut args = etcd("https", &ip.to_string(), &[ip], ip);
                let file = |path: &Path| path.display().to_string();
                args.extend([
                    "--client-cert-auth".to_owned(),
                    "--trusted-ca-file".to_owned(),
                    file(&tls.authority),
                ]);
                args.extend(["--cert-file".to_owned(), file(&tls.certificate)]);
                args.extend(["--key-file".to_owned(), file(&tls.key)]);
                args
            }
        });
        server.run();
        server
    }

    /// Three members of one etcd, which run.
    pub(crate) fn three_of_etcd() -> Vec<Self> {
        let ips = [loopback(), loopback(), loopback()];
        let member = |ip: Ipv4Addr| Self::new(Kind::Etcd, ip, |ip| etcd("http", &ip.to_string(), &ips, ip));
        let mut members: Vec<Self> = ips.into_iter().map(member).collect();
        members.iter_mut().for_each(Self::run);
        members
    }

    fn new(kind: Kind, ip: Ipv4Addr, args: impl FnOnce(Ipv4Addr) -> Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        Self { kind, ip, dir, args: args(ip), process: None }
    }

    /// `ip:port` for clients.
    pub(crate) fn endpoint(&self) -> String {
        match self.kind {
            Kind::Consul => format!("{}:8500", self.ip),
            Kind::Etcd => format!("{}:2379", self.ip),
        }
    }

    /// As the option `--cluster-store` has it, with a prefix.
    pub(crate) fn url(&self) -> String {
        url(self.kind, &self.endpoint())
    }

    /// Starts it, again after [`Self::kill`].
    pub(crate) fn run(&mut self) {
        let program = match self.kind {
            Kind::Consul => "consul",
            Kind::Etcd => "etcd",
        };
        let log = std::fs::File::create(self.dir.path().join("log")).expect("a log");
        let mut command = Command::new(program);
        command.args(&self.args).current_dir(self.dir.path()).stdin(Stdio::null());
        let process = command.stdout(log.try_clone().expect("a log")).stderr(log).spawn();
        self.process = Some(process.unwrap_or_else(|error| {
            panic!("start {program}: {error}; `cargo xtask test unit` fetches it and puts it on the PATH")
        }));
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Takes its data away; it must not run.
    pub(crate) fn wipe(&self) {
        std::fs::remove_dir_all(self.dir.path().join("data")).expect("remove the data");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn url(kind: Kind, endpoints: &str) -> String {
    match kind {
        Kind::Consul => format!("consul://{endpoints}/some/prefix"),
        Kind::Etcd => format!("etcd://{endpoints}/some/prefix"),
    }
}

/// An address that nobody else uses: tests of one process count, processes differ.
pub(crate) fn loopback() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | (high & 63), low, NEXT.fetch_add(1, Ordering::Relaxed))
}

fn consul(ip: Ipv4Addr, tls: Option<&ServerTls>) -> Vec<String> {
    let mut config = "performance { raft_multiplier = 1 }\n".to_owned();
    if let Some(ServerTls { authority, certificate, key }) = tls {
        config += &format!(
            "ca_file = {authority:?}\ncert_file = {certificate:?}\nkey_file = {key:?}\nverify_incoming_https = true\n\
             ports {{ http = -1, https = 8500 }}\n"
        );
    }
    let ip = ip.to_string();
    let words =
        ["agent", "-server", "-bootstrap-expect", "1", "-data-dir", "data", "-node", "test", "-bind", &ip];
    let more =
        ["-client", &ip, "-dns-port", "-1", "-grpc-port", "-1", "-serf-wan-port", "-1", "-hcl", &config];
    words.iter().chain(&more).map(|word| (*word).to_owned()).collect()
}

fn etcd(scheme: &str, name: &str, members: &[Ipv4Addr], ip: Ipv4Addr) -> Vec<String> {
    let (clients, peers) = (format!("{scheme}://{ip}:2379"), format!("http://{ip}:2380"));
    let cluster: Vec<String> = members.iter().map(|ip| format!("{ip}=http://{ip}:2380")).collect();
    let options = [
        ("name", name),
        ("data-dir", "data"),
        ("listen-client-urls", &clients),
        ("advertise-client-urls", &clients),
        ("listen-peer-urls", &peers),
        ("initial-advertise-peer-urls", &peers),
        ("initial-cluster", &cluster.join(",")),
        ("logger", "zap"),
    ];
    options.iter().flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()]).collect()
}
