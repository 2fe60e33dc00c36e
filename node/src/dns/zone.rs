use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::SystemTime;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, PTR, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use self::lookup::{Entry, Found};
use super::VipTable;

mod lookup;

/// Seconds that a program may keep an address, or that a name has no such record. Both are stable: it only bounds how long a
/// name outlives the mesh's memory of it.
const TTL: u32 = 5;

/// Seconds that a program may keep "no such name" (RFC 2308): none, so that a new service is there at once.
const NO_NAME_TTL: u32 = 0;

/// The payload we say we take, and the most that we send over UDP (DNS flag day 2020).
const EDNS_PAYLOAD: u16 = 1232;

/// The most that a client without EDNS takes over UDP (RFC 1035, section 4.2.1).
const PLAIN_PAYLOAD: u16 = 512;

/// Instances of a service that name different ports; more are not listed.
const MOST_PORTS: usize = 8;

const HEADER_LENGTH: usize = 12;

/// The mesh's domain: its suffix with the services as its names, and their addresses the other way round.
#[derive(Clone)]
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
        let Some(found) = self.find(query.name(), now) else { return Verdict::Forward };
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return reply(&response(&request, ResponseCode::BADVERS));
        }
        if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
            return reply(&response(&request, ResponseCode::Refused));
        }
        reply(&self.answer(&request, query, found))
    }

    /// The reply when nobody answers for a name outside the mesh.
    pub fn refuse(bytes: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
        let request = Message::from_vec(bytes).ok()?;
        response(&request, code).to_vec().ok()
    }

    /// The reply as it may be sent over UDP: as it is, or if the client takes no such length, cut to its question with a word
    /// that there is more (RFC 2181, section 9).
    pub fn fit(reply: Vec<u8>, query: &[u8]) -> Vec<u8> {
        if reply.len() <= usize::from(PLAIN_PAYLOAD) {
            return reply;
        }
        let taken = Message::from_vec(query).ok().and_then(|query| Some(query.edns?.max_payload()));
        let taken = taken.map_or(PLAIN_PAYLOAD, |taken| taken.clamp(PLAIN_PAYLOAD, EDNS_PAYLOAD));
        if reply.len() <= usize::from(taken) {
            return reply;
        }
        let Ok(mut message) = Message::from_vec(&reply) else { return reply };
        message.metadata.truncation = true;
        message.answers.clear();
        message.authorities.clear();
        message.additionals.clear();
        message.to_vec().unwrap_or(reply)
    }

    fn answer(&self, request: &Message, query: &Query, found: Found) -> Message {
        let mut answer = response(request, ResponseCode::NoError);
        answer.metadata.authoritative = true;
        let asks = |kind| matches!(query.query_type(), asked if asked == kind || asked == RecordType::ANY);
        let name = || query.name().clone();
        match found.entry {
            Entry::Service { vip, .. } if asks(RecordType::A) => {
                answer.add_answer(Record::from_rdata(name(), TTL, RData::A(A(vip))));
            }
            Entry::Service { vip, ports } if query.query_type() == RecordType::SRV => {
                locate(&mut answer, &name(), &name(), vip, &ports);
            }
            Entry::Transport { target, vip, ports } if asks(RecordType::SRV) => {
                locate(&mut answer, &name(), &target, vip, &ports);
            }
            Entry::Address(target) if asks(RecordType::PTR) => {
                answer.add_answer(Record::from_rdata(name(), TTL, RData::PTR(PTR(target))));
            }
            Entry::Top if asks(RecordType::SOA) => {
                answer.add_answer(self.authority(&found.zone, TTL));
            }
            Entry::None => {
                answer.metadata.response_code = ResponseCode::NXDomain;
                answer.add_authority(self.authority(&found.zone, NO_NAME_TTL));
                return answer;
            }
            _ => {}
        }
        if answer.answers.is_empty() {
            answer.add_authority(self.authority(&found.zone, TTL));
        }
        answer
    }

    /// The zone's SOA. A resolver keeps a negative answer for the smaller of its TTL and its last field (RFC 2308, section 5).
    fn authority(&self, zone: &Name, ttl: u32) -> Record {
        let child = |label: &str| self.suffix.prepend_label(label).unwrap_or_else(|_| self.suffix.clone());
        let soa = SOA::new(child("ns"), child("hostmaster"), 1, 3600, 600, 86_400, TTL);
        Record::from_rdata(zone.clone(), ttl, RData::SOA(soa))
    }
}

/// Where a service is: its ports at the target (RFC 2782), and the target's address.
fn locate(answer: &mut Message, name: &Name, target: &Name, vip: Ipv4Addr, ports: &[u16]) {
    for port in ports.iter().take(MOST_PORTS) {
        let srv = SRV::new(0, 1, *port, target.clone());
        answer.add_answer(Record::from_rdata(name.clone(), TTL, RData::SRV(srv)));
    }
    if !ports.is_empty() {
        answer.add_additional(Record::from_rdata(target.clone(), TTL, RData::A(A(vip))));
    }
}

fn response(request: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.metadata.message_type = MessageType::Response;
    response.metadata.response_code = code;
    response.metadata.recursion_available = request.metadata.recursion_desired;
    response.queries.clone_from(&request.queries);
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(EDNS_PAYLOAD);
        // RFC 3225, section 3: the bit comes back as it was.
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
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
