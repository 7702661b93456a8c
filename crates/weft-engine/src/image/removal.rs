//! `docker rmi` and `docker image prune`: what is untagged, what is deleted, and what stands in the way.
//!
//! Docker's rules: removing by name only takes the name away while the image has others. The last name goes together
//! with the image, unless a container uses it: by name a stopped one can be overridden by force, and under a running one
//! the image stays without a name. By id the image goes with its only name; images below others, and those of running
//! containers, stay. With an image go those below it that nobody names or uses.

use std::collections::{BTreeMap, BTreeSet};

use bollard_stubs::models::ImageDeleteResponseItem;

use super::lineage::chain_ids;
use super::{Digest, ImageUser, Images, Inner, Name, State};
use crate::error::EngineError;
use crate::options::Filters;
use crate::until::{is_before, until};

type Result<T> = std::result::Result<T, EngineError>;

impl Images {
    /// Untags, and deletes what has no name left, by Docker's rules.
    pub fn remove(&self, name: &str, force: bool, no_prune: bool) -> Result<Vec<ImageDeleteResponseItem>> {
        let line = {
            let state = self.inner.lock();
            state.lineage(&state.resolve(name)?.0)
        };
        let mut removal = Removal::new(&self.inner, &line);
        let mut state = self.inner.lock();
        let (id, reference) = state.resolve(name)?;
        let mode = Mode { force, prune: !no_prune };
        match reference {
            Some(reference) => removal.by_name(&mut state, &id, (name, &reference), mode)?,
            None => removal.by_id(&mut state, &id, mode)?,
        }
        Ok(removal.items)
    }

    /// Removes layers of a container that is gone and had outlived its image, as far as nobody else needs them.
    pub(crate) fn release(&self, layers: &[Digest]) {
        let below = self.inner.layers_of_containers();
        let state = self.inner.lock();
        if state.busy > 0 {
            // The next start sweeps.
            return;
        }
        let used = super::layers_of(state.images.values());
        for layer in layers.iter().filter(|layer| !used.contains(layer) && !below.contains(layer)) {
            if self.inner.store.has_layer(layer)
                && let Err(error) = self.inner.store.remove_layer(layer)
            {
                tracing::warn!(%layer, %error, "layer left behind");
            }
        }
    }

    /// Deletes unused images; what was deleted and how many bytes that freed.
    ///
    /// Unlike Docker's, it leaves all names of an image that a container uses.
    pub fn prune(&self, filters: &Filters) -> Result<(Vec<ImageDeleteResponseItem>, i64)> {
        let dangling_only = filters
            .get("dangling")
            .and_then(|values| values.first())
            .is_none_or(|value| matches!(value.as_str(), "true" | "1"));
        let until = until(filters)?;
        let ids: Vec<Digest> = self.inner.lock().images.keys().cloned().collect();
        let (mut items, mut freed) = (Vec::new(), 0);
        for id in ids {
            let line = self.inner.lock().lineage(&id);
            let mut removal = Removal::new(&self.inner, &line);
            let mut state = self.inner.lock();
            let Some(document) = state.images.get(&id).cloned() else { continue };
            let names = state.names_of(&id);
            let spared = if dangling_only { names.iter().any(|name| name.tag().is_some()) } else { false };
            let chosen = super::views::labels_match(&document, filters)
                && is_before(document.created.as_deref().unwrap_or_default(), until);
            if spared || !chosen || !removal.users_of(&id).is_empty() || state.has_children(&id) {
                continue;
            }
            removal.untag(&mut state, &id, &names)?;
            removal.delete(&mut state, &id, Mode { force: false, prune: true })?;
            items.append(&mut removal.items);
            freed += removal.freed;
        }
        Ok((items, freed))
    }
}

/// How to remove.
#[derive(Clone, Copy)]
struct Mode {
    force: bool,
    /// Also the images below that nobody names or uses.
    prune: bool,
}

/// What keeps an image, in Docker's words.
struct Conflict {
    can_be_forced: bool,
    reason: String,
}

/// A removal on its way. What containers use is asked for before the images are locked: containers ask for images.
struct Removal<'a> {
    inner: &'a Inner,
    users: BTreeMap<Digest, Vec<ImageUser>>,
    /// Layers of containers.
    below: BTreeSet<Digest>,
    items: Vec<ImageDeleteResponseItem>,
    /// Bytes.
    freed: i64,
}

impl<'a> Removal<'a> {
    fn new(inner: &'a Inner, images: &[Digest]) -> Self {
        let users = images.iter().map(|id| (id.clone(), inner.users_of(id))).collect();
        Self { inner, users, below: inner.layers_of_containers(), items: Vec::new(), freed: 0 }
    }

    fn users_of(&self, id: &Digest) -> &[ImageUser] {
        self.users.get(id).map_or(&[], Vec::as_slice)
    }

    /// The name comes as it was given, and as what it means.
    fn by_name(&mut self, state: &mut State, id: &Digest, name: (&str, &Name), mode: Mode) -> Result<()> {
        let (given, reference) = name;
        let names = state.names_of(id);
        if let (Some(user), true, false) = (self.users_of(id).first(), is_single(&names), mode.force) {
            return Err(EngineError::Conflict(format!(
                "conflict: unable to remove repository reference \"{given}\" (must force) - container {} is using its referenced image {}",
                user.container,
                id.short()
            )));
        }
        self.untag(state, id, &gone_with(reference, &names))?;
        let named = !state.names_of(id).is_empty();
        if named || self.conflict(state, id, !mode.force).is_some() {
            return Ok(());
        }
        self.delete(state, id, mode)
    }

    fn by_id(&mut self, state: &mut State, id: &Digest, mode: Mode) -> Result<()> {
        let names = state.names_of(id);
        let named = || Conflict {
            can_be_forced: true,
            reason: "image is referenced in multiple repositories".to_owned(),
        };
        let stands = self
            .conflict(state, id, false)
            .or_else(|| (!mode.force && !is_single(&names)).then(named))
            .or_else(|| self.conflict(state, id, !mode.force));
        if let Some(Conflict { can_be_forced, reason }) = stands {
            let how = if can_be_forced { "must be forced" } else { "cannot be forced" };
            let short = id.short();
            return Err(EngineError::Conflict(format!(
                "conflict: unable to delete {short} ({how}) - {reason}"
            )));
        }
        self.untag(state, id, &names)?;
        self.delete(state, id, mode)
    }

    /// What keeps an image, but its names; `soft` is what force overrides.
    fn conflict(&self, state: &State, id: &Digest, soft: bool) -> Option<Conflict> {
        if state.has_children(id) {
            let reason = "image has dependent child images".to_owned();
            return Some(Conflict { can_be_forced: false, reason });
        }
        let users = self.users_of(id);
        let used = |user: &ImageUser, kind: &str| {
            let reason = format!("image is being used by {kind} container {}", user.container);
            Conflict { can_be_forced: !user.running, reason }
        };
        if let Some(user) = users.iter().find(|user| user.running) {
            return Some(used(user, "running"));
        }
        users.first().filter(|_| soft).map(|user| used(user, "stopped"))
    }

    fn untag(&mut self, state: &mut State, id: &Digest, gone: &[Name]) -> Result<()> {
        let mut names = state.names.clone();
        names.retain(|name, _| !gone.contains(name));
        self.inner.store.save_names(&names)?;
        state.names = names;
        for name in gone {
            // As with Docker, the event does not say which name.
            self.inner.event_of(state, "untag", id, &id.to_string());
            self.items.push(ImageDeleteResponseItem { untagged: Some(name.to_string()), deleted: None });
        }
        Ok(())
    }

    /// Deletes an image that has no name, and as it is wished those below it.
    fn delete(&mut self, state: &mut State, id: &Digest, mode: Mode) -> Result<()> {
        let line = state.lineage(id);
        self.delete_one(state, id)?;
        for parent in line.iter().skip(1) {
            let kept = !state.is_dangling(parent) || self.conflict(state, parent, true).is_some();
            if kept || !mode.prune {
                break;
            }
            self.delete_one(state, parent)?;
        }
        Ok(())
    }

    fn delete_one(&mut self, state: &mut State, id: &Digest) -> Result<()> {
        let mut used = state.used_layers(id);
        used.extend(self.below.iter().cloned());
        let Some(document) = state.images.get(id) else { return Ok(()) };
        let layers = document.rootfs.diff_ids.clone();
        // The document first: without it the layers are only waste, never a broken image.
        self.inner.store.remove_config(id)?;
        state.images.remove(id);
        self.inner.forget_parent(state, id)?;
        self.inner.event_of(state, "delete", id, &id.to_string());
        let deleted = |id: &Digest| ImageDeleteResponseItem { untagged: None, deleted: Some(id.to_string()) };
        self.items.push(deleted(id));
        if state.busy > 0 {
            return Ok(());
        }
        for (layer, chain) in layers.iter().zip(chain_ids(&layers)).rev() {
            if !used.insert(layer.clone()) {
                continue;
            }
            let size = self.inner.store.layer_size(layer);
            if let Err(error) = self.inner.store.remove_layer(layer) {
                tracing::warn!(%layer, %error, "layer left behind");
            } else {
                self.freed += size;
                self.items.push(deleted(&chain));
            }
        }
        Ok(())
    }
}

/// Whether these names are as good as one: a tag, and digests of the same repository.
fn is_single(names: &[Name]) -> bool {
    let repositories: BTreeSet<&str> = names.iter().map(Name::repository).collect();
    repositories.len() <= 1 && names.iter().filter(|name| name.tag().is_some()).count() <= 1
}

/// With the last tag of a repository its digests go too; the name itself comes first.
fn gone_with(reference: &Name, names: &[Name]) -> Vec<Name> {
    let same = |name: &&Name| *name != reference && name.repository() == reference.repository();
    let more_tags = names.iter().filter(same).any(|name| name.tag().is_some());
    let mut gone = vec![reference.clone()];
    if reference.tag().is_some() && !more_tags {
        gone.extend(names.iter().filter(same).cloned());
    }
    gone
}

impl Inner {
    pub(super) fn users_of(&self, id: &Digest) -> Vec<ImageUser> {
        let users = self.users.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        users.map(|users| users.users_of(id)).unwrap_or_default()
    }

    /// Layers that stay whatever image is removed. Asked before the images are locked: containers ask for images.
    pub(super) fn layers_of_containers(&self) -> BTreeSet<Digest> {
        let users = self.users.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        users.map(|users| users.layers()).unwrap_or_default()
    }
}
