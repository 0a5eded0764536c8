// SPDX-License-Identifier: Apache-2.0
//! The operator of the demo: reads the hub's events and sends answers.

use std::path::Path;
use std::sync::Arc;

use terok_clearance::varlink::{CallError, ReplyStream, VarlinkConnection};
use terok_clearance::wire::clearance2::{
    self, Clearance2SubscribeReply, DecideError, DecideParameters, DecideReply, Event,
};
use terok_clearance::{Decision, DisplayText, RequestId};

use crate::error::DemoError;

/// The operator: a client connected to the hub's socket.
#[derive(Debug)]
pub(crate) struct DemoOperator {
    events: ReplyStream,
    answers: VarlinkConnection,
}

impl DemoOperator {
    /// Connects to the hub and waits for the end of the snapshot.
    pub(crate) async fn connect(hub: &Path) -> Result<Self, DemoError> {
        let connect = || async {
            let connected = VarlinkConnection::connect(hub).await;
            connected.map_err(DemoError::ConnectHub)
        };
        let answering = clearance2::SubscribeParameters { answers: true };
        let subscribed = connect()
            .await?
            .call_more(clearance2::SUBSCRIBE, &answering)
            .await;
        let mut this = Self {
            events: subscribed.map_err(DemoError::ReadEvents)?,
            answers: connect().await?,
        };
        while this.next_event().await? != Some(Event::Synced) {}
        Ok(this)
    }

    /// Returns the next event; `None` for an event type unknown to this release.
    pub(crate) async fn next_event(&mut self) -> Result<Option<Event>, DemoError> {
        let reply = self.events.next().await.map_err(DemoError::ReadEvents)?;
        let reply: Clearance2SubscribeReply = reply.ok_or(DemoError::HubClosed)?;
        Ok(reply.event.event)
    }

    /// Waits for an effective decision about `request`. Adds other events to `others`.
    pub(crate) async fn wait_for_decision(
        &mut self,
        request: &RequestId,
        others: &mut Vec<Event>,
    ) -> Result<Arc<Decision>, DemoError> {
        loop {
            match self.next_event().await? {
                Some(Event::Decided(decision)) if decision.request == *request && decision.ok => {
                    return Ok(decision);
                }
                event => others.extend(event),
            }
        }
    }

    /// Sends an answer; returns its record, or the hub's reason against it.
    pub(crate) async fn decide(
        &mut self,
        decide: &DecideParameters,
    ) -> Result<Decision, DisplayText> {
        let decided = self.answers.call(clearance2::DECIDE, decide).await;
        match decided {
            Ok(DecideReply { decision }) if decision.ok => Ok(decision),
            Ok(DecideReply { decision }) => Err(decision.reason.unwrap_or_default()),
            Err(CallError::Refused(error)) => {
                let known: Option<DecideError> = error.decode();
                let words = known.map_or_else(|| error.to_string(), |known| known.to_string());
                Err(DisplayText::new(&words))
            }
            Err(error) => Err(DisplayText::new(&error.to_string())),
        }
    }
}
