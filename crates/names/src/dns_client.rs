// SPDX-License-Identifier: Apache-2.0
//! Queries name servers for records of one name.
//!
//! `getaddrinfo` returns addresses only. A query is built here alone: nothing of the sandbox's
//! query but name and type is in it. Each has a random id and the random port that the kernel gives
//! to a new socket; the kernel drops datagrams of other senders.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};
use terok_clearance::DomainName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::dns::stream::{DnsStreamError, encode_stream_message};
use crate::dns::{EDNS_PAYLOAD_BYTES, wire_name};
use crate::dns_resolver::LookupSockets;
use crate::lookup::LookupFailure;

/// Maximum time for one reply of one server.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// Times that each server is asked, in turn.
const ROUNDS: usize = 2;
/// Size of the buffer for datagrams; some servers send more than was announced.
const MAX_DATAGRAM_BYTES: usize = 4096;

/// An error of one exchange with one server.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error("the query does not encode: {0}")]
    Encode(#[from] ProtoError),
    #[error("{0}")]
    Framing(#[from] DnsStreamError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no reply within {} s", REPLY_TIMEOUT.as_secs())]
    TimedOut,
    #[error("the reply is malformed or belongs to another query")]
    Mismatch,
    #[error("the server reports: {0}")]
    Refused(ResponseCode),
}

/// Returns the records of `name` from the first server that answers.
pub(crate) async fn query_records(
    sockets: &impl LookupSockets,
    name_servers: &[SocketAddr],
    name: &DomainName,
    record_type: RecordType,
) -> Result<Vec<Record>, LookupFailure> {
    let wire_name = wire_name(name).ok_or_else(|| LookupFailure::failed("not a host name"))?;
    let question = Query::query(wire_name, record_type);
    let mut failure = String::from("no name server is configured");
    for server in (0..ROUNDS).flat_map(|_| name_servers) {
        match query_server(sockets, *server, &question).await {
            Ok(reply) => return read_records(reply, record_type),
            Err(error) => {
                tracing::debug!(%server, %error, "name server did not answer");
                failure = format!("name server {}: {error}", server.ip());
            }
        }
    }
    Err(LookupFailure::failed(&failure))
}

fn read_records(reply: Message, record_type: RecordType) -> Result<Vec<Record>, LookupFailure> {
    if reply.metadata.response_code == ResponseCode::NXDomain {
        return Err(LookupFailure::NotFound);
    }
    let is_wanted = |record: &Record| record.record_type() == record_type;
    if reply.answers.iter().any(is_wanted) {
        Ok(reply.answers)
    } else {
        Err(LookupFailure::NoData)
    }
}

/// Asks one server: with EDNS, then without if the server does not know it, by TCP if the reply
/// does not fit into a datagram.
async fn query_server(
    sockets: &impl LookupSockets,
    server: SocketAddr,
    question: &Query,
) -> Result<Message, ExchangeError> {
    let mut edns = Edns::new();
    edns.set_max_payload(EDNS_PAYLOAD_BYTES);
    for edns in [Some(edns), None] {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(question.clone());
        query.edns = edns;
        let is_retried = query.edns.is_some();
        let mut reply = limit_time(exchange_udp(sockets, server, &query)).await?;
        if reply.metadata.truncation {
            reply = limit_time(exchange_tcp(sockets, server, &query)).await?;
        }
        match reply.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => return Ok(reply),
            ResponseCode::FormErr | ResponseCode::NotImp if is_retried => {}
            code => return Err(ExchangeError::Refused(code)),
        }
    }
    Err(ExchangeError::Refused(ResponseCode::FormErr))
}

async fn limit_time<T>(
    exchange: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, ExchangeError> {
    timeout(REPLY_TIMEOUT, exchange)
        .await
        .unwrap_or(Err(ExchangeError::TimedOut))
}

async fn exchange_udp(
    sockets: &impl LookupSockets,
    server: SocketAddr,
    query: &Message,
) -> Result<Message, ExchangeError> {
    let socket = sockets.udp_socket(server)?;
    socket.connect(server)?; // takes a random port
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    let bytes = query.to_vec()?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // A datagram that does not match may be forged: the true reply can still come.
        if let Some(reply) = parse_reply(buffer.get(..length).unwrap_or_default(), query) {
            return Ok(reply);
        }
    }
}

async fn exchange_tcp(
    sockets: &impl LookupSockets,
    server: SocketAddr,
    query: &Message,
) -> Result<Message, ExchangeError> {
    let bytes = query.to_vec()?;
    let bytes = encode_stream_message(&bytes)?;
    let mut stream = sockets.tcp_socket(server)?.connect(server).await?;
    stream.write_all(&bytes).await?;
    let length = stream.read_u16().await?;
    let mut reply = Vec::new();
    stream.take(length.into()).read_to_end(&mut reply).await?;
    let reply = parse_reply(&reply, query).ok_or(ExchangeError::Mismatch)?;
    if reply.metadata.truncation {
        return Err(ExchangeError::Mismatch);
    }
    Ok(reply)
}

/// Parses a message if it answers `query`.
fn parse_reply(bytes: &[u8], query: &Message) -> Option<Message> {
    // The header first: the decoder of whole messages allocates by the count of questions.
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder).ok()?;
    let is_reply = header.metadata.message_type == MessageType::Response
        && header.metadata.op_code == OpCode::Query
        && header.metadata.id == query.metadata.id;
    if !is_reply {
        return None;
    }
    let code = header.metadata.response_code;
    if header.counts.queries == 0 && !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
    {
        // Servers may leave the question out of an error.
        let mut reply = Message::response(query.metadata.id, OpCode::Query);
        reply.metadata.response_code = code;
        return Some(reply);
    }
    if header.counts.queries != 1 {
        return None;
    }
    let question = Query::read(&mut decoder).ok()?;
    let is_same = query.queries.first().is_some_and(|asked| {
        asked.name() == question.name()
            && asked.query_type() == question.query_type()
            && question.query_class() == DNSClass::IN
    });
    if !is_same {
        return None;
    }
    if header.metadata.truncation {
        // The rest may be cut in the middle of a record.
        let mut reply = Message::response(query.metadata.id, OpCode::Query);
        reply.metadata.response_code = code;
        reply.metadata.truncation = true;
        return Some(reply);
    }
    Message::from_vec(bytes).ok()
}
