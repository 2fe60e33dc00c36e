//! Datagrams to a local application: a socket for each flow, so that it can tell its callers apart.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use starling_proto::ErrorCode;
use starling_proto::mesh::v1;
use starling_transport::{RecvHalf, SendHalf};
use tokio::net::UdpSocket;

use super::{Arrival, fail};
use crate::datagrams;
use crate::failure::Failure;
use crate::record::Record;
use crate::relay::Counts;

pub(super) async fn serve(arrival: &Arrival, mut send: SendHalf, recv: RecvHalf) {
    let mut record = Record::inbound(arrival);
    let socket = match open(arrival).await {
        Ok(socket) => socket,
        Err(error) => {
            let failure = Failure::new(ErrorCode::UpstreamConnect, format!("{}: {error}", arrival.offer.application));
            record.fail(&failure);
            return fail(&mut send, failure).await;
        }
    };
    let accepted = v1::ResponseHead { load: Some(arrival.offer.load(arrival.shard.plane.epoch)), ..Default::default() };
    if let Err(error) = send.send_head_and(&accepted, Bytes::new(), false).await {
        return record.fail(&error.into());
    }
    let counts = Arc::<Counts>::default();
    record.on_switched(&counts);
    let ends = (FromApplication { arrival, socket: &socket }, ToApplication { arrival, socket: &socket });
    record.on_carried(datagrams::carry(&arrival.shard.plane, &counts, ends, (send, recv)).await);
}

async fn open(arrival: &Arrival) -> io::Result<UdpSocket> {
    let address = arrival.offer.application.address().ok_or(io::ErrorKind::Unsupported)?;
    let any = if address.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// What the application sends.
struct FromApplication<'s> {
    arrival: &'s Arrival,
    socket: &'s UdpSocket,
}

impl datagrams::Source for FromApplication<'_> {
    async fn next(&mut self) -> Bytes {
        loop {
            let received = datagrams::next_of(self.socket, |room| Ok((self.socket.try_recv(room)?, ()))).await;
            reached(self.arrival, &received);
            if let Ok((datagram, ())) = received {
                return datagram;
            }
        }
    }
}

/// What goes to it.
struct ToApplication<'s> {
    arrival: &'s Arrival,
    socket: &'s UdpSocket,
}

impl datagrams::Sink for ToApplication<'_> {
    async fn deliver(&mut self, datagram: Bytes) {
        reached(self.arrival, &self.socket.send(&datagram).await);
    }
}

/// A program that is not there answers, by the system, that its port is closed.
fn reached<R>(arrival: &Arrival, outcome: &io::Result<R>) {
    let refused = outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    arrival.offer.on_reached(!refused);
}
