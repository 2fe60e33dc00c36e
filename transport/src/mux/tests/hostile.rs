//! A peer that breaks the rules loses its connection, and nothing else.

use super::*;

/// What the acceptor says of these bytes, after good settings.
fn verdict(put: impl FnOnce(&mut BytesMut)) -> Option<String> {
    let mut bench = Bench::new();
    let _ = bench.stream();
    put(&mut bench.wires[0]);
    let mut wire = std::mem::take(&mut bench.wires[0]);
    bench.ends[1].handle_input(&mut wire, bench.now);
    bench.ends[1].lost().map(ToString::to_string)
}

/// The stream of the bench, one that was never opened, and one of the acceptor's.
const KNOWN: StreamId = StreamId(0);
const PUSH: StreamId = StreamId(2);
const NEVER: StreamId = StreamId(1);

/// Puts something that no peer of ours would send.
type Breaks = fn(&mut BytesMut);

fn data(out: &mut BytesMut, stream: StreamId, len: usize) {
    frame::put_data(out, stream, &[Bytes::from(vec![1; len])], false);
}

#[test]
fn each_broken_rule_is_named() {
    let settings = Settings { stream_window: 1, window: 1, both: 1, one: 1 };
    let cases: [(&str, Breaks); 14] = [
        ("carries more than it may", |out| data(out, KNOWN, 996)),
        ("carries more than it may", |out| (0..5).for_each(|n| data(out, StreamId(n * 4), 990))),
        ("more streams than there may be", |out| data(out, StreamId(4 * 4), 1)),
        ("more streams than there may be", |out| frame::put_reset(out, StreamId(u64::MAX - 1), 1)),
        ("never opened", |out| data(out, NEVER, 1)),
        ("never opened", |out| frame::put_stream_credit(out, NEVER, 1)),
        ("the wrong way", |out| frame::put_stop(out, PUSH, 1)),
        ("goes on after its end", |out| {
            frame::put_data(out, KNOWN, &[], true);
            data(out, KNOWN, 1);
        }),
        ("goes on after its end", |out| {
            frame::put_reset(out, KNOWN, 1);
            data(out, KNOWN, 1);
        }),
        ("reset after its end", |out| (0..2).for_each(|_| frame::put_reset(out, KNOWN, 1))),
        ("settings come twice", |out| {
            frame::put_settings(out, Settings { stream_window: 9, window: 9, both: 9, one: 9 });
        }),
        ("too long", |out| out.extend_from_slice(&[2, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("says nothing", |out| out.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("shorter than its kind", |out| out.extend_from_slice(&[4, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 7])),
    ];
    for (words, put) in cases {
        let said = verdict(put);
        assert!(said.as_ref().is_some_and(|said| said.contains(words)), "{words}: {said:?}");
    }
    let mut early = BytesMut::new();
    frame::put_ping(&mut early, 1);
    frame::put_settings(&mut early, settings);
    let mut mux = Mux::new(false, BOUNDS);
    mux.handle_input(&mut early, Instant::now());
    assert!(mux.lost().unwrap().to_string().contains("settings do not come first"));
}

#[test]
fn what_a_later_version_might_say_is_skipped() {
    assert_eq!(verdict(|out| out.extend_from_slice(&[99, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2])), None);
}

#[test]
fn late_words_on_a_stream_that_is_over_do_no_harm() {
    let mut bench = Bench::new();
    let id = bench.stream();
    for end in [0, 1] {
        bench.let_all_go(end, id);
    }
    bench.settle();
    assert!(bench.is_empty());
    let mut late = BytesMut::new();
    frame::put_stop(&mut late, id, 1);
    frame::put_stream_credit(&mut late, id, 1 << 40);
    frame::put_received(&mut late, id);
    bench.ends[1].handle_input(&mut late, bench.now);
    assert!(bench.ends[1].lost().is_none() && bench.is_empty());
}

#[test]
fn the_far_side_is_told_which_rule_it_broke() {
    let mut bench = Bench::new();
    bench.wires[0].extend_from_slice(&[2; 40]);
    bench.settle();
    let told = Lost::Closed { code: Some(ErrorCode::HopProtocol), reason: "a frame is too long".to_owned() };
    assert_eq!(bench.ends[0].lost(), Some(&told));
}

#[test]
fn pings_without_end_make_one_answer() {
    let mut bench = Bench::new();
    (0..10_000).for_each(|number| frame::put_ping(&mut bench.wires[0], number));
    let mut wire = std::mem::take(&mut bench.wires[0]);
    bench.ends[1].handle_input(&mut wire, bench.now);
    let mut answer = BytesMut::new();
    bench.ends[1].poll_output(&mut answer);
    assert_eq!(answer.len(), frame::HEADER + 8);
}

#[test]
fn single_bytes_are_not_held_as_single_pieces() {
    let mut bench = Bench::new();
    let id = bench.stream();
    for _ in 0..900 {
        assert!(bench.write(0, id, b"x").is_ready());
        bench.settle();
    }
    let mut pieces = 0;
    while let Poll::Ready(Ok(Some(_))) = bench.read(1, id) {
        pieces += 1;
    }
    assert_eq!(pieces, 1);
}

#[test]
fn streams_that_are_opened_and_reset_at_once_stay_within_their_number() {
    let mut bench = Bench::new();
    let mut refused = 0;
    for number in 0..1000 {
        let mut wire = BytesMut::new();
        frame::put_reset(&mut wire, StreamId(number * 4), 1);
        bench.ends[1].handle_input(&mut wire, bench.now);
        refused += u32::from(bench.ends[1].lost().is_some());
    }
    assert!(refused > 0 && bench.ends[1].streams.len() <= 4, "nobody accepted them: their places are taken");
}
