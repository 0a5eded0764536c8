// SPDX-License-Identifier: Apache-2.0
//! Lookups outside the sandbox: the interface, and a table of fixed addresses.

use std::collections::HashMap;
use std::net::IpAddr;

use hickory_proto::rr::{Record, RecordType};
use terok_clearance::{DisplayText, DomainName};

/// Looks up names for a sandbox.
///
/// The names are those that a rule allows; implementations do not check rules.
pub trait NameLookup: Send + Sync + 'static {
    /// Returns the addresses of `name`, at least one, each once.
    fn lookup_addresses(
        &self,
        name: &DomainName,
    ) -> impl Future<Output = Result<Vec<IpAddr>, LookupFailure>> + Send;

    /// Returns the records of `name` of one type, and the aliases that lead to them.
    fn lookup_records(
        &self,
        name: &DomainName,
        record_type: RecordType,
    ) -> impl Future<Output = Result<Vec<Record>, LookupFailure>> + Send;
}

/// The reason of a lookup without a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupFailure {
    /// The name does not exist.
    #[error("the name does not exist")]
    NotFound,
    /// The name exists and has no data of this type.
    #[error("the name has no records of this type")]
    NoData,
    /// The lookup gave no answer, for example because no name server replied.
    #[error("the lookup failed: {0}")]
    Failed(DisplayText),
}

/// A lookup that a query needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupRequest {
    /// The addresses of a name, of both families.
    Addresses(DomainName),
    /// Records of another type.
    Records {
        /// The name.
        name: DomainName,
        /// The type, never an address type.
        record_type: RecordType,
    },
}

/// The result of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupOutcome {
    /// The result of [`LookupRequest::Addresses`].
    Addresses(Result<Vec<IpAddr>, LookupFailure>),
    /// The result of [`LookupRequest::Records`].
    Records(Result<Vec<Record>, LookupFailure>),
}

/// Names with fixed addresses, for the demo and for tests. Other names do not exist.
#[derive(Debug, Clone, Default)]
pub struct StaticHosts {
    addresses: HashMap<DomainName, Vec<IpAddr>>,
}

impl LookupRequest {
    /// Returns the name to look up.
    pub fn name(&self) -> &DomainName {
        match self {
            Self::Addresses(name) | Self::Records { name, .. } => name,
        }
    }

    /// Runs the lookup.
    pub async fn resolve(&self, lookup: &impl NameLookup) -> LookupOutcome {
        match self {
            Self::Addresses(name) => LookupOutcome::Addresses(lookup.lookup_addresses(name).await),
            Self::Records { name, record_type } => {
                LookupOutcome::Records(lookup.lookup_records(name, *record_type).await)
            }
        }
    }
}

impl LookupFailure {
    /// Creates [`LookupFailure::Failed`].
    pub fn failed(reason: &str) -> Self {
        Self::Failed(DisplayText::new(reason))
    }
}

impl StaticHosts {
    fn addresses_of(&self, name: &DomainName) -> Result<&[IpAddr], LookupFailure> {
        let addresses = self.addresses.get(name);
        addresses.map(Vec::as_slice).ok_or(LookupFailure::NotFound)
    }
}

impl FromIterator<(DomainName, Vec<IpAddr>)> for StaticHosts {
    fn from_iter<I: IntoIterator<Item = (DomainName, Vec<IpAddr>)>>(names: I) -> Self {
        Self {
            addresses: names.into_iter().collect(),
        }
    }
}

impl NameLookup for StaticHosts {
    async fn lookup_addresses(&self, name: &DomainName) -> Result<Vec<IpAddr>, LookupFailure> {
        match self.addresses_of(name)? {
            [] => Err(LookupFailure::NoData),
            addresses => Ok(addresses.to_vec()),
        }
    }

    async fn lookup_records(
        &self,
        name: &DomainName,
        _record_type: RecordType,
    ) -> Result<Vec<Record>, LookupFailure> {
        self.addresses_of(name)?;
        Err(LookupFailure::NoData)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn static_hosts_know_their_names_only() {
        let name = |text: &str| text.parse::<DomainName>().unwrap();
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        let hosts: StaticHosts = [
            (name("a.test"), vec![address]),
            (name("empty.test"), Vec::new()),
        ]
        .into_iter()
        .collect();
        for (text, expected) in [
            ("A.test", Ok(vec![address])),
            ("empty.test", Err(LookupFailure::NoData)),
            ("b.test", Err(LookupFailure::NotFound)),
        ] {
            let outcome = LookupRequest::Addresses(name(text)).resolve(&hosts).await;
            assert_eq!(outcome, LookupOutcome::Addresses(expected), "of {text}");
        }
        let request = LookupRequest::Records {
            name: name("a.test"),
            record_type: RecordType::TXT,
        };
        let outcome = request.resolve(&hosts).await;
        assert_eq!(outcome, LookupOutcome::Records(Err(LookupFailure::NoData)));
    }
}
