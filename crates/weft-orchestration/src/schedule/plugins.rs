//! Drivers that a task needs its node to have.

use weft_wire::swarmkit::{Mount, Node, PluginDescription, Task, mount::Type, task_spec::Runtime};

/// Names of drivers by kind. Empty: nothing special is needed.
#[derive(Debug, Default)]
pub(super) struct PluginDemand<'a> {
    volumes: Vec<&'a str>,
    networks: Vec<&'a str>,
    log: Option<&'a str>,
}

impl<'a> PluginDemand<'a> {
    pub(super) fn of_task(task: &'a Task) -> Self {
        let networks = task.networks.iter().filter_map(|attachment| attachment.network.as_ref());
        let driver = task.spec.as_ref().and_then(|spec| spec.log_driver.as_ref());
        Self {
            volumes: mounts_of(task).iter().filter_map(volume_driver).collect(),
            networks: networks
                .filter_map(|network| network.driver_state.as_ref())
                .map(|driver| driver.name.as_str())
                .filter(|name| !name.is_empty())
                .collect(),
            log: driver.map(|driver| driver.name.as_str()).filter(|name| !matches!(*name, "" | "none")),
        }
    }

    /// Whether a node has them all. One without an engine has no drivers to miss.
    pub(super) fn is_met_by(&self, node: &Node) -> bool {
        let engine = node.description.as_ref().and_then(|description| description.engine.as_ref());
        let Some(plugins) = engine.map(|engine| engine.plugins.as_slice()) else { return true };
        let lists = |kind, name: &&str| find(plugins, kind, name) == Found::Yes;
        self.volumes.iter().all(|name| lists("Volume", name))
            && self.networks.iter().all(|name| lists("Network", name))
            // An engine that lists no log driver at all is one too old to list them.
            && self.log.is_none_or(|name| find(plugins, "Log", name) != Found::OnlyOthers)
    }
}

/// The mounts of a task's container.
pub(super) fn mounts_of(task: &Task) -> &[Mount] {
    match task.spec.as_ref().and_then(|spec| spec.runtime.as_ref()) {
        Some(Runtime::Container(container)) => &container.mounts,
        _ => &[],
    }
}

fn volume_driver(mount: &Mount) -> Option<&str> {
    let driver = mount.volume_options.as_ref()?.driver_config.as_ref()?;
    (mount.r#type() == Type::Volume && !matches!(driver.name.as_str(), "" | "local"))
        .then_some(driver.name.as_str())
}

#[derive(PartialEq, Eq)]
enum Found {
    Yes,
    /// None of this name, but others of this kind.
    OnlyOthers,
    /// None of this kind.
    NoKind,
}

/// A plugin may be listed by its name or with the tag `latest`.
fn find(plugins: &[PluginDescription], kind: &str, name: &str) -> Found {
    let mut of_kind = plugins.iter().filter(|plugin| plugin.r#type == kind).peekable();
    if of_kind.peek().is_none() {
        return Found::NoKind;
    }
    let is_it = |plugin: &PluginDescription| {
        plugin.name.strip_prefix(name).is_some_and(|rest| matches!(rest, "" | ":latest"))
    };
    if of_kind.any(is_it) { Found::Yes } else { Found::OnlyOthers }
}
