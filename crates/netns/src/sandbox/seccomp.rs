// SPDX-License-Identifier: Apache-2.0
//! The system calls that a workload may not make, because they reach past its namespaces.
//!
//! The namespaces are the wall; the filter closes what has no namespace: socket families that
//! ignore the network namespace, `io_uring` (whose socket operations no filter sees), input typed
//! into somebody else's terminal, the kernel's keyrings. Everything else stays as it is: nested
//! user namespaces, which browsers use for their own sandbox, too.

use std::collections::BTreeMap;

use libc::{EAFNOSUPPORT, ENOSYS, EPERM};
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch, apply_filter, sock_filter,
};

/// The programs of the filter, in the order in which they are to be installed.
///
/// Programs of another architecture (32-bit ones) are killed at their first system call.
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

    /// Puts the calling thread, and all it ever starts, under the filter.
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

/// Socket families that stay inside the network namespace, or between processes. `AF_VSOCK`,
/// `AF_PACKET`, `AF_BLUETOOTH` and whatever the future brings do not.
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

/// Two requests that put characters into a terminal's input, as if its user had typed them. The
/// numbers are those of all architectures that the filter knows.
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

/// Refuses x86-64's second numbering of the system calls (x32): it passes for the architecture
/// expected, with numbers that the rules do not name. No other architecture has numbers so high.
const REFUSE_X32: [sock_filter; 3] = [
    // load the number
    sock_filter {
        code: 0x20,
        jt: 0,
        jf: 0,
        k: 0,
    },
    // if it is 0x4000_0000 or more, fall through, else skip one
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
