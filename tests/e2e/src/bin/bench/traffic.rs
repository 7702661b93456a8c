//! Traffic between two network namespaces, by two threads of this process: one in each.
//!
//! One process, and one CPU for both threads unless they stream: waking an idle CPU takes several times what the data
//! path takes, and would hide it. Work of veth and VXLAN runs in the sender's context, so the CPU time of both threads
//! is the cost of the path, also on a busy machine.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

const PORT: u16 = 5001;
/// What one burst of a stream carries.
const STREAM_BYTES: usize = 192 << 20;
const ECHOES: usize = 3000;
const CONNECTIONS: usize = 800;
const BUFFER: usize = 128 * 1024;
/// Bytes of the one request and answer of a short connection.
const REQUEST: usize = 64;
/// For a single read or write.
const STALL: Duration = Duration::from_secs(5);

/// Two namespaces, and the address of the second.
pub(crate) struct Path {
    client: File,
    server: File,
    address: String,
}

/// One burst.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// Gigabits per second, microseconds or connections per second.
    pub(crate) value: f64,
    /// CPU time of both ends per gigabyte (s), per echo (us) or per connection (us).
    pub(crate) cpu: f64,
}

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// One TCP stream.
    Stream,
    /// One byte there and back.
    Echo,
    /// Connect, ask, answer, close.
    Connect,
}

impl Path {
    /// Between the namespaces of two processes.
    pub(crate) fn between(client: &str, server: &str, address: &str) -> Self {
        let namespace = |pid: &str| File::open(format!("/proc/{pid}/ns/net")).unwrap();
        Self { client: namespace(client), server: namespace(server), address: address.to_owned() }
    }

    /// One burst from the first namespace to the second.
    pub(crate) fn measure(&self, kind: Kind) -> Sample {
        std::thread::scope(|scope| {
            let (ready, listening) = std::sync::mpsc::channel();
            let server = scope.spawn(move || {
                enter(&self.server);
                share_cpu(kind);
                let listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
                ready.send(()).unwrap();
                serve(kind, &listener)
            });
            let client = scope.spawn(move || {
                enter(&self.client);
                share_cpu(kind);
                listening.recv().unwrap();
                ask(kind, &self.address)
            });
            let (value, units, client_cpu) = client.join().unwrap();
            Sample { value, cpu: (client_cpu + server.join().unwrap()) / units }
        })
    }
}

fn enter(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Both ends of what waits for the other at every step run on the first CPU.
fn share_cpu(kind: Kind) {
    if !matches!(kind, Kind::Stream) {
        let mut first = CpuSet::new();
        first.set(0);
        sched_setaffinity(None, &first).unwrap();
    }
}

/// CPU seconds of this thread.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Serves one burst; its CPU seconds.
fn serve(kind: Kind, listener: &TcpListener) -> f64 {
    let accept = || tuned(listener.accept().unwrap().0);
    let mut buffer = vec![0; BUFFER];
    match kind {
        Kind::Stream => {
            let (mut stream, start) = (accept(), cpu_time());
            let mut left = STREAM_BYTES;
            while left > 0 {
                left -= stream.read(&mut buffer).unwrap().min(left);
            }
            stream.write_all(&[0]).unwrap();
            cpu_time() - start
        }
        Kind::Echo => {
            let (mut stream, start) = (accept(), cpu_time());
            for _ in 0..ECHOES {
                stream.read_exact(&mut buffer[..1]).unwrap();
                stream.write_all(&buffer[..1]).unwrap();
            }
            cpu_time() - start
        }
        Kind::Connect => {
            let start = cpu_time();
            for _ in 0..CONNECTIONS {
                let mut stream = listener.accept().unwrap().0;
                stream.read_exact(&mut buffer[..REQUEST]).unwrap();
                stream.write_all(&buffer[..REQUEST]).unwrap();
                // The client closes first.
                let _ = stream.read(&mut buffer);
            }
            cpu_time() - start
        }
    }
}

/// Asks for one burst: the value, the units of work (GB, or millionths of an echo or connection), CPU seconds.
fn ask(kind: Kind, address: &str) -> (f64, f64, f64) {
    let (start, cpu) = (Instant::now(), cpu_time());
    match kind {
        Kind::Stream => {
            let mut stream = tuned(TcpStream::connect((address, PORT)).unwrap());
            let buffer = vec![0; BUFFER];
            let (start, cpu) = (Instant::now(), cpu_time());
            for _ in 0..STREAM_BYTES / BUFFER {
                stream.write_all(&buffer).unwrap();
            }
            stream.read_exact(&mut [0]).unwrap();
            let rate = STREAM_BYTES as f64 * 8.0 / 1e9 / start.elapsed().as_secs_f64();
            (rate, STREAM_BYTES as f64 / 1e9, cpu_time() - cpu)
        }
        Kind::Echo => {
            let mut stream = tuned(TcpStream::connect((address, PORT)).unwrap());
            let mut times = Vec::with_capacity(ECHOES);
            for _ in 0..ECHOES {
                let sent = Instant::now();
                stream.write_all(&[0]).unwrap();
                stream.read_exact(&mut [0]).unwrap();
                times.push(sent.elapsed().as_secs_f64() * 1e6);
            }
            times.sort_by(f64::total_cmp);
            (times[times.len() / 2], ECHOES as f64 / 1e6, cpu_time() - cpu)
        }
        Kind::Connect => {
            for _ in 0..CONNECTIONS {
                let mut stream = TcpStream::connect((address, PORT)).unwrap();
                // A reset instead of TIME_WAIT: thousands of bursts must not run out of ports.
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                stream.write_all(&[0; REQUEST]).unwrap();
                stream.read_exact(&mut [0; REQUEST]).unwrap();
            }
            let rate = CONNECTIONS as f64 / start.elapsed().as_secs_f64();
            (rate, CONNECTIONS as f64 / 1e6, cpu_time() - cpu)
        }
    }
}

/// Cubic, because the machine's default may pace (bbr), which hides what the data path can do.
fn tuned(stream: TcpStream) -> TcpStream {
    rustix::net::sockopt::set_tcp_congestion(&stream, "cubic").unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(STALL)).unwrap();
    stream.set_write_timeout(Some(STALL)).unwrap();
    stream
}
