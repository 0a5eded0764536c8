// SPDX-License-Identifier: Apache-2.0
//! The connections that exist because of rules, and their ends with these rules.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use policy::{RuleId, RuleVerdict};
use shield::OpenedConnection;
use terok_clearance::DestZone;
use terok_clearance::address_class::AddressClass;
use terok_clearance::wire::clearance2::{
    ExplainParameters, ExplainReply, ExplainVerdict, ListedRule, RuleCallError,
};
use terok_clearance::{
    Action, DisplayText, NetworkZone, PacketDest, PacketHost, classify_destination, error_chain,
};

use super::{ShieldEnforcerState, std_now};
use crate::boot_clock::boot_now;
use crate::rule_listing::{self, ExplainedDest};
use crate::{RuleEnd, TraceEvent};

/// Time after which connections are looked for again that no rule allows.
const CHECK_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Time after which the ends of connections are looked for that a rule was for alone.
const SPENT_CHECK_PERIOD: Duration = Duration::from_secs(30);

impl ShieldEnforcerState {
    /// Ends the connections that no rule allows, and returns their number.
    ///
    /// The sockets end first, so that the other end of a TCP connection gets its reset. The end of
    /// the kernel's entry is what counts: with it, no rule lets a packet of the connection pass.
    pub(super) fn check_connections(&mut self) -> Result<u64, DisplayText> {
        let connections = self.list_connections()?;
        self.forget_spent(&connections);
        let forbidden: Vec<_> = connections
            .iter()
            .filter(|connection| !self.is_permitted(connection))
            .collect();
        for connection in &forbidden {
            let OpenedConnection {
                local,
                remote,
                protocol,
                ..
            } = connection;
            let Some(sockets) = &mut self.sockets else {
                break;
            };
            if let Err(error) = sockets.destroy_socket(*protocol, *local, *remote) {
                tracing::debug!(%error, "a socket could not be ended");
            }
        }
        let Some(shield) = &mut self.shield else {
            return Ok(0);
        };
        let mut ended: u64 = 0;
        let mut failed = None;
        for connection in &forbidden {
            match shield.end_connection(connection) {
                Ok(_) => ended = ended.saturating_add(connection.is_open.into()),
                Err(error) => failed = Some(error_chain(&error)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if ended > 0 {
            tracing::info!(ended, "connections without a rule were ended");
            self.check_again_soon();
        }
        Ok(ended)
    }

    /// Has the connections checked again soon.
    pub(super) fn check_again_soon(&mut self) {
        self.rules.check_at = Some(boot_now().saturating_add(CHECK_AGAIN_AFTER));
    }

    /// Returns the connections that rules opened.
    pub(super) fn list_connections(&mut self) -> Result<Vec<OpenedConnection>, DisplayText> {
        let Some(shield) = &mut self.shield else {
            return Ok(Vec::new());
        };
        shield
            .list_connections()
            .map_err(|error| error_chain(&error))
    }

    fn is_permitted(&self, connection: &OpenedConnection) -> bool {
        let Some(shield) = &self.shield else {
            return true;
        };
        let now = std_now();
        let OpenedConnection {
            key,
            remote,
            protocol,
            leads_to,
            ..
        } = connection;
        let action = |address| shield.standing_action(address, *protocol, remote.port(), now);
        let is_open = match action(remote.ip()) {
            Some(Action::Allow) => true,
            Some(Action::Deny) => false,
            None => self.rules.spent.contains_key(key),
        };
        // A denied address stays denied for every name.
        is_open && (*leads_to == remote.ip() || action(*leads_to) != Some(Action::Deny))
    }

    /// Forgets the connections of ended rules that have ended, and reports the ends of these rules.
    fn forget_spent(&mut self, connections: &[OpenedConnection]) {
        let open = connections.iter().filter(|connection| connection.is_open);
        let open: HashSet<_> = open.map(|connection| &connection.key).collect();
        let mut closed = Vec::new();
        self.rules.spent.retain(|key, rule| {
            let is_open = open.contains(key);
            if !is_open {
                closed.push(*rule);
            }
            is_open
        });
        for rule in closed {
            if let Some(rule) = self.rules.table.note_closed(rule) {
                self.emit_trace(TraceEvent::RuleEnded {
                    rule: &rule,
                    end: RuleEnd::Used,
                    connections: 0,
                    by: None,
                });
            }
        }
        if !self.rules.spent.is_empty() && self.rules.check_at.is_none() {
            self.rules.check_at = Some(boot_now().saturating_add(SPENT_CHECK_PERIOD));
        }
    }

    /// Returns the destination of a connection as the rules know it.
    pub(super) fn connection_dest(&self, connection: &OpenedConnection) -> Option<PacketDest> {
        let address = connection.remote.ip();
        let host = match &self.names {
            Some(names) if names::StandInTable::is_stand_in_range(address) => {
                let name = names.forwarder.stand_ins().name_of(address)?;
                PacketHost::Name(name.clone())
            }
            _ => PacketHost::Address(address),
        };
        Some(PacketDest {
            host,
            port: connection.remote.port(),
            protocol: connection.protocol,
        })
    }

    /// Returns the verdict of the rules on a destination.
    pub(super) fn decide(&self, dest: &PacketDest) -> RuleVerdict {
        let zone = match &dest.host {
            PacketHost::Name(_) => DestZone::Public,
            PacketHost::Address(address) => classify_destination(*address, |_| false),
        };
        self.rules.table.decide(dest, zone, boot_now())
    }

    /// Returns the number of open connections of each rule.
    pub(super) fn count_open(&mut self) -> HashMap<RuleId, u64> {
        let mut counts: HashMap<RuleId, u64> = HashMap::new();
        let connections = self.list_connections().unwrap_or_else(|error| {
            tracing::warn!(%error, "the connections of rules could not be listed");
            Vec::new()
        });
        for connection in connections.iter().filter(|connection| connection.is_open) {
            let dest = self.connection_dest(connection);
            let rule = match dest.map(|dest| self.decide(&dest)) {
                Some(RuleVerdict::Allow(rule)) => Some(rule),
                _ => self.rules.spent.get(&connection.key).copied(),
            };
            if let Some(rule) = rule {
                let count = counts.entry(rule).or_default();
                *count = count.saturating_add(1);
            }
        }
        counts
    }

    /// Returns the rules in the order of their additions.
    pub(super) fn list_rules(&mut self) -> Vec<ListedRule> {
        let open = self.count_open();
        let mut rules = rule_listing::list_rules(&self.rules.table, boot_now());
        for rule in &mut rules {
            set_open(rule, &open);
        }
        rules
    }

    /// Returns what the rules do with a destination.
    pub(super) fn explain_dest(
        &mut self,
        asked: &ExplainParameters,
    ) -> Result<ExplainReply, RuleCallError> {
        let explained = ExplainedDest::parse(asked)?;
        let mut reply = explained.explain(&self.rules.table, boot_now());
        if let PacketHost::Address(address) = explained.dest.host
            && AddressClass::classify(address) == AddressClass::Private
        {
            reply.verdict = ExplainVerdict::Floor;
            reply.zone = NetworkZone::LocalNetwork;
            reply.rule = None;
        }
        let open = self.count_open();
        for rule in reply.rule.iter_mut().chain(&mut reply.others) {
            set_open(rule, &open);
        }
        Ok(reply)
    }
}

pub(super) fn set_open(rule: &mut ListedRule, open: &HashMap<RuleId, u64>) {
    let id = rule.rule.as_str().parse::<RuleId>().ok();
    // The kernel counts no connections of an order.
    rule.uses = None;
    rule.last_used = None;
    rule.open = id.and_then(|id| open.get(&id).copied()).unwrap_or_default();
}
