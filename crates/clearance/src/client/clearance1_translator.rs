// SPDX-License-Identifier: Apache-2.0
//! Clearance1 in the words of Clearance2, so that a program has to know one of them only.

use std::collections::HashMap;
use std::sync::Arc;

use crate::wire::clearance1::{ClearanceEvent, VerdictError};
use crate::wire::clearance2::{ContainerState, DecideError, Event, Request};
use crate::{
    Action, BlockedPacket, ContainerId, Decision, DecisionAction, Dest, DisplayText, Protocol,
    RequestId, Scope, ShieldState,
};

/// What an older hub has said that later messages refer to.
#[derive(Debug, Default)]
pub(super) struct Clearance1Translator {
    pending: HashMap<RequestId, Arc<Request>>,
}

impl Clearance1Translator {
    /// As many questions as are remembered; of an older one, the answer cannot be shown.
    const MAX_PENDING: usize = 131_072;

    /// Returns what an event of Clearance1 means, or why it means nothing.
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
            // As with Clearance2, what a newer hub has to say beyond that is ignored.
            _ => Ok(Vec::new()),
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
        };
        let scope = Scope::whole_dest(blocked.dest().clone());
        let request = Arc::new(Request::new(blocked, scope, now_micros()));
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
        // The event does not say which destination; of a question from before our time nobody
        // here has been told anyway.
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
            at: now_micros(),
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

/// Returns a refusal of Clearance1 in the words of Clearance2, `None` where it has none.
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
    T::try_from(number).map_err(|_unsaid| format!("{field}: {number} is out of range"))
}

/// Returns the time, in microseconds since the epoch: an older hub does not say when.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge: Clearance1 has no times, so a client's own clock is the only one"
)]
pub(super) fn now_micros() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        })
}
