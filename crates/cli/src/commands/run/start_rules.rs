// SPDX-License-Identifier: Apache-2.0
//! The rules of a run: of options, profiles, files and the organisation.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use policy::{ProfileName, ProfileNameError, RuleFile, RuleOrigin, RuleSpec, RuleTerm};
use runner::{KeptFiles, LongestAnswer, RunRules, StartRule};
use settings::{AnswerLifetime, OrganisationPolicy};
use store::{
    LoadedProfile, ProjectPath, RuleDifference, RuleStore, RuleStoreError, TrustedFile,
    TrustedFileState, read_trusted,
};
use supervisor::{AllowedDest, FilteredPolicy};
use terok_clearance::{Action, DestPattern, DisplayText, Timestamp};

use super::Args;
use super::merged_run::MergedRun;
use crate::commands::confirm::{can_confirm, confirm};
use crate::settings_files::read_organisation;
use crate::{CommandContext, CommandError};

/// Reads the rules of a run.
pub(super) fn read_start_rules(
    args: &Args,
    merged: &MergedRun,
    working_dir: &Path,
    context: &CommandContext,
) -> Result<RunRules, CommandError> {
    let organisation = merged.organisation.as_deref();
    let store = RuleStore::open(context.environment.config_dir())?;
    let mut rules = Vec::new();
    if let Some(organisation) = organisation {
        rules.extend(organisation_rules(organisation));
    }
    rules.extend(flag_rules(&merged.denied, Action::Deny));
    rules.extend(flag_rules(&merged.allowed, Action::Allow));
    for name in &merged.required_profiles {
        rules.extend(bundled_profile_rules(name)?);
    }
    for name in &merged.profiles {
        rules.extend(profile_rules(&store, name)?);
    }
    let trusted = match &args.trust_project_file {
        None => None,
        Some(path) => {
            let file = accept_trusted_file(&working_dir.join(path), organisation, context)?;
            rules.extend(file_rules(file.file(), &RuleOrigin::TrustedFile));
            Some(file.path().to_owned())
        }
    };
    if args.learn
        && let Some(organisation) = organisation
    {
        organisation.check_learn()?;
    }
    let project = match &args.project {
        Some(directory) => ProjectPath::find(directory).map_err(RuleStoreError::from)?,
        None => store.project_of(working_dir, context.environment.home())?,
    };
    Ok(RunRules {
        rules,
        profiles: {
            let names = merged.required_profiles.iter().chain(&merged.profiles);
            names.map(|name| DisplayText::new(name.as_str())).collect()
        },
        kept: Some(KeptFiles {
            store,
            project: Some(project),
        }),
        trusted_file: trusted,
        learns: args.learn,
        ..limited_rules(organisation)
    })
}

/// The rules that an operator has given a container.
#[derive(Debug, Default)]
pub(crate) struct GivenRules {
    /// Destinations that are open from the start.
    pub(crate) allowed: Vec<DestPattern>,
    /// Destinations that are refused from the start.
    pub(crate) denied: Vec<DestPattern>,
    /// Profiles whose destinations count, too.
    pub(crate) profiles: Vec<ProfileName>,
    /// The project whose kept answers count.
    pub(crate) project: Option<PathBuf>,
}

/// Returns the rules of a container in the dialed way: of the operator's options, profiles and kept
/// answers, and of the organisation.
pub(crate) fn read_container_rules(
    given: &GivenRules,
    context: &CommandContext,
) -> Result<RunRules, CommandError> {
    let organisation = read_organisation()?;
    let organisation = organisation.as_deref();
    let store = RuleStore::open(context.environment.config_dir())?;
    let mut rules = Vec::new();
    if let Some(organisation) = organisation {
        rules.extend(organisation_rules(organisation));
        for pattern in &given.allowed {
            organisation.check_allowed(pattern)?;
        }
    }
    let required = required_profiles(organisation)?;
    for name in &required {
        rules.extend(bundled_profile_rules(name)?);
    }
    rules.extend(flag_rules(&given.denied, Action::Deny));
    rules.extend(flag_rules(&given.allowed, Action::Allow));
    for name in &given.profiles {
        rules.extend(profile_rules(&store, name)?);
    }
    let project = given.project.as_deref().map(ProjectPath::find).transpose();
    let project = project.map_err(RuleStoreError::from)?;
    Ok(RunRules {
        rules,
        profiles: {
            let names = required.iter().chain(&given.profiles);
            names.map(|name| DisplayText::new(name.as_str())).collect()
        },
        kept: Some(KeptFiles { store, project }),
        ..limited_rules(organisation)
    })
}

/// Returns no rules, within the limits of the organisation.
fn limited_rules(organisation: Option<&OrganisationPolicy>) -> RunRules {
    let limits = organisation.map(|organisation| &organisation.answers);
    let longest = limits.and_then(|limits| limits.max_lifetime.as_ref());
    RunRules {
        has_ceiling: organisation.is_some_and(|policy| policy.destinations.ceiling.is_some()),
        longest_answer: longest.map_or(LongestAnswer::Always, |limit| longest_answer(limit.value)),
        forbids_bypass: limits
            .and_then(|limits| limits.allow_bypass.as_ref())
            .is_some_and(|allowed| !allowed.value),
        forbids_approver: limits
            .and_then(|limits| limits.allow_approver.as_ref())
            .is_some_and(|allowed| !allowed.value),
        ..RunRules::default()
    }
}

/// Returns the profiles that the organisation requires.
fn required_profiles(
    organisation: Option<&OrganisationPolicy>,
) -> Result<Vec<ProfileName>, CommandError> {
    let names = organisation.map(|policy| policy.add_required_profiles(Vec::new()));
    let names = names.into_iter().flatten().map(|name| name.parse());
    let names: Result<_, ProfileNameError> = names.collect();
    Ok(names.context("cannot use the profiles of the organisation")?)
}

/// Returns the rules of a bundled profile. One of the operator's with the same name does not
/// replace it.
fn bundled_profile_rules(name: &ProfileName) -> Result<Vec<StartRule>, CommandError> {
    let profile = LoadedProfile::bundled(name);
    let profile = profile.ok_or_else(|| RuleStoreError::NoBundledProfile(name.clone()))?;
    Ok(file_rules(&profile.file, &RuleOrigin::Organisation))
}

/// Returns the rules of an option.
fn flag_rules(patterns: &[DestPattern], action: Action) -> Vec<StartRule> {
    let rules = patterns.iter().map(|pattern| StartRule {
        action,
        pattern: pattern.clone(),
        origin: RuleOrigin::Flag,
    });
    rules.collect()
}

/// Returns the rules of `supervise`: of options, profiles and the organisation.
pub(crate) fn read_filtered_policy(
    allowed: &[AllowedDest],
    denied: &[DestPattern],
    profiles: &[ProfileName],
    context: &CommandContext,
) -> Result<FilteredPolicy, CommandError> {
    let organisation = read_organisation()?;
    let organisation = organisation.as_deref();
    let store = RuleStore::open(context.environment.config_dir())?;
    let mut rules = Vec::new();
    if let Some(organisation) = organisation {
        rules.extend(organisation_rules(organisation));
        for name in &required_profiles(Some(organisation))? {
            rules.extend(bundled_profile_rules(name)?);
        }
    }
    let of_option = |action, pattern| StartRule {
        action,
        pattern,
        origin: RuleOrigin::Flag,
    };
    for dest in allowed {
        let pattern = dest.to_pattern().context("cannot use --allow")?;
        if let Some(organisation) = organisation {
            organisation.check_allowed(&pattern)?;
        }
        rules.push(of_option(Action::Allow, pattern));
    }
    let denied = denied.iter().cloned();
    rules.extend(denied.map(|pattern| of_option(Action::Deny, pattern)));
    for name in profiles {
        rules.extend(profile_rules(&store, name)?);
    }
    let limit = organisation.and_then(|policy| policy.answers.max_lifetime.as_ref());
    let by = format!("uid {}", context.environment.uid());
    let since = Timestamp::now();
    let specs = rules.into_iter().map(|rule| RuleSpec {
        pattern: rule.pattern,
        action: rule.action,
        term: RuleTerm::Run,
        by: match rule.origin {
            RuleOrigin::Organisation | RuleOrigin::Ceiling => DisplayText::default(),
            _ => DisplayText::new(&by),
        },
        origin: rule.origin,
        since,
    });
    Ok(FilteredPolicy {
        rules: specs.collect(),
        has_ceiling: organisation.is_some_and(|policy| policy.destinations.ceiling.is_some()),
        longest_answer: limit.map_or(LongestAnswer::Always, |limit| longest_answer(limit.value)),
    })
}

/// Returns the rules of the organisation.
fn organisation_rules(organisation: &OrganisationPolicy) -> Vec<StartRule> {
    let destinations = &organisation.destinations;
    let kinds = [
        (&destinations.deny, Action::Deny, RuleOrigin::Organisation),
        (&destinations.ceiling, Action::Allow, RuleOrigin::Ceiling),
        (&destinations.allow, Action::Allow, RuleOrigin::Organisation),
    ];
    let rules = kinds.into_iter().flat_map(|(patterns, action, origin)| {
        let patterns = patterns.iter().flat_map(|patterns| &patterns.value);
        patterns.map(move |pattern| StartRule {
            action,
            pattern: pattern.clone(),
            origin: origin.clone(),
        })
    });
    rules.collect()
}

fn profile_rules(store: &RuleStore, name: &ProfileName) -> Result<Vec<StartRule>, CommandError> {
    let profile = store.load_profile(name)?;
    let origin = RuleOrigin::Profile {
        name: DisplayText::new(name.as_str()),
    };
    Ok(file_rules(&profile.file, &origin))
}

fn file_rules(file: &RuleFile, origin: &RuleOrigin) -> Vec<StartRule> {
    let rules = file.rules().map(|rule| StartRule {
        action: rule.action,
        pattern: rule.pattern,
        origin: origin.clone(),
    });
    rules.collect()
}

fn longest_answer(limit: AnswerLifetime) -> LongestAnswer {
    match limit {
        AnswerLifetime::Once => LongestAnswer::Once,
        AnswerLifetime::For(span) => {
            let seconds = u32::try_from(span.duration().as_secs());
            LongestAnswer::Seconds(seconds.unwrap_or(u32::MAX))
        }
        AnswerLifetime::Run => LongestAnswer::Run,
        AnswerLifetime::Project => LongestAnswer::Project,
        AnswerLifetime::Always => LongestAnswer::Always,
    }
}

/// A file in the work tree was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum TrustedFileRefusal {
    /// There is no such file.
    #[error("there are no rules in {}", .0.display())]
    Empty(PathBuf),
    /// Its rules have changed, and no terminal can ask whether to accept them.
    #[error("the rules of {} have changed since they were accepted last", .0.display())]
    Changed(PathBuf),
    /// The operator did not accept them.
    #[error("the rules of {} were not accepted", .0.display())]
    Refused(PathBuf),
}

/// Reads a file in the work tree, which the command could have written. Its rules count if they
/// are those that the operator accepted last, or after the operator has accepted the changes, which
/// are shown.
fn accept_trusted_file(
    path: &Path,
    organisation: Option<&OrganisationPolicy>,
    context: &CommandContext,
) -> Result<TrustedFile, CommandError> {
    if let Some(organisation) = organisation {
        organisation.check_trusted_project_file()?;
    }
    let file = read_trusted(path)?;
    if file.file().rule_count() == 0 {
        return Err(TrustedFileRefusal::Empty(path.to_owned()).into());
    }
    let state = TrustedFileState::new(context.environment.state_dir());
    let difference = state.compare(&file)?;
    if difference.is_empty() {
        return Ok(file);
    }
    for line in describe_difference(&file, &difference) {
        context.output.print_error_line(&line);
    }
    if !can_confirm(context) {
        return Err(TrustedFileRefusal::Changed(path.to_owned()).into());
    }
    if !confirm("Accept these rules? [y/N] ") {
        return Err(TrustedFileRefusal::Refused(path.to_owned()).into());
    }
    state.accept(&file)?;
    Ok(file)
}

/// Returns the lines that show how the rules of a file have changed.
fn describe_difference(file: &TrustedFile, difference: &RuleDifference) -> Vec<String> {
    let path = DisplayText::new(&file.path().to_string_lossy());
    let mut lines = vec![format!(
        "{path} is in the project, where the command may write. Since you accepted it last:"
    )];
    let rule = |sign: char, rule: &policy::FileRule| {
        let action = match rule.action {
            Action::Allow => "allow",
            Action::Deny => "deny",
        };
        format!("  {sign} {action} {}", rule.pattern)
    };
    lines.extend(difference.added.iter().map(|added| rule('+', added)));
    lines.extend(difference.removed.iter().map(|removed| rule('-', removed)));
    lines
}
