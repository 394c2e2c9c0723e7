//! The book of jobs, a second at a time.

mod strays;

use super::super::job::HeldBy;
use super::*;
use crate::logic::site::{Allowed, NotAllowed, SubmissionWords};

fn id(text: &str) -> Id {
    Id::try_from(text).unwrap()
}

fn second(s: u64) -> Moment {
    let utc = DateTime::from_timestamp(1_700_006_400, 0).unwrap();
    Moment { uptime: Duration::from_secs(1000), utc }.after(Duration::from_secs(s))
}

fn workload(name: &str, node: Option<&str>) -> Workload {
    Workload {
        id: id(name),
        name: name.into(),
        node: node.map(id),
        energy: WattHours(1000.0),
        min: Watts(500.0),
        max: Watts(2000.0),
        within_h: 12.0,
        priority: 1,
        preemptible: true,
        retries: 1,
        parameters: [("n".to_owned(), Allowed::Number { min: 1.0, max: 9.0 })].into(),
    }
}

fn work() -> Work {
    let train = workload("train", Some("node"));
    let solid = Workload { preemptible: false, ..workload("solid", Some("node")) };
    Work { workloads: vec![train, solid, workload("local", None)], ..Work::default() }
}

fn asked(work: &Work, job: &str, workload: &str, hours: f64) -> Result<Submission, NotAllowed> {
    let words = SubmissionWords {
        parameters: [("n".to_owned(), 3.into())].into(),
        within_h: Some(hours),
        priority: None,
    };
    work.understand(id(job), workload, &words, second(0).utc)
}

fn with(work: &Work, jobs: &[(&str, &str, f64)]) -> JobBook {
    let mut book = JobBook::default();
    for (job, workload, hours) in jobs {
        let ask = asked(work, job, workload, *hours).unwrap();
        book.order(Order::Submit(ask), work, second(0).utc);
    }
    book
}

const FREE: Share = Share { power: Some(Watts(1500.0)), plans: true, shed: false };
const NOT_YET: Share = Share { power: Some(Watts(0.0)), plans: true, shed: false };

fn told(book: &mut JobBook, work: &Work, share: Share, left: f64, at: u64) -> Vec<(String, f64)> {
    book.wish(work, |_| share, second(at));
    let errands = book.settle(work, |_| Some(Watts(left)));
    errands.into_iter().map(|e| (e.job.to_string(), e.power.get())).collect()
}

fn why(book: &JobBook, job: &str) -> JobReason {
    book.jobs().iter().find(|j| j.ask.job.as_str() == job).unwrap().why
}

#[test]
fn a_job_waits_for_its_share_runs_pauses_and_ends() {
    let work = work();
    let mut book = with(&work, &[("a", "train", 12.0)]);
    assert_eq!(told(&mut book, &work, NOT_YET, 9000.0, 1), []);
    assert_eq!(why(&book, "a"), JobReason::PlanWaits);
    assert_eq!(told(&mut book, &work, FREE, 9000.0, 2), [("a".into(), 1500.0)]);
    book.hear(&id("a"), JobNews::Started, &work, second(3).utc);
    assert_eq!(book.jobs()[0].state, JobState::Running);
    assert_eq!(told(&mut book, &work, NOT_YET, 9000.0, 4), [("a".into(), 0.0)]);
    assert_eq!(book.jobs()[0].state, JobState::Paused);
    book.order(Order::Pause(id("a")), &work, second(5).utc);
    told(&mut book, &work, FREE, 9000.0, 5);
    assert_eq!(why(&book, "a"), JobReason::Held);
    book.order(Order::Resume(id("a")), &work, second(6).utc);
    assert_eq!(told(&mut book, &work, FREE, 900.0, 6), [("a".into(), 900.0)], "the node's room");
    assert_eq!(told(&mut book, &work, FREE, 400.0, 7), [("a".into(), 0.0)]);
    assert_eq!(why(&book, "a"), JobReason::NodeLimit);
    book.hear(&id("a"), JobNews::Done, &work, second(8).utc);
    assert_eq!(told(&mut book, &work, FREE, 9000.0, 9), []);
    assert_eq!(book.accounts()[&id("train")].done, 1);
}

#[test]
fn a_near_deadline_waits_for_no_plan_and_a_lost_node_is_waited_for() {
    let work = work();
    let mut book = with(&work, &[("a", "train", 2.0)]);
    assert_eq!(told(&mut book, &work, NOT_YET, 9000.0, 0), []);
    // 1 kWh at 2 kW takes half an hour; with a tenth and an hour of slack it begins 93 min before.
    assert_eq!(told(&mut book, &work, NOT_YET, 9000.0, 1500), []);
    assert_eq!(told(&mut book, &work, NOT_YET, 9000.0, 1680), [("a".into(), 2000.0)]);
    assert_eq!(why(&book, "a"), JobReason::DeadlineNear);
    book.wish(&work, |_| NOT_YET, second(1700));
    let errands = book.settle(&work, |_| None);
    assert_eq!((errands.len(), errands[0].power), (1, Watts::ZERO), "it may have begun");
    assert_eq!(why(&book, "a"), JobReason::NodeLost);
}

#[test]
fn a_job_that_takes_more_than_was_thought_is_planned_at_once_and_not_before_its_deadline() {
    let work = work();
    let mut book = with(&work, &[("a", "train", 12.0)]);
    told(&mut book, &work, FREE, 9000.0, 1);
    book.hear(&id("a"), JobNews::Started, &work, second(1).utc);
    let mut due_after = |wh: f64, at: u64| {
        let energy = WattHours(wh);
        let news = JobNews::Spent { energy, cpu_s: 0.0, method: Method::NodeMeter };
        book.hear(&id("a"), news, &work, second(at).utc);
        (book.tasks(&work, second(at).utc)[0].deadline - second(at).utc).num_seconds()
    };
    assert_eq!(due_after(1099.0, 3600), 9 * 3600, "two hours before its deadline");
    // A tenth of what a run is thought to take is a hundred watt-hours: three minutes at full power.
    assert_eq!(due_after(1101.0, 3600), 180);
}

#[test]
fn what_may_not_be_interrupted_is_not_and_the_more_urgent_comes_first() {
    let work = work();
    let mut book = with(&work, &[("later", "train", 12.0), ("solid", "solid", 12.0)]);
    told(&mut book, &work, FREE, 9000.0, 1);
    book.hear(&id("solid"), JobNews::Started, &work, second(2).utc);
    let now = told(&mut book, &work, NOT_YET, 9000.0, 3);
    assert_eq!(now, [("later".into(), 0.0), ("solid".into(), 2000.0)]);
    assert_eq!(why(&book, "solid"), JobReason::MustNotStop);
    let urgent = asked(&work, "urgent", "train", 11.0).unwrap();
    book.order(Order::Submit(Submission { priority: 9, ..urgent }), &work, second(4).utc);
    let now = told(&mut book, &work, FREE, 1700.0, 5);
    assert_eq!(now[..2], [("later".into(), 0.0), ("solid".into(), 0.0)]);
    assert_eq!(now[2..], [("urgent".into(), 1500.0)]);
}

#[test]
fn the_budget_stops_jobs_in_order_and_a_new_hour_lets_them_go_on() {
    let budgeted = Work { per_hour: Some(WattHours(300.0)), ..work() };
    let mut book = with(&budgeted, &[("a", "local", 12.0)]);
    let mut wh = 0.0;
    let mut hours = [0.0; 4];
    for s in 0..4 * 3600 {
        let told = told(&mut book, &budgeted, FREE, 0.0, s);
        if told.iter().any(|(_, power)| *power > 0.0) {
            book.hear(&id("a"), JobNews::Started, &budgeted, second(s).utc);
        }
        let power: f64 = told.iter().map(|(_, power)| power).sum();
        wh += power / 3600.0;
        hours[(s / 3600) as usize] += power / 3600.0;
        if s % 5 == 0 {
            let news = JobNews::Spent { energy: WattHours(wh), cpu_s: wh, method: Method::CpuTime };
            book.hear(&id("a"), news, &budgeted, second(s).utc);
        }
    }
    assert!(hours.iter().all(|wh| *wh <= 300.0), "{hours:?}");
    assert!(hours[..3].iter().all(|wh| *wh > 285.0), "{hours:?}");
}

#[test]
fn a_failed_job_is_tried_again_and_costs_what_it_took() {
    let work = work();
    let mut book = with(&work, &[("a", "local", 12.0)]);
    let spent =
        |wh: f64| JobNews::Spent { energy: WattHours(wh), cpu_s: 1.0, method: Method::CpuTime };
    for (try_, at) in [(0, 0), (1, 100)] {
        assert_eq!(told(&mut book, &work, FREE, 0.0, at).len(), 1, "try {try_}");
        book.hear(&id("a"), JobNews::Started, &work, second(at).utc);
        book.hear(&id("a"), spent(40.0), &work, second(at).utc);
        book.hear(
            &id("a"),
            JobNews::Failed("exit code 3: \u{1b}[31mred\n\u{7}".into()),
            &work,
            second(at).utc,
        );
        if try_ == 0 {
            assert_eq!(told(&mut book, &work, FREE, 0.0, 30), [], "it waits a minute");
            assert_eq!(why(&book, "a"), JobReason::RetryWaits);
        }
    }
    let job = &book.jobs()[0];
    assert_eq!((job.state, job.used(), job.failures), (JobState::Failed, WattHours(80.0), 2));
    assert_eq!(job.trouble.as_deref(), Some("exit code 3: [31mred"), "no control characters");
    assert_eq!(book.accounts()[&id("local")].energy_wh, 80.0);
}

#[test]
fn what_a_cancelled_job_takes_until_it_has_ended_counts() {
    let work = work();
    let mut book = with(&work, &[("a", "local", 12.0)]);
    told(&mut book, &work, FREE, 0.0, 1);
    let spent =
        |wh: f64| JobNews::Spent { energy: WattHours(wh), cpu_s: 1.0, method: Method::CpuTime };
    book.hear(&id("a"), JobNews::Started, &work, second(1).utc);
    book.hear(&id("a"), spent(5.0), &work, second(2).utc);
    book.order(Order::Cancel(id("a")), &work, second(3).utc);
    book.hear(&id("a"), spent(12.0), &work, second(4).utc);
    assert!((book.spent().hour_wh - 12.0).abs() < 1e-9, "{:?}", book.spent());
    assert_eq!(book.accounts()[&id("local")].energy_wh, 12.0);
    assert_eq!(book.jobs()[0].used(), WattHours(12.0));
}

#[test]
fn a_node_that_draws_on_while_its_jobs_wait_draws_for_them() {
    let work = work();
    let mut book = with(&work, &[("a", "train", 12.0), ("b", "train", 12.0), ("c", "train", 12.0)]);
    told(&mut book, &work, FREE, 9000.0, 1);
    for job in ["a", "b"] {
        book.hear(&id(job), JobNews::Started, &work, second(1).utc);
    }
    let used =
        |book: &JobBook| -> Vec<f64> { book.jobs().iter().map(|j| j.used().get()).collect() };
    book.meter(&id("node"), Watts(3600.0), &work, second(1));
    book.meter(&id("node"), Watts(3600.0), &work, second(3));
    assert_eq!(
        used(&book),
        [1.0, 1.0, 0.0],
        "as they were granted, and nothing to who has not begun"
    );
    told(&mut book, &work, NOT_YET, 9000.0, 4);
    assert_eq!(book.jobs()[0].state, JobState::Paused);
    book.meter(&id("node"), Watts(3600.0), &work, second(5));
    assert_eq!(used(&book), [2.0, 2.0, 0.0], "alike where nobody is granted anything");
    assert!((book.spent().hour_wh - 4.0).abs() < 1e-9, "{:?}", book.spent());
}

#[test]
fn few_jobs_run_on_the_gateway_at_a_time_and_none_while_the_fire_watch_needs_it() {
    let mut work = work();
    work.workloads.push(Workload { preemptible: false, ..workload("firm", None) });
    let mut book = with(&work, &[("firm", "firm", 12.0)]);
    told(&mut book, &work, FREE, 9000.0, 1);
    book.hear(&id("firm"), JobNews::Started, &work, second(1).utc);
    for job in ["a", "b", "c", "d", "e", "node"] {
        let workload = if job == "node" { "train" } else { "local" };
        let ask = asked(&work, job, workload, 11.0).unwrap();
        book.order(Order::Submit(ask), &work, second(1).utc);
    }
    let names = |told: Vec<(String, f64)>| -> Vec<String> {
        told.into_iter().filter(|(_, power)| *power > 0.0).map(|(name, _)| name).collect()
    };
    let now = names(told(&mut book, &work, FREE, 9000.0, 2));
    assert_eq!(now, ["firm", "a", "b", "c", "node"], "what may not be stopped keeps its place");
    assert_eq!(why(&book, "d"), JobReason::Crowded);
    book.hear(&id("a"), JobNews::Done, &work, second(3).utc);
    assert_eq!(names(told(&mut book, &work, FREE, 9000.0, 3)), ["firm", "b", "c", "d", "node"]);
    let shed = Share { shed: true, ..FREE };
    assert_eq!(names(told(&mut book, &work, shed, 9000.0, 4)), ["node"]);
    assert_eq!((why(&book, "b"), why(&book, "firm")), (JobReason::Shed, JobReason::Shed));
}

#[test]
fn nothing_left_is_nothing_also_for_jobs_that_need_no_least_power() {
    let mut work = work();
    work.workloads.iter_mut().for_each(|workload| workload.min = Watts::ZERO);
    let mut book = with(&work, &[("a", "train", 12.0)]);
    assert_eq!(told(&mut book, &work, FREE, 0.0, 1), []);
    assert_eq!(why(&book, "a"), JobReason::NodeLimit);
    let none = Work { per_hour: Some(WattHours(0.0)), ..work };
    assert_eq!(told(&mut book, &none, FREE, 9000.0, 2), []);
    assert_eq!(why(&book, "a"), JobReason::BudgetHour);
}

#[test]
fn the_book_is_bounded_and_learns_what_a_run_takes() {
    let work = work();
    let mut book = JobBook::default();
    for i in 0..200 {
        let ask = asked(&work, &format!("j{i}"), "local", 12.0).unwrap();
        book.order(Order::Submit(ask), &work, second(0).utc);
    }
    assert_eq!(book.jobs().len(), MOST_LIVE);
    for i in 0..MOST_LIVE {
        let job = id(&format!("j{i}"));
        let energy = WattHours(100.0);
        let news = JobNews::Spent { energy, cpu_s: 1.0, method: Method::CpuTime };
        book.hear(&job, news, &work, second(1).utc);
        book.hear(&job, JobNews::Done, &work, second(1).utc);
    }
    assert_eq!(book.jobs().len(), MOST_OVER);
    let ask = asked(&work, "next", "local", 12.0).unwrap();
    book.order(Order::Submit(ask), &work, second(2).utc);
    assert_eq!(book.jobs().last().unwrap().need, WattHours(100.0), "learned from runs");
}

#[test]
fn a_ledger_of_each_workload_and_job_holds_every_hour_and_every_try() {
    let work = work();
    let mut book = with(&work, &[("a", "local", 12.0), ("b", "train", 12.0)]);
    told(&mut book, &work, FREE, 9000.0, 0);
    book.hear(&id("a"), JobNews::Started, &work, second(0).utc);
    book.hear(&id("b"), JobNews::Started, &work, second(0).utc);
    let spent =
        |wh: f64| JobNews::Spent { energy: WattHours(wh), cpu_s: 0.0, method: Method::CpuTime };
    book.hear(&id("a"), spent(3.0), &work, second(60).utc);
    book.hear(&id("a"), spent(5.0), &work, second(120).utc);
    book.hear(&id("a"), JobNews::Failed("no".into()), &work, second(130).utc);
    // The node takes 1.8 kW for ten seconds: five watt-hours.
    for s in [200, 210] {
        book.meter(&id("node"), Watts(1800.0), &work, second(s));
    }
    // The next try, in the next hour.
    told(&mut book, &work, FREE, 9000.0, 3600);
    book.hear(&id("a"), JobNews::Started, &work, second(3601).utc);
    book.hear(&id("a"), JobNews::HeldBy(HeldBy::Turns), &work, second(3601).utc);
    book.hear(&id("a"), spent(7.0), &work, second(3700).utc);
    let tally = |workload: &str| book.tallies()[&id(workload)].clone();
    let (then, now) = (second(3000).utc, second(3700).utc);
    let local = tally("local");
    assert_eq!((local.hour(then).get(), local.hour(now).get()), (5.0, 7.0));
    assert_eq!((local.day(now).get(), local.all().get()), (12.0, 12.0));
    assert!((tally("train").hour(then).get() - 5.0).abs() < 1e-9);
    let job = &book.jobs()[0];
    assert_eq!((job.lately.hour_wh, job.lately.day_wh, job.used().get()), (7.0, 12.0, 12.0));
    assert_eq!(job.held_by, Some(HeldBy::Turns));
    // All tallies together are what the budget counts.
    let sum = local.day(now).get() + tally("train").day(now).get();
    assert!((book.spent().day_wh - sum).abs() < 1e-9);
}

#[test]
fn what_cannot_be_done_in_time_says_so_and_does_not_run_at_any_price() {
    let work = work();
    // Half an hour at full power: (hours it is given, late by, planned to be done in).
    let table = [
        (0.6, None),
        (0.5, None),
        (0.49, None),
        (0.4, Some((0.1, 12.0))),
        (0.1, Some((0.4, 12.0))),
    ];
    for (hours, wanted) in table {
        let ask = asked(&work, "a", "train", hours).unwrap();
        let train = work.workload("train").unwrap();
        let late = TooLong::told(train, need(train, None), (second(0).utc, ask.deadline));
        let late = late.map(|late| (late.late_h, (late.due - second(0).utc).num_seconds() as f64));
        match (late, wanted) {
            (None, None) => {}
            (Some((late, due)), Some((by, until))) => {
                assert!((late - by).abs() < 1e-6 && (due / 3600.0 - until).abs() < 1e-3, "{hours}");
            }
            other => panic!("{hours} h: {other:?}"),
        }
        let mut book = with(&work, &[("a", "train", hours)]);
        let runs = !told(&mut book, &work, NOT_YET, 9000.0, 1).is_empty();
        assert_eq!(runs, wanted.is_none(), "{hours} h: what can be in time still is");
        let expected = wanted.map(|_| second(12 * 3600).utc);
        assert_eq!(book.jobs()[0].due, expected, "{hours} h");
        if wanted.is_some() {
            assert_eq!(why(&book, "a"), JobReason::PlanWaits);
            assert_eq!(
                told(&mut book, &work, FREE, 9000.0, 2),
                [("a".into(), 1500.0)],
                "its share"
            );
            // In the end it is as near to its new time as any.
            told(&mut book, &work, NOT_YET, 9000.0, 11 * 3600);
            assert_eq!(why(&book, "a"), JobReason::DeadlineNear);
        }
    }
    // Where the site's own time is too short, too: as long again as it takes.
    let short = Workload { within_h: 0.1, ..workload("train", Some("node")) };
    let due = (second(0).utc, second(360).utc);
    let late = TooLong::told(&short, WattHours(1000.0), due).unwrap();
    assert_eq!((late.takes_h, late.due), (0.5, second(3600).utc));
    assert_eq!(TooLong::told(&short, WattHours(1e15), due).map(|t| t.late_h > 1e11), Some(true));
}

#[test]
fn the_longest_job_is_still_shown_when_it_has_ended() {
    let work = work();
    let mut book = with(&work, &[("long", "local", 12.0)]);
    for i in 0..MOST_OVER as u64 + 8 {
        let job = format!("short{i}");
        let ask = asked(&work, &job, "local", 12.0).unwrap();
        book.order(Order::Submit(ask), &work, second(i).utc);
        book.hear(&id(&job), JobNews::Done, &work, second(i).utc);
    }
    book.hear(&id("long"), JobNews::Done, &work, second(100).utc);
    let jobs: Vec<&str> = book.jobs().iter().map(|job| job.ask.job.as_str()).collect();
    assert_eq!((jobs.len(), jobs[0], jobs[1]), (MOST_OVER, "long", "short9"));
}
