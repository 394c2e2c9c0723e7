//! CAM6: two cameras have changed their addresses. The eyes see over the wire what each says of itself, and whose
//! pictures come.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use simulators::onvif::{Face, serve};
use simulators::physics::World;
use simulators::picture::{Scene, jpeg};
use simulators::scenario::Scenario;
use tokio::task::JoinHandle;

use super::eyes::{alarm, eyes_on, hear, known, restart_eyes};
use super::gateway::{Demo, PATIENCE, until};
use super::profiles::runtime;

/// A camera with this serial number, whose pictures are never the same.
fn camera(at: SocketAddr, serial: &str) -> (SocketAddr, JoinHandle<()>) {
    let looks = AtomicU32::new(0);
    let draw = Arc::new(move || {
        let mut scene = Scene::of(&World::new(Scenario::one_pile(), 1));
        scene.time_s += f64::from(looks.fetch_add(1, Ordering::SeqCst));
        jpeg(&scene).map_err(|error| error.to_string())
    });
    let face = Face { has_snapshot: true, serial: serial.to_owned(), ..Face::default() };
    let serving = || runtime().block_on(serve(at, face.clone(), draw.clone())).ok();
    until("a camera", PATIENCE, serving)
}

fn anywhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn site(folder: &Path, at: SocketAddr, more: &str) -> PathBuf {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").display().to_string();
    let text = format!(
        "[site]\nid = \"eyes\"\n[grid]\nmeter = \"grid\"\nlimit_a = 50\nbreaker_a = 63\n[paths]\nmodels = {models:?}\n\
         [[device]]\nid = \"grid\"\nprofile = \"eastron-sdm630\"\naddress = \"tcp://127.0.0.1:1\"\n\
         [[camera]]\nid = \"gate\"\nsnapshot = \"http://{at}/images/snapshot.jpg\"\n{more}"
    );
    let file = folder.join("site.toml");
    std::fs::write(&file, text).expect("the site file");
    file
}

/// Listens until a scene has this fault, or none; what was heard before.
fn heard(socket: &mut UnixStream, wanted: Option<&str>) -> Vec<Option<String>> {
    let mut before = Vec::new();
    loop {
        let message = hear(socket);
        let Some(scene) = message.get("scene") else { continue };
        let fault = scene["fault"].as_str().map(str::to_owned);
        if fault.as_deref() == wanted {
            return before;
        }
        before.push(fault);
        assert!(before.len() < 60, "{wanted:?} never came: {before:?}");
    }
}

#[test]
fn cam6_a_camera_that_has_another_ones_address_is_a_stranger_until_it_is_put_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, own) = camera(anywhere(), "0042");
    let file = site(folder.path(), at, "serial = \"0042\"\n");
    let (_child, mut socket) = eyes_on(folder.path(), &file, &[]);
    let before = heard(&mut socket, None);
    assert!(before.iter().all(|fault| fault.as_deref() == Some("lost")), "{before:?}");
    // Nobody is there for a while, then another camera.
    own.abort();
    heard(&mut socket, Some("lost"));
    let (_, other) = camera(at, "0043");
    let before = heard(&mut socket, Some("stranger"));
    assert!(before.iter().all(Option::is_some), "a picture of the other one was looked at");
    other.abort();
    // As long as nobody answers it stays one.
    for _ in 0..3 {
        assert!(heard(&mut socket, Some("stranger")).len() <= 1);
    }
    let (_, back) = camera(at, "0042");
    let before = heard(&mut socket, None);
    assert!(
        before.iter().flatten().all(|fault| fault == "stranger" || fault == "lost"),
        "{before:?}"
    );
    back.abort();
}

#[test]
fn cam6_a_camera_that_does_not_say_who_it_is_is_looked_at() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, own) = camera(anywhere(), "0042");
    let file = site(folder.path(), at, "serial = \"0042\"\nonvif = \"127.0.0.1:1\"\n");
    let (_child, mut socket) = eyes_on(folder.path(), &file, &[]);
    heard(&mut socket, None);
    own.abort();
}

#[test]
fn cam6_a_stranger_is_an_alarm_and_its_bays_are_unknown() {
    let (at, own) = camera(anywhere(), "0043");
    let demo = Demo::start();
    until("known bays", PATIENCE, || demo.overview().filter(known));
    let file = demo.state().with_file_name("site.toml");
    let text = std::fs::read_to_string(&file).expect("the site file");
    let meant = format!("[[camera]]\nserial = \"0042\"\nonvif = \"{at}\"\n");
    std::fs::write(&file, text.replacen("[[camera]]\n", &meant, 1)).expect("the site file");
    restart_eyes(&demo);
    let alarm = until("the alarm", PATIENCE * 2, || alarm(&demo, "camera_stranger"));
    assert_eq!(alarm["severity"], "alarm", "{alarm}");
    assert!(!known(&demo.overview().expect("an overview")), "whose bays are these?");
    own.abort();
}
