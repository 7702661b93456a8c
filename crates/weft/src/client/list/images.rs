//! `images`, `image ls`, `history`.

use clap::Args;
use serde_json::{Value, json};

use super::{ListFlags, Listing, Shown, moment, now};
use crate::client::connection::{Call, Daemon, escape};
use crate::client::error::Outcome;
use crate::client::image::split_tag;
use crate::client::system::text;
use crate::client::table;

/// Letters of a command in a history.
const COMMAND_WIDTH: usize = 45;
const NONE: &str = "<none>";

const LISTING: Listing = Listing {
    titles: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    quiet: "{{.ID}}",
};
const WITH_DIGESTS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const HISTORY: Listing = Listing {
    titles: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "{{.ID}}",
};

#[derive(Debug, Args)]
pub(in crate::client) struct List {
    /// Only these: NAME or NAME:TAG, * stands for any letters
    reference: Option<String>,
    /// Also those that only others are made of
    #[arg(short, long)]
    all: bool,
    /// With digests
    #[arg(long)]
    digests: bool,
    #[command(flatten)]
    flags: ListFlags,
}

impl List {
    pub(in crate::client) async fn execute(&self, daemon: &Daemon) -> Outcome {
        let reference = self.reference.iter().map(|reference| format!("reference={reference}"));
        let filters: Vec<String> = self.flags.filter.iter().cloned().chain(reference).collect();
        let call = Call::get("/images/json").query_if(self.all, "all", 1).filters(&filters)?;
        let images = daemon.json(call).await?;
        let images = images.as_array().into_iter().flatten();
        let rows: Vec<Value> =
            images.flat_map(|image| rows(image, now(), self.flags.no_trunc, self.digests)).collect();
        let table = if self.digests { WITH_DIGESTS } else { LISTING.table };
        Listing { table, ..LISTING }.print(&self.flags.shown, &rows)
    }
}

fn shortened(id: &str, no_trunc: bool) -> String {
    if no_trunc { id.to_owned() } else { table::short(id.trim_start_matches("sha256:")) }
}

/// One row for each name.
fn rows(image: &Value, now: i64, no_trunc: bool, digests: bool) -> Vec<Value> {
    let names = |key: &str| -> Vec<String> {
        let names = image[key].as_array().into_iter().flatten().map(text);
        names.filter(|name| !name.starts_with(NONE)).collect()
    };
    let (tags, by_digest) = (names("RepoTags"), names("RepoDigests"));
    let digest_of = |repository: &str| {
        let found =
            by_digest.iter().filter_map(|name| name.split_once('@')).find(|(name, _)| *name == repository);
        found.map_or_else(|| NONE.to_owned(), |(_, digest)| digest.to_owned())
    };
    let mut named: Vec<(String, String, String)> = tags
        .iter()
        .map(|tag| split_tag(tag))
        .map(|(name, tag)| (name.into(), tag.into(), digest_of(name)))
        .collect();
    if named.is_empty() {
        let digest = by_digest.iter().filter_map(|name| name.split_once('@'));
        named.extend(
            digest.filter(|_| digests).map(|(name, digest)| (name.into(), NONE.into(), digest.into())),
        );
    }
    if named.is_empty() {
        let repository =
            by_digest.iter().find_map(|name| name.split_once('@')).map_or(NONE, |(name, _)| name);
        named.push((repository.into(), NONE.into(), digest_of(repository)));
    }
    let created = image["Created"].as_i64().unwrap_or(now);
    let count = |key: &str| match image[key].as_i64() {
        Some(count @ 0..) => count.to_string(),
        _ => "N/A".to_owned(),
    };
    let size = table::size(image["Size"].as_i64().unwrap_or(0));
    let row = |(repository, tag, digest): (String, String, String)| {
        json!({
            "Repository": repository, "Tag": tag, "Digest": digest,
            "ID": shortened(&text(&image["Id"]), no_trunc),
            "CreatedSince": table::ago(now - created), "CreatedAt": moment(created),
            "Size": size, "VirtualSize": size, "Containers": count("Containers"),
            "SharedSize": "N/A", "UniqueSize": "N/A",
        })
    };
    named.into_iter().map(row).collect()
}

#[derive(Debug, Args)]
pub(in crate::client) struct History {
    image: String,
    #[command(flatten)]
    shown: Shown,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Sizes and times for people
    #[arg(short = 'H', long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    human: bool,
}

impl History {
    pub(in crate::client) async fn execute(&self, daemon: &Daemon) -> Outcome {
        let layers = daemon.json(Call::get(format!("/images/{}/history", escape(&self.image)))).await?;
        let rows: Vec<Value> =
            layers.as_array().into_iter().flatten().map(|layer| self.row(layer, now())).collect();
        HISTORY.print(&self.shown, &rows)
    }

    fn row(&self, layer: &Value, now: i64) -> Value {
        let (created, size) = (layer["Created"].as_i64().unwrap_or(now), layer["Size"].as_i64().unwrap_or(0));
        let by = text(&layer["CreatedBy"]).replace('\t', " ");
        let by = match by.char_indices().nth(COMMAND_WIDTH) {
            Some(_) if !self.no_trunc => by.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect(),
            _ => by,
        };
        let at = jiff::Timestamp::from_second(created).map(|at| at.to_string()).unwrap_or_default();
        json!({
            "ID": match text(&layer["Id"]) {
                id if id == "<missing>" => id,
                id => shortened(&id, self.no_trunc),
            },
            "CreatedSince": if self.human { table::ago(now - created) } else { at.clone() },
            "CreatedAt": at,
            "CreatedBy": by,
            "Size": if self.human { table::size(size) } else { size.to_string() },
            "Comment": text(&layer["Comment"]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_of_an_image_is_a_row() {
        let digest = "sha256:0c0d";
        let image = json!({
            "Id": "sha256:19edf1697dac76444ca0c95addecac73", "RepoTags": ["busybox:latest", "host:5000/b:1"],
            "RepoDigests": [format!("busybox@{digest}")], "Created": 1000, "Size": 2_140_000, "Containers": -1,
        });
        let found = rows(&image, 1130, false, false);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0]["Digest"], digest);
        assert_eq!(found[1]["Repository"], "host:5000/b");
        assert_eq!(found[1]["Digest"], NONE);
        assert_eq!(found[0]["ID"], "19edf1697dac");
        assert_eq!(found[0]["Size"], "2.14MB");
        let nameless = rows(&json!({"Id": "sha256:1", "RepoTags": [], "RepoDigests": []}), 0, true, false);
        assert_eq!((&nameless[0]["Repository"], &nameless[0]["Tag"]), (&json!(NONE), &json!(NONE)));
        assert!(LISTING.titles.iter().all(|(name, _)| found[0][name].is_string()));
    }
}
