//! H.265 through ffmpeg, where that is installed: one ffmpeg for each camera, fed with the frames of every look; the
//! pictures come back as PPM. Nothing of such a stream is decoded in this process.
//!
//! What a stranger gets wrong: a decoder holds a picture back as long as one before it may still come, and ffmpeg
//! holds back some more. So behind the frames of a look their keyframe is fed again until the picture has come. Every
//! frame gives one picture, in order; so they are counted.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::Frame;
use super::video::SIDES;

/// A look that takes longer has failed: with the three seconds that frames are waited for it makes five, after which a
/// camera is lost.
const ANSWER: Duration = Duration::from_secs(2);
/// After so long without the picture, and without anything that ffmpeg has done, its keyframe is fed again.
const PATIENCE: Duration = Duration::from_millis(100);
/// A keyframe is not fed again more often than this: H.265 holds back 16 pictures at most (ITU-T H.265, A.4.2).
const MOST_PUSHES: u32 = 20;
/// How often it is fed again in the first look, while ffmpeg makes out what it is fed with.
const FIRST_PUSHES: u32 = 3;
/// After so many looks one push less is tried.
const TRY_LESS: u64 = 8;
/// Address space that ffmpeg may take, bytes: of 5.1 on two cores; 4K takes 0.2 GiB for 16 pictures that are held back.
const MOST_MEMORY: u64 = 1 << 30;
/// What may wait to be fed: one look, and what is left of the one before.
const MOST_WAITING: usize = 32;
/// Units of the kernel's CPU times, per second (fixed for user space on Linux).
const TICKS: f64 = 100.0;
/// A sequence ends here: what follows is a picture of its own, whatever was held back (unit type 36).
const END_OF_SEQUENCE: [u8; 6] = [0, 0, 0, 1, 36 << 1, 1];

/// A running ffmpeg; it ends with this.
pub(super) struct Hevc {
    process: Running,
    input: SyncSender<Arc<[u8]>>,
    seat: Arc<(Mutex<Seat>, Condvar)>,
    /// Coded frames so far.
    fed: u64,
    looks: u64,
    /// How often the keyframe had to be fed again in the last look.
    pushes: u32,
    /// CPU time so far.
    spent: Duration,
    /// What its stream is made of: another size needs another ffmpeg.
    parameters: Vec<u8>,
}

/// What has come back.
#[derive(Default)]
struct Seat {
    pictures: u64,
    /// Which picture is waited for, by its number.
    awaited: u64,
    picture: Option<Frame>,
    ended: Option<io::Error>,
}

/// It neither outlives us nor stays behind unburied.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Hevc {
    /// # Errors
    /// When there is no ffmpeg, or it cannot be started.
    pub fn start() -> io::Result<Hevc> {
        let mut command = Command::new("ffmpeg");
        command
            .args(["-v", "quiet", "-nostdin", "-filter_threads", "1"])
            .args(["-threads", "1", "-flags", "low_delay"])
            .args(["-probesize", "32", "-analyzeduration", "0"])
            .args(["-protocol_whitelist", "pipe", "-f", "hevc", "-i", "pipe:0"])
            // Timed anew, or ffmpeg would leave out or repeat pictures to keep the rate.
            .args(["-vf", "setpts=N/(FR*TB)"])
            .args(["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "pipe:1"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Ctrl-C at the terminal is the gateway's business.
        command.process_group(0);
        let process = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(
                error.kind(),
                "its video is H.265, and there is no ffmpeg here to decode it: install it \
                 (apt install ffmpeg), or set the camera's sub-stream to H.264",
            ),
            _ => error,
        })?;
        let mut process = Running(process);
        let most = Rlimit { current: Some(MOST_MEMORY), maximum: Some(MOST_MEMORY) };
        prlimit(Pid::from_raw(process.0.id().cast_signed()), Resource::As, most)?;
        let (Some(stdin), Some(stdout)) = (process.0.stdin.take(), process.0.stdout.take()) else {
            return Err(io::Error::other("ffmpeg has no pipes"));
        };
        let (input, frames) = sync_channel::<Arc<[u8]>>(MOST_WAITING);
        let seat = Arc::<(Mutex<Seat>, Condvar)>::default();
        let theirs = Arc::clone(&seat);
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        // Both end with the process: whoever gives up on it kills it.
        thread("h265 in").spawn(move || {
            let mut stdin = stdin;
            while let Ok(bytes) = frames.recv() {
                if stdin.write_all(&bytes).is_err() {
                    return;
                }
            }
        })?;
        thread("h265 out").spawn(move || take_seats(BufReader::new(stdout), &theirs))?;
        let (spent, parameters) = (Duration::ZERO, Vec::new());
        Ok(Hevc { process, input, seat, fed: 0, looks: 0, pushes: FIRST_PUSHES, spent, parameters })
    }

    /// Whether it can go on with a stream that begins with this keyframe.
    pub fn suits(&self, keyframe: &[u8]) -> bool {
        self.looks == 0 || self.parameters == parameters(keyframe)
    }

    /// The last picture of coded frames (Annex B), of which the first is a keyframe, and the CPU time it took.
    ///
    /// # Errors
    /// When none comes. Then it cannot be used any more: its pictures cannot be told apart.
    pub fn newest(&mut self, frames: &[Vec<u8>]) -> io::Result<(Frame, Duration)> {
        let Some(keyframe) = frames.first() else {
            return Err(io::Error::other("no frames"));
        };
        self.parameters = parameters(keyframe);
        let keyframe = spliced(keyframe);
        let rest = frames[1..].iter().map(Vec::as_slice).filter(|coded| !is_skipped(coded));
        let frames: Vec<&[u8]> = std::iter::once(keyframe.as_slice()).chain(rest).collect();
        self.lock().awaited = self.fed + frames.len() as u64 - 1;
        self.feed(&sequence(&frames), frames.len() as u64)?;
        self.looks += 1;
        let less = u32::from(self.looks.is_multiple_of(TRY_LESS));
        let (again, mut pushed) = (sequence(&frames[..1]), 0);
        let mut pushes = self.pushes.saturating_sub(less).max(1);
        let (mut waited, mut seen) = (Duration::ZERO, self.progress());
        let frame = loop {
            while pushed < pushes.min(MOST_PUSHES) {
                self.feed(&again, 1)?;
                pushed += 1;
            }
            if let Some(frame) = self.wait()? {
                break frame;
            }
            waited += PATIENCE;
            if waited >= ANSWER {
                return Err(io::Error::other(format!(
                    "H.265: no picture of {} frames within {ANSWER:?}: set the camera's key-frame interval to 1 s",
                    frames.len()
                )));
            }
            // One that is at work needs time, not another picture.
            let now = self.progress();
            pushes += u32::from(now == std::mem::replace(&mut seen, now));
        };
        self.pushes = pushed;
        let before = self.spent;
        self.spent = cpu_time(self.process.0.id()).unwrap_or(before);
        Ok((frame, self.spent.saturating_sub(before)))
    }

    /// What ffmpeg has done so far: pictures and CPU time.
    fn progress(&self) -> (u64, Option<Duration>) {
        (self.lock().pictures, cpu_time(self.process.0.id()))
    }

    fn feed(&mut self, bytes: &Arc<[u8]>, frames: u64) -> io::Result<()> {
        self.fed += frames;
        let full = |_| io::Error::other("H.265: ffmpeg takes nothing more");
        self.input.try_send(Arc::clone(bytes)).map_err(full)
    }

    /// The picture, if it comes in a moment.
    fn wait(&self) -> io::Result<Option<Frame>> {
        let (place, bell) = &*self.seat;
        let seat = place.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = |seat: &mut Seat| seat.picture.is_none() && seat.ended.is_none();
        let (mut seat, _) =
            bell.wait_timeout_while(seat, PATIENCE, empty).unwrap_or_else(PoisonError::into_inner);
        match (seat.picture.take(), seat.ended.take()) {
            (Some(frame), _) => Ok(Some(frame)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seat> {
        self.seat.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Coded frames after which a sequence ends.
fn sequence(frames: &[&[u8]]) -> Arc<[u8]> {
    [&frames.concat()[..], &END_OF_SEQUENCE].concat().into()
}

/// Counts what comes back and keeps what is waited for.
fn take_seats(mut from: impl BufRead, seat: &(Mutex<Seat>, Condvar)) {
    loop {
        let read = picture(&mut from);
        let mut place = seat.0.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(frame) => {
                if place.pictures == place.awaited {
                    place.picture = Some(frame);
                }
                place.pictures += 1;
            }
            Err(error) => {
                place.ended = Some(io::Error::new(error.kind(), format!("H.265: {error}")))
            }
        }
        seat.1.notify_all();
        if place.ended.is_some() {
            return;
        }
    }
}

/// One binary PPM of 8 bits: `P6`, width and height, 255, each on a line, and the pixels.
fn picture(from: &mut impl BufRead) -> io::Result<Frame> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut line = || -> io::Result<String> {
        let mut text = Vec::new();
        if from.by_ref().take(32).read_until(b'\n', &mut text)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "ffmpeg has ended"));
        }
        Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
    };
    let (magic, sides, depth) = (line()?, line()?, line()?);
    let numbers: Vec<usize> = sides.split(' ').filter_map(|side| side.parse().ok()).collect();
    let &[width, height] = numbers.as_slice() else {
        return Err(wrong(format!("no picture: {sides:?}")));
    };
    if magic != "P6" || depth != "255" || !SIDES.contains(&width) || !SIDES.contains(&height) {
        return Err(wrong(format!("no usable picture: {magic} {width} x {height}, {depth}")));
    }
    let mut rgb = vec![0; width * height * 3];
    from.read_exact(&mut rgb)?;
    Ok(Frame { rgb, width, height })
}

/// Units of coded bytes (Annex B), by their type.
fn units(coded: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let start = |bytes: &[u8]| bytes.windows(3).position(|three| three == [0, 0, 1]);
    let mut rest = start(coded).map_or(&[][..], |at| &coded[at + 3..]);
    std::iter::from_fn(move || {
        let kind = rest.first()? >> 1 & 63;
        let end = start(rest);
        let unit = &rest[..end.unwrap_or(rest.len())];
        rest = end.map_or(&[][..], |end| &rest[end + 3..]);
        Some((kind, unit))
    })
}

/// The parameter sets (unit types 32 to 34) that stand before a picture.
pub(super) fn parameters(coded: &[u8]) -> Vec<u8> {
    let mut sets = Vec::new();
    for (kind, unit) in units(coded).take_while(|(kind, _)| *kind >= 32) {
        if kind <= 34 {
            sets.extend_from_slice(&[0, 0, 0, 1]);
            sets.extend_from_slice(unit);
        }
    }
    sets
}

/// The type of a picture.
fn kind(coded: &[u8]) -> Option<u8> {
    units(coded).map(|(kind, _)| kind).find(|kind| *kind < 32)
}

/// Whether a picture follows a keyframe, is shown before it and needs what came before both (unit types 8 and 9):
/// where one begins with the keyframe, it gives no picture.
fn is_skipped(coded: &[u8]) -> bool {
    matches!(kind(coded), Some(8 | 9))
}

/// A keyframe as one after a cut: a clean random access picture (unit type 21) throws away what is held back before it
/// where it begins a sequence, its twin for spliced streams (17) does not (ITU-T H.265, C.5.2.2).
fn spliced(coded: &[u8]) -> Vec<u8> {
    let mut coded = coded.to_vec();
    let mut at = 0;
    while let Some(found) = coded[at..].windows(3).position(|three| three == [0, 0, 1]) {
        at += found + 3;
        if let Some(head) = coded.get_mut(at).filter(|head| **head >> 1 & 63 == 21) {
            *head = *head & 0x81 | 17 << 1;
        }
    }
    coded
}

/// Whether a picture can be decoded alone (unit types 16 to 23), apart from its parameter sets.
pub(super) fn stands_alone(coded: &[u8]) -> bool {
    kind(coded).is_some_and(|kind| (16..=23).contains(&kind))
}

/// CPU time of a process with all its threads so far, to a hundredth of a second (proc_pid_stat(5), fields 14 and 15).
fn cpu_time(process: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it may hold anything but ends with the last bracket.
    let fields = text.rsplit_once(')')?.1.split_whitespace().skip(11).take(2);
    let ticks: f64 = fields.map(|ticks| ticks.parse::<f64>().ok()).sum::<Option<f64>>()?;
    Some(Duration::from_secs_f64(ticks / TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ppm(width: usize, height: usize, grey: u8) -> Vec<u8> {
        let mut bytes = format!("P6\n{width} {height}\n255\n").into_bytes();
        bytes.resize(bytes.len() + width * height * 3, grey);
        bytes
    }

    #[test]
    fn pictures_are_read_one_after_the_other_and_nonsense_is_refused() {
        let bytes = [ppm(16, 8, 9), ppm(8, 16, 7)].concat();
        let mut from = &bytes[..];
        let sides = |frame: Frame| (frame.width, frame.height, frame.rgb[0]);
        assert_eq!(picture(&mut from).map(sides).unwrap(), (16, 8, 9));
        assert_eq!(picture(&mut from).map(sides).unwrap(), (8, 16, 7));
        assert_eq!(picture(&mut from).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        for bad in ["P5\n16 8\n255\n", "P6\n16\n255\n", "P6\n16 99999\n255\n", "P6\n4 8\n255\n"] {
            assert!(
                picture(&mut [bad.as_bytes(), &[0; 999]].concat().as_slice()).is_err(),
                "{bad}"
            );
        }
        assert!(picture(&mut &ppm(16, 8, 9)[..99]).is_err(), "cut off");
    }

    #[test]
    fn only_the_picture_that_is_waited_for_is_kept() {
        let seat = (Mutex::new(Seat { awaited: 1, ..Seat::default() }), Condvar::new());
        let bytes: Vec<u8> = (0..3).flat_map(|grey| ppm(8, 8, grey)).collect();
        take_seats(&bytes[..], &seat);
        let seat = seat.0.into_inner().unwrap();
        assert_eq!((seat.pictures, seat.picture.map(|frame| frame.rgb[0])), (3, Some(1)));
        assert_eq!(seat.ended.unwrap().to_string(), "H.265: ffmpeg has ended");
    }

    #[test]
    fn parameter_sets_are_told_apart_from_what_changes_with_each_picture() {
        let unit = |kind: u8, body: u8| [0, 0, 0, 1, kind << 1, 1, body].to_vec();
        let coded = |sets: u8, message: u8| {
            [unit(32, 1), unit(33, sets), unit(34, 3), unit(39, message), unit(19, 5), unit(33, 9)]
                .concat()
        };
        assert_eq!(parameters(&coded(2, 4)), parameters(&coded(2, 8)));
        assert_ne!(parameters(&coded(2, 4)), parameters(&coded(7, 4)));
        assert!(parameters(b"no units").is_empty() && parameters(&[0, 0, 1]).is_empty());
        let units = |kind| [unit(39, 1), unit(kind, 5), unit(1, 0)].concat();
        let alone: Vec<u8> = (0..32).filter(|kind| stands_alone(&units(*kind))).collect();
        assert_eq!(alone, (16..=23).collect::<Vec<u8>>());
        assert!(!stands_alone(&unit(33, 1)) && !stands_alone(b""));
        assert_eq!(
            spliced(&[unit(33, 1), unit(21, 42)].concat()),
            [unit(33, 1), unit(17, 42)].concat()
        );
        assert_eq!(spliced(&unit(19, 42)), unit(19, 42));
    }

    #[test]
    fn a_process_says_its_cpu_time() {
        let own = || cpu_time(std::process::id()).unwrap();
        let began = own();
        let busy = crate::io::clock::thread_time();
        while crate::io::clock::thread_time() - busy < Duration::from_millis(60) {}
        assert!(own() - began >= Duration::from_millis(40), "{began:?} to {:?}", own());
        assert_eq!(cpu_time(0), None);
    }
}
