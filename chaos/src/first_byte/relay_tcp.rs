//! The same path for TCP. Bytes and ends are late by half a round trip; the handshake is not: the kernel answers a SYN before any
//! program sees it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::relay::{Carried, HOP, MOST_UNDER_WAY, Path};

const BLOCK: usize = 16 * 1024;
/// Each read is up to a block, so that one direction holds 4 MiB at most.
const MOST_READS: usize = MOST_UNDER_WAY / 8;

pub(super) async fn start(path: Path) -> io::Result<()> {
    let front = TcpListener::bind((path.at, HOP)).await?;
    tokio::spawn(async move {
        while let Ok((client, _)) = front.accept().await {
            tokio::spawn(carry(path.clone(), client));
        }
    });
    Ok(())
}

async fn carry(path: Path, client: TcpStream) {
    let Ok(node) = TcpStream::connect((path.to, HOP)).await else { return };
    for stream in [&client, &node] {
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_node, to_node) = node.into_split();
    let Path { delay, carried, tcp, .. } = path;
    tokio::spawn(late(from_client, to_node, delay, Arc::clone(&carried), move |all| &tcp(all).towards));
    late(from_node, to_client, delay, carried, move |all| &tcp(all).back).await;
}

/// Passes on one direction, and its end.
async fn late(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    carried: Arc<Carried>,
    count: impl Fn(&Carried) -> &AtomicU64,
) {
    let (queue, mut queued) = mpsc::channel::<(Instant, Bytes)>(MOST_READS);
    let read = async move {
        let mut block = vec![0; BLOCK];
        loop {
            let length = from.read(&mut block).await.unwrap_or(0);
            let bytes = Bytes::copy_from_slice(&block[..length]);
            if queue.send((Instant::now() + delay, bytes)).await.is_err() || length == 0 {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = queued.recv().await {
            sleep_until(due).await;
            if bytes.is_empty() || to.write_all(&bytes).await.is_err() {
                return;
            }
            count(&carried).fetch_add(1, Ordering::Relaxed);
        }
    };
    // Where writing fails, reading ends with it; what is written ends where `to` is dropped.
    let reading = tokio::spawn(read);
    write.await;
    reading.abort();
}
