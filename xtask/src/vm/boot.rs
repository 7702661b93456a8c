//! One run of the virtual machine.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;

/// Megabytes of memory where Docker's engine runs, too.
const MEMORY_WITH_DOCKER: &str = "4096";
/// The processor that is emulated. Newer ones promise fast string instructions, which are the slowest of all when they are
/// emulated: without them the kernel clears and copies memory ten times as fast.
const CPU: &str = "Westmere";
/// Megabytes of memory; the file system is in it.
const MEMORY: &str = "3072";
/// What the first process says last, before the test program's exit code.
const VERDICT: &str = "weft-vm: ended with ";
/// Lines of the kernel's words that an error shows.
const CONSOLE_LINES: usize = 30;

/// What is booted.
pub(super) struct Boot<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) image: &'a Path,
    /// Where the kernel's words go.
    pub(super) console: &'a Path,
    pub(super) docker: bool,
    /// Time for everything: the boot and all checks.
    pub(super) deadline: Duration,
}

/// Boots, hands on what the test programs print, and returns the exit code of the last that failed.
pub(super) fn boot(what: &Boot<'_>, told: &mut impl FnMut(&str)) -> Result<i32> {
    let mut machine = Machine::start(what)?;
    let lines = machine.lines()?;
    let end = Instant::now() + what.deadline;
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some(code) = line.strip_prefix(VERDICT) {
                    return code.trim().parse().context("the test program's exit code");
                }
                told(&line);
            }
            Err(RecvTimeoutError::Timeout) => {
                let seconds = what.deadline.as_secs();
                bail!("the virtual machine was not done after {seconds} s\n{}", tail(what.console))
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the virtual machine ended before the checks did\n{}", tail(what.console))
            }
        }
    }
}

/// The running emulator; it ends with this value.
struct Machine(Child);

impl Machine {
    fn start(what: &Boot<'_>) -> Result<Self> {
        let memory = if what.docker { MEMORY_WITH_DOCKER } else { MEMORY };
        let mut command = Command::new("qemu-system-x86_64");
        // Emulated even where /dev/kvm is: inside other virtual machines that does not run every kernel.
        command.args(["-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", "2", "-m", memory]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"]);
        command.args(["-serial", "stdio", "-serial"]).arg(format!("file:{}", what.console.display()));
        command.arg("-kernel").arg(&what.kernel.image).arg("-initrd").arg(what.image);
        // A kernel that does not trust the emulated counter asks a device for the time, by a system call, with all
        // processors waiting: a third of everything.
        command.args([
            "-append",
            "console=ttyS1 rdinit=/init rootfstype=tmpfs panic=-1 random.trust_cpu=on loglevel=5 \
             tsc=reliable clocksource=tsc mitigations=off",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.spawn().context("start qemu-system-x86_64, from the package qemu-system-x86")?;
        Ok(Self(child))
    }

    /// Lines of the first serial line, read by a thread so that waiting for them can end.
    fn lines(&mut self) -> Result<Receiver<String>> {
        let output = self.0.stdout.take().context("the virtual machine's serial line")?;
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                if send.send(text).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Ok(receive)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have powered off by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tail(console: &Path) -> String {
    let text = std::fs::read(console).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!(
        "the end of {}:\n{}",
        console.display(),
        lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
    )
}
