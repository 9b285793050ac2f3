//! The memory cgroup that this process is in: how many of its processes the kernel has killed
//! because memory ran out.
//!
//! Read-only, both versions (cgroups(7)): `memory.events` of v2, `memory.oom_control` of v1, each
//! with a line `oom_kill N`. A system without either simply does not tell.

use std::fs;
use std::path::{Path, PathBuf};

use crate::worker::Ms;

/// A kill that was counted this long ago has had its death reaped: whoever dies by SIGKILL now was
/// killed by somebody else.
const FRESH: Ms = 10_000;

/// Whether the kernel killed a child for want of memory.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum OutOfMemory {
    Yes,
    No,
    /// There is no counter here.
    #[default]
    Unknown,
}

/// The kernel's counter, and which of its kills no death was put down to yet.
#[derive(Debug)]
pub(crate) struct OomKills {
    file: Option<PathBuf>,
    counted: u64,
    unclaimed: u64,
    /// When `unclaimed` rose.
    rose: Ms,
}

impl OomKills {
    /// `root` is `/` but in tests.
    pub(crate) fn find(root: &Path) -> Self {
        let file = memory_directories(root)
            .into_iter()
            .flat_map(|directory| {
                ["memory.events", "memory.oom_control"].map(|it| directory.join(it))
            })
            .find(|file| oom_kills(file).is_some());
        let counted = file.as_deref().and_then(oom_kills).unwrap_or(0);
        Self { file, counted, unclaimed: 0, rose: 0 }
    }

    /// Reads the counter. Looking often is what tells an old kill, of some process that is none of
    /// the workers, from the one that is asked about later.
    pub(crate) fn look(&mut self, now: Ms) {
        let Some(count) = self.file.as_deref().and_then(oom_kills) else { return };
        if count > self.counted {
            self.unclaimed += count - self.counted;
            self.rose = now;
        } else if now > self.rose + FRESH {
            self.unclaimed = 0;
        }
        self.counted = count;
    }

    /// Whether a child that died by SIGKILL just now is one of those the kernel counted; each kill
    /// explains one death.
    pub(crate) fn claim(&mut self, now: Ms) -> OutOfMemory {
        if self.file.is_none() {
            return OutOfMemory::Unknown;
        }
        self.look(now);
        if self.unclaimed == 0 {
            return OutOfMemory::No;
        }
        self.unclaimed -= 1;
        OutOfMemory::Yes
    }
}

fn oom_kills(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Where the files of this process's memory cgroup may be, the likeliest first. In a container the
/// mount may show a part of the hierarchy only, or the path may be one of the host.
fn memory_directories(root: &Path) -> Vec<PathBuf> {
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
    let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let mut directories = Vec::new();
    for line in groups.lines() {
        // 4:memory:/path, or 0::/path in v2.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let of_memory = controllers.split(',').any(|controller| controller == "memory");
        if of_memory || controllers.is_empty() {
            let mount =
                mounts.lines().filter_map(Mount::parse).find(|mount| mount.is_of(of_memory));
            directories.extend(mount.into_iter().flat_map(|mount| mount.directories(root, path)));
        }
    }
    directories
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
struct Mount<'a> {
    /// What part of the hierarchy is mounted.
    part: &'a str,
    place: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let mut right = right.split(' ');
        Some(Self {
            part: left.next()?,
            place: left.next()?,
            kind: right.next()?,
            options: right.nth(1)?,
        })
    }

    /// Of v1's memory controller, or of v2.
    fn is_of(&self, memory: bool) -> bool {
        match memory {
            true => {
                self.kind == "cgroup" && self.options.split(',').any(|option| option == "memory")
            }
            false => self.kind == "cgroup2",
        }
    }

    fn directories(&self, root: &Path, path: &str) -> [PathBuf; 2] {
        let place = root.join(self.place.trim_start_matches('/'));
        let below = path.strip_prefix(self.part.trim_end_matches('/')).unwrap_or(path);
        [place.join(below.trim_start_matches('/')), place]
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::getpid;

    use super::*;

    /// A file tree of its own, removed at the end.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let tree = Self(std::env::temp_dir().join(format!("serve-cgroup-{}-{name}", getpid())));
            files.iter().for_each(|(path, text)| tree.write(path, text));
            tree
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";

    #[test]
    fn version_2_is_found_and_a_rise_explains_one_death() {
        let events = "sys/fs/cgroup/app.slice/memory.events";
        let tree = Tree::new(
            "v2",
            &[
                ("proc/self/cgroup", "0::/app.slice\n"),
                ("proc/self/mountinfo", V2),
                (events, "low 0\nhigh 0\nmax 7\noom 3\noom_kill 3\noom_group_kill 0\n"),
            ],
        );
        let mut kills = OomKills::find(&tree.0);
        assert_eq!(kills.claim(1_000), OutOfMemory::No, "those of before are not ours");
        tree.write(events, "oom_kill 4\n");
        assert_eq!(kills.claim(2_000), OutOfMemory::Yes);
        assert_eq!(kills.claim(2_001), OutOfMemory::No, "one kill, one death");
    }

    #[test]
    fn a_rise_that_was_seen_early_counts_until_it_is_old() {
        let events = "sys/fs/cgroup/memory.events";
        let files =
            [("proc/self/cgroup", "0::/\n"), ("proc/self/mountinfo", V2), (events, "oom_kill 0\n")];
        let tree = Tree::new("early", &files);
        let mut kills = OomKills::find(&tree.0);
        for (later, expected) in [(FRESH, OutOfMemory::Yes), (FRESH + 1, OutOfMemory::No)] {
            kills.counted = 0;
            tree.write(events, "oom_kill 1\n");
            kills.look(1_000);
            assert_eq!(kills.claim(1_000 + later), expected);
        }
    }

    #[test]
    fn version_1_is_found_in_a_container_s_part_of_the_hierarchy() {
        let tree = Tree::new(
            "v1",
            &[
                ("proc/self/cgroup", "5:cpu,cpuacct:/docker/7f\n4:memory:/docker/7f\n0::/\n"),
                (
                    "proc/self/mountinfo",
                    "40 39 0:34 /docker/7f /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n\
                     41 39 0:35 /docker/7f /sys/fs/cgroup/memory ro master:9 - cgroup cgroup rw,memory\n",
                ),
                (
                    "sys/fs/cgroup/memory/memory.oom_control",
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 12\n",
                ),
            ],
        );
        let mut kills = OomKills::find(&tree.0);
        assert_eq!((kills.counted, kills.claim(1)), (12, OutOfMemory::No));
    }

    #[test]
    fn without_a_counter_nothing_is_claimed() {
        let tree = Tree::new("none", &[("proc/self/cgroup", "0::/\n")]);
        assert_eq!(OomKills::find(&tree.0).claim(1), OutOfMemory::Unknown);
    }
}
