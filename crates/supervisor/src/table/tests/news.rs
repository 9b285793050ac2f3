//! What a mold hears that wants to know.

use super::*;

/// The news that the mold of `generation` was told.
fn news(script: &Script, generation: u32) -> Vec<News> {
    let told = script.done.iter().filter_map(|action| match action {
        Action::News { generation: to, news } if *to == generation => Some(*news),
        _ => None,
    });
    told.collect()
}

/// A generation whose mold wants to know, with so many workers.
fn curious(script: &mut Script, generation: u32, workers: u16) {
    let pid = script.pid();
    script.step(Event::MoldForked { generation, pid });
    let settings = Settings { news: true, ..settings(workers) };
    script.step(Event::Planned { generation, settings });
    script.step(Event::MoldReady { generation });
    script.all_ready();
}

#[test]
fn a_mold_that_wants_to_know_hears_of_every_change() {
    let mut script = Script::new();
    curious(&mut script, 1, 2);
    assert_eq!(news(&script, 1), [News::Workers { now: 2, before: None }, News::Serving]);
    script.done.clear();
    let worker = script.ready(1)[0];
    let pid = Some(script.pid_of(worker).as_raw());
    script.exit(worker, Ending::Signal(9));
    assert_eq!(news(&script, 1), [News::Died { worker, pid }]);
    script.done.clear();
    script.signal(Signal::SIGTTIN);
    script.signal(Signal::SIGTTOU);
    let more = News::Workers { now: 3, before: Some(2) };
    assert_eq!(news(&script, 1), [more, News::Workers { now: 2, before: Some(3) }]);
}

#[test]
fn a_mold_that_wants_to_know_outlives_the_workers() {
    let mut script = Script::new();
    curious(&mut script, 1, 1);
    let worker = script.ready(1)[0];
    let pid = Some(script.pid_of(worker).as_raw());
    script.done.clear();
    script.signal(Signal::SIGTERM);
    assert_eq!(news(&script, 1), [News::Stopping]);
    assert!(!script.did(&Action::CloseMold { generation: 1 }));
    script.exit(worker, Ending::Code(0));
    assert_eq!(news(&script, 1), [News::Stopping, News::Died { worker, pid }]);
    assert!(script.did(&Action::CloseMold { generation: 1 }));
    assert!(!script.did(&Action::Exit(0)), "it may have something to clean up");
}

#[test]
fn the_mold_that_serves_hears_of_the_old_generations_deaths() {
    let mut script = Script::new();
    curious(&mut script, 1, 1);
    script.signal(Signal::SIGHUP);
    curious(&mut script, 2, 1);
    let died = |news: &News| matches!(news, News::Died { .. });
    assert_eq!(news(&script, 2).iter().filter(|news| died(news)).count(), 1);
    assert!(!news(&script, 2).contains(&News::Serving), "it is told once in a server's life");
}
