// SPDX-License-Identifier: Apache-2.0
//! The releases of the Python stack that install today.

use std::path::PathBuf;

use terok_clearance::socket::SocketLayout;

/// A release of the Python stack: one `terok-clearance`, and the `terok-shield` of its time.
///
/// They live in `$INTEROP_STACKS/<folder>/`, put there by `./check setup`. Releases
/// before 0.7.0 are on no registry: recordings stand in for them, see `recordings/README.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stack {
    /// 0.7.0 with shield 0.7.0: the oldest that installs (layout C; every IDL type is `object`).
    V0_7_0,
    /// 0.8.0 with shield 0.8.0: the oldest of layout D.
    V0_8_0,
    /// 0.8.1 with shield 0.9.0: the newest.
    V0_8_1,
    /// The same with asyncvarlink 0.3.3, which is newer than it asks for.
    V0_8_1WithNewerVarlink,
}

impl Stack {
    /// Every one of them, oldest first.
    pub(crate) const ALL: [Self; 4] = [
        Self::V0_7_0,
        Self::V0_8_0,
        Self::V0_8_1,
        Self::V0_8_1WithNewerVarlink,
    ];

    /// Returns the version of `terok-clearance`.
    pub(crate) const fn clearance(self) -> &'static str {
        match self {
            Self::V0_7_0 => "0.7.0",
            Self::V0_8_0 => "0.8.0",
            Self::V0_8_1 | Self::V0_8_1WithNewerVarlink => "0.8.1",
        }
    }

    /// Returns the name of its folder.
    const fn folder(self) -> &'static str {
        match self {
            Self::V0_8_1WithNewerVarlink => "0.8.1-asyncvarlink-0.3.3",
            _ => self.clearance(),
        }
    }

    /// Returns the folder that has its `bin` and its `lib`.
    pub(crate) fn prefix(self) -> PathBuf {
        let prefix = stacks().join(self.folder());
        assert!(
            prefix.join("bin/python").exists(),
            "{} is not installed: run `./check setup`",
            prefix.display()
        );
        prefix
    }

    /// Returns a program of it: `python`, `terok-clearance-hub`, `terok-shield`.
    pub(crate) fn program(self, name: &str) -> PathBuf {
        self.prefix().join("bin").join(name)
    }

    /// Returns where its supervisor puts a sandbox's sockets.
    pub(crate) const fn layout(self) -> SocketLayout {
        match self {
            Self::V0_7_0 => SocketLayout::C,
            Self::V0_8_0 | Self::V0_8_1 | Self::V0_8_1WithNewerVarlink => SocketLayout::D,
        }
    }
}

/// Whose part stands at one end of a pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Theirs(Stack),
}

/// Returns systemd's `varlinkctl`, 257 or newer.
pub(crate) fn varlinkctl() -> PathBuf {
    let program = stacks().join("varlinkctl/varlinkctl");
    assert!(
        program.exists(),
        "{} is not there: run `./check setup`",
        program.display()
    );
    program
}

/// Returns the folder that `./check setup` filled.
fn stacks() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "where `./check interop` put the stacks"
    )]
    let stacks = std::env::var_os("INTEROP_STACKS");
    let stacks = stacks.expect("INTEROP_STACKS is not set: run these tests by `./check interop`");
    stacks.into()
}
