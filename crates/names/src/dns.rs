// SPDX-License-Identifier: Apache-2.0
//! Parses DNS queries and encodes replies (RFC 1035 section 4, RFC 6891). Pure.
//!
//! A workload chooses the queries. The header, the question and the OPT record are read by hand, so
//! that the reply repeats the bytes of the question, in the letter case that the client wrote.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use terok_clearance::DomainName;

pub(crate) mod stream;

/// The port of name servers (RFC 1035 section 4.2).
pub const DNS_PORT: u16 = 53;
/// The payload size that we announce (RFC 9715 section 3).
pub(crate) const EDNS_PAYLOAD_BYTES: u16 = 1232;
/// Lifetime of a stand-in address at the client.
///
/// Short, because the next answer differs once a rule allows the name and it does not exist.
const ADDRESS_TTL: u32 = 10;
/// Maximum reply over UDP to a client without EDNS.
const MAX_PLAIN_UDP_BYTES: u16 = 512;
/// Maximum reply over UDP, whatever payload size the client announces.
const MAX_UDP_BYTES: u16 = 4096;
const HEADER_BYTES: usize = 12;
/// Maximum bytes of a name on the wire (RFC 1035 section 2.3.4).
const MAX_NAME_BYTES: usize = 255;
const MAX_LABEL_BYTES: u8 = 63;
/// The two high bits that mark a compression pointer (RFC 1035 section 4.1.4).
const POINTER_BITS: u8 = 0xc0;
/// A compression pointer to the name of the question, which follows the header.
const QUESTION_POINTER: [u8; 2] = [0xc0, 12];

mod flag {
    pub(super) const RESPONSE: u16 = 0x8000;
    pub(super) const TRUNCATED: u16 = 0x0200;
    pub(super) const RECURSION_DESIRED: u16 = 0x0100;
    pub(super) const RECURSION_AVAILABLE: u16 = 0x0080;
    pub(super) const OPCODE: u16 = 0x7800;
    pub(super) const OPCODE_SHIFT: u16 = 11;
    /// In the OPT record.
    pub(super) const DNSSEC_OK: u16 = 0x8000;
}

/// The transport protocol that a query arrived over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsTransport {
    /// One message in each datagram.
    Udp,
    /// Messages with a length prefix, see [`DnsStreamDecoder`](crate::DnsStreamDecoder).
    Tcp,
}

/// A query with one question.
#[derive(Debug)]
pub(crate) struct DnsQuery {
    header: QueryHeader,
    transport: DnsTransport,
    /// The question as the client wrote it.
    question: Vec<u8>,
    pub(crate) name: QueryName,
    pub(crate) record_type: RecordType,
    pub(crate) class: DNSClass,
    edns: Option<EdnsRequest>,
}

/// The name of a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum QueryName {
    Host(DomainName),
    Root,
    /// A name that is not a host name, for example an address in the spelling of a name.
    NotHost,
}

/// The reason why a message is not a [`DnsQuery`].
#[derive(Debug)]
pub(crate) enum QueryRejection {
    /// No query: too short, or a response. A reply could make two servers talk to each other.
    NotQuery,
    /// A query that is answered with an error.
    Reply(Vec<u8>),
}

/// A record of a reply to a question for its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplyRecord {
    Ipv4(Ipv4Addr),
    Ipv6(Ipv6Addr),
    Pointer(DomainName),
}

#[derive(Debug, Clone, Copy)]
struct QueryHeader {
    id: u16,
    flags: u16,
}

/// The OPT record of a query; options are not kept.
#[derive(Debug, Clone, Copy)]
struct EdnsRequest {
    payload_bytes: u16,
    version: u8,
    dnssec_ok: bool,
}

impl DnsQuery {
    /// Parses a message of a client.
    pub(crate) fn parse(message: &[u8], transport: DnsTransport) -> Result<Self, QueryRejection> {
        let mut cursor = MessageCursor { rest: message };
        let (header, counts) = QueryHeader::read(&mut cursor).ok_or(QueryRejection::NotQuery)?;
        if header.flags & flag::RESPONSE != 0 {
            return Err(QueryRejection::NotQuery);
        }
        let reject = |code| QueryRejection::Reply(header.encode_error(code));
        if header.op_code() != OpCode::Query {
            return Err(reject(ResponseCode::NotImp));
        }
        let [questions, answers, authorities, additionals] = counts;
        if questions != 1 {
            return Err(reject(ResponseCode::FormErr));
        }
        let query = Self::read_question(&mut cursor, header, transport)
            .ok_or_else(|| reject(ResponseCode::FormErr))?;
        let edns = read_edns(&mut cursor, [answers, authorities, additionals])
            .map_err(|MalformedRecord| reject(ResponseCode::FormErr))?;
        let query = Self { edns, ..query };
        match edns {
            Some(edns) if edns.version != 0 => Err(QueryRejection::Reply(
                query.encode_reply(ResponseCode::BADVERS, &[]),
            )),
            _ => Ok(query),
        }
    }

    fn read_question(
        cursor: &mut MessageCursor<'_>,
        header: QueryHeader,
        transport: DnsTransport,
    ) -> Option<Self> {
        let start = cursor.rest;
        let name = cursor.question_name()?;
        let record_type = cursor.u16()?.into();
        let class = cursor.u16()?.into();
        let length = start.len().checked_sub(cursor.rest.len())?;
        Some(Self {
            header,
            transport,
            question: start.get(..length)?.to_vec(),
            name,
            record_type,
            class,
            edns: None,
        })
    }

    /// Encodes a reply with records for the name of the question.
    pub(crate) fn encode_reply(&self, code: ResponseCode, records: &[ReplyRecord]) -> Vec<u8> {
        let mut message = self.encode_sections(code, 0, records);
        if message.len() > self.max_reply_bytes() {
            message = self.encode_sections(code, flag::TRUNCATED, &[]);
        }
        message
    }

    /// Encodes a reply with records from a lookup of `name`, the name of the question.
    ///
    /// Returns a server failure if the records do not encode, and a truncated reply if they do not
    /// fit.
    pub(crate) fn encode_lookup_reply(&self, name: &DomainName, records: Vec<Record>) -> Vec<u8> {
        match self.encode_records(name, records) {
            Some(message) if self.is_complete(&message) => message,
            Some(_) => self.encode_sections(ResponseCode::NoError, flag::TRUNCATED, &[]),
            None => self.encode_reply(ResponseCode::ServFail, &[]),
        }
    }

    fn encode_records(&self, name: &DomainName, records: Vec<Record>) -> Option<Vec<u8>> {
        let mut reply = Message::response(self.header.id, OpCode::Query);
        reply.metadata.recursion_desired = self.header.recursion_desired();
        reply.metadata.recursion_available = true;
        reply.add_query(Query::query(wire_name(name)?, self.record_type));
        reply.answers = records;
        reply.edns = self.edns.map(|request| {
            let mut edns = Edns::new();
            edns.set_max_payload(EDNS_PAYLOAD_BYTES);
            edns.set_dnssec_ok(request.dnssec_ok);
            edns
        });
        let mut message = reply.to_vec().ok()?;
        // The bytes of the client differ in letter case only. Compressed owners take over its case.
        let end = HEADER_BYTES.checked_add(self.question.len())?;
        let question = message.get_mut(HEADER_BYTES..end)?;
        if !question.eq_ignore_ascii_case(&self.question) {
            return None;
        }
        question.copy_from_slice(&self.question);
        Some(message)
    }

    fn encode_sections(&self, code: ResponseCode, flags: u16, records: &[ReplyRecord]) -> Vec<u8> {
        let mut message = Vec::with_capacity(MAX_PLAIN_UDP_BYTES.into());
        let answers = u16::try_from(records.len()).unwrap_or(u16::MAX);
        let counts = [1, answers, 0, u16::from(self.edns.is_some())];
        self.header.encode(code, flags, counts, &mut message);
        message.extend(&self.question);
        for record in records {
            record.encode(&mut message);
        }
        if let Some(edns) = &self.edns {
            edns.encode_response(code, &mut message);
        }
        message
    }

    /// Returns `true` if all records are in the message and it fits its transport.
    fn is_complete(&self, message: &[u8]) -> bool {
        let mut cursor = MessageCursor { rest: message };
        let is_whole = QueryHeader::read(&mut cursor)
            .is_some_and(|(header, _)| header.flags & flag::TRUNCATED == 0);
        is_whole && message.len() <= self.max_reply_bytes()
    }

    fn max_reply_bytes(&self) -> usize {
        let bytes = match (self.transport, self.edns) {
            (DnsTransport::Tcp, _) => u16::MAX,
            (DnsTransport::Udp, None) => MAX_PLAIN_UDP_BYTES,
            (DnsTransport::Udp, Some(edns)) => {
                edns.payload_bytes.clamp(MAX_PLAIN_UDP_BYTES, MAX_UDP_BYTES)
            }
        };
        bytes.into()
    }
}

impl QueryHeader {
    /// Reads the header and the counts of the four sections.
    fn read(cursor: &mut MessageCursor<'_>) -> Option<(Self, [u16; 4])> {
        let header = Self {
            id: cursor.u16()?,
            flags: cursor.u16()?,
        };
        let counts = [cursor.u16()?, cursor.u16()?, cursor.u16()?, cursor.u16()?];
        Some((header, counts))
    }

    fn op_code(self) -> OpCode {
        let code = (self.flags & flag::OPCODE) >> flag::OPCODE_SHIFT;
        OpCode::from_u8(u8::try_from(code).unwrap_or(u8::MAX))
    }

    const fn recursion_desired(self) -> bool {
        self.flags & flag::RECURSION_DESIRED != 0
    }

    /// Encodes a reply without a question, for a query whose question is not known.
    fn encode_error(self, code: ResponseCode) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER_BYTES);
        self.encode(code, 0, [0; 4], &mut message);
        message
    }

    fn encode(self, code: ResponseCode, flags: u16, counts: [u16; 4], message: &mut Vec<u8>) {
        let copied = self.flags & (flag::OPCODE | flag::RECURSION_DESIRED);
        let set = flag::RESPONSE | flag::RECURSION_AVAILABLE | flags;
        message.extend(self.id.to_be_bytes());
        message.extend((copied | set | u16::from(code.low())).to_be_bytes());
        message.extend(counts.into_iter().flat_map(u16::to_be_bytes));
    }
}

impl EdnsRequest {
    fn encode_response(self, code: ResponseCode, message: &mut Vec<u8>) {
        const ROOT: u8 = 0;
        const VERSION: u8 = 0;
        let flags = if self.dnssec_ok { flag::DNSSEC_OK } else { 0 };
        message.push(ROOT);
        message.extend(u16::from(RecordType::OPT).to_be_bytes());
        message.extend(EDNS_PAYLOAD_BYTES.to_be_bytes());
        message.extend([code.high(), VERSION]);
        message.extend(flags.to_be_bytes());
        message.extend(0_u16.to_be_bytes());
    }
}

impl ReplyRecord {
    const fn record_type(&self) -> RecordType {
        match self {
            Self::Ipv4(_) => RecordType::A,
            Self::Ipv6(_) => RecordType::AAAA,
            Self::Pointer(_) => RecordType::PTR,
        }
    }

    fn encode(&self, message: &mut Vec<u8>) {
        let data = match self {
            Self::Ipv4(address) => address.octets().to_vec(),
            Self::Ipv6(address) => address.octets().to_vec(),
            Self::Pointer(name) => encode_name(name),
        };
        message.extend(QUESTION_POINTER);
        message.extend(u16::from(self.record_type()).to_be_bytes());
        message.extend(u16::from(DNSClass::IN).to_be_bytes());
        message.extend(ADDRESS_TTL.to_be_bytes());
        // The data is an address or a name of at most 255 bytes.
        message.extend(u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
        message.extend(data);
    }
}

/// Converts a name to the type of hickory.
pub(crate) fn wire_name(name: &DomainName) -> Option<Name> {
    Name::from_labels(name.as_str().split('.').map(str::as_bytes)).ok()
}

fn encode_name(name: &DomainName) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.as_str().split('.') {
        // A label of a host name has at most 63 bytes.
        bytes.extend(u8::try_from(label.len()));
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

/// A record after the question.
enum QueryRecord {
    Edns(EdnsRequest),
    Other,
}

/// A record that does not fit into its message, or a second OPT record.
struct MalformedRecord;

/// Skips the records of the three sections; returns the OPT record of the last one.
///
/// Each record takes eleven bytes or more, so the message bounds the counts.
fn read_edns(
    cursor: &mut MessageCursor<'_>,
    counts: [u16; 3],
) -> Result<Option<EdnsRequest>, MalformedRecord> {
    let [answers, authorities, additionals] = counts;
    let mut edns = None;
    for _ in 0..u32::from(answers).saturating_add(authorities.into()) {
        cursor.query_record().ok_or(MalformedRecord)?;
    }
    for _ in 0..additionals {
        match cursor.query_record().ok_or(MalformedRecord)? {
            QueryRecord::Edns(_) if edns.is_some() => return Err(MalformedRecord),
            QueryRecord::Edns(found) => edns = Some(found),
            QueryRecord::Other => {}
        }
    }
    Ok(edns)
}

/// The rest of a message.
struct MessageCursor<'a> {
    rest: &'a [u8],
}

impl<'a> MessageCursor<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn u16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    /// Reads the name of a question. Nothing precedes it that a compression pointer could lead to.
    fn question_name(&mut self) -> Option<QueryName> {
        let mut text = String::new();
        let mut is_host = true;
        let mut wire_bytes = 1_usize;
        loop {
            let length = self.u8()?;
            match length {
                0 if text.is_empty() && is_host => return Some(QueryName::Root),
                0 => break,
                1..=MAX_LABEL_BYTES => {}
                _ => return None,
            }
            let label = self.bytes(length.into())?;
            wire_bytes = wire_bytes.checked_add(label.len())?.checked_add(1)?;
            if wire_bytes > MAX_NAME_BYTES {
                return None;
            }
            // A dot within a label would pass for a separator.
            is_host &= label
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            if is_host {
                if !text.is_empty() {
                    text.push('.');
                }
                text.extend(label.iter().copied().map(char::from));
            }
        }
        let name = is_host.then(|| text.parse().ok()).flatten();
        Some(name.map_or(QueryName::NotHost, QueryName::Host))
    }

    /// Reads one record. An OPT record belongs to the root.
    fn query_record(&mut self) -> Option<QueryRecord> {
        let is_root = self.rest.first() == Some(&0);
        self.skip_name()?;
        let record_type = RecordType::from(self.u16()?);
        let payload_bytes = self.u16()?;
        let [_, version] = self.u16()?.to_be_bytes();
        let flags = self.u16()?;
        let length = self.u16()?;
        self.bytes(length.into())?;
        match (record_type, is_root) {
            (RecordType::OPT, true) => Some(QueryRecord::Edns(EdnsRequest {
                payload_bytes,
                version,
                dnssec_ok: flags & flag::DNSSEC_OK != 0,
            })),
            (RecordType::OPT, false) => None,
            _ => Some(QueryRecord::Other),
        }
    }

    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.u8()? {
                0 => return Some(()),
                length @ 1..=MAX_LABEL_BYTES => _ = self.bytes(length.into())?,
                POINTER_BITS.. => return self.u8().map(|_| ()),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests;
