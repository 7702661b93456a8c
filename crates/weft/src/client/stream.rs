//! Bytes between the user's terminal and a container.

use std::io::Write as _;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::connection::Hijacked;
use super::error::ClientError;

/// Length of the header of each frame: stream, three zeros, length (big endian); Docker's attach format.
const HEADER_LEN: usize = 8;
const STDERR: u8 = 2;
const BUFFER: usize = 32 * 1024;

/// Connects standard input (if wanted) and the outputs to a hijacked stream until the container closes it.
pub(super) async fn connect(stream: Hijacked, input: bool, tty: bool) -> Result<(), ClientError> {
    let (reader, writer) = tokio::io::split(stream);
    // Standard input is never awaited: it may be a terminal at which nobody types any more.
    let feeding = input.then(|| tokio::spawn(feed(writer)));
    let outcome = print(reader, tty).await;
    if let Some(task) = feeding {
        task.abort();
    }
    outcome
}

async fn feed(mut writer: impl AsyncWrite + Unpin) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; BUFFER];
    while let Ok(n @ 1..) = stdin.read(&mut buffer).await {
        if writer.write_all(&buffer[..n]).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
    // Half-close: the container sees the end of its input and may still speak.
    let _ = writer.shutdown().await;
}

/// Copies a stream to standard output and error: raw from a terminal, framed otherwise.
pub(super) async fn print(reader: impl AsyncRead + Unpin, tty: bool) -> Result<(), ClientError> {
    if tty { print_raw(reader).await } else { print_framed(reader).await }
}

async fn print_raw(mut reader: impl AsyncRead + Unpin) -> Result<(), ClientError> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = reader.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        emit(std::io::stdout(), &buffer[..n])?;
    }
}

async fn print_framed(mut reader: impl AsyncRead + Unpin) -> Result<(), ClientError> {
    let mut header = [0; HEADER_LEN];
    let mut buffer = vec![0; BUFFER];
    loop {
        match reader.read_exact(&mut header).await {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        let [kind, _, _, _, a, b, c, d] = header;
        let mut left = u32::from_be_bytes([a, b, c, d]) as usize;
        while left > 0 {
            let n = reader.read(&mut buffer[..left.min(BUFFER)]).await?;
            if n == 0 {
                return Ok(());
            }
            left -= n;
            if kind == STDERR {
                emit(std::io::stderr(), &buffer[..n])?
            } else {
                emit(std::io::stdout(), &buffer[..n])?
            }
        }
    }
}

fn emit(mut to: impl std::io::Write, bytes: &[u8]) -> Result<(), ClientError> {
    to.write_all(bytes)?;
    to.flush()?;
    Ok(())
}

/// Prints a line at once, also when standard output is a pipe.
pub(super) fn line(text: &str) {
    println!("{text}");
    let _ = std::io::stdout().flush();
}
