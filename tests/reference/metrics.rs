//! The metrics of a running program, from its metrics page.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStdout, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tenant_gateway::grpc::pb::{
    ListApplicationsRequest, application_service_client::ApplicationServiceClient,
};

use crate::markdown::cell;

/// One metric of the page.
#[derive(Default)]
struct Metric {
    name: String,
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// `dev` with free ports, and the addresses that it printed.
struct Gateway {
    child: Child,
    /// Kept open, because the program could not write to a closed pipe.
    output: BufReader<ChildStdout>,
    grpc: String,
    egress: String,
    metrics: String,
}

impl Gateway {
    fn start() -> Self {
        let ports = ["--grpc-port", "--http-port", "--admin-port", "--egress-port"];
        let mut child = Command::new(env!("CARGO_BIN_EXE_tenant-gateway"))
            .arg("dev")
            .args(ports.iter().flat_map(|port| [*port, "0"]))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let [grpc, egress, metrics] = [const { String::new() }; 3];
        let mut gateway = Self { child, output, grpc, egress, metrics };
        gateway.read_banner();
        assert!(!gateway.metrics.is_empty(), "`dev` did not print its addresses");
        gateway
    }

    fn read_banner(&mut self) {
        for line in self.output.by_ref().lines().map(Result::unwrap) {
            let words: Vec<_> = line.split_whitespace().collect();
            match words.as_slice() {
                ["gRPC", address, ..] => self.grpc = format!("http://{address}"),
                ["egress", address, ..] => (*address).clone_into(&mut self.egress),
                ["admin", _, "and", address] => (*address).clone_into(&mut self.metrics),
                _ => {}
            }
            if [&self.grpc, &self.egress, &self.metrics].iter().all(|address| !address.is_empty()) {
                break;
            }
        }
    }

    /// Makes calls, because a metric with labels is on the page only after it was counted.
    async fn call(&self) {
        let channel = tonic::transport::Channel::from_shared(self.grpc.clone()).unwrap();
        let mut client = ApplicationServiceClient::new(channel.connect().await.unwrap());
        client.list_applications(ListApplicationsRequest::default()).await.unwrap_err();
        reqwest::get(format!("{}/demo/Cust10001/api/v1/User", self.egress)).await.unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It removes its temporary files when it is asked to stop.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

pub(crate) async fn render() -> String {
    let gateway = Gateway::start();
    gateway.call().await;
    let page = reqwest::get(&gateway.metrics).await.unwrap().text().await.unwrap();
    let mut metrics = read(&page);
    metrics.sort_by(|a, b| a.name.cmp(&b.name));
    let mut table = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    for Metric { name, kind, help, labels } in metrics {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let (labels, help) = (labels.join(", "), cell(help.trim_end_matches('.')));
        writeln!(table, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
    }
    table
}

/// Reads a page in the `OpenMetrics` format. Counters get the suffix that their samples have.
fn read(page: &str) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    for line in page.lines() {
        if let Some((name, help)) =
            line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            let (name, help) = (name.to_owned(), help.to_owned());
            metrics.push(Metric { name, help, ..Metric::default() });
        } else if let Some(kind) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let metric = metrics.last_mut().expect("HELP comes before TYPE");
            kind.1.clone_into(&mut metric.kind);
            match metric.kind.as_str() {
                "counter" => metric.name.push_str("_total"),
                "info" => metric.name.push_str("_info"),
                _ => {}
            }
        } else if let (Some(metric), Some((_, rest))) = (metrics.last_mut(), line.split_once('{')) {
            let labels = rest.rsplit_once('}').map_or("", |(labels, _)| labels);
            let names = labels.split("\",").filter_map(|label| label.split_once('='));
            // Buckets are part of every histogram.
            metric
                .labels
                .extend(names.map(|(name, _)| name.to_owned()).filter(|name| name != "le"));
        }
    }
    metrics
}

#[test]
fn a_page_is_read() {
    let page = "# HELP a_b Calls.\n# TYPE a_b counter\na_b_total{x=\"/{a}\",y=\"2\"} 3\n# EOF\n";
    let metrics = read(page);
    assert_eq!((metrics[0].name.as_str(), metrics[0].help.as_str()), ("a_b_total", "Calls."));
    assert_eq!(metrics[0].labels, BTreeSet::from(["x".to_owned(), "y".to_owned()]));
}
