// SPDX-License-Identifier: Apache-2.0
//! The system call filter of a workload: refuses calls that reach past its namespaces.
//!
//! The namespaces confine the workload; the filter covers resources without a namespace: socket
//! families that ignore network namespaces, unix datagram sockets (each datagram may name another
//! receiver, in memory that a filter does not see), `io_uring` (its socket operations bypass
//! filters), input injected into another terminal, kernel keyrings. Everything else stays
//! available, including the nested user namespaces of browser sandboxes.
//!
//! The last program hands `connect` and `bind` to the init process: see
//! [`super::socket_broker`].

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use libc::{EAFNOSUPPORT, ENOSYS, EPERM, ESOCKTNOSUPPORT};
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch, apply_filter, sock_filter,
};

use crate::sys::seccomp::apply_notifying_filter;

/// The programs of the filter, in installation order.
///
/// Programs of another architecture (32-bit) are killed at their first system call.
#[derive(Debug)]
pub(crate) struct WorkloadSeccomp {
    refusing: [BpfProgram; 4],
    notifying: [sock_filter; 5],
}

impl WorkloadSeccomp {
    /// Compiles the filter for the machine's architecture.
    pub(crate) fn compile() -> Result<Self, BackendError> {
        let mut absent = compile_program(unsupported_syscalls(), ENOSYS)?;
        absent.splice(0..0, REFUSE_X32);
        Ok(Self {
            refusing: [
                compile_program(socket_rules()?, EAFNOSUPPORT)?,
                compile_program(unix_socket_rules()?, ESOCKTNOSUPPORT)?,
                compile_program(forbidden_syscalls()?, EPERM)?,
                absent,
            ],
            notifying: notifying_filter(),
        })
    }

    /// Applies the filter to the calling thread and all of its descendants. Returns the descriptor
    /// for the socket broker.
    pub(crate) fn apply(&self) -> Result<OwnedFd, FilterError> {
        for program in &self.refusing {
            apply_filter(program)?;
        }
        Ok(apply_notifying_filter(&self.notifying)?)
    }
}

/// The filter could not be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    #[error(transparent)]
    Refusing(#[from] Error),
    #[error("this kernel does not report system calls to the sandbox")]
    Notifying(#[from] std::io::Error),
}

type SyscallRules = BTreeMap<i64, Vec<SeccompRule>>;

fn compile_program(rules: SyscallRules, errno: i32) -> Result<BpfProgram, BackendError> {
    let refused = SeccompAction::Errno(errno.unsigned_abs());
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()
}

/// Socket families confined to the network namespace or to local processes, unlike `AF_VSOCK`,
/// `AF_PACKET` and `AF_BLUETOOTH`.
const ALLOWED_SOCKET_FAMILIES: [i32; 4] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

fn socket_rules() -> Result<SyscallRules, BackendError> {
    let argument = |index, compare, value: i32| {
        SeccompCondition::new(index, Dword, compare, u64::from(value.unsigned_abs()))
    };
    let none_of = ALLOWED_SOCKET_FAMILIES
        .into_iter()
        .map(|family| argument(0, SeccompCmpOp::Ne, family));
    let foreign = SeccompRule::new(none_of.collect::<Result<_, _>>()?)?;
    let netlink = SeccompRule::new(vec![
        argument(0, SeccompCmpOp::Eq, libc::AF_NETLINK)?,
        argument(2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE)?,
    ])?;
    let pair = foreign.clone();
    Ok([
        (libc::SYS_socket, vec![foreign, netlink]),
        (libc::SYS_socketpair, vec![pair]),
    ]
    .into())
}

/// Types of unix sockets whose only peer is the one they are connected to.
const CONNECTED_SOCKET_TYPES: [i32; 2] = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET];
/// The bits of the type in an argument that has flags too (`SOCK_TYPE_MASK`).
const SOCKET_TYPE_MASK: i32 = 0xf;

/// Refuses all other types of unix sockets; `SOCK_RAW` makes a datagram socket too.
fn unix_socket_rules() -> Result<SyscallRules, BackendError> {
    let others = (0..=SOCKET_TYPE_MASK).filter(|kind| !CONNECTED_SOCKET_TYPES.contains(kind));
    let rule = |kind: i32| {
        let masked = SeccompCmpOp::MaskedEq(u64::from(SOCKET_TYPE_MASK.unsigned_abs()));
        SeccompRule::new(vec![
            SeccompCondition::new(
                0,
                Dword,
                SeccompCmpOp::Eq,
                u64::from(libc::AF_UNIX.unsigned_abs()),
            )?,
            SeccompCondition::new(1, Dword, masked, u64::from(kind.unsigned_abs()))?,
        ])
    };
    let rules: Vec<_> = others.map(rule).collect::<Result<_, _>>()?;
    Ok([
        (libc::SYS_socket, rules.clone()),
        (libc::SYS_socketpair, rules),
    ]
    .into())
}

/// Two requests that inject characters into a terminal's input. The numbers are equal on all
/// architectures supported by the filter.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

fn forbidden_syscalls() -> Result<SyscallRules, BackendError> {
    let mut rules: SyscallRules = [
        libc::SYS_acct,
        libc::SYS_add_key,
        libc::SYS_bpf,
        libc::SYS_delete_module,
        libc::SYS_finit_module,
        libc::SYS_init_module,
        libc::SYS_kexec_file_load,
        libc::SYS_kexec_load,
        libc::SYS_keyctl,
        libc::SYS_open_by_handle_at,
        libc::SYS_perf_event_open,
        libc::SYS_reboot,
        libc::SYS_request_key,
        libc::SYS_swapoff,
        libc::SYS_swapon,
        libc::SYS_syslog,
        libc::SYS_userfaultfd,
    ]
    .into_iter()
    .map(|number| (number, Vec::new()))
    .collect();
    let typing = [TIOCSTI, TIOCLINUX].into_iter().map(|request| {
        SeccompRule::new(vec![SeccompCondition::new(
            1,
            Dword,
            SeccompCmpOp::Eq,
            request,
        )?])
    });
    rules.insert(libc::SYS_ioctl, typing.collect::<Result<_, _>>()?);
    Ok(rules)
}

fn unsupported_syscalls() -> SyscallRules {
    [
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ]
    .into_iter()
    .map(|number| (number, Vec::new()))
    .collect()
}

/// Reports `connect` and `bind` to the descriptor of the filter. The other programs refuse foreign
/// architectures, with other numbers of system calls.
fn notifying_filter() -> [sock_filter; 5] {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let instruction = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    [
        instruction(LOAD_WORD, 0, 0, 0), // the number
        instruction(JUMP_IF_EQUAL, CONNECT_NUMBER, 1, 0),
        instruction(JUMP_IF_EQUAL, BIND_NUMBER, 0, 1),
        instruction(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0),
        instruction(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the numbers of system calls are small"
)]
const CONNECT_NUMBER: u32 = libc::SYS_connect as u32;
#[expect(
    clippy::cast_possible_truncation,
    reason = "the numbers of system calls are small"
)]
const BIND_NUMBER: u32 = libc::SYS_bind as u32;

/// Refuses x86-64's second system call numbering (x32): it passes for the expected architecture
/// with numbers that the rules do not list. No other architecture has numbers so high.
const REFUSE_X32: [sock_filter; 3] = [
    // load the number
    sock_filter {
        code: 0x20,
        jt: 0,
        jf: 0,
        k: 0,
    },
    // below 0x4000_0000: skip the next instruction
    sock_filter {
        code: 0x35,
        jt: 0,
        jf: 1,
        k: 0x4000_0000,
    },
    // refuse: SECCOMP_RET_ERRNO | ENOSYS
    sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ERRNO | ENOSYS.unsigned_abs(),
    },
];
