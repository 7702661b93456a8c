//! A recording's requests, sent again, and what is not as it was.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::differences::{self, Difference};
use crate::http::{self, Answer, Request};
use crate::pattern::{Mismatch, Names};
use crate::recording::{Archive, Exchange};

/// Time in which a state is reached that a client saw later than this one: containers end, become healthy.
const SOON: Duration = Duration::from_secs(8);
/// Waits in vain after which nothing is waited for as long any more: one mistake spoils what follows.
const WAITS: u32 = 3;
const BRIEFLY: Duration = Duration::from_millis(200);
/// Headers of every answer.
const USUAL: [(&str, &str); 4] = [
    ("Api-Version", "1.51"),
    ("Docker-Experimental", "false"),
    ("Ostype", "linux"),
    ("Server", "Docker/28.5.2+dfsg4 (linux)"),
];
/// Bytes of a frame's head.
const FRAME_HEAD: usize = 8;

/// One recording against one daemon.
pub(crate) struct Replay {
    pub(crate) recording: &'static str,
    pub(crate) socket: PathBuf,
    pub(crate) names: Names,
    /// A root file system as an archive.
    pub(crate) root: Vec<u8>,
    /// What the daemon saved last.
    pub(crate) saved: Vec<u8>,
    /// Places of the table that were met.
    pub(crate) met: Vec<&'static Difference>,
    pub(crate) waited_in_vain: u32,
}

/// A step's exchange whose answer is not at its end.
struct Held<'a> {
    exchange: &'a Exchange,
    answer: Answer,
}

impl Replay {
    /// Replays everything; a line per place that differs and is not in the table.
    pub(crate) fn run(&mut self, exchanges: &[Exchange]) -> Vec<String> {
        let mut unexpected = Vec::new();
        for step in exchanges.chunk_by(|a, b| a.step == b.step) {
            let (number, cmd) = (step[0].step, &step[0].cmd);
            for (exchange, mismatch) in self.step(step) {
                unexpected.push(format!(
                    "{} {number} ({cmd})\n    {} {}\n        recorded {}\n        answered {}",
                    self.recording, exchange.request, mismatch.at, mismatch.recorded, mismatch.answered
                ));
            }
        }
        let met = &self.met;
        let expected = differences::of(self.recording).filter(|d| d.is_always_seen());
        for never in expected.filter(|d| !met.iter().any(|m| std::ptr::eq(*m, *d))) {
            unexpected.push(format!("{}: not seen any more: {never:?}", self.recording));
        }
        unexpected
    }

    fn step<'a>(&mut self, step: &'a [Exchange]) -> Vec<(&'a Exchange, Mismatch)> {
        let (mut held, mut found) = (Vec::new(), Vec::new());
        for exchange in step {
            if self.excused(exchange, differences::NOT_REPLAYED) {
                continue;
            }
            if !exchange.goes_with_streams() {
                let (streams, others) = held.into_iter().partition(|h: &Held<'_>| h.exchange.upgrade);
                held = others;
                self.finish(streams, &mut found);
            }
            match self.exchange(exchange) {
                Ok((answer, mismatches)) => {
                    found.extend(mismatches.into_iter().map(|m| (exchange, m)));
                    held.extend(answer.map(|answer| Held { exchange, answer }));
                }
                Err(mismatch) => found.push((exchange, mismatch)),
            }
        }
        self.finish(held, &mut found);
        found.retain(|(exchange, mismatch)| !self.excused(exchange, &mismatch.at));
        found
    }

    fn excused(&mut self, exchange: &Exchange, at: &str) -> bool {
        let excuse = differences::find(self.recording, exchange.step, at);
        self.met.extend(excuse);
        excuse.is_some()
    }

    /// Reads streams to their end, after what the client typed.
    fn finish<'a>(&mut self, held: Vec<Held<'a>>, found: &mut Vec<(&'a Exchange, Mismatch)>) {
        for Held { exchange, mut answer } in held {
            let mut mismatches = Vec::new();
            let typed = match exchange.upgrade && !exchange.input.is_empty() {
                true => answer.write(exchange.input.as_bytes(), exchange.half_closes),
                false => Ok(()),
            };
            if !exchange.left {
                let body = typed.and_then(|()| answer.body());
                self.compare_body(exchange, body, &mut mismatches);
            }
            found.extend(mismatches.into_iter().map(|m| (exchange, m)));
        }
    }

    /// One request. What only looks is asked again for a while if the answer is another than the recorded one.
    fn exchange(&mut self, exchange: &Exchange) -> Result<(Option<Answer>, Vec<Mismatch>), Mismatch> {
        let begin = Instant::now();
        loop {
            let before = self.names.clone();
            let request = self.request(exchange)?;
            let mut answer = http::send(&self.socket, &request)
                .map_err(|error| Mismatch::new("/status", exchange.status, error))?;
            let mut found = self.compare_head(exchange, &answer);
            if exchange.is_held() && answer.status == exchange.status {
                return Ok((Some(answer), found));
            }
            let (status, body) = (answer.status, answer.body());
            self.compare_body(exchange, body, &mut found);
            let is_known = |m: &Mismatch| differences::find(self.recording, exchange.step, &m.at).is_some();
            // What was refused has changed nothing.
            let repeats = exchange.request.starts_with("GET ") || (exchange.status < 400 && status == 409);
            if found.iter().all(is_known) || !repeats {
                return Ok((None, found));
            }
            let patience = if self.waited_in_vain < WAITS { SOON } else { BRIEFLY };
            if begin.elapsed() > patience {
                self.waited_in_vain += 1;
                return Ok((None, found));
            }
            self.names = before;
            pause();
        }
    }

    fn request(&self, exchange: &Exchange) -> Result<Request, Mismatch> {
        let unknown = || Mismatch::new("/request", &exchange.request, "an id in it was never seen");
        let body = match (&exchange.body, &exchange.text, exchange.archive) {
            (Some(body), ..) => self.names.filled_body(body).ok_or_else(unknown)?.to_string().into_bytes(),
            (_, Some(text), _) => text.clone().into_bytes(),
            (.., Some(Archive::Root)) => self.root.clone(),
            (.., Some(Archive::Image)) => self.saved.clone(),
            (.., Some(Archive::File)) => small_archive(),
            _ => Vec::new(),
        };
        let usual = match (&exchange.body, &exchange.text) {
            (None, None) => (exchange.upgrade || exchange.archive.is_some()).then(|| "text/plain".to_owned()),
            _ => Some("application/json".to_owned()),
        };
        Ok(Request {
            line: with_time(&self.names.filled(&exchange.request).ok_or_else(unknown)?),
            content_type: exchange.sent_as.clone().or(usual),
            upgrade: exchange.upgrade,
            body,
        })
    }

    fn compare_head(&mut self, exchange: &Exchange, answer: &Answer) -> Vec<Mismatch> {
        let mut found = Vec::new();
        if answer.status != exchange.status {
            found.push(Mismatch::new("/status", exchange.status, answer.status));
        }
        let usual = USUAL.iter().map(|(name, value)| {
            let value = (!exchange.without.iter().any(|w| w == name)).then_some(*value);
            ("headers", *name, value)
        });
        let own =
            exchange.headers.iter().map(|(name, value)| ("headers", name.as_str(), Some(value.as_str())));
        let content_type = ("headers", "Content-Type", exchange.content_type.0.as_deref());
        for (place, name, wanted) in usual.chain(own).chain([content_type]) {
            let got = answer.headers.get(&name.to_ascii_lowercase());
            let same = match (wanted, got) {
                (Some(wanted), Some(got)) => self.names.is(wanted, got),
                (wanted, got) => wanted.is_none() == got.is_none(),
            };
            if !same {
                found.push(Mismatch::new(
                    format!("/{place}/{name}"),
                    format!("{wanted:?}"),
                    format!("{got:?}"),
                ));
            }
        }
        found
    }

    fn compare_body(
        &mut self,
        exchange: &Exchange,
        body: std::io::Result<Vec<u8>>,
        found: &mut Vec<Mismatch>,
    ) {
        let body = match body {
            Ok(body) => body,
            Err(error) => return found.push(Mismatch::new("/end", "the stream's end", error)),
        };
        if let Some(bytes) = exchange.bytes {
            if body.len() != bytes {
                found.push(Mismatch::new("/bytes", bytes, body.len()));
            }
        } else if let Some(frames) = &exchange.frames {
            self.compare_frames(frames, &body, found);
        } else if !exchange.tar.is_empty() {
            self.compare_archive(&exchange.tar, &body, found);
            if exchange.request.contains("/images/get") {
                self.saved = body;
            }
        } else if let Some(output) = &exchange.output {
            let text = String::from_utf8_lossy(&body);
            if !self.names.is(output, &text) {
                found.push(Mismatch::new("/output", format!("{output:?}"), format!("{text:?}")));
            }
        } else if let Some(answer) = &exchange.answer {
            match serde_json::from_slice(&body) {
                Ok(got) => self.names.compare("/answer", answer, &got, found),
                Err(_) => found.push(Mismatch::new("/answer", answer, String::from_utf8_lossy(&body))),
            }
        } else if !exchange.answers.is_empty() {
            let lines = serde_json::Deserializer::from_slice(&body).into_iter::<Value>();
            let lines: Vec<Value> = lines.map_while(Result::ok).collect();
            self.names.compare("/answer", &exchange.answers.clone().into(), &lines.into(), found);
        } else if !body.is_empty() {
            found.push(Mismatch::new("/answer", "no body", String::from_utf8_lossy(&body)));
        }
    }

    fn compare_frames(
        &mut self,
        recorded: &BTreeMap<String, String>,
        body: &[u8],
        found: &mut Vec<Mismatch>,
    ) {
        let Some(got) = frames(body) else {
            return found.push(Mismatch::new(
                "/frames",
                format!("{recorded:?}"),
                format!("{:?}", String::from_utf8_lossy(body)),
            ));
        };
        let same = recorded.len() == got.len()
            && recorded.iter().all(|(stream, text)| got.get(stream).is_some_and(|g| self.names.is(text, g)));
        if !same {
            found.push(Mismatch::new("/frames", format!("{recorded:?}"), format!("{got:?}")));
        }
    }

    /// The recorded names are all there. Blobs have names by what is in them, so those of another image differ.
    fn compare_archive(&self, recorded: &[String], body: &[u8], found: &mut Vec<Mismatch>) {
        let got = archived(body);
        let names = recorded.iter().filter(|entry| !entry.contains("<id") && *entry != "<more>");
        for name in names.filter(|name| !got.contains(name)) {
            found.push(Mismatch::new("/archive", name, format!("{got:?}")));
        }
    }
}

/// Between two looks.
#[allow(clippy::disallowed_methods, reason = "the deadline is the caller's")]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

/// `<ago60>`: a minute ago, in seconds since the epoch.
fn with_time(line: &str) -> String {
    let Some((before, rest)) = line.split_once("<ago") else { return line.to_owned() };
    let Some((seconds, after)) = rest.split_once('>') else { return line.to_owned() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let at = now.saturating_sub(seconds.parse().unwrap_or_default());
    with_time(&format!("{before}{at}{after}"))
}

/// What each stream carried; none if the bytes are no frames.
fn frames(mut bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    let mut streams: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at_checked(FRAME_HEAD)?;
        let [stream, 0, 0, 0, length @ ..] = head else { return None };
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        let (payload, rest) = rest.split_at_checked(length)?;
        streams.entry(stream.to_string()).or_default().extend(payload);
        bytes = rest;
    }
    Some(
        streams
            .into_iter()
            .map(|(stream, text)| (stream, String::from_utf8_lossy(&text).into_owned()))
            .collect(),
    )
}

/// Names and sizes in a tar archive (POSIX ustar: name at 0, size in octal at 124).
fn archived(bytes: &[u8]) -> Vec<String> {
    let (mut entries, mut at) = (Vec::new(), 0);
    let text = |field: &[u8]| String::from_utf8_lossy(field).trim_matches(['\0', ' ']).to_owned();
    while let Some(header) = bytes.get(at..at + 512).filter(|h| h[0] != 0) {
        let size = usize::from_str_radix(&text(&header[124..136]), 8).unwrap_or_default();
        let name = text(&header[..100]);
        entries.push(format!("{} ({size})", name.trim_end_matches('/')));
        at += 512 + size.next_multiple_of(512);
    }
    entries
}

/// The file `h` of three bytes and mode 755.
fn small_archive() -> Vec<u8> {
    let mut bytes = vec![0; 2048];
    let mut put = |at: usize, text: &str| bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, "h");
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, "00000000003\0");
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    put(512, "abc");
    let sum: u32 = bytes[..512].iter().map(|b| u32::from(*b)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}
