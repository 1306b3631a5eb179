//! Open files a server has no business with.

/// Closes whatever is open beyond stdin, stdout and stderr. Everything the bridge opens closes by itself when
/// a program is started; this is for what was open in the bridge before it began.
pub(super) fn close_inherited() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers: Vec<i32> = open
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        // The listing's own is among them and closed by now.
        let _ = nix::unistd::close(number);
    }
}
