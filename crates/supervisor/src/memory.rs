//! What workers weigh, as the kernel tells (proc_pid_status(5)), and which of them are too heavy.
//!
//! Looked at every few seconds and only if the plan has a limit. Two limits: one for each worker
//! (`max_rss`), and one for all of them together, which is what a container is killed for. It only
//! says who is too heavy; recycling is the table's.

use std::fs;
use std::path::{Path, PathBuf};

use log::Level;
use nix::unistd::Pid;

use crate::mold::Settings;
use crate::worker::{Ms, WorkerId};

/// How often workers are weighed.
const INTERVAL: Ms = 5_000;
/// How often the sum may cost a worker.
const GUARD_INTERVAL: Ms = 10_000;
/// A worker that is younger is as small as it gets: replacing it would free nothing.
const YOUNG: Ms = 60_000;

/// A ready worker: since when, and its generation's limits.
pub(crate) type Weighed = (WorkerId, Pid, Ms, Settings);

/// What a look at the workers came to.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Finding {
    Tired { worker: WorkerId, reason: String },
    Log { level: Level, text: String },
}

#[derive(Debug)]
pub(crate) struct Scales {
    proc: PathBuf,
    /// When to look again.
    next: Ms,
    /// The sum is not judged before.
    next_guard: Ms,
}

impl Scales {
    /// `proc` is `/proc` but in tests.
    pub(crate) fn new(proc: &Path) -> Self {
        Self { proc: proc.to_owned(), next: 0, next_guard: 0 }
    }

    /// When to look at these workers; `None` if nothing limits them.
    pub(crate) fn due(&self, workers: &[Weighed]) -> Option<Ms> {
        let limited =
            |(.., settings): &Weighed| settings.max_rss.is_some() || settings.memory.is_some();
        workers.iter().any(limited).then_some(self.next)
    }

    /// Weighs them. `at_rest`: nobody is being replaced already.
    pub(crate) fn weigh(&mut self, now: Ms, workers: &[Weighed], at_rest: bool) -> Vec<Finding> {
        self.next = now + INTERVAL;
        let heavy = workers.iter().filter_map(|(worker, pid, _, settings)| {
            let limit = settings.max_rss?;
            let rss = self.rss(*pid).filter(|rss| *rss > limit)?;
            let reason = format!("rss={} of {} (max-rss)", mib(rss), mib(limit));
            Some(Finding::Tired { worker: *worker, reason })
        });
        let mut findings: Vec<Finding> = heavy.collect();
        if findings.is_empty() && at_rest && now >= self.next_guard {
            findings.extend(self.guard(now, workers));
        }
        findings
    }

    /// Names the largest worker if all together come close to the limit.
    fn guard(&mut self, now: Ms, workers: &[Weighed]) -> Option<Finding> {
        let limit = workers.iter().filter_map(|(.., settings)| settings.memory).min()?;
        let is_close = |sum: u64| sum > limit / 10 * 9;
        let sum = |weight: &dyn Fn(Pid) -> Option<u64>| {
            workers.iter().filter_map(|(_, pid, ..)| weight(*pid)).sum::<u64>()
        };
        // The first counts a page once for each worker that shares it, with a preloaded application
        // many; the second is exact, and costs a walk through all of the worker's pages.
        if !is_close(sum(&|pid| self.anonymous(pid))) {
            return None;
        }
        let used = sum(&|pid| self.proportional(pid).or_else(|| self.anonymous(pid)));
        if !is_close(used) {
            return None;
        }
        self.next_guard = now + GUARD_INTERVAL;
        let used = format!("all workers together use {} of {}", mib(used), mib(limit));
        let old = workers.iter().filter(|(_, _, since, _)| now >= since + YOUNG);
        let Some((worker, pid, ..)) = old.max_by_key(|(_, pid, ..)| self.anonymous(*pid)) else {
            self.next_guard = now + YOUNG;
            let text = format!("{used}, and all are young: they need more memory, or be fewer");
            return Some(Finding::Log { level: Level::Warn, text });
        };
        let rss = self.rss(*pid).unwrap_or(0);
        let reason = format!("it is the largest, rss={}, and {used}", mib(rss));
        Some(Finding::Tired { worker: *worker, reason })
    }

    fn rss(&self, pid: Pid) -> Option<u64> {
        kib(&self.read(pid, "status")?, "VmRSS:")
    }

    fn anonymous(&self, pid: Pid) -> Option<u64> {
        kib(&self.read(pid, "status")?, "RssAnon:")
    }

    /// The shared pages divided among those who share them.
    fn proportional(&self, pid: Pid) -> Option<u64> {
        kib(&self.read(pid, "smaps_rollup")?, "Pss_Anon:")
    }

    /// `None`: it has just ended, or the kernel does not tell.
    fn read(&self, pid: Pid, file: &str) -> Option<String> {
        fs::read_to_string(self.proc.join(pid.to_string()).join(file)).ok()
    }
}

/// The bytes in a line `Name:   123 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

fn mib(bytes: u64) -> String {
    format!("{}MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use nix::unistd::getpid;

    use super::*;

    const MIB: u64 = 1 << 20;
    const NOW: Ms = 1_000_000;

    /// A /proc with workers of these weights in MiB: alone, and with shared pages divided.
    struct Proc(PathBuf);

    impl Proc {
        fn new(name: &str, weights: &[(u64, u64)]) -> Self {
            let proc = std::env::temp_dir().join(format!("serve-memory-{}-{name}", getpid()));
            for (index, (anonymous, proportional)) in weights.iter().enumerate() {
                let place = proc.join((index + 1).to_string());
                fs::create_dir_all(&place).unwrap();
                let kib = anonymous * 1024;
                let status = format!("Name:\tx\nVmRSS:\t {kib} kB\nRssAnon:\t  {kib} kB\n");
                fs::write(place.join("status"), status).unwrap();
                let rollup = format!("Rss: 1 kB\nPss_Anon:  {} kB\n", proportional * 1024);
                fs::write(place.join("smaps_rollup"), rollup).unwrap();
            }
            Self(proc)
        }

        fn scales(&self) -> Scales {
            Scales::new(&self.0)
        }
    }

    impl Drop for Proc {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn workers(count: usize, since: Ms, settings: Settings) -> Vec<Weighed> {
        let pid = |worker: WorkerId| Pid::from_raw(i32::from(worker.number()));
        WorkerId::all().take(count).map(|worker| (worker, pid(worker), since, settings)).collect()
    }

    #[test]
    fn nobody_is_weighed_without_a_limit() {
        let proc = Proc::new("unlimited", &[(1, 1)]);
        assert_eq!(proc.scales().due(&workers(1, 0, Settings::default())), None);
    }

    #[test]
    fn a_worker_above_its_limit_is_named_however_young() {
        let proc = Proc::new("rss", &[(100, 100), (101, 101)]);
        let mut scales = proc.scales();
        let settings = Settings { max_rss: Some(100 * MIB), ..Settings::default() };
        let workers = workers(2, NOW, settings);
        assert_eq!(scales.due(&workers), Some(0));
        let reason = "rss=101MiB of 100MiB (max-rss)".to_owned();
        let worker = workers[1].0;
        assert_eq!(scales.weigh(NOW, &workers, false), [Finding::Tired { worker, reason }]);
        assert_eq!(scales.due(&workers), Some(NOW + INTERVAL));
    }

    #[test]
    fn the_largest_goes_when_all_come_close_to_the_limit() {
        let proc = Proc::new("guard", &[(300, 300), (350, 350), (280, 280)]);
        let mut scales = proc.scales();
        let settings = Settings { memory: Some(1000 * MIB), ..Settings::default() };
        let workers = workers(3, NOW - YOUNG, settings);
        assert_eq!(scales.weigh(NOW, &workers, false), [], "one at a time");
        let reason =
            "it is the largest, rss=350MiB, and all workers together use 930MiB of 1000MiB".into();
        let found = [Finding::Tired { worker: workers[1].0, reason }];
        assert_eq!(scales.weigh(NOW, &workers, true), found);
        assert_eq!(scales.weigh(NOW + GUARD_INTERVAL - 1, &workers, true), [], "not so soon");
        assert_eq!(scales.weigh(NOW + GUARD_INTERVAL, &workers, true).len(), 1);
    }

    #[test]
    fn pages_that_workers_share_count_once() {
        let proc = Proc::new("shared", &[(500, 200), (500, 200)]);
        let settings = Settings { memory: Some(1000 * MIB), ..Settings::default() };
        assert_eq!(proc.scales().weigh(NOW, &workers(2, 0, settings), true), []);
    }

    #[test]
    fn young_workers_are_not_replaced_by_others_of_their_size() {
        let proc = Proc::new("young", &[(950, 950)]);
        let settings = Settings { memory: Some(1000 * MIB), ..Settings::default() };
        let found = proc.scales().weigh(NOW, &workers(1, NOW - YOUNG + 1, settings), true);
        assert!(matches!(&found[..], [Finding::Log { .. }]), "{found:?}");
    }
}
