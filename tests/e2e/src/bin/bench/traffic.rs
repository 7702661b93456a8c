//! Traffic between two network namespaces: this program runs itself inside of them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const STREAM: u16 = 5001;
const ECHO: u16 = 5002;
const CONNECT: u16 = 5003;
/// Length of one measurement.
const TIME: Duration = Duration::from_secs(2);
const BUFFER: usize = 128 * 1024;

/// What this program does inside a namespace.
pub(crate) fn run(mode: &str, args: &[String]) {
    match (mode, args) {
        ("serve", []) => serve(),
        ("stream", [address]) => println!("{}", stream(address)),
        ("echo", [address]) => println!("{}", echo(address)),
        ("connect", [address]) => println!("{}", connect(address)),
        _ => panic!("the measurements take no arguments"),
    }
}

fn inside(pid: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["-t", pid, "-n", "--"]);
    command
}

/// Starts the servers in a process' namespace; they end with their parent.
pub(crate) fn serve_in(pid: &str) {
    let mut child =
        inside(pid).arg(std::env::current_exe().unwrap()).arg("serve").stdin(Stdio::piped()).spawn().unwrap();
    // Its standard input closes when this process ends.
    std::mem::forget(child.stdin.take());
    std::thread::spawn(move || child.wait());
}

/// Runs one measurement in a process' namespace.
pub(crate) fn measure_in(pid: &str, mode: &str, address: &str) -> f64 {
    let output = inside(pid).arg(std::env::current_exe().unwrap()).args([mode, address]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{mode}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn serve() {
    for (port, handle) in [(STREAM, sink as fn(TcpStream)), (ECHO, answer), (CONNECT, drop)] {
        let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if port == CONNECT {
                    handle(stream);
                } else {
                    std::thread::spawn(move || handle(stream));
                }
            }
        });
    }
    let _ = std::io::stdin().read(&mut [0]);
}

fn sink(mut stream: TcpStream) {
    let mut buffer = vec![0; BUFFER];
    while matches!(stream.read(&mut buffer), Ok(1..)) {}
}

fn answer(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
}

/// A connection with cubic: the machine's default may pace (bbr), which hides what the data path can do.
fn dial(address: &str, port: u16) -> TcpStream {
    let stream = TcpStream::connect((address, port)).unwrap();
    rustix::net::sockopt::set_tcp_congestion(&stream, "cubic").unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Gigabits per second that were taken off our hands.
fn stream(address: &str) -> f64 {
    let mut stream = dial(address, STREAM);
    let buffer = vec![0; BUFFER];
    let (start, mut sent) = (Instant::now(), 0_usize);
    while start.elapsed() < TIME {
        sent += stream.write(&buffer).unwrap();
    }
    sent as f64 * 8.0 / 1e9 / start.elapsed().as_secs_f64()
}

/// Median microseconds of a byte there and back.
fn echo(address: &str) -> f64 {
    let mut stream = dial(address, ECHO);
    let (start, mut times, mut byte) = (Instant::now(), Vec::new(), [0]);
    while start.elapsed() < TIME {
        let sent = Instant::now();
        stream.write_all(&byte).unwrap();
        stream.read_exact(&mut byte).unwrap();
        times.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Connections per second, opened and closed by the server.
fn connect(address: &str) -> f64 {
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < TIME {
        let mut stream = TcpStream::connect((address, CONNECT)).unwrap();
        let _ = stream.read(&mut [0]);
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}
