//! Services that speak first, over a long path. How late they are is measured by `starling-chaos first-byte`; here it is enough that
//! what it measures is the path.

use std::time::Duration;

use starling_chaos::first_byte::{self, FirstBytePlan};

#[test]
fn every_greeting_passes_the_relay_and_none_is_sooner_than_the_path_allows() {
    let report = first_byte::measure(&FirstBytePlan { round_trip: Duration::from_millis(20), connections: 5 });
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.services.len(), 2, "{report}");
    for service in &report.services {
        assert_eq!((service.greetings, service.connections), (6, 6), "{report}");
        let soonest = [service.first, service.soonest].map(|figure| figure.expect("a greeting").round_trips);
        assert!(soonest.iter().all(|round_trips| *round_trips >= 1.0), "{report}");
    }
    let passed = |way: usize| report.carried.quic[way] + report.carried.tcp[way];
    assert!(passed(0) >= 12 && passed(1) >= 12, "{report}");
}
