//! The program as a process.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use rustix::process::{Pid, Signal, kill_process};

use super::eventually;

/// A running `serve` and its log. Killed when dropped.
pub(crate) struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    pub(crate) grpc_address: SocketAddr,
}

impl Program {
    /// Starts `serve`, which must fail. Returns its exit code and output.
    pub(crate) async fn fails(config: &Path) -> (Option<i32>, String) {
        let mut program = Self::start(config, "");
        let status = program.ended().await;
        eventually("it is heard to the end", || Arc::strong_count(&program.lines) == 1).await;
        let said = program.lines.lock().unwrap().join("\n");
        (status.code(), said)
    }

    /// Starts `serve` in a shell after the command `first`, such as `ulimit -n 64`, and waits until it serves.
    pub(crate) async fn serve(config: &Path, first: &str) -> Self {
        let mut program = Self::start(config, first);
        eventually("the program serves", || {
            let serving = program.logged("\"message\":\"serving\"");
            let line = serving.map(|l| serde_json::from_str::<serde_json::Value>(&l).unwrap());
            if let Some(line) = &line {
                program.grpc_address = line["grpc"].as_str().unwrap().parse().unwrap();
            }
            line.is_some()
        })
        .await;
        program
    }

    fn start(config: &Path, first: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_tenant-gateway");
        let mut child = Command::new("sh")
            .args(["-c", &format!("{first}\nexec \"$0\" serve --config \"$1\"")])
            .args([Path::new(program), config])
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, to) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                to.lock().unwrap().push(line);
            }
        });
        Self { child, lines, grpc_address: ([0, 0, 0, 0], 0).into() }
    }

    /// Returns the first log line that contains `text`.
    pub(crate) fn logged(&self, text: &str) -> Option<String> {
        self.lines.lock().unwrap().iter().find(|line| line.contains(text)).cloned()
    }

    /// Returns all log lines that contain `text`.
    pub(crate) fn all(&self, text: &str) -> Vec<String> {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end of the process.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
