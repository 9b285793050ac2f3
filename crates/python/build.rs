//! Lets this crate's own tests find the libpython they were linked with.

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
}
