// SPDX-License-Identifier: Apache-2.0
//! Translation of Clearance1 to Clearance2, so that a program needs only one interface.

use std::collections::HashMap;
use std::sync::Arc;

use crate::wire::clearance1::{ClearanceEvent, VerdictError};
use crate::wire::clearance2::{ContainerState, DecideError, Event, Request};
use crate::{
    Action, BlockedPacket, ContainerId, Decision, DecisionAction, Dest, DisplayText, NetworkZone,
    Protocol, RequestId, Scope, ShieldState, Timestamp,
};

/// Translates events, and remembers the requests to which later events refer.
#[derive(Debug, Default)]
pub(super) struct Clearance1Translator {
    pending: HashMap<RequestId, Arc<Request>>,
}

/// Returns `true` for a type of event that [`Clearance1Translator::translate`] knows.
pub(super) fn is_known_type(kind: &str) -> bool {
    matches!(
        kind,
        "connection_blocked"
            | "verdict_applied"
            | "container_started"
            | "container_exited"
            | "shield_up"
            | "shield_down"
            | "shield_down_all"
            | "shield_disengaged"
    )
}

impl Clearance1Translator {
    /// Maximum remembered requests. The answer to a forgotten request is not translated.
    const MAX_PENDING: usize = 131_072;

    /// Returns the events of Clearance2 that an event stands for, or an error for an invalid event.
    pub(super) fn translate(&mut self, event: ClearanceEvent) -> Result<Vec<Event>, String> {
        let container: ContainerId = parse_field(&event.container, "container")?;
        let shield = |state| Event::Shield {
            container: container.clone(),
            state,
        };
        match event.kind.as_str() {
            "connection_blocked" => self
                .translate_blocked(container, event)
                .map(|event| vec![event]),
            "verdict_applied" => self.translate_verdict(container, &event),
            "container_started" => Ok(vec![Event::Container {
                container,
                state: ContainerState::Started,
                reason: None,
            }]),
            "container_exited" => {
                let mut events = self.withdraw_pending(&container, "exited");
                events.push(Event::Container {
                    container,
                    state: ContainerState::Exited,
                    reason: Some(event.reason),
                });
                Ok(events)
            }
            "shield_up" => Ok(vec![shield(ShieldState::Up)]),
            "shield_down" => {
                let mut events = self.withdraw_pending(&container, "shield");
                events.push(shield(ShieldState::Down));
                Ok(events)
            }
            "shield_disengaged" | "shield_down_all" => {
                let mut events = self.withdraw_pending(&container, "shield");
                events.push(shield(ShieldState::Disengaged));
                Ok(events)
            }
            _ => Err(format!("type: {} is unknown", event.kind)),
        }
    }

    fn translate_blocked(
        &mut self,
        container: ContainerId,
        event: ClearanceEvent,
    ) -> Result<Event, String> {
        let domain = (!event.domain.is_empty()).then(|| Dest::try_from(event.domain));
        let blocked = BlockedPacket {
            container,
            request: parse_field(&event.request_id, "request_id")?,
            address: Dest::try_from(event.dest).map_err(|error| format!("dest: {error}"))?,
            port: convert_number(event.port, "port")?,
            protocol: Protocol(convert_number(event.proto, "proto")?),
            domain: domain
                .transpose()
                .map_err(|error| format!("domain: {error}"))?,
            dossier: Arc::new(event.dossier),
            process: None,
            zone: NetworkZone::Public,
            looked_up_as: None,
            previous: None,
            reason: None,
        };
        let scope = Scope::until_removed(blocked.dest().clone());
        let request = Arc::new(Request::new(blocked, scope, Timestamp::now()));
        if self.pending.len() < Self::MAX_PENDING {
            self.pending
                .insert(request.id.clone(), Arc::clone(&request));
        }
        Ok(Event::Pending(request))
    }

    fn translate_verdict(
        &mut self,
        container: ContainerId,
        event: &ClearanceEvent,
    ) -> Result<Vec<Event>, String> {
        let id: RequestId = parse_field(&event.request_id, "request_id")?;
        let action: Action = parse_field(&event.action, "action")?;
        // The event has no destination. A request from before the subscription is unknown to the
        // program too.
        let Some(request) = self.pending.get(&id).cloned() else {
            return Ok(Vec::new());
        };
        if event.ok {
            self.pending.remove(&id);
        }
        Ok(vec![Event::Decided(Arc::new(Decision {
            request: id,
            container,
            dest: request.dest.clone(),
            action: DecisionAction::from(action),
            scope: Some(request.scope.clone()),
            by: DisplayText::default(),
            at: Timestamp::now(),
            ok: event.ok,
            reason: None,
        }))])
    }

    fn withdraw_pending(&mut self, container: &ContainerId, reason: &str) -> Vec<Event> {
        let reason = DisplayText::new(reason);
        self.pending
            .extract_if(|_, request| request.container == *container)
            .map(|(_, request)| Event::Withdrawn {
                request,
                reason: reason.clone(),
            })
            .collect()
    }
}

/// Translates an error of Clearance1, `None` for an error without a counterpart.
pub(super) fn translate_error(error: VerdictError, request: &RequestId) -> Option<DecideError> {
    let request = request.clone();
    match error {
        VerdictError::UnknownRequest { .. } => Some(DecideError::NoSuchRequest { request }),
        VerdictError::VerdictTupleMismatch {
            expected_container,
            expected_dest,
            got_container,
            got_dest,
        } => {
            let (field, asked, got) = if expected_container == got_container {
                ("dest", expected_dest, got_dest)
            } else {
                ("container", expected_container, got_container)
            };
            Some(DecideError::NotWhatWasAsked {
                request,
                field: DisplayText::new(field),
                asked: DisplayText::new(&asked),
                got: DisplayText::new(&got),
            })
        }
        VerdictError::ShieldCliFailed { action: _, stderr } => {
            Some(DecideError::EnforcementFailed {
                request,
                reason: DisplayText::from_program_output(&stderr),
            })
        }
        VerdictError::InvalidAction { .. } => None,
    }
}

fn parse_field<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: &DisplayText,
    field: &str,
) -> Result<T, String> {
    text.as_str()
        .parse()
        .map_err(|error| format!("{field}: {error}"))
}

fn convert_number<T: TryFrom<i64>>(number: i64, field: &str) -> Result<T, String> {
    T::try_from(number).map_err(|_detail| format!("{field}: {number} is out of range"))
}
