//! `lab demo`: two hosts in two subnets, one overlay network between their containers, with proof from the wire.

mod built;
mod steps;

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use weft_lab::{Capture, Daemon, Host, Lab, LabError, LabSpec};

use super::{remote::Remote, up};
use steps::Steps;

/// Name of the lab and of the network in it.
const NAME: &str = "demo";
/// Time for a node to become ready and for a name to become known.
const DEADLINE: Duration = Duration::from_secs(15);
/// Pings each way.
const PINGS: u32 = 4;

/// The container of each host: its name and where it runs.
const PLACES: [(&str, &str); 2] = [("ann", "h1"), ("bob", "h2")];

/// Shows the demo; `keep` leaves its lab running without asking.
pub(super) fn run(keep: bool) -> Result<()> {
    println!("Two hosts in two subnets, one overlay network between containers on them\n");
    let mut steps = Steps::start();
    let mut lab = steps.step("two hosts behind a router", || match Lab::up(LabSpec::routed(NAME, 2)) {
        Err(error @ LabError::Exists(_)) => bail!("{error}"),
        other => Ok((other?, None)),
    })?;
    show(&mut steps, &lab).map_err(|error| explain(&lab, &error))?;
    println!("\n{} in all", steps.total());
    if keep || asked_to_keep()? {
        lab.keep();
        suggest(&lab)?;
    } else {
        up::down(lab)?;
        println!("The lab is gone; 'weft lab demo --keep' leaves it running to play with.");
    }
    Ok(())
}

/// All that happens on the hosts.
fn show(steps: &mut Steps, lab: &Lab) -> Result<()> {
    steps.step("a daemon on each", || Ok((up::start_daemons(lab)?, None)))?;
    steps
        .step("an image on each, made of this machine's busybox", || Ok((up::import_busybox(lab)?, None)))?;
    let hosts = [lab.host("h1")?, lab.host("h2")?];
    let [h1, h2] = [Remote::new(hosts[0])?, Remote::new(hosts[1])?];
    let address = hosts[0].ipv4.to_string();
    steps.step(&format!("h1 starts a swarm at {address}"), || {
        Ok((h1.run(["swarm", "init", "--advertise-addr", &address])?, None))
    })?;
    steps.step("h2 joins it as a worker", || {
        let token = h1.run(["swarm", "join-token", "-q", "worker"])?;
        h2.run(["swarm", "join", "--token", &token, &format!("{address}:2377")])?;
        wait("both nodes Ready", || Ok(h1.run(["node", "ls"])?.matches("Ready").count() == 2))?;
        Ok(((), None))
    })?;
    steps.step("overlay network 'demo' is created on h1", || {
        Ok((h1.run(["network", "create", "-d", "overlay", "--attachable", NAME])?, None))
    })?;
    let wire = capture(hosts[0]);
    for ((name, host), remote) in PLACES.iter().zip([&h1, &h2]) {
        steps.step(&format!("container '{name}' with a web server starts on {host}"), || {
            let serve = format!(
                "mkdir -p /www && echo 'hello from {name} on {host}' > /www/index.html && exec httpd -f -p 80 -h /www"
            );
            remote.run(["run", "-d", "--name", name, "--network", NAME, "busybox", "sh", "-c", &serve])?;
            Ok(((), None))
        })?;
    }
    for (from, to, remote) in [("ann", "bob", &h1), ("bob", "ann", &h2)] {
        talk(steps, remote, from, to)?;
    }
    built::print(hosts, [&h1, &h2], wire.as_ref())
}

/// Ping and HTTP by name, one way.
fn talk(steps: &mut Steps, remote: &Remote, from: &str, to: &str) -> Result<()> {
    steps.step(&format!("{from} knows {to} by name"), || {
        wait("the name's answer", || Ok(remote.exec(from, &format!("ping -c 1 -W 1 {to}")).is_ok()))?;
        Ok(((), None))
    })?;
    steps.step(&format!("{from} pings {to}"), || {
        let output = remote.exec(from, &format!("ping -c {PINGS} -i 0.2 -W 2 {to} || true"))?;
        let loss = output.lines().find(|l| l.contains("packet loss")).with_context(|| output.clone())?;
        if !loss.contains(" 0% packet loss") {
            bail!("{loss}");
        }
        let times = output.lines().find(|l| l.starts_with("round-trip")).unwrap_or_default();
        Ok(((), Some(format!("{loss}\n{times}"))))
    })?;
    steps.step(&format!("{from} fetches http://{to}/"), || {
        let page = remote.exec(from, &format!("timeout 5 wget -q -O - http://{to}/"))?;
        Ok(((), Some(page)))
    })
}

fn wait(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    let mut last = Ok(());
    weft_lab::until(what, DEADLINE, || match condition() {
        Ok(holds) => holds,
        Err(error) => {
            last = Err(error);
            false
        }
    })
    .map_err(|late| match std::mem::replace(&mut last, Ok(())) {
        Ok(()) => anyhow::Error::new(late),
        Err(error) => error.context(format!("waited {:?}", start.elapsed())),
    })
}

/// Watches the underlay link of a host; without tcpdump the demo goes on without it.
fn capture(host: &Host) -> Option<Capture> {
    match Capture::start(host, "eth0", "udp port 4789") {
        Ok(capture) => Some(capture),
        Err(error) => {
            println!("           (not counting packets on the wire: {error})");
            None
        }
    }
}

/// The error with what the daemons said last.
fn explain(lab: &Lab, error: &anyhow::Error) -> anyhow::Error {
    let mut text = format!("{error:#}");
    for (host, daemon) in lab.hosts().iter().filter_map(|h| Some((h, Daemon::recorded(h, "weft")?))) {
        let log = daemon.log_tail();
        if !text.contains(&log) {
            text.push_str(&format!("\n\nlast lines of {}'s daemon:\n{log}", host.name));
        }
    }
    anyhow::anyhow!(text)
}

fn asked_to_keep() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    print!("Leave it running to play with? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Commands to play with.
fn suggest(lab: &Lab) -> Result<()> {
    let url =
        |name: &str| Ok::<_, LabError>(format!("unix://{}", lab.host(name)?.dir.join("weft.sock").display()));
    let exe = std::env::current_exe().context("find the running binary")?;
    println!("\nIt runs on. Things to try ('docker' works in place of 'weft'):\n");
    println!("    alias weft={}", exe.display());
    println!("    export H1={} H2={}", url("h1")?, url("h2")?);
    println!("    weft -H $H1 node ls");
    println!("    weft -H $H1 exec ann ping -c 3 bob");
    println!("    weft -H $H2 run --rm --network {NAME} busybox wget -qO - http://ann/");
    println!("    weft lab cut --name {NAME} h1 h2        # and heal, mtu, kill, start, exec");
    println!("    weft lab down --name {NAME}             # removes everything");
    Ok(())
}
