use std::{fs, os::unix::fs::PermissionsExt};

use tempfile::TempDir;

use super::*;

fn source(
    file: Option<&str>,
    env: Option<&str>,
    need: Requirement,
) -> (Option<SecretSource>, Problems) {
    let mut problems = Problems::default();
    let given = (file.map(PathBuf::from), env.map(str::to_owned));
    let folder = Path::new("/etc/gateway");
    let source =
        SecretSource::from_file_or_env("a.client_secret", given, need, folder, &mut problems);
    (source, problems)
}

fn read_from(folder: &Path, form: SecretFormat) -> (Option<SecretString>, Problems) {
    let mut problems = Problems::default();
    let given = (Some(PathBuf::from("secret")), None);
    let source = SecretSource::from_file_or_env(
        "a.client_secret",
        given,
        Requirement::Required,
        folder,
        &mut problems,
    );
    (source.unwrap().read(form, &mut problems), problems)
}

#[test]
fn requires_exactly_one_source() {
    let (none, problems) = source(None, None, Requirement::Required);
    assert!(none.is_none());
    assert_eq!(problems.errors[0].key, "a.client_secret_file");
    assert_eq!(problems.errors[0].message, "is missing; set it or client_secret_env");

    let (none, problems) = source(Some("f"), Some("E"), Requirement::Optional);
    assert!(none.is_none());
    assert_eq!(problems.errors[0].message, "client_secret_env is also set; remove one of the two");

    let (none, problems) = source(None, None, Requirement::Optional);
    assert!(none.is_none() && problems.errors.is_empty());
}

#[test]
fn rejects_a_pasted_secret_without_repeating_it() {
    for (file, env) in [
        (Some("-----BEGIN RSA PRIVATE KEY-----"), None),
        (Some("<RSAKeyValue><Modulus>hunter2"), None),
        (Some("hunter2aaaaaaaaaaaaaaaaaaaaaaaaa"), None),
        (Some("hunter2/aaaaaaaaaaaaaaaaaaaaaaa=="), None),
        (Some("hunter2\n"), None),
        (Some(""), None),
        (None, Some("hunter2")),
        (None, Some("")),
        (None, Some("2X")),
        (None, Some("A=B")),
    ] {
        let (none, problems) = source(file, env, Requirement::Required);
        assert!(none.is_none(), "{file:?} {env:?}");
        assert_eq!(problems.errors.len(), 1);
        assert!(!problems.errors[0].message.contains("hunter2"));
    }
    for file in ["client-secret", "./hunter2aaaaaaaaaaaaaaaaaaaaaaaaa", "secrets/crm-sync-2.txt"] {
        assert!(source(Some(file), None, Requirement::Required).0.is_some(), "{file}");
    }
}

#[test]
fn reports_an_unreadable_secret() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("secret");
    let assert_reported = |wanted: &str| {
        let (none, problems) = read_from(folder.path(), SecretFormat::Line);
        assert!(none.is_none());
        let problem = &problems.errors[0];
        assert_eq!(problem.key, "a.client_secret_file");
        assert!(problem.message.contains(wanted), "{} is not {wanted}", problem.message);
        assert!(
            problem.message.contains("/secret: ") || wanted.contains("line"),
            "{}",
            problem.message
        );
    };
    assert_reported("there is no such file");
    let large = vec![b'a'; MAX_SECRET_BYTES + 1];
    for (bytes, wanted) in [
        (&b""[..], "is empty"),
        (&b" \n"[..], "is empty"),
        (&b"\xff\xfes\0"[..], "is UTF-16"),
        (&b"\xef\xbb\xbf\r\n"[..], "is empty"),
        (&b"\xe4"[..], "is not UTF-8"),
        (&b"one\ntwo"[..], "has more than one line"),
        (&large[..], "is larger than"),
    ] {
        fs::write(&file, bytes).unwrap();
        assert_reported(wanted);
    }
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_reported("cannot be read (is a directory)");
}

#[test]
fn reports_an_unset_variable() {
    let (source, mut problems) =
        source(None, Some("TENANT_GATEWAY_TEST_NOT_SET"), Requirement::Required);
    assert!(source.unwrap().read(SecretFormat::Line, &mut problems).is_none());
    assert_eq!(problems.errors[0].key, "a.client_secret_env");
    assert!(
        problems.errors[0]
            .message
            .starts_with("environment variable TENANT_GATEWAY_TEST_NOT_SET is not set")
    );
}

#[test]
fn reads_a_variable() {
    // Cargo sets it for every test.
    let (source, mut problems) = source(None, Some("CARGO_PKG_NAME"), Requirement::Required);
    let secret = source.unwrap().read(SecretFormat::Line, &mut problems).unwrap();
    assert_eq!(secret.expose_secret(), "tenant-gateway");
}

#[test]
fn trims_a_line_and_keeps_other_text() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("secret"), " hunter2 \r\n").unwrap();
    let (line, _) = read_from(folder.path(), SecretFormat::Line);
    assert_eq!(line.unwrap().expose_secret(), "hunter2");
    let (text, _) = read_from(folder.path(), SecretFormat::Text);
    assert_eq!(text.unwrap().expose_secret(), " hunter2 \r\n");
}

#[test]
fn removes_a_byte_order_mark() {
    let folder = TempDir::new().unwrap();
    for text in ["\u{feff}hunter2", "\u{feff} hunter2\r\n", " \u{feff}hunter2"] {
        fs::write(folder.path().join("secret"), text).unwrap();
        let (line, _) = read_from(folder.path(), SecretFormat::Line);
        assert_eq!(line.unwrap().expose_secret(), "hunter2", "{text:?}");
    }
    fs::write(folder.path().join("secret"), "\u{feff}-----BEGIN").unwrap();
    let (text, _) = read_from(folder.path(), SecretFormat::Text);
    assert_eq!(text.unwrap().expose_secret(), "-----BEGIN");
}

#[test]
fn warns_about_a_world_readable_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("secret");
    fs::write(&file, "hunter2").unwrap();
    for (mode, warnings) in [(0o600, 0), (0o640, 0), (0o644, 1)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let (read, problems) = read_from(folder.path(), SecretFormat::Line);
        assert!(read.is_some());
        assert_eq!(problems.warnings.len(), warnings, "{mode:o}");
    }
}
