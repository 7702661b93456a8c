//! The `weft` command line as a client of the Docker Engine API, for machines without `docker`.
//!
//! The verbs, flags and tables are docker's. Nothing here knows how the daemon works: what `docker` can ask, this asks.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]

mod connection;
mod container;
mod container_host;
mod container_spec;
mod copy;
mod credentials;
mod error;
mod events;
mod files;
mod groups;
mod image;
mod inspect;
mod layers;
mod list;
mod logs;
mod network;
mod node;
mod node_pretty;
mod prune;
mod registry;
mod resources;
mod service;
mod signals;
mod state;
mod stored;
mod stream;
mod swarm;
mod system;
pub(crate) mod table;
mod tasks;
mod template;
mod terminal;
mod tls;
mod usage;
mod volume;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use connection::Daemon;
use error::{EXIT_CLIENT_ERROR, EXIT_RUN_ERROR, Outcome};

/// Docker's overlay networking and swarm, as one binary.
#[derive(Debug, Parser)]
#[command(name = "weft", version, disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Global {
    /// The daemon to talk to: unix:///path or tcp://address:port
    #[arg(short = 'H', long, value_name = "address", env = "DOCKER_HOST")]
    host: Option<String>,
    #[command(flatten)]
    tls: tls::TlsOptions,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    System(system::Verb),
    #[command(flatten)]
    Container(container::Verb),
    #[command(flatten)]
    Files(files::Verb),
    #[command(flatten)]
    Resources(resources::Verb),
    #[command(flatten)]
    Image(image::Verb),
    #[command(flatten)]
    Registry(registry::Verb),
    /// List containers
    Ps(list::containers::List),
    /// Manage containers
    #[command(name = "container", subcommand, arg_required_else_help = true)]
    Containers(groups::Container),
    /// Manage images
    #[command(name = "image", subcommand, arg_required_else_help = true)]
    ImageGroup(groups::Image),
    /// Manage volumes
    #[command(subcommand, arg_required_else_help = true)]
    Volume(volume::Verb),
    /// Manage the whole of it
    #[command(name = "system", subcommand, arg_required_else_help = true)]
    SystemGroup(system::Group),
    /// Manage networks
    #[command(subcommand, arg_required_else_help = true)]
    Network(network::Verb),
    /// Manage the swarm
    #[command(subcommand, arg_required_else_help = true)]
    Swarm(swarm::SwarmVerb),
    /// Manage the nodes of the swarm
    #[command(subcommand, arg_required_else_help = true)]
    Node(swarm::NodeVerb),
    /// Manage services
    #[command(subcommand, arg_required_else_help = true)]
    Service(service::Verb),
    /// Manage secrets
    #[command(subcommand, arg_required_else_help = true)]
    Secret(stored::Verb),
    /// Manage configs
    #[command(subcommand, arg_required_else_help = true)]
    Config(stored::Verb),
    /// Print the completion script of a shell
    Completion {
        shell: clap_complete::Shell,
        /// Of weftd instead of weft
        #[arg(long)]
        daemon: bool,
    },
    /// Write the manual's pages into a folder
    #[command(hide = true)]
    Man { folder: PathBuf },
}

/// The grammar of the client, for help, completion and the roof's own subcommands.
pub(crate) fn command() -> Command {
    Cli::command()
}

/// Runs one command; `args` starts with the program's name. `extra` are the roof's own verbs, `daemon` is the grammar of
/// its other program.
pub(crate) fn run(args: Vec<String>, extra: Vec<Command>, daemon: Command) -> ExitCode {
    let grammar = extra.into_iter().fold(command(), Command::subcommand);
    let cli = match grammar.clone().try_get_matches_from(args).and_then(|m| Cli::from_arg_matches(&m)) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match &cli.verb {
        Verb::Completion { shell, daemon: of_daemon } => {
            crate::manual::complete(*shell, if *of_daemon { daemon } else { grammar });
            return ExitCode::SUCCESS;
        }
        Verb::Man { folder } => return written(folder, crate::manual::write(folder, grammar, daemon)),
        _ => {}
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("start: {error}");
            return ExitCode::from(EXIT_CLIENT_ERROR);
        }
    };
    let starts_container = matches!(
        cli.verb,
        Verb::Container(container::Verb::Run(_))
            | Verb::Containers(groups::Container::Verb(container::Verb::Run(_)))
    );
    let outcome = runtime.block_on(execute(cli));
    // A thread may still be blocked in a read from standard input: nobody needs its answer.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(if starts_container { EXIT_RUN_ERROR } else { EXIT_CLIENT_ERROR })
        }
    }
}

fn written(folder: &Path, outcome: std::io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("write the manual into {}: {error}", folder.display());
            ExitCode::from(EXIT_CLIENT_ERROR)
        }
    }
}

async fn execute(cli: Cli) -> Outcome {
    let daemon = Daemon::new(cli.global.host.as_deref(), &cli.global.tls)?;
    match cli.verb {
        Verb::System(verb) => system::execute(&daemon, verb).await,
        Verb::Container(verb) => Box::pin(container::execute(&daemon, verb)).await,
        Verb::Files(verb) => files::execute(&daemon, verb).await,
        Verb::Resources(verb) => resources::execute(&daemon, verb).await,
        Verb::Image(verb) => image::execute(&daemon, verb).await,
        Verb::Registry(verb) => registry::execute(&daemon, verb).await,
        Verb::Ps(list) => list.execute(&daemon).await,
        Verb::Containers(verb) => Box::pin(groups::container(&daemon, verb)).await,
        Verb::ImageGroup(verb) => groups::image(&daemon, verb).await,
        Verb::Volume(verb) => volume::execute(&daemon, verb).await,
        Verb::SystemGroup(verb) => system::execute_group(&daemon, verb).await,
        Verb::Network(verb) => network::execute(&daemon, verb).await,
        Verb::Swarm(verb) => swarm::execute_swarm(&daemon, verb).await,
        Verb::Node(verb) => swarm::execute_node(&daemon, verb).await,
        Verb::Service(verb) => Box::pin(service::execute(&daemon, verb)).await,
        Verb::Secret(verb) => stored::execute(&daemon, "/secrets", verb).await,
        Verb::Config(verb) => stored::execute(&daemon, "/configs", verb).await,
        // Done before anything that needs a daemon.
        Verb::Completion { .. } | Verb::Man { .. } => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_grammar_is_consistent() {
        super::command().debug_assert();
    }
}
