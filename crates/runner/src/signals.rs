// SPDX-License-Identifier: Apache-2.0
//! The signals of this process while a command runs.

use std::io;

use rustix::process::Signal as SignalNumber;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals of this process while a command runs, caught from the creation on.
#[derive(Debug)]
pub(crate) struct RunSignals {
    forwarded: [(SignalNumber, Signal); 6],
    resized: Signal,
    continued: Signal,
}

/// A caught signal.
#[derive(Debug)]
pub(crate) enum CaughtSignal {
    /// A signal for the command.
    Forward(SignalNumber),
    /// The size of the terminal changed.
    Resized,
    /// This process was resumed after a stop.
    Continued,
}

impl RunSignals {
    /// Catches the signals. Must be called within a tokio runtime.
    pub(crate) fn catch() -> io::Result<Self> {
        let forward = |number, kind| Ok::<_, io::Error>((number, signal(kind)?));
        Ok(Self {
            forwarded: [
                forward(SignalNumber::INT, SignalKind::interrupt())?,
                forward(SignalNumber::TERM, SignalKind::terminate())?,
                forward(SignalNumber::HUP, SignalKind::hangup())?,
                forward(SignalNumber::QUIT, SignalKind::quit())?,
                forward(SignalNumber::USR1, SignalKind::user_defined1())?,
                forward(SignalNumber::USR2, SignalKind::user_defined2())?,
            ],
            resized: signal(SignalKind::window_change())?,
            continued: signal(SignalKind::from_raw(SignalNumber::CONT.as_raw()))?,
        })
    }

    /// Waits for a terminating signal, and returns the number.
    pub(crate) async fn next_terminating(&mut self) -> u8 {
        loop {
            if let CaughtSignal::Forward(number) = self.next().await {
                return u8::try_from(number.as_raw()).unwrap_or_default();
            }
        }
    }

    /// Waits for the next signal.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> CaughtSignal {
        let Self {
            forwarded: [one, two, three, four, five, six],
            resized,
            continued,
        } = self;
        tokio::select! {
            _ = one.1.recv() => CaughtSignal::Forward(one.0),
            _ = two.1.recv() => CaughtSignal::Forward(two.0),
            _ = three.1.recv() => CaughtSignal::Forward(three.0),
            _ = four.1.recv() => CaughtSignal::Forward(four.0),
            _ = five.1.recv() => CaughtSignal::Forward(five.0),
            _ = six.1.recv() => CaughtSignal::Forward(six.0),
            _ = resized.recv() => CaughtSignal::Resized,
            _ = continued.recv() => CaughtSignal::Continued,
        }
    }
}
