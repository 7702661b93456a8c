//! The Debian package, in roots of its own: the machine's files seen through an overlay, so that nothing is installed
//! here. `cargo xtask test package` builds it first and says where it is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Seconds for all that happens in one root.
const DEADLINE: &str = "60";
/// Makes the root `$root/all`, with what is changed in it in `$root/changed`, and leaves a shell in it. The namespaces go with
/// their last process, and all of this with them.
const ENTER: &str = r#"
set -e
mount -t tmpfs tmpfs "$root"
mkdir "$root/changed" "$root/work" "$root/all"
mount -t overlay overlay -o "lowerdir=/,upperdir=$root/changed,workdir=$root/work" "$root/all"
cp "$package" "$root/all/weft.deb"
cd "$root/all"
mount -t proc proc proc
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir changed
mount --bind "$root/changed" changed
mount --rbind /dev dev
mount --rbind /sys sys
ip link set lo up
exec chroot . sh -euc "exec 2>&1; $script"
"#;

/// What `script` prints when it is run as root in a fresh root, with networks and processes of its own.
fn in_fresh_root(name: &str, script: &str) -> String {
    let package = std::env::var_os("WEFT_PACKAGE").map(PathBuf::from);
    let package = package.expect("the package in WEFT_PACKAGE: 'cargo xtask test package' builds it");
    let root = std::env::temp_dir().join(format!("weft-package-{name}-{}", std::process::id()));
    std::fs::create_dir(&root).unwrap();
    let output = Command::new("timeout")
        .args(["-s", "KILL", DEADLINE, "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"])
        .args(["--propagation", "private", "sh", "-c", ENTER])
        .env("root", &root)
        .env("package", package)
        .env("script", script)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    std::fs::remove_dir(&root).unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{}: {text}", output.status);
    text
}

#[test]
fn a_package_is_installed_and_its_daemon_answers() {
    let seen = in_fresh_root(
        "installed",
        r#"
        groupdel docker || true
        dpkg -i /weft.deb
        dpkg --verify weft
        echo "group $(getent group docker | cut -d: -f1)"
        weftd --validate
        weft --version
        weftd >/tmp/log 2>&1 &
        daemon=$!
        for try in $(seq 100); do [ -S /run/weft.sock ] && break; sleep 0.1; done
        stat -c 'socket %U %G %a' /run/weft.sock
        weft version
        weft network ls
        kill $daemon
        wait $daemon || cat /tmp/log
        "#,
    );
    let version = env!("CARGO_PKG_VERSION");
    for line in
        ["group docker", "configuration OK", &format!("weft {version}"), "socket root docker 660", "Server:"]
    {
        assert!(seen.lines().any(|seen| seen == line), "no line {line:?} in {seen}");
    }
    assert_eq!(seen.matches(&format!("{version}\n")).count(), 3, "{seen}");
    assert!(seen.lines().any(|line| line.contains("bridge") && line.ends_with("local")), "{seen}");
}

#[test]
fn its_units_pages_and_completions_are_as_their_readers_want_them() {
    let seen = in_fresh_root(
        "read",
        r#"
        dpkg -i /weft.deb
        echo "units"
        systemd-analyze verify --man=no /usr/lib/systemd/system/weft.service /usr/lib/systemd/system/weft.socket 2>&1
        echo "verified"
        for unit in weft.service weft.socket; do echo "$unit $(systemctl --root=/ is-enabled $unit)"; done
        bash -nc '. /usr/share/bash-completion/completions/weft; . /usr/share/bash-completion/completions/weftd'
        bash -c '. /usr/share/bash-completion/completions/weft; COMP_WORDS=(weft netw); COMP_CWORD=1; _weft weft netw weft
            echo "completes ${COMPREPLY[*]}"'
        head -1 /usr/share/zsh/vendor-completions/_weft /usr/share/zsh/vendor-completions/_weftd
        grep -c 'complete -c weft' /usr/share/fish/vendor_completions.d/weft.fish
        ls /usr/share/man/man1 /usr/share/man/man8 | grep weft
        gzip -dc /usr/share/man/man1/weft-network-create.1.gz | grep -c subnet
        "#,
    );
    let has = |line: &str| seen.lines().any(|seen| seen == line);
    for line in [
        "verified",
        "weft.service enabled",
        "weft.socket enabled",
        "completes network",
        "#compdef weft",
        "#compdef weftd",
        "weft-run.1.gz",
        "weftd.8.gz",
    ] {
        assert!(has(line), "no line {line:?} in {seen}");
    }
    assert!(seen.contains("units\nverified\n"), "systemd has something to say of the units: {seen}");
}

#[test]
fn what_is_removed_leaves_data_and_what_is_purged_says_so() {
    let seen = in_fresh_root(
        "purged",
        r#"
        dpkg -i /weft.deb
        mkdir -p /var/lib/weft/engine/volumes/v
        echo mine > /var/lib/weft/engine/volumes/v/file
        echo '{"debug": true}' > /etc/weft/daemon.json
        echo "--- again"
        dpkg -i --force-confold /weft.deb
        cat /etc/weft/daemon.json
        DPKG_MAINTSCRIPT_PACKAGE=weft sh /var/lib/dpkg/info/weft.postinst configure 0.0.1
        echo "--- removed"
        dpkg --remove weft
        ls /etc/weft /var/lib/weft/engine/volumes/v
        echo "--- purged"
        dpkg --purge weft
        echo "--- left"
        rm /weft.deb
        cd /changed
        find . -name '*weft*' ! -type c | grep -v '^./changed\|^./var/log' | sort
        echo "--- said of it"
        grep -l weft var/lib/dpkg/status || echo nothing
        "#,
    );
    let part = |name: &str| {
        let from = seen.split(&format!("--- {name}\n")).nth(1).unwrap_or_default();
        from.split("--- ").next().unwrap_or_default().to_owned()
    };
    assert!(part("again").contains(r#"{"debug": true}"#), "{seen}");
    assert!(part("removed").contains("daemon.json") && part("removed").contains("file"), "{seen}");
    assert!(seen.contains("weft: /var/lib/weft stays") && !seen.contains("weft: /etc/weft stays"), "{seen}");
    assert_eq!(part("left").trim(), "./var/lib/weft", "{seen}");
    assert_eq!(part("said of it").trim(), "nothing", "{seen}");
}
