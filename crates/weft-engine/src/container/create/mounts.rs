//! What a request wants mounted: `--mount`, `-v`, `--tmpfs`, `VOLUME` of the image.

use std::path::{Component, Path, PathBuf};

use bollard_stubs::models::{Mount, MountTmpfsOptions, MountType, MountVolumeOptions};

use super::{Request, Result, invalid};
use crate::container::record::{MountKind, MountRecord};
use crate::error::EngineError;
use crate::volumes::VolumeWish;

/// Docker shows this as the mode of a volume that was wanted without any: containers may share it.
const SHARED_LABEL: &str = "z";

/// Where named volumes are made.
pub(crate) trait VolumeMaker {
    /// The directory of volume `name`, made if missing; `None` makes an anonymous one. Answers name and directory.
    fn volume(&self, name: Option<&str>, wish: VolumeWish) -> Result<(String, PathBuf)>;
}

/// The mounts of a request: `--mount`, `-v`, `--tmpfs`, what other containers lend, `VOLUME` of the image; in this order
/// of precedence.
pub(crate) fn mounts(
    request: &Request,
    lent: Vec<MountRecord>,
    volumes: &dyn VolumeMaker,
) -> Result<Vec<MountRecord>> {
    // As with Docker, the driver is for volumes that are asked for in the short form.
    let driver = request.host.volume_driver.clone().unwrap_or_default();
    let wish = || VolumeWish { driver: driver.clone(), ..VolumeWish::default() };
    let mut mounts: Vec<MountRecord> = Vec::new();
    let mut add = |mount: MountRecord| {
        if mounts.iter().any(|have| have.destination == mount.destination) {
            return invalid(format!("Duplicate mount point: {}", mount.destination.display()));
        }
        mounts.push(mount);
        Ok(())
    };
    for mount in request.host.mounts.iter().flatten() {
        add(from_mount(mount, volumes)?)?;
    }
    for bind in request.host.binds.iter().flatten() {
        add(from_bind(bind, wish(), volumes)?)?;
    }
    for (destination, options) in request.host.tmpfs.iter().flatten() {
        let record = MountRecord {
            writable: !options.split(',').any(|option| option == "ro"),
            mode: options.clone(),
            ..MountRecord::new(MountKind::Tmpfs, destination_path(destination, "tmpfs")?)
        };
        add(record)?;
    }
    for mount in lent {
        if mounts.iter().all(|have| have.destination != mount.destination) {
            mounts.push(mount);
        }
    }
    for destination in request.config.volumes.iter().flatten() {
        let destination = destination_path(destination, "volume")?;
        if mounts.iter().all(|have| have.destination != destination) {
            let (name, source) = volumes.volume(None, wish())?;
            let anonymous = MountRecord {
                name,
                source,
                anonymous: true,
                ..MountRecord::new(MountKind::Volume, destination)
            };
            mounts.push(anonymous);
        }
    }
    // Parents before their children.
    mounts.sort_by_key(|mount| mount.destination.components().count());
    Ok(mounts)
}

fn destination_path(text: &str, kind: &str) -> Result<PathBuf> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(EngineError::Refused(format!(
            "invalid mount config for type \"{kind}\": invalid mount path: '{text}' mount path must be absolute"
        )));
    }
    let clean: PathBuf = path.components().filter(|part| !matches!(part, Component::CurDir)).collect();
    if clean.components().any(|part| part == Component::ParentDir) || clean == Path::new("/") {
        return invalid(format!(
            "invalid mount config for type \"{kind}\": invalid specification: destination can't be '{text}'"
        ));
    }
    Ok(clean)
}

/// `source:destination[:options]` or `destination`.
fn from_bind(text: &str, wish: VolumeWish, volumes: &dyn VolumeMaker) -> Result<MountRecord> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [destination] => (None, destination, ""),
        [source, destination] => (Some(source), destination, ""),
        [source, destination, options] => (Some(source), destination, options),
        _ => return invalid(format!("invalid volume specification: '{text}'")),
    };
    let wrong = |error: EngineError| match error {
        EngineError::Refused(reason) => {
            EngineError::Refused(format!("invalid volume specification: '{text}': {reason}"))
        }
        other => other,
    };
    let mut writable = true;
    let mut propagation = "rprivate".to_owned();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => writable = false,
            "rw" | "z" | "Z" | "nocopy" | "consistent" | "cached" | "delegated" => {}
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                propagation = option.to_owned()
            }
            _ => {
                return invalid(format!("invalid volume specification: '{text}': invalid mode: {options}"));
            }
        }
    }
    match source {
        Some(source) if source.starts_with('/') => {
            let destination = destination_path(destination, "bind").map_err(wrong)?;
            Ok(MountRecord {
                source: PathBuf::from(source),
                writable,
                mode: options.to_owned(),
                propagation,
                ..MountRecord::new(MountKind::Bind, destination)
            })
        }
        source => {
            let destination = destination_path(destination, "volume").map_err(wrong)?;
            let (name, path) = volumes.volume(source, wish)?;
            Ok(MountRecord {
                name,
                source: path,
                writable,
                mode: if options.is_empty() { SHARED_LABEL.to_owned() } else { options.to_owned() },
                anonymous: source.is_none(),
                no_copy: options.split(',').any(|option| option == "nocopy"),
                ..MountRecord::new(MountKind::Volume, destination)
            })
        }
    }
}

fn from_mount(mount: &Mount, volumes: &dyn VolumeMaker) -> Result<MountRecord> {
    let record = match mount.typ.unwrap_or(MountType::VOLUME) {
        MountType::BIND => bind_mount(mount)?,
        MountType::VOLUME => volume_mount(mount, volumes)?,
        MountType::TMPFS => tmpfs_mount(mount)?,
        other => return invalid(format!("mount type {other} is not supported")),
    };
    Ok(MountRecord { writable: mount.read_only != Some(true), ..record })
}

fn bind_mount(mount: &Mount) -> Result<MountRecord> {
    let source = mount.source.as_deref().unwrap_or_default();
    let options = mount.bind_options.clone().unwrap_or_default();
    if !Path::new(source).is_absolute() {
        return invalid("invalid mount config for type \"bind\": field Source must not be empty");
    }
    if options.create_mountpoint != Some(true) && !Path::new(source).exists() {
        return invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {source}"
        ));
    }
    let propagation = options.propagation.map(|propagation| propagation.to_string());
    Ok(MountRecord {
        source: PathBuf::from(source),
        propagation: propagation.filter(|p| !p.is_empty()).unwrap_or_else(|| "rprivate".to_owned()),
        non_recursive: options.non_recursive == Some(true),
        ..MountRecord::new(
            MountKind::Bind,
            destination_path(mount.target.as_deref().unwrap_or_default(), "bind")?,
        )
    })
}

fn volume_mount(mount: &Mount, volumes: &dyn VolumeMaker) -> Result<MountRecord> {
    let destination = destination_path(mount.target.as_deref().unwrap_or_default(), "volume")?;
    let wanted = mount.source.as_deref().filter(|source| !source.is_empty());
    let options = mount.volume_options.clone().unwrap_or_default();
    let wish = volume_wish(options.clone())?;
    let (name, source) = volumes.volume(wanted, wish)?;
    Ok(MountRecord {
        name,
        source,
        mode: SHARED_LABEL.to_owned(),
        anonymous: wanted.is_none(),
        no_copy: options.no_copy == Some(true),
        ..MountRecord::new(MountKind::Volume, destination)
    })
}

/// What would be ignored is refused instead: the data would be somewhere else than asked for.
fn volume_wish(options: MountVolumeOptions) -> Result<VolumeWish> {
    let driver = options.driver_config.unwrap_or_default();
    if options.subpath.is_some_and(|subpath| !subpath.is_empty()) {
        return Err(EngineError::NotImplemented("subpaths of volumes are not supported".to_owned()));
    }
    Ok(VolumeWish {
        driver: driver.name.unwrap_or_default(),
        labels: options.labels.unwrap_or_default().into_iter().collect(),
        options: driver.options.unwrap_or_default().into_iter().collect(),
    })
}

fn tmpfs_mount(mount: &Mount) -> Result<MountRecord> {
    let MountTmpfsOptions { size_bytes, mode, options } = mount.tmpfs_options.clone().unwrap_or_default();
    let size = size_bytes.filter(|size| *size > 0).map(|size| format!("size={size}"));
    let mode = mode.filter(|bits| *bits > 0).map(|bits| format!("mode={bits:o}"));
    let more = options.into_iter().flatten().map(|option| option.join("="));
    Ok(MountRecord {
        mode: size.into_iter().chain(mode).chain(more).collect::<Vec<_>>().join(","),
        ..MountRecord::new(
            MountKind::Tmpfs,
            destination_path(mount.target.as_deref().unwrap_or_default(), "tmpfs")?,
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Fake;
    impl VolumeMaker for Fake {
        fn volume(&self, name: Option<&str>, _: VolumeWish) -> Result<(String, PathBuf)> {
            let name = name.unwrap_or("anonymous").to_owned();
            Ok((name.clone(), PathBuf::from("/volumes").join(name)))
        }
    }

    #[test]
    fn binds_are_parsed_as_docker_does() {
        let bind = from_bind("/src:/dst:ro", VolumeWish::default(), &Fake).unwrap();
        assert_eq!((bind.kind, bind.writable), (MountKind::Bind, false));
        let volume = from_bind("data:/dst", VolumeWish::default(), &Fake).unwrap();
        assert_eq!((volume.kind, volume.name.as_str(), volume.anonymous), (MountKind::Volume, "data", false));
        assert_eq!(
            from_bind("v1:x", VolumeWish::default(), &Fake).unwrap_err().to_string(),
            "invalid volume specification: 'v1:x': invalid mount config for type \"volume\": invalid mount path: 'x' mount path must be absolute"
        );
        assert!(from_bind("/a:/b:bogus", VolumeWish::default(), &Fake).is_err());
        assert!(from_bind("/a:/", VolumeWish::default(), &Fake).is_err());
        assert!(from_bind("/a:/x/../..", VolumeWish::default(), &Fake).is_err());
    }

    proptest! {
        #[test]
        fn any_bind_is_read_or_refused(text in "[a-z/.:,]{0,24}|\\PC{0,16}") {
            if let Ok(mount) = from_bind(&text, VolumeWish::default(), &Fake) {
                prop_assert!(mount.destination.is_absolute() && mount.destination != Path::new("/"));
                prop_assert!(!mount.destination.components().any(|part| part == Component::ParentDir));
            }
        }
    }
}
