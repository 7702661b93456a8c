//! Queries to the embedded resolver from inside a container's namespace, without a program there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Failed, Hosts};

/// Where containers find their resolver.
const RESOLVER: &str = "127.0.0.11:53";
/// A query without an answer in this time is lost.
pub const LOST: Duration = Duration::from_secs(1);

/// The network namespace of a container.
#[derive(Debug)]
pub struct Inside(File);

impl Inside {
    /// Opens it.
    pub fn of(hosts: &Hosts, host: &str, container: &str) -> Result<Self, Failed> {
        let pid = hosts.inspect(host, container, "{{.State.Pid}}")?;
        let path = format!("/proc/{}/ns/net", pid.trim());
        let opened = File::open(&path);
        opened.map(Self).map_err(|error| Failed {
            command: path,
            code: None,
            stdout: String::new(),
            stderr: error.to_string(),
        })
    }

    /// Runs there, on a thread of its own.
    ///
    /// # Panics
    /// When the thread cannot enter the namespace, and when the work does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).expect("enter");
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs there on a thread that lives as long as the work does.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let place = self.0.try_clone();
        std::thread::spawn(move || {
            let place = place.expect("a file handle");
            move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).expect("enter");
            work()
        })
    }

    /// The same, with a socket towards the resolver.
    ///
    /// # Panics
    /// When there can be no such socket.
    pub fn ask<T: Send>(&self, work: impl FnOnce(&UdpSocket) -> T + Send) -> T {
        self.run(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            socket.connect(RESOLVER).expect("a socket");
            socket.set_read_timeout(Some(LOST)).expect("a socket");
            work(&socket)
        })
    }

    /// All addresses of a name; none if there is no answer at all.
    pub fn addresses(&self, name: &str) -> Option<BTreeSet<Ipv4Addr>> {
        self.ask(|socket| {
            let mut buffer = [0; 4096];
            socket.send(&query(1, name)).ok()?;
            let len = socket.recv(&mut buffer).ok()?;
            Some(all_addresses(&buffer[..len]).unwrap_or_default())
        })
    }

    /// Looks a name up so many times; says how often each first address came. Lost queries count as `0.0.0.0`.
    pub fn look_up(&self, name: &str, times: u16) -> BTreeMap<Ipv4Addr, usize> {
        self.ask(|socket| {
            let (mut found, mut buffer) = (BTreeMap::new(), [0; 512]);
            for id in 0..times {
                let _ = socket.send(&query(id, name));
                let answer = loop {
                    match socket.recv(&mut buffer) {
                        Ok(len) if buffer[..2] == id.to_be_bytes() => break first_address(&buffer[..len]),
                        Ok(_) => {}
                        Err(_) => break None,
                    }
                };
                *found.entry(answer.unwrap_or(Ipv4Addr::UNSPECIFIED)).or_default() += 1;
            }
            found
        })
    }
}

/// A query for an IPv4 address.
pub fn query(id: u16, name: &str) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// The first answer's address.
fn first_address(answer: &[u8]) -> Option<Ipv4Addr> {
    let count = u16::from_be_bytes([*answer.get(6)?, *answer.get(7)?]);
    if count == 0 { None } else { record(answer, end_of_question(answer)?).map(|(address, _)| address) }
}

/// The addresses of all answers, which are nothing but addresses.
fn all_addresses(answer: &[u8]) -> Option<BTreeSet<Ipv4Addr>> {
    let count = u16::from_be_bytes([*answer.get(6)?, *answer.get(7)?]);
    let (mut all, mut at) = (BTreeSet::new(), end_of_question(answer)?);
    for _ in 0..count {
        let (address, end) = record(answer, at)?;
        all.insert(address);
        at = end;
    }
    Some(all)
}

fn end_of_question(answer: &[u8]) -> Option<usize> {
    Some(12 + answer.get(12..)?.iter().position(|byte| *byte == 0)? + 5)
}

/// Address and end of the record that begins here; it has a name of its own or a pointer.
fn record(answer: &[u8], at: usize) -> Option<(Ipv4Addr, usize)> {
    let owner = answer.get(at..)?;
    let data = match owner.first()? {
        0xc0..=0xff => at + 2 + 10,
        _ => at + owner.iter().position(|byte| *byte == 0)? + 1 + 10,
    };
    let octets: [u8; 4] = answer.get(data..data + 4)?.try_into().ok()?;
    Some((octets.into(), data + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_with_and_without_pointers() {
        let question = query(7, "web");
        let record = [0, 1, 0, 1, 0, 0, 2, 88, 0, 4, 10, 0, 1, 5];
        let mut answer = question.clone();
        answer[7] = 1;
        let pointer = [&answer[..], &[0xc0, 12], &record].concat();
        let whole = [&answer[..], b"\x03web\0", &record].concat();
        assert_eq!(first_address(&pointer), Some([10, 0, 1, 5].into()));
        assert_eq!(first_address(&whole), Some([10, 0, 1, 5].into()));
        assert_eq!(first_address(&question), None);
        answer[7] = 2;
        let two =
            [&answer[..], &[0xc0, 12], &record, b"\x03web\0", &[0, 1, 0, 1, 0, 0, 2, 88, 0, 4, 10, 0, 1, 9]]
                .concat();
        let both = BTreeSet::from([[10, 0, 1, 5].into(), [10, 0, 1, 9].into()]);
        assert_eq!(all_addresses(&two), Some(both));
        assert_eq!(all_addresses(&question), Some(BTreeSet::new()));
    }
}
