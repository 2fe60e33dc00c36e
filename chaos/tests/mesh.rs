//! A mesh of real agents on real hosts.

use std::time::Duration;

use starling_chaos::{MeshPlan, Process, Program, wait_until};

const SOON: Duration = Duration::from_secs(40);

#[test]
fn agents_of_ordinary_users_form_a_mesh_and_a_killed_host_comes_back() {
    let mut mesh = MeshPlan::new("form", 3).unprivileged().captured().start(|number, node| {
        if number > 0 {
            node.service("orders", "127.0.0.1:8080").protocol("http").port(80);
        }
    });
    mesh.wait_until_whole(SOON);
    let serve = |mesh: &starling_chaos::MeshOfHosts, number: usize| -> Process {
        mesh.host(number).spawn(Program::new("python3").args(["-m", "http.server", "8080", "--bind", "127.0.0.1"]))
    };
    let _services = [serve(&mesh, 1), serve(&mesh, 2)];
    let get = |mesh: &starling_chaos::MeshOfHosts| {
        mesh.host(0).run("curl", ["-s", "--max-time", "10", "http://orders.mesh/"]).stdout.contains("Directory listing")
    };
    wait_until(SOON, "the service answers", || get(&mesh));
    mesh.kill9(2);
    wait_until(SOON, "the killed node is listed down", || mesh.state(0, 2).as_deref() == Some("down"));
    assert!(get(&mesh), "the other one serves");
    mesh.start_agent(2);
    wait_until(SOON, "it is back", || mesh.state(0, 2).as_deref() == Some("alive"));
}
