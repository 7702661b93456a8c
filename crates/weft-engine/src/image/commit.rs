//! A container's changes as a layer, and with it a new image.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::Stream;

use super::document::{History, RunConfig};
use super::{Busy, Digest, Images, Name, Reference, Result, changes, invalid};
use crate::blocking::blocking;
use crate::byte_pipe::body_reader;
use crate::error::EngineError;

/// What an image of a container is made of.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    /// Without one the image has no name.
    pub(crate) name: Option<Reference>,
    /// The image below the container.
    pub(crate) parent: Option<Digest>,
    /// What a container of the new image runs.
    pub(crate) config: RunConfig,
    pub(crate) author: String,
    pub(crate) comment: String,
    /// How the container was started, for the history.
    pub(crate) command: String,
}

/// Name and tag of a new image, `None` without a name.
pub(crate) fn commit_name(repo: &str, tag: &str) -> Result<Option<Reference>> {
    if repo.is_empty() {
        return Ok(None);
    }
    Reference::new(repo, tag).map(Some).map_err(invalid)
}

/// The configuration for an image of a container: what the request says, changed by Dockerfile instructions, and the
/// container's own where that leaves something open.
pub(crate) fn commit_config(
    mut given: RunConfig,
    instructions: &[String],
    container: RunConfig,
) -> Result<RunConfig> {
    changes::apply(&mut given, instructions)?;
    let is_empty = |list: &Option<Vec<String>>| list.as_deref().is_none_or(<[String]>::is_empty);
    if is_empty(&given.entrypoint) {
        if is_empty(&given.cmd) {
            given.cmd = container.cmd;
        }
        given.entrypoint = given.entrypoint.or(container.entrypoint);
    }
    let text = |own: Option<String>, other| own.filter(|text| !text.is_empty()).or(other);
    let mut env = given.env.unwrap_or_default();
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    for entry in container.env.unwrap_or_default() {
        if env.iter().all(|have| key(have) != key(&entry)) {
            env.push(entry);
        }
    }
    Ok(RunConfig {
        user: text(given.user, container.user),
        working_dir: text(given.working_dir, container.working_dir),
        stop_signal: text(given.stop_signal, container.stop_signal),
        env: (!env.is_empty()).then_some(env),
        exposed_ports: union(given.exposed_ports, container.exposed_ports),
        volumes: union(given.volumes, container.volumes),
        labels: union(given.labels, container.labels),
        shell: given.shell.or(container.shell),
        healthcheck: given.healthcheck.or(container.healthcheck),
        ..given
    })
}

/// Both, the first one winning.
fn union<T>(
    first: Option<BTreeMap<String, T>>,
    second: Option<BTreeMap<String, T>>,
) -> Option<BTreeMap<String, T>> {
    let mut both = second.unwrap_or_default();
    both.extend(first.unwrap_or_default());
    (!both.is_empty()).then_some(both)
}

impl Images {
    /// Makes an image of its parent and a layer, or of the parent alone; its id.
    pub(crate) async fn commit(
        &self,
        commit: Commit,
        layer: Option<impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static>,
    ) -> Result<String> {
        let (inner, reader) = (self.inner.clone(), layer.map(body_reader));
        blocking(move || {
            let _busy = Busy::new(&inner);
            let parent =
                commit.parent.ok_or_else(|| EngineError::Invalid("no image specified".to_owned()))?;
            let mut document =
                inner.complete(&parent).ok_or_else(|| EngineError::NoSuchImage(parent.to_string()))?;
            let is_empty = reader.is_none();
            if let Some(reader) = reader {
                document.rootfs.diff_ids.push(inner.store.put_layer(reader, None)?);
            }
            let some = |text: String| Some(text).filter(|text| !text.is_empty());
            let created = Some(jiff::Timestamp::now().to_string());
            let (author, comment) = (some(commit.author), some(commit.comment));
            document.history.get_or_insert_default().push(History {
                created: created.clone(),
                author: author.clone(),
                created_by: some(commit.command),
                comment: comment.clone(),
                empty_layer: is_empty,
            });
            (document.created, document.author, document.comment) = (created, author, comment);
            document.docker_version = Some(env!("CARGO_PKG_VERSION").to_owned());
            document.config = Some(commit.config);
            let image = inner.store.put_config(&serde_json::to_vec(&document).unwrap_or_default())?;
            let names: Vec<Name> = commit.name.into_iter().map(Name::Tag).collect();
            let id = inner.add(image, names.clone())?;
            inner.set_parent(&mut inner.lock(), &id, &parent)?;
            for name in names {
                inner.event("tag", &id, &name.to_string());
            }
            Ok(id.to_string())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containers_configuration_fills_what_is_left_open() {
        let container = RunConfig {
            cmd: Some(vec!["sleep".to_owned(), "1".to_owned()]),
            env: Some(vec!["A=container".to_owned(), "B=container".to_owned()]),
            labels: Some(BTreeMap::from([("l".to_owned(), "1".to_owned())])),
            working_dir: Some("/srv".to_owned()),
            ..RunConfig::default()
        };
        let plain = commit_config(RunConfig::default(), &[], container.clone()).unwrap();
        assert_eq!(plain, container);
        let instructions = ["ENV A=own", "LABEL m=2", "WORKDIR /own"].map(str::to_owned);
        let changed = commit_config(RunConfig::default(), &instructions, container.clone()).unwrap();
        assert_eq!(changed.env.unwrap(), ["A=own", "B=container"]);
        assert_eq!(changed.labels.unwrap().into_keys().collect::<Vec<_>>(), ["l", "m"]);
        assert_eq!((changed.working_dir.as_deref(), changed.cmd), (Some("/own"), container.cmd.clone()));
        // A new entrypoint is not given the container's arguments.
        let entry =
            commit_config(RunConfig::default(), &["ENTRYPOINT [\"/x\"]".to_owned()], container).unwrap();
        assert_eq!((entry.entrypoint.unwrap(), entry.cmd), (vec!["/x".to_owned()], None));
        assert_eq!(commit_name("", "x").unwrap(), None);
        assert!(commit_name("NOT/Allowed", "").is_err());
    }
}
