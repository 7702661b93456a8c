//! Everything that passes an interface.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use weft_lab::{Host, eventually};

/// Time for the program to begin.
const SOON: Duration = Duration::from_secs(10);

/// A recording in a file, which goes on as long as this value.
#[derive(Debug)]
pub struct Recording {
    child: Child,
    file: PathBuf,
}

impl Recording {
    /// Begins one, named `name` on its host.
    ///
    /// # Panics
    /// When it does not begin.
    pub fn start(host: &Host, interface: &str, name: &str) -> Self {
        let file = host.dir.join(format!("{name}.pcap"));
        let mut command = host.command("tcpdump");
        command
            .args(["-Z", "root", "--immediate-mode", "-U", "-s", "0", "-B", "65536", "-i", interface, "-w"])
            .arg(&file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        eventually("the recording", SOON, || if file.exists() { Ok(()) } else { Err("no file") });
        Self { child: child.expect("tcpdump"), file }
    }

    /// The file as it is now (format: pcap).
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.file).expect("the recording")
    }

    /// Which of these words can be read in it.
    pub fn readable<'a>(&self, words: &[(&'a str, &[u8])]) -> Vec<&'a str> {
        let bytes = self.bytes();
        let has = |words: &[u8]| {
            bytes.iter().enumerate().any(|(at, byte)| *byte == words[0] && bytes[at..].starts_with(words))
        };
        words.iter().filter(|(_, words)| has(words)).map(|(name, _)| *name).collect()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
