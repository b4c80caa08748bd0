//! A server in a separate process, which prints its address to standard error.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

/// The length of a clock tick: `sysconf(_SC_CLK_TCK)` is always 100 on Linux.
const TICK_MICROS: f64 = 10_000.0;

/// The program as in production, or the reference.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts the gateway. `listener` is the log's name of the listener to connect to.
    pub(crate) fn gateway(config: &Path, listener: &str) -> Self {
        // BENCH_GATEWAY can name another build, to compare two builds.
        let program = std::env::var_os("BENCH_GATEWAY");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_tenant-gateway").into());
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(config);
        Self::run(command, listener)
    }

    /// Starts this bench again as the reference, with the response that it returns.
    pub(crate) fn reference(answer: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--reference").arg(answer);
        Self::run(command, "grpc")
    }

    fn run(mut command: Command, listener: &str) -> Self {
        let log = std::env::var("BENCH_LOG");
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
        std::thread::spawn(move || lines.for_each(drop));
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

    /// Returns the CPU time that the process has used, in microseconds.
    pub(crate) fn cpu_micros(&self) -> f64 {
        cpu_micros(self.pid())
    }
}

/// Returns the CPU time that a process has used, in microseconds (proc(5)).
pub(crate) fn cpu_micros(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
    ticks.sum::<u64>() as f64 * TICK_MICROS
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
