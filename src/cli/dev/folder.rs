//! The folder of one run of `dev`, with its key files. It is deleted when the run ends; if the run was killed, the next
//! run deletes it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// The prefix of the folders of runs.
const PREFIX: &str = "tenant-gateway-dev-";

/// The prefix of folders whose lock is not yet held. They contain no key yet.
const NEW_PREFIX: &str = ".new-tenant-gateway-dev-";

/// The lock file. It is locked while the run lives; the system releases it even if the run is killed.
const LOCK: &str = "lock";

/// The age at which a folder without a lock file is deleted; longer than any run. It belongs to a run that was killed
/// during its start, or to a release without lock files.
const UNLOCKED_FOLDER_AGE: Duration = Duration::from_hours(24);

/// The folder of this run.
pub(super) struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Creates a folder in `parent` that only the current user can access.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        let new = tempfile::Builder::new().prefix(NEW_PREFIX).tempdir_in(parent)?;
        let lock = new.path().join(LOCK);
        let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(lock)?;
        lock.try_lock().map_err(io::Error::from)?;
        let name = new.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.replacen(NEW_PREFIX, PREFIX, 1);
        // Other runs see the folder from this rename on, and it is already locked.
        let path = parent.join(name);
        fs::rename(new.path(), &path)?;
        // The folder no longer exists at its first path, so there is nothing to delete.
        drop(new.keep());
        Ok(Self { path, _lock: lock })
    }

    /// Returns the path of the folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Deletes the folder and its content.
    pub(super) fn close(self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // After `close`, there is nothing left; after a failure, this is best effort.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Deletes the folders of killed runs in `parent`, except folders of other users. Returns the deleted folders.
pub(super) fn remove_abandoned(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut swept = Vec::new();
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours = name.starts_with(PREFIX) || name.starts_with(NEW_PREFIX);
        if is_ours && is_left_behind(&path) && fs::remove_dir_all(&path).is_ok() {
            swept.push(path);
        }
    }
    swept
}

fn is_left_behind(folder: &Path) -> bool {
    // Symbolic links are not followed, because every user can create one in a folder for temporary files.
    let Ok(metadata) = fs::symlink_metadata(folder) else { return false };
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return false;
    }
    match File::open(folder.join(LOCK)) {
        Ok(lock) => match lock.try_lock() {
            // Released at once, when `lock` is dropped.
            Ok(()) => true,
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let age = metadata.modified().ok().and_then(|modified| modified.elapsed().ok());
            age.is_some_and(|age| age > UNLOCKED_FOLDER_AGE)
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, time::SystemTime};

    use super::*;

    /// Creates the folder of a killed run, whose lock is no longer held.
    fn killed(parent: &Path, name: &str) -> PathBuf {
        let folder = parent.join(name);
        fs::create_dir(&folder).unwrap();
        for file in [LOCK, "client_secret", "keyring.toml"] {
            fs::write(folder.join(file), "secret").unwrap();
        }
        folder
    }

    #[test]
    fn removes_the_folder_of_a_killed_run_and_keeps_that_of_a_running_one() {
        let parent = tempfile::tempdir().unwrap();
        let living = RunFolder::create(parent.path()).unwrap();
        fs::write(living.path().join("client_secret"), "secret").unwrap();
        let dead = killed(parent.path(), "tenant-gateway-dev-abc");
        assert_eq!(remove_abandoned(parent.path()), std::slice::from_ref(&dead));
        assert!(!dead.exists() && living.path().join("client_secret").exists());
        let path = living.path().to_owned();
        living.close().unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn keeps_other_files_links_and_new_folders() {
        let parent = tempfile::tempdir().unwrap();
        let elsewhere = killed(parent.path(), "precious");
        symlink(&elsewhere, parent.path().join("tenant-gateway-dev-link")).unwrap();
        fs::write(parent.path().join("tenant-gateway-dev-file"), "").unwrap();
        // A run that has just started has no lock yet.
        fs::create_dir(parent.path().join(".new-tenant-gateway-dev-x")).unwrap();
        fs::create_dir(parent.path().join("tenant-gateway-dev-without-lock")).unwrap();
        assert!(remove_abandoned(parent.path()).is_empty());
        assert!(elsewhere.join("client_secret").exists());
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the files of a test have the times of the machine"
    )]
    fn removes_an_old_folder_without_a_lock_file() {
        let parent = tempfile::tempdir().unwrap();
        let old = parent.path().join("tenant-gateway-dev-old");
        fs::create_dir(&old).unwrap();
        let long_ago = SystemTime::now() - 2 * UNLOCKED_FOLDER_AGE;
        File::open(&old).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(remove_abandoned(parent.path()), [old]);
    }

    #[test]
    fn failed_run_removes_its_folder() {
        let parent = tempfile::tempdir().unwrap();
        drop(RunFolder::create(parent.path()).unwrap());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
