//! The kernel of the virtual machine: Debian's for clouds, which is small and has what containers use as modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use crate::run::run;

/// The package that depends on the newest one.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// Folders of modules that checks may need; the rest are drivers of hardware that is not there.
const MODULES: &[&str] =
    &["net", "crypto", "lib", "arch/x86/crypto", "fs/overlayfs", "drivers/net", "drivers/block", "net/sched"];
/// Below those: hardware again, and large.
const NOT_NEEDED: &[&str] = &["drivers/net/ethernet", "drivers/net/wireless", "drivers/net/hyperv"];

/// A kernel and an archive with its modules, unpacked below the cache.
pub(super) struct Kernel {
    pub(super) image: PathBuf,
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// The cached kernel, or a fresh one from the machine's package sources. Delete the folder to get a newer one.
    pub(super) fn get(cache: &Path) -> Result<Self> {
        let dir = cache.join("kernel");
        if !dir.exists() {
            fs::create_dir_all(cache).with_context(|| format!("make {}", cache.display()))?;
            fetch(&dir)?;
        }
        Ok(Self { image: dir.join("vmlinuz"), modules: dir.join("modules.cpio") })
    }
}

/// Downloads and unpacks beside `dir` and renames, so that `dir` is there whole or not at all.
fn fetch(dir: &Path) -> Result<()> {
    let partial = dir.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
    }
    let unpacked = partial.join("package");
    fs::create_dir_all(&unpacked).with_context(|| format!("make {}", unpacked.display()))?;
    let package = newest_package()?;
    println!("fetching {package}");
    // As root without apt's sandbox user, who may not be able to write here.
    let no_sandbox = ["-o", "APT::Sandbox::User=root", "-qq", "download"];
    run(Command::new("apt-get").args(no_sandbox).arg(&package).current_dir(&partial))?;
    let deb = only_entry(&partial, |name| name.ends_with(".deb"))?;
    run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&unpacked))?;
    let image = only_entry(&unpacked.join("boot"), |name| name.starts_with("vmlinuz-"))?;
    fs::rename(&image, partial.join("vmlinuz")).context("take the kernel out of its package")?;
    pack_modules(&unpacked, &partial.join("modules.cpio"))?;
    fs::remove_dir_all(&unpacked).context("remove the unpacked package")?;
    fs::remove_file(&deb).context("remove the package")?;
    fs::rename(&partial, dir).with_context(|| format!("rename to {}", dir.display()))
}

/// What the meta package depends on, by the machine's package lists.
fn newest_package() -> Result<String> {
    let ask = || {
        let output = Command::new("apt-cache").args(["depends", META_PACKAGE]).output();
        let output = output.context("ask apt-cache for a kernel")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let name = text.lines().filter_map(|l| l.trim().strip_prefix("Depends: ")).next().map(str::to_owned);
        Ok::<_, anyhow::Error>(name)
    };
    if let Some(name) = ask()? {
        return Ok(name);
    }
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    ask()?.with_context(|| {
        format!("the machine's package sources have no {META_PACKAGE}: add a Debian suite to /etc/apt/sources.list")
    })
}

fn pack_modules(unpacked: &Path, archive: &Path) -> Result<()> {
    // Debian 13 moved them below /usr.
    let above = ["lib/modules", "usr/lib/modules"].map(|p| unpacked.join(p));
    let Some(above) = above.iter().find(|p| p.exists()) else {
        bail!("the kernel's package has no modules");
    };
    let versions = only_entry(above, |_| true)?;
    let version = versions.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let tree = versions.join("kernel");
    let mut files = Vec::new();
    for folder in MODULES {
        collect(&tree.join(folder), &mut files)?;
    }
    files.sort();
    files.dedup();
    files.retain(|f| !NOT_NEEDED.iter().any(|folder| f.starts_with(tree.join(folder))));
    // A tree with only these, so that depmod knows no others.
    let root = unpacked.join("modules-only");
    let home = Path::new("lib/modules").join(&version);
    for file in &files {
        let to = root.join(&home).join(file.strip_prefix(&versions)?);
        fs::create_dir_all(to.parent().context("a module's folder")?)?;
        fs::copy(file, &to).with_context(|| format!("copy {}", file.display()))?;
        uncompress(&to)?;
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        fs::copy(versions.join(list), root.join(&home).join(list)).with_context(|| format!("copy {list}"))?;
    }
    run(Command::new("depmod").arg("-b").arg(&root).arg(&version))?;
    let out = fs::File::create(archive).with_context(|| format!("create {}", archive.display()))?;
    let mut out = Archive::new(std::io::BufWriter::new(out));
    for folder in ["lib", "lib/modules"] {
        out.directory(folder)?;
    }
    add_tree(&mut out, &root, &root.join(&home))?;
    out.finish()?;
    Ok(())
}

/// The loader in the virtual machine reads plain files only.
fn uncompress(module: &Path) -> Result<()> {
    let tool = match module.extension().and_then(|e| e.to_str()) {
        Some("xz") => "unxz",
        Some("zst") => "unzstd",
        Some("gz") => "gunzip",
        _ => return Ok(()),
    };
    let mut command = Command::new(tool);
    if tool == "unzstd" {
        command.args(["-q", "--rm"]);
    }
    run(command.arg(module))
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let path = entry.with_context(|| format!("read {}", dir.display()))?.path();
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

fn add_tree<W: std::io::Write>(out: &mut Archive<W>, root: &Path, dir: &Path) -> Result<()> {
    let inside = |path: &Path| Ok::<_, anyhow::Error>(path.strip_prefix(root)?.display().to_string());
    out.directory(&inside(dir)?)?;
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            add_tree(out, root, &path)?;
        } else {
            out.file(&inside(&path)?, 0o644, &fs::read(&path)?)?;
        }
    }
    Ok(())
}

/// The one entry of a folder whose name fits.
fn only_entry(dir: &Path, fits: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let mut found = entries.flatten().filter(|e| fits(&e.file_name().to_string_lossy())).map(|e| e.path());
    match (found.next(), found.next()) {
        (Some(path), None) => Ok(path),
        (first, _) => bail!(
            "{} entries where one was expected in {}",
            if first.is_none() { "no" } else { "several" },
            dir.display()
        ),
    }
}
