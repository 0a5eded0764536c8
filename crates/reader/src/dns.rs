// SPDX-License-Identifier: Apache-2.0
//! Parses DNS answers: the addresses of a name with their lifetimes.
//!
//! Pure. The resolver sends the message, but the operator of a name's server chooses the contents.
//! Only host name lookups are decoded; other records are skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hickory_proto::op::{Header, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};
use terok_clearance::{DomainName, Protocol};

use crate::packet::LoggedPacket;

/// Maximum length of an alias (CNAME) chain.
const MAX_CNAME_CHAIN: usize = 16;
/// The port of resolvers (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// The addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsAnswer {
    /// The queried name, not its last alias.
    pub name: DomainName,
    /// Distinct addresses, each with its lifetime: the minimum TTL of the record and of the aliases
    /// leading to it.
    pub addresses: Vec<(IpAddr, Duration)>,
}

impl DnsAnswer {
    /// Parses the answer in a logged packet: a whole message in one UDP datagram from port 53.
    ///
    /// Returns `None` for other packets. A segment of TCP does not count: the receiver chooses
    /// where a stream is cut, so that a segment can begin in the middle of a record. The question
    /// then shows the address.
    pub fn from_packet(packet: &LoggedPacket<'_>) -> Option<Self> {
        let is_answer = packet.source_port == DNS_PORT && packet.protocol == Protocol::UDP;
        is_answer.then(|| Self::parse(packet.payload)).flatten()
    }

    /// Parses one message: an error-free response to exactly one question of class IN for a host
    /// name, with at least one A or AAAA record. Returns `None` for other messages.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut decoder = BinDecoder::new(message);
        let header = Header::read(&mut decoder).ok()?;
        let metadata = &header.metadata;
        let answered = metadata.message_type == MessageType::Response
            && metadata.op_code == OpCode::Query
            && metadata.response_code == ResponseCode::NoError
            && header.counts.queries == 1;
        if !answered {
            return None;
        }
        let query = Query::read(&mut decoder).ok()?;
        if query.query_class() != DNSClass::IN {
            return None;
        }
        let name = to_domain_name(query.name())?;

        // Each record takes eleven bytes or more, so the message bounds the count in the header.
        let records = (0..header.counts.answers)
            .map(|_| DnsRecord::parse(&mut decoder))
            .collect::<Option<Vec<_>>>()?;
        let addresses = collect_addresses(query.name(), &records);
        (!addresses.is_empty()).then_some(Self { name, addresses })
    }
}

/// Returns the addresses of `name`, following aliases.
fn collect_addresses(name: &Name, records: &[DnsRecord]) -> Vec<(IpAddr, Duration)> {
    let (mut name, mut alias_ttl) = (name, u32::MAX);
    for _ in 0..MAX_CNAME_CHAIN {
        let alias = records.iter().find_map(|record| match &record.data {
            DnsRecordData::Cname(target) if record.owner == *name => Some((target, record.ttl)),
            _ => None,
        });
        let Some((target, ttl)) = alias else { break };
        (name, alias_ttl) = (target, alias_ttl.min(ttl));
    }
    let mut addresses: Vec<(IpAddr, Duration)> = Vec::new();
    for record in records {
        let DnsRecordData::Address(address) = record.data else {
            continue;
        };
        let fresh = !addresses.iter().any(|(known, _)| *known == address);
        if record.owner == *name && fresh {
            let seconds = u64::from(record.ttl.min(alias_ttl));
            addresses.push((address, Duration::from_secs(seconds)));
        }
    }
    addresses
}

struct DnsRecord {
    owner: Name,
    ttl: u32,
    data: DnsRecordData,
}

enum DnsRecordData {
    Address(IpAddr),
    Cname(Name),
    Ignored,
}

impl DnsRecord {
    fn parse(decoder: &mut BinDecoder<'_>) -> Option<Self> {
        let owner = Name::read(decoder).ok()?;
        let kind = RecordType::from(decoder.read_u16().ok()?.unverified(/* any value is valid */));
        let class = DNSClass::from(decoder.read_u16().ok()?.unverified(/* any value is valid */));
        let ttl = decoder.read_u32().ok()?.unverified(/* bounded below */);
        let length = usize::from(decoder.read_u16().ok()?.unverified(/* read_slice checks it */));
        let mut inner = decoder.clone(u16::try_from(decoder.index()).ok()?);
        let bytes = decoder.read_slice(length).ok()?.unverified(/* matched by length */);
        let data = match (kind, class) {
            (RecordType::A, DNSClass::IN) => {
                DnsRecordData::Address(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into())
            }
            (RecordType::AAAA, DNSClass::IN) => {
                DnsRecordData::Address(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
            }
            (RecordType::CNAME, DNSClass::IN) => DnsRecordData::Cname(Name::read(&mut inner).ok()?),
            _ => DnsRecordData::Ignored,
        };
        // A set sign bit means zero (RFC 2181 section 8).
        let ttl = if ttl > i32::MAX.unsigned_abs() {
            0
        } else {
            ttl
        };
        Some(Self { owner, ttl, data })
    }
}

/// Converts a name, if it is a host name.
fn to_domain_name(name: &Name) -> Option<DomainName> {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').unwrap_or(&text).parse().ok()
}

#[cfg(test)]
mod tests;
