//! Opaque TCP to a local application.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use starling_proto::ErrorCode;
use starling_proto::mesh::v1;
use starling_transport::{RecvHalf, SendHalf};

use super::{Arrival, fail};
use crate::failure::Failure;
use crate::record::Record;
use crate::relay::{Counts, edge_ends, relay, tcp_ends};
use crate::wire::Wire;

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
    let relayed = match local {
        Wire::Plain(stream) => relay(tcp_ends(stream), Bytes::new(), send, recv, &counts).await,
        Wire::Tls(stream) => {
            let stream = stream.into_inner().unwrap_or_else(PoisonError::into_inner);
            relay(edge_ends(stream), Bytes::new(), send, recv, &counts).await
        }
    };
    if let Err(error) = relayed {
        // A caller or an application that hangs up in the middle is how many TCP protocols end.
        if error.code() != ErrorCode::Cancelled {
            record.fail(&Failure::new(error.code(), error.to_string()));
        }
    }
}
