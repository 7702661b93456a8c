//! HTTP/1.1 as far as an engine's clients speak it: one request per connection, streams that are left open, upgrades.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest silence of the daemon in the middle of an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// Method and target, for example `GET /info`.
    pub(crate) line: String,
    pub(crate) content_type: Option<String>,
    pub(crate) upgrade: bool,
    pub(crate) body: Vec<u8>,
}

enum Length {
    Known(usize),
    Chunked,
    UntilClosed,
}

/// An answer whose head was read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    stream: BufReader<UnixStream>,
    length: Length,
}

/// Sends a request and reads the answer's head.
pub(crate) fn send(socket: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{} HTTP/1.1\r\nHost: api.moby.localhost\r\n", request.line);
    head += match request.upgrade {
        true => "Connection: Upgrade\r\nUpgrade: tcp\r\n",
        false => "Connection: close\r\n",
    };
    if let Some(content_type) = &request.content_type {
        head += &format!("Content-Type: {content_type}\r\n");
    }
    if !request.body.is_empty() || request.line.starts_with('P') {
        head += &format!("Content-Length: {}\r\n", request.body.len());
    }
    head += "\r\n";
    stream.write_all(head.as_bytes())?;
    // A daemon that has refused by the head alone may have closed.
    let _ = stream.write_all(&request.body);
    let mut stream = BufReader::new(stream);
    let line = line(&mut stream)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status line: {line:?}")))?;
    let headers = headers(&mut stream)?;
    let length = length(&request.line, status, &headers);
    Ok(Answer { status, headers, stream, length })
}

fn line(stream: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn headers(stream: &mut BufReader<UnixStream>) -> io::Result<BTreeMap<String, String>> {
    let mut headers = BTreeMap::new();
    loop {
        let line = line(stream)?;
        let Some((name, value)) = line.split_once(':') else { return Ok(headers) };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

fn length(line: &str, status: u16, headers: &BTreeMap<String, String>) -> Length {
    let no_body = line.starts_with("HEAD ") || matches!(status, 204 | 304);
    match headers.get("content-length").and_then(|n| n.parse().ok()) {
        _ if no_body => Length::Known(0),
        Some(bytes) => Length::Known(bytes),
        None if headers.get("transfer-encoding").is_some_and(|e| e == "chunked") => Length::Chunked,
        None => Length::UntilClosed,
    }
}

impl Answer {
    /// Sends input on an upgraded connection; `end` closes that direction.
    pub(crate) fn write(&mut self, input: &[u8], end: bool) -> io::Result<()> {
        self.stream.get_mut().write_all(input)?;
        if end { self.stream.get_mut().shutdown(Shutdown::Write) } else { Ok(()) }
    }

    /// All that is left of the body.
    pub(crate) fn body(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        match self.length {
            Length::Known(bytes) => {
                body.resize(bytes, 0);
                self.stream.read_exact(&mut body)?;
            }
            Length::UntilClosed => {
                self.stream.read_to_end(&mut body)?;
            }
            Length::Chunked => loop {
                let size = line(&mut self.stream)?;
                let size = usize::from_str_radix(&size, 16)
                    .map_err(|e| io::Error::other(format!("{size:?}: {e}")))?;
                let start = body.len();
                body.resize(start + size, 0);
                self.stream.read_exact(&mut body[start..])?;
                line(&mut self.stream)?;
                if size == 0 {
                    break;
                }
            },
        }
        Ok(body)
    }
}
