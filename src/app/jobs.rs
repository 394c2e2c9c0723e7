//! The crew: runs the jobs that the controller grants, as programs below a warden or on a remote node,
//! and tells it what they take. The book of jobs is kept on disk here, too, by a thread of its own: a slow
//! disk holds up no job, and a program that is slow to end no book.
//!
//! What a stranger gets wrong: a job that the newest decision does not name is ended, and when there is
//! no fresh decision every job waits. The crew never decides that something may run.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::control::{RunError, named};
use crate::config::{Computing, Runner};
use crate::io::clock::Clock;
use crate::io::store::{write_book, write_days};
use crate::io::workers::{Endpoint, Hold, Meter, Report, Worker, delegated, sweep};
use crate::logic::compute::{Errand, HeldBy, JobBook, JobNews, MOST_LIVE, Taken, TooLong, need};
use crate::logic::decision::{Decision, Overview};
use crate::logic::observation::Observation;
use crate::logic::site::{Daybook, Id, Order, Work};
use crate::units::{Moment, WattHours, Watts};

/// How often the crew looks up, wall time.
const LOOKS_EVERY: Duration = Duration::from_millis(100);
/// How often joules are told.
const METERS_EVERY: Duration = Duration::from_secs(1);
/// Older decisions grant nothing.
const FRESH: Duration = Duration::from_secs(5);
/// How long a job that is not wanted any more may take to end before it is killed, wall time.
const LEAVES_IN: Duration = Duration::from_secs(3);
/// News that may wait for the controller before no more joules are told; the next ones hold the sum.
const MOST_NEWS: usize = 512;

/// What the crew needs.
pub struct Crew {
    /// How jobs are run.
    pub computing: Computing,
    /// What may be asked for.
    pub work: Work,
    /// The newest decision.
    pub decisions: watch::Receiver<Option<Arc<Decision>>>,
    /// The books, whenever they should be kept.
    pub books: Receiver<Books>,
    /// The way to the controller.
    pub observations: SyncSender<Observation>,
    /// Site time.
    pub clock: Clock,
    /// The site file.
    pub file: PathBuf,
    /// Folder of the models.
    pub models: PathBuf,
    /// The state folder.
    pub state: PathBuf,
}

/// What is to be kept now.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// The book of jobs.
    pub jobs: Option<JobBook>,
    /// The daybook.
    pub days: Option<Daybook>,
}

/// What [`start`] has started.
pub struct Threads {
    /// Runs jobs; ends, and all jobs with it, when it is told to stop.
    pub hands: JoinHandle<()>,
    /// Keeps the book; ends when the controller's side of `books` is gone, and has kept the last one then.
    pub book: JoinHandle<()>,
}

/// Understands wishes about jobs and hands them on; the job that each is about, or why not.
pub use crate::io::web::Orders;

/// The one way in for orders, however they were asked.
#[must_use]
pub fn orders(
    work: Work,
    overview: watch::Receiver<Option<Arc<Overview>>>,
    (observations, clock): (SyncSender<Observation>, Clock),
) -> Orders {
    Arc::new(move |wish| {
        let at = clock.now();
        let live: Vec<Id> = overview
            .borrow()
            .iter()
            .flat_map(|o| &o.jobs)
            .filter(|job| !job.state.is_over())
            .map(|job| job.id.clone())
            .collect();
        let name = format!("j{}-{:04x}", at.utc.format("%y%m%d-%H%M%S"), fastrand::u16(..));
        let fresh = Id::try_from(name).map_err(|error| error.to_string())?;
        let order = work
            .order(wish, (fresh, MOST_LIVE), &live, at.utc)
            .map_err(|error| error.to_string())?;
        let too_long = too_long(&order, (&work, overview.borrow().as_deref()), at);
        let taken = Taken { job: order.job().clone(), too_long };
        match observations.try_send(Observation::Ordered { order, at }) {
            Ok(()) => Ok(taken),
            Err(_) => Err("the controller is behind: try again".to_owned()),
        }
    })
}

/// Whether a new job cannot be done in time, as the controller will reckon.
fn too_long(
    order: &Order,
    (work, overview): (&Work, Option<&Overview>),
    at: Moment,
) -> Option<TooLong> {
    let Order::Submit(ask) = order else { return None };
    let workload = work.workload(ask.workload.as_str())?;
    let budget = overview.and_then(|overview| overview.job_budget.as_ref());
    let account = budget.and_then(|budget| budget.accounts.get(&ask.workload));
    TooLong::told(workload, need(workload, account), (at.utc, ask.deadline))
}

fn keep(state: &Path, books: &Receiver<Books>) {
    while let Ok(Books { jobs, days }) = books.recv() {
        if let Some(Err(error)) = jobs.map(|jobs| write_book(state, &jobs)) {
            tracing::warn!(%error, "the book of jobs could not be kept");
        }
        if let Some(Err(error)) = days.map(|days| write_days(state, &days)) {
            tracing::warn!(%error, "the daybook could not be kept");
        }
    }
}

/// Starts the crew.
///
/// # Errors
/// When a thread cannot be started.
pub fn start(crew: Crew, stop: Arc<AtomicBool>) -> Result<Threads, RunError> {
    let Crew { computing, work, decisions, books, observations, clock, file, models, state } = crew;
    let place = |(name, path): (&str, &Path)| {
        // A program does not stand in the folder in which the gateway was started.
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        format!("--{name}={}", whole.display())
    };
    let places = [("config", file.as_path()), ("state", &state), ("models", &models)].map(place);
    let book = named("book", move || keep(&state, &books))?;
    let meter = Meter::find(&computing.powercap, computing.watts_per_core, computing.idle_w);
    let groups = computing.cgroup.or_else(delegated);
    groups.as_deref().into_iter().for_each(sweep);
    let hands = named("jobs", move || {
        let mut hands = Hands {
            runners: computing.runners,
            groups,
            places: places.to_vec(),
            work,
            decisions,
            observations,
            clock,
            meter,
            metered: Clock::real().now(),
            running: BTreeMap::new(),
            leaving: Vec::new(),
            news: VecDeque::new(),
            rested: BTreeMap::new(),
            sequence: 0,
        };
        while !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(LOOKS_EVERY);
            hands.turn();
        }
        // All are asked before the first is waited for.
        hands.running.values_mut().for_each(|job| job.hand.stop());
    })?;
    Ok(Threads { hands, book })
}

/// Where a job runs.
enum Hand {
    Program(Worker),
    Node(Endpoint),
}

impl Hand {
    fn report(&mut self) -> std::io::Result<Option<Report>> {
        match self {
            Hand::Program(worker) => worker.report(),
            Hand::Node(endpoint) => endpoint.report(),
        }
    }

    fn stop(&mut self) {
        match self {
            Hand::Program(worker) => worker.stop(),
            Hand::Node(endpoint) => endpoint.stop(),
        }
    }
}

struct Running {
    hand: Hand,
    /// Energy is metered at the node.
    on_node: bool,
    cpu_s: f64,
    metered_cpu_s: f64,
    joules: f64,
}

impl Running {
    fn new_cpu_s(&self) -> f64 {
        (self.cpu_s - self.metered_cpu_s).max(0.0)
    }

    /// Turns the CPU time since the last look into joules; the sum, where there is more of it.
    fn account(&mut self, meter: &Meter) -> Option<JobNews> {
        let new = self.new_cpu_s();
        if self.on_node || new <= 0.0 {
            return None;
        }
        self.joules += meter.joules(new);
        self.metered_cpu_s = self.cpu_s;
        let energy = WattHours(self.joules / 3600.0);
        Some(JobNews::Spent { energy, cpu_s: self.cpu_s, method: meter.method() })
    }

    /// Whether a job that was asked to end has.
    fn has_left(&mut self) -> bool {
        loop {
            match self.hand.report() {
                Ok(None) => return false,
                Ok(Some(Report::CpuS(cpu_s))) => self.cpu_s = cpu_s.max(self.cpu_s),
                Ok(Some(Report::Ended { cpu_s, .. })) => {
                    self.cpu_s = cpu_s.max(self.cpu_s);
                    return true;
                }
                Ok(Some(Report::Began(_) | Report::HeldBy(_) | Report::NotStarted(_))) => {}
                Err(_) => return true,
            }
        }
    }
}

struct Hands {
    runners: BTreeMap<Id, Runner>,
    /// Folder below which control groups of programs may be made.
    groups: Option<PathBuf>,
    /// Where things are, as what is built in is told.
    places: Vec<String>,
    work: Work,
    decisions: watch::Receiver<Option<Arc<Decision>>>,
    observations: SyncSender<Observation>,
    clock: Clock,
    meter: Meter,
    metered: Moment,
    running: BTreeMap<Id, Running>,
    /// Jobs that nobody wants any more and that still take something, with when they were asked to end.
    leaving: Vec<(Id, Running, Moment)>,
    news: VecDeque<Observation>,
    /// Jobs that have ended here, and the decision from which on they may begin again: those before it
    /// were made without knowing.
    rested: BTreeMap<Id, u64>,
    sequence: u64,
}

impl Hands {
    fn turn(&mut self) {
        let decision = self.decisions.borrow().clone();
        let now = self.clock.now();
        let fresh = decision.filter(|decision| decision.at.age_at(now) < FRESH);
        match fresh {
            Some(decision) => {
                self.sequence = decision.sequence;
                self.obey(&decision.errands);
            }
            None => self.running.values_mut().for_each(|job| allow(job, 0.0, 1.0)),
        }
        self.hear();
        let wall = Clock::real().now();
        let span = self.metered.age_at(wall);
        if span >= METERS_EVERY {
            self.metered = wall;
            self.meter(span);
        }
        self.see_off(wall);
        while let Some(next) = self.news.pop_front() {
            if let Err(full) = self.observations.try_send(next) {
                let (std::sync::mpsc::TrySendError::Full(next)
                | std::sync::mpsc::TrySendError::Disconnected(next)) = full;
                self.news.push_front(next);
                break;
            }
        }
    }

    /// The last joules of those that have left; who takes too long is killed.
    fn see_off(&mut self, wall: Moment) {
        for (id, mut job, since) in std::mem::take(&mut self.leaving) {
            let gone = job.has_left() || since.age_at(wall) >= LEAVES_IN;
            if !gone {
                self.leaving.push((id, job, since));
            } else if let Some(spent) = job.account(&self.meter) {
                self.tell(&id, spent);
            }
        }
    }

    fn tell(&mut self, job: &Id, news: JobNews) {
        let at = self.clock.now();
        self.news.push_back(Observation::Job { job: job.clone(), news, at });
    }

    /// Starts, allows, ends: as the errands say.
    fn obey(&mut self, errands: &[Errand]) {
        let named = |id: &Id| errands.iter().any(|errand| errand.job == *id);
        let gone: Vec<Id> = self.running.keys().filter(|id| !named(id)).cloned().collect();
        for id in gone {
            if let Some(mut job) = self.running.remove(&id) {
                job.hand.stop();
                self.leaving.push((id, job, Clock::real().now()));
            }
        }
        let watts_per_core = self.meter.watts_per_core();
        if self.news.is_empty() {
            let sequence = self.sequence;
            self.rested.retain(|_, from| *from > sequence);
        } else {
            let from = self.known_from();
            self.rested.values_mut().for_each(|rested| *rested = from);
        }
        for errand in errands {
            if let Some(running) = self.running.get_mut(&errand.job) {
                allow(running, errand.power.get(), watts_per_core);
            } else if self.waits(errand) {
            } else if errand.begin {
                self.begin(errand);
            } else {
                // The controller thinks that it runs, and it does not.
                self.end(&errand.job, JobNews::Failed("it is not running".to_owned()));
            }
        }
    }

    /// Whether a job that does not run is left as it is: the next decisions will know that it has ended, or it is still
    /// ending, or has no power to begin with.
    fn waits(&self, errand: &Errand) -> bool {
        let leaves = self.leaving.iter().any(|(id, ..)| *id == errand.job);
        let unpowered = errand.begin && errand.power <= Watts::ZERO;
        leaves || unpowered || self.rested.contains_key(&errand.job)
    }

    fn begin(&mut self, errand: &Errand) {
        let workload = self.work.workload(errand.workload.as_str());
        let on_node = workload.is_some_and(|workload| workload.node.is_some());
        let runner = self.runners.get(&errand.workload);
        let power = errand.power.get();
        let hand = match runner {
            None => Err(std::io::Error::other("it is not in the site file")),
            Some(Runner::Command { program, arguments }) => {
                let arguments = filled(arguments, &errand.parameters);
                self.start_program(Some(program), &arguments, power)
            }
            Some(Runner::BuiltIn(built_in)) => {
                let at = self.clock.now().utc.to_rfc3339();
                let mut arguments = vec!["built-in".to_owned(), built_in.name().to_owned()];
                arguments.extend([format!("--at={at}")].into_iter().chain(self.places.clone()));
                let chosen = errand.parameters.iter();
                let chosen = chosen.map(|(name, value)| (name.replace('_', "-"), value));
                arguments.extend(chosen.map(|(name, value)| format!("--{name}={value}")));
                self.start_program(None, &arguments, power)
            }
            Some(Runner::Endpoint(url)) => {
                let names = (&errand.job, errand.attempt, &errand.workload);
                Endpoint::start(url, names, &errand.parameters, power).map(Hand::Node)
            }
        };
        match hand {
            Ok(hand) => {
                let running =
                    Running { hand, on_node, cpu_s: 0.0, metered_cpu_s: 0.0, joules: 0.0 };
                self.running.insert(errand.job.clone(), running);
            }
            Err(error) => self.end(&errand.job, JobNews::Failed(error.to_string())),
        }
    }

    /// A program below a warden; this one itself, where none is named.
    fn start_program(
        &self,
        program: Option<&Path>,
        arguments: &[String],
        power_w: f64,
    ) -> std::io::Result<Hand> {
        let gateway = super::service::own_program()?;
        let cores = power_w / self.meter.watts_per_core();
        let hold = Hold { cores, groups: self.groups.as_deref() };
        let program = program.unwrap_or(&gateway);
        Worker::start(&gateway, program, arguments, hold).map(Hand::Program)
    }

    /// What wardens and nodes report.
    fn hear(&mut self) {
        let ids: Vec<Id> = self.running.keys().cloned().collect();
        for id in ids {
            while let Some(running) = self.running.get_mut(&id) {
                match running.hand.report() {
                    Ok(None) => break,
                    Ok(Some(Report::Began(_))) => {
                        let on_node = running.on_node;
                        self.tell(&id, JobNews::Started);
                        if on_node {
                            self.tell(&id, JobNews::HeldBy(HeldBy::Node));
                        }
                    }
                    Ok(Some(Report::HeldBy(means))) => self.tell(&id, JobNews::HeldBy(means)),
                    Ok(Some(Report::CpuS(cpu_s))) => running.cpu_s = cpu_s,
                    Ok(Some(Report::Ended { code, cpu_s, output, .. })) => {
                        running.cpu_s = cpu_s.max(running.cpu_s);
                        let last = last(&output);
                        let news = match code {
                            Some(0) => JobNews::Done,
                            Some(code) => JobNews::Failed(format!("exit code {code}: {last}")),
                            None => JobNews::Failed(format!("ended by a signal: {last}")),
                        };
                        self.end(&id, news);
                    }
                    Ok(Some(Report::NotStarted(why))) => self.end(&id, JobNews::Failed(why)),
                    Err(_) => self.end(&id, JobNews::Failed("its warden is gone".to_owned())),
                }
            }
        }
    }

    /// The first decision that surely knows what is told now: one may be in the making, and one more may be
    /// made before the controller has taken in what has come.
    fn known_from(&self) -> u64 {
        let newest = self.decisions.borrow().as_ref().map(|decision| decision.sequence);
        newest.unwrap_or(self.sequence) + 3
    }

    /// The last joules, then the end.
    fn end(&mut self, id: &Id, news: JobNews) {
        self.account(id);
        if let Some(mut job) = self.running.remove(id).filter(|job| job.on_node) {
            // Its node may have to be told, and may not answer: nobody waits for that.
            job.hand.stop();
            self.leaving.push((id.clone(), job, Clock::real().now()));
        }
        self.rested.insert(id.clone(), self.known_from());
        self.tell(id, news);
    }

    fn meter(&mut self, span: Duration) {
        let running = self.running.values().chain(self.leaving.iter().map(|(_, job, _)| job));
        let all = running.filter(|job| !job.on_node).map(Running::new_cpu_s).sum();
        self.meter.read(span, all);
        if self.news.len() >= MOST_NEWS {
            return;
        }
        let ids: Vec<Id> = self.running.keys().cloned().collect();
        for id in ids {
            self.account(&id);
        }
        let mut leaving = std::mem::take(&mut self.leaving);
        for (id, job, _) in &mut leaving {
            if let Some(spent) = job.account(&self.meter) {
                self.tell(id, spent);
            }
        }
        self.leaving = leaving;
    }

    fn account(&mut self, id: &Id) {
        let spent = self.running.get_mut(id).and_then(|job| job.account(&self.meter));
        if let Some(spent) = spent {
            self.tell(id, spent);
        }
    }
}

fn allow(job: &mut Running, power_w: f64, watts_per_core: f64) {
    match &mut job.hand {
        Hand::Program(worker) => worker.allow(power_w / watts_per_core),
        Hand::Node(endpoint) => endpoint.allow(power_w),
    }
}

/// `{name}` becomes the value of that parameter, as one whole argument: no shell reads it.
fn filled(arguments: &[String], parameters: &BTreeMap<String, String>) -> Vec<String> {
    let fill = |argument: &String| {
        let inner = argument.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        inner.and_then(|name| parameters.get(name)).unwrap_or(argument).clone()
    };
    arguments.iter().map(fill).collect()
}

fn last(output: &str) -> &str {
    output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim()
}
