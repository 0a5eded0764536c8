// SPDX-License-Identifier: Apache-2.0
//! Prints the ruleset in the syntax of `nft -f`.

use std::fmt;
use std::net::SocketAddr;

use terok_clearance::address_class::IpFamily;

use super::{
    ALLOWED_MARK, ESTABLISHED, MAX_RECENT_PACKETS, NftChain, NftHook, NftMatch, NftRule, NftSet,
    NftSetContent, NftSetKey, NftStatement, PacketSide, RELATED, Ruleset, TABLE,
};
use crate::LOOKUP_MARK;

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE}")?;
        writeln!(f, "delete table inet {TABLE}")?;
        writeln!(f, "table inet {TABLE} {{")?;
        for set in &self.sets {
            set.fmt(f)?;
        }
        for chain in &self.chains {
            chain.fmt(f)?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for NftSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.nft_type();
        if self.content == NftSetContent::OrderedAddresses {
            writeln!(f, "\tmap {} {{", self.name)?;
            writeln!(f, "\t\ttype {key} : ipv4_addr")?;
        } else {
            writeln!(f, "\tset {} {{", self.name)?;
            writeln!(f, "\t\ttype {key}")?;
        }
        match &self.content {
            NftSetContent::Addresses(addresses) => {
                writeln!(f, "\t\tflags constant")?;
                write_elements(f, addresses)?;
            }
            NftSetContent::Ranges(ranges) => {
                writeln!(f, "\t\tflags constant, interval")?;
                write_elements(f, ranges)?;
            }
            NftSetContent::NamedBytes(words) => {
                writeln!(f, "\t\tflags constant")?;
                write_elements(f, words.iter().map(|(_, word)| word))?;
            }
            NftSetContent::Orders | NftSetContent::OrderedAddresses => {
                writeln!(f, "\t\tflags timeout")?;
            }
            NftSetContent::Recent(time) => {
                writeln!(f, "\t\tsize {MAX_RECENT_PACKETS}")?;
                writeln!(f, "\t\tflags dynamic, timeout")?;
                writeln!(f, "\t\ttimeout {}s", time.as_secs())?;
            }
        }
        writeln!(f, "\t}}")
    }
}

fn write_elements(
    f: &mut fmt::Formatter<'_>,
    elements: impl IntoIterator<Item: fmt::Display>,
) -> fmt::Result {
    write!(f, "\t\telements = {{ ")?;
    for (at, element) in elements.into_iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        write!(f, "{comma}{element}")?;
    }
    writeln!(f, " }}")
}

impl fmt::Display for NftChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(hook) = self.hook {
            let priority = hook.nft_priority();
            let policy = if hook.accepts_at_end() {
                "accept"
            } else {
                "drop"
            };
            let kind = hook.chain_type();
            let hook = hook.nft_keyword();
            writeln!(
                f,
                "\t\ttype {kind} hook {hook} priority {priority}; policy {policy};"
            )?;
        }
        for rule in &self.rules {
            rule.fmt(f)?;
        }
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for NftRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(note) = self.comment {
            writeln!(f, "\t\t# {note}")?;
        }
        let words: Vec<_> = self
            .matches
            .iter()
            .map(ToString::to_string)
            .chain(self.statements.iter().map(ToString::to_string))
            .collect();
        writeln!(f, "\t\t{}", words.join(" "))
    }
}

impl fmt::Display for NftMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(NftHook::Output | NftHook::RawOutput) => write!(f, "oif \"lo\""),
            Self::Loopback(_) => write!(f, "iif \"lo\""),
            Self::LeavesNamespace => write!(f, "oif != \"lo\""),
            Self::Connection(states) => {
                let words = [(ESTABLISHED, "established"), (RELATED, "related")];
                let words: Vec<_> = words
                    .iter()
                    .filter(|(bit, _)| states & bit != 0)
                    .map(|(_, word)| *word)
                    .collect();
                write!(f, "ct state {}", words.join(","))
            }
            Self::AllowedConnection => write!(f, "ct mark {ALLOWED_MARK:#010x}"),
            Self::LookupConnection => write!(f, "ct mark {LOOKUP_MARK:#010x}"),
            Self::Translated => write!(f, "ct status dnat"),
            Self::OriginalDestination(set) => write!(f, "ct original ip daddr @{set}"),
            Self::Transport(protocol) if protocol.0 == 2 => write!(f, "meta l4proto igmp"),
            Self::Transport(protocol) => write!(f, "meta l4proto {protocol}"),
            Self::HasPorts(true) => write!(f, "meta l4proto @ported"),
            Self::HasPorts(false) => write!(f, "meta l4proto != @ported"),
            Self::Port(protocol, PacketSide::Source, port) => write!(f, "{protocol} sport {port}"),
            Self::Port(protocol, PacketSide::Destination, port) => {
                write!(f, "{protocol} dport {port}")
            }
            Self::Address(family, side, set) => {
                let side = match side {
                    PacketSide::Source => "saddr",
                    PacketSide::Destination => "daddr",
                };
                write!(f, "{} {side} @{set}", family_keyword(*family))
            }
            Self::InSet(key, set) => write!(f, "{} @{set}", key.nft_expression()),
            Self::Icmpv6(set) => write!(f, "icmpv6 type @{set}"),
            Self::OnLink => write!(f, "ip6 hoplimit 255"),
            // Packets without a process have no user, and the comparison fails.
            Self::FromProcess => write!(f, "meta skuid != {}", u32::MAX),
            Self::Family(IpFamily::V4) => write!(f, "meta nfproto ipv4"),
            Self::Family(IpFamily::V6) => write!(f, "meta nfproto ipv6"),
            Self::PacketMark(mark) => write!(f, "meta mark {mark:#010x}"),
            Self::ConnectionRequest => write!(f, "tcp flags & (syn | ack) == syn"),
            Self::EchoRequest(IpFamily::V4) => write!(f, "icmp type echo-request"),
            Self::EchoRequest(IpFamily::V6) => write!(f, "icmpv6 type echo-request"),
        }
    }
}

impl fmt::Display for NftStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => write!(f, "accept"),
            Self::MarkAllowed => write!(f, "ct mark set {ALLOWED_MARK:#010x}"),
            Self::MarkLookup => write!(f, "ct mark set {LOOKUP_MARK:#010x}"),
            Self::Drop => write!(f, "drop"),
            Self::Untrack => write!(f, "notrack"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Limit { per_second, burst } => {
                write!(f, "limit rate {per_second}/second burst {burst} packets")
            }
            Self::Log {
                group,
                prefix,
                snaplen,
            } => {
                write!(f, "log prefix \"{prefix}\" group {group}")?;
                if let Some(snaplen) = snaplen {
                    write!(f, " snaplen {snaplen}")?;
                }
                write!(f, " queue-threshold 1")
            }
            Self::AddToSet(key, set) => write!(f, "add @{set} {{ {} }}", key.nft_expression()),
            Self::Reset => write!(f, "reject with tcp reset"),
            Self::RedirectToLoopback(port) => write!(f, "redirect to :{port}"),
            Self::TranslateBy(key, map) => {
                write!(f, "dnat ip to {} map @{map}", key.nft_expression())
            }
            Self::ToSocket(address, port) => {
                let keyword = family_keyword(IpFamily::of(*address));
                write!(
                    f,
                    "tproxy {keyword} to {}",
                    SocketAddr::new(*address, *port)
                )
            }
            Self::Prohibit => write!(f, "reject with icmpx admin-prohibited"),
        }
    }
}

impl NftSetKey {
    /// Returns nft's name of the type.
    fn nft_type(self) -> String {
        let address = |family| match family {
            IpFamily::V4 => "ipv4_addr",
            IpFamily::V6 => "ipv6_addr",
        };
        match self {
            Self::Address(family) => address(family).to_owned(),
            Self::Protocol(family) => format!("{} . inet_proto", address(family)),
            Self::Port(family) => format!("{} . inet_proto . inet_service", address(family)),
            Self::Transport => "inet_proto".to_owned(),
            Self::Icmpv6 => "icmpv6_type".to_owned(),
        }
    }

    /// Returns the key fields in nft's syntax.
    fn nft_expression(self) -> String {
        match self {
            Self::Address(family) => format!("{} daddr", family_keyword(family)),
            Self::Protocol(family) => format!("{} daddr . meta l4proto", family_keyword(family)),
            Self::Port(family) => {
                format!("{} daddr . meta l4proto . th dport", family_keyword(family))
            }
            Self::Transport => "meta l4proto".to_owned(),
            Self::Icmpv6 => "icmpv6 type".to_owned(),
        }
    }
}

const fn family_keyword(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "ip",
        IpFamily::V6 => "ip6",
    }
}

impl NftHook {
    /// Returns `true` for the hooks whose chains accept packets at their end: before the connection
    /// tracker and before the translation, where later chains decide; and after all of them.
    pub(crate) const fn accepts_at_end(self) -> bool {
        match self {
            Self::RawOutput | Self::RawPrerouting | Self::TranslateOutput | Self::Postrouting => {
                true
            }
            Self::Input | Self::Forward | Self::Output | Self::Prerouting => false,
        }
    }

    /// Returns nft's type of the chain.
    pub(crate) const fn chain_type(self) -> &'static str {
        match self {
            Self::TranslateOutput => "nat",
            _ => "filter",
        }
    }

    const fn nft_keyword(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output | Self::RawOutput | Self::TranslateOutput => "output",
            Self::Postrouting => "postrouting",
            Self::Prerouting | Self::RawPrerouting => "prerouting",
        }
    }

    const fn nft_priority(self) -> &'static str {
        match self {
            Self::RawOutput | Self::RawPrerouting => "raw",
            Self::Prerouting => "mangle",
            // Before other translations, such as those of a container engine.
            Self::TranslateOutput => "-110",
            Self::Input | Self::Forward | Self::Output | Self::Postrouting => "filter",
        }
    }
}
