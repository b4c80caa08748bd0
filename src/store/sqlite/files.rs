//! The files of the store: detects when they are replaced while SQLite has them open, and checks permissions.
//!
//! SQLite does not check a path again after it has opened the file. When the file is replaced or removed (a restore by
//! rename), SQLite keeps writing to a file that no restart will find. So the files are compared before the store is
//! used, and again before a commit is acknowledged. Three calls of `stat` take a few microseconds.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use super::open::OpenError;
use crate::ports::StoreError;

/// The suffixes of SQLite's other files in WAL mode: the write-ahead log and its index.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// The suffix of files that belong to a replaced database.
const FORMER_SUFFIX: &str = ".former";

const OTHERS: u32 = 0o007;
const GROUP_AND_OTHERS: u32 = 0o077;
const WRITE_BY_OTHERS: u32 = 0o002;
const STICKY: u32 = 0o1000;
const SET_GROUP_ID: u32 = 0o2000;

/// The identity of a file: two names with the same identity are the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// Returns the identity of the file at `path`.
    pub(super) fn at(path: &Path) -> Result<Self, OpenError> {
        let metadata = fs::metadata(path).map_err(|error| OpenError::from_io(path, &error))?;
        Ok(Self::of(&metadata))
    }
}

/// The files that SQLite has open, with their identities.
#[derive(Debug)]
pub(super) struct OpenFiles {
    database: PathBuf,
    /// The path of the database without links: the companions are beside it.
    real: PathBuf,
    identity: FileIdentity,
    companions: [Companion; 2],
    /// Whether the connections are closed. The last one to close removes the companions.
    closed: AtomicBool,
}

/// A file beside the database, which SQLite keeps from the first read until the last connection closes.
#[derive(Debug)]
struct Companion {
    path: PathBuf,
    identity: OnceLock<FileIdentity>,
}

impl OpenFiles {
    /// Records the files of an open database. `identity` is that of the opened file.
    pub(super) fn new(database: &Path, identity: FileIdentity) -> Self {
        // SQLite resolves links, and creates its other files beside the target.
        let real = fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
        let companion =
            |suffix| Companion { path: with_suffix(&real, suffix), identity: OnceLock::new() };
        let companions = COMPANIONS.map(companion);
        let (database, closed) = (database.to_owned(), AtomicBool::new(false));
        Self { database, real, identity, companions, closed }
    }

    /// Stops the checks, because the connections are about to close.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Compares the files at the paths with those that SQLite has open.
    ///
    /// # Errors
    /// `Lost` if they are different, missing or empty.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let metadata = metadata_of(&self.database)?;
        if FileIdentity::of(&metadata) != self.identity {
            return Err(lost(&self.database, "was replaced by another file"));
        }
        // A database in WAL mode always has its first page.
        if metadata.len() == 0 {
            return Err(lost(&self.database, "was emptied"));
        }
        self.companions.iter().try_for_each(Companion::check)
    }

    /// Renames the log and its index if their database was replaced. Otherwise the next start would write this log into
    /// the new database and damage it. No file is deleted: the former database and the renamed log still contain
    /// everything that was committed.
    ///
    /// This runs after the connections are closed, because until then the files may be put back.
    pub(super) fn rename_former_log(&self) {
        let is_ours = |path: &Path, identity: &FileIdentity| {
            fs::metadata(path).is_ok_and(|metadata| FileIdentity::of(&metadata) == *identity)
        };
        if is_ours(&self.real, &self.identity) {
            return;
        }
        for Companion { path, identity } in &self.companions {
            // A replacement may have its own log, which stays.
            let ours = identity.get().is_some_and(|identity| is_ours(path, identity));
            if !ours {
                continue;
            }
            let file = path.display();
            match fs::rename(path, with_suffix(path, FORMER_SUFFIX)) {
                Ok(()) => tracing::warn!(
                    %file,
                    "this file belongs to the former store; it was renamed to end in {FORMER_SUFFIX}"
                ),
                Err(error) => tracing::error!(
                    %file,
                    kind = %error.kind(),
                    "remove this file before the next start: it belongs to the former store"
                ),
            }
        }
    }
}

impl Companion {
    fn check(&self) -> Result<(), StoreError> {
        let Some(known) = self.identity.get() else {
            if let Ok(metadata) = fs::metadata(&self.path) {
                // The first check is the first use after the file was opened.
                let _ = self.identity.set(FileIdentity::of(&metadata));
            }
            return Ok(());
        };
        if FileIdentity::of(&metadata_of(&self.path)?) == *known {
            Ok(())
        } else {
            Err(lost(&self.path, "was replaced by another file"))
        }
    }
}

fn metadata_of(path: &Path) -> Result<Metadata, StoreError> {
    fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            lost(path, "was removed or renamed")
        }
        kind => StoreError::Unavailable(format!("{}: {kind}", path.display())),
    })
}

fn lost(path: &Path, happened: &str) -> StoreError {
    StoreError::Lost(format!("{} {happened} while the store was open", path.display()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Rejects a database that other users may read, write or replace.
pub(super) fn check_access(database: &Path) -> Result<(), OpenError> {
    let database = fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    let folder = database.parent().unwrap_or(&database);
    let folder_data = fs::metadata(folder).map_err(|error| OpenError::from_io(folder, &error))?;
    let files = COMPANIONS.map(|suffix| with_suffix(&database, suffix));
    for file in std::iter::once(&database).chain(&files) {
        let metadata = match fs::metadata(file) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(OpenError::from_io(file, &error)),
        };
        let forbidden =
            if is_for_our_group(&folder_data, &metadata) { OTHERS } else { GROUP_AND_OTHERS };
        if metadata.mode() & forbidden != 0 {
            let mode = metadata.mode() & 0o7777;
            return Err(OpenError::Permissions { path: file.clone(), mode });
        }
    }
    let mode = folder_data.mode() & 0o7777;
    // The kubelet gives such a directory to the pod's group. The bit alone proves nothing: any owner can set it.
    let is_volume_of_our_group = mode & SET_GROUP_ID != 0 && is_our_group(folder_data.gid());
    let open_to_all = mode & WRITE_BY_OTHERS != 0 && mode & STICKY == 0 && !is_volume_of_our_group;
    if open_to_all {
        return Err(OpenError::FolderPermissions { folder: folder.to_owned(), mode });
    }
    Ok(())
}

/// Returns whether the file belongs to a volume that Kubernetes gave to the group of this process (`fsGroup`). At each
/// mount the kubelet lets the group read and write every file, and sets the set-group-ID bit of every directory.
fn is_for_our_group(folder: &Metadata, file: &Metadata) -> bool {
    folder.mode() & SET_GROUP_ID != 0 && folder.gid() == file.gid() && is_our_group(file.gid())
}

fn is_our_group(group: u32) -> bool {
    let others = || rustix::process::getgroups().unwrap_or_default();
    rustix::process::getegid().as_raw() == group
        || others().iter().any(|other| other.as_raw() == group)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn folder_with_files() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("gateway.db");
        for suffix in ["", "-wal", "-shm"] {
            let file = with_suffix(&database, suffix);
            fs::write(&file, "x").unwrap();
            set_mode(&file, 0o600);
        }
        (folder, database)
    }

    #[test]
    fn rejects_a_file_that_others_may_access_and_names_the_command() {
        for suffix in ["", "-wal", "-shm"] {
            for mode in [0o666, 0o644, 0o640, 0o620, 0o606, 0o601] {
                let (_folder, database) = folder_with_files();
                let file = with_suffix(&database, suffix);
                set_mode(&file, mode);
                let told = check_access(&database).unwrap_err().to_string();
                assert!(told.contains(&format!("{mode:04o}")), "{told}");
                assert!(told.contains(&format!("chmod 600 {}", file.display())), "{told}");
                // Also through a link.
                let link = database.with_file_name("link.db");
                symlink(&database, &link).unwrap();
                assert!(check_access(&link).is_err(), "{suffix} {mode:o}");
            }
        }
    }

    #[test]
    fn rejects_a_world_writable_directory_without_sticky_bit() {
        let (folder, database) = folder_with_files();
        set_mode(folder.path(), 0o777);
        let told = check_access(&database).unwrap_err().to_string();
        assert!(told.contains("0777") && told.contains("chmod"), "{told}");
        for mode in [0o1777, 0o755, 0o700] {
            set_mode(folder.path(), mode);
            check_access(&database).unwrap();
        }
    }

    #[test]
    fn accepts_a_kubernetes_volume_of_our_group_unless_others_have_access() {
        let (folder, database) = folder_with_files();
        let file = fs::metadata(&database).unwrap();
        assert!(is_our_group(file.gid()));
        set_mode(&database, 0o660);
        assert!(check_access(&database).is_err());
        set_mode(folder.path(), 0o2775);
        check_access(&database).unwrap();
        set_mode(&database, 0o664);
        assert!(check_access(&database).is_err());
    }

    #[test]
    fn accepts_a_world_writable_volume_only_of_our_group() {
        const FOREIGN_GROUP: u32 = 54_321;
        let (folder, database) = folder_with_files();
        set_mode(folder.path(), 0o2777);
        check_access(&database).unwrap();
        assert!(!is_our_group(FOREIGN_GROUP));
        // Only the superuser may give a directory to a foreign group.
        if std::os::unix::fs::chown(folder.path(), None, Some(FOREIGN_GROUP)).is_ok() {
            set_mode(folder.path(), 0o2777);
            let told = check_access(&database).unwrap_err().to_string();
            assert!(told.contains("2777") && told.contains("fsGroup"), "{told}");
        }
    }

    #[test]
    fn renames_only_the_log_of_a_replaced_database() {
        let exist = |database: &Path, suffixes: [&str; 2]| {
            suffixes.map(|suffix| with_suffix(database, suffix).exists())
        };
        let former = ["-wal.former", "-shm.former"];
        let open = |database: &Path| {
            let files = OpenFiles::new(database, FileIdentity::at(database).unwrap());
            files.check().unwrap();
            files
        };
        let replace = |path: &Path| {
            fs::rename(path, with_suffix(path, ".old")).unwrap();
            fs::write(path, "another").unwrap();
        };
        let (_folder, database) = folder_with_files();
        let files = open(&database);
        files.rename_former_log();
        assert_eq!(exist(&database, COMPANIONS), [true; 2], "the database is still there");
        assert_eq!(exist(&database, former), [false; 2]);
        replace(&database);
        files.rename_former_log();
        assert_eq!(exist(&database, COMPANIONS), [false; 2]);
        assert_eq!(exist(&database, former), [true; 2]);

        let (_folder, database) = folder_with_files();
        let files = open(&database);
        replace(&database);
        replace(&with_suffix(&database, "-wal"));
        files.rename_former_log();
        assert_eq!(exist(&database, COMPANIONS), [true, false], "another log is not ours");
        assert_eq!(exist(&database, former), [false, true]);

        // A link that now has another target does not affect its former target.
        let (folder, database) = folder_with_files();
        let (link, other) = (folder.path().join("link.db"), folder.path().join("other.db"));
        symlink(&database, &link).unwrap();
        let files = open(&link);
        fs::write(&other, "another").unwrap();
        fs::remove_file(&link).unwrap();
        symlink(&other, &link).unwrap();
        assert!(files.check().is_err());
        files.rename_former_log();
        assert_eq!(exist(&database, COMPANIONS), [true; 2]);
    }

    #[test]
    fn detects_every_replacement_of_an_open_file() {
        type Change = fn(&Path);
        let copy_over = |path: &Path| {
            let copy = with_suffix(path, ".copy");
            fs::copy(path, &copy).unwrap();
            fs::rename(copy, path).unwrap();
        };
        let changes: [(&str, Change, bool); 9] = [
            ("nothing", |_| (), true),
            ("renamed", |path| fs::rename(path, with_suffix(path, ".old")).unwrap(), false),
            ("removed", |path| fs::remove_file(path).unwrap(), false),
            ("replaced by a copy", copy_over, false),
            ("log removed", |path| fs::remove_file(with_suffix(path, "-wal")).unwrap(), false),
            ("index removed", |path| fs::remove_file(with_suffix(path, "-shm")).unwrap(), false),
            (
                "replaced by a link to another",
                |path| {
                    let other = with_suffix(path, ".other");
                    fs::rename(path, &other).unwrap();
                    fs::copy(&other, with_suffix(path, ".copy")).unwrap();
                    symlink(with_suffix(path, ".copy"), path).unwrap();
                },
                false,
            ),
            (
                "replaced by another name of the same file",
                |path| {
                    fs::hard_link(path, with_suffix(path, ".link")).unwrap();
                    fs::rename(with_suffix(path, ".link"), path).unwrap();
                },
                true,
            ),
            (
                "folder renamed",
                |path| {
                    let folder = path.parent().unwrap();
                    fs::rename(folder, with_suffix(folder, ".old")).unwrap();
                },
                false,
            ),
        ];
        for (what, change, stays) in changes {
            let (folder, _) = folder_with_files();
            let inner = folder.path().join("inner");
            fs::create_dir(&inner).unwrap();
            let database = inner.join("gateway.db");
            for suffix in ["", "-wal", "-shm"] {
                fs::write(with_suffix(&database, suffix), "x").unwrap();
            }
            let files = OpenFiles::new(&database, FileIdentity::at(&database).unwrap());
            files.check().unwrap();
            change(&database);
            let checked = files.check();
            assert_eq!(checked.is_ok(), stays, "{what}: {checked:?}");
            assert!(stays || matches!(checked, Err(StoreError::Lost(_))), "{what}");
        }
    }

    #[test]
    fn detects_an_emptied_database_but_accepts_a_smaller_one() {
        let (_folder, database) = folder_with_files();
        fs::write(&database, "12345678").unwrap();
        let files = OpenFiles::new(&database, FileIdentity::at(&database).unwrap());
        for (text, good) in [("123456789", true), ("1234", true), ("", false)] {
            fs::write(&database, text).unwrap();
            assert_eq!(files.check().is_ok(), good, "{text}");
        }
    }

    #[test]
    fn accepts_the_original_file_after_it_is_put_back() {
        let (_folder, database) = folder_with_files();
        let files = OpenFiles::new(&database, FileIdentity::at(&database).unwrap());
        files.check().unwrap();
        let away = with_suffix(&database, ".away");
        fs::rename(&database, &away).unwrap();
        assert!(files.check().is_err());
        fs::rename(&away, &database).unwrap();
        files.check().unwrap();
    }
}
