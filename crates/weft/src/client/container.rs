//! `run`, `create`, `start`, `stop`, `kill`, `rm`, `ps`, `exec`, `attach`, `logs`, `wait`.

use clap::{Args, Subcommand};
use futures_util::TryStreamExt as _;
use http_body_util::BodyDataStream;
use serde_json::{Value, json};
use tokio_util::io::StreamReader;

use super::connection::{Call, Daemon, escape};
use super::container_spec::ContainerSpec;
use super::error::{ClientError, Outcome};
use super::stream;
use super::system::{for_each, text};
use super::table;
use super::terminal::{RawMode, follow_size, stdin_is_terminal};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create a container and run it
    Run(Box<Run>),
    /// Create a container without starting it
    Create(Box<ContainerSpec>),
    /// Start containers
    Start {
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// Stop containers
    Stop {
        #[arg(required = true)]
        containers: Vec<String>,
        /// Seconds until it is killed
        #[arg(short = 't', long = "timeout", visible_alias = "time")]
        timeout: Option<i64>,
    },
    /// Restart containers
    Restart {
        #[arg(required = true)]
        containers: Vec<String>,
        /// Seconds until it is killed
        #[arg(short = 't', long = "timeout", visible_alias = "time")]
        timeout: Option<i64>,
    },
    /// Send a signal to containers
    Kill {
        #[arg(required = true)]
        containers: Vec<String>,
        #[arg(short, long, default_value = "KILL")]
        signal: String,
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
    /// List containers
    Ps {
        /// Also those that do not run
        #[arg(short, long)]
        all: bool,
        /// Only ids
        #[arg(short, long)]
        quiet: bool,
        #[arg(short, long, value_name = "filter")]
        filter: Vec<String>,
        /// Whole ids and commands
        #[arg(long)]
        no_trunc: bool,
    },
    /// Run a further program in a container
    Exec(Exec),
    /// Connect to the streams of a running container
    Attach {
        container: String,
        /// Without standard input
        #[arg(long)]
        no_stdin: bool,
    },
    /// Show what a container wrote
    Logs {
        container: String,
        #[arg(short, long)]
        follow: bool,
        #[arg(short, long)]
        timestamps: bool,
        /// Number of lines from the end
        #[arg(short = 'n', long, default_value = "all")]
        tail: String,
        /// Only since this time (RFC 3339 or seconds)
        #[arg(long)]
        since: Option<String>,
    },
    /// Wait for containers to end and print their statuses
    Wait {
        #[arg(required = true)]
        containers: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Print the id and return
    #[arg(short, long)]
    detach: bool,
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
        Verb::Start { containers } => for_each(daemon, &containers, |n| Call::post(path(n, "start"))).await,
        Verb::Stop { containers, timeout } => {
            for_each(daemon, &containers, |n| with_timeout(Call::post(path(n, "stop")), timeout)).await
        }
        Verb::Restart { containers, timeout } => {
            for_each(daemon, &containers, |n| with_timeout(Call::post(path(n, "restart")), timeout)).await
        }
        Verb::Kill { containers, signal } => {
            for_each(daemon, &containers, |n| Call::post(path(n, "kill")).query("signal", &signal)).await
        }
        Verb::Rm { containers, force, volumes } => {
            let call = |n: &str| {
                Call::delete(format!("/containers/{n}")).query_if(force, "force", 1).query_if(volumes, "v", 1)
            };
            for_each(daemon, &containers, call).await
        }
        Verb::Ps { all, quiet, filter, no_trunc } => list(daemon, all, quiet, &filter, no_trunc).await,
        Verb::Exec(exec) => self::exec(daemon, exec).await,
        Verb::Attach { container, no_stdin } => attach(daemon, &escape(&container), !no_stdin).await,
        Verb::Logs { container, follow, timestamps, tail, since } => {
            let call = Call::get(path(&escape(&container), "logs"))
                .query("stdout", 1)
                .query("stderr", 1)
                .query("tail", tail)
                .query_if(follow, "follow", 1)
                .query_if(timestamps, "timestamps", 1)
                .query_if(since.is_some(), "since", since.unwrap_or_default());
            logs(daemon, &escape(&container), call).await
        }
        Verb::Wait { containers } => {
            for name in containers {
                println!("{}", wait(daemon, &escape(&name)).await?);
            }
            Ok(0)
        }
    }
}

fn with_timeout(call: Call, seconds: Option<i64>) -> Call {
    call.query_if(seconds.is_some(), "t", seconds.unwrap_or_default())
}

async fn create(daemon: &Daemon, spec: &ContainerSpec, attached: bool) -> Result<String, ClientError> {
    let call = Call::post("/containers/create").query_if(
        spec.name.is_some(),
        "name",
        spec.name.clone().unwrap_or_default(),
    );
    let answer = daemon.json(call.json_body(&spec.body(attached)?)).await?;
    for warning in answer["Warnings"].as_array().into_iter().flatten() {
        eprintln!("WARNING: {}", text(warning));
    }
    Ok(text(&answer["Id"]))
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
    converse(daemon, attached, spec.interactive, spec.tty, &format!("/containers/{id}/resize")).await?;
    status_of(exit).await
}

/// Streams until the container closes them, with the user's terminal in raw mode where the container has one.
async fn converse(
    daemon: &Daemon,
    stream: super::connection::Hijacked,
    input: bool,
    tty: bool,
    resize: &str,
) -> Result<(), ClientError> {
    let _raw = if tty { RawMode::enter() } else { None };
    let sizes = follow_size(daemon, resize);
    let conversation = stream::connect(stream, input, tty);
    tokio::pin!(sizes, conversation);
    if !tty {
        return conversation.await;
    }
    tokio::select! {
        outcome = &mut conversation => outcome,
        () = &mut sizes => conversation.await,
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

async fn attach(daemon: &Daemon, name: &str, input: bool) -> Outcome {
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
    converse(daemon, stream, input, tty, &format!("/containers/{name}/resize")).await?;
    status_of(exit).await
}

async fn exec(daemon: &Daemon, exec: Exec) -> Outcome {
    let attached = !exec.detach;
    let body = json!({
        "AttachStdin": attached && exec.interactive,
        "AttachStdout": attached,
        "AttachStderr": attached,
        "Tty": exec.tty,
        "Env": exec.env,
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
    converse(daemon, stream, exec.interactive, exec.tty, &format!("/exec/{id}/resize")).await?;
    let state = daemon.json(Call::get(format!("/exec/{id}/json"))).await?;
    Ok(exit_code(&state["ExitCode"]))
}

async fn logs(daemon: &Daemon, name: &str, call: Call) -> Outcome {
    let container = daemon.json(Call::get(format!("/containers/{name}/json"))).await?;
    let response = daemon.call(call).await?;
    let reader = StreamReader::new(BodyDataStream::new(response.into_body()).map_err(std::io::Error::other));
    stream::print(reader, container["Config"]["Tty"] == true).await?;
    Ok(0)
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

async fn list(daemon: &Daemon, all: bool, quiet: bool, filter: &[String], no_trunc: bool) -> Outcome {
    let containers =
        daemon.json(Call::get("/containers/json").query_if(all, "all", 1).filters(filter)?).await?;
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let rows: Vec<Vec<String>> =
        containers.as_array().into_iter().flatten().map(|c| container_row(c, now, no_trunc)).collect();
    if quiet {
        rows.iter().for_each(|row| println!("{}", row[0]));
    } else {
        table::print(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"], &rows);
    }
    Ok(0)
}

fn container_row(container: &Value, now: i64, no_trunc: bool) -> Vec<String> {
    let cut = |text: String, length: usize| {
        if no_trunc || text.chars().count() <= length { text } else { text.chars().take(length).collect() }
    };
    let names: Vec<String> = container["Names"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|n| text(n).trim_start_matches('/').to_owned())
        .collect();
    vec![
        cut(text(&container["Id"]), 12),
        text(&container["Image"]),
        format!("\"{}\"", cut(text(&container["Command"]), 20)),
        table::ago(now - container["Created"].as_i64().unwrap_or(now)),
        text(&container["Status"]),
        ports(&container["Ports"]),
        names.join(","),
    ]
}

fn ports(ports: &Value) -> String {
    let mut shown: Vec<String> = ports
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| {
            let private = format!("{}/{}", text(&port["PrivatePort"]), text(&port["Type"]));
            match (&port["PublicPort"], port["IP"].as_str()) {
                (Value::Null, _) => private,
                (public, Some(ip)) if ip.contains(':') => format!("[{ip}]:{public}->{private}"),
                (public, ip) => format!("{}:{public}->{private}", ip.unwrap_or_default()),
            }
        })
        .collect();
    shown.sort();
    shown.join(", ")
}
