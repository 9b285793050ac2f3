//! Writes the run path to the libpython this build links, so that the binary
//! never loads another minor version that happens to be the system's.

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
}
