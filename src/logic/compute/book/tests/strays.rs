//! Jobs that the gateway has left behind, that it waits for, and that do not end.

use super::*;

#[test]
fn a_restart_forgets_no_job_and_no_joule_but_what_ran_begins_anew() {
    let work = work();
    let mut book = with(&work, &[("a", "local", 12.0), ("b", "train", 12.0)]);
    told(&mut book, &work, FREE, 9000.0, 1);
    book.hear(&id("a"), JobNews::Started, &work, second(1).utc);
    let spent = JobNews::Spent { energy: WattHours(7.0), cpu_s: 3.0, method: Method::Counter };
    book.hear(&id("a"), spent, &work, second(2).utc);
    let text = serde_json::to_string(&book.closed()).unwrap();
    let known: JobBook = serde_json::from_str(&text).unwrap();
    let again = known.clone().after_restart(&work, second(9));
    assert_eq!(again.jobs().len(), 2);
    let a = &again.jobs()[0];
    assert_eq!((a.state, a.used(), a.left()), (JobState::Waiting, WattHours(7.0), a.need));
    assert_eq!((a.failures, again.jobs()[1].failures), (1, 1), "they may have ended the gateway");
    let ending = 2.0 * 2000.0 * 10.0 / 3600.0;
    assert!(
        (again.spent().day_wh - 7.0 - ending).abs() < 1e-9,
        "what both may take until they end"
    );
    let smaller = Work { workloads: vec![workload("train", Some("node"))], ..Work::default() };
    let less = known.after_restart(&smaller, second(9));
    let a = &less.jobs()[0];
    assert_eq!((a.state, a.ended), (JobState::Failed, Some(second(9).utc)));
    assert_eq!(a.trouble.as_deref(), Some("the site file no longer allows it"));
    assert_eq!(less.accounts()[&id("local")].energy_wh, 7.0);
    assert_eq!(less.jobs()[1].state, JobState::Waiting);
    assert_eq!(less.clone().after_restart(&smaller, second(9)), less, "once is enough");
}

#[test]
fn a_crash_lifts_no_budget() {
    let budgeted = Work { per_hour: Some(WattHours(300.0)), ..work() };
    let mut book = JobBook::default();
    let mut wh = 0.0;
    let renew = |book: &mut JobBook, at: u64| {
        // What has ended the gateway waits: two others in its place.
        let old: Vec<Id> = book.jobs().iter().map(|job| job.ask.job.clone()).collect();
        old.into_iter().for_each(|job| book.order(Order::Cancel(job), &budgeted, second(at).utc));
        for job in ["a", "b"] {
            let ask = asked(&budgeted, &format!("{job}{at}"), "local", 12.0).unwrap();
            book.order(Order::Submit(ask), &budgeted, second(at).utc);
        }
    };
    // Killed every twenty seconds, before the book was kept again: what ran since is known to nobody.
    for at in (0..3600).step_by(20) {
        renew(&mut book, at);
        let told = told(&mut book, &budgeted, FREE, 0.0, at);
        for (job, power) in &told {
            wh += power * 20.0 / 3600.0;
            book.hear(&id(job), JobNews::Started, &budgeted, second(at).utc);
        }
        book = book.after_restart(&budgeted, second(at + 20));
    }
    assert!((100.0..=300.0).contains(&wh), "{wh} Wh");
    // One that was closed has less open: what jobs take until they have ended.
    renew(&mut book, 7200);
    told(&mut book, &budgeted, FREE, 0.0, 7200);
    book.hear(&id("a7200"), JobNews::Started, &budgeted, second(7200).utc);
    let before = book.spent().hour_wh;
    let after =
        |book: JobBook| book.after_restart(&budgeted, second(7230)).spent().hour_wh - before;
    let (ended, killed) = (after(book.closed()), after(book));
    assert!((ended - 4000.0 * 10.0 / 3600.0).abs() < 1e-9, "{ended} Wh");
    assert!((killed - 4000.0 * 30.0 / 3600.0).abs() < 1e-9, "{killed} Wh");
}

#[test]
fn a_share_that_rose_after_the_book_was_kept_lifts_no_budget() {
    let budgeted = Work { per_hour: Some(WattHours(300.0)), ..work() };
    let mut book = JobBook::default();
    let mut wh = 0.0;
    for at in (0..3600).step_by(30) {
        if let Some(last) = book.jobs().last().map(|job| job.ask.job.clone()) {
            book.order(Order::Cancel(last), &budgeted, second(at).utc);
        }
        let ask = asked(&budgeted, &format!("a{at}"), "local", 12.0).unwrap();
        book.order(Order::Submit(ask), &budgeted, second(at).utc);
        for (job, power) in told(&mut book, &budgeted, FREE, 0.0, at) {
            wh += power / 3600.0;
            book.hear(&id(&job), JobNews::Started, &budgeted, second(at).utc);
        }
        told(&mut book, &budgeted, NOT_YET, 0.0, at + 1);
        let kept = book.clone();
        // Its slot begins, and all is lost 28 s later.
        let told = told(&mut book, &budgeted, FREE, 0.0, at + 2);
        assert_eq!(book.changes(), kept.changes(), "nothing for which it is kept");
        wh += told.iter().map(|(_, power)| power * 28.0 / 3600.0).sum::<f64>();
        book = kept.after_restart(&budgeted, second(at + 30));
    }
    assert!((150.0..=300.0).contains(&wh), "{wh} Wh");
}

#[test]
fn what_may_have_ended_the_gateway_waits_longer_each_time() {
    let work = work();
    let mut book = with(&work, &[("a", "local", 12.0)]);
    let mut at = 0;
    for ended in 1..=3 {
        assert_eq!(told(&mut book, &work, FREE, 0.0, at).len(), 1, "{ended}");
        if ended == 2 {
            book.hear(&id("a"), JobNews::Started, &work, second(at).utc);
        }
        book = book.after_restart(&work, second(at + 1));
        let pause = 60 * ended;
        assert_eq!(told(&mut book, &work, FREE, 0.0, at + pause), [], "{ended}");
        assert_eq!(why(&book, "a"), JobReason::RetryWaits);
        at += pause + 1;
    }
}

#[test]
fn what_is_there_each_time_the_gateway_ends_is_not_tried_for_ever() {
    let work = work();
    let mut book = with(&work, &[("a", "local", 12.0), ("b", "local", 12.0)]);
    book.order(Order::Pause(id("b")), &work, second(0).utc);
    // It may fail once by itself, and two more times with the gateway.
    for hour in 0..4 {
        assert_eq!(told(&mut book, &work, FREE, 0.0, hour * 3600).len(), 1, "{hour}");
        book = book.after_restart(&work, second(hour * 3600 + 1));
    }
    let states: Vec<JobState> = book.jobs().iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Failed, JobState::Waiting], "{:?}", book.jobs());
    let why = book.jobs()[0].trouble.as_deref();
    assert_eq!(why, Some("the gateway has ended again and again while it ran"));
}

#[test]
fn a_job_that_is_told_to_begin_and_then_to_wait_is_not_forgotten_before_it_is_heard() {
    let work = work();
    let mut book = with(&work, &[("a", "train", 12.0)]);
    let errands = |book: &mut JobBook, share: Share, at: u64| {
        book.wish(&work, |_| share, second(at));
        let errands = book.settle(&work, |_| Some(Watts(9000.0)));
        errands.iter().map(|e| (e.power.get(), e.begin, e.attempt)).collect::<Vec<_>>()
    };
    assert_eq!(errands(&mut book, NOT_YET, 0), [], "nothing was told");
    assert_eq!(errands(&mut book, FREE, 1), [(1500.0, true, 1)]);
    assert_eq!(errands(&mut book, NOT_YET, 2), [(0.0, true, 1)], "it may begin meanwhile");
    book.hear(&id("a"), JobNews::Started, &work, second(3).utc);
    assert_eq!(errands(&mut book, NOT_YET, 3), [(0.0, false, 1)]);
    book.hear(&id("a"), JobNews::Failed("no".into()), &work, second(4).utc);
    assert_eq!(errands(&mut book, FREE, 5), [], "it rests");
    assert_eq!(errands(&mut book, FREE, 65), [(1500.0, true, 2)], "another try");
    book.hear(&id("a"), JobNews::Failed("no".into()), &work, second(66).utc);
    assert_eq!((errands(&mut book, FREE, 200), book.jobs()[0].state), (vec![], JobState::Failed));
}

#[test]
fn a_clock_that_was_ahead_keeps_no_job_from_its_next_try() {
    let work = work();
    let mut book = with(&work, &[("a", "local", 12.0)]);
    told(&mut book, &work, FREE, 0.0, 0);
    // It fails while the clock is an hour ahead.
    book.hear(&id("a"), JobNews::Failed("no".into()), &work, second(3600).utc);
    assert_eq!(told(&mut book, &work, FREE, 0.0, 3601), []);
    assert_eq!(told(&mut book, &work, FREE, 0.0, 1), [("a".into(), 1500.0)]);
}

#[test]
fn what_hangs_gives_its_place_up_and_what_a_person_holds_does_not() {
    let mut work = work();
    let day = 86_400;
    for (within_h, hangs_after) in [(1.0, day), (20.0, 40 * 3600)] {
        work.workloads.iter_mut().for_each(|workload| workload.within_h = within_h);
        let mut book = with(&work, &[("a", "local", 1.0), ("held", "local", 1.0)]);
        told(&mut book, &work, FREE, 0.0, 0);
        for job in ["a", "held"] {
            book.hear(&id(job), JobNews::Started, &work, second(1).utc);
        }
        book.order(Order::Pause(id("held")), &work, second(2).utc);
        let late = 3601;
        told(&mut book, &work, FREE, 0.0, late);
        told(&mut book, &work, FREE, 0.0, late + hangs_after - 1);
        assert_eq!(book.jobs()[0].state, JobState::Running, "{within_h} h");
        told(&mut book, &work, FREE, 0.0, late + hangs_after);
        let states: Vec<JobState> = book.jobs().iter().map(|job| job.state).collect();
        assert_eq!(states, [JobState::Failed, JobState::Paused], "{within_h} h");
        assert!(book.jobs()[0].trouble.is_some());
    }
    // A clock that is set forward by a year is no year in which it hung.
    let mut book = with(&work, &[("a", "local", 1.0)]);
    told(&mut book, &work, FREE, 0.0, 0);
    book.hear(&id("a"), JobNews::Started, &work, second(1).utc);
    let ahead = Moment { utc: second(365 * day).utc, ..second(2) };
    book.wish(&work, |_| FREE, ahead);
    assert_eq!(book.jobs()[0].state, JobState::Running);
}
