// SPDX-License-Identifier: Apache-2.0
//! Finds the processes of a sandbox that hold a socket, and describes them.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::fs;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Dir, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use terok_clearance::DisplayText;

/// Maximum processes of one scan.
const MAX_PROCESSES: usize = 4096;
/// Maximum descriptors looked at in one process.
const MAX_FDS: usize = 1024;
/// Maximum descriptors looked at in one scan: some tens of milliseconds.
const MAX_SCANNED_FDS: usize = 65_536;
/// Maximum holders listed.
const MAX_HOLDERS: usize = 8;
/// Maximum parents listed.
const MAX_PARENTS: usize = 16;
/// Maximum arguments listed.
const MAX_ARGUMENTS: usize = 8;
/// Maximum bytes read of a command line.
const MAX_COMMAND_BYTES: u64 = 4096;
/// Maximum bytes read of a list of children: more than [`MAX_PROCESSES`] numbers, so that no number
/// is cut.
const MAX_CHILDREN_BYTES: u64 = 64 * 1024;
/// Maximum bytes read of other files, which the kernel keeps shorter.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// Searches the processes of one sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessScan {
    init: u32,
    /// `true` if the first process holds sockets of others.
    excludes_init: bool,
}

/// The processes that hold a socket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketHolders {
    /// The processes, at most 8.
    pub holders: Vec<ProcessDescription>,
    /// `true` if the list may be incomplete: a limit was reached, or a process was not readable.
    pub truncated: bool,
}

/// A process as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessDescription {
    /// The process id, in the reader's process id namespace.
    pub pid: u32,
    /// The effective user id, in the reader's user namespace.
    pub uid: Option<u32>,
    /// The name (`/proc/<pid>/comm`).
    pub name: DisplayText,
    /// The first arguments of the command line, at most 8.
    pub command: Vec<DisplayText>,
    /// The working directory, in the sandbox's file system.
    pub directory: Option<DisplayText>,
    /// Process id and name of the parents, the nearest first, up to the sandbox's first process.
    pub parents: Vec<(u32, DisplayText)>,
}

impl ProcessScan {
    /// Creates a scan of the sandbox whose first process is `init`.
    pub const fn new(init: u32) -> Self {
        Self {
            init,
            excludes_init: false,
        }
    }

    /// Creates a scan of the sandbox whose first process is `init`, and which is never a holder: it
    /// connects sockets of the others on their behalf.
    pub const fn below(init: u32) -> Self {
        Self {
            init,
            excludes_init: true,
        }
    }

    const fn is_excluded(self, pid: u32) -> bool {
        self.excludes_init && pid == self.init
    }

    /// Returns the processes that hold the socket with this inode.
    ///
    /// Descendants of the first process come first; without a holder among them, every visible
    /// process in the sandbox's pid or network namespace is looked at (`podman exec`).
    ///
    /// Blocks: reading a command line touches the memory of the process, which a workload can make
    /// slow. The caller uses a thread of its own and gives up after a time limit.
    pub fn find_holders(self, inode: u64) -> SocketHolders {
        Self::find_holders_of(&[self], inode)
    }

    /// Returns the processes that hold the socket with this inode, in a sandbox with several first
    /// processes, as [`find_holders`](Self::find_holders) does.
    pub fn find_holders_of(scans: &[Self], inode: u64) -> SocketHolders {
        let mut search = HolderSearch::new(inode);
        for search_one in [Self::search_descendants, Self::search_namespaces] {
            for scan in scans {
                if !search.over {
                    search_one(*scan, &mut search);
                }
            }
            if !search.found.is_empty() {
                break;
            }
        }
        let found = search.found.iter();
        SocketHolders {
            holders: found
                .filter_map(|(scan, pid)| scan.describe(*pid))
                .collect(),
            truncated: search.truncated,
        }
    }

    /// Returns the description of a process; `None` if it has ended.
    pub fn describe(self, pid: u32) -> Option<ProcessDescription> {
        let process = ProcessDirectory::open(pid)?;
        let status = process.read_status().unwrap_or_default();
        let name = process.read_name()?;
        Some(ProcessDescription {
            pid,
            uid: status.uid,
            name,
            directory: process.read_link(c"cwd").map(|path| display(&path)),
            parents: self.find_parents(pid, status.parent),
            command: process.read_command().unwrap_or_default(),
        })
    }

    fn search_descendants(self, search: &mut HolderSearch) {
        let mut queue = VecDeque::from([self.init]);
        let mut found: usize = 1;
        while let Some(pid) = queue.pop_front() {
            let Some(process) = ProcessDirectory::open(pid) else {
                continue;
            };
            if !self.is_excluded(pid) {
                search.visit(self, pid, &process);
            }
            if search.over {
                return;
            }
            let room = MAX_PROCESSES.saturating_sub(found);
            let children = process.read_children(room.saturating_add(1));
            if children.len() > room {
                search.truncated = true;
            }
            let before = queue.len();
            queue.extend(children.into_iter().take(room));
            found = found.saturating_add(queue.len().saturating_sub(before));
        }
    }

    fn search_namespaces(self, search: &mut HolderSearch) {
        let Some(sandbox) = ProcessDirectory::open(self.init).map(|init| init.namespaces()) else {
            return;
        };
        let Ok(entries) = fs::read_dir("/proc") else {
            return;
        };
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let mut visited: usize = 0;
        for pid in pids {
            let Some(process) = ProcessDirectory::open(pid) else {
                continue;
            };
            if self.is_excluded(pid) || !process.namespaces().shares_one_with(&sandbox) {
                continue;
            }
            visited = visited.saturating_add(1);
            if visited > MAX_PROCESSES {
                search.truncated = true;
                return;
            }
            search.visit(self, pid, &process);
            if search.over {
                return;
            }
        }
    }

    /// Returns the parents up to the first process. A chain that leaves the sandbox ends there.
    fn find_parents(self, pid: u32, parent: Option<u32>) -> Vec<(u32, DisplayText)> {
        let mut parents = Vec::new();
        let mut known_inside: usize = 0;
        let mut next = parent.filter(|_| pid != self.init);
        let sandbox = ProcessDirectory::open(self.init).map(|init| init.namespaces());
        while let Some(pid) = next.filter(|pid| *pid != 0)
            && parents.len() < MAX_PARENTS
            && let Some(process) = ProcessDirectory::open(pid)
            && let Some(name) = process.read_name()
        {
            parents.push((pid, name));
            if pid == self.init {
                return parents;
            }
            let namespaces = process.namespaces();
            if sandbox
                .as_ref()
                .is_some_and(|own| namespaces.shares_one_with(own))
            {
                known_inside = parents.len();
            }
            next = process.read_status().and_then(|status| status.parent);
        }
        parents.truncate(known_inside);
        parents
    }
}

/// The state of one search for a socket.
struct HolderSearch {
    link: Vec<u8>,
    /// The holders, each with the scan that found it.
    found: Vec<(ProcessScan, u32)>,
    scanned_fds: usize,
    truncated: bool,
    /// `true` if a limit ended the search.
    over: bool,
}

impl HolderSearch {
    fn new(inode: u64) -> Self {
        Self {
            link: format!("socket:[{inode}]").into_bytes(),
            found: Vec::new(),
            scanned_fds: 0,
            truncated: false,
            over: false,
        }
    }

    fn visit(&mut self, scan: ProcessScan, pid: u32, process: &ProcessDirectory) {
        if self.found.iter().any(|(_, found)| *found == pid) {
            return; // one first process may be below another one
        }
        match self.holds_socket(process) {
            Ok(true) if self.found.len() >= MAX_HOLDERS => {
                self.truncated = true;
                self.over = true;
            }
            Ok(true) => self.found.push((scan, pid)),
            // A process that has ended holds nothing.
            Ok(false) | Err(Errno::NOENT | Errno::SRCH) => {}
            Err(_) => self.truncated = true,
        }
    }

    fn holds_socket(&mut self, process: &ProcessDirectory) -> Result<bool, Errno> {
        let directory = process.open_file(c"fd", OFlags::DIRECTORY)?;
        let mut buffer = Vec::new();
        for (scanned, entry) in Dir::read_from(&directory)?.enumerate() {
            self.over = self.scanned_fds >= MAX_SCANNED_FDS;
            if scanned >= MAX_FDS || self.over {
                self.truncated = true;
                break;
            }
            self.scanned_fds = self.scanned_fds.saturating_add(1);
            let target = readlinkat(&directory, entry?.file_name(), buffer);
            buffer = target.map(CString::into_bytes).unwrap_or_default();
            if buffer == self.link {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// An open `/proc/<pid>`. It never refers to another process with the same number.
struct ProcessDirectory {
    directory: OwnedFd,
}

/// Parts of `/proc/<pid>/status`.
#[derive(Default)]
struct ProcessStatus {
    parent: Option<u32>,
    uid: Option<u32>,
}

/// The pid and the network namespace, `None` where not readable.
struct ProcessNamespaces([Option<Vec<u8>>; 2]);

impl ProcessNamespaces {
    fn shares_one_with(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(&other.0)
            .any(|(own, other)| own.is_some() && own == other)
    }
}

impl ProcessDirectory {
    fn open(pid: u32) -> Option<Self> {
        let path = format!("/proc/{pid}");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty()).ok()?;
        Some(Self { directory })
    }

    fn open_file(&self, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
        openat(&self.directory, name, flags, Mode::empty())
    }

    fn read(&self, name: &CStr, limit: u64) -> Option<Vec<u8>> {
        let file = fs::File::from(self.open_file(name, OFlags::empty()).ok()?);
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn read_link(&self, name: &CStr) -> Option<Vec<u8>> {
        let target = readlinkat(&self.directory, name, Vec::new()).ok()?;
        Some(target.into_bytes())
    }

    fn namespaces(&self) -> ProcessNamespaces {
        ProcessNamespaces([c"ns/pid", c"ns/net"].map(|name| self.read_link(name)))
    }

    fn read_name(&self) -> Option<DisplayText> {
        let name = self.read(c"comm", MAX_FILE_BYTES)?;
        Some(display(name.strip_suffix(b"\n").unwrap_or(&name)))
    }

    fn read_command(&self) -> Option<Vec<DisplayText>> {
        let command = self.read(c"cmdline", MAX_COMMAND_BYTES)?;
        if command.is_empty() {
            return None;
        }
        let command = command.strip_suffix(b"\0").unwrap_or(&command);
        let arguments = command.split(|byte| *byte == 0).take(MAX_ARGUMENTS);
        Some(arguments.map(display).collect())
    }

    fn read_status(&self) -> Option<ProcessStatus> {
        let status = self.read(c"status", MAX_FILE_BYTES)?;
        let status = String::from_utf8_lossy(&status);
        // The kernel escapes newlines of the name, so that no process can add lines.
        let field = |key: &str, column| {
            let values = status.lines().find_map(|line| line.strip_prefix(key))?;
            values.split_ascii_whitespace().nth(column)?.parse().ok()
        };
        Some(ProcessStatus {
            parent: field("PPid:", 0),
            uid: field("Uid:", 1),
        })
    }

    /// Returns at most `limit` children of all threads.
    fn read_children(&self, limit: usize) -> Vec<u32> {
        let mut children = Vec::new();
        let Ok(tasks) = self.open_file(c"task", OFlags::DIRECTORY) else {
            return children;
        };
        let Ok(entries) = Dir::read_from(&tasks) else {
            return children;
        };
        for entry in entries.flatten().take(MAX_PROCESSES) {
            let thread = entry.file_name();
            if thread.to_bytes().starts_with(b".") {
                continue;
            }
            let path = [thread.to_bytes(), b"/children"].concat();
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let Ok(file) = openat(&tasks, path.as_slice(), flags, Mode::empty()) else {
                continue;
            };
            let mut text = String::new();
            let read = fs::File::from(file)
                .take(MAX_CHILDREN_BYTES)
                .read_to_string(&mut text);
            if read.is_ok() {
                let pids = text.split_ascii_whitespace().flat_map(str::parse::<u32>);
                children.extend(pids.take(limit.saturating_sub(children.len())));
            }
            if children.len() >= limit {
                break;
            }
        }
        children
    }
}

fn display(bytes: &[u8]) -> DisplayText {
    DisplayText::new(&String::from_utf8_lossy(bytes))
}
