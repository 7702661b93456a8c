//! One host of a lab.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::{LabError, tool};

/// Variables that send programs to a proxy, which no host of a lab reaches.
const PROXY_VARIABLES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "ALL_PROXY",
];

/// A host: namespaces that a keeper process holds open, and a folder for state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// `h1`, `h2` …; also its host name.
    pub name: String,
    /// Address on the underlay.
    pub ipv4: Ipv4Addr,
    /// Address on the underlay.
    pub ipv6: Ipv6Addr,
    /// Folder for a daemon's state; visible inside and outside of the host.
    pub dir: PathBuf,
    /// Name of the network namespace, as `ip netns` shows it.
    pub netns: String,
    /// The process that holds the namespaces.
    pub keeper: i32,
}

impl Host {
    /// A command that runs inside the host, without the proxies of the machine that runs the lab.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        for variable in PROXY_VARIABLES {
            command.env_remove(variable);
        }
        command.args(["--target", &self.keeper.to_string(), "--net", "--mount", "--uts", "--"]).arg(program);
        command
    }

    /// Runs a program inside the host to its end; returns its standard output.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String, LabError> {
        tool::run(self.command(program).args(args))
    }

    /// Runs a shell line inside the host.
    pub fn sh(&self, line: &str) -> Result<String, LabError> {
        self.run("sh", ["-c", line])
    }

    /// Every process on it but the one that holds its namespaces, containers included.
    pub fn processes(&self) -> Vec<i32> {
        crate::processes::of_host(self.keeper)
    }

    /// The IPv4 underlay address as a general one.
    pub fn address(&self) -> IpAddr {
        self.ipv4.into()
    }

    /// Starts the process that holds the namespaces of a host whose network namespace exists.
    pub(crate) fn start_keeper(netns: &str, name: &str) -> Result<i32, LabError> {
        // Everything a daemon mounts or writes below /run is the host's own and goes with its namespaces.
        let script = format!(
            "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir -p /run/netns && hostname {name} && echo ready && exec sleep infinity 2>/dev/null"
        );
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{netns}"))
            .args(["unshare", "--mount", "--uts", "sh", "-c", &script])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::inherit());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let failed = |source| LabError::Start { program: format!("keeper of host {name}"), source };
        let mut child = command.spawn().map_err(failed)?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).map_err(failed)?;
        }
        if line.trim() != "ready" {
            return Err(failed(std::io::Error::other("its namespaces could not be made: is this root?")));
        }
        Ok(child.id() as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_a_host_go_through_no_proxy() {
        let host = Host {
            name: "h1".to_owned(),
            ipv4: Ipv4Addr::new(10, 0, 0, 1),
            ipv6: Ipv6Addr::LOCALHOST,
            dir: PathBuf::from("/"),
            netns: "h1".to_owned(),
            keeper: 1,
        };
        let command = host.command("curl");
        for variable in PROXY_VARIABLES {
            assert!(
                command.get_envs().any(|(name, value)| name == variable && value.is_none()),
                "{variable}"
            );
        }
    }
}
