// SPDX-License-Identifier: Apache-2.0
//! Where things are: the only place that reads the environment and knows the home directory.

#![expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{ErrorKind, IsTerminal as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::args::Color;
use crate::output::Colors;
use crate::{Advise as _, Failure};

/// Where things are for this user, and what the environment asks for.
#[derive(Debug, Clone)]
pub struct Environment {
    runtime: PathBuf,
    config: PathBuf,
    state: PathBuf,
    log: Option<String>,
    colorless: bool,
    journal: bool,
    path: Option<OsString>,
    shield_state: Option<PathBuf>,
    bus: Option<OsString>,
    notify_events: Option<String>,
    terminal: Option<String>,
    columns: Option<usize>,
    inside: bool,
    locale: Option<String>,
    uid: u32,
    variables: Vec<(OsString, OsString)>,
}

impl Environment {
    /// Returns what the process's environment says. Nothing is made on disk.
    pub fn read() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self {
            variables: std::env::vars_os().collect(),
            ..Self::of(&|name| std::env::var_os(name), uid, Path::new("/run/user"))
        }
    }

    /// Returns what the variables say that `variable` has, for the user `uid`, on a machine that
    /// keeps its users' runtime directories in `users`.
    fn of(variable: &dyn Fn(&str) -> Option<OsString>, uid: u32, users: &Path) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let text = |name| set(name).and_then(|value| value.into_string().ok());
        // A relative path in these is to be ignored (XDG Base Directory Specification).
        let directory = |name| {
            set(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let home = directory("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let under = |name, otherwise: &str| {
            directory(name)
                .unwrap_or_else(|| home.join(otherwise))
                .join("terok-clearance")
        };
        Self {
            runtime: directory("XDG_RUNTIME_DIR").unwrap_or_else(|| runtime_of(uid, users)),
            config: under("XDG_CONFIG_HOME", ".config"),
            state: under("XDG_STATE_HOME", ".local/state"),
            log: text("RUST_LOG"),
            colorless: set("NO_COLOR").is_some() || set("TERM").is_some_and(|t| t == "dumb"),
            journal: set("JOURNAL_STREAM").is_some(),
            path: set("PATH"),
            shield_state: set("TEROK_SHIELD_STATE_DIR").map(PathBuf::from),
            bus: set("DBUS_SESSION_BUS_ADDRESS"),
            // Empty is not unset here: it asks for nothing at all.
            notify_events: variable("TEROK_CLEARANCE_NOTIFY_EVENTS")
                .map(|events| events.to_string_lossy().into_owned()),
            terminal: text("TERM"),
            columns: text("COLUMNS").and_then(|columns| columns.parse().ok()),
            inside: set("_TEROK_SHIELD_NFLOG_NSENTER").is_some_and(|value| value == "1"),
            // The first that is set counts (POSIX, "Environment Variables").
            locale: ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(text),
            uid,
            variables: Vec::new(),
        }
    }

    /// Returns the directory that holds every socket, to look for them. It may not be there yet.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// Returns the same, to bind sockets in. Where it is not the session's but one of ours in the
    /// directory of everybody, it is made, or found to be ours and nobody else's.
    pub fn private_runtime(&self) -> Result<&Path, Failure> {
        if self.runtime.parent() == Some(Path::new(SHARED)) {
            make_private(&self.runtime, self.uid)
                .with_context(|| format!("using {} for sockets", self.runtime.display()))
                .hint("set XDG_RUNTIME_DIR to a directory that only you can enter")?;
        }
        Ok(&self.runtime)
    }

    /// Returns the directory of the configuration files.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Returns the directory of what outlives a process.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Returns where programs are looked for.
    pub fn path(&self) -> Option<&OsString> {
        self.path.as_ref()
    }

    /// Returns the first file called `name` that can be executed, in the absolute directories of
    /// `PATH`.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        let executable = |path: &PathBuf| {
            let found = std::fs::metadata(path);
            found.is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
        };
        std::env::split_paths(self.path.as_ref()?)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(name))
            .find(executable)
    }

    /// Says whether a reader was started inside the network namespace that it is to read.
    pub const fn is_inside(&self) -> bool {
        self.inside
    }

    /// Returns the root of the state directories of `terok-shield`, `TEROK_SHIELD_STATE_DIR`.
    pub fn shield_state(&self) -> Option<&Path> {
        self.shield_state.as_deref()
    }

    /// Returns which kinds of popups are asked for, `TEROK_CLEARANCE_NOTIFY_EVENTS`.
    pub fn notify_events(&self) -> Option<&str> {
        self.notify_events.as_deref()
    }

    /// Says whether there is a session bus: a program that looks for one may start one otherwise.
    pub fn has_bus(&self) -> bool {
        self.bus.is_some() || self.runtime.join("bus").exists()
    }

    /// Returns the address of the session bus: what `DBUS_SESSION_BUS_ADDRESS` says, else the
    /// socket that a session manager makes in the runtime directory.
    pub fn bus(&self) -> Option<String> {
        let said = self.bus.as_ref().and_then(|bus| bus.to_str());
        said.map(str::to_owned).or_else(|| {
            let socket = self.runtime.join("bus");
            socket.exists().then(|| bus_at(&socket))
        })
    }

    /// Returns those of the variables that are set, for a program that is to have no others.
    pub fn pass_on(&self, names: &[&str]) -> Vec<(OsString, OsString)> {
        let set = |name: &&str| Some((OsString::from(*name), std::env::var_os(name)?));
        names.iter().filter_map(set).collect()
    }

    /// Returns the kind of terminal, `TERM`.
    pub fn terminal(&self) -> Option<&str> {
        self.terminal.as_deref()
    }

    /// Says whether the terminal shows more than ASCII, as the locale has it.
    pub fn unicode(&self) -> bool {
        self.locale.as_deref().is_some_and(is_utf8)
    }

    /// Returns how many columns a table may have: those of `COLUMNS`, else those of the terminal
    /// that standard output is, else 80.
    pub fn columns(&self) -> usize {
        let terminal = || {
            let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
            Some(usize::from(size.ws_col))
        };
        let given = self.columns.or_else(terminal);
        given.filter(|columns| *columns > 0).unwrap_or(80)
    }

    /// Returns every variable, for a program that is to have them, too.
    pub fn variables(&self) -> &[(OsString, OsString)] {
        &self.variables
    }

    /// Returns the user this process acts as.
    pub const fn uid(&self) -> u32 {
        self.uid
    }

    /// Returns what `RUST_LOG` asks for.
    pub(crate) fn log(&self) -> Option<&str> {
        self.log.as_deref()
    }

    /// Says whether standard error goes to the journal, which puts the time itself.
    pub(crate) const fn journal(&self) -> bool {
        self.journal
    }

    /// Returns where colours are wanted, if the arguments say `color`.
    pub fn colors(&self, color: Color) -> Colors {
        let on = |terminal: bool| match color {
            Color::Auto => terminal && !self.colorless,
            Color::Always => true,
            Color::Never => false,
        };
        Colors {
            stdout: on(std::io::stdout().is_terminal()),
            stderr: on(std::io::stderr().is_terminal()),
        }
    }
}

/// Says whether a locale's name has UTF-8 for its character set: `de_DE.UTF-8`, `C.utf8`.
fn is_utf8(locale: &str) -> bool {
    let (_, set) = locale.split_once('.').unwrap_or_default();
    let set = set.split('@').next().unwrap_or_default();
    set.eq_ignore_ascii_case("utf-8") || set.eq_ignore_ascii_case("utf8")
}

/// Returns the runtime directory of a user whose session manager named none.
fn runtime_of(uid: u32, users: &Path) -> PathBuf {
    let own = users.join(uid.to_string());
    // Root can make its own there; anybody else has one only from the session manager.
    let makeable = uid == 0 && users.parent().is_some_and(Path::is_dir);
    if own.is_dir() || makeable {
        own
    } else {
        Path::new(SHARED).join(format!("terok-{uid}"))
    }
}

/// Returns the address of a bus that listens at `socket`: what may not stand in one is written as
/// its number (D-Bus Specification, "Server Addresses").
fn bus_at(socket: &Path) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    let mut address = "unix:path=".to_owned();
    for &byte in socket.as_os_str().as_encoded_bytes() {
        match byte {
            b'-' | b'_' | b'/' | b'.' | b'*' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                address.push(char::from(byte));
            }
            byte => address.extend(['%', digit(byte >> 4), digit(byte & 15)]),
        }
    }
    address
}

/// The directory where everybody may make one.
const SHARED: &str = "/tmp";

/// Makes `directory` for the user `uid` alone, or finds that it is so already.
fn make_private(directory: &Path, uid: u32) -> anyhow::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    // Of the thing itself: a link there would be somebody else's idea.
    let found = std::fs::symlink_metadata(directory)?;
    ensure!(found.is_dir(), "it is no directory");
    ensure!(found.uid() == uid, "it belongs to user {}", found.uid());
    // Whoever may only look in finds directories of mode 0700: every socket's own.
    let for_others = found.mode() & 0o022;
    ensure!(for_others == 0, "its mode lets others write to it");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)], uid: u32, users: &Path) -> Environment {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Environment::of(&variable, uid, users)
    }

    #[test]
    fn the_runtime_directory_is_the_sessions_else_the_users_else_one_in_tmp() {
        let machine = tempfile::tempdir().unwrap();
        let users = machine.path().join("user");
        let runtime = |variables: &[_], uid| {
            environment(variables, uid, &users)
                .runtime()
                .to_str()
                .unwrap()
                .to_owned()
        };
        let own = |uid: &str| users.join(uid).to_str().unwrap().to_owned();
        assert_eq!(runtime(&[("XDG_RUNTIME_DIR", "/run/x")], 1000), "/run/x");
        assert_eq!(runtime(&[], 1000), "/tmp/terok-1000");
        assert_eq!(runtime(&[("XDG_RUNTIME_DIR", "")], 1000), "/tmp/terok-1000");
        assert_eq!(
            runtime(&[("XDG_RUNTIME_DIR", "x")], 1000),
            "/tmp/terok-1000"
        );
        assert_eq!(runtime(&[], 0), own("0"));
        std::fs::create_dir_all(users.join("1000")).unwrap();
        assert_eq!(runtime(&[], 1000), own("1000"));
    }

    #[test]
    fn a_directory_among_everybodys_is_ours_alone_or_not_used() {
        let shared = tempfile::tempdir().unwrap();
        let at = |name: &str| shared.path().join(name);
        let uid = rustix::process::geteuid().as_raw();
        let check = |name: &str, uid: u32, expected: Result<(), &str>| {
            let made = make_private(&at(name), uid).map_err(|error| error.to_string());
            assert_eq!(made, expected.map_err(str::to_owned), "{name}");
        };
        check("new", uid, Ok(()));
        assert_eq!(std::fs::metadata(at("new")).unwrap().mode() & 0o777, 0o700);
        check("new", uid, Ok(()));
        let theirs = format!("it belongs to user {uid}");
        check("new", uid + 1, Err(&theirs));
        std::os::unix::fs::symlink(at("new"), at("link")).unwrap();
        check("link", uid, Err("it is no directory"));
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o770);
        std::fs::set_permissions(at("new"), open).unwrap();
        check("new", uid, Err("its mode lets others write to it"));
    }

    #[test]
    fn files_are_where_the_xdg_variables_say() {
        let nowhere = Path::new("/nonexistent/user");
        let at_home = environment(&[("HOME", "/home/op")], 1000, nowhere);
        assert_eq!(at_home.config(), "/home/op/.config/terok-clearance");
        assert_eq!(at_home.state(), "/home/op/.local/state/terok-clearance");
        let elsewhere = environment(
            &[("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "/s")],
            1000,
            nowhere,
        );
        assert_eq!(elsewhere.config(), "/c/terok-clearance");
        assert_eq!(elsewhere.state(), "/s/terok-clearance");
    }

    #[test]
    fn the_locale_that_counts_says_what_can_be_shown() {
        let nowhere = Path::new("/nonexistent/user");
        let shows = |variables: &[_]| environment(variables, 1000, nowhere).unicode();
        assert!(shows(&[("LANG", "de_DE.UTF-8@euro")]));
        assert!(shows(&[
            ("LC_ALL", ""),
            ("LC_CTYPE", "C.utf8"),
            ("LANG", "C")
        ]));
        assert!(!shows(&[("LC_ALL", "C"), ("LANG", "C.UTF-8")]));
        assert!(!shows(&[("LANG", "en_US.ISO-8859-1")]));
        assert!(!shows(&[]));
    }

    #[test]
    fn the_session_bus_is_the_named_one_else_the_socket_of_the_session_manager() {
        let runtime = tempfile::tempdir().unwrap();
        let path = runtime.path().to_str().unwrap();
        let named = [
            ("XDG_RUNTIME_DIR", path),
            ("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=x"),
        ];
        let nowhere = Path::new("/nonexistent/user");
        let bus = |variables: &[_]| environment(variables, 1000, nowhere).bus();
        assert_eq!(bus(&named).unwrap(), "unix:abstract=x");
        assert_eq!(bus(&named[..1]), None);
        std::fs::write(runtime.path().join("bus"), "").unwrap();
        assert_eq!(bus(&named[..1]), Some(bus_at(&runtime.path().join("bus"))));
        let odd = bus_at(Path::new("/run/a b,c=é/bus"));
        assert_eq!(odd, "unix:path=/run/a%20b%2cc%3d%c3%a9/bus");
    }

    #[test]
    fn colours_are_as_asked() {
        let nowhere = Path::new("/nonexistent/user");
        let dumb = environment(&[("TERM", "dumb")], 1000, nowhere);
        let both = |on| Colors {
            stdout: on,
            stderr: on,
        };
        assert_eq!(dumb.colors(Color::Auto), both(false));
        assert_eq!(dumb.colors(Color::Always), both(true));
        let no = environment(&[("NO_COLOR", "1"), ("TERM", "xterm")], 1000, nowhere);
        assert_eq!(no.colors(Color::Auto), both(false));
        assert_eq!(no.colors(Color::Never), both(false));
    }
}
