//! What the controller took in and when it decided, so that its decisions can be had again byte for byte.
//! One file is one run, or a part of one: append-only, in compressed blocks with their checksums.
//!
//! ```text
//!   wattgate-trace 1
//!   length (4 bytes, little end first), CRC-32 of the block, block: deflated JSON lines
//! ```
//! What a stranger gets wrong: the first line says what the controller was made of; a torn last block is
//! the end of the file, not an error: that is what a power cut leaves behind.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::logic::compute::JobBook;
use crate::logic::decision::{Decision, Latched};
use crate::logic::observation::Observation;
use crate::logic::site::Site;
use crate::units::Moment;

const MAGIC: &[u8] = b"wattgate-trace 1\n";
/// Lines are compressed together until they are this long.
const BLOCK_BYTES: usize = 64 << 10;
/// A block that claims to be longer is damage.
const MOST_BLOCK: u32 = 4 << 20;
/// A block that unfolds to more is damage.
const MOST_UNFOLDED: u64 = 64 << 20;

/// What the controller was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// SHA-256 of the site as the controller knows it, hexadecimal.
    pub site_hash: String,
    /// The site.
    pub site: Site,
    /// What was latched before.
    pub latched: Latched,
    /// The jobs that were there before.
    #[serde(default)]
    pub jobs: JobBook,
    /// When the controller was made.
    pub started: Moment,
    /// How much slower the eyes are than the site's clock (simulated sites), else 1.
    pub vision_pace: f64,
    /// The place of this file in its run, from 0; later ones do not begin with a fresh controller.
    pub part: u32,
}

/// SHA-256 of a site, hexadecimal.
#[must_use]
pub fn site_hash(site: &Site) -> String {
    let bytes = serde_json::to_vec(site).unwrap_or_default();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// CRC-32 of a decision's setpoints with their reasons, and of the errands where there are any, as JSON:
/// equal only if every byte is.
#[must_use]
pub fn digest(decision: &Decision) -> u32 {
    let Decision { permitted, errands, .. } = decision;
    let bytes = if errands.is_empty() {
        serde_json::to_vec(permitted)
    } else {
        serde_json::to_vec(&(permitted, errands))
    };
    crc32fast::hash(&bytes.unwrap_or_default())
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first of every file.
    Head(Box<Head>),
    /// Something came in.
    Heard(Observation),
    /// The controller decided.
    Ticked {
        /// When.
        at: Moment,
        /// [`digest`] of the decision.
        digest: u32,
    },
    /// So many lines were lost before this one.
    Gap(u64),
}

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file or the folder.
    #[error("{path}: {cause}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It does not begin as a trace does.
    #[error("{0}: this is not a trace of this version of wattgate")]
    Foreign(PathBuf),
}

/// Appends to one file.
pub struct TraceWriter {
    file: File,
    lines: Vec<u8>,
    written: u64,
}

impl TraceWriter {
    /// A new file at `path`; an older one is replaced.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: &Path, head: Head) -> io::Result<TraceWriter> {
        let mut file = File::create(path)?;
        file.write_all(MAGIC)?;
        let mut writer = TraceWriter { file, lines: Vec::new(), written: MAGIC.len() as u64 };
        writer.append(&Line::Head(Box::new(head)))?;
        writer.flush()?;
        Ok(writer)
    }

    /// Adds a line; it is in the file at the latest after [`TraceWriter::flush`].
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn append(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.lines, line).map_err(io::Error::other)?;
        self.lines.push(b'\n');
        if self.lines.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what is held back.
    ///
    /// # Errors
    /// When the disk refuses; what was held back is lost then.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let mut packer = DeflateEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(&std::mem::take(&mut self.lines))?;
        let block = packer.finish()?;
        let length = u32::try_from(block.len()).map_err(io::Error::other)?;
        let mut frame = length.to_le_bytes().to_vec();
        frame.extend(crc32fast::hash(&block).to_le_bytes());
        frame.extend(block);
        self.written += frame.len() as u64;
        self.file.write_all(&frame)
    }

    /// Bytes in the file.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }
}

/// Reads one file, line by line.
pub struct TraceReader {
    file: BufReader<File>,
    lines: std::vec::IntoIter<Line>,
    /// The file ended within a block, or with one whose checksum is wrong.
    torn: bool,
}

impl TraceReader {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be read or is no trace.
    pub fn open(path: &Path) -> Result<TraceReader, TraceError> {
        let failed = |cause| TraceError::Io { path: path.to_owned(), cause };
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let mut magic = vec![0; MAGIC.len()];
        match file.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Err(cause) if cause.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(failed(cause));
            }
            _ => return Err(TraceError::Foreign(path.to_owned())),
        }
        Ok(TraceReader { file, lines: Vec::new().into_iter(), torn: false })
    }

    /// Whether the file ended in the middle of a block.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// The next block's lines; nothing at the end.
    fn block(&mut self) -> Option<Vec<Line>> {
        let mut prefix = [0; 8];
        let got = read_up_to(&mut self.file, &mut prefix);
        if got < prefix.len() {
            self.torn |= got > 0;
            return None;
        }
        let [a, b, c, d, sum @ ..] = prefix;
        let length = u32::from_le_bytes([a, b, c, d]);
        self.torn = true;
        if length > MOST_BLOCK {
            return None;
        }
        let mut block = vec![0; length as usize];
        if read_up_to(&mut self.file, &mut block) < block.len()
            || crc32fast::hash(&block) != u32::from_le_bytes(sum)
        {
            return None;
        }
        let mut text = String::new();
        DeflateDecoder::new(&block[..]).take(MOST_UNFOLDED).read_to_string(&mut text).ok()?;
        let lines: Result<Vec<Line>, _> = text.lines().map(serde_json::from_str).collect();
        let lines = lines.ok()?;
        self.torn = false;
        Some(lines)
    }
}

impl Iterator for TraceReader {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = self.lines.next() {
                return Some(line);
            }
            self.lines = self.block()?.into_iter();
        }
    }
}

fn read_up_to(file: &mut impl Read, bytes: &mut [u8]) -> usize {
    let mut got = 0;
    while got < bytes.len() {
        match file.read(&mut bytes[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    got
}
