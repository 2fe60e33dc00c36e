//! What a mesh must reach on five hosts. The bounds in time are held by `starling-chaos reach`, on a machine that does
//! nothing else; here it is what must come about on any machine.

use std::time::Duration;

use starling_chaos::MeshPlan;
use starling_chaos::reach::{self, Fault, Met};

/// Requests that a load of 200 a second may lose to a host's failure.
const MAY_FAIL: u64 = 3;

#[test]
fn plain_programs_on_five_hosts_call_each_other_by_name_after_capture_install() {
    reach::by_name(true);
}

#[test]
fn plain_programs_on_five_hosts_call_each_other_by_name_without_any_install() {
    reach::by_name(false);
}

fn check(met: &Met) {
    assert!(met.failed <= MAY_FAIL, "{}", met.report);
    let first_second = Duration::from_secs(1);
    assert!(met.last_failure.is_none_or(|after| after <= first_second), "{}", met.report);
}

#[test]
fn a_host_that_is_cut_off_under_load_costs_three_requests_at_most() {
    check(&reach::under_load(Fault::Cut));
}

#[test]
fn a_host_whose_processes_are_killed_under_load_costs_three_requests_at_most() {
    check(&reach::under_load(Fault::Kill));
}

#[test]
fn a_program_that_has_the_port_on_all_addresses_is_named_without_the_install_and_undisturbed_with_it() {
    for captured in [false, true] {
        let mut plan = MeshPlan::new(if captured { "port1" } else { "port0" }, 2);
        if captured {
            plan = plan.captured();
        }
        let mut mesh = plan.start(|number, node| {
            if number == 1 {
                node.service("orders", "127.0.0.1:8080").port(80);
            }
        });
        reach::port_taken(&mut mesh, captured);
    }
}
