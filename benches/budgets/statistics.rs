//! Rounds of alternating measurements, and their medians.

/// The results of one round.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    pub(crate) per_second: f64,
    /// The median duration of a call in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// The processor time of the measured process for each call, in microseconds.
    pub(crate) cpu_micros: f64,
}

impl Round {
    /// Returns the results of calls with these durations. `cpu_micros` is the processor time of all calls together.
    pub(crate) fn new(mut micros: Vec<f64>, seconds: f64, cpu_micros: f64) -> Self {
        assert!(!micros.is_empty(), "no call ended within the round");
        micros.sort_by(f64::total_cmp);
        let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize];
        let calls = micros.len() as f64;
        Self {
            per_second: calls / seconds,
            p50: at(0.5),
            p99: at(0.99),
            cpu_micros: cpu_micros / calls,
        }
    }
}

/// The median of several values, with the lowest and the highest one.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self {
            median: values[values.len() / 2],
            lowest: values[0],
            highest: values[values.len() - 1],
        }
    }
}

/// Returns the median of one result.
pub(crate) fn median(rounds: &[Round], of: fn(&Round) -> f64) -> f64 {
    Spread::of(rounds.iter().map(of)).median
}

/// Returns the ratios of one result, each within a round: other work on the machine slows both sides of a round down.
pub(crate) fn ratio(ours: &[Round], theirs: &[Round], of: fn(&Round) -> f64) -> Spread {
    Spread::of(ours.iter().zip(theirs).map(|(one, other)| of(one) / of(other)))
}

/// Measures several contenders in turn, `runs` times each. Every other time the order is reversed, so that a machine
/// that becomes slower favours none of them.
pub(crate) fn interleave(
    runs: usize,
    contenders: usize,
    mut measure: impl FnMut(usize) -> Round,
) -> Vec<Vec<Round>> {
    let mut rounds = vec![Vec::new(); contenders];
    for run in 0..runs {
        for turn in 0..contenders {
            let contender = if run.is_multiple_of(2) { turn } else { contenders - 1 - turn };
            rounds[contender].push(measure(contender));
        }
    }
    rounds
}
