// SPDX-License-Identifier: Apache-2.0
//! The rules of a container at its start, its record, and the limits of the organisation.

use anyhow::Context as _;
use containers::policy_annotation::{ContainerPolicy, PolicyAnnotationError, PolicyKey};
use containers::{StartRequest, annotation_keys};
use record::{AuditSandboxEnd, AuditSandboxStart};
use runner::{HoldLimit, SandboxAudit};
use settings::Setting;
use supervisor::{AllowedDest, FilteredPolicy, SupervisorExit, SupervisorServeError};
use terok_clearance::DisplayText;

use super::GuardedNetwork;
use super::container_identity::SupervisedContainer;
use crate::CommandContext;
use crate::commands::run::{
    GivenRules, describe_record_notice, is_record_required, limited_hold, merged_records,
    read_filtered_policy,
};
use crate::settings_files::read_organisation;

/// Returns what the operator has decided about a container before its start: what the annotation
/// says, if it has the operator's signature. A container without the annotation has no rules of its
/// own.
pub(super) fn read_policy(
    request: &StartRequest,
    context: &CommandContext,
) -> anyhow::Result<ContainerPolicy> {
    let value = request.annotations.get(annotation_keys::POLICY);
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(ContainerPolicy::default());
    };
    let refused = || format!("the annotation {} does not count", annotation_keys::POLICY);
    let key = PolicyKey::load(context.environment.state_dir()).with_context(refused)?;
    let key = key
        .ok_or(PolicyAnnotationError::Signature)
        .with_context(refused)?;
    ContainerPolicy::verify(value, request.network, &key).with_context(refused)
}

/// Returns the rules of the operator's decision.
pub(super) fn given_rules(policy: &ContainerPolicy) -> GivenRules {
    GivenRules {
        allowed: policy.allow.clone(),
        denied: policy.deny.clone(),
        profiles: policy.profiles.clone(),
        project: None,
    }
}

/// Returns the rules of a container in the filtered way.
pub(super) fn read_filtered_rules(
    given: &GivenRules,
    context: &CommandContext,
) -> anyhow::Result<FilteredPolicy> {
    let allowed = given.allowed.iter().map(|pattern| {
        let dest = pattern.to_string().parse::<AllowedDest>();
        dest.with_context(|| format!("cannot allow {pattern} from the start"))
    });
    let allowed = allowed.collect::<Result<Vec<_>, _>>()?;
    Ok(read_filtered_policy(
        &allowed,
        &given.denied,
        &given.profiles,
        context,
    )?)
}

/// Returns the time that connections wait: of the operator's policy, else of the configuration,
/// within the limit of the organisation.
pub(super) fn hold_limit(given: Option<HoldLimit>) -> anyhow::Result<HoldLimit> {
    let hold = Setting::of_flag("--hold", given.unwrap_or(HoldLimit::DEFAULT));
    Ok(match read_organisation()? {
        Some(organisation) => limited_hold(hold, &organisation).value,
        None => hold.value,
    })
}

/// Opens the records, and records the start of the container.
pub(super) fn begin_record(
    network: &GuardedNetwork,
    identity: &SupervisedContainer,
    profiles: Vec<DisplayText>,
    context: &CommandContext,
) -> anyhow::Result<SandboxAudit> {
    let organisation = read_organisation()?;
    let organisation = organisation.as_deref();
    let settings = context.settings.get()?;
    let records = merged_records(false, &context.environment, settings, organisation)?;
    let is_required = is_record_required(organisation);
    let audit = SandboxAudit::open(&records, is_required, identity.audit_sandbox(), |notice| {
        tracing::warn!("{}", describe_record_notice(&notice));
    });
    let audit = audit.context("cannot guard the container")?;
    audit.start(AuditSandboxStart {
        network: network.request.network.as_str().into(),
        learn: false,
        profiles,
        command: None,
    });
    Ok(audit)
}

/// Records how the supervision ended.
pub(super) fn end_record(
    audit: SandboxAudit,
    ended: &Result<SupervisorExit, SupervisorServeError>,
) {
    let end = match ended {
        Ok(SupervisorExit::SandboxEnded) => Some(AuditSandboxEnd {
            status: None,
            reason: None,
        }),
        Ok(SupervisorExit::Stopped) => {
            audit.note("the supervisor was stopped");
            None
        }
        Err(error) => {
            audit.note(&format!("the supervisor failed: {error}"));
            None
        }
    };
    if !audit.finish(end) {
        tracing::warn!("{}", crate::commands::run::RECORD_INCOMPLETE);
    }
}
