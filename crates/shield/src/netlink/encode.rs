// SPDX-License-Identifier: Apache-2.0
//! The ruleset as the kernel's messages.
//!
//! The expressions are those that `nft` makes of the same text, in the same order and registers:
//! a listing cannot tell who loaded it. Numbers are those of `linux/netfilter/nf_tables.h`.

use std::net::IpAddr;
use std::time::Instant;

use terok_clearance::Protocol;

use super::attribute::Attributes;
use super::number::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CHAIN_TYPE, DATA_VALUE, DATA_VERDICT,
    ELEMENT_FLAGS, ELEMENT_KEY, ELEMENT_TIMEOUT, ELEMENT_USERDATA, ELEMENTS, ELEMENTS_SET,
    ELEMENTS_TABLE, EXPRESSION_DATA, EXPRESSION_NAME, LIST_ELEMENT, RULE_CHAIN, RULE_EXPRESSIONS,
    RULE_TABLE, SET_DESCRIPTION, SET_FLAGS, SET_ID, SET_KEY_LENGTH, SET_KEY_TYPE, SET_NAME,
    SET_TABLE, SET_TIMEOUT, SET_USERDATA, TABLE_FLAGS, TABLE_NAME,
};
use crate::order::{Entry, OrderSet};
use crate::ranges::{Family, Span};
use crate::ruleset::{
    Chain, Content, Hook, Key, Match, RECENT_SIZE, Rule, Ruleset, Set, Side, Statement, TABLE,
};

/// One message: its kind, its flags and its attributes.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) flags: u16,
    pub(crate) attributes: Vec<u8>,
}

/// The messages of nftables that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
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

const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const EXCLUSIVE: u16 = 0x200;

/// Flag of an element: the interval before it ends here.
pub(crate) const INTERVAL_END: u32 = 1;

/// Returns the messages that put `ruleset` in the place of whatever stood there: the old table is
/// deleted in the same transaction, so that no packet meets neither.
pub(crate) fn replace(ruleset: &Ruleset) -> Vec<Message> {
    let named = || Attributes::default().text(TABLE_NAME, TABLE);
    let mut messages = vec![
        message(Kind::NewTable, CREATE, named().u32(TABLE_FLAGS, 0)),
        message(Kind::DeleteTable, 0, named()),
        message(Kind::NewTable, CREATE, named().u32(TABLE_FLAGS, 0)),
    ];
    for (id, set) in (1..).zip(&ruleset.sets) {
        let attributes = set_attributes(set)
            .u32(SET_ID, id)
            .bytes(SET_USERDATA, &set_userdata(set));
        messages.push(message(Kind::NewSet, CREATE, attributes));
        if let Some(elements) = constants(set) {
            let attributes = Attributes::default()
                .text(ELEMENTS_TABLE, TABLE)
                .text(ELEMENTS_SET, set.name)
                .nest(ELEMENTS, &elements);
            messages.push(message(Kind::NewElement, CREATE, attributes));
        }
    }
    for chain in &ruleset.chains {
        messages.push(message(Kind::NewChain, CREATE, chain_attributes(chain)));
    }
    for chain in &ruleset.chains {
        for rule in &chain.rules {
            let attributes = rule_attributes(chain, rule);
            messages.push(message(Kind::NewRule, CREATE | APPEND, attributes));
        }
    }
    messages
}

fn message(kind: Kind, flags: u16, attributes: Attributes) -> Message {
    Message {
        kind,
        flags,
        attributes: attributes.into_bytes(),
    }
}

/// Returns the messages that add elements, each of which must be new, those of one set together.
///
/// One that ends by itself stays for what is left of its time at `now`.
pub(crate) fn add(entries: &[Entry], now: Instant) -> Vec<Message> {
    let elements = entries.iter().map(|entry| {
        let mut element = Attributes::default().nest(ELEMENT_KEY, &value(&entry.key()));
        if let Some(until) = entry.until {
            let left = until.saturating_duration_since(now).as_millis();
            // Zero would mean for ever.
            let milliseconds = u64::try_from(left).unwrap_or(u64::MAX).max(1);
            element = element.u64(ELEMENT_TIMEOUT, milliseconds);
        }
        if let Some(name) = &entry.name {
            element = element.bytes(ELEMENT_USERDATA, &comment(name.as_str()));
        }
        (entry.set(), element)
    });
    by_set(Kind::NewElement, CREATE | EXCLUSIVE, elements)
}

/// Returns the messages that remove elements, each of which must be there.
pub(crate) fn remove(entries: &[Entry]) -> Vec<Message> {
    let elements = entries.iter().map(|entry| {
        let key = Attributes::default().nest(ELEMENT_KEY, &value(&entry.key()));
        (entry.set(), key)
    });
    by_set(Kind::DeleteElement, 0, elements)
}

/// Returns the message that empties a set.
pub(crate) fn flush(set: &str) -> Message {
    message(Kind::DeleteElement, 0, elements_of(set))
}

/// Returns the attributes that ask for the elements of a set.
pub(crate) fn elements_of(set: &str) -> Attributes {
    Attributes::default()
        .text(ELEMENTS_TABLE, TABLE)
        .text(ELEMENTS_SET, set)
}

fn by_set(
    kind: Kind,
    flags: u16,
    elements: impl Iterator<Item = (OrderSet, Attributes)>,
) -> Vec<Message> {
    /// An attribute's length is 16 bits; an element has at most some 320 bytes.
    const ELEMENTS_A_MESSAGE: usize = 128;
    let mut sorted: Vec<(OrderSet, Vec<Attributes>)> = Vec::new();
    for (set, element) in elements {
        let open = sorted
            .iter_mut()
            .find(|(other, list)| *other == set && list.len() < ELEMENTS_A_MESSAGE);
        match open {
            Some((_, list)) => list.push(element),
            None => sorted.push((set, vec![element])),
        }
    }
    let messages = sorted.into_iter().map(|(set, elements)| {
        let attributes = elements_of(set.name()).nest(ELEMENTS, &list(elements));
        message(kind, flags, attributes)
    });
    messages.collect()
}

fn list(elements: impl IntoIterator<Item = Attributes>) -> Attributes {
    elements
        .into_iter()
        .fold(Attributes::default(), |list, element| {
            list.nest(LIST_ELEMENT, &element)
        })
}

/// A comment as nft keeps it: kind 0, its length, the text with a zero byte.
fn comment(text: &str) -> Vec<u8> {
    let mut bytes = vec![
        0,
        u8::try_from(text.len().saturating_add(1)).unwrap_or(u8::MAX),
    ];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

/// Returns what [`number::SET_NAME`] and its neighbours say of a set.
pub(crate) fn set_attributes(set: &Set) -> Attributes {
    const CONSTANT: u32 = 0x2;
    const INTERVAL: u32 = 0x4;
    const TIMEOUT: u32 = 0x10;
    const DYNAMIC: u32 = 0x20;
    let flags = match &set.content {
        Content::Addresses(_) | Content::Words(_) => CONSTANT,
        Content::Ranges(_) => CONSTANT | INTERVAL,
        Content::Orders => TIMEOUT,
        Content::Recent(_) => TIMEOUT | DYNAMIC,
    };
    let size = match &set.content {
        Content::Addresses(addresses) => Some(addresses.len()),
        Content::Words(words) => Some(words.len()),
        // As nft counts: two bounds each, the last one's open end included.
        Content::Ranges(spans) => {
            let open = spans.last().is_some_and(|span| span.after().is_none());
            Some(bounds(spans).len().saturating_add(open.into()))
        }
        Content::Recent(_) => usize::try_from(RECENT_SIZE).ok(),
        Content::Orders => None,
    };
    let (kind, length) = set.key.number();
    let mut attributes = Attributes::default()
        .text(SET_TABLE, TABLE)
        .text(SET_NAME, set.name)
        .u32(SET_FLAGS, flags)
        .u32(SET_KEY_TYPE, kind)
        .u32(SET_KEY_LENGTH, length);
    if let Some(size) = size.and_then(|size| u32::try_from(size).ok()) {
        attributes = attributes.nest(SET_DESCRIPTION, &Attributes::default().u32(1, size));
    }
    if let Content::Recent(time) = set.content {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        attributes = attributes.u64(SET_TIMEOUT, milliseconds);
    }
    attributes
}

/// Returns what nft alone reads of a set: whether its key is big-endian (2) or neither (0).
fn set_userdata(set: &Set) -> Vec<u8> {
    let order: u32 = match set.key {
        Key::Address(_) | Key::Icmpv6 => 2,
        Key::Protocol(_) | Key::Port(_) | Key::Transport => 0,
    };
    let mut userdata = vec![0, 4];
    userdata.extend(order.to_ne_bytes());
    userdata
}

impl Key {
    /// Returns nft's number of the type, six bits a part, and the key's length in bytes.
    const fn number(self) -> (u32, u32) {
        const PROTOCOL: u32 = 12;
        const SERVICE: u32 = 13;
        const ICMPV6: u32 = 29;
        let (address, length) = match self {
            Self::Address(Family::V4) | Self::Protocol(Family::V4) | Self::Port(Family::V4) => {
                (7, 4)
            }
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

/// Returns the elements of a set that stays as it is.
fn constants(set: &Set) -> Option<Attributes> {
    let element = |key: &[u8]| Attributes::default().nest(ELEMENT_KEY, &value(key));
    match &set.content {
        Content::Addresses(addresses) => {
            Some(list(addresses.iter().map(|ip| element(&octets(*ip)))))
        }
        Content::Words(words) => Some(list(words.iter().map(|(byte, _)| element(&[*byte])))),
        Content::Ranges(spans) => {
            // For nft alone: the last range has no end because there is nothing behind it.
            const OPEN: [u8; 2] = [1, 4];
            let open = spans.last().and_then(|span| span.after()).is_none();
            let bounds = bounds(spans);
            let last = bounds.len().saturating_sub(1);
            Some(list(bounds.iter().enumerate().map(|(at, (ip, flags))| {
                let key = Attributes::default().nest(ELEMENT_KEY, &value(&octets(*ip)));
                if *flags != 0 {
                    key.u32(ELEMENT_FLAGS, *flags)
                } else if at == last && open {
                    let mut userdata = OPEN.to_vec();
                    userdata.extend(1u32.to_ne_bytes());
                    key.bytes(ELEMENT_USERDATA, &userdata)
                } else {
                    key
                }
            })))
        }
        Content::Orders | Content::Recent(_) => None,
    }
}

/// Returns the bounds of ranges as an interval set holds them: where each begins, and where none
/// is any more.
pub(crate) fn bounds(spans: &[Span]) -> Vec<(IpAddr, u32)> {
    let zero = spans.first().map(|span| match Family::of(span.first()) {
        Family::V4 => IpAddr::from([0; 4]),
        Family::V6 => IpAddr::from([0; 16]),
    });
    let mut bounds = Vec::new();
    // The kernel wants to be told that the space before the first range is in none.
    if let Some(zero) = zero.filter(|zero| spans.first().is_some_and(|span| span.first() != *zero))
    {
        bounds.push((zero, INTERVAL_END));
    }
    for span in spans {
        bounds.push((span.first(), 0));
        bounds.extend(span.after().map(|after| (after, INTERVAL_END)));
    }
    bounds
}

pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn value(bytes: &[u8]) -> Attributes {
    Attributes::default().bytes(DATA_VALUE, bytes)
}

const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const NFT_GOTO: u32 = u32::MAX - 3;

/// Returns what is said of a chain, its rules excepted.
pub(crate) fn chain_attributes(chain: &Chain) -> Attributes {
    const FILTER: u32 = 0;
    let attributes = Attributes::default()
        .text(CHAIN_TABLE, TABLE)
        .text(CHAIN_NAME, chain.name);
    let Some(hook) = chain.hook else {
        return attributes;
    };
    let hook = match hook {
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
    };
    attributes
        .text(CHAIN_TYPE, "filter")
        .u32(CHAIN_POLICY, NF_DROP)
        .nest(
            CHAIN_HOOK,
            &Attributes::default().u32(1, hook).u32(2, FILTER),
        )
}

/// Returns what is said of a rule.
pub(crate) fn rule_attributes(chain: &Chain, rule: &Rule) -> Attributes {
    let mut expressions = Expressions::default();
    for wanted in &rule.matches {
        expressions.wanted(wanted);
    }
    for statement in &rule.statements {
        expressions.statement(statement);
    }
    Attributes::default()
        .text(RULE_TABLE, TABLE)
        .text(RULE_CHAIN, chain.name)
        .nest(RULE_EXPRESSIONS, &expressions.list)
}

/// Expressions of one rule, and what they have made sure of already.
#[derive(Default)]
struct Expressions {
    list: Attributes,
    family: Option<Family>,
    transport: Option<u8>,
}

/// Where a value is loaded to: the first of the 16-byte registers.
const REGISTER: u32 = 1;
/// The number of the first of the 4-byte registers, the same memory.
const SMALL_REGISTER: u32 = 8;

impl Expressions {
    fn push(&mut self, name: &str, data: &Attributes) {
        let expression = Attributes::default()
            .text(EXPRESSION_NAME, name)
            .nest(EXPRESSION_DATA, data);
        self.list = std::mem::take(&mut self.list).nest(LIST_ELEMENT, &expression);
    }

    fn wanted(&mut self, wanted: &Match) {
        match wanted {
            Match::Loopback(hook) => {
                // The loopback interface is the first of every network namespace.
                const LOOPBACK: u32 = 1;
                let key = if *hook == Hook::Output {
                    meta::OUT
                } else {
                    meta::IN
                };
                self.meta(key, REGISTER);
                self.compare(false, &LOOPBACK.to_ne_bytes());
            }
            Match::Connection(states) => {
                const STATE: u32 = 0;
                self.push("ct", &Attributes::default().u32(2, STATE).u32(1, REGISTER));
                let mask = Attributes::default()
                    .u32(1, REGISTER)
                    .u32(2, REGISTER)
                    .u32(3, 4)
                    .u32(6, 0)
                    .nest(4, &value(&states.to_ne_bytes()))
                    .nest(5, &value(&[0; 4]));
                self.push("bitwise", &mask);
                self.compare(true, &[0; 4]);
            }
            Match::Transport(protocol) => self.transport(*protocol),
            Match::Ported(ported) => {
                self.meta(meta::TRANSPORT, REGISTER);
                self.lookup("ported", !ported);
            }
            Match::Port(protocol, side, port) => {
                self.transport(*protocol);
                let offset = if *side == Side::Source { 0 } else { 2 };
                self.payload(TRANSPORT_HEADER, offset, 2, REGISTER);
                self.compare(false, &port.to_be_bytes());
            }
            Match::Address(family, side, set) => {
                self.family(*family);
                self.address(*family, *side);
                self.lookup(set, false);
            }
            Match::Member(key, set) => {
                self.key(*key);
                self.lookup(set, false);
            }
            Match::Icmpv6(set) => {
                self.family(Family::V6);
                self.transport(Protocol::ICMPV6);
                self.payload(TRANSPORT_HEADER, 0, 1, REGISTER);
                self.lookup(set, false);
            }
            Match::OnLink => {
                self.family(Family::V6);
                self.payload(NETWORK_HEADER, 7, 1, REGISTER);
                self.compare(false, &[255]);
            }
            Match::ByProcess => {
                self.meta(meta::USER, REGISTER);
                self.compare(true, &[0xff; 4]);
            }
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Accept => self.verdict(&Attributes::default().u32(1, NF_ACCEPT)),
            Statement::Drop => self.verdict(&Attributes::default().u32(1, NF_DROP)),
            Statement::Goto(chain) => {
                self.verdict(&Attributes::default().u32(1, NFT_GOTO).text(2, chain));
            }
            Statement::Limit { per_second, burst } => {
                let data = Attributes::default()
                    .u64(1, *per_second)
                    .u64(2, 1)
                    .u32(3, *burst)
                    .u32(4, 0)
                    .u32(5, 0);
                self.push("limit", &data);
            }
            Statement::Log {
                group,
                prefix,
                snaplen,
            } => {
                let mut data = Attributes::default().text(2, prefix).u16(1, *group);
                if let Some(snaplen) = snaplen {
                    data = data.u32(3, *snaplen);
                }
                // One packet is enough to send it: nobody waits for a second.
                self.push("log", &data.u16(4, 1));
            }
            Statement::Remember(key, set) => {
                self.key(*key);
                let data = Attributes::default()
                    .u32(4, REGISTER)
                    .u32(3, 0)
                    .text(1, set);
                self.push("dynset", &data);
            }
            Statement::Reset => self.push("reject", &Attributes::default().u32(1, 1)),
            Statement::Prohibit => {
                self.push("reject", &Attributes::default().u32(1, 2).bytes(2, &[3]));
            }
        }
    }

    fn key(&mut self, key: Key) {
        let (Key::Address(family) | Key::Protocol(family) | Key::Port(family)) = key else {
            return;
        };
        self.family(family);
        self.address(family, Side::Destination);
        // The parts of a key lie behind each other, at multiples of four bytes.
        let transport = match family {
            Family::V4 => SMALL_REGISTER + 1,
            Family::V6 => REGISTER + 1,
        };
        let port = match family {
            Family::V4 => SMALL_REGISTER + 2,
            Family::V6 => SMALL_REGISTER + 5,
        };
        if matches!(key, Key::Protocol(_) | Key::Port(_)) {
            self.meta(meta::TRANSPORT, transport);
        }
        if matches!(key, Key::Port(_)) {
            self.payload(TRANSPORT_HEADER, 2, 2, port);
        }
    }

    fn family(&mut self, family: Family) {
        if self.family.replace(family) != Some(family) {
            let number = if family == Family::V4 { 2 } else { 10 };
            self.meta(meta::FAMILY, REGISTER);
            self.compare(false, &[number]);
        }
    }

    fn transport(&mut self, protocol: Protocol) {
        if self.transport.replace(protocol.0) != Some(protocol.0) {
            self.meta(meta::TRANSPORT, REGISTER);
            self.compare(false, &[protocol.0]);
        }
    }

    fn address(&mut self, family: Family, side: Side) {
        let (offset, length) = match (family, side) {
            (Family::V4, Side::Source) => (12, 4),
            (Family::V4, Side::Destination) => (16, 4),
            (Family::V6, Side::Source) => (8, 16),
            (Family::V6, Side::Destination) => (24, 16),
        };
        self.payload(NETWORK_HEADER, offset, length, REGISTER);
    }

    fn meta(&mut self, key: u32, register: u32) {
        self.push("meta", &Attributes::default().u32(2, key).u32(1, register));
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        let data = Attributes::default()
            .u32(1, register)
            .u32(2, base)
            .u32(3, offset)
            .u32(4, length);
        self.push("payload", &data);
    }

    fn compare(&mut self, differs: bool, with: &[u8]) {
        let data = Attributes::default()
            .u32(1, REGISTER)
            .u32(2, differs.into())
            .nest(3, &value(with));
        self.push("cmp", &data);
    }

    fn lookup(&mut self, set: &str, inverted: bool) {
        let data = Attributes::default()
            .u32(2, REGISTER)
            .text(1, set)
            .u32(5, inverted.into());
        self.push("lookup", &data);
    }

    fn verdict(&mut self, verdict: &Attributes) {
        const VERDICT_REGISTER: u32 = 0;
        let data = Attributes::default()
            .u32(1, VERDICT_REGISTER)
            .nest(2, &Attributes::default().nest(DATA_VERDICT, verdict));
        self.push("immediate", &data);
    }
}

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

mod meta {
    pub(super) const IN: u32 = 4;
    pub(super) const OUT: u32 = 5;
    pub(super) const USER: u32 = 10;
    pub(super) const FAMILY: u32 = 15;
    pub(super) const TRANSPORT: u32 = 16;
}
