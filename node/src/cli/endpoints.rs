use clap::Args;
use starling_proto::ServiceName;

use super::Global;
use super::failure::Failure;
use super::format::{millis, yes};
use super::output::{Column, Listing};
use crate::admin::EndpointReport;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Such as orders, or orders.shop for the namespace shop
    service: ServiceName,
}

const LISTING: Listing<EndpointReport> = Listing {
    columns: &[
        Column { title: "NODE", wide: false, cell: |endpoint| endpoint.node.clone() },
        Column { title: "ZONE", wide: false, cell: |endpoint| endpoint.zone.clone() },
        Column { title: "ADDRESS", wide: false, cell: |endpoint| endpoint.address.to_string() },
        Column { title: "STATE", wide: false, cell: |endpoint| endpoint.state.clone() },
        Column { title: "LOAD", wide: false, cell: |endpoint| endpoint.load.to_string() },
        Column { title: "CHOSEN", wide: false, cell: |endpoint| yes(endpoint.chosen) },
        Column { title: "WHY", wide: false, cell: |endpoint| endpoint.why.clone() },
        Column { title: "LATENCY", wide: true, cell: |endpoint| millis(endpoint.latency) },
        Column { title: "LABELS", wide: true, cell: labels },
    ],
    name: |endpoint| endpoint.node.clone(),
    empty: "no endpoints",
};

fn labels(endpoint: &EndpointReport) -> String {
    endpoint.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<(), Failure> {
    LISTING.print(global.output, &global.client().endpoints(&arguments.service).await?)
}
