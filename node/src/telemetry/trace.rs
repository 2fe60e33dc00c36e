use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use rand::Rng;

/// The header of W3C Trace Context, level 1.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add to it; passed on untouched, and only together with a valid [`TRACEPARENT`].
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The name of a trace: 16 bytes, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

/// The name of a span within its trace: 8 bytes, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId(u64);

/// A place in a trace: what a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
    sampled: bool,
}

/// What this node makes of the trace context that came with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// This node's own span: what goes on to the next.
    pub context: TraceContext,
    /// The span that came in; `None`: this node starts the trace.
    pub parent: Option<SpanId>,
    /// This node started the trace: a `tracestate` that came with the request belongs to nothing and is removed.
    pub started: bool,
}

/// Why some bytes are no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TraceParentError {
    /// Not `version-trace_id-parent_id-flags` in lower-case hexadecimal digits.
    #[error("not of the form 00-<32 hex digits>-<16 hex digits>-<2 hex digits>")]
    Shape,
    /// Version ff, which the specification forbids.
    #[error("version ff is forbidden")]
    Version,
    /// An id of zeros only.
    #[error("an id of zeros only")]
    Zero,
}

/// Which of the traces that start here are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    /// Of the 2^56 values that the random part of a trace id has.
    threshold: u64,
}

const RANDOM_BITS: u32 = 56;

impl Sampler {
    /// Records this share of traces, 0 to 1.
    #[must_use]
    pub fn of_share(share: f64) -> Self {
        // 2^56 is a float, and so is every share of it, near enough.
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let threshold = (share.clamp(0.0, 1.0) * (1u64 << RANDOM_BITS) as f64) as u64;
        Self { threshold }
    }

    /// The same for every node that asks with the same share, since it depends on the id alone.
    fn takes(self, trace_id: TraceId) -> bool {
        trace_id.0 & ((1 << RANDOM_BITS) - 1) < self.threshold.into()
    }
}

impl TraceContext {
    /// Bytes of its text form, version 00.
    pub const LEN: usize = 55;

    /// Reads a `traceparent` (W3C Trace Context level 1, sections 3.2 and 4.3). A version above 00 is read as far as it
    /// is known: the first four fields, and of the flags `sampled`.
    ///
    /// # Errors
    /// If it is none: the trace is then started anew.
    pub fn parse(text: &[u8]) -> Result<Self, TraceParentError> {
        let (Some(fields), rest) = (text.first_chunk::<{ Self::LEN }>(), text.get(Self::LEN..).unwrap_or_default())
        else {
            return Err(TraceParentError::Shape);
        };
        if [fields[2], fields[35], fields[52]] != [b'-'; 3] {
            return Err(TraceParentError::Shape);
        }
        let version = hex(&fields[..2]).ok_or(TraceParentError::Shape)?;
        if version == 0xff {
            return Err(TraceParentError::Version);
        }
        let may_end_so = rest.first().is_none_or(|byte| version > 0 && *byte == b'-');
        if !may_end_so {
            return Err(TraceParentError::Shape);
        }
        let (high, low) = hex(&fields[3..19]).zip(hex(&fields[19..35])).ok_or(TraceParentError::Shape)?;
        let trace_id = u128::from(high) << 64 | u128::from(low);
        let span_id = hex(&fields[36..52]).ok_or(TraceParentError::Shape)?;
        let flags = hex(&fields[53..55]).ok_or(TraceParentError::Shape)?;
        if trace_id == 0 || span_id == 0 {
            return Err(TraceParentError::Zero);
        }
        Ok(Self { trace_id: TraceId(trace_id), span_id: SpanId(span_id), sampled: flags & 1 == 1 })
    }

    /// A new trace.
    #[must_use]
    pub fn start(sampler: Sampler, rng: &mut impl Rng) -> Self {
        let (high, low) = (u128::from(rng.next_u64()), u128::from(rng.next_u64()));
        let trace_id = TraceId((high << 64 | low).max(1));
        Self { trace_id, span_id: SpanId::random(rng), sampled: sampler.takes(trace_id) }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(self, rng: &mut impl Rng) -> Self {
        Self { span_id: SpanId::random(rng), ..self }
    }

    /// The trace.
    #[must_use]
    pub const fn trace_id(self) -> TraceId {
        self.trace_id
    }

    /// The span.
    #[must_use]
    pub const fn span_id(self) -> SpanId {
        self.span_id
    }

    /// Is it recorded?
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.sampled
    }

    /// The text form, version 00.
    #[must_use]
    pub fn text(self) -> [u8; Self::LEN] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], &self.trace_id.to_bytes());
        write_hex(&mut text[36..52], &self.span_id.to_bytes());
        text[54] += u8::from(self.sampled);
        text
    }
}

impl Hop {
    /// This node's place in the trace that came with a request, or in one that it starts, if none came or what came is
    /// no trace context.
    #[must_use]
    pub fn of_request(incoming: Option<&[u8]>, sampler: Sampler, rng: &mut impl Rng) -> Self {
        match incoming.map(TraceContext::parse) {
            Some(Ok(parent)) => Self { context: parent.child(rng), parent: Some(parent.span_id), started: false },
            _ => Self { context: TraceContext::start(sampler, rng), parent: None, started: true },
        }
    }

    /// The same for a request's headers. A `tracestate` among them goes on only if this node did not start the trace.
    pub fn of_headers(headers: &HeaderMap, sampler: Sampler, rng: &mut impl Rng) -> Self {
        let mut values = headers.get_all(TRACEPARENT).iter();
        // Two of them contradict each other: neither counts.
        let incoming = values.next().filter(|_| values.next().is_none());
        Self::of_request(incoming.map(HeaderValue::as_bytes), sampler, rng)
    }
}

impl TraceId {
    /// As it travels to a collector.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// As people read it: 32 hexadecimal digits.
    #[must_use]
    pub fn text(self) -> [u8; 32] {
        let mut text = [0; 32];
        write_hex(&mut text, &self.to_bytes());
        text
    }
}

impl SpanId {
    fn random(rng: &mut impl Rng) -> Self {
        Self(rng.next_u64().max(1))
    }

    /// As it travels to a collector.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// At most 16 lower-case digits.
fn hex(digits: &[u8]) -> Option<u64> {
    let mut number = 0;
    let mut seen = 0;
    for digit in digits {
        let value = VALUES[usize::from(*digit)];
        seen |= value;
        number = number << 4 | u64::from(value);
    }
    // One look for all of them: no digit has this bit.
    (seen < 16).then_some(number)
}

/// What a lower-case hexadecimal digit stands for; 16 for what is none.
const VALUES: [u8; 256] = {
    let mut table = [16; 256];
    let digits = b"0123456789abcdef";
    let mut value = 0;
    while value < 16 {
        table[digits[value as usize] as usize] = value;
        value += 1;
    }
    table
};

/// Two digits for each byte.
fn write_hex(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
}

#[cfg(test)]
mod tests;
