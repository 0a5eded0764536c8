// SPDX-License-Identifier: Apache-2.0
//! Finds the setting that keeps an ordinary user from creating user namespaces.

use std::fmt;
use std::fs;

/// A restriction of user namespaces on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsernsRestriction {
    /// `AppArmor` removes all rights from user namespaces of unconfined programs (Ubuntu since
    /// 23.10).
    AppArmor,
    /// Debian's switch for unprivileged user namespaces is off.
    SysctlDisabled,
    /// The limit of user namespaces is zero.
    ZeroLimit,
    /// A system call filter, such as a container engine's, refuses them.
    ContainerSeccomp,
}

impl UsernsRestriction {
    /// Returns the responsible setting of this machine after the kernel has refused with `errno`.
    pub(crate) fn detect(errno: i32) -> Option<Self> {
        Self::from_settings(errno, |path| {
            fs::read_to_string(path)
                .ok()
                .map(|text| text.trim().to_owned())
        })
    }

    fn from_settings(errno: i32, read: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let says = |path: &str, value: &str| read(path).is_some_and(|found| found == value);
        if !matches!(
            errno,
            libc::EPERM | libc::EACCES | libc::ENOSPC | libc::EUSERS
        ) {
            None
        } else if says("/proc/sys/user/max_user_namespaces", "0") {
            Some(Self::ZeroLimit)
        } else if says("/proc/sys/kernel/unprivileged_userns_clone", "0") {
            Some(Self::SysctlDisabled)
        } else if says(
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
        ) {
            Some(Self::AppArmor)
        } else if read("/proc/self/status").is_some_and(|status| status.contains("Seccomp:\t2")) {
            Some(Self::ContainerSeccomp)
        } else {
            None
        }
    }

    /// Returns the remedy for the operator, one sentence or more.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::AppArmor => {
                "As root, for this program alone: put `abi <abi/4.0>, include <tunables/global> \
                 profile terok-clearance /**/terok-clearance flags=(unconfined) { userns, }` into \
                 /etc/apparmor.d/terok-clearance and load it with `apparmor_parser -r \
                 /etc/apparmor.d/terok-clearance`. Or, for all programs: sysctl \
                 kernel.apparmor_restrict_unprivileged_userns=0."
            }
            Self::SysctlDisabled => "As root: sysctl kernel.unprivileged_userns_clone=1.",
            Self::ZeroLimit => "As root: sysctl user.max_user_namespaces=15000.",
            Self::ContainerSeccomp => {
                "Run it outside the container, or start the container with a seccomp profile that \
                 allows user namespaces (podman and docker: --security-opt seccomp=unconfined)."
            }
        }
    }
}

impl fmt::Display for UsernsRestriction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AppArmor => {
                "AppArmor restricts user namespaces \
                 (kernel.apparmor_restrict_unprivileged_userns=1)"
            }
            Self::SysctlDisabled => {
                "only root may create user namespaces (kernel.unprivileged_userns_clone=0)"
            }
            Self::ZeroLimit => "the limit of user namespaces is zero (user.max_user_namespaces=0)",
            Self::ContainerSeccomp => "a system call filter is active, as in a container",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_responsible_setting_is_found() {
        let machine = |settings: &'static [(&str, &str)]| {
            move |path: &str| {
                let found = settings.iter().find(|(name, _)| path.ends_with(name));
                found.map(|(_, value)| (*value).to_owned())
            }
        };
        let check = |errno, settings, expected| {
            assert_eq!(
                UsernsRestriction::from_settings(errno, machine(settings)),
                expected,
                "{settings:?}"
            );
        };
        check(
            libc::ENOSPC,
            &[("max_user_namespaces", "0")],
            Some(UsernsRestriction::ZeroLimit),
        );
        check(
            libc::EPERM,
            &[("unprivileged_userns_clone", "0")],
            Some(UsernsRestriction::SysctlDisabled),
        );
        let ubuntu = &[
            ("max_user_namespaces", "62000"),
            ("unprivileged_userns_clone", "1"),
            ("apparmor_restrict_unprivileged_userns", "1"),
        ];
        check(libc::EACCES, ubuntu, Some(UsernsRestriction::AppArmor));
        check(
            libc::EPERM,
            &[("self/status", "Seccomp:\t2\n")],
            Some(UsernsRestriction::ContainerSeccomp),
        );
        check(libc::EPERM, &[("max_user_namespaces", "62000")], None);
        check(libc::ENOMEM, ubuntu, None);
    }
}
