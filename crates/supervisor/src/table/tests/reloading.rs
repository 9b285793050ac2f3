//! One generation takes over from another, or does not.

use super::*;

#[test]
fn a_reload_rolls_one_by_one_and_then_settles() {
    let mut script = Script::serving(3);
    let old_mold = script.table.generations[0].mold.pid().unwrap();
    assert!(script.signal(Signal::SIGHUP).contains(&Action::ForkMold { generation: 2 }));
    script.mold(2, 3);
    assert_eq!(script.orders(), 1, "the canary");
    for round in 1..=3 {
        assert_eq!(script.starting().len(), 1);
        let worker = script.starting()[0];
        script.make_ready(worker);
        assert_eq!((script.ready(2).len(), script.ready(1).len()), (round, 3 - round));
        assert_eq!(script.did(&Action::Settled { generation: 2 }), round == 3);
    }
    assert!(script.did(&Action::CloseMold { generation: 1 }));
    assert_eq!(script.orders(), 3);
    script.all_ready();
    script.step(Event::exited(old_mold, Ending::Code(0)));
    assert_eq!(script.table.generations.len(), 1);
    assert!(!script.did(&Action::Abandoned { generation: 2 }));
}

#[test]
fn a_mold_that_is_kept_leaves_after_its_workers() {
    let mut script = Script::serving(1);
    script.table.generations[0].settings.keep_mold = true;
    let old = script.ready(1)[0];
    let mold = script.table.generations[0].mold.pid().unwrap();
    script.signal(Signal::SIGHUP);
    script.mold(2, 1);
    script.make_ready(script.starting()[0]);
    assert!(script.did(&Action::Settled { generation: 2 }));
    assert!(script.did(&Action::Unlisten { generation: 1 }));
    script.wait(GRACEFUL - 1_000);
    assert!(!script.did(&Action::CloseMold { generation: 1 }));
    script.exit(old, Ending::Code(0));
    assert!(script.did(&Action::CloseMold { generation: 1 }));
    assert_eq!(script.sent(mold), []);
    script.step(Event::exited(mold, Ending::Code(0)));
    assert_eq!(script.table.generations.len(), 1);
}

#[test]
fn a_surge_of_more_rolls_as_many_at_once() {
    let mut script = Script::serving(4);
    script.signal(Signal::SIGHUP);
    let pid = script.pid();
    script.step(Event::MoldForked { generation: 2, pid });
    let settings = Settings { surge: 3, ..settings(4) };
    script.step(Event::Planned { generation: 2, settings });
    script.step(Event::MoldReady { generation: 2 });
    assert_eq!(script.starting().len(), 1, "the canary is alone, whatever the surge");
    script.make_ready(script.starting()[0]);
    assert_eq!((script.ready(1).len(), script.starting().len()), (3, 3));
    let three = script.starting();
    for (worker, left) in three.into_iter().zip([2, 1, 0]) {
        script.make_ready(worker);
        assert_eq!(script.ready(1).len(), left, "one leaves for each that is ready");
    }
    assert!(script.did(&Action::Settled { generation: 2 }));
}

#[test]
fn a_reload_to_other_numbers_ends_with_the_new_one() {
    for (old, new) in [(1, 5), (5, 1), (2, 2)] {
        let mut script = Script::serving(old);
        script.signal(Signal::SIGHUP);
        script.mold(2, new);
        script.all_ready();
        assert_eq!((script.ready(1).len(), script.ready(2).len()), (0, usize::from(new)));
        assert!(script.did(&Action::Settled { generation: 2 }));
    }
}

#[test]
fn a_candidate_that_fails_leaves_the_old_generation_alone() {
    let mut script = Script::serving(2);
    script.signal(Signal::SIGHUP);
    script.mold(2, 2);
    let canary = script.starting()[0];
    script.fork(canary);
    script.exit(canary, Ending::Code(3));
    assert!(script.logged(
        "gen=2 abandoned: worker=3 pid=105 gen=2 died before it was ready: exit code 3; gen=1 keeps"
    ));
    assert!(script.did(&Action::Abandoned { generation: 2 }));
    assert!(script.did(&Action::Reloading));
    assert!(script.did(&Action::Steady { generation: 1, workers: 2 }));
    assert_eq!(script.ready(1).len(), 2);
    assert!(
        script.signal(Signal::SIGHUP).contains(&Action::ForkMold { generation: 3 }),
        "the next HUP works"
    );
}

#[test]
fn a_candidate_that_fails_halfway_is_rolled_back_without_a_gap() {
    let mut script = Script::serving(3);
    script.signal(Signal::SIGHUP);
    script.mold(2, 3);
    for _ in 0..2 {
        let worker = script.starting()[0];
        script.make_ready(worker);
    }
    assert_eq!((script.ready(1).len(), script.ready(2).len()), (1, 2));
    let third = script.starting()[0];
    script.fork(third);
    script.exit(third, Ending::Code(3));
    assert!(script.logged("gen=2 abandoned"));
    assert_eq!(
        (script.ready(1).len(), script.ready(2).len()),
        (1, 2),
        "nobody leaves before a successor is ready"
    );
    for left in [1, 0] {
        let worker = script.starting()[0];
        script.make_ready(worker);
        assert_eq!(script.ready(2).len(), left);
    }
    assert_eq!(script.ready(1).len(), 3);
}

#[test]
fn a_candidate_whose_worker_dies_at_once_is_abandoned_too() {
    let mut script = Script::serving(3);
    script.signal(Signal::SIGHUP);
    script.mold(2, 3);
    let canary = script.starting()[0];
    script.make_ready(canary);
    script.exit(canary, Ending::Signal(11));
    assert!(script.logged(
        "gen=2 abandoned: worker=4 pid=106 gen=2 died as soon as it was ready: signal 11 (SIGSEGV)"
    ));
    script.all_ready();
    assert_eq!(script.ready(1).len(), 3);
}

#[test]
fn a_reload_during_a_reload_is_remembered_once() {
    let mut script = Script::serving(1);
    script.signal(Signal::SIGHUP);
    script.signal(Signal::SIGHUP);
    script.signal(Signal::SIGHUP);
    assert!(!script.did(&Action::ForkMold { generation: 3 }));
    script.mold(2, 1);
    script.all_ready();
    assert!(script.did(&Action::ForkMold { generation: 3 }));
    script.mold(3, 1);
    script.all_ready();
    assert!(!script.did(&Action::ForkMold { generation: 4 }));
}

#[test]
fn a_reload_before_the_first_worker_is_remembered() {
    let mut script = Script::new();
    script.signal(Signal::SIGHUP);
    assert!(!script.did(&Action::ForkMold { generation: 2 }));
    script.mold(1, 1);
    let canary = script.starting()[0];
    script.make_ready(canary);
    assert!(script.did(&Action::ForkMold { generation: 2 }));
}
