//! What the cgroup of this process, v1 or v2, and all above it grant: the
//! tightest of them counts.
//!
//! Reads files only, below a root that tests invent. A file that is missing or
//! cannot be understood sets no limit. Called by the master at a start or a
//! reload.

use std::fs;
use std::path::{Component, Path};

/// What a cgroup can limit.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Resource {
    /// In thousandths of a CPU.
    Cpu,
    /// In bytes.
    Memory,
}

impl Resource {
    /// The name of the controller, cgroups(7).
    fn controller(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

/// How many bytes of memory the files under `root` grant to this process and
/// all others in its cgroup; `root` is `/` save in tests. `None`: no limit.
pub fn memory_limit(root: &Path) -> Option<u64> {
    limit(root, Resource::Memory)
}

/// How many bytes of memory this process can count on at most: those of its
/// cgroup, else the machine's; `root` as for [`memory_limit`]. 0: unknown.
pub fn memory(root: &Path) -> u64 {
    memory_limit(root).unwrap_or_else(|| {
        // proc_meminfo(5): "MemTotal:   16384 kB".
        let text = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib = total.and_then(|total| total.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or(0).saturating_mul(1024)
    })
}

/// The tightest limit; `None`: there is none.
pub(crate) fn limit(root: &Path, resource: Resource) -> Option<u64> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let groups = read("proc/self/cgroup");
    read("proc/self/mountinfo")
        .lines()
        .filter_map(|line| Mount::parse(line, resource))
        .filter_map(|mount| mount.limit(root, mount.group(&groups)?))
        .min()
}

/// A mounted cgroup hierarchy that can limit the resource, proc_pid_mountinfo(5).
struct Mount<'a> {
    resource: Resource,
    version: Version,
    /// Which group of the hierarchy is seen at `point`: in a container of v1,
    /// its own.
    top: &'a str,
    point: &'a str,
}

#[derive(Clone, Copy, PartialEq)]
enum Version {
    V1,
    V2,
}

impl<'a> Mount<'a> {
    /// `31 23 0:28 /top /point rw,relatime shared:9 - cgroup cgroup rw,cpu`
    fn parse(line: &'a str, resource: Resource) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (top, point) = (mount.next()?, mount.next()?);
        let mut filesystem = filesystem.split(' ');
        let (kind, options) = (filesystem.next()?, filesystem.nth(1)?);
        let version = match kind {
            "cgroup2" => Version::V2,
            "cgroup" if options.split(',').any(|option| option == resource.controller()) => {
                Version::V1
            }
            _ => return None,
        };
        Some(Self { resource, version, top, point })
    }

    /// The process's group in this hierarchy, cgroups(7): `0::/group` for v2,
    /// `4:cpu,cpuacct:/group` for v1.
    fn group<'g>(&self, groups: &'g str) -> Option<&'g str> {
        groups.lines().find_map(|line| {
            let (id, rest) = line.split_once(':')?;
            let (controllers, group) = rest.split_once(':')?;
            let ours = match self.version {
                Version::V1 => {
                    let ours = self.resource.controller();
                    controllers.split(',').any(|controller| controller == ours)
                }
                Version::V2 => id == "0" && controllers.is_empty(),
            };
            ours.then_some(group)
        })
    }

    /// The tightest limit of `group` and the groups above it, as far as they
    /// are mounted.
    fn limit(&self, root: &Path, group: &str) -> Option<u64> {
        let point = root.join(self.point.trim_start_matches('/'));
        // A group outside of what is mounted (a namespace shows it as `/..`)
        // cannot be looked at, but the mounted ones above ours can.
        let below = Path::new(group)
            .strip_prefix(self.top)
            .ok()
            .filter(|below| below.components().all(|part| matches!(part, Component::Normal(_))))
            .unwrap_or(Path::new(""));
        below.ancestors().filter_map(|group| self.own_limit(&point.join(group))).min()
    }

    /// The limit that a group itself has.
    fn own_limit(&self, group: &Path) -> Option<u64> {
        let read = |file: &str| fs::read_to_string(group.join(file)).ok();
        let text = match (self.resource, self.version) {
            (Resource::Cpu, Version::V1) => {
                [read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?].join(" ")
            }
            (Resource::Cpu, Version::V2) => read("cpu.max")?,
            (Resource::Memory, Version::V1) => read("memory.limit_in_bytes")?,
            (Resource::Memory, Version::V2) => read("memory.max")?,
        };
        // No limit is `-1` in v1 and `max` in v2: neither is a number here.
        let mut numbers = text.split_whitespace().map(|number| number.parse::<u64>().ok());
        let first = numbers.next()??;
        match self.resource {
            Resource::Cpu => first.checked_mul(1000)?.checked_div(numbers.next()??),
            // In v1, no limit is the largest whole number of pages.
            Resource::Memory => Some(first).filter(|bytes| *bytes < 1 << 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory limit that these files come to.
    fn memory(files: &[(&str, &str)]) -> Option<u64> {
        memory_limit(crate::cores::tests::tree(files).path())
    }

    const V2: (&str, &str) =
        ("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
    const V1: (&str, &str) = (
        "proc/self/mountinfo",
        "32 31 0:29 / /sys/fs/cgroup/memory rw shared:8 - cgroup cgroup rw,memory\n\
         33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n",
    );

    #[test]
    fn v2_takes_the_tightest_memory_limit_on_the_way_up() {
        let group = ("proc/self/cgroup", "0::/pod/app\n");
        let pod = ("sys/fs/cgroup/pod/memory.max", "268435456\n");
        let app = |limit| ("sys/fs/cgroup/pod/app/memory.max", limit);
        assert_eq!(memory(&[V2, group, pod, app("max\n")]), Some(256 << 20));
        assert_eq!(memory(&[V2, group, pod, app("1048576\n")]), Some(1 << 20));
        assert_eq!(memory(&[V2, group, app("max\n")]), None);
    }

    #[test]
    fn without_a_limit_there_is_the_memory_of_the_machine() {
        let of = |files: &[(&str, &str)]| crate::memory(crate::cores::tests::tree(files).path());
        let meminfo = ("proc/meminfo", "MemTotal:        2048 kB\nMemFree:  1 kB\n");
        assert_eq!(of(&[meminfo]), 2 << 20);
        assert_eq!(of(&[("proc/meminfo", "MemTotal: many\n")]), 0);
        let group = ("proc/self/cgroup", "0::/pod/app\n");
        let pod = ("sys/fs/cgroup/pod/memory.max", "1048576\n");
        assert_eq!(of(&[V2, group, pod, meminfo]), 1 << 20);
    }

    #[test]
    fn v1_has_a_hierarchy_for_memory_and_a_number_for_no_limit() {
        let group = ("proc/self/cgroup", "7:memory:/app\n4:cpu,cpuacct:/other\n0::/\n");
        let limit = |limit| ("sys/fs/cgroup/memory/app/memory.limit_in_bytes", limit);
        let elsewhere = ("sys/fs/cgroup/memory/other/memory.limit_in_bytes", "1");
        assert_eq!(memory(&[V1, group, elsewhere, limit("536870912\n")]), Some(512 << 20));
        assert_eq!(memory(&[V1, group, elsewhere, limit("9223372036854771712\n")]), None);
    }
}
