//! `run`, `create`, `start`, `stop`, `kill`, `rm`, `exec`, `attach`, `wait` and what else is done to containers.

use clap::{ArgAction, Args, Subcommand};
use futures_util::TryStreamExt as _;
use http_body_util::BodyDataStream;
use serde_json::{Value, json};
use tokio_util::io::StreamReader;

use super::connection::{Call, Daemon, escape};
use super::container_host::variables;
use super::container_spec::ContainerSpec;
use super::error::{ClientError, Outcome};
use super::logs::Logs;
use super::signals::pass_on;
use super::system::{for_each, text};
use super::terminal::{RawMode, follow_size, stdin_is_terminal};
use super::{image, state, stream};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create a container and run it
    Run(Box<Run>),
    /// Create a container without starting it
    Create(Box<ContainerSpec>),
    /// Start containers
    Start(Start),
    /// Stop containers
    Stop {
        #[arg(required = true)]
        containers: Vec<String>,
        /// Seconds until it is killed
        #[arg(short = 't', long = "timeout", visible_alias = "time")]
        timeout: Option<i64>,
        /// Signal instead of the container's own
        #[arg(short, long)]
        signal: Option<String>,
    },
    /// Restart containers
    Restart {
        #[arg(required = true)]
        containers: Vec<String>,
        /// Seconds until it is killed
        #[arg(short = 't', long = "timeout", visible_alias = "time")]
        timeout: Option<i64>,
        /// Signal instead of the container's own
        #[arg(short, long)]
        signal: Option<String>,
    },
    /// Send a signal to containers
    Kill {
        #[arg(required = true)]
        containers: Vec<String>,
        #[arg(short, long, default_value = "KILL")]
        signal: String,
    },
    /// Stop all processes of containers until unpause
    Pause {
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// Let the processes of containers go on
    Unpause {
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// Give a container another name
    Rename { container: String, name: String },
    /// Show the processes of a container
    Top {
        container: String,
        /// Options of ps
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Show where a container's ports are published
    Port {
        container: String,
        /// Only of this port: 80 or 80/tcp
        port: Option<String>,
    },
    /// Remove containers
    Rm {
        #[arg(required = true)]
        containers: Vec<String>,
        /// Also a running one
        #[arg(short, long)]
        force: bool,
        /// With its anonymous volumes
        #[arg(short, long)]
        volumes: bool,
    },
    /// Run a further program in a container
    Exec(Exec),
    /// Connect to the streams of a running container
    Attach {
        container: String,
        /// Without standard input
        #[arg(long)]
        no_stdin: bool,
        #[command(flatten)]
        signals: SignalFlags,
    },
    /// Show what a container wrote
    Logs(Logs),
    /// Wait for containers to end and print their statuses
    Wait {
        #[arg(required = true)]
        containers: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Start {
    #[arg(required = true)]
    containers: Vec<String>,
    /// Connect to its outputs, and end with its status
    #[arg(short, long)]
    attach: bool,
    /// Connect standard input, too
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    signals: SignalFlags,
}

/// As docker has it: on unless it says `=false`.
#[derive(Debug, Args)]
pub(super) struct SignalFlags {
    /// Signals that this process gets are the container's
    #[arg(long = "sig-proxy", action = ArgAction::Set, default_value_t = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    pass_on: bool,
}

impl SignalFlags {
    fn to<'a>(&self, container: &'a str) -> Option<&'a str> {
        Some(container).filter(|_| self.pass_on)
    }
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Print the id and return
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    signals: SignalFlags,
    #[command(flatten)]
    spec: ContainerSpec,
}

#[derive(Debug, Args)]
pub(super) struct Exec {
    /// Return at once
    #[arg(short, long)]
    detach: bool,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    #[arg(short, long)]
    env: Vec<String>,
    /// Variables from a file, one a line (repeatable)
    #[arg(long)]
    env_file: Vec<std::path::PathBuf>,
    #[arg(short, long)]
    user: Option<String>,
    #[arg(short, long)]
    workdir: Option<String>,
    /// All of the host's privileges
    #[arg(long)]
    privileged: bool,
    container: String,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(super) async fn execute(daemon: &Daemon, verb: Verb) -> Outcome {
    let path = |name: &str, action: &str| format!("/containers/{name}/{action}");
    match verb {
        Verb::Run(run) => self::run(daemon, *run).await,
        Verb::Create(spec) => {
            println!("{}", create(daemon, &spec, false).await?);
            Ok(0)
        }
        Verb::Start(start) => self::start(daemon, &start).await,
        Verb::Stop { containers, timeout, signal } => {
            for_each(daemon, &containers, |n| ending(Call::post(path(n, "stop")), timeout, &signal)).await
        }
        Verb::Restart { containers, timeout, signal } => {
            for_each(daemon, &containers, |n| ending(Call::post(path(n, "restart")), timeout, &signal)).await
        }
        Verb::Pause { containers } => for_each(daemon, &containers, |n| Call::post(path(n, "pause"))).await,
        Verb::Unpause { containers } => {
            for_each(daemon, &containers, |n| Call::post(path(n, "unpause"))).await
        }
        Verb::Rename { container, name } => {
            daemon.json(Call::post(path(&escape(&container), "rename")).query("name", name)).await?;
            Ok(0)
        }
        Verb::Top { container, options } => state::top(daemon, &escape(&container), &options).await,
        Verb::Port { container, port } => state::port(daemon, &container, port.as_deref()).await,
        Verb::Kill { containers, signal } => {
            for_each(daemon, &containers, |n| Call::post(path(n, "kill")).query("signal", &signal)).await
        }
        Verb::Rm { containers, force, volumes } => {
            let call = |n: &str| {
                Call::delete(format!("/containers/{n}")).query_if(force, "force", 1).query_if(volumes, "v", 1)
            };
            for_each(daemon, &containers, call).await
        }
        Verb::Exec(exec) => self::exec(daemon, exec).await,
        Verb::Attach { container, no_stdin, signals } => {
            attach(daemon, &container, !no_stdin, &signals).await
        }
        Verb::Logs(logs) => logs.execute(daemon).await,
        Verb::Wait { containers } => {
            for name in containers {
                println!("{}", wait(daemon, &escape(&name)).await?);
            }
            Ok(0)
        }
    }
}

fn ending(call: Call, seconds: Option<i64>, signal: &Option<String>) -> Call {
    let call = call.query_if(seconds.is_some(), "t", seconds.unwrap_or_default());
    call.query_if(signal.is_some(), "signal", signal.as_deref().unwrap_or_default())
}

/// Several return at once; one may be connected to.
async fn start(daemon: &Daemon, start: &Start) -> Outcome {
    let path = |name: &str| format!("/containers/{name}/start");
    if !start.attach && !start.interactive {
        return for_each(daemon, &start.containers, |name| Call::post(path(name))).await;
    }
    let [name] = start.containers.as_slice() else {
        return Err(ClientError::Usage("you cannot start and attach multiple containers at once".to_owned()));
    };
    let name = escape(name);
    let container = daemon.json(Call::get(format!("/containers/{name}/json"))).await?;
    let tty = container["Config"]["Tty"] == true;
    let input = start.interactive && container["Config"]["OpenStdin"] == true;
    let call = Call::post(format!("/containers/{name}/attach"))
        .query("stream", 1)
        .query("stdout", 1)
        .query("stderr", 1)
        .query_if(input, "stdin", 1);
    let attached = daemon.hijack(call).await?;
    let condition = if container["HostConfig"]["AutoRemove"] == true { "removed" } else { "next-exit" };
    let exit =
        daemon.call(Call::post(format!("/containers/{name}/wait")).query("condition", condition)).await?;
    daemon.json(Call::post(path(&name))).await?;
    let beside = Beside {
        resize: &format!("/containers/{name}/resize"),
        signals: start.signals.to(&start.containers[0]),
    };
    converse(daemon, attached, input, tty, beside).await?;
    status_of(exit).await
}

async fn create(daemon: &Daemon, spec: &ContainerSpec, attached: bool) -> Result<String, ClientError> {
    let body = spec.body(attached)?;
    let call = || {
        let call = Call::post("/containers/create").query_if(
            spec.name.is_some(),
            "name",
            spec.name.clone().unwrap_or_default(),
        );
        let call = call.query_if(spec.platform().is_some(), "platform", spec.platform().unwrap_or_default());
        call.json_body(&body)
    };
    if let Some(file) = spec.cidfile.as_ref().filter(|file| file.exists()) {
        return Err(ClientError::Usage(format!(
            "container ID file found, make sure the other container isn't running or delete {}",
            file.display()
        )));
    }
    if spec.pull == "always" {
        image::bring(daemon, &spec.image, spec.platform()).await?;
    }
    let answer = match daemon.json(call()).await {
        Err(ClientError::Daemon { status: 404, message })
            if spec.pull == "missing" && is_no_image(&message) =>
        {
            if !spec.quiet {
                eprintln!("Unable to find image '{}' locally", spec.image);
            }
            image::bring(daemon, &spec.image, spec.platform()).await?;
            daemon.json(call()).await?
        }
        answer => answer?,
    };
    if let Some(file) = &spec.cidfile {
        let failed = |source| ClientError::File { path: file.clone(), source };
        std::fs::write(file, text(&answer["Id"])).map_err(failed)?;
    }
    for warning in answer["Warnings"].as_array().into_iter().flatten() {
        eprintln!("WARNING: {}", text(warning));
    }
    Ok(text(&answer["Id"]))
}

/// Not a network or volume that is missing.
fn is_no_image(message: &str) -> bool {
    message.to_ascii_lowercase().starts_with("no such image")
}

async fn run(daemon: &Daemon, run: Run) -> Outcome {
    let spec = &run.spec;
    if spec.tty && spec.interactive && !run.detach && !stdin_is_terminal() {
        return Err(ClientError::Usage("the input device is not a TTY".to_owned()));
    }
    let id = create(daemon, spec, !run.detach).await?;
    if run.detach {
        daemon.json(Call::post(format!("/containers/{id}/start"))).await?;
        stream::line(&id);
        return Ok(0);
    }
    let call = Call::post(format!("/containers/{id}/attach"))
        .query("stream", 1)
        .query("stdout", 1)
        .query("stderr", 1)
        .query_if(spec.interactive, "stdin", 1);
    let attached = daemon.hijack(call).await?;
    // Asked before the start: a container with --rm may be gone before a later question arrives.
    let condition = if spec.rm { "removed" } else { "next-exit" };
    let exit =
        daemon.call(Call::post(format!("/containers/{id}/wait")).query("condition", condition)).await?;
    daemon.json(Call::post(format!("/containers/{id}/start"))).await?;
    let beside = Beside { resize: &format!("/containers/{id}/resize"), signals: run.signals.to(&id) };
    converse(daemon, attached, spec.interactive, spec.tty, beside).await?;
    status_of(exit).await
}

/// What is done beside the streams.
#[derive(Clone, Copy)]
struct Beside<'a> {
    /// Where the size of the terminal is told.
    resize: &'a str,
    /// The container that gets this process's signals.
    signals: Option<&'a str>,
}

/// Streams until the container closes them, with the user's terminal in raw mode where the container has one.
async fn converse(
    daemon: &Daemon,
    stream: super::connection::Hijacked,
    input: bool,
    tty: bool,
    beside: Beside<'_>,
) -> Result<(), ClientError> {
    let _raw = if tty { RawMode::enter() } else { None };
    let sizes = async {
        if tty {
            follow_size(daemon, beside.resize).await;
        }
        std::future::pending::<()>().await;
    };
    let signals = async {
        match beside.signals {
            Some(container) => pass_on(daemon, container).await,
            None => std::future::pending().await,
        }
    };
    let conversation = stream::connect(stream, input, tty);
    tokio::select! {
        outcome = conversation => outcome,
        () = signals => {
            Err(ClientError::Usage("got 3 SIGTERM/SIGINTs, forcefully exiting".to_owned()))
        }
        () = sizes => Ok(()),
    }
}

async fn status_of(response: hyper::Response<hyper::body::Incoming>) -> Outcome {
    use http_body_util::BodyExt as _;
    let body = response.into_body().collect().await?.to_bytes();
    let answer: Value = serde_json::from_slice(&body)?;
    if let Some(message) = answer["Error"]["Message"].as_str().filter(|m| !m.is_empty()) {
        return Err(ClientError::Daemon { status: 200, message: message.to_owned() });
    }
    Ok(exit_code(&answer["StatusCode"]))
}

/// A container's status as this process's; what does not fit a byte is no longer the container's own.
fn exit_code(status: &Value) -> u8 {
    status.as_i64().and_then(|s| u8::try_from(s).ok()).unwrap_or(super::error::EXIT_CLIENT_ERROR)
}

async fn wait(daemon: &Daemon, name: &str) -> Result<i64, ClientError> {
    let answer = daemon.json(Call::post(format!("/containers/{name}/wait"))).await?;
    Ok(answer["StatusCode"].as_i64().unwrap_or_default())
}

async fn attach(daemon: &Daemon, container_name: &str, input: bool, signals: &SignalFlags) -> Outcome {
    let name = escape(container_name);
    let exit = daemon.call(Call::post(format!("/containers/{name}/wait"))).await?;
    let container = daemon.json(Call::get(format!("/containers/{name}/json"))).await?;
    if container["State"]["Running"] != true {
        return Err(ClientError::Usage(
            "You cannot attach to a stopped container, start it first".to_owned(),
        ));
    }
    let tty = container["Config"]["Tty"] == true;
    let input = input && container["Config"]["OpenStdin"] == true;
    let call = Call::post(format!("/containers/{name}/attach"))
        .query("stream", 1)
        .query("stdout", 1)
        .query("stderr", 1)
        .query_if(input, "stdin", 1);
    let stream = daemon.hijack(call).await?;
    let beside =
        Beside { resize: &format!("/containers/{name}/resize"), signals: signals.to(container_name) };
    converse(daemon, stream, input, tty, beside).await?;
    status_of(exit).await
}

async fn exec(daemon: &Daemon, exec: Exec) -> Outcome {
    let attached = !exec.detach;
    let files = exec.env_file.iter().map(variables).collect::<Result<Vec<_>, _>>()?;
    // What is said on the command line comes later, and so counts.
    let env: Vec<String> = files.into_iter().flatten().chain(exec.env).collect();
    let body = json!({
        "AttachStdin": attached && exec.interactive,
        "AttachStdout": attached,
        "AttachStderr": attached,
        "Tty": exec.tty,
        "Env": env,
        "User": exec.user.unwrap_or_default(),
        "WorkingDir": exec.workdir.unwrap_or_default(),
        "Privileged": exec.privileged,
        "Cmd": exec.command,
    });
    let created = daemon
        .json(Call::post(format!("/containers/{}/exec", escape(&exec.container))).json_body(&body))
        .await?;
    let id = text(&created["Id"]);
    let start =
        Call::post(format!("/exec/{id}/start")).json_body(&json!({"Detach": exec.detach, "Tty": exec.tty}));
    if exec.detach {
        daemon.json(start).await?;
        return Ok(0);
    }
    let stream = daemon.hijack(start).await?;
    let beside = Beside { resize: &format!("/exec/{id}/resize"), signals: None };
    converse(daemon, stream, exec.interactive, exec.tty, beside).await?;
    let state = daemon.json(Call::get(format!("/exec/{id}/json"))).await?;
    Ok(exit_code(&state["ExitCode"]))
}

/// Output of services and tasks: their answers tell whether there is a terminal.
pub(super) async fn print_output(daemon: &Daemon, call: Call) -> Outcome {
    let response = daemon.call(call).await?;
    let content_type = response.headers().get(hyper::header::CONTENT_TYPE);
    let tty = content_type.is_some_and(|t| t.as_bytes() == b"application/vnd.docker.raw-stream");
    let reader = StreamReader::new(BodyDataStream::new(response.into_body()).map_err(std::io::Error::other));
    stream::print(reader, tty).await?;
    Ok(0)
}
