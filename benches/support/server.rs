//! A server in a process of its own, that says on standard error where it listens.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

/// `sysconf(_SC_CLK_TCK)` is 100 on Linux, whatever its timer does.
const TICK_MICROS: f64 = 10_000.0;

/// The program itself as it is run in production, or the reference.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// `listener` is the one whose address is wanted, as the log names it.
    pub(crate) fn gateway(config: &Path, listener: &str) -> Self {
        // Another build of it can be given, to compare two of them.
        let program = std::env::var_os("BENCH_GATEWAY");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_tenant-gateway").into());
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(config);
        Self::run(command, listener)
    }

    /// This bench once more, as the reference, with what it shall answer.
    pub(crate) fn reference(answer: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--reference").arg(answer);
        Self::run(command, "grpc")
    }

    fn run(mut command: Command, listener: &str) -> Self {
        let mut child = command.env("RUST_LOG", "info").stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(&line.unwrap()).ok()?;
                line.get(listener)?.as_str()?.parse().ok()
            })
            .unwrap();
        // Its log lines are read as a log collector would.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// A number of `/proc/PID/status`, in KiB: `VmRSS:` is resident now, `VmHWM:` was at most.
    pub(crate) fn kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time that the process has used.
    pub(crate) fn cpu_micros(&self) -> f64 {
        cpu_micros(self.pid())
    }
}

/// Processor time that a process has used (proc(5)).
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
