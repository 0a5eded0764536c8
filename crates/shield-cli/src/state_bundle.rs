// SPDX-License-Identifier: Apache-2.0
//! The state directory of a container, in the layout of the Python shield (bundle version 18).

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use terok_clearance::DisplayText;

use crate::dns_tier::DnsTier;
use crate::effective_policy::EffectivePolicy;
use crate::policy_entry::{PolicyEntry, PolicyLineError, PolicySign, parse_policy, render_policy};
use crate::shield_address::ShieldAddress;

/// The version of the layout; the hook refuses containers of another one.
pub const BUNDLE_VERSION: u32 = 18;

/// The state directory of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateBundle(PathBuf);

/// A policy file of the directory `policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyTier {
    /// Allowed above every deny: `10-override`.
    Override,
    /// Denied: `20-security-deny`.
    SecurityDeny,
    /// Allowed for the program in the container: `30-provider-allow`.
    ProviderAllow,
    /// Allowed by profiles and the project: `40-project-allow`.
    ProjectAllow,
    /// Answers and verbs: `live`.
    Live,
}

/// A file of the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateBundleError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written; it is unchanged.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A policy file has an error.
    #[error("{}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        source: PolicyLineError,
    },
    /// A file has another content than expected.
    #[error("{} has {found:?}, which is not {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The start of the content.
        found: DisplayText,
        /// What is expected.
        expected: &'static str,
    },
}

impl PolicyTier {
    const fn file_name(self) -> &'static str {
        match self {
            Self::Override => "10-override",
            Self::SecurityDeny => "20-security-deny",
            Self::ProviderAllow => "30-provider-allow",
            Self::ProjectAllow => "40-project-allow",
            Self::Live => "live",
        }
    }

    const ALL: [Self; 5] = [
        Self::Override,
        Self::SecurityDeny,
        Self::ProviderAllow,
        Self::ProjectAllow,
        Self::Live,
    ];
}

/// Defines a path of the directory for each file.
macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        impl StateBundle {
            $($(#[$doc])* pub(crate) fn $name(&self) -> PathBuf { self.0.join($file) })*
        }
    };
}

paths! {
    /// The rules that the hook loads.
    ruleset = "ruleset.nft";
    /// The address of the resolver.
    upstream_dns = "upstream.dns";
    /// How names reach the sets.
    dns_tier = "dns.tier";
    /// The network of rootless containers, `pasta` or `slirp4netns`.
    network_mode = "network.mode";
    /// Ports of the host's loopback interface, one a line.
    loopback_ports = "loopback.ports";
    /// The addresses of allowed names.
    resolved = "resolved.ips";
    /// The addresses of overriding names.
    override_resolved = "override_resolved.ips";
    /// The addresses of denied names.
    deny_resolved = "deny_resolved.ips";
    /// The configuration of dnsmasq.
    dnsmasq_conf = "dnsmasq.conf";
    /// The process id of dnsmasq.
    dnsmasq_pid = "dnsmasq.pid";
    /// The log of dnsmasq's queries.
    dnsmasq_log = "dnsmasq.log";
    /// The program to start as dnsmasq.
    dnsmasq_command = "dnsmasq.command";
    /// The program that runs as dnsmasq.
    dnsmasq_bin = "dnsmasq.bin";
    /// The container's `/etc/resolv.conf`.
    resolv_conf = "resolv.conf";
    /// The first characters of the container's id.
    container_id = "container.id";
    /// The process id of the reader.
    reader_pid = "reader.pid";
    /// The output of the reader.
    reader_log = "reader.log";
    /// The record of the verbs and the reader.
    audit = "audit.jsonl";
    /// Names the file with the facts about the task.
    meta_path = "meta_path";
}

impl StateBundle {
    /// Returns the bundle in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Returns the path of a policy file.
    pub fn policy_path(&self, tier: PolicyTier) -> PathBuf {
        self.0.join("policy").join(tier.file_name())
    }

    /// Creates the directories, or gives existing ones the mode 0700: the hook refuses any other.
    pub(crate) fn create_directories(&self) -> Result<(), StateBundleError> {
        for path in [self.0.clone(), self.0.join("policy")] {
            let created = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            created
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o700)))
                .map_err(|source| StateBundleError::Write { path, source })?;
        }
        Ok(())
    }

    /// Reads every policy file; a missing one is empty.
    pub fn read_policy(&self) -> Result<EffectivePolicy, StateBundleError> {
        let read = |tier| self.read_tier(tier);
        Ok(EffectivePolicy {
            overrides: read(PolicyTier::Override)?,
            security_deny: read(PolicyTier::SecurityDeny)?,
            provider_allow: read(PolicyTier::ProviderAllow)?,
            project_allow: read(PolicyTier::ProjectAllow)?,
            live: read(PolicyTier::Live)?,
        })
    }

    fn read_tier(&self, tier: PolicyTier) -> Result<Vec<PolicyEntry>, StateBundleError> {
        let path = self.policy_path(tier);
        let text = read_file(&path)?.unwrap_or_default();
        parse_policy(&text).map_err(|source| StateBundleError::Policy { path, source })
    }

    /// Writes a policy file unless it has this content already, so that its time of change stays:
    /// a cache of addresses that is older is outdated.
    pub(crate) fn write_tier(&self, tier: PolicyTier, text: &str) -> Result<(), StateBundleError> {
        let path = self.policy_path(tier);
        if read_file(&path)?.as_deref() == Some(text) {
            return Ok(());
        }
        write_file(&path, text)
    }

    /// Replaces the lines of these targets in `policy/live` by one each with `sign`, and returns
    /// the file as it was.
    pub(crate) fn set_live(
        &self,
        sign: PolicySign,
        targets: &[String],
    ) -> Result<Option<String>, StateBundleError> {
        let path = self.policy_path(PolicyTier::Live);
        let previous = read_file(&path)?;
        let broken = |source| StateBundleError::Policy {
            path: path.clone(),
            source,
        };
        let mut entries = parse_policy(previous.as_deref().unwrap_or_default()).map_err(broken)?;
        for target in targets {
            let entry = PolicyEntry::of_target(sign, target).map_err(broken)?;
            entries.retain(|other| other.target != entry.target);
            entries.push(entry);
        }
        write_file(&path, &render_policy(&entries))?;
        Ok(previous)
    }

    /// Puts `policy/live` back to what [`Self::set_live`] returned.
    pub(crate) fn restore_live(&self, previous: Option<&str>) -> Result<(), StateBundleError> {
        write_file(
            &self.policy_path(PolicyTier::Live),
            previous.unwrap_or_default(),
        )
    }

    /// Returns the time of the last change of a policy file; `None` without any.
    pub(crate) fn policy_changed(&self) -> Option<SystemTime> {
        let changed = |tier| fs::metadata(self.policy_path(tier)).ok()?.modified().ok();
        PolicyTier::ALL.into_iter().filter_map(changed).max()
    }

    /// Returns how names reach the sets; `None` if it is not recorded.
    pub fn read_dns_tier(&self) -> Option<DnsTier> {
        DnsTier::parse(fs::read_to_string(self.dns_tier()).ok()?.trim())
    }

    /// Returns the ports of the host's loopback interface.
    pub(crate) fn read_loopback_ports(&self) -> Result<Vec<u16>, StateBundleError> {
        let path = self.loopback_ports();
        let text = read_file(&path)?.unwrap_or_default();
        let parse = |line: &str| match line.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(StateBundleError::Content {
                path: path.clone(),
                found: DisplayText::new(line),
                expected: "a port",
            }),
        };
        nonempty_lines(&text).map(parse).collect()
    }
}

/// Returns a text with each of `lines` ended.
pub(crate) fn join_lines(lines: impl Iterator<Item = String>) -> String {
    lines.fold(String::new(), |text, line| text + &line + "\n")
}

fn nonempty_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// Returns the text of a small file without surrounding spaces; `None` if it is missing or
/// empty.
pub(crate) fn read_word(path: &Path) -> Result<Option<String>, StateBundleError> {
    let text = read_file(path)?.unwrap_or_default();
    let word = text.trim();
    Ok((!word.is_empty()).then(|| word.to_owned()))
}

/// Returns the addresses of a cache; an absent cache is empty, lines that are no address are
/// skipped.
pub(crate) fn read_cache(path: &Path) -> Result<Vec<ShieldAddress>, StateBundleError> {
    let text = read_file(path)?.unwrap_or_default();
    Ok(nonempty_lines(&text)
        .filter_map(|line| line.parse().ok())
        .collect())
}

/// Returns the content of a file; `None` if it does not exist.
pub(crate) fn read_file(path: &Path) -> Result<Option<String>, StateBundleError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateBundleError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Replaces a file at once: readers see the old or the new content, also after a power failure.
///
/// Everybody may read the file, because the container's users read `resolv.conf`; the directory
/// is private.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<(), StateBundleError> {
    replace_file(path, text).map_err(|source| StateBundleError::Write {
        path: path.to_owned(),
        source,
    })
}

fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(directory)?.sync_all()
}

/// Removes a file that may not exist.
pub(crate) fn remove_file(path: &Path) -> Result<(), StateBundleError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(StateBundleError::Write {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn bundle() -> (tempfile::TempDir, StateBundle) {
        let place = tempfile::tempdir().unwrap();
        let bundle = StateBundle::new(place.path().join("box"));
        bundle.create_directories().unwrap();
        (place, bundle)
    }

    fn live(bundle: &StateBundle) -> String {
        fs::read_to_string(bundle.policy_path(PolicyTier::Live)).unwrap()
    }

    #[test]
    fn a_later_order_about_a_target_replaces_the_earlier_one() {
        let (_place, bundle) = bundle();
        let set = |sign, targets: &[&str]| {
            let targets: Vec<_> = targets.iter().map(|target| (*target).to_owned()).collect();
            bundle.set_live(sign, &targets).unwrap()
        };
        assert_eq!(set(PolicySign::Allow, &["203.0.113.7", "a.example"]), None);
        assert_eq!(live(&bundle), "+203.0.113.7\n+a.example\n");
        let previous = set(PolicySign::Deny, &["203.0.113.7"]);
        assert_eq!(previous.as_deref(), Some("+203.0.113.7\n+a.example\n"));
        assert_eq!(live(&bundle), "+a.example\n-203.0.113.7\n");
        bundle.restore_live(previous.as_deref()).unwrap();
        assert_eq!(live(&bundle), "+203.0.113.7\n+a.example\n");
    }

    #[test]
    fn a_broken_policy_file_is_an_error_and_stays_as_it_is() {
        let (_place, bundle) = bundle();
        let path = bundle.policy_path(PolicyTier::Live);
        fs::write(&path, "203.0.113.7\n").unwrap();
        let allowed = bundle.set_live(PolicySign::Allow, &["a.example".to_owned()]);
        assert!(matches!(allowed, Err(StateBundleError::Policy { .. })));
        assert!(bundle.read_policy().is_err());
        assert_eq!(live(&bundle), "203.0.113.7\n");
        fs::write(&path, b"+\xff\n").unwrap();
        assert!(matches!(
            bundle.read_policy(),
            Err(StateBundleError::Read { .. })
        ));
        let wrong = bundle.set_live(PolicySign::Allow, &["a;b".to_owned()]);
        assert!(wrong.is_err());
    }

    #[test]
    fn directories_become_private_and_files_stay_readable() {
        let (_place, bundle) = bundle();
        fs::set_permissions(bundle.directory(), Permissions::from_mode(0o775)).unwrap();
        bundle.create_directories().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(bundle.directory()), 0o700);
        write_file(&bundle.resolv_conf(), "nameserver 127.0.0.1\n").unwrap();
        assert_eq!(mode(&bundle.resolv_conf()), 0o644);
    }

    #[test]
    fn an_unchanged_policy_file_keeps_its_time() {
        let (_place, bundle) = bundle();
        bundle.write_tier(PolicyTier::ProjectAllow, "+a\n").unwrap();
        let inode = || {
            fs::metadata(bundle.policy_path(PolicyTier::ProjectAllow))
                .unwrap()
                .ino()
        };
        let first = inode();
        bundle.write_tier(PolicyTier::ProjectAllow, "+a\n").unwrap();
        assert_eq!(inode(), first);
        bundle.write_tier(PolicyTier::ProjectAllow, "+b\n").unwrap();
        assert_ne!(inode(), first);
    }

    #[test]
    fn small_files_are_checked() {
        let (_place, bundle) = bundle();
        assert_eq!(bundle.read_loopback_ports().unwrap(), [0_u16; 0]);
        fs::write(bundle.loopback_ports(), "8000\n\n9000\n").unwrap();
        assert_eq!(bundle.read_loopback_ports().unwrap(), [8000, 9000]);
        for wrong in ["0", "65536", "x; accept"] {
            fs::write(bundle.loopback_ports(), wrong).unwrap();
            assert!(bundle.read_loopback_ports().is_err(), "{wrong}");
        }
        fs::write(bundle.resolved(), "203.0.113.7\n; drop\n\n::1\n").unwrap();
        let cache = read_cache(&bundle.resolved()).unwrap();
        assert_eq!(cache.len(), 2);
        assert_eq!(bundle.read_dns_tier(), None);
        fs::write(bundle.dns_tier(), "dnsmasq\n").unwrap();
        assert_eq!(bundle.read_dns_tier(), Some(DnsTier::DnsmasqLive));
    }
}
