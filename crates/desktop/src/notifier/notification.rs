// SPDX-License-Identifier: Apache-2.0
//! What a notification says, and how it wants to be shown.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// Something to show a person, and the choices they have.
///
/// Its texts are shown as they are; whoever draws them escapes what its screen would take as
/// markup. What a sandbox chose goes in as [`terok_clearance::DisplayText`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notification {
    /// The title, one line.
    pub summary: String,
    /// More, in lines; may be empty.
    pub body: String,
    /// The choices, in the order of their buttons.
    pub actions: Vec<NotificationAction>,
    /// How long it stays.
    pub expiry: NotificationExpiry,
    /// How it wants to be shown.
    pub hints: NotificationHints,
    /// The notification that it takes the place of.
    pub replaces: Option<NotificationId>,
    /// A name of the icon theme, or a `file://` address.
    pub icon: Option<String>,
    /// Whom it is about.
    pub identity: ContainerIdentity,
    /// A choice that comes sooner than this after it appeared, or after what is around it moved,
    /// is not taken: it is shown again and says so. [`super::guard::Guard::READ`] is a good time.
    pub click_guard: Option<Duration>,
    /// Says how to choose where what shows it has no buttons.
    pub buttonless_hint: Option<String>,
}

impl Notification {
    /// Returns one that has a title alone.
    pub fn new(summary: &str) -> Self {
        Self {
            summary: summary.to_owned(),
            ..Self::default()
        }
    }

    /// Says whether it asks what `other` asks: the same title and choices. The text may tell more.
    pub fn asks_same_question(&self, other: &Self) -> bool {
        self.summary == other.summary && self.actions == other.actions
    }
}

/// The number by which a notifier knows a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotificationId(u32);

impl NotificationId {
    /// The id of what was not shown.
    pub const NONE: Self = Self(0);

    pub(super) const fn from_number(id: u32) -> Self {
        Self(id)
    }

    /// Returns it as a plain number, 0 for [`NotificationId::NONE`].
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

/// A choice: a key for the program, a label for the person. Neither is empty.
///
/// Written `allow:Allow`; a label may have colons, a key has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationAction {
    key: ActionKey,
    label: String,
}

/// What a program knows a choice by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionKey(String);

/// Why a text is no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotificationActionError {
    /// There is no colon.
    #[error("an action is KEY:LABEL, such as allow:Allow")]
    NoColon,
    /// There is nothing before the colon.
    #[error("an action has a key before its colon, such as allow:Allow")]
    NoKey,
    /// There is nothing after the colon.
    #[error("an action has a label after its colon, such as allow:Allow")]
    NoLabel,
    /// A control character would break the lines in which a key is printed.
    #[error("an action's key and label have no control characters")]
    ControlCharacter,
}

impl NotificationAction {
    /// Returns what the program knows it by.
    pub const fn key(&self) -> &ActionKey {
        &self.key
    }

    /// Returns what the person reads.
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
    /// Returns its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NotificationUrgency {
    /// Returns its number in the specification.
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

/// What was chosen, and what the desktop gave along with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionChoice {
    /// The action.
    pub key: ActionKey,
    /// Lets a window that is opened for it come to the front, as `XDG_ACTIVATION_TOKEN` or
    /// `DESKTOP_STARTUP_ID`; few desktops give one.
    pub activation_token: Option<String>,
}

impl From<ActionKey> for ActionChoice {
    fn from(key: ActionKey) -> Self {
        Self {
            key,
            activation_token: None,
        }
    }
}

/// How long a notification stays on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NotificationExpiry {
    /// As long as the other side thinks right.
    #[default]
    ServerDefault,
    /// Until it is closed.
    Never,
    /// So many milliseconds.
    After(NonZeroU32),
}

impl NotificationExpiry {
    /// Returns it as the Desktop Notifications Specification has it: -1 usual, 0 never, else
    /// milliseconds.
    pub fn milliseconds(self) -> i32 {
        match self {
            Self::ServerDefault => -1,
            Self::Never => 0,
            Self::After(time) => i32::try_from(time.get()).unwrap_or(i32::MAX),
        }
    }
}

impl From<i32> for NotificationExpiry {
    /// Takes what the specification has; everything below 0 is usual.
    fn from(milliseconds: i32) -> Self {
        match u32::try_from(milliseconds) {
            Err(_) => Self::ServerDefault,
            Ok(time) => NonZeroU32::new(time).map_or(Self::Never, Self::After),
        }
    }
}

/// How a notification wants to be shown. The other side may not care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NotificationHints {
    /// How much it matters; `None` leaves it to the other side.
    pub urgency: Option<NotificationUrgency>,
    /// It stays when an action was chosen, so that another can take its place.
    pub resident: bool,
    /// It is not kept in the list of past ones.
    pub transient: bool,
    /// What kind of thing it is about, such as `network`, as the specification lists them.
    pub category: Option<&'static str>,
    /// The program's desktop file, without its ending.
    pub desktop_entry: Option<&'static str>,
}

impl NotificationHints {
    /// It wants nothing special.
    pub const PLAIN: Self = Self {
        urgency: None,
        resident: false,
        transient: false,
        category: None,
        desktop_entry: None,
    };
}

/// How much a notification matters, by the numbers of the Desktop Notifications Specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationUrgency {
    /// It may pass unseen.
    Low,
    /// It matters.
    Normal,
    /// It stays until it was seen.
    Critical,
}

/// Whom a notification is about, where that is known; empty where not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerIdentity {
    /// The container's short id.
    pub container_id: String,
    /// The container's name.
    pub container_name: String,
    /// The project that the task is of.
    pub project: String,
    /// The task's id.
    pub task_id: String,
    /// The task's name, which may change in its life.
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
    fn a_time_is_as_the_specification_has_it() {
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
