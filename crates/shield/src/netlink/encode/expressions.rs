// SPDX-License-Identifier: Apache-2.0
//! Encodes the conditions and statements of one rule as nftables expressions.

use netns::netlink::AttributeBuilder;
use terok_clearance::Protocol;
use terok_clearance::address_class::IpFamily;

use super::super::attribute_kind::{DATA_VERDICT, EXPRESSION_DATA, EXPRESSION_NAME, LIST_ELEMENT};
use super::{NF_ACCEPT, NF_DROP, NFT_GOTO, data_value, octets};
use crate::LOOKUP_MARK;
use crate::ruleset::{ALLOWED_MARK, NftHook, NftMatch, NftSetKey, NftStatement, PacketSide};

/// The expressions of one rule, and the conditions checked so far.
#[derive(Default)]
pub(super) struct RuleExpressions {
    pub(super) list: AttributeBuilder,
    checked_family: Option<IpFamily>,
    checked_transport: Option<u8>,
}

/// The index of the loopback interface in every network namespace.
const LOOPBACK: u32 = 1;
/// The first of the 16-byte registers, the default destination of loads.
const WIDE_REGISTER: u32 = 1;
/// The first of the 4-byte registers, sharing memory with the 16-byte ones.
const SMALL_REGISTER: u32 = 8;

impl RuleExpressions {
    fn push_expression(&mut self, name: &str, data: &AttributeBuilder) {
        let expression = AttributeBuilder::default()
            .text(EXPRESSION_NAME, name)
            .nest(EXPRESSION_DATA, data);
        self.list = std::mem::take(&mut self.list).nest(LIST_ELEMENT, &expression);
    }

    pub(super) fn push_match(&mut self, condition: &NftMatch) {
        match condition {
            NftMatch::Loopback(hook) => {
                let key = match hook {
                    NftHook::Output | NftHook::RawOutput => meta::OUT,
                    _ => meta::IN,
                };
                self.load_meta(key, WIDE_REGISTER);
                self.compare(false, &LOOPBACK.to_ne_bytes());
            }
            NftMatch::LeavesNamespace => {
                self.load_meta(meta::OUT, WIDE_REGISTER);
                self.compare(true, &LOOPBACK.to_ne_bytes());
            }
            NftMatch::Connection(states) => {
                self.load_connection(ct::STATE);
                self.mask_register(&states.to_ne_bytes());
                self.compare(true, &[0; 4]);
            }
            NftMatch::AllowedConnection => self.match_connection_mark(ALLOWED_MARK),
            NftMatch::LookupConnection => self.match_connection_mark(LOOKUP_MARK),
            NftMatch::Translated => {
                // IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
                const TRANSLATED: u32 = 1 << 5;
                self.load_connection(ct::STATUS);
                self.mask_register(&TRANSLATED.to_ne_bytes());
                self.compare(true, &[0; 4]);
            }
            NftMatch::OriginalDestination(set) => {
                // IP_CT_DIR_ORIGINAL of linux/netfilter/nf_conntrack_tuple_common.h.
                const ORIGINAL: u8 = 0;
                let data = AttributeBuilder::default()
                    .u32_be(2, ct::DESTINATION_V4)
                    .u32_be(1, WIDE_REGISTER)
                    .bytes(3, &[ORIGINAL]);
                self.push_expression("ct", &data);
                self.lookup(set, false);
            }
            NftMatch::Transport(protocol) => self.require_transport(*protocol),
            NftMatch::HasPorts(ported) => {
                self.load_meta(meta::TRANSPORT, WIDE_REGISTER);
                self.lookup("ported", !ported);
            }
            NftMatch::Port(protocol, side, port) => {
                self.require_transport(*protocol);
                let offset = if *side == PacketSide::Source { 0 } else { 2 };
                self.load_payload(TRANSPORT_HEADER, offset, 2, WIDE_REGISTER);
                self.compare(false, &port.to_be_bytes());
            }
            NftMatch::Address(family, side, set) => {
                self.require_family(*family);
                self.load_address(*family, *side);
                self.lookup(set, false);
            }
            NftMatch::InSet(key, set) => {
                self.load_key(*key);
                self.lookup(set, false);
            }
            NftMatch::Icmpv6(set) => {
                self.require_family(IpFamily::V6);
                self.require_transport(Protocol::ICMPV6);
                self.load_payload(TRANSPORT_HEADER, 0, 1, WIDE_REGISTER);
                self.lookup(set, false);
            }
            NftMatch::OnLink => {
                self.require_family(IpFamily::V6);
                self.load_payload(NETWORK_HEADER, 7, 1, WIDE_REGISTER);
                self.compare(false, &[255]);
            }
            NftMatch::FromProcess => {
                self.load_meta(meta::USER, WIDE_REGISTER);
                self.compare(true, &[0xff; 4]);
            }
            NftMatch::Family(family) => self.require_family(*family),
            NftMatch::PacketMark(mark) => {
                self.load_meta(meta::MARK, WIDE_REGISTER);
                self.compare(false, &mark.to_ne_bytes());
            }
            NftMatch::ConnectionRequest => {
                const SYN: u8 = 0x02;
                const SYN_OR_ACK: u8 = 0x12;
                self.require_transport(Protocol::TCP);
                self.load_payload(TRANSPORT_HEADER, 13, 1, WIDE_REGISTER);
                self.mask_register(&[SYN_OR_ACK]);
                self.compare(false, &[SYN]);
            }
            NftMatch::EchoRequest(family) => {
                let (protocol, echo) = match family {
                    IpFamily::V4 => (Protocol::ICMP, 8),
                    IpFamily::V6 => (Protocol::ICMPV6, 128),
                };
                self.require_family(*family);
                self.require_transport(protocol);
                self.load_payload(TRANSPORT_HEADER, 0, 1, WIDE_REGISTER);
                self.compare(false, &[echo]);
            }
        }
    }

    pub(super) fn push_statement(&mut self, statement: &NftStatement) {
        match statement {
            NftStatement::Accept => {
                self.push_verdict(&AttributeBuilder::default().u32_be(1, NF_ACCEPT));
            }
            NftStatement::MarkAllowed => self.mark_connection(ALLOWED_MARK),
            NftStatement::MarkLookup => self.mark_connection(LOOKUP_MARK),
            NftStatement::Drop => {
                self.push_verdict(&AttributeBuilder::default().u32_be(1, NF_DROP));
            }
            NftStatement::Untrack => {
                // Without data, as nft sends it.
                let expression = AttributeBuilder::default().text(EXPRESSION_NAME, "notrack");
                self.list = std::mem::take(&mut self.list).nest(LIST_ELEMENT, &expression);
            }
            NftStatement::Goto(chain) => {
                self.push_verdict(
                    &AttributeBuilder::default()
                        .u32_be(1, NFT_GOTO)
                        .text(2, chain),
                );
            }
            NftStatement::Limit { per_second, burst } => {
                let data = AttributeBuilder::default()
                    .u64_be(1, *per_second)
                    .u64_be(2, 1)
                    .u32_be(3, *burst)
                    .u32_be(4, 0)
                    .u32_be(5, 0);
                self.push_expression("limit", &data);
            }
            NftStatement::Log {
                group,
                prefix,
                snaplen,
            } => {
                let mut data = AttributeBuilder::default()
                    .text(2, prefix)
                    .u16_be(1, *group);
                if let Some(snaplen) = snaplen {
                    data = data.u32_be(3, *snaplen);
                }
                // Queue threshold 1: packets are sent at once.
                self.push_expression("log", &data.u16_be(4, 1));
            }
            NftStatement::AddToSet(key, set) => {
                self.load_key(*key);
                let data = AttributeBuilder::default()
                    .u32_be(4, WIDE_REGISTER)
                    .u32_be(3, 0)
                    .text(1, set);
                self.push_expression("dynset", &data);
            }
            NftStatement::RedirectToLoopback(port) => {
                // NF_NAT_RANGE_PROTO_SPECIFIED of linux/netfilter/nf_nat.h.
                const WITH_PORT: u32 = 1 << 1;
                self.load_value(WIDE_REGISTER, &port.to_be_bytes());
                let data = AttributeBuilder::default()
                    .u32_be(1, WIDE_REGISTER)
                    .u32_be(2, WIDE_REGISTER)
                    .u32_be(3, WITH_PORT);
                self.push_expression("redir", &data);
            }
            NftStatement::TranslateBy(key, map) => self.push_translation(*key, map),
            NftStatement::ToSocket(address, port) => {
                let family: u32 = match IpFamily::of(*address) {
                    IpFamily::V4 => 2,
                    IpFamily::V6 => 10,
                };
                self.load_value(WIDE_REGISTER, &octets(*address));
                self.load_value(WIDE_REGISTER + 1, &port.to_be_bytes());
                let data = AttributeBuilder::default()
                    .u32_be(1, family)
                    .u32_be(2, WIDE_REGISTER)
                    .u32_be(3, WIDE_REGISTER + 1);
                self.push_expression("tproxy", &data);
            }
            NftStatement::Reset => {
                self.push_expression("reject", &AttributeBuilder::default().u32_be(1, 1));
            }
            NftStatement::Prohibit => {
                self.push_expression(
                    "reject",
                    &AttributeBuilder::default().u32_be(1, 2).bytes(2, &[3]),
                );
            }
        }
    }

    fn match_connection_mark(&mut self, mark: u32) {
        self.load_connection(ct::MARK);
        self.compare(false, &mark.to_ne_bytes());
    }

    fn mark_connection(&mut self, mark: u32) {
        self.load_value(WIDE_REGISTER, &mark.to_ne_bytes());
        let set = AttributeBuilder::default()
            .u32_be(2, ct::MARK)
            .u32_be(4, WIDE_REGISTER);
        self.push_expression("ct", &set);
    }

    fn push_translation(&mut self, key: NftSetKey, map: &str) {
        // NFT_NAT_DNAT, NFPROTO_IPV4 and NF_NAT_RANGE_MAP_IPS.
        const DESTINATION: u32 = 1;
        const IPV4: u32 = 2;
        const WITH_ADDRESS: u32 = 1 << 0;
        self.load_key(key);
        let lookup = AttributeBuilder::default()
            .u32_be(2, WIDE_REGISTER)
            .u32_be(3, WIDE_REGISTER)
            .text(1, map)
            .u32_be(5, 0);
        self.push_expression("lookup", &lookup);
        let nat = AttributeBuilder::default()
            .u32_be(1, DESTINATION)
            .u32_be(2, IPV4)
            .u32_be(3, WIDE_REGISTER)
            .u32_be(4, WIDE_REGISTER)
            .u32_be(7, WITH_ADDRESS);
        self.push_expression("nat", &nat);
    }

    /// Keeps the bits of the register that `mask` has.
    fn mask_register(&mut self, mask: &[u8]) {
        let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        let data = AttributeBuilder::default()
            .u32_be(1, WIDE_REGISTER)
            .u32_be(2, WIDE_REGISTER)
            .u32_be(3, length)
            .u32_be(6, 0)
            .nest(4, &data_value(mask))
            .nest(5, &data_value(&vec![0; mask.len()]));
        self.push_expression("bitwise", &data);
    }

    fn load_value(&mut self, register: u32, value: &[u8]) {
        let data = AttributeBuilder::default()
            .u32_be(1, register)
            .nest(2, &data_value(value));
        self.push_expression("immediate", &data);
    }

    fn load_key(&mut self, key: NftSetKey) {
        if key == NftSetKey::Transport {
            self.load_meta(meta::TRANSPORT, WIDE_REGISTER);
        }
        let (NftSetKey::Address(family) | NftSetKey::Protocol(family) | NftSetKey::Port(family)) =
            key
        else {
            return;
        };
        self.require_family(family);
        self.load_address(family, PacketSide::Destination);
        // The parts of a key are consecutive, at multiples of four bytes.
        let transport = match family {
            IpFamily::V4 => SMALL_REGISTER + 1,
            IpFamily::V6 => WIDE_REGISTER + 1,
        };
        let port = match family {
            IpFamily::V4 => SMALL_REGISTER + 2,
            IpFamily::V6 => SMALL_REGISTER + 5,
        };
        if matches!(key, NftSetKey::Protocol(_) | NftSetKey::Port(_)) {
            self.load_meta(meta::TRANSPORT, transport);
        }
        if matches!(key, NftSetKey::Port(_)) {
            self.load_payload(TRANSPORT_HEADER, 2, 2, port);
        }
    }

    fn require_family(&mut self, family: IpFamily) {
        if self.checked_family.replace(family) != Some(family) {
            let number = if family == IpFamily::V4 { 2 } else { 10 };
            self.load_meta(meta::FAMILY, WIDE_REGISTER);
            self.compare(false, &[number]);
        }
    }

    fn require_transport(&mut self, protocol: Protocol) {
        if self.checked_transport.replace(protocol.0) != Some(protocol.0) {
            self.load_meta(meta::TRANSPORT, WIDE_REGISTER);
            self.compare(false, &[protocol.0]);
        }
    }

    fn load_address(&mut self, family: IpFamily, side: PacketSide) {
        let (offset, length) = match (family, side) {
            (IpFamily::V4, PacketSide::Source) => (12, 4),
            (IpFamily::V4, PacketSide::Destination) => (16, 4),
            (IpFamily::V6, PacketSide::Source) => (8, 16),
            (IpFamily::V6, PacketSide::Destination) => (24, 16),
        };
        self.load_payload(NETWORK_HEADER, offset, length, WIDE_REGISTER);
    }

    fn load_meta(&mut self, key: u32, register: u32) {
        self.push_expression(
            "meta",
            &AttributeBuilder::default()
                .u32_be(2, key)
                .u32_be(1, register),
        );
    }

    fn load_connection(&mut self, key: u32) {
        let data = AttributeBuilder::default()
            .u32_be(2, key)
            .u32_be(1, WIDE_REGISTER);
        self.push_expression("ct", &data);
    }

    fn load_payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        let data = AttributeBuilder::default()
            .u32_be(1, register)
            .u32_be(2, base)
            .u32_be(3, offset)
            .u32_be(4, length);
        self.push_expression("payload", &data);
    }

    fn compare(&mut self, differs: bool, with: &[u8]) {
        let data = AttributeBuilder::default()
            .u32_be(1, WIDE_REGISTER)
            .u32_be(2, differs.into())
            .nest(3, &data_value(with));
        self.push_expression("cmp", &data);
    }

    fn lookup(&mut self, set: &str, inverted: bool) {
        let data = AttributeBuilder::default()
            .u32_be(2, WIDE_REGISTER)
            .text(1, set)
            .u32_be(5, inverted.into());
        self.push_expression("lookup", &data);
    }

    fn push_verdict(&mut self, verdict: &AttributeBuilder) {
        const VERDICT_REGISTER: u32 = 0;
        let data = AttributeBuilder::default()
            .u32_be(1, VERDICT_REGISTER)
            .nest(2, &AttributeBuilder::default().nest(DATA_VERDICT, verdict));
        self.push_expression("immediate", &data);
    }
}

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

mod ct {
    pub(super) const STATE: u32 = 0;
    pub(super) const STATUS: u32 = 2;
    pub(super) const MARK: u32 = 3;
    pub(super) const DESTINATION_V4: u32 = 20;
}

mod meta {
    pub(super) const MARK: u32 = 3;
    pub(super) const IN: u32 = 4;
    pub(super) const OUT: u32 = 5;
    pub(super) const USER: u32 = 10;
    pub(super) const FAMILY: u32 = 15;
    pub(super) const TRANSPORT: u32 = 16;
}
