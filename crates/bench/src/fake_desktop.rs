// SPDX-License-Identifier: Apache-2.0
//! A session bus with a notification service that draws nothing and records its calls.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use test_support::notification_service::{NotificationCall, RecordingNotificationService};
use test_support::test_bus::TestBus;

use crate::latency_samples::SpanTimer;

/// The time after which a missing notification fails the benchmark.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The bus and the notification service. Both end on drop.
#[derive(Debug)]
pub(crate) struct FakeDesktop {
    calls: Receiver<NotificationCall>,
    // Fields are dropped in order: the service ends before the bus.
    _service: RecordingNotificationService,
    bus: TestBus,
}

impl FakeDesktop {
    /// Starts bus and service, and waits until the service owns its name.
    pub(crate) fn start() -> Self {
        let bus = TestBus::start();
        let (tell, calls) = channel();
        // Fails once the benchmark has dropped the receiver.
        let service = RecordingNotificationService::start(bus.address(), move |call| {
            drop(tell.send(call));
        });
        Self {
            calls,
            _service: service,
            bus,
        }
    }

    /// Returns the address of the bus.
    pub(crate) fn address(&self) -> String {
        self.bus.address()
    }

    /// Waits for the next call to the service.
    fn next_call(&mut self) -> anyhow::Result<NotificationCall> {
        match self.calls.recv_timeout(WAIT_TIMEOUT) {
            Ok(call) => Ok(call),
            Err(RecvTimeoutError::Timeout) => bail!("no notification within {WAIT_TIMEOUT:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the notification service panicked"),
        }
    }

    /// Waits for the next notification. Returns the time of arrival and the title.
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

    /// Waits for a notification whose title matches, and returns the time of arrival.
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

    /// Discards all recorded calls.
    pub(crate) fn discard_calls(&mut self) {
        while self.calls.try_recv().is_ok() {}
    }

    /// Waits until a popup is closed.
    pub(crate) fn wait_for_close(&mut self) -> anyhow::Result<()> {
        while !matches!(
            self.next_call()
                .context("waiting for a popup to be closed")?,
            NotificationCall::Close { .. }
        ) {}
        Ok(())
    }
}
