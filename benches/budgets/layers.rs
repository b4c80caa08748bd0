//! A cached ticket with each layer around a call.

use tokio::runtime::Runtime;

use super::{
    options::Options,
    statistics::{Round, interleave, median, ratio},
    tickets::{Gateway, Layers, Target},
};

const IN_FLIGHT: [usize; 3] = [1, 32, 128];

/// Prints a table for each number of layers, compared with a bare tonic server.
pub(crate) fn compare(runtime: &Runtime, options: &Options) {
    for layers in Layers::ALL {
        let gateway = Gateway::start(runtime, layers);
        let bare = gateway.start_reference(runtime);
        let bare = Target { server: &bare, token: gateway.token() };
        println!("{}", layers.name());
        println!(
            "  in flight      gateway/s  reference/s  ratio    p50 µs (ref)     p99 µs (ref)  p99 ratio    CPU µs (ref)  CPU ratio"
        );
        for in_flight in IN_FLIGHT {
            gateway.round(runtime, options.round / 4, in_flight);
            let rounds = interleave(options.runs, 2, |contender| match contender {
                0 => gateway.round(runtime, options.round, in_flight),
                _ => bare.round(runtime, options.round, in_flight),
            });
            print(in_flight, &rounds[0], &rounds[1]);
        }
    }
}

fn print(in_flight: usize, ours: &[Round], bare: &[Round]) {
    println!(
        "  {in_flight:>9}  {:>13.0}  {:>11.0}  {:>5.2}  {:>8.0} ({:>5.0})  {:>8.0} ({:>5.0})  {:>9.2}  {:>7.1} ({:>5.1})  {:>9.2}",
        median(ours, |round| round.per_second),
        median(bare, |round| round.per_second),
        ratio(ours, bare, |round| round.per_second).median,
        median(ours, |round| round.p50),
        median(bare, |round| round.p50),
        median(ours, |round| round.p99),
        median(bare, |round| round.p99),
        ratio(ours, bare, |round| round.p99).median,
        median(ours, |round| round.cpu_micros),
        median(bare, |round| round.cpu_micros),
        ratio(ours, bare, |round| round.cpu_micros).median,
    );
}
