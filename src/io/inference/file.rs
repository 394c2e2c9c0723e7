//! The bytes of a net's file: of the right size, with the hash that the manifest says, and signed where
//! the manifest says by whom.
//!
//! What a stranger gets wrong: the hash protects against a file that was altered by accident or by
//! somebody who could not alter the manifest. Against somebody who can, only the signature helps, and
//! only with a key that came another way.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::manifest::{Entry, manifest};
use super::model::ModelError;

/// A model file larger than this is refused.
const MOST_BYTES: u64 = 256 << 20;
/// A signature is some hundred bytes.
const MOST_SIGNATURE: u64 = 4096;

/// The bytes of a file that is what the manifest says.
pub fn read(folder: &Path, entry: &Entry) -> Result<Vec<u8>, ModelError> {
    let path = entry.path(folder);
    let failed = |cause: String| ModelError::Runtime { path: path.clone(), cause };
    let length = fs::metadata(&path).map_err(|error| failed(error.to_string()))?.len();
    if length > MOST_BYTES {
        return Err(failed(format!("{length} bytes are more than {MOST_BYTES}")));
    }
    let bytes = fs::read(&path).map_err(|error| failed(error.to_string()))?;
    let found = hash(&bytes);
    if !found.eq_ignore_ascii_case(&entry.sha256) {
        return Err(ModelError::Altered { path, found, wanted: entry.sha256.clone() });
    }
    if let Some(key) = &entry.signed_by {
        signed(&path, key, &bytes)?;
    }
    Ok(bytes)
}

fn signed(path: &Path, key: &str, bytes: &[u8]) -> Result<(), ModelError> {
    let failed = |cause: String| ModelError::Signature { path: path.to_owned(), cause };
    let beside = PathBuf::from(format!("{}.minisig", path.display()));
    let named = |error: &dyn std::fmt::Display| failed(format!("{}: {error}", beside.display()));
    let length = fs::metadata(&beside).map_err(|error| named(&error))?.len();
    if length > MOST_SIGNATURE {
        return Err(named(&"too long for a signature"));
    }
    let text = fs::read_to_string(&beside).map_err(|error| named(&error))?;
    let signature = minisign_verify::Signature::decode(&text).map_err(|error| named(&error))?;
    let key = minisign_verify::PublicKey::from_base64(key)
        .map_err(|error| failed(format!("`signed_by` is no public key of minisign: {error}")))?;
    key.verify(bytes, &signature, false).map_err(|error| named(&error))
}

/// Files that were good when they were loaded, and whether they still are.
#[derive(Debug, Default)]
pub struct FileGuard {
    files: Vec<Guarded>,
}

#[derive(Debug)]
struct Guarded {
    path: PathBuf,
    sha256: String,
    seen: Option<(SystemTime, u64)>,
    good: bool,
}

impl FileGuard {
    /// Guards the files of a folder's small and big nets.
    ///
    /// # Errors
    /// When the manifest cannot be used.
    pub fn of(folder: &Path) -> Result<FileGuard, ModelError> {
        let entries = manifest(folder)?;
        let files = entries.iter().filter(|entry| !entry.file.is_empty()).map(|entry| {
            let path = entry.path(folder);
            Guarded { seen: None, path, sha256: entry.sha256.clone(), good: false }
        });
        Ok(FileGuard { files: files.collect() })
    }

    /// A file that was altered or is gone. Cheap: a file is read again only when its time or size
    /// changed since the last question.
    pub fn altered(&mut self) -> Option<&Path> {
        for guarded in &mut self.files {
            let now = stamp(&guarded.path);
            if now != guarded.seen || now.is_none() {
                let bytes = fs::read(&guarded.path).ok();
                guarded.seen = now.filter(|_| bytes.is_some());
                let wanted = &guarded.sha256;
                guarded.good = bytes.is_some_and(|b| hash(&b).eq_ignore_ascii_case(wanted));
            }
            if !guarded.good {
                return Some(&guarded.path);
            }
        }
        None
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let data = fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len()))
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Copies a folder's manifest and the files that it names, so that there is a last good copy. A copy
/// that is already the same is left alone.
///
/// # Errors
/// When something cannot be read or written.
pub fn keep_copy(folder: &Path, into: &Path) -> std::io::Result<()> {
    fs::create_dir_all(into)?;
    let entries = manifest(folder).map_err(std::io::Error::other)?;
    let named: Vec<&Entry> = entries.iter().filter(|entry| !entry.file.is_empty()).collect();
    // Only what is good may take the place of a good copy.
    for entry in &named {
        read(folder, entry).map_err(std::io::Error::other)?;
    }
    let files = named.iter().flat_map(|entry| {
        let signature = entry.signed_by.as_ref().map(|_| format!("{}.minisig", entry.file));
        [Some(entry.file.clone()), signature]
    });
    // The manifest last: a copy that was cut off fits no manifest and is not used.
    for name in files.flatten().chain(["manifest.toml".to_owned()]) {
        let (from, to) = (folder.join(&name), into.join(&name));
        let bytes = fs::read(&from)?;
        if fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        let half = into.join(format!("{name}.half"));
        fs::write(&half, bytes)?;
        fs::rename(&half, &to)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::model::{Engine, load};
    use super::*;

    /// A copy of the shipped folder: manifest and files.
    fn copy() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        keep_copy(&shipped, folder.path()).unwrap();
        folder
    }

    fn flip(path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn inf2_an_altered_file_is_noticed_while_the_net_runs_and_the_copy_still_loads() {
        let (folder, good) = (copy(), tempfile::tempdir().unwrap());
        keep_copy(folder.path(), good.path()).unwrap();
        let mut guard = FileGuard::of(folder.path()).unwrap();
        assert_eq!(guard.altered(), None);
        let path = folder.path().join("fire-small.onnx");
        flip(&path);
        assert_eq!(guard.altered(), Some(path.as_path()));
        assert_eq!(guard.altered(), Some(path.as_path()), "as long as it is so");
        assert!(load(folder.path(), Engine::Best).is_err());
        assert!(load(good.path(), Engine::Best).is_ok());
        flip(&path);
        assert_eq!(guard.altered(), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(guard.altered(), Some(path.as_path()));
    }

    #[test]
    fn inf2_an_altered_file_does_not_take_the_place_of_the_last_good_copy() {
        let (folder, good) = (copy(), tempfile::tempdir().unwrap());
        keep_copy(folder.path(), good.path()).unwrap();
        let of = |folder: &Path| fs::read(folder.join("fire-big.onnx")).unwrap();
        let before = of(good.path());
        flip(&folder.path().join("fire-big.onnx"));
        let kept = keep_copy(folder.path(), good.path());
        assert!(kept.is_err_and(|error| error.to_string().contains("fire-big.onnx")));
        assert!(of(good.path()) == before && of(folder.path()) != before);
    }

    #[test]
    fn an_altered_file_is_read_once_and_not_with_every_question() {
        let folder = copy();
        let mut guard = FileGuard::of(folder.path()).unwrap();
        let path = folder.path().join("fire-small.onnx");
        flip(&path);
        assert_eq!(guard.altered(), Some(path.as_path()));
        // Good again under the same time and size: whoever says so has read it again.
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        flip(&path);
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert_eq!(guard.altered(), Some(path.as_path()));
        let later = time + std::time::Duration::from_secs(1);
        fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert_eq!(guard.altered(), None);
    }

    #[test]
    fn a_hash_in_capitals_is_the_same_hash() {
        let folder = copy();
        let path = folder.path().join("manifest.toml");
        let capitals = |line: &str| match line.strip_prefix("sha256 = ") {
            Some(hash) => format!("sha256 = {}\n", hash.to_uppercase()),
            None => format!("{line}\n"),
        };
        let text: String = fs::read_to_string(&path).unwrap().lines().map(capitals).collect();
        fs::write(&path, text).unwrap();
        assert!(load(folder.path(), Engine::Best).is_ok());
        assert_eq!(FileGuard::of(folder.path()).unwrap().altered(), None);
    }

    #[test]
    fn a_file_of_the_right_hash_and_a_wrong_signature_is_refused() {
        // Signed with a key made for this test, which was thrown away.
        let key = "RWRFYPRAuCrrO2enUaUQj/BDizHqDS2cYsSb0eeeOhIDDBb/GbX1Pqrv";
        let signature = "untrusted comment: a test\n\
            RURFYPRAuCrrOyBWEQhSWnDlo8kqVLx5/iugqqbkymJ2CfnV6AsLP+PqX+refEFSuQTr91p8B7hV2YbQ1bsTYGIRdhQMHLvsRgQ=\n\
            trusted comment: file of a test\n\
            TEnNwcldOOls6+eFXTlKOs77IFHda/pPkDOUJSwKnYgbC+rMN0pZu051Z9/r9rSR6jGMakHE3Fufb98hnD5MAg==\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test");
        fs::write(&path, b"a net").unwrap();
        assert!(signed(&path, key, b"a net").is_err(), "no signature");
        fs::write(folder.path().join("test.minisig"), signature).unwrap();
        signed(&path, key, b"a net").unwrap();
        assert!(signed(&path, key, b"a nat").is_err());
        let error = signed(&path, "not a key", b"a net").unwrap_err().to_string();
        assert!(error.contains("signed_by"), "{error}");
    }
}
