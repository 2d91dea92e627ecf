//! The folder in which everything that was started writes; removed at the end.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::SuiteError;

/// How often a small piece is written and synced to learn what that costs.
const SYNCS: usize = 30;

/// See the module's head.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one of its own inside `place`.
    ///
    /// # Errors
    /// If that is not possible.
    pub fn new(place: &Path) -> Result<Self, SuiteError> {
        let path = place.join(format!("clique-bench-{:08x}", rand::random::<u32>()));
        fs::create_dir_all(&path).map_err(SuiteError::Folder)?;
        Ok(Self(path.canonicalize().map_err(SuiteError::Folder)?))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What it takes to have 4 KiB on the disk that the folder is on: the median of some.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn sync_cost(&self) -> Result<Duration, SuiteError> {
        let path = self.0.join("sync");
        let mut times = Vec::new();
        let mut file = File::create(&path).map_err(SuiteError::Folder)?;
        for _ in 0..SYNCS {
            let begun = Instant::now();
            file.write_all(&[b'x'; 4_096]).and_then(|()| file.sync_data()).map_err(SuiteError::Folder)?;
            times.push(begun.elapsed());
        }
        fs::remove_file(path).map_err(SuiteError::Folder)?;
        times.sort();
        Ok(times.get(SYNCS / 2).copied().unwrap_or_default())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is in the way of nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
