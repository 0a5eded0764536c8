// SPDX-License-Identifier: Apache-2.0
//! Text that a sandbox chose to mislead with shows harmlessly in popups: one table of texts, and
//! one meaning of "harmless" for each kind of notifier.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "../desktop/bus.rs"]
#[expect(dead_code, reason = "this bus is neither killed nor started again")]
mod bus;
mod callbacks;
#[path = "../desktop/fake.rs"]
#[expect(dead_code, reason = "nothing is chosen here")]
mod desktop;
#[path = "../../../operator/tests/fakes/hub.rs"]
#[expect(dead_code, reason = "this hub takes no answers")]
mod fakes;
#[path = "../../../../tests/hostile/harmless.rs"]
#[expect(dead_code, reason = "nothing here is JSON")]
mod harmless;
#[path = "../../../../tests/hostile/hub.rs"]
#[expect(dead_code, reason = "this hub sends the newest events, and no replies")]
mod hub;
mod popups;
#[path = "../popups/rig.rs"]
#[expect(dead_code, reason = "not all that a person does is done here")]
mod rig;
#[path = "../../../../tests/hostile/texts.rs"]
#[expect(dead_code, reason = "each text is tried by itself")]
mod texts;
