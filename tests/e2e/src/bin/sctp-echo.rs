//! Both ends of an SCTP association, for checks on kernels that have it: no program of a plain machine speaks it.
//!
//! `sctp-echo serve PORT` answers every message with itself and the sender's address; `sctp-echo ask ADDRESS:PORT
//! WORD` sends one and prints the answer.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, connect, ipproto, listen, socket};

/// Longer than any message here.
const MESSAGE: usize = 1024;
/// An answer that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["serve", port] => port.parse().map_err(io::Error::other).and_then(serve),
        ["ask", server, word] => {
            server.parse().map_err(io::Error::other).and_then(|server| ask(server, word))
        }
        _ => {
            eprintln!("usage: sctp-echo serve PORT | sctp-echo ask ADDRESS:PORT WORD");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sctp-echo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A one-to-one style socket: from here on used like one of TCP (RFC 6458, section 4).
fn one_to_one() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP))?)
}

fn serve(port: u16) -> io::Result<()> {
    let socket = one_to_one()?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
    listen(&socket, 16)?;
    let listener = TcpListener::from(socket);
    loop {
        let (mut stream, peer) = listener.accept()?;
        let mut message = [0; MESSAGE];
        // One that hangs up or resets concerns nobody else.
        let Ok(length) = stream.read(&mut message) else { continue };
        let answer = format!("{} from {}", String::from_utf8_lossy(&message[..length]), peer.ip());
        let _ = stream.write_all(answer.as_bytes());
    }
}

fn ask(server: SocketAddr, word: &str) -> io::Result<()> {
    let socket = one_to_one()?;
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Send, Some(PATIENCE))?;
    connect(&socket, &server)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = [0; MESSAGE];
    let length = stream.read(&mut answer)?;
    println!("{}", String::from_utf8_lossy(&answer[..length]));
    Ok(())
}
