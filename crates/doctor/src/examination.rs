// SPDX-License-Identifier: Apache-2.0
//! Runs all checks at the same time.

use std::sync::Arc;

use rustix::process::{getegid, getgroups};
use rustix::system::uname;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::finding::{Check, CheckStatus, Finding, RequirementGroup};
use crate::setup_checks::HOOKS;
use crate::systemd_checks::{check_linger, check_manager};
use crate::{HostDescription, container_checks, desktop_checks, file_checks, kernel_checks};
use crate::{setup_checks, stack_checks};

/// The findings about a host, ordered by their groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoctorReport {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl DoctorReport {
    /// Returns the number of findings of this status.
    pub fn count(&self, status: CheckStatus) -> usize {
        let of_status = self
            .findings
            .iter()
            .filter(|finding| finding.status == status);
        of_status.count()
    }

    /// Returns the findings of a group.
    pub fn group(&self, group: RequirementGroup) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.group == group)
    }
}

/// Examines the host. Requires a tokio runtime.
///
/// Takes hardly longer than the time limit of one check.
pub async fn examine(host: HostDescription) -> DoctorReport {
    let host = Arc::new(host);
    let (probed, commands, containers, popups) = tokio::join!(
        kernel_checks::probe_in_child(&host),
        check_files(&host),
        check_containers(&host),
        desktop_checks::check_desktop(&host),
    );
    let mut findings = check_kernel(&host);
    findings.extend([probed, commands, containers, popups].into_iter().flatten());
    findings.sort_by_key(|finding| finding.group);
    DoctorReport { findings }
}

fn check_kernel(host: &HostDescription) -> Vec<Finding> {
    let mut groups: Vec<_> = getgroups().unwrap_or_default();
    groups.push(getegid());
    let groups: Vec<_> = groups.into_iter().map(rustix::fs::Gid::as_raw).collect();
    let release = uname().release().to_string_lossy().into_owned();
    vec![
        kernel_checks::check_version(&release),
        kernel_checks::check_pidfd(),
        kernel_checks::check_ping(host, &groups),
    ]
}

async fn check_files(host: &Arc<HostDescription>) -> Vec<Finding> {
    let mut findings = in_time(host, Check::of_commands("runtime-directory"), |host| {
        vec![file_checks::check_runtime_directory(host)]
    })
    .await;
    let records = in_time(
        host,
        Check::of_commands("record"),
        file_checks::check_records,
    );
    findings.extend(records.await);
    findings.extend(file_checks::check_configuration(host));
    findings
}

/// Checks what containers need. Without podman and hooks, a single line says so.
async fn check_containers(host: &Arc<HostDescription>) -> Vec<Finding> {
    let has_hooks = setup_checks::has_hooks(host);
    let podman = container_checks::check_podman(host, has_hooks).await;
    if !has_hooks && host.find_program("podman").is_none() {
        return vec![podman];
    }
    let (runtime, (manager, manager_found), hooks) = tokio::join!(
        container_checks::check_runtime(host),
        check_manager(host),
        in_time(host, HOOKS, |host| vec![setup_checks::check_hooks(host)]),
    );
    let mut findings = vec![podman, runtime];
    findings.extend(container_checks::check_containers_conf(host));
    findings.extend(container_checks::check_subordinate_ids(host));
    findings.push(container_checks::check_filtered_network(host));
    findings.extend(hooks);
    findings.push(manager_found);
    findings.extend(setup_checks::check_units(host));
    findings.extend(setup_checks::check_classic_units(host));
    findings.extend(setup_checks::check_start_socket(host, manager));
    findings.extend(check_linger(host, manager));
    findings.extend(stack_checks::check_other_stacks(host));
    findings
}

/// Runs a check of files in a thread: a network file system may not answer.
async fn in_time(
    host: &Arc<HostDescription>,
    check: Check,
    work: impl FnOnce(&HostDescription) -> Vec<Finding> + Send + 'static,
) -> Vec<Finding> {
    let shared = Arc::clone(host);
    match timeout(host.time_limit, spawn_blocking(move || work(&shared))).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(panic)) => vec![check.failure(&panic.to_string(), "report this bug")],
        Err(_) => {
            vec![check.failure(
                "its file system does not answer",
                "check the mounted file systems",
            )]
        }
    }
}
