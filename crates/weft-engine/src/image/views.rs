//! Images as the API shows them.

use std::collections::HashMap;

use bollard_stubs::models::{
    DriverData, ImageHistoryResponseItem, ImageInspect, ImageInspectMetadata, ImageInspectRootFs,
    ImageSummary,
};

use jiff::Timestamp;

use super::document::Document;
use super::glob::glob;
use super::{Digest, Images, Name, State};
use crate::error::EngineError;
use crate::options::Filters;
use crate::until::{is_before, until};

type Result<T> = std::result::Result<T, EngineError>;

impl Images {
    /// Images that match, newest first. Those without a name below others are shown with `all` only.
    pub fn list(&self, all: bool, filters: &Filters) -> Result<Vec<ImageSummary>> {
        check_filters(filters)?;
        let state = self.inner.lock();
        let wish = Wish::new(&state, all, filters)?;
        let mut chosen: Vec<_> =
            state.images.iter().filter(|(id, document)| wish.takes(&state, id, document)).collect();
        chosen.sort_by_key(|(_, document)| std::cmp::Reverse(created(document)));
        Ok(chosen.into_iter().map(|(id, document)| self.summary(&state, id, document, &wish)).collect())
    }

    fn summary(&self, state: &State, id: &Digest, document: &Document, wish: &Wish<'_>) -> ImageSummary {
        let names = state.names_of(id);
        let (tags, digests): (Vec<&Name>, Vec<&Name>) =
            names.iter().filter(|name| wish.shows(name)).partition(|name| name.tag().is_some());
        let texts = |names: Vec<&Name>| names.into_iter().map(Name::to_string).collect();
        let labels = document.config.clone().and_then(|config| config.labels).unwrap_or_default();
        ImageSummary {
            id: id.to_string(),
            parent_id: state.parents.get(id).map(Digest::to_string).unwrap_or_default(),
            repo_tags: texts(tags),
            repo_digests: texts(digests),
            created: created_seconds(document),
            size: self.size(document),
            shared_size: -1,
            labels: labels.into_iter().collect(),
            containers: -1,
            ..ImageSummary::default()
        }
    }

    fn size(&self, document: &Document) -> i64 {
        document.rootfs.diff_ids.iter().map(|layer| self.inner.store.layer_size(layer)).sum()
    }

    /// Bytes of all layers, each counted once.
    pub fn layers_size(&self) -> i64 {
        let layers = super::layers_of(self.inner.lock().images.values());
        layers.iter().map(|layer| self.inner.store.layer_size(layer)).sum()
    }

    /// Fills in how many bytes of an image are in layers that other images have too.
    pub fn measure_shared(&self, summaries: &mut [ImageSummary]) {
        let state = self.inner.lock();
        for summary in summaries {
            let Some((id, document)) = state.images.iter().find(|(id, _)| id.to_string() == summary.id)
            else {
                continue;
            };
            let others = state.used_layers(id);
            let shared = document.rootfs.diff_ids.iter().filter(|layer| others.contains(*layer));
            summary.shared_size = shared.map(|layer| self.inner.store.layer_size(layer)).sum();
        }
    }

    /// Everything about one image.
    pub fn inspect(&self, name: &str) -> Result<ImageInspect> {
        let state = self.inner.lock();
        let (id, _) = state.resolve(name)?;
        let document = state.images.get(&id).cloned().unwrap_or_default();
        let lower = self.lower_directories(&document.rootfs.diff_ids);
        let upper = lower.first().map(|path| path.display().to_string()).unwrap_or_default();
        let config = document.config.clone().unwrap_or_default();
        let config = serde_json::to_value(config).and_then(serde_json::from_value).ok();
        Ok(ImageInspect {
            id: Some(id.to_string()),
            repo_tags: Some(state.tags_of(&id)),
            repo_digests: Some(state.digests_of(&id)),
            comment: Some(document.comment.clone().unwrap_or_default()),
            created: document.created.clone(),
            author: Some(document.author.clone().unwrap_or_default()),
            config,
            architecture: Some(document.architecture.clone()),
            variant: document.variant.clone(),
            os: Some(document.os.clone()),
            size: Some(self.size(&document)),
            graph_driver: Some(DriverData {
                name: "overlay2".to_owned(),
                data: HashMap::from([("UpperDir".to_owned(), upper)]),
            }),
            root_fs: Some(ImageInspectRootFs {
                typ: "layers".to_owned(),
                layers: Some(document.rootfs.diff_ids.iter().map(Digest::to_string).collect()),
            }),
            metadata: Some(ImageInspectMetadata { last_tag_time: None }),
            ..ImageInspect::default()
        })
    }

    /// The image from whose container this one was committed.
    pub fn parent(&self, name: &str) -> Option<String> {
        let state = self.inner.lock();
        let (id, _) = state.resolve(name).ok()?;
        state.parents.get(&id).map(Digest::to_string)
    }

    /// Its steps, newest first.
    pub fn history(&self, name: &str) -> Result<Vec<ImageHistoryResponseItem>> {
        let state = self.inner.lock();
        let (id, _) = state.resolve(name)?;
        let document = state.images.get(&id).cloned().unwrap_or_default();
        let mut layers = document.rootfs.diff_ids.iter();
        let mut items: Vec<ImageHistoryResponseItem> = Vec::new();
        for step in document.history.iter().flatten() {
            let layer = if step.empty_layer { None } else { layers.next() };
            items.push(ImageHistoryResponseItem {
                id: "<missing>".to_owned(),
                created: step.created.as_deref().map(seconds).unwrap_or(0),
                created_by: step.created_by.clone().unwrap_or_default(),
                tags: Vec::new(),
                size: layer.map(|layer| self.inner.store.layer_size(layer)).unwrap_or(0),
                comment: step.comment.clone().unwrap_or_default(),
            });
        }
        items.reverse();
        // The newest step of each image that is here.
        for (item, image) in items.iter_mut().zip(state.lineage(&id)) {
            item.id = image.to_string();
            item.tags = state.tags_of(&image);
        }
        Ok(items)
    }
}

/// What a list is narrowed to.
struct Wish<'a> {
    all: bool,
    filters: &'a Filters,
    dangling: Option<bool>,
    /// Times of creation that all must be younger, or older, than.
    since: Vec<Timestamp>,
    before: Vec<Timestamp>,
    until: Option<Timestamp>,
}

impl<'a> Wish<'a> {
    fn new(state: &State, all: bool, filters: &'a Filters) -> Result<Self> {
        let values = |key: &str| filters.get(key).map(Vec::as_slice).unwrap_or_default();
        let times = |key: &str| -> Result<Vec<Timestamp>> {
            let created = |term: &String| {
                let (id, _) = state.resolve(term)?;
                Ok(state.images.get(&id).and_then(created).unwrap_or_default())
            };
            values(key).iter().map(created).collect()
        };
        let dangling = match values("dangling") {
            [] => None,
            [value] if matches!(value.as_str(), "true" | "1") => Some(true),
            [value] if matches!(value.as_str(), "false" | "0") => Some(false),
            other => {
                return Err(EngineError::Invalid(format!("invalid filter 'dangling=[{}]'", other.join(" "))));
            }
        };
        let (since, before) = (times("since")?, times("before")?);
        Ok(Self { all, filters, dangling, since, before, until: until(filters)? })
    }

    fn takes(&self, state: &State, id: &Digest, document: &Document) -> bool {
        let names = state.names_of(id);
        let tagged = names.iter().any(|name| name.tag().is_some());
        let named = match (names.is_empty(), self.dangling) {
            (true, Some(false)) => false,
            (true, _) => self.all || !state.has_children(id),
            (false, Some(true)) => !tagged,
            (false, _) => true,
        };
        let created_at = created(document).unwrap_or_default();
        named
            && (!self.filters.contains_key("reference") || names.iter().any(|name| self.shows(name)))
            && self.since.iter().all(|bound| created_at > *bound)
            && self.before.iter().all(|bound| created_at < *bound)
            && labels_match(document, self.filters)
            && is_before(document.created.as_deref().unwrap_or_default(), self.until)
    }

    /// Whether a name is one of those asked for.
    fn shows(&self, name: &Name) -> bool {
        let patterns = self.filters.get("reference");
        patterns.is_none_or(|patterns| patterns.iter().any(|pattern| name_matches(name, pattern)))
    }
}

fn check_filters(filters: &Filters) -> Result<()> {
    const KNOWN: [&str; 7] = ["dangling", "label", "before", "since", "reference", "until", "label!"];
    match filters.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        Some(key) => Err(EngineError::Invalid(format!("invalid filter '{key}'"))),
        None => Ok(()),
    }
}

/// Whether all wished labels (`key` or `key=value`) are there, and none of the unwished (`label!`).
pub(super) fn labels_match(document: &Document, filters: &Filters) -> bool {
    let labels = document.config.clone().and_then(|config| config.labels).unwrap_or_default();
    let has = |wanted: &String| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
        None => labels.contains_key(wanted),
    };
    filters.get("label").into_iter().flatten().all(has)
        && !filters.get("label!").into_iter().flatten().any(has)
}

/// A pattern names a repository, with or without tag, as Go's `path.Match` has them.
fn name_matches(name: &Name, pattern: &str) -> bool {
    let full = name.to_string();
    glob(pattern.as_bytes(), full.as_bytes()) || glob(pattern.as_bytes(), name.repository().as_bytes())
}

fn created(document: &Document) -> Option<Timestamp> {
    document.created.as_deref()?.parse().ok()
}

fn created_seconds(document: &Document) -> i64 {
    created(document).map_or(0, Timestamp::as_second)
}

fn seconds(time: &str) -> i64 {
    time.parse().map_or(0, Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::super::Reference;
    use super::*;

    #[test]
    fn patterns_of_names() {
        let name = Name::Tag(Reference::parse("foo/bar:v1").unwrap());
        for good in ["foo/bar", "foo/bar:v1", "foo/*", "*/bar:v*", "fo?/bar", "foo/ba[p-s]:v[^2]"] {
            assert!(name_matches(&name, good), "{good}");
        }
        for bad in ["foo", "*", "bar", "foo/bar:v2"] {
            assert!(!name_matches(&name, bad), "{bad}");
        }
    }
}
