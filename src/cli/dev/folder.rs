//! The folder of one run of `dev`, with its key files. Gone when the run ends; if the run was killed, the next one removes
//! it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// Folders of runs begin so.
const PREFIX: &str = "tenant-gateway-dev-";

/// Folders begin so until their lock is held. There is no key in them yet.
const NEW_PREFIX: &str = ".new-tenant-gateway-dev-";

/// Locked for as long as the run lives: the system releases it however the run ends.
const LOCK: &str = "lock";

/// A folder without a lock is of a run that died while it began, or of a release that knew no locks. It is left alone for
/// longer than any run lasts.
const WITHOUT_LOCK: Duration = Duration::from_hours(24);

/// The folder of this run.
pub(super) struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Makes a folder that only we may enter, in `parent`.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        let new = tempfile::Builder::new().prefix(NEW_PREFIX).tempdir_in(parent)?;
        let lock = new.path().join(LOCK);
        let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(lock)?;
        lock.try_lock().map_err(io::Error::from)?;
        let name = new.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.replacen(NEW_PREFIX, PREFIX, 1);
        // Under its final name it is seen by others, and locked by then.
        let path = parent.join(name);
        fs::rename(new.path(), &path)?;
        // Nothing is left under its first name.
        drop(new.keep());
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with everything in it.
    pub(super) fn close(self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // After `close` there is nothing left; else best effort on the way out of a failure.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders in `parent` that runs of ours left behind which were killed. Those of runs that live, and those of
/// other accounts, stay. Returns the folders that were removed.
pub(super) fn sweep(parent: &Path) -> Vec<PathBuf> {
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
    // Not where a link leads: anybody may put one into a folder for temporary files.
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
            age.is_some_and(|age| age > WITHOUT_LOCK)
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, time::SystemTime};

    use super::*;

    /// A folder as a run leaves it that was killed: its lock is not held any more.
    fn killed(parent: &Path, name: &str) -> PathBuf {
        let folder = parent.join(name);
        fs::create_dir(&folder).unwrap();
        for file in [LOCK, "client_secret", "keyring.toml"] {
            fs::write(folder.join(file), "secret").unwrap();
        }
        folder
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_a_living_run_keeps_its_folder() {
        let parent = tempfile::tempdir().unwrap();
        let living = RunFolder::create(parent.path()).unwrap();
        fs::write(living.path().join("client_secret"), "secret").unwrap();
        let dead = killed(parent.path(), "tenant-gateway-dev-abc");
        assert_eq!(sweep(parent.path()), std::slice::from_ref(&dead));
        assert!(!dead.exists() && living.path().join("client_secret").exists());
        let path = living.path().to_owned();
        living.close().unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_else_is_touched() {
        let parent = tempfile::tempdir().unwrap();
        let elsewhere = killed(parent.path(), "precious");
        symlink(&elsewhere, parent.path().join("tenant-gateway-dev-link")).unwrap();
        fs::write(parent.path().join("tenant-gateway-dev-file"), "").unwrap();
        // A run that has just begun has no lock yet.
        fs::create_dir(parent.path().join(".new-tenant-gateway-dev-x")).unwrap();
        fs::create_dir(parent.path().join("tenant-gateway-dev-without-lock")).unwrap();
        assert!(sweep(parent.path()).is_empty());
        assert!(elsewhere.join("client_secret").exists());
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the files of a test have the times of the machine"
    )]
    fn a_folder_without_a_lock_is_removed_when_it_is_older_than_any_run() {
        let parent = tempfile::tempdir().unwrap();
        let old = parent.path().join("tenant-gateway-dev-old");
        fs::create_dir(&old).unwrap();
        let long_ago = SystemTime::now() - 2 * WITHOUT_LOCK;
        File::open(&old).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(sweep(parent.path()), [old]);
    }

    #[test]
    fn a_run_that_fails_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        drop(RunFolder::create(parent.path()).unwrap());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
