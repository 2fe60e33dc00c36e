use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use starling::admin::{
    CheckReport, CheckState, DismissError, EndpointReport, HolderReport, HopReport, KeyReportLine, KeyringError,
    KeyringReport, LoadReport, MemberReport, MembersReport, NodeReport, RouteStatReport, ServiceReport, ServiceTotals,
    Source, StatusReport, WayReport,
};
use starling_proto::{Generation, NodeId, Protocol, ServiceName};
use tokio::sync::Notify;

/// A node that says the same each time.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) unready: AtomicBool,
    pub(crate) dismissed: Mutex<Vec<(String, bool)>>,
    pub(crate) checks: AtomicUsize,
    pub(crate) changed: Notify,
}

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[async_trait]
impl Source for Made {
    fn status(&self) -> StatusReport {
        StatusReport {
            node: NodeReport {
                name: "web-1".to_owned(),
                id: NodeId::from_bytes([7; 16]),
                address: at("10.0.0.1:7947"),
                gossip_port: 7946,
                zone: "eu-1a".to_owned(),
                version: "0.1.0".to_owned(),
            },
            mesh: "demo.example".to_owned(),
            generation: Generation(9),
            uptime: 312,
            not_ready: None,
            members: [("alive".to_owned(), 2), ("down".to_owned(), 1)].into(),
            services: ServiceTotals { offered: vec!["web".parse().unwrap()], known: 3, endpoints: 5 },
            shards: 2,
            ways: vec![WayReport { name: "dns".to_owned(), address: at("127.0.0.1:5391"), state: "bound".to_owned() }],
            gossip: [("sent".to_owned(), 11), ("dropped".to_owned(), 0)].into(),
            hop: HopReport {
                connections: [("quic".to_owned(), 6), ("tcp".to_owned(), 1)].into(),
                by_tcp: vec!["web-2".to_owned()],
            },
            quic: [("streams".to_owned(), 4)].into(),
            rejected: [("replay".to_owned(), 3), ("signature".to_owned(), 0)].into(),
            certificate_expires: "2100-01-01T00:00:00.5Z".parse().unwrap(),
        }
    }

    fn members(&self) -> Vec<MemberReport> {
        let member = |name: &str, id, state: &str| MemberReport {
            name: name.to_owned(),
            id: NodeId::from_bytes([id; 16]),
            address: at("10.0.0.1:7947"),
            zone: "eu-1a".to_owned(),
            state: state.to_owned(),
            generation: Generation(9),
            since: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            version: "0.1.0".to_owned(),
            load: LoadReport { in_flight: 3, cpu_permille: 250, overload: 0, unhealthy: 0 },
            flaky: false,
            this: id == 7,
        };
        vec![member("web-1", 7, "alive"), member("web-2", 8, "down")]
    }

    fn services(&self) -> Vec<ServiceReport> {
        vec![ServiceReport {
            name: "orders".parse().unwrap(),
            vip: Some(IpAddr::from([127, 77, 0, 4])),
            port: 80,
            protocol: Protocol::Http,
            endpoints: 3,
            usable: 2,
        }]
    }

    fn endpoints(&self, service: &ServiceName) -> Option<Vec<EndpointReport>> {
        (service.name() == "orders").then(|| {
            vec![EndpointReport {
                node: "web-2".to_owned(),
                zone: "eu-1a".to_owned(),
                address: at("10.0.0.2:7947"),
                state: "ready".to_owned(),
                load: 3,
                chosen: true,
                why: "least loaded of two".to_owned(),
                latency: Some(0.0042),
                labels: [("version".to_owned(), "v1".to_owned())].into(),
            }]
        })
    }

    fn routes(&self) -> Vec<RouteStatReport> {
        vec![RouteStatReport {
            direction: "outbound".to_owned(),
            src: "web".to_owned(),
            dst: "orders".to_owned(),
            requests: 200,
            success: Some(0.995),
            rps: 20.0,
            p50: Some(0.0011),
            p99: Some(0.0123),
            retries: 2,
        }]
    }

    fn metrics(&self) -> String {
        "# TYPE starling_members gauge\nstarling_members{state=\"alive\"} 2\n".to_owned()
    }

    async fn members_after(&self, after: Option<u64>) -> MembersReport {
        if after.is_some() {
            self.changed.notified().await;
        }
        let mut members = self.members();
        if after.is_some() {
            "alive".clone_into(&mut members[1].state);
        }
        MembersReport { version: after.map_or(7, |after| after + 1), members }
    }

    async fn check(&self) -> Vec<CheckReport> {
        self.checks.fetch_add(1, Ordering::Relaxed);
        let report = |check: &str, state, found: &str, hint: &str| CheckReport {
            check: check.to_owned(),
            state,
            found: found.to_owned(),
            hint: hint.to_owned(),
        };
        let unready = self.unready.load(Ordering::Relaxed);
        vec![
            report("loop", CheckState::Ok, "turns", ""),
            if unready {
                report("ready", CheckState::Failed, "no seed has answered yet", "is one of them up?")
            } else {
                report("ready", CheckState::Ok, "yes", "")
            },
        ]
    }

    async fn force_leave(&self, member: &str, prune: bool) -> Result<MemberReport, DismissError> {
        let Some(mut report) = self.members().into_iter().find(|known| known.name == member) else {
            return Err(DismissError::Unknown(member.to_owned()));
        };
        if report.state == "alive" {
            return Err(DismissError::Up { name: report.name, state: report.state });
        }
        self.dismissed.lock().unwrap().push((report.name.clone(), prune));
        "left".clone_into(&mut report.state);
        Ok(report)
    }

    async fn keyring(&self) -> Result<KeyringReport, KeyringError> {
        let member = |name: &str, current| HolderReport {
            name: name.to_owned(),
            id: NodeId::from_bytes([7; 16]),
            revision: Some(if current { 4 } else { 3 }),
            current,
        };
        let key = |epoch, state: &str, missing: &[&str]| KeyReportLine {
            epoch,
            state: state.to_owned(),
            since: 3,
            digest: "ab".repeat(32),
            missing: missing.iter().map(ToString::to_string).collect(),
        };
        Ok(KeyringReport {
            mesh: "demo.example".to_owned(),
            revision: 4,
            issued_at: None,
            in_use: 1,
            keys: vec![key(1, "in-use", &[]), key(2, "accepted", &["web-2"])],
            members: vec![member("web-1", true), member("web-2", false)],
            signed: None,
        })
    }

    async fn change_keyring(&self, state: Bytes) -> Result<KeyringReport, KeyringError> {
        if state.is_empty() { Err(KeyringError::Malformed) } else { Err(KeyringError::Stale(4)) }
    }

    fn live(&self) -> Result<(), String> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        if self.unready.load(Ordering::Relaxed) { Err("no seed has answered yet".to_owned()) } else { Ok(()) }
    }
}
