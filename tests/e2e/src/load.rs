//! Clients that ask a web server from inside containers, again and again, and transfers that take their time.
//!
//! They are threads of this process in the containers' network namespaces: hundreds of requests a second cost less
//! there than a few by programs in the container.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use weft_lab::eventually;

use crate::Hosts;
use crate::dns::Inside;
use crate::pause::pause;

/// A request without an answer in this time has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(10);
/// Answers that a client needs before something counts as done under load.
const ENOUGH: u64 = 20;
/// Time to get them.
const ANSWERED: Duration = Duration::from_secs(40);
/// Pieces of a transfer, and the time between two: five seconds in all.
pub(crate) const PIECES: usize = 50;
const BETWEEN: Duration = Duration::from_millis(100);
const PIECE: &[u8] = b"chunk\n";

/// What a server as in [`crate::updates`] answers at `/cgi-bin/slow` in the end.
const DOWNLOADED: &str = "done";

/// What one client has seen.
#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    answers: AtomicU64,
    /// Longest time without an answer, since it was last asked for.
    silence: AtomicU64,
    failures: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct Client {
    name: String,
    seen: Arc<Seen>,
    thread: JoinHandle<()>,
}

/// Clients that go on until [`Load::end`].
#[derive(Debug)]
pub(crate) struct Load {
    clients: Vec<Client>,
    transfers: Vec<JoinHandle<Result<(), String>>>,
    places: Vec<(String, Inside)>,
    servers: Vec<SocketAddr>,
}

/// What clients had.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answered {
    pub(crate) answers: u64,
    pub(crate) failures: Vec<String>,
}

impl Load {
    /// A client for each server in each of these containers, `host` and name. Returns when all have been answered.
    pub(crate) fn begin(hosts: &Hosts, containers: &[(&str, &str)], servers: &[SocketAddr]) -> Self {
        Self::begin_with(PATIENCE, hosts, containers, servers)
    }

    /// The same; a request without an answer in this time has failed, and the next one is made.
    pub(crate) fn begin_with(
        patience: Duration,
        hosts: &Hosts,
        containers: &[(&str, &str)],
        servers: &[SocketAddr],
    ) -> Self {
        let inside = |(host, container): &(&str, &str)| {
            let inside = Inside::of(hosts, host, container).expect("the client's namespace");
            ((*host).to_owned(), inside)
        };
        let places: Vec<(String, Inside)> = containers.iter().map(inside).collect();
        let clients = places.iter().flat_map(|(host, inside)| {
            servers.iter().map(move |server| {
                let (seen, server) = (Arc::new(Seen::default()), *server);
                let theirs = seen.clone();
                let thread = inside.spawn(move || ask_on(server, patience, &theirs));
                Client { name: format!("{host} to {server}"), seen, thread }
            })
        });
        let clients = clients.collect();
        let load = Self { clients, transfers: Vec::new(), places, servers: servers.to_vec() };
        load.go_on();
        load
    }

    /// Until every client has had some more answers.
    pub(crate) fn go_on(&self) {
        let before: Vec<u64> = self.clients.iter().map(Client::answers).collect();
        for (client, before) in self.clients.iter().zip(before) {
            eventually("answers", ANSWERED, || match client.answers() {
                now if now >= before + ENOUGH => Ok(()),
                now => Err(format!("{} had {}, {:?}", client.name, now - before, client.seen.failures())),
            });
        }
    }

    /// A long download and a long upload by each client's way, which are looked at in the end.
    pub(crate) fn transfer(&mut self) {
        for (host, inside) in &self.places {
            for server in self.servers.iter().copied() {
                for (what, work) in
                    [("download", download as fn(SocketAddr) -> Result<(), String>), ("upload", upload)]
                {
                    let name = format!("{what} by {host} from {server}");
                    let named = move || work(server).map_err(|error| format!("{}: {name}: {error}", now()));
                    self.transfers.push(inside.spawn(named));
                    // The server's queue is short, and who is not in it tries again a second later.
                    pause(PAUSE * 3);
                }
            }
        }
    }

    /// Answers so far, of all.
    pub(crate) fn answers(&self) -> u64 {
        self.clients.iter().map(Client::answers).sum()
    }

    /// The longest time that any client was without an answer since this was last asked.
    pub(crate) fn silence(&self) -> Duration {
        let longest = self.clients.iter().map(|client| client.seen.silence.swap(0, Ordering::Relaxed)).max();
        Duration::from_millis(longest.unwrap_or_default())
    }

    /// What went wrong so far; it is not said again.
    pub(crate) fn failures(&self) -> Vec<String> {
        let of = |client: &Client| {
            let failures = std::mem::take(&mut *client.seen.failures());
            failures.into_iter().map(|failure| format!("{}: {failure}", client.name)).collect::<Vec<_>>()
        };
        self.clients.iter().flat_map(of).collect()
    }

    /// Ends all clients, once all transfers are done.
    pub(crate) fn end(mut self) -> Answered {
        let transfers = self.transfers.drain(..).map(|one| one.join().expect("transfers do not panic"));
        let mut failures: Vec<String> = transfers.filter_map(Result::err).collect();
        for client in &self.clients {
            client.seen.stop.store(true, Ordering::Relaxed);
        }
        failures.extend(self.failures());
        let answers = self.answers();
        for client in self.clients {
            client.thread.join().expect("clients do not panic");
            let late = std::mem::take(&mut *client.seen.failures());
            failures.extend(late.into_iter().map(|failure| format!("{}: {failure}", client.name)));
        }
        Answered { answers, failures }
    }
}

impl Client {
    fn answers(&self) -> u64 {
        self.seen.answers.load(Ordering::Relaxed)
    }
}

impl Seen {
    fn failures(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ask_on(server: SocketAddr, patience: Duration, seen: &Seen) {
    let mut last = Instant::now();
    while !seen.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        match request(server, patience, b"GET / HTTP/1.0\r\n\r\n") {
            Ok(_) => {
                seen.answers.fetch_add(1, Ordering::Relaxed);
                seen.silence.fetch_max(last.elapsed().as_millis() as u64, Ordering::Relaxed);
                last = Instant::now();
            }
            Err(error) => seen.failures().push(format!("{}: {error} after {:?}", now(), began.elapsed())),
        }
        pause(PAUSE);
    }
}

/// The last line of the answer, which must not be empty.
pub(crate) fn request(server: SocketAddr, patience: Duration, request: &[u8]) -> Result<String, String> {
    last_line(send(server, patience, request).map_err(|error| error.to_string())?)
}

fn send(server: SocketAddr, patience: Duration, request: &[u8]) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(request)?;
    Ok(stream)
}

fn last_line(mut stream: TcpStream) -> Result<String, String> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| format!("{error} after {answer:?}"))?;
    match answer
        .split_once("\r\n\r\n")
        .or_else(|| answer.split_once("\n\n"))
        .and_then(|(_, body)| body.lines().last())
    {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(format!("answered {answer:?}")),
    }
}

/// An answer in pieces.
fn download(server: SocketAddr) -> Result<(), String> {
    match request(server, PATIENCE, b"GET /cgi-bin/slow HTTP/1.0\r\n\r\n")? {
        line if line == DOWNLOADED => Ok(()),
        line => Err(format!("ended with {line:?}")),
    }
}

/// A question in pieces. The server says how long it was.
fn upload(server: SocketAddr) -> Result<(), String> {
    let length = PIECES * PIECE.len();
    let head = format!("POST /cgi-bin/take HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
    let mut stream = send(server, PATIENCE, head.as_bytes()).map_err(|error| error.to_string())?;
    for _ in 0..PIECES {
        pause(BETWEEN);
        stream.write_all(PIECE).map_err(|error| error.to_string())?;
    }
    match last_line(stream)? {
        line if line.trim() == length.to_string() => Ok(()),
        line => Err(format!("{line:?} of {length} bytes arrived")),
    }
}

/// The time of day as logs have it, to find there what happened.
pub(crate) fn now() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let of_day = now.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", of_day / 3600, of_day / 60 % 60, of_day % 60, now.subsec_millis())
}
