//! Datagrams to a local application: a socket for each flow, so that it can tell its callers apart.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use starling_proto::ErrorCode;
use starling_proto::mesh::v1;
use starling_transport::{RecvHalf, SendHalf};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::{Arrival, fail};
use crate::datagrams::{self, Reader};
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
    record.on_carried(carry(arrival, &socket, send, recv, &counts).await);
}

async fn open(arrival: &Arrival) -> io::Result<UdpSocket> {
    let address = arrival.offer.application.address().ok_or(io::ErrorKind::Unsupported)?;
    let any = if address.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Carries datagrams both ways, until none came for a while or the caller's node ends the flow.
async fn carry(
    arrival: &Arrival,
    socket: &UdpSocket,
    mut send: SendHalf,
    mut recv: RecvHalf,
    counts: &Counts,
) -> Result<(), Failure> {
    let patience = arrival.shard.plane.limits.flow_timeout;
    let (mut reader, mut room) = (Reader::default(), BytesMut::new());
    let mut until = Instant::now() + patience;
    loop {
        room.reserve(datagrams::MAX);
        tokio::select! {
            received = reader.next(&mut recv) => match received? {
                Some(datagram) => {
                    counts.received.fetch_add(datagram.len() as u64, Ordering::Relaxed);
                    reached(arrival, &socket.send(&datagram).await);
                }
                None => break,
            },
            answered = socket.recv_buf(&mut room) => {
                if reached(arrival, &answered) {
                    let datagram = room.split();
                    counts.sent.fetch_add(datagram.len() as u64, Ordering::Relaxed);
                    datagrams::send(&mut send, &datagram).await?;
                }
            }
            () = tokio::time::sleep_until(until) => break,
        }
        until = Instant::now() + patience;
    }
    let _ = send.finish();
    Ok(())
}

/// A program that is not there answers, by the system, that its port is closed.
fn reached(arrival: &Arrival, outcome: &io::Result<usize>) -> bool {
    let refused = outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    arrival.offer.on_reached(!refused);
    outcome.is_ok()
}
