//! Calls of the kernel a server has no need of: those that reach into other processes, into the kernel, or into
//! the shape of the system. A list of what is refused, since what any server may need is not known.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::{Level, Sandbox};

/// Refused at every level.
const REFUSED: [libc::c_long; 52] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    // Behind these a filter sees no calls.
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_nfsservctl,
];

/// Refused at [`Level::Strict`], too. Browsers build their own sandboxes with these.
const REFUSED_STRICTLY: [libc::c_long; 3] = [libc::SYS_chroot, libc::SYS_setns, libc::SYS_unshare];

/// New namespaces by `clone`, whose flags a filter can see.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// The same calls by their x32 numbers, which a filter for x86-64 lets through.
#[cfg(target_arch = "x86_64")]
const X32_BIT: libc::c_long = 0x4000_0000;

/// Rules by the number of a call; a call without rules is refused whatever its arguments are.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Refuses the calls from here on.
///
/// # Errors
/// Why they are not refused, in words.
pub(super) fn deny(asked: &Sandbox) -> Result<(), String> {
    let told = |error: seccompiler::Error| format!("seccomp: {error}");
    for (rules, errno) in filters(asked).map_err(|error| format!("seccomp: {error}"))? {
        let program = compiled(rules, errno)?;
        apply_filter(&program).map_err(told)?;
    }
    Ok(())
}

fn filters(asked: &Sandbox) -> Result<Vec<(Rules, libc::c_int)>, seccompiler::BackendError> {
    let strict = asked.level == Level::Strict;
    let mut refused: Vec<libc::c_long> = REFUSED.to_vec();
    if strict {
        refused.extend(REFUSED_STRICTLY);
    }
    #[cfg(target_arch = "x86_64")]
    refused.extend(refused.clone().iter().map(|number| number | X32_BIT));
    let mut rules: Rules = refused
        .into_iter()
        .map(|number| (number, Vec::new()))
        .collect();
    if asked.no_network {
        let family = u64::try_from(libc::AF_UNIX).unwrap_or_default();
        let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)?;
        rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![other])?]);
    }
    let mut filters = Vec::new();
    if strict {
        let mut namespaces = Vec::new();
        for bit in (0..31).map(|place| 1 << place) {
            if NAMESPACES & bit != 0 {
                let bit = u64::try_from(bit).unwrap_or_default();
                let equal = SeccompCmpOp::MaskedEq(bit);
                let set = SeccompCondition::new(0, SeccompCmpArgLen::Qword, equal, bit)?;
                namespaces.push(SeccompRule::new(vec![set])?);
            }
        }
        rules.insert(libc::SYS_clone, namespaces);
        // Its flags stand in memory, where no filter sees them: the C library falls back to `clone`.
        let unseen = Rules::from([(libc::SYS_clone3, Vec::new())]);
        filters.push((unseen, libc::ENOSYS));
    }
    filters.push((rules, libc::EPERM));
    Ok(filters)
}

fn compiled(rules: Rules, errno: libc::c_int) -> Result<BpfProgram, String> {
    let told = |error: seccompiler::BackendError| format!("seccomp: {error}");
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(told)?;
    let refuse = SeccompAction::Errno(u32::try_from(errno).unwrap_or_default());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).map_err(told)?;
    BpfProgram::try_from(filter).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_compiles_to_a_filter_the_kernel_has_room_for() {
        for level in [Level::Basic, Level::Strict] {
            for no_network in [false, true] {
                let asked = Sandbox {
                    level,
                    no_network,
                    ..Sandbox::default()
                };
                for (rules, errno) in filters(&asked).unwrap() {
                    assert!(compiled(rules, errno).unwrap().len() < 4096);
                }
            }
        }
    }
}
