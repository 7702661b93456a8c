//! Debian's `docker-registry` on a loopback port, with a folder of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::SampleImage;
use super::sample::{INDEX, MANIFEST, digest};
use crate::support::eventually;

/// `ann` with the password `secret`, bcrypt: the only kind that the registry reads.
const PASSWORDS: &str = "ann:$2y$05$aR/pv9rPdmxpUSv7H5/Bxew0Q6sKFLJafVhSYtmwZ.Ml8xNyFBL8W\n";
const CREDENTIALS: &str = "Authorization: Basic YW5uOnNlY3JldA==\r\n";

/// Ends with the value.
pub(crate) struct DebianRegistry {
    process: Child,
    address: SocketAddr,
    protected: bool,
    _dir: tempfile::TempDir,
}

impl DebianRegistry {
    /// One that everybody may use, or only `ann`.
    pub(crate) async fn start(protected: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("weft-registry-").tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let passwords = dir.path().join("passwords");
        std::fs::write(&passwords, PASSWORDS).unwrap();
        let auth = match protected {
            true => format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", passwords.display()),
            false => String::new(),
        };
        let config = dir.path().join("config.yml");
        let storage = dir.path().join("storage");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{auth}",
                storage.display()
            ),
        )
        .unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry of Debian's package docker-registry");
        eventually(|| TcpStream::connect(address).ok()).await;
        Self { process, address, protected, _dir: dir }
    }

    /// `127.0.0.1:port/repository`.
    pub(crate) fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    /// Uploads an image under a tag.
    pub(crate) fn push(&self, repository: &str, tag: &str, image: &SampleImage) {
        for blob in image.blobs() {
            let started = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[]);
            let location = header(&started, "location");
            let path = location
                .split_once("://")
                .map_or(location.as_str(), |(_, rest)| &rest[rest.find('/').unwrap()..]);
            let separator = if path.contains('?') { '&' } else { '?' };
            self.send(
                "PUT",
                &format!("{path}{separator}digest={}", digest(blob)),
                "application/octet-stream",
                blob,
            );
        }
        self.push_manifest(repository, tag, &image.manifest, MANIFEST);
    }

    /// Puts a list of images, which are there, under a tag.
    pub(crate) fn push_index(&self, repository: &str, tag: &str, index: &[u8]) {
        self.push_manifest(repository, tag, index, INDEX);
    }

    /// The manifest under a tag.
    pub(crate) fn manifest(&self, repository: &str, tag: &str) -> Vec<u8> {
        let answer = self.send("GET", &format!("/v2/{repository}/manifests/{tag}"), "", &[]);
        answer.split_once("\r\n\r\n").unwrap().1.as_bytes().to_vec()
    }

    fn push_manifest(&self, repository: &str, tag: &str, bytes: &[u8], media_type: &str) {
        self.send("PUT", &format!("/v2/{repository}/manifests/{tag}"), media_type, bytes);
    }

    /// One request; the head of its answer, which has to be a success.
    fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> String {
        let credentials = if self.protected { CREDENTIALS } else { "" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{credentials}Accept: {MANIFEST}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
        answer
    }
}

fn header(answer: &str, name: &str) -> String {
    let mut lines = answer.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).unwrap().1.to_owned()
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
