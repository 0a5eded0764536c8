// SPDX-License-Identifier: Apache-2.0
//! `notify`: shows one notification, and with `--wait` prints the chosen action.

use anyhow::Context as _;
use desktop::notifier::{
    Closed, DbusConnectError, Notification, NotificationAction, NotificationActionError,
    NotificationExpiry, Notifier as _, SessionNotifier, create_notifier,
};
use desktop::popups::GuardedPopup;

use crate::args::ProgramName;
use crate::output::OutputError;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};

/// Long help.
pub(super) const ABOUT: &str = "Show a notification, and print its id.

With --wait it stays until an action is chosen, whose key is printed on a second line. Without a \
desktop the id is 0: the notification is not shown.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance notify 'Build finished'
  terok-clearance notify 'Deploy?' 'to production' --actions yes:Yes no:No --wait

Exit status:
  0    shown, or no desktop (the id is 0); with --wait, an action was chosen
  3    --wait: closed or expired without a choice
  69   the desktop's notification service failed; --wait: no desktop, or one without buttons
  130  ended by Ctrl-C; 143 by SIGTERM; both remove the notification

Environment:
  DBUS_SESSION_BUS_ADDRESS  the desktop's bus; unset: bus in the runtime directory")]
pub struct Args {
    /// Title
    #[arg(value_name = "TITLE")]
    summary: String,
    /// Text below the title
    #[arg(value_name = "BODY", default_value = "", hide_default_value = true)]
    body: String,
    /// Actions: a key for the program and a label for the button
    #[arg(long, value_name = "KEY:LABEL", num_args = 1.., value_parser = parse_action)]
    actions: Vec<NotificationAction>,
    /// Wait until an action is chosen, and print its key
    #[arg(long)]
    wait: bool,
    /// Time until it expires, in milliseconds; 0: never (the default with --wait), -1: as the
    /// desktop decides
    #[arg(short, long, value_name = "MS", allow_negative_numbers = true)]
    timeout: Option<i32>,
}

fn parse_action(text: &str) -> Result<NotificationAction, NotificationActionError> {
    text.parse()
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let twice = args.actions.iter().enumerate().find(|(at, action)| {
        let before = args.actions.iter().take(*at);
        before
            .map(NotificationAction::key)
            .any(|key| key == action.key())
    });
    if let Some((_, action)) = twice {
        return Err(CommandError::DuplicateAction {
            key: action.key().clone(),
        });
    }
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let bus = context.environment.session_bus_address();
        // The name that the Python program gives to the desktop.
        let notifier = create_notifier("terok", bus.as_deref());
        tokio::select! {
            status = stop.wait() => return Ok(status),
            connected = notifier.connect() => {
                // Without a session bus, and under the name of the Python program, nothing is said:
                // scripts run it on machines without a desktop.
                if let Err(error @ DbusConnectError::NoService) = connected
                    && context.program_name != ProgramName::Hub
                {
                    let reason = terok_clearance::error_chain(error);
                    tracing::warn!(%reason, "notifications are not shown");
                }
            }
        }
        let wait = args.wait;
        let notification = Notification {
            body: args.body,
            actions: args.actions,
            expiry: args.timeout.map_or(
                if wait {
                    NotificationExpiry::Never
                } else {
                    NotificationExpiry::ServerDefault
                },
                NotificationExpiry::from,
            ),
            ..Notification::new(&args.summary)
        };
        let ended = show_notification(&notifier, notification, wait, &mut stop, context).await;
        notifier.disconnect().await;
        ended
    })
}

/// Shows the notification, prints its id, and with `wait` the key of the chosen action. Removes the
/// notification when stopped.
async fn show_notification(
    notifier: &SessionNotifier,
    notification: Notification,
    wait: bool,
    stop: &mut StopSignals,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let asks = !notification.actions.is_empty();
    let mut showing = std::pin::pin!(GuardedPopup::show(notifier, notification));
    let mut stopped = None;
    // Only a notification with an id can be removed, so wait for the call, which has a time limit.
    let shown = tokio::select! {
        status = stop.wait() => {
            stopped = Some(status);
            showing.await
        }
        shown = &mut showing => shown,
    };
    let mut popup = shown.map_err(CommandError::ShowNotification)?;
    if let Some(status) = stopped {
        return close_notification(popup, status).await;
    }
    print_value(context, "id", &popup.id().get().into())?;
    if !wait {
        return Ok(CommandStatus::OK);
    }
    let capabilities = notifier.capabilities();
    if !capabilities.visible || (asks && !capabilities.actions) {
        let reason = if capabilities.visible {
            "the desktop shows no buttons"
        } else {
            "no notification service runs"
        };
        return Err(CommandError::NoChoice { reason });
    }
    let closed = tokio::select! {
        status = stop.wait() => Err(status),
        closed = popup.closed() => Ok(closed),
    };
    let closed = match closed {
        Ok(closed) => closed.context("showing the notification again")?,
        Err(status) => return close_notification(popup, status).await,
    };
    let Closed::Chosen(choice) = closed else {
        return Ok(CommandStatus::NO_ACTION_CHOSEN);
    };
    print_value(context, "action", &choice.key.as_str().into())?;
    Ok(CommandStatus::OK)
}

/// Removes the notification and returns `status`.
async fn close_notification(
    popup: GuardedPopup<'_, SessionNotifier>,
    status: CommandStatus,
) -> Result<CommandStatus, CommandError> {
    popup
        .close()
        .await
        .context("cannot remove the notification")?;
    Ok(status)
}

/// Prints a value on one line. JSON output is an object with `name` and value.
fn print_value(
    context: &CommandContext,
    name: &str,
    value: &serde_json::Value,
) -> Result<(), OutputError> {
    let line = match value {
        value if context.json => serde_json::json!({ name: value }).to_string(),
        serde_json::Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    context.output.print_line(&line)
}
