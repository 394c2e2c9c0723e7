//! The big net at work: a thread of its own sees what the small net doubts, riskiest first, as far as
//! the budget goes, and leaves its answers for whoever judges.
//!
//! ```text
//!   judge ── doubts ──▶ [ waiting ] ──granted──▶ big net (remote in time, else local) ──▶ answers ──▶ judge
//! ```
//! What a stranger gets wrong: nobody waits for this thread. A remote net that hangs, a budget that is
//! spent or a net that fails leaves doubts as they are, and the next look comes at its time. A panic in it is
//! a net that fails: it is told, and the thread goes on with the next doubt.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::eyes::{PARTS, Sight};
use crate::io::camera::Frame;
use crate::io::clock::Clock;
use crate::io::inference::{BigNet, Crop};
use crate::logic::decision::Effort;
use crate::logic::site::Id;
use crate::logic::vision::{Answer, BigLedger, BigTrouble, Doubt, Escalation, FireCuts};

/// How often the thread looks whether the budget has room again.
const LOOK_UP: Duration = Duration::from_secs(1);
/// Joules of a watt-hour.
const JOULES: f64 = 3600.0;

/// An answer on its way back.
#[derive(Clone, Debug)]
pub struct Answered {
    /// What was asked.
    pub doubt: Doubt,
    /// What came of it, the rules of release applied.
    pub answer: Answer,
    /// CPU time here, ms.
    pub cpu_ms: f64,
    /// Energy, J.
    pub joules: f64,
}

struct Desk {
    escalation: Escalation<Crop>,
    answers: Vec<Answered>,
    account: BigLedger,
    joules_per_cpu_s: f64,
    effort: Effort,
}

/// The queue before the big net, and its thread.
pub struct Cascade {
    desk: Arc<(Mutex<Desk>, Condvar)>,
    /// Pixels of a side of what the net takes.
    side: usize,
    cuts: FireCuts,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cascade {
    /// Starts the thread. `cuts` are the small net's; `ring` is called after each answer.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(
        mut net: BigNet,
        cuts: FireCuts,
        budget_wh: f64,
        (clock, pace): (Clock, f64),
        ring: impl Fn() + Send + 'static,
    ) -> std::io::Result<Cascade> {
        let desk = Desk {
            escalation: Escalation::new(budget_wh * JOULES),
            answers: Vec::new(),
            account: BigLedger { budget_wh, ..BigLedger::default() },
            joules_per_cpu_s: 0.0,
            effort: Effort::Full,
        };
        let desk = Arc::new((Mutex::new(desk), Condvar::new()));
        let side = net.side();
        let theirs = Arc::clone(&desk);
        let now = move || clock.now().uptime.div_f64(pace);
        std::thread::Builder::new().name("big net".to_owned()).spawn(move || {
            loop {
                let work = AssertUnwindSafe(|| work(&mut net, &theirs, &now, &ring));
                if catch_unwind(work).is_err() {
                    tracing::error!("the big net's thread panicked and begins again");
                    let mut held = lock(&theirs.0);
                    held.account.trouble = Some(BigTrouble::Failed);
                    drop(theirs.1.wait_timeout(held, LOOK_UP));
                }
            }
        })?;
        Ok(Cascade { desk, side, cuts })
    }

    /// Puts what a look doubts before the big net. `eager`: there is another reason to look.
    pub fn ask(&self, camera: &Id, sight: &Sight, frame: &Frame, eager: bool) {
        let about = |look| Doubt::about((camera, sight.at), look, self.cuts, eager);
        for doubt in sight.parts.iter().filter_map(about) {
            if !lock(&self.desk.0).escalation.is_worth(&doubt) {
                continue;
            }
            if let Some(crop) = Crop::of(frame, PARTS[doubt.part], self.side) {
                lock(&self.desk.0).escalation.ask(doubt, crop);
                self.desk.1.notify_one();
            }
        }
    }

    /// Answers that came since the last time.
    pub fn answers(&self) -> Vec<Answered> {
        std::mem::take(&mut lock(&self.desk.0).answers)
    }

    /// What CPU time costs now, and how much may be spent.
    pub fn tell(&self, joules_per_cpu_s: f64, effort: Effort) {
        let mut desk = lock(&self.desk.0);
        desk.joules_per_cpu_s = joules_per_cpu_s;
        desk.effort = effort;
    }

    /// Its account.
    #[must_use]
    pub fn account(&self) -> BigLedger {
        lock(&self.desk.0).account.clone()
    }
}

/// Answers doubt after doubt for as long as the process lives.
fn work(
    net: &mut BigNet,
    (desk, bell): &(Mutex<Desk>, Condvar),
    now: &impl Fn() -> Duration,
    ring: &impl Fn(),
) {
    loop {
        let mut held = lock(desk);
        let granted = match held.effort {
            Effort::Full => held.escalation.next(now()),
            Effort::Eco | Effort::Survival => None,
        };
        held.account.dropped = held.escalation.dropped();
        held.account.spent_wh = held.escalation.budget().spent(now()) / JOULES;
        let Some((doubt, crop)) = granted else {
            drop(bell.wait_timeout(held, LOOK_UP).unwrap_or_else(PoisonError::into_inner));
            continue;
        };
        drop(held);
        let opinion = net.ask(&crop);
        let mut held = lock(desk);
        held.account.trouble = net.remote_trouble().map(|_| BigTrouble::RemoteLost);
        match opinion {
            Ok(opinion) => {
                let answer = settle(&mut held, &doubt, opinion.answer, now());
                let (cpu_ms, remote) = (opinion.cpu_ms, opinion.joules);
                let joules = remote + cpu_ms / 1000.0 * held.joules_per_cpu_s;
                held.escalation.budget().book(now(), joules);
                let taken = if opinion.is_remote {
                    &mut held.account.remote
                } else {
                    &mut held.account.local
                };
                *taken += 1;
                held.answers.push(Answered { doubt, answer, cpu_ms, joules });
            }
            Err(error) => {
                if held.account.trouble != Some(BigTrouble::Failed) {
                    tracing::warn!(%error, "the big net fails");
                }
                held.account.trouble = Some(BigTrouble::Failed);
            }
        }
        drop(held);
        ring();
    }
}

/// Applies the rules of release, and counts.
fn settle(desk: &mut Desk, doubt: &Doubt, answer: Answer, now: Duration) -> Answer {
    match answer {
        Answer::Released if desk.escalation.release(doubt, now) => {
            desk.account.released += 1;
            Answer::Released
        }
        Answer::Released | Answer::Doubtful => Answer::Doubtful,
        Answer::Confirmed { .. } => {
            desk.account.confirmed += 1;
            answer
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::sync::mpsc::{self, Receiver};

    use super::*;
    use crate::io::inference::{Engine, RemoteNet, folders};
    use crate::logic::vision::{PartLook, Stages, Tier, Verdict};

    const CUTS: FireCuts =
        FireCuts { flame_doubtful: 0.4, flame_alarm: 0.8, smoke_doubtful: 0.4, smoke_alarm: 0.8 };
    const PATIENCE: Duration = Duration::from_secs(30);

    fn plain(rgb: [u8; 3]) -> Frame {
        Frame { rgb: rgb.repeat(160 * 90), width: 160, height: 90 }
    }

    /// A look of which only the whole frame is in doubt, where something stirs.
    fn doubtful(at: u64) -> Sight {
        let stirs = Some(Duration::from_secs(9));
        let look = |part, flame| PartLook { part, flame, smoke: 0.0, stirs, confirmed: false };
        Sight {
            fire: 0.6,
            smoke: 0.0,
            verdict: Verdict::Doubtful,
            bays: Vec::new(),
            fault: None,
            tier: Tier::Small,
            at: Duration::from_secs(at),
            parts: vec![look(0, 0.6), look(2, 0.1)],
            stages: Stages::default(),
        }
    }

    struct Rig {
        cascade: Cascade,
        rung: Receiver<()>,
        camera: Id,
    }

    impl Rig {
        fn new(remote: Option<RemoteNet>, budget_wh: f64) -> Rig {
            let folder = folders::with("big");
            if remote.is_some() {
                let path = folder.path().join("manifest.toml");
                let text = std::fs::read_to_string(&path).unwrap();
                let more = text.split("[[model]]").last().unwrap();
                let more = more.replace("fire-big", "fire-far").replace("\"big\"", "\"remote\"");
                std::fs::write(&path, format!("{text}\n[[model]]{more}")).unwrap();
            }
            let net = BigNet::open(folder.path(), Engine::Best, remote).unwrap().unwrap();
            let (tell, rung) = mpsc::channel();
            let ring = move || tell.send(()).unwrap_or(());
            let clock = (Clock::real(), 1.0);
            let cascade = Cascade::start(net, CUTS, budget_wh, clock, ring).unwrap();
            cascade.tell(4.0, Effort::Full);
            Rig { cascade, rung, camera: Id::try_from("cam").unwrap() }
        }

        fn now(&self) -> u64 {
            Clock::real().now().uptime.as_secs()
        }

        fn ask(&self, rgb: [u8; 3], at: u64) {
            self.cascade.ask(&self.camera, &doubtful(at), &plain(rgb), false);
        }

        fn answer(&self) -> Answered {
            self.rung.recv_timeout(PATIENCE).unwrap();
            self.cascade.answers().pop().unwrap()
        }
    }

    #[test]
    fn a_doubt_is_released_or_confirmed_and_its_energy_booked() {
        let rig = Rig::new(None, 1.0);
        let at = rig.now();
        rig.ask([20, 20, 20], at);
        let first = rig.answer();
        assert_eq!(
            (first.answer, first.doubt.part),
            (Answer::Released, 0),
            "only the doubtful part"
        );
        assert!(first.joules > 0.0 && (first.joules - first.cpu_ms * 0.004).abs() < 1e-9);
        rig.ask([20, 20, 20], at + 1);
        assert_eq!(rig.answer().answer, Answer::Doubtful, "not twice a minute");
        rig.ask([255, 40, 10], at + 2);
        assert_eq!(rig.answer().answer, Answer::Confirmed { flame: true, smoke: false });
        let account = rig.cascade.account();
        assert_eq!((account.local, account.released, account.confirmed), (3, 1, 1));
        assert_eq!(account.trouble, None);
    }

    /// A stain that the small net takes for fire, for two minutes: what it costs.
    #[test]
    fn a_stain_over_the_cut_costs_nothing_and_one_below_it_a_look_a_minute() {
        for (score, wanted) in [(0.95, 0), (0.6, 2)] {
            let rig = Rig::new(None, 1.0);
            let at = rig.now();
            for second in 0..120 {
                let mut sight = doubtful(at + second);
                (sight.parts[0].flame, sight.parts[0].stirs) = (score, None);
                rig.cascade.ask(&rig.camera, &sight, &plain([20, 20, 20]), false);
                // One that waits for a minute's turn would be replaced by the next.
                if second % 60 == 0 && wanted > 0 {
                    rig.answer();
                }
            }
            // What was asked before it has been answered by then.
            rig.ask([255, 40, 10], at + 121);
            rig.answer();
            let account = rig.cascade.account();
            assert_eq!(account.local, wanted + 1, "score {score}: {account:?}");
        }
    }

    #[test]
    fn a_spent_budget_and_an_empty_battery_leave_doubts_as_they_are() {
        let rig = Rig::new(None, 1e-12);
        let at = rig.now();
        rig.ask([20, 20, 20], at);
        rig.answer();
        rig.ask([20, 20, 20], at + 1);
        assert!(
            rig.rung.recv_timeout(LOOK_UP * 2).is_err(),
            "one look passes the budget, no second"
        );
        let rig = Rig::new(None, 1.0);
        rig.cascade.tell(4.0, Effort::Eco);
        rig.ask([20, 20, 20], rig.now());
        assert!(rig.rung.recv_timeout(LOOK_UP * 2).is_err());
        rig.cascade.tell(4.0, Effort::Full);
        rig.ask([20, 20, 20], rig.now());
        assert_eq!(rig.answer().answer, Answer::Released);
    }

    #[test]
    fn a_panic_of_the_big_net_is_told_and_the_next_doubt_is_answered() {
        let folder = folders::with("big");
        let net = BigNet::open(folder.path(), Engine::Best, None).unwrap().unwrap();
        let (tell, rung) = mpsc::channel();
        // The thread panics with its first answer.
        let first = std::sync::atomic::AtomicBool::new(true);
        let ring = move || {
            tell.send(()).unwrap_or(());
            assert!(!first.swap(false, std::sync::atomic::Ordering::Relaxed), "on purpose");
        };
        let cascade = Cascade::start(net, CUTS, 1.0, (Clock::real(), 1.0), ring).unwrap();
        cascade.tell(4.0, Effort::Full);
        let mut rig = Rig { cascade, rung, camera: Id::try_from("cam").unwrap() };
        let trouble = |rig: &Rig| rig.cascade.account().trouble;
        rig.ask([20, 20, 20], rig.now());
        rig.answer();
        let told = (0..100).any(|_| {
            std::thread::park_timeout(LOOK_UP / 20);
            trouble(&rig) == Some(BigTrouble::Failed)
        });
        assert!(told, "nobody was told");
        rig.camera = Id::try_from("other").unwrap();
        rig.ask([255, 40, 10], rig.now());
        assert_eq!(rig.answer().answer, Answer::Confirmed { flame: true, smoke: false });
        assert_eq!(trouble(&rig), None, "it works again");
    }

    #[test]
    fn a_dead_remote_is_told_and_costs_neither_a_look_nor_an_answer() {
        // Takes connections and says nothing.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                held.push(stream);
            }
        });
        let timeout = Duration::from_millis(400);
        let place = RemoteNet { url, model: "fire-far".to_owned(), timeout, joules: 20.0 };
        let rig = Rig::new(Some(place), 1.0);
        let before = Clock::real().now();
        rig.ask([255, 40, 10], rig.now());
        let asked = before.age_at(Clock::real().now());
        assert!(asked < Duration::from_millis(300), "the judge waited {asked:?}");
        let first = rig.answer();
        assert_eq!(
            first.answer,
            Answer::Confirmed { flame: true, smoke: false },
            "by the local one"
        );
        let account = rig.cascade.account();
        assert_eq!((account.remote, account.local), (0, 1));
        assert_eq!(account.trouble, Some(BigTrouble::RemoteLost));
        // The next doubt does not wait for the dead one again.
        let before = Clock::real().now();
        rig.ask([255, 40, 10], rig.now() + 1);
        rig.answer();
        assert!(before.age_at(Clock::real().now()) < timeout);
    }

    #[test]
    fn a_remote_net_is_asked_and_its_assumed_joules_are_booked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            listener.incoming().flatten().for_each(|s| serve(s).unwrap_or(()))
        });
        let timeout = Duration::from_secs(10);
        let place = RemoteNet { url, model: "fire-far".to_owned(), timeout, joules: 20.0 };
        let rig = Rig::new(Some(place), 1.0);
        rig.ask([20, 20, 20], rig.now());
        let answer = rig.answer();
        assert_eq!(answer.answer, Answer::Confirmed { flame: false, smoke: true });
        assert!((20.0..20.5).contains(&answer.joules), "{}", answer.joules);
        let account = rig.cascade.account();
        assert_eq!((account.remote, account.local, account.trouble), (1, 0, None));
    }

    /// A server of the protocol that takes bytes and always sees smoke.
    fn serve(mut stream: std::net::TcpStream) -> std::io::Result<()> {
        use std::io::Write;
        let mut buffer = Vec::new();
        let mut piece = [0; 65536];
        loop {
            let count = stream.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            buffer.extend_from_slice(&piece[..count]);
            let text = String::from_utf8_lossy(&buffer).into_owned();
            let Some(end) = text.find("\r\n\r\n") else { continue };
            let field = |name: &str| {
                let line = text[..end].lines().find(|l| l.to_lowercase().starts_with(name))?;
                line.split(": ").nth(1)?.trim().parse::<usize>().ok()
            };
            let length = field("content-length").unwrap_or(0);
            if buffer.len() < end + 4 + length {
                continue;
            }
            let body = if length == 0 {
                r#"{"name":"test","version":"1","extensions":["binary_tensor_data"]}"#
            } else {
                let json = field("inference-header-content-length").unwrap();
                assert_eq!(length - json, 3 * 64 * 64 * 4, "the tensor as bytes");
                r#"{"outputs":[{"name":"logits","shape":[1,2],"datatype":"FP32","data":[-5,5]}]}"#
            };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes())?;
            stream.write_all(body.as_bytes())?;
            buffer.clear();
        }
    }
}
