//! Real forks: a toy server in processes of its own, whose molds and workers run no Python and only
//! wait for orders.
//!
//! This binary is both: without `SERVE_TOY` it is the tests, each of which starts itself again with
//! `SERVE_TOY` as the toy's configuration file. A test waits on what the toy logs, and "no process
//! is left" is EOF of that pipe, which every process of the toy holds. A test that hangs is ended
//! by alarm(2), and takes its toy with it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "a test's own main reports as libtest does")]
#![expect(
    clippy::disallowed_methods,
    reason = "the tests start processes; the ban is for the master"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command as Process, ExitCode, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::unistd::{Pid, alarm, pause};
use serve_supervisor::{
    Command, ForkHooks, Forked, Inherited, Launch, MoldLink, Options, Order, Outcome, Plan, Reason,
    Refusal, Scoreboard, Site, WorkerLink, monotonic_ms, run,
};

const TESTS: &[(&str, fn())] = &[
    ("starts_and_stops", starts_and_stops),
    ("term_at_any_moment_of_the_start_ends_with_0", term_at_any_moment_of_the_start_ends_with_0),
    ("term_waits_for_the_drain_delay", term_waits_for_the_drain_delay),
    ("a_failing_start_ends_with_its_code", a_failing_start_ends_with_its_code),
    ("a_killed_worker_is_replaced", a_killed_worker_is_replaced),
    ("a_killed_mold_is_replaced", a_killed_mold_is_replaced),
    ("all_end_when_the_master_is_killed", all_end_when_the_master_is_killed),
    ("hup_brings_a_new_generation_or_none", hup_brings_a_new_generation_or_none),
    ("a_stuck_worker_is_aborted_and_replaced", a_stuck_worker_is_aborted_and_replaced),
    ("tired_workers_are_replaced_one_by_one", tired_workers_are_replaced_one_by_one),
    ("a_heavy_worker_is_replaced", a_heavy_worker_is_replaced),
    ("systemd_is_told", systemd_is_told),
    ("usr2_brings_a_new_master_beside_the_old", usr2_brings_a_new_master_beside_the_old),
    (
        "a_new_master_that_cannot_start_changes_nothing",
        a_new_master_that_cannot_start_changes_nothing,
    ),
    ("serves_and_ends_as_pid_1", serves_and_ends_as_pid_1),
    ("a_suspended_server_kills_nobody", a_suspended_server_kills_nobody),
    ("usr1_reaches_every_process", usr1_reaches_every_process),
    ("ctrl_c_ends_the_whole_group", ctrl_c_ends_the_whole_group),
    ("children_are_at_home", children_are_at_home),
];

fn main() -> ExitCode {
    if let Some(config) = std::env::var_os("SERVE_TOY") {
        return toy(PathBuf::from(config));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let filters: Vec<&String> =
        arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = |name: &str| match filters.as_slice() {
        [] => true,
        filters if has("--exact") => filters.iter().any(|filter| *filter == name),
        filters => filters.iter().any(|filter| name.contains(filter.as_str())),
    };
    for (name, test) in TESTS.iter().filter(|(name, _)| chosen(name) && !has("--ignored")) {
        if has("--list") {
            println!("{name}: test");
            continue;
        }
        alarm::set(60);
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

// --- the tests ---

fn starts_and_stops() {
    let mut toy = Toy::start("plain", "workers=3");
    toy.wait_for("toy settled gen=1");
    toy.wait_for("toy serving");
    toy.wait_for_ready(2);
    let threads = fs::read_to_string(format!("/proc/{}/status", toy.master())).unwrap();
    assert!(threads.contains("Threads:\t1\n"), "{threads}");
    toy.signal(Signal::SIGTERM);
    toy.wait_for("SIGTERM from pid=");
    assert_eq!(toy.end().code(), Some(0));
}

fn term_at_any_moment_of_the_start_ends_with_0() {
    // From a fork on its way to four workers that serve; the moments need not be random, only many.
    for moment in 0..60 {
        let mut toy = Toy::start("term", "workers=4");
        std::thread::sleep(Duration::from_micros(moment * moment * 10));
        toy.signal(Signal::SIGTERM);
        assert_eq!(toy.end().code(), Some(0), "TERM after {}us", moment * moment * 10);
    }
    // And while the mold does not listen at all.
    let mut toy = Toy::start("term-busy", "workers=4 mold=sleeps");
    toy.wait_for("toy mold sleeps");
    toy.signal(Signal::SIGTERM);
    assert_eq!(toy.end().code(), Some(0));
}

fn term_waits_for_the_drain_delay() {
    let mut toy = Toy::start("drain", "workers=1 drain=60000");
    toy.wait_for_ready(1);
    toy.signal(Signal::SIGTERM);
    toy.wait_for("toy draining");
    toy.signal(Signal::SIGTERM);
    toy.wait_for("toy stopping");
    assert_eq!(toy.end().code(), Some(0));
    let mut toy = Toy::start("drain", "workers=1 drain=50");
    toy.wait_for_ready(1);
    toy.signal(Signal::SIGTERM);
    toy.wait_for("the drain delay is over");
    toy.wait_for("toy stopping");
    assert_eq!(toy.end().code(), Some(0));
}

fn a_failing_start_ends_with_its_code() {
    let cases = [
        ("workers=4 worker=exits:3", 3, "died before it was ready: exit code 3"),
        ("workers=4 worker=exits:4", 4, "died before it was ready: exit code 4"),
        ("workers=4 worker=aborts", 3, "died before it was ready: signal 6 (SIGABRT)"),
        ("workers=4 worker=sleeps boot=300", 3, "was not ready within 0.3s (boot-timeout)"),
        ("workers=4 mold=fails", 4, "gen=1 cannot start: no such application"),
        (
            "workers=4 mold=aborts",
            3,
            "its mold died while it loaded the application: signal 6 (SIGABRT)",
        ),
        (
            "workers=4 mold=sleeps boot=300",
            3,
            "its application was not loaded within 0.3s (boot-timeout)",
        ),
        ("workers=0", 2, "workers = 0: must be between 1 and 500"),
        ("refuse", 2, "gen=1 cannot start: the toy refuses"),
    ];
    for (config, code, text) in cases {
        let mut toy = Toy::start("failing", config);
        toy.wait_for("gen=1 cannot start: ");
        assert!(toy.last().contains(text) || config.contains("sleeps"), "{config}: {}", toy.last());
        let status = toy.end();
        assert_eq!(status.code(), Some(code), "{config}");
        assert!(toy.seen.iter().any(|line| line.contains("toy abandoned gen=1")), "{config}");
        assert_eq!(
            toy.seen.iter().filter(|line| line.contains("toy worker starts")).count().max(1),
            1,
            "{config}"
        );
    }
}

fn a_killed_worker_is_replaced() {
    let mut toy = Toy::start("killed-worker", "workers=2");
    let victim = toy.wait_for_ready(2);
    kill(victim, Signal::SIGKILL).unwrap();
    toy.wait_for("signal 9 (SIGKILL), not sent by the master");
    let line = toy.last();
    assert!(line.contains("; age=") && line.contains("MiB requests=0 request=none"), "{line}");
    assert_ne!(toy.wait_for_ready(1), victim);
    toy.signal(Signal::SIGTERM);
    assert_eq!(toy.end().code(), Some(0));
}

fn a_killed_mold_is_replaced() {
    let mut toy = Toy::start("killed-mold", "workers=2");
    let mold = toy.wait_for_pid("gen=1 mold pid=");
    toy.wait_for_ready(2);
    kill(mold, Signal::SIGKILL).unwrap();
    toy.wait_for("gen=1 mold died: signal 9 (SIGKILL)");
    toy.wait_for("toy settled gen=2");
    toy.signal(Signal::SIGTERM);
    assert_eq!(toy.end().code(), Some(0));
}

fn all_end_when_the_master_is_killed() {
    // One worker serves, a mold sleeps in its application's import: neither may stay.
    let mut toy = Toy::start("orphans", "workers=2");
    toy.wait_for_ready(2);
    toy.configure("workers=2 mold=sleeps");
    toy.signal(Signal::SIGHUP);
    toy.wait_for("toy mold sleeps");
    toy.signal(Signal::SIGKILL);
    assert_eq!(toy.end().signal(), Some(9));
    assert_eq!(toy.seen.iter().filter(|line| line.contains("toy orphaned")).count(), 2);
}

fn hup_brings_a_new_generation_or_none() {
    let mut toy = Toy::start("hup", "workers=2");
    toy.wait_for_ready(2);
    let broken = [
        ("workers=2 worker=exits:3", "gen=2 abandoned: worker=3 pid="),
        ("workers=2 mold=fails", "gen=3 abandoned: no such application; gen=1 keeps serving"),
        (
            "workers=2 mold=aborts",
            "gen=4 abandoned: its mold died while it loaded the application: signal 6 (SIGABRT); gen=1 keeps serving",
        ),
        ("refuse", "gen=5 abandoned: the toy refuses; gen=1 keeps serving"),
        ("workers=2 worker=sleeps boot=300", "gen=6 abandoned: "),
    ];
    for (config, text) in broken {
        toy.configure(config);
        toy.signal(Signal::SIGHUP);
        toy.wait_for("SIGHUP from pid=");
        toy.wait_for(text);
        toy.wait_for("toy abandoned gen=");
    }
    toy.configure("workers=3");
    toy.signal(Signal::SIGHUP);
    toy.wait_for("toy settled gen=7");
    assert!(!toy.seen.iter().any(|line| line.contains("gen=1 died")), "{:?}", toy.seen);
    toy.signal(Signal::SIGTERM);
    assert_eq!(toy.end().code(), Some(0));
}

fn a_stuck_worker_is_aborted_and_replaced() {
    let mut toy = Toy::start("stuck", "workers=1 worker=sticks timeout=300");
    let worker = toy.wait_for_ready(1);
    toy.wait_for(&format!("worker=1 pid={worker} gen=1 stuck for="));
    assert!(toy.last().contains("request=\"GET /slow\""), "{}", toy.last());
    toy.wait_for("was killed by the master, no sign of life for 0.");
    assert!(toy.last().contains("signal 6 (SIGABRT)"), "{}", toy.last());
    toy.wait_for_ready(1);
    toy.signal(Signal::SIGINT);
    assert_eq!(toy.end().code(), Some(0));
}

fn tired_workers_are_replaced_one_by_one() {
    let mut toy = Toy::start("tired", "workers=2 worker=tires");
    toy.wait_for_ready(2);
    toy.signal(Signal::SIGUSR1);
    for _ in 0..2 {
        toy.wait_for_ready(1);
        toy.wait_for(" gen=1 left");
    }
    let told = " is to be replaced: it has served its requests (max-requests)";
    assert_eq!(toy.seen.iter().filter(|line| line.contains(told)).count(), 2);
    toy.signal(Signal::SIGTERM);
    assert_eq!(toy.end().code(), Some(0));
}

fn a_heavy_worker_is_replaced() {
    let mut toy = Toy::start("heavy", "workers=1 rss=1");
    toy.wait_for_ready(1);
    toy.wait_for("MiB of 0MiB (max-rss)");
    toy.wait_for_ready(1);
    toy.wait_for("worker=1 pid=");
    toy.wait_for(" gen=1 left");
    toy.signal(Signal::SIGTERM);
    assert_eq!(toy.end().code(), Some(0));
}

fn systemd_is_told() {
    let path = std::env::temp_dir().join(format!("serve-toy-{}-systemd", std::process::id()));
    let systemd = UnixDatagram::bind(&path).unwrap();
    let heard = |start: &str| loop {
        let mut bytes = [0; 256];
        let length = systemd.recv(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if text.starts_with(start) {
            return text;
        }
        assert!(text.starts_with("WATCHDOG=1"), "{text} before {start}");
    };
    let mut toy = Toy::start_with("notify", "workers=1", |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    });
    assert_eq!(heard("READY"), "READY=1\nSTATUS=gen=1 serves, workers=1");
    heard("WATCHDOG=1");
    heard("WATCHDOG=1");
    toy.signal(Signal::SIGHUP);
    let now = monotonic_ms() * 1000;
    let reloading = heard("RELOADING=1\nMONOTONIC_USEC=");
    let moment = number_after(&reloading, "USEC=");
    assert!(now.abs_diff(moment) < 60_000_000, "{reloading}");
    assert_eq!(heard("READY"), "READY=1\nSTATUS=gen=2 serves, workers=1");
    toy.configure("refuse");
    toy.signal(Signal::SIGHUP);
    heard("RELOADING");
    assert_eq!(heard("READY"), "READY=1\nSTATUS=gen=2 serves, workers=1");
    toy.signal(Signal::SIGTERM);
    heard("STOPPING=1");
    assert_eq!(toy.end().code(), Some(0));
    fs::remove_file(path).unwrap();
}

fn usr2_brings_a_new_master_beside_the_old() {
    let mut toy = Toy::start("upgrade", "workers=1");
    toy.wait_for_ready(1);
    for _ in 0..2 {
        toy.signal(Signal::SIGUSR2);
        let new = toy.wait_for_pid("new master pid=");
        toy.wait_for("toy inherits stdin from pid=");
        toy.wait_for("toy serving");
        toy.signal(Signal::SIGUSR2);
        toy.wait_for("is there already");
        // Backing out.
        kill(new, Signal::SIGTERM).unwrap();
        toy.wait_for(&format!("new master pid={new} has gone: exit code 0; this one serves on"));
        toy.wait_for("toy upgrade is over");
    }
    toy.signal(Signal::SIGUSR2);
    let new = toy.wait_for_pid("new master pid=");
    toy.wait_for("toy serving");
    kill(new, Signal::SIGUSR2).unwrap();
    toy.wait_for("no new master: the old master of the last upgrade is still there");
    // Completing it.
    toy.signal(Signal::SIGTERM);
    assert_eq!(toy.process.wait().unwrap().code(), Some(0));
    toy.wait_for("toy promoted");
    kill(new, Signal::SIGHUP).unwrap();
    toy.wait_for("toy settled gen=2");
    kill(new, Signal::SIGTERM).unwrap();
    assert_eq!(toy.end().code(), Some(0));
}

fn a_new_master_that_cannot_start_changes_nothing() {
    let mut toy = Toy::start("upgrade-fails", "workers=1");
    toy.wait_for_ready(1);
    toy.configure("refuse");
    toy.signal(Signal::SIGUSR2);
    let new = toy.wait_for_pid("new master pid=");
    toy.wait_for(&format!("new master pid={new} has gone: exit code 2; this one serves on"));
    toy.configure("program=/nonexistent/serve");
    toy.signal(Signal::SIGUSR2);
    toy.wait_for("has gone: exit code 127; this one serves on");
    toy.wait_for("new master: cannot execute /nonexistent/serve: No such file");
    toy.signal(Signal::SIGTERM);
    assert_eq!(toy.end().code(), Some(0));
}

fn serves_and_ends_as_pid_1() {
    let unshare = || {
        let mut command = Process::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        command
    };
    match unshare().arg("true").stderr(Stdio::null()).status() {
        Ok(status) if status.success() => {}
        _ => return println!("skipped: unshare may not make a PID namespace here"),
    }
    let mut command = unshare();
    command.arg(std::env::current_exe().unwrap());
    let mut toy = Toy::start_by(command, "pid-1", "workers=2 worker=orphans");
    toy.wait_for("toy pid=1");
    toy.wait_for_ready(2);
    for _ in 0..2 {
        toy.wait_for(", an orphan: exit code 7");
    }
    let unshare = toy.master();
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
    kill(Pid::from_raw(children.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
    toy.wait_for("toy stopping");
    assert_eq!(toy.end().code(), Some(0));
}

fn a_suspended_server_kills_nobody() {
    let mut toy = Toy::start("suspended", "workers=1 worker=works timeout=200 grace=2000");
    // The master expects the next heartbeat then, and notices that it is late.
    toy.wait_for_all(&["toy worker works", "ready in="]);
    killpg(toy.master(), Signal::SIGSTOP).unwrap();
    // Longer than timeout, grace and what counts as oversleeping together.
    std::thread::sleep(Duration::from_millis(200 + 2000 + 1000 + 300));
    killpg(toy.master(), Signal::SIGCONT).unwrap();
    toy.wait_for("the master was stopped or suspended");
    // The worker takes this for the end of its request, within the grace.
    toy.signal(Signal::SIGUSR1);
    toy.wait_for("toy worker=1 reopens");
    toy.signal(Signal::SIGTERM);
    assert_eq!(toy.end().code(), Some(0));
    assert!(!toy.seen.iter().any(|line| line.contains("stuck")), "{:?}", toy.seen);
}

fn usr1_reaches_every_process() {
    let mut toy = Toy::start("usr1", "workers=2");
    toy.wait_for_ready(2);
    toy.signal(Signal::SIGUSR1);
    let mut missing = vec![
        "toy master reopens",
        "toy mold reopens",
        "toy worker=1 reopens",
        "toy worker=2 reopens",
    ];
    while !missing.is_empty() {
        let line = toy.line().expect("the toy lives");
        missing.retain(|text| !line.contains(text));
    }
    toy.signal(Signal::SIGTERM);
    assert_eq!(toy.end().code(), Some(0));
}

fn ctrl_c_ends_the_whole_group() {
    let mut toy = Toy::start("ctrl-c", "workers=2");
    toy.wait_for_ready(2);
    killpg(toy.master(), Signal::SIGINT).unwrap();
    assert_eq!(toy.end().code(), Some(0));
    assert!(!toy.seen.iter().any(|line| line.contains("mold died")), "{:?}", toy.seen);
}

/// No signal blocked, SIGCHLD default, and no descriptor more in the third generation than in the
/// first.
fn children_are_at_home() {
    let mut toy = Toy::start("home", "workers=1");
    let homes: Vec<String> = (1..=3)
        .map(|generation| {
            toy.wait_for("toy worker at home: ");
            let home = toy.last().split_once("home: ").unwrap().1.to_owned();
            toy.wait_for(&format!("toy settled gen={generation}"));
            toy.signal(Signal::SIGHUP);
            home
        })
        .collect();
    // The lifeline, the ready pipe, two ends of the signal pipe, the listener.
    assert_eq!(homes[0], "fds=5 blocked=0 sigchld=default hooks=child");
    assert!(homes.iter().all(|home| *home == homes[0]), "{homes:?}");
    toy.signal(Signal::SIGTERM);
    assert_eq!(toy.end().code(), Some(0));
}

// --- the toy, seen from a test ---

struct Toy {
    process: Child,
    log: BufReader<ChildStderr>,
    config: PathBuf,
    seen: Vec<String>,
}

impl Toy {
    fn start(name: &str, config: &str) -> Self {
        Self::start_with(name, config, |_| {})
    }

    fn start_with(name: &str, config: &str, change: impl Fn(&mut Process)) -> Self {
        let mut command = Process::new(std::env::current_exe().unwrap());
        change(&mut command);
        Self::start_by(command, name, config)
    }

    /// `command` ends up as the toy.
    fn start_by(mut command: Process, name: &str, config: &str) -> Self {
        let path = std::env::temp_dir().join(format!("serve-toy-{}-{name}", std::process::id()));
        fs::write(&path, config).unwrap();
        command
            .env("SERVE_TOY", &path)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut process = command.spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let mut toy = Self { process, log, config: path, seen: Vec::new() };
        toy.wait_for("toy starts");
        toy
    }

    fn configure(&self, config: &str) {
        fs::write(&self.config, config).unwrap();
    }

    fn master(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap())
    }

    /// The master is this process's child and not reaped yet, so its pid is its own.
    fn signal(&self, signal: Signal) {
        kill(self.master(), signal).unwrap();
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        if self.log.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        self.seen.push(line.trim_end().to_owned());
        self.seen.last().cloned()
    }

    fn wait_for(&mut self, text: &str) {
        while let Some(line) = self.line() {
            if line.contains(text) {
                return;
            }
        }
        panic!("the toy ended without {text:?}:\n{}", self.seen.join("\n"));
    }

    /// Waits for lines with these texts, in whatever order.
    fn wait_for_all(&mut self, texts: &[&str]) {
        while !texts.iter().all(|text| self.seen.iter().any(|line| line.contains(text))) {
            assert!(self.line().is_some(), "the toy ended without all of {texts:?}");
        }
    }

    /// The number after this text.
    fn wait_for_pid(&mut self, text: &str) -> Pid {
        self.wait_for(text);
        pid_after(self.last(), text)
    }

    /// Waits until this many more workers are ready; the last one's pid.
    fn wait_for_ready(&mut self, count: usize) -> Pid {
        (0..count).for_each(|_| self.wait_for(" ready in="));
        pid_after(self.last(), " pid=")
    }

    fn last(&self) -> &str {
        self.seen.last().unwrap()
    }

    /// Reads on until no process is left that could write.
    fn end(&mut self) -> ExitStatus {
        while self.line().is_some() {}
        fs::remove_file(&self.config).unwrap();
        self.process.wait().unwrap()
    }
}

fn pid_after(line: &str, text: &str) -> Pid {
    Pid::from_raw(number_after(line, text).try_into().unwrap())
}

fn number_after(line: &str, text: &str) -> u64 {
    let rest = line.split_once(text).unwrap().1;
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

// --- the toy ---

struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        say(&format!("{} {}", record.level(), record.args()));
    }
    fn flush(&self) {}
}

/// One write, so that lines of several processes do not mix. A test that has ended no longer
/// listens.
fn say(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).ok();
}

struct ToySite {
    config: PathBuf,
    predecessor: Option<OwnedFd>,
}

impl Site for ToySite {
    fn plan(&mut self, _generation: u32, report: &[u8]) -> Result<Plan, Refusal> {
        let report = String::from_utf8(report.to_vec()).unwrap();
        if report.contains("refuse") {
            return Err(Refusal { code: 2, message: "the toy refuses".into() });
        }
        let milliseconds =
            |name| word(&report, name).map(|span| Duration::from_millis(span.parse().unwrap()));
        Ok(Plan {
            workers: word(&report, "workers").map_or(1, |count| count.parse().unwrap()),
            timeout: milliseconds("timeout"),
            max_rss: word(&report, "rss").map(|limit| limit.parse().unwrap()),
            kill_grace: milliseconds("grace").unwrap_or_default(),
            graceful_timeout: Duration::from_secs(10),
            boot_timeout: milliseconds("boot").unwrap_or(Duration::from_secs(30)),
            drain_delay: milliseconds("drain").unwrap_or_default(),
            blob: report.into_bytes(),
            listeners: vec![std::io::stdin().as_fd().try_clone_to_owned().unwrap()],
            ..Plan::default()
        })
    }
    fn settled(&mut self, generation: u32) {
        say(&format!("toy settled gen={generation}"));
    }
    fn abandoned(&mut self, generation: u32) {
        say(&format!("toy abandoned gen={generation}"));
    }
    fn reopen_logs(&mut self) {
        say("toy master reopens");
    }
    fn serving(&mut self) {
        say("toy serving");
    }
    fn draining(&mut self) {
        say("toy draining");
    }
    fn upgrade(&mut self) -> Result<Launch, String> {
        let listener = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let mut launch = Launch::again(Path::new("/"), vec![("stdin".to_owned(), listener)])?;
        if let Some(program) = word(&fs::read_to_string(&self.config).unwrap(), "program") {
            launch.program = program.into();
        }
        Ok(launch)
    }
    fn upgrade_over(&mut self) {
        say("toy upgrade is over");
    }
    fn predecessor(&mut self) -> Option<OwnedFd> {
        self.predecessor.take()
    }
    fn promoted(&mut self) {
        say("toy promoted");
    }
    fn stopping(&mut self) {
        say("toy stopping");
    }
}

/// The value of `name=value` in the configuration.
fn word<'a>(config: &'a str, name: &str) -> Option<&'a str> {
    config.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn toy(config: PathBuf) -> ExitCode {
    let inherited = Inherited::take().unwrap();
    if inherited.is_none() {
        set_pdeathsig(Signal::SIGKILL).unwrap();
    }
    log::set_logger(&Log).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    INHERITED.set(descriptors()).unwrap();
    // Signals wait until the master listens: it has to unblock them.
    SigSet::all().thread_block().unwrap();
    say("toy starts");
    say(&format!("toy pid={}", std::process::id()));
    let predecessor = inherited.map(|inherited| {
        say(&format!("toy inherits {} from pid={}", inherited.listeners[0].0, inherited.master));
        inherited.lifeline
    });
    let mut site = ToySite { config: config.clone(), predecessor };
    match run(Scoreboard::map().unwrap(), &Options::default(), &mut site).unwrap() {
        Outcome::Exit(code) => ExitCode::from(u8::try_from(code).unwrap()),
        Outcome::Mold(link) => mold(link, &config),
    }
}

fn mold(mut link: MoldLink, config: &PathBuf) -> ExitCode {
    let text = fs::read_to_string(config).unwrap();
    if link.report(&fs::read(config).unwrap(), word(&text, "news").is_some()).is_err() {
        return ExitCode::SUCCESS;
    }
    let Some(plan) = link.plan().unwrap() else { return ExitCode::SUCCESS };
    let config = String::from_utf8(plan).unwrap();
    match word(&config, "mold") {
        Some("fails") => {
            link.failed(Refusal { code: 4, message: "no such application".into() }).unwrap();
            return ExitCode::FAILURE;
        }
        Some("aborts") => std::process::abort(),
        Some("sleeps") => sleep("toy mold sleeps"),
        _ => {}
    }
    if link.ready().is_err() {
        return ExitCode::SUCCESS;
    }
    loop {
        match link.order().unwrap() {
            Order::Leave => return ExitCode::SUCCESS,
            Order::Reopen => say("toy mold reopens"),
            Order::News(news) => say(&format!("toy mold hears {news:?}")),
            Order::Fork(seat) => match link.fork(seat, &Hooks) {
                Forked::Mold(same) => link = same,
                Forked::Worker(worker) => return serve(worker, &config),
            },
        }
    }
}

struct Hooks;

/// Which process a hook ran in is shown by what a worker says at home.
static HOOKS: Mutex<Vec<&str>> = Mutex::new(Vec::new());

impl ForkHooks for Hooks {
    fn before(&self) {
        HOOKS.lock().unwrap().clear();
    }
    fn child(&self) {
        HOOKS.lock().unwrap().push("child");
    }
    fn parent(&self) {
        HOOKS.lock().unwrap().push("parent");
    }
}

fn sleep(text: &str) -> ! {
    say(text);
    loop {
        pause();
    }
}

fn serve(mut link: WorkerLink, config: &str) -> ExitCode {
    say(&format!("toy worker starts, gen={}", link.generation()));
    match word(config, "worker") {
        Some("aborts") => std::process::abort(),
        Some("sleeps") => sleep("toy worker sleeps"),
        Some("sticks") => {
            link.ready();
            link.slot().begin(monotonic_ms(), b"GET", b"/slow");
            sleep("toy worker sticks");
        }
        Some("tires") => {}
        Some("orphans") => {
            let left = "(sleep 0.1; exit 7) & exit 0";
            assert!(Process::new("sh").args(["-c", left]).status().unwrap().success());
        }
        Some("works") => {
            link.ready();
            link.slot().begin(monotonic_ms(), b"GET", b"/work");
            say("toy worker works");
        }
        Some(exits) => {
            return ExitCode::from(exits.strip_prefix("exits:").unwrap().parse::<u8>().unwrap());
        }
        None => {}
    }
    say(&format!("toy worker at home: {}", home()));
    link.ready();
    loop {
        let mut fds = link.watch_fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // EINTR is as good as an event.
        poll(&mut fds, PollTimeout::NONE).ok();
        for command in link.take() {
            match command {
                Command::Retire | Command::Stop | Command::Quit => return ExitCode::SUCCESS,
                Command::Reopen if word(config, "worker") == Some("tires") => {
                    link.tired(Reason::Requests)
                }
                Command::Reopen => {
                    link.slot().asleep();
                    say(&format!("toy worker={} reopens", link.id()));
                }
                Command::Orphaned => {
                    say("toy orphaned");
                    return ExitCode::SUCCESS;
                }
            }
        }
    }
}

/// What the toy was started with; some environments pass on a few of their own.
static INHERITED: OnceLock<usize> = OnceLock::new();

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn home() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    let handled = (mask("SigCgt:") | mask("SigIgn:")) >> (Signal::SIGCHLD as i32 - 1) & 1;
    let sigchld = if handled == 0 { "default" } else { "handled" };
    let fds = descriptors() - INHERITED.get().unwrap();
    let hooks = HOOKS.lock().unwrap().join(",");
    format!("fds={fds} blocked={:x} sigchld={sigchld} hooks={hooks}", mask("SigBlk:"))
}
