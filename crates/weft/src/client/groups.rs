//! `container …` and `image …`: the same verbs under the name of what they are about.

use clap::Subcommand;

use super::connection::Daemon;
use super::error::Outcome;
use super::inspect::{Inspect, Kind};
use super::prune::{self, Prune};
use super::{container, files, image, list, registry, resources};

#[derive(Debug, Subcommand)]
pub(super) enum Container {
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(list::containers::List),
    /// Show containers as JSON
    Inspect(Inspect),
    /// Remove all that do not run
    Prune(Prune),
    #[command(flatten)]
    Verb(container::Verb),
    #[command(flatten)]
    Files(files::Verb),
    #[command(flatten)]
    Resources(resources::Verb),
}

pub(super) async fn container(daemon: &Daemon, verb: Container) -> Outcome {
    match verb {
        Container::Ls(list) => list.execute(daemon).await,
        Container::Inspect(inspect) => inspect.only(daemon, Kind::Container).await,
        Container::Prune(prune) => prune::containers(daemon, &prune).await,
        Container::Verb(verb) => Box::pin(container::execute(daemon, verb)).await,
        Container::Files(verb) => files::execute(daemon, verb).await,
        Container::Resources(verb) => resources::execute(daemon, verb).await,
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Image {
    /// List images
    #[command(visible_alias = "list")]
    Ls(list::images::List),
    /// Show images as JSON
    Inspect(Inspect),
    /// Remove those that nobody uses
    Prune(Prune),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(image::Remove),
    #[command(flatten)]
    Verb(image::Verb),
    /// Send an image to its registry
    Push(registry::Push),
}

pub(super) async fn image(daemon: &Daemon, verb: Image) -> Outcome {
    match verb {
        Image::Ls(list) => list.execute(daemon).await,
        Image::Inspect(inspect) => inspect.only(daemon, Kind::Image).await,
        Image::Prune(prune) => prune::images(daemon, &prune).await,
        Image::Rm(remove) => image::execute(daemon, image::Verb::Rmi(remove)).await,
        Image::Verb(verb) => image::execute(daemon, verb).await,
        Image::Push(push) => registry::execute(daemon, registry::Verb::Push(push)).await,
    }
}
