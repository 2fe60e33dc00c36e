//! Whatever two applications do, in any order, and however the bytes between them are cut.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Act {
    Open(usize, bool),
    Accept(usize, bool),
    Write(usize, usize, usize),
    Finish(usize, usize),
    Reset(usize, usize),
    Read(usize, usize),
    Stop(usize, usize),
    Output(usize),
    Deliver(usize, usize),
    Probe(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let (end, nth) = (0_usize..2, any::<usize>());
    prop_oneof![
        2 => (end.clone(), any::<bool>()).prop_map(|(end, one)| Act::Open(end, one)),
        2 => (end.clone(), any::<bool>()).prop_map(|(end, one)| Act::Accept(end, one)),
        5 => (end.clone(), nth, 1_usize..1500).prop_map(|(end, nth, len)| Act::Write(end, nth, len)),
        1 => (end.clone(), nth).prop_map(|(end, nth)| Act::Finish(end, nth)),
        1 => (end.clone(), nth).prop_map(|(end, nth)| Act::Reset(end, nth)),
        5 => (end.clone(), nth).prop_map(|(end, nth)| Act::Read(end, nth)),
        1 => (end.clone(), nth).prop_map(|(end, nth)| Act::Stop(end, nth)),
        4 => end.clone().prop_map(Act::Output),
        6 => (end.clone(), 1_usize..3000).prop_map(|(end, len)| Act::Deliver(end, len)),
        1 => end.prop_map(Act::Probe),
    ]
}

/// What the applications know of their streams.
#[derive(Default)]
struct Books {
    /// Streams that each end holds.
    held: [Vec<StreamId>; 2],
    /// Bytes written by an end to a stream, and read by the other.
    written: BTreeMap<(usize, StreamId), u64>,
    read: BTreeMap<(usize, StreamId), u64>,
    /// Ended by the writer, whole.
    finished: BTreeMap<(usize, StreamId), u64>,
}

/// The bytes of a stream tell their place in it.
fn piece(from: u64, len: usize) -> Bytes {
    (from..).take(len).map(|at| at.to_be_bytes()[7]).collect()
}

fn act_on(bench: &mut Bench, books: &mut Books, act: &Act) {
    let nth = |books: &Books, end: usize, nth: usize| {
        let held = &books.held[end];
        nth.checked_rem(held.len()).map(|index| held[index])
    };
    let direction = |one| if one { Direction::One } else { Direction::Both };
    match *act {
        Act::Open(end, one) => books.held[end].extend(bench.ends[end].open(direction(one)).unwrap()),
        Act::Accept(end, one) => books.held[end].extend(bench.ends[end].accept(direction(one)).unwrap()),
        Act::Write(end, index, len) => {
            let Some(id) = nth(books, end, index) else { return };
            let written = books.written.entry((end, id)).or_default();
            let mut chunks = [piece(*written, len)];
            if let Poll::Ready(Ok(_)) = bench.ends[end].poll_write(&mut cx(), id, &mut chunks) {
                *written += (len - chunks[0].len()) as u64;
            }
        }
        Act::Finish(end, index) => {
            let Some(id) = nth(books, end, index) else { return };
            if bench.ends[end].finish(id).is_ok() {
                let written = books.written.get(&(end, id)).copied().unwrap_or(0);
                books.finished.insert((end, id), written);
            }
        }
        Act::Reset(end, index) => {
            let Some(id) = nth(books, end, index) else { return };
            bench.ends[end].reset(id, 7);
        }
        Act::Read(end, index) => {
            let Some(id) = nth(books, end, index) else { return };
            read(bench, books, end, id);
        }
        Act::Stop(end, index) => {
            let Some(id) = nth(books, end, index) else { return };
            bench.ends[end].stop(id, 7);
        }
        Act::Output(end) => bench.ends[end].poll_output(&mut bench.wires[end]),
        Act::Deliver(end, len) => {
            let len = len.min(bench.wires[end].len());
            let mut wire = bench.wires[end].split_to(len);
            bench.ends[1 - end].handle_input(&mut wire, bench.now);
            // What is not a whole frame yet waits at the front.
            wire.unsplit(std::mem::take(&mut bench.wires[end]));
            bench.wires[end] = wire;
        }
        Act::Probe(end) => bench.ends[end].probe(bench.now),
    }
}

fn read(bench: &mut Bench, books: &mut Books, end: usize, id: StreamId) -> bool {
    let read = books.read.entry((end, id)).or_default();
    match bench.ends[end].poll_read(&cx(), id) {
        Poll::Ready(Ok(Some(bytes))) => {
            assert_eq!(bytes, piece(*read, bytes.len()), "in order, and nothing is missing");
            *read += bytes.len() as u64;
            true
        }
        Poll::Ready(Ok(None)) => {
            assert_eq!(books.finished.get(&(1 - end, id)), Some(&*read), "only what was ended looks whole");
            false
        }
        _ => false,
    }
}

fn accept_all(bench: &mut Bench, books: &mut Books, end: usize) {
    for direction in [Direction::Both, Direction::One] {
        while let Some(id) = bench.ends[end].accept(direction).unwrap() {
            books.held[end].push(id);
        }
    }
}

proptest! {
    #[test]
    fn bytes_arrive_in_order_within_their_bounds_and_nothing_is_left_over(acts in proptest::collection::vec(act(), 1..150)) {
        let mut bench = Bench::new();
        let mut books = Books::default();
        for act in acts {
            act_on(&mut bench, &mut books, &act);
            for (end, held) in bench.ends.iter().zip(&books.held) {
                prop_assert!(end.lost().is_none(), "{:?}", end.lost());
                prop_assert!(end.queued <= BOUNDS.queue);
                // What the application holds, and what it has yet to accept.
                prop_assert!(end.streams.len() <= held.len() + 6);
            }
        }
        // All is carried and read; then both let go.
        for _ in 0..10 {
            bench.settle();
            for end in [0, 1] {
                accept_all(&mut bench, &mut books, end);
                for id in books.held[end].clone() {
                    while read(&mut bench, &mut books, end, id) {}
                }
            }
        }
        for (key, total) in &books.finished {
            let (end, id) = *key;
            let stopped = bench.ends[end].poll_stopped(&cx(), id) != Poll::Ready(Ok(()));
            let read = books.read.get(&(1 - end, id)).copied().unwrap_or(0);
            prop_assert!(stopped || read == *total || bench.ends[1 - end].poll_read(&cx(), id).is_ready());
        }
        // Streams that were opened and not used show on the far side only by their end.
        for _ in 0..2 {
            for end in [0, 1] {
                accept_all(&mut bench, &mut books, end);
                for id in std::mem::take(&mut books.held[end]) {
                    bench.let_all_go(end, id);
                }
            }
            bench.settle();
        }
        prop_assert!(bench.is_empty());
        // Nothing of the windows was lost.
        for end in [0, 1] {
            let id = bench.ends[end].open(Direction::Both).unwrap().expect("all places are free");
            let mut chunks = [Bytes::from(vec![0; 1000])];
            prop_assert_eq!(bench.ends[end].poll_write(&mut cx(), id, &mut chunks), Poll::Ready(Ok(1)));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_hold_little(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        cuts in proptest::collection::vec(1_usize..200, 1..20),
    ) {
        let mut bench = Bench::new();
        let mut rest = BytesMut::from(&bytes[..]);
        let mut input = BytesMut::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            input.unsplit(rest.split_to((*cut).min(rest.len())));
            bench.ends[1].handle_input(&mut input, bench.now);
        }
        prop_assert!(bench.ends[1].streams.len() <= 6);
    }

    #[test]
    fn frames_in_any_order_never_panic(
        frames in proptest::collection::vec((1_u8..13, 0_u64..30, proptest::collection::vec(any::<u8>(), 0..24)), 0..60),
    ) {
        let mut bench = Bench::new();
        for (kind, stream, payload) in frames {
            let mut input = BytesMut::from(&[kind, 0, 0, u8::try_from(payload.len()).unwrap()][..]);
            input.extend_from_slice(&stream.to_be_bytes());
            input.extend_from_slice(&payload);
            bench.ends[1].handle_input(&mut input, bench.now);
            let mut output = BytesMut::new();
            bench.ends[1].poll_output(&mut output);
            prop_assert!(bench.ends[1].streams.len() <= 6);
        }
    }
}
