// SPDX-License-Identifier: Apache-2.0
//! The configuration of the user and the limits of the organisation, read from TOML files.
//!
//! A [`SettingKey`] describes each key once: the parser, the suggestions for misspelt keys and the
//! example file use the same table. [`UserSettings`] is the user's `config.toml`,
//! [`OrganisationPolicy`] the file of root that limits it. Parsing is pure; [`read_user_settings`]
//! and [`OrganisationPolicy::read`] check first who can write to the file. A value keeps its
//! [`SettingSource`], so that a refusal names the line that made it.
//!
//! Nothing here reads the environment: directories and user ids are arguments.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

mod answer_lifetime;
mod example;
mod key_table;
mod organisation;
mod pattern_cover;
mod protected_file;
mod setting;
mod settings_file;
mod time_span;
mod user_settings;

pub use answer_lifetime::{AnswerLifetime, AnswerLifetimeError};
pub use example::example_file;
pub use key_table::{ORGANISATION_KEYS, SettingKey, USER_KEYS, ValueKind};
pub use organisation::{
    AnswerLimits, DestinationLimits, OrganisationError, OrganisationPolicy, OrganisationRefusal,
    OrganisationRule, RecordLimits,
};
pub use pattern_cover::pattern_covers;
pub use protected_file::{ProtectedFileError, WriteProtectionError};
pub use setting::{Setting, SettingSource};
pub use settings_file::{
    ProblemReason, SettingEntry, SettingValue, SettingsErrors, SettingsFile, SettingsProblem,
    TextCheck,
};
pub use time_span::{TimeSpan, TimeSpanError};
pub use user_settings::{
    AskSettings, NotifySettings, RecordSettings, RunSettings, UiSettings, UserSettings,
    UserSettingsError, read_user_settings,
};
