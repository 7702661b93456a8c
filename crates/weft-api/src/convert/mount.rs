//! Mounts of a task's container.

use serde_json::{Map, Value, json};
use weft_wire::swarmkit::mount::bind_options::Propagation;
use weft_wire::swarmkit::mount::{BindOptions, Consistency, TmpfsOptions, Type, VolumeOptions};
use weft_wire::swarmkit::{Driver, Mount};

use super::fields::Fields;
use super::{put_filled, put_number, put_text, put_true};
use crate::error::ApiError;

const TYPES: &[(&str, Type)] = &[
    ("bind", Type::Bind),
    ("volume", Type::Volume),
    ("tmpfs", Type::Tmpfs),
    ("npipe", Type::Npipe),
    ("cluster", Type::Cluster),
];

const PROPAGATIONS: &[(&str, Propagation)] = &[
    ("rprivate", Propagation::Rprivate),
    ("private", Propagation::Private),
    ("rshared", Propagation::Rshared),
    ("shared", Propagation::Shared),
    ("rslave", Propagation::Rslave),
    ("slave", Propagation::Slave),
];

const CONSISTENCIES: &[(&str, Consistency)] = &[
    ("default", Consistency::Default),
    ("consistent", Consistency::Consistent),
    ("cached", Consistency::Cached),
    ("delegated", Consistency::Delegated),
];

fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, v)| v == value).map_or("", |(word, _)| word)
}

/// `what` is Docker's name of the kind of word; none at all is the default.
fn value_of<T: Copy + Default>(words: &[(&str, T)], word: &str, what: &str) -> Result<T, ApiError> {
    if word.is_empty() {
        return Ok(T::default());
    }
    let found = words.iter().find(|(w, _)| w.eq_ignore_ascii_case(word));
    found.map(|(_, value)| *value).ok_or_else(|| ApiError::invalid(format!("invalid {what}: {word:?}")))
}

pub(super) fn to_json(mount: &Mount) -> Value {
    let mut map = Map::new();
    map.insert("Type".to_owned(), word_of(TYPES, &mount.r#type()).into());
    put_text(&mut map, "Source", &mount.source);
    put_text(&mut map, "Target", &mount.target);
    put_true(&mut map, "ReadOnly", mount.readonly);
    if mount.consistency() != Consistency::Default {
        put_text(&mut map, "Consistency", word_of(CONSISTENCIES, &mount.consistency()));
    }
    if let Some(bind) = &mount.bind_options {
        map.insert("BindOptions".to_owned(), bind_json(bind));
    }
    if let Some(volume) = &mount.volume_options {
        map.insert("VolumeOptions".to_owned(), volume_json(volume));
    }
    if let Some(tmpfs) = &mount.tmpfs_options {
        map.insert("TmpfsOptions".to_owned(), tmpfs_json(tmpfs));
    }
    map.into()
}

fn bind_json(bind: &BindOptions) -> Value {
    let mut map = Map::new();
    put_text(&mut map, "Propagation", word_of(PROPAGATIONS, &bind.propagation()));
    put_true(&mut map, "NonRecursive", bind.nonrecursive);
    put_true(&mut map, "CreateMountpoint", bind.createmountpoint);
    put_true(&mut map, "ReadOnlyNonRecursive", bind.readonlynonrecursive);
    put_true(&mut map, "ReadOnlyForceRecursive", bind.readonlyforcerecursive);
    map.into()
}

fn volume_json(volume: &VolumeOptions) -> Value {
    let mut map = Map::new();
    put_true(&mut map, "NoCopy", volume.nocopy);
    put_filled(&mut map, "Labels", json!(volume.labels));
    put_text(&mut map, "Subpath", &volume.subpath);
    if let Some(driver) = &volume.driver_config {
        map.insert("DriverConfig".to_owned(), super::network::driver_json(driver));
    }
    map.into()
}

fn tmpfs_json(tmpfs: &TmpfsOptions) -> Value {
    let mut map = Map::new();
    put_number(&mut map, "SizeBytes", tmpfs.size_bytes);
    put_number(&mut map, "Mode", tmpfs.mode);
    // SwarmKit has them as JSON in a string.
    put_filled(&mut map, "Options", serde_json::from_str(&tmpfs.options).unwrap_or_default());
    map.into()
}

pub(super) fn from_fields(fields: &Fields<'_>) -> Result<Mount, ApiError> {
    Ok(Mount {
        r#type: value_of(TYPES, &fields.text("Type")?, "MountType")?.into(),
        source: fields.text("Source")?,
        target: fields.text("Target")?,
        readonly: fields.get("ReadOnly")?,
        bind_options: fields.object("BindOptions")?.map(|f| bind(&f)).transpose()?,
        volume_options: fields.object("VolumeOptions")?.map(|f| volume(&f)).transpose()?,
        tmpfs_options: fields.object("TmpfsOptions")?.map(|f| tmpfs(&f)).transpose()?,
        consistency: value_of(CONSISTENCIES, &fields.text("Consistency")?, "MountConsistency")?.into(),
    })
}

fn bind(fields: &Fields<'_>) -> Result<BindOptions, ApiError> {
    Ok(BindOptions {
        propagation: value_of(PROPAGATIONS, &fields.text("Propagation")?, "MountPropagation")?.into(),
        nonrecursive: fields.get("NonRecursive")?,
        createmountpoint: fields.get("CreateMountpoint")?,
        readonlynonrecursive: fields.get("ReadOnlyNonRecursive")?,
        readonlyforcerecursive: fields.get("ReadOnlyForceRecursive")?,
    })
}

fn volume(fields: &Fields<'_>) -> Result<VolumeOptions, ApiError> {
    let driver =
        |f: Fields<'_>| Ok::<_, ApiError>(Driver { name: f.text("Name")?, options: f.get("Options")? });
    Ok(VolumeOptions {
        nocopy: fields.get("NoCopy")?,
        labels: fields.get("Labels")?,
        driver_config: fields.object("DriverConfig")?.map(driver).transpose()?,
        subpath: fields.text("Subpath")?,
    })
}

fn tmpfs(fields: &Fields<'_>) -> Result<TmpfsOptions, ApiError> {
    let options: Vec<Vec<String>> = fields.get("Options")?;
    Ok(TmpfsOptions {
        size_bytes: fields.get("SizeBytes")?,
        mode: fields.get("Mode")?,
        options: if options.is_empty() { String::new() } else { json!(options).to_string() },
    })
}
