//! This binary as the client of a host's daemon.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use weft_lab::{Daemon, Host};

/// The `weft` command line against one host's daemon.
#[derive(Debug)]
pub(super) struct Remote {
    exe: PathBuf,
    daemon: Daemon,
}

impl Remote {
    /// The daemon of a host on which one was started.
    pub(super) fn new(host: &Host) -> Result<Self> {
        let daemon = Daemon::recorded(host, "weft")
            .with_context(|| format!("no daemon was started on {}", host.name))?;
        Ok(Self { exe: std::env::current_exe().context("find the running binary")?, daemon })
    }

    /// Runs a command to its end; returns what it printed, without the last line break.
    pub(super) fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let args: Vec<&str> = args.into_iter().collect();
        let output = Command::new(&self.exe)
            .args(["-H", &self.daemon.url()])
            .args(&args)
            .stdin(Stdio::null())
            .output()
            .context("start weft")?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("weft {}: {}", args.join(" "), String::from_utf8_lossy(&said).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }

    /// Runs a shell line in a container.
    pub(super) fn exec(&self, container: &str, line: &str) -> Result<String> {
        self.run(["exec", container, "sh", "-c", line])
    }
}
