// SPDX-License-Identifier: Apache-2.0
//! The configuration of popups on the desktop of this user.

use desktop::PopupDesktopConfig;

use crate::screen_terminal::screen_command;
use crate::settings_merge::merged_categories;
use crate::timezone::system_time_zone;
use crate::{CommandContext, CommandError};

/// Returns the configuration of popups on the desktop of this user.
pub(crate) fn popup_desktop_config(
    context: &CommandContext,
) -> Result<PopupDesktopConfig, CommandError> {
    let environment = &context.environment;
    Ok(PopupDesktopConfig {
        bus_address: environment.session_bus_address(),
        categories: merged_categories(environment, context.settings.get()?).value,
        zone: system_time_zone(),
        runtime_dir: environment.private_runtime_dir()?.to_owned(),
        podman: environment.find_protected_program("podman"),
        open_screen: screen_command(context),
    })
}
