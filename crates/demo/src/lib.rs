// SPDX-License-Identifier: Apache-2.0
//! The command `demo`: shows the path of a packet from a sandbox to an answer, with real packets,
//! in private namespaces.
//!
//! Only the internet is simulated, in a network namespace of its own where the supervisor opens its
//! sockets. Everything else is real: the same sandbox and gateway as in `run`, a supervisor that
//! holds, asks and dials, and an operator connected to the hub's socket.
//!
//! A demo has three stages. [`PreparedDemo::build`] forks, so the caller must not have started
//! threads. [`PreparedDemo::start`] loads the firewall. [`StartedDemo::run`] makes the program
//! fetch each host, and reports the steps to a [`DemoOutput`]. A [`DemoOutcome`] collects the
//! observations, and can summarise a demo that was stopped early.
//!
//! The demo starts two processes of the same program, with the arguments [`INTERNET_COMMAND`] and
//! [`WORKLOAD_COMMAND`]; the program passes them on to [`run_fake_internet`] and
//! [`run_demo_workload`].

mod answers;
mod checks;
mod clock;
mod demo;
mod demo_operator;
mod dns_message;
mod error;
mod fake_internet;
mod inspector;
mod internet_sockets;
mod outcome;
mod output;
mod processes;
mod protocol;
mod render;
mod report;
mod scenario;
mod supervisor_trace;
mod topology;
mod workload;

pub use answers::{AnsweringUi, DemoAnswers, UiFuture};
pub use demo::{PreparedDemo, StartedDemo};
pub use error::{ChildMessageError, DemoError, DemoPartError, UiFailure};
pub use fake_internet::{FakeInternetError, run_fake_internet};
pub use outcome::DemoOutcome;
pub use output::{DemoFormat, DemoOutput, DemoWriter};
pub use workload::{DemoWorkloadError, run_demo_workload};

/// Name of the hidden command that runs the simulated internet.
pub const INTERNET_COMMAND: &str = "demo-internet";
/// Name of the hidden command that runs the program in the sandbox.
pub const WORKLOAD_COMMAND: &str = "demo-program";
