// SPDX-License-Identifier: Apache-2.0
//! Encodes the ruleset as kernel messages.
//!
//! The expressions equal those of `nft` for the same text, in order and registers: a listing does
//! not reveal the loader. Numbers are those of `linux/netfilter/nf_tables.h`.

mod expressions;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use netns::netlink::{AttributeBuilder, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};

use terok_clearance::address_class::{AddressRange, IpFamily};

use super::attribute_kind::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CHAIN_TYPE, DATA_VALUE, ELEMENT_DATA,
    ELEMENT_FLAGS, ELEMENT_KEY, ELEMENT_TIMEOUT, ELEMENT_USERDATA, ELEMENTS, ELEMENTS_SET,
    ELEMENTS_TABLE, LIST_ELEMENT, RULE_CHAIN, RULE_EXPRESSIONS, RULE_TABLE, SET_DATA_LENGTH,
    SET_DATA_TYPE, SET_DESCRIPTION, SET_FLAGS, SET_ID, SET_KEY_LENGTH, SET_KEY_TYPE, SET_NAME,
    SET_TABLE, SET_TIMEOUT, SET_USERDATA, TABLE_FLAGS, TABLE_NAME,
};
use crate::order_element::{OrderElement, OrderSet};
use crate::ruleset::{
    MAX_RECENT_PACKETS, NftChain, NftHook, NftRule, NftSet, NftSetContent, NftSetKey, Ruleset,
    TABLE,
};

use expressions::RuleExpressions;

/// An nftables message: kind, flags and attributes.
#[derive(Debug)]
pub(crate) struct NftMessage {
    pub(crate) kind: NftMessageKind,
    pub(crate) flags: u16,
    pub(crate) attributes: AttributeBuilder,
}

/// The message types of nftables in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum NftMessageKind {
    NewTable = 0,
    GetTable = 1,
    DeleteTable = 2,
    NewChain = 3,
    GetChain = 4,
    NewRule = 6,
    GetRule = 7,
    NewSet = 9,
    GetSet = 10,
    NewElement = 12,
    GetElement = 13,
    DeleteElement = 14,
    GetGeneration = 16,
}

/// Flag of an element: the preceding interval ends here.
pub(crate) const INTERVAL_END: u32 = 1;

/// Returns the messages that replace the table by `ruleset` in one transaction, so that no packet
/// passes without a ruleset.
pub(crate) fn replace_ruleset(ruleset: &Ruleset) -> Vec<NftMessage> {
    let named = || AttributeBuilder::default().text(TABLE_NAME, TABLE);
    let mut messages = vec![
        build_message(
            NftMessageKind::NewTable,
            NLM_F_CREATE,
            named().u32_be(TABLE_FLAGS, 0),
        ),
        build_message(NftMessageKind::DeleteTable, 0, named()),
    ];
    messages.extend(create_ruleset(ruleset));
    messages
}

/// Returns the messages that create the table of `ruleset` where none exists.
///
/// After a transaction that deletes, the kernel delays the close of the socket by a grace period
/// (tens of milliseconds); after this one it does not.
pub(crate) fn create_ruleset(ruleset: &Ruleset) -> Vec<NftMessage> {
    let named = || AttributeBuilder::default().text(TABLE_NAME, TABLE);
    let mut messages = vec![build_message(
        NftMessageKind::NewTable,
        NLM_F_CREATE,
        named().u32_be(TABLE_FLAGS, 0),
    )];
    for (id, set) in (1..).zip(&ruleset.sets) {
        let attributes = set_attributes(set)
            .u32_be(SET_ID, id)
            .bytes(SET_USERDATA, &set_userdata(set));
        messages.push(build_message(
            NftMessageKind::NewSet,
            NLM_F_CREATE,
            attributes,
        ));
        if let Some(elements) = constant_elements(set) {
            let attributes = AttributeBuilder::default()
                .text(ELEMENTS_TABLE, TABLE)
                .text(ELEMENTS_SET, set.name)
                .nest(ELEMENTS, &elements);
            messages.push(build_message(
                NftMessageKind::NewElement,
                NLM_F_CREATE,
                attributes,
            ));
        }
    }
    for chain in &ruleset.chains {
        messages.push(build_message(
            NftMessageKind::NewChain,
            NLM_F_CREATE,
            chain_attributes(chain),
        ));
    }
    for chain in &ruleset.chains {
        for rule in &chain.rules {
            let attributes = rule_attributes(chain, rule);
            messages.push(build_message(
                NftMessageKind::NewRule,
                NLM_F_CREATE | NLM_F_APPEND,
                attributes,
            ));
        }
    }
    messages
}

fn build_message(kind: NftMessageKind, flags: u16, attributes: AttributeBuilder) -> NftMessage {
    NftMessage {
        kind,
        flags,
        attributes,
    }
}

/// Returns the messages that add new elements, grouped by set. Expiring ones get the time left at
/// `now`.
pub(crate) fn add_elements(elements: &[OrderElement], now: Instant) -> Vec<NftMessage> {
    let elements = elements.iter().map(|entry| {
        let mut element =
            AttributeBuilder::default().nest(ELEMENT_KEY, &data_value(&entry.encode_key()));
        if let Some(address) = entry.leads_to {
            element = element.nest(ELEMENT_DATA, &data_value(&address.octets()));
        }
        if let Some(until) = entry.expires_at {
            let left = until.saturating_duration_since(now);
            element = element.u64_be(ELEMENT_TIMEOUT, encode_timeout(left));
        }
        if let Some(name) = &entry.name {
            element = element.bytes(ELEMENT_USERDATA, &encode_comment(name.as_str()));
        }
        (entry.order_set(), element)
    });
    group_by_set(
        NftMessageKind::NewElement,
        NLM_F_CREATE | NLM_F_EXCL,
        elements,
    )
}

/// Returns the messages that remove existing elements.
pub(crate) fn remove_elements(entries: &[OrderElement]) -> Vec<NftMessage> {
    let elements = entries.iter().map(|entry| {
        let key = AttributeBuilder::default().nest(ELEMENT_KEY, &data_value(&entry.encode_key()));
        (entry.order_set(), key)
    });
    group_by_set(NftMessageKind::DeleteElement, 0, elements)
}

/// Returns the message that adds elements to a set that is not one of orders. Existing elements
/// stay as they are.
pub(crate) fn add_plain_elements(
    set: &str,
    elements: &[(Vec<u8>, Option<Duration>)],
) -> NftMessage {
    let elements = elements.iter().map(|(key, timeout)| {
        let element = AttributeBuilder::default().nest(ELEMENT_KEY, &data_value(key));
        match timeout {
            Some(timeout) => element.u64_be(ELEMENT_TIMEOUT, encode_timeout(*timeout)),
            None => element,
        }
    });
    let attributes = set_elements_query(set).nest(ELEMENTS, &list_attributes(elements));
    build_message(NftMessageKind::NewElement, NLM_F_CREATE, attributes)
}

/// Returns a timeout in milliseconds. Zero would mean unlimited.
fn encode_timeout(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// Returns the message that empties a set.
pub(crate) fn flush_set(set: &str) -> NftMessage {
    build_message(NftMessageKind::DeleteElement, 0, set_elements_query(set))
}

/// Returns the attributes of a query for the elements of a set.
pub(crate) fn set_elements_query(set: &str) -> AttributeBuilder {
    AttributeBuilder::default()
        .text(ELEMENTS_TABLE, TABLE)
        .text(ELEMENTS_SET, set)
}

/// An attribute's length has 16 bits; an element has at most about 320 bytes.
pub(crate) const MAX_ELEMENTS_PER_MESSAGE: usize = 128;

fn group_by_set(
    kind: NftMessageKind,
    flags: u16,
    elements: impl Iterator<Item = (OrderSet, AttributeBuilder)>,
) -> Vec<NftMessage> {
    let mut sorted: Vec<(OrderSet, Vec<AttributeBuilder>)> = Vec::new();
    for (set, element) in elements {
        let open = sorted
            .iter_mut()
            .find(|(other, list)| *other == set && list.len() < MAX_ELEMENTS_PER_MESSAGE);
        match open {
            Some((_, list)) => list.push(element),
            None => sorted.push((set, vec![element])),
        }
    }
    let messages = sorted.into_iter().map(|(set, elements)| {
        let attributes =
            set_elements_query(set.set_name()).nest(ELEMENTS, &list_attributes(elements));
        build_message(kind, flags, attributes)
    });
    messages.collect()
}

fn list_attributes(elements: impl IntoIterator<Item = AttributeBuilder>) -> AttributeBuilder {
    elements
        .into_iter()
        .fold(AttributeBuilder::default(), |list, element| {
            list.nest(LIST_ELEMENT, &element)
        })
}

/// Encodes a comment like nft: kind 0, length, text with a trailing NUL.
fn encode_comment(text: &str) -> Vec<u8> {
    let mut bytes = vec![
        0,
        u8::try_from(text.len().saturating_add(1)).unwrap_or(u8::MAX),
    ];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

/// Returns the attributes of a set except for id, userdata and elements.
pub(crate) fn set_attributes(set: &NftSet) -> AttributeBuilder {
    const CONSTANT: u32 = 0x2;
    const INTERVAL: u32 = 0x4;
    const MAP: u32 = 0x8;
    const TIMEOUT: u32 = 0x10;
    const DYNAMIC: u32 = 0x20;
    let flags = match &set.content {
        NftSetContent::Addresses(_) | NftSetContent::NamedBytes(_) => CONSTANT,
        NftSetContent::Ranges(_) => CONSTANT | INTERVAL,
        NftSetContent::Orders => TIMEOUT,
        NftSetContent::OrderedAddresses => MAP | TIMEOUT,
        NftSetContent::Recent(_) => TIMEOUT | DYNAMIC,
    };
    let size = match &set.content {
        NftSetContent::Addresses(addresses) => Some(addresses.len()),
        NftSetContent::NamedBytes(words) => Some(words.len()),
        // As counted by nft: two bounds each, including the open end of the last.
        NftSetContent::Ranges(ranges) => {
            let open = ranges
                .last()
                .is_some_and(|range| range.next_address().is_none());
            Some(interval_bounds(ranges).len().saturating_add(open.into()))
        }
        NftSetContent::Recent(_) => usize::try_from(MAX_RECENT_PACKETS).ok(),
        NftSetContent::Orders | NftSetContent::OrderedAddresses => None,
    };
    let (kind, length) = set.key.type_and_length();
    let mut attributes = AttributeBuilder::default()
        .text(SET_TABLE, TABLE)
        .text(SET_NAME, set.name)
        .u32_be(SET_FLAGS, flags)
        .u32_be(SET_KEY_TYPE, kind)
        .u32_be(SET_KEY_LENGTH, length);
    if set.content == NftSetContent::OrderedAddresses {
        let (kind, length) = NftSetKey::Address(IpFamily::V4).type_and_length();
        attributes = attributes
            .u32_be(SET_DATA_TYPE, kind)
            .u32_be(SET_DATA_LENGTH, length);
    }
    if let Some(size) = size.and_then(|size| u32::try_from(size).ok()) {
        attributes = attributes.nest(
            SET_DESCRIPTION,
            &AttributeBuilder::default().u32_be(1, size),
        );
    }
    if let NftSetContent::Recent(time) = set.content {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        attributes = attributes.u64_be(SET_TIMEOUT, milliseconds);
    }
    attributes
}

/// Returns nft's own data of a set: the byte order of the key, and of the data of a map, big-endian
/// (2) or host (0).
fn set_userdata(set: &NftSet) -> Vec<u8> {
    const BIG_ENDIAN: u32 = 2;
    let key_order: u32 = match set.key {
        NftSetKey::Address(_) | NftSetKey::Icmpv6 => BIG_ENDIAN,
        NftSetKey::Protocol(_) | NftSetKey::Port(_) | NftSetKey::Transport => 0,
    };
    let mut userdata = vec![0, 4];
    userdata.extend(key_order.to_ne_bytes());
    if set.content == NftSetContent::OrderedAddresses {
        userdata.extend([1, 4]);
        userdata.extend(BIG_ENDIAN.to_ne_bytes());
    }
    userdata
}

impl NftSetKey {
    /// Returns nft's type number, six bits a part, and the key's length in bytes.
    const fn type_and_length(self) -> (u32, u32) {
        const PROTOCOL: u32 = 12;
        const SERVICE: u32 = 13;
        const ICMPV6: u32 = 29;
        let (address, length) = match self {
            Self::Address(IpFamily::V4)
            | Self::Protocol(IpFamily::V4)
            | Self::Port(IpFamily::V4) => (7, 4),
            _ => (8, 16),
        };
        match self {
            Self::Address(_) => (address, length),
            Self::Protocol(_) => (address << 6 | PROTOCOL, length + 4),
            Self::Port(_) => (address << 12 | PROTOCOL << 6 | SERVICE, length + 8),
            Self::Transport => (PROTOCOL, 1),
            Self::Icmpv6 => (ICMPV6, 1),
        }
    }
}

/// Returns the elements of a constant set.
fn constant_elements(set: &NftSet) -> Option<AttributeBuilder> {
    let element = |key: &[u8]| AttributeBuilder::default().nest(ELEMENT_KEY, &data_value(key));
    match &set.content {
        NftSetContent::Addresses(addresses) => Some(list_attributes(
            addresses.iter().map(|ip| element(&octets(*ip))),
        )),
        NftSetContent::NamedBytes(words) => Some(list_attributes(
            words.iter().map(|(byte, _)| element(&[*byte])),
        )),
        NftSetContent::Ranges(ranges) => {
            // For nft only: the last range ends with the address space.
            const OPEN: [u8; 2] = [1, 4];
            let open = ranges
                .last()
                .and_then(|range| range.next_address())
                .is_none();
            let bounds = interval_bounds(ranges);
            let last = bounds.len().saturating_sub(1);
            Some(list_attributes(bounds.iter().enumerate().map(
                |(at, (ip, flags))| {
                    let key =
                        AttributeBuilder::default().nest(ELEMENT_KEY, &data_value(&octets(*ip)));
                    if *flags != 0 {
                        key.u32_be(ELEMENT_FLAGS, *flags)
                    } else if at == last && open {
                        let mut userdata = OPEN.to_vec();
                        userdata.extend(1u32.to_ne_bytes());
                        key.bytes(ELEMENT_USERDATA, &userdata)
                    } else {
                        key
                    }
                },
            )))
        }
        NftSetContent::Orders | NftSetContent::OrderedAddresses | NftSetContent::Recent(_) => None,
    }
}

/// Returns the bounds of ranges as an interval set stores them: the start and the end of each.
pub(crate) fn interval_bounds(ranges: &[AddressRange]) -> Vec<(IpAddr, u32)> {
    let zero = ranges
        .first()
        .map(|range| match IpFamily::of(range.first()) {
            IpFamily::V4 => IpAddr::from([0; 4]),
            IpFamily::V6 => IpAddr::from([0; 16]),
        });
    let mut bounds = Vec::new();
    // The kernel requires an explicit end before the first range.
    if let Some(zero) =
        zero.filter(|zero| ranges.first().is_some_and(|range| range.first() != *zero))
    {
        bounds.push((zero, INTERVAL_END));
    }
    for range in ranges {
        bounds.push((range.first(), 0));
        bounds.extend(range.next_address().map(|after| (after, INTERVAL_END)));
    }
    bounds
}

pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn data_value(bytes: &[u8]) -> AttributeBuilder {
    AttributeBuilder::default().bytes(DATA_VALUE, bytes)
}

const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const NFT_GOTO: u32 = u32::MAX - 3;

/// Returns the attributes of a chain without its rules.
pub(crate) fn chain_attributes(chain: &NftChain) -> AttributeBuilder {
    const FILTER: u32 = 0;
    // NF_IP_PRI_MANGLE of linux/netfilter_ipv4.h, -150.
    const MANGLE: u32 = (-150_i32).cast_unsigned();
    // Before NF_IP_PRI_NAT_DST, -100.
    const TRANSLATE: u32 = (-110_i32).cast_unsigned();
    // NF_IP_PRI_RAW.
    const RAW: u32 = (-300_i32).cast_unsigned();
    let attributes = AttributeBuilder::default()
        .text(CHAIN_TABLE, TABLE)
        .text(CHAIN_NAME, chain.name);
    let Some(hook) = chain.hook else {
        return attributes;
    };
    let policy = if hook.accepts_at_end() {
        NF_ACCEPT
    } else {
        NF_DROP
    };
    let chain_type = hook.chain_type();
    let (hook, priority) = match hook {
        NftHook::RawPrerouting => (0, RAW),
        NftHook::RawOutput => (3, RAW),
        NftHook::Prerouting => (0, MANGLE),
        NftHook::Input => (1, FILTER),
        NftHook::Forward => (2, FILTER),
        NftHook::Output => (3, FILTER),
        NftHook::TranslateOutput => (3, TRANSLATE),
        NftHook::Postrouting => (4, FILTER),
    };
    attributes
        .text(CHAIN_TYPE, chain_type)
        .u32_be(CHAIN_POLICY, policy)
        .nest(
            CHAIN_HOOK,
            &AttributeBuilder::default()
                .u32_be(1, hook)
                .u32_be(2, priority),
        )
}

/// Returns the attributes of a rule.
pub(crate) fn rule_attributes(chain: &NftChain, rule: &NftRule) -> AttributeBuilder {
    let mut expressions = RuleExpressions::default();
    for condition in &rule.matches {
        expressions.push_match(condition);
    }
    for statement in &rule.statements {
        expressions.push_statement(statement);
    }
    AttributeBuilder::default()
        .text(RULE_TABLE, TABLE)
        .text(RULE_CHAIN, chain.name)
        .nest(RULE_EXPRESSIONS, &expressions.list)
}
