//! AppArmor, where the kernel has it: which profile a container runs under, and the one of those that ask for none.
//!
//! The kernel takes profiles in a compiled form only, so `apparmor_parser` loads ours. A kernel without AppArmor confines
//! nothing by it, and as with Docker options for it are taken and have no effect.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::EngineError;

/// The profile of containers that ask for none. Docker's name: policies and people know it, and one that dockerd has
/// loaded is as good.
const DEFAULT_PROFILE: &str = "docker-default";
/// What the kernel calls having none.
const UNCONFINED: &str = "unconfined";
/// Loads profiles; part of Debian's package `apparmor`.
const PARSER: &str = "apparmor_parser";

/// The kernel's AppArmor.
#[derive(Debug)]
pub(crate) struct AppArmor {
    /// Whether it confines anything.
    enabled: bool,
    /// Where securityfs shows it.
    dir: PathBuf,
    /// The program that loads profiles. As with Docker, nothing is confined by default where it is missing.
    parser: Option<PathBuf>,
}

impl AppArmor {
    /// Looks whether the kernel has it.
    pub(crate) fn of_kernel() -> Self {
        let flag = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
        let dir = PathBuf::from("/sys/kernel/security/apparmor");
        // Without securityfs nobody can tell what is loaded, nor load anything.
        let enabled = flag.starts_with('Y') && dir.is_dir();
        let parsers = ["/sbin", "/usr/sbin"].map(|dir| Path::new(dir).join(PARSER));
        let parser = parsers.into_iter().find(|parser| parser.exists());
        if enabled && parser.is_none() {
            tracing::warn!(
                "containers are not confined by AppArmor: there is no {PARSER} (Debian's package apparmor)"
            );
        }
        Self { enabled, dir, parser }
    }

    /// Whether containers are confined by default.
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled && self.parser.is_some()
    }

    /// The profile of a container; `None` where there is no AppArmor.
    pub(crate) fn profile_of(&self, asked: Option<&str>, privileged: bool) -> Option<String> {
        let profile = match asked {
            _ if !self.enabled => None,
            // Docker's rule: whatever else is asked for.
            _ if privileged => Some(UNCONFINED),
            Some(name) if !name.is_empty() => Some(name),
            _ => self.parser.is_some().then_some(DEFAULT_PROFILE),
        };
        profile.map(str::to_owned)
    }

    /// Sees to it that a profile can be used: ours is loaded if it is not, another one must be there.
    pub(crate) fn ready(&self, profile: &str) -> Result<(), EngineError> {
        if !self.enabled || profile == UNCONFINED || !is_plain(profile) {
            return Ok(());
        }
        let path = self.dir.join("profiles");
        let loaded = fs::read_to_string(&path).map_err(EngineError::file("read", path))?;
        if names(&loaded).any(|name| name == profile) {
            return Ok(());
        }
        if profile != DEFAULT_PROFILE {
            return Err(EngineError::Refused(format!(
                "unable to apply apparmor profile: {profile:?} is not loaded; load it with {PARSER}"
            )));
        }
        let own = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
        let Some(parser) = &self.parser else { return Ok(()) };
        load(parser, &default_profile(own_name(&own))).map_err(|error| {
            EngineError::Refused(format!(
                "AppArmor enabled on system but the {DEFAULT_PROFILE} profile could not be loaded: {error}"
            ))
        })
    }
}

/// Of a profile in the kernel's own list, and neither a stack of several nor in a namespace.
fn is_plain(profile: &str) -> bool {
    !profile.contains("//") && !profile.starts_with(':')
}

/// The names in securityfs' list, of lines such as `docker-default (enforce)`.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter_map(|line| line.rsplit_once(" (").map(|(name, _)| name))
}

/// A process' profile as the kernel shows it: `unconfined`, or a name and its mode.
fn own_name(shown: &str) -> &str {
    let shown = shown.trim_end_matches(['\n', '\0']);
    shown.rsplit_once(" (").map_or(shown, |(name, _)| name)
}

/// Gives the kernel a profile.
fn load(parser: &Path, profile: &str) -> io::Result<()> {
    let mut child = Command::new(parser)
        // Not from its cache, which another version may have filled; over what is there.
        .args(["--skip-cache", "--replace"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("start {PARSER}: {error}")))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(profile.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

/// What containers may do by default, as with Docker: everything but mounting, tracing and signalling what is outside of
/// them, and writing to what the kernel shows of the host. `daemon` is the profile of this process, which ends them.
fn default_profile(daemon: &str) -> String {
    let signals = if daemon.is_empty() || daemon == UNCONFINED {
        String::new()
    } else {
        format!("  signal (receive) peer={daemon:?},\n")
    };
    format!(
        "profile {DEFAULT_PROFILE} flags=(attach_disconnected,mediate_deleted) {{
  network,
  capability,
  file,
  umount,
  deny mount,

  signal (receive) peer=unconfined,
{signals}  signal (send,receive) peer={DEFAULT_PROFILE},
  ptrace (trace,read,tracedby,readby) peer={DEFAULT_PROFILE},

  # Of /proc only processes, and of its sys only the keys of shared memory.
  deny /proc/* w,
  deny /proc/[^1-9s]*/** w,
  deny /proc/s[^y]*/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/k[^e]** w,
  deny /proc/sys/kernel/[^s]** w,
  deny /proc/sys/kernel/s[^h]** w,
  deny /proc/sys/kernel/sh[^m]** w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,

  # Of /sys only cgroups.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}}
"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As securityfs shows it.
    fn kernel(profiles: &str) -> (tempfile::TempDir, AppArmor) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("profiles"), profiles).unwrap();
        let apparmor =
            AppArmor { enabled: true, dir: dir.path().to_owned(), parser: Some("/sbin/parser".into()) };
        (dir, apparmor)
    }

    #[test]
    fn containers_have_dockers_profile_unless_they_ask_or_are_privileged() {
        let (_dir, apparmor) = kernel("");
        let of = |asked, privileged| apparmor.profile_of(asked, privileged).unwrap();
        assert_eq!(of(None, false), "docker-default");
        assert_eq!(of(Some("own"), false), "own");
        assert_eq!(of(Some("unconfined"), false), "unconfined");
        assert_eq!(
            (of(None, true), of(Some("own"), true)),
            ("unconfined".to_owned(), "unconfined".to_owned())
        );
        let unarmed = AppArmor { parser: None, ..kernel("").1 };
        assert_eq!(unarmed.profile_of(None, false), None);
        assert_eq!(unarmed.profile_of(Some("own"), false).as_deref(), Some("own"));
        let none = AppArmor { enabled: false, ..kernel("").1 };
        assert_eq!(none.profile_of(Some("own"), false), None);
        assert!(none.ready("own").is_ok());
    }

    #[test]
    fn a_profile_that_is_not_loaded_is_refused_before_the_start() {
        let (_dir, apparmor) = kernel("docker-default (enforce)\nmy own (complain)\n");
        for good in ["docker-default", "my own", "unconfined", "a//&b", ":ns:p"] {
            assert!(apparmor.ready(good).is_ok(), "{good}");
        }
        assert_eq!(
            apparmor.ready("my").unwrap_err().to_string(),
            "unable to apply apparmor profile: \"my\" is not loaded; load it with apparmor_parser"
        );
    }

    #[test]
    fn a_daemon_with_a_profile_may_end_its_containers() {
        assert!(!default_profile(own_name("unconfined\n")).contains("peer=\""));
        let text = default_profile(own_name("/usr/bin/weftd (enforce)\n"));
        assert!(text.contains("signal (receive) peer=\"/usr/bin/weftd\",\n"), "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }

    proptest! {
        #[test]
        fn any_list_is_read(text in ".{0,100}") {
            prop_assert!(names(&text).all(|name| text.contains(name)) && text.contains(own_name(&text)));
        }
    }
}
