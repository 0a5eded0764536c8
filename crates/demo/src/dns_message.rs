// SPDX-License-Identifier: Apache-2.0
//! DNS queries for addresses, and their answers.

use std::net::IpAddr;
use std::str::FromStr as _;

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

/// Size of a buffer for answers.
pub(crate) const MAX_ANSWER_BYTES: usize = 1500;

/// A query for the addresses of a name, of one IP version.
pub(crate) struct AddressQuery(Message);

impl AddressQuery {
    /// Creates a query with a random id for the absolute name `name`.
    pub(crate) fn new(name: &str, kind: RecordType) -> Result<Self, ProtoError> {
        let mut name = Name::from_str(name)?;
        name.set_fqdn(true);
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(name, kind));
        Ok(Self(query))
    }

    /// Returns the query as a datagram.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, ProtoError> {
        self.0.to_vec()
    }

    /// Returns the addresses of an answer, or the reason why there are none; `None` if the datagram
    /// does not answer this query.
    pub(crate) fn parse_answer(
        &self,
        datagram: &[u8],
    ) -> Option<Result<Vec<IpAddr>, ResponseCode>> {
        let answer = Message::from_vec(datagram).ok()?;
        if answer.metadata.id != self.0.metadata.id || answer.queries != self.0.queries {
            return None;
        }
        Some(match answer.metadata.response_code {
            ResponseCode::NoError => {
                let records = answer.answers.iter();
                Ok(records.filter_map(|record| record.data.ip_addr()).collect())
            }
            code => Err(code),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_the_same_query_counts() {
        let query = AddressQuery::new("a.example", RecordType::A).unwrap();
        let mut answer = Message::response(query.0.metadata.id, query.0.metadata.op_code);
        answer.add_queries(query.0.queries.clone());
        let parse = |answer: &Message| query.parse_answer(&answer.to_vec().unwrap());
        assert_eq!(parse(&answer), Some(Ok(Vec::new())));
        answer.metadata.response_code = ResponseCode::NXDomain;
        assert_eq!(parse(&answer), Some(Err(ResponseCode::NXDomain)));
        answer.queries.clear();
        assert_eq!(parse(&answer), None);
        assert_eq!(query.parse_answer(b""), None);
    }
}
