//! What the daemon and a shim say to each other over the shim's unix socket.
//!
//! One connection per operation. The daemon first sends one [`Request`] as a line of JSON; after it, on `attach` and
//! `exec` connections, raw bytes of standard input (a half-close is end of input). The shim answers with frames:
//! one byte kind, four bytes big-endian length, payload. Frames of kind [`FRAME_STDOUT`] and [`FRAME_STDERR`] carry
//! output, frames of kind [`FRAME_REPLY`] a [`Reply`] in JSON.
//!
//! Both directions are decoded as foreign bytes: lengths are bounded and nothing panics.

use serde::{Deserialize, Serialize};

/// Output of the process.
pub(crate) const FRAME_STDOUT: u8 = 1;
/// Errors of the process.
pub(crate) const FRAME_STDERR: u8 = 2;
/// A [`Reply`].
pub(crate) const FRAME_REPLY: u8 = 3;
/// Bytes before a frame's payload.
pub(crate) const FRAME_HEADER: usize = 5;
/// Longest payload that a receiver accepts; senders stay far below.
pub(crate) const FRAME_MAX: usize = 1 << 20;
/// Longest request line: an exec with a large environment.
pub(crate) const REQUEST_MAX: usize = 4 << 20;

/// One operation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Create the container from the bundle. The connection stays open: its end before `start` undoes the creation,
    /// after it the shim sends [`Reply::Exited`] on it.
    Create,
    /// Nobody will create the container: the shim undoes what its runtime has prepared and ends. Answered by
    /// [`Reply::Exited`].
    Abandon,
    /// Let the created process run.
    Start,
    /// Wait for the exit of the container: answered by [`Reply::Exited`].
    Watch,
    /// Send a signal to the container's first process.
    Signal {
        /// Number of the signal.
        signal: i32,
    },
    /// Set the size of a terminal.
    Resize {
        /// Of this exec; `None` is the container itself.
        exec: Option<String>,
        /// Rows.
        height: u16,
        /// Columns.
        width: u16,
    },
    /// Attach to the container's streams.
    Attach {
        /// Bytes that follow are input.
        stdin: bool,
        /// Send output.
        stdout: bool,
        /// Send errors.
        stderr: bool,
    },
    /// Run a further process; the connection carries its streams and ends with [`Reply::Exited`].
    Exec(Box<ExecRequest>),
}

/// A further process in the container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecRequest {
    /// Id of the exec.
    pub(crate) id: String,
    /// The OCI process.
    pub(crate) process: serde_json::Value,
    /// Bytes that follow are input; else it reads from /dev/null.
    pub(crate) stdin: bool,
    /// Send output.
    pub(crate) stdout: bool,
    /// Send errors.
    pub(crate) stderr: bool,
    /// Whether it gets a terminal.
    pub(crate) tty: bool,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Done.
    Done,
    /// Created or started; the process has this pid on the host.
    Started {
        /// Process id.
        pid: i32,
    },
    /// Not done.
    Failed {
        /// Why, in the words for the user.
        reason: String,
        /// Exit code as a shell gives it: 126, 127 or 128.
        exit_code: i64,
    },
    /// The process ended.
    Exited(ExitStatus),
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitStatus {
    /// Exit code; 128 + signal when killed by one.
    pub(crate) code: i64,
    /// Whether the kernel killed something in it for lack of memory.
    pub(crate) oom_killed: bool,
    /// When, RFC 3339.
    pub(crate) time: String,
}

/// Appends a frame.
pub(crate) fn put_frame(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends a reply frame.
pub(crate) fn put_reply(out: &mut Vec<u8>, reply: &Reply) {
    // Serialising these plain types cannot fail; an empty payload would be refused by the receiver.
    let payload = serde_json::to_vec(reply).unwrap_or_default();
    put_frame(out, FRAME_REPLY, &payload);
}

/// The head of a frame: kind and length.
pub(crate) fn parse_header(header: [u8; FRAME_HEADER]) -> Result<(u8, usize), ProtocolError> {
    let [kind, a, b, c, d] = header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if !(FRAME_STDOUT..=FRAME_REPLY).contains(&kind) {
        return Err(ProtocolError::Kind(kind));
    }
    if length > FRAME_MAX {
        return Err(ProtocolError::TooLong(length));
    }
    Ok((kind, length))
}

/// The other side does not keep to the protocol.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtocolError {
    /// No such frame.
    #[error("frame of unknown kind {0}")]
    Kind(u8),
    /// A frame or request longer than agreed.
    #[error("{0} bytes are too long")]
    TooLong(usize),
    /// Not the JSON that belongs here.
    #[error("malformed message")]
    Json(#[from] serde_json::Error),
}

/// Takes a request line from the front of `input`, if it is complete.
pub(crate) fn take_request(input: &mut Vec<u8>) -> Result<Option<Request>, ProtocolError> {
    let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
        return if input.len() > REQUEST_MAX { Err(ProtocolError::TooLong(input.len())) } else { Ok(None) };
    };
    let request = serde_json::from_slice(&input[..end])?;
    input.drain(..=end);
    Ok(Some(request))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_taken_with_its_newline_and_input_stays() {
        let mut bytes = serde_json::to_vec(&Request::Signal { signal: 9 }).unwrap();
        bytes.push(b'\n');
        bytes.extend_from_slice(b"input");
        let request = take_request(&mut bytes).unwrap();
        assert!(matches!(request, Some(Request::Signal { signal: 9 })));
        assert_eq!(bytes, b"input");
    }

    #[test]
    fn frames_have_a_bounded_length() {
        assert!(parse_header([1, 0, 0, 0, 9]).is_ok());
        assert!(parse_header([1, 0xff, 0, 0, 0]).is_err());
        assert!(parse_header([9, 0, 0, 0, 1]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut input = bytes.clone();
            let _ = take_request(&mut input);
            let _ = serde_json::from_slice::<Reply>(&bytes);
            if let Some(header) = bytes.first_chunk() {
                let _ = parse_header(*header);
            }
        }

        #[test]
        fn damaged_requests_are_refused_or_understood(
            at in 0usize..60, byte in any::<u8>(),
        ) {
            let mut bytes = serde_json::to_vec(&Request::Attach { stdin: true, stdout: true, stderr: false }).unwrap();
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            bytes.push(b'\n');
            let _ = take_request(&mut bytes);
        }

        #[test]
        fn frames_round_trip(kind in 1u8..=3, payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            put_frame(&mut out, kind, &payload);
            let header = *out.first_chunk::<FRAME_HEADER>().unwrap();
            let (got, length) = parse_header(header).unwrap();
            prop_assert_eq!(got, kind);
            prop_assert_eq!(&out[FRAME_HEADER..FRAME_HEADER + length], &payload[..]);
        }
    }
}
