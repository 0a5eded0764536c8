// SPDX-License-Identifier: Apache-2.0
//! `notify`: one notification, and with `--wait` what was chosen.

use anyhow::{Context as _, anyhow};
use desktop::notifier::{
    Closed, Notification, NotificationAction, NotificationActionError, NotificationExpiry,
    Notifier as _, SessionNotifier, create_notifier,
};
use desktop::popups::GuardedPopup;

use crate::{CommandContext, CommandFailure, CommandStatus, ErrorExt as _, StopSignals, block_on};

/// What it does, at length.
pub(super) const ABOUT: &str = "Show a notification, and print its id.

With --wait it stays until one of the actions is chosen and prints that action's key on a second \
line. Where there is no desktop to show it on, the id is 0, which says that nobody sees it.";

/// What may be said to it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance notify 'Build finished'
  terok-clearance notify 'Deploy?' 'to production' --actions yes:Yes no:No --wait

Exit status:
  0    shown, or nobody to show it to (the id is 0); with --wait, an action was chosen
  3    --wait: it was closed, or its time was over, and nothing was chosen
  69   the desktop's notification service does not start, or does not show it; --wait: nobody can
       be asked: there is no desktop, or it shows no buttons
  130  ended by Ctrl-C; 143 by SIGTERM; either takes the notification away

Environment:
  DBUS_SESSION_BUS_ADDRESS  the desktop's bus; unset: bus in the runtime directory")]
pub struct Args {
    /// The title.
    #[arg(value_name = "TITLE")]
    summary: String,
    /// The text below it.
    #[arg(value_name = "BODY", default_value = "", hide_default_value = true)]
    body: String,
    /// The choices, each a key for the program and a label for the person.
    #[arg(long, value_name = "KEY:LABEL", num_args = 1.., value_parser = parse_action)]
    actions: Vec<NotificationAction>,
    /// Wait until an action is chosen, and print its key.
    #[arg(long)]
    wait: bool,
    /// How long it stays, in milliseconds; 0 is until it is closed (with --wait the default), -1 as
    /// the desktop has it
    #[arg(short, long, value_name = "MS", allow_negative_numbers = true)]
    timeout: Option<i32>,
}

fn parse_action(text: &str) -> Result<NotificationAction, NotificationActionError> {
    text.parse()
}

/// Does it.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    let twice = args.actions.iter().enumerate().find(|(at, action)| {
        let before = args.actions.iter().take(*at);
        before
            .map(NotificationAction::key)
            .any(|key| key == action.key())
    });
    if let Some((_, action)) = twice {
        let twice = anyhow!("the action {} is there twice", action.key());
        return Err(twice).with_status(CommandStatus::USAGE);
    }
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let bus = context.environment.session_bus_address();
        // The original's name for what its command line shows.
        let notifier = create_notifier("terok", bus.as_deref());
        tokio::select! {
            status = stop.wait() => return Ok(status),
            connected = notifier.connect() => {
                if let Err(error) = connected {
                    let reason = operator::error_chain(error);
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

/// Shows the notification, prints its id, and with `wait` the key of the chosen action. A signal
/// ends it, and closes the notification.
async fn show_notification(
    notifier: &SessionNotifier,
    notification: Notification,
    wait: bool,
    stop: &mut StopSignals,
    context: &CommandContext,
) -> Result<CommandStatus, CommandFailure> {
    let asks = !notification.actions.is_empty();
    let mut showing = std::pin::pin!(GuardedPopup::show(notifier, notification));
    let mut stopped = None;
    // A notification needs an id before it can be closed.
    let shown = tokio::select! {
        status = stop.wait() => {
            stopped = Some(status);
            showing.await
        }
        shown = &mut showing => shown,
    };
    let mut popup = shown
        .context("showing the notification")
        .with_status(CommandStatus::UNAVAILABLE)?;
    if let Some(status) = stopped {
        return close_notification(popup, status).await;
    }
    print_value(context, "id", &popup.id().get().into())?;
    if !wait {
        return Ok(CommandStatus::OK);
    }
    let capabilities = notifier.capabilities();
    if !capabilities.visible || (asks && !capabilities.actions) {
        let why = if capabilities.visible {
            "the desktop shows no buttons"
        } else {
            "there is no notifier"
        };
        return Err(anyhow!("nobody can be asked: {why}"))
            .with_hint("`terok-clearance clearance` asks at a terminal")
            .with_status(CommandStatus::UNAVAILABLE);
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

/// Closes the notification after a signal, which gives the status.
async fn close_notification(
    popup: GuardedPopup<'_, SessionNotifier>,
    status: CommandStatus,
) -> Result<CommandStatus, CommandFailure> {
    popup
        .close()
        .await
        .context("taking the notification away")?;
    Ok(status)
}

/// Prints a value on a line of its own, for a program with its name.
fn print_value(
    context: &CommandContext,
    name: &str,
    value: &serde_json::Value,
) -> anyhow::Result<()> {
    let line = match value {
        value if context.json => serde_json::json!({ name: value }).to_string(),
        serde_json::Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    context.output.print_line(&line)
}
