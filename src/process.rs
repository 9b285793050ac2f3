//! What the system calls this process.

use std::ffi::CString;

use nix::sys::prctl;

/// What a process of this server is called that nobody has named.
const OWN: &str = "serve";

/// Takes a name for this process and those that it forks; of a long one, the
/// kernel keeps the first 15 bytes.
pub(crate) fn name(name: Option<&str>) {
    let taken = CString::new(name.unwrap_or(OWN)).map(|name| prctl::set_name(&name));
    if !matches!(taken, Ok(Ok(()))) {
        log::warn!("the processes cannot be called '{}'", name.unwrap_or(OWN).escape_debug());
    }
}
