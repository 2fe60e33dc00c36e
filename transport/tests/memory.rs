//! Memory, measured in a process of its own.

use bytes::Bytes;
use fixture::{Mesh, Pair, soon};
use starling_transport::Carriers;

#[path = "transport/fixture.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod fixture;

/// Resident bytes of this process.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_large_body_each_way_passes_with_little_memory() {
    // One after the other: memory is measured of the whole process.
    for over in [Carriers::Quic, Carriers::Tcp] {
        a_large_body_each_way(over).await;
    }
}

#[cfg(target_os = "linux")]
async fn a_large_body_each_way(over: Carriers) {
    const TOTAL: usize = 96 << 20;
    const PIECE: usize = 64 << 10;
    let pair = Pair::new(&Mesh::new(), over).await;
    let (near, far) = pair.stream().await;
    let before = resident();
    let mut most = before;
    let mut ways = Vec::new();
    for (mut send, mut recv) in [(near.0, far.1), (far.0, near.1)] {
        ways.push(tokio::spawn(async move {
            for _ in 0..TOTAL / PIECE {
                // A fresh allocation each time, as from a socket.
                send.write_raw(Bytes::from(vec![3; PIECE])).await.unwrap();
            }
            send.finish()
        }));
        ways.push(tokio::spawn(async move {
            let mut read = 0;
            while let Some(bytes) = recv.read_raw(PIECE).await? {
                read += bytes.len();
            }
            assert_eq!(read, TOTAL);
            Ok(())
        }));
    }
    for way in ways {
        while !way.is_finished() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            most = most.max(resident());
        }
        soon("a way", way).await.unwrap().unwrap();
    }
    let growth = (most - before) >> 20;
    println!("{over:?}: before {} MiB, growth {growth} MiB", before >> 20);
    assert!(growth <= 20, "{growth} MiB more over {over:?}");
}
