// SPDX-License-Identifier: Apache-2.0
//! The environment and the home directory. No other module reads them.

#![expect(
    clippy::disallowed_methods,
    reason = "the only module that reads the environment"
)]

mod color_variables;
mod container_paths;
mod hook_dirs;
mod shield_paths;

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{self, ErrorKind, IsTerminal as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use terok_clearance::service::is_journal_stream;

use crate::args::ColorChoice;
use crate::output::StreamColors;

use color_variables::ColorVariables;

pub use hook_dirs::HookDirs;

/// The runtime directory cannot be used for sockets.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {} for sockets", directory.display())]
pub struct RuntimeDirError {
    directory: PathBuf,
    #[source]
    source: PrivateDirError,
}

/// A directory is not private to the user.
#[derive(Debug, thiserror::Error)]
enum PrivateDirError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("not a directory")]
    NotDirectory,
    #[error("owned by user {0}")]
    OtherOwner(u32),
    #[error("writable by other users")]
    OthersWrite,
}

/// The user's directories and the settings in the environment.
#[derive(Debug, Clone)]
pub struct UserEnvironment {
    runtime_dir: PathBuf,
    home: PathBuf,
    config_dir: PathBuf,
    state_dir: PathBuf,
    data_home: PathBuf,
    log_filter: Option<String>,
    color: ColorVariables,
    color_variable: Option<&'static str>,
    journal_stream: Option<String>,
    search_path: OsString,
    shield_state_dir: Option<PathBuf>,
    shield_config_dir: Option<PathBuf>,
    shield_data_dir: PathBuf,
    session_bus_address: Option<OsString>,
    notify_events: Option<String>,
    hotkey: Option<String>,
    terminal_type: Option<String>,
    table_columns: Option<usize>,
    is_inside_netns: bool,
    locale: Option<String>,
    uid: u32,
    variables: Vec<(OsString, OsString)>,
}

impl UserEnvironment {
    /// Reads the environment of the process. Creates no directories.
    pub fn from_process() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self {
            variables: std::env::vars_os().collect(),
            ..Self::from_variables(&|name| std::env::var_os(name), uid, Path::new("/run/user"))
        }
    }

    /// Reads the environment from `variable` for the user `uid`. `users` is the directory that
    /// contains the runtime directories of all users.
    fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>, uid: u32, users: &Path) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let text = |name| set(name).and_then(|value| value.into_string().ok());
        // Relative paths are ignored (XDG Base Directory Specification).
        let directory = |name| {
            set(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let runtime_dir =
            directory("XDG_RUNTIME_DIR").unwrap_or_else(|| default_runtime_dir(uid, users));
        let home = directory("HOME")
            .or_else(|| home_of_user(uid, Path::new(PASSWD_FILE)))
            .unwrap_or_else(|| runtime_dir.join("home"));
        let under = |name, otherwise: &str| {
            directory(name)
                .unwrap_or_else(|| home.join(otherwise))
                .join("terok-clearance")
        };
        let data_home = directory("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share"));
        Self {
            config_dir: under("XDG_CONFIG_HOME", ".config"),
            state_dir: under("XDG_STATE_HOME", ".local/state"),
            runtime_dir,
            log_filter: text("RUST_LOG"),
            color: ColorVariables::read(&set),
            color_variable: ColorVariables::first_set(&set),
            journal_stream: text("JOURNAL_STREAM"),
            search_path: set("PATH").unwrap_or_else(|| DEFAULT_SEARCH_PATH.into()),
            shield_state_dir: set("TEROK_SHIELD_STATE_DIR").map(PathBuf::from),
            shield_config_dir: set("TEROK_SHIELD_CONFIG_DIR").map(PathBuf::from),
            shield_data_dir: match (directory("TEROK_ROOT"), uid) {
                (Some(root), _) => root.join("shield"),
                (None, 0) => PathBuf::from("/var/lib/terok/shield"),
                (None, _) => data_home.join("terok/shield"),
            },
            data_home,
            home,
            session_bus_address: set("DBUS_SESSION_BUS_ADDRESS"),
            // An empty value means no popups, unlike an unset variable.
            notify_events: variable("TEROK_CLEARANCE_NOTIFY_EVENTS")
                .map(|events| events.to_string_lossy().into_owned()),
            hotkey: set("TEROK_CLEARANCE_HOTKEY")
                .map(|hotkey| hotkey.to_string_lossy().into_owned()),
            terminal_type: text("TERM"),
            table_columns: text("COLUMNS").and_then(|columns| columns.parse().ok()),
            is_inside_netns: set("_TEROK_SHIELD_NFLOG_NSENTER").is_some_and(|value| value == "1"),
            // The first set variable counts (POSIX, "Environment Variables").
            locale: ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(text),
            uid,
            variables: Vec::new(),
        }
    }

    /// Returns an environment with only these variables.
    #[cfg(test)]
    pub(crate) fn of_variables(variables: &[(&str, &str)]) -> Self {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Self {
            variables: variables
                .iter()
                .map(|(n, v)| (n.into(), v.into()))
                .collect(),
            ..Self::from_variables(&variable, 1000, Path::new("/nonexistent/user"))
        }
    }

    /// Returns the directory of all sockets, for finding sockets. The directory may not exist.
    pub fn runtime_dir(&self) -> &Path {
        &self.runtime_dir
    }

    /// Returns the same directory, for binding sockets. In the shared temporary directory it is
    /// created, or checked to be private to this user.
    pub fn private_runtime_dir(&self) -> Result<&Path, RuntimeDirError> {
        if self.runtime_dir.parent() == Some(Path::new(SHARED_TEMP_DIR)) {
            ensure_private_dir(&self.runtime_dir, self.uid).map_err(|source| RuntimeDirError {
                directory: self.runtime_dir.clone(),
                source,
            })?;
        }
        Ok(&self.runtime_dir)
    }

    /// Returns the directory of the configuration files.
    pub fn config_dir(&self) -> &Path {
        &self.config_dir
    }

    /// Returns the directory of persistent state.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Returns the directory of the data of all programs, `XDG_DATA_HOME`.
    pub fn data_home(&self) -> &Path {
        &self.data_home
    }

    /// Returns `PATH`, or the usual directories without it.
    pub const fn search_path(&self) -> &OsString {
        &self.search_path
    }

    /// Returns the first executable file called `name` in the absolute directories of `PATH`.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        netns::find_program(name, &self.search_path)
    }

    /// Returns the first such file that a sandbox of this user could not have written.
    pub fn find_protected_program(&self, name: &str) -> Option<PathBuf> {
        netns::find_protected_program(name, &self.search_path)
    }

    /// Returns `true` if a reader was started inside the network namespace of its sandbox.
    pub const fn is_inside_netns(&self) -> bool {
        self.is_inside_netns
    }

    /// Returns the root of the state directories of `terok-shield`, `TEROK_SHIELD_STATE_DIR`.
    pub fn shield_state_dir(&self) -> Option<&Path> {
        self.shield_state_dir.as_deref()
    }

    /// Returns the kinds of popups, `TEROK_CLEARANCE_NOTIFY_EVENTS`.
    pub fn notify_events(&self) -> Option<&str> {
        self.notify_events.as_deref()
    }

    /// Returns the name of the hotkey, `TEROK_CLEARANCE_HOTKEY`.
    pub fn hotkey(&self) -> Option<&str> {
        self.hotkey.as_deref()
    }

    /// Returns `true` if a session bus exists. Connecting without a session bus could start a bus.
    pub fn has_session_bus(&self) -> bool {
        self.session_bus_address.is_some() || self.runtime_dir.join("bus").exists()
    }

    /// Returns the address of the session bus: `DBUS_SESSION_BUS_ADDRESS`, else the socket of the
    /// session manager in the runtime directory.
    pub fn session_bus_address(&self) -> Option<String> {
        let said = self
            .session_bus_address
            .as_ref()
            .and_then(|bus| bus.to_str());
        said.map(str::to_owned).or_else(|| {
            let socket = self.runtime_dir.join("bus");
            socket.exists().then(|| unix_bus_address(&socket))
        })
    }

    /// Returns the set variables among `names`, for a program that receives only these.
    pub fn select_variables(&self, names: &[&str]) -> Vec<(OsString, OsString)> {
        let set = |name: &&str| Some((OsString::from(*name), std::env::var_os(name)?));
        names.iter().filter_map(set).collect()
    }

    /// Returns the type of the terminal, `TERM`.
    pub fn terminal_type(&self) -> Option<&str> {
        self.terminal_type.as_deref()
    }

    /// Returns `true` if standard input and output are a terminal that can show a screen.
    pub fn has_screen_terminal(&self) -> bool {
        io::stdin().is_terminal()
            && io::stdout().is_terminal()
            && !matches!(self.terminal_type(), None | Some("dumb" | "unknown"))
    }

    /// Returns `true` if the terminal shows Unicode according to the locale.
    pub fn supports_unicode(&self) -> bool {
        self.locale.as_deref().is_some_and(is_utf8_locale)
    }

    /// Returns the columns of the terminal at standard output: `COLUMNS`, else the terminal's, else
    /// 80; `None` if standard output is no terminal.
    pub fn table_columns(&self) -> Option<usize> {
        let stdout = io::stdout();
        let terminal = || {
            let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
            Some(usize::from(size.ws_col))
        };
        let given = self.table_columns.or_else(terminal);
        let columns = given.filter(|columns| *columns > 0).unwrap_or(80);
        stdout.is_terminal().then_some(columns)
    }

    /// Returns all variables, for a program that inherits the environment.
    pub fn variables(&self) -> &[(OsString, OsString)] {
        &self.variables
    }

    /// Returns the log filter, `RUST_LOG`.
    pub(crate) fn log_filter(&self) -> Option<&str> {
        self.log_filter.as_deref()
    }

    /// Returns `true` if standard error goes to the journal of systemd, `JOURNAL_STREAM`. The
    /// variable alone may be inherited from a service.
    pub(crate) fn logs_to_journal(&self) -> bool {
        let stream = self.journal_stream.as_deref();
        stream.is_some_and(|stream| is_journal_stream(stream, io::stderr()))
    }

    /// Returns the variable that decides about colours, if one is set.
    pub(crate) const fn color_variable(&self) -> Option<&'static str> {
        self.color_variable
    }

    /// Returns the home directory.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Returns the name of the user according to `passwd`, else the id.
    pub(crate) fn user_name(&self) -> String {
        let field = field_of_user(self.uid, Path::new(PASSWD_FILE), 0);
        field.unwrap_or_else(|| self.uid.to_string())
    }

    /// Returns the effective user id.
    pub(crate) const fn uid(&self) -> u32 {
        self.uid
    }

    /// Returns the use of colours for both streams, as requested by `color`.
    pub fn stream_colors(&self, color: ColorChoice) -> StreamColors {
        let on = |terminal: bool| match color {
            ColorChoice::Auto => self.color.allow_colors(terminal),
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        StreamColors {
            stdout: on(io::stdout().is_terminal()),
            stderr: on(io::stderr().is_terminal()),
        }
    }
}

/// The search path of a user without `PATH`, as of login(1), which `sudo` and `env -i` may remove.
const DEFAULT_SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The users of the machine, passwd(5).
const PASSWD_FILE: &str = "/etc/passwd";

/// Returns the home directory of the user `uid` according to `passwd`.
fn home_of_user(uid: u32, passwd: &Path) -> Option<PathBuf> {
    let home = PathBuf::from(field_of_user(uid, passwd, 5)?);
    home.is_absolute().then_some(home)
}

/// Returns a field of the user `uid` according to `passwd`, passwd(5).
fn field_of_user(uid: u32, passwd: &Path, field: usize) -> Option<String> {
    let users = std::fs::read_to_string(passwd).ok()?;
    let mut fields = users.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let is_user = fields.get(2)?.parse() == Ok(uid);
        is_user.then(|| fields.get(field).copied().map(str::to_owned))?
    });
    fields.next()
}

/// Returns `true` if a locale's character set is UTF-8: `de_DE.UTF-8`, `C.utf8`.
fn is_utf8_locale(locale: &str) -> bool {
    let (_, set) = locale.split_once('.').unwrap_or_default();
    let set = set.split('@').next().unwrap_or_default();
    set.eq_ignore_ascii_case("utf-8") || set.eq_ignore_ascii_case("utf8")
}

/// Returns the runtime directory of a user without `XDG_RUNTIME_DIR`.
fn default_runtime_dir(uid: u32, users: &Path) -> PathBuf {
    let own = users.join(uid.to_string());
    // Only root can create a directory there; the session manager creates those of other users.
    let makeable = uid == 0 && users.parent().is_some_and(Path::is_dir);
    if own.is_dir() || makeable {
        own
    } else {
        Path::new(SHARED_TEMP_DIR).join(format!("terok-{uid}"))
    }
}

/// Returns the D-Bus address of `socket`. Bytes that are not allowed in an address are escaped
/// (D-Bus Specification, "Server Addresses").
fn unix_bus_address(socket: &Path) -> String {
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

/// The temporary directory that all users share.
const SHARED_TEMP_DIR: &str = "/tmp";

/// Creates a private `directory`, or checks that an existing one is private to the user `uid`.
fn ensure_private_dir(directory: &Path, uid: u32) -> Result<(), PrivateDirError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    // Does not follow a symbolic link, because another user may have created the link.
    let found = std::fs::symlink_metadata(directory)?;
    if !found.is_dir() {
        return Err(PrivateDirError::NotDirectory);
    }
    if found.uid() != uid {
        return Err(PrivateDirError::OtherOwner(found.uid()));
    }
    // Read access is harmless: each socket has a directory of mode 0700.
    if found.mode() & 0o022 != 0 {
        return Err(PrivateDirError::OthersWrite);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)], uid: u32, users: &Path) -> UserEnvironment {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        UserEnvironment::from_variables(&variable, uid, users)
    }

    #[test]
    fn the_runtime_directory_is_the_sessions_or_the_users_or_in_tmp() {
        let machine = tempfile::tempdir().unwrap();
        let users = machine.path().join("user");
        let runtime = |variables: &[_], uid| {
            environment(variables, uid, &users)
                .runtime_dir()
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
    fn a_directory_in_the_shared_one_is_private_or_refused() {
        let shared = tempfile::tempdir().unwrap();
        let at = |name: &str| shared.path().join(name);
        let uid = rustix::process::geteuid().as_raw();
        let check = |name: &str, uid: u32, expected: Result<(), &str>| {
            let made = ensure_private_dir(&at(name), uid).map_err(|error| error.to_string());
            assert_eq!(made, expected.map_err(str::to_owned), "{name}");
        };
        check("new", uid, Ok(()));
        assert_eq!(std::fs::metadata(at("new")).unwrap().mode() & 0o777, 0o700);
        check("new", uid, Ok(()));
        let theirs = format!("owned by user {uid}");
        check("new", uid + 1, Err(&theirs));
        std::os::unix::fs::symlink(at("new"), at("link")).unwrap();
        check("link", uid, Err("not a directory"));
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o770);
        std::fs::set_permissions(at("new"), open).unwrap();
        check("new", uid, Err("writable by other users"));
    }

    #[test]
    fn directories_follow_the_xdg_variables() {
        let nowhere = Path::new("/nonexistent/user");
        let at_home = environment(&[("HOME", "/home/op")], 1000, nowhere);
        assert_eq!(at_home.config_dir(), "/home/op/.config/terok-clearance");
        assert_eq!(at_home.state_dir(), "/home/op/.local/state/terok-clearance");
        let elsewhere = environment(
            &[("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "/s")],
            1000,
            nowhere,
        );
        assert_eq!(elsewhere.config_dir(), "/c/terok-clearance");
        assert_eq!(elsewhere.state_dir(), "/s/terok-clearance");
    }

    #[test]
    fn the_first_set_locale_variable_decides_about_unicode() {
        let nowhere = Path::new("/nonexistent/user");
        let shows = |variables: &[_]| environment(variables, 1000, nowhere).supports_unicode();
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
    fn the_session_bus_is_the_named_one_or_the_session_managers() {
        let runtime = tempfile::tempdir().unwrap();
        let path = runtime.path().to_str().unwrap();
        let named = [
            ("XDG_RUNTIME_DIR", path),
            ("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=x"),
        ];
        let nowhere = Path::new("/nonexistent/user");
        let bus = |variables: &[_]| environment(variables, 1000, nowhere).session_bus_address();
        assert_eq!(bus(&named).unwrap(), "unix:abstract=x");
        assert_eq!(bus(&named[..1]), None);
        std::fs::write(runtime.path().join("bus"), "").unwrap();
        assert_eq!(
            bus(&named[..1]),
            Some(unix_bus_address(&runtime.path().join("bus")))
        );
        let odd = unix_bus_address(Path::new("/run/a b,c=é/bus"));
        assert_eq!(odd, "unix:path=/run/a%20b%2cc%3d%c3%a9/bus");
    }

    #[test]
    fn the_first_variable_that_is_set_decides_about_colours() {
        use ColorVariables::{Force, Never, Terminals};

        let nowhere = Path::new("/nonexistent/user");
        let check = |variables: &[(&str, &str)], expected: ColorVariables| {
            let found = environment(variables, 1000, nowhere);
            assert_eq!(found.color, expected, "{variables:?}");
            let both = |on| StreamColors {
                stdout: on,
                stderr: on,
            };
            // The argument outweighs all variables.
            assert_eq!(found.stream_colors(ColorChoice::Always), both(true));
            assert_eq!(found.stream_colors(ColorChoice::Never), both(false));
        };
        check(&[], Terminals);
        check(&[("TERM", "dumb")], Never);
        check(&[("TERM", "xterm")], Terminals);
        check(&[("NO_COLOR", "")], Terminals);
        for no in ["1", "0", "x"] {
            check(
                &[
                    ("NO_COLOR", no),
                    ("FORCE_COLOR", "1"),
                    ("CLICOLOR_FORCE", "1"),
                ],
                Never,
            );
        }
        check(
            &[("FORCE_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")],
            Force,
        );
        check(&[("FORCE_COLOR", "true")], Force);
        check(&[("FORCE_COLOR", "0"), ("CLICOLOR_FORCE", "1")], Never);
        check(&[("FORCE_COLOR", ""), ("CLICOLOR_FORCE", "1")], Force);
        check(&[("CLICOLOR_FORCE", "1"), ("CLICOLOR", "0")], Force);
        check(&[("CLICOLOR_FORCE", "0")], Terminals);
        check(&[("CLICOLOR_FORCE", "0"), ("CLICOLOR", "0")], Never);
        check(&[("CLICOLOR", "1")], Terminals);
        check(&[("CLICOLOR", "0")], Never);
    }

    #[test]
    fn a_missing_home_directory_is_that_of_the_user() {
        let machine = tempfile::tempdir().unwrap();
        let passwd = machine.path().join("passwd");
        std::fs::write(
            &passwd,
            "root:x:0:0:root:/root:/bin/sh\n# x\nop:x:1000:1000:Op, Erator:/home/op:/bin/bash\n\
             none:x:1001:1001:::\nodd:x:1002\n",
        )
        .unwrap();
        let home = |uid| home_of_user(uid, &passwd);
        assert_eq!(home(0), Some("/root".into()));
        assert_eq!(home(1000), Some("/home/op".into()));
        for uid in [1001, 1002, 1003] {
            assert_eq!(home(uid), None);
        }
        assert_eq!(home_of_user(0, Path::new("/nonexistent")), None);
        let nowhere = Path::new("/nonexistent/user");
        let unknown = environment(&[("XDG_RUNTIME_DIR", "/run/x")], u32::MAX - 7, nowhere);
        assert_eq!(
            unknown.state_dir(),
            "/run/x/home/.local/state/terok-clearance"
        );
        assert!(unknown.find_program("sh").is_some());
    }
}
