//! The crew: runs the jobs that the controller grants, as programs below a warden or on a remote node,
//! and tells it what they take. The book of jobs is kept on disk here, too.
//!
//! What a stranger gets wrong: a job that the newest decision does not name is ended, and when there is
//! no fresh decision every job waits. The crew never decides that something may run.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::control::{RunError, named};
use crate::config::{Computing, Runner};
use crate::io::clock::Clock;
use crate::io::store::write_book;
use crate::io::workers::{Endpoint, Meter, Report, Worker};
use crate::logic::compute::{Errand, JobBook, JobNews, MOST_LIVE};
use crate::logic::decision::{Decision, Overview};
use crate::logic::observation::Observation;
use crate::logic::site::{Id, JobWish, Work};
use crate::units::{Moment, WattHours};

/// How often the crew looks up, wall time.
const LOOKS_EVERY: Duration = Duration::from_millis(100);
/// How often joules are told.
const METERS_EVERY: Duration = Duration::from_secs(1);
/// Older decisions grant nothing.
const FRESH: Duration = Duration::from_secs(5);
/// How long a cancelled program may take to end before it is killed, wall time.
const LEAVES_IN: Duration = Duration::from_secs(3);
/// News that may wait for the controller.
const MOST_NEWS: usize = 512;

/// What the crew needs.
pub struct Crew {
    /// How jobs are run.
    pub computing: Computing,
    /// What may be asked for.
    pub work: Work,
    /// The newest decision.
    pub decisions: watch::Receiver<Option<Arc<Decision>>>,
    /// The book, whenever it should be kept.
    pub books: Receiver<JobBook>,
    /// The way to the controller.
    pub observations: SyncSender<Observation>,
    /// Site time.
    pub clock: Clock,
    /// The state folder.
    pub state: PathBuf,
}

/// Understands wishes about jobs and hands them on; the job that each is about, or why not.
pub type Orders = Arc<dyn Fn(JobWish) -> Result<Id, String> + Send + Sync>;

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
            .flat_map(|o| o.jobs.clone())
            .filter_map(|job| (!job.state.is_over()).then_some(job.id))
            .collect();
        let name = format!("j{}-{:04x}", at.utc.format("%y%m%d-%H%M%S"), fastrand::u16(..));
        let fresh = Id::try_from(name).map_err(|error| error.to_string())?;
        let order = work
            .order(wish, (fresh, MOST_LIVE), &live, at.utc)
            .map_err(|error| error.to_string())?;
        let job = order.job().clone();
        match observations.try_send(Observation::Ordered { order, at }) {
            Ok(()) => Ok(job),
            Err(_) => Err("the controller is behind: try again".to_owned()),
        }
    })
}

/// Starts the crew's thread; it ends, and all jobs with it, when `stop` is set or the controller is gone.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(crew: Crew, stop: Arc<AtomicBool>) -> Result<JoinHandle<()>, RunError> {
    let computing = &crew.computing;
    let meter = Meter::find(&computing.powercap, computing.watts_per_core, computing.idle_w);
    named("jobs", move || {
        let now = Clock::real().now();
        let mut hands = Hands {
            crew,
            meter,
            metered: now,
            running: BTreeMap::new(),
            leaving: Vec::new(),
            news: VecDeque::new(),
            rested: BTreeMap::new(),
            sequence: 0,
        };
        while !stop.load(Ordering::Relaxed) {
            match hands.crew.books.recv_timeout(LOOKS_EVERY) {
                Ok(book) => hands.keep(&book),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            hands.turn();
        }
    })
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
}

struct Running {
    hand: Hand,
    /// Energy is metered at the node.
    on_node: bool,
    cpu_s: f64,
    metered_cpu_s: f64,
    joules: f64,
}

struct Hands {
    crew: Crew,
    meter: Meter,
    metered: Moment,
    running: BTreeMap<Id, Running>,
    leaving: Vec<(Worker, Moment)>,
    news: VecDeque<Observation>,
    /// Jobs that have ended here, and the decision from which on they may begin again: those before it
    /// were made without knowing.
    rested: BTreeMap<Id, u64>,
    sequence: u64,
}

impl Hands {
    fn keep(&self, book: &JobBook) {
        if let Err(error) = write_book(&self.crew.state, book) {
            tracing::warn!(%error, "the book of jobs could not be kept");
        }
    }

    fn turn(&mut self) {
        let decision = self.crew.decisions.borrow().clone();
        let now = self.crew.clock.now();
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
        self.leaving.retain_mut(|(worker, since)| {
            let ended = matches!(worker.report(), Ok(Some(Report::Ended { .. })) | Err(_));
            !ended && since.age_at(wall) < LEAVES_IN
        });
        while let Some(next) = self.news.pop_front() {
            if let Err(full) = self.crew.observations.try_send(next) {
                let (std::sync::mpsc::TrySendError::Full(next)
                | std::sync::mpsc::TrySendError::Disconnected(next)) = full;
                self.news.push_front(next);
                break;
            }
        }
    }

    fn tell(&mut self, job: &Id, news: JobNews) {
        if self.news.len() < MOST_NEWS {
            let at = self.crew.clock.now();
            self.news.push_back(Observation::Job { job: job.clone(), news, at });
        }
    }

    /// Starts, allows, ends: as the errands say.
    fn obey(&mut self, errands: &[Errand]) {
        let named = |id: &Id| errands.iter().any(|errand| errand.job == *id);
        let gone: Vec<Id> = self.running.keys().filter(|id| !named(id)).cloned().collect();
        for id in gone {
            if let Some(Running { hand: Hand::Program(mut worker), .. }) = self.running.remove(&id)
            {
                worker.stop();
                self.leaving.push((worker, Clock::real().now()));
            }
        }
        let watts_per_core = self.meter.watts_per_core();
        let sequence = self.sequence;
        self.rested.retain(|_, from| *from > sequence);
        for errand in errands {
            if let Some(running) = self.running.get_mut(&errand.job) {
                allow(running, errand.power.get(), watts_per_core);
            } else if self.rested.contains_key(&errand.job) {
                // The next decisions will know that it has ended.
            } else if errand.begin {
                self.begin(errand);
            } else {
                // The controller thinks that it runs, and it does not.
                let why = JobNews::Failed("it is not running".to_owned());
                self.end(&errand.job, why);
            }
        }
    }

    fn begin(&mut self, errand: &Errand) {
        let workload = self.crew.work.workload(errand.workload.as_str());
        let on_node = workload.is_some_and(|workload| workload.node.is_some());
        let runner = self.crew.computing.runners.get(&errand.workload);
        let power = errand.power.get();
        let hand = match runner {
            None => Err(std::io::Error::other("it is not in the site file")),
            Some(Runner::Command { program, arguments }) => {
                let arguments = filled(arguments, &errand.parameters);
                let cores = power / self.meter.watts_per_core();
                start_program(program, &arguments, cores).map(Hand::Program)
            }
            Some(Runner::Endpoint(url)) => {
                let names = (&errand.job, &errand.workload);
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

    /// What wardens and nodes report.
    fn hear(&mut self) {
        let ids: Vec<Id> = self.running.keys().cloned().collect();
        for id in ids {
            while let Some(running) = self.running.get_mut(&id) {
                match running.hand.report() {
                    Ok(None) => break,
                    Ok(Some(Report::Began(_))) => self.tell(&id, JobNews::Started),
                    Ok(Some(Report::CpuS(cpu_s))) => running.cpu_s = cpu_s,
                    Ok(Some(Report::Ended { code, cpu_s, output, .. })) => {
                        running.cpu_s = cpu_s.max(running.cpu_s);
                        let news = match code {
                            Some(0) => JobNews::Done,
                            Some(code) => {
                                JobNews::Failed(format!("exit code {code}: {}", last(&output)))
                            }
                            None => {
                                JobNews::Failed(format!("ended by a signal: {}", last(&output)))
                            }
                        };
                        self.end(&id, news);
                    }
                    Ok(Some(Report::NotStarted(why))) => self.end(&id, JobNews::Failed(why)),
                    Err(_) => {
                        self.end(&id, JobNews::Failed("its warden is gone".to_owned()));
                    }
                }
            }
        }
    }

    /// The last joules, then the end.
    fn end(&mut self, id: &Id, news: JobNews) {
        self.account(id);
        self.running.remove(id);
        self.rested.insert(id.clone(), self.sequence + 3);
        self.tell(id, news);
    }

    fn meter(&mut self, span: Duration) {
        let new = |job: &Running| (job.cpu_s - job.metered_cpu_s).max(0.0);
        let all = self.running.values().map(new).sum();
        self.meter.read(span, all);
        let ids: Vec<Id> = self.running.keys().cloned().collect();
        for id in ids {
            self.account(&id);
        }
    }

    /// Turns the CPU time since the last look into joules and tells the sum.
    fn account(&mut self, id: &Id) {
        let Some(job) = self.running.get_mut(id).filter(|job| !job.on_node) else { return };
        job.joules += self.meter.joules((job.cpu_s - job.metered_cpu_s).max(0.0));
        job.metered_cpu_s = job.cpu_s;
        let (energy, cpu_s) = (WattHours(job.joules / 3600.0), job.cpu_s);
        let method = self.meter.method();
        self.tell(id, JobNews::Spent { energy, cpu_s, method });
    }
}

fn allow(job: &mut Running, power_w: f64, watts_per_core: f64) {
    match &mut job.hand {
        Hand::Program(worker) => worker.allow(power_w / watts_per_core),
        Hand::Node(endpoint) => endpoint.allow(power_w),
    }
}

fn start_program(program: &Path, arguments: &[String], cores: f64) -> std::io::Result<Worker> {
    Worker::start(&std::env::current_exe()?, program, arguments, cores)
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
