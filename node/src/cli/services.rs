use super::Global;
use super::failure::Failure;
use super::output::{Column, Listing};
use crate::admin::ServiceReport;

const LISTING: Listing<ServiceReport> = Listing {
    columns: &[
        Column { title: "NAME", wide: false, cell: |service| service.name.to_string() },
        Column { title: "PROTOCOL", wide: false, cell: |service| service.protocol.to_string() },
        Column { title: "PORT", wide: false, cell: |service| service.port.to_string() },
        Column { title: "USABLE", wide: false, cell: |service| format!("{}/{}", service.usable, service.endpoints) },
        Column {
            title: "VIP",
            wide: false,
            cell: |service| service.vip.map_or_else(String::new, |vip| vip.to_string()),
        },
        Column { title: "NAMESPACE", wide: true, cell: |service| service.name.namespace().to_owned() },
    ],
    name: |service| service.name.to_string(),
    empty: "no services",
};

pub(super) async fn run(global: &Global) -> Result<(), Failure> {
    LISTING.print(global.output, &global.client().services().await?)
}
