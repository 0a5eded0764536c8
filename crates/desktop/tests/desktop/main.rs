// SPDX-License-Identifier: Apache-2.0
//! The D-Bus notifier on a session bus of the test, with a notification service whose replies and
//! signals the test decides.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod activation;
mod calls;
mod lifecycle;
mod service;
mod signal_senders;
