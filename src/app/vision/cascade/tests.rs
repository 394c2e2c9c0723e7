//! The big net at work, local, remote, dead, masked.

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
        Rig::over(remote, budget_wh, true)
    }

    /// A remote net may be the only one.
    fn over(remote: Option<RemoteNet>, budget_wh: f64, has_local: bool) -> Rig {
        let folder = folders::with("big");
        if remote.is_some() {
            let path = folder.path().join("manifest.toml");
            let text = std::fs::read_to_string(&path).unwrap();
            let (before, more) = text.rsplit_once("[[model]]").unwrap();
            let kept = if has_local { &text } else { before };
            let more = more.replace("fire-big", "fire-far").replace("\"big\"", "\"remote\"");
            std::fs::write(&path, format!("{kept}\n[[model]]{more}")).unwrap();
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
        self.ask_masked(&plain(rgb), &mut Masks::default(), at);
    }

    fn ask_masked(&self, frame: &Frame, masks: &mut Masks, at: u64) {
        self.cascade.ask(&self.camera, &doubtful(at), (frame, masks), false);
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
    assert_eq!((first.answer, first.doubt.part), (Answer::Released, 0), "only the doubtful part");
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
            let nothing = &mut Masks::default();
            rig.cascade.ask(&rig.camera, &sight, (&plain([20, 20, 20]), nothing), false);
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
    assert!(rig.rung.recv_timeout(LOOK_UP * 2).is_err(), "one look passes the budget, no second");
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
    assert_eq!(first.answer, Answer::Confirmed { flame: true, smoke: false }, "by the local one");
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
        listener.incoming().flatten().for_each(|s| serve(s, SMOKE, |_| ()).unwrap_or(()))
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

/// Outputs of a server that sees smoke, and of one that sees nothing.
const SMOKE: &str = "-5,5";
const NOTHING: &str = "-5,-5";

/// What another machine is shown has the masks painted; that it sees nothing there releases nothing, and the net here,
/// which sees what lies behind them, is asked.
#[test]
fn a_remote_net_is_shown_no_masked_pixel_and_releases_nothing_behind_a_mask() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, shown) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tell = tell.clone();
            std::thread::spawn(move || serve(stream, NOTHING, |t| tell.send(t).unwrap_or(())));
        }
    });
    let white = plain([255, 255, 255]);
    let left = || Masks::new(vec![vec![[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]]);
    let smoke = Answer::Confirmed { flame: false, smoke: true };
    for (mut masks, has_local, wanted, differs) in [
        (Masks::default(), true, Answer::Released, false),
        (left(), true, smoke, true),
        (left(), false, Answer::Doubtful, true),
    ] {
        let timeout = Duration::from_secs(10);
        let place =
            RemoteNet { url: url.clone(), model: "fire-far".to_owned(), timeout, joules: 1.0 };
        let rig = Rig::over(Some(place), 1.0, has_local);
        rig.ask_masked(&white, &mut masks, rig.now());
        let told = rig.answer();
        assert_eq!(told.answer, wanted);
        assert!(told.joules >= 1.0, "what the other machine took is booked: {}", told.joules);
        let account = rig.cascade.account();
        assert_eq!((account.remote, account.local), (1, u64::from(wanted == smoke)));
        let tensor: Vec<u8> = shown.recv_timeout(PATIENCE).unwrap();
        let at = |row: usize, column: usize| {
            let at = (row * 64 + column) * 4;
            f32::from_le_bytes(tensor[at..at + 4].try_into().unwrap())
        };
        for row in 0..64 {
            assert_eq!(at(row, 0) < at(row, 63), differs, "row {row}");
            assert_eq!(at(row, 28), at(row, 0), "all of the left half");
            assert_eq!(at(row, 36), at(row, 63), "nothing of the right half");
        }
    }
}

/// A server of the protocol that takes bytes and has these outputs; `shown` gets the tensors that it is sent.
fn serve(
    mut stream: std::net::TcpStream,
    outputs: &str,
    mut shown: impl FnMut(Vec<u8>),
) -> std::io::Result<()> {
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
            r#"{"name":"test","version":"1","extensions":["binary_tensor_data"]}"#.to_owned()
        } else {
            let json = field("inference-header-content-length").unwrap();
            assert_eq!(length - json, 3 * 64 * 64 * 4, "the tensor as bytes");
            shown(buffer[end + 4 + json..end + 4 + length].to_vec());
            let head = r#"{"outputs":[{"name":"logits","shape":[1,2],"datatype":"FP32","data":["#;
            format!("{head}{outputs}]}}]}}")
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        buffer.clear();
    }
}
