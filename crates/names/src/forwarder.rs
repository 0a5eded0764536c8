// SPDX-License-Identifier: Apache-2.0
//! Decides what a DNS query of a sandbox is answered with. Pure.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, Record, RecordType};
use terok_clearance::DomainName;

use crate::dns::{DnsQuery, DnsTransport, QueryName, QueryRejection, ReplyRecord};
use crate::lookup::{LookupFailure, LookupOutcome, LookupRequest};
use crate::stand_in::{StandInKey, StandInObserver, StandInTable};

/// Maximum lookups at a time; a query for one more is answered with a server failure.
const MAX_PENDING_LOOKUPS: usize = 1024;
/// Maximum refused pairs of name and type that are noticed; then one last notice says so.
const MAX_REFUSED_TYPES: usize = 1024;
/// Maximum lifetime of a looked-up record at the client, so that a withdrawn rule has effect.
const MAX_RECORD_TTL: u32 = 300;

/// Answers the queries of one sandbox.
///
/// The caller owns the sockets and runs the lookups:
///
/// ```
/// # use terok_clearance_names::{
/// #     DnsForwarder, DnsTransport, ForwarderConfig, QueryPlan, StandInKey, StaticHosts,
/// # };
/// # use terok_clearance::DomainName;
/// # async fn serve(query: &[u8], hosts: &StaticHosts) {
/// let mut forwarder = DnsForwarder::new(ForwarderConfig::new(StandInKey::new([7; 16])));
/// let policy = |name: &DomainName| name.as_str() == "example.com";
/// let reply = match forwarder.plan(query, DnsTransport::Udp, &policy) {
///     QueryPlan::Reply(reply) => Some(reply),
///     QueryPlan::Lookup(pending) => {
///         let outcome = pending.request().resolve(hosts).await;
///         Some(forwarder.finish(pending, outcome))
///     }
///     QueryPlan::Ignore => None,
/// };
/// # }
/// ```
#[derive(Debug)]
pub struct DnsForwarder {
    own_names: Vec<DomainName>,
    absent_names: HashSet<DomainName>,
    stand_ins: StandInTable,
    notices: NoticeLog,
    /// Each pending lookup holds a clone.
    pending: Arc<()>,
}

/// The settings of a [`DnsForwarder`].
#[derive(Debug, Clone)]
pub struct ForwarderConfig {
    /// The key of the stand-in addresses.
    pub stand_in_key: StandInKey,
    /// Names that have a meaning for the sandbox only and are never looked up outside.
    pub own_names: Vec<DomainName>,
    /// Names that do not exist for the sandbox, whatever the rules say.
    pub absent_names: HashSet<DomainName>,
    /// The stand-in addresses that names had at an earlier forwarder of the sandbox.
    pub earlier: Vec<(DomainName, Ipv4Addr)>,
    /// Is called with each name that gets a stand-in address, besides those of `earlier`.
    pub observer: Option<StandInObserver>,
}

/// The rules, as far as the forwarder needs them.
pub trait NamePolicy {
    /// Returns `true` if a rule allows the name, for any port and protocol.
    fn is_allowed(&self, name: &DomainName) -> bool;
}

/// What to do with a query.
#[derive(Debug)]
pub enum QueryPlan {
    /// Send this reply.
    Reply(Vec<u8>),
    /// Run a lookup, then call [`DnsForwarder::finish`].
    Lookup(PendingLookup),
    /// Send nothing: the message is not a query.
    Ignore,
}

/// A query that waits for a lookup. To drop it leaves the query without a reply.
pub struct PendingLookup {
    query: DnsQuery,
    request: LookupRequest,
    _slot: Arc<()>,
}

/// A fact that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwarderNotice {
    /// The sandbox used up its stand-in addresses; new names fail.
    StandInsExhausted,
    /// Records of this type were asked for a name that no rule allows. Once for each pair.
    RecordTypeRefused {
        /// The name.
        name: DomainName,
        /// The type.
        record_type: RecordType,
    },
    /// Later refusals of record types get no notice, because there were too many.
    RefusalsOmitted,
}

/// The groups of record types that are answered alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueryKind {
    /// A, and ANY, which may be answered with some of the records (RFC 8482).
    Ipv4,
    Ipv6,
    /// HTTPS and SVCB: they carry addresses, and alternative names for the same service.
    ServiceBinding,
    Other,
    /// Types of questions, such as zone transfers, and of the protocol itself.
    Meta,
}

/// A plan before its reply is encoded.
enum PlannedAnswer {
    Reply(ResponseCode, Option<ReplyRecord>),
    Lookup(LookupRequest),
}

impl PlannedAnswer {
    const NO_DATA: Self = Self::Reply(ResponseCode::NoError, None);
    const NOT_FOUND: Self = Self::Reply(ResponseCode::NXDomain, None);
    const REFUSED: Self = Self::Reply(ResponseCode::Refused, None);
    const FAILED: Self = Self::Reply(ResponseCode::ServFail, None);

    const fn failure(failure: &LookupFailure) -> Self {
        match failure {
            LookupFailure::NotFound => Self::NOT_FOUND,
            LookupFailure::NoData => Self::NO_DATA,
            LookupFailure::Failed(_) => Self::FAILED,
        }
    }

    const fn record(record: ReplyRecord) -> Self {
        Self::Reply(ResponseCode::NoError, Some(record))
    }
}

impl DnsForwarder {
    /// Creates a forwarder whose only stand-in addresses in use are those of an earlier one.
    pub fn new(config: ForwarderConfig) -> Self {
        let mut stand_ins = StandInTable::new(config.stand_in_key);
        for (name, address) in &config.earlier {
            if !stand_ins.restore(name, *address) {
                tracing::debug!(%name, %address, "an earlier stand-in address is not used");
            }
        }
        if let Some(observer) = config.observer {
            stand_ins.set_observer(observer);
        }
        Self {
            own_names: config.own_names,
            absent_names: config.absent_names,
            stand_ins,
            notices: NoticeLog::default(),
            pending: Arc::default(),
        }
    }

    /// Decides about one message from the sandbox.
    ///
    /// A name that `policy` does not allow never leads to a lookup.
    pub fn plan(
        &mut self,
        query: &[u8],
        transport: DnsTransport,
        policy: &dyn NamePolicy,
    ) -> QueryPlan {
        let query = match DnsQuery::parse(query, transport) {
            Ok(query) => query,
            Err(QueryRejection::NotQuery) => return QueryPlan::Ignore,
            Err(QueryRejection::Reply(reply)) => return QueryPlan::Reply(reply),
        };
        match self.answer(&query, policy) {
            PlannedAnswer::Reply(code, record) => {
                QueryPlan::Reply(query.encode_reply(code, record.as_slice()))
            }
            PlannedAnswer::Lookup(_) if Arc::strong_count(&self.pending) > MAX_PENDING_LOOKUPS => {
                QueryPlan::Reply(query.encode_reply(ResponseCode::ServFail, &[]))
            }
            PlannedAnswer::Lookup(request) => QueryPlan::Lookup(PendingLookup {
                query,
                request,
                _slot: Arc::clone(&self.pending),
            }),
        }
    }

    /// Returns the reply to a query after its lookup.
    pub fn finish(&mut self, pending: PendingLookup, outcome: LookupOutcome) -> Vec<u8> {
        let PendingLookup { query, request, .. } = pending;
        let answer = match (request, outcome) {
            (LookupRequest::Addresses(name), LookupOutcome::Addresses(Ok(addresses)))
                if !addresses.is_empty() =>
            {
                self.address_answer(QueryKind::of(query.record_type), &name)
            }
            (
                LookupRequest::Records { name, record_type },
                LookupOutcome::Records(Ok(mut records)),
            ) => {
                limit_records(&mut records, record_type);
                return query.encode_lookup_reply(&name, records);
            }
            (LookupRequest::Addresses(_), LookupOutcome::Addresses(Ok(_))) => {
                PlannedAnswer::NO_DATA
            }
            (LookupRequest::Addresses(_), LookupOutcome::Addresses(Err(failure)))
            | (LookupRequest::Records { .. }, LookupOutcome::Records(Err(failure))) => {
                PlannedAnswer::failure(&failure)
            }
            // The outcome of another request.
            _ => PlannedAnswer::FAILED,
        };
        match answer {
            PlannedAnswer::Reply(code, record) => query.encode_reply(code, record.as_slice()),
            PlannedAnswer::Lookup(_) => query.encode_reply(ResponseCode::ServFail, &[]),
        }
    }

    /// Returns the notices since the last call; at most about a thousand over the whole life.
    pub fn take_notices(&mut self) -> Vec<ForwarderNotice> {
        std::mem::take(&mut self.notices.waiting)
    }

    /// Returns the names that have stand-in addresses.
    pub fn stand_ins(&self) -> &StandInTable {
        &self.stand_ins
    }

    /// Returns the stand-in addresses, to assign one or to restore earlier ones.
    pub const fn stand_ins_mut(&mut self) -> &mut StandInTable {
        &mut self.stand_ins
    }

    fn answer(&mut self, query: &DnsQuery, policy: &dyn NamePolicy) -> PlannedAnswer {
        if query.class != DNSClass::IN {
            return PlannedAnswer::REFUSED;
        }
        let name = match &query.name {
            QueryName::Host(name) => name,
            // A cache that took NXDOMAIN for the root would stop asking for any name (RFC 8020).
            QueryName::Root => return PlannedAnswer::REFUSED,
            QueryName::NotHost => return PlannedAnswer::NOT_FOUND,
        };
        if self.absent_names.contains(name) {
            return PlannedAnswer::NOT_FOUND;
        }
        let kind = QueryKind::of(query.record_type);
        if is_in_zone(name, "localhost") {
            return loopback_answer(kind);
        }
        if let Some(zone) = ReverseZone::of(name) {
            return self.reverse_answer(zone, name, query.record_type);
        }
        let is_own = self.own_names.contains(name);
        match kind {
            QueryKind::ServiceBinding => PlannedAnswer::NO_DATA,
            QueryKind::Meta => PlannedAnswer::REFUSED,
            QueryKind::Other if is_own => PlannedAnswer::NO_DATA,
            QueryKind::Ipv4 | QueryKind::Ipv6 if is_own => self.address_answer(kind, name),
            QueryKind::Ipv4 | QueryKind::Ipv6 if policy.is_allowed(name) => {
                PlannedAnswer::Lookup(LookupRequest::Addresses(name.clone()))
            }
            QueryKind::Ipv4 | QueryKind::Ipv6 => self.address_answer(kind, name),
            QueryKind::Other if policy.is_allowed(name) => {
                PlannedAnswer::Lookup(LookupRequest::Records {
                    name: name.clone(),
                    record_type: query.record_type,
                })
            }
            QueryKind::Other => {
                self.notices.refuse(name, query.record_type);
                PlannedAnswer::REFUSED
            }
        }
    }

    /// Returns the stand-in address for A. AAAA has no data: a name needs one stand-in, and a
    /// server with IPv6 only is dialed all the same.
    fn address_answer(&mut self, kind: QueryKind, name: &DomainName) -> PlannedAnswer {
        if kind != QueryKind::Ipv4 {
            return PlannedAnswer::NO_DATA;
        }
        if let Ok(address) = self.stand_ins.assign(name) {
            PlannedAnswer::record(ReplyRecord::Ipv4(address))
        } else {
            self.notices.exhaust();
            PlannedAnswer::FAILED
        }
    }

    fn reverse_answer(
        &self,
        zone: ReverseZone,
        name: &DomainName,
        record_type: RecordType,
    ) -> PlannedAnswer {
        let address = zone.address_of(name);
        let Some(target) = address.and_then(|address| self.stand_ins.name_of(address)) else {
            return PlannedAnswer::NOT_FOUND;
        };
        match record_type {
            RecordType::PTR | RecordType::ANY => {
                PlannedAnswer::record(ReplyRecord::Pointer(target.clone()))
            }
            _ => PlannedAnswer::NO_DATA,
        }
    }
}

impl ForwarderConfig {
    /// Creates the usual settings: the only own name is `host.internal`, and the only absent name
    /// the one by which browsers learn that they should ask this name server and not one of their
    /// own over HTTPS (`use-application-dns.net`).
    pub fn new(stand_in_key: StandInKey) -> Self {
        Self {
            stand_in_key,
            own_names: "host.internal".parse().into_iter().collect(),
            absent_names: "use-application-dns.net".parse().into_iter().collect(),
            earlier: Vec::new(),
            observer: None,
        }
    }
}

impl<F: Fn(&DomainName) -> bool> NamePolicy for F {
    fn is_allowed(&self, name: &DomainName) -> bool {
        self(name)
    }
}

impl PendingLookup {
    /// Returns what to look up.
    pub fn request(&self) -> &LookupRequest {
        &self.request
    }
}

impl fmt::Debug for PendingLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingLookup")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ForwarderNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StandInsExhausted => write!(
                f,
                "this sandbox looked up {} names, the most possible; new names fail until it is \
                 restarted",
                StandInTable::CAPACITY
            ),
            Self::RecordTypeRefused { name, record_type } => write!(
                f,
                "refused a lookup of {record_type} records of {name}; allow {name} to permit it"
            ),
            Self::RefusalsOmitted => f.write_str(
                "refused lookups of too many names and record types; later refusals are not shown",
            ),
        }
    }
}

impl QueryKind {
    fn of(record_type: RecordType) -> Self {
        match record_type {
            RecordType::A | RecordType::ANY => Self::Ipv4,
            RecordType::AAAA => Self::Ipv6,
            RecordType::HTTPS | RecordType::SVCB => Self::ServiceBinding,
            RecordType::OPT => Self::Meta,
            // RFC 6895 section 3.1: 0 is reserved, 128 to 255 are questions and meta types.
            other => match u16::from(other) {
                0 | 128..=255 => Self::Meta,
                _ => Self::Other,
            },
        }
    }
}

/// The notices of a forwarder, each at most once.
#[derive(Debug, Default)]
struct NoticeLog {
    waiting: Vec<ForwarderNotice>,
    refused: HashSet<(DomainName, RecordType)>,
    is_exhausted: bool,
    is_omitting: bool,
}

impl NoticeLog {
    fn refuse(&mut self, name: &DomainName, record_type: RecordType) {
        let pair = (name.clone(), record_type);
        if self.refused.contains(&pair) {
            return;
        }
        if self.refused.len() < MAX_REFUSED_TYPES {
            self.refused.insert(pair);
            self.waiting.push(ForwarderNotice::RecordTypeRefused {
                name: name.clone(),
                record_type,
            });
        } else if !self.is_omitting {
            self.is_omitting = true;
            self.waiting.push(ForwarderNotice::RefusalsOmitted);
        }
    }

    fn exhaust(&mut self) {
        if !self.is_exhausted {
            self.is_exhausted = true;
            self.waiting.push(ForwarderNotice::StandInsExhausted);
        }
    }
}

/// The zones of reverse lookups (RFC 1035 section 3.5, RFC 3596 section 2.5).
#[derive(Debug, Clone, Copy)]
enum ReverseZone {
    Ipv4,
    Ipv6,
}

impl ReverseZone {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Ipv4 => "in-addr.arpa",
            Self::Ipv6 => "ip6.arpa",
        }
    }

    fn of(name: &DomainName) -> Option<Self> {
        let is_within = |zone: &Self| is_in_zone(name, zone.suffix());
        [Self::Ipv4, Self::Ipv6].into_iter().find(is_within)
    }

    fn address_of(self, name: &DomainName) -> Option<IpAddr> {
        let labels = name.as_str().strip_suffix(self.suffix())?;
        let labels = labels.strip_suffix('.')?.rsplit('.');
        match self {
            Self::Ipv4 => {
                let octets = labels
                    .map(|label| label.parse().ok())
                    .collect::<Option<_>>();
                let octets = <[u8; 4]>::try_from(octets.unwrap_or_else(Vec::new)).ok()?;
                Some(Ipv4Addr::from(octets).into())
            }
            Self::Ipv6 => {
                let digits: Vec<_> = labels.collect();
                let is_digit = |label: &&str| label.len() == 1;
                let is_complete = digits.len() == 32 && digits.iter().all(is_digit);
                let bits = is_complete.then(|| u128::from_str_radix(&digits.concat(), 16));
                Some(Ipv6Addr::from(bits?.ok()?).into())
            }
        }
    }
}

/// Returns `true` for `zone` and the names below it.
fn is_in_zone(name: &DomainName, zone: &str) -> bool {
    let labels = name.as_str().strip_suffix(zone);
    labels.is_some_and(|labels| labels.is_empty() || labels.ends_with('.'))
}

/// `localhost` and the names below it are this machine (RFC 6761 section 6.3).
const fn loopback_answer(kind: QueryKind) -> PlannedAnswer {
    match kind {
        QueryKind::Ipv4 => PlannedAnswer::record(ReplyRecord::Ipv4(Ipv4Addr::LOCALHOST)),
        QueryKind::Ipv6 => PlannedAnswer::record(ReplyRecord::Ipv6(Ipv6Addr::LOCALHOST)),
        QueryKind::ServiceBinding | QueryKind::Other | QueryKind::Meta => PlannedAnswer::NO_DATA,
    }
}

/// Removes what was not asked for, above all addresses, and limits lifetimes.
fn limit_records(records: &mut Vec<Record>, record_type: RecordType) {
    records.retain(|record| {
        let is_alias = record.record_type() == RecordType::CNAME;
        record.dns_class == DNSClass::IN && (record.record_type() == record_type || is_alias)
    });
    for record in records {
        record.ttl = record.ttl.min(MAX_RECORD_TTL);
    }
}

#[cfg(test)]
mod tests;
