//! Servers in separate processes. Each prints its address to standard error.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The length of a clock tick: `sysconf(_SC_CLK_TCK)` is always 100 on Linux.
const TICK_MICROS: f64 = 10_000.0;

/// The longest time until a program of others listens.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running process, which is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts the gateway. `listener` is the log's name of the listener to connect to.
    pub(crate) fn gateway(config: &Path, listener: &str) -> Self {
        // BENCH_GATEWAY can name another build, to compare two builds.
        let program = env::var_os("BENCH_GATEWAY");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_tenant-gateway").into());
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(config);
        Self::run(command, listener)
    }

    /// Starts this bench again as a reference of this kind, with the answer that it returns.
    pub(crate) fn reference(kind: &str, answer: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--reference", kind, answer]);
        Self::run(command, "grpc")
    }

    /// Starts a program of others that prints no address, and waits until it listens.
    pub(crate) fn foreign(mut command: Command, address: SocketAddr) -> Self {
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let server = Self { child, address };
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            let program = command.get_program().display();
            assert!(begin.elapsed() < START_TIMEOUT, "{program} does not listen");
            thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn run(mut command: Command, listener: &str) -> Self {
        let log = env::var("BENCH_LOG");
        command.env("RUST_LOG", log.as_deref().unwrap_or("info"));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(&line.unwrap()).ok()?;
                line.get(listener)?.as_str()?.parse().ok()
            })
            .unwrap();
        // Read the log lines, like a log collector.
        thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// Returns a field of `/proc/PID/status` in KiB: `VmRSS:` is the resident memory, `VmHWM:` its peak.
    pub(crate) fn kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the processor time that the process has used, in microseconds.
    pub(crate) fn cpu_micros(&self) -> f64 {
        cpu_micros(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the processor time that a process has used, in microseconds (proc(5)). It grows in steps of 10 ms.
pub(crate) fn cpu_micros(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
    ticks.sum::<u64>() as f64 * TICK_MICROS
}

/// Returns the processor time that this thread has used, in microseconds (`/proc/PID/schedstat`, in nanoseconds).
pub(crate) fn thread_cpu_micros() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1000.0
}

/// Returns an address of this machine that is free now.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Returns the first of these programs that is on PATH.
pub(crate) fn on_path(programs: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let mut candidates = programs.iter().flat_map(|name| folders.iter().map(move |f| f.join(name)));
    candidates.find(|program| program.is_file())
}
