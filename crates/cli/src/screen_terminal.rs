// SPDX-License-Identifier: Apache-2.0
//! The terminal emulator in which a popup opens the screen.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use desktop::popups::ScreenCommand;

use crate::CommandContext;

/// Terminal emulators, the operator's choice first, and what each expects before a command.
///
/// `xdg-terminal-exec` is the proposal of freedesktop.org, `x-terminal-emulator` the alternative of
/// Debian.
const TERMINALS: [(&str, &[&str]); 14] = [
    ("xdg-terminal-exec", &[]),
    ("x-terminal-emulator", &["-e"]),
    ("gnome-terminal", &["--"]),
    ("kgx", &["--"]),
    ("ptyxis", &["--"]),
    ("konsole", &["-e"]),
    ("xfce4-terminal", &["-x"]),
    ("mate-terminal", &["-x"]),
    ("wezterm", &["start", "--"]),
    ("alacritty", &["-e"]),
    ("foot", &[]),
    ("kitty", &[]),
    ("urxvt", &["-e"]),
    ("xterm", &["-e"]),
];

/// Returns the command that opens the screen in a terminal window; `None` without a display or a
/// known terminal emulator that no sandbox of this user could have written.
pub(crate) fn screen_command(context: &CommandContext) -> Option<ScreenCommand> {
    let environment = &context.environment;
    let variable = |name: &str| {
        let mut set = environment.select_variables(&[name]).into_iter();
        set.next()
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    };
    variable("WAYLAND_DISPLAY").or_else(|| variable("DISPLAY"))?;
    let program = std::env::current_exe().ok()?;
    let find = |name: &str| environment.find_protected_program(name);
    build_command(variable("TERMINAL").as_deref(), &program, find)
}

/// Returns the command with the first terminal emulator that `find` returns. `chosen` is the
/// operator's choice: a name, or an absolute path.
fn build_command(
    chosen: Option<&OsStr>,
    program: &Path,
    find: impl Fn(&str) -> Option<PathBuf>,
) -> Option<ScreenCommand> {
    let command = |terminal: PathBuf, before: &[&str]| ScreenCommand {
        program: terminal,
        arguments: { before.iter().map(OsString::from) }
            .chain([program.into(), "tui".into()])
            .collect(),
    };
    let before = |name: &str| {
        let known = TERMINALS.iter().find(|(known, _)| *known == name);
        known.map_or(&["-e"][..], |(_, before)| before)
    };
    if let Some(chosen) = chosen.and_then(OsStr::to_str) {
        let path = Path::new(chosen);
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        // A path is found by its name: in a directory of `PATH`, or not at all.
        let found = if path.is_absolute() {
            find(name)
        } else {
            find(chosen)
        };
        if let Some(found) = found {
            return Some(command(found, before(name)));
        }
    }
    let mut known = TERMINALS.iter();
    known.find_map(|(name, before)| find(name).map(|found| command(found, before)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chosen: Option<&str>, installed: &[&str], expected: Option<&str>) {
        let find = |name: &str| {
            let found = installed.contains(&name);
            found.then(|| Path::new("/usr/bin").join(name))
        };
        let chosen = chosen.map(OsStr::new);
        let found = build_command(chosen, Path::new("/opt/terok-clearance"), find);
        let line = found.map(|command| {
            let words = command.arguments.iter().map(|word| word.to_str().unwrap());
            let program = command.program.to_str().unwrap().to_owned();
            words.fold(program, |line, word| format!("{line} {word}"))
        });
        assert_eq!(line.as_deref(), expected, "{chosen:?} of {installed:?}");
    }

    #[test]
    fn the_operators_terminal_comes_first_and_each_has_its_own_arguments() {
        let all = ["xterm", "foot", "gnome-terminal", "x-terminal-emulator"];
        check(None, &[], None);
        check(
            None,
            &["xterm"],
            Some("/usr/bin/xterm -e /opt/terok-clearance tui"),
        );
        check(
            None,
            &all,
            Some("/usr/bin/x-terminal-emulator -e /opt/terok-clearance tui"),
        );
        check(
            Some("foot"),
            &all,
            Some("/usr/bin/foot /opt/terok-clearance tui"),
        );
        let gnome = "/usr/bin/gnome-terminal -- /opt/terok-clearance tui";
        check(Some("gnome-terminal"), &all, Some(gnome));
        check(
            Some("st"),
            &["st"],
            Some("/usr/bin/st -e /opt/terok-clearance tui"),
        );
        // A choice that is not installed, and a relative path, are no choice.
        let xterm = Some("/usr/bin/xterm -e /opt/terok-clearance tui");
        check(Some("st"), &["xterm"], xterm);
        check(Some("/nonexistent/st"), &["xterm"], xterm);
        check(Some("./st"), &["xterm"], xterm);
        check(Some("xterm -e sh -c x"), &["xterm"], xterm);
    }
}
