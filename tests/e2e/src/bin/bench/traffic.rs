//! Traffic between two network namespaces, by two threads of this process: one in each.
//!
//! One process, and one CPU for both threads unless they stream: waking an idle CPU takes several times what the data
//! path takes, and would hide it. Work of veth and VXLAN runs in the sender's context, so the CPU time of both threads
//! is the cost of the path, also on a busy machine.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Rounds of short bursts.
const BURSTS: usize = 24;
const PORT: u16 = 5001;
/// What one burst of a stream carries.
const STREAM_BYTES: usize = 192 << 20;
/// How many streams share that where there are several.
const STREAMS: usize = 4;
const ECHOES: usize = 3000;
const CONNECTIONS: usize = 800;
/// Bytes of a small datagram.
const DATAGRAM: usize = 64;
/// How long they are sent for.
const FLOOD: Duration = Duration::from_secs(1);
const BUFFER: usize = 128 * 1024;
/// Bytes of the one request and answer of a short connection.
const REQUEST: usize = 64;
/// For a single read or write.
const STALL: Duration = Duration::from_secs(5);

/// A client's namespace, those of the servers that may answer it, and where it connects to.
pub(crate) struct Path {
    client: File,
    servers: Vec<File>,
    /// Where the servers listen.
    listen: u16,
    target: (String, u16),
    /// Processes whose CPU time belongs to the path.
    carriers: Vec<i32>,
}

/// One burst.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// Gigabits per second, microseconds or connections per second.
    pub(crate) value: f64,
    /// Median of single echoes or connections in microseconds; streams have none.
    pub(crate) p50: f64,
    /// The 99th percentile of the same.
    pub(crate) p99: f64,
    /// CPU time of both ends per gigabyte (s), per echo (us) or per connection (us).
    pub(crate) cpu: f64,
}

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// One TCP stream.
    Stream,
    /// Four at once.
    Streams,
    /// One byte there and back.
    Echo,
    /// Connect, ask, answer, close.
    Connect,
}

impl Kind {
    /// What CPU time is given for: GB, or millionths of an echo or connection.
    fn units(self) -> f64 {
        match self {
            Self::Stream | Self::Streams => STREAM_BYTES as f64 / 1e9,
            Self::Echo => ECHOES as f64 / 1e6,
            Self::Connect => CONNECTIONS as f64 / 1e6,
        }
    }
}

/// What the client found.
struct Asked {
    value: f64,
    /// Of each echo or connection, sorted.
    times: Vec<f64>,
    cpu: f64,
}

impl Path {
    /// Between the namespaces of two processes.
    pub(crate) fn between(client: &str, server: &str, address: &str) -> Self {
        Self::balanced(client, &[server.to_owned()], PORT, (address, PORT))
    }

    /// From the namespace of one process to those of several, by an address that leads to any of them.
    pub(crate) fn balanced(client: &str, servers: &[String], listen: u16, target: (&str, u16)) -> Self {
        let namespace = |pid: &str| File::open(format!("/proc/{}/ns/net", pid.trim())).unwrap();
        Self {
            client: namespace(client),
            servers: servers.iter().map(|pid| namespace(pid)).collect(),
            listen,
            target: (target.0.trim().to_owned(), target.1),
            carriers: Vec::new(),
        }
    }

    /// The same path, which these processes carry.
    pub(crate) fn carried_by(self, carriers: Vec<i32>) -> Self {
        Self { carriers, ..self }
    }

    /// Where the servers listen.
    pub(crate) fn port(&self) -> u16 {
        self.listen
    }

    /// Whether a connection reaches a server.
    pub(crate) fn answers(&self) -> Result<(), String> {
        std::thread::scope(|scope| {
            let listen = |server| {
                let bind = move || {
                    enter(server);
                    TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.listen)).unwrap()
                };
                scope.spawn(bind).join().unwrap()
            };
            let _listening: Vec<TcpListener> = self.servers.iter().map(listen).collect();
            let connect = || {
                enter(&self.client);
                let target = (self.target.0.parse::<Ipv4Addr>().unwrap(), self.target.1);
                TcpStream::connect_timeout(&target.into(), STALL).map_err(|error| error.to_string())
            };
            scope.spawn(connect).join().unwrap().map(|_| ())
        })
    }

    /// One burst.
    pub(crate) fn measure(&self, kind: Kind) -> Sample {
        let before = self.carriers_cpu();
        let mut sample = self.burst(kind);
        sample.cpu += (self.carriers_cpu() - before) / kind.units();
        sample
    }

    /// CPU seconds of the processes that carry the path, so far.
    fn carriers_cpu(&self) -> f64 {
        let tasks =
            self.carriers.iter().flat_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).unwrap());
        let nanoseconds = |task: std::fs::DirEntry| -> Option<f64> {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        tasks.flatten().filter_map(nanoseconds).sum::<f64>() / 1e9
    }

    fn burst(&self, kind: Kind) -> Sample {
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (ready, listening) = std::sync::mpsc::channel();
            let serve_in = |namespace| {
                let (ready, ended) = (ready.clone(), &ended);
                move || {
                    enter(namespace);
                    share_cpu(kind);
                    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.listen)).unwrap();
                    ready.send(()).unwrap();
                    serve(kind, &listener, ended)
                }
            };
            let servers: Vec<_> = self.servers.iter().map(|server| scope.spawn(serve_in(server))).collect();
            let client = scope.spawn(move || {
                enter(&self.client);
                share_cpu(kind);
                self.servers.iter().for_each(|_| listening.recv().unwrap());
                ask(kind, (&self.target.0, self.target.1))
            });
            let asked = client.join();
            ended.store(true, Ordering::Relaxed);
            self.wake_servers();
            let cpu: f64 = servers.into_iter().map(|server| server.join().unwrap()).sum();
            asked.unwrap().sample(kind, cpu)
        })
    }

    /// Small UDP datagrams a second that arrive while they are sent as fast as can be for a while.
    pub(crate) fn datagrams(&self) -> f64 {
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (ready, listening) = std::sync::mpsc::channel();
            let (server, ended, port) = (&self.servers[0], &ended, self.listen);
            let receiver = scope.spawn(move || {
                enter(server);
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                ready.send(()).unwrap();
                let mut count = 0u64;
                while !ended.load(Ordering::Relaxed) {
                    count += u64::from(socket.recv(&mut [0; DATAGRAM]).is_ok());
                }
                count
            });
            listening.recv().unwrap();
            let sender = scope.spawn(|| {
                enter(&self.client);
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                socket.connect((self.target.0.as_str(), self.target.1)).unwrap();
                let start = Instant::now();
                while start.elapsed() < FLOOD {
                    // A full queue somewhere is what a flood is about.
                    (0..64).for_each(|_| drop(socket.send(&[0; DATAGRAM])));
                }
            });
            sender.join().unwrap();
            ended.store(true, Ordering::Relaxed);
            receiver.join().unwrap() as f64 / FLOOD.as_secs_f64()
        })
    }

    /// Servers that wait for a client see that there is none any more.
    fn wake_servers(&self) {
        std::thread::scope(|scope| {
            for server in &self.servers {
                scope.spawn(|| {
                    enter(server);
                    TcpStream::connect((Ipv4Addr::LOCALHOST, self.listen)).unwrap();
                });
            }
        });
    }
}

impl Asked {
    fn sample(&self, kind: Kind, servers_cpu: f64) -> Sample {
        let at = |hundredths: usize| {
            let last = self.times.len().saturating_sub(1);
            self.times.get(last * hundredths / 100).copied().unwrap_or_default()
        };
        let cpu = (self.cpu + servers_cpu) / kind.units();
        Sample { value: self.value, p50: at(50), p99: at(99), cpu }
    }
}

/// Bursts over all of these in turn.
pub(crate) fn in_turn<const PATHS: usize>(paths: [&Path; PATHS], kind: Kind) -> [Vec<Sample>; PATHS] {
    let mut samples = [const { Vec::new() }; PATHS];
    for _ in 0..BURSTS {
        for (path, samples) in paths.into_iter().zip(&mut samples) {
            samples.push(path.measure(kind));
        }
    }
    samples
}

/// One part of all samples.
pub(crate) fn of(samples: &[Sample], part: fn(&Sample) -> f64) -> Vec<f64> {
    samples.iter().map(part).collect()
}

fn enter(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Both ends of what waits for the other at every step run on the first CPU.
fn share_cpu(kind: Kind) {
    if !matches!(kind, Kind::Stream | Kind::Streams) {
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
fn serve(kind: Kind, listener: &TcpListener, ended: &AtomicBool) -> f64 {
    let (mut buffer, mut takers, start) = (vec![0; BUFFER], 0.0, cpu_time());
    loop {
        let stream = listener.accept().unwrap().0;
        if ended.load(Ordering::Relaxed) {
            return cpu_time() - start + takers;
        }
        match kind {
            Kind::Stream => take_stream(tuned(stream), STREAM_BYTES, &mut buffer),
            Kind::Streams => takers += take_streams(stream, listener),
            Kind::Echo => echo(tuned(stream)),
            Kind::Connect => answer(stream, &mut buffer),
        }
    }
}

/// As many as the client opens; the CPU seconds of all.
fn take_streams(first: TcpStream, listener: &TcpListener) -> f64 {
    std::thread::scope(|scope| {
        let mut next = Some(first);
        let takers: Vec<_> = (0..STREAMS)
            .map(|_| {
                let stream = next.take().unwrap_or_else(|| listener.accept().unwrap().0);
                scope.spawn(move || {
                    take_stream(tuned(stream), STREAM_BYTES / STREAMS, &mut vec![0; BUFFER]);
                    cpu_time()
                })
            })
            .collect();
        takers.into_iter().map(|taker| taker.join().unwrap()).sum()
    })
}

fn take_stream(mut stream: TcpStream, bytes: usize, buffer: &mut [u8]) {
    let mut left = bytes;
    while left > 0 {
        left -= stream.read(buffer).unwrap().min(left);
    }
    stream.write_all(&[0]).unwrap();
}

fn echo(mut stream: TcpStream) {
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() {
        stream.write_all(&byte).unwrap();
    }
}

fn answer(mut stream: TcpStream, buffer: &mut [u8]) {
    stream.read_exact(&mut buffer[..REQUEST]).unwrap();
    stream.write_all(&buffer[..REQUEST]).unwrap();
    // The client closes first.
    let _ = stream.read(buffer);
}

/// Asks for one burst.
fn ask(kind: Kind, server: (&str, u16)) -> Asked {
    match kind {
        Kind::Stream => send_stream(server, STREAM_BYTES),
        Kind::Streams => send_streams(server),
        Kind::Echo => {
            let mut stream = tuned(TcpStream::connect(server).unwrap());
            let mut asked = timed(ECHOES, || {
                stream.write_all(&[0]).unwrap();
                stream.read_exact(&mut [0]).unwrap();
            });
            asked.value = asked.times[ECHOES / 2];
            asked
        }
        Kind::Connect => timed(CONNECTIONS, || {
            let mut stream = TcpStream::connect(server).unwrap();
            // A reset instead of TIME_WAIT: thousands of bursts must not run out of ports.
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            stream.write_all(&[0; REQUEST]).unwrap();
            stream.read_exact(&mut [0; REQUEST]).unwrap();
        }),
    }
}

fn send_streams(server: (&str, u16)) -> Asked {
    let start = Instant::now();
    let cpu = std::thread::scope(|scope| {
        let senders: Vec<_> =
            (0..STREAMS).map(|_| scope.spawn(|| send_stream(server, STREAM_BYTES / STREAMS).cpu)).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).sum()
    });
    let value = STREAM_BYTES as f64 * 8.0 / 1e9 / start.elapsed().as_secs_f64();
    Asked { value, times: Vec::new(), cpu }
}

fn send_stream(server: (&str, u16), bytes: usize) -> Asked {
    let mut stream = tuned(TcpStream::connect(server).unwrap());
    let buffer = vec![0; BUFFER];
    let (start, cpu) = (Instant::now(), cpu_time());
    for _ in 0..bytes / BUFFER {
        stream.write_all(&buffer).unwrap();
    }
    stream.read_exact(&mut [0]).unwrap();
    let value = bytes as f64 * 8.0 / 1e9 / start.elapsed().as_secs_f64();
    Asked { value, times: Vec::new(), cpu: cpu_time() - cpu }
}

/// So many times; the value is how many of them a second holds.
fn timed(count: usize, mut once: impl FnMut()) -> Asked {
    let (start, cpu) = (Instant::now(), cpu_time());
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        once();
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    let value = count as f64 / start.elapsed().as_secs_f64();
    let cpu = cpu_time() - cpu;
    times.sort_by(f64::total_cmp);
    Asked { value, times, cpu }
}

/// Cubic, because the machine's default may pace (bbr), which hides what the data path can do.
fn tuned(stream: TcpStream) -> TcpStream {
    rustix::net::sockopt::set_tcp_congestion(&stream, "cubic").unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(STALL)).unwrap();
    stream.set_write_timeout(Some(STALL)).unwrap();
    stream
}
