// SPDX-License-Identifier: Apache-2.0
//! The system call filter of a workload: refuses calls that reach past its namespaces.
//!
//! The namespaces confine the workload; the filter covers resources without a namespace: socket
//! families that ignore network namespaces, `io_uring` (its socket operations bypass filters),
//! input injected into another terminal, kernel keyrings. Everything else stays available,
//! including the nested user namespaces of browser sandboxes.

use std::collections::BTreeMap;

use libc::{EAFNOSUPPORT, ENOSYS, EPERM};
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch, apply_filter, sock_filter,
};

/// The programs of the filter, in installation order.
///
/// Programs of another architecture (32-bit) are killed at their first system call.
#[derive(Debug)]
pub(crate) struct WorkloadSeccomp([BpfProgram; 3]);

impl WorkloadSeccomp {
    /// Compiles the filter for the machine's architecture.
    pub(crate) fn compile() -> Result<Self, BackendError> {
        let mut absent = compile_program(unsupported_syscalls(), ENOSYS)?;
        absent.splice(0..0, REFUSE_X32);
        Ok(Self([
            compile_program(socket_rules()?, EAFNOSUPPORT)?,
            compile_program(forbidden_syscalls()?, EPERM)?,
            absent,
        ]))
    }

    /// Applies the filter to the calling thread and all of its descendants.
    pub(crate) fn apply(&self) -> Result<(), Error> {
        let Self(programs) = self;
        programs
            .iter()
            .try_for_each(|program| apply_filter(program))
    }
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
