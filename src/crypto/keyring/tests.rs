use std::{fs, os::unix::fs::PermissionsExt};

use tempfile::TempDir;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Returns the error of loading a file with this text.
fn refusal(text: &str) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keyring.toml");
    fs::write(&path, text).unwrap();
    set_mode(&path, 0o600);
    let message = Keyring::load(&path).unwrap_err().to_string();
    let (_, problem) = message.split_once("keyring.toml: ").unwrap();
    problem.to_owned()
}

fn entry(fields: &str) -> String {
    format!("[[keys]]\n{fields}\n")
}

#[test]
fn a_new_keyring_is_private_and_loads() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keyring.toml");
    let id = Keyring::generate(&path, NOW).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert!(id.starts_with("k-") && id.len() == 18, "{id}");

    let keyring = Keyring::load(&path).unwrap();
    assert_eq!(keyring.first_id(), id);
    assert_eq!(keyring.keys()[0].create_time(), NOW);
    assert_ne!(keyring.keys()[0].bytes(), &[0; KEY_LENGTH]);
    assert!(fs::read_to_string(&path).unwrap().starts_with("# The keyring"));
}

#[test]
fn does_not_overwrite_an_existing_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keyring.toml");
    Keyring::generate(&path, NOW).unwrap();
    let before = fs::read(&path).unwrap();
    let error = Keyring::generate(&path, NOW).unwrap_err();
    assert!(matches!(error, KeyringError::Exists { .. }), "{error}");
    assert!(error.to_string().contains("keys generate --add"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn adding_a_key_keeps_other_keys_and_comments() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keyring.toml");
    let first = Keyring::generate(&path, NOW).unwrap();
    let before = format!("{}# a comment of ours", fs::read_to_string(&path).unwrap());
    fs::write(&path, &before).unwrap();

    let second = Keyring::generate_additional(&path, NOW).unwrap();
    let after = fs::read_to_string(&path).unwrap();
    assert!(after.starts_with(&before));
    assert_eq!(mode(&path), 0o600);
    let keyring = Keyring::load(&path).unwrap();
    assert_eq!(keyring.key_ids().collect::<Vec<_>>(), [&first, &second]);
    assert_ne!(keyring.keys()[0].bytes(), keyring.keys()[1].bytes());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn adding_a_key_follows_and_keeps_a_link() {
    let folder = TempDir::new().unwrap();
    let target = folder.path().join("real.toml");
    let link = folder.path().join("keyring.toml");
    Keyring::generate(&target, NOW).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    Keyring::generate_additional(&link, NOW).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(Keyring::load(&target).unwrap().keys().len(), 2);
}

#[test]
fn concurrent_additions_lose_no_key() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keyring.toml");
    Keyring::generate(&path, NOW).unwrap();
    let added: usize = std::thread::scope(|scope| {
        let adding = |_| scope.spawn(|| Keyring::generate_additional(&path, NOW));
        let threads: Vec<_> = (0..8).map(adding).collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap());
        results
            .filter(|result| match result {
                Ok(_) => true,
                Err(KeyringError::Busy { .. }) => false,
                Err(other) => panic!("{other}"),
            })
            .count()
    });
    assert!(added >= 1);
    assert_eq!(Keyring::load(&path).unwrap().keys().len(), 1 + added);
}

#[test]
fn a_failed_addition_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keyring.toml");
    let error = Keyring::generate_additional(&path, NOW).unwrap_err();
    assert!(matches!(error, KeyringError::Missing { .. }), "{error}");

    fs::write(&path, "no keyring").unwrap();
    set_mode(&path, 0o600);
    let error = Keyring::generate_additional(&path, NOW).unwrap_err();
    assert!(matches!(error, KeyringError::Format { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "no keyring");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn rejects_a_file_that_others_can_access() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keyring.toml");
    Keyring::generate(&path, NOW).unwrap();
    for open in [0o640, 0o620, 0o610, 0o604, 0o602, 0o644, 0o666] {
        set_mode(&path, open);
        let message = Keyring::load(&path).unwrap_err().to_string();
        assert!(message.contains(&format!("(mode {open:04o})")), "{message}");
        assert!(message.contains(&format!("chmod 600 {}", path.display())), "{message}");
        assert!(Keyring::generate_additional(&path, NOW).is_err());
    }
    for closed in [0o600, 0o400] {
        set_mode(&path, closed);
        assert!(Keyring::load(&path).is_ok());
    }
}

#[test]
fn the_error_for_a_missing_file_says_what_to_do() {
    let error = Keyring::load(Path::new("/nowhere/keyring.toml")).unwrap_err();
    assert!(error.to_string().contains("keys generate"), "{error}");
}

#[test]
fn accepts_times_as_string_or_toml_datetime() {
    for time in ["\"2026-01-31T12:00:00Z\"", "2026-01-31T12:00:00Z", "2026-01-31T13:00:00+01:00"] {
        let keys =
            format::parse(&entry(&format!("id = \"a\"\ncreate_time = {time}\nkey = \"{KEY}\"")));
        assert_eq!(keys.unwrap()[0].create_time().to_string(), "2026-01-31T12:00:00Z");
    }
}

#[test]
fn errors_name_problem_and_position_but_never_the_key() {
    let time = "create_time = \"2026-01-31T12:00:00Z\"";
    let good = entry(&format!("id = \"a\"\n{time}\nkey = \"{KEY}\""));
    let cases = [
        (String::new(), "the file has no keys"),
        (format!("{good}{good}"), "key 2 has the id a of an earlier key"),
        (
            entry(&format!("id = \"a\"\n{time}\nkey = \"AAEC\"")),
            "key 1: `key` must be standard base64 of exactly 32 bytes",
        ),
        (entry(&format!("id = \"a\"\n{time}\nkey = \"{KEY}{KEY}\"")), "key 1: `key` must be"),
        (entry(&format!("id = \"a\"\n{time}\nkey = 5")), "key 1: `key` is missing or not a string"),
        (entry(&format!("id = \"a\"\n{time}")), "key 1: `key` is missing"),
        (entry(&format!("id = \"{KEY}\"\n{time}\nkey = \"{KEY}\"")), "key 1: `id` must be 1 to 64"),
        (entry(&format!("{time}\nkey = \"{KEY}\"")), "key 1: `id` must be"),
        (
            entry(&format!("id = \"a\"\ncreate_time = \"{KEY}\"\nkey = \"{KEY}\"")),
            "key 1: `create_time` must be",
        ),
        (format!("{good}active = true\n"), "key 1 has the unknown field `active`"),
        (format!("version = 1\n{good}"), "the file has the unknown field `version`"),
        (format!("{good}\"{KEY}\" = 1\n"), "key 1 has the unknown field (not shown)"),
        (format!("keys = \"{KEY}\""), "the file: `keys` must be tables"),
        (format!("keys = [\"{KEY}\"]"), "key 1: it must be a table"),
        (format!("{good}\n\nkey {KEY}"), "line 7 is not valid TOML"),
    ];
    for (text, expected) in cases {
        let message = refusal(&text);
        assert!(message.starts_with(expected), "{message}\nfor\n{text}");
        assert!(!message.contains(&KEY[..8]), "{message}");
    }
}

#[test]
fn debug_output_shows_ids_only() {
    let keys = format::parse(&entry(&format!(
        "id = \"a\"\ncreate_time = 2026-01-31T12:00:00Z\nkey = \"{KEY}\""
    )));
    assert_eq!(format!("{:?}", Keyring { keys: keys.unwrap() }), "Keyring { keys: [a] }");
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_does_not_panic(text in ".*") {
        let _ = format::parse(&text);
    }
}
