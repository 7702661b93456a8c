//! `lab up`: hosts, daemons, an image, and what to type next.

use std::path::Path;

use anyhow::{Context, Result};
use weft_lab::{Daemon, DaemonSpec, Host, Lab, LabSpec};

use super::{option, remote::Remote, table};

#[derive(Debug, clap::Args)]
pub(super) struct Up {
    /// The lab's name: 1 to 8 letters, digits or dashes
    #[arg(long, default_value = "lab")]
    name: String,
    /// Number of hosts
    #[arg(long, default_value_t = 3)]
    hosts: usize,
    /// Each host in a subnet of its own behind a router, instead of all on one segment
    #[arg(long)]
    routed: bool,
    /// Only the hosts
    #[arg(long)]
    no_daemons: bool,
}

/// Builds a lab and leaves it running; on error nothing of it stays.
pub(super) fn run(options: &Up) -> Result<()> {
    let spec = if options.routed {
        LabSpec::routed(&options.name, options.hosts)
    } else {
        LabSpec::bridged(&options.name, options.hosts)
    };
    let mut lab = Lab::up(spec)?;
    if !options.no_daemons {
        start_daemons(&lab)?;
        import_busybox(&lab)?;
    }
    lab.keep();
    describe(&lab, options.no_daemons);
    Ok(())
}

/// Starts a daemon on every host, all at once.
pub(super) fn start_daemons(lab: &Lab) -> Result<()> {
    on_every_host(lab, |host| start_daemon(host).map(drop))
}

/// Starts this binary as the daemon of a host.
pub(super) fn start_daemon(host: &Host) -> Result<Daemon> {
    let exe = std::env::current_exe().context("find the running binary")?;
    Ok(host.start_daemon(&DaemonSpec::weft(&exe))?)
}

/// Gives every host the image `busybox`.
pub(super) fn import_busybox(lab: &Lab) -> Result<()> {
    let tar = lab.busybox_tar()?;
    on_every_host(lab, |host| import(host, &tar))
}

/// Takes a lab down. Its containers first, by force: a daemon's own stop would give each of them ten seconds.
pub(super) fn down(lab: Lab) -> Result<()> {
    // A daemon that is dead or stuck is no reason to keep the rest.
    if let Err(error) = on_every_host(&lab, remove_containers) {
        tracing::debug!(%error, "containers not removed");
    }
    Ok(lab.down()?)
}

fn remove_containers(host: &Host) -> Result<()> {
    if !Daemon::recorded(host, "weft").is_some_and(|daemon| daemon.is_alive()) {
        return Ok(());
    }
    let remote = Remote::new(host)?;
    let ids = remote.run(["ps", "-a", "-q", "--no-trunc"])?;
    let ids: Vec<&str> = ids.lines().collect();
    if ids.is_empty() { Ok(()) } else { remote.run(["rm", "-f"].into_iter().chain(ids)).map(drop) }
}

fn import(host: &Host, tar: &Path) -> Result<()> {
    Remote::new(host)?
        .run(["import", "--change", "CMD [\"sh\"]", &tar.display().to_string(), "busybox"])
        .map(drop)
}

fn on_every_host(lab: &Lab, work: impl Fn(&Host) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = lab
            .hosts()
            .iter()
            .map(|host| scope.spawn(move || work(host).with_context(|| host.name.clone())))
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn describe(lab: &Lab, no_daemons: bool) {
    let url = |host: &Host| format!("unix://{}", host.dir.join("weft.sock").display());
    if no_daemons {
        let rows: Vec<_> =
            lab.hosts().iter().map(|h| vec![h.name.clone(), h.ipv4.to_string(), h.netns.clone()]).collect();
        table::print(&["HOST", "ADDRESS", "NAMESPACE"], &rows);
    } else {
        let rows: Vec<_> =
            lab.hosts().iter().map(|h| vec![h.name.clone(), h.ipv4.to_string(), url(h)]).collect();
        table::print(&["HOST", "ADDRESS", "SOCKET"], &rows);
        println!("\nTalk to them with weft or docker; the image busybox is on each:\n");
        for host in lab.hosts() {
            println!("    weft -H {} info", url(host));
        }
        println!("    docker -H {} run --rm busybox ip addr", url(&lab.hosts()[0]));
    }
    let name = option(lab.name());
    println!("\nOn a host itself:      weft lab exec{name} h1 -- ip addr");
    println!("When you are done:     weft lab down{name}");
}
