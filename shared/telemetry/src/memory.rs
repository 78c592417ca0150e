//! What a process leaves behind when it crashes: a core dump would hold every key that it has.
//!
//! *Invariant:* nothing here can be turned on again by a flag.

use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// Has the system never write this process's memory anywhere, nor let others of the same user read it. The first thing that a
/// service does, before it reads a key. The limit is for kernels that write a file; those that pipe a core to a program ignore
/// it, and mind that the process may not be dumped.
///
/// # Errors
/// If the system refuses.
pub fn forbid_core_dumps() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use nix::sys::resource::getrlimit;

    use super::*;

    #[test]
    fn no_core_is_written_nor_piped() {
        assert!(prctl::get_dumpable().unwrap());
        forbid_core_dumps().unwrap();
        assert!(!prctl::get_dumpable().unwrap());
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
    }
}
