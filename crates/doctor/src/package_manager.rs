// SPDX-License-Identifier: Apache-2.0
//! The package manager of the distribution, and the names of packages there.

use crate::HostDescription;

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PackageManager {
    /// Debian, Ubuntu and others.
    Apt,
    /// Fedora, RHEL and others.
    Dnf,
    /// Arch Linux and others.
    Pacman,
    /// openSUSE and SUSE Linux Enterprise.
    Zypper,
    /// Another one.
    Unknown,
}

/// A package, under the name that each distribution has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SystemPackage {
    Podman,
    Crun,
    /// `newuidmap` and `newgidmap`.
    Uidmap,
    Passt,
    /// A session bus for each user.
    SessionBus,
    /// A notification service that draws buttons.
    NotificationService,
}

impl PackageManager {
    /// Returns the package manager by the text of `os-release(5)`: by the distribution, else by
    /// those that it is like.
    pub(crate) fn of_os_release(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
            line.and_then(|rest| rest.strip_prefix('='))
                .map(|value| value.trim_matches(['"', '\'']))
        };
        let ids = [value("ID"), value("ID_LIKE")].into_iter().flatten();
        ids.flat_map(str::split_ascii_whitespace)
            .find_map(|id| match id {
                "debian" | "ubuntu" => Some(Self::Apt),
                "fedora" | "rhel" | "centos" => Some(Self::Dnf),
                "arch" => Some(Self::Pacman),
                "suse" | "opensuse" | "sles" => Some(Self::Zypper),
                _ if id.starts_with("opensuse") => Some(Self::Zypper),
                _ => None,
            })
            .unwrap_or(Self::Unknown)
    }

    /// Returns the command with which the user of `host` installs a package.
    pub(crate) fn install_command(
        self,
        packages: &[SystemPackage],
        host: &HostDescription,
    ) -> String {
        let names: Vec<_> = packages.iter().map(|package| package.name(self)).collect();
        let names = names.join(" ");
        match self {
            Self::Apt => host.as_root(&format!("apt-get install {names}")),
            Self::Dnf => host.as_root(&format!("dnf install {names}")),
            Self::Pacman => host.as_root(&format!("pacman -S --needed {names}")),
            Self::Zypper => host.as_root(&format!("zypper install {names}")),
            Self::Unknown => format!("install the packages of your distribution for: {names}"),
        }
    }
}

impl SystemPackage {
    const fn name(self, manager: PackageManager) -> &'static str {
        use PackageManager::{Apt, Dnf, Pacman, Unknown, Zypper};
        match (self, manager) {
            (Self::Podman, _) => "podman",
            (Self::Crun, _) => "crun",
            (Self::Uidmap, Apt) => "uidmap",
            (Self::Uidmap, Dnf) => "shadow-utils",
            (Self::Uidmap, Pacman | Zypper) => "shadow",
            (Self::Uidmap, Unknown) => "newuidmap",
            (Self::Passt, _) => "passt",
            (Self::SessionBus, Apt) => "dbus-user-session",
            (Self::SessionBus, Dnf) => "dbus-broker",
            (Self::SessionBus, Pacman | Unknown) => "dbus",
            (Self::SessionBus, Zypper) => "dbus-1",
            (Self::NotificationService, _) => "xfce4-notifyd",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_manager_is_that_of_the_distribution_or_of_one_that_it_is_like() {
        let check = |text: &str, expected| {
            assert_eq!(PackageManager::of_os_release(text), expected, "{text}");
        };
        check("PRETTY_NAME=\"Debian\"\nID=debian\n", PackageManager::Apt);
        check("ID=ubuntu\nID_LIKE=debian\n", PackageManager::Apt);
        check(
            "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
            PackageManager::Apt,
        );
        check("ID=fedora\n", PackageManager::Dnf);
        check(
            "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
            PackageManager::Dnf,
        );
        check("ID=arch\n", PackageManager::Pacman);
        check("ID=manjaro\nID_LIKE=arch\n", PackageManager::Pacman);
        check(
            "ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n",
            PackageManager::Zypper,
        );
        check("ID='sles'\n", PackageManager::Zypper);
        check("ID=nixos\n", PackageManager::Unknown);
        check("", PackageManager::Unknown);
    }
}
