//! The first start, and how it fails.

use super::*;

#[test]
fn one_canary_goes_first_and_the_rest_at_once() {
    let mut script = Script::new();
    script.mold(1, 4);
    assert_eq!(script.orders(), 1);
    let canary = script.starting()[0];
    script.make_ready(canary);
    assert_eq!(script.orders(), 4);
    let settled =
        script.done.iter().position(|action| *action == Action::Settled { generation: 1 });
    let serving = script.done.iter().position(|action| *action == Action::Serving);
    assert!(settled.unwrap() < serving.unwrap());
}

#[test]
fn a_first_start_that_fails_ends_with_its_code_when_all_is_reaped() {
    for (ending, code) in [
        (Ending::Code(3), 3),
        (Ending::Code(4), 4),
        (Ending::Code(1), 3),
        (Ending::Code(0), 3),
        (Ending::Signal(11), 3),
    ] {
        let mut script = Script::new();
        let mold = script.mold(1, 4);
        let canary = script.starting()[0];
        script.fork(canary);
        script.exit(canary, ending);
        assert_eq!(script.orders(), 1, "one broken import is one traceback");
        assert!(
            script.did(&Action::CloseMold { generation: 1 })
                && script.did(&Action::Abandoned { generation: 1 })
        );
        assert_eq!(script.sent(mold), [Signal::SIGKILL]);
        assert!(!script.did(&Action::Exit(code)));
        script.step(Event::exited(mold, Ending::Signal(9)));
        assert_eq!(script.done.last(), Some(&Action::Exit(code)));
    }
}

#[test]
fn a_first_configuration_that_is_refused_ends_with_its_code() {
    let mut script = Script::new();
    let pid = script.pid();
    script.step(Event::MoldForked { generation: 1, pid });
    let refusal = Refusal { code: 2, message: "workers = many".into() };
    script.step(Event::Refused { generation: 1, refusal });
    assert!(script.logged("gen=1 cannot start: workers = many"));
    script.step(Event::exited(pid, Ending::Code(0)));
    assert_eq!(script.done.last(), Some(&Action::Exit(2)));
}

#[test]
fn a_first_start_that_hangs_is_killed_at_the_boot_timeout() {
    // While evaluating, while loading, and with a canary that is never ready.
    for stage in 0..3 {
        let mut script = Script::new();
        let mold = script.pid();
        script.step(Event::MoldForked { generation: 1, pid: mold });
        if stage > 0 {
            script.step(Event::Planned { generation: 1, settings: settings(2) });
        }
        if stage > 1 {
            script.step(Event::MoldReady { generation: 1 });
            let canary = script.starting()[0];
            script.fork(canary);
        }
        assert_eq!(script.table.deadline(), Some(script.now + BOOT));
        script.wait(BOOT - 1);
        assert!(!script.logged("boot-timeout"));
        script.wait(1);
        assert!(script.logged("boot-timeout"), "{:?}", script.done);
        assert!(script.sent(mold).contains(&Signal::SIGKILL));
        for worker in script.ids(|_| true) {
            assert_eq!(script.sent(script.pid_of(worker)), [Signal::SIGKILL]);
            script.exit(worker, Ending::Signal(9));
        }
        script.step(Event::exited(mold, Ending::Signal(9)));
        assert_eq!(script.done.last(), Some(&Action::Exit(3)));
    }
}

#[test]
fn a_mold_that_cannot_be_forked_at_the_first_start_ends_with_1() {
    let mut script = Script::new();
    script.step(Event::MoldNotForked { generation: 1, message: "no memory".into() });
    assert_eq!(script.done.last(), Some(&Action::Exit(1)));
}
