//! Whom a process runs as: names are looked up in the passwd and group files of the container, never in the host's.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::below::open_below;
use crate::error::EngineError;

/// The largest user database that is read.
const LINES_MAX: usize = 100_000;

/// A user of the container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) additional_gids: Vec<u32>,
    pub(crate) home: String,
}

/// Finds the user meant by `user[:group]` (names or numbers, empty is root) in the root file system `root`.
pub(crate) fn resolve(root: &Path, text: &str, extra_groups: &[String]) -> Result<User, EngineError> {
    let passwd = read(root, "etc/passwd");
    let group = read(root, "etc/group");
    resolve_in(&passwd, &group, text, extra_groups)
}

/// Lines of a file of the container; symbolic links stay inside it.
fn read(root: &Path, path: &str) -> Vec<String> {
    let open = || -> rustix::io::Result<File> {
        let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(open_below(root, Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK)?.into())
    };
    match open() {
        Ok(file) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => {
            BufReader::new(file).lines().map_while(Result::ok).take(LINES_MAX).collect()
        }
        _ => Vec::new(),
    }
}

fn resolve_in(
    passwd: &[String],
    groups: &[String],
    text: &str,
    extra_groups: &[String],
) -> Result<User, EngineError> {
    let (name, group) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let entries = || passwd.iter().map(|line| line.split(':').collect::<Vec<_>>()).filter(|e| e.len() >= 6);
    let number = name.parse::<u32>().ok();
    let entry =
        entries().find(|entry| entry[0] == name || number.is_some_and(|uid| entry[2].parse() == Ok(uid)));
    let mut user = match (&entry, number) {
        (Some(entry), _) => User {
            uid: entry[2].parse().unwrap_or(0),
            gid: entry[3].parse().unwrap_or(0),
            additional_gids: Vec::new(),
            home: entry[5].to_owned(),
        },
        (None, Some(uid)) => User { uid, home: "/".to_owned(), ..User::default() },
        (None, None) => {
            return Err(EngineError::Invalid(format!(
                "unable to find user {name}: no matching entries in passwd file"
            )));
        }
    };
    let group_entries =
        || groups.iter().map(|line| line.split(':').collect::<Vec<_>>()).filter(|e| e.len() >= 4);
    let gid_of = |wanted: &str| {
        let found = group_entries().find(|entry| entry[0] == wanted).and_then(|entry| entry[2].parse().ok());
        found.or_else(|| wanted.parse().ok())
    };
    match group {
        Some(group) => {
            user.gid = gid_of(group).ok_or_else(|| {
                EngineError::Invalid(format!(
                    "unable to find group {group}: no matching entries in group file"
                ))
            })?;
        }
        // Groups that list the user as a member, unless a group was asked for.
        None => {
            if let Some(entry) = &entry {
                let member = |list: &str| list.split(',').any(|member| member.trim() == entry[0]);
                user.additional_gids = group_entries()
                    .filter(|group| member(group[3]))
                    .filter_map(|group| group[2].parse().ok())
                    .collect();
            }
        }
    }
    for group in extra_groups {
        let gid = gid_of(group).ok_or_else(|| {
            EngineError::Invalid(format!("unable to find group {group}: no matching entries in group file"))
        })?;
        user.additional_gids.push(gid);
    }
    if user.home.is_empty() {
        user.home = "/".to_owned();
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    fn find(text: &str) -> Result<User, EngineError> {
        let passwd = lines("root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/var/www:/bin/sh\nbroken\n");
        let group = lines("root:x:0:\nwww:x:34:\nmedia:x:50:web,root\n");
        resolve_in(&passwd, &group, text, &[])
    }

    #[test]
    fn users_and_groups_by_name_and_number() {
        assert_eq!(
            find("").unwrap(),
            User { uid: 0, gid: 0, additional_gids: vec![50], home: "/root".into() }
        );
        assert_eq!(
            find("web").unwrap(),
            User { uid: 33, gid: 34, additional_gids: vec![50], home: "/var/www".into() }
        );
        assert_eq!(find("33:media").unwrap().gid, 50);
        assert_eq!(
            find("1000:1000").unwrap(),
            User { uid: 1000, gid: 1000, additional_gids: vec![], home: "/".into() }
        );
        assert_eq!(
            find("nosuch").unwrap_err().to_string(),
            "unable to find user nosuch: no matching entries in passwd file"
        );
        assert!(find("web:nosuch").is_err());
    }

    proptest! {
        #[test]
        fn any_database_is_read_without_panic(passwd in "[a-z0-9:\n]{0,80}", group in "[a-z0-9:,\n]{0,80}") {
            let _ = resolve_in(&lines(&passwd), &lines(&group), "root:wheel", &[]);
        }
    }
}
