// SPDX-License-Identifier: Apache-2.0
//! A session bus with a notification service on it that draws nothing and notes what it is told.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use test_support::notification_service::{NotificationCall, RecordingNotificationService};
use test_support::test_bus::TestBus;

use crate::latency_samples::SpanTimer;

/// Longer than anything is waited for.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The bus and the service, each ended with this.
#[derive(Debug)]
pub(crate) struct FakeDesktop {
    calls: Receiver<NotificationCall>,
    // The service ends before its bus.
    _service: RecordingNotificationService,
    bus: TestBus,
}

impl FakeDesktop {
    /// Starts both; the service has its name when this returns.
    pub(crate) fn start() -> Self {
        let bus = TestBus::start();
        let (tell, calls) = channel();
        // A benchmark that is over receives no calls any more.
        let service = RecordingNotificationService::start(bus.address(), move |call| {
            drop(tell.send(call));
        });
        Self {
            calls,
            _service: service,
            bus,
        }
    }

    /// Returns the bus's address.
    pub(crate) fn address(&self) -> String {
        self.bus.address()
    }

    /// Returns the next call of the service.
    fn next_call(&mut self) -> anyhow::Result<NotificationCall> {
        match self.calls.recv_timeout(WAIT_TIMEOUT) {
            Ok(call) => Ok(call),
            Err(RecvTimeoutError::Timeout) => bail!("no notification within {WAIT_TIMEOUT:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the notification service panicked"),
        }
    }

    /// Returns the title of the next notification, and when it came.
    pub(crate) fn next_notification(&mut self) -> anyhow::Result<(SpanTimer, String)> {
        loop {
            if let NotificationCall::Notify {
                received, summary, ..
            } = self.next_call()?
            {
                return Ok((SpanTimer::started(received), summary));
            }
        }
    }

    /// Waits for a notification with a title like this, and returns when it came.
    pub(crate) fn wait_for_notification(
        &mut self,
        what: &str,
        is_it: impl Fn(&str) -> bool,
    ) -> anyhow::Result<SpanTimer> {
        let clock = SpanTimer::start();
        loop {
            let (at, title) = self
                .next_notification()
                .with_context(|| format!("no {what}"))?;
            if is_it(&title) {
                return Ok(at);
            }
            let waited = clock.elapsed();
            ensure!(
                waited < WAIT_TIMEOUT,
                "no {what} within {WAIT_TIMEOUT:?}, but {title:?}"
            );
        }
    }

    /// Forgets the calls up to now.
    pub(crate) fn discard_calls(&mut self) {
        while self.calls.try_recv().is_ok() {}
    }

    /// Waits until a popup is closed.
    pub(crate) fn wait_for_close(&mut self) -> anyhow::Result<()> {
        while !matches!(
            self.next_call().context("no popup is closed")?,
            NotificationCall::Close { .. }
        ) {}
        Ok(())
    }
}
