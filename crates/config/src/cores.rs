//! How many CPUs this process may really use, and so how many workers suit it.
//!
//! In a container the machine's CPU count is the wrong answer: what counts is
//! the cgroup's quota and the affinity mask, and its memory limit. It reads files only, below a
//! root that tests invent. A file that is missing or cannot be understood sets
//! no limit. Called by the master at a start or a reload.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::cgroup::{self, Resource};
use crate::settings::Workers;

/// The CPUs of this process. Its `Display` is the sentence for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// CPUs in the affinity mask; `None` if the system does not say.
    pub affinity: Option<usize>,
    /// The tightest cgroup quota, in thousandths of a CPU; `None`: no quota.
    pub quota: Option<usize>,
    /// The tightest memory limit of a cgroup, in bytes; `None`: no limit.
    pub memory: Option<u64>,
}

/// What a worker needs at least: an interpreter with a framework and a small
/// application. More of them than the limit has room for would be killed.
const WORKER_MEMORY: u64 = 64 << 20;

impl Cores {
    /// Whole cores, at least 1. A part of a core counts as one: a worker too
    /// many costs less than paid time that nobody uses.
    pub fn count(&self) -> usize {
        let quota = self.quota.map_or(usize::MAX, |thousandths| thousandths.div_ceil(1000));
        self.affinity.unwrap_or(1).min(quota).max(1)
    }

    /// The default number of workers: 2 x cores + 1, at most [`Workers::MOST`]
    /// and one for every 64 MiB of memory.
    pub fn workers(&self) -> u16 {
        self.suiting_cores().min(self.fitting_memory()).max(1)
    }

    fn suiting_cores(&self) -> u16 {
        let wanted = self.count().saturating_mul(2).saturating_add(1);
        u16::try_from(wanted).unwrap_or(u16::MAX).min(Workers::MOST)
    }

    fn fitting_memory(&self) -> u16 {
        let room = self.memory.map_or(u64::MAX, |limit| limit / WORKER_MEMORY);
        u16::try_from(room).unwrap_or(u16::MAX)
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (workers, count) = (self.workers(), self.count());
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "workers={workers}: 2 x {count} core{plural} + 1")?;
        if let Some(limit) = self.memory.filter(|_| self.fitting_memory() < self.suiting_cores()) {
            let room = limit / (1 << 20);
            write!(f, ", but one for every 64 MiB of the cgroup's {room} MiB of memory")?;
        } else if workers == Workers::MOST {
            write!(f, ", at most {}", Workers::MOST)?;
        }
        match self.quota {
            Some(quota) => {
                write!(f, " (cgroup quota {}.{} CPUs", quota / 1000, quota % 1000 / 100)?
            }
            None => f.write_str(" (no cgroup quota")?,
        }
        match self.affinity {
            Some(cpus) => write!(f, ", {cpus} in the affinity mask)"),
            None => f.write_str(", affinity mask unknown)"),
        }
    }
}

/// Counts the CPUs and the memory that the files under `root` grant to this
/// process; `root` is `/` save in tests.
pub fn cores(root: &Path) -> Cores {
    let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    let quota = cgroup::limit(root, Resource::Cpu).and_then(|quota| usize::try_from(quota).ok());
    Cores { affinity: affinity(&status), quota, memory: cgroup::memory_limit(root) }
}

/// The CPUs that a process may run on, proc_pid_status(5):
/// `Cpus_allowed_list:\t0-3,8`.
fn affinity(status: &str) -> Option<usize> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    list.trim()
        .split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
            last.checked_sub(first)?.checked_add(1)
        })
        .sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A root directory with these files in it.
    pub(crate) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn cores_in(files: &[(&str, &str)]) -> Cores {
        cores(tree(files).path())
    }

    const EIGHT: (&str, &str) = ("proc/self/status", "Name:\tserve\nCpus_allowed_list:\t0-7\n");
    const V2: (&str, &str) = (
        "proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
    );
    const V1: (&str, &str) = (
        "proc/self/mountinfo",
        "32 31 0:29 / /sys/fs/cgroup/memory rw shared:8 - cgroup cgroup rw,memory\n\
         33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n",
    );

    #[test]
    fn v2_takes_the_tightest_quota_on_the_way_up() {
        let found = cores_in(&[
            EIGHT,
            V2,
            ("proc/self/cgroup", "0::/kube/pod/app\n"),
            ("sys/fs/cgroup/kube/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/kube/pod/cpu.max", "200000 100000\n"),
            ("sys/fs/cgroup/kube/pod/app/cpu.max", "400000 100000\n"),
            // A sibling is nothing to us.
            ("sys/fs/cgroup/kube/other/cpu.max", "1000 100000\n"),
        ]);
        assert_eq!(found, Cores { affinity: Some(8), quota: Some(2000), memory: None });
        assert_eq!(found.workers(), 5);
        assert_eq!(
            found.to_string(),
            "workers=5: 2 x 2 cores + 1 (cgroup quota 2.0 CPUs, 8 in the affinity mask)"
        );
    }

    #[test]
    fn v2_in_a_container_sees_its_group_as_the_root() {
        let files =
            [EIGHT, V2, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/cpu.max", "150000 100000")];
        assert_eq!(cores_in(&files).quota, Some(1500));
    }

    #[test]
    fn a_group_outside_the_namespace_is_not_followed() {
        let found = cores_in(&[
            EIGHT,
            V2,
            ("proc/self/cgroup", "0::/../neighbour\n"),
            ("sys/fs/neighbour/cpu.max", "1000 100000"),
            ("sys/fs/cgroup/cpu.max", "300000 100000"),
        ]);
        assert_eq!(found.quota, Some(3000));
    }

    #[test]
    fn v1_reads_quota_and_period() {
        let found = cores_in(&[
            EIGHT,
            V1,
            ("proc/self/cgroup", "7:memory:/other\n4:cpu,cpuacct:/docker/abc\n0::/\n"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "25000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "50000\n"),
        ]);
        assert_eq!(found.quota, Some(500));
        assert_eq!(found.count(), 1);
        assert_eq!(
            found.to_string(),
            "workers=3: 2 x 1 core + 1 (cgroup quota 0.5 CPUs, 8 in the affinity mask)"
        );
    }

    #[test]
    fn v1_in_a_container_sees_only_its_part_of_the_hierarchy() {
        let mounts = "33 31 0:30 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n";
        let found = cores_in(&[
            EIGHT,
            ("proc/self/mountinfo", mounts),
            ("proc/self/cgroup", "4:cpu:/docker/abc/inner\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "600000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu/inner/cpu.cfs_quota_us", "300000\n"),
            ("sys/fs/cgroup/cpu/inner/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(found.quota, Some(3000));
    }

    #[test]
    fn parts_of_a_core_are_rounded_up_and_the_mask_is_a_bound() {
        let count =
            |affinity, quota| Cores { affinity: Some(affinity), quota, memory: None }.count();
        assert_eq!(count(8, Some(500)), 1);
        assert_eq!(count(8, Some(1500)), 2);
        assert_eq!(count(8, Some(2000)), 2);
        assert_eq!(count(2, Some(64_000)), 2);
        assert_eq!(count(6, None), 6);
        assert_eq!(count(8, Some(0)), 1);
    }

    #[test]
    fn without_any_file_there_is_one_core() {
        let found = cores_in(&[]);
        assert_eq!(
            found.to_string(),
            "workers=3: 2 x 1 core + 1 (no cgroup quota, affinity mask unknown)"
        );
    }

    #[test]
    fn nonsense_in_a_file_sets_no_limit() {
        for nonsense in
            ["", "max", "100000 0", "-5 100000", "many 100000", "99999999999999999999 1"]
        {
            let files =
                [EIGHT, V2, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/cpu.max", nonsense)];
            assert_eq!(
                cores_in(&files),
                Cores { affinity: Some(8), quota: None, memory: None },
                "{nonsense:?}"
            );
        }
    }

    #[test]
    fn affinity_lists() {
        let count = |list: &str| affinity(&format!("Cpus_allowed_list:\t{list}\n"));
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0-3,8,10-11"), Some(7));
        assert_eq!(count("3-1"), None);
        assert_eq!(count(""), None);
        assert_eq!(affinity("Name:\tserve\n"), None);
    }

    #[test]
    fn large_machines_are_capped() {
        let huge = Cores { affinity: Some(384), quota: None, memory: None };
        assert_eq!(huge.workers(), 500);
        assert_eq!(
            huge.to_string(),
            "workers=500: 2 x 384 cores + 1, at most 500 (no cgroup quota, 384 in the affinity mask)"
        );
    }

    #[test]
    fn memory_caps_the_workers() {
        let of = |mib: u64| Cores { affinity: Some(8), quota: None, memory: Some(mib << 20) };
        assert_eq!(of(4096).workers(), 17);
        assert_eq!(of(17 * 64).workers(), 17);
        assert_eq!(of(512).workers(), 8);
        assert_eq!(of(1).workers(), 1);
        assert_eq!(
            of(512).to_string(),
            "workers=8: 2 x 8 cores + 1, but one for every 64 MiB of the cgroup's 512 MiB of \
             memory (no cgroup quota, 8 in the affinity mask)"
        );
        assert!(!of(4096).to_string().contains("memory"));
    }
}
