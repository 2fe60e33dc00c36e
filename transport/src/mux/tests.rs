use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use starling_proto::ErrorCode;

use super::frame::{self, Settings};
use super::*;
use crate::{Lost, StreamError};

mod anything;
mod hostile;

const BOUNDS: Bounds = Bounds { stream_window: 1000, window: 4000, both: 4, one: 2, queue: 3000 };

/// Two ends, and what is on its way between them.
struct Bench {
    ends: [Mux; 2],
    wires: [BytesMut; 2],
    now: Instant,
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Bench {
    /// Each end knows what the other allows.
    fn new() -> Self {
        let ends = [Mux::new(true, BOUNDS), Mux::new(false, BOUNDS)];
        let mut bench = Self { ends, wires: Default::default(), now: Instant::now() };
        bench.settle();
        assert!(bench.ends.iter().all(Mux::is_ready));
        bench
    }

    /// Carries everything there is.
    fn settle(&mut self) {
        loop {
            for from in [0, 1] {
                self.ends[from].poll_output(&mut self.wires[from]);
            }
            if self.wires.iter().all(BytesMut::is_empty) {
                return;
            }
            for from in [0, 1] {
                self.ends[1 - from].handle_input(&mut self.wires[from], self.now);
                if self.ends[1 - from].lost().is_some() {
                    self.wires[from].clear();
                }
            }
        }
    }

    fn write(&mut self, end: usize, id: StreamId, bytes: &[u8]) -> Poll<Result<usize, StreamError>> {
        self.ends[end].poll_write(&mut cx(), id, &mut [Bytes::copy_from_slice(bytes)])
    }

    fn read(&mut self, end: usize, id: StreamId) -> Poll<Result<Option<Bytes>, StreamError>> {
        self.ends[end].poll_read(&cx(), id)
    }

    /// A stream of both directions that both ends hold.
    fn stream(&mut self) -> StreamId {
        let id = self.ends[0].open(Direction::Both).unwrap().unwrap();
        assert_eq!(self.write(0, id, b"hello"), Poll::Ready(Ok(1)));
        self.settle();
        assert_eq!(self.ends[1].accept(Direction::Both), Ok(Some(id)));
        assert_eq!(self.read(1, id), Poll::Ready(Ok(Some(Bytes::from_static(b"hello")))));
        id
    }

    fn let_all_go(&mut self, end: usize, id: StreamId) {
        self.ends[end].reset(id, 0);
        self.ends[end].stop(id, 0);
        self.ends[end].let_go(id);
        self.ends[end].let_go(id);
    }

    fn is_empty(&self) -> bool {
        self.ends.iter().all(|end| end.streams.is_empty() && end.ready.is_empty() && end.queued == 0)
    }
}

#[test]
fn a_stream_ends_on_each_side_by_itself_and_is_forgotten_by_both() {
    let mut bench = Bench::new();
    let id = bench.stream();
    bench.ends[0].finish(id).unwrap();
    bench.settle();
    assert_eq!(bench.read(1, id), Poll::Ready(Ok(None)));
    assert_eq!(bench.ends[0].poll_stopped(&cx(), id), Poll::Ready(Ok(())), "all of it is there");
    assert_eq!(bench.write(0, id, b"more"), Poll::Ready(Err(StreamError::Closed)));
    assert_eq!(bench.write(1, id, b"still"), Poll::Ready(Ok(1)));
    bench.ends[1].finish(id).unwrap();
    bench.settle();
    assert_eq!(bench.read(0, id), Poll::Ready(Ok(Some(Bytes::from_static(b"still")))));
    assert_eq!(bench.read(0, id), Poll::Ready(Ok(None)));
    for end in [0, 1] {
        (0..2).for_each(|_| bench.ends[end].let_go(id));
    }
    assert!(bench.is_empty());
}

#[test]
fn a_reset_in_one_direction_leaves_the_other_alone() {
    let mut bench = Bench::new();
    let id = bench.stream();
    bench.ends[0].reset(id, ErrorCode::Draining.number());
    bench.settle();
    assert_eq!(bench.read(1, id), Poll::Ready(Err(StreamError::Reset(ErrorCode::Draining))));
    assert_eq!(bench.write(1, id, b"answer"), Poll::Ready(Ok(1)));
    bench.settle();
    assert_eq!(bench.read(0, id), Poll::Ready(Ok(Some(Bytes::from_static(b"answer")))));
}

#[test]
fn a_stop_tells_the_writer_why_and_what_it_had_queued_costs_nothing() {
    let mut bench = Bench::new();
    let id = bench.stream();
    while bench.write(0, id, &[1; 500]).is_ready() {}
    bench.ends[1].stop(id, ErrorCode::Overloaded.number());
    bench.settle();
    let stopped = Err(StreamError::Reset(ErrorCode::Overloaded));
    assert_eq!(bench.write(0, id, b"x"), Poll::Ready(stopped.clone().map(|()| 0)));
    assert_eq!(bench.ends[0].poll_stopped(&cx(), id), Poll::Ready(stopped));
    // The whole window of the connection is there for the others, again and again.
    for _ in 0..20 {
        let id = bench.stream();
        while bench.write(0, id, &[1; 300]).is_ready() {}
        bench.let_all_go(0, id);
        bench.settle();
        bench.let_all_go(1, id);
        bench.settle();
    }
    let id = bench.stream();
    assert_eq!(bench.write(0, id, &[1; 900]), Poll::Ready(Ok(1)));
}

#[test]
fn a_writer_stops_at_each_window_and_goes_on_when_there_is_room() {
    let mut bench = Bench::new();
    let id = bench.stream();
    let mut chunks = [Bytes::from(vec![1; 5000])];
    let mut left = |bench: &mut Bench| {
        let polled = bench.ends[0].poll_write(&mut cx(), id, &mut chunks);
        (polled.is_ready(), chunks[0].len())
    };
    assert_eq!(left(&mut bench), (true, 4005), "what is left of its window");
    assert_eq!(left(&mut bench), (false, 4005));
    bench.settle();
    assert!(matches!(bench.read(1, id), Poll::Ready(Ok(Some(bytes))) if bytes.len() == 995));
    bench.settle();
    assert_eq!(left(&mut bench), (true, 3005), "it was read");
}

#[test]
fn the_window_of_the_connection_is_shared() {
    let mut bench = Bench::new();
    let ids: Vec<_> = (0..4).map(|_| bench.stream()).collect();
    let mut written = 0;
    for id in &ids {
        let mut chunks = [Bytes::from(vec![1; 2000])];
        let _ = bench.ends[0].poll_write(&mut cx(), *id, &mut chunks);
        written += 2000 - chunks[0].len();
        bench.settle();
    }
    assert!(written <= 4000, "{written}");
    assert!(bench.write(0, ids[0], b"x").is_pending());
    while let Poll::Ready(Ok(Some(_))) = bench.read(1, ids[1]) {}
    bench.settle();
    assert_eq!(bench.write(0, ids[1], b"x"), Poll::Ready(Ok(1)));
}

#[test]
fn as_many_streams_are_open_as_the_far_side_allows_and_places_come_back() {
    let mut bench = Bench::new();
    let mut ids: Vec<_> = (0..4).map(|_| bench.stream()).collect();
    for _ in 0..100 {
        assert_eq!(bench.ends[0].open(Direction::Both), Ok(None));
        let id = ids.remove(0);
        bench.let_all_go(0, id);
        bench.settle();
        assert_eq!(bench.ends[0].open(Direction::Both), Ok(None), "the far application has it yet");
        bench.let_all_go(1, id);
        bench.settle();
        ids.push(bench.stream());
    }
    for id in ids {
        for end in [0, 1] {
            bench.let_all_go(end, id);
        }
    }
    bench.settle();
    assert!(bench.is_empty());
}

#[test]
fn streams_of_one_direction_go_either_way() {
    let mut bench = Bench::new();
    for (near, far) in [(0, 1), (1, 0)] {
        let id = bench.ends[near].open(Direction::One).unwrap().unwrap();
        assert_eq!(bench.write(near, id, b"push"), Poll::Ready(Ok(1)));
        bench.ends[near].finish(id).unwrap();
        bench.settle();
        assert_eq!(bench.ends[far].accept(Direction::One), Ok(Some(id)));
        assert_eq!(bench.read(far, id), Poll::Ready(Ok(Some(Bytes::from_static(b"push")))));
        assert_eq!(bench.read(far, id), Poll::Ready(Ok(None)));
        assert_eq!(bench.ends[near].poll_stopped(&cx(), id), Poll::Ready(Ok(())));
        bench.ends[near].let_go(id);
        bench.ends[far].let_go(id);
    }
    assert!(bench.is_empty());
}

#[test]
fn streams_take_turns() {
    let mut bench = Bench::new();
    let (bulk, small) = (bench.stream(), bench.stream());
    while bench.write(0, bulk, &[1; 100]).is_ready() {}
    assert_eq!(bench.write(0, small, b"small"), Poll::Ready(Ok(1)));
    bench.ends[0].poll_output(&mut bench.wires[0]);
    let at = bench.wires[0].windows(5).position(|window| window == b"small").unwrap();
    assert!(at < 1100, "after one frame of the other");
}

#[test]
fn a_closed_connection_tells_the_far_side_why_and_what_arrived_before_can_be_read() {
    let mut bench = Bench::new();
    let id = bench.stream();
    assert_eq!(bench.write(0, id, b"last"), Poll::Ready(Ok(1)));
    bench.settle();
    bench.ends[0].close(ErrorCode::Draining.number(), "stopping");
    bench.settle();
    let lost = Lost::Closed { code: Some(ErrorCode::Draining), reason: "stopping".to_owned() };
    assert_eq!((bench.ends[0].lost(), bench.ends[1].lost()), (Some(&Lost::Here), Some(&lost)));
    assert_eq!(bench.read(1, id), Poll::Ready(Ok(Some(Bytes::from_static(b"last")))));
    assert_eq!(bench.read(1, id), Poll::Ready(Err(lost.clone().into())));
    assert_eq!(bench.write(1, id, b"x"), Poll::Ready(Err(lost.clone().into())));
    assert_eq!(bench.ends[1].open(Direction::Both), Err(lost));
    for end in [0, 1] {
        (0..2).for_each(|_| bench.ends[end].let_go(id));
        assert!(bench.ends[end].streams.is_empty());
    }
}

#[test]
fn a_probe_is_answered_and_measures_the_round_trip() {
    let mut bench = Bench::new();
    bench.ends[0].probe(bench.now);
    bench.now += Duration::from_millis(8);
    // A second one, before the answer to the first, does not spoil the measure.
    bench.ends[0].probe(bench.now);
    bench.settle();
    assert_eq!(bench.ends[0].rtt(), Duration::from_millis(8));
    assert_eq!(bench.ends[1].rtt(), Duration::ZERO);
}
