//! Images as the API shows them.

use std::collections::HashMap;

use bollard_stubs::models::{
    DriverData, ImageHistoryResponseItem, ImageInspect, ImageInspectMetadata, ImageInspectRootFs,
    ImageSummary,
};

use jiff::Timestamp;

use super::document::Document;
use super::{Digest, Images, Name, Reference, State};
use crate::error::EngineError;
use crate::options::Filters;

type Result<T> = std::result::Result<T, EngineError>;

impl Images {
    /// Images that match, newest first.
    pub fn list(&self, all: bool, filters: &Filters) -> Result<Vec<ImageSummary>> {
        // Intermediate images of builds do not exist here.
        let _ = all;
        check_filters(filters)?;
        let state = self.inner.lock();
        let mut chosen = Vec::new();
        for (id, document) in &state.images {
            if self.matches(&state, id, document, filters)? {
                chosen.push((id, document));
            }
        }
        chosen.sort_by_key(|(id, document)| (std::cmp::Reverse(created(document)), *id));
        let summary = |(id, document): (&Digest, &Document)| self.summary(&state, id, document, filters);
        Ok(chosen.into_iter().map(summary).collect())
    }

    fn matches(&self, state: &State, id: &Digest, document: &Document, filters: &Filters) -> Result<bool> {
        let names = state.names_of(id);
        let tagged = names.iter().any(|name| name.tag().is_some());
        if let Some(value) = filters.get("dangling").and_then(|values| values.first()) {
            let dangling = match value.as_str() {
                "true" | "1" => true,
                "false" | "0" => false,
                other => return Err(EngineError::Invalid(format!("invalid filter 'dangling=[{other}]'"))),
            };
            if dangling == tagged {
                return Ok(false);
            }
        }
        if let Some(patterns) = filters.get("reference")
            && !names
                .iter()
                .filter_map(Name::tag)
                .any(|name| patterns.iter().any(|pattern| name_matches(name, pattern)))
        {
            return Ok(false);
        }
        let own = created(document);
        let of = |term: &String| -> Result<Timestamp> {
            let (id, _) = state.resolve(term)?;
            Ok(state.images.get(&id).map(created).unwrap_or_default())
        };
        for term in filters.get("before").into_iter().flatten() {
            if own >= of(term)? {
                return Ok(false);
            }
        }
        for term in filters.get("since").into_iter().flatten() {
            if own <= of(term)? {
                return Ok(false);
            }
        }
        is_chosen(document, filters)
    }

    fn summary(&self, state: &State, id: &Digest, document: &Document, filters: &Filters) -> ImageSummary {
        let patterns = filters.get("reference");
        let names = state.names_of(id);
        let shown = |name: &&Reference| {
            patterns.is_none_or(|patterns| patterns.iter().any(|pattern| name_matches(name, pattern)))
        };
        let labels = document.config.clone().and_then(|config| config.labels).unwrap_or_default();
        ImageSummary {
            id: id.to_string(),
            parent_id: String::new(),
            repo_tags: names.iter().filter_map(Name::tag).filter(shown).map(Reference::to_string).collect(),
            repo_digests: state.digests_of(id),
            created: created(document).as_second(),
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
        if let Some(newest) = items.first_mut() {
            newest.id = id.to_string();
            newest.tags = state.tags_of(&id);
        }
        Ok(items)
    }
}

fn check_filters(filters: &Filters) -> Result<()> {
    const KNOWN: [&str; 7] = ["dangling", "label", "before", "since", "reference", "until", "label!"];
    match filters.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        Some(key) => Err(EngineError::Invalid(format!("invalid filter '{key}'"))),
        None => Ok(()),
    }
}

/// By its labels and its age.
pub(super) fn is_chosen(document: &Document, filters: &Filters) -> Result<bool> {
    let labels = document.config.clone().and_then(|config| config.labels).unwrap_or_default();
    let has = |wanted: &String| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
        None => labels.contains_key(wanted),
    };
    let labelled = filters.get("label").into_iter().flatten().all(has)
        && !filters.get("label!").into_iter().flatten().any(has);
    let until = crate::moment::until(filters)?;
    Ok(labelled && until.is_none_or(|until| created(document) < until))
}

/// A pattern names a repository, with or without tag; `*` stands for anything but `/`.
fn name_matches(name: &Reference, pattern: &str) -> bool {
    let full = name.to_string();
    glob(pattern.as_bytes(), full.as_bytes()) || glob(pattern.as_bytes(), name.repository().as_bytes())
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            let end = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
            (0..=end).any(|skip| glob(rest, &text[skip..]))
        }
        (Some((b'?', rest)), Some((b, text))) if *b != b'/' => glob(rest, text),
        (Some((a, rest)), Some((b, text))) if a == b => glob(rest, text),
        _ => false,
    }
}

/// The epoch where it is not known.
fn created(document: &Document) -> Timestamp {
    document.created.as_deref().and_then(|time| time.parse().ok()).unwrap_or_default()
}

fn seconds(time: &str) -> i64 {
    time.parse::<Timestamp>().map(|time| time.as_second()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_names() {
        let name = Reference::parse("foo/bar:v1").unwrap();
        for good in ["foo/bar", "foo/bar:v1", "foo/*", "*/bar:v*", "fo?/bar"] {
            assert!(name_matches(&name, good), "{good}");
        }
        for bad in ["foo", "*", "bar", "foo/bar:v2"] {
            assert!(!name_matches(&name, bad), "{bad}");
        }
    }
}
