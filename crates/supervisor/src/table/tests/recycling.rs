//! Workers that are tired, or too old.

use super::*;

fn tire(script: &mut Script, worker: WorkerId) {
    script.step(Event::Tired { worker, reason: "it has served its requests".into() });
}

#[test]
fn a_tired_worker_goes_when_its_successor_is_ready() {
    let mut script = Script::serving(2);
    let worker = script.ready(1)[0];
    let pid = script.pid_of(worker);
    tire(&mut script, worker);
    tire(&mut script, worker);
    assert!(script.logged("worker=1 pid=102 gen=1 is to be replaced: it has served its requests"));
    assert_eq!((script.orders(), script.sent(pid)), (1, vec![]));
    let successor = script.starting()[0];
    script.make_ready(successor);
    assert_eq!(script.sent(pid), [RETIRE]);
    script.exit(worker, Ending::Code(0));
    script.wait(60_000);
    assert_eq!((script.orders(), script.ready(1).len()), (1, 2));
}

#[test]
fn one_worker_is_recycled_at_a_time_in_the_order_they_asked() {
    let mut script = Script::serving(3);
    let tired = [script.ready(1)[2], script.ready(1)[0], script.ready(1)[1]];
    tired.iter().for_each(|worker| tire(&mut script, *worker));
    for (done, worker) in tired.iter().enumerate() {
        assert_eq!(script.orders(), done + 1, "the next waits until the one before is gone");
        let successor = script.starting()[0];
        script.make_ready(successor);
        script.wait(1_000);
        assert_eq!(script.ids(|worker| !worker.is_alive()), [*worker]);
        assert_eq!(script.orders(), done + 1);
        script.exit(*worker, Ending::Code(0));
    }
    assert_eq!((script.orders(), script.ready(1).len()), (3, 3));
}

#[test]
fn a_successor_that_fails_costs_nothing_and_is_tried_again() {
    let mut script = Script::serving(1);
    let worker = script.ready(1)[0];
    tire(&mut script, worker);
    let successor = script.starting()[0];
    script.fork(successor);
    script.exit(successor, Ending::Code(3));
    assert_eq!(script.ready(1), [worker]);
    script.wait(500);
    assert_eq!(script.orders(), 2);
    script.all_ready();
    assert_eq!(script.ready(1).len(), 1);
    assert!(script.ready(1) != [worker] || script.table.tired.is_empty());
}

#[test]
fn a_tired_worker_that_dies_is_replaced_once() {
    let mut script = Script::serving(2);
    script.now += 60_000;
    let worker = script.ready(1)[0];
    tire(&mut script, worker);
    script.exit(worker, Ending::Signal(11));
    script.all_ready();
    assert_eq!((script.orders(), script.ready(1).len()), (1, 2));
}

#[test]
fn recycling_waits_for_a_reload_which_does_it_anyway() {
    let mut script = Script::serving(2);
    let worker = script.ready(1)[1];
    tire(&mut script, worker);
    let early = script.starting()[0];
    script.signal(Signal::SIGHUP);
    script.tick();
    assert!(!script.table.workers[&early].is_alive(), "its successor will be another one");
    script.mold(2, 2);
    script.make_ready(script.starting()[0]);
    let gone = script.ids(|worker| !worker.is_alive() && worker.id != early);
    assert_eq!(gone, [worker], "the tired one goes first");
    script.all_ready();
    assert_eq!(script.ready(2).len(), 2);
    assert!(script.table.is_at_rest());
}

#[test]
fn recycling_goes_on_after_a_reload_that_failed() {
    let mut script = Script::serving(2);
    script.signal(Signal::SIGHUP);
    let worker = script.ready(1)[0];
    tire(&mut script, worker);
    assert_eq!(script.orders(), 0);
    script.step(Event::MoldNotForked { generation: 2, message: "no memory".into() });
    assert_eq!(script.orders(), 1);
    let successor = script.starting()[0];
    script.make_ready(successor);
    assert_eq!(script.sent(script.pid_of(worker)), [RETIRE]);
}

#[test]
fn workers_age_one_after_the_other() {
    let mut script = Script::new();
    let pid = script.pid();
    script.step(Event::MoldForked { generation: 1, pid });
    let settings = Settings { max_age: Some(3_600_000), ..settings(4) };
    script.step(Event::Planned { generation: 1, settings });
    script.step(Event::MoldReady { generation: 1 });
    script.all_ready();
    let first = script.ready(1);
    let mut ages: Vec<Ms> =
        script.table.workers.values().map(|worker| worker.expires.unwrap() - script.now).collect();
    assert!(ages.iter().all(|age| (3_600_000..=3_960_000).contains(age)), "{ages:?}");
    ages.sort_unstable();
    assert!(ages.windows(2).all(|pair| pair[1] - pair[0] > 10_000), "{ages:?}");
    for replaced in 1..=4 {
        script.now = script.table.deadline().unwrap();
        script.tick();
        assert_eq!(script.starting().len(), 1);
        script.all_ready();
        assert_eq!(script.ready(1).iter().filter(|id| !first.contains(id)).count().min(1), 1);
        let aged = |action: &&Action| matches!(action, Action::Log { text, .. } if text.contains("(max-worker-age)"));
        assert_eq!(script.done.iter().filter(aged).count(), replaced);
    }
}
