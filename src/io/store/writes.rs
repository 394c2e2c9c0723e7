//! How often each register was written, since ever: registers in flash wear out, and who replaces a device wants
//! to know. One small file in the state folder; a broken one begins anew, said in the log.
//!
//! What a stranger gets wrong: counts only grow. Who takes them up adds to what the file holds.

use std::collections::BTreeMap;
use std::path::Path;

use super::StoreError;
use super::whole::replace;

/// `device/address` (zero-based, as on the wire) to writes.
pub type Writes = BTreeMap<String, u64>;

const FILE: &str = "register-writes.json";

/// What was counted so far.
#[must_use]
pub fn load(folder: &Path) -> Writes {
    let Ok(text) = std::fs::read_to_string(folder.join(FILE)) else {
        return Writes::new();
    };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!(file = FILE, %error, "counts of writes unreadable: counting begins anew");
        Writes::new()
    })
}

/// Keeps the counts: whole or not at all.
///
/// # Errors
/// When the disk refuses.
pub fn save(folder: &Path, writes: &Writes) -> Result<(), StoreError> {
    let text = serde_json::to_string(writes).map_err(std::io::Error::other)?;
    Ok(replace(folder, FILE, text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_back_and_a_broken_file_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(folder.path()), Writes::new());
        let counts = Writes::from([("pile/1210".to_owned(), 7), ("pile/5016".to_owned(), 1)]);
        save(folder.path(), &counts).unwrap();
        assert_eq!(load(folder.path()), counts);
        std::fs::write(folder.path().join(FILE), "{half").unwrap();
        assert_eq!(load(folder.path()), Writes::new());
        assert!(save(&folder.path().join("not there"), &counts).is_err());
    }
}
