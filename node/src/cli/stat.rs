use super::Global;
use super::failure::Failure;
use super::format::{millis, percent};
use super::output::{Column, Listing};
use crate::admin::RouteStatReport;

const LISTING: Listing<RouteStatReport> = Listing {
    columns: &[
        Column { title: "DIRECTION", wide: false, cell: |route| route.direction.clone() },
        Column { title: "SRC", wide: false, cell: |route| route.src.clone() },
        Column { title: "DST", wide: false, cell: |route| route.dst.clone() },
        Column { title: "REQUESTS", wide: false, cell: |route| route.requests.to_string() },
        Column { title: "SUCCESS", wide: false, cell: |route| percent(route.success) },
        Column { title: "RPS", wide: false, cell: |route| format!("{:.1}", route.rps) },
        Column { title: "P50", wide: false, cell: |route| millis(route.p50) },
        Column { title: "P99", wide: false, cell: |route| millis(route.p99) },
        Column { title: "RETRIES", wide: false, cell: |route| route.retries.to_string() },
    ],
    name: |route| format!("{} {}", if route.src.is_empty() { "-" } else { &route.src }, route.dst),
    empty: "no requests yet",
};

pub(super) async fn run(global: &Global) -> Result<(), Failure> {
    LISTING.print(global.output, &global.client().routes().await?)
}
