// SPDX-License-Identifier: Apache-2.0
//! The content of a notification, and the hints for the service that shows it.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// A text for the operator, and the actions to choose from.
///
/// The texts are plain: notifiers escape markup. Callers pass text from a sandbox through
/// [`terok_clearance::DisplayText`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notification {
    /// The title, one line.
    pub summary: String,
    /// The text below the title, in lines; may be empty.
    pub body: String,
    /// The actions, in the order of their buttons.
    pub actions: Vec<NotificationAction>,
    /// The time for which the notification stays on the screen.
    pub expiry: NotificationExpiry,
    /// Hints for the service.
    pub hints: NotificationHints,
    /// The notification to replace.
    pub replaces: Option<NotificationId>,
    /// The icon: a name of the icon theme, or a `file://` address.
    pub icon: Option<String>,
    /// The sandbox that the notification is about.
    pub identity: ContainerIdentity,
    /// A line that tells the operator where to answer, shown where the actions cannot be chosen:
    /// by services without buttons, and where the text may be cut.
    pub buttonless_hint: Option<String>,
    /// Number of lines at the start of the body that an operator must see to choose an action.
    /// Where a service may cut one of these lines, the actions are not offered.
    pub essential_lines: usize,
    /// The actions where the essential lines may be cut.
    pub fallback_actions: Vec<NotificationAction>,
    /// A name in the essential lines that is cut in its middle where these lines may be cut.
    pub long_name: Option<String>,
}

impl Notification {
    /// Returns a notification that consists of a title.
    pub fn new(summary: &str) -> Self {
        Self {
            summary: summary.to_owned(),
            ..Self::default()
        }
    }

    /// Returns `true` if both have the same title and actions; the rest of the text may differ.
    pub fn asks_same_question(&self, other: &Self) -> bool {
        self.summary == other.summary && self.actions == other.actions
    }
}

/// The number of a notification at its notifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotificationId(u32);

impl NotificationId {
    /// The id of a notification that was not shown.
    pub const NONE: Self = Self(0);

    pub(super) const fn from_number(id: u32) -> Self {
        Self(id)
    }

    /// Returns the plain number, 0 for [`NotificationId::NONE`].
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl From<NonZeroU32> for NotificationId {
    fn from(id: NonZeroU32) -> Self {
        Self(id.get())
    }
}

impl fmt::Display for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key for the program and a label for the operator. Neither is empty.
///
/// The text form is `allow:Allow`. A label may contain colons, a key must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationAction {
    key: ActionKey,
    label: String,
}

/// The key of an action.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionKey(String);

/// The reason why a text is not a valid action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotificationActionError {
    /// The colon is missing.
    #[error("the colon is missing; an action is KEY:LABEL, such as allow:Allow")]
    NoColon,
    /// The key is missing.
    #[error("the key before the colon is missing; an action is KEY:LABEL, such as allow:Allow")]
    NoKey,
    /// The label is missing.
    #[error("the label after the colon is missing; an action is KEY:LABEL, such as allow:Allow")]
    NoLabel,
    /// The text has a control character, which would break the output line with the chosen key.
    #[error("an action must not contain control characters")]
    ControlCharacter,
}

impl NotificationAction {
    /// Returns the key, for the program.
    pub const fn key(&self) -> &ActionKey {
        &self.key
    }

    /// Returns the label, for the operator.
    pub fn label(&self) -> &str {
        &self.label
    }
}

impl FromStr for NotificationAction {
    type Err = NotificationActionError;

    fn from_str(text: &str) -> Result<Self, NotificationActionError> {
        let (key, label) = text
            .split_once(':')
            .ok_or(NotificationActionError::NoColon)?;
        if text.chars().any(char::is_control) {
            return Err(NotificationActionError::ControlCharacter);
        }
        if key.trim().is_empty() {
            return Err(NotificationActionError::NoKey);
        }
        if label.trim().is_empty() {
            return Err(NotificationActionError::NoLabel);
        }
        Ok(Self {
            key: ActionKey(key.to_owned()),
            label: label.to_owned(),
        })
    }
}

impl ActionKey {
    /// Returns the text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NotificationUrgency {
    /// Returns the number of the urgency in the Desktop Notifications Specification.
    pub const fn level(self) -> u8 {
        match self {
            Self::Low => 0,
            Self::Normal => 1,
            Self::Critical => 2,
        }
    }
}

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The time for which a notification stays on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NotificationExpiry {
    /// The default of the service.
    #[default]
    ServerDefault,
    /// No limit: the notification stays until closed.
    Never,
    /// The number of milliseconds.
    After(NonZeroU32),
}

impl NotificationExpiry {
    /// Returns the number of the Desktop Notifications Specification: -1 for the default, 0 for
    /// no limit, otherwise milliseconds.
    pub fn milliseconds(self) -> i32 {
        match self {
            Self::ServerDefault => -1,
            Self::Never => 0,
            Self::After(time) => i32::try_from(time.get()).unwrap_or(i32::MAX),
        }
    }
}

impl From<i32> for NotificationExpiry {
    /// Converts from the number of the specification; negative numbers mean the default.
    fn from(milliseconds: i32) -> Self {
        match u32::try_from(milliseconds) {
            Err(_) => Self::ServerDefault,
            Ok(time) => NonZeroU32::new(time).map_or(Self::Never, Self::After),
        }
    }
}

/// Hints for the service, which may ignore them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NotificationHints {
    /// The urgency; `None` leaves the choice to the service.
    pub urgency: Option<NotificationUrgency>,
    /// The notification stays after a choice, so that a later notification can replace it.
    pub resident: bool,
    /// The notification is not kept in the desktop's list of past notifications.
    pub transient: bool,
    /// A category of the specification, such as `network`.
    pub category: Option<&'static str>,
    /// The name of the program's desktop file, without its extension.
    pub desktop_entry: Option<&'static str>,
}

impl NotificationHints {
    /// No hints.
    pub const PLAIN: Self = Self {
        urgency: None,
        resident: false,
        transient: false,
        category: None,
        desktop_entry: None,
    };
}

/// The urgency levels of the Desktop Notifications Specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationUrgency {
    /// The notification is unimportant.
    Low,
    /// The usual level.
    Normal,
    /// The notification stays until the operator has seen it.
    Critical,
}

/// The sandbox that a notification is about; unknown fields are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerIdentity {
    /// The container's short id.
    pub container_id: String,
    /// The container's name.
    pub container_name: String,
    /// The project of the task.
    pub project: String,
    /// The task's id.
    pub task_id: String,
    /// The name of the task; it may change while the task runs.
    pub task_name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_a_key_and_a_label() {
        let check = |text: &str, expected: Result<(&str, &str), NotificationActionError>| {
            let read = text.parse::<NotificationAction>();
            let parts = read.as_ref().map(|a| (a.key().as_str(), a.label()));
            assert_eq!(parts.map_err(|error| *error), expected, "{text:?}");
        };
        check("allow:Allow", Ok(("allow", "Allow")));
        check("at:10:30", Ok(("at", "10:30")));
        check("ok:Größe prüfen", Ok(("ok", "Größe prüfen")));
        check("allow", Err(NotificationActionError::NoColon));
        check(":Allow", Err(NotificationActionError::NoKey));
        check("allow: ", Err(NotificationActionError::NoLabel));
        check("a\nb:B", Err(NotificationActionError::ControlCharacter));
    }

    #[test]
    fn an_expiry_has_the_numbers_of_the_specification() {
        for (said, meant) in [
            (-1, -1),
            (-5, -1),
            (0, 0),
            (7, 7),
            (i32::MAX, i32::MAX),
            (i32::MIN, -1),
        ] {
            assert_eq!(
                NotificationExpiry::from(said).milliseconds(),
                meant,
                "{said}"
            );
        }
    }
}
