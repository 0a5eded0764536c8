// SPDX-License-Identifier: Apache-2.0
//! The configuration of popups on the desktop of this user.

use desktop::PopupDesktopConfig;
use desktop::popups::Categories;

use crate::CommandContext;
use crate::environment::RuntimeDirError;
use crate::screen_terminal::screen_command;
use crate::timezone::system_time_zone;

/// Returns the configuration of popups on the desktop of this user.
pub(crate) fn popup_desktop_config(
    context: &CommandContext,
) -> Result<PopupDesktopConfig, RuntimeDirError> {
    let environment = &context.environment;
    Ok(PopupDesktopConfig {
        bus_address: environment.session_bus_address(),
        categories: popup_categories(context),
        zone: system_time_zone(),
        runtime_dir: environment.private_runtime_dir()?.to_owned(),
        podman: environment.find_protected_program("podman"),
        open_screen: screen_command(context),
    })
}

/// Returns the kinds of popups according to the environment.
fn popup_categories(context: &CommandContext) -> Categories {
    let Some(events) = context.environment.notify_events() else {
        return Categories::default();
    };
    let (categories, unknown) = Categories::parse(events);
    for name in unknown {
        tracing::warn!(%name, "TEROK_CLEARANCE_NOTIFY_EVENTS: unknown kind of popups");
    }
    categories
}
