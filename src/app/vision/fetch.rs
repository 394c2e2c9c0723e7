//! One camera's thread: fetches frame after frame at the rate that is wanted, and leaves the newest for the judge.
//!
//! What a stranger gets wrong: a wrong password is not to be tried again every two seconds, because cameras lock a user
//! out after a few. So a camera that refuses us is left alone for a while that doubles, and is asked at once where
//! somebody has changed its password file; until then it gives nothing.

use std::time::Duration;

use super::passport::{Known, Passport};
use super::process::{Delivery, EAGER, Inbox};
use crate::config::{CameraLogin, CameraSource};
use crate::io::camera::{Camera, Coded, Haste, Login};
use crate::io::clock::Clock;

/// A camera that gives nothing, or gives it faster than it is asked, is not asked more often than this.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
/// How long a camera that refuses us is left alone at first, and at the longest.
const FIRST_REST: Duration = Duration::from_secs(60);
const LONGEST_REST: Duration = Duration::from_secs(15 * 60);

/// Fetches for as long as the process lives, once the camera is no longer left out.
pub(super) fn fetch(
    source: &CameraSource,
    inbox: &Inbox,
    clock: Clock,
    left_out: Option<Duration>,
) {
    let begun = clock.wall_uptime();
    let sits_out = || clock.wall_uptime().saturating_sub(begun) < left_out.unwrap_or_default();
    while sits_out() {
        inbox.put(&source.id, Delivery::LeftOut(clock.now()));
        std::thread::park_timeout(EAGER.min(left_out.unwrap_or_default()));
    }
    let passport = Passport::of(source, clock);
    let passport = passport.inspect_err(|error| tracing::error!(%error, "cannot ask who it is"));
    let passport = passport.ok().flatten();
    let mut asking = Asking::new(source);
    loop {
        let asked = clock.now();
        let had_trouble = asking.trouble.is_some();
        let coded = asking.ask(clock.wall_uptime(), inbox.haste(&source.id));
        if let Some(passport) = passport.as_ref().filter(|_| had_trouble && coded.is_some()) {
            passport.ask_again();
        }
        let known = passport.as_ref().map_or(Known::Taken, Passport::known);
        let delivery = match (coded, known) {
            (Some(coded), Known::Taken) => {
                let at = clock.ago(coded.age());
                Delivery::Picture(coded, at)
            }
            (_, Known::Stranger) => Delivery::Stranger(clock.now()),
            _ => Delivery::Nothing(clock.now()),
        };
        inbox.put(&source.id, delivery);
        std::thread::park_timeout(LEAST_PAUSE);
        inbox.await_turn(&source.id, asked, clock);
    }
}

/// A camera that is asked again and again.
struct Asking<'a> {
    source: &'a CameraSource,
    /// Who we are to it.
    login: Option<Login>,
    camera: Camera,
    /// Until when it is left alone because it refused us, and how long that is.
    rests: Option<(Duration, Duration)>,
    /// What was wrong the last time.
    trouble: Option<String>,
}

impl Asking<'_> {
    /// Nothing is asked yet. Without its password file it is asked as nobody.
    fn new(source: &CameraSource) -> Asking<'_> {
        let login = source.login.as_ref().and_then(|login| {
            let file = login.password_file.display();
            let no = |error| tracing::error!(camera = %source.id, %file, %error, "no password for the camera");
            read(login).map_err(no).ok()
        });
        let camera = Camera::open_as(&source.url, source.is_stream, login.clone());
        Asking { source, login, camera, rests: None, trouble: None }
    }

    /// A picture; nothing where it gives none, or is left alone. `now`: time since the start of the process.
    fn ask(&mut self, now: Duration, haste: Haste) -> Option<Coded> {
        if let Some((until, _)) = self.rests
            && !self.has_new_login()
            && now < until
        {
            return None;
        }
        match self.camera.fetch_as(haste) {
            Ok(coded) => {
                self.rests = None;
                if self.trouble.take().is_some() {
                    tracing::info!(camera = %self.source.id, "camera delivers again");
                }
                Some(coded)
            }
            Err(error) => {
                if error.is_refusal() {
                    let rest =
                        self.rests.map_or(FIRST_REST, |(_, rest)| LONGEST_REST.min(rest * 2));
                    self.rests = Some((now + rest, rest));
                }
                let why = error.to_string();
                if self.trouble.as_ref() != Some(&why) {
                    tracing::warn!(camera = %self.source.id, %why, "camera gives no picture");
                    self.trouble = Some(why);
                }
                None
            }
        }
    }

    /// Whether the password file has changed; then it is what we ask with from now on, and its first rest is a short
    /// one.
    fn has_new_login(&mut self) -> bool {
        let newest = self.source.login.as_ref().and_then(|login| read(login).ok());
        let changed = newest.is_some() && newest != self.login;
        if changed {
            self.camera = Camera::open_as(&self.source.url, self.source.is_stream, newest.clone());
            (self.login, self.rests) = (newest, None);
        }
        changed
    }
}

pub(super) fn read(login: &CameraLogin) -> std::io::Result<Login> {
    Login::from_file(&login.username, &login.password_file)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;
    use crate::logic::site::Id;

    /// A camera's door: counts who says who he is, and takes it where it `opens`.
    #[derive(Default)]
    struct Doorkeeper {
        logins: AtomicU32,
        opens: AtomicBool,
    }

    impl Doorkeeper {
        fn serve(self: Arc<Self>) -> String {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/snap.jpg", listener.local_addr().unwrap());
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                        head.push(byte[0].to_ascii_lowercase());
                    }
                    let told = String::from_utf8_lossy(&head).contains("\nauthorization: digest");
                    self.logins.fetch_add(u32::from(told), Ordering::SeqCst);
                    let answer = if told && self.opens.load(Ordering::SeqCst) {
                        "200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
                    } else {
                        "401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"c\", nonce=\"n\", qop=\"auth\"\r\n\
                         Content-Length: 0\r\nConnection: close\r\n\r\n"
                    };
                    let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes());
                }
            });
            url
        }
    }

    #[test]
    fn a_camera_that_refuses_us_is_asked_seldom_and_at_once_with_a_new_password() {
        let folder = tempfile::tempdir().unwrap();
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, "wrong\n").unwrap();
        let keeper = Arc::new(Doorkeeper::default());
        let source = CameraSource {
            id: Id::try_from("cam").unwrap(),
            url: Arc::clone(&keeper).serve(),
            is_stream: false,
            login: Some(CameraLogin {
                username: "viewer".to_owned(),
                password_file: password_file.clone(),
            }),
            passport: None,
            masks: Vec::new(),
        };
        let mut asking = Asking::new(&source);
        let mut ask = |second| asking.ask(Duration::from_secs(second), Haste::Keyframes);
        let logins = || keeper.logins.load(Ordering::SeqCst);
        // (second, logins until then): rests of 1, 2, 4, 8, 15 and 15 minutes.
        let rests = [0, 60, 180, 420, 900, 1800, 2700];
        for (count, second) in (0..).zip(rests) {
            if second > 0 {
                assert_eq!(ask(second - 1), None);
                assert_eq!(logins(), count, "second {}", second - 1);
            }
            assert_eq!(ask(second), None);
            assert_eq!(logins(), count + 1, "second {second}");
        }
        // The same text written again is no new password.
        std::fs::write(&password_file, "wrong\n").unwrap();
        assert_eq!((ask(2701), logins()), (None, 7));
        std::fs::write(&password_file, "wrong too\n").unwrap();
        assert_eq!((ask(2702), logins()), (None, 8));
        assert_eq!((ask(2761), logins()), (None, 8));
        assert_eq!((ask(2762), logins()), (None, 9), "the first rest again");
        keeper.opens.store(true, Ordering::SeqCst);
        std::fs::write(&password_file, "right\n").unwrap();
        assert_eq!((ask(2763), logins()), (Some(Coded::Still(b"x".to_vec())), 10));
        assert_eq!((ask(2764), logins()), (Some(Coded::Still(b"x".to_vec())), 11));
    }
}
