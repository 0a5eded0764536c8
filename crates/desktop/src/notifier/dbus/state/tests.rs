// SPDX-License-Identifier: Apache-2.0
//! Services that the bus cannot start.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{DbusCall, DbusEvent, DbusReply, NotificationState, UniqueBusName};
use crate::notifier::Notification;
use crate::notifier::dbus::DesktopError;

#[test]
fn a_service_that_comes_by_itself_need_not_wait_for_the_next_try_to_start_one() {
    let mut now = Instant::now();
    let mut desk = NotificationState::default();
    desk.start_connection(None, true, now);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let (told, mut shown) = oneshot::channel();
        desk.notify(Notification::new("a"), told, now);
        let refused = loop {
            if let Ok(refused) = shown.try_recv() {
                break refused.unwrap_err();
            }
            let due = desk.next_tick().unwrap_or(now);
            pauses.push(due - now);
            now = due;
            desk.tick(now);
            for order in desk.take_calls() {
                let answer =
                    DbusReply::Refused("org.freedesktop.DBus.Error.Spawn.Failed".to_owned());
                let (to, from) = (order.call_id, None);
                desk.apply_event(
                    DbusEvent::Reply {
                        call_id: to,
                        from,
                        reply: answer,
                    },
                    now,
                );
            }
        };
        assert_eq!(refused, DesktopError::NoService);
    }
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert!(
        pauses.last().unwrap() > &Duration::from_secs(5),
        "{pauses:?}"
    );

    let (told, _shown) = oneshot::channel();
    desk.notify(Notification::new("b"), told, now);
    assert!(desk.take_calls().is_empty(), "the next try is not due");
    desk.apply_event(
        DbusEvent::OwnerChanged(Some(UniqueBusName(":1.7".to_owned()))),
        now,
    );
    let orders = desk.take_calls();
    assert!(
        matches!(orders.as_slice(), [order] if matches!(order.call, DbusCall::Capabilities)),
        "{orders:?}"
    );
}
