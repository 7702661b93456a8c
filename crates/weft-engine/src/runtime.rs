//! The runtime child: the short-lived process in which libcontainer is called, and the only place where it is.
//!
//! libcontainer forks without exec, changes the caller's directory, dumpable flag and OOM score: nothing of that may
//! happen in the daemon or in a shim.
//!
//! `create` is started ahead: it enters the cgroup and waits for word that the bundle is complete. It stays until the shim
//! lets the container run (or goes away); `exec` ends once the process runs.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use oci_spec::runtime::{Capability, LinuxCapabilities, Process, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::cgroup::Hierarchies;
use crate::executor::{FAILURE_MARK, Filter, WeftExecutor};
use crate::shim::bundle::Bundle;
use crate::shim::process::eprint_line;
use crate::shim::runtime_child::{ORDER, Report};

/// Entry point of `weft runtime …`. The caller has created no thread.
pub fn runtime_main(args: impl IntoIterator<Item = impl Into<OsString>>) -> ! {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let code = match Arguments::parse(&args) {
        Some(arguments) => run(&arguments),
        None => {
            eprint_line("usage: runtime create|exec --bundle DIR --id ID --cgroup PATH --report FD --go FD");
            2
        }
    };
    std::process::exit(code)
}

#[derive(Default)]
struct Arguments {
    verb: String,
    bundle: PathBuf,
    id: String,
    cgroup: PathBuf,
    report: String,
    go: String,
    console: Option<PathBuf>,
    process: Option<PathBuf>,
}

impl Arguments {
    fn parse(args: &[OsString]) -> Option<Self> {
        let (verb, rest) = args.split_first()?;
        let mut parsed = Self { verb: verb.to_str()?.to_owned(), ..Self::default() };
        for pair in rest.chunks(2) {
            let [name, value] = pair else { return None };
            match name.to_str()? {
                "--bundle" => parsed.bundle = value.into(),
                "--id" => parsed.id = value.to_str()?.to_owned(),
                "--cgroup" => parsed.cgroup = value.into(),
                "--report" => parsed.report = value.to_str()?.to_owned(),
                "--go" => parsed.go = value.to_str()?.to_owned(),
                "--console" => parsed.console = Some(value.into()),
                "--process" => parsed.process = Some(value.into()),
                _ => return None,
            }
        }
        Some(parsed)
    }
}

/// Why the runtime could not do it.
#[derive(Debug, thiserror::Error)]
enum RuntimeError {
    #[error("enter cgroup: {0}")]
    Cgroup(#[source] std::io::Error),
    #[error("read {0}: {1}")]
    Read(&'static str, #[source] std::io::Error),
    #[error("write {0}: {1}")]
    Write(&'static str, #[source] std::io::Error),
    #[error("parse {0}: {1}")]
    Parse(&'static str, #[source] serde_json::Error),
    #[error(transparent)]
    Library(#[from] LibcontainerError),
    #[error("start: {0}")]
    Start(#[source] std::io::Error),
    #[error("container has no pid")]
    NoPid,
}

fn run(arguments: &Arguments) -> i32 {
    // Inherited pipes are opened anew by path: the numbers themselves would need unsafe code to own.
    let Ok(mut reports) = OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", arguments.report))
    else {
        return 2;
    };
    let result = if arguments.verb == "exec" {
        exec(arguments, &mut reports)
    } else {
        create(arguments, &mut reports)
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            report(&mut reports, &failure(&error));
            1
        }
    }
}

fn report(reports: &mut File, report: &Report) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        let _ = reports.write_all(&line);
    }
}

fn builder(arguments: &Arguments, bundle: &Bundle) -> Result<ContainerBuilder, LibcontainerError> {
    ContainerBuilder::new(arguments.id.clone(), SyscallType::default())
        .with_root_path(bundle.state())?
        .with_console_socket(arguments.console.clone())
        .validate_id()
}

fn create(arguments: &Arguments, reports: &mut File) -> Result<(), RuntimeError> {
    let bundle = Bundle::new(&arguments.bundle);
    // Opened before the shim can be gone: then reading ends.
    let mut orders = File::open(format!("/proc/self/fd/{}", arguments.go))
        .map_err(|error| RuntimeError::Read("the shim's orders", error))?;
    enter_cgroup(arguments)?;
    if !is_told(&mut orders) {
        return Ok(());
    }
    std::fs::create_dir_all(bundle.state()).map_err(|error| RuntimeError::Read("state", error))?;
    // The container's first process inherits the other end and loses it when it becomes the container's program.
    let (program, until_then) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| RuntimeError::Start(error.into()))?;
    let mut container = builder(arguments, &bundle)?
        .with_executor(confine_container(&bundle)?)
        .as_init(bundle.path())
        .with_systemd(false)
        .with_detach(true)
        .build()?;
    drop(until_then);
    let pid = container.pid().ok_or(RuntimeError::NoPid)?.as_raw();
    report(reports, &Report::Ready { pid });
    if is_told(&mut orders) {
        container.start()?;
        await_program(&program);
        report(reports, &Report::Running);
    }
    Ok(())
}

/// Waits until the first process is the container's program: a signal that comes before is lost on it. Not for long, as
/// its file may be on a slow disk.
fn await_program(program: &OwnedFd) {
    let limit = Timespec { tv_sec: 1, tv_nsec: 0 };
    let _ = poll(&mut [PollFd::new(program, PollFlags::IN)], Some(&limit));
}

/// Waits for the shim's next word. Without one the shim has gone: the container is undone by whoever finds it.
fn is_told(orders: &mut File) -> bool {
    let mut word = [0u8; ORDER.len()];
    orders.read_exact(&mut word).is_ok()
}

/// Takes milliseconds, in which the kernel waits for its readers.
fn enter_cgroup(arguments: &Arguments) -> Result<(), RuntimeError> {
    let hierarchies = Hierarchies::read().map_err(RuntimeError::Cgroup)?;
    hierarchies.enter_unified(&arguments.cgroup).map_err(RuntimeError::Cgroup)
}

fn exec(arguments: &Arguments, reports: &mut File) -> Result<(), RuntimeError> {
    let bundle = Bundle::new(&arguments.bundle);
    let file = arguments.process.clone().unwrap_or_default();
    let mut process: Process = read_json("process", &file)?;
    let executor = confine_exec(&bundle, &mut process)?;
    write_json("process", &file, &process)?;
    enter_cgroup(arguments)?;
    let pid = builder(arguments, &bundle)?
        .with_executor(executor)
        .as_tenant()
        .with_process(Some(&file))
        .with_detach(true)
        .with_container_args(process.args().clone().unwrap_or_default())
        .build()?;
    report(reports, &Report::Ready { pid: pid.as_raw() });
    Ok(())
}

/// libcontainer builds a container's filter anew each time, of a thousand rules. Where the daemon has compiled it, our
/// executor loads it.
fn confine_container(bundle: &Bundle) -> Result<WeftExecutor, RuntimeError> {
    let Some(filter) = compiled_filter(bundle)? else { return Ok(WeftExecutor::new(None, None)) };
    let mut spec: Spec = read_json("config.json", &bundle.spec())?;
    let mut process = spec.process().clone().unwrap_or_default();
    let executor = confine(&mut process, Some(filter));
    spec.set_process(Some(process));
    write_json("config.json", &bundle.spec(), &spec)?;
    Ok(executor)
}

/// libcontainer 0.7 leaves the container's filter out of execs. The working directory too is entered by our executor, for
/// an error that says which one.
fn confine_exec(bundle: &Bundle, process: &mut Process) -> Result<WeftExecutor, RuntimeError> {
    let filter = match compiled_filter(bundle)? {
        Some(filter) => Some(filter),
        None => {
            let spec: Spec = read_json("config.json", &bundle.spec())?;
            spec.linux().as_ref().and_then(|linux| linux.seccomp().clone()).map(Filter::Rules)
        }
    };
    let cwd = process.cwd().clone();
    process.set_cwd(PathBuf::from("/"));
    Ok(confine(process, filter).in_directory(cwd))
}

/// Our executor loads the filter at the last moment. Without `no_new_privs` that needs `CAP_SYS_ADMIN` (seccomp(2)), so the
/// process keeps that and `CAP_SETPCAP` until then; the executor drops both right after the filter stands.
fn confine(process: &mut Process, filter: Option<Filter>) -> WeftExecutor {
    let wanted = process.capabilities().clone().unwrap_or_else(no_capabilities);
    if filter.is_some() && process.no_new_privileges() != Some(true) {
        process.set_capabilities(Some(with_loader_capabilities(&wanted)));
        return WeftExecutor::new(filter, Some(wanted));
    }
    WeftExecutor::new(filter, None)
}

fn compiled_filter(bundle: &Bundle) -> Result<Option<Filter>, RuntimeError> {
    match std::fs::read(bundle.filter()) {
        Ok(program) => Ok(Some(Filter::Compiled(program))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RuntimeError::Read("filter.bpf", error)),
    }
}

fn no_capabilities() -> LinuxCapabilities {
    let mut none = LinuxCapabilities::default();
    let empty = Some(Default::default());
    none.set_bounding(empty.clone()).set_effective(empty.clone()).set_permitted(empty);
    none.set_inheritable(None).set_ambient(None);
    none
}

fn with_loader_capabilities(wanted: &LinuxCapabilities) -> LinuxCapabilities {
    let loader = [Capability::SysAdmin, Capability::Setpcap];
    let more = |set: &Option<oci_spec::runtime::Capabilities>| {
        Some(set.iter().flatten().copied().chain(loader).collect())
    };
    let mut temporary = wanted.clone();
    temporary
        .set_bounding(more(wanted.bounding()))
        .set_effective(more(wanted.effective()))
        .set_permitted(more(wanted.permitted()));
    temporary
}

fn read_json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    path: &std::path::Path,
) -> Result<T, RuntimeError> {
    let bytes = std::fs::read(path).map_err(|error| RuntimeError::Read(what, error))?;
    serde_json::from_slice(&bytes).map_err(|error| RuntimeError::Parse(what, error))
}

fn write_json(
    what: &'static str,
    path: &std::path::Path,
    value: &impl serde::Serialize,
) -> Result<(), RuntimeError> {
    let bytes = serde_json::to_vec(value).map_err(|error| RuntimeError::Parse(what, error))?;
    std::fs::write(path, bytes).map_err(|error| RuntimeError::Write(what, error))
}

/// The whole chain of causes, or just the part that our executor has marked as meant for the user.
fn failure(error: &RuntimeError) -> Report {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        let more = source.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = source.source();
    }
    parse_failure(&text)
}

fn parse_failure(text: &str) -> Report {
    if let Some((_, marked)) = text.split_once(FAILURE_MARK)
        && let Some((code, rest)) = marked.split_once('|')
        && let Ok(exit_code) = code.parse()
    {
        let reason = rest.split(FAILURE_MARK).next().unwrap_or(rest).trim_end_matches('|').to_owned();
        return Report::Failed { reason, exit_code };
    }
    Report::Failed { reason: text.to_owned(), exit_code: 128 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_users_part_of_an_error_is_found() {
        let text = format!(
            "failed: {FAILURE_MARK}127|exec: \"x\": executable file not found in $PATH|{FAILURE_MARK} more"
        );
        assert_eq!(
            parse_failure(&text),
            Report::Failed {
                reason: "exec: \"x\": executable file not found in $PATH".to_owned(),
                exit_code: 127
            }
        );
        assert_eq!(
            parse_failure("mount proc: EPERM"),
            Report::Failed { reason: "mount proc: EPERM".to_owned(), exit_code: 128 }
        );
    }

    proptest! {
        #[test]
        fn any_failure_is_told(text in "\\PC{0,12}", marked in "[0-9]{0,4}[|]?\\PC{0,12}") {
            let _ = parse_failure(&text);
            let _ = parse_failure(&format!("{text}{FAILURE_MARK}{marked}"));
        }
    }
}
