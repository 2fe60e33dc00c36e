use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

const SAMPLED: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn rng() -> SmallRng {
    SmallRng::seed_from_u64(1)
}

fn never() -> Sampler {
    Sampler::of_share(0.0)
}

#[test]
fn a_traceparent_is_read_as_the_specification_says() {
    use TraceParentError::{Shape, Version, Zero};
    let ids = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
    for (text, expected) in [
        (format!("00-{ids}-01"), Ok(true)),
        (format!("00-{ids}-00"), Ok(false)),
        (format!("00-{ids}-ff"), Ok(true)),
        (format!("00-{ids}-02"), Ok(false)),
        (format!("01-{ids}-01"), Ok(true)),
        (format!("cc-{ids}-01-what-the-future-will-be-like"), Ok(true)),
        (format!("cc-{ids}-01."), Err(Shape)),
        (format!("00-{ids}-01-no-more-in-version-0"), Err(Shape)),
        (format!("00-{ids}-01 "), Err(Shape)),
        (format!("ff-{ids}-01"), Err(Version)),
        (format!("0-{ids}-01"), Err(Shape)),
        (format!("00-{ids}-1"), Err(Shape)),
        (format!("00_{ids}-01"), Err(Shape)),
        (format!("00-{}-01", ids.to_uppercase()), Err(Shape)),
        (format!("0X-{ids}-01"), Err(Shape)),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01".to_owned(), Err(Zero)),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".to_owned(), Err(Zero)),
        (String::new(), Err(Shape)),
    ] {
        let got = TraceContext::parse(text.as_bytes()).map(TraceContext::is_sampled);
        assert_eq!(got, expected, "'{text}'");
    }
}

#[test]
fn a_trace_is_passed_on_with_a_span_of_our_own() {
    let hop = Hop::of_request(Some(SAMPLED), never(), &mut rng());
    let came = TraceContext::parse(SAMPLED).unwrap();
    assert_eq!((hop.context.trace_id(), hop.parent), (came.trace_id(), Some(came.span_id())));
    assert_ne!(hop.context.span_id(), came.span_id());
    assert!(hop.context.is_sampled(), "whoever started it has decided");
    assert!(!hop.started);
    let unsampled = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    assert!(!Hop::of_request(Some(unsampled), Sampler::of_share(1.0), &mut rng()).context.is_sampled());
}

#[test]
fn a_trace_is_started_where_none_came_or_what_came_is_none() {
    for incoming in [None, Some(&b"00-garbage"[..])] {
        let hop = Hop::of_request(incoming, never(), &mut rng());
        assert!(hop.started && hop.parent.is_none() && !hop.context.is_sampled());
    }
}

#[test]
fn a_trace_goes_on_only_if_exactly_one_place_in_it_came_with_the_request() {
    let headers = |parents: &[&[u8]]| {
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append(TRACEPARENT, HeaderValue::from_bytes(parent).unwrap());
        }
        headers
    };
    for (name, headers, goes_on) in [
        ("valid", headers(&[SAMPLED]), true),
        ("absent", headers(&[]), false),
        ("invalid", headers(&[b"x"]), false),
        ("two", headers(&[SAMPLED, SAMPLED]), false),
    ] {
        let hop = Hop::of_headers(&headers, never(), &mut rng());
        assert_eq!((hop.parent.is_some(), hop.started), (goes_on, !goes_on), "{name}");
    }
}

#[test]
fn the_share_of_recorded_traces_is_what_was_asked_for() {
    let mut rng = rng();
    for (share, low, high) in [(0.0, 0, 0), (0.01, 70, 130), (0.5, 4_800, 5_200), (1.0, 10_000, 10_000)] {
        let sampler = Sampler::of_share(share);
        let sampled = (0..10_000).filter(|_| TraceContext::start(sampler, &mut rng).is_sampled()).count();
        assert!((low..=high).contains(&sampled), "{sampled} of 10000 at {share}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(seed: u64, share in 0.0f64..1.0) {
        let context = TraceContext::start(Sampler::of_share(share), &mut SmallRng::seed_from_u64(seed));
        prop_assert_eq!(TraceContext::parse(&context.text()), Ok(context));
        let text = std::str::from_utf8(&context.text()).unwrap().to_owned();
        prop_assert!(text.contains(&context.trace_id().to_string()) && text.contains(&context.span_id().to_string()));
    }

    #[test]
    fn whatever_stands_there_reading_it_never_panics(text in prop::collection::vec(any::<u8>(), 0..80), version: u8) {
        let _ = TraceContext::parse(&text);
        let mut near = SAMPLED.to_vec();
        near.truncate(usize::from(version) % 60);
        near.extend(text);
        let _ = TraceContext::parse(&near);
    }
}
