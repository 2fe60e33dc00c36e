//! Heads on their way into a stream. Those of HTTP are written straight from where an HTTP library keeps their parts: the
//! same bytes as the messages of `mesh/v1/hop.proto`, without making such a message first.

use bytes::{BufMut, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::mesh::v1;

/// A head that can be encoded.
pub trait Head {
    /// Appends it, without its length.
    fn encode_to(self, buffer: &mut BytesMut);
}

impl<M: Message> Head for &M {
    fn encode_to(self, buffer: &mut BytesMut) {
        self.encode(buffer).expect("a BytesMut grows");
    }
}

/// A [`v1::StreamHeader`] of an HTTP request. The fields of the same names are described there.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct RequestHead<'a, F> {
    pub protocol: v1::Protocol,
    pub source: &'a str,
    pub destination: &'a str,
    pub destination_port: u16,
    pub instance: u32,
    pub method: &'a [u8],
    pub target: &'a [u8],
    pub authority: &'a [u8],
    /// Names and values.
    pub headers: F,
    pub deadline_ms: u32,
    pub attempt: u32,
    pub traceparent: &'a [u8],
    pub no_body: bool,
    pub content_length: Option<u64>,
    pub upgrade: &'a [u8],
    pub takes_interim: bool,
}

impl<'a, F: Iterator<Item = (&'a [u8], &'a [u8])>> Head for RequestHead<'a, F> {
    fn encode_to(self, buffer: &mut BytesMut) {
        number(buffer, 1, self.protocol as u64);
        bytes(buffer, 2, self.source.as_bytes());
        bytes(buffer, 3, self.destination.as_bytes());
        number(buffer, 4, self.destination_port.into());
        bytes(buffer, 5, self.method);
        bytes(buffer, 6, self.target);
        bytes(buffer, 7, self.authority);
        fields(buffer, 8, self.headers);
        number(buffer, 9, self.deadline_ms.into());
        number(buffer, 10, self.attempt.into());
        bytes(buffer, 13, self.traceparent);
        number(buffer, 14, self.no_body.into());
        number(buffer, 15, self.content_length.unwrap_or(0));
        number(buffer, 16, self.content_length.is_some().into());
        number(buffer, 17, self.instance.into());
        bytes(buffer, 18, self.upgrade);
        number(buffer, 19, self.takes_interim.into());
    }
}

/// A [`v1::ResponseHead`] of an application's answer. The fields of the same names are described there.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct AnswerHead<F> {
    pub status: u16,
    /// Names and values.
    pub headers: F,
    pub no_body: bool,
    pub content_length: Option<u64>,
    pub load: v1::Load,
}

impl<'a, F: Iterator<Item = (&'a [u8], &'a [u8])>> Head for AnswerHead<F> {
    fn encode_to(self, buffer: &mut BytesMut) {
        number(buffer, 1, self.status.into());
        fields(buffer, 2, self.headers);
        number(buffer, 5, self.no_body.into());
        number(buffer, 6, self.content_length.unwrap_or(0));
        number(buffer, 7, self.content_length.is_some().into());
        prost::encoding::message::encode(8, &self.load, buffer);
    }
}

/// A field with its default is left out, as proto3 does.
fn number(buffer: &mut BytesMut, tag: u32, value: u64) {
    if value != 0 {
        encode_key(tag, WireType::Varint, buffer);
        encode_varint(value, buffer);
    }
}

fn bytes(buffer: &mut BytesMut, tag: u32, value: &[u8]) {
    if !value.is_empty() {
        encode_key(tag, WireType::LengthDelimited, buffer);
        encode_varint(value.len() as u64, buffer);
        buffer.put_slice(value);
    }
}

/// A [`v1::Header`] for each.
fn fields<'a>(buffer: &mut BytesMut, tag: u32, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    let len = |part: &[u8]| if part.is_empty() { 0 } else { 1 + encoded_len_varint(part.len() as u64) + part.len() };
    for (name, value) in fields {
        encode_key(tag, WireType::LengthDelimited, buffer);
        encode_varint((len(name) + len(value)) as u64, buffer);
        bytes(buffer, 1, name);
        bytes(buffer, 2, value);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    type Field = (Vec<u8>, Vec<u8>);

    fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 1..300)]
    }

    fn some_fields() -> impl Strategy<Value = Vec<Field>> {
        prop::collection::vec((some_bytes(), some_bytes()), 0..5)
    }

    fn headers(fields: &[Field]) -> Vec<v1::Header> {
        let header = |(name, value): &Field| v1::Header { name: name.clone().into(), value: value.clone().into() };
        fields.iter().map(header).collect()
    }

    fn borrowed(fields: &[Field]) -> impl Iterator<Item = (&[u8], &[u8])> {
        fields.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    fn encoded(head: impl Head) -> Bytes {
        let mut buffer = BytesMut::new();
        head.encode_to(&mut buffer);
        buffer.freeze()
    }

    proptest! {
        #[test]
        fn a_request_is_the_message_that_it_stands_for(
            source in "[a-z/]{0,20}",
            destination in "[a-z/]{0,200}",
            (destination_port, instance, deadline_ms, attempt) in any::<(u16, u32, u32, u32)>(),
            (method, target, authority, traceparent) in (some_bytes(), some_bytes(), some_bytes(), some_bytes()),
            fields in some_fields(),
            (no_body, takes_interim) in any::<(bool, bool)>(),
            content_length in any::<Option<u64>>(),
            upgrade in some_bytes(),
        ) {
            let protocol = v1::Protocol::Http2;
            let message = v1::StreamHeader {
                protocol: protocol.into(),
                source: source.clone(),
                destination: destination.clone(),
                destination_port: destination_port.into(),
                method: method.clone().into(),
                target: target.clone().into(),
                authority: authority.clone().into(),
                headers: headers(&fields),
                deadline_ms,
                attempt,
                depth: 0,
                priority: 0,
                traceparent: traceparent.clone().into(),
                no_body,
                content_length: content_length.unwrap_or(0),
                has_content_length: content_length.is_some(),
                instance,
                upgrade: upgrade.clone().into(),
                takes_interim,
            };
            let head = RequestHead {
                protocol,
                source: &source,
                destination: &destination,
                destination_port,
                instance,
                method: &method,
                target: &target,
                authority: &authority,
                headers: borrowed(&fields),
                deadline_ms,
                attempt,
                traceparent: &traceparent,
                no_body,
                content_length,
                upgrade: &upgrade,
                takes_interim,
            };
            prop_assert_eq!(encoded(head), encoded(&message));
        }

        #[test]
        fn an_answer_is_the_message_that_it_stands_for(
            status in any::<u16>(),
            fields in some_fields(),
            no_body in any::<bool>(),
            content_length in any::<Option<u64>>(),
            (in_flight, latency_us, limit, epoch) in any::<(u32, u32, u32, u32)>(),
        ) {
            let load = v1::Load { in_flight, latency_us, limit, epoch };
            let message = v1::ResponseHead {
                status: status.into(),
                headers: headers(&fields),
                error: String::new(),
                detail: String::new(),
                no_body,
                content_length: content_length.unwrap_or(0),
                has_content_length: content_length.is_some(),
                load: Some(load),
            };
            let head = AnswerHead { status, headers: borrowed(&fields), no_body, content_length, load };
            prop_assert_eq!(encoded(head), encoded(&message));
        }
    }
}
