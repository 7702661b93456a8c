//! Debian's `docker-registry` on a host of the lab, filled without a push: its folder has a documented layout.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use weft_lab::{Host, eventually};

/// `ann` with the password `secret`, bcrypt: the only kind that the registry reads.
const PASSWORDS: &str = "ann:$2y$05$aR/pv9rPdmxpUSv7H5/Bxew0Q6sKFLJafVhSYtmwZ.Ml8xNyFBL8W\n";
const SOON: Duration = Duration::from_secs(10);

/// A registry; it ends with the value.
pub struct Registry {
    process: Child,
    dir: PathBuf,
    address: String,
}

impl Registry {
    /// Listens inside the host at `address` (`ip:port`); when protected only for the user `ann`, password `secret`.
    ///
    /// # Panics
    /// When it does not start: the package `docker-registry` is needed.
    pub fn start(host: &Host, address: &str, protected: bool) -> Self {
        let dir = host.dir.join(format!("registry-{}", address.replace(':', "-")));
        std::fs::create_dir_all(dir.join("storage")).expect("make the registry's folder");
        let passwords = dir.join("passwords");
        std::fs::write(&passwords, PASSWORDS).expect("write passwords");
        let auth = match protected {
            true => format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", passwords.display()),
            false => String::new(),
        };
        let storage = dir.join("storage");
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{auth}",
            storage.display()
        );
        let file = dir.join("config.yml");
        std::fs::write(&file, config).expect("write the registry's configuration");
        let mut command = host.command("docker-registry");
        command.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("start docker-registry");
        let ask = format!("busybox wget -q -O /dev/null http://{address}/");
        eventually("the registry listens", SOON, || host.sh(&ask));
        Self { process, dir, address: address.to_owned() }
    }

    /// `address/repository:tag`.
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// Puts the one image of an archive of `docker save` under `repository:tag`; the digest of its manifest.
    ///
    /// # Panics
    /// When the archive is not what `docker save` writes.
    pub fn put(&self, archive: &Path, repository: &str, tag: &str) -> String {
        let unpacked = self.dir.join("unpacked");
        let _ = std::fs::remove_dir_all(&unpacked);
        std::fs::create_dir_all(&unpacked).expect("make a folder");
        let status = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&unpacked).status();
        assert!(status.expect("run tar").success(), "unpack {}", archive.display());
        let index = json(&unpacked.join("index.json"));
        let manifest = digest(&index["manifests"][0]);
        let blob = |digest: &str| unpacked.join("blobs/sha256").join(hex(digest));
        let parts = json(&blob(&manifest));
        let root = self.dir.join("storage/docker/registry/v2");
        let own = root.join("repositories").join(repository);
        let layers = parts["layers"].as_array().expect("layers").iter().chain([&parts["config"]]).map(digest);
        for part in layers.chain([manifest.clone()]) {
            let place = root.join("blobs/sha256").join(&hex(&part)[..2]).join(hex(&part));
            std::fs::create_dir_all(&place).expect("make a folder");
            std::fs::copy(blob(&part), place.join("data")).expect("copy a blob");
            link(&own.join("_layers/sha256").join(hex(&part)), &part);
        }
        link(&own.join("_manifests/revisions/sha256").join(hex(&manifest)), &manifest);
        link(&own.join("_manifests/tags").join(tag).join("current"), &manifest);
        link(&own.join("_manifests/tags").join(tag).join("index/sha256").join(hex(&manifest)), &manifest);
        manifest
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("read a document")).expect("JSON")
}

fn digest(descriptor: &Value) -> String {
    descriptor["digest"].as_str().expect("a digest").to_owned()
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").expect("SHA-256")
}

fn link(dir: &Path, digest: &str) {
    std::fs::create_dir_all(dir).expect("make a folder");
    std::fs::write(dir.join("link"), digest).expect("write a link");
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
