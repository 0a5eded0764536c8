// SPDX-License-Identifier: Apache-2.0
//! Tests with a service that the bus cannot start.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::NotificationState;
use crate::notifier::Notification;
use crate::notifier::dbus::DesktopError;
use crate::notifier::dbus::event::{DbusCall, DbusEvent, DbusReply, StateEvent, UniqueBusName};

#[test]
fn a_service_started_without_the_bus_is_used_before_the_next_attempt_is_due() {
    let mut now = Instant::now();
    let mut state = NotificationState::default();
    let connected = StateEvent::Connected {
        owner: None,
        activatable: true,
    };
    state.apply(connected, now);
    let mut delays = Vec::new();
    for _ in 0..8 {
        let (reply, mut shown) = oneshot::channel();
        let notification = Box::new(Notification::new("a"));
        state.apply(StateEvent::Notify(notification, reply), now);
        let refused = loop {
            if let Ok(refused) = shown.try_recv() {
                break refused.unwrap_err();
            }
            let due = state.next_tick().unwrap_or(now);
            delays.push(due - now);
            now = due;
            state.apply(StateEvent::Tick, now);
            for queued in state.take_calls() {
                let error = "org.freedesktop.DBus.Error.Spawn.Failed".to_owned();
                let reply = DbusEvent::Reply {
                    call_id: queued.call_id,
                    from: None,
                    reply: DbusReply::Refused(error),
                };
                state.apply(StateEvent::Dbus(reply), now);
            }
        };
        assert_eq!(refused, DesktopError::NoService);
    }
    assert!(delays.is_sorted(), "{delays:?}");
    assert!(
        delays.last().unwrap() > &Duration::from_secs(5),
        "{delays:?}"
    );

    let (reply, _shown) = oneshot::channel();
    let notification = Box::new(Notification::new("b"));
    state.apply(StateEvent::Notify(notification, reply), now);
    assert!(state.take_calls().is_empty(), "the next attempt is not due");
    let owner = Some(UniqueBusName(":1.7".to_owned()));
    state.apply(StateEvent::Dbus(DbusEvent::OwnerChanged(owner)), now);
    let calls = state.take_calls();
    let calls: Vec<_> = calls.iter().map(|queued| &queued.call).collect();
    assert!(
        matches!(
            calls.as_slice(),
            [DbusCall::ServerInformation, DbusCall::Capabilities]
        ),
        "{calls:?}"
    );
}
