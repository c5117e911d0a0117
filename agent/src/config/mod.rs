//! Flags and environment -> one validated [`Config`]. A pure function: the environment is passed in.

mod content;
mod env;
mod error;
pub mod file;
pub mod layers;
mod otlp;
mod sampling;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use tokentap_export::config::{
    BatchConfig, ConsoleFormat, ExportConfig, ExporterConfig, FileConfig, MetricsConfig, Signal,
};
use tokentap_genai::{ContentOptions, IdentityRules, Include, Options, Propagator};
use tracing::level_filters::LevelFilter;

use crate::{
    cli::{self, Cli, Command},
    kernel::RingSize,
    targets::Glob,
};
use env::Env;
pub use error::ConfigError;

/// Everything that the agent needs to know to run.
#[derive(Debug)]
pub struct Config {
    /// `OTEL_SDK_DISABLED`: do nothing, successfully.
    pub disabled: bool,
    /// How much the agent says about itself.
    pub log_level: LevelFilter,
    /// Settings that were ignored and why; to be logged once logging works.
    pub warnings: Vec<String>,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Observe and export.
    Run(RunConfig),
    /// Observe and write a tape.
    Record(RecordConfig),
    /// Read a tape and export.
    Replay(ReplayConfig),
}

/// What `tokentap run` does.
#[derive(Debug)]
pub struct RunConfig {
    /// Which processes.
    pub select: Select,
    /// Which requests are LLM calls.
    pub calls: Options,
    /// A call without traffic for this long is exported as incomplete.
    pub stale_after: Duration,
    /// Where to.
    pub export: ExportConfig,
    /// Where the agent answers about itself.
    pub admin: Option<SocketAddr>,
    /// How long the end may take.
    pub drain_timeout: Duration,
}

/// What `tokentap record` does.
#[derive(Debug)]
pub struct RecordConfig {
    /// Which processes.
    pub select: Select,
    /// The tape.
    pub out: PathBuf,
    /// Nothing is redacted.
    pub with_content: bool,
}

/// What `tokentap replay` does.
#[derive(Debug)]
pub struct ReplayConfig {
    /// The tape.
    pub tape: PathBuf,
    /// Which requests are LLM calls.
    pub calls: Options,
    /// As [`RunConfig::stale_after`].
    pub stale_after: Duration,
    /// Where to.
    pub export: ExportConfig,
    /// How long the end may take.
    pub drain_timeout: Duration,
}

/// Which processes are observed.
#[derive(Debug)]
pub struct Select {
    /// These processes.
    pub pids: Vec<u32>,
    /// Processes whose executable matches one of these ([`Glob::matches_file`]).
    pub exes: Vec<Glob>,
    /// All processes.
    pub all: bool,
    /// Children of selected processes too.
    pub follow: bool,
    /// Ring between kernel and agent, in bytes.
    pub ring_size: RingSize,
    /// `service.name` of everything observed.
    pub service_name: Option<String>,
}

impl Config {
    /// Makes the configuration of the command line and the environment.
    ///
    /// # Errors
    /// [`ConfigError`] when they make no sense together; its text names the mend. Environment variables that
    /// cannot be used are ignored with a warning, as the OpenTelemetry specification asks.
    pub fn resolve(
        cli: Cli,
        env: &dyn Fn(&str) -> Option<String>,
        stdout_is_terminal: bool,
    ) -> Result<Self, ConfigError> {
        let mut env = Env::new(env);
        let disabled = env.flag(&["OTEL_SDK_DISABLED"]).unwrap_or(false);
        let log_level =
            cli.log_level.or_else(|| env.parsed(&["OTEL_LOG_LEVEL"])).unwrap_or(LevelFilter::INFO);
        let content = match &cli.command {
            Command::Run(run) => content::resolve(&run.content, &mut env)?,
            Command::Replay(replay) => content::resolve(&replay.content, &mut env)?,
            Command::Record(_) | Command::Config(_) => None,
        };
        let events = content.as_ref().is_some_and(|content| content.destination.has_event());
        let export = |flags: &cli::Export, sampling: &cli::Sampling, env: &mut Env<'_>| {
            if disabled {
                return Ok(ExportConfig::default());
            }
            let sampling = sampling::resolve(sampling, env)?;
            Ok(ExportConfig { sampling, ..exporters(flags, events, env, stdout_is_terminal)? })
        };
        let action = match cli.command {
            Command::Run(run) => Action::Run(RunConfig {
                admin: run.admin_address.0,
                select: select(run.select),
                stale_after: run.rules.stale_after,
                export: export(&run.export, &run.sampling, &mut env)?,
                calls: calls(run.rules, content, &run.sampling, &mut env),
                drain_timeout: run.export.drain_timeout,
            }),
            // It observes nothing, and is done before this.
            Command::Config(_) => return Err(ConfigError::NothingToDo),
            Command::Record(record) => Action::Record(RecordConfig {
                select: select(record.select),
                out: record.out,
                with_content: record.with_content,
            }),
            Command::Replay(replay) => Action::Replay(ReplayConfig {
                tape: replay.tape,
                stale_after: replay.rules.stale_after,
                export: export(&replay.export, &replay.sampling, &mut env)?,
                calls: calls(replay.rules, content, &replay.sampling, &mut env),
                drain_timeout: replay.export.drain_timeout,
            }),
        };
        Ok(Self { disabled, log_level, warnings: env.warnings, action })
    }
}

fn select(flags: cli::Select) -> Select {
    let cli::Select { pids, exes, all, no_follow, ring_size, service_name } = flags;
    Select { pids, exes, all, follow: !no_follow, ring_size, service_name }
}

fn calls(
    flags: cli::Rules,
    content: Option<ContentOptions>,
    sampling: &cli::Sampling,
    env: &mut Env<'_>,
) -> Options {
    let cli::Rules { host_include, host_exclude, path_include, path_exclude, dialect, propagators, .. } =
        flags;
    let identity = IdentityRules { session: flags.session_from, user: flags.user_from };
    let paths = path_include.into_iter().map(|rule| Include { rule, api: None });
    Options {
        include: host_include.into_iter().chain(paths).collect(),
        exclude: host_exclude.into_iter().chain(path_exclude).collect(),
        content,
        dialects: dialect,
        identity,
        force_header: sampling::force_header(sampling),
        propagators: if propagators.is_empty() { env_propagators(env) } else { propagators },
    }
}

/// `OTEL_PROPAGATORS`: formats of headers. Baggage is no trace context; `none`: no parent is ever read.
fn env_propagators(env: &mut Env<'_>) -> Vec<Propagator> {
    const NAME: &str = "OTEL_PROPAGATORS";
    let Some(list) = env.text(NAME) else { return Vec::new() };
    let mut propagators = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !matches!(*name, "" | "baggage")) {
        match name.parse() {
            Ok(propagator) if !propagators.contains(&propagator) => propagators.push(propagator),
            Ok(_) => {}
            Err(why) => env.ignored(NAME, &format!("'{name}': {why}")),
        }
    }
    propagators
}

fn exporters(
    flags: &cli::Export,
    events: bool,
    env: &mut Env<'_>,
    stdout_is_terminal: bool,
) -> Result<ExportConfig, ConfigError> {
    let (mut otlp, mut console, mut none) = (false, false, false);
    let named = env.text("OTEL_TRACES_EXPORTER");
    for name in named.iter().flat_map(|list| list.split(',')).map(str::trim) {
        match name {
            "otlp" => otlp = true,
            "console" => console = true,
            "none" => none = true,
            "" => {}
            other => env.ignored("OTEL_TRACES_EXPORTER", &format!("'{other}': use otlp, console or none")),
        }
    }
    let listed = otlp || console || none;
    let mut exporters: Vec<_> = otlp::resolve(Signal::Traces, flags, env, otlp, listed && !otlp)?
        .into_iter()
        .map(|otlp| ExporterConfig::Otlp(Box::new(otlp)))
        .collect();
    if events {
        let off = env.text("OTEL_LOGS_EXPORTER").is_some_and(|name| name == "none");
        let logs = otlp::resolve(Signal::Logs, flags, env, otlp && !off, off)?;
        if logs.is_empty() && !exporters.is_empty() {
            let why = "there is no OTLP receiver of logs: set OTEL_EXPORTER_OTLP_LOGS_ENDPOINT";
            env.ignored("content on events", why);
        }
        exporters.extend(logs.into_iter().map(|otlp| ExporterConfig::Otlp(Box::new(otlp))));
    }
    let off = env.text("OTEL_METRICS_EXPORTER").is_some_and(|name| name == "none");
    let metrics = otlp::resolve(Signal::Metrics, flags, env, otlp && !off, off)?;
    if !off {
        exporters.extend(metrics.into_iter().map(|otlp| ExporterConfig::Otlp(Box::new(otlp))));
    }
    let color =
        stdout_is_terminal && env.text("NO_COLOR").is_none() && env.text("TERM").is_none_or(|t| t != "dumb");
    let wanted = console.then_some(ConsoleFormat::Pretty);
    if let Some(format) = flags.console.or(wanted) {
        exporters.push(ExporterConfig::Console { format, color });
    }
    exporters.extend(flags.file.clone().map(|path| ExporterConfig::File(FileConfig::new(path))));
    if exporters.is_empty() {
        if none {
            env.ignored("spans", "OTEL_TRACES_EXPORTER=none and no flag names a destination");
        } else if stdout_is_terminal {
            exporters.push(ExporterConfig::Console { format: ConsoleFormat::Pretty, color });
        } else {
            return Err(ConfigError::NoExporter);
        }
    }
    Ok(ExportConfig {
        exporters,
        batch: batch(env),
        metrics: metrics_config(flags, env),
        ..ExportConfig::default()
    })
}

fn metrics_config(flags: &cli::Export, env: &mut Env<'_>) -> MetricsConfig {
    let default = MetricsConfig::default();
    let interval = flags.metric_interval.or_else(|| env.millis(&["OTEL_METRIC_EXPORT_INTERVAL"], 1));
    MetricsConfig {
        interval: interval.unwrap_or(default.interval),
        temporality: env
            .parsed(&["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"])
            .unwrap_or(default.temporality),
        semconv: flags.semconv_metrics,
        exemplars: env.parsed(&["OTEL_METRICS_EXEMPLAR_FILTER"]).unwrap_or(default.exemplars),
        ..default
    }
}

fn batch(env: &mut Env<'_>) -> BatchConfig {
    let mut batch = BatchConfig::default();
    if let Some(delay) = env.millis(&["OTEL_BSP_SCHEDULE_DELAY"], 0) {
        batch.schedule_delay = delay;
    }
    // More would only be room that `max_queue_bytes` never lets be used.
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(1 << 20);
    if let Some(n) = env.number(&["OTEL_BSP_MAX_QUEUE_SIZE"], 1) {
        batch.max_queue_size = size(n);
    }
    if let Some(n) = env.number(&["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"], 1) {
        batch.max_export_batch_size = size(n);
    }
    batch.max_export_batch_size = batch.max_export_batch_size.min(batch.max_queue_size);
    batch
}

#[cfg(test)]
mod tests;
