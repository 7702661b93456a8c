//! Who answers a message: nobody, we from memory, or another server.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rand::seq::SliceRandom;

use crate::etc::Upstream;
use crate::resolver::query::{Code, Query, kind};
use crate::resolver::table::Found;
use crate::resolver::view::{ClusterNames, View};

/// Lifetime in seconds of answers with services' own addresses; Docker's for everything.
const TTL_LASTING: u32 = 600;
/// Lifetime in seconds of answers with addresses of tasks and containers: those come and go.
const TTL: u32 = 1;

/// What one container's resolver goes by.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) view: View,
    pub(crate) upstreams: Vec<Upstream>,
    /// The user set `ndots`: names without a dot are the search list's business.
    pub(crate) ndots_set: bool,
    /// No way out: what is not local fails at once.
    pub(crate) isolated: bool,
}

/// What to do with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Answer(Vec<u8>),
    Forward(Query),
    Silence,
}

/// Judges one container's messages.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) settings: Arc<ArcSwap<Settings>>,
    pub(super) cluster: Arc<ArcSwap<ClusterNames>>,
}

impl Judge {
    pub(super) fn judge(&self, message: &[u8], tcp: bool) -> Verdict {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(unserved) => return unserved.answer().map_or(Verdict::Silence, Verdict::Answer),
        };
        if !query.is_understood() {
            return Verdict::Answer(query.answer_bad_version());
        }
        let limit = if tcp { usize::from(u16::MAX) } else { query.udp_limit() };
        let settings = self.settings.load();
        if query.is_internet()
            && let Some(answer) = local(&settings.view, &query, limit)
        {
            return Verdict::Answer(answer);
        }
        match self.withheld(&settings, &query) {
            Some(code) => Verdict::Answer(query.answer_code(code)),
            None => Verdict::Forward(query),
        }
    }

    /// The answer to what no other server is asked.
    fn withheld(&self, settings: &Settings, query: &Query) -> Option<Code> {
        if settings.ndots_set && query.wants_addresses() && !query.name.contains('.') {
            return Some(Code::NoError);
        }
        if self.cluster.load().owns(&query.name) {
            return Some(Code::NxDomain);
        }
        (settings.isolated || settings.upstreams.is_empty()).then_some(Code::ServFail)
    }
}

/// The answer to what is local.
fn local(view: &View, query: &Query, limit: usize) -> Option<Vec<u8>> {
    match query.kind {
        kind::A | kind::AAAA | kind::ANY => {
            let found = view.find(&query.name)?;
            let mut addresses = found.ips.clone();
            addresses.shuffle(&mut rand::rng());
            Some(query.answer_addresses(&addresses, ttl(&found), limit))
        }
        kind::PTR => {
            let ip = query.reverse_address()?;
            match view.name_of(ip) {
                Some(name) => Some(query.answer_name(&name, TTL, limit)),
                // What has no name in its own network has none elsewhere.
                None => view.covers(ip).then(|| query.answer_code(Code::NxDomain)),
            }
        }
        kind::SRV => {
            let Some(mut places) = view.places(&query.name) else {
                return view.find(&query.name).map(|_| query.answer_code(Code::NoError));
            };
            places.shuffle(&mut rand::rng());
            Some(query.answer_places(&places, TTL, limit))
        }
        // The name is ours: it has nothing of that kind anywhere.
        _ => view.find(&query.name).map(|_| query.answer_code(Code::NoError)),
    }
}

fn ttl(found: &Found) -> u32 {
    if found.lasting { TTL_LASTING } else { TTL }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Instant;

    use super::*;
    use crate::resolver::query::query;
    use crate::resolver::{NameRecord, NameTable, NetworkNames, SharedTable};

    fn record(names: &[&str], ips: &[&str], lasting: bool) -> NameRecord {
        NameRecord {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            canonical: (!lasting).then(|| names[0].to_owned()),
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            lasting,
            ..NameRecord::default()
        }
    }

    fn net(name: &str, subnet: &str, records: Vec<NameRecord>) -> SharedTable {
        let subnets = vec![subnet.parse().unwrap()];
        let names = NetworkNames { id: name.to_owned(), name: name.to_owned(), subnets, records };
        Arc::new(ArcSwap::from_pointee(NameTable::new(&names, Instant::now())))
    }

    fn judge(change: impl FnOnce(&mut Settings)) -> Judge {
        let mut tasks: Vec<_> = (2..5).map(|n| record(&["task"], &[&format!("10.0.1.{n}")], false)).collect();
        tasks.push(record(&["web"], &["10.0.1.9"], true));
        let front = net("front", "10.0.1.0/24", tasks);
        let other = net("other", "10.0.2.0/24", vec![record(&["db"], &["10.0.2.2"], false)]);
        let server: IpAddr = "192.0.2.1".parse().unwrap();
        let mut settings = Settings {
            view: View { tables: vec![front.clone()], ..View::default() },
            upstreams: vec![Upstream { server, from_host: true }],
            ..Settings::default()
        };
        change(&mut settings);
        Judge {
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            cluster: Arc::new(ArcSwap::from_pointee(ClusterNames::new(vec![front, other]))),
        }
    }

    /// Response code, number of answers and their lifetime; none if it is sent on.
    fn asked(judge: &Judge, name: &str, kind: u16) -> Option<(u8, u8, u32)> {
        match judge.judge(&query(1, name, kind, None), false) {
            Verdict::Answer(answer) => {
                let at = name.len() + 2 + 16 + 6;
                let ttl = answer.get(at..at + 4).map(|ttl| u32::from_be_bytes(ttl.try_into().unwrap()));
                Some((answer[3] & 0x0f, answer[7], ttl.unwrap_or_default()))
            }
            Verdict::Forward(_) => None,
            Verdict::Silence => panic!("silence"),
        }
    }

    #[test]
    fn local_names_are_answered_whatever_is_asked() {
        let judge = judge(|_| {});
        assert_eq!(asked(&judge, "web", kind::A), Some((0, 1, TTL_LASTING)));
        assert_eq!(asked(&judge, "task", kind::A), Some((0, 3, TTL)));
        let (mx, txt) = (15, 16);
        for kind in [kind::AAAA, kind::HTTPS, kind::SRV, mx, txt] {
            assert_eq!(asked(&judge, "web", kind), Some((0, 0, 0)), "{kind}");
        }
        assert_eq!(asked(&judge, "9.1.0.10.in-addr.arpa", kind::PTR), Some((0, 1, TTL)));
        assert_eq!(asked(&judge, "77.1.0.10.in-addr.arpa", kind::PTR), Some((3, 0, 0)));
        assert_eq!(asked(&judge, "77.9.0.10.in-addr.arpa", kind::PTR), None);
        assert_eq!(asked(&judge, "example.org", kind::A), None);
        assert_eq!(asked(&judge, "printer", kind::A), None);
    }

    #[test]
    fn the_order_of_answers_varies() {
        let judge = judge(|_| {});
        let first = || match judge.judge(&query(1, "task", kind::A, None), false) {
            Verdict::Answer(answer) => answer[12 + 6 + 4 + 15],
            other => panic!("{other:?}"),
        };
        let mut counts = [0; 5];
        (0..3000).for_each(|_| counts[usize::from(first())] += 1);
        assert!(counts[2..].iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn what_is_withheld() {
        let plain = judge(|_| {});
        assert_eq!(asked(&plain, "db", kind::A), Some((3, 0, 0)), "a name of another network");
        assert_eq!(asked(&plain, "tasks.db", kind::AAAA), Some((3, 0, 0)));
        assert_eq!(asked(&plain, "db.example.org", kind::A), None);
        let ndots = judge(|settings| settings.ndots_set = true);
        assert_eq!(asked(&ndots, "printer", kind::A), Some((0, 0, 0)));
        assert_eq!(asked(&ndots, "printer", kind::HTTPS), Some((0, 0, 0)));
        assert_eq!(asked(&ndots, "org", 2), None, "the servers of a domain");
        let isolated = judge(|settings| settings.isolated = true);
        assert_eq!(asked(&isolated, "example.org", kind::A), Some((2, 0, 0)));
        assert_eq!(
            asked(&judge(|settings| settings.upstreams.clear()), "example.org", kind::A),
            Some((2, 0, 0))
        );
    }
}
