use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::FirstBytePlan;
use super::relay::{Carried, Passed};
use crate::pair::Offer;

/// A first word over a path that is open needs one round trip, and the mesh may add one: so much is the median at most, in round trips.
const MEDIAN: f64 = 2.0;
/// With no mesh it takes two, and the mesh may add one: so much is each at most, in round trips.
const LARGEST: f64 = 3.0;

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct FirstByteReport {
    /// The path's round trip, as it was asked for, in ms.
    pub round_trip_ms: f64,
    /// The same as datagrams had it that passed the relay and came back, in ms: the median.
    pub path_ms: f64,
    /// Of each service, in the order in which they were called first.
    pub services: Vec<Greeted>,
    /// What the relay passed on while it was measured.
    pub carried: Carriage,
    /// What must not be, in words.
    pub failed: Vec<String>,
}

/// One service's greetings.
#[derive(Debug, Clone, Serialize)]
pub struct Greeted {
    /// The service.
    pub name: String,
    /// As `service.protocol` has it.
    pub protocol: String,
    /// Greetings that arrived.
    pub greetings: usize,
    /// Connections that were opened.
    pub connections: usize,
    /// Of the first connection, if it was greeted. The first of the first service is the first of all: nothing was asked of the agents
    /// before, and it may have to wait until they are connected.
    pub first: Option<Figure>,
    /// Of those behind it that were: the soonest.
    pub soonest: Option<Figure>,
    /// The median.
    pub median: Option<Figure>,
    /// The largest.
    pub largest: Option<Figure>,
}

/// From the beginning of `connect()` to the first byte.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// In ms.
    pub ms: f64,
    /// In round trips as they were asked for.
    pub round_trips: f64,
}

/// What the relay passed on: towards the services' agent, and back.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Carriage {
    /// Datagrams of gossip.
    pub gossip: [u64; 2],
    /// Datagrams of QUIC.
    pub quic: [u64; 2],
    /// Reads of TCP, on the port number of QUIC.
    pub tcp: [u64; 2],
    /// Datagrams that it had no room for.
    pub dropped: u64,
}

impl Carriage {
    pub(super) fn of(carried: &Carried) -> Self {
        let both = |passed: &Passed| [passed.towards.load(Ordering::Relaxed), passed.back.load(Ordering::Relaxed)];
        let dropped = carried.dropped.load(Ordering::Relaxed);
        Self { gossip: both(&carried.gossip), quic: both(&carried.quic), tcp: both(&carried.tcp), dropped }
    }

    pub(super) fn since(self, before: Self) -> Self {
        let less = |now: [u64; 2], then: [u64; 2]| [now[0] - then[0], now[1] - then[1]];
        Self {
            gossip: less(self.gossip, before.gossip),
            quic: less(self.quic, before.quic),
            tcp: less(self.tcp, before.tcp),
            dropped: self.dropped - before.dropped,
        }
    }

    /// Can so many connections have passed, each a head out and a greeting back at least?
    const fn holds(&self, connections: u64) -> bool {
        self.quic[0] + self.tcp[0] >= connections && self.quic[1] + self.tcp[1] >= connections
    }
}

impl Figure {
    fn new(took: Duration, round_trip: Duration) -> Self {
        let seconds = took.as_secs_f64();
        Self { ms: seconds * 1e3, round_trips: seconds / round_trip.as_secs_f64() }
    }
}

impl Greeted {
    pub(super) fn new(
        offer: &Offer,
        round_trip: Duration,
        first: Result<Duration, String>,
        further: Vec<Result<Duration, String>>,
        failed: &mut Vec<String>,
    ) -> Self {
        let connections = 1 + further.len();
        let mut keep = |greeting: Result<Duration, String>| greeting.map_err(|what| failed.push(what)).ok();
        let first = keep(first);
        let mut further: Vec<Duration> = further.into_iter().filter_map(keep).collect();
        further.sort_unstable();
        let figure = |took: Option<&Duration>| took.map(|took| Figure::new(*took, round_trip));
        Self {
            name: offer.name.to_owned(),
            protocol: offer.protocol.to_owned(),
            greetings: further.len() + usize::from(first.is_some()),
            connections,
            first: figure(first.as_ref()),
            soonest: figure(further.first()),
            median: figure(further.get(further.len() / 2)),
            largest: figure(further.last()),
        }
    }

    /// Is each first byte no sooner than the path allows?
    fn passed_the_path(&self) -> bool {
        [self.first, self.soonest].into_iter().flatten().all(|figure| figure.round_trips >= 1.0)
    }

    fn meets_bounds(&self) -> bool {
        within(self.median, MEDIAN) && within(self.largest, LARGEST)
    }
}

/// Is there one, and is it at most so many round trips?
fn within(figure: Option<Figure>, bound: f64) -> bool {
    figure.is_some_and(|figure| figure.round_trips <= bound)
}

impl FirstByteReport {
    pub(super) fn new(
        plan: &FirstBytePlan,
        path: Duration,
        services: Vec<Greeted>,
        carried: Carriage,
        mut failed: Vec<String>,
    ) -> Self {
        let sooner = services.iter().filter(|service| !service.passed_the_path());
        failed
            .extend(sooner.map(|service| format!("{}: a first byte came sooner than the relay allows", service.name)));
        let connections = services.iter().map(|service| service.connections as u64).sum();
        if !carried.holds(connections) {
            failed.push(format!("the relay cannot have carried {connections} connections: {carried}"));
        }
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        Self { round_trip_ms: ms(plan.round_trip), path_ms: ms(path), services, carried, failed }
    }

    /// Did all greetings arrive, through the relay, and none sooner than one round trip? It says nothing of how late they were.
    pub const fn is_sound(&self) -> bool {
        self.failed.is_empty()
    }

    /// Is it sound, and did the mesh add no more than one round trip?
    pub fn is_good(&self) -> bool {
        self.is_sound() && self.services.iter().all(Greeted::meets_bounds)
    }
}

impl fmt::Display for Carriage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gossip, quic, tcp, dropped } = self;
        let both = |[towards, back]: &[u64; 2]| format!("{towards} out and {back} back");
        write!(f, "QUIC {}, TCP {}, gossip {}, {dropped} dropped", both(quic), both(tcp), both(gossip))
    }
}

impl fmt::Display for FirstByteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round_trip_ms, path_ms, services, carried, failed } = self;
        writeln!(f, "a path of {round_trip_ms:.0} ms there and back; datagrams alone took {path_ms:.1} ms (median)")?;
        writeln!(f, "from the beginning of connect() to the first byte of the greeting, in ms and in round trips:")?;
        writeln!(f, "{:<20} {:>14} {:>14} {:>14} {:>14}", "", "first", "soonest", "median", "largest")?;
        for service in services {
            write!(f, "{:<20}", format!("protocol = {:?}", service.protocol))?;
            for figure in [service.first, service.soonest, service.median, service.largest] {
                let told = figure.map(|Figure { ms, round_trips }| format!("{ms:.1} = {round_trips:.2}"));
                write!(f, " {:>14}", told.as_deref().unwrap_or("none"))?;
            }
            writeln!(f, "   {} of {} greeted", service.greetings, service.connections)?;
        }
        writeln!(f, "passed on by the relay meanwhile: {carried}")?;
        writeln!(f, "bounds, in round trips:")?;
        writeln!(
            f,
            "  a first word over a path that is open needs 1 (the stream's head out, the greeting back): with one added"
        )?;
        writeln!(f, "  the median is at most {MEDIAN:.0}: {}", said(services, |service| service.median, MEDIAN))?;
        writeln!(f, "  with no mesh it takes 2, by reckoning (SYN, SYN-ACK; ACK, greeting): with one added")?;
        writeln!(f, "  the largest is at most {LARGEST:.0}: {}", said(services, |service| service.largest, LARGEST))?;
        writeln!(
            f,
            "  the first of the first line is the first connection of all, which may have to wait until the agents are"
        )?;
        writeln!(f, "  connected: it is told, and held to no bound")?;
        failed.iter().try_for_each(|what| writeln!(f, "FAILED: {what}"))
    }
}

fn said(services: &[Greeted], of: impl Fn(&Greeted) -> Option<Figure>, bound: f64) -> &'static str {
    if services.iter().all(|service| within(of(service), bound)) { "ok" } else { "MISSED" }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of first bytes after so many tenths of a round trip; none for a connection that failed.
    fn report(first: Option<u64>, further: &[Option<u64>], passed: u64) -> FirstByteReport {
        let plan = FirstBytePlan { round_trip: Duration::from_millis(10), connections: further.len() };
        let greeting = |tenths: &Option<u64>| tenths.map(Duration::from_millis).ok_or_else(|| "reset".to_owned());
        let address = ([127, 0, 0, 1], 1).into();
        let offer = Offer { name: "a", protocol: "tcp", port: 1, address };
        let further = further.iter().map(greeting).collect();
        let mut failed = Vec::new();
        let greeted = Greeted::new(&offer, plan.round_trip, greeting(&first), further, &mut failed);
        let carried = Carriage { quic: [passed; 2], ..Carriage::default() };
        FirstByteReport::new(&plan, plan.round_trip, vec![greeted], carried, failed)
    }

    #[test]
    fn the_median_and_the_largest_are_of_those_behind_the_first() {
        let report = report(Some(90), &[Some(13), Some(30), Some(11)], 4);
        let tenths = |figure: Option<Figure>| figure.map(|figure| figure.ms.round());
        let service = &report.services[0];
        assert_eq!(
            [service.first, service.soonest, service.median, service.largest].map(tenths),
            [90.0, 11.0, 13.0, 30.0].map(Some)
        );
        assert!(report.is_good(), "{report}");
    }

    #[test]
    fn a_late_median_and_one_that_is_very_late_are_missed_bounds() {
        for late in [[Some(11), Some(21), Some(21)], [Some(11), Some(11), Some(31)]] {
            let report = report(Some(11), &late, 4);
            assert!(report.is_sound() && !report.is_good(), "{report}");
        }
    }

    #[test]
    fn what_did_not_come_or_not_by_the_path_is_not_sound() {
        assert!(!report(Some(9), &[Some(11)], 2).is_sound());
        assert!(!report(Some(11), &[Some(9), Some(11)], 3).is_sound());
        assert!(!report(Some(11), &[None, Some(11)], 3).is_sound());
        assert!(!report(Some(11), &[Some(11)], 1).is_sound());
    }
}
