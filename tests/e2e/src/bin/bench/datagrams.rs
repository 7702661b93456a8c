//! Small datagrams: how many arrive, and what sending one costs.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::burst::{End, Found, Kind, cpu_time, take_cpu};
use crate::path::Path;

/// Bytes of each.
const SIZE: usize = 64;
/// How long they are sent for when those that arrive are counted.
const FLOOD: Duration = Duration::from_millis(100);
/// How often the receiver looks whether it is over.
const GLANCE: Duration = Duration::from_millis(20);
/// Sent between two looks at a clock.
const BATCH: usize = 32;
const BATCHES: usize = 160;
/// The first ones find caches cold.
const COLD: usize = 8;
/// From a port of ours to one that nobody has.
const UNUSED: u16 = 10_000;
/// In which the kernel ends what it began.
const PAUSE: Duration = Duration::from_micros(100);

/// Those that arrive in a second while they are sent as fast as can be.
pub(crate) fn flood(path: &Path) -> Found {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (ready, listening) = std::sync::mpsc::channel();
        let ended = &ended;
        let receiver = scope.spawn(move || {
            path.servers[0].enter();
            take_cpu(Kind::Flood, End::Server);
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, path.listen)).unwrap();
            socket.set_read_timeout(Some(GLANCE)).unwrap();
            ready.send(()).unwrap();
            let (mut count, start) = (0u32, cpu_time());
            while !ended.load(Ordering::Relaxed) {
                count += u32::from(socket.recv(&mut [0; SIZE]).is_ok());
            }
            (f64::from(count), cpu_time() - start)
        });
        let sender = scope.spawn(move || {
            take_cpu(Kind::Flood, End::Client);
            listening.recv().unwrap();
            let socket = towards(path, path.targets[0]);
            let (start, cpu) = (Instant::now(), cpu_time());
            while start.elapsed() < FLOOD {
                // A full queue somewhere is what a flood is about.
                (0..BATCH).for_each(|_| drop(socket.send(&[0; SIZE])));
            }
            let spent = (start.elapsed().as_secs_f64(), cpu_time() - cpu);
            ended.store(true, Ordering::Relaxed);
            spent
        });
        let ((took, sent_cpu), (count, taken_cpu)) = (sender.join().unwrap(), receiver.join().unwrap());
        Found { value: count / took, cpu: sent_cpu + taken_cpu, units: count / 1e6, ..Found::default() }
    })
}

/// Nanoseconds of CPU that one takes on its whole way, which the kernel goes in the sender's context.
pub(crate) fn send(path: &Path) -> Found {
    let work = || {
        take_cpu(Kind::Send, End::Client);
        // Nobody listens there; what comes back of that is no error here.
        let mut target = path.targets[0];
        target.set_port(target.port() + UNUSED);
        let socket = towards(path, target);
        let batch = |_| {
            let start = cpu_time();
            (0..BATCH).for_each(|_| drop(socket.send(&[0; SIZE])));
            let each = (cpu_time() - start) / BATCH as f64 * 1e9;
            std::thread::park_timeout(PAUSE);
            each
        };
        let mut each: Vec<f64> = (0..BATCHES).map(batch).skip(COLD).collect();
        each.sort_by(f64::total_cmp);
        each[each.len() / 2]
    };
    let value = std::thread::scope(|scope| scope.spawn(work).join().unwrap());
    Found { value, cpu: value / 1e9, units: 1.0 / 1e6, ..Found::default() }
}

/// A socket of the client's.
fn towards(path: &Path, target: SocketAddrV4) -> UdpSocket {
    path.client.enter();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect(target).unwrap();
    socket
}
