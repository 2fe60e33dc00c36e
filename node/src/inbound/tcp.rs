//! Opaque TCP to a local application.

use std::sync::Arc;

use bytes::Bytes;
use starling_proto::mesh::v1;
use starling_transport::{RecvHalf, SendHalf};

use super::{Arrival, fail};
use crate::failure::Failure;
use crate::record::Record;
use crate::relay::{Counts, relay, wire_ends};

pub(super) async fn serve(arrival: &Arrival, mut send: SendHalf, mut recv: RecvHalf) {
    let mut record = Record::inbound(arrival);
    let _in_flight = arrival.offer.begin();
    let connected = arrival.offer.application.connect(&arrival.shard.outside).await;
    arrival.offer.on_reached(connected.is_ok());
    let local = match connected {
        Ok(local) => local,
        Err(error) => {
            let failure = Failure::from(error);
            record.fail(&failure);
            recv.stop(failure.code);
            return fail(&mut send, failure).await;
        }
    };
    let accepted = v1::ResponseHead { load: Some(arrival.offer.load(arrival.shard.plane.epoch)), ..Default::default() };
    if let Err(error) = send.send_head_and(&accepted, Bytes::new(), false).await {
        return record.fail(&error.into());
    }
    let counts = Arc::new(Counts::default());
    record.follow(&counts);
    record.on_carried(relay(wire_ends(local), Bytes::new(), send, recv, &counts).await);
}
