//! Both ends of a connection, for checks on what a server sees of its clients.
//!
//! `peer-echo serve PORT` answers over TCP and UDP with the client's address and its own host name, and over TCP then
//! sends back every line. `peer-echo ask tcp|udp ADDRESS:PORT` prints the answer. `peer-echo hold ADDRESS:PORT` connects,
//! prints the answer, and then the echo of each line from its standard input. `peer-echo flow ADDRESS:PORT SECONDS` sends
//! datagrams from one socket, and prints the longest time without an answer in milliseconds and how many servers
//! answered. `peer-echo measure ADDRESS:PORT SECONDS`
//! connects again and again, and prints the median time to the first answer in microseconds, the 99th percentile, and
//! connections a second.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// An answer that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match command(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer-echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn command(words: &[&str]) -> io::Result<()> {
    match words {
        ["serve", port] => serve(port.parse().map_err(io::Error::other)?),
        ["ask", "tcp", server] => {
            let (_, line) = connect(address(server)?)?;
            println!("{}", line.trim_end());
            Ok(())
        }
        ["ask", "udp", server] => ask_udp(address(server)?),
        ["hold", server] => hold(address(server)?),
        ["flow", server, seconds] => {
            let seconds = seconds.parse().map_err(io::Error::other)?;
            flow(address(server)?, Duration::from_secs(seconds))
        }
        ["measure", server, seconds] => {
            let seconds = seconds.parse().map_err(io::Error::other)?;
            measure(address(server)?, Duration::from_secs(seconds))
        }
        _ => Err(io::Error::other(
            "usage: peer-echo serve PORT | ask tcp|udp SERVER | hold SERVER | flow SERVER SECONDS | measure SERVER SECONDS",
        )),
    }
}

fn address(text: &str) -> io::Result<SocketAddr> {
    text.parse().map_err(io::Error::other)
}

fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn greeting(peer: SocketAddr) -> String {
    format!("{} {}\n", peer.ip().to_canonical(), name())
}

fn serve(port: u16) -> io::Result<()> {
    // Both families on one socket; where IPv6 is off, IPv4 alone.
    let any: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    let any = any.map(|ip| SocketAddr::new(ip, port));
    let tcp = TcpListener::bind(&any[..])?;
    let udp = UdpSocket::bind(&any[..])?;
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(greeting(peer).as_bytes(), peer);
        }
    });
    for stream in tcp.incoming() {
        let stream = stream?;
        std::thread::spawn(move || echo(&stream));
    }
    Ok(())
}

fn echo(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(greeting(stream.peer_addr()?).as_bytes())?;
    for line in BufReader::new(stream).lines() {
        writeln!(stream, "{}", line?)?;
    }
    Ok(())
}

fn connect(server: SocketAddr) -> io::Result<(BufReader<TcpStream>, String)> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    if peer != server {
        return Err(io::Error::other(format!("a connection to {server} is shown as one to {peer}")));
    }
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((reader, line))
}

fn ask_udp(server: SocketAddr) -> io::Result<()> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    let mut buffer = [0; 2048];
    // Twice: the second datagram is one of a known flow.
    for last in [false, true] {
        socket.send(b"?")?;
        let length = socket.recv(&mut buffer)?;
        if last {
            println!("{}", String::from_utf8_lossy(&buffer[..length]).trim_end());
        }
    }
    Ok(())
}

/// One socket, a datagram every few milliseconds, as a logger or a phone call sends.
#[allow(clippy::disallowed_methods, reason = "the pace of the datagrams is the point")]
fn flow(server: SocketAddr, long: Duration) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    socket.connect(server)?;
    let (begin, mut answered, mut gap) = (Instant::now(), Instant::now(), Duration::ZERO);
    let mut servers = std::collections::BTreeSet::new();
    let mut buffer = [0; 2048];
    while begin.elapsed() < long {
        // A refusal of one datagram is told at the next call; it is no answer.
        let _ = socket.send(b"?");
        if let Ok(length) = socket.recv(&mut buffer) {
            gap = gap.max(answered.elapsed());
            answered = Instant::now();
            servers.insert(buffer[..length].to_vec());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{} {}", gap.max(answered.elapsed()).as_millis(), servers.len());
    Ok(())
}

fn hold(server: SocketAddr) -> io::Result<()> {
    let (mut reader, line) = connect(server)?;
    println!("{}", line.trim_end());
    for line in io::stdin().lines() {
        writeln!(reader.get_mut(), "{}", line?)?;
        let mut echo = String::new();
        if reader.read_line(&mut echo)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        println!("{}", echo.trim_end());
    }
    Ok(())
}

fn measure(server: SocketAddr, long: Duration) -> io::Result<()> {
    let begin = Instant::now();
    let mut times = Vec::new();
    while begin.elapsed() < long {
        let at = Instant::now();
        connect(server)?;
        times.push(at.elapsed());
    }
    let rate = times.len() as f64 / begin.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_micros();
    println!("{} {} {rate:.0}", at(50), at(99));
    Ok(())
}
