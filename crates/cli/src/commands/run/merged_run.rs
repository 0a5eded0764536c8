// SPDX-License-Identifier: Apache-2.0
//! The merge of the flags of `run` with variables, the user's file and the organisation's limits.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::tui::Hotkey;
use anyhow::Context as _;
use clap::ValueEnum as _;
use policy::{ProfileName, ProfileNameError};
use runner::{ApproverConfig, BellChoice, HoldLimit, RecordConfig, SandboxLimits};
use settings::{OrganisationPolicy, Setting, UserSettings};
use terok_clearance::DestPattern;

use super::{Args, MemorySize, ProxyArg, RunUiChoice, parse_proxy};
use crate::settings_merge::{HOTKEY_VARIABLE, merged_bell, parse_setting, parse_setting_with};
use crate::{CommandError, UserEnvironment};

/// The values that count for a run.
#[derive(Debug)]
pub(super) struct MergedRun {
    /// Destinations that are open from the start: of the organisation, the file and the flags.
    pub(super) allowed: Vec<DestPattern>,
    /// Destinations that are refused from the start: of the file.
    pub(super) denied: Vec<DestPattern>,
    /// The time that connections wait.
    pub(super) hold: Setting<HoldLimit>,
    /// Where questions are asked.
    pub(super) ui: Setting<RunUiChoice>,
    /// The key that shows the questions.
    pub(super) hotkey: Setting<Hotkey>,
    /// The proxy; `None`: as the variables say.
    pub(super) proxy: Option<Setting<ProxyArg>>,
    /// Whether server names are checked.
    pub(super) check_sni: Setting<bool>,
    /// The limits of the command.
    pub(super) limits: SandboxLimits,
    /// The sign of a new question.
    pub(super) bell: Setting<BellChoice>,
    /// Bundled profiles that the organisation requires.
    pub(super) required_profiles: Vec<ProfileName>,
    /// The profiles of the flags, else of the file.
    pub(super) profiles: Vec<ProfileName>,
    /// The program that looks at each question first, and its arguments; empty without one.
    pub(super) approver: Vec<OsString>,
    /// The time that it may take.
    pub(super) approver_timeout: Duration,
    /// The records of the run.
    pub(super) records: Vec<RecordConfig>,
    /// The run does not start without a record.
    pub(super) is_record_required: bool,
    /// The limits of the organisation.
    pub(super) organisation: Option<Arc<OrganisationPolicy>>,
}

/// Returns the values that count: of a flag, else of a variable, else of the file, else the
/// default; within the limits of the organisation.
pub(super) fn merge_run(
    args: &Args,
    environment: &UserEnvironment,
    settings: &UserSettings,
    organisation: Option<Arc<OrganisationPolicy>>,
) -> Result<MergedRun, CommandError> {
    let file = &settings.run;
    let flag_hold = args.hold.map(|hold| Setting::of_flag("--hold", hold));
    let file_hold = parse_setting(file.hold.as_ref())?;
    let hold = Setting::by_precedence(flag_hold, None, file_hold, HoldLimit::DEFAULT);
    let flag_ui = args.ui.map(|ui| Setting::of_flag("--ui", ui));
    let file_ui = parse_setting_with(file.ui.as_ref(), |text| {
        RunUiChoice::from_str(text, false).map_err(anyhow::Error::msg)
    })?;
    let flag_proxy = args.proxy.clone();
    let flag_proxy = flag_proxy.map(|proxy| Setting::of_flag("--proxy", proxy));
    let file_proxy = parse_setting_with(file.proxy.as_ref(), |text| Ok(parse_proxy(text)?))?;
    let check_sni = args
        .check_sni
        .map(|check| Setting::of_flag("--check-sni", check));
    let file_memory = parse_setting::<MemorySize>(file.memory.as_ref())?;
    let number = |flag: Option<u32>, file: &Option<Setting<u32>>| {
        flag.or_else(|| file.as_ref().map(|setting| setting.value))
    };
    Ok(MergedRun {
        allowed: merged_allows(args, settings, organisation.as_deref())?,
        denied: {
            let of_file = file.deny.iter().flat_map(|deny| &deny.value);
            of_file.chain(&args.deny).cloned().collect()
        },
        required_profiles: match organisation.as_deref() {
            Some(policy) => parse_profiles(&policy.add_required_profiles(Vec::new()))?,
            None => Vec::new(),
        },
        profiles: if args.profile.is_empty() {
            let of_file = file.profiles.as_ref();
            parse_profiles(of_file.map_or(&[][..], |profiles| &profiles.value))?
        } else {
            args.profile.clone()
        },
        approver: {
            let of_file = file.approver.as_ref().map(|approver| &approver.value);
            let of_file = of_file.into_iter().flatten().map(OsString::from);
            let approver: Vec<_> = match &args.approver {
                Some(program) => vec![program.into()],
                None => of_file.collect(),
            };
            if let (Some(organisation), false) = (&organisation, approver.is_empty()) {
                organisation.check_approver()?;
            }
            approver
        },
        approver_timeout: {
            let of_file = file.approver_timeout.as_ref();
            let of_file = of_file.map(|timeout| timeout.value.duration());
            let timeout = args.approver_timeout.or(of_file);
            timeout.unwrap_or(ApproverConfig::DEFAULT_TIMEOUT)
        },
        records: merged_records(
            args.no_record,
            environment,
            settings,
            organisation.as_deref(),
        )?,
        is_record_required: is_record_required(organisation.as_deref()),
        hold: match &organisation {
            Some(organisation) => limited_hold(hold, organisation),
            None => hold,
        },
        ui: Setting::by_precedence(flag_ui, None, file_ui, RunUiChoice::Auto),
        hotkey: merged_hotkey(args.hotkey, environment, settings)?,
        proxy: flag_proxy.or(file_proxy),
        check_sni: Setting::by_precedence(check_sni, None, file.check_sni.clone(), false),
        limits: SandboxLimits {
            processes: number(args.pids, &file.pids),
            memory_bytes: args
                .memory
                .or_else(|| file_memory.map(|memory| memory.value))
                .map(MemorySize::bytes),
            open_files: number(args.open_files, &file.open_files),
        },
        bell: merged_bell(args.bell, settings)?,
        organisation,
    })
}

/// Returns the key that shows the questions.
pub(crate) fn merged_hotkey(
    flag: Option<Hotkey>,
    environment: &UserEnvironment,
    settings: &UserSettings,
) -> Result<Setting<Hotkey>, CommandError> {
    let flag = flag.map(|hotkey| Setting::of_flag("--hotkey", hotkey));
    // A variable that does not count may be wrong.
    let variable = match environment.hotkey().filter(|_| flag.is_none()) {
        Some(name) => {
            let hotkey = name.parse().map_err(CommandError::HotkeyVariable)?;
            Some(Setting::of_variable(HOTKEY_VARIABLE, hotkey))
        }
        None => None,
    };
    let file = parse_setting(settings.run.hotkey.as_ref())?;
    Ok(Setting::by_precedence(
        flag,
        variable,
        file,
        Hotkey::DEFAULT,
    ))
}

fn parse_profiles(names: &[String]) -> Result<Vec<ProfileName>, CommandError> {
    let parsed = names.iter().map(|name| name.parse());
    let parsed: Result<_, ProfileNameError> = parsed.collect();
    Ok(parsed.context("cannot use the profiles of the configuration")?)
}

/// Returns `true` if the organisation permits no sandbox without a record.
pub(crate) fn is_record_required(organisation: Option<&OrganisationPolicy>) -> bool {
    organisation
        .and_then(|policy| policy.record.required.as_ref())
        .is_some_and(|required| required.value)
}

/// Returns the records of a sandbox: the operator's own, and the copies of the organisation.
pub(crate) fn merged_records(
    no_record: bool,
    environment: &UserEnvironment,
    settings: &UserSettings,
    organisation: Option<&OrganisationPolicy>,
) -> Result<Vec<RecordConfig>, CommandError> {
    let file = &settings.record;
    let flag = no_record.then(|| Setting::of_flag("--no-record", false));
    let enabled = Setting::by_precedence(flag, None, file.enabled.clone(), true);
    let enabled = match organisation {
        Some(organisation) => organisation.limit_record(enabled),
        None => enabled,
    };
    let rotate = parse_setting::<MemorySize>(file.rotate_size.as_ref())?;
    let with_limits = |path: PathBuf| {
        let mut record = RecordConfig::new(path);
        if let Some(rotate) = &rotate {
            record.rotate_bytes = rotate.value.bytes();
        }
        if let Some(keep) = &file.keep {
            record.keep = keep.value;
        }
        record
    };
    let own = environment.state_dir().join(record::FILE_NAME);
    let own = enabled.value.then(|| with_limits(own));
    let user = environment.user_name();
    let copies = organisation.map(|organisation| organisation.record_copies(&user));
    let copies = copies.into_iter().flatten().map(with_limits);
    Ok(own.into_iter().chain(copies).collect())
}

/// Returns what is open from the start, or a refusal if the organisation does not permit it.
fn merged_allows(
    args: &Args,
    settings: &UserSettings,
    organisation: Option<&OrganisationPolicy>,
) -> Result<Vec<DestPattern>, CommandError> {
    let file = settings.run.allow.iter().flat_map(|allow| &allow.value);
    let own: Vec<_> = file.chain(&args.allow).cloned().collect();
    let Some(organisation) = organisation else {
        return Ok(own);
    };
    for dest in &own {
        organisation.check_allowed(dest)?;
    }
    let given = organisation.destinations.allow.iter();
    let given = given.flat_map(|allow| allow.value.iter().cloned());
    Ok(given.chain(own).collect())
}

/// Returns the time that connections wait, within the limit of the organisation.
pub(crate) fn limited_hold(
    hold: Setting<HoldLimit>,
    organisation: &OrganisationPolicy,
) -> Setting<HoldLimit> {
    let time = hold.map(|hold| match hold {
        HoldLimit::Refuse => Some(Duration::ZERO),
        HoldLimit::For(time) => Some(time),
        HoldLimit::Forever => None,
    });
    organisation.limit_hold(time).map(|time| match time {
        None => HoldLimit::Forever,
        Some(time) if time.is_zero() => HoldLimit::Refuse,
        Some(time) => HoldLimit::For(time),
    })
}

#[cfg(test)]
mod tests;
