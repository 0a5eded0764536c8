// SPDX-License-Identifier: Apache-2.0
//! The addresses of a container's names, kept in its state directory for an hour.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::host_lookup::look_up_names;
use crate::program_runner::ProgramRunner;
use crate::shield_address::ShieldAddress;
use crate::state_bundle::{StateBundleError, join_lines, read_file, write_file};

/// The age from which addresses are looked up again.
pub(crate) const MAX_CACHE_AGE: Duration = Duration::from_secs(3600);

/// The addresses of a policy's targets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ResolvedTargets {
    /// Addresses as the files have them.
    pub(crate) addresses: Vec<String>,
    /// The names without an address.
    pub(crate) unknown: Vec<String>,
}

/// Returns the addresses of `targets`: those of the file at `path` if it is younger than `max_age`
/// and than the policy, else looked up and written there.
pub(crate) async fn resolve_targets(
    runner: &ProgramRunner,
    targets: &[String],
    path: &Path,
    max_age: Duration,
    policy_changed: Option<SystemTime>,
    now: SystemTime,
) -> Result<ResolvedTargets, StateBundleError> {
    if is_fresh(path, max_age, policy_changed, now) {
        let text = read_file(path)?.unwrap_or_default();
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        return Ok(ResolvedTargets {
            addresses: lines.map(str::to_owned).collect(),
            unknown: Vec::new(),
        });
    }
    let (literals, names): (Vec<String>, Vec<String>) = targets
        .iter()
        .cloned()
        .partition(|target| target.parse::<ShieldAddress>().is_ok());
    let (found, unknown) = look_up_names(runner, &names).await;
    let mut addresses = literals;
    addresses.extend(found.iter().map(ToString::to_string));
    let text = join_lines(addresses.iter().cloned());
    write_file(path, &text)?;
    Ok(ResolvedTargets { addresses, unknown })
}

fn is_fresh(
    path: &Path,
    max_age: Duration,
    policy_changed: Option<SystemTime>,
    now: SystemTime,
) -> bool {
    let Ok(written) = fs::metadata(path).and_then(|found| found.modified()) else {
        return false;
    };
    // A time in the future is not trusted.
    let age = now.duration_since(written);
    policy_changed.is_none_or(|changed| changed <= written) && age.is_ok_and(|age| age < max_age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_young_cache_is_used_until_the_policy_changes() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("resolved.ips");
        let runner = ProgramRunner::new("/nonexistent".into());
        let targets = ["203.0.113.0/24".to_owned(), "a.example".to_owned()];
        let resolve = async |max_age, changed, now| {
            let all = resolve_targets(&runner, &targets, &path, max_age, changed, now);
            all.await.unwrap().addresses.join(" ")
        };
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        assert_eq!(resolve(MAX_CACHE_AGE, None, start).await, "203.0.113.0/24");
        fs::write(&path, "192.0.2.1\n").unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(start).unwrap();
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(
            resolve(MAX_CACHE_AGE, Some(start), later(3599)).await,
            "192.0.2.1"
        );
        assert!(!is_fresh(&path, MAX_CACHE_AGE, None, later(3600)));
        assert!(!is_fresh(&path, MAX_CACHE_AGE, Some(later(1)), later(2)));
        assert!(!is_fresh(&path, Duration::ZERO, None, start));
        assert_eq!(
            resolve(Duration::ZERO, None, later(1)).await,
            "203.0.113.0/24"
        );
    }
}
