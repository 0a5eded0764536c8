// SPDX-License-Identifier: Apache-2.0
//! The page of rules: lists them on opening, after decisions and on a key, and ends one after a
//! confirmation.

use std::time::Duration;

use operator::answer_guard::KeyRefusal;
use operator::clock::ClockReading;
use operator::inbox::{HubId, InboxChange, RowEnd};
use operator::phrases::MessageTone;
use terok_clearance::wire::clearance2::{ListedRule, RevokeReply};
use terok_clearance::{Action, DisplayText};

use super::{TuiEffect, TuiModel};
use crate::keys::ViewMode;
use crate::revoke_dialog::RevokeDialog;
use crate::sandbox_list::short_name;
use crate::view::SessionView;

impl TuiModel {
    /// Shows the page, and asks every connected hub for its rules.
    pub(super) fn show_rules(&mut self, view: SessionView<'_>) -> Option<TuiEffect> {
        if self.mode != ViewMode::Rules {
            // Older lists may be those of a hub that was restarted since.
            self.rules.forget_listings();
            self.mode = ViewMode::Rules;
        }
        let hubs = view.inbox.hubs().collect();
        list_rules(self.rules.reload_all(&hubs))
    }

    /// Applies changes of the inbox to the rules. While the page is shown, asks hubs again.
    pub(super) fn reload_changed_rules(&mut self, changes: &[InboxChange]) -> Option<TuiEffect> {
        let shown = matches!(self.mode, ViewMode::Rules | ViewMode::Revoke);
        let mut hubs = Vec::new();
        for change in changes {
            match change {
                InboxChange::Ended(row, RowEnd::Decided(_))
                    if shown && self.rules.reload(row.hub()) =>
                {
                    hubs.push(row.hub().clone());
                }
                InboxChange::Up(hub, _) if shown && self.rules.reload(hub) => {
                    hubs.push(hub.clone());
                }
                InboxChange::Down(hub, _) => self.rules.set_away(hub),
                InboxChange::Gone(hub) => self.rules.remove_hub(hub),
                _ => {}
            }
        }
        list_rules(hubs)
    }

    /// Applies the reply of a hub with its rules.
    pub(super) fn apply_rules(
        &mut self,
        hub: &HubId,
        rules: Result<Vec<ListedRule>, DisplayText>,
        now: ClockReading,
    ) -> Option<TuiEffect> {
        self.needs_redraw |= self.mode == ViewMode::Rules;
        let again = self.rules.apply(hub, rules, now.wall_time);
        list_rules(again.then(|| hub.clone()).into_iter().collect())
    }

    /// Opens the dialog that ends the selected rule.
    pub(super) fn ask_revoke(&mut self) {
        let Some((hub, entry)) = self.rules.selected() else {
            return self.set_status(MessageTone::Quiet, "no rule is selected");
        };
        if entry.rule.spent {
            let text = "the rule was for one connection, and opens nothing more";
            return self.set_status(MessageTone::Quiet, text);
        }
        let name = rule_name(hub, &entry.rule.rule);
        self.revoke = Some(RevokeDialog::new(hub, entry, name));
        self.switch_mode(ViewMode::Revoke);
    }

    /// Ends the rule of the dialog, if the operator can have read it.
    pub(super) fn revoke(&mut self, now: Duration) -> Option<TuiEffect> {
        let dialog = self.revoke.as_ref()?;
        if let Err(refusal) = dialog.check_key(now) {
            let reason = match refusal {
                KeyRefusal::NotFullyShown => "PgDn shows the rest",
                KeyRefusal::JustAppeared | KeyRefusal::Changed => {
                    "the dialog just appeared; read it and press again"
                }
            };
            self.set_status(MessageTone::Bad, format!("NOT revoked: {reason}"));
            return None;
        }
        let dialog = self.revoke.take()?;
        self.mode = ViewMode::Rules;
        let found = self.rules.find(&dialog.key);
        if !found.is_some_and(|(_, entry)| dialog.shows(&entry.rule)) {
            let text = format!("NOT revoked: {} is another rule now, or gone", dialog.name);
            self.set_status(MessageTone::Bad, text);
            return None;
        }
        self.quit_requested = false;
        self.pending_revokes = self.pending_revokes.saturating_add(1);
        self.set_status(MessageTone::Quiet, format!("revoking {} ...", dialog.name));
        Some(TuiEffect::Revoke {
            hub: dialog.key.hub,
            rule: dialog.key.rule,
        })
    }

    /// Reports the end of a rule, and lists the rules of its hub again.
    pub(super) fn apply_revoked(
        &mut self,
        hub: &HubId,
        rule: &DisplayText,
        result: Result<RevokeReply, DisplayText>,
        view: SessionView<'_>,
        now: ClockReading,
    ) -> Option<TuiEffect> {
        self.needs_redraw = true;
        self.pending_revokes = self.pending_revokes.saturating_sub(1);
        let name = rule_name(hub, rule);
        let (tone, label, text) = match result {
            Ok(reply) => (
                MessageTone::Good,
                "REVOKED",
                describe_revoked(&name, &reply),
            ),
            Err(reason) => (
                MessageTone::Bad,
                "FAILED",
                format!("{name} was not revoked: {reason}"),
            ),
        };
        self.set_status(tone, format!("{label}  {text}"));
        self.log.record_text(tone, label, text, now.wall_time);
        if self.quit_requested && !self.is_waiting(view) {
            return Some(TuiEffect::Quit);
        }
        let shown = matches!(self.mode, ViewMode::Rules | ViewMode::Revoke);
        let reload = shown && self.rules.reload(hub);
        list_rules(reload.then(|| hub.clone()).into_iter().collect())
    }

    /// Returns `true` while answers or ends of rules have no reply.
    pub(super) const fn is_waiting(&self, view: SessionView<'_>) -> bool {
        view.unanswered > 0 || self.pending_revokes > 0
    }
}

/// Returns the name of a rule for the operator: `web:r12`.
fn rule_name(hub: &HubId, rule: &DisplayText) -> String {
    format!("{}:{rule}", short_name(hub))
}

fn list_rules(hubs: Vec<HubId>) -> Option<TuiEffect> {
    (!hubs.is_empty()).then_some(TuiEffect::ListRules(hubs))
}

/// Returns what the end of a rule did: `web:r12 (allow a.example:443/tcp); it ended 3 connections`.
fn describe_revoked(name: &str, reply: &RevokeReply) -> String {
    let ended = match reply.ended {
        0 => "no connection was open".to_owned(),
        1 => "it ended 1 connection".to_owned(),
        count => format!("it ended {count} connections"),
    };
    let rule = match reply.rules.as_slice() {
        [rule] => {
            let action = match rule.action {
                Action::Allow => "allow",
                Action::Deny => "deny",
            };
            format!(" ({action} {})", rule.dest)
        }
        _ => String::new(),
    };
    format!("{name}{rule}; {ended}")
}
