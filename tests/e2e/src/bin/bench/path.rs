//! A way between network namespaces that threads of this process can measure.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::event::epoll;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustix::time::Timespec;

use crate::burst::STALL;

/// Each way has a port of its own from here on: some share their servers.
static NEXT_PORT: AtomicU16 = AtomicU16::new(5001);

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Place(File);

/// A client's namespace, those of the servers that may answer it, and where it connects to: in turn, if it is more than
/// one address.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) client: Place,
    pub(crate) servers: Vec<Place>,
    /// Where the servers listen.
    pub(crate) listen: u16,
    pub(crate) targets: Vec<SocketAddrV4>,
    /// Processes whose CPU time belongs to the way.
    carriers: Vec<i32>,
}

/// Listening sockets of all servers of a way, served by one thread: what a hundred threads would cost in wake-ups is not
/// the way's.
pub(crate) struct Listeners {
    all: Vec<TcpListener>,
    any: std::os::fd::OwnedFd,
}

impl Place {
    /// That of a process.
    pub(crate) fn of(pid: &str) -> Self {
        Self(File::open(format!("/proc/{}/ns/net", pid.trim())).unwrap())
    }

    /// One that is in nobody's way; it goes with this value, also when the process is killed.
    pub(crate) fn fresh() -> Self {
        let open = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            Self(File::open("/proc/thread-self/ns/net").unwrap())
        };
        std::thread::scope(|scope| scope.spawn(open).join().unwrap())
    }

    /// Moves the calling thread there, for good.
    pub(crate) fn enter(&self) {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// Where other processes of root find it.
    pub(crate) fn path(&self) -> String {
        use std::os::fd::AsRawFd as _;
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

impl Path {
    /// Between two namespaces.
    pub(crate) fn between(client: Place, server: Place, address: &str) -> Self {
        Self::to_all(client, vec![server], &[address])
    }

    /// From one namespace to several, by addresses that lead to them.
    pub(crate) fn to_all(client: Place, servers: Vec<Place>, addresses: &[&str]) -> Self {
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let targets =
            addresses.iter().map(|address| SocketAddrV4::new(address.trim().parse().unwrap(), port));
        Self { client, servers, listen: port, targets: targets.collect(), carriers: Vec::new() }
    }

    /// To one namespace, by ports that others chose.
    pub(crate) fn published(client: Place, server: Place, listen: u16, (address, port): (&str, u16)) -> Self {
        let targets = vec![SocketAddrV4::new(address.trim().parse().unwrap(), port)];
        Self { client, servers: vec![server], listen, targets, carriers: Vec::new() }
    }

    /// The same, which these processes carry.
    pub(crate) fn carried_by(self, carriers: Vec<i32>) -> Self {
        Self { carriers, ..self }
    }

    /// Listens in every server's namespace.
    pub(crate) fn listen(&self) -> Listeners {
        let any = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let all: Vec<TcpListener> = self
            .servers
            .iter()
            .map(|server| {
                server.enter();
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.listen)).unwrap()
            })
            .collect();
        for (number, listener) in all.iter().enumerate() {
            set_socket_timeout(listener, Timeout::Recv, Some(STALL)).unwrap();
            let number = epoll::EventData::new_u64(number as u64);
            epoll::add(&any, listener, number, epoll::EventFlags::IN).unwrap();
        }
        Listeners { all, any }
    }

    /// How many of the servers answer when so many connections are made; an error says why one was not.
    pub(crate) fn spread(&self, connections: usize) -> Result<usize, String> {
        std::thread::scope(|scope| {
            let (ready, listening) = std::sync::mpsc::channel();
            let server = scope.spawn(move || {
                let listeners = self.listen();
                ready.send(()).unwrap();
                let mut hit = vec![false; self.servers.len()];
                while hit.contains(&false) {
                    let Some((number, _)) = listeners.accept() else { break };
                    hit[number] = true;
                }
                hit.iter().filter(|hit| **hit).count()
            });
            let client = scope.spawn(move || {
                self.client.enter();
                listening.recv().unwrap();
                self.targets
                    .iter()
                    .cycle()
                    .take(connections)
                    .try_for_each(|to| TcpStream::connect_timeout(&(*to).into(), STALL).map(drop))
            });
            // Who waited for all of them has closed his sockets by now.
            let (refused, hit) = (client.join().unwrap(), server.join().unwrap());
            match refused {
                Err(error) if hit < self.servers.len() => Err(error.to_string()),
                _ => Ok(hit),
            }
        })
    }

    /// CPU seconds of the processes that carry the way, so far.
    pub(crate) fn carriers_cpu(&self) -> f64 {
        self.carriers.iter().map(|pid| cpu_of(*pid)).sum()
    }
}

impl Listeners {
    /// The next connection and whose server has it; none if nobody connects in time.
    pub(crate) fn accept(&self) -> Option<(usize, TcpStream)> {
        let mut events = Vec::with_capacity(1);
        let patience = Timespec { tv_sec: STALL.as_secs().cast_signed(), tv_nsec: 0 };
        epoll::wait(&self.any, rustix::buffer::spare_capacity(&mut events), Some(&patience)).unwrap();
        let number = events.first()?.data.u64() as usize;
        Some((number, self.all[number].accept().unwrap().0))
    }
}

/// CPU seconds of a process's threads; none of one that is gone.
pub(crate) fn cpu_of(pid: i32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanoseconds = |task: std::fs::DirEntry| -> Option<f64> {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.filter_map(nanoseconds).sum::<f64>() / 1e9
}
