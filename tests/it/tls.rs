//! Tests of TLS of the gRPC listener: accepted clients, and certificates that change during open connections.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use rustls::ProtocolVersion;
use tempfile::TempDir;
use tenant_gateway::{
    app::ShutdownOutcome,
    grpc::pb::{self, application_service_client::ApplicationServiceClient},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tonic::transport::Channel;

use crate::support::{
    Authority, Client, Identity, Options, Program, World, eventually, eventually_so, replace,
    sandbox, write_files,
};

/// The interval at which the gateway checks its files.
const LOOK: Duration = Duration::from_secs(1);

/// A gateway with TLS.
struct Tls {
    world: World,
    authority: Authority,
    files: TempDir,
    first: Identity,
}

impl Tls {
    async fn new() -> Self {
        Self::with(None).await
    }

    /// Starts a gateway, with mTLS if a client authority is given.
    async fn with(clients: Option<&Authority>) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (authority, first) = prepare(files.path(), clients);
        let extra_config = section(files.path(), clients.is_some());
        let world = World::with(Options { extra_config, ..Default::default() }).await;
        Self { world, authority, files, first }
    }

    fn address(&self) -> SocketAddr {
        self.world.gateway().grpc_address
    }

    /// Makes a call on a new connection. Returns the server's certificate if it gets a response.
    async fn answered(&self, client: &Client) -> Option<Vec<u8>> {
        let connected = client.connect(self.address()).await.ok()?;
        ask(&connected.channel).await.then_some(connected.certificate)
    }

    /// Advances the clock until new connections get this certificate.
    async fn until_seen(&self, identity: &Identity) {
        let client = self.authority.client();
        eventually_so("new connections see the new certificate", async || {
            self.world.clock.advance(LOOK);
            self.answered(&client).await.unwrap() == identity.certificate
        })
        .await;
    }
}

/// Creates an authority, and one of its certificates in `folder`.
fn prepare(folder: &Path, clients: Option<&Authority>) -> (Authority, Identity) {
    let authority = Authority::new();
    let first = authority.issue();
    first.write(folder);
    if let Some(clients) = clients {
        fs::write(folder.join("ca.crt"), clients.pem()).unwrap();
    }
    (authority, first)
}

fn section(folder: &Path, client_ca: bool) -> String {
    let folder = folder.display();
    let client_ca =
        if client_ca { format!("client_ca_file = \"{folder}/ca.crt\"") } else { String::new() };
    format!(
        "[grpc.tls]\ncertificate_file = \"{folder}/tls.crt\"\nprivate_key_file = \"{folder}/tls.key\"\n{client_ca}"
    )
}

async fn ask(channel: &Channel) -> bool {
    let mut client = ApplicationServiceClient::new(channel.clone());
    client.list_applications(pb::ListApplicationsRequest::default()).await.is_ok()
}

// Accepted clients

#[tokio::test]
async fn a_client_with_the_right_authority_is_served_on_tls_1_2_and_1_3() {
    let tls = Tls::new().await;
    for (version, wanted) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let client = Client { versions: vec![version], ..tls.authority.client() };
        let connected = client.connect(tls.address()).await.unwrap();
        assert_eq!(connected.version, wanted);
        assert_eq!(connected.certificate, tls.first.certificate);
        assert!(ask(&connected.channel).await);
    }
    let foreign = Authority::new().client();
    assert!(foreign.connect(tls.address()).await.is_err());
}

#[tokio::test]
async fn a_tls_listener_rejects_plaintext_and_other_protocols() {
    let tls = Tls::new().await;
    let plain = Channel::from_shared(format!("http://{}", tls.address())).unwrap();
    if let Ok(channel) = plain.connect().await {
        assert!(!ask(&channel).await);
    }
    for alpn in [None, Some("http/1.1")] {
        let client = Client { alpn, ..tls.authority.client() };
        assert_eq!(tls.answered(&client).await, None, "{alpn:?}");
    }
    assert!(tls.answered(&tls.authority.client()).await.is_some());
}

#[tokio::test]
async fn with_mtls_only_valid_certificates_of_the_authority_are_accepted() {
    let clients = Authority::new();
    let tls = Tls::with(Some(&clients)).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Client { versions: vec![version], ..tls.authority.client() };
        let right = client.clone().showing(clients.issue());
        assert!(tls.answered(&right).await.is_some());
        let wrong = [
            ("no certificate", client.clone()),
            ("expired", client.clone().showing(clients.issue_until(2010))),
            ("of a foreign authority", client.clone().showing(Authority::new().issue())),
            ("of the server's authority", client.clone().showing(tls.authority.issue())),
        ];
        for (what, wrong) in wrong {
            assert_eq!(tls.answered(&wrong).await, None, "{what}, {version:?}");
        }
        assert!(tls.answered(&right).await.is_some());
    }
}

#[tokio::test]
async fn the_clock_of_the_gateway_decides_on_client_certificates() {
    let clients = Authority::new();
    let tls = Tls::with(Some(&clients)).await;
    let client = tls.authority.client().showing(clients.issue_until(2100));
    assert!(tls.answered(&client).await.is_some());
    tls.world.clock.advance(Duration::from_hours(24 * 366 * 100));
    assert_eq!(tls.answered(&client).await, None);
}

// Rotation

#[tokio::test]
async fn new_connections_get_a_replaced_certificate_and_open_ones_continue() {
    let tls = Tls::new().await;
    let open = tls.authority.client().connect(tls.address()).await.unwrap();
    assert!(ask(&open.channel).await);
    for _ in 0..3 {
        let next = tls.authority.issue();
        next.write(tls.files.path());
        tls.until_seen(&next).await;
        assert!(ask(&open.channel).await);
    }
}

#[tokio::test]
async fn a_certificate_replaced_as_in_kubernetes_is_loaded() {
    // `tls.crt` → `..data/tls.crt`, `..data` → a folder with a time stamp; only `..data` is ever replaced.
    let files = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { files.path().join(name) };
    fs::create_dir(at("..1")).unwrap();
    let (authority, first) = prepare(&at("..1"), None);
    symlink("..1", at("..data")).unwrap();
    for file in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(file), at(file)).unwrap();
    }
    let extra_config = section(files.path(), false);
    let world = World::with(Options { extra_config, ..Default::default() }).await;
    let tls = Tls { world, authority, files, first };
    let open = tls.authority.client().connect(tls.address()).await.unwrap();
    assert_eq!(open.certificate, tls.first.certificate);

    let at = |name: &str| -> PathBuf { tls.files.path().join(name) };
    let next = tls.authority.issue();
    fs::create_dir(at("..2")).unwrap();
    next.write(&at("..2"));
    symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    fs::remove_dir_all(at("..1")).unwrap();
    tls.until_seen(&next).await;
    assert!(ask(&open.channel).await);
}

#[tokio::test]
async fn a_certificate_without_its_key_leaves_the_old_pair_active() {
    let tls = Tls::new().await;
    let client = tls.authority.client();
    let next = tls.authority.issue();
    let folder = tls.files.path();
    let wrongs = [
        ("tls.key", String::new()),
        ("tls.key", "-----BEGIN PRIVATE KEY-----\nMIIE".to_owned()),
        ("tls.crt", next.certificate_pem()),
    ];
    for (file, text) in wrongs {
        replace(folder, file, &text);
        for reloadable in tls.world.gateway().reloadables() {
            reloadable.reload().await;
        }
        for _ in 0..5 {
            tls.world.clock.advance(LOOK);
            assert_eq!(tls.answered(&client).await.unwrap(), tls.first.certificate);
        }
    }
    replace(folder, "tls.key", &next.key_pem());
    tls.until_seen(&next).await;
    // Missing files do not affect the loaded certificate.
    fs::remove_file(folder.join("tls.crt")).unwrap();
    fs::remove_file(folder.join("tls.key")).unwrap();
    for _ in 0..5 {
        tls.world.clock.advance(LOOK);
        assert_eq!(tls.answered(&client).await.unwrap(), next.certificate);
    }
}

#[tokio::test]
async fn an_explicit_reload_takes_effect_at_once() {
    let tls = Tls::new().await;
    let next = tls.authority.issue();
    next.write(tls.files.path());
    // The clock stands still.
    for reloadable in tls.world.gateway().reloadables() {
        reloadable.reload().await;
    }
    assert_eq!(tls.answered(&tls.authority.client()).await.unwrap(), next.certificate);
}

#[tokio::test]
async fn the_authority_of_clients_rotates_without_ending_their_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = Tls::with(Some(&old)).await;
    let old_client = tls.authority.client().showing(old.issue());
    let new_client = tls.authority.client().showing(new.issue());
    let open = old_client.connect(tls.address()).await.unwrap();
    assert!(ask(&open.channel).await);
    assert_eq!(tls.answered(&new_client).await, None);

    // First both authorities, then the new one alone.
    replace(tls.files.path(), "ca.crt", &format!("{}{}", old.pem(), new.pem()));
    eventually_so("the new authority is trusted", async || {
        tls.world.clock.advance(LOOK);
        tls.answered(&new_client).await.is_some()
    })
    .await;
    assert!(tls.answered(&old_client).await.is_some());
    replace(tls.files.path(), "ca.crt", &new.pem());
    eventually_so("the old authority is not trusted any more", async || {
        tls.world.clock.advance(LOOK);
        tls.answered(&old_client).await.is_none()
    })
    .await;
    assert!(tls.answered(&new_client).await.is_some());
    assert!(ask(&open.channel).await);
}

// Malicious clients

#[tokio::test]
async fn idle_connections_do_not_block_others_or_delay_the_shutdown() {
    for with_tls in [true, false] {
        let mut tls = Tls::new().await;
        if !with_tls {
            tls.world = World::new().await;
        }
        let client = tls.authority.client();
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(TcpStream::connect(tls.address()).await.unwrap());
        }
        let mut silent_after_handshake = Vec::new();
        let mut silent_after_preface = Vec::new();
        if with_tls {
            for _ in 0..20 {
                silent_after_handshake.push(client.handshake(tls.address()).await.unwrap());
            }
            assert!(tls.answered(&client).await.is_some());
        } else {
            for _ in 0..20 {
                let mut client = TcpStream::connect(tls.address()).await.unwrap();
                client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
                // The server's first frame: it has accepted the preface.
                client.read_u8().await.unwrap();
                silent_after_preface.push(client);
            }
            assert!(ask(&tls.world.channel().await).await);
        }
        let begin = Instant::now();
        assert_eq!(tls.world.stop().await, ShutdownOutcome::Clean);
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn invalid_bytes_do_not_affect_other_clients() {
    let tls = Tls::new().await;
    let client = tls.authority.client();
    let open = client.connect(tls.address()).await.unwrap();
    let mut garbage = JoinSet::new();
    let address = tls.address();
    for seed in 0..50_u16 {
        garbage.spawn(async move {
            let mut bytes: Vec<u8> = (0..400_u16).map(|n| (n * seed).to_le_bytes()[0]).collect();
            if seed % 2 == 0 {
                // Looks like the begin of a handshake: record, version, length, client hello.
                bytes[..6].copy_from_slice(&[0x16, 3, 1, 1, 0x80, 1]);
            }
            let mut tcp = TcpStream::connect(address).await.unwrap();
            let _ = tcp.write_all(&bytes).await;
            // Some wait for the end of the connection.
            if seed % 3 != 0 {
                let _ = tcp.shutdown().await;
                let _ = tcp.read_to_end(&mut bytes).await;
            }
        });
    }
    while let Some(done) = garbage.join_next().await {
        done.unwrap();
        assert!(ask(&open.channel).await);
    }
    assert!(tls.answered(&client).await.is_some());
}

// The program

#[tokio::test]
async fn the_program_reloads_on_sighup_and_stops_gracefully() {
    let (folder, sandbox) = (tempfile::tempdir().unwrap(), sandbox().await);
    let (authority, first) = prepare(folder.path(), None);
    let extra_config = section(folder.path(), false);
    write_files(folder.path(), &sandbox, &Options { extra_config, ..Default::default() });
    let mut program = Program::serve(&folder.path().join("gateway.toml"), "").await;
    let client = authority.client();
    let open = client.connect(program.grpc_address).await.unwrap();
    assert_eq!(open.certificate, first.certificate);
    assert!(program.logged("certificate loaded").unwrap().contains("4000-01-01"));

    authority.issue_until(3000).write(folder.path());
    program.signal(Signal::HUP);
    eventually("the log says so", || program.logged("certificate reloaded").is_some()).await;
    let line = program.logged("certificate reloaded").unwrap();
    assert!(line.contains("\"generation\":2") && line.contains("3000-01-01"), "{line}");
    assert!(program.logged("received a signal; reloading").is_some());
    assert_ne!(client.connect(program.grpc_address).await.unwrap().certificate, first.certificate);

    fs::write(folder.path().join("tls.key"), "").unwrap();
    program.signal(Signal::HUP);
    eventually("the log says so", || program.logged("cannot be used").is_some()).await;
    let line = program.logged("cannot be used").unwrap();
    assert!(line.contains("tls.key") && line.contains("no private key"), "{line}");
    assert!(ask(&open.channel).await);

    program.signal(Signal::TERM);
    assert!(program.ended().await.success());
}

#[tokio::test]
async fn a_listener_out_of_file_descriptors_recovers() {
    let (folder, sandbox) = (tempfile::tempdir().unwrap(), sandbox().await);
    let (authority, _) = prepare(folder.path(), None);
    let extra_config = section(folder.path(), false);
    write_files(folder.path(), &sandbox, &Options { extra_config, ..Default::default() });
    let program = Program::serve(&folder.path().join("gateway.toml"), "ulimit -n 64").await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(program.grpc_address).await.unwrap());
    }
    eventually("it runs out", || program.logged("cannot accept connections").is_some()).await;
    drop(silent);
    let client = authority.client();
    eventually_so("it serves", async || {
        let connected = client.connect(program.grpc_address).await;
        match connected {
            Ok(connected) => ask(&connected.channel).await,
            Err(_) => false,
        }
    })
    .await;
}

#[tokio::test]
async fn certificate_files_that_do_not_match_are_a_configuration_error() {
    let (folder, sandbox) = (tempfile::tempdir().unwrap(), sandbox().await);
    let (authority, _) = prepare(folder.path(), None);
    fs::write(folder.path().join("tls.key"), authority.issue().key_pem()).unwrap();
    let extra_config = section(folder.path(), false);
    write_files(folder.path(), &sandbox, &Options { extra_config, ..Default::default() });
    let (code, said) = Program::fails(&folder.path().join("gateway.toml")).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("grpc.tls.private_key_file: "), "{said}");
    assert!(said.contains("tls.key: is not the key of the first certificate in"), "{said}");
}
