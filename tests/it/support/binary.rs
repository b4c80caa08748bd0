//! The real program: commands that end, and a `serve` that runs until it is told to stop.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use superoffice_sandbox::{NewTenant, Sandbox};
use tenant_gateway::grpc::pb::{
    tenant_service_client::TenantServiceClient, token_service_client::TokenServiceClient,
};
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use super::{
    CLIENT_ID, Options,
    world::{sandbox, write_files},
};

/// A process that takes longer than this to end hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(3);

/// A sandbox, and the files of a gateway that uses it.
pub(crate) struct Site {
    pub(crate) sandbox: Sandbox,
    pub(crate) folder: tempfile::TempDir,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    /// Logs are JSON: tests read them.
    pub(crate) async fn with(mut options: Options) -> Self {
        let (sandbox, folder) = (sandbox().await, tempfile::tempdir().unwrap());
        options.extra_config.insert_str(0, "[log]\nformat = \"json\"\n");
        write_files(folder.path(), &sandbox, &options);
        Self { sandbox, folder }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    /// Makes a tenant at SuperOffice, authorizes the application there and returns the token.
    pub(crate) fn make_tenant(&self, id: &str) -> String {
        let tenant = NewTenant { id: id.to_owned(), ..Default::default() };
        self.sandbox.add_tenant(tenant).unwrap();
        self.sandbox.authorize(CLIENT_ID, id).unwrap()
    }

    /// The program, with the configuration of this site; environment variables can still be set.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        command.arg("--config").arg(self.file("gateway.toml"));
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Finished {
        Process::start(self.command(arguments)).finished().await
    }

    /// Runs a command that reads `input`.
    pub(crate) async fn run_with_input(&self, arguments: &[&str], input: &str) -> Finished {
        let mut process = Process::start_with(self.command(arguments), Stdio::piped());
        let mut pipe = process.child.stdin.take().unwrap();
        pipe.write_all(input.as_bytes()).unwrap();
        drop(pipe);
        process.finished().await
    }

    /// Adds a tenant and stores its token, by commands.
    pub(crate) async fn enroll(&self, id: &str) -> String {
        let token = self.make_tenant(id);
        self.run(&["tenant", "add", id]).await.succeeded();
        self.run_with_input(&["tenant", "set-token", id], &token).await.succeeded();
        token
    }

    /// Starts `serve` and waits until it serves.
    pub(crate) async fn serve(&self) -> Served {
        Served::start(self.command(&["serve"])).await
    }
}

/// The program by itself: another build of it if `TENANT_GATEWAY` names one.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let built = env!("CARGO_BIN_EXE_tenant-gateway");
    let named = std::env::var_os("TENANT_GATEWAY");
    let mut command = Command::new(named.unwrap_or_else(|| built.into()));
    command.args(arguments).env_remove("RUST_LOG");
    command
}

/// How a process ended, and all it said.
#[derive(Debug)]
pub(crate) struct Finished {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Ended with 0; returns standard output.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_calm(&self.stderr);
        self.stdout
    }

    /// Ended with this code and one message; returns the message.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_calm(&self.stderr);
        assert_eq!(self.stdout, "", "{self:?}");
        let messages = self.stderr.matches("error: ").count();
        assert!(messages == 1, "not one message: {self:?}");
        self.stderr
    }

    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.succeeded()).unwrap()
    }
}

#[track_caller]
fn assert_calm(stderr: &str) {
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
}

/// A child that dies with its guard.
pub(crate) struct Process {
    child: Child,
    readers: Vec<JoinHandle<()>>,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

impl Process {
    pub(crate) fn start(command: Command) -> Self {
        Self::start_with(command, Stdio::null())
    }

    fn start_with(mut command: Command, stdin: Stdio) -> Self {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = vec![
            keep(child.stdout.take().unwrap(), Arc::clone(&stdout)),
            keep(child.stderr.take().unwrap(), Arc::clone(&stderr)),
        ];
        Self { child, readers, stdout, stderr }
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until what it says gives an answer. It must not end before.
    pub(crate) async fn until<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            let said = || format!("{}{}", self.stdout(), self.stderr());
            assert!(ended.is_none(), "ended ({ended:?}) before it {what}: {}", said());
            assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}: {}", said());
            sleep(PAUSE).await;
        }
    }

    /// Waits for its end.
    pub(crate) async fn finished(self) -> Finished {
        self.finished_within(PATIENCE).await
    }

    /// The same for a program that may take longer.
    pub(crate) async fn finished_within(mut self, patience: Duration) -> Finished {
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let said = || format!("{}{}", self.stdout(), self.stderr());
            assert!(Instant::now() < deadline, "does not end: {}", said());
            sleep(PAUSE).await;
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let (code, signal) = (status.code(), status.signal());
        Finished { code, signal, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep(pipe: impl Read + Send + 'static, kept: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// A running `serve`.
pub(crate) struct Served {
    pub(crate) process: Process,
    pub(crate) grpc: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Where it receives webhooks, if it does.
    pub(crate) http: Option<SocketAddr>,
    /// Where it takes calls of the Web API, if it does.
    pub(crate) egress: Option<SocketAddr>,
}

impl Served {
    pub(crate) async fn start(command: Command) -> Self {
        let mut process = Process::start(command);
        let line = process.until("serves", |process| serving(&process.stderr())).await;
        let address = |field: &str| line[field].as_str().map(|text| text.parse().unwrap());
        let [grpc, admin, http, egress] = ["grpc", "admin", "http", "egress"].map(address);
        Self { process, grpc: grpc.unwrap(), admin: admin.unwrap(), http, egress }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.grpc);
        Channel::from_shared(uri).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel().await)
    }

    pub(crate) async fn tenants(&self) -> TenantServiceClient<Channel> {
        TenantServiceClient::new(self.channel().await)
    }

    /// Stops it in order; everything it logged is in the answer.
    pub(crate) async fn stop(self) -> Finished {
        self.process.signal(Signal::TERM);
        let finished = self.process.finished().await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        finished
    }

    /// `kill -9`.
    pub(crate) async fn kill(self) {
        self.process.signal(Signal::KILL);
        let finished = self.process.finished().await;
        assert_eq!(finished.signal, Some(9), "{finished:?}");
    }
}

/// The line `serving`, which has the addresses, once it is whole.
fn serving(log: &str) -> Option<serde_json::Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.into_iter().find(|line| line["message"] == "serving")
}
