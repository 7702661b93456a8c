//! `docker rmi`: what is untagged, what is deleted, and what stands in the way.
//!
//! Docker's rules: removing by name only takes the name away while the image has others. The last name goes together
//! with the image, unless containers use it: a stopped one can be overridden by force (then the image stays without a
//! name), as can a running one for a name, never for an id.

use std::collections::BTreeSet;

use bollard_stubs::models::ImageDeleteResponseItem;

use super::{Digest, ImageUser, Images, Inner, Name, State};
use crate::error::EngineError;
use crate::options::Filters;

type Result<T> = std::result::Result<T, EngineError>;

impl Images {
    /// Untags, and deletes what has no name left, by Docker's rules.
    pub fn remove(&self, name: &str, force: bool, no_prune: bool) -> Result<Vec<ImageDeleteResponseItem>> {
        // Images made here have no untagged parents that could be pruned along.
        let _ = no_prune;
        let (id, reference) = self.inner.lock().resolve(name)?;
        let (users, below) = (self.inner.users_of(&id), self.inner.layers_of_containers());
        let mut state = self.inner.lock();
        let names = state.names_of(&id);
        let removal = Removal { inner: &self.inner, id: &id, names, users, below, force };
        match reference {
            Some(reference) => removal.by_name(&mut state, &reference),
            None => removal.by_id(&mut state),
        }
    }

    /// Deletes unused images; what was deleted and how many bytes that freed.
    pub fn prune(&self, filters: &Filters) -> Result<(Vec<ImageDeleteResponseItem>, i64)> {
        let dangling_only = filters
            .get("dangling")
            .and_then(|values| values.first())
            .is_none_or(|value| matches!(value.as_str(), "true" | "1"));
        let ids: Vec<Digest> = self.inner.lock().images.keys().cloned().collect();
        let (mut items, mut freed) = (Vec::new(), 0);
        for id in ids {
            if !self.inner.users_of(&id).is_empty() {
                continue;
            }
            let below = self.inner.layers_of_containers();
            let mut state = self.inner.lock();
            let names = state.names_of(&id);
            let Some(document) = state.images.get(&id).cloned() else { continue };
            let tagged = names.iter().any(|name| name.tag().is_some());
            if (dangling_only && tagged) || !super::views::is_chosen(&document, filters)? {
                continue;
            }
            let unused =
                document.rootfs.diff_ids.iter().filter(|layer| !state.used_layers(&id).contains(layer));
            freed += unused.map(|layer| self.inner.store.layer_size(layer)).sum::<i64>();
            items.extend(self.inner.untag(&mut state, &id, &names)?);
            items.extend(self.inner.delete(&mut state, &id, &below)?);
        }
        Ok((items, freed))
    }
}

/// One image to be removed, and what stands in the way.
struct Removal<'a> {
    inner: &'a Inner,
    id: &'a Digest,
    names: Vec<Name>,
    users: Vec<ImageUser>,
    below: BTreeSet<Digest>,
    force: bool,
}

impl Removal<'_> {
    fn by_name(&self, state: &mut State, reference: &Name) -> Result<Vec<ImageDeleteResponseItem>> {
        let gone = gone_with(reference, &self.names);
        if gone.len() < self.names.len() {
            return self.inner.untag(state, self.id, &gone);
        }
        if let (Some(user), false) = (self.users.first(), self.force) {
            return Err(EngineError::Conflict(format!(
                "conflict: unable to remove repository reference \"{reference}\" (must force) - container {} is using its referenced image {}",
                user.container,
                self.id.short()
            )));
        }
        let mut items = self.inner.untag(state, self.id, &gone)?;
        if self.users.is_empty() {
            items.extend(self.inner.delete(state, self.id, &self.below)?);
        }
        Ok(items)
    }

    fn by_id(&self, state: &mut State) -> Result<Vec<ImageDeleteResponseItem>> {
        let short = self.id.short();
        if let Some(user) = self.users.iter().find(|user| user.running) {
            return Err(EngineError::Conflict(format!(
                "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {}",
                user.container
            )));
        }
        let repositories: BTreeSet<&str> = self.names.iter().map(Name::repository).collect();
        if repositories.len() > 1 && !self.force {
            return Err(EngineError::Conflict(format!(
                "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
            )));
        }
        if let (Some(user), false) = (self.users.first(), self.force) {
            return Err(EngineError::Conflict(format!(
                "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {}",
                user.container
            )));
        }
        let mut items = self.inner.untag(state, self.id, &self.names)?;
        items.extend(self.inner.delete(state, self.id, &self.below)?);
        Ok(items)
    }
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

    fn untag(&self, state: &mut State, id: &Digest, gone: &[Name]) -> Result<Vec<ImageDeleteResponseItem>> {
        let mut names = state.names.clone();
        names.retain(|name, _| !gone.contains(name));
        self.store.save_names(&names)?;
        state.names = names;
        let attributes =
            |name: &Name| std::collections::BTreeMap::from([("name".to_owned(), name.to_string())]);
        Ok(gone
            .iter()
            .map(|name| {
                self.events.send(crate::events::EventType::Image, "untag", &id.to_string(), attributes(name));
                ImageDeleteResponseItem { untagged: Some(name.to_string()), deleted: None }
            })
            .collect())
    }

    fn delete(
        &self,
        state: &mut State,
        id: &Digest,
        below: &BTreeSet<Digest>,
    ) -> Result<Vec<ImageDeleteResponseItem>> {
        let mut used = state.used_layers(id);
        used.extend(below.iter().cloned());
        let Some(document) = state.images.get(id) else { return Ok(Vec::new()) };
        let unused: Vec<Digest> =
            document.rootfs.diff_ids.iter().filter(|layer| !used.contains(layer)).cloned().collect();
        // The document first: without it the layers are only waste, never a broken image.
        self.store.remove_config(id)?;
        state.images.remove(id);
        if state.busy == 0 {
            for layer in &unused {
                if let Err(error) = self.store.remove_layer(layer) {
                    tracing::warn!(%layer, %error, "layer left behind");
                }
            }
        }
        let attributes = std::collections::BTreeMap::from([("name".to_owned(), id.to_string())]);
        self.events.send(crate::events::EventType::Image, "delete", &id.to_string(), attributes);
        Ok(vec![ImageDeleteResponseItem { untagged: None, deleted: Some(id.to_string()) }])
    }
}
