//! The pair of sockets by which workers hand connections over, as an upgrade
//! passes it from master to master.

use std::os::fd::OwnedFd;

/// What the names in an upgrade of the two ends of the hand-off begin with; no
/// address does.
const HAND_OFF: &str = "hand-off ";

/// Their names, put before take. A version whose messages have another form does
/// not know them.
pub(crate) fn names() -> [String; 2] {
    ["put", "take"].map(|end| format!("{HAND_OFF}{} {end}", serve_net::HAND_OFF_FORM))
}

/// The pair of the master that has started this one, if messages have the same
/// form there. Otherwise there will be two pairs, and neither side leaves
/// connections to the other.
pub(crate) fn known(pair: Vec<(String, OwnedFd)>) -> Option<(OwnedFd, OwnedFd)> {
    let (told, ends): (Vec<String>, Vec<OwnedFd>) = pair.into_iter().unzip();
    match <[OwnedFd; 2]>::try_from(ends) {
        Ok([put, take]) if told == names() => Some((put, take)),
        _ => {
            log::info!("connections are not handed over between these two versions");
            None
        }
    }
}

/// Whether a socket of an upgrade is called as an end of the pair is.
pub(crate) fn is_end(name: &str) -> bool {
    name.starts_with(HAND_OFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_of_another_form_is_not_used() {
        let pair = |names: &[String]| {
            let (put, take) = serve_net::hand_off().expect("socketpair");
            known(names.iter().cloned().zip([put, take]).collect()).is_some()
        };
        let ours = names();
        assert!(ours.iter().all(|name| is_end(name)));
        assert!(pair(&ours));
        assert!(!pair(&["hand-off 1 put".to_owned(), "hand-off 1 take".to_owned()]));
        assert!(!pair(&ours[..1]));
        assert!(!pair(&[]), "an old version passes none");
    }
}
