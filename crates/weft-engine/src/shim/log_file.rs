//! The log of a container in Docker's json-file format, one object per line:
//! `{"log":"text\n","stream":"stdout","time":"2026-11-21T04:26:00.123456789Z"}`.
//!
//! Lines longer than [`LINE_MAX`] are split; a part without newline at its end continues. Written by the shim, so the
//! log goes on while the daemon is away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::bundle::LogConfig;

/// Docker splits longer lines (`daemon/logger/copier.go`, 16 KiB).
pub(crate) const LINE_MAX: usize = 16 * 1024;

/// An open log with the lines that are not complete yet.
pub(crate) struct LogFile {
    config: LogConfig,
    file: File,
    size: u64,
    partial: [Vec<u8>; 2],
    encoded: Vec<u8>,
}

impl LogFile {
    pub(crate) fn open(config: LogConfig) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o640).open(&config.path)?;
        let size = file.metadata()?.len();
        Ok(Self { config, file, size, partial: [Vec::new(), Vec::new()], encoded: Vec::new() })
    }

    /// Takes output: `stream` 0 is standard output, 1 standard error.
    pub(crate) fn write(&mut self, stream: usize, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let room = LINE_MAX - self.partial[stream].len();
            let newline = data.iter().take(room).position(|byte| *byte == b'\n');
            let take = newline.map_or(room.min(data.len()), |at| at + 1);
            self.partial[stream].extend_from_slice(&data[..take]);
            data = &data[take..];
            if newline.is_some() || self.partial[stream].len() == LINE_MAX {
                self.flush_line(stream)?;
            }
        }
        Ok(())
    }

    /// Writes what is left of unfinished lines.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.flush_line(0)?;
        self.flush_line(1)
    }

    fn flush_line(&mut self, stream: usize) -> io::Result<()> {
        if self.partial[stream].is_empty() {
            return Ok(());
        }
        self.encoded.clear();
        let name = if stream == 0 { "stdout" } else { "stderr" };
        let time = jiff::Timestamp::now();
        encode(&mut self.encoded, &self.partial[stream], name, &time.to_string());
        self.partial[stream].clear();
        self.rotate_if_full()?;
        self.file.write_all(&self.encoded)?;
        self.size += self.encoded.len() as u64;
        Ok(())
    }

    fn rotate_if_full(&mut self) -> io::Result<()> {
        if self.config.max_size.is_none_or(|max| self.size < max) {
            return Ok(());
        }
        for number in (1..self.config.max_files).rev() {
            let older = self.numbered(number);
            let newer = self.numbered(number - 1);
            match fs::rename(newer, older) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.config.max_files <= 1 {
            // A reader that follows sees a new inode, as with several files.
            fs::remove_file(&self.config.path)?;
        }
        self.file = OpenOptions::new().create(true).append(true).mode(0o640).open(&self.config.path)?;
        self.size = 0;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.config.path.clone();
        }
        let mut name = self.config.path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

/// Writes one line. Bytes that are no UTF-8 become U+FFFD, as Go's encoder does it.
fn encode(out: &mut Vec<u8>, text: &[u8], stream: &str, time: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    for chunk in text.utf8_chunks() {
        escape(out, chunk.valid());
        for _ in chunk.invalid() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(b"\",\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

fn escape(out: &mut Vec<u8>, text: &str) {
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            // Go escapes these so that the text is safe inside HTML and JavaScript.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{0}'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", character as u32);
            }
            _ => {
                let mut buffer = [0; 4];
                out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &tempfile::TempDir, max_size: Option<u64>, max_files: u32) -> LogFile {
        LogFile::open(LogConfig { path: dir.path().join("c-json.log"), max_size, max_files }).unwrap()
    }

    fn lines(dir: &tempfile::TempDir, name: &str) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(dir.path().join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn lines_are_whole_and_split_at_16_kib() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(&dir, None, 1);
        log.write(0, b"hel").unwrap();
        log.write(1, b"err\n").unwrap();
        log.write(0, b"lo <&>\"\\\x01\xff\n").unwrap();
        log.write(0, &vec![b'x'; LINE_MAX + 10]).unwrap();
        log.finish().unwrap();
        let lines = lines(&dir, "c-json.log");
        assert_eq!(lines[0]["log"], "err\n");
        assert_eq!(lines[0]["stream"], "stderr");
        assert_eq!(lines[1]["log"], "hello <&>\"\\\u{1}\u{fffd}\n");
        assert_eq!(lines[2]["log"].as_str().unwrap().len(), LINE_MAX);
        assert_eq!(lines[3]["log"], "xxxxxxxxxx");
        let raw = fs::read_to_string(dir.path().join("c-json.log")).unwrap();
        assert!(raw.contains("\\u003c\\u0026\\u003e"));
    }

    #[test]
    fn rotation_keeps_the_configured_number_of_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(&dir, Some(200), 3);
        for number in 0..40 {
            log.write(0, format!("line {number}\n").as_bytes()).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["c-json.log", "c-json.log.1", "c-json.log.2"]);
        assert_eq!(lines(&dir, "c-json.log").last().unwrap()["log"], "line 39\n");
    }
}
