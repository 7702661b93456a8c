//! A lab with a daemon on every host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use weft_lab::{Daemon, DaemonSpec, Host, Lab, LabSpec, eventually};

use crate::command::{Failed, Words, run};

/// Set to leave the lab of a failed test running.
const KEEP: &str = "WEFT_KEEP_FAILED";
/// Time for a node to become `Ready`.
const READY_DEADLINE: Duration = Duration::from_secs(20);

/// The binary under test: `WEFT_BIN`, else the one that cargo built beside this test.
///
/// # Panics
/// When there is none.
pub fn weft_exe() -> PathBuf {
    if let Some(path) = std::env::var_os("WEFT_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the test's own path");
    let built = test.ancestors().nth(2).expect("target directory").join("weft");
    assert!(built.exists(), "{} is missing: run 'cargo build -p weft' first", built.display());
    built
}

/// Hosts `h1`, `h2` … with a daemon and the image `busybox` on each. Dropping it removes everything.
#[derive(Debug)]
pub struct Hosts {
    lab: Option<Lab>,
    daemons: BTreeMap<String, Daemon>,
    specs: BTreeMap<String, DaemonSpec>,
}

impl Hosts {
    /// Builds the lab with Weft's daemon on every host.
    ///
    /// # Panics
    /// When the lab cannot be built or a daemon does not start.
    pub fn up(spec: LabSpec) -> Self {
        Self::up_with(spec, |_| DaemonSpec::weft(&weft_exe()))
    }

    /// Builds the lab; `daemon` says what to start on which host.
    ///
    /// # Panics
    /// When the lab cannot be built or a daemon does not start.
    pub fn up_with(spec: LabSpec, daemon: impl Fn(&str) -> DaemonSpec) -> Self {
        Self::up_prepared(spec, daemon, |_| ())
    }

    /// The same; `prepare` is called for every host before its daemon starts for the first time.
    ///
    /// # Panics
    /// When the lab cannot be built or a daemon does not start.
    pub fn up_prepared(spec: LabSpec, daemon: impl Fn(&str) -> DaemonSpec, prepare: impl Fn(&Host)) -> Self {
        // What a killed run of the same test left behind.
        if let Ok(stale) = Lab::open(&spec.name) {
            stale.down().expect("remove the lab of an earlier run");
        }
        let lab = Lab::up(spec).expect("lab");
        let names: Vec<String> = lab.hosts().iter().map(|h| h.name.clone()).collect();
        let specs = names.iter().map(|n| (n.clone(), daemon(n))).collect();
        let mut hosts = Self { lab: Some(lab), daemons: BTreeMap::new(), specs };
        for name in &names {
            prepare(hosts.host(name));
            hosts.start(name);
        }
        let image = hosts.lab().busybox_tar().expect("busybox image").display().to_string();
        for name in &names {
            hosts.docker(name, ["import", &image, "busybox"]).expect("import busybox");
        }
        hosts
    }

    /// The lab below.
    ///
    /// # Panics
    /// Never: the lab lives as long as this value.
    pub fn lab(&self) -> &Lab {
        self.lab.as_ref().expect("lab lives as long as its hosts")
    }

    /// A host by its name.
    ///
    /// # Panics
    /// When there is none.
    pub fn host(&self, name: &str) -> &Host {
        self.lab().host(name).expect("host")
    }

    /// The daemon of a host.
    ///
    /// # Panics
    /// When it was not started.
    pub fn daemon(&self, host: &str) -> &Daemon {
        &self.daemons[host]
    }

    /// Starts a host's daemon, again after [`Daemon::stop`] or [`Daemon::kill`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(&mut self, host: &str) {
        let daemon = match self.host(host).start_daemon(&self.specs[host]) {
            Ok(daemon) => daemon,
            Err(error) => panic!("daemon of {host}: {error}"),
        };
        self.daemons.insert(host.to_owned(), daemon);
    }

    /// Stops a host's daemon and starts another one in its place, with the image `busybox`.
    ///
    /// # Panics
    /// When the one does not stop or the other does not start.
    pub fn replace(&mut self, host: &str, spec: DaemonSpec) {
        self.daemon(host).stop().expect("stop the daemon");
        self.specs.insert(host.to_owned(), spec);
        self.start(host);
        let image = self.lab().busybox_tar().expect("busybox image").display().to_string();
        self.docker(host, ["import", &image, "busybox"]).expect("import busybox");
    }

    /// Runs the `docker` CLI against a host's daemon.
    pub fn docker(&self, host: &str, args: impl Words) -> Result<String, Failed> {
        self.client("docker", host, &args.words())
    }

    /// Runs the `weft` CLI against a host's daemon.
    pub fn weft(&self, host: &str, args: impl Words) -> Result<String, Failed> {
        self.client(&weft_exe().display().to_string(), host, &args.words())
    }

    /// Runs `sh -c LINE` in a container.
    pub fn exec(&self, host: &str, container: &str, line: &str) -> Result<String, Failed> {
        self.docker(host, ["exec", container, "sh", "-c", line])
    }

    /// Starts a container that does nothing; `options` stand before the image. Returns its id. It is killed rather
    /// than stopped: as the first process of its namespace `sleep` does not hear SIGTERM.
    pub fn run_idle(&self, host: &str, name: &str, options: &str) -> Result<String, Failed> {
        self.docker(host, format!("run -d --stop-timeout 0 --name {name} {options} busybox sleep 100000"))
    }

    /// A value of `docker inspect` by a Go template.
    pub fn inspect(&self, host: &str, what: &str, template: &str) -> Result<String, Failed> {
        self.docker(host, ["inspect", "--format", template, what])
    }

    /// The container's IPv4 address on a network.
    pub fn address(&self, host: &str, container: &str, network: &str) -> Result<String, Failed> {
        let template = format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}");
        self.inspect(host, container, &template)
    }

    /// Makes the first host a manager and joins the others to it as workers; waits until all are `Ready`.
    ///
    /// # Panics
    /// When one of them does not.
    pub fn swarm(&self) {
        let address = self.host("h1").ipv4;
        self.docker("h1", format!("swarm init --advertise-addr {address}")).expect("swarm init");
        for host in self.lab().hosts().iter().skip(1) {
            self.join(&host.name, "h1").expect("swarm join");
        }
        self.wait_ready(self.lab().hosts().len());
    }

    /// Joins a host as a worker to the swarm of a manager's host.
    pub fn join(&self, host: &str, manager: &str) -> Result<String, Failed> {
        let token = self.docker(manager, "swarm join-token -q worker")?;
        self.docker(host, format!("swarm join --token {token} {}:2377", self.host(manager).ipv4))
    }

    /// Joins a host as a manager to the swarm of another.
    pub fn join_manager(&self, host: &str, manager: &str) -> Result<String, Failed> {
        let token = self.docker(manager, "swarm join-token -q manager")?;
        self.docker(host, format!("swarm join --token {token} {}:2377", self.host(manager).ipv4))
    }

    /// Waits until so many nodes are `Ready` by the word of `h1`.
    ///
    /// # Panics
    /// When they are not in time.
    pub fn wait_ready(&self, nodes: usize) {
        eventually("all nodes Ready", READY_DEADLINE, || {
            let list =
                self.docker("h1", ["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.Availability}}"]);
            let list = list.map_err(|e| e.to_string())?;
            let ready = list.lines().filter(|l| l.ends_with(" Ready Active")).count();
            if ready == nodes { Ok(()) } else { Err(format!("want {nodes} nodes, have:\n{list}")) }
        });
    }

    /// Processes of a host's daemon that run `weft VERB …`, for example `helper` or `shim`.
    pub fn processes(&self, host: &str, verb: &str) -> Vec<i32> {
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let home = namespace(&self.host(host).keeper.to_string());
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
        pids.filter(|pid| namespace(pid).is_some_and(|n| Some(n) == home))
            .filter(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.split(|b| *b == 0).nth(1) == Some(verb.as_bytes())
            })
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }

    /// By force: a daemon's own stop would give each of them ten seconds.
    fn remove_containers(&self) {
        for (host, _) in self.daemons.iter().filter(|(_, daemon)| daemon.is_alive()) {
            let Ok(ids) = self.docker(host, "ps -a -q") else { continue };
            let ids: Vec<&str> = ids.lines().collect();
            if !ids.is_empty() {
                // What stays behind goes with the host.
                let _ = self.docker(host, [&["rm", "-f"][..], &ids].concat().as_slice());
            }
        }
    }

    fn client(&self, program: &str, host: &str, args: &[String]) -> Result<String, Failed> {
        run(program, args, |command| {
            // Nothing of the user's own contexts or credentials takes part.
            command.env("DOCKER_HOST", self.daemon(host).url()).env("DOCKER_CONFIG", &self.host(host).dir);
            for name in ["DOCKER_CONTEXT", "DOCKER_API_VERSION", "DOCKER_TLS_VERIFY"] {
                command.env_remove(name);
            }
        })
    }
}

#[allow(clippy::print_stderr, reason = "a failed test shows what the daemons said")]
impl Drop for Hosts {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.remove_containers();
        }
        let Some(mut lab) = self.lab.take() else { return };
        if std::thread::panicking() {
            for (host, daemon) in &self.daemons {
                eprintln!(
                    "--- end of the log of {host}'s daemon {}\n{}",
                    daemon.log.display(),
                    daemon.log_tail()
                );
            }
            if std::env::var_os(KEEP).is_some() {
                eprintln!("lab {} is left running", lab.name());
                lab.keep();
                return;
            }
        }
        if let Err(error) = lab.down() {
            assert!(std::thread::panicking(), "the lab leaves something behind: {error}");
        }
    }
}
