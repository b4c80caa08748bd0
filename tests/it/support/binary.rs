//! The real program: commands that end, and `serve` until it is stopped.

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

/// The time limit for a process to end.
const TIMEOUT: Duration = Duration::from_secs(20);
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

    /// Sets the log format to JSON, because tests parse logs.
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

    /// Creates a tenant at SuperOffice, authorizes the application there, and returns the token.
    pub(crate) fn make_tenant(&self, id: &str) -> String {
        let tenant = NewTenant { id: id.to_owned(), ..Default::default() };
        self.sandbox.add_tenant(tenant).unwrap();
        self.sandbox.authorize(CLIENT_ID, id).unwrap()
    }

    /// Returns the command of the program with this site's configuration; environment variables can
    /// be added.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        command.arg("--config").arg(self.file("gateway.toml"));
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Finished {
        Process::start(self.command(arguments)).finished().await
    }

    /// Runs a command with this standard input.
    pub(crate) async fn run_with_input(&self, arguments: &[&str], input: &str) -> Finished {
        let mut process = Process::start_with(self.command(arguments), Stdio::piped());
        let mut pipe = process.child.stdin.take().unwrap();
        pipe.write_all(input.as_bytes()).unwrap();
        drop(pipe);
        process.finished().await
    }

    /// Adds a tenant and stores its token, with commands.
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

/// Returns the command of the program; `TENANT_GATEWAY` names another build.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let built = env!("CARGO_BIN_EXE_tenant-gateway");
    let named = std::env::var_os("TENANT_GATEWAY");
    let mut command = Command::new(named.unwrap_or_else(|| built.into()));
    command.args(arguments).env_remove("RUST_LOG");
    command
}

/// The exit code and the output of a process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code; `None` if a signal ended the process.
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Asserts exit code 0, and returns standard output.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_no_panic(&self.stderr);
        self.stdout
    }

    /// Asserts this exit code and a single message, and returns the message.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_no_panic(&self.stderr);
        assert_eq!(self.stdout, "", "{self:?}");
        let messages = self.stderr.matches("error: ").count();
        assert!(messages == 1, "expected a single message: {self:?}");
        self.stderr
    }

    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.succeeded()).unwrap()
    }
}

#[track_caller]
fn assert_no_panic(stderr: &str) {
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
}

/// A child process that is killed when dropped.
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

    /// Waits until `look` returns a value for the output. The process must not end before.
    pub(crate) async fn until<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            let said = || format!("{}{}", self.stdout(), self.stderr());
            assert!(ended.is_none(), "ended ({ended:?}) before: {what}: {}", said());
            assert!(Instant::now() < deadline, "not in {TIMEOUT:?}: {what}: {}", said());
            sleep(PAUSE).await;
        }
    }

    /// Waits for the end of the process.
    pub(crate) async fn finished(self) -> Finished {
        self.finished_within(TIMEOUT).await
    }

    /// Waits for the end of a process that may take longer.
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
        // Fails if the process has ended already.
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
    /// The address of the HTTP listener, if configured.
    pub(crate) http: Option<SocketAddr>,
    /// The address of the egress listener, if configured.
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

    /// Stops the process gracefully. Returns its exit code and its whole log.
    pub(crate) async fn stop(self) -> Finished {
        self.process.signal(Signal::TERM);
        let finished = self.process.finished().await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        finished
    }

    /// Kills the process (`kill -9`).
    pub(crate) async fn kill(self) {
        self.process.signal(Signal::KILL);
        let finished = self.process.finished().await;
        assert_eq!(finished.signal, Some(9), "{finished:?}");
    }
}

/// Returns the log line `serving`, which has the addresses, once it is complete.
fn serving(log: &str) -> Option<serde_json::Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.into_iter().find(|line| line["message"] == "serving")
}
