//! Where a copy goes and under which name: docker's rules, as of `docker cp --help` and its documentation.

use std::path::{Component, Path, PathBuf};

use crate::client::error::ClientError;

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Local(String),
    Container { name: String, path: String },
}

impl Place {
    /// A path that begins with `/` or `.` is of this machine, whatever colons are in it.
    pub(super) fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((name, path)) if !text.starts_with(['/', '.']) && !name.is_empty() => {
                Self::Container { name: name.to_owned(), path: path.to_owned() }
            }
            _ => Self::Local(text.to_owned()),
        }
    }
}

/// What is copied.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: String,
    pub(super) is_dir: bool,
    /// Its name at the destination, where that is not the path's: a link was followed.
    pub(super) name: Option<String>,
}

/// Where to.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) path: String,
    /// Whether it is a folder; none: nothing is there.
    pub(super) found: Option<bool>,
}

impl Destination {
    pub(super) fn is_dir(&self) -> bool {
        self.found == Some(true)
    }

    /// A path of this machine; links are followed. Its folder has to be there.
    pub(super) fn local(path: &str) -> Result<Self, ClientError> {
        let found = match std::fs::metadata(path) {
            Ok(metadata) => Some(metadata.is_dir()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(ClientError::File { path: path.into(), source }),
        };
        let folder = folder_of(path);
        if found.is_none() && !Path::new(&folder).is_dir() {
            return Err(usage(format!("invalid output path: directory {folder:?} does not exist")));
        }
        Ok(Self { path: path.to_owned(), found })
    }
}

fn usage(text: String) -> ClientError {
    ClientError::Usage(text)
}

/// Whether a path names a folder's content: `dir/.`, or `.` alone.
fn is_content(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

/// The last name of a path; `.` where it ends with it, empty for the root.
fn base(path: &str) -> &str {
    if is_content(path) {
        return ".";
    }
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

fn folder_of(path: &str) -> String {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", _)) => "/".to_owned(),
        Some((folder, _)) => folder.to_owned(),
        None if path.starts_with('/') => "/".to_owned(),
        None => ".".to_owned(),
    }
}

/// Where a link at `path` leads.
pub(super) fn target_of(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let mut place = PathBuf::from("/");
    for part in Path::new(&folder_of(path)).join(target).components() {
        match part {
            Component::Normal(name) => place.push(name),
            Component::ParentDir => {
                place.pop();
            }
            _ => {}
        }
    }
    place.to_string_lossy().into_owned()
}

impl Source {
    /// A path of this machine.
    pub(super) fn local(path: &str, follow_link: bool) -> Result<Self, ClientError> {
        let failed = |source| ClientError::File { path: path.into(), source };
        // Behind a slash a link is what it leads to, for the kernel as well.
        let metadata = if follow_link { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) };
        let metadata = metadata.map_err(failed)?;
        let mut source = Self { path: path.to_owned(), is_dir: metadata.is_dir(), name: None };
        if follow_link {
            let resolved = std::fs::canonicalize(path).map_err(failed)?.to_string_lossy().into_owned();
            source.follow(&resolved);
        }
        if path.ends_with('/') && !source.is_dir {
            return Err(usage(format!("{path}: not a directory")));
        }
        Ok(source)
    }

    /// What a link leads to is copied under the link's name.
    pub(super) fn follow(&mut self, target: &str) {
        let mut resolved = target_of(&self.path, target);
        if is_content(&self.path) {
            resolved.push_str("/.");
        } else if base(&self.path) != base(&resolved) {
            self.name = Some(base(&self.path).to_owned());
        }
        self.path = resolved;
    }

    /// The name that all entries of an archive of it begin with.
    pub(super) fn entry(&self) -> &str {
        base(&self.path)
    }

    /// Its name at the destination; none: only its content goes there.
    fn own_name(&self) -> Option<&str> {
        let name = self.name.as_deref().unwrap_or_else(|| base(&self.path));
        Some(name).filter(|name| !matches!(*name, "" | "."))
    }

    /// Which path the copy has here.
    pub(super) fn at(&self, destination: &Destination, to: &str) -> Result<PathBuf, ClientError> {
        let (folder, name) = self.path_at(destination)?;
        Ok(match destination.is_dir() {
            true => Path::new(to).join(self.own_name().unwrap_or_default()),
            false => Path::new(&folder).join(name),
        })
    }

    /// The folder that an archive is unpacked in, and what its entries begin with there.
    pub(super) fn path_at(&self, destination: &Destination) -> Result<(String, String), ClientError> {
        let path = &destination.path;
        let renamed = || (folder_of(path), base(path.trim_end_matches('.').trim_end_matches('/')).to_owned());
        match destination.found {
            Some(true) => Ok((path.clone(), self.own_name().unwrap_or(".").to_owned())),
            Some(false) if self.is_dir => Err(usage("cannot copy directory".to_owned())),
            Some(false) if path.ends_with('/') => Err(usage(format!("{path}: not a directory"))),
            Some(false) => Ok(renamed()),
            None if self.is_dir => Ok(renamed()),
            None if path.ends_with('/') || is_content(path) => Err(usage("no such directory".to_owned())),
            None => Ok(renamed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_makes_a_container_unless_the_path_says_otherwise() {
        let container = |name: &str, path: &str| Place::Container { name: name.into(), path: path.into() };
        assert_eq!(Place::parse("c1:/etc/hosts"), container("c1", "/etc/hosts"));
        assert_eq!(Place::parse("c1:"), container("c1", ""));
        for local in ["./a:b", "/a:b", "plain", "-", ":x"] {
            assert_eq!(Place::parse(local), Place::Local(local.to_owned()));
        }
    }

    fn goes(path: &str, is_dir: bool, to: &str, found: Option<bool>) -> Result<(String, String), String> {
        let source = Source { path: path.to_owned(), is_dir, name: None };
        let destination = Destination { path: to.to_owned(), found };
        source.path_at(&destination).map_err(|error| error.to_string())
    }

    #[test]
    fn names_follow_dockers_rules() {
        let to = |folder: &str, name: &str| Ok((folder.to_owned(), name.to_owned()));
        // A file: to a new name, into a folder, over a file, to a folder that is not there.
        assert_eq!(goes("a/one", false, "/tmp/two", None), to("/tmp", "two"));
        assert_eq!(goes("one", false, "/tmp", Some(true)), to("/tmp", "one"));
        assert_eq!(goes("one", false, "/tmp/two", Some(false)), to("/tmp", "two"));
        assert_eq!(goes("one", false, "/nosuch/", None), Err("no such directory".to_owned()));
        // A folder: to a new name, into a folder, its content only, over a file.
        assert_eq!(goes("/srv", true, "/new", None), to("/", "new"));
        assert_eq!(goes("/srv", true, "/new/", None), to("/", "new"));
        assert_eq!(goes("/srv/", true, "/tmp", Some(true)), to("/tmp", "srv"));
        assert_eq!(goes("/srv/.", true, "/tmp", Some(true)), to("/tmp", "."));
        assert_eq!(goes("/srv/.", true, "/tmp/new", None), to("/tmp", "new"));
        assert_eq!(goes("/srv", true, "/file", Some(false)), Err("cannot copy directory".to_owned()));
        assert_eq!(goes("/", true, "out", Some(true)), to("out", "."));
    }

    #[test]
    fn what_a_link_leads_to_has_the_links_name() {
        let mut source = Source { path: "/a/link".to_owned(), is_dir: true, name: None };
        source.follow("../b/real");
        assert_eq!((source.path.as_str(), source.entry()), ("/b/real", "real"));
        assert_eq!(source.own_name(), Some("link"));
        assert_eq!(target_of("/link", "x/../../y"), "/y");
    }
}
