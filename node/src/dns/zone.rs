use std::sync::Arc;
use std::time::SystemTime;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use starling_proto::ServiceName;

use super::VipTable;

/// Seconds that a program may keep an address. The address is stable: it only bounds how long a name outlives the
/// mesh's memory of it.
const TTL: u32 = 5;

/// Seconds that a program may keep "no such name" (RFC 2308): none, so that a new service is there at once.
const NEGATIVE_TTL: u32 = 0;

/// The payload we say we take (DNS flag day 2020).
const EDNS_PAYLOAD: u16 = 1232;

const HEADER_LENGTH: usize = 12;

/// The mesh's domain: its suffix, and the services as its names.
pub struct Zone {
    suffix: Name,
    vips: Arc<VipTable>,
}

/// What to do with one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Send these bytes back; the code is for the count.
    Reply(Vec<u8>, ResponseCode),
    /// Not about the mesh: whoever knows other names may answer.
    Forward,
    /// No query at all; an answer could only do harm.
    Ignore,
}

/// Why some text is no suffix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a domain: write one or more labels such as mesh or mesh.internal")]
pub struct ZoneError(String);

enum Found {
    Address(std::net::Ipv4Addr),
    /// The name exists, but has no such record.
    NoData,
    NoName,
}

impl Zone {
    /// The names of the table's services below a suffix such as `mesh`.
    pub fn try_new(suffix: &str, vips: Arc<VipTable>) -> Result<Self, ZoneError> {
        let wrong = || ZoneError(suffix.to_owned());
        let mut name = Name::from_ascii(suffix).map_err(|_| wrong())?.to_lowercase();
        name.set_fqdn(true);
        let usable = |label: &[u8]| label.iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b));
        if name.is_root() || !name.iter().all(usable) {
            return Err(wrong());
        }
        Ok(Self { suffix: name, vips })
    }

    /// Judges one message as it came from a socket (RFC 1035, section 4), without the length that TCP puts before it.
    pub fn handle(&self, bytes: &[u8], now: SystemTime) -> Verdict {
        let (Some(&[high, low]), Some(flags)) = (bytes.first_chunk::<2>(), bytes.get(2)) else {
            return Verdict::Ignore;
        };
        let is_response = flags & 0x80 != 0;
        if bytes.len() < HEADER_LENGTH || is_response {
            return Verdict::Ignore;
        }
        let Ok(request) = Message::from_vec(bytes) else {
            return reply(&Message::error_msg(u16::from_be_bytes([high, low]), OpCode::Query, ResponseCode::FormErr));
        };
        if request.metadata.op_code != OpCode::Query {
            return reply(&response(&request, ResponseCode::NotImp));
        }
        let [query] = &request.queries[..] else { return reply(&response(&request, ResponseCode::FormErr)) };
        if !self.suffix.zone_of(query.name()) {
            return Verdict::Forward;
        }
        if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
            return reply(&response(&request, ResponseCode::Refused));
        }
        reply(&self.answer(&request, query, now))
    }

    /// The reply when nobody answers for a name outside the mesh.
    pub fn refuse(bytes: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
        let request = Message::from_vec(bytes).ok()?;
        response(&request, code).to_vec().ok()
    }

    fn answer(&self, request: &Message, query: &Query, now: SystemTime) -> Message {
        let mut answer = response(request, ResponseCode::NoError);
        answer.metadata.authoritative = true;
        let asks = |kind| matches!(query.query_type(), asked if asked == kind || asked == RecordType::ANY);
        match self.find(query.name(), now) {
            Found::Address(vip) if asks(RecordType::A) => {
                answer.add_answer(Record::from_rdata(query.name().clone(), TTL, RData::A(A(vip))));
                return answer;
            }
            Found::NoData if *query.name() == self.suffix && asks(RecordType::SOA) => {
                answer.add_answer(self.authority());
                return answer;
            }
            Found::Address(_) | Found::NoData => {}
            Found::NoName => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        answer.add_authority(self.authority());
        answer
    }

    fn find(&self, name: &Name, now: SystemTime) -> Found {
        let depth = usize::from(name.num_labels().saturating_sub(self.suffix.num_labels()));
        let labels: Option<Vec<String>> =
            name.iter().take(depth).map(|label| Some(std::str::from_utf8(label).ok()?.to_ascii_lowercase())).collect();
        let service = match labels.as_deref() {
            Some([]) => return Found::NoData,
            Some([name]) => name.parse::<ServiceName>(),
            Some([name, namespace]) => ServiceName::try_new(namespace, name),
            _ => return Found::NoName,
        };
        let Ok(service) = service else { return Found::NoName };
        if let Some(vip) = self.vips.resolve(&service, now) {
            return Found::Address(vip);
        }
        // `shop.mesh` exists as soon as `orders.shop.mesh` does; "no such name" would cut off all below it (RFC 8020).
        if depth == 1 && self.vips.has_namespace(service.name(), now) { Found::NoData } else { Found::NoName }
    }

    fn authority(&self) -> Record {
        let child = |label: &str| self.suffix.prepend_label(label).unwrap_or_else(|_| self.suffix.clone());
        let soa = SOA::new(child("ns"), child("hostmaster"), 1, 3600, 600, 86_400, NEGATIVE_TTL);
        Record::from_rdata(self.suffix.clone(), NEGATIVE_TTL, RData::SOA(soa))
    }
}

fn response(request: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.metadata.message_type = MessageType::Response;
    response.metadata.response_code = code;
    response.metadata.recursion_available = request.metadata.recursion_desired;
    response.queries.clone_from(&request.queries);
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(EDNS_PAYLOAD);
        response.set_edns(edns);
    }
    response
}

fn reply(message: &Message) -> Verdict {
    match message.to_vec() {
        Ok(bytes) => Verdict::Reply(bytes, message.metadata.response_code),
        Err(_) => Verdict::Ignore,
    }
}

#[cfg(test)]
mod tests;
