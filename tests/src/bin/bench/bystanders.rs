//! What processes pay that are not observed.

use anyhow::Context as _;

use crate::{
    figure::{Compared, Figure, Limit, best},
    stage::{Agents, Caller, wait_for_quiet},
};

/// How both figures below come about.
pub(crate) const METHOD: &str = "a process that is not observed makes one kind of call in batches of 100; median of the \
                                 batches of a round, best of the rounds; nothing attached, before and now take turns";

/// A kind of call, batches of a round, and the most that may be added to each, in nanoseconds.
const CALLS: [(&str, usize, Option<f64>); 8] = [
    ("getppid", 4000, Some(50.0)),
    ("write", 4000, Some(60.0)),
    ("write_socket", 2000, None),
    ("read_socket", 2000, None),
    ("SSL_write", 500, None),
    ("SSL_read", 500, None),
    ("SSL_write_ex", 500, None),
    ("SSL_read_ex", 500, None),
];

/// Whom the agent observes meanwhile: one other process, or also whatever matches a rule, for which the TLS
/// libraries are probed in every process.
const MODES: [(&str, &[&str]); 2] =
    [("--pid", &["--pid"]), ("--exe", &["--exe=nothing-is-called-so", "--pid"])];

/// Calls of a process that is not observed, while another one that uses the same library is.
pub(crate) fn bystanders(agents: &Agents, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let mut observed = Caller::start()?;
    observed.nanoseconds("SSL_write", 1)?;
    let mut nothing: Vec<Vec<f64>> = Vec::new();
    let with_agent = agents.rounds(rounds, |candidate, round| {
        if nothing.len() < round {
            eprintln!("bystanders: nothing attached, round {round} of {rounds}");
            wait_for_quiet()?;
            nothing.push(all_calls()?);
        }
        MODES.iter().try_fold(Vec::new(), |mut modes, (mode, flags)| {
            eprintln!("bystanders: {mode}, {}, round {round} of {rounds}", candidate.name);
            wait_for_quiet()?;
            let agent = candidate.run(&[flags, &[observed.id().to_string().as_str()][..]].concat());
            modes.push(all_calls()?);
            drop(agent.stop());
            Ok(modes)
        })
    })?;
    let mut figures = Vec::new();
    for (at, (call, _, most)) in CALLS.iter().enumerate() {
        let alone = best(&nothing.iter().map(|round| round[at]).collect::<Vec<_>>());
        figures.push(Figure::new(format!("{call}, nothing attached"), alone, "ns"));
        for (mode, (name, _)) in MODES.iter().enumerate() {
            let added: Compared<f64> = with_agent.map(|rounds: &Vec<Vec<Vec<f64>>>| {
                best(&rounds.iter().map(|round| round[mode][at]).collect::<Vec<_>>()) - alone
            });
            let figure = Figure::of(format!("{call}, added by an agent with {name}"), &added, "ns");
            figures.push(match most {
                Some(most) => figure.limited(Limit::AtMost(*most)),
                None => figure,
            });
        }
    }
    Ok(figures)
}

/// One round, by a process that starts after the agent, as a bystander may.
fn all_calls() -> anyhow::Result<Vec<f64>> {
    let mut caller = Caller::start()?;
    CALLS
        .iter()
        .map(|(kind, batches, _)| {
            caller.nanoseconds(kind, *batches).with_context(|| format!("measuring {kind}"))
        })
        .collect()
}
