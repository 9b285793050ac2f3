//! Who the application runs as: the names in the settings become ids, and a
//! mold becomes them.
//!
//! The master stays what it was started as. A mold changes after it has its
//! sockets and log files and before it loads the application, so that no code
//! of the application ever runs as root, preloaded or not. The configuration
//! file is evaluated before that, because it says who to become.
//!
//! Files become the user's only when they are made here, never when they were
//! there already: in a directory of that user's they could be links to
//! anything.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::lchown;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{
    Gid, Group, Uid, User, getegid, geteuid, initgroups, setgroups, setresgid, setresuid, setuid,
};
use serve_config::Settings;

/// A user and a group that are not simply those of this process.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    uid: Uid,
    gid: Gid,
    groups: Groups,
}

/// The supplementary groups.
#[derive(Debug, Clone)]
enum Groups {
    /// The one group, and no other.
    One,
    /// All that this user is a member of.
    Of(CString),
}

impl Owner {
    /// Whom the settings name; `None` if that is who we are.
    ///
    /// # Errors
    /// A sentence for the operator: there is no such user or group, or becoming
    /// it needs a privilege that this process does not have.
    pub(crate) fn find(settings: &Settings) -> Result<Option<Self>, String> {
        let (user, group) = (settings.user.as_deref(), settings.group.as_deref());
        if user.is_none() && group.is_none() {
            return Ok(None);
        }
        let at = |name| move |reason| format!("{}: {reason}", settings.place(name));
        let entry = user.map(find_user).transpose().map_err(at("user"))?;
        let (uid, own_group) = entry.as_ref().map_or((geteuid(), Some(getegid())), Entry::ids);
        let gid = match group {
            Some(group) => find_group(group).map_err(at("group"))?,
            None => own_group.ok_or_else(|| format!(
                "{}: user {uid} has no entry in the user database, so its group is unknown: name one with --group",
                settings.place("user")
            ))?,
        };
        if !geteuid().is_root() {
            let same = (uid, gid) == (geteuid(), getegid());
            return if same { Ok(None) } else { Err(unprivileged(settings)) };
        }
        let groups = match entry {
            _ if !settings.initgroups => Groups::One,
            Some(Entry::Known(user)) => Groups::Of(c_name(&user.name)?),
            _ => {
                return Err(format!(
                    "{} needs a --user that the user database knows",
                    settings.place("initgroups")
                ));
            }
        };
        Ok(Some(Self { uid, gid, groups }))
    }

    pub(crate) fn ids(&self) -> (Uid, Gid) {
        (self.uid, self.gid)
    }

    /// Hands over a file that was just made; a link is not followed.
    pub(crate) fn give(&self, path: &Path) -> io::Result<()> {
        lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// This process becomes the owner, for good.
    ///
    /// # Errors
    /// A sentence with the call that failed; then nothing of the application
    /// may run here.
    pub(crate) fn assume(&self) -> Result<(), String> {
        let failed = |call: &str| {
            let to = format!("uid={} gid={}", self.uid, self.gid);
            let call = call.to_owned();
            move |errno: Errno| {
                let hint = match errno {
                    Errno::EPERM => {
                        "; only root can: leave --user and --group out, or start it as root"
                    }
                    _ => "",
                };
                format!("cannot become {to} ({call}): {}{hint}", errno.desc())
            }
        };
        match &self.groups {
            Groups::One => setgroups(&[self.gid]).map_err(failed("setgroups"))?,
            Groups::Of(user) => initgroups(user, self.gid).map_err(failed("initgroups"))?,
        }
        // The groups first: afterwards there is no privilege left to change them.
        setresgid(self.gid, self.gid, self.gid).map_err(failed("setresgid"))?;
        setresuid(self.uid, self.uid, self.uid).map_err(failed("setresuid"))?;
        if !self.uid.is_root() && setuid(Uid::from_raw(0)).is_ok() {
            return Err(format!("uid={} could become root again", self.uid));
        }
        Ok(())
    }
}

/// What `user` stands for.
enum Entry {
    Known(User),
    /// A number that the database does not have, as is usual in containers.
    Number(Uid),
}

impl Entry {
    fn ids(&self) -> (Uid, Option<Gid>) {
        match self {
            Self::Known(user) => (user.uid, Some(user.gid)),
            Self::Number(uid) => (*uid, None),
        }
    }
}

fn find_user(name: &str) -> Result<Entry, String> {
    let id = name.parse().ok().map(Uid::from_raw);
    let found = id.map_or_else(|| User::from_name(name), User::from_uid);
    match (found.map_err(|errno| format!("cannot look up user '{name}': {}", errno.desc()))?, id) {
        (Some(user), _) => Ok(Entry::Known(user)),
        (None, Some(uid)) => Ok(Entry::Number(uid)),
        (None, None) => Err(format!("there is no user '{name}'")),
    }
}

fn find_group(name: &str) -> Result<Gid, String> {
    if let Ok(id) = name.parse() {
        return Ok(Gid::from_raw(id));
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(format!("there is no group '{name}'")),
        Err(errno) => Err(format!("cannot look up group '{name}': {}", errno.desc())),
    }
}

fn c_name(name: &str) -> Result<CString, String> {
    CString::new(name).map_err(|_| format!("the user name '{}' has a NUL", name.escape_debug()))
}

fn unprivileged(settings: &Settings) -> String {
    let wanted = [("user", &settings.user), ("group", &settings.group)];
    let wanted: Vec<_> = wanted
        .iter()
        .filter_map(|(what, name)| name.as_ref().map(|name| format!("{what} '{name}'")))
        .collect();
    let place = settings.place(if settings.user.is_some() { "user" } else { "group" });
    format!(
        "{place}: only root can become {}: start the server as root, or leave the setting out to stay uid={} gid={}",
        wanted.join(" and "),
        geteuid(),
        getegid()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str]) -> Settings {
        let args = ["serve"].iter().chain(args).map(Into::into);
        let layer = serve_config::parse_args(args).expect("accepted").layer;
        serve_config::resolve(&[layer]).expect("accepted")
    }

    fn find(args: &[&str]) -> Result<Option<Owner>, String> {
        Owner::find(&settings(args))
    }

    #[test]
    fn without_a_name_nobody_changes() {
        assert!(find(&[]).expect("accepted").is_none());
    }

    #[test]
    fn a_name_that_nobody_has_is_told() {
        let error = find(&["--user", "no-such-user"]).expect_err("refused");
        assert_eq!(error, "--user: there is no user 'no-such-user'");
        let error = find(&["--group", "no-such-group"]).expect_err("refused");
        assert_eq!(error, "--group: there is no group 'no-such-group'");
    }

    /// No database has this number.
    #[test]
    fn a_number_without_an_entry_needs_a_group() {
        let error = find(&["--user", "3999999999"]).expect_err("refused");
        assert!(error.starts_with("--user: user 3999999999 has no entry"), "{error}");
        if geteuid().is_root() {
            let owner = find(&["--user", "3999999999", "--group", "7"])
                .expect("accepted")
                .expect("accepted");
            assert_eq!(owner.ids(), (Uid::from_raw(3_999_999_999), Gid::from_raw(7)));
            let error =
                find(&["-u", "3999999999", "-g", "7", "--initgroups"]).expect_err("refused");
            assert!(error.contains("--initgroups needs"), "{error}");
        }
    }

    #[test]
    fn who_is_not_root_can_only_stay() {
        let (uid, gid) = (geteuid().to_string(), getegid().to_string());
        if geteuid().is_root() {
            assert!(find(&["--user", &uid, "--group", &gid]).expect("accepted").is_some());
        } else {
            assert!(find(&["--user", &uid, "--group", &gid]).expect("accepted").is_none());
            let error = find(&["--user", "0"]).expect_err("refused");
            assert!(error.starts_with("--user: only root can become user '0'"), "{error}");
        }
    }
}
