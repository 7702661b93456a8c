//! Queries to the embedded resolver, by threads of this process inside a container's namespace.

use std::net::UdpSocket;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use weft_e2e::Hosts;
use weft_e2e::dns::{Inside, LOST, query};

const HOST: &str = "h1";
/// Queries that wait for their answers when the rate is measured.
const OUTSTANDING: usize = 50;
/// Queries a second when the delay is measured.
const PACE: u32 = 20_000;
const BURST: Duration = Duration::from_secs(1);
/// Between two questions for a name that is not there yet.
const GLANCE: Duration = Duration::from_millis(1);

/// A container that asks, on a network with so many names.
pub(crate) struct Asker {
    inside: Inside,
    names: Vec<String>,
    _hole: UdpSocket,
}

impl Asker {
    /// Makes the network, one container with all the names, and one to ask from. Its servers do not answer.
    pub(crate) fn new(hosts: &Hosts, count: usize) -> Self {
        let network = format!("names{count}");
        hosts.docker(HOST, format!("network create {network}")).unwrap();
        let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
        let aliases: String = names.iter().map(|name| format!(" --network-alias {name}")).collect();
        let (bearer, asker) = (format!("bearer{count}"), format!("asker{count}"));
        hosts.run_idle(HOST, &bearer, &format!("--network {network}{aliases}")).unwrap();
        let silent = hosts.address(HOST, &bearer, &network).unwrap();
        hosts.run_idle(HOST, &asker, &format!("--network {network} --dns {silent}")).unwrap();
        // A server that never answers.
        let hole = Inside::of(hosts, HOST, &bearer).unwrap().run(|| UdpSocket::bind("0.0.0.0:53")).unwrap();
        Self { inside: Inside::of(hosts, HOST, &asker).unwrap(), names, _hole: hole }
    }

    /// Answers per second with [`OUTSTANDING`] queries on their way.
    pub(crate) fn rate(&self) -> f64 {
        self.inside.ask(|socket| {
            let mut asked = (0..u16::MAX).cycle();
            let mut ask = |count: usize| {
                for _ in 0..count {
                    let id = asked.next().unwrap();
                    socket.send(&query(id, &self.names[usize::from(id) % self.names.len()])).unwrap();
                }
            };
            let mut buffer = [0; 512];
            ask(OUTSTANDING);
            let (start, mut answers) = (Instant::now(), 0u32);
            while start.elapsed() < BURST {
                match socket.recv(&mut buffer) {
                    Ok(len) => {
                        assert_eq!((buffer[3] & 0x0f, buffer[7]), (0, 1), "{:?}", &buffer[..len]);
                        answers += 1;
                        ask(1);
                    }
                    // All were lost.
                    Err(_) => ask(OUTSTANDING),
                }
            }
            f64::from(answers) / start.elapsed().as_secs_f64()
        })
    }

    /// 99th percentile of the delay in milliseconds at [`PACE`] queries a second. Both who sends and who hears the answers
    /// sleep in between: one that spins would take a processor from the resolver, which clients do not.
    pub(crate) fn delay(&self) -> f64 {
        let total = PACE * BURST.as_secs() as u32;
        let sent: Vec<OnceLock<Instant>> = (0..total).map(|_| OnceLock::new()).collect();
        self.inside.ask(|socket| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (start, mut next) = (Instant::now(), 0);
                    while next < total {
                        let due = (start.elapsed().as_secs_f64() * f64::from(PACE)) as u32;
                        for number in next..due.min(total) {
                            let name = &self.names[number as usize % self.names.len()];
                            let _ = sent[number as usize].set(Instant::now());
                            // A full buffer is a lost query.
                            let _ = socket.send(&query(number as u16, name));
                        }
                        next = due;
                        std::thread::park_timeout(Duration::from_secs(1) / PACE);
                    }
                });
                let (mut delays, mut buffer) = (Vec::new(), [0; 512]);
                while delays.len() < total as usize && socket.recv(&mut buffer).is_ok() {
                    let id = u16::from_be_bytes([buffer[0], buffer[1]]);
                    delays.extend(sent[usize::from(id)].get().map(Instant::elapsed));
                }
                delays.resize(total as usize, LOST);
                percentile(delays)
            })
        })
    }

    /// The same for names of the network, asked one after the other, while [`PACE`] queries a second for other names of
    /// the same container go to a server that never answers.
    pub(crate) fn delay_beside_a_black_hole(&self) -> f64 {
        std::thread::scope(|scope| {
            let end = Instant::now() + BURST * 2;
            scope.spawn(move || {
                self.inside.ask(|socket| {
                    let (start, mut sent) = (Instant::now(), 0u32);
                    while Instant::now() < end {
                        let due = (start.elapsed().as_secs_f64() * f64::from(PACE)) as u32;
                        for n in sent..due {
                            let _ = socket.send(&query(n as u16, &format!("n{n}.example.org")));
                        }
                        sent = due;
                        std::thread::park_timeout(Duration::from_micros(500));
                    }
                });
            });
            self.inside.ask(|socket| {
                let (mut delays, mut buffer) = (Vec::new(), [0; 512]);
                while Instant::now() < end {
                    let (id, sent) = (delays.len() as u16, Instant::now());
                    socket.send(&query(id, &self.names[usize::from(id) % self.names.len()])).unwrap();
                    while socket.recv(&mut buffer).is_ok() && buffer[..2] != id.to_be_bytes() {}
                    delays.push(sent.elapsed());
                }
                percentile(delays)
            })
        })
    }
}

fn percentile(mut delays: Vec<Duration>) -> f64 {
    delays.sort();
    delays[delays.len() * 99 / 100].as_secs_f64() * 1000.0
}

/// When the name of a question first has an address. A resolver that asks others for what it does not know must not be
/// waited for: it is asked again.
pub(crate) fn await_answer(socket: &UdpSocket, question: &[u8]) -> Instant {
    let mut answer = [0; 512];
    socket.set_read_timeout(Some(GLANCE * 5)).unwrap();
    loop {
        socket.send(question).unwrap();
        if socket.recv(&mut answer).is_ok() && answer[7] > 0 {
            return Instant::now();
        }
        std::thread::park_timeout(GLANCE);
    }
}
