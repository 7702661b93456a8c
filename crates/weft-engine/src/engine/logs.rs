//! Reading a container's json-file log, with rotation, and following it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::inotify;
use serde::Deserialize;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use super::{Engine, Result};
use crate::container::live::Life;
use crate::error::EngineError;
use crate::options::{LogOptions, LogStream, StreamKind};

/// Lines that may wait for a slow reader.
const DEPTH: usize = 64;
/// Longest line of a log file: 16 KiB of text, each byte escaped.
const ENTRY_MAX: u64 = 1 << 20;
/// Old files that a log may have.
const FILES_MAX: u32 = 1000;
/// A rotation gives one file after the other a higher number, the oldest first: meanwhile a number is nobody's, and who
/// counts up meanwhile may meet more than one such. So many in a row are the end.
const GAP: usize = 3;

impl Engine {
    /// Reads its log.
    pub async fn logs(&self, term: &str, options: LogOptions) -> Result<LogStream> {
        let container = self.find(term)?;
        if !options.stdout && !options.stderr {
            return Err(EngineError::Invalid(
                "Bad parameters: you must choose at least one stream".to_owned(),
            ));
        }
        let (driver, tty) = container
            .with(|record| (record.host.log_config.as_ref().and_then(|log| log.typ.clone()), record.tty()));
        if driver.as_deref() == Some("none") {
            return Err(EngineError::NotImplemented(
                "configured logging driver does not support reading".to_owned(),
            ));
        }
        let (sender, mut receiver) = mpsc::channel(DEPTH);
        let reader = Reader {
            options,
            cursor: Cursor::new(container.log_path()),
            sender,
            life: container.life.subscribe(),
            skipped_past: false,
        };
        tokio::spawn(reader.run());
        let output = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        Ok(LogStream { output: Box::pin(output), tty })
    }
}

/// One line of the file. Foreign enough: another program may have written to it.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    time: String,
}

struct Reader {
    options: LogOptions,
    cursor: Cursor,
    sender: mpsc::Sender<std::io::Result<(StreamKind, Bytes)>>,
    life: watch::Receiver<Life>,
    /// A line after `until` was seen: nothing more can come.
    skipped_past: bool,
}

impl Reader {
    async fn run(mut self) {
        if let Err(error) = self.read().await {
            let _ = self.sender.send(Err(error)).await;
        }
    }

    async fn read(&mut self) -> std::io::Result<()> {
        // Watched before reading: nothing falls between the two.
        let changes = if self.options.follow { Some(watch_directory(&self.cursor.path)?) } else { None };
        if let Some(count) = self.options.tail {
            self.send_tail(count).await?;
        }
        loop {
            // Asked before the last read: what was written before the end is then read.
            let running = self.life.borrow_and_update().running;
            while let Some(entry) = self.cursor.next()? {
                self.send(&entry).await;
                if self.sender.is_closed() {
                    return Ok(());
                }
            }
            let Some(changes) = changes.as_ref().filter(|_| running && !self.skipped_past) else {
                return Ok(());
            };
            tokio::select! {
                ready = changes.readable() => drain(changes, ready?)?,
                changed = self.life.changed() => if changed.is_err() { return Ok(()) },
                () = self.sender.closed() => return Ok(()),
            }
        }
    }

    async fn send_tail(&mut self, count: usize) -> std::io::Result<()> {
        let mut last: VecDeque<Entry> = VecDeque::new();
        while let Some(entry) = self.cursor.next()? {
            if count > 0 && wanted(&entry, &self.options) {
                if last.len() == count {
                    last.pop_front();
                }
                last.push_back(entry);
            }
        }
        for entry in last {
            self.send(&entry).await;
        }
        Ok(())
    }

    async fn send(&mut self, entry: &Entry) {
        if is_after(&entry.time, self.options.until) {
            self.skipped_past = true;
        }
        if !wanted(entry, &self.options) {
            return;
        }
        let kind = if entry.stream == "stderr" { StreamKind::Stderr } else { StreamKind::Stdout };
        let mut text = String::new();
        if self.options.timestamps {
            // Docker pads the fraction to nine digits here.
            text.push_str(&padded(&entry.time));
            text.push(' ');
        }
        if self.options.details {
            text.push(' ');
        }
        text.push_str(&entry.log);
        let _ = self.sender.send(Ok((kind, Bytes::from(text)))).await;
    }
}

/// A place in a log that is written and rotated meanwhile. A file keeps its inode when it gets a higher number: that
/// tells which file comes next.
struct Cursor {
    path: PathBuf,
    current: Option<Current>,
}

struct Current {
    reader: BufReader<File>,
    inode: u64,
}

impl Cursor {
    fn new(path: PathBuf) -> Self {
        Self { path, current: None }
    }

    /// The next whole line, going over to the next file where one ends.
    fn next(&mut self) -> std::io::Result<Option<Entry>> {
        loop {
            if let Some(current) = &mut self.current
                && let Some(entry) = current.next()?
            {
                return Ok(Some(entry));
            }
            let Some(following) = self.open_following()? else { return Ok(None) };
            // Between the last look and the rotation more may have been written.
            if let Some(current) = &mut self.current
                && let Some(entry) = current.next()?
            {
                return Ok(Some(entry));
            }
            self.current = Some(following);
        }
    }

    /// Numbers and inodes of all files, newest first. One that gets a higher number meanwhile may be there twice.
    fn files(&self) -> Vec<(u32, u64)> {
        let (mut files, mut missing) = (Vec::new(), 0);
        for number in 0..FILES_MAX {
            match std::fs::metadata(self.numbered(number)) {
                Ok(metadata) => {
                    files.push((number, metadata.ino()));
                    missing = 0;
                }
                Err(_) => missing += 1,
            }
            if missing == GAP {
                break;
            }
        }
        files
    }

    fn numbered(&self, number: u32) -> PathBuf {
        if number == 0 {
            self.path.clone()
        } else {
            PathBuf::from(format!("{}.{number}", self.path.display()))
        }
    }

    /// The file after the current one; the oldest at the beginning, or when the current one has been dropped.
    fn open_following(&self) -> std::io::Result<Option<Current>> {
        for _ in 0..FILES_MAX {
            let before = self.files();
            let at = self
                .current
                .as_ref()
                .and_then(|current| before.iter().position(|(_, inode)| *inode == current.inode));
            let following = match at {
                Some(at) => at.checked_sub(1).and_then(|at| before.get(at)),
                None => before.last(),
            };
            let Some((number, inode)) = following else { return Ok(None) };
            let Some(found) = Current::open(&self.numbered(*number))? else { continue };
            // A rotation between looking and opening has moved the names: look again.
            if found.inode == *inode {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Current {
    fn open(path: &Path) -> std::io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                Ok(Some(Self { reader: BufReader::new(file), inode }))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next whole line; a half-written one is left for later.
    fn next(&mut self) -> std::io::Result<Option<Entry>> {
        loop {
            let position = self.reader.stream_position()?;
            let mut line = Vec::new();
            let count = (&mut self.reader).take(ENTRY_MAX).read_until(b'\n', &mut line)?;
            if count == 0 {
                return Ok(None);
            }
            if line.last() != Some(&b'\n') && (count as u64) < ENTRY_MAX {
                self.reader.seek(SeekFrom::Start(position))?;
                return Ok(None);
            }
            if let Ok(entry) = serde_json::from_slice(&line) {
                return Ok(Some(entry));
            }
        }
    }
}

fn wanted(entry: &Entry, options: &LogOptions) -> bool {
    let stream = if entry.stream == "stderr" { options.stderr } else { options.stdout };
    let since = options.since.filter(|since| *since != (0, 0));
    stream && !is_before(&entry.time, since) && !is_after(&entry.time, options.until)
}

fn instant(time: &str) -> Option<(i64, u32)> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Some((time.as_second(), u32::try_from(time.subsec_nanosecond()).unwrap_or(0)))
}

fn is_before(time: &str, bound: Option<(i64, u32)>) -> bool {
    bound.zip(instant(time)).is_some_and(|(bound, time)| time < bound)
}

fn is_after(time: &str, bound: Option<(i64, u32)>) -> bool {
    let bound = bound.filter(|until| *until != (0, 0));
    bound.zip(instant(time)).is_some_and(|(bound, time)| time > bound)
}

fn padded(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(time) => format!("{time:.9}"),
        Err(_) => time.to_owned(),
    }
}

fn watch_directory(path: &Path) -> std::io::Result<AsyncFd<OwnedFd>> {
    let notify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&notify, path.parent().unwrap_or(Path::new("/")), events)?;
    #[allow(
        deprecated,
        reason = "its successor is unsafe for types that could close their descriptor meanwhile; an OwnedFd in our hands cannot"
    )]
    AsyncFd::new(notify)
}

/// Takes all notices off the queue: they only say that something changed.
fn drain(
    notify: &AsyncFd<OwnedFd>,
    mut ready: tokio::io::unix::AsyncFdReadyGuard<'_, OwnedFd>,
) -> std::io::Result<()> {
    let mut buffer = [0u8; 4096];
    loop {
        match rustix::io::read(notify.get_ref(), &mut buffer) {
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => {
                ready.clear_ready();
                return Ok(());
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_of_time() {
        let entry = Entry { log: "x".into(), stream: "stdout".into(), time: "2026-11-21T04:26:00.5Z".into() };
        let second = instant("2026-11-21T04:26:00Z").unwrap().0;
        let with = |since, until| {
            wanted(&entry, &LogOptions { stdout: true, since, until, ..LogOptions::default() })
        };
        assert!(with(Some((second, 0)), None));
        assert!(!with(Some((second + 1, 0)), None));
        assert!(with(None, Some((second + 1, 0))));
        assert!(!with(None, Some((second, 0))));
        assert_eq!(padded("2026-11-21T04:26:00.5Z"), "2026-11-21T04:26:00.500000000Z");
    }

    #[test]
    fn the_oldest_comes_first_also_while_numbers_are_given_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let entry = |text: &str| format!("{{\"log\":\"{text}\",\"stream\":\"stdout\"}}\n");
        // The third has its new number, the second not yet.
        for (number, text) in [("log", "four"), ("log.1", "three"), ("log.3", "two"), ("log.4", "one")] {
            std::fs::write(dir.path().join(number), entry(text)).unwrap();
        }
        let mut cursor = Cursor::new(path);
        let mut texts = Vec::new();
        while let Some(entry) = cursor.next().unwrap() {
            texts.push(entry.log);
        }
        assert_eq!(texts, ["one", "two", "three", "four"]);
    }

    proptest! {
        #[test]
        fn any_log_file_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            std::fs::write(&path, bytes).unwrap();
            let mut current = Current::open(&path).unwrap().unwrap();
            while current.next().unwrap().is_some() {}
        }
    }
}
