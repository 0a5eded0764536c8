// SPDX-License-Identifier: Apache-2.0
//! The option for the sign of a new question.

use clap::ValueEnum;
use runner::BellChoice;

/// The option `--bell`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct BellArgs {
    /// The sign of a new question at this terminal, at most every 5 s [default: bell].
    #[arg(long, value_enum, value_name = "SIGN")]
    pub(crate) bell: Option<BellArg>,
}

/// The values of `--bell`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BellArg {
    /// None.
    Off,
    /// The terminal's bell.
    Bell,
    /// A bell, and a desktop notification (OSC 9: iTerm2, kitty and others).
    Osc9,
    /// A bell, and a desktop notification (OSC 777: urxvt, foot and others).
    Osc777,
}

impl BellArg {
    /// Returns the sign.
    pub(crate) const fn choice(self) -> BellChoice {
        match self {
            Self::Off => BellChoice::Off,
            Self::Bell => BellChoice::Bell,
            Self::Osc9 => BellChoice::Osc9,
            Self::Osc777 => BellChoice::Osc777,
        }
    }
}
