//! Containers on two hosts and on one, in the clear.

use super::lanes::{Lane, Reading, measure as race};
use super::{Arena, Effort};
use crate::burst::Kind;
use crate::path::Path;
use crate::row::Bound::{self, AtLeast, AtMost};
use crate::row::{Goal, Row};
use crate::side::Side;

pub(crate) fn measure(arena: &Arena, effort: Effort) -> Vec<Row> {
    let far = lanes(arena, |side| &side.far, ("bare hosts", &arena.bare.far));
    let near = lanes(arena, |side| &side.near, ("veth pair", &arena.bare.near));
    let mut rows = race(&far, across(), effort.rounds);
    rows.extend(race(&near, on_one_host(), effort.rounds));
    rows
}

/// Docker, Weft's engines, and the limit of all.
fn lanes<'a>(
    arena: &'a Arena,
    of: impl Fn(&'a Side) -> &'a Path,
    (name, limit): (&str, &'a Path),
) -> Vec<Lane<'a>> {
    let last = arena.wefts.len() + 1;
    let mut lanes = vec![Lane::beside(arena.docker.name, of(&arena.docker))];
    lanes.extend(arena.wefts.iter().map(|weft| Lane::judged(weft.name, of(weft), Some(last))));
    lanes.push(Lane::beside(name, limit));
    lanes
}

fn both(docker: Bound, limit: Bound) -> [Goal; 2] {
    [Goal::beside_docker(docker), Goal::beside_limit(limit)]
}

fn across() -> Vec<Reading> {
    let cpu = "CPU of both ends";
    vec![
        Reading::of(Kind::Stream, "cross-host TCP, 1 stream").goals(both(AtLeast(1.25), AtLeast(0.82))),
        Reading::cpu_of(Kind::Stream, format!("cross-host TCP, 1 stream: {cpu} (goals: best rounds)"))
            .goals(both(AtMost(0.82), AtMost(1.2)).map(Goal::of_best)),
        Reading::of(Kind::Streams, "cross-host TCP, 4 streams").goals(both(AtLeast(1.25), AtLeast(0.8))),
        Reading::cpu_of(Kind::Streams, format!("cross-host TCP, 4 streams: {cpu}")),
        Reading::elsewhere_of(Kind::Streams, "cross-host TCP, 4 streams: CPU of ksoftirqd"),
        Reading::of(Kind::Echo, "cross-host TCP RR, p50").goals(both(AtMost(0.7), AtMost(1.25))),
        Reading::of(Kind::Connect, "cross-host connections").goals(both(AtLeast(1.45), AtLeast(0.75))),
        Reading::cpu_of(Kind::Connect, format!("cross-host connections: {cpu}")),
        Reading::of(Kind::Flood, "cross-host UDP 64 B received").goals(both(AtLeast(1.5), AtLeast(0.65))),
        Reading::of(Kind::Send, "cross-host UDP 64 B, CPU of the path")
            .goals(both(AtMost(0.56), AtMost(1.35))),
    ]
}

fn on_one_host() -> Vec<Reading> {
    vec![
        Reading::of(Kind::Stream, "same-host TCP, 1 stream"),
        Reading::of(Kind::Echo, "same-host TCP RR, p50").goals(both(AtMost(0.78), AtMost(1.12))),
        Reading::of(Kind::Connect, "same-host connections").goals(both(AtLeast(1.35), AtLeast(0.93))),
        Reading::of(Kind::Send, "same-host UDP 64 B, CPU of the path").goals(both(AtMost(0.7), AtMost(1.15))),
    ]
}
