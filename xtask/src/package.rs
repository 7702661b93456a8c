//! `cargo xtask package`: a Debian package of the binary, its units, settings, completions and manual pages.
//!
//! The tree is made here and packed by `dpkg-deb`, which every Debian has; what libraries the binary needs is told by
//! `dpkg-shlibdeps`. Two builds of one commit are the same bytes: times come from `SOURCE_DATE_EPOCH`, or from the
//! commit, and owners and modes from here.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::demo::{Profile, build_weft};
use crate::packages;
use crate::run::{Counts, cargo, root, run, run_tests, target};

const SERVICE: &str = include_str!("../package/weft.service");
const SOCKET: &str = include_str!("../package/weft.socket");
const SETTINGS: &str = include_str!("../package/daemon.json");
const COPYRIGHT: &str = include_str!("../package/copyright");
const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", include_str!("../package/postinst")),
    ("prerm", include_str!("../package/prerm")),
    ("postrm", include_str!("../package/postrm")),
];
const UNITS: &str = "usr/lib/systemd/system";
const DESCRIPTION: &str = "Docker's overlay networking and swarm, as one binary
 Weft runs containers and joins those of many hosts into private networks,
 behind the Docker Engine API. It shares swarms with Docker's nodes.";
/// Modes of what is packed.
const PROGRAM: u32 = 0o755;
const DATA: u32 = 0o644;

/// How a package is packed: small for users, quickly for tests.
#[derive(Clone, Copy)]
enum Packing {
    Small,
    Quick,
}

/// `cargo xtask package`: builds what is shipped.
pub(crate) fn package(args: &[&str]) -> Result<()> {
    let (profile, packing) = match args {
        [] => (Profile::Dist, Packing::Small),
        ["--debug"] => (Profile::Debug, Packing::Quick),
        _ => bail!("package takes --debug, not {}", args.join(" ")),
    };
    packages::for_package()?;
    let weft = build_weft(profile)?;
    let file = build(&weft, &target().join("package"), packing)?;
    println!("\n{}  (install it with: apt install {0})", file.display());
    Ok(())
}

/// Builds the package of the debug binary twice, which must be the same, and has it installed and removed.
pub(crate) fn checks(counts: &mut Counts) -> Result<()> {
    let weft = crate::demo::build_daemon()?;
    let folders = ["package", "package-again"].map(|name| target().join("debug").join(name));
    let [file, again] = [&folders[0], &folders[1]].map(|folder| build(&weft, folder, Packing::Quick));
    let (file, again) = (file?, again?);
    if fs::read(&file)? != fs::read(&again)? {
        bail!("{} and {} differ, and must not", file.display(), again.display());
    }
    fs::remove_dir_all(&folders[1]).context("remove the second package")?;
    let args = ["test", "--no-fail-fast", "--package", "weft-e2e", "--test", "package"];
    run_tests(cargo(&args).env("WEFT_PACKAGE", file), counts)
}

/// Makes the package of a built binary in a folder of its own; what was in there before goes.
fn build(weft: &Path, folder: &Path, packing: Packing) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    let tree = Tree(folder.join("tree"));
    tree.program(weft)?;
    tree.text(&format!("{UNITS}/weft.service"), SERVICE, DATA)?;
    tree.text(&format!("{UNITS}/weft.socket"), SOCKET, DATA)?;
    tree.text("etc/weft/daemon.json", SETTINGS, DATA)?;
    tree.text("usr/share/doc/weft/copyright", COPYRIGHT, DATA)?;
    tree.compressed("usr/share/doc/weft/changelog.gz", &fs::read(root().join("CHANGELOG.md"))?)?;
    tree.completions(weft)?;
    tree.pages(weft, &folder.join("pages"))?;
    tree.control(&architecture()?, &libraries(weft, &folder.join("libraries"))?)?;
    let file = folder.join(format!("weft_{}_{}.deb", env!("CARGO_PKG_VERSION"), architecture()?));
    let compression: &[&str] = match packing {
        Packing::Small => &["-Zxz"],
        Packing::Quick => &["-Zgzip", "-z1"],
    };
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--root-owner-group"]).args(compression).arg("--build").arg(&tree.0).arg(&file);
    run(pack.env("SOURCE_DATE_EPOCH", epoch()?))?;
    fs::remove_dir_all(&tree.0).context("remove what was packed")?;
    Ok(file)
}

/// The files of a package.
struct Tree(PathBuf);

impl Tree {
    /// Where a file goes; its folders are made.
    fn place(&self, path: &str) -> Result<PathBuf> {
        let file = self.0.join(path);
        let folder = file.parent().context("a file's folder")?;
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        // Whatever the user's umask says.
        for above in folder.ancestors().take_while(|above| above.starts_with(&self.0)) {
            fs::set_permissions(above, fs::Permissions::from_mode(PROGRAM))?;
        }
        Ok(file)
    }

    fn bytes(&self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let file = self.place(path)?;
        fs::write(&file, bytes).with_context(|| format!("write {}", file.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    fn text(&self, path: &str, text: &str, mode: u32) -> Result<()> {
        self.bytes(path, text.as_bytes(), mode)
    }

    /// Without name and time inside, so that it is always the same.
    fn compressed(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let plain = self.place(path)?.with_extension("");
        fs::write(&plain, bytes).with_context(|| format!("write {}", plain.display()))?;
        fs::set_permissions(&plain, fs::Permissions::from_mode(DATA))?;
        run(Command::new("gzip").args(["-9n"]).arg(&plain))
    }

    /// The binary under both names, without what only debuggers read.
    fn program(&self, weft: &Path) -> Result<()> {
        let file = self.place("usr/bin/weft")?;
        run(Command::new("strip").args(["--strip-unneeded", "-o"]).arg(&file).arg(weft))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(PROGRAM))?;
        symlink("weft", self.place("usr/bin/weftd")?).context("link weftd to weft")
    }

    fn completions(&self, weft: &Path) -> Result<()> {
        for (shell, folder, before, after) in [
            ("bash", "usr/share/bash-completion/completions", "", ""),
            ("zsh", "usr/share/zsh/vendor-completions", "_", ""),
            ("fish", "usr/share/fish/vendor_completions.d", "", ".fish"),
        ] {
            for (name, flags) in [("weft", &[][..]), ("weftd", &["--daemon"])] {
                let script = output(Command::new(weft).args(["completion", shell]).args(flags))?;
                self.text(&format!("{folder}/{before}{name}{after}"), &script, DATA)?;
            }
        }
        Ok(())
    }

    /// The manual, which the binary writes itself.
    fn pages(&self, weft: &Path, scratch: &Path) -> Result<()> {
        run(Command::new(weft).arg("man").arg(scratch))?;
        for entry in fs::read_dir(scratch).with_context(|| format!("read {}", scratch.display()))? {
            let page = entry?.path();
            let name = page.file_name().context("a page's name")?.to_string_lossy().into_owned();
            let section = name.rsplit('.').next().unwrap_or_default();
            self.compressed(&format!("usr/share/man/man{section}/{name}.gz"), &fs::read(&page)?)?;
        }
        fs::remove_dir_all(scratch).context("remove the pages")
    }

    fn control(&self, architecture: &str, libraries: &str) -> Result<()> {
        let size: u64 = self.files()?.iter().map(|file| fs::metadata(file).map_or(0, |m| m.len())).sum();
        let text = format!(
            "Package: weft\nVersion: {}\nArchitecture: {architecture}\nMaintainer: The Weft developers <weft@weft.invalid>\n\
             Installed-Size: {}\nDepends: {libraries}, nftables, passwd, procps\n\
             Recommends: apparmor, ca-certificates, kmod\nSection: admin\nPriority: optional\nDescription: {DESCRIPTION}\n",
            env!("CARGO_PKG_VERSION"),
            size.div_ceil(1024),
        );
        let sums = self.sums()?;
        self.text("DEBIAN/control", &text, DATA)?;
        self.text("DEBIAN/md5sums", &sums, DATA)?;
        self.text("DEBIAN/conffiles", "/etc/weft/daemon.json\n", DATA)?;
        SCRIPTS.iter().try_for_each(|(name, text)| self.text(&format!("DEBIAN/{name}"), text, PROGRAM))
    }

    /// What `dpkg --verify` compares with: all but the settings, which are their administrator's.
    fn sums(&self) -> Result<String> {
        let mut sums = String::new();
        for file in self.files()? {
            let path = file.strip_prefix(&self.0)?.to_string_lossy().into_owned();
            if !path.starts_with("etc/") {
                let sum = output(Command::new("md5sum").arg(&file))?;
                writeln!(sums, "{}  {path}", sum.split_whitespace().next().unwrap_or_default())?;
            }
        }
        Ok(sums)
    }

    /// Plain files, in the order of their names.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let (mut found, mut folders) = (Vec::new(), vec![self.0.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
                let entry = entry?;
                match entry.file_type()? {
                    kind if kind.is_dir() => folders.push(entry.path()),
                    kind if kind.is_file() => found.push(entry.path()),
                    _ => {}
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Debian's name for this machine's kind.
fn architecture() -> Result<String> {
    Ok(output(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned())
}

/// The packages of the libraries that the binary is linked with.
fn libraries(weft: &Path, scratch: &Path) -> Result<String> {
    fs::create_dir_all(scratch.join("debian")).context("make a folder for dpkg-shlibdeps")?;
    fs::write(scratch.join("debian/control"), "Source: weft\n\nPackage: weft\nArchitecture: any\n")?;
    let weft = fs::canonicalize(weft).with_context(|| format!("find {}", weft.display()))?;
    let found = output(Command::new("dpkg-shlibdeps").arg("-O").arg(weft).current_dir(scratch))?;
    fs::remove_dir_all(scratch).context("remove the folder of dpkg-shlibdeps")?;
    let list = found.trim().strip_prefix("shlibs:Depends=").context("the answer of dpkg-shlibdeps")?;
    Ok(list.to_owned())
}

/// Seconds since 1970 that stand as time on all files: as asked for, or of the commit.
fn epoch() -> Result<String> {
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let asked = output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root()));
    let epoch = asked.context("set SOURCE_DATE_EPOCH where there is no commit to take the time from")?;
    Ok(epoch.trim().to_owned())
}

/// What a program prints; one that fails is an error.
fn output(command: &mut Command) -> Result<String> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.with_context(|| format!("start {shown}"))?;
    if !output.status.success() {
        bail!("{shown}: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("read the output of {shown}"))
}
