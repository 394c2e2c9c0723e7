//! `wattgate update install`: another version of the program, put on trial. Nothing of what runs is touched:
//! the file goes into a folder of its own, and the next start of the gateway takes it (see [`super::releases`]).
//!
//! ```text
//!   signature of the site's key ─▶ for this kind of machine, newer than what is kept ─▶ copied, flushed
//!       ─▶ tried: says the same version, understands the site file ─▶ on trial from the next start on
//! ```
//! What a stranger gets wrong: version and machine are believed from the signature's trusted comment, which is
//! signed too. A file name proves nothing, and a program that was asked for its version could lie. And this
//! version need not understand the site file: the new one must.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::desk::{self, Answer, Request};
use super::releases::{self, Book, Trial, Version};
use crate::io::clock::Clock;
use crate::io::store::write_whole;

/// Largest program.
const MOST_BYTES: u64 = 256 << 20;
/// A signature is some hundred bytes.
const MOST_SIGNATURE: u64 = 4096;
/// A question to the new program takes this long at most.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked whether it has answered.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why an update is not taken. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The site file names nobody whose updates are taken.
    #[error("no key")]
    NoKey,
    /// A file cannot be read, or the state folder cannot be written.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Not signed by the site's key.
    #[error("{0}")]
    Signature(String),
    /// The trusted comment is not `wattgate VERSION MACHINE`.
    #[error("{0}")]
    Comment(String),
    /// For another kind of machine.
    #[error("{0}")]
    Machine(String),
    /// Not newer than what is there.
    #[error("{version} is not newer than {floor}")]
    Older {
        /// Of the file.
        version: Version,
        /// What it must be above.
        floor: Version,
    },
    /// The state folder belongs to another user.
    #[error("{0}")]
    Owner(PathBuf),
    /// This version is on trial already.
    #[error("{0}")]
    OnTrial(Version),
    /// The gateway that runs does not say which devices it hears.
    #[error("{0}")]
    Deaf(String),
    /// It does not run here, says another version, or does not understand the site file.
    #[error("{0}")]
    Tried(String),
}

/// What is to be installed.
#[derive(Clone, Debug)]
pub struct Update<'u> {
    /// The program; its signature lies beside it (`FILE.minisig`).
    pub file: &'u Path,
    /// Public key of minisign, as in `[updates] signed_by`.
    pub key: Option<&'u str>,
    /// The site file, which it must understand.
    pub site: &'u Path,
    /// The state folder.
    pub state: &'u Path,
}

/// The kind of this machine, as the trusted comment says it: `linux-x86_64`.
#[must_use]
pub fn machine() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}

/// Puts an update on trial: it runs from the next start of the gateway on. Its version.
///
/// # Errors
/// When it is not taken; see [`UpdateError`].
pub fn install(update: &Update<'_>) -> Result<Version, UpdateError> {
    let key = update.key.ok_or(UpdateError::NoKey)?;
    let (version, bytes) = signed(update.file, key)?;
    let state = update.state;
    let at = |path: &Path| {
        let path = path.to_owned();
        move |cause| UpdateError::File { path, cause }
    };
    let folder = releases::folder(state);
    fs::create_dir_all(state).map_err(at(state))?;
    // Others would leave files that the gateway may not write, and root would run what the gateway may exchange.
    if fs::metadata(state).map_err(at(state))?.uid() != rustix::process::geteuid().as_raw() {
        return Err(UpdateError::Owner(state.to_owned()));
    }
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let _one = only_one(&folder)?;
    let open = || Book::open(state).map_err(at(&folder));
    let floor = open()?.floor();
    if version <= floor {
        return Err(UpdateError::Older { version, floor });
    }
    if open()?.trial.is_some_and(|trial| trial.version == version) {
        return Err(UpdateError::OnTrial(version));
    }
    let program = releases::program(state, version);
    put(&program, &bytes).and_then(|()| make_runnable(&program)).map_err(at(&program))?;
    let signature = read(&beside(update.file), MOST_SIGNATURE)?;
    put(&beside(&program), &signature).map_err(at(&program))?;
    tried(&program, version, update.site)?;
    let heard = heard(state)?;
    let _held = releases::hold(state).map_err(at(&folder))?;
    let mut book = open()?;
    book.trial = Some(Trial { version, starts: 0, began: Duration::ZERO, heard });
    book.undone = None;
    book.keep(state).map_err(at(&folder))?;
    Ok(version)
}

/// Undoes what is on trial, or else what is kept, from the next start on; which.
///
/// # Errors
/// When the state folder cannot be written.
pub fn undo(state: &Path) -> io::Result<Option<Version>> {
    if !releases::folder(state).exists() {
        return Ok(None);
    }
    let _held = releases::hold(state)?;
    let mut book = Book::open(state)?;
    let undone = book.undo_last();
    book.keep(state)?;
    Ok(undone)
}

/// One installation at a time, also while the book is not held.
fn only_one(folder: &Path) -> Result<File, UpdateError> {
    let path = folder.join("install.lock");
    let file =
        File::create(&path).map_err(|cause| UpdateError::File { path: path.clone(), cause })?;
    file.try_lock().map_err(|error| UpdateError::File { path, cause: error.into() })?;
    Ok(file)
}

fn beside(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}.minisig", file.display()))
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, UpdateError> {
    let failed = |cause| UpdateError::File { path: path.to_owned(), cause };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > most {
        return Err(failed(io::Error::other(format!("{length} bytes are more than {most}"))));
    }
    fs::read(path).map_err(failed)
}

/// The version that a file is signed as, and its bytes.
///
/// # Errors
/// When it cannot be read, is not signed by `key` (minisign, `FILE.minisig`), or not for this kind of machine.
pub fn signed(file: &Path, key: &str) -> Result<(Version, Vec<u8>), UpdateError> {
    let signature = beside(file);
    let refused =
        |cause: String| UpdateError::Signature(format!("{}: {cause}", signature.display()));
    let bytes = read(file, MOST_BYTES)?;
    let text = String::from_utf8(read(&signature, MOST_SIGNATURE)?);
    let text = text.map_err(|error| refused(error.to_string()))?;
    let key = minisign_verify::PublicKey::from_base64(key)
        .map_err(|error| UpdateError::Signature(format!("signed_by: {error}")))?;
    let signature =
        minisign_verify::Signature::decode(&text).map_err(|error| refused(error.to_string()))?;
    key.verify(&bytes, &signature, false).map_err(|error| refused(error.to_string()))?;
    let comment = signature.trusted_comment();
    let bad = || UpdateError::Comment(comment.to_owned());
    let words: Vec<&str> = comment.split_whitespace().collect();
    let ["wattgate", version, for_machine] = words.as_slice() else {
        return Err(bad());
    };
    if *for_machine != machine() {
        return Err(UpdateError::Machine((*for_machine).to_owned()));
    }
    let version = Version::try_from((*version).to_owned()).map_err(|_| bad())?;
    Ok((version, bytes))
}

/// Writes a file into the folder of its version, whole.
fn put(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    write_whole(folder, &name, bytes)?;
    File::open(folder.parent().unwrap_or(folder))?.sync_all()
}

/// Makes a program one that can be run; flushed, since the book names it next.
fn make_runnable(program: &Path) -> io::Result<()> {
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
    File::open(program)?.sync_all()
}

/// It runs here, is what it is signed as, and understands the site file.
fn tried(program: &Path, version: Version, site: &Path) -> Result<(), UpdateError> {
    let (status, said) = ask(program, &["version".as_ref()])?;
    if !status.success() || said.trim() != format!("wattgate {version}") {
        return Err(UpdateError::Tried(format!("version: {status}, `{}`", said.trim())));
    }
    let (status, said) = ask(program, &["check".as_ref(), site.as_os_str()])?;
    if !status.success() {
        return Err(UpdateError::Tried(format!("check {}: {status}\n{said}", site.display())));
    }
    Ok(())
}

fn ask(program: &Path, words: &[&std::ffi::OsStr]) -> Result<(ExitStatus, String), UpdateError> {
    let failed = |error: io::Error| UpdateError::Tried(format!("{}: {error}", program.display()));
    let mut answer = tempfile_in(program).map_err(failed)?;
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(answer.try_clone().map_err(failed)?)
        .stderr(answer.try_clone().map_err(failed)?)
        .spawn()
        .map_err(failed)?;
    let asked = Clock::real().now();
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            let mut said = String::new();
            io::Seek::rewind(&mut answer).map_err(failed)?;
            let mut answer = io::Read::take(&answer, 1 << 16);
            let _ = io::Read::read_to_string(&mut answer, &mut said);
            return Ok((status, said));
        }
        if asked.age_at(Clock::real().now()) > ANSWERS_WITHIN {
            let _ = child.kill();
            let _ = child.wait();
            return Err(UpdateError::Tried(format!("no answer within {ANSWERS_WITHIN:?}")));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A file for the answer, without a name, so that nothing fills a pipe and waits.
fn tempfile_in(program: &Path) -> io::Result<File> {
    let path = program.with_extension("said");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Devices that the gateway hears now; none where none runs.
fn heard(state: &Path) -> Result<usize, UpdateError> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    match desk::ask(state, &Request::Overview) {
        Ok(Answer::Overview(overview)) => Ok(releases::hears(&overview)),
        Err(error) if matches!(error.kind(), ConnectionRefused | NotFound) => Ok(0),
        Ok(_) => Err(UpdateError::Deaf("no decision yet".to_owned())),
        Err(error) => Err(UpdateError::Deaf(error.to_string())),
    }
}
