//! Both ends of a burst of TCP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use crate::burst::{CONNECTIONS, ECHOES, End, Found, Kind, STALL, STREAM, STREAMS, cpu_time, take_cpu};
use crate::path::{Listeners, Path};

const BUFFER: usize = 128 * 1024;
/// Bytes of the one request and answer of a short connection.
const REQUEST: usize = 64;

/// One burst of any kind but datagrams.
pub(crate) fn exchange(path: &Path, kind: Kind) -> Found {
    std::thread::scope(|scope| {
        let (ready, listening) = std::sync::mpsc::channel();
        let server = scope.spawn(move || {
            take_cpu(kind, End::Server);
            let listeners = path.listen();
            ready.send(()).unwrap();
            serve(kind, &listeners)
        });
        let client = scope.spawn(move || {
            path.client.enter();
            take_cpu(kind, End::Client);
            listening.recv().unwrap();
            ask(kind, &path.targets)
        });
        let mut found = client.join().unwrap();
        found.cpu += server.join().unwrap();
        found
    })
}

/// Serves one burst; its CPU seconds.
fn serve(kind: Kind, listeners: &Listeners) -> f64 {
    let next = || listeners.accept().unwrap().1;
    let (mut buffer, start) = (vec![1; BUFFER], cpu_time());
    let mut takers = 0.0;
    match kind {
        Kind::Streams => takers = take_streams(next),
        Kind::Echo => echo(tuned(next())),
        Kind::Connect => (0..CONNECTIONS).for_each(|_| answer(next(), &mut buffer)),
        _ => take_stream(tuned(next()), &mut buffer),
    }
    cpu_time() - start + takers
}

/// As many as the client opens; the CPU seconds of all.
fn take_streams(next: impl Fn() -> TcpStream) -> f64 {
    std::thread::scope(|scope| {
        let take = |stream| {
            scope.spawn(move || {
                let (mut buffer, start) = (vec![1; BUFFER], cpu_time());
                take_stream(tuned(stream), &mut buffer);
                cpu_time() - start
            })
        };
        let takers: Vec<_> = (0..STREAMS).map(|_| take(next())).collect();
        takers.into_iter().map(|taker| taker.join().unwrap()).sum()
    })
}

/// Until the client ends it; then says that all is there.
fn take_stream(mut stream: TcpStream, buffer: &mut [u8]) {
    while stream.read(buffer).unwrap() > 0 {}
    stream.write_all(&[0]).unwrap();
}

fn echo(mut stream: TcpStream) {
    let mut byte = [0];
    for _ in 0..ECHOES {
        stream.read_exact(&mut byte).unwrap();
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
fn ask(kind: Kind, servers: &[SocketAddrV4]) -> Found {
    let (server, mut next) = (servers[0], servers.iter().cycle());
    match kind {
        Kind::Streams => send_streams(server),
        Kind::Echo => {
            let mut stream = tuned(TcpStream::connect(server).unwrap());
            let mut found = timed(ECHOES, || {
                stream.write_all(&[0]).unwrap();
                stream.read_exact(&mut [0]).unwrap();
            });
            found.value = found.times[ECHOES / 2];
            found
        }
        Kind::Connect => timed(CONNECTIONS, || {
            let mut stream = TcpStream::connect(next.next().unwrap()).unwrap();
            // A reset instead of TIME_WAIT: thousands of bursts must not run out of ports.
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            stream.write_all(&[0; REQUEST]).unwrap();
            stream.read_exact(&mut [0; REQUEST]).unwrap();
        }),
        _ => send_stream(server),
    }
}

fn send_streams(server: SocketAddrV4) -> Found {
    let start = Instant::now();
    let all: Vec<Found> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..STREAMS).map(|_| scope.spawn(|| send_stream(server))).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    let took = start.elapsed().as_secs_f64();
    let sum = |part: fn(&Found) -> f64| all.iter().map(part).sum::<f64>();
    let units = sum(|found| found.units);
    Found { value: units * 8.0 / took, units, cpu: sum(|found| found.cpu), ..Found::default() }
}

fn send_stream(server: SocketAddrV4) -> Found {
    let mut stream = tuned(TcpStream::connect(server).unwrap());
    let (buffer, mut bytes) = (vec![1; BUFFER], 0);
    let (start, cpu) = (Instant::now(), cpu_time());
    while start.elapsed() < STREAM {
        stream.write_all(&buffer).unwrap();
        bytes += BUFFER;
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let (units, took) = (bytes as f64 / 1e9, start.elapsed().as_secs_f64());
    Found { value: units * 8.0 / took, units, cpu: cpu_time() - cpu, ..Found::default() }
}

/// So many times; the value is how many of them a second holds.
fn timed(count: usize, mut once: impl FnMut()) -> Found {
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
    Found { value, times, cpu, units: count as f64 / 1e6 }
}

/// Cubic, because the machine's default may pace (bbr), which hides what the data path can do.
fn tuned(stream: TcpStream) -> TcpStream {
    rustix::net::sockopt::set_tcp_congestion(&stream, "cubic").unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(STALL)).unwrap();
    stream.set_write_timeout(Some(STALL)).unwrap();
    stream
}
